"""Who has a database open: asked before another file takes its place."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Final

from ocistore.catalog.database import nobody_attaches, open_here
from ocistore.filedescriptors import owned
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

_SHARED_MEMORY_LOCK: Final = 128
"""The byte of ``catalog.db-shm`` that every connection in WAL mode holds locked (SQLite, os_unix.c, "UNIX_SHM_DMS")."""

_NO_SHARED_MEMORY: Final = frozenset({errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENXIO})
"""There is none, or something lies in its place that SQLite does not use either."""


def user_of(database: Path) -> int | None:
    """Return the id of a process that has the database open, which may be this one; None where nobody has.

    It is -1 where the kernel does not say, because it saw the lock of a description and not that of a process.

    SQLite's locks are asked about, and not taken. The question needs a descriptor of the shared memory, and closing
    one drops every lock that this process holds on that file; so it is not asked where this process has the database
    open, and no thread opens it meanwhile.

    Raises:
        OSError: the locks could not be asked about.
    """
    with nobody_attaches:
        if open_here(database):
            return os.getpid()
        return _user_of(f"{database}-shm")


def _user_of(shared_memory: str) -> int | None:
    try:
        shared = owned(os.open, shared_memory, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        pass_on_theirs(error)
        if error.errno in _NO_SHARED_MEMORY:
            return None
        raise
    try:
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _SHARED_MEMORY_LOCK, 1, 0)
        held = struct.unpack("hhqqi4x", fcntl.fcntl(shared, fcntl.F_GETLK, wanted))
    finally:
        del shared  # now, and not when somebody drops the error: no thread opens the database meanwhile
    return None if held[0] == fcntl.F_UNLCK else int(held[4])
