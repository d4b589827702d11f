"""A push that fails after it published its bytes takes them out of the pool, or a collection does."""

import contextlib
import fcntl
import os
import time
from datetime import timedelta

import pytest
from images import image, push
from invariants import check
from state import catalog, pool, strays

from ocistore import Digest, Store, StoreBusyError, StoreClosedError, UncertainCommitError
from ocistore.blobs.filepool import FilePool
from ocistore.catalog import sqlite, transactions
from ocistore.upkeep import abandoned

NEW = image("new", layers=2)
LARGE = [image(f"large {number}", layers=4) for number in range(12)]


def _put_blob(store, tmp_path):
    store.repository("app").put_blob(b"content")


def _put_manifest(store, tmp_path):
    store.repository("app").put_manifest(image("old").manifest + b" ", tags=["one"])


def _transaction(store, tmp_path):
    with store.transaction() as transaction:
        push(transaction.repository("app"), NEW, "new")


def _large(store, tmp_path):
    with store.transaction() as transaction:
        for each in LARGE:
            push(transaction.repository("large"), each, str(each.digest)[7:20])


def _upload(store, tmp_path):
    with contextlib.suppress(StoreClosedError), store.repository("app").start_upload() as session:  # its own close
        session.write(b"in chunks")
        session.commit(Digest.of(b"in chunks"))


def _import(store, tmp_path):
    store.import_(tmp_path / "layout", "imported")


def _copy(store, tmp_path):
    with Store.open(tmp_path / "source") as source:
        source.copy_to(store, ["app:new"])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("ocistore.largechanges.LARGE", 120)
    monkeypatch.setattr("ocistore.largechanges.AT_ONCE", 40)


KINDS = [_put_blob, _put_manifest, _transaction, _large, _upload, _import, _copy]


@pytest.fixture
def root(tmp_path):
    with Store.open(tmp_path / "source") as source:
        push(source.repository("app"), NEW, "new")
        source.export(tmp_path / "layout", ["app:new"])
    with Store.open(tmp_path / "store") as store:
        push(store.repository("app"), image("old"), "old")
    return tmp_path / "store"


def rowless(root):
    """What is in the pool, and no row stands for it."""
    with catalog(root) as connection:
        known = {digest for (digest,) in connection.execute("SELECT digest FROM blobs WHERE state = 'live'")}
    return sorted(set(pool(root)) - known)


class Stopped(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__[1:])
def test_a_store_that_is_closed_between_publishing_and_the_commit_keeps_nothing(root, tmp_path, kind, monkeypatch):
    publish = FilePool.publish
    store = Store.open(root)

    def published(self, staged):
        publish(self, staged)
        store.close()

    monkeypatch.setattr(FilePool, "publish", published)
    with contextlib.nullcontext() if kind is _upload else pytest.raises(StoreClosedError):
        kind(store, tmp_path)
    monkeypatch.undo()
    assert rowless(root) == []


def test_closing_leaves_no_directory_open_for_who_cleans_up_afterwards(root, tmp_path, monkeypatch):
    publish = FilePool.publish
    store = Store.open(root)

    def published(self, staged):
        publish(self, staged)
        store.close()

    monkeypatch.setattr(FilePool, "publish", published)
    with pytest.raises(StoreClosedError):
        _put_blob(store, tmp_path)
    assert [path for path in _open_paths() if path.startswith(str(root))] == []


def _open_paths():
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{number}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__[1:])
def test_a_push_that_is_interrupted_between_publishing_and_the_commit_keeps_nothing(root, tmp_path, kind, monkeypatch):
    publish = FilePool.publish

    def published(self, staged):
        publish(self, staged)
        raise Stopped

    with Store.open(root) as store:
        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(FilePool, "publish", published)
            kind(store, tmp_path)
        assert rowless(root) == []
        assert strays(root) == []


@pytest.fixture
def held(root, monkeypatch):
    """Another writer who is stuck in the lock, from the instant at which a push has published what it brings."""
    publish = FilePool.publish
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.2)
    descriptor = os.open(root / "write.lock", os.O_RDWR)

    def published(self, staged):
        publish(self, staged)
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    monkeypatch.setattr(FilePool, "publish", published)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__[1:])
def test_what_cannot_be_withdrawn_beside_a_stuck_writer_is_found_by_a_collection(
    root, tmp_path, kind, held, monkeypatch
):
    began = time.monotonic()
    store = Store.open(root)
    with pytest.raises(StoreBusyError):
        kind(store, tmp_path)
    monkeypatch.undo()
    assert time.monotonic() - began < 10  # it does not wait once more
    fcntl.flock(held, fcntl.LOCK_UN)
    assert rowless(root) != []
    _is_found_by_a_collection(store, root, monkeypatch)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__[1:])
def test_what_an_uncertain_commit_published_is_found_by_a_collection(root, tmp_path, kind, monkeypatch):
    def uncertain(self, connection):
        if connection.driver.total_changes != self._changes and rowless(root):
            raise UncertainCommitError(root)
        commit(self, connection)

    commit = transactions.Write._commit
    monkeypatch.setattr(transactions.Write, "_commit", uncertain)
    store = Store.open(root)
    with pytest.raises(UncertainCommitError):
        kind(store, tmp_path)
    monkeypatch.undo()
    assert rowless(root) != []
    _is_found_by_a_collection(store, root, monkeypatch)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__[1:])
def test_what_is_left_after_an_uncertain_commit_that_happened_is_kept(root, tmp_path, kind, monkeypatch):
    def uncertain(self, connection):
        lacking = rowless(root)
        commit(self, connection)
        if lacking and not rowless(root):
            raise UncertainCommitError(root)

    commit = transactions.Write._commit
    monkeypatch.setattr(transactions.Write, "_commit", uncertain)
    with Store.open(root) as store, contextlib.suppress(UncertainCommitError):
        kind(store, tmp_path)
    monkeypatch.undo()
    before = pool(root)
    with Store.open(root) as store:
        monkeypatch.setattr(abandoned, "_STRAY_AGE", timedelta(seconds=-60))
        store.gc()
        assert strays(root) == []
        assert pool(root) == before
        assert check(store, hashes=True) == []


def _is_found_by_a_collection(store, root, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(abandoned, "_STRAY_AGE", timedelta(seconds=-60))
        store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
    assert rowless(root) == []
    assert strays(root) == []
    store.close()
    with Store.open(root) as again:
        again.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
        assert check(again, hashes=True) == []
        assert again.repository("app").get_manifest("old").content == image("old").manifest
