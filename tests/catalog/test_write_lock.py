import contextlib
import errno
import fcntl
import os
import signal
import threading
import time

import pytest
from processes import python
from state import descriptors

from ocistore import StoreBusyError
from ocistore.catalog import lock as locking
from ocistore.catalog.lock import WriteLock

# Newer Pythons warn of every fork beside threads, and forking beside waiting threads is what some of this is about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

SHORT = 0.2
LONG = 20.0

HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held")
sys.stdin.readline()
"""

GREEDY = """
import sys, time
from ocistore.catalog.lock import WriteLock
lock = WriteLock(sys.argv[1], timeout=20)
print("up")
sys.stdin.readline()
turns, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    with lock.held():
        turns += 1
        time.sleep(0.0005)
print(turns)
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "write.lock")


def lock(path, timeout=LONG):
    made = WriteLock(path, timeout=timeout)
    return contextlib.closing(made)


def eventually(condition):
    until = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


@contextlib.contextmanager
def interrupted_after(seconds):
    """Raise KeyboardInterrupt in the main thread, as Ctrl-C does."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def in_child(work):
    """Fork, run ``work`` in the child, and return the child's process id; it exits with 0 where nothing was raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_one_thread_at_a_time(path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(20):
            with shared.held():
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    with lock(path) as shared:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (inside, most) == (0, 1)


def test_one_process_at_a_time(path):
    with python(HOLDER, path) as holder, lock(path, SHORT) as ours:
        assert holder.says() == "held"
        with pytest.raises(StoreBusyError) as caught, ours.held():
            pytest.fail("two writers at once")
        assert caught.value.waited == pytest.approx(SHORT, abs=2)
        assert caught.value.waited >= SHORT
        holder.tell()
        holder.finish()
        with ours.held():
            pass


def test_two_locks_of_one_process_exclude_each_other(path):
    with lock(path) as first, lock(path, SHORT) as second, first.held(), pytest.raises(StoreBusyError), second.held():
        pytest.fail("two writers at once")


def test_a_thread_that_waits_too_long_is_told_so_and_leaves_the_queue(path):
    with lock(path, SHORT) as shared:
        errors = []

        def work():
            with contextlib.suppress(StoreBusyError), shared.held():
                errors.append("two writers at once")

        with shared.held():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert errors == []
        with shared.held():
            pass


def test_a_waiter_gets_the_lock_as_soon_as_it_is_free(path):
    with python(HOLDER, path) as holder, lock(path) as ours:
        assert holder.says() == "held"
        threading.Timer(SHORT, holder.tell).start()
        with ours.held():
            holder.finish()
        with ours.held():  # the description that waited is the one that is used from now on
            pass


def test_threads_get_it_first_come_first_served(path):
    order = []

    def work(number):
        with shared.held():
            order.append(number)

    with lock(path) as shared:
        with shared.held():
            threads = []
            for number in range(10):
                threads.append(threading.Thread(target=work, args=(number,)))
                threads[-1].start()
                eventually(lambda: len(shared.file().turns) == 1 + len(threads))
        for thread in threads:
            thread.join()
    assert order == list(range(10))


def test_processes_get_it_first_come_first_served(path, tmp_path):
    order = tmp_path / "order"

    def work():
        with lock(path) as own, own.held(), open(order, "a") as file:
            file.write(str(number))

    children = []
    with lock(path) as ours:
        with ours.held():
            for number in range(4):  # noqa: B007  (the child uses it)
                children.append(in_child(work))
                eventually(lambda: _waiting_for(path) == len(children))
        assert [status_of(child) for child in children] == [0] * 4
    assert order.read_text() == "0123"


@pytest.mark.slow
def test_of_processes_that_take_it_without_pause_none_starves(path):
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(python(GREEDY, path)) for _ in range(4)]
        for child in children:
            assert child.says() == "up"
        for child in children:
            child.tell()
        turns = [int(child.says()) for child in children]
    assert min(turns) > max(turns) / 4, turns  # with SQLite's own waiting, one of four got one turn in four seconds


def _waiting_for(path):
    """How many wait for a lock on this file, as the kernel lists them."""
    inode = f":{os.stat(path).st_ino} "
    with open("/proc/locks") as locks:
        return sum("->" in line and inode in line for line in locks)


def test_a_waiter_that_gave_up_does_not_keep_the_lock(path):
    with python(HOLDER, path) as holder, lock(path, SHORT) as ours, lock(path) as other:
        assert holder.says() == "held"
        for _ in range(3):
            with pytest.raises(StoreBusyError), ours.held():
                pytest.fail("two writers at once")
        holder.tell()
        holder.finish()
        with other.held():
            pass
        with ours.held():
            pass


def test_a_waiter_that_gave_up_does_not_keep_the_lock_through_a_child_forked_meanwhile(path):
    with python(HOLDER, path) as holder, lock(path, SHORT) as ours, lock(path, LONG / 4) as other:
        assert holder.says() == "held"
        with pytest.raises(StoreBusyError), ours.held():
            pytest.fail("two writers at once")
        child = in_child(signal.pause)  # it has a copy of the descriptor that still waits
        try:
            holder.tell()
            holder.finish()
            with other.held():
                pass
        finally:
            os.kill(child, signal.SIGKILL)
            status_of(child)


