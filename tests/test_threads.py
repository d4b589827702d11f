"""Work by threads ahead of the caller: in order, bounded, and over when the call is, whatever interrupts it."""

import contextlib
import errno
import gc
import hashlib
import itertools
import os
import resource
import signal
import sys
import threading
import time
import weakref
from _thread import get_ident

import pytest
from processes import run_python

from ocistore import threads
from ocistore.refusals import is_refusal
from ocistore.threads import Ahead, Counter, StoppedError

MAIN = get_ident()

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Interrupt(Exception):
    """What a signal handler raises."""


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """Four cores, whatever the machine has; and at the end of each test nothing is left of its threads."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(threads, "_PATIENCE", 5)
    before = kernel_threads()
    yield
    assert not threads._busy
    assert settled(before)


def kernel_threads():
    return len(os.listdir("/proc/self/task"))


def settled(count):
    """Whether the kernel has no more threads of ours than that, in a moment: the last step of one is the kernel's."""
    end = time.monotonic() + 5
    while kernel_threads() > count and time.monotonic() < end:
        time.sleep(0.001)
    return kernel_threads() <= count


def together(count):
    """Work that ends only when so many items are worked on at once, each in a thread of its own."""
    barrier = threading.Barrier(count, timeout=10)

    def work(item):
        barrier.wait()
        return item, get_ident()

    return work


def slow(item):
    time.sleep(0.002)
    return item


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 500])
def test_results_come_in_order_whoever_is_done_first(count):
    def work(item):
        time.sleep(0.003 * (item % 3 == 0))
        return item * 2

    with Ahead(work, range(count)) as ahead:
        assert [(item, result()) for item, result in ahead] == [(item, item * 2) for item in range(count)]


def test_there_is_a_thread_for_each_core_and_none_is_the_callers():
    with Ahead(together(4), range(8)) as ahead:
        workers = [result()[1] for _, result in ahead]
    assert MAIN not in workers
    assert len(set(workers[:4])) == 4


def test_no_more_than_so_many_results_are_made_ahead_of_the_caller():
    begun = []
    with Ahead(begun.append, range(100), threads=2, ahead=5) as ahead:
        for number, (_, result) in enumerate(ahead):
            time.sleep(0.001)
            assert len(begun) <= number + 5
            result()
    assert sorted(begun) == list(range(100))


def test_items_are_taken_by_the_caller_and_not_far_ahead():
    taken = []

    def items():
        for item in range(400):
            assert get_ident() == MAIN
            taken.append(item)
            yield item

    with Ahead(slow, items(), threads=2, ahead=3, beside=lambda item: item % 100 == 0) as ahead:
        for number, (_, result) in enumerate(ahead):
            assert len(taken) <= number + threads._LOOKED_AHEAD + 1
            result()
    assert len(taken) == 400


def test_what_is_not_worth_a_thread_is_done_by_the_caller_in_its_turn():
    def work(item):
        return item, get_ident() == MAIN

    with Ahead(work, range(50), beside=lambda item: item % 5 == 0) as ahead:
        assert [result() for _, result in ahead] == [(item, item % 5 != 0) for item in range(50)]


def test_with_one_thread_items_are_worked_on_one_after_another():
    state, expected = hashlib.sha256(), hashlib.sha256()
    pieces = [os.urandom(4096) for _ in range(300)]
    with Ahead(state.update, pieces, threads=1, ahead=8) as ahead:
        for piece, hashed in ahead:
            hashed()
            expected.update(piece)
    assert state.digest() == expected.digest()


def test_an_error_is_raised_in_its_place_and_the_next_result_can_still_be_had():
    def work(item):
        if item % 3 == 1:
            raise ValueError(item)
        return item

    found = []
    with Ahead(work, range(9)) as ahead:
        for _, result in ahead:
            try:
                found.append(result())
            except ValueError as error:
                found.append(-error.args[0])
    assert found == [0, -1, 2, 3, -4, 5, 6, -7, 8]


