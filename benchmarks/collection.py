"""Collecting: among many blobs and among few, where there is nothing to collect, and while others push."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Final

from benchmarks.harness import Row, compared, duration, interleave, settle, timed
from benchmarks.images import fresh_salt, small_image
from benchmarks.prepared import REPOSITORY, store_of_images, store_of_tags, tag_of
from benchmarks.push import push
from ocistore import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Setup

_NOW: Final = timedelta(0)
_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_SIZE: Final = 1024
"""Bytes of a dead blob: a file with a block of its own."""

_SCALE_BOUND: Final = 1.3
_NOTHING_BOUND: Final = 3.0
_PUSH_BOUND: Final = 3.0
_RECOVERY_BOUND: Final = 1.5
_TAGS: Final = 40
"""How many tags are made and removed before a process is killed: that leaves about 500 pages in the WAL."""

_TRIES: Final = 200
"""In each round, to measure longer than a stray interrupt takes."""


def add_dead_blobs(root: Path, count: int) -> None:
    """Blobs that were pushed and never used: a file, a row, and nothing that refers to it. Not durable."""
    pool = os.open(root / "blobs" / "sha256", os.O_RDONLY | os.O_DIRECTORY)
    rows = []
    for _ in range(count):
        content = secrets.token_bytes(_SIZE)
        encoded = hashlib.sha256(content).hexdigest()
        file = os.open(encoded, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444, dir_fd=pool)
        os.write(file, content)
        os.close(file)
        rows.append((f"sha256:{encoded}", _SIZE))
    os.close(pool)
    with contextlib.closing(sqlite3.connect(root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO blobs (digest, size, state, unreferenced_since) VALUES (?, ?, 'live', 1)", rows
        )
        connection.execute("COMMIT")
    settle()


def collecting(setup: Setup) -> list[Row]:
    """The same dead blobs among many and among few; and nothing to collect against an empty transaction."""
    sizes = setup.sizes
    many = store_of_tags(setup.prepared, sizes.many_tags, readable=0)
    few = store_of_tags(setup.prepared, sizes.collected_among, readable=0)
    with Store.open(many) as in_many, Store.open(few) as in_few:

        def collect(store: Store) -> float:
            add_dead_blobs(store.root, sizes.dead_blobs)
            taken = 0

            def work() -> None:
                nonlocal taken
                # Half of a store that is too small for a full run may be dead.
                taken = store.gc(grace=_NOW, force=True).blobs

            seconds = timed(work)
            if taken != sizes.dead_blobs:
                raise RuntimeError(f"{taken} of {sizes.dead_blobs} were collected")
            return seconds

        def nothing() -> None:
            for _ in range(_TRIES):
                in_many.gc()

        def empty() -> None:
            for _ in range(_TRIES):
                with in_many._core.catalog.write():
                    pass

        seconds = interleave(
            sizes.collect_rounds, {"many": lambda _: collect(in_many), "few": lambda _: collect(in_few)}
        )
        idle = interleave(
            sizes.open_rounds,
            {"nothing": lambda _: timed(nothing) / _TRIES, "empty": lambda _: timed(empty) / _TRIES},
        )
    return [
        compared(
            "collect-at-scale",
            f"collect {sizes.dead_blobs:,} dead blobs in a store of {sizes.many_tags:,}",
            ours=seconds["many"],
            floor=seconds["few"],
            floor_is=f"the same in a store of {sizes.collected_among:,}",
            bound=_SCALE_BOUND,
        ),
        compared(
            "collect-nothing",
            f"a collection that finds nothing, at {sizes.many_tags:,} blobs",
            ours=idle["nothing"],
            floor=idle["empty"],
            floor_is="an empty write transaction",
            bound=_NOTHING_BOUND,
        ),
    ]


def pushing_while_collecting(setup: Setup) -> list[Row]:
    """The slowest hundredth of pushes while another process collects, against the same on an idle store."""
    sizes = setup.sizes
    idle: list[float] = []
    busy: list[float] = []
    longest: list[float] = []
    collected: list[str] = []
    with store_of_images(setup.scratch / "busy", sizes.few_images) as root, Store.open(root) as store:
        for _ in range(sizes.collect_rounds):
            add_dead_blobs(root, sizes.dead_blobs_beside)
            waits = _pushes(store, sizes.pushes_beside, None)
            idle.append(_p99(waits))
            with _child("collect", root) as collector:
                waits = _pushes(store, None, collector)
                if collector.wait() != 0:
                    raise RuntimeError("the collector failed")
            busy.append(_p99(waits))
            longest.append(max(waits))
            collected.append(f"{len(waits)}")
    return [
        compared(
            "push-beside-collection",
            f"the 99th percentile of pushes of small images while {sizes.dead_blobs_beside:,} dead blobs are collected",
            ours=busy,
            floor=idle,
            floor_is="the same with nothing to collect",
            bound=_PUSH_BOUND,
            beside={"the longest": duration(max(longest)), "pushes meanwhile": ", ".join(collected)},
        )
    ]


def _pushes(store: Store, count: int | None, until: subprocess.Popen[str] | None) -> list[float]:
    """Seconds of each push; of ``count`` of them, or as many as there are until a process ends."""
    waits = []
    salt = fresh_salt()
    if until is not None:
        until.stdin.write("go\n")  # type: ignore[union-attr]
        until.stdin.flush()  # type: ignore[union-attr]
    number = 0
    while (count is not None and number < count) or (until is not None and until.poll() is None):
        image = small_image(salt, number)
        waits.append(timed(lambda: push(store, REPOSITORY, f"{salt}-{number}", image)))  # noqa: B023 - run at once
        number += 1
    return waits


def _p99(waits: list[float]) -> float:
    return quantiles(waits, n=100)[98]


def recovering(setup: Setup) -> list[Row]:
    """Opening a store whose only process was killed, against opening it after a good end."""
    sizes = setup.sizes
    root = store_of_tags(setup.prepared, sizes.many_tags, readable=0)

    seconds = interleave(
        sizes.recovery_rounds,
        {"killed": lambda _: _opening(root, killed=True), "clean": lambda _: _opening(root, killed=False)},
    )
    return [
        compared(
            "recover",
            f"open a store of {sizes.many_tags:,} blobs after kill -9, with 500 pages in the WAL",
            ours=seconds["killed"],
            floor=seconds["clean"],
            floor_is="the same after the process closed it",
            bound=_RECOVERY_BOUND,
        )
    ]


def _opening(root: Path, *, killed: bool) -> float:
    """Seconds to open, after a process that moved tags about was killed or closed the store."""
    with _child("tag", root) as child:
        if killed:
            child.kill()
        else:
            child.communicate("close\n")
        child.wait()
    opened: list[Store] = []
    seconds = timed(lambda: opened.append(Store.open(root)))
    opened[0].close()
    return seconds


@contextlib.contextmanager
def _child(work: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store open, and goes on with its work once it is told to."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.collection", work, os.fspath(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_CHECKOUT,
    )
    try:
        child.stdout.readline()  # type: ignore[union-attr]  # it says that it is ready
        yield child
    finally:
        child.kill()
        child.wait()


def main(work: str, root: str) -> None:
    """One of the other processes."""
    with Store.open(root) as store:
        if work == "tag":
            repository = store.repository(REPOSITORY)
            digest = repository.resolve(tag_of(0)).digest
            for number in range(_TAGS):
                repository.tag(f"moved-{number}", digest)
                repository.untag(f"moved-{number}")
        print("ready", flush=True)
        sys.stdin.readline()
        if work == "collect":
            store.gc(grace=_NOW, force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
