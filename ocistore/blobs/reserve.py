"""The reserved file: space that is given up when the disk is full, so that a store can still be opened and emptied.

A commit that deletes needs room too, in the WAL. On a full disk there is none, and nothing could ever be deleted.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ocistore.blobs.paths import StorePaths

SIZE: Final = 8 * 1024**2
"""Bytes: enough for a thousand pages in the WAL, which is when it is moved into the database, and for that."""

_SHARE: Final = 64
"""Never more than this part of what is free: on a small disk the reserve is small too."""

_OPENING: Final = 64 * 1024
"""Bytes that opening takes: the shared memory of the catalog has 32 KiB, and its WAL begins."""

_LEAST: Final = 2 * _OPENING
"""Bytes that are reserved on a disk that is nearly full too, where that is no more than half of what is free."""

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def available(directory: str | os.PathLike[str]) -> int:
    """Bytes that may still be written on the filesystem of a directory."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


class Reserve:
    """The file of one store. Any number of processes may make it, and give it up, at once."""

    def __init__(self, paths: StorePaths) -> None:
        self._path = os.fspath(paths.reserved)
        self._root = os.fspath(paths.root)

    def make(self) -> None:
        """Set space aside, where none is and there is enough. What the filesystem refuses is left alone.

        Not durable, and need not be: the next opening, or collection, makes it again.
        """
        with contextlib.suppress(OSError):
            if os.path.lexists(self._path):
                return
            free = available(self._root)
            size = min(SIZE, max(free // _SHARE, min(_LEAST, free // 2)))
            if size == 0:
                return
            descriptor = os.open(self._path, _NEW_FILE, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError:
                os.unlink(self._path)
                raise
            finally:
                os.close(descriptor)

    def shrink(self) -> bool:
        """Give back as much as opening takes, and keep the rest for deleting. False where there is none to give."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            size = os.fstat(descriptor).st_size
            if size <= _OPENING:
                return self.give_up()
            os.ftruncate(descriptor, size - _OPENING)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def give_up(self) -> bool:
        """Give the space back to the filesystem. False where there is none to give."""
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True
