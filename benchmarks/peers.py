"""What people use now: skopeo and umoci as they come with a distribution, disk-objectstore from the package index."""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness import duration, timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from disk_objectstore import Container

NOT_INSTALLED: Final = "not installed"


def command(name: str, rounds: int, *, ready: Callable[[int], list[str]], each: int = 1, note: str = "") -> str:
    """How long a command takes, process start included, as text.

    Args:
        name: the program.
        rounds: how often to run it.
        ready: prepares a round and returns the arguments.
        each: for how many units of work one run counts.
        note: what to know of it.
    """
    if shutil.which(name) is None:
        return NOT_INSTALLED
    seconds = []
    for number in range(rounds):
        arguments = [name, *ready(number)]
        seconds.append(timed(partial(subprocess.run, arguments, check=True, capture_output=True)))
    return _text(statistics.median(seconds) / each, note)


def skopeo_copy(source: str, destination: str) -> list[str]:
    """The arguments of a copy that leaves layers as they are and needs no policy on the machine."""
    return ["--insecure-policy", "copy", "--dest-oci-accept-uncompressed-layers", source, destination]


def disk_objectstore(
    fresh: Callable[[], Path], rounds: int, work: Callable[[Container], object], *, each: int = 1, note: str = ""
) -> str:
    """How long work on a container of disk-objectstore takes, a new one each time, as text."""
    if importlib.util.find_spec("disk_objectstore") is None:
        return NOT_INSTALLED
    from disk_objectstore import Container

    seconds = []
    for _ in range(rounds):
        with Container(fresh()) as container:
            container.init_container()
            seconds.append(timed(partial(work, container)))
    return _text(statistics.median(seconds) / each, note)


def _text(seconds: float, note: str) -> str:
    return f"{duration(seconds)} ({note})" if note else duration(seconds)
