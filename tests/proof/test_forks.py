"""Forks beside threads that open, write and close; signals in the hooks; forks past the hooks. Nothing acknowledged is
lost, and a child that may not use the store is told so at once."""

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import threading
import time
import traceback

import pytest
from images import image, push
from invariants import check
from processes import run_python

from ocistore import Digest, Store, StoreBusyError
from ocistore.catalog import database, forking

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

REFUSED, RAW, LATE = 3, 4, 5
"""How a child ends that was told that it may not use the store; that saw another error; or that waited."""


class Interrupt(Exception):
    """What a signal handler raises."""


def in_child(work, *, fork=os.fork):
    """The process id of a child that does the work, and ends with 0."""
    child = fork()
    if child:
        return child
    began = time.monotonic()
    status = RAW
    try:
        work()
        status = 0
    except StoreBusyError as error:
        status = REFUSED if error.reason is not None and time.monotonic() - began < 5 else LATE
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def past_the_hooks():
    """``fork`` as a library in C calls it."""
    return ctypes.PyDLL(None).fork()


def tags(root):
    with Store.open(root) as store:
        return set(store.repository("app").tags())


@contextlib.contextmanager
def slow_reader(store, seconds):
    """A thread in the middle of a read, so that a fork waits."""
    reading = threading.Event()

    def read():
        with store._core.catalog.snapshot() as connection:
            connection.command("SELECT count(*) FROM blobs")
            reading.set()
            time.sleep(seconds)

    thread = threading.Thread(target=read)
    thread.start()
    reading.wait()
    try:
        yield
    finally:
        thread.join()


@contextlib.contextmanager
def raised_in(seconds):
    def handler(*_):
        raise Interrupt

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _acknowledged_in_a_child_forked_under_a_signal(store, times, delay=0.1):
    """Fork while a read is waited for and a signal handler raises; then the parent closes, and what is there counts."""
    acknowledged = set()
    for number in range(times):
        push(store.repository("app"), image(f"parent {number}"), f"parent{number}")
        acknowledged.add(f"parent{number}")

        def work(number=number):
            for turn in range(3):
                push(store.repository("app"), image(f"child {number} {turn}"), f"child{number}.{turn}")

        with slow_reader(store, 0.3), raised_in(delay), contextlib.suppress(Interrupt):
            child = in_child(work)
        status = ended(child)
        assert status in {0, REFUSED}
        if status == 0:
            acknowledged |= {f"child{number}.{turn}" for turn in range(3)}
    store.close()
    return acknowledged


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_signal_in_the_hook_loses_nothing(store, times):
    acknowledged = _acknowledged_in_a_child_forked_under_a_signal(store, times)
    assert acknowledged == tags(store.root)
    assert check(store.root, hashes=True) == []


def test_a_hook_that_gives_up_at_a_signal_and_a_child_that_trusts_it_are_seen(tmp_path, empty_store):
    root = shutil.copytree(empty_store, tmp_path / "store")

    def wrong():
        def prepare(deadline):
            time.sleep(5)

        def trusting(self):
            self.process = os.getpid()
            self._users.clear()

        forking._ATTEMPTS = 1
        forking._prepare = prepare
        database.Database.after_fork_in_child = trusting
        database.Database.stands = lambda self, address: True
        store = Store.open(root)
        push(store.repository("app"), image("first"), "tfirst")
        ready, go = os.pipe(), os.pipe()

        def work():
            push(store.repository("app"), image("second"), "tsecond")
            os.write(ready[1], b".")
            os.read(go[0], 1)
            push(store.repository("app"), image("third"), "tthird")

        with raised_in(0.1), contextlib.suppress(Interrupt):
            child = in_child(work)
        os.read(ready[0], 1)
        store.close()
        os.write(go[1], b".")
        if ended(child) == 0 and tags(root) != {"tfirst", "tsecond", "tthird"}:
            os._exit(9)

    assert ended(in_child(wrong)) == 9


