"""Reading a database beside which nothing may be written: by another user, on a read-only mount, in a snapshot.

SQLite wants a WAL and shared memory beside a database even to read it, and makes them. Who may not cannot, unless they
are there, because somebody has the database open. Where there is no WAL, everything is in the database file, which
changes only when a WAL is moved into it. So it is read as if it never changed, and afterwards is looked whether it has:
by its times, which are given out in ticks, and so say nothing of a file that changed within the last one.
"""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog.address import Address
from ocistore.catalog.database import Database
from ocistore.errors import StoreBusyError
from ocistore.refusals import is_refusal

if TYPE_CHECKING:
    from pathlib import Path

_TICK: Final = 20_000_000
"""Nanoseconds, longer than any tick of a kernel (CONFIG_HZ_100 has 10 ms)."""

_PATIENCE: Final = 5.0
"""Seconds to wait for a database that changes all the time although it has no WAL."""


class State(NamedTuple):
    """What tells one content of a database file from another."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class Quiet:
    """The connections of one catalog to its database, while that does not change."""

    def __init__(self, path: Path, *, root: Path) -> None:
        """Touch nothing yet."""
        self.address = Address(path, root=root, read_only=True, immutable=True)
        self._wal = f"{path}-wal"
        self._state: State | None = None
        self._database: Database | None = None

    def begin(self) -> tuple[Database, State] | None:
        """Return the connections, and what to :meth:`check` after each use; None where there is a WAL for SQLite.

        Raises:
            StorageError: there is no database.
            StoreBusyError: it changed for seconds.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            if self._has_wal():
                return None
            state = self._look()
            if not 0 <= time.time_ns() - max(state.modified, state.changed) < _TICK:
                break
            if time.monotonic() > deadline:
                raise StoreBusyError(f"the catalog {self.address.path}", waited=_PATIENCE)
            time.sleep(_TICK / 1e9)
        database = self._database
        if database is None or state != self._state:
            self.close()
            database = Database(None)
            database.holders.add(weakref.ref(self))
            self._state, self._database = state, database
        return database, state

    def check(self, state: State) -> None:
        """Make sure that what was read since :meth:`begin` is what the database held then.

        Raises:
            StoreBusyError: it changed.
        """
        if self._look() != state:
            self.close()
            raise StoreBusyError(
                f"the catalog {self.address.path}", waited=0.0, reason="it was changed while it was read; try again"
            )

    def close(self) -> None:
        """Close the connections; those in use are left to their last use."""
        database, self._database = self._database, None
        if database is not None:
            database.leave(weakref.ref(self), wait=False)

    def _has_wal(self) -> bool:
        try:
            return os.stat(self._wal).st_size > 0
        except OSError as error:
            if isinstance(error, FileNotFoundError) and is_refusal(error):
                return False
            raise self.address.failed(error) from error

    def _look(self) -> State:
        try:
            status = os.stat(self.address.path)
        except OSError as error:
            raise self.address.failed(error) from error
        return State(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
