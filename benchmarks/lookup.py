"""Looking things up among a thousand tags and among a million, and opening a store with as many blobs."""

from __future__ import annotations

import random
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.floor import Floor
from benchmarks.harness import Row, compared, duration, interleave, settle, timed
from benchmarks.images import fresh_salt, small_image, write_layout
from benchmarks.prepared import REPOSITORY, sample, store_of_tags, tag_of
from ocistore import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.harness import Setup
    from ocistore import TagOrder

_READABLE: Final = 20_000
"""Of how many random tags of a store the manifests can be read: enough that their rows and files lie everywhere."""

_PAGE: Final = 100
_NEWEST: Final = 10
_OPENINGS: Final = 5
_PAGES: Final = 10
"""In each round, to measure longer than a stray interrupt takes."""

_RESOLVE_SCALE_BOUND: Final = 1.3
_RESOLVE_FLOOR_BOUND: Final = 4.0
_PAGE_BOUND: Final = 1.5
_NEWEST_BOUND: Final = 3
_OPEN_BOUND: Final = 1.3


def _stores(setup: Setup) -> tuple[Path, Path]:
    return tuple(  # type: ignore[return-value]  # two of them
        store_of_tags(setup.prepared, count, readable=_READABLE)
        for count in (setup.sizes.few_tags, setup.sizes.many_tags)
    )


def resolving(setup: Setup) -> list[Row]:
    """A random tag's manifest, among many against among few, and against bare SQLite and a file."""
    sizes = setup.sizes
    few, many = _stores(setup)
    with Store.open(few) as ours_few, Store.open(many) as ours_many, Floor(few) as bare_few, Floor(many) as bare_many:
        readers: dict[str, tuple[int, Callable[[str], object]]] = {
            "few": (sizes.few_tags, ours_few.repository(REPOSITORY).get_manifest),
            "many": (sizes.many_tags, ours_many.repository(REPOSITORY).get_manifest),
            "floor, few": (sizes.few_tags, lambda tag: bare_few.get_manifest(REPOSITORY, tag)),
            "floor": (sizes.many_tags, lambda tag: bare_many.get_manifest(REPOSITORY, tag)),
        }
        # Once over everything: what is measured is the work, not how cold a disk is.
        for count, read in readers.values():
            for number in sample(count, _READABLE):
                read(tag_of(number))
        seconds = interleave(
            sizes.lookup_rounds,
            {name: _reader(sample(count, _READABLE), sizes.lookups, read) for name, (count, read) in readers.items()},
        )
    what = f"resolve a random tag of {sizes.many_tags:,} and read its manifest"
    return [
        compared(
            "resolve-at-scale",
            what,
            ours=seconds["many"],
            floor=seconds["few"],
            floor_is=f"the same of {sizes.few_tags:,}",
            bound=_RESOLVE_SCALE_BOUND,
            beside={
                "bare sqlite3 and a file read": f"{duration(median(seconds['floor, few']))} to "
                f"{duration(median(seconds['floor']))}",
            },
            peers=_inspecting(setup),
        ),
        compared(
            "resolve",
            what,
            ours=seconds["many"],
            floor=seconds["floor"],
            floor_is="the same join in sqlite3, and open, read, close",
            bound=_RESOLVE_FLOOR_BOUND,
        ),
    ]


def _reader(numbers: list[int], count: int, read: Callable[[str], object]) -> Callable[[int], float]:
    """Reads that many random tags in each round, and measures seconds for one."""
    chance = random.Random(len(numbers))

    def run(_round: int) -> float:
        tags = [tag_of(number) for number in chance.choices(numbers, k=count)]

        def all_of_them() -> None:
            for tag in tags:
                read(tag)

        return timed(all_of_them) / count

    return run


def _inspecting(setup: Setup) -> dict[str, str]:
    if not setup.peers:
        return {}
    layout = setup.fresh("layout")
    images = [small_image(fresh_salt(), 0) for _ in range(setup.sizes.few_tags)]
    write_layout(layout, images, names=[tag_of(number) for number in range(len(images))])
    found = peers.command(
        "skopeo",
        setup.sizes.peer_rounds,
        ready=lambda number: ["inspect", "--raw", f"oci:{layout}:{tag_of(number)}"],
        note=f"a process, {len(images):,} tags",
    )
    return {"skopeo inspect --raw": found}


def paging(setup: Setup) -> list[Row]:
    """The last page of tags against the first, and the newest tags against the first by name."""
    sizes = setup.sizes
    _, many = _stores(setup)
    last = tag_of(sizes.many_tags - _PAGE - 1) if sizes.many_tags > _PAGE else ""
    with Store.open(many) as store:
        repository = store.repository(REPOSITORY)

        def page(after: str) -> float:
            def work() -> None:
                for _ in range(_PAGES):
                    list(repository.tags(after=after, limit=_PAGE))

            return timed(work) / _PAGES

        def listing(sort: TagOrder) -> float:
            def work() -> None:
                for _ in range(_PAGES):
                    list(repository.list_tags(sort=sort, limit=_NEWEST))

            return timed(work) / _PAGES

        seconds = interleave(
            sizes.page_rounds,
            {
                "first": lambda _: page(""),
                "last": lambda _: page(last),
                "newest": lambda _: listing("updated"),
                "by name": lambda _: listing("name"),
            },
        )
    return [
        compared(
            "tag-page",
            f"the last page of {_PAGE} tags of {sizes.many_tags:,}",
            ours=seconds["last"],
            floor=seconds["first"],
            floor_is="the first page",
            bound=_PAGE_BOUND,
        ),
        compared(
            "tag-newest",
            f"the newest {_NEWEST} tags of {sizes.many_tags:,}, with what they point at",
            ours=seconds["newest"],
            floor=seconds["by name"],
            floor_is=f"the first {_NEWEST} by name",
            bound=_NEWEST_BOUND,
        ),
    ]


def opening(setup: Setup) -> list[Row]:
    """Opening and closing a store that is full against one that is empty."""
    sizes = setup.sizes
    _, many = _stores(setup)
    empty = setup.fresh("empty")
    Store.open(empty).close()
    settle()

    def open_and_close(root: Path) -> float:
        def work() -> None:
            for _ in range(_OPENINGS):
                Store.open(root).close()

        return timed(work) / _OPENINGS

    seconds = interleave(
        sizes.open_rounds, {"many": lambda _: open_and_close(many), "empty": lambda _: open_and_close(empty)}
    )
    return [
        compared(
            "open",
            f"open a store with {sizes.many_tags:,} blobs, and close it",
            ours=seconds["many"],
            floor=seconds["empty"],
            floor_is="an empty store",
            bound=_OPEN_BOUND,
        )
    ]
