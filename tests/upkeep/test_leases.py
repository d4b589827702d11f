"""Leases: what is pushed or named while one is held stays."""

import asyncio
import contextlib
import contextvars
import gc
import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

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
    StoreFullError,
)
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.upkeep.gc import _Run

pytestmark = pytest.mark.every_pool

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


def test_a_lease_keeps_what_is_pushed_in_a_transaction_or_mounted(store, repository):
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
    publish = store._core.pool.publish

    def ending(staged):
        held.close()
        publish(staged)

    monkeypatch.setattr(store._core.pool, "publish", ending)
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


@pytest.mark.needs_files
def test_a_lease_of_a_process_that_died_keeps_until_it_runs_out(store, repository):
    code = """
import sys, time
from datetime import UTC, datetime, timedelta
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

    def somebody_who_dies():
        store.lease(ttl=timedelta(hours=1)).__enter__()
        push(repository, APP)
        repository.put_blob(b"loose" * 50)

    contextvars.copy_context().run(somebody_who_dies)
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE leases SET expires = 1")
    report = collect(store, dry_run=True)
    assert (report.leases, report.manifests, report.blobs) == (1, 1, 4)
    for digest in (APP.digest, Digest.of(b"loose" * 50)):
        [found] = store.explain(digest, grace=NOW, keep_untagged=NOW).repositories
        assert found.kept_by == ()
    monkeypatch.setattr("ocistore.upkeep.preflight._GUARDED_BLOBS", 1)
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
    write = SQLiteCatalog.write

    def counted(catalog, **options):
        left.append(len(rows(store.root)["lease_blobs"]))
        return write(catalog, **options)

    monkeypatch.setattr(SQLiteCatalog, "write", counted)
    many.__exit__(None, None, None)
    assert left == [10, 10, 7, 4, 1]
    assert rows(store.root)["leases"] == []
    assert collect(store).blobs == 10


def test_a_lease_whose_process_dies_while_it_ends_is_ended_by_the_next_collection(store, repository, many, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(seconds):
        raise Killed

    monkeypatch.setattr("ocistore.catalog.lock.time.sleep", killed)
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


# --- whose work it is -------------------------------------------------------------------------------------------------


def kept(store):
    """The digests that the leases of a store keep."""
    found = rows(store.root)
    digests = {row[0]: row[1] for row in found["blobs"]}
    return {digests[row[2]] for row in found["lease_blobs"]}


def in_a_thread(work, *arguments):
    """What ``work`` raises in a thread of its own, or None."""
    raised = []

    def run():
        try:
            work(*arguments)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def run_out(store):
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE leases SET expires = 1")


def test_what_others_push_meanwhile_is_not_kept(store, repository):
    with store.lease(ttl=HOUR):
        assert in_a_thread(repository.put_blob, b"theirs") is None
        repository.put_blob(b"mine")
        assert kept(store) == {Digest.of(b"mine")}
        assert collect(store).blobs == 1


def test_a_lease_that_ran_out_refuses_nobody_else(store, repository):
    there = repository.put_blob(b"there already")
    with store.lease(ttl=HOUR):
        run_out(store)
        assert in_a_thread(repository.put_blob, b"theirs") is None
        assert in_a_thread(repository.stat_blob, there.digest) is None
        with pytest.raises(LeaseExpiredError):
            repository.put_blob(b"mine")


def test_a_thread_takes_part_by_saying_so(store, repository):
    def work():
        with lease.use():
            repository.put_blob(b"inside")
            with lease.use():  # as a function that does not know
                pass
            repository.put_blob(b"still inside")
        repository.put_blob(b"outside")

    with store.lease(ttl=HOUR) as lease:
        assert in_a_thread(work) is None
        assert kept(store) == {Digest.of(b"inside"), Digest.of(b"still inside")}
        run_out(store)
        assert isinstance(in_a_thread(work), LeaseExpiredError)


def test_a_lease_is_used_while_it_lasts(store):
    lease = store.lease(ttl=HOUR)
    with pytest.raises(ValueError, match="not begun"), lease.use():
        pass
    with lease:
        pass
    with pytest.raises(ValueError, match="ended"), lease.use():
        pass


def test_a_thread_that_outlives_the_block_is_neither_kept_nor_refused(store, repository):
    ended, done = threading.Event(), []

    def work():
        with lease.use():
            using.set()
            ended.wait(60)
            repository.put_blob(b"afterwards")
            done.append(True)

    using = threading.Event()
    thread = threading.Thread(target=work)
    with store.lease(ttl=HOUR) as lease:
        thread.start()
        using.wait(60)
    ended.set()
    thread.join()
    assert done == [True]
    assert kept(store) == set()


def test_a_copied_context_is_work_under_the_lease(store, repository):
    with store.lease(ttl=HOUR):
        assert in_a_thread(contextvars.copy_context().run, repository.put_blob, b"in a copy") is None
        assert kept(store) == {Digest.of(b"in a copy")}


def test_threads_of_a_pool_take_part_by_saying_so_or_in_a_copied_context(store, repository):
    def push(content):
        with lease.use():
            repository.put_blob(content)

    with ThreadPoolExecutor(4) as executor, store.lease(ttl=HOUR) as lease:
        inside = [b"in use %d" % number for number in range(20)]
        list(executor.map(push, inside))
        copies = [b"in a copy %d" % number for number in range(20)]
        for done in [
            executor.submit(contextvars.copy_context().run, repository.put_blob, content) for content in copies
        ]:
            done.result()
        list(executor.map(repository.put_blob, [b"outside"]))
        assert kept(store) == set(map(Digest.of, [*inside, *copies]))


def test_what_runs_in_an_executor_of_a_loop_takes_part_by_saying_so(store, repository):
    def push(content):
        with lease.use():
            repository.put_blob(content)

    async def everything():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, push, b"in use")
        await loop.run_in_executor(None, repository.put_blob, b"outside")
        await asyncio.to_thread(repository.put_blob, b"in a thread")

    with store.lease(ttl=HOUR) as lease:
        asyncio.run(everything())
        assert kept(store) == {Digest.of(b"in use"), Digest.of(b"in a thread")}


def test_tasks_have_the_leases_of_whoever_made_them(store, repository):
    async def pushing(content):
        await asyncio.sleep(0)
        await asyncio.to_thread(repository.put_blob, content)

    async def building(name):
        with store.lease(ttl=HOUR, reason=name):
            await asyncio.gather(*(pushing(b"%s %d" % (name.encode(), number)) for number in range(3)))
            both.append(True)
            while len(both) < 2:  # both leases are held at once
                await asyncio.sleep(0.001)
            await pushing(b"%s last" % name.encode())
            return {row[2] for row in rows(store.root)["lease_blobs"] if names[row[0]] == name}

    async def everything():
        outside = asyncio.create_task(pushing(b"nobody's"))
        first = asyncio.create_task(building("first"))
        second = asyncio.create_task(building("second"))
        await outside
        return await asyncio.gather(first, second)

    both = []
    names = Reasons(store)
    first, second = asyncio.run(everything())
    assert len(first) == len(second) == 4
    assert first.isdisjoint(second)
    assert Digest.of(b"nobody's") not in kept(store)


class Reasons(dict):
    """The reason of each lease of a store, by its id."""

    def __init__(self, store):
        super().__init__()
        self._store = store

    def __missing__(self, id_):
        self.update((row[0], row[1]) for row in rows(self._store.root)["leases"])
        return self[id_]


def test_leases_in_one_another_each_keep(store, repository):
    with store.lease(ttl=HOUR) as outer:
        with store.lease(ttl=HOUR) as inner:
            repository.put_blob(b"both")
            found = {row[0] for row in rows(store.root)["lease_blobs"]}
            assert found == {outer.id, inner.id}
        repository.put_blob(b"outer")
        assert kept(store) == {Digest.of(b"both"), Digest.of(b"outer")}
        assert collect(store).blobs == 0


def test_a_lease_concerns_its_own_store(store, repository, tmp_path):
    with Store.open(tmp_path / "other") as other, store.lease(ttl=HOUR):
        run_out(store)
        other.repository("b").put_blob(b"there")
        assert rows(other.root)["lease_blobs"] == []
        with other.lease(ttl=HOUR):
            other.repository("b").put_blob(b"kept there")
            assert kept(other) == {Digest.of(b"kept there")}


def test_a_lease_that_is_left_in_another_context_ends(store, repository):
    def building():
        with store.lease(ttl=HOUR):
            yield repository.put_blob(b"kept")

    generator = building()
    contextvars.copy_context().run(next, generator)
    assert kept(store) == {Digest.of(b"kept")}
    repository.put_blob(b"outside")
    assert kept(store) == {Digest.of(b"kept")}
    contextvars.copy_context().run(generator.close)
    assert rows(store.root)["leases"] == []
    generator = building()
    next(generator)
    in_a_thread(generator.close)
    run_out(store)
    repository.put_blob(b"and this context is told")
    with store.lease(ttl=HOUR):
        repository.put_blob(b"a later one")
        assert kept(store) == {Digest.of(b"a later one")}


def test_a_forked_child_works_under_it_and_does_not_end_it(store, repository):
    reading, writing = os.pipe()
    with store.lease(ttl=HOUR):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                repository.put_blob(b"of the child")
                os.read(reading, 1)  # the parent has left the block
                repository.put_blob(b"afterwards")
                status = 0
            finally:
                os._exit(status)
        end = time.monotonic() + 60
        while not kept(store) and time.monotonic() < end:
            time.sleep(0.01)
        assert kept(store) == {Digest.of(b"of the child")}
    os.write(writing, b".")
    assert os.waitpid(child, 0)[1] == 0
    os.close(reading)
    os.close(writing)


def test_a_child_that_leaves_the_block_leaves_the_lease_to_its_parent(store, repository):
    with store.lease(ttl=HOUR):
        child = os.fork()
    if child == 0:
        try:
            repository.put_blob(b"outside")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert kept(store) == set()
    assert rows(store.root)["leases"] == []


def test_a_store_is_not_kept_alive_by_leases_that_ended(tmp_path):
    store = Store.open(tmp_path / "store")
    closed = store._core._dropped
    with store.lease(ttl=HOUR):
        store.repository("a").put_blob(b"kept")
    del store
    gc.collect()
    assert not closed.alive


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def writes(monkeypatch):
    """The write transactions that were begun."""
    found = []
    write = SQLiteCatalog.write

    def counted(catalog, **options):
        found.append(catalog)
        return write(catalog, **options)

    monkeypatch.setattr(SQLiteCatalog, "write", counted)
    return found


def test_asking_under_a_lease_writes_once_for_what_it_does_not_keep(store, repository, writes):
    there = repository.put_blob(b"there already")
    with store.lease(ttl=HOUR):
        mine = repository.put_blob(b"mine")
        writes.clear()
        for _ in range(3):
            repository.stat_blob(mine.digest)
        assert writes == []
        for _ in range(3):
            repository.stat_blob(there.digest)
        assert len(writes) == 1
        # What is deleted and pushed again is not what was kept.
        repository.delete_blob(there.digest)
        in_a_thread(repository.put_blob, b"there already")
        repository.stat_blob(there.digest)
        assert there.digest in kept(store)


# --- when it runs out -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def a_stuck_writer(store, seconds):
    """Somebody who holds the write lock for so long from now on."""
    taken = threading.Event()

    def hold():
        with Store.open(store.root) as other, other._core.catalog.locked():
            taken.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    yield
    thread.join()


def test_a_lease_lasts_from_when_it_has_begun_however_long_that_took(store, repository):
    ttl = timedelta(minutes=1)  # much more than a busy machine takes for the lines below
    with a_stuck_writer(store, 0.4):
        before = datetime.now(UTC)
        lease = store.lease(ttl=ttl)
        with lease:
            assert lease.expires - before > ttl + timedelta(seconds=0.2)
            repository.put_blob(b"kept")
            with a_stuck_writer(store, 0.2):
                before = datetime.now(UTC)
                lease.renew(ttl)
                assert lease.expires - before > ttl + timedelta(seconds=0.1)


def test_a_lease_that_runs_out_while_it_waits_is_not_renewed(store):
    with store.lease(ttl=timedelta(seconds=0.1)) as lease, a_stuck_writer(store, 0.3), pytest.raises(LeaseExpiredError):
        lease.renew(HOUR)


def test_a_failed_renewal_does_not_move_when_it_runs_out(store, monkeypatch):
    with store.lease(ttl=HOUR) as lease:
        expires = lease.expires
        with monkeypatch.context() as patched, pytest.raises(StoreFullError):
            patched.setattr("ocistore.lease.leases.renew", full)
            lease.renew(2 * HOUR)
        assert lease.expires == expires
        run_out(store)
        with pytest.raises(LeaseExpiredError):
            lease.renew(2 * HOUR)
        assert lease.expires == expires


def full(*_, **__):
    raise StoreFullError("catalog.db")


def test_a_lease_that_could_not_begin_may_begin_later(store, repository, monkeypatch):
    lease = store.lease(ttl=HOUR)
    with monkeypatch.context() as patched, pytest.raises(StoreFullError):
        patched.setattr("ocistore.lease.leases.start", full)
        lease.__enter__()
    repository.put_blob(b"outside")
    assert kept(store) == set()
    with lease:
        repository.put_blob(b"inside")
        assert kept(store) == {Digest.of(b"inside")}


def test_no_clock_that_is_put_back_revives_a_lease_of_which_some_is_gone(store, repository, many):
    expires = many.expires
    run_out(store)
    assert not collect(store, maximum_batches=1).complete
    assert rows(store.root)["leases"][0][3] == 0
    with pytest.raises(LeaseExpiredError):
        many.renew()
    assert many.expires == expires


# --- what no longer belongs to a repository ---------------------------------------------------------------------------


def _its_membership_is_collected(store, repository, lease):
    run_out(store)
    lease_blobs_only(store)


def lease_blobs_only(store):
    """Collect, but end no lease: as where one ends just after that."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Run, "_end_leases", lambda run: None)
        collect(store)


