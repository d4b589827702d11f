"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import sqlalchemy

import ocistore

_SYNCS: Final = 50


def description(directory: Path) -> dict[str, str]:
    """The machine, as far as it matters here; ``directory`` is where everything is written."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(directory),
        "fsync of a new 4 KiB file": f"{_sync_latency(directory) * 1e6:.0f} µs",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "SQLAlchemy": sqlalchemy.__version__,
        "ocistore": ocistore.__version__,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(directory: Path) -> str:
    real = os.path.realpath(directory)
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if os.path.commonpath([mount[1], real]) == mount[1]]
    return max(above, key=lambda mount: len(mount[1]))[2]


def _sync_latency(directory: Path) -> float:
    path = directory / "sync"
    seconds = []
    for _ in range(_SYNCS):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, bytes(4096))
        started = time.perf_counter()
        os.fsync(descriptor)
        seconds.append(time.perf_counter() - started)
        os.close(descriptor)
        path.unlink()
    return statistics.median(seconds)
