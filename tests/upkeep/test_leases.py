"""Leases: what is pushed or named while one is held stays."""

import contextlib
import sqlite3
import time
from datetime import timedelta

import pytest
from images import APP, image, index, push
from invariants import check
from processes import python
from state import pool, rows

from ocistore import (
    CollectionRefusedError,
    Digest,
    LeaseExpiredError,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    Store,
)
from ocistore.catalog.engine import Catalog
from ocistore.upkeep.explanation import explain

NOW = timedelta(0)
HOUR = timedelta(hours=1)


def collect(store, **options):
    return store.gc(grace=NOW, keep_untagged=NOW, **options)


def test_what_is_pushed_under_a_lease_is_kept_until_it_ends(store, repository):
    with store.lease(ttl=HOUR, reason="a build"):
        blob = repository.put_blob(b"first")
        push(repository, index([image("a")]))
        assert collect(store).blobs == 0
        assert check(store) == []
    assert repository.stat_blob(blob.digest) == blob
    assert collect(store).blobs == 5
    assert rows(store.root)["leases"] == []
    assert check(store) == []


def test_a_lease_keeps_what_is_pushed_by_another_thread_or_in_a_transaction(store, repository):
    with store.lease(ttl=HOUR):
        with store.transaction() as transaction:
            transaction.repository("other").put_blob(b"x")
            push(transaction.repository("other"), APP)
        store.repository("third").mount_blob(Digest.of(b"x"), "other")
        assert collect(store).blobs == 0
        assert [row[1] for row in rows(store.root)["repository_blobs"]] != []


def test_a_lease_that_another_thread_ends_during_a_push_does_the_push_no_harm(store, repository, monkeypatch):
    held = contextlib.ExitStack()
    held.enter_context(store.lease(ttl=HOUR))
    publish = store.pool.publish

    def ending(staged):
        held.close()
        publish(staged)

    monkeypatch.setattr(store.pool, "publish", ending)
    blob = repository.put_blob(b"pushed")
    assert repository.stat_blob(blob.digest) == blob
    assert check(store) == []


def test_asking_for_a_blob_under_a_lease_keeps_it(store, repository):
    repository.put_blob(b"there already")
    with store.lease(ttl=HOUR):
        repository.stat_blob(Digest.of(b"there already"))
        assert collect(store).blobs == 0


def test_what_is_named_is_kept_with_all_it_refers_to(store, repository):
    pushed = index([APP])
    push(repository, pushed)
    with store.lease(ttl=HOUR) as lease:
        lease.keep(repository.name, pushed.digest)
        assert collect(store).blobs == 0
        with pytest.raises(ManifestNotFoundError):
            lease.keep(repository.name, Digest.of(b"never"))
        with pytest.raises(RepositoryNotFoundError):
            lease.keep("nobody", pushed.digest)


def test_a_lease_of_a_process_that_died_keeps_until_it_runs_out(store, repository):
    code = """
import sys, time
from datetime import timedelta
from ocistore import Store
store = Store.open(sys.argv[1])
with store.lease(ttl=timedelta(hours=1)):
    store.repository("a").put_blob(b"first")
    print("pushed")
    time.sleep(60)
"""
    with python(code, store.root) as child:
        assert child.says() == "pushed"
        child.kill()
    assert collect(store).blobs == 0
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE leases SET expires = 1")
    report = collect(store)
    assert (report.leases, report.blobs) == (1, 1)


def test_what_a_lease_kept_that_ran_out_is_forecast_to_go(store, repository, monkeypatch):
    push(repository, image("tagged"), "v1")
    store.lease(ttl=timedelta(hours=1)).__enter__()  # of somebody who dies
    push(repository, APP)
    repository.put_blob(b"loose" * 50)
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE leases SET expires = 1")
    store.leases.clear()
    report = collect(store, dry_run=True)
    assert (report.leases, report.manifests, report.blobs) == (1, 1, 4)
    for digest in (APP.digest, Digest.of(b"loose" * 50)):
        [found] = explain(store, digest, grace=NOW, keep_untagged=NOW)
        assert found.kept_by == ()
    monkeypatch.setattr("ocistore.upkeep.guards._GUARDED_BLOBS", 1)
    with pytest.raises(CollectionRefusedError, match="more than half"):
        collect(store)
    found = collect(store, force=True)
    assert (found.leases, found.manifests, found.blobs) == (1, 1, 4)