def test_a_refusal_by_the_operating_system_is_still_one():
    def work(_):
        os.stat("/nonexistent")

    with Ahead(work, range(2)) as ahead:
        for _, result in ahead:
            with pytest.raises(FileNotFoundError) as caught:
                result()
            assert caught.value.errno == errno.ENOENT
            assert is_refusal(caught.value)


def test_an_error_keeps_nothing_alive_when_it_is_let_go_of():
    class Held:
        """What a failing piece of work has in its hands."""

    references = []

    def work(_):
        held = Held()
        references.append(weakref.ref(held))
        raise ValueError

    def call():
        with Ahead(work, range(1)) as ahead:
            for _, result in ahead:
                result()

    with contextlib.suppress(ValueError):
        call()
    assert references[0]() is None


def test_an_error_that_nobody_took_keeps_nothing_alive():
    class Held:
        """As an open file."""

    references, failed = [], threading.Event()

    def work(item):
        if item:
            held = Held()
            references.append(weakref.ref(held))
            failed.set()
            raise ValueError

    def call():
        with Ahead(work, range(3)) as ahead:
            for _, result in ahead:
                result()
                failed.wait()
                return

    gc.disable()
    try:
        call()
        assert references
        assert [reference() for reference in references] == [None] * len(references)
    finally:
        gc.enable()


def test_what_the_items_raise_is_raised_at_once_and_ends_the_threads():
    def items():
        yield from range(3)
        raise LookupError

    discarded = []
    with pytest.raises(LookupError), Ahead(slow, items(), unused=discarded.append) as ahead:
        for _, result in ahead:
            result()
    assert set(discarded) <= {0, 1, 2}


# --- its end ----------------------------------------------------------------------------------------------------------


def test_results_that_nobody_took_are_seen_to():
    made, unused, taken = [], [], []

    def work(item):
        made.append(item)
        return item

    with contextlib.suppress(LookupError), Ahead(work, range(100), unused=unused.append) as ahead:
        for item, result in ahead:
            taken.append(result())
            if item == 2:
                raise LookupError
    assert taken == [0, 1, 2]
    assert sorted(taken + unused) == sorted(made)
    assert len(made) <= 3 + 2 * 4


def test_threads_learn_from_what_they_count_that_nobody_needs_them():
    told, stopped, begun = [], [], threading.Event()
    counter = Counter(told.append)

    def work(_):
        try:
            while True:
                counter.add(1)
                begun.set()
                time.sleep(0.001)
        except StoppedError:
            stopped.append(get_ident())
            raise

    with contextlib.suppress(LookupError), Ahead(work, range(4), counter=counter) as ahead:
        for _ in ahead:
            begun.wait()
            raise LookupError
    assert stopped
    assert MAIN not in stopped


def test_threads_learn_it_also_where_an_error_keeps_the_loop():
    """The iterator of a comprehension is a local variable of it, which a traceback refers to."""
    counter = Counter(lambda _: None)
    begun = threading.Event()

    def work(_):
        while True:
            counter.add(1)
            begun.set()
            time.sleep(0.001)

    def fail():
        begun.wait()
        raise LookupError

    with pytest.raises(LookupError), Ahead(work, range(4), counter=counter) as ahead:
        [fail() for _ in ahead]


def test_what_threads_count_is_told_in_the_calling_thread_while_it_waits():
    told = []
    go = threading.Event()

    def tell(count):
        assert get_ident() == MAIN
        told.append(count)
        go.set()

    counter = Counter(tell)

    def work(_):
        counter.add(3)
        assert go.wait(10)
        counter.add(4)

    with Ahead(work, range(3), counter=counter) as ahead:
        for _, result in ahead:
            result()
    assert sum(told) == 21
    counter.add(5)
    assert told[-1] == 5


def test_what_telling_raises_ends_the_call():
    def refuse(_):
        raise Interrupt

    counter = Counter(refuse)

    def work(_):
        while True:
            counter.add(1)
            time.sleep(0.001)

    with pytest.raises(Interrupt), Ahead(work, range(3), counter=counter) as ahead:
        for _, result in ahead:
            result()


