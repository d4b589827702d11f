"""Whatever runs in the middle of a write of its own thread is refused at once, and a store that is dropped or closed
there waits for nobody."""

import gc
import os
import signal
import threading
import time
from functools import partial

import pytest
from instructions import Interrupted, count, first_of
from invariants import check
from processes import python, run_python
from state import sweep

from ocistore import Store, StoreBusyError, StoreClosedError
from ocistore.catalog import lock, transactions, users

SOON = 20.0


@pytest.fixture
def soon():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON


@pytest.fixture
def swept(store):
    yield partial(sweep, store)
    sweep(store)


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self, held):
        self.held = held
        self.itself = self


def descriptors(root):
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return [path for path in found if path.startswith(f"{root}/")]


@pytest.mark.usefixtures("soon", "swept")
def test_a_write_inside_a_write_of_the_same_thread_is_refused_with_a_reason(store):
    with Store.open(store.root) as second:
        for inner in (store, second):
            with store._core.catalog.write(), pytest.raises(StoreBusyError, match="in the middle of a write"):
                inner.repository("a").put_blob(b"inside")
    store.repository("a").put_blob(b"afterwards")


@pytest.mark.usefixtures("soon")
def test_a_signal_handler_that_writes_inside_a_write_is_refused_at_once(store, swept):
    caught = []

    def handler(*_):
        try:
            store.repository("a").put_blob(b"from the handler")
        except StoreBusyError as error:
            caught.append(error.reason)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        with store._core.catalog.write():
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert len(caught) == 1
    assert "signal handler" in caught[0]
    swept()
    assert check(store) == []


@pytest.mark.usefixtures("soon", "swept")
def test_a_signal_handler_that_writes_while_its_thread_waits_is_refused_at_once(store):
    writing, done = threading.Event(), threading.Event()

    def hold():
        with store._core.catalog.write():
            writing.set()
            done.wait()

    caught = []

    def handler(*_):
        try:
            store.repository("a").put_blob(b"from the handler")
        except StoreBusyError as error:
            caught.append(error.reason)
        done.set()

    thread = threading.Thread(target=hold)
    thread.start()
    writing.wait()
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        store.repository("a").put_blob(b"waiting")
    finally:
        signal.signal(signal.SIGALRM, previous)
        done.set()
        thread.join()
    assert len(caught) == 1
    assert caught[0] is not None


@pytest.mark.usefixtures("soon")
def test_a_store_dropped_in_a_cycle_inside_a_write_waits_for_nobody(store, tmp_path):
    for root in (store.root, tmp_path / "other"):
        dropped = Store.open(root)
        dropped.repository("a").put_blob(b"dropped")
        cycle = Cycle(dropped)
        del dropped
        with store._core.catalog.write() as connection:
            connection.command("UPDATE store SET epoch = epoch")
            del cycle
            gc.collect()
    assert descriptors(tmp_path / "other") == []
    store.repository("a").put_blob(b"afterwards")
    root = store.root
    store.close()
    gc.collect()
    assert descriptors(root) == []
    assert not (root / "catalog.db-wal").exists()


@pytest.mark.usefixtures("soon")
def test_a_store_dropped_while_another_process_writes_waits_for_nobody(store):
    code = """
import sys
from ocistore import Store
store = Store.open(sys.argv[1])
with store._core.catalog.write():
    print("writing")
    sys.stdin.readline()
"""
    dropped = Store.open(store.root)
    root = store.root
    dropped.repository("a").put_blob(b"dropped")
    store.close()
    with python(code, root) as other:
        assert other.says() == "writing"
        del dropped
        gc.collect()
        assert descriptors(root) == []
        other.tell()
        other.finish()
    assert check(root, hashes=True) == []


@pytest.mark.usefixtures("soon")
def test_closing_inside_a_use_leaves_it_to_the_use(store):
    root = store.root
    with store._core.catalog.snapshot() as connection:
        store.close()
        assert connection.command("SELECT count(*) FROM blobs").scalar() == 0
        assert descriptors(root) != []
        with pytest.raises(StoreClosedError):
            store.repository("a").put_blob(b"closed")
    assert descriptors(root) == []
    assert not (root / "catalog.db-wal").exists()


def test_a_wait_for_the_lock_without_a_thread_to_be_had_ends_all_the_same(store, monkeypatch):
    def none(self):
        raise RuntimeError("can't start new thread")

    code = """
import sys, time
from ocistore import Store
store = Store.open(sys.argv[1])
with store._core.catalog.write():
    print("writing")
    sys.stdin.readline()
    time.sleep(0.3)
print("written")
sys.stdin.readline()
"""
    with python(code, store.root) as other, monkeypatch.context() as patched:
        assert other.says() == "writing"
        patched.setattr(lock._Waiter, "start", lambda self: False)
        patched.setattr(threading.Thread, "start", none)
        other.tell()
        with store._core.catalog.write():
            pass
        assert other.says() == "written"
        other.tell()
        other.finish()


AT_EXIT = """
import atexit, sys, threading, time
from ocistore import Store

def last():
    store.repository("a").put_blob(b"at exit")
    Store.open(sys.argv[1]).repository("a").put_blob(b"once more")

atexit.register(last)
store = Store.open(sys.argv[1])
if sys.argv[2] == "threads":
    def work():
        number = 0
        while True:
            number += 1
            store.repository("a").put_blob(b"daemon %d" % number)
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    def outlives():
        time.sleep(0.2)
        store.repository("a").put_blob(b"outlived main")
    threading.Thread(target=outlives).start()
store.repository("a").put_blob(b"first")
"""


@pytest.mark.parametrize("kind", ["alone", "threads"])
@pytest.mark.usefixtures("soon")
def test_a_store_left_open_at_exit_says_nothing_and_loses_nothing(tmp_path, kind):
    root = tmp_path / "store"
    assert run_python(AT_EXIT, root, kind) == ""
    assert check(root, hashes=True, idle=False) == []


@pytest.mark.usefixtures("soon")
def test_a_store_left_open_at_exit_beside_a_stuck_writer_does_not_wait(store):
    with store._core.catalog.write():
        run_python("import sys, ocistore; s = ocistore.Store.open(sys.argv[1]); list(s.repositories())", store.root)
    assert check(store) == []


def test_nothing_of_a_database_is_left_when_all_have_closed_it(tmp_path):
    with Store.open(tmp_path / "a") as first, Store.open(tmp_path / "a") as second:
        assert len([each for each in users.databases.values() if each.holders]) >= 1
        first.repository("a").put_blob(b"1")
        second.repository("a").put_blob(b"2")
    assert descriptors(tmp_path / "a") == []


@pytest.mark.parametrize(
    "place",
    [first_of(transactions.Write.__exit__), first_of(transactions.Write.__enter__, "RETURN")],
    ids=["at the beginning of its exit", "at the end of its entry"],
)
def test_a_write_that_was_interrupted_gives_way_to_whoever_cleans_up_after_it(store, place):
    """Before the block, or what leaves it, could do anything about it."""

    def write():
        with store._core.catalog.write() as connection:
            connection.command("UPDATE store SET epoch = epoch + 1")

    count(write)
    interrupted = Interrupted(1, place)
    try:
        with interrupted:
            write()
    except KeyboardInterrupt:  # it refers to all that was under way
        store.repository("a").put_blob(b"in the cleaning up")
    assert interrupted.reached
    assert check(store) == []
