"""Threads that work ahead of the caller, who gets the results in order; work is given to threads only here.

They do what the kernel, or OpenSSL, does without the interpreter: hashing, reading, linking, unlinking.

No thread ever waits for anything here. A thread takes what is queued, piece by piece, and ends when there is nothing
left; so whatever becomes of the caller, no thread remains. The caller waits only for a thread that is known to have
begun and does the work itself where none has: where the process may have no more threads or memory, where all cores
have one already, and in a thread of this module.

Threads are the interpreter's bare ones: ``threading.Thread.start()`` waits for a word from the new thread, which never
comes where that finds no memory to say it.
"""

from __future__ import annotations

import os
import weakref
from _thread import LockType, allocate_lock, get_ident, start_new_thread
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import NoReturn, Self

T = TypeVar("T")
R = TypeVar("R")

WORTH_A_THREAD: Final = 1024 * 1024
"""Bytes. From this size on a blob is hashed by a thread: that takes 0.6 ms, and to begin a thread a tenth of it."""

_LOOKED_AHEAD: Final = 64
"""How many items are taken from their iterator before they are needed, those that no thread works on included."""

_FIRST_WAIT: Final = 0.005
_LONGEST_WAIT: Final = 0.1
"""Seconds that the caller waits before it looks again whether a thread is at work, and reports what was counted."""
_PATIENCE: Final = 0.03
"""Seconds that a thread may take to begin."""

_busy: Final[set[int]] = set()
"""Identifiers of the threads that are at work, in all calls of this process together."""

os.register_at_fork(after_in_child=_busy.clear)


class StoppedError(Exception):
    """The call that a thread works for is over; raised in that thread, by what counts there."""


class Counter:
    """Takes numbers from several threads, and reports them in the thread that made it, and only there."""

    def __init__(self, told: Callable[[int], object]) -> None:
        """Count from 0; ``told`` is called with each number that was counted."""
        self._told = told
        self._thread = get_ident()
        self._counted: deque[int] = deque()
        self._running: LockType | None = None

    def add(self, count: int) -> None:
        """Count so many more.

        Raises:
            StoppedError: it is a thread that counts, and nobody needs its work any more.
        """
        self._counted.append(count)
        if get_ident() == self._thread:
            self.tell()
        elif self._running is not None and not self._running.locked():
            raise StoppedError

    def tell(self) -> None:
        """Report what was counted and not reported yet; in the thread that made this."""
        while self._counted:
            self._told(self._counted.popleft())

    def count_while(self, running: LockType) -> None:
        """Raise in threads that count while that is not locked."""
        self._running = running


