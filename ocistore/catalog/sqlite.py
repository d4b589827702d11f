"""A catalog that is one SQLite file: its transactions, and what can be done with the file.

``read()`` for one statement, ``snapshot()`` for several that must agree, ``write()`` for a write transaction: nothing
else reaches the database. Durability is WAL with ``synchronous=FULL``: what is committed survives a power cut (with
NORMAL, 100 of 100 acknowledged commits were lost in power cuts). Writers begin with ``BEGIN IMMEDIATE``, because a
transaction that reads first and writes later fails at once when another writer came in between.

Connections belong to the process, not to a store (``database.py``): they are held open and reused, last in first out,
because opening one costs as much as ten lookups. A read has no BEGIN, because one statement is its own snapshot.
"""

from __future__ import annotations

import contextlib
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Final

from ocistore.catalog import epoch, space
from ocistore.catalog.access import Access
from ocistore.catalog.sqliteerrors import BUSY_TIMEOUT, translated
from ocistore.catalog.transactions import Alone, Locked, Read, Snapshot, Write
from ocistore.clock import milliseconds
from ocistore.errors import (
    ReadOnlyStoreError,
    StorageError,
    StoreBusyError,
)
from ocistore.refusals import is_refusal, pass_on_theirs

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from sqlalchemy import Connection as AlchemyConnection

    from ocistore.catalog.connection import Connection

__all__ = ["BUSY_TIMEOUT", "MINIMUM_SQLITE", "SQLiteCatalog", "translated"]

MINIMUM_SQLITE: Final = (3, 37, 0)
"""The first version with STRICT tables."""


