"""What the disk alone takes: as many bytes written and synced, through the page cache and past it."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.harness import settle, timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK: Final = 1024 * 1024

_RWF_DONTCACHE: Final = 0x80
"""Linux 6.14's flag for writing past the page cache (pwritev2(2)), which Python 3.11 has no name for."""


def writing(path: Path, size: int) -> dict[str, Callable[[int], float]]:
    """Contenders, by name, that write that many bytes to ``path`` and sync them, and remove it again."""
    contenders: dict[str, Callable[[int], float]] = {
        "write and fsync": lambda _: _write(path, size, flags=0),
    }
    if _can_write_past_the_cache(path):
        contenders["write past the page cache and fsync"] = partial(_past_the_cache, path, size)
    return contenders


def _past_the_cache(path: Path, size: int, _round: int) -> float:
    return _write(path, size, flags=_RWF_DONTCACHE)


def _write(path: Path, size: int, *, flags: int) -> float:
    """Writing that many bytes to a new file and syncing it; without reading or hashing anything."""
    block = os.urandom(_CHUNK)
    settle()

    def write() -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for position in range(0, size, _CHUNK):
            os.pwritev(descriptor, (block,), position, flags)
        os.fsync(descriptor)
        os.close(descriptor)

    seconds = timed(write)
    path.unlink()
    return seconds


def _can_write_past_the_cache(path: Path) -> bool:
    try:
        _write(path, _CHUNK, flags=_RWF_DONTCACHE)
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)
    return True