def test_an_interrupt_while_another_process_has_it_leaves_the_lock_usable(path):
    with python(HOLDER, path) as holder, lock(path) as ours:
        assert holder.says() == "held"
        with pytest.raises(KeyboardInterrupt), interrupted_after(SHORT), ours.held():
            pytest.fail("two writers at once")
        holder.tell()
        holder.finish()
        with ours.held():
            pass


def test_an_interrupt_while_another_thread_has_it_leaves_the_lock_usable(path):
    release = threading.Event()
    taken = threading.Event()

    def work():
        with shared.held():
            taken.set()
            release.wait(LONG)

    with lock(path) as shared:
        thread = threading.Thread(target=work)
        thread.start()
        taken.wait(LONG)
        with pytest.raises(KeyboardInterrupt), interrupted_after(SHORT), shared.held():
            pytest.fail("two writers at once")
        release.set()
        thread.join()
        with shared.held():
            pass


def test_the_kernel_frees_it_when_its_holder_is_killed(path):
    with python(HOLDER, path) as holder, lock(path) as ours:
        assert holder.says() == "held"
        holder.kill()
        with ours.held():
            pass


def test_an_exception_inside_frees_it(path):
    with lock(path, SHORT) as first, lock(path, SHORT) as second:
        with pytest.raises(ZeroDivisionError), first.held():
            _ = 1 / 0
        with second.held():
            pass


def test_a_child_forked_while_it_is_held_neither_holds_nor_frees_it(path):
    with lock(path, SHORT) as ours, lock(path, SHORT) as other:

        def try_it():
            ours.after_fork_in_child()
            with pytest.raises(StoreBusyError), ours.held():
                pytest.fail("two writers at once")
            ours.close()

        with ours.held():
            assert status_of(in_child(try_it)) == 0
            with pytest.raises(StoreBusyError), other.held():  # the child's end did not free it
                pytest.fail("two writers at once")
        child = in_child(lambda: (ours.after_fork_in_child(), signal.pause()))
        try:
            with other.held():  # the living child does not keep it
                pass
        finally:
            os.kill(child, signal.SIGKILL)
            status_of(child)


def test_a_child_forked_while_it_is_held_does_not_keep_it_when_its_parent_is_killed(path):
    reading, writing = os.pipe()

    def hold_and_fork():
        with ours.held():
            if os.fork() == 0:
                ours.after_fork_in_child()
                os.write(writing, b"%d" % os.getpid())
            signal.pause()

    with lock(path) as ours, lock(path) as other:
        holder = in_child(hold_and_fork)
        child = int(os.read(reading, 100))
        try:
            os.kill(holder, signal.SIGKILL)
            status_of(holder)
            with other.held():
                pass
        finally:
            os.kill(child, signal.SIGKILL)
            os.close(reading)
            os.close(writing)


def test_it_can_be_taken_again_after_it_was_closed(path):
    with lock(path) as ours:
        with ours.held():
            pass
        ours.close()
        ours.close()
        with ours.held():
            pass


def test_a_lock_file_that_cannot_be_opened_is_an_error_each_time_and_not_a_dead_end(tmp_path):
    with lock(str(tmp_path / "gone" / "write.lock")) as ours:
        for _ in range(2):
            with pytest.raises(FileNotFoundError), ours.held():
                pytest.fail("there is no such directory")
        (tmp_path / "gone").mkdir()
        with ours.held():
            pass


def test_a_kernel_that_refuses_to_free_it_costs_nobody_the_lock(path, monkeypatch):
    free = fcntl.flock

    def refuse(descriptor, operation):
        if operation == fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, "No locks available")
        free(descriptor, operation)

    with lock(path, SHORT) as one, lock(path, SHORT) as other:
        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", refuse)
            for _ in range(2):
                with one.held():
                    pass
        with open(path, "rb") as another:  # as another process has
            fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with other.held():
            pass


def test_a_symbolic_link_in_its_place_is_refused(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with lock(path) as ours, pytest.raises(OSError, match="symbolic links"), ours.held():
        pytest.fail("a link was followed")
    assert not (tmp_path / "elsewhere").exists()


def test_it_leaks_no_descriptors(path):
    before = len(descriptors())
    with lock(path, 0.05) as first, lock(path, 0.05) as second:
        with first.held():
            for _ in range(5):
                with pytest.raises(StoreBusyError), second.held():
                    pytest.fail("two writers at once")
        with second.held():
            pass
    eventually(lambda: len(descriptors()) <= before)  # fewer, where an earlier test's waiter ended


def test_a_rest_is_half_as_long_as_the_transaction_before_it(monkeypatch):
    clock, slept = [100.0], []
    monkeypatch.setattr(locking.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(locking.time, "sleep", slept.append)
    locking.rest(98.0)
    assert slept == [1.0]


def test_what_is_done_before_a_rest_ends_is_a_part_of_it(monkeypatch):
    clock, slept = [100.0], []
    monkeypatch.setattr(locking.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(locking.time, "sleep", slept.append)
    end = locking.end_of_rest(98.0)
    clock[0] = 100.75
    locking.rest_until(end)
    clock[0] = 102.0
    locking.rest_until(end)
    assert slept == [0.25]
