"""Who has a database file open: the catalogs of this process, which share its connections, and other processes."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from ocistore.catalog import forking
from ocistore.catalog.database import Database
from ocistore.catalog.guard import File
from ocistore.filedescriptors import owned
from ocistore.forks import ForkSafeLock
from ocistore.refusals import is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.catalog.address import Address
    from ocistore.catalog.lock import WriteLock

_SHARED_MEMORY_LOCK: Final = 128
"""The byte of ``catalog.db-shm`` that every connection in WAL mode holds locked (SQLite, os_unix.c, "UNIX_SHM_DMS")."""

_NO_SHARED_MEMORY: Final = frozenset({errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENXIO})
"""There is none, or something lies in its place that SQLite does not use either."""

nobody_attaches: Final = ForkSafeLock()
"""Held while a catalog gets to its database: whoever holds it knows which are open here."""

databases: dict[File, Database] = {}

forking.follow(databases)


def attach(address: Address, holder: object, lock: WriteLock) -> Database:
    """Return the connections to a file, until the holder leaves them, or is gone. Attaching again does nothing.

    Raises:
        StorageError: there is no such file.
        StoreBusyError: this process may not use it.
    """
    try:
        status = os.stat(address.path)
    except OSError as error:
        raise address.failed(error) from error
    file = File(status.st_dev, status.st_ino)
    forking.adopt()
    with nobody_attaches:
        database = databases.get(file)
        if database is None:
            database = databases[file] = Database(file, retire=_retire)
        database.refuse_inherited()
        database.names.add(_name(address.path))
        if database.lock is None and not address.read_only:
            database.lock = lock
        database.holders.add(weakref.ref(holder, partial(database.leave, wait=False)))
    return database


def open_here(path: Path) -> bool:
    """Whether this process has that file open, under this name or another, or had another one under its name."""
    try:
        status = os.stat(path)
    except OSError as error:
        if not is_refusal(error):
            raise
        file = None
    else:
        file = File(status.st_dev, status.st_ino)
    return any(
        bool(each.holders) and (each.file == file or _name(path) in each.names) for each in tuple(databases.values())
    )


def _retire(database: Database) -> None:
    with nobody_attaches:
        if not database.holders and database.file is not None and databases.get(database.file) is database:
            database.retired = True
            del databases[database.file]


def _name(path: Path) -> tuple[str, str]:
    return os.path.realpath(path.parent), path.name


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
