"""Pushing small images, each in one durable transaction: into a small store, and into a big one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.floor import Floor
from benchmarks.harness import Row, compared, interleave, settle, timed
from benchmarks.images import fresh_salt, image_of, small_image, write_index, write_layout
from benchmarks.prepared import REPOSITORY, store_of_images
from ocistore import Index, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Setup
    from benchmarks.images import Image

_FLOOR_BOUND: Final = 1.25
_SCALE_BOUND: Final = 1.2
_PROMOTION_BOUND: Final = 3
_PLATFORMS: Final = 10
_LAYERS: Final = 4
"""Of each platform of an image that is promoted."""


def push(store: Store, repository: str, tag: str, image: Image) -> None:
    """One image in one transaction."""
    with store.transaction() as transaction:
        into = transaction.repository(repository)
        into.put_blob(image.config.content)
        for layer in image.layers:
            into.put_blob(layer.content)
        into.put_manifest(image.manifest.content, tags=[tag])


def pushes(setup: Setup) -> list[Row]:
    """Both rows: against the floor in a store of a few images, and many images against few."""
    sizes = setup.sizes
    with contextlib.ExitStack() as stack:
        few = stack.enter_context(store_of_images(setup.scratch / "ours", sizes.few_images))
        many = stack.enter_context(store_of_images(setup.prepared, sizes.many_images))
        bare = stack.enter_context(store_of_images(setup.scratch / "floor", sizes.few_images))
        floor = stack.enter_context(Floor(bare))
        store_few = stack.enter_context(Store.open(few))
        store_many = stack.enter_context(Store.open(many))
        settle()
        seconds = interleave(
            sizes.push_rounds,
            {
                "few": _pusher(sizes.pushes, lambda tag, image: push(store_few, REPOSITORY, tag, image)),
                "floor": _pusher(sizes.pushes, lambda tag, image: floor.push(REPOSITORY, tag, image)),
                "many": _pusher(sizes.pushes, lambda tag, image: push(store_many, REPOSITORY, tag, image)),
            },
        )
    return [
        compared(
            "push",
            "push a small image (config, one layer of 1 KiB, manifest, tag) in one transaction, "
            f"with {sizes.few_images:,} images in the store",
            ours=seconds["few"],
            floor=seconds["floor"],
            floor_is="3 files with one fsync each, renamed, one fsync of the directory, one commit of the same rows",
            bound=_FLOOR_BOUND,
            peers=_peers(setup, sizes.few_images),
        ),
        compared(
            "push-at-scale",
            f"the same with {sizes.many_images:,} images in the store",
            ours=seconds["many"],
            floor=seconds["few"],
            floor_is=f"the same with {sizes.few_images:,}",
            bound=_SCALE_BOUND,
            peers=_peers(setup, sizes.many_images),
        ),
    ]


def promoting(setup: Setup) -> list[Row]:
    """An image of many platforms into another repository, against a push of a small image."""
    sizes = setup.sizes
    with store_of_images(setup.scratch / "promoting", sizes.few_images) as root, Store.open(root) as store:
        staging, production = store.repository("staging"), store.repository("production")

        def promoted(round_: int) -> float:
            tags = [f"{round_}-{number}" for number in range(sizes.pushes)]
            for tag in tags:
                _push_platforms(store, staging.name, tag)

            def all_of_them() -> None:
                for tag in tags:
                    production.copy_from(staging, tag, tags=[tag])

            return timed(all_of_them) / len(tags)

        settle()
        seconds = interleave(
            sizes.push_rounds,
            {
                "promoted": promoted,
                "pushed": _pusher(sizes.pushes, lambda tag, image: push(store, REPOSITORY, tag, image)),
            },
        )
    return [
        compared(
            "promote",
            f"serve an image of {_PLATFORMS} platforms, of {_LAYERS} layers each, in another repository too",
            ours=seconds["promoted"],
            floor=seconds["pushed"],
            floor_is="a push of a small image",
            bound=_PROMOTION_BOUND,
        )
    ]


def _push_platforms(store: Store, repository: str, tag: str) -> None:
    salt = fresh_salt()
    images = [image_of(salt, number * _LAYERS, _LAYERS) for number in range(_PLATFORMS)]
    with store.transaction() as transaction:
        into = transaction.repository(repository)
        children = []
        for image in images:
            for blob in (image.config, *image.layers):
                into.put_blob(blob.content)
            children.append(into.put_manifest(image.manifest.content))
        into.put_manifest(Index.build(manifests=children), tags=[tag])


def _pusher(count: int, work: Callable[[str, Image], None]) -> Callable[[int], float]:
    """Pushes that many new images in each round, and measures seconds for one."""

    def run(_round: int) -> float:
        salt = fresh_salt()
        images = [(f"{salt}-{number}", small_image(salt, number)) for number in range(count)]

        def all_of_them() -> None:
            for tag, image in images:
                work(tag, image)

        return timed(all_of_them) / count

    return run


def _peers(setup: Setup, count: int) -> dict[str, str]:
    """Into a layout whose index.json names that many images; all are the same one, which they do not notice."""
    if not setup.peers:
        return {}
    salt = fresh_salt()
    images = [small_image(salt, number) for number in range(setup.sizes.peer_rounds)]
    source, layout = setup.fresh("source"), setup.fresh("layout")
    names = [f"new-{number}" for number in range(len(images))]
    write_layout(source, images, names=names)
    known = small_image(salt, len(images))
    write_layout(layout, [known], names=["known"])
    write_index(layout, [(f"known-{number}", known.manifest) for number in range(count)])
    settle()
    return {
        "skopeo copy": peers.command(
            "skopeo",
            len(images),
            ready=lambda number: peers.skopeo_copy(f"oci:{source}:{names[number]}", f"oci:{layout}:{names[number]}"),
            note="a process per image, nothing synced",
        ),
        "umoci tag": peers.command(
            "umoci",
            len(images),
            ready=lambda number: ["tag", "--image", f"{layout}:known-0", f"again-{number}"],
            note="only a tag",
        ),
    }
