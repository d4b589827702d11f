"""Making bytes durable: which way of syncing serves how many files, and what a failed sync means.

A failed sync is final. The kernel marks the pages it could not write as clean and says so once; a second sync of the
same file succeeds and means nothing (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
Whoever calls these functions gives up the files of a sync that raised.
"""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Final

from ocistore.filedescriptors import owned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNCFS_REPORTS_ERRORS: Final = (5, 8)
"""The first Linux whose ``syncfs`` says that something could not be written (syncfs(2), "RETURN VALUE")."""


def sync_files(descriptors: Sequence[int]) -> None:
    """Make the data of these open files durable, one sync for each.

    Writing is started for all of them first: it gives every file its place on the disk, so that the journal commit of
    the first sync covers all of them and the later ones find nothing to commit.

    Raises:
        OSError: the data of some of them is lost.
    """
    if len(descriptors) > 1:
        for descriptor in descriptors:
            start_writeback(descriptor)
    for descriptor in descriptors:
        os.fsync(descriptor)


def sync_path(path: str | os.PathLike[str]) -> None:
    """Make a directory's names, or the data of a file that nobody has open, durable.

    Raises:
        OSError: it could not be opened, or something of it is lost.
    """
    os.fsync(owned(os.open, path, os.O_RDONLY | os.O_CLOEXEC))


def sync_filesystem(descriptor: int) -> None:
    """Make everything durable that was written, by anybody, to the filesystem of this open file.

    Raises:
        OSError: something written since ``descriptor`` was opened or last synced this way is lost, perhaps not ours.
    """
    if _syncfs()(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def syncfs_reports_errors() -> bool:
    """Whether the kernel is one on which :func:`sync_filesystem` can be trusted."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= _SYNCFS_REPORTS_ERRORS


@cache
def _syncfs() -> Callable[[int], int]:
    function = ctypes.CDLL(None, use_errno=True).syncfs
    function.argtypes = (ctypes.c_int,)
    function.restype = ctypes.c_int
    return function


def start_writeback(descriptor: int) -> None:
    """Ask the kernel to start writing what it still holds of that file to the disk.

    A hint that promises nothing and whose failure means nothing: only the sync that follows says whether it arrived.
    """
    _sync_file_range()(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int]:
    function = ctypes.CDLL(None).sync_file_range
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function
