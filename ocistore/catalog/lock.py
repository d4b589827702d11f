"""The write lock: one writer of a store at a time, first come first served, over all threads and processes.

SQLite alone would serialise writers, but its busy handler sleeps and polls: of four processes that wrote without pause,
one got 3,250 commits and another 1 in four seconds. A blocking ``flock`` shares evenly. Checkpoints and the closing of
connections happen under it too, because every SQLite before 3.51.3 (3.50.7, 3.44.6) can corrupt a WAL database when two
connections checkpoint and commit at the same instant (https://www.sqlite.org/wal.html#walresetbug).

The kernel frees the lock when its holder dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ocistore.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator


class WriteLock:
    """An exclusive lock on a file. Not reentrant: a thread that holds it and asks again waits for itself."""

    def __init__(self, path: str, *, timeout: float) -> None:
        """``timeout`` is how long :meth:`held` waits before it gives up, in seconds. The file is made if need be."""
        self.path = path
        self._timeout = timeout
        self._reset()

    def _reset(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._turns: deque[threading.Event] = deque()
        self._descriptor: int | None = None
        self._wanted: int | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for the length of the block.

        Raises:
            StoreBusyError: another writer held it for longer than the timeout.
            OSError: the lock file cannot be opened.
        """
        started = time.monotonic()
        self._take_turn(started)
        try:
            descriptor = self._lock_file(started)
            try:
                yield
            finally:
                # Unlock before anything else: a child forked meanwhile may share the description for an instant.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            self._pass_turn()

    def _busy(self, started: float) -> StoreBusyError:
        return StoreBusyError("the store's write lock", waited=time.monotonic() - started)

    # Threads of this process queue here first, so that at most one of them waits for the file.

    def _take_turn(self, started: float) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Event()
            self._turns.append(turn)
        try:
            if turn.wait(started + self._timeout - time.monotonic()):
                return
            raise self._busy(started)
        except BaseException:
            with self._mutex:
                given = turn.is_set()
                if not given:
                    self._turns.remove(turn)
            if given:
                self._pass_turn()
            raise

    def _pass_turn(self) -> None:
        with self._mutex:
            if self._turns:
                self._turns.popleft().set()
            else:
                self._taken = False

    # The file.

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _lock_file(self, started: float) -> int:
        if self._descriptor is None:
            self._descriptor = self._open()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._descriptor = self._wait_for_file(started)
        return self._descriptor

    def _wait_for_file(self, started: float) -> int:
        """Wait in the kernel's queue, which has no timeout: so a thread waits there, and this one waits for the thread.

        The thread has a description of its own. If it is given up and gets the lock later, it frees it at once.
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
        try:
            thread.start()
            settled.wait(max(0.0, started + self._timeout - time.monotonic()))
        except BaseException:
            with mutex:
                given_up = True
                if settled.is_set() or thread.ident is None:
                    _free(wanted)
            raise
        finally:
            self._wanted = None
        with mutex:
            got = settled.is_set() and failure is None
            given_up = not got
            if settled.is_set() and not got:
                _free(wanted)
        if failure is not None:
            raise failure
        if not got:
            raise self._busy(started)
        if self._descriptor is not None:
            os.close(self._descriptor)
        return wanted

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
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _free(descriptor: int) -> None:
    # Closing alone is not enough: a child that was forked meanwhile may share the description.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
