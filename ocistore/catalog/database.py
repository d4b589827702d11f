"""The connections of this process to one database file, for all who have it open here.

SQLite keeps one account of its locks for each file and process, whoever opened it. So there is one of these for each
file, however many stores and threads use it, and it alone opens and closes connections:

- Each use is counted while it lasts, each catalog while it is open; the last one closes what is open.
- No connection is open at the instant of a fork, see ``forking.py``.
- What is held belongs to objects. Where an interrupt keeps one from giving back what it has, it is given back when the
  object is gone, and nobody waits for it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final

from ocistore.catalog import forking
from ocistore.catalog.guard import File, Guard, LockedError
from ocistore.catalog.sqliteerrors import BUSY_TIMEOUT
from ocistore.errors import CorruptError, OCIStoreError, StoreBusyError, StoreClosedError
from ocistore.forks import ForkSafeLock, make_immortal
from ocistore.refusals import is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocistore.catalog.address import Address
    from ocistore.catalog.connection import Connection
    from ocistore.catalog.lock import Turn, WriteLock

_IDLE: Final = 16
"""How many idle reading connections are kept; each costs a file descriptor and about 100 KiB."""

_ATTEMPTS: Final = 5
"""How often a file is opened that looks damaged, in case only its locks were dropped at that moment."""

_POLL: Final = 0.0005
"""Seconds between two looks whether uses have ended, or may begin. Reads take microseconds, so there is rarely a second
one."""


class Use:
    """Work with a connection, from :meth:`Database.begin` to :meth:`Database.end`."""

    __slots__ = ("__weakref__", "reference", "thread")

    def __init__(self) -> None:
        self.thread = 0
        self.reference: weakref.ref[Use] | None = None


class _Call:
    """A call that is under way, for whoever wants to know whether it still is. It ends with its frame."""

    __slots__ = ("__weakref__",)


class Database:
    """What this process has open of one file."""

    def __init__(self, file: File | None, *, retire: Callable[[Database], object] = lambda _: None) -> None:
        """Open nothing yet; others call :func:`~ocistore.catalog.users.attach`.

        Args:
            file: None for one that nobody shares, because it never changes.
            retire: called when everything was closed, to see to it that nobody finds it any more.
        """
        self.file = file
        self.process = os.getpid()
        """The process whose connections these are. In a child it becomes the child's where nothing was inherited."""
        self.lock: WriteLock | None = None
        self.holders: set[weakref.ref[object]] = set()
        self.names: set[tuple[str, str]] = set()
        """The directories and names by which it was opened."""
        self.writer: Connection | None = None
        self._guard: Guard | None = None
        self._opening = ForkSafeLock()
        self._idle: dict[bool, deque[Connection]] = {False: deque(), True: deque()}
        self._connections: set[weakref.ref[Connection]] = set()
        self._users: set[weakref.ref[Use]] = set()
        self._stopping: dict[_Call, int] = {}
        """Who closes connections, each with its thread: set before it looks whether somebody uses one, as everybody who
        begins a use says so before looking here."""
        self.retired = False
        """Whether it is not the one that others find any more."""
        self._retire = retire
        self._finishing: Callable[[], object | None] = lambda: None
        if file is None:
            _alone[id(self)] = self

    # Uses.

    def begin(self, use: Use) -> None:
        """Let ``use`` have connections until :meth:`end`, or until it is gone.

        Raises:
            StoreBusyError: this process may not use the file.
            StoreClosedError: everybody has closed it.
        """
        self.refuse_inherited()
        use.thread = threading.get_ident()
        use.reference = reference = weakref.ref(use, self._lost)
        self._users.add(reference)
        if forking.gate.closed_by is not None or self._stopping:
            self._wait_to_begin(reference)
        if self.retired:
            self._users.discard(reference)
            raise StoreClosedError("the store")

    def refuse_inherited(self) -> None:
        """See to it that no child uses what is its parent's. Costs 60 ns.

        Raises:
            StoreBusyError: this process may not use the file.
        """
        if self.process != os.getpid():
            forking.adopt()
            if self.process != os.getpid():
                raise forking.inherited()

    def end(self, use: Use) -> None:
        """End a use, which has given back what it had. Idempotent."""
        if use.reference is not None:
            self._users.discard(use.reference)
        if not self.holders:
            self.finish()

    def _lost(self, reference: weakref.ref[Use]) -> None:
        self._users.discard(reference)
        if not self.holders:
            self.finish(wait=False)

    def _wait_to_begin(self, reference: weakref.ref[Use]) -> None:
        me = threading.get_ident()
        while True:
            self._users.discard(reference)
            if me in tuple(self._stopping.values()):
                raise StoreBusyError("the catalog", waited=0.0, reason="this thread is closing it, or opening it anew")
            forking.gate.wait()
            while self._stopping:
                time.sleep(_POLL)
                for call, thread in tuple(self._stopping.items()):
                    if thread not in sys._current_frames():
                        self._stopping.pop(call, None)  # interrupted before it could say so
            self._users.add(reference)
            if forking.gate.is_open() and not self._stopping:
                return

    def busy(self, *, besides: int | None = None) -> bool:
        """Whether somebody uses a connection, other than the thread ``besides``."""
        return any(use is not None and use.thread != besides for use in (each() for each in tuple(self._users)))

    # Connections.

    def take(self, address: Address) -> Connection:
        """Return a connection for reading, during a use.

        Raises:
            OCIStoreError: the file cannot be opened.
        """
        try:
            connection = self._idle[address.read_only].pop()
        except IndexError:
            connection = self.connection(address)
        if self._guard is not None:
            connection.watch = self._guard.watch
        return connection

    def give(self, address: Address, connection: Connection) -> None:
        """Take back one that is as good as new, for the next one who reads."""
        idle = self._idle[address.read_only]
        if len(idle) < _IDLE and self.guarded:
            idle.append(connection)
        else:
            connection.close()

    def connection(self, address: Address) -> Connection:
        """Return a new connection, during a use.

        Raises:
            OCIStoreError: the file cannot be opened.
        """
        if self.file is None or self.guarded:
            return self._same(self._registered(address.connect()), address)
        with self._opening:
            try:
                return self._first_connection(address)
            except OSError as error:
                if isinstance(error, LockedError):
                    raise StoreBusyError(f"the catalog {address.path}", waited=BUSY_TIMEOUT) from error
                raise address.failed(error) from error

    def _same(self, connection: Connection, address: Address) -> Connection:
        """Return the connection, if the path still leads to the file that all others are of."""
        try:
            status = os.stat(address.path)
            found: File | None = File(status.st_dev, status.st_ino)
        except OSError as error:
            if not (isinstance(error, (FileNotFoundError, NotADirectoryError)) and is_refusal(error)):
                connection.close()
                raise address.failed(error) from error
            found = None
        if self.file is not None and found != self.file:
            connection.close()
            raise CorruptError(
                f"the catalog {address.path}", reason="it was replaced while this process had it open; open it again"
            )
        return connection

    @property
    def guarded(self) -> bool:
        """Whether its WAL is safe from being deleted; what never changes has none."""
        return self.file is None or (self._guard is not None and self._guard.engaged)

    @property
    def shared_memory(self) -> int | None:
        """The descriptor of the shared memory, which stays open as long as any connection. Not for closing."""
        return None if self._guard is None else self._guard.memory()

    def _registered(self, connection: Connection) -> Connection:
        self._connections.add(weakref.ref(connection, self._connections.discard))
        return connection

    def _first_connection(self, address: Address) -> Connection:
        guard = self._guard
        if guard is None:
            guard = self._guard = Guard(os.fspath(address.path))
        if guard.file != self.file:
            raise CorruptError(
                f"the catalog {address.path}", reason="it was replaced while this process had it open; open it again"
            )
        if not guard.engaged and os.path.lexists(f"{address.path}-journal"):
            # Left by who was killed while the database was made. Rolling it back takes a lock that ours would refuse.
            with contextlib.closing(address.connect()) as rolling_back:
                rolling_back.command("SELECT 1 FROM sqlite_schema LIMIT 1")
        if guard.engaged or not guard.has_wal():
            return self._registered(address.connect())
        until = time.monotonic() + BUSY_TIMEOUT
        guard.lock(until=until)
        try:
            return self._locking_memory(guard, address, until=until)
        except BaseException:
            guard.unlock()
            raise

    def _locking_memory(self, guard: Guard, address: Address, *, until: float) -> Connection:
        left = _ATTEMPTS
        while True:
            connection = None
            try:
                connection = self._registered(address.connect())
                connection.command("SELECT 1 FROM sqlite_schema LIMIT 1")  # only now SQLite opens what lies beside it
                guard.lock_memory(os.fspath(address.path), until=until)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                left -= 1
                # Nobody watches these reads yet, and where their locks are dropped, what they find may look damaged.
                if not left or not isinstance(error, CorruptError):
                    raise
            else:
                return connection

    def stands(self, address: Address) -> bool:
        """Whether the files beside the database are those in use. Costs 3 microseconds."""
        return self._guard is None or not self._guard.engaged or self._guard.stands(address.text)

    def reopen(self, address: Address, *, timeout: float) -> None:
        """Close every connection, because what they work with lost its name; the next one opens what has it.

        Under the write lock, by a use that has no connection.

        Raises:
            StoreBusyError: others use connections for longer than ``timeout``, in seconds.
        """
        me, call = threading.get_ident(), _Call()
        deadline = time.monotonic() + timeout
        try:
            self._stopping[call] = me
            while self.busy(besides=me):
                if time.monotonic() > deadline:
                    raise StoreBusyError(f"the catalog {address.path}", waited=timeout)
                time.sleep(_POLL)
            with self._opening:
                self._rescue(address)
                self.shut(settle=False)
        finally:
            self._stopping.pop(call, None)

    def _rescue(self, address: Address) -> None:
        """Write what lies in a WAL without a name into the database, while no other WAL has the name."""
        if self._guard is None or not self._guard.has_lost_wal(os.fspath(address.path)):
            return
        # Through one that has that WAL open: a new one would make another.
        connection = self.writer or next(iter(self._idle[False]), None)
        if connection is not None:
            with contextlib.suppress(OCIStoreError):
                connection.command("PRAGMA wal_checkpoint(PASSIVE)")

    # Life.

    def leave(self, holder: weakref.ref[object], *, wait: bool = True) -> None:
        """Drop a reference, closed or gone. The last one closes what is open, or leaves that to the last use."""
        self.holders.discard(holder)
        if not self.holders:
            self.finish(wait=wait)

    def finish(self, *, wait: bool = True) -> None:
        """Close every connection, where nobody needs one any more.

        The last process to do so moves the WAL into the database file, under the lock. Where the lock is not to be had
        (at all, or without waiting, for a finalizer) the WAL stays, and the next one who opens the file reads it.
        """
        try:
            self._finish(wait=wait)
        except BaseException:  # an interrupt in the middle of it: nobody else would come back for what is open
            self._finish(wait=False)
            raise

    def _finish(self, *, wait: bool) -> None:
        if self.process != os.getpid() or self.holders or self.busy() or self._finishing() is not None:
            return
        call = _Call()
        self._finishing = weakref.ref(call)
        try:
            turn = self._turn_to_settle(wait=wait)
            try:
                self._close_unused(settle=turn is not None, wait=wait)
            finally:
                if turn is not None:
                    turn.__exit__()
            if self.lock is not None and not self.holders and self._guard is None:
                self.lock.close()
        finally:
            del call  # now, and not when somebody drops the error

    def _turn_to_settle(self, *, wait: bool) -> Turn | None:
        """Return the write lock, if it is to be had, and there may be something to move into the database."""
        # Without a lock file this is no store of ours, and nothing may be left in it.
        if self.lock is None or not self._connections or not os.path.exists(self.lock.path):
            return None
        turn = self.lock.held(wait=wait)
        try:
            turn.__enter__()
        except (OCIStoreError, OSError) as error:
            pass_on_theirs(error)
            return None
        return turn

    def _close_unused(self, *, settle: bool, wait: bool) -> None:
        # No ExitStack here or above: an exception that goes through one refers to itself, and so keeps what its frames
        # have, the turn too, until a garbage collection.
        opening: list[bool] = []
        call = _Call()
        try:
            opening.extend(map(self._opening.acquire, (wait,)))  # one step, which no interrupt comes into
            if not opening[0]:
                return  # somebody opens a connection: a use, which comes here at its end
            if self.holders or self.busy():
                return
            self._stopping[call] = threading.get_ident()
            if self.busy():
                return  # somebody began a use just now, and comes here at its end
            self.shut(settle=settle)
            self._retire(self)
        finally:
            self._stopping.pop(call, None)
            if opening and opening[0]:
                self._opening.release()

    def shut(self, *, settle: bool) -> None:
        """Close every connection that is not in use; there must be none in use.

        Args:
            settle: let SQLite move the WAL into the database, where no other process has it open. Under the lock only.
        """
        last = self.writer
        for read_only in (True, False):
            idle = self._idle[read_only]
            while idle:
                connection = idle.pop()
                if last is None and not read_only:
                    last = connection
                else:
                    connection.close()
        self.writer = None
        guard = self._guard
        if settle and guard is not None and guard.engaged:
            guard.unlock()
        if last is not None:
            last.close()
        self._guard = None
        if guard is not None:
            guard.close()

    def close_at_exit(self) -> None:
        """Close what is open when the interpreter ends. Waits for nobody: what is in use is left to the kernel."""
        if self.process == os.getpid() and not self.busy():
            call = _Call()
            turn = self._turn_to_settle(wait=False)
            try:
                if self._opening.acquire(blocking=False):
                    try:
                        self._stopping[call] = threading.get_ident()  # daemon threads run until the very end
                        if not self.busy():
                            self.shut(settle=turn is not None)
                    finally:
                        self._stopping.pop(call, None)
                        self._opening.release()
            finally:
                if turn is not None:
                    turn.__exit__()
        self._abandon()

    def _abandon(self) -> None:
        """Never close what is open: a child's copies of its parent's, or what is in use when the process ends."""
        make_immortal(self)
        for reference in tuple(self._connections):
            connection = reference()
            if connection is not None:
                make_immortal(connection)

    # Forks.

    def prepare_for_fork(self, *, deadline: float) -> None:
        """Close every connection, once no other thread uses one. Where somebody does all the time, nothing is done."""
        me = threading.get_ident()
        while self.busy(besides=me) and time.monotonic() < deadline:
            time.sleep(_POLL)
        if not self.busy() and self._opening.acquire(timeout=max(0.0, deadline - time.monotonic())):
            try:
                self.shut(settle=False)
            finally:
                self._opening.release()

    def after_fork_in_child(self) -> None:
        """Make it this process's, where nothing was inherited. Else it stays the parent's, whatever happens here."""
        if self.busy() or any(each is not None and each.open for each in (each() for each in tuple(self._connections))):
            self._abandon()
            return
        self._users.clear()
        self._stopping.clear()
        self.process = os.getpid()


_alone: Final[weakref.WeakValueDictionary[int, Database]] = weakref.WeakValueDictionary()
"""Those of files that never change, which whoever made them has for themselves."""

forking.follow(_alone)
