"""The way of one store to its database: where it is, whether it is still that one, who waits for its write lock."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

from ocistore.catalog.address import Address
from ocistore.catalog.lock import WriteLock
from ocistore.catalog.quiet import Quiet
from ocistore.catalog.sharedmemory import SharedMemory
from ocistore.catalog.users import attach
from ocistore.errors import CorruptError, ReadOnlyStoreError, StorageError, StoreClosedError, StoreNotFoundError
from ocistore.refusals import is_refusal

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.catalog.database import Database
    from ocistore.catalog.lock import Turn
    from ocistore.catalog.quiet import State


class Access:
    """How one store gets to its database, until it is closed. Nothing is touched before the first use."""

    def __init__(
        self,
        root: Path,
        *,
        database: Path,
        lock: str | os.PathLike[str],
        read_only: bool,
        may_write_beside: bool,
        counts_epochs: bool,
        timeout: float,
    ) -> None:
        """Prepare; ``timeout`` is in seconds, everything else as ``SQLiteCatalog`` says."""
        self.root = root
        self._root = os.fspath(root)  # a Path takes longer to become one than the kernel to find it
        self.read_only = read_only
        self.closed = False
        self.shared_memory = SharedMemory(os.fspath(database))
        self.timeout = timeout
        self.address = Address(database, root=root, read_only=read_only, immutable=False)
        self.quiet = None if may_write_beside else Quiet(database, root=root)
        self.lock = WriteLock(os.fspath(lock), timeout=timeout)
        self.counts_epochs = counts_epochs
        self._attached: Database | None = None
        self._place: tuple[int, int] | None = None
        """Which directory the root was when the database was reached first."""

    def database(self) -> Database:
        """Return the connections of this process, from the first use on.

        Raises:
            StoreClosedError: this catalog is closed.
            StorageError: there is no such file.
            StoreBusyError: this process may not use it.
        """
        database = self._attached
        if database is None:
            self.refuse_closed()
            database = attach(self.address, self, self.lock)
            self._place = self._place or self._found()
            self._attached = database
            if self.closed:  # by another thread, meanwhile
                self.close()
        return database

    def reach(self, quiet: Quiet) -> tuple[Database, State] | None:
        """Return the connections to a database that does not change; None where it has a WAL after all.

        Raises:
            StoreClosedError: this catalog is closed.
        """
        self.refuse_closed()
        self._place = self._place or self._found()
        return quiet.begin()

    def refuse_closed(self) -> None:
        """Stop where this catalog is closed.

        Raises:
            StoreClosedError: it is.
        """
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

    def refuse_replaced(self, database: Database) -> None:
        """Acknowledge nothing that goes into a file which has another name by now, or none. Costs 2 microseconds.

        Raises:
            StoreNotFoundError: the store's directory was moved, replaced or removed.
            CorruptError: a rebuild, or a person, put another file in the place of the one that is open.
            StorageError: the file system refused to say.
        """
        try:
            status = os.stat(self.address.text)
        except OSError as error:
            if not is_refusal(error):
                raise
            found = None
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                reason = error.strerror or str(error)
                raise StorageError(str(self.address.path), errno=error.errno, reason=reason) from error
        else:
            found = status.st_dev, status.st_ino
        if found != database.file:
            self.refuse_moved()  # while this waited for the lock
            raise CorruptError(
                f"the catalog {self.address.path}",
                reason="it was replaced or removed while this process had it open; open the store again",
            )

    def stands(self) -> bool:
        """Whether the database that is open, and the files beside it, are those that have the names.

        Raises:
            StoreNotFoundError, CorruptError, StorageError: as :meth:`refuse_replaced`.
        """
        database = self.database()
        self.refuse_replaced(database)
        return database.stands(self.address)

    def enter(self, turn: Turn) -> None:
        """Take the write lock.

        Raises:
            StoreClosedError: this catalog is closed.
            StoreNotFoundError: the store's directory was moved, replaced or removed.
            ReadOnlyStoreError: this process may not lock it.
            StoreBusyError: others held it for too long.
            StorageError: the lock's file could not be used.
        """
        self.refuse_closed()
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
            raise StorageError(self.lock.path, errno=error.errno, reason=str(error)) from error

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
        if self.quiet is not None:
            self.quiet.close()
        self.lock.close()
