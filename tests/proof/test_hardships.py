"""Forks, crowds of threads, a collector that is stopped in its transaction, and clocks that are ten years wrong."""

import contextlib
import errno
import itertools
import os
import shutil
import signal
import sqlite3
import threading
import time
import traceback
from datetime import timedelta

import pytest
from images import image, index, push
from invariants import check
from state import sweep
from wrong_ways import the_row_goes_before_the_file

from ocistore import Digest, OCIStoreError, Store, StoreBusyError
from ocistore.catalog import database, epoch, reachability, sqlite
from ocistore.oserrors import Translating
from ocistore.upkeep import gc

NOW = timedelta(0)
RAW, LOST = 2, 7
"""How a process ends that had an error that is none of ours; and one that saw what it provoked."""
TEN_YEARS = 10 * 365 * 24 * 3600 * 10**9


def forked(work, *arguments):
    """The work in a process of its own; it must end well."""
    child = os.fork()
    if child:
        return child
    try:
        work(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def ended(*children):
    return [os.waitpid(child, 0)[1] for child in children]


def pushed(store, *names):
    return [store.repository("app").get_manifest(f"t{name}").content == image(name).manifest for name in names]


def test_a_store_is_open_over_a_fork_while_it_is_collected(store):
    push(store.repository("app"), image("before"), "tbefore")

    def work(number):
        for turn in range(5):
            push(store.repository("app"), image(f"{number}.{turn}"), f"t{number}.{turn}")
            store.gc(grace=timedelta(seconds=5), keep_untagged=NOW)

    children = [forked(work, number) for number in range(3)]
    work(3)
    assert ended(*children) == [0, 0, 0]
    names = [f"{number}.{turn}" for number in range(4) for turn in range(5)]
    assert all(pushed(store, "before", *names))
    assert check(store, hashes=True) == []


def _acknowledged_in_a_child_whose_parent_closes(store):
    """Which pushes of a child are there, after its parent closed the store that both have from before the fork."""
    push(store.repository("app"), image("before"), "tbefore")
    closed, pushed_once = os.pipe(), os.pipe()

    def child():
        push(store.repository("app"), image("first"), "tfirst")
        os.write(pushed_once[1], b".")
        os.read(closed[0], 1)
        push(store.repository("app"), image("second"), "tsecond")

    children = [forked(child)]
    os.read(pushed_once[0], 1)
    store.close()
    os.write(closed[1], b".")
    assert ended(*children) == [0]
    for descriptor in (*closed, *pushed_once):
        os.close(descriptor)
    with Store.open(store.root) as opened:
        return list(opened.repository("app").tags())


def test_what_a_child_pushed_is_there_when_its_parent_closed_the_store(store):
    assert _acknowledged_in_a_child_whose_parent_closes(store) == ["tbefore", "tfirst", "tsecond"]


def test_connections_that_are_carried_over_a_fork_are_seen_to_lose_what_was_acknowledged(tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "store")

    def wrong():
        database.Database.prepare_for_fork = lambda self, *, deadline: None
        database.Database.after_fork_in_child = lambda self: setattr(self, "process", os.getpid())
        database.Database.stands = lambda self, address: True
        found = _acknowledged_in_a_child_whose_parent_closes(Store.open(tmp_path / "store"))
        os._exit(LOST if "tsecond" not in found else 0)

    assert [os.waitstatus_to_exitcode(code) for code in ended(forked(wrong))] == [LOST]


@pytest.mark.parametrize(("processes", "turns"), [(8, 2), pytest.param(8, 40, marks=pytest.mark.slow)])
def test_eight_processes_of_four_threads_lose_nothing_beside_a_collector(store, processes, turns):
    def thread(opened, number, failures):
        try:
            for turn in range(turns):
                push(opened.repository("app"), image(f"{number}.{turn}"), f"t{number}.{turn}")
                if turn % 2:
                    opened.repository("app").untag(f"t{number}.{turn}")
        except BaseException as error:
            failures.append(error)

    def process(number):
        failures = []
        with Store.open(store.root) as opened:
            threads = [threading.Thread(target=thread, args=(opened, f"{number}.{k}", failures)) for k in range(4)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        assert failures == []

    def collector():
        with Store.open(store.root) as opened:
            while True:
                opened.gc(grace=timedelta(seconds=5), keep_untagged=NOW, force=True)
                time.sleep(0.01)

    collecting = forked(collector)
    children = [forked(process, number) for number in range(processes)]
    codes = ended(*children)
    os.kill(collecting, signal.SIGKILL)
    ended(collecting)
    assert codes == [0] * processes
    names = [f"{p}.{k}.{turn}" for p in range(processes) for k in range(4) for turn in range(0, turns, 2)]
    assert all(pushed(store, *names))
    assert check(store, hashes=True, idle=False) == []


def _stop_inside_the_transaction():
    reap = gc.deletions.reap

    def stopped(connection, keys):
        os.kill(os.getpid(), signal.SIGSTOP)  # the files are renamed, the rows are not deleted, the lock is held
        return reap(connection, keys)

    gc.deletions.reap = stopped


@pytest.mark.parametrize("patience", [0.5, pytest.param(sqlite.BUSY_TIMEOUT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", [signal.SIGCONT, signal.SIGKILL])
def test_a_collector_stopped_in_its_transaction_loses_nothing(store, monkeypatch, patience, how):
    push(store.repository("app"), image("kept"), "tkept")
    push(store.repository("app"), image("dead"), "tdead")
    store.repository("app").delete_manifest(image("dead").digest)
    store.close()
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", patience)

    def collector():
        _stop_inside_the_transaction()
        with Store.open(store.root) as opened:
            opened.gc(grace=NOW, keep_untagged=NOW)

    collecting = forked(collector)
    assert os.WIFSTOPPED(os.waitpid(collecting, os.WUNTRACED)[1])
    try:
        with Store.open(store.root) as opened:
            with pytest.raises(StoreBusyError):
                push(opened.repository("app"), image("dead"), "tdead")
            assert pushed(opened, "kept") == [True]  # readers do not wait
            os.kill(collecting, how)
            assert ended(collecting) == [0 if how == signal.SIGCONT else signal.SIGKILL]
            push(opened.repository("app"), image("dead"), "tdead")
            assert pushed(opened, "kept", "dead") == [True, True]
            opened.gc(grace=NOW, keep_untagged=NOW)
            assert pushed(opened, "kept", "dead") == [True, True]
            sweep(opened)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(collecting, signal.SIGKILL)
    assert check(store.root, hashes=True) == []


def test_a_collector_stopped_after_its_transaction_is_seen_to_lose_what_is_pushed_meanwhile(store):
    push(store.repository("app"), image("dead"), "tdead")
    store.repository("app").delete_manifest(image("dead").digest)

    def collector():
        the_row_goes_before_the_file(pause=lambda: os.kill(os.getpid(), signal.SIGSTOP))
        with Store.open(store.root) as opened:
            opened.gc(grace=NOW, keep_untagged=NOW, force=True)

    collecting = forked(collector)
    assert os.WIFSTOPPED(os.waitpid(collecting, os.WUNTRACED)[1])
    push(store.repository("app"), image("dead"), "tdead")
    os.kill(collecting, signal.SIGCONT)
    assert ended(collecting) == [0]
    assert any("file" in words for words in check(store.root, hashes=True, idle=False))


BOTH = index([image("arm"), image("amd")])


def _collect_by_a_wrong_clock(store, monkeypatch, off):
    """Push, delete and collect where the clock goes right, and where it does not; what is wrong then."""
    push(store.repository("app"), image("kept"), "tkept")
    push(store.repository("app"), BOTH, "tboth")
    push(store.repository("app"), image("dead"), "tdead")
    store.repository("app").untag("tdead")
    right = time.time_ns

    def elsewhere(do):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time_ns", lambda: right() + off)
            do()

    def wrong_pushes_and_collections():
        push(store.repository("app"), image("wrong"), "twrong")
        store.gc()
        store.gc(grace=NOW, keep_untagged=NOW)

    elsewhere(wrong_pushes_and_collections)
    push(store.repository("app"), image("later"), "tlater")
    store.gc(grace=NOW, keep_untagged=NOW)
    elsewhere(lambda: store.gc(grace=NOW, keep_untagged=NOW))
    return check(store, hashes=True)


@pytest.mark.parametrize("off", [TEN_YEARS, -TEN_YEARS], ids=["ahead", "behind"])
def test_a_clock_ten_years_off_costs_nothing_that_is_referred_to(store, monkeypatch, off):
    assert _collect_by_a_wrong_clock(store, monkeypatch, off) == []
    assert pushed(store, "kept", "wrong", "later") == [True, True, True]
    assert store.repository("app").get_manifest("tboth").content == BOTH.manifest
    for each in (*map(image, ("kept", "wrong", "later")), *BOTH.children):
        for blob in each.blobs:
            with store.repository("app").open_blob(Digest.of(blob)) as reader:
                assert reader.read() == blob


def test_a_collector_that_believes_its_clock_alone_is_refused_by_the_database(tmp_path, empty_store, monkeypatch):
    shutil.copytree(empty_store, tmp_path / "store")
    monkeypatch.setattr(reachability, "alive", lambda *arguments, **more: False)
    monkeypatch.setattr(reachability, "removable", lambda connection, repository, manifest, **more: [manifest])
    with Store.open(tmp_path / "store") as store, pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        _collect_by_a_wrong_clock(store, monkeypatch, TEN_YEARS)


def _with_descriptors(count, root, work):
    """How it ends where only so many more files may be open."""
    import resource

    # The limit is on numbers: those that are free are counted, for the worker that was forked may have left gaps.
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, count, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        work(root)
    except OCIStoreError:
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(RAW)
    os._exit(0)


def test_a_pool_that_lets_raw_errors_through_is_seen(tmp_path):
    def work(root):
        Translating.__exit__ = lambda *arguments: None
        with Store.open(root) as opened:
            push(opened.repository("app"), image(layers=3), "v1")

    children = [forked(_with_descriptors, count, tmp_path / str(count), work) for count in range(2, 14)]
    assert RAW in {os.waitstatus_to_exitcode(code) for code in ended(*children)}


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_too_few_descriptors_are_one_clear_error_at_every_number(tmp_path, step):
    def work(root):
        with Store.open(root) as opened:
            push(opened.repository("app"), image(layers=3), "v1")

    ends = []
    for count in range(2, 40, step):
        root = tmp_path / str(count)
        ends += [os.waitstatus_to_exitcode(code) for code in ended(forked(_with_descriptors, count, root, work))]
        work(root)  # and afterwards it goes on
        with Store.open(root) as opened:
            sweep(opened)
        assert check(root, hashes=True) == []
    assert set(ends) == {0, 1}
    assert ends == sorted(ends, reverse=True)


def test_a_push_whose_epoch_cannot_be_noted_is_a_push(store, monkeypatch):
    def refused(lock, number):
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(epoch, "note", refused)
        push(store.repository("app"), image("first"), "tfirst")
    push(store.repository("app"), image("second"), "tsecond")
    assert pushed(store, "first", "second") == [True, True]
    store.gc()  # nobody takes it for an older catalog
