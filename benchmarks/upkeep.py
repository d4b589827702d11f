"""Scrub against hashing the same bytes in one thread; a backup by hard link against bare links."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.floor import hash_file
from benchmarks.harness import Row, bounded, compared, interleave, settle, timed, versus
from benchmarks.images import fresh_salt, image_of
from benchmarks.memory import peak_growth
from benchmarks.push import push
from ocistore import Store

if TYPE_CHECKING:
    from benchmarks.harness import Setup

_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_REPOSITORY: Final = "library/upkeep"
_BLOCK: Final = 1024 * 1024
_BLOBS: Final = 64
"""Among which the bytes to be scrubbed are divided: layers have some megabytes."""

_SCRUB_BOUND: Final = 0.6
"""On two cores, both of which hash."""

_BACKUP_BOUND: Final = 1.5
_MEMORY_BOUND: Final = 16.0
"""Mebibytes."""


def scrubbing(setup: Setup) -> list[Row]:
    """All in the page cache, where hashing takes several times as long as reading."""
    sizes = setup.sizes
    root = setup.fresh("store")
    chance = random.Random(fresh_salt())
    with Store.open(root) as store:
        for _ in range(_BLOBS):
            store.repository(_REPOSITORY).put_blob(chance.randbytes(sizes.big_blob // _BLOBS))
        settle()
        files = sorted((root / "blobs" / "sha256").iterdir())

        def scrub() -> None:
            if store.scrub().exit_code != 0:
                raise RuntimeError("there is no damage")

        seconds = interleave(
            sizes.big_rounds,
            {
                "scrub": lambda _: timed(scrub),
                "hash": lambda _: timed(lambda: [hash_file(file) for file in files]),
                "read": lambda _: timed(lambda: [_read(file) for file in files]),
            },
        )
    grown = subprocess.run(
        [sys.executable, "-m", "benchmarks.upkeep", os.fspath(root)],
        cwd=_CHECKOUT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [
        compared(
            "scrub",
            f"scrub {sizes.big_blob >> 20} MiB in {_BLOBS} blobs",
            ours=seconds["scrub"],
            floor=seconds["hash"],
            floor_is="hashing the same files in one thread, in blocks of 1 MiB",
            bound=_SCRUB_BOUND,
            beside={"reading": versus(seconds["scrub"], seconds["read"])},
        ),
        bounded(
            "scrub-memory",
            "memory that a process grows by while it does so",
            unit="MiB",
            ours=[int(grown.stdout) / 1024],
            bound=_MEMORY_BOUND,
        ),
    ]


def _read(path: Path) -> None:
    block = memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as file:
        while file.readinto(block):
            pass


def backing_up(setup: Setup) -> list[Row]:
    """A first backup, by hard link, against links of the same names."""
    sizes = setup.sizes
    root = setup.fresh("store")
    with Store.open(root) as store:
        salt = fresh_salt()
        for first in range(0, sizes.layout_blobs, 500):
            push(store, _REPOSITORY, f"v{first}", image_of(salt, first, min(500, sizes.layout_blobs - first)))
        settle()

        def ours(_round: int) -> float:
            destination = setup.fresh("backup")
            settle()
            return timed(lambda: store.backup(destination, mode="link"))

        def floor(*, durable: bool) -> float:
            destination = setup.fresh("links")
            destination.mkdir()
            settle()
            return timed(lambda: _link_all(root, destination, durable=durable))

        seconds = interleave(
            sizes.layout_rounds,
            {"ours": ours, "floor": lambda _: floor(durable=False), "synced": lambda _: floor(durable=True)},
        )
    return [
        compared(
            "backup",
            f"back up a store of {sizes.layout_blobs:,} blobs by hard link",
            ours=seconds["ours"],
            floor=seconds["floor"],
            floor_is="os.link of the same files, nothing synced, no catalog",
            bound=_BACKUP_BOUND,
            beside={"os.link and an fsync of the directory": versus(seconds["ours"], seconds["synced"])},
        )
    ]


def _link_all(root: Path, destination: Path, *, durable: bool) -> None:
    source = os.open(root / "blobs" / "sha256", os.O_RDONLY | os.O_DIRECTORY)
    target = os.open(destination, os.O_RDONLY | os.O_DIRECTORY)
    for name in os.listdir(source):
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target)
    if durable:
        os.fsync(target)
    os.close(target)
    os.close(source)


if __name__ == "__main__":
    with Store.open(sys.argv[1]) as opened:
        opened.scrub(subset=(1, _BLOBS))  # once, so that what is imported late is there
        print(peak_growth(opened.scrub))
