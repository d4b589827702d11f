"""What keeps the files that SQLite works with under the names that it knows.

SQLite holds POSIX locks, which belong to a process: whatever in it opens and closes ``catalog.db`` or its ``-shm``
(``read_bytes``, ``copytree``) drops them all. Then another process takes itself for the last one when it closes, and
deletes the WAL under this one; or for the first one when it opens, and empties the shared memory. So there is a second
pair of locks, which belong to descriptions of our own: nobody's close drops them, and they conflict with POSIX locks,
those of this process included. While they are held no SQLite anywhere can delete a WAL or empty the shared memory, and
a connection can be closed at any time, because that never checkpoints.

Closing our own descriptors would drop SQLite's locks, too. So they are closed when no connection is left.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog import walindex
from ocistore.filedescriptors import OpenFile
from ocistore.refusals import is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARED: Final = (0x40000002, 510)
"""Where, and over how many bytes, SQLite locks a database file: who has it open shared, who deletes the WAL exclusively
(``SHARED_FIRST``, ``SHARED_SIZE`` in os.h)."""

_DEAD_MANS_SWITCH: Final = (128, 1)
"""The same for the shared memory (``UNIX_SHM_DMS`` in os_unix.c): who finds nobody there empties it."""

_WAL: Final = b"\x02\x02"
_FORMAT: Final = 18
"""Where a database file says that it has a WAL (section 1.3 of SQLite's file format)."""

_MAY_NOT_WRITE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

_POLL: Final = 0.001
"""Seconds between two tries while the last user of the database, in another process, closes it."""


class LockedError(TimeoutError):
    """Another process has locked a file for too long. Not any ``TimeoutError``, as a signal handler may raise."""


class File(NamedTuple):
    """Which file it is, whatever its name."""

    device: int
    inode: int


class Guard:
    """The locks of this process on one database file and its shared memory."""

    def __init__(self, path: str) -> None:
        """Open the file, without a lock.

        Raises:
            OSError: it cannot be opened.
        """
        self._database = OpenFile(path, os.O_RDONLY)
        self._memory: OpenFile | None = None
        self._map: mmap.mmap | None = None
        self.file = _file(os.fstat(self._database.number))
        self.engaged = False
        """Whether both are locked."""
        self.watch: Callable[[], bytes] | None = None
        """How readers tell that they were undisturbed, while any connection is open; None without shared memory."""
        self._beside: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)

    def has_wal(self) -> bool:
        """Whether the database has a WAL by now; a new one is empty.

        Raises:
            OSError: it cannot be read.
        """
        return os.pread(self._database.number, len(_WAL), _FORMAT) == _WAL

    def lock(self, *, until: float) -> None:
        """Lock the database, before SQLite opens its WAL. Waits while another process deletes one.

        Args:
            until: the instant, of the monotonic clock, at which to give up.

        Raises:
            LockedError: somebody held it until then.
            OSError: there are no locks to be had.
        """
        _lock(self._database.number, _SHARED, until=until)

    def lock_memory(self, path: str, *, until: float) -> None:
        """Lock the shared memory, which SQLite has open by now, and remember what both files are.

        Raises:
            LockedError, OSError: as :meth:`lock`.
        """
        if self._memory is None:
            self._memory = _opened(f"{path}-shm")
        if self._memory is not None:
            _lock(self._memory.number, _DEAD_MANS_SWITCH, until=until)
            self._map = mapped = _mapped(self._memory.number)
            self.watch = lambda: mapped[: walindex.SIZE]
        self._beside = _beside(path)
        self.engaged = True

    def memory(self) -> int | None:
        """Return the descriptor of the shared memory, if there is one."""
        return None if self._memory is None else self._memory.number

    def stands(self, path: str) -> bool:
        """Whether the WAL and the shared memory in use are the ones that have the names. Costs 3 microseconds."""
        return _beside(path) == self._beside

    def has_lost_wal(self, path: str) -> bool:
        """Whether the WAL in use has no name any more, and no other has it."""
        return self._beside[0] is not None and _beside(path)[0] is None

    def unlock(self) -> None:
        """Let SQLite find out whether it is the last one: with the next close it deletes the WAL if so."""
        self.engaged = False
        _unlock(self._database.number, _SHARED)

    def close(self) -> None:
        """Give up both files. Only where no connection is left."""
        self.engaged = False
        if self._map is not None:
            self._map.close()  # which closes a descriptor, too: not whenever the last reference to it goes
        # Explicitly, because a child may share the descriptions, which then stay locked.
        for held, area in ((self._memory, _DEAD_MANS_SWITCH), (self._database, _SHARED)):
            if held is not None:
                _unlock(held.number, area)
                held.close()


def _mapped(descriptor: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, walindex.SIZE, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise OSError(errno.EIO, "the shared memory is shorter than SQLite makes it") from error


def _opened(path: str) -> OpenFile | None:
    try:
        return OpenFile(path, os.O_RDWR)
    except FileNotFoundError as error:  # SQLite does without where nobody else can have the database open
        if not is_refusal(error):
            raise
        return None
    except OSError as error:
        if error.errno not in _MAY_NOT_WRITE or not is_refusal(error):
            raise
        return OpenFile(path, os.O_RDONLY)


def _flock(kind: int, area: tuple[int, int]) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, *area, 0)


def _lock(descriptor: int, area: tuple[int, int], *, until: float) -> None:
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, area))
        except (BlockingIOError, PermissionError) as error:  # fcntl(2) may say EACCES for EAGAIN
            if not is_refusal(error):
                raise
            if time.monotonic() >= until:
                raise LockedError(f"it is locked by another process: {error}") from error
            time.sleep(_POLL)
        else:
            return


def _unlock(descriptor: int, area: tuple[int, int]) -> None:
    """Free what is locked. Where the kernel refuses to, the WAL is not deleted, and closing the file frees it."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, area))
    except OSError as error:
        pass_on_theirs(error)


def _beside(path: str) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    return _named(f"{path}-wal"), _named(f"{path}-shm")


def _named(path: str) -> tuple[int, int] | None:
    """Return which file has that name, as :class:`File` says, and quicker: every write asks twice."""
    try:
        status = os.stat(path)
    except OSError as error:
        if not is_refusal(error):
            raise
        return None
    return status.st_dev, status.st_ino


def _file(status: os.stat_result) -> File:
    return File(status.st_dev, status.st_ino)
