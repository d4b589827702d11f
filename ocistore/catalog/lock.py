"""The write lock: one writer of a store at a time, first come first served, over all threads and processes.

SQLite alone would serialise writers, but its busy handler sleeps and polls: of four processes that wrote without pause,
one got 3,250 commits and another 1 in four seconds. A blocking ``flock`` shares evenly. Checkpoints and the closing of
connections happen under it too, because every SQLite before 3.51.3 (3.50.7, 3.44.6) can corrupt a WAL database when two
connections checkpoint and commit at the same instant (https://www.sqlite.org/wal.html#walresetbug).

The kernel frees the lock when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque

from ocistore.errors import StoreBusyError


class WriteLock:
    """An exclusive lock on a file. Not reentrant: a thread that holds it and asks again waits for itself."""

    def __init__(self, path: str, *, timeout: float) -> None:
        """``timeout`` is how long :meth:`held` waits before it gives up, in seconds. The file is made if need be."""
        self.path = path
        self._timeout = timeout
        self._reset()

    def _reset(self) -> None:
        self._mutex = threading.Lock()
        self._holder: Turn | None = None
        self._turns: deque[Turn] = deque()
        self._descriptor: int | None = None
        self._wanted: int | None = None

    def held(self) -> Turn:
        """A context manager that holds the lock for the length of its block.

        Entering it raises:
            StoreBusyError: another writer held it for longer than the timeout.
            OSError: the lock file cannot be opened.
        """
        return Turn(self, self._timeout)

    # Threads of this process queue here first, so that at most one of them waits for the file.

    def take_turn(self, turn: Turn) -> None:
        """Wait until all who asked before, in this process, are done."""
        with self._mutex:
            if self._holder is None:
                self._holder = turn
                return
            self._turns.append(turn)
        if not turn.given.wait(turn.left()):
            raise turn.busy()

    def release(self, turn: Turn) -> None:
        """Give up the lock, or the place in the queue, or nothing, whatever this turn has."""
        with self._mutex:
            if self._holder is turn:
                if self._descriptor is not None:
                    # Not by closing: a child forked meanwhile may share the description for an instant.
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                self._holder = self._turns.popleft() if self._turns else None
                if self._holder is not None:
                    self._holder.given.set()
            elif turn in self._turns:
                self._turns.remove(turn)

    # The file.

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def lock_file(self, turn: Turn) -> None:
        """Wait until no other process has the file."""
        if self._descriptor is None:
            self._descriptor = self._open()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait_for_file(turn)

    def _wait_for_file(self, turn: Turn) -> None:
        """Wait in the kernel's queue, which has no timeout: so a thread waits there, and this one waits for the thread.

        The thread has a description of its own. If it is given up, it alone frees that, whenever it comes so far.
        """
        wanted = self._wanted = self._open()
        settled = threading.Event()
        mutex = threading.Lock()
        given_up = False
        failure: OSError | None = None

        def wait() -> None:
            nonlocal failure
            try:
                fcntl.flock(wanted, fcntl.LOCK_EX)
            except OSError as error:
                failure = error
            with mutex:
                settled.set()
                if given_up:
                    _free(wanted)

        thread = threading.Thread(target=wait, name="ocistore-write-lock", daemon=True)
        got = False
        try:
            try:
                thread.start()
            except RuntimeError:  # no more threads: then none will free it
                os.close(wanted)
                raise
            settled.wait(turn.left())
        finally:
            with mutex:
                self._wanted = None
                if settled.is_set() and failure is None:
                    previous, self._descriptor = self._descriptor, wanted
                    got = True
                elif settled.is_set():
                    _free(wanted)
                else:
                    given_up = True
            if got and previous is not None:
                os.close(previous)
        if failure is not None:
            raise failure
        if not got:
            raise turn.busy()

    @property
    def descriptor(self) -> int:
        """The open file, for whoever holds the lock."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        return self._descriptor

    # Life.

    def after_fork_in_child(self) -> None:
        """Forget the parent's lock without freeing it: the description is shared, the descriptor is ours."""
        inherited = (self._descriptor, self._wanted)
        self._reset()
        for descriptor in inherited:
            if descriptor is not None:
                os.close(descriptor)

    def close(self) -> None:
        """Close the file. The lock can be taken again, which opens it again."""
        with self._mutex:
            if self._holder is not None:
                return  # somebody still works: the file is closed with the process
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Turn:
    """One wish to hold the lock. What it has is known by its identity, so that giving up gives up the right thing."""

    __slots__ = ("_lock", "_started", "_timeout", "given")

    def __init__(self, lock: WriteLock, timeout: float) -> None:
        self._lock = lock
        self._timeout = timeout
        self._started = time.monotonic()
        self.given = threading.Event()

    def left(self) -> float:
        """Seconds until it has waited too long."""
        return max(0.0, self._started + self._timeout - time.monotonic())

    def busy(self) -> StoreBusyError:
        """The error of having waited too long."""
        return StoreBusyError("the store's write lock", waited=time.monotonic() - self._started)

    def __enter__(self) -> None:
        self._started = time.monotonic()
        try:
            self._lock.take_turn(self)
            self._lock.lock_file(self)
        except BaseException:  # also an interrupt, wherever it came
            self._lock.release(self)
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._lock.release(self)
        except BaseException:  # an interrupt in the middle of it
            self._lock.release(self)
            raise


def _free(descriptor: int) -> None:
    # Closing alone is not enough: a child that was forked meanwhile may share the description.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
