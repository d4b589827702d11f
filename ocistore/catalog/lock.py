"""The write lock: one writer of a store at a time, over all threads and processes.

SQLite alone would serialise writers, but its busy handler sleeps and polls: of four processes that wrote without pause,
one got 3,250 commits and another 1 in four seconds. A blocking ``flock`` shares evenly. Checkpoints happen under it
too, because every SQLite before 3.51.3 (3.50.7, 3.44.6) can corrupt a WAL database when two connections checkpoint and
commit at the same instant (https://www.sqlite.org/wal.html#walresetbug).

The threads of one process get it first come, first served. Among processes the kernel decides: whoever waits is woken
when it is freed, those who have waited longest first, and a process that asks at that very instant may be faster. A
process gives it up after each turn, also where more of its threads wait, so none starves.

The kernel frees the lock when its holder dies, however it dies. Within a process, a turn frees it when the turn is
over, or is gone: whatever interrupts its thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final

from ocistore import logs
from ocistore.errors import StoreBusyError
from ocistore.filedescriptors import OpenFile
from ocistore.forks import ForkSafeLock
from ocistore.refusals import Ignoring, is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Protocol

    class Owner(Protocol):
        """A block that holds the lock, and more."""

        def give_up(self) -> None: ...  # noqa: D102


_EXCEPTIONS: Final = 100
"""How far a chain of exceptions is followed, which each have the one before for their context."""

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
_LOOK: Final = 0.1
"""Seconds between two looks of a waiting thread whether the one before it is gone without a word. That one wakes the
next, so this matters only where an interrupt kept it from doing so."""
_POLL: Final = 0.002
"""Seconds between two tries for the file, where there is no thread to be had that would wait for it."""
_REST: Final = 0.5
"""How long to leave the lock to others after one of many transactions, as a part of the time it took."""


def rest(began: float) -> None:
    """Leave the lock to others, after one of many transactions, which began at that instant of the monotonic clock.

    Who waits is woken when the lock is given up, and has lost it again if we take it before they run.
    """
    rest_until(end_of_rest(began))


def end_of_rest(began: float) -> float:
    """Return until when to leave the lock to others, for who has something else to do first; see :func:`rest`."""
    now = time.monotonic()
    return now + (now - began) * _REST


def rest_until(end: float) -> None:
    """Wait for an instant of the monotonic clock, if it is yet to come."""
    left = end - time.monotonic()
    if left > 0:
        time.sleep(left)


class WriteLock:
    """An exclusive lock on a file. Not reentrant: a thread that has it and asks again is refused."""

    def __init__(self, path: str, *, timeout: float) -> None:
        """Let :meth:`held` wait for ``timeout`` seconds before it gives up. Create the file if needed."""
        self.path = path
        self._timeout = timeout
        self._file: _LockFile | None = None

    def held(self, *, wait: bool = True, owner: Owner | None = None) -> Turn:
        """Return a context manager that holds the lock for the length of its block.

        Args:
            owner: the block that is left through an ``__exit__`` of its own; see :meth:`Turn.left_behind`.
            wait: whether to wait at all; if not, it starts no thread either.

        Entering it raises:
            StoreBusyError: another writer held it for longer than the timeout; or this thread holds it, or waits for
                it, and whatever interrupted it there asks for it, too.
            OSError: the lock file cannot be opened.
        """
        return Turn(self, self._timeout if wait else 0.0, owner)

    def file(self) -> _LockFile:
        """Return the open file, which all locks of this process on it share."""
        file = self._file
        if file is None or file.process != os.getpid():
            file = self._file = _LockFile.of(self.path)
        return file

    @property
    def descriptor(self) -> int:
        """The number of the open file, for whoever holds the lock."""
        if self._file is None:
            raise RuntimeError("the lock is not held")
        return self._file.descriptor.number

    def after_fork_in_child(self) -> None:
        """Forget the parent's lock without freeing it: the description is shared, the descriptor is ours."""
        self._file = None

    def close(self) -> None:
        """Close the file, as soon as nobody works with it. The lock can be taken again, which opens it again."""
        self._file = None


