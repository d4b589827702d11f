"""Transactions: blocks with a connection for reading, for one state, for writing, or with the write lock alone."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from ocistore.catalog import epoch
from ocistore.catalog.database import Use
from ocistore.errors import CorruptError, OCIStoreError, StorageError, UncertainCommitError
from ocistore.refusals import is_refusal

if TYPE_CHECKING:
    from ocistore.catalog.access import Access
    from ocistore.catalog.connection import Connection
    from ocistore.catalog.database import Database
    from ocistore.catalog.quiet import State

# Classes and not generators: an interrupt between the steps of a generator leaves it suspended with what it holds, for
# as long as somebody keeps the traceback, as an interactive session does. Here whatever was taken is given back where
# it is raised, or where the object is gone.


class Using(Use):
    """A use of the database, with or without a connection."""

    __slots__ = ("_access", "_address", "_connection", "_database", "_state")

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access
        self._address = access.address
        self._connection: Connection | None = None
        self._database: Database | None = None
        self._state: State | None = None

    def _begin(self) -> Database:
        access = self._access
        quiet = None if access.quiet is None else access.reach(access.quiet)
        if quiet is None:
            database = self._database = access.database()
        else:
            database, self._state = quiet
            self._database = database
            if access.quiet is not None:
                self._address = access.quiet.address
        database.begin(self)
        return database

    def _connect(self, database: Database) -> Connection:
        connection = self._connection = database.connection(self._address)
        return connection

    def _end(self) -> None:
        """Give back what is still held. A connection whose state is not to be relied on is closed, which rolls back."""
        # It stays this object's until it is closed: a transaction that only an interrupted frame knows continues.
        try:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        finally:
            if self._database is not None:
                self._database.end(self)
                self._database = None


class Alone(Using):
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


class Read(Using):
    """A block with a connection for reading."""

    __slots__ = ()

    def __enter__(self) -> Connection:
        try:
            connection = self._connection = self._begin().take(self._address)
        except BaseException as error:
            self._end()
            if isinstance(error, (CorruptError, StorageError)):
                self._access.refuse_moved()
            raise
        return connection

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        connection, database = self._connection, self._database
        try:
            if self._state is not None and self._access.quiet is not None:
                self._access.refuse_moved()  # it was reached by its path
                self._access.quiet.check(self._state)  # also where it raised: that may be why
            if kind is None and connection is not None and database is not None:
                self._connection = None
                database.give(self._address, connection)
        finally:
            self._end()


class Snapshot(Read):
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


class Locked:
    """A block that holds the write lock."""

    __slots__ = ("__weakref__", "_access", "_turn")

    def __init__(self, access: Access) -> None:
        self._access = access
        self._turn = access.lock.held(owner=self)

    def __enter__(self) -> None:
        self._access.refuse_inherited()
        self._access.enter(self._turn)

    def __exit__(self, *_: object) -> None:
        self._turn.__exit__()

    def give_up(self) -> None:
        """Give back what it has, in the place of an exit that was interrupted before it did."""
        self._turn.__exit__()


class Write(Using):
    """A block that is a write transaction."""

    __slots__ = ("_changes", "_mark", "_turn")

    def __init__(self, access: Access, *, wait: bool) -> None:
        super().__init__(access)
        self._mark: epoch.Mark | None = None
        self._changes = 0
        self._turn = access.lock.held(wait=wait, owner=self)

    def __enter__(self) -> Connection:
        access = self._access
        try:
            access.database().refuse_inherited()  # before the lock, which the parent may hold
            access.enter(self._turn)
            database = self._begin()
            access.refuse_replaced(database)
            if not database.stands(access.address):
                database.reopen(access.address, timeout=access.timeout)
            connection = self._writer(database)
            access.shared_memory.allocate(database.shared_memory)
            connection.command("BEGIN IMMEDIATE")
            connection.writing = True
            connection.is_backup = None
            if access.counts_epochs:
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
            raise UncertainCommitError(self._access.root) from error
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
            self._mark = epoch.compare(connection, self._turn.descriptor, root=os.path.dirname(self._turn.path))
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