class SQLiteCatalog:
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
        self._access = Access(
            root,
            database=database,
            lock=lock,
            read_only=read_only,
            may_write_beside=may_write_beside,
            counts_epochs=counts_epochs,
            timeout=BUSY_TIMEOUT,
        )
        self.root = root
        self.read_only = read_only
        self.shared_memory = self._access.shared_memory

    @property
    def file(self) -> SQLiteCatalog:
        """Itself: what only one file can do is below."""
        return self

    def now(self) -> int:
        """Return milliseconds since the Unix epoch, by the clock of this machine."""
        return milliseconds()

    @property
    def moved(self) -> bool:
        """Whether the root is another directory by now, or none. Costs 2 microseconds."""
        return self._access.moved

    def refuse_moved(self) -> None:
        """Stop where the store is not any more where it was opened, so that nothing of it is taken for damaged.

        Raises:
            StoreNotFoundError: its directory was moved, replaced or removed.
        """
        self._access.refuse_moved()

    def refuse_inherited(self) -> None:
        """Stop in a child that may not use what its parent had open. Costs 60 ns.

        Raises:
            StoreBusyError: this process is one.
        """
        self._access.refuse_inherited()

    # The three handles.

    def read(self) -> Read:
        """Return a connection for one SELECT, fetched whole inside the block. Two statements may see two states."""
        return Read(self._access)

    def snapshot(self) -> Snapshot:
        """Return a connection on which every statement sees one state. Be short: it keeps the WAL from being reset."""
        return Snapshot(self._access)

    def write(self, *, wait: bool = True, repositories: Collection[str] | None = None) -> Write:  # noqa: ARG002
        """Return a write transaction: committed, durably, when the block ends, and rolled back when it raises.

        No user code, no hashing and no fsync of data belongs inside: every other writer of the store waits meanwhile.

        Args:
            wait: for other writers. Without it their lock is an error at once.
            repositories: is of no use here, because SQLite has one lock for all of them.

        Raises:
            ReadOnlyStoreError: the store was opened read-only.
            StoreBusyError: other writers held the lock for longer than :data:`BUSY_TIMEOUT`.
            StoreFullError: there was no room for the commit. Nothing of it is visible.
            UncertainCommitError: the commit itself failed. Whether it happened is not known before the next write.
        """
        if self.read_only:
            raise ReadOnlyStoreError(self.root)
        return Write(self._access, wait=wait)

    def again(self) -> SQLiteCatalog:
        """Return the same catalog once more, for what is done whether or not this is closed. Close it, too."""
        return SQLiteCatalog(
            self.root,
            database=self._access.address.path,
            lock=self._access.lock.path,
            read_only=self.read_only,
            counts_epochs=self._access.counts_epochs,
        )

    def note_epoch(self) -> None:
        """Ask whether the catalog is an older copy, as every write does; a hold is placed where it is.

        Raises:
            OCIStoreError: as :meth:`write`.
        """
        with self.write():
            pass

    def stands(self) -> bool:
        """Whether what is open here has its names still, as every write makes sure. Costs 6 microseconds.

        Raises:
            StoreNotFoundError, CorruptError: the directory, or the database in it, was moved, replaced or removed.
            StorageError: the file system refused to say.
        """
        return self._access.stands()

    def noted_epoch(self) -> epoch.Mark:
        """Return how far which catalog has come, as the lock's file says, for who only looks.

        Raises:
            StorageError: it could not be read.
        """
        try:
            return epoch.noted_at(self._access.lock.path)
        except OSError as error:
            pass_on_theirs(error)
            raise StorageError(self._access.lock.path, errno=error.errno, reason=str(error)) from error

    def note_successor(self, mark: epoch.Mark) -> None:
        """Note that a catalog which has come so far takes the place of this one. Under :meth:`locked` only.

        Call it before it takes that place: whoever is killed in between leaves a note that is too low, never too high.

        Raises:
            StorageError: it could not be written.
        """
        try:
            epoch.note(self._access.lock.descriptor, mark)
        except OSError as error:
            if not is_refusal(error):
                raise
            raise StorageError(self._access.lock.path, errno=error.errno, reason=str(error)) from error

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
                raise StoreBusyError(f"the catalog {self._access.address.path}", waited=BUSY_TIMEOUT)

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

    def locked(self) -> Locked:
        """Hold the write lock without a transaction: for creation, migration and closing."""
        return Locked(self._access)

    @contextlib.contextmanager
    def making(self) -> Iterator[Connection]:
        """Begin a write transaction in a database that may still be empty. Under :meth:`locked` only."""
        with Alone(self._access) as connection:
            _prepare(connection)
            connection.command("BEGIN IMMEDIATE")
            yield connection
            connection.command("COMMIT")

    @contextlib.contextmanager
    def migrating(self) -> Iterator[tuple[Connection, AlchemyConnection]]:
        """Return a write transaction, also as a connection of SQLAlchemy's for Alembic. Under :meth:`locked` only.

        Foreign keys are not enforced in it: whoever uses it checks them before it ends. The pragma that turns them off
        does nothing inside a transaction.
        """
        # Only here, for what is rarely done: nothing else needs SQLAlchemy when it runs.
        from sqlalchemy import create_engine  # noqa: PLC0415
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
        from sqlalchemy.pool import StaticPool  # noqa: PLC0415

        with Alone(self._access) as ours:
            engine = create_engine("sqlite://", creator=lambda: ours.driver, poolclass=StaticPool)
            try:
                _prepare(ours)
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
                    raise self._access.address.translated(error.orig) from error
                raise
            finally:
                # First: SQLAlchemy would close the driver under our cursor, whose statement then keeps that of SQLite
                # open, with what it has locked, for as long as an exception refers to either.
                ours.close()
                engine.dispose()

    # Life.

    def close(self, *, wait: bool = True) -> None:
        """Close it, and with the last one of this process every connection; those in use are left to their last use.

        The last process to do so moves the WAL into the database file, under the lock.

        Args:
            wait: for the lock, if need be. Without it the WAL may stay where it is; the next opening reads it.
        """
        self._access.close(wait=wait)


def _prepare(connection: Connection) -> None:
    """Set what only an empty database takes; nothing comes of it in others (see ``space.py``), which have it."""
    # Only explained, which sets it for the transaction that writes the file's first page, and that is the next one:
    # SQLite acts on this pragma when it compiles it (sqlite.org/pragma.html, the notes at its beginning). Executed, it
    # would write that page itself, in a transaction of its own, with four syncs.
    connection.command(f"EXPLAIN PRAGMA auto_vacuum = {space.INCREMENTAL}")
    connection.command("PRAGMA journal_mode = WAL")