class Ahead(Generic[T, R]):
    """Work on items by threads, a bounded number of items ahead of the caller, who gets the results in order.

    A context manager, to be iterated over once and inside its block. It gives each item with a function that returns
    the result of the work, or raises what the work raised; who catches that may continue with the next item. When the
    block ends, however it does, so do the threads.

    With one thread, items are worked on one after another, in order.
    """

    def __init__(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        beside: Callable[[T], bool] = lambda _: True,
        threads: int | None = None,
        ahead: int | None = None,
        counter: Counter | None = None,
        unused: Callable[[R], object] = lambda _: None,
    ) -> None:
        """Take the work and its limits; nothing is started before the block.

        Args:
            work: called with each item, in any thread.
            items: taken from in the calling thread, ahead of what it was given. What that raises is raised at once.
            beside: whether an item is worth a thread. The others are worked on by the calling thread, in their turn.
            threads: how many at most; not given, one for each core that the process may use, and none where that is
                one. All calls of a process together have as many as there are cores.
            ahead: how many items may be with threads, or done by them, before the caller takes the first of them; not
                given, two for each thread.
            counter: reports, while the caller waits, what threads counted.
            unused: called with each result that nobody took, when the block ends.
        """
        self._work = work
        self._items = iter(items)
        self._beside = beside
        self._threads = _threads() if threads is None else threads
        self._most = 2 * self._threads if ahead is None else ahead
        self._counter = counter
        self._unused = unused
        self._process = os.getpid()
        self._running = allocate_lock()
        """Locked while results are iterated over. Freeing it is one step of the interpreter's, so that no interrupt
        keeps a thread from learning that nobody needs its work."""
        self._queue: deque[_Task[R]] = deque()
        """What no thread has begun yet."""
        self._given: deque[_Task[R]] = deque()
        """What was queued and not taken by the caller."""
        self._helpers: list[_Task[None]] = []
        self._iterated: Callable[[], Generator[tuple[T, Callable[[], R]], None, None] | None] = lambda: None
        if counter is not None:
            counter.count_while(self._running)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._end()
        except BaseException:  # an interrupt while threads are waited for, which end soon
            self._end()
            raise

    def check(self) -> None:
        """Check that somebody still needs the results.

        Raises:
            StoppedError: nobody does.
        """
        if not self._running.locked():
            raise StoppedError

    def __iter__(self) -> Iterator[tuple[T, Callable[[], R]]]:
        results = self._results()
        self._iterated = weakref.ref(results)
        return results

    def _results(self) -> Generator[tuple[T, Callable[[], R]], None, None]:
        window: deque[tuple[T, Callable[[], R]]] = deque()
        more = True
        # Leaving a loop lets go of this generator, and so of the lock, before anything else happens.
        with self._running:
            while True:
                while more and self._may_look_further(len(window)):
                    try:
                        item = next(self._items)
                    except StopIteration:
                        more = False
                        break
                    window.append((item, self._begun(item)))
                if not window:
                    return
                yield window.popleft()

    def _may_look_further(self, looked: int) -> bool:
        """Whether to take another item beside those that were taken and not given."""
        if not looked:
            return True
        if not self._threads or looked >= _LOOKED_AHEAD or len(self._given) >= self._most:
            return False
        return not self._queue or self._is_staffed()

    def _begun(self, item: T) -> Callable[[], R]:
        """Return a function that gives the result of an item, which a thread begins to work on if it is worth one."""
        work = partial(self._work, item)
        if not self._threads or not self._beside(item):
            return work
        task = _Task(work)
        self._given.append(task)
        self._queue.append(task)
        self._is_staffed()
        return partial(self._result, task)

    def _result(self, task: _Task[R]) -> R:
        waited = 0.0
        while not task.over:
            if os.getpid() != self._process:
                raise RuntimeError("this process was forked in the middle of work by threads that it does not have")
            if self._is_helped(patient=waited < _PATIENCE):
                wait = min(_FIRST_WAIT + waited, _LONGEST_WAIT)
                task.wait(wait)
                waited += wait
                if self._counter is not None:
                    self._counter.tell()
            elif self._queue:
                self._queue.popleft().run()
            else:  # it was done just now; or a thread that took it had no memory to begin
                task.run()
        if self._counter is not None:
            self._counter.tell()  # what that raises leaves the result to be disposed of
        self._given.remove(task)
        return task.take()

    # --- threads ------------------------------------------------------------------------------------------------------

    def _is_staffed(self) -> bool:
        """Whether there are threads for what is queued, or could be had."""
        helpers = self._helpers = [helper for helper in self._helpers if not helper.over]
        if self._queue and len(helpers) < self._threads and len(_busy) < _cores():
            helper = _Task(self._help)
            helpers.append(helper)
            try:
                start_new_thread(helper.run, ())
            except (RuntimeError, MemoryError):  # there are no more to be had, or the interpreter is about to end
                helpers.remove(helper)
                self._threads = len(helpers)
        return bool(helpers)

    def _is_helped(self, *, patient: bool) -> bool:
        """Whether a thread is at work, or may still begin; a thread that comes too late finds nothing to do."""
        helpers = [helper for helper in self._helpers if not helper.over]
        if not patient:
            helpers = [helper for helper in helpers if not helper.cancel()]
        self._helpers = helpers
        return bool(helpers)

    def _help(self) -> None:
        me = get_ident()
        try:
            _busy.add(me)
            if len(_busy) > _cores():  # others were about to begin, too, when this was started
                return
            while self._running.locked():
                try:
                    task = self._queue.popleft()
                except IndexError:
                    return
                task.run()
        finally:
            _busy.discard(me)

    def _end(self) -> None:
        """Wait for the threads, none of which begins with anything new, and dispose of what they made."""
        results = self._iterated()
        if results is not None:  # a frame that an error refers to has it
            results.close()
        self._queue.clear()
        if os.getpid() != self._process:
            return
        while self._helpers:
            helper = self._helpers[-1]
            if not helper.cancel():
                helper.join()
            self._helpers.pop()
        while self._given:
            task = self._given.popleft()
            if task.has_value():
                self._unused(task.take())
            task.forget()
        self._work = _over  # which may refer to this, and to open files


class _Task(Generic[R]):
    """Something that is done once, by the first thread that begins with it."""

    __slots__ = ("_done", "_error", "_free", "_value", "_work", "over")

    def __init__(self, work: Callable[[], R]) -> None:
        self._work: Callable[[], R] | None = work
        self._value: R | None = None
        self._error: BaseException | None = None
        self._free = allocate_lock()
        self._done = allocate_lock()
        self._done.acquire()
        self.over = False
        """Whether it was done, successfully or not."""

    def run(self) -> None:
        """Do it, unless somebody else does."""
        if not self.cancel():
            return
        work, self._work = self._work, None
        try:
            assert work is not None  # nobody was here before
            self._value = work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is needed
            self._error = error
        finally:
            work = None  # with all that it has open, before anybody continues
            self.over = True
            self._done.release()

    def cancel(self) -> bool:
        """Prevent it from beginning. Return whether nobody had begun it."""
        return self._free.acquire(blocking=False)

    def wait(self, seconds: float) -> None:
        """Wait until it was done, but no longer than that."""
        if not self.over:
            self._done.acquire(timeout=seconds)

    def join(self) -> None:
        """Wait until it was done by the thread that began with it."""
        while not self.over:
            self.wait(_LONGEST_WAIT)

    def has_value(self) -> bool:
        """Whether it was done and has a result."""
        return self.over and self._error is None

    def forget(self) -> None:
        """Let go of the error, whose traceback refers to this and to all that was open there."""
        self._error = None

    def take(self) -> R:
        """Return the result, or raise the error; neither is held any longer."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # else it and this frame would keep each other, and all that was open there
        value, self._value = self._value, None
        return cast("R", value)


def _over(_: object) -> NoReturn:
    raise StoppedError


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _threads() -> int:
    """Return how many threads are worth it beside a caller that waits for them."""
    cores = _cores()
    return cores if cores > 1 else 0
