"""Transactions: everything that is particular to SQLite, seen from one store.

``read()`` for one statement, ``snapshot()`` for several that must agree, ``write()`` for a write transaction: nothing
else reaches the database. Durability is WAL with ``synchronous=FULL``: what is committed survives a power cut (with
NORMAL, 100 of 100 acknowledged commits were lost in power cuts). Writers begin with ``BEGIN IMMEDIATE``, because a
transaction that reads first and writes later fails at once when another writer came in between.

Connections belong to the process, not to a store (``database.py``): they are held open and reused, last in first out,
because opening one costs as much as ten lookups. A read has no BEGIN, because one statement is its own snapshot.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from ocistore.catalog import epoch, space
from ocistore.catalog.database import Address, Use, attach
from ocistore.catalog.lock import Turn, WriteLock
from ocistore.catalog.quiet import Quiet
from ocistore.catalog.sharedmemory import SharedMemory
from ocistore.catalog.sqliteerrors import BUSY_TIMEOUT, translated
from ocistore.errors import (
    CorruptError,
    OCIStoreError,
    ReadOnlyStoreError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
    StoreNotFoundError,
    UncertainCommitError,
)
from ocistore.refusals import is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection as AlchemyConnection

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.database import Database
    from ocistore.catalog.quiet import State

__all__ = ["BUSY_TIMEOUT", "MINIMUM_SQLITE", "Catalog", "translated"]

MINIMUM_SQLITE: Final = (3, 37, 0)
"""The first version with STRICT tables."""


class Catalog:
    """The database of one store, for any number of threads. After a fork the child opens connections of its own."""

    def __init__(
        self,
        root: Path,
        *,
        database: Path,
        lock: str | os.PathLike[str],
        read_only: bool,
        may_write_beside: bool = True,
        counts_epochs: bool = True,
    ) -> None:
        """Prepare, without touching a file.

        Args:
            root: the store's directory, for messages.
            database: the SQLite file.
            lock: the file of the write lock.
            read_only: refuse every write.
            may_write_beside: whether SQLite may make a WAL and shared memory beside it, as it does even to read. If
                not, the catalog is read-only (see ``quiet.py``).
            counts_epochs: increment the epoch with each commit (see ``epoch.py``); not in a copy that is being made.
        """
        if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
            raise StorageError(
                str(database),
                errno=None,
                reason=f"SQLite {sqlite3.sqlite_version} is older than {'.'.join(map(str, MINIMUM_SQLITE))}",
            )
        self.root = root
        self._root = os.fspath(root)  # a Path takes longer to become one than the kernel to find it
        self.read_only = read_only
        self.closed = False
        self.shared_memory = SharedMemory(os.fspath(database))
        self._timeout = BUSY_TIMEOUT
        self._address = Address(database, root=root, read_only=read_only, immutable=False)
        self._quiet = None if may_write_beside else Quiet(database, root=root)
        self._lock = WriteLock(os.fspath(lock), timeout=self._timeout)
        self._counts_epochs = counts_epochs
        self._attached: Database | None = None
        self._place: tuple[int, int] | None = None
        """Which directory the root was when the database was reached first."""

    def _database(self) -> Database:
        """The connections of this process, from the first use on.

        Raises:
            StoreClosedError: this catalog is closed.
            StorageError: there is no such file.
            StoreBusyError: this process may not use it.
        """
        database = self._attached
        if database is None:
            self._refuse_closed()
            database = attach(self._address, self, self._lock)
            self._place = self._place or self._found()
            self._attached = database
            if self.closed:  # by another thread, meanwhile
                self.close()
        return database

    def _reach(self, quiet: Quiet) -> tuple[Database, State] | None:
        self._refuse_closed()
        self._place = self._place or self._found()
        return quiet.begin()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise StoreClosedError(f"the store {self.root}")

    def _found(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._root)
        except OSError as error:
            if not is_refusal(error):
                raise
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                return None
            return self._place  # it cannot be looked at now, which is not to be somewhere else
        return status.st_dev, status.st_ino

    @property
    def moved(self) -> bool:
        """Whether the root is another directory by now, or none. Costs 2 microseconds."""
        return self._place is not None and self._found() != self._place

    def refuse_moved(self) -> None:
        """Stop where the store is not any more where it was opened, so that nothing of it is taken for damaged.

        Raises:
            StoreNotFoundError: its directory was moved, replaced or removed.
        """
        if self.moved:
            reason = "it was moved, replaced or removed while this process had it open; open it where it is now"
            raise StoreNotFoundError(self.root, reason=reason)

    def refuse_inherited(self) -> None:
        """Stop in a child that may not use what its parent had open. Costs 60 ns.

        Raises:
            StoreBusyError: this process is one.
        """
        if self._attached is not None:
            self._attached.refuse_inherited()

    def _refuse_replaced(self, database: Database) -> None:
        """Acknowledge nothing that goes into a file which has another name by now, or none. Costs 2 microseconds.

        Raises:
            StoreNotFoundError: the store's directory was moved, replaced or removed.
            CorruptError: a rebuild, or a person, put another file in the place of the one that is open.
            StorageError: the file system refused to say.
        """
        try:
            status = os.stat(self._address.text)
        except OSError as error:
            if not is_refusal(error):
                raise
            found = None
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                reason = error.strerror or str(error)
                raise StorageError(str(self._address.path), errno=error.errno, reason=reason) from error
        else:
            found = status.st_dev, status.st_ino
        if found != database.file:
            self.refuse_moved()  # while this waited for the lock
            raise CorruptError(
                f"the catalog {self._address.path}",
                reason="it was replaced or removed while this process had it open; open the store again",
            )

    # The three handles.

    def read(self) -> _Read:
        """A connection for one SELECT, fetched whole inside the block. Two statements may see two states."""
        return _Read(self)

    def snapshot(self) -> _Snapshot:
        """A connection on which every statement sees the same state. Be short: it keeps the WAL from being reset."""
        return _Snapshot(self)

    def write(self, *, wait: bool = True) -> _Write:
        """A write transaction: committed, durably, when the block ends, and rolled back when it raises.

        No user code, no hashing and no fsync of data belongs inside: every other writer of the store waits meanwhile.

        Args:
            wait: for other writers. Without it their lock is an error at once.

        Raises:
            ReadOnlyStoreError: the store was opened read-only.
            StoreBusyError: other writers held the lock for longer than :data:`BUSY_TIMEOUT`.
            StoreFullError: there was no room for the commit. Nothing of it is visible.
            UncertainCommitError: the commit itself failed. Whether it happened is not known before the next write.
        """
        if self.read_only:
            raise ReadOnlyStoreError(self.root)
        return _Write(self, wait=wait)

    def again(self) -> Catalog:
        """The same database once more, for what has to be done whether or not this is closed. To be closed itself."""
        return Catalog(
            self.root,
            database=self._address.path,
            lock=self._lock.path,
            read_only=self.read_only,
            counts_epochs=self._counts_epochs,
        )

    def note_epoch(self) -> None:
        """Ask whether the catalog is an older copy, as every write does; a hold is placed where it is.

        Raises:
            OCIStoreError: as :meth:`write`.
        """
        with self.write():
            pass

    def noted_epoch(self) -> epoch.Mark:
        """How far which catalog has come, as the lock's file says, for who only looks.

        Raises:
            StorageError: it could not be read.
        """
        try:
            return epoch.noted_at(self._lock.path)
        except OSError as error:
            pass_on_theirs(error)
            raise StorageError(self._lock.path, errno=error.errno, reason=str(error)) from error

    def note_successor(self, mark: epoch.Mark) -> None:
        """Note that a catalog which has come so far takes the place of this one. Under :meth:`locked` only.

        To be called before it takes that place: whoever is killed in between leaves a note that is behind, never ahead.

        Raises:
            StorageError: it could not be written.
        """
        try:
            epoch.note(self._lock.descriptor, mark)
        except OSError as error:
            if not is_refusal(error):
                raise
            raise StorageError(self._lock.path, errno=error.errno, reason=str(error)) from error

    def copy_to(self, destination: Path) -> None:
        """Write the database, as it is at this instant, into a file that is empty. Others read and write meanwhile.

        Raises:
            OCIStoreError: it could not be read or written.
        """
        try:
            with self.read() as connection, contextlib.closing(sqlite3.connect(destination)) as copy:
                # In one step: between two, a writer would make it begin again.
                connection.undisturbed(partial(connection.driver.backup, copy))
        except sqlite3.Error as error:
            raise translated(error, database=destination, root=destination.parent) or error from error

    def settle(self) -> None:
        """Move the WAL into the database file, durably, so that the file can be used without it.

        Closing does so too, but silently not, where it fails.

        Raises:
            OCIStoreError: it could not be written; or somebody reads, and so needs the WAL.
        """
        with self.read() as connection:
            connection.watch = None  # it is this that disturbs
            busy, *_ = connection.command("PRAGMA wal_checkpoint(TRUNCATE)").first() or (1,)
            if busy:
                raise StoreBusyError(f"the catalog {self._address.path}", waited=BUSY_TIMEOUT)

    def reuse_wal(self) -> None:
        """Move as much of the WAL into the database file as nobody reads, and give its room back. Waits for nobody.

        Raises:
            OCIStoreError: it could not be written, which changes nothing.
        """
        with self.locked(), self.read() as connection:
            connection.watch = None
            connection.command("PRAGMA busy_timeout = 0")
            try:
                connection.command("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.command(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")

    def locked(self) -> _Locked:
        """Hold the write lock without a transaction: for creation, migration and closing."""
        return _Locked(self)

    def _enter(self, turn: Turn) -> None:
        self._refuse_closed()
        self.refuse_moved()  # before a lock is made where it has no business
        try:
            turn.__enter__()
        except PermissionError as error:
            if not is_refusal(error):
                raise
            raise ReadOnlyStoreError(self.root, reason=f"no permission: {error}") from error
        except OSError as error:
            if not is_refusal(error):
                raise
            raise StorageError(self._lock.path, errno=error.errno, reason=str(error)) from error

    @contextlib.contextmanager
    def migrating(self) -> Iterator[tuple[Connection, AlchemyConnection]]:
        """A write transaction, also as a connection of SQLAlchemy's for Alembic. Under :meth:`locked` only.

        Foreign keys are not enforced in it: whoever uses it checks them before it ends. The pragma that turns them off
        does nothing inside a transaction.
        """
        with _Alone(self) as ours:
            engine = create_engine("sqlite://", creator=lambda: ours.driver, poolclass=StaticPool)
            try:
                # In a database that is still empty; nothing comes of it in others (see space.py).
                ours.command(f"PRAGMA auto_vacuum = {space.INCREMENTAL}")
                ours.command("PRAGMA journal_mode = WAL")
                ours.command("PRAGMA foreign_keys = OFF")
                # Both know of the transaction: what SQLAlchemy does not think begun, Alembic commits after each
                # revision.
                with engine.connect() as connection, connection.begin():
                    # Only now: SQLAlchemy's first connect, which looks at what database it is, ends with a rollback.
                    ours.command("BEGIN IMMEDIATE")
                    yield ours, connection
                    ours.command("COMMIT")
            except DBAPIError as error:
                if isinstance(error.orig, sqlite3.Error):
                    raise self._address.translated(error.orig) from error
                raise
            finally:
                engine.dispose()

    # Life.

    def close(self, *, wait: bool = True) -> None:
        """Close it, and with the last one of this process every connection; those in use are left to their last use.

        The last process to do so moves the WAL into the database file, under the lock.

        Args:
            wait: for the lock, if need be. Without it the WAL may stay where it is; the next opening reads it.
        """
        self.closed = True
        database = self._attached
        if database is not None:
            database.leave(weakref.ref(self), wait=wait)
            self._attached = None
        if self._quiet is not None:
            self._quiet.close()
        self._lock.close()


# Classes and not generators: an interrupt between the steps of a generator leaves it suspended with what it holds, for
# as long as somebody keeps the traceback, as an interactive session does. Here whatever was taken is given back where
# it is raised, or where the object is gone.


class _Using(Use):
    """A use of the database, with or without a connection."""

    __slots__ = ("_address", "_catalog", "_connection", "_database", "_state")

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog
        self._address = catalog._address
        self._connection: Connection | None = None
        self._database: Database | None = None
        self._state: State | None = None

    def _begin(self) -> Database:
        catalog = self._catalog
        quiet = None if catalog._quiet is None else catalog._reach(catalog._quiet)
        if quiet is None:
            database = self._database = catalog._database()
        else:
            database, self._state = quiet
            self._database = database
            if catalog._quiet is not None:
                self._address = catalog._quiet.address
        database.begin(self)
        return database

    def _connect(self, database: Database) -> Connection:
        connection = self._connection = database.connection(self._address)
        return connection

    def _end(self) -> None:
        """Give back what is still held. A connection whose state is not to be relied on is closed, which rolls back."""
        # It stays this object's until it is closed: a transaction that only an interrupted frame knows goes on.
        try:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            if self._database is not None:
                self._database.end(self)
                self._database = None


class _Alone(_Using):
    """A block with a connection that nobody used before, or will afterwards."""

    __slots__ = ()

    def __enter__(self) -> Connection:
        try:
            connection = self._connect(self._begin())
        except BaseException:
            self._end()
            raise
        return connection

    def __exit__(self, *_: object) -> None:
        self._end()


class _Read(_Using):
    """A block with a connection for reading."""

    __slots__ = ()

    def __enter__(self) -> Connection:
        try:
            connection = self._connection = self._begin().take(self._address)
        except BaseException as error:
            self._end()
            if isinstance(error, (CorruptError, StorageError)):
                self._catalog.refuse_moved()
            raise
        return connection

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        connection, database = self._connection, self._database
        try:
            if self._state is not None and self._catalog._quiet is not None:
                self._catalog.refuse_moved()  # it was reached by its path
                self._catalog._quiet.check(self._state)  # also where it raised: that may be why
            if kind is None and connection is not None and database is not None:
                self._connection = None
                database.give(self._address, connection)
        finally:
            self._end()


class _Snapshot(_Read):
    """The same, in a transaction."""

    __slots__ = ()

    def __enter__(self) -> Connection:
        connection = super().__enter__()
        try:
            connection.begin_snapshot()
        except BaseException:
            self._end()
            raise
        return connection

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        try:
            if kind is None and self._connection is not None:
                self._connection.end_snapshot()
        except BaseException:
            self._end()
            raise
        super().__exit__(kind)


class _Locked:
    """A block that holds the write lock."""

    __slots__ = ("__weakref__", "_catalog", "_turn")

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._turn = catalog._lock.held(owner=self)

    def __enter__(self) -> None:
        self._catalog.refuse_inherited()
        self._catalog._enter(self._turn)

    def __exit__(self, *_: object) -> None:
        self._turn.__exit__()

    def give_up(self) -> None:
        """Give back what it has, in the place of an exit that was interrupted before it did."""
        self._turn.__exit__()


class _Write(_Using):
    """A block that is a write transaction."""

    __slots__ = ("_changes", "_mark", "_turn")

    def __init__(self, catalog: Catalog, *, wait: bool) -> None:
        super().__init__(catalog)
        self._mark: epoch.Mark | None = None
        self._changes = 0
        self._turn = catalog._lock.held(wait=wait, owner=self)

    def __enter__(self) -> Connection:
        catalog = self._catalog
        try:
            catalog._database().refuse_inherited()  # before the lock, which the parent may hold
            catalog._enter(self._turn)
            database = self._begin()
            catalog._refuse_replaced(database)
            if not database.stands(catalog._address):
                database.reopen(catalog._address, timeout=catalog._timeout)
            connection = self._writer(database)
            catalog.shared_memory.allocate(database.shared_memory)
            connection.command("BEGIN IMMEDIATE")
            connection.writing = True
            connection.is_backup = None
            if catalog._counts_epochs:
                self._compare(connection)
        except BaseException:
            self._end()
            raise
        return connection

    def _writer(self, database: Database) -> Connection:
        connection, database.writer = database.writer, None
        if connection is not None and connection.open:  # not one that an interrupted write has closed
            self._connection = connection
            return connection
        connection = self._connect(database)
        if not database.guarded:  # the file of a copy, as VACUUM INTO writes it, has no WAL
            connection.command("PRAGMA journal_mode = WAL")
            connection.close()
            connection = self._connect(database)
        return connection

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        connection, database = self._connection, self._database
        try:
            if connection is not None and database is not None:
                if kind is None:
                    self._commit(connection)
                else:
                    self._roll_back(connection)
                connection.writing = False
                if connection.lost is None and database.guarded:
                    self._connection, database.writer = None, connection
        finally:
            try:
                self._end()
            except BaseException:  # an interrupt on the way into it
                self._end()
                raise

    def _commit(self, connection: Connection) -> None:
        if connection.lost is not None:
            raise connection.lost
        mark = self._increment(connection)
        try:
            connection.command("COMMIT")
        except StorageError as error:
            raise UncertainCommitError(self._catalog.root) from error
        if mark is not None:
            # It is committed, whatever comes of this: unnoted it is as after a crash, and the next commit is noted.
            try:
                epoch.note(self._turn.descriptor, mark)
            except OSError as error:
                if not is_refusal(error):
                    raise

    def _roll_back(self, connection: Connection) -> None:
        """Roll back, whatever hinders it: a connection that cannot be relied on is closed, and hides no error."""
        try:
            connection.roll_back()
        except (OCIStoreError, sqlite3.Error) as error:
            connection.lost = error

    def give_up(self) -> None:
        """Give back what it has, in the place of an exit that was interrupted before it did."""
        self._end()

    def _compare(self, connection: Connection) -> None:
        self._changes = connection.driver.total_changes
        try:
            self._mark = epoch.compare(connection, self._turn.descriptor)
        except OSError as error:
            if not is_refusal(error):
                raise
            raise StorageError(self._turn.path, errno=error.errno, reason=str(error)) from error

    def _increment(self, connection: Connection) -> epoch.Mark | None:
        """Increment the epoch, where this transaction changed anything: a commit of nothing else would cost a sync."""
        if self._mark is None or connection.driver.total_changes == self._changes:
            return None
        return epoch.increment(connection, self._mark)

    def _end(self) -> None:
        try:
            if self._connection is not None:
                self._connection.close()
        finally:
            try:
                self._turn.__exit__()
            except BaseException:  # likewise
                self._turn.__exit__()
                raise
            finally:
                super()._end()  # last: it may be the last use, which closes everything, under the lock
