"""Taking in a layout of many small blobs, and writing one by hard links."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.floor import Floor
from benchmarks.harness import Row, compared, interleave, settle, timed, versus
from benchmarks.images import fresh_salt, image_of, write_layout
from ocistore import Store

if TYPE_CHECKING:
    from pathlib import Path

    from disk_objectstore import Container

    from benchmarks.harness import Setup
    from benchmarks.images import Image

_REPOSITORY: Final = "library/batch"
_LAYERS: Final = 500
"""Of each image: a manifest may have 10,000 descriptors, and real ones with a thousand exist."""

_BOUND: Final = 1.5


def importing_layouts(setup: Setup) -> list[Row]:
    """Import against reading, hashing, writing, one syncfs and one commit."""
    source, images = _source(setup)
    seconds = interleave(
        setup.sizes.layout_rounds,
        {"ours": lambda _: _import(setup, source), "floor": lambda _: _import_bare(setup, source)},
    )
    found = _import_peers(setup, source, images)
    return [
        compared(
            "import",
            f"import a layout of {setup.sizes.layout_blobs:,} blobs of 1 to 4 KiB in {len(images)} images",
            ours=seconds["ours"],
            floor=seconds["floor"],
            floor_is="each file read, hashed, written; one syncfs; all renamed; one fsync of the directory; one commit",
            bound=_BOUND,
            peers=found,
        )
    ]


def exporting_layouts(setup: Setup) -> list[Row]:
    """Export by hard link against the same links made one after the other."""
    source, images = _source(setup)
    root = setup.fresh("store")
    with Store.open(root) as store:
        store.import_(source, _REPOSITORY)
        index = (source / "index.json").read_bytes()

        def ours(_round: int) -> float:
            destination = setup.fresh("export")
            settle()
            return timed(lambda: store.export(destination, mode="link"))

        def floor(*, durable: bool) -> float:
            destination = setup.fresh("links")
            settle()
            return timed(lambda: link_all(root, destination, index, durable=durable))

        seconds = interleave(
            setup.sizes.layout_rounds,
            {"ours": ours, "floor": lambda _: floor(durable=True), "unsynced": lambda _: floor(durable=False)},
        )
    return [
        compared(
            "export",
            f"export {setup.sizes.layout_blobs:,} blobs in {len(images)} images by hard link",
            ours=seconds["ours"],
            floor=seconds["floor"],
            floor_is="os.link of the same names and one fsync of each directory and of the two files written",
            bound=_BOUND,
            beside={"os.link alone, nothing synced": versus(seconds["ours"], seconds["unsynced"])},
        )
    ]


def _source(setup: Setup) -> tuple[Path, list[Image]]:
    salt = fresh_salt()
    count = setup.sizes.layout_blobs
    images = [image_of(salt, first, min(_LAYERS, count - first)) for first in range(0, count, _LAYERS)]
    source = setup.fresh("source")
    write_layout(source, images, names=[f"batch-{number}" for number in range(len(images))])
    return source, images


def _import(setup: Setup, source: Path) -> float:
    with Store.open(setup.fresh("ours")) as store:
        settle()
        return timed(lambda: store.import_(source, _REPOSITORY))


def _import_bare(setup: Setup, source: Path) -> float:
    root = setup.fresh("floor")
    Store.open(root).close()
    with Floor(root) as floor:
        settle()
        return timed(lambda: floor.import_layout(source, _REPOSITORY))


def link_all(root: Path, destination: Path, index: bytes, *, durable: bool) -> None:
    """Link every blob of a store into a new layout of that index, the least that an export by hard link can do."""
    blobs = destination / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    source = os.open(root / "blobs" / "sha256", os.O_RDONLY | os.O_DIRECTORY)
    target = os.open(blobs, os.O_RDONLY | os.O_DIRECTORY)
    for name in os.listdir(source):
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target)
    if durable:
        os.fsync(target)
        for path, content in (
            (destination / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            (destination / "index.json", index),
        ):
            with open(path, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for directory in (blobs.parent, destination, destination.parent):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(descriptor)
            os.close(descriptor)
    os.close(target)
    os.close(source)


def _import_peers(setup: Setup, source: Path, images: list[Image]) -> dict[str, str]:
    if not setup.peers:
        return {}

    def ready(_round: int) -> list[str]:
        settle()
        return peers.skopeo_copy(f"oci:{source}:batch-0", f"oci:{setup.fresh('copied')}:batch-0")

    skopeo = peers.command(
        "skopeo", setup.sizes.peer_rounds, ready=ready, note=f"one image of {len(images[0].layers)} layers, not synced"
    )
    contents = [layer.content for image in images for layer in image.layers]
    settle()
    packed = peers.disk_objectstore(
        lambda: setup.fresh("container"),
        setup.sizes.peer_rounds,
        lambda container: container.add_objects_to_pack(contents),
        note="all of them, from memory into one pack file",
    )
    few = contents[: len(images[0].layers)]

    def add_loose(container: Container) -> None:
        for content in few:
            container.add_object(content)

    loose = peers.disk_objectstore(
        lambda: setup.fresh("container"),
        setup.sizes.peer_rounds,
        add_loose,
        note=f"{len(few)} of them, from memory, each a file",
    )
    return {"skopeo copy": skopeo, "disk-objectstore, packed": packed, "disk-objectstore, loose": loose}