def _half_of_it_has_ended(store, repository, lease):
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE leases SET expires = 0")
    lease_blobs_only(store)


def _its_repository_is_deleted(store, repository, lease):
    store.delete_repository(repository.name)
    collect(store)


def _it_is_deleted(store, repository, lease):
    for digest in (APP.digest, Digest.of(b"both")):
        with contextlib.suppress(ManifestNotFoundError):
            repository.delete_manifest(str(digest))
    for blob in (b"loose", b"both", *APP.blobs):
        repository.delete_blob(str(Digest.of(blob)))
    collect(store)


@pytest.mark.parametrize(
    "gone",
    [_its_membership_is_collected, _half_of_it_has_ended, _its_repository_is_deleted, _it_is_deleted],
)
def test_a_lease_never_names_what_no_repository_serves(store, repository, gone):
    with store.lease(ttl=HOUR) as lease:
        repository.put_blob(b"loose")
        repository.put_blob(b"both")
        push(repository, APP)
        lease.keep(repository.name, APP.digest)
        gone(store, repository, lease)
        assert check(store) == []
        assert kept(store) == set()
        assert pool(store.root) == {}
    assert check(store) == []


def test_a_blob_that_is_a_manifest_too_stays_kept_when_that_is_deleted(store, repository):
    for blob in APP.blobs:
        repository.put_blob(blob)
    with store.lease(ttl=HOUR):
        repository.put_blob(APP.manifest)
        repository.put_manifest(APP.manifest)
        repository.delete_manifest(APP.digest)
        assert kept(store) == {str(APP.digest)}
        collect(store)
        assert repository.stat_blob(APP.digest).size == len(APP.manifest)
        repository.delete_blob(APP.digest)
        assert kept(store) == set()
