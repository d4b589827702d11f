"""Measuring side by side: contenders take turns in one run, so that what disturbs one of them disturbs all of them."""

from __future__ import annotations

import dataclasses
import gc
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from benchmarks.images import fresh_salt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.sizes import Sizes

_CHECKOUT: Final = Path(__file__).resolve().parent.parent

WARM_UP: Final = 1
"""Rounds that are run and not counted: imports, connections, caches and the first growth of files."""


@dataclass(frozen=True)
class Setup:
    """What every topic is given.

    What a topic makes of many files stays until the run is over: ext4 does not give out the inodes of files that were
    deleted in the last half minute, and making a file among many of those takes ten times as long.

    Attributes:
        scratch: an empty directory, removed when all topics are done.
        prepared: where big stores are kept between runs.
        sizes: how much of everything.
        peers: whether to measure other tools too.
    """

    scratch: Path
    prepared: Path
    sizes: Sizes
    peers: bool

    def fresh(self, name: str) -> Path:
        """A path in the scratch directory where nothing is yet."""
        return self.scratch / f"{name}-{fresh_salt()}"


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one measurement or more."""
        return cls(statistics.median(values), min(values), max(values))


Unit = Literal["s", "MiB", "1/s", "count"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``ratio`` is ours over the floor, taken in each round between neighbours and only then summed up. Where there is no
    floor it is None, and the bound holds for ``ours`` itself.
    """

    name: str
    what: str
    floor_is: str
    unit: Unit
    ours: Spread
    floor: Spread | None
    ratio: Spread | None
    bound: float
    beside: Mapping[str, str] = field(default_factory=dict)
    """More floors and what goes with the measurement, as text."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """What other tools take for it, as text."""

    @property
    def measured(self) -> float:
        """What the bound is held against."""
        return self.ours.median if self.ratio is None else self.ratio.median

    @property
    def verdict(self) -> str:
        """``meets``, or by how much it falls short of the bound."""
        if self.measured <= self.bound:
            return "meets"
        if self.bound == 0:
            return f"short by {self.measured:g}"
        return f"short by {(self.measured / self.bound - 1) * 100:.0f} %"

    def as_json(self) -> dict[str, object]:
        """For the JSON file."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


def compared(
    name: str,
    what: str,
    *,
    ours: Sequence[float],
    floor: Sequence[float],
    floor_is: str,
    bound: float,
    beside: Mapping[str, str] | None = None,
    peers: Mapping[str, str] | None = None,
) -> Row:
    """A row of times, each measurement of ours divided by the one of the floor in the same round."""
    return Row(
        name=name,
        what=what,
        floor_is=floor_is,
        unit="s",
        ours=Spread.of(ours),
        floor=Spread.of(floor),
        ratio=Spread.of([mine / least for mine, least in zip(ours, floor, strict=True)]),
        bound=bound,
        beside=beside or {},
        peers=peers or {},
    )


def bounded(
    name: str, what: str, *, unit: Unit, ours: Sequence[float], bound: float, beside: Mapping[str, str] | None = None
) -> Row:
    """A row without a floor: the bound holds for what was measured, and of several measurements for the greatest."""
    spread = Spread(max(ours), min(ours), max(ours))
    return Row(name, what, "", unit, ours=spread, floor=None, ratio=None, bound=bound, beside=beside or {})


def memory_growth(root: Path, path: Path, form: str) -> float:
    """MiB by which the resident memory of a new process peaks above what it was: see :mod:`benchmarks.memory`."""
    arguments = [sys.executable, "-m", "benchmarks.memory", os.fspath(root), os.fspath(path), form]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=_CHECKOUT)
    return int(done.stdout) / 1024


def interleave(rounds: int, contenders: Mapping[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Let all contenders run once in every round, in turn forwards and backwards, and return what each one measured.

    A contender is told the number of the round and returns the seconds that count: making ready and cleaning up do not.
    """
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(WARM_UP + rounds):
        order = list(contenders.items())
        for name, contender in reversed(order) if number % 2 else order:
            gc.collect()
            seconds = contender(number)
            if number >= WARM_UP:
                measured[name].append(seconds)
    return measured


def timed(work: Callable[[], object]) -> float:
    """How many seconds it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def settle() -> None:
    """Write out what was left behind, so that the next one to sync does not pay for it."""
    os.sync()


def duration(seconds: float) -> str:
    """Seconds for people: three digits and the unit that fits."""
    if seconds >= 1000:
        return f"{seconds:,.0f} s"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def versus(ours: Sequence[float], other: Sequence[float]) -> str:
    """Another measurement of the same rounds, as text: its time, and ours as a multiple of it."""
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, other, strict=True))
    return f"{duration(statistics.median(other))} (ours is {ratio:.2f} times that)"
