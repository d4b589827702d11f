"""Thousands of tagged images taken in at once, beside tools that write one after the other into a layout."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.floor import Floor
from benchmarks.harness import Row, compared, duration, interleave, settle, timed
from benchmarks.images import fresh_salt, small_image, write_index, write_layout
from ocistore import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Setup
    from benchmarks.images import Image

_ORAS_LAYOUT: Final = Path(__file__).resolve().parent / "oraslayout"
_REPOSITORY: Final = "library/tagged"
_IMPORT_BOUND: Final = 1.5
_FLAT_BOUND: Final = 1.3
_SKOPEO_SAMPLE: Final = 20
"""Images that skopeo copies into an empty layout, and into one that has the others: all of them would take minutes."""


def importing_tagged_images(setup: Setup) -> list[Row]:
    """All at once against the same files and rows; and the last few into a store that has all the others."""
    sizes = setup.sizes
    salt = fresh_salt()
    images = [small_image(salt, number) for number in range(sizes.tagged_images)]
    source, rest, last = (setup.fresh(name) for name in ("source", "rest", "last"))
    _write(source, images, first=0)
    _write(rest, images[: -sizes.counted_images], first=0)
    _write(last, images[-sizes.counted_images :], first=len(images) - sizes.counted_images)
    seconds = interleave(
        sizes.tagged_rounds,
        {
            "all": lambda _: _import(setup, source),
            "floor": lambda _: _import_bare(setup, source),
            "last, with the rest there": lambda _: _import(setup, last, after=rest),
            "last, alone": lambda _: _import(setup, last),
        },
    )
    each = {
        "all at once": statistics.median(seconds["all"]) / len(images),
        "the last": statistics.median(seconds["last, with the rest there"]) / sizes.counted_images,
        "the same alone": statistics.median(seconds["last, alone"]) / sizes.counted_images,
    }
    return [
        compared(
            "import-tagged",
            f"import {len(images):,} tagged images of 3 blobs at once, from a layout directory",
            ours=seconds["all"],
            floor=seconds["floor"],
            floor_is="each file read, hashed, written; one syncfs; all renamed; one fsync of the directory; one commit",
            bound=_IMPORT_BOUND,
            peers=_peers(setup, source, rest, images, statistics.median(seconds["all"])),
        ),
        compared(
            "import-tagged-flat",
            f"import the last {sizes.counted_images:,} of them into a store that has the others",
            ours=seconds["last, with the rest there"],
            floor=seconds["last, alone"],
            floor_is="the same into an empty store",
            bound=_FLAT_BOUND,
            beside={f"each image, {name}": duration(value) for name, value in each.items()},
        ),
    ]


def _write(root: Path, images: Sequence[Image], *, first: int) -> None:
    write_layout(root, images, names=[f"v{number}" for number in range(first, first + len(images))])


def _import(setup: Setup, source: Path, *, after: Path | None = None) -> float:
    with Store.open(setup.fresh("ours")) as store:
        if after is not None:
            store.import_(after, _REPOSITORY)
        settle()
        return timed(lambda: store.import_(source, _REPOSITORY))


def _import_bare(setup: Setup, source: Path) -> float:
    root = setup.fresh("floor")
    Store.open(root).close()
    with Floor(root) as floor:
        settle()
        return timed(lambda: floor.import_layout(source, _REPOSITORY))


def _peers(setup: Setup, source: Path, rest: Path, images: Sequence[Image], ours: float) -> dict[str, str]:
    if not setup.peers:
        return {}
    return {
        "skopeo copy in a loop": _skopeo(setup, rest, images, ours),
        "oras-go's layout store": _oras_go(setup, source, ours),
    }


def _skopeo(setup: Setup, rest: Path, images: Sequence[Image], ours: float) -> str:
    """The first and the last few, from layouts of just these, so that reading the source costs it nothing more."""
    if shutil.which("skopeo") is None:
        return peers.NOT_INSTALLED
    sample = min(_SKOPEO_SAMPLE, len(images) - setup.sizes.counted_images)
    few = setup.fresh("few")
    _write(few, images[-sample:], first=len(images) - sample)
    empty, full = setup.fresh("copied"), setup.fresh("copied")
    shutil.copytree(rest, full)
    write_index(full, [(f"v{number}", image.manifest) for number, image in enumerate(images[:-sample])])
    each = []
    for destination in (empty, full):
        settle()
        began = [timed(partial(_skopeo_copy, few, destination, f"v{len(images) - n}")) for n in range(sample, 0, -1)]
        each.append(statistics.mean(began))
    all_ = statistics.mean(each) * len(images)
    return _Taken(each[0], each[1], sample, all_, "a process each, nothing synced; all is a guess").beside(ours)


def _skopeo_copy(source: Path, destination: Path, name: str) -> None:
    arguments = peers.skopeo_copy(f"oci:{source}:{name}", f"oci:{destination}:{name}")
    subprocess.run(["skopeo", *arguments], check=True, capture_output=True)


def _oras_go(setup: Setup, source: Path, ours: float) -> str:
    """All of them, in one process, through the library that oras is made of; see oraslayout/main.go."""
    if shutil.which("go") is None:
        return peers.NOT_INSTALLED
    program = setup.fresh("oraslayout")
    command = ["go", "build", "-o", os.fspath(program), "."]
    built = subprocess.run(command, check=False, cwd=_ORAS_LAYOUT, capture_output=True, text=True)
    if built.returncode != 0:
        return f"cannot be built here: {built.stderr.strip().splitlines()[-1]}"
    counted = setup.sizes.counted_images
    settle()
    arguments = [os.fspath(path) for path in (program, source, setup.fresh("copied"))]
    done = subprocess.run([*arguments, str(counted)], check=True, capture_output=True, text=True)
    took = json.loads(done.stdout)
    taken = _Taken(took["first"] / counted, took["last"] / counted, counted, took["all"], "one process, nothing synced")
    return taken.beside(ours)


@dataclass(frozen=True)
class _Taken:
    """What another tool took: seconds for each of the first and the last few, and for all."""

    first: float
    last: float
    few: int
    all: float
    note: str

    def beside(self, ours: float) -> str:
        return (
            f"{duration(self.first)} for each of the first {self.few}, {duration(self.last)} for each of the last, "
            f"{duration(self.all)} for all ({self.note}): ours is {self.all / ours:.1f} times faster"
        )
