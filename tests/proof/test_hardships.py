"""Forks, crowds of threads, a collector that is stopped in its transaction, and clocks that are ten years wrong."""

import contextlib
import errno
import os
import signal
import threading
import time
import traceback
from datetime import timedelta

import pytest
from images import image, push
from invariants import check

from ocistore import Digest, OCIStoreError, Store, StoreBusyError
from ocistore.catalog import engine, epoch
from ocistore.upkeep import collection

NOW = timedelta(0)
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
    reap = collection.removal.reap

    def stopped(connection, keys):
        os.kill(os.getpid(), signal.SIGSTOP)  # the files are renamed, the rows are not deleted, the lock is held
        return reap(connection, keys)

    collection.removal.reap = stopped


@pytest.mark.parametrize("patience", [0.5, pytest.param(engine.BUSY_TIMEOUT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", [signal.SIGCONT, signal.SIGKILL])
def test_a_collector_stopped_in_its_transaction_loses_nothing(store, monkeypatch, patience, how):
    push(store.repository("app"), image("kept"), "tkept")
    push(store.repository("app"), image("dead"), "tdead")
    store.repository("app").delete_manifest(image("dead").digest)
    store.close()
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", patience)

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
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(collecting, signal.SIGKILL)
    assert check(store.root, hashes=True) == []


@pytest.mark.parametrize("off", [TEN_YEARS, -TEN_YEARS], ids=["ahead", "behind"])
def test_a_clock_ten_years_off_costs_nothing_that_is_referred_to(store, monkeypatch, off):
    push(store.repository("app"), image("kept"), "tkept")
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
    assert pushed(store, "kept", "wrong") == [True, True]
    push(store.repository("app"), image("later"), "tlater")
    store.gc(grace=NOW, keep_untagged=NOW)
    elsewhere(lambda: store.gc(grace=NOW, keep_untagged=NOW))
    assert pushed(store, "kept", "wrong", "later") == [True, True, True]
    for name in ("kept", "wrong", "later"):
        for blob in image(name).blobs:
            with store.repository("app").open_blob(Digest.of(blob)) as reader:
                assert reader.read() == blob
    assert check(store, hashes=True) == []


def _with_descriptors(count, root, work):
    """How it ends where only so many more files may be open."""
    import resource

    there = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + count, there + count))
    try:
        work(root)
    except OCIStoreError:
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)
    os._exit(0)


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
