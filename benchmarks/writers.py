"""Many processes that push into one store at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.harness import Row, Spread, bounded, compared, duration, interleave, settle
from benchmarks.images import fresh_salt, small_image
from benchmarks.push import push
from ocistore import OCIStoreError, Store

if TYPE_CHECKING:
    from benchmarks.harness import Setup

_REPOSITORY: Final = "library/busy"
_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_WAIT_BOUND: Final = 1.0
"""Seconds."""


@dataclass
class _Outcome:
    """What went on over all rounds."""

    waits: list[float]
    """The longest push of each round, in seconds."""
    errors: list[str]
    lost: int = 0


def writers(setup: Setup) -> list[Row]:
    """Throughput against one process, the longest wait, and that nothing is lost."""
    sizes = setup.sizes
    total = sizes.writers * sizes.writer_pushes
    together, alone = _Outcome([], []), _Outcome([], [])
    seconds = interleave(
        sizes.writer_rounds,
        {
            "together": lambda _: _run(setup, sizes.writers, sizes.writer_pushes, together),
            "alone": lambda _: _run(setup, 1, total, alone),
        },
    )
    failures = together.errors + alone.errors
    return [
        compared(
            "writers",
            f"push {total} small images, {sizes.writers} processes at once: time for each",
            ours=seconds["together"],
            floor=seconds["alone"],
            floor_is="one process",
            bound=1.0,
            beside={
                "images per second": f"{1 / Spread.of(seconds['together']).median:.0f}"
                f" (one process {1 / Spread.of(seconds['alone']).median:.0f})",
            },
        ),
        bounded(
            "writers-wait",
            "the longest that one of these pushes took",
            unit="s",
            ours=together.waits,
            bound=_WAIT_BOUND,
            beside={"with one process": duration(max(alone.waits))},
        ),
        bounded(
            "writers-lost",
            "errors, and tags that were pushed and are not there",
            unit="count",
            ours=[len(failures) + together.lost + alone.lost],
            bound=0,
            beside={"errors": "; ".join(sorted(set(failures)))} if failures else {},
        ),
    ]


def _run(setup: Setup, processes: int, count: int, outcome: _Outcome) -> float:
    """Let that many processes push ``count`` images each into a new store; seconds for one image."""
    root = setup.fresh("store")
    Store.open(root).close()
    salts = [fresh_salt() for _ in range(processes)]
    settle()
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.writers", os.fspath(root), salt, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_CHECKOUT,
        )
        for salt in salts
    ]
    try:
        for child in children:
            child.stdout.readline()  # type: ignore[union-attr]  # it says that it is ready
        for child in children:
            child.stdin.write("go\n")  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
        reports = [json.loads(child.communicate()[0]) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    outcome.waits.append(max(report["longest"] for report in reports))
    outcome.errors.extend(error for report in reports for error in report["errors"])
    with Store.open(root) as store:
        there = set(store.repository(_REPOSITORY).tags())
    outcome.lost += sum(f"{salt}-{number}" not in there for salt in salts for number in range(count))
    # The clock is the system's, one for all processes.
    wall: float = max(report["ended"] for report in reports) - min(report["started"] for report in reports)
    return wall / (processes * count)


def main(root: str, salt: str, count: str) -> None:
    """One of the processes: open, say so, wait for the word, push, report."""
    images = [small_image(salt, number) for number in range(int(count))]
    errors = []
    longest = 0.0
    with Store.open(root) as store:
        push(store, "library/warm", salt, small_image(salt, len(images)))
        print("ready", flush=True)
        sys.stdin.readline()
        started = before = time.monotonic()
        for number, image in enumerate(images):
            try:
                push(store, _REPOSITORY, f"{salt}-{number}", image)
            except OCIStoreError as error:
                errors.append(f"{type(error).__name__}: {error}")
            now = time.monotonic()
            longest = max(longest, now - before)
            before = now
    print(json.dumps({"started": started, "ended": before, "longest": longest, "errors": errors}))


if __name__ == "__main__":
    main(*sys.argv[1:])