def _acknowledged_in_a_store_that_is_opened_while_a_fork_waits(root, other):
    """A fork waits for a read in one store while a thread opens another one, and its child uses both."""
    opened, ready, go = [], os.pipe(), os.pipe()

    def open_another():
        time.sleep(0.1)
        opened.append(Store.open(other))
        push(opened[0].repository("app"), image("first"), "first")

    def work():
        used = opened[0] if opened else Store.open(other)
        push(used.repository("app"), image("second"), "second")
        os.write(ready[1], b".")
        os.read(go[0], 1)
        push(used.repository("app"), image("third"), "third")

    with Store.open(root) as store, slow_reader(store, 0.5):
        opening = threading.Thread(target=open_another)
        opening.start()
        child = in_child(work)
    opening.join()
    os.read(ready[0], 1)
    opened[0].close()
    os.write(go[1], b".")
    assert ended(child) == 0
    return {"first", "second", "third"}


def test_a_store_that_is_opened_while_a_fork_waits_loses_nothing(tmp_path, empty_store):
    root, other = (shutil.copytree(empty_store, tmp_path / name) for name in ("store", "other"))
    acknowledged = _acknowledged_in_a_store_that_is_opened_while_a_fork_waits(root, other)
    assert acknowledged == tags(other)
    assert check(other, hashes=True) == []


def the_hook_asks_who_is_open_before_it_waits():
    """And whoever opens a store meanwhile is not held up."""
    forking.gate.is_open = lambda: True

    def prepare(deadline):
        for each in forking._everything():
            with contextlib.suppress(OSError):
                each.prepare_for_fork(deadline=deadline)

    forking._prepare = prepare


def the_hook_iterates_over_what_others_change():
    """It ends in the middle where a thread opens a store, and the fork happens all the same."""
    forking._ATTEMPTS = 1
    forking._everything = lambda: (each for registry in forking._registries for each in registry.values())
    the_hook_asks_who_is_open_before_it_waits()


@pytest.mark.parametrize(
    "wrong_way", [the_hook_asks_who_is_open_before_it_waits, the_hook_iterates_over_what_others_change]
)
def test_a_store_that_is_opened_while_a_fork_waits_catches_each_wrong_way(tmp_path, empty_store, wrong_way):
    root, other = (shutil.copytree(empty_store, tmp_path / name) for name in ("store", "other"))

    def work():
        wrong_way()
        # Else the child sees by itself that it was not prepared.
        database.Database.after_fork_in_child = lambda self: setattr(self, "process", os.getpid())
        database.Database.stands = lambda self, address: True
        os._exit(9 if _acknowledged_in_a_store_that_is_opened_while_a_fork_waits(root, other) != tags(other) else 0)

    assert ended(in_child(work)) == 9


def test_a_child_forked_past_the_hooks_is_told_at_once_and_harms_nothing(store):
    push(store.repository("app"), image("before"), "before")

    def use():
        push(store.repository("app"), image("child"), "child")

    def use_another():
        with Store.open(store.root) as opened:
            push(opened.repository("app"), image("child"), "child")

    def close():
        store.close()

    assert ended(in_child(use, fork=past_the_hooks)) == REFUSED
    assert ended(in_child(use_another, fork=past_the_hooks)) == REFUSED
    assert ended(in_child(close, fork=past_the_hooks)) == 0
    with slow_reader(store, 0.2):
        assert ended(in_child(use, fork=past_the_hooks)) == REFUSED
        assert ended(in_child(close, fork=past_the_hooks)) == 0
    with store._core.catalog.write():
        assert ended(in_child(use, fork=past_the_hooks)) == REFUSED
    push(store.repository("app"), image("after"), "after")
    store.close()
    assert tags(store.root) == {"before", "after"}
    assert check(store.root, hashes=True) == []


AS_USUAL = """
import ctypes, os, sys
from ocistore import Store
store = Store.open(sys.argv[1])
with store._core.catalog.write() as connection:
    connection.command("UPDATE store SET epoch = epoch + 1")
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        sys.exit(3)  # with everything that is done and taken apart at the end of a program
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
store.repository("app").put_blob(b"after")
print("done")
"""


def test_a_child_forked_past_the_hooks_that_ends_as_usual_harms_nothing(store):
    push(store.repository("app"), image("before"), "before")
    assert run_python(AS_USUAL, store.root) == "done\n"
    with store.repository("app").open_blob(Digest.of(b"after")) as reader:
        assert reader.read() == b"after"
    assert check(store, hashes=True) == []


def test_a_store_that_was_not_open_can_be_opened_in_a_child_forked_past_the_hooks(store):
    store.close()

    def work():
        with Store.open(store.root) as opened:
            push(opened.repository("app"), image("child"), "child")

    assert ended(in_child(work, fork=past_the_hooks)) == 0
    assert tags(store.root) == {"child"}