# --- where there are no threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_where_threads_are_refused_the_caller_works(monkeypatch, error, allowed):
    start, asked = threads.start_new_thread, itertools.count()

    def refuse(function, arguments):
        if next(asked) >= allowed:
            raise error
        return start(function, arguments)

    monkeypatch.setattr(threads, "start_new_thread", refuse)
    with Ahead(slow, range(30)) as ahead:
        assert [result() for _, result in ahead] == list(range(30))


def test_without_threads_nothing_is_taken_ahead(monkeypatch):
    def refuse(*_):
        raise RuntimeError

    monkeypatch.setattr(threads, "start_new_thread", refuse)
    taken = iter(range(5))
    with Ahead(slow, taken, threads=3) as ahead:
        for item, result in ahead:
            result()
            # The first was taken before it was known.
            assert next(taken, None) in {item + 1, None}
            break


def test_a_thread_that_never_begins_is_not_waited_for(monkeypatch):
    """As one that finds no memory for its first call."""
    monkeypatch.setattr(threads, "_PATIENCE", 0.03)
    monkeypatch.setattr(threads, "start_new_thread", lambda *_: 0)
    began = time.monotonic()
    with Ahead(slow, range(10)) as ahead:
        assert [result() for _, result in ahead] == list(range(10))
    assert time.monotonic() - began < 5


def test_a_thread_that_begins_too_late_does_nothing(monkeypatch):
    late, workers = [], []
    monkeypatch.setattr(threads, "_PATIENCE", 0)
    monkeypatch.setattr(threads, "start_new_thread", lambda function, arguments: late.append((function, arguments)))
    with Ahead(lambda _: workers.append(get_ident()), range(4), threads=1) as ahead:
        for _, result in ahead:
            result()
    for function, arguments in late:
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        thread.join()
    assert late
    assert set(workers) == {MAIN}


def test_all_calls_together_have_as_many_threads_as_cores(monkeypatch):
    start, most = threads.start_new_thread, []

    def late(function, arguments):
        """So late that others were started meanwhile, too."""
        return start(lambda: (time.sleep(0.02), function(*arguments)), ())

    def inner(_):
        time.sleep(0.005)
        most.append(len(threads._busy))

    def outer(item):
        with Ahead(inner, range(10)) as within:
            for _, result in within:
                result()
        return item

    monkeypatch.setattr(threads, "start_new_thread", late)
    with Ahead(outer, range(6)) as ahead:
        assert [result() for _, result in ahead] == list(range(6))
    most.sort()
    assert most[len(most) // 2] <= 4  # more only for the instant in which one that is too many leaves again


def test_on_one_core_nothing_is_done_by_threads_unless_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0})
    with Ahead(lambda _: get_ident(), range(5)) as ahead:
        assert {result() for _, result in ahead} == {MAIN}
    with Ahead(lambda _: get_ident(), range(5), threads=1) as ahead:
        assert MAIN not in {result() for _, result in ahead}


LIMITED = """
import hashlib, resource, sys
from ocistore.threads import Ahead
data = bytes(1 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
for _ in range(15):
    with Ahead(lambda _: hashlib.sha256(data).digest(), range(20)) as ahead:
        assert len({result() for _, result in ahead}) == 1
print("done")
"""


@pytest.mark.parametrize("more", [1 << 20, 6 << 20, 12 << 20, 40 << 20])
def test_with_too_little_memory_for_all_threads_the_work_is_done(more):
    assert run_python(LIMITED, more).endswith("done\n")


# --- interrupts -------------------------------------------------------------------------------------------------------


def run_through(record):
    """One call with everything in it."""
    counter = Counter(lambda _: None)

    def work(item):
        counter.add(1)
        time.sleep(0.0005)
        record.append(item)
        return item

    with Ahead(
        work, range(6), threads=2, beside=lambda item: item != 3, counter=counter, unused=record.append
    ) as ahead:
        return [result() for _, result in ahead]


