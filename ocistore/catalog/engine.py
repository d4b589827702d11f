"""Transactions: everything that is particular to SQLite.

``read()`` for one statement, ``snapshot()`` for several that must agree, ``write()`` for a write transaction: nothing
else reaches the database. Durability is WAL with ``synchronous=FULL``: what is committed survives a power cut (with
NORMAL, 100 of 100 acknowledged commits were lost in power cuts). Writers begin with ``BEGIN IMMEDIATE``, because a
transaction that reads first and writes later fails at once when another writer came in between.

Connections are held open and reused, last in first out: opening one costs as much as ten lookups. A read has no BEGIN,
because one statement is its own snapshot.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from ocistore.catalog import epoch, space
from ocistore.catalog.connection import Connection
from ocistore.catalog.lock import Turn, WriteLock
from ocistore.errors import (
    CorruptError,
    OCIStoreError,
    ReadOnlyStoreError,
    StorageError,
    StoreBusyError,
    StoreFullError,
    UncertainCommitError,
)
from ocistore.forks import ThreadLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection as AlchemyConnection

BUSY_TIMEOUT: Final = 30.0
"""Seconds a writer waits for other writers. Commits take milliseconds, a batch of collection no longer than a push, so
this is only reached when a writer is stopped (SIGSTOP, a debugger) or a disk hangs."""

MINIMUM_SQLITE: Final = (3, 37, 0)
"""The first version with STRICT tables."""

_IDLE_READERS: Final = 16
"""How many idle reading connections are kept; each costs a file descriptor and about 100 KiB."""

_catalogs: weakref.WeakSet[Catalog] = weakref.WeakSet()
_POLL: Final = 0.001
"""Seconds between two looks whether a fork may happen. Reads take microseconds, so there is rarely a second one."""

first_connections: Final = ThreadLock()
"""Held while a catalog opens the first of its connections: whoever holds it knows which databases are open here."""

_abandoned: list[object] = []
"""Connections that must not be closed: a forked child's copies of its parent's, or those closed without the lock."""


class Catalog:
    """The database of one store, for any number of threads. After a fork the child opens connections of its own."""

    def __init__(
        self,
        root: Path,
        *,
        database: Path,
        lock: Path,
        read_only: bool,
        immutable: bool = False,
        counts_epochs: bool = True,
    ) -> None:
        """Prepare, without touching a file.

        Args:
            root: the store's directory, for messages.
            database: the SQLite file.
            lock: the file of the write lock.
            read_only: refuse every write.
            immutable: nothing can change the file, as on read-only media: SQLite then needs neither locks nor a WAL.
            counts_epochs: increment the epoch with each commit (see ``epoch.py``); not in a copy that is being made.
        """
        if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
            raise StorageError(
                str(database),
                errno=None,
                reason=f"SQLite {sqlite3.sqlite_version} is older than {'.'.join(map(str, MINIMUM_SQLITE))}",
            )
        self.root = root
        self.read_only = read_only
        self._database = database
        self._immutable = immutable
        self._lock = WriteLock(os.fspath(lock), timeout=BUSY_TIMEOUT)
        self._counts_epochs = counts_epochs
        self._start()
        self._carried = True
        self._held_over_fork = contextlib.ExitStack()
        _catalogs.add(self)

    def _start(self) -> None:
        self._opening = threading.Lock()
        self._users: set[object] = set()
        self._no_fork = threading.Event()
        self._no_fork.set()
        self._keeper: Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._readers: deque[Connection] = deque()
        self._writer: Connection | None = None

    # Connections.

    def _driver_connection(self) -> sqlite3.Connection:
        mode = "immutable=1&mode=ro" if self._immutable else "mode=ro" if self.read_only else "mode=rw"
        options: dict[str, Any] = {}
        if sys.version_info >= (3, 12):
            options["autocommit"] = sqlite3.LEGACY_TRANSACTION_CONTROL
        connection: sqlite3.Connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self._database))}?{mode}",
            uri=True,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            **options,
        )
        try:
            for pragma in (
                "foreign_keys = ON",
                "trusted_schema = OFF",
                "synchronous = FULL",
                "query_only = ON" if self.read_only else "query_only = OFF",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> Connection:
        try:
            return Connection(self._driver_connection(), self._translated)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _open_connection(self) -> Connection:
        """A new connection; the first one is kept until :meth:`close`, so that closing any other never checkpoints."""
        if not self._carried:
            raise StoreBusyError("the store, which was in use when this process was forked,", waited=BUSY_TIMEOUT)
        with self._opening:
            if self._keeper is None:
                with first_connections:
                    self._opened = self._file()
                    self._keeper = self._connect()
        return self._connect()

    def has_open(self, database: Path) -> bool:
        """Whether connections to that file are open, be it under another name by now."""
        if self._keeper is None:
            return False
        ours, theirs = (os.path.realpath(path.parent) for path in (self._database, database))
        if (ours, self._database.name) == (theirs, database.name):
            return True
        return self._opened is not None and self._opened == _file(database)

    def _file(self) -> tuple[int, int] | None:
        """Which file the database is; None where there is none."""
        return _file(self._database)

    def _refuse_replaced(self) -> None:
        """Acknowledge nothing that goes into a file which has another name by now, or none. Costs 2 microseconds.

        Raises:
            CorruptError: a rebuild, or a person, put another file in the place of the one that is open.
        """
        if self._file() != self._opened:
            raise CorruptError(
                f"the catalog {self._database}",
                reason="it was replaced or removed while this process had it open; open the store again",
            )

    def _begin_use(self, user: object) -> None:
        """``user`` has a connection until :meth:`_end_use`: no fork happens meanwhile, see :meth:`before_fork`."""
        self._users.add(user)
        while not self._no_fork.is_set():
            self._users.discard(user)
            self._no_fork.wait()
            self._users.add(user)

    def _end_use(self, user: object) -> None:
        self._users.discard(user)

    # The three handles.

    def read(self) -> _Read:
        """A connection for one SELECT, fetched whole inside the block. Two statements may see two states."""
        return _Read(self)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection on which every statement sees the same state. Be short: it keeps the WAL from being reset."""
        with self.read() as connection:
            connection.command("BEGIN")
            yield connection
            connection.command("COMMIT")

    def write(self) -> _Write:
        """A write transaction: committed, durably, when the block ends, and rolled back when it raises.

        No user code, no hashing and no fsync of data belongs inside: every other writer of the store waits meanwhile.

        Raises:
            ReadOnlyStoreError: the store was opened read-only.
            StoreBusyError: other writers held the lock for longer than :data:`BUSY_TIMEOUT`.
            StoreFullError: there was no room for the commit. Nothing of it is visible.
            UncertainCommitError: the commit itself failed. Whether it happened is not known before the next write.
        """
        if self.read_only:
            raise ReadOnlyStoreError(self.root)
        return _Write(self)

    def note_epoch(self) -> None:
        """Ask whether the catalog is an older copy, as every write does; a hold is placed where it is.

        Raises:
            OCIStoreError: as :meth:`write`.
        """
        with self.write():
            pass

    def note_successor(self, mark: epoch.Mark) -> None:
        """Note that a catalog which has come so far takes the place of this one. Under :meth:`locked` only.

        To be called before it takes that place: whoever is killed in between leaves a note that is behind, never ahead.

        Raises:
            StorageError: it could not be written.
        """
        try:
            epoch.note(self._lock.descriptor, mark)
        except OSError as error:
            raise StorageError(self._lock.path, errno=error.errno, reason=str(error)) from error

    def copy_to(self, destination: Path) -> None:
        """Write the database, as it is at this instant, into a file that is empty. Others read and write meanwhile.

        Raises:
            OCIStoreError: it could not be read or written.
        """
        try:
            with self.read() as connection, contextlib.closing(sqlite3.connect(destination)) as copy:
                # In one step: between two, a writer would make it begin again.
                connection.driver.backup(copy)
        except sqlite3.Error as error:
            raise translated(error, database=destination, root=destination.parent) or error from error

    def settle(self) -> None:
        """Move the WAL into the database file, durably, so that the file can be used without it.

        Closing does so too, but silently not, where it fails.

        Raises:
            OCIStoreError: it could not be written; or somebody reads, and so needs the WAL.
        """
        with self.read() as connection:
            busy, *_ = connection.command("PRAGMA wal_checkpoint(TRUNCATE)").first() or (1,)
            if busy:
                raise StoreBusyError(f"the catalog {self._database}", waited=BUSY_TIMEOUT)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the write lock without a transaction: for creation, migration and closing."""
        turn = self._lock.held()
        try:
            self._enter(turn)
            yield
        finally:
            turn.__exit__()

    def _enter(self, turn: Turn) -> None:
        try:
            turn.__enter__()
        except PermissionError as error:
            raise ReadOnlyStoreError(self.root, reason=f"no permission: {error}") from error
        except OSError as error:
            raise StorageError(self._lock.path, errno=error.errno, reason=str(error)) from error

    @contextlib.contextmanager
    def migrating(self) -> Iterator[tuple[Connection, AlchemyConnection]]:
        """A write transaction, also as a connection of SQLAlchemy's for Alembic. Under :meth:`locked` only.

        Foreign keys are not enforced in it: whoever uses it checks them before it ends. The pragma that turns them off
        does nothing inside a transaction.
        """
        ours = self._open_connection()  # no fork happens meanwhile: the lock is held
        engine = create_engine("sqlite://", creator=lambda: ours.driver, poolclass=StaticPool)
        try:
            # In a database that is still empty; nothing comes of it in others (see space.py).
            ours.command(f"PRAGMA auto_vacuum = {space.INCREMENTAL}")
            ours.command("PRAGMA journal_mode = WAL")
            ours.command("PRAGMA foreign_keys = OFF")
            # Both know of the transaction: what SQLAlchemy does not think begun, Alembic commits after each revision.
            with engine.connect() as connection, connection.begin():
                # Only now: SQLAlchemy's first connect, which looks at what database it is, ends with a rollback.
                ours.command("BEGIN IMMEDIATE")
                yield ours, connection
                ours.command("COMMIT")
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise self._translated(error.orig) from error
            raise
        finally:
            engine.dispose()

    def _translated(self, error: sqlite3.Error) -> BaseException:
        return translated(error, database=self._database, root=self.root) or error

    # Life.

    def close(self) -> None:
        """Close every connection. The last process to do so moves the WAL into the database file, under the lock.

        If another writer is stuck in the lock, the connections stay open until the process ends.
        """
        with contextlib.ExitStack() as stack:
            # Where there is nothing to close, as in a child that only inherited, nobody is waited for. Without a lock
            # file this is no store of ours, and nothing may be left in it.
            if not self.read_only and self._keeper is not None and os.path.exists(self._lock.path):
                try:
                    stack.enter_context(self.locked())
                except OCIStoreError:
                    self._abandon_connections()
            self._close_idle()
        self._lock.close()

    def _abandon_connections(self) -> None:
        _abandoned.append((self._keeper, self._readers, self._writer))
        self._start()

    def _close_idle(self) -> None:
        while self._readers:
            self._readers.pop().close()
        for connection in (self._writer, self._keeper):
            if connection is not None:
                connection.close()
        self._writer = self._keeper = None

    # Forks. SQLite remembers in the process's memory which locks it holds on a file; a child gets that memory and not
    # the locks. A child's own connections would trust it, and commit into a WAL that the parent's close deletes. So no
    # connection is open at the instant of a fork, and both sides open new ones when they need them.

    def before_fork(self, locked: set[str]) -> None:
        """Wait for what is under way, and close every connection, under the write lock, which is kept over the fork.

        Where that takes longer than :data:`BUSY_TIMEOUT`, the child must not use the store, and is told so.

        Args:
            locked: the locks that this process took for this fork already; the same store may be open several times.
        """
        stack = contextlib.ExitStack()
        try:
            if not self.read_only and self._keeper is not None and self._lock.path not in locked:
                stack.enter_context(self.locked())
                locked.add(self._lock.path)
            self._no_fork.clear()
            deadline = time.monotonic() + BUSY_TIMEOUT
            while self._users and time.monotonic() < deadline:
                time.sleep(_POLL)
            self._carried = not self._users
            if self._carried:
                self._close_idle()
        except OCIStoreError:
            self._carried = False
        self._held_over_fork = stack

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._carried = True
        self._no_fork.set()
        self._held_over_fork.close()

    def after_fork_in_child(self) -> None:
        """Start afresh; connections that could not be closed before are neither used nor closed."""
        self._lock.after_fork_in_child()
        carried = self._carried
        self._abandon_connections()
        self._carried = carried


# Classes and not generators: an interrupt between the steps of a generator leaves it suspended with what it holds, for
# as long as somebody keeps the traceback, as an interactive session does. Here whatever was taken is given back where
# it is raised.


class _Read:
    """A block with a connection for reading."""

    __slots__ = ("_catalog", "_connection")

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._connection: Connection | None = None

    def __enter__(self) -> Connection:
        catalog = self._catalog
        try:
            catalog._begin_use(self)
            try:
                self._connection = catalog._readers.pop()
            except IndexError:
                self._connection = catalog._open_connection()
        except BaseException:
            self.__exit__(BaseException)
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        catalog, connection = self._catalog, self._connection
        try:
            if connection is not None:
                if kind is None and len(catalog._readers) < _IDLE_READERS:
                    catalog._readers.append(connection)
                else:
                    connection.close()
        finally:
            catalog._end_use(self)


class _Write:
    """A block that is a write transaction."""

    __slots__ = ("_catalog", "_changes", "_connection", "_mark", "_turn")

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._connection: Connection | None = None
        self._mark: epoch.Mark | None = None
        self._changes = 0
        self._turn = catalog._lock.held()

    def __enter__(self) -> Connection:
        catalog = self._catalog
        try:
            catalog._enter(self._turn)
            catalog._begin_use(self)
            self._connection, catalog._writer = catalog._writer, None
            if self._connection is None:
                self._connection = catalog._open_connection()
            catalog._refuse_replaced()
            self._connection.command("BEGIN IMMEDIATE")
            if catalog._counts_epochs:
                self._compare(self._connection)
        except BaseException:
            self._give_up()
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        connection = self._connection
        try:
            if connection is not None:
                if kind is not None:
                    connection.command("ROLLBACK")
                else:
                    mark = self._increment(connection)
                    try:
                        connection.command("COMMIT")
                    except StorageError as error:
                        raise UncertainCommitError(self._catalog.root) from error
                    if mark is not None:
                        # It is committed, whatever comes of this: unnoted it is as after a crash, and the next commit
                        # is noted.
                        with contextlib.suppress(OSError):
                            epoch.note(self._catalog._lock.descriptor, mark)
                self._catalog._writer, self._connection = connection, None
        finally:
            try:
                self._give_up()
            except BaseException:  # an interrupt on the way into it
                self._give_up()
                raise

    def _compare(self, connection: Connection) -> None:
        lock = self._catalog._lock
        self._changes = connection.driver.total_changes
        try:
            self._mark = epoch.compare(connection, lock.descriptor)
        except OSError as error:
            raise StorageError(lock.path, errno=error.errno, reason=str(error)) from error

    def _increment(self, connection: Connection) -> epoch.Mark | None:
        """Increment the epoch, where this transaction changed anything: a commit of nothing else would cost a sync."""
        if self._mark is None or connection.driver.total_changes == self._changes:
            return None
        return epoch.increment(connection, self._mark)

    def _give_up(self) -> None:
        """Give back what is still held. A connection whose state is not to be relied on is closed, which rolls back."""
        try:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        finally:
            try:
                self._turn.__exit__()
            except BaseException:  # likewise
                self._turn.__exit__()
                raise
            finally:
                self._catalog._users.discard(self)


def translated(error: sqlite3.Error, *, database: Path, root: Path) -> OCIStoreError | None:
    """The error of ours that says what SQLite said, or None where it is a mistake of ours (a constraint, bad SQL)."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusyError(f"the catalog {database}", waited=BUSY_TIMEOUT)
    if name.startswith("SQLITE_FULL") or name == "SQLITE_IOERR_SHMSIZE":  # that file grew by what the disk has not
        return StoreFullError(str(database))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptError(f"the catalog {database}", reason=str(error))
    if name.startswith("SQLITE_READONLY"):
        return ReadOnlyStoreError(root, reason=str(error))
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_PROTOCOL", "SQLITE_NOLFS")):
        return StorageError(str(database), errno=None, reason=f"{error} ({name})")
    return None


def _file(database: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(database)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_open_here(database: Path) -> bool:
    """Whether this process has connections to that file."""
    return any(catalog.has_open(database) for catalog in _all_catalogs())


def _all_catalogs() -> list[Catalog]:
    # In one order everywhere: each takes its store's lock.
    return sorted(_catalogs, key=lambda catalog: catalog.root)


def _before_fork() -> None:
    locked: set[str] = set()
    for catalog in _all_catalogs():
        catalog.before_fork(locked)


def _after_fork_in_parent() -> None:
    for catalog in _all_catalogs():
        catalog.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for catalog in _all_catalogs():
        catalog.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