def test_a_lease_that_ran_out_takes_no_more_pushes(store, repository):
    there = repository.put_blob(b"there already")
    with store.lease(ttl=timedelta(milliseconds=1)) as lease:
        time.sleep(0.01)
        before = pool(store.root)
        for refused in (
            lambda: repository.put_blob(b"too late"),
            lambda: repository.stat_blob(there.digest),
            lambda: lease.keep(repository.name, there.digest),
            lease.renew,
        ):
            with pytest.raises(LeaseExpiredError) as caught:
                refused()
            assert caught.value.lease == lease.id
        assert pool(store.root) == before
    repository.put_blob(b"afterwards")


def test_a_renewed_lease_runs_for_as_long_again(store, repository):
    with store.lease(ttl=HOUR) as lease:
        first = lease.expires
        lease.renew(2 * HOUR)
        assert lease.expires - first >= HOUR


def test_what_is_deleted_under_a_lease_is_deleted(store, repository):
    with store.lease(ttl=HOUR):
        blob = repository.put_blob(b"first")
        repository.delete_blob(blob.digest)
        pushed = push(repository, APP)
        repository.delete_manifest(pushed.digest)
        collect(store)
    collect(store)
    assert pool(store.root) == {}


def test_a_lease_must_last(store):
    with pytest.raises(ValueError, match="longer"):
        store.lease(ttl=NOW)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ttl": timedelta.max}, "longer than 36500 days"),
        ({"ttl": HOUR, "reason": "half \ud800"}, "UTF-8"),
        ({"ttl": HOUR, "reason": 5}, "text"),
    ],
)
def test_a_lease_that_no_row_can_hold_is_refused(store, options, words):
    with pytest.raises(ValueError, match=words):
        store.lease(**options)


def test_a_lease_is_not_renewed_for_ever(store):
    with store.lease(ttl=HOUR) as lease, pytest.raises(ValueError, match="longer"):
        lease.renew(timedelta.max)


def test_a_lease_is_begun_once(store, repository):
    with store.lease(ttl=HOUR) as lease:
        with pytest.raises(ValueError, match="begun before"), lease:
            pass
        repository.put_blob(b"kept")
        assert collect(store).blobs == 0
    with pytest.raises(ValueError, match="begun before"), lease:
        pass


@pytest.fixture
def many(store, repository, monkeypatch):
    """A lease that keeps more than ends in one transaction, and what it keeps."""
    monkeypatch.setattr("ocistore.catalog.leases.ENDED_AT_ONCE", 3)
    lease = store.lease(ttl=HOUR).__enter__()
    for number in range(10):
        repository.put_blob(bytes([number]))
    return lease


def test_a_lease_that_keeps_much_ends_in_small_transactions(store, repository, many, monkeypatch):
    left = []
    write = Catalog.write

    def counted(catalog):
        left.append(len(rows(store.root)["lease_blobs"]))
        return write(catalog)

    monkeypatch.setattr(Catalog, "write", counted)
    many.__exit__(None, None, None)
    assert left == [10, 10, 7, 4, 1]
    assert rows(store.root)["leases"] == []
    assert collect(store).blobs == 10


def test_a_lease_whose_process_dies_while_it_ends_is_ended_by_the_next_collection(store, repository, many, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(seconds):
        raise Killed

    monkeypatch.setattr("ocistore.lease.time.sleep", killed)
    with pytest.raises(Killed):
        many.__exit__(None, None, None)
    monkeypatch.undo()
    assert len(rows(store.root)["lease_blobs"]) == 7
    with pytest.raises(LeaseExpiredError):
        many.renew()
    report = collect(store)
    assert (report.leases, report.blobs) == (1, 10)
    assert rows(store.root)["lease_blobs"] == []
    assert check(store) == []


def test_a_lease_that_ran_out_is_ended_in_slices(store, repository, many):
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE leases SET expires = 1")
    assert not collect(store, maximum_batches=2).complete
    assert len(rows(store.root)["lease_blobs"]) == 4
    report = collect(store)
    assert (report.leases, report.blobs) == (1, 10)


def test_two_stores_have_leases_of_their_own(store, repository):
    with Store.open(store.root) as other, store.lease(ttl=HOUR):
        other.repository("b").put_blob(b"not mine")
        assert collect(store).blobs == 1