@contextlib.contextmanager
def raising_at(place, *, times=1):
    """Raise in this thread at the so-many-th line that it executes in the module; and at the next that it comes to."""
    seen, left = itertools.count(), [times]

    def trace(frame, event, _):
        if frame.f_code.co_filename != threads.__file__:
            return None
        if event in {"call", "line"} and next(seen) >= place and left[0]:
            left[0] -= 1
            raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        yield left
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_at_any_line_ends_the_call_and_its_threads(times):
    before = kernel_threads()
    for place in itertools.count():
        with raising_at(place, times=times) as left:
            try:
                results = run_through([])
            except Interrupt:
                results = None
        if left[0] == times:
            assert results == list(range(6))
            break
        # What is left of a thread whose call was interrupted twice is a matter of milliseconds.
        assert settled(before), place
        assert not threads._busy, place
    assert place > 100


def test_signals_at_any_time_end_the_call_and_its_threads():
    before = kernel_threads()
    armed = []

    def handler(*_):
        if armed:
            raise Interrupt

    previous = signal.signal(signal.SIGALRM, handler)
    ended = 0
    try:
        # How many signals come while it works depends on the machine and on the interpreter.
        for number in range(10_000):
            if number >= 300 and ended > 100:
                break
            armed.append(True)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 * (number % 300 + 1), 0.00003)
                run_through([])
                armed.clear()
            except Interrupt:
                armed.clear()
                ended += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert settled(before), number
    finally:
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert ended > 100


def test_work_that_refers_to_the_call_is_let_go_of_with_it():
    class Held:
        """As an open file."""

    def call():
        held = Held()
        with Ahead(lambda item: (ahead.check(), held, item), range(3)) as ahead:
            assert len([result() for _, result in ahead]) == 3
        return weakref.ref(held)

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


def test_a_keyboard_interrupt_comes_through_while_a_thread_is_waited_for():
    go = threading.Event()
    began = time.monotonic()
    threading.Timer(0.1, lambda: signal.pthread_kill(MAIN, signal.SIGINT)).start()
    threading.Timer(0.3, go.set).start()
    with pytest.raises(KeyboardInterrupt), Ahead(lambda _: go.wait(10), range(3)) as ahead:
        for _, result in ahead:
            result()
    assert time.monotonic() - began < 5


# --- forks ------------------------------------------------------------------------------------------------------------


def in_child(work):
    """Whether a forked child comes to the end of that within some seconds."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            work()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_that_comes_back_into_the_call_waits_for_no_thread_of_its_parent():
    go, children = threading.Event(), []

    def call():
        with Ahead(lambda _: go.wait(10), range(4)) as ahead:
            for _, result in ahead:
                if not children:
                    children.append(os.fork())
                    if not children[0]:
                        signal.signal(signal.SIGALRM, signal.SIG_DFL)
                        signal.alarm(20)
                        with pytest.raises(RuntimeError, match="forked"):
                            result()
                        raise Interrupt
                    children[1:] = [os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])]
                    go.set()
                result()

    try:
        call()
    except Interrupt:
        os._exit(0)
    except BaseException:
        if not children[0]:
            os._exit(1)
        raise
    assert children[1] == 0


def test_a_child_has_threads_of_its_own():
    def call():
        with Ahead(together(4), range(4)) as ahead:
            assert len({result()[1] for _, result in ahead}) == 4

    with Ahead(lambda _: in_child(call), range(2), threads=2) as ahead:
        assert [result() for _, result in ahead] == [0, 0]


def test_memory_is_bounded():
    """Results of a mebibyte each, of which there are more than the process may have."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Ahead(lambda _: bytearray(os.urandom(1 << 20)), range(150), threads=2, ahead=4) as ahead:
        for _, result in ahead:
            result()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_result_is_disposed_of_where_reporting_it_raises():
    class Enough(Exception):
        """What the caller raises."""

    def report(_):
        raise Enough

    counter = Counter(report)
    disposed = []

    def work(item):
        counter.add(1)
        return item

    # A thread has counted and is done before its result is asked for.
    with pytest.raises(Enough), Ahead(work, [1], threads=1, counter=counter, unused=disposed.append) as ahead:
        for _, result in ahead:
            while not ahead._given[0].over:
                time.sleep(0.001)
            result()
    assert disposed == [1]
