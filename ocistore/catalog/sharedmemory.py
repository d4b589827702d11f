"""The shared memory of a database in WAL mode: a file that SQLite maps, and that must have no holes.

SQLite writes one byte in every 4,096 of it, which gives it all of its blocks where these are as large. Where they are
smaller, as 1 KiB on a small ext4, holes stay. To write into one through the map, the kernel needs a block, and where
the disk is full it has no way of saying so but SIGBUS, which ends the process. So on such a filesystem the file is
given all its blocks before anything is written: enough for the longest WAL that there will be.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from ocistore.errors import StoreFullError
from ocistore.refusals import is_refusal

REGION: Final = 32 * 1024
"""Bytes by which SQLite lets the file grow; each is the index of 4,096 pages in the WAL (wal.c, WALINDEX_PGSZ)."""

_WANTED: Final = 16 * REGION
"""Bytes: the index of a WAL of 256 MiB. What is written in one transaction is far below that, and nobody reads for so
long that commits of more than that come together."""

_COVERED: Final = 4096
"""Bytes of which SQLite writes one (os_unix.c, unixShmMap)."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def has_small_blocks(directory: str | os.PathLike[str]) -> bool:
    """Whether the blocks of its filesystem are smaller than what SQLite takes them for."""
    return os.statvfs(directory).f_bsize < _COVERED


class SharedMemory:
    """The shared memory of one database, as this process has it open."""

    def __init__(self, database: str) -> None:
        """Take the path of the SQLite file; touch nothing yet."""
        self._path = f"{database}-shm"
        self._directory = os.path.dirname(database)
        self._small: bool | None = None

    @property
    def is_at_risk(self) -> bool:
        """Whether it may have holes."""
        if self._small is None:
            self._small = has_small_blocks(self._directory)
        return self._small

    def is_there(self) -> bool:
        """Whether the part of it that opening the database needs has all its blocks already."""
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except OSError as error:
            if not is_refusal(error):
                raise
            return False
        return status.st_blocks * 512 >= REGION

    def allocate(self, descriptor: int | None) -> None:
        """Give it all its blocks. To be called before each write.

        Args:
            descriptor: of the file, which stays open; None where there is none. To open it here, and close it again,
                would drop the locks that SQLite has on it.

        Raises:
            StoreFullError: there are not even those for what it has now.
        """
        if descriptor is None or not self.is_at_risk:
            return
        status = os.fstat(descriptor)
        if min(status.st_size, status.st_blocks * 512) >= _WANTED:
            return
        try:
            os.posix_fallocate(descriptor, 0, _WANTED)
        except OSError as error:
            if error.errno not in _FULL or not is_refusal(error):
                raise
            # As long as the disk is full, no WAL becomes long enough to need more than there is.
            try:
                os.posix_fallocate(descriptor, 0, max(REGION, status.st_size))
            except OSError as nothing:
                if not is_refusal(nothing):
                    raise
                raise StoreFullError(self._path) from nothing