class _LockFile:
    """The lock's file in this process: who waits for it, in which order, and the description that is locked."""

    def __init__(self, descriptor: OpenFile) -> None:
        self.process = os.getpid()
        self.descriptor = descriptor
        # The first one has the lock. Every step is one of the interpreter's, so there is no mutex here that a thread
        # could hold when it is interrupted by something that needs it.
        self.turns: deque[_Place] = deque()
        self._cleaning = threading.Lock()

    @classmethod
    def of(cls, path: str) -> _LockFile:
        """Return the one that this process has of that file.

        Raises:
            OSError: it cannot be opened.
        """
        descriptor = _opened(path)
        status = os.fstat(descriptor.number)
        key = status.st_dev, status.st_ino
        with _finding:
            reference = _files.get(key)
            found = reference() if reference is not None else None
            if found is None or found.process != os.getpid():
                found = cls(descriptor)
                _files[key] = weakref.ref(found)
            for stale in [key for key, reference in _files.items() if reference() is None]:
                del _files[stale]
        return found

    # Threads of this process queue here first, so that at most one of them waits for the file.

    def take_turn(self, turn: Turn, place: _Place) -> None:
        """Wait until all who asked before, in this process, are done."""
        for other in tuple(self.turns):
            held = other.turn() if other.thread == place.thread else None
            if held is not None and not held.left_behind():
                raise StoreBusyError("the store's write lock", waited=0.0, reason=_BY_ITSELF)
        self.turns.append(place)
        while self.turns[0] is not place:
            self.clean_up()
            if self.turns[0] is place:
                break
            left = turn.left()
            if not place.given.acquire(timeout=min(left, _LOOK)) and left == 0.0 and self.turns[0] is not place:
                raise turn.busy()

    def lock(self, turn: Turn) -> None:
        """Wait until no other process has the file."""
        if self.descriptor.closed:
            self.descriptor = _opened(turn.path)
        try:
            fcntl.flock(self.descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not is_refusal(error):
                raise
            if turn.left() == 0.0:
                raise turn.busy() from None
            self._wait(turn)

    def _wait(self, turn: Turn) -> None:
        """Wait in the kernel's queue, which has no timeout: so a thread waits there, and this one waits for the thread.

        The thread has a description of its own. If it is given up, it frees that, whenever it comes so far.
        """
        waiter = _Waiter(_opened(turn.path))
        try:
            if not waiter.start():
                self._poll(turn)
                return
            waiter.done.acquire(timeout=turn.left())
            locked = waiter.take()
            if locked is None:
                raise turn.busy()
            self.descriptor = locked
        finally:
            waiter.give_up()

    def _poll(self, turn: Turn) -> None:
        while True:
            with Ignoring(BlockingIOError):
                fcntl.flock(self.descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if turn.left() == 0.0:
                raise turn.busy()
            time.sleep(_POLL)

    def release(self, place: _Place) -> None:
        """Give up the lock, or the place in the queue, or nothing, whatever it has. Doing so again does nothing."""
        if self.process != os.getpid():
            return  # inherited: to free the description would free the parent's
        if self.turns and self.turns[0] is place:
            # First, and not by closing: a child forked meanwhile may share the description for an instant.
            _unlock(self.descriptor)
        with contextlib.suppress(ValueError):  # it was given up before
            self.turns.remove(place)
        if self.turns:
            with contextlib.suppress(IndexError, RuntimeError):  # nobody waits any more; or it was woken already
                self.turns[0].given.release()

    def clean_up(self) -> None:
        """Give up what belongs to a turn that is gone."""
        if self._cleaning.acquire(blocking=False):  # else somebody does
            try:
                for place in tuple(self.turns):
                    if place.turn() is None:
                        self.release(place)
            finally:
                self._cleaning.release()


class _Place:
    """A place in the queue. It does not keep its turn alive."""

    __slots__ = ("given", "thread", "turn")

    def __init__(self, turn: Turn, file: _LockFile) -> None:
        self.thread = threading.get_ident()
        self.turn = weakref.ref(turn, lambda _: file.clean_up())
        self.given = threading.Lock()
        self.given.acquire()


class Turn:
    """One wish to hold the lock. What it has is known by its identity, so that giving up gives up the right thing."""

    __slots__ = ("__weakref__", "_file", "_lock", "_owner", "_place", "_started", "_timeout", "_waited")

    def __init__(self, lock: WriteLock, timeout: float, owner: Owner | None) -> None:
        self._lock = lock
        self._owner = None if owner is None else weakref.ref(owner)
        self._timeout = timeout
        self._started = time.monotonic()
        self._waited = 0.0
        self._file: _LockFile | None = None
        self._place: _Place | None = None

    @property
    def path(self) -> str:
        """The lock's file."""
        return self._lock.path

    @property
    def descriptor(self) -> int:
        """The number of the open file, while the lock is held."""
        if self._file is None:
            raise RuntimeError("the lock is not held")
        return self._file.descriptor.number

    def left(self) -> float:
        """Return seconds until it has waited too long."""
        return max(0.0, self._started + self._timeout - time.monotonic())

    def busy(self) -> StoreBusyError:
        """Return the error of having waited too long."""
        return StoreBusyError("the store's write lock", waited=time.monotonic() - self._started)

    def __enter__(self) -> None:
        self._started = time.monotonic()
        try:
            file = self._file = self._lock.file()
            place = self._place = _Place(self, file)
            file.take_turn(self, place)
            file.lock(self)
            self._waited = time.monotonic() - self._started
        except BaseException:  # also an interrupt, wherever it came
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        file, place = self._file, self._place
        if file is None or place is None:
            return
        try:
            file.release(place)
        except BaseException:  # an interrupt in the middle of it
            file.release(place)
            raise
        self._place = None
        if self._waited >= logs.LONG_WAIT:  # now nobody waits for a message to be written
            waited, self._waited = self._waited, 0.0
            text = f"waited {waited:.1f} s for the write lock"
            logs.warning("lock-waited", text, os.path.dirname(self.path), seconds=waited)

    def left_behind(self) -> bool:
        """Give up what a block has that was left, or never entered, where an interrupt kept it from doing so itself.

        The exception that is under way refers to it, and so keeps it alive while others clean up after that exception.
        """
        owner = self._owner() if self._owner is not None else None
        if owner is None or not any(frame.f_locals.get("self") is owner for frame in _ends_of_blocks()):
            return False
        owner.give_up()
        return True


def _ends_of_blocks() -> Iterator[FrameType]:
    """Return each ``__enter__`` and ``__exit__`` that raised an exception that is being handled: it is over."""
    running = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        running.add(id(frame))
        frame = frame.f_back
    error = sys.exc_info()[1]
    for _ in range(_EXCEPTIONS):
        if error is None:
            return
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_name in {"__enter__", "__exit__"} and id(trace.tb_frame) not in running:
                yield trace.tb_frame
            trace = trace.tb_next
        error = error.__context__


class _Waiter:
    """A thread that waits for a description of the file, and who waits for the thread."""

    def __init__(self, descriptor: OpenFile) -> None:
        self._descriptor = descriptor
        self.done = threading.Lock()
        self.done.acquire()
        self._locked: list[OpenFile] = []
        self._failure: OSError | None = None
        self._given_up = False

    def start(self) -> bool:
        """Whether there was a thread to be had."""
        thread = threading.Thread(target=self._run, name="ocistore-write-lock", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        return True

    def _run(self) -> None:
        try:
            fcntl.flock(self._descriptor.number, fcntl.LOCK_EX)
        except OSError as error:
            self._failure = error
        else:
            self._locked.append(self._descriptor)
        self.done.release()
        if self._given_up:
            self._free()

    def take(self) -> OpenFile | None:
        """Return the description, if it is locked by now; it is the caller's then.

        Raises:
            OSError: it cannot be locked.
        """
        if self._failure is not None:
            raise self._failure
        return self._locked.pop() if self._locked else None

    def give_up(self) -> None:
        """Free what was not taken, now or when the thread has it."""
        self._given_up = True
        self._free()

    def _free(self) -> None:
        # The thread and whoever gave up may both come here; one of them gets it.
        with contextlib.suppress(IndexError):
            descriptor = self._locked.pop()
            # Closing alone is not enough: a child that was forked meanwhile may share the description.
            _unlock(descriptor)
            descriptor.close()


_BY_ITSELF: Final = (
    "this thread is in the middle of a write: a signal handler, a finalizer or a callback that runs inside one cannot"
    " write to the same store"
)

_finding = ForkSafeLock()
_files: dict[tuple[int, int], weakref.ref[_LockFile]] = {}
_descriptors: dict[int, tuple[int, weakref.ref[OpenFile]]] = {}
"""Every description of a lock file that is open here, with the process that opened it, for a forked child to close."""


def _unlock(descriptor: OpenFile) -> None:
    """Free what is locked; where the kernel refuses to, by closing it.

    Never an error: what was done under the lock is committed by now, and must not seem to have failed.
    """
    if descriptor.closed:
        return
    try:
        fcntl.flock(descriptor.number, fcntl.LOCK_UN)
    except OSError as error:
        descriptor.close()
        pass_on_theirs(error)


def _opened(path: str) -> OpenFile:
    descriptor = OpenFile(path, _FLAGS)
    for number, (_, reference) in tuple(_descriptors.items()):
        if reference() is None:
            _descriptors.pop(number, None)
    _descriptors[id(descriptor)] = os.getpid(), weakref.ref(descriptor)
    return descriptor


def after_fork_in_child() -> None:
    """Close what was inherited: with the parent killed, the child's would keep the lock."""
    for number, (process, reference) in tuple(_descriptors.items()):
        descriptor = reference()
        if descriptor is not None and process != os.getpid():
            descriptor.close()
            del _descriptors[number]


os.register_at_fork(after_in_child=after_fork_in_child)