PUSH = """
import sys
from images import image, push
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    push(store.repository("app"), image("child"), "child")
"""


def test_what_a_child_forked_past_the_hooks_is_told_to_do_helps(store, tmp_path):
    push(store.repository("app"), image("before"), "before")

    def run_another_program():
        with pytest.raises(StoreBusyError, match="run another program in the child"):
            store.repository("app").resolve("before")
        run_python(PUSH, store.root)

    def use_another_store():
        with Store.open(tmp_path / "other") as other:
            push(other.repository("app"), image("child"), "child")

    assert ended(in_child(run_another_program, fork=past_the_hooks)) == 0
    assert ended(in_child(use_another_store, fork=past_the_hooks)) == 0
    assert tags(store.root) == {"before", "child"}
    assert tags(tmp_path / "other") == {"child"}
    push(store.repository("app"), image("after"), "after")
    assert check(store, hashes=True) == []


def test_a_fork_inside_ones_own_write_is_refused_to_the_child_at_once(store):
    def work():
        push(store.repository("app"), image("child"), "child")

    began = time.monotonic()
    with store._core.catalog.write():
        assert ended(in_child(work)) == REFUSED
    with store._core.catalog.read():
        assert ended(in_child(work)) == REFUSED
    assert time.monotonic() - began < 10
    assert ended(in_child(work)) == 0
    assert list(store.repository("app").tags()) == ["child"]


def test_a_fork_with_two_stores_of_one_root_takes_no_time_and_both_sides_go_on(store):
    with Store.open(store.root) as second:
        push(store.repository("app"), image("first"), "first")
        push(second.repository("app"), image("second"), "second")

        def work():
            push(store.repository("app"), image("child"), "child")
            push(second.repository("app"), image("child of second"), "child2")

        began = time.monotonic()
        child = in_child(work)
        assert time.monotonic() - began < 5
        assert ended(child) == 0
        push(second.repository("app"), image("third"), "third")
    assert set(store.repository("app").tags()) == {"first", "second", "child", "child2", "third"}


def test_one_store_that_cannot_be_prepared_costs_the_others_nothing(store, tmp_path, monkeypatch):
    with Store.open(tmp_path / "other") as other:
        push(other.repository("app"), image("first"), "first")
        push(store.repository("app"), image("first"), "first")
        stuck = store._core.catalog._access.database()
        refusal = OSError(errno.EIO, "stuck")
        monkeypatch.setattr(stuck, "prepare_for_fork", lambda *, deadline: (_ for _ in ()).throw(refusal))
        statuses = {
            ended(in_child(lambda used=used: push(used.repository("app"), image("child"), "child")))
            for used in (store, other)
        }
        assert statuses == {0, REFUSED}


def _forks_beside_threads(root, count, threads):
    """Fork again and again, beside threads that open, write and close; what was acknowledged, on both sides."""
    acknowledged, failures = set(), []
    mutex, stop = threading.Lock(), threading.Event()
    shared = Store.open(root)

    def work(number):
        turn = 0
        try:
            while not stop.is_set():
                turn += 1
                name = f"t{number}.{turn}"
                with contextlib.ExitStack() as stack:
                    own = stack.enter_context(Store.open(root)) if turn % 2 else shared
                    push(own.repository("app"), image(name), name)
                with mutex:
                    acknowledged.add(name)
        except BaseException as error:
            failures.append(repr(error))

    crowd = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in crowd:
        thread.start()
    statuses = []
    for number in range(count):
        name = f"child{number}"

        def child(name=name):
            push(shared.repository("app"), image(name), name)

        statuses.append(ended(in_child(child)))
        if statuses[-1] == 0:
            acknowledged.add(name)
    stop.set()
    for thread in crowd:
        thread.join()
    shared.close()
    return acknowledged, statuses, failures


@pytest.mark.parametrize(("count", "threads"), [(8, 3), pytest.param(500, 8, marks=pytest.mark.slow)])
def test_forks_beside_threads_that_open_write_and_close_lose_nothing(tmp_path, empty_store, count, threads):
    root = shutil.copytree(empty_store, tmp_path / "store")
    acknowledged, statuses, failures = _forks_beside_threads(root, count, threads)
    assert failures == []
    assert set(statuses) == {0}
    assert acknowledged == tags(root)
    assert check(root, hashes=True) == []
