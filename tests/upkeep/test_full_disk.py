"""A full disk: what is reserved lets a store be opened, read and emptied; a push says clearly that it does not fit."""

import contextlib
import shutil
import sqlite3
from datetime import timedelta

import pytest
from images import APP, image, index, push
from invariants import check
from state import files, pool, rows

from ocistore import Digest, Store, StoreFullError
from ocistore.blobs import reserve

NOW = timedelta(0)


@pytest.fixture
def root(small_disk, empty_store):
    """A closed store on a small disk, with something in it."""
    root = small_disk.root / "store"
    shutil.copytree(empty_store, root)
    with Store.open(root) as store:
        push(store.repository("a"), index([APP]), "v1")
        push(store.repository("a"), image("other"), "v2")
        store.repository("a").start_upload().close()
    return root


def delete_manifest(store):
    store.repository("a").delete_manifest(image("other").digest)


def untag(store):
    store.repository("a").untag("v1")


def delete_repository(store):
    store.delete_repository("a")


def cancel(store):
    repository = store.repository("a")
    [session] = repository.uploads()
    repository.upload(session.id).cancel()


def collect(store):
    store.gc(grace=NOW, keep_untagged=NOW)


def test_a_store_has_a_file_that_can_be_given_up(tmp_path):
    with Store.open(tmp_path / "store") as store:
        assert (store.root / "reserved").stat().st_blocks * 512 >= reserve.SIZE
        store._core.pool.reserve.give_up()
    Store.open(tmp_path / "store").close()
    assert (tmp_path / "store" / "reserved").stat().st_size == reserve.SIZE


def test_on_a_small_disk_the_reserve_is_small(root, small_disk):
    assert 0 < (root / "reserved").stat().st_size <= 8 * 1024**2 // 64


def test_a_reserve_that_is_something_else_is_left_alone(tmp_path, empty_store):
    root = shutil.copytree(empty_store, tmp_path / "store")
    (root / "reserved").symlink_to(tmp_path / "elsewhere")
    Store.open(root).close()
    assert not (tmp_path / "elsewhere").exists()


def test_a_store_on_a_full_disk_opens_and_reads(root, small_disk):
    with small_disk.full(), Store.open(root) as store:
        repository = store.repository("a")
        assert repository.get_manifest("v2").content == image("other").manifest
        with repository.open_blob(repository.get_manifest("v2").layers[0].digest) as blob:
            assert blob.read() == image("other").layers[0]
        assert list(repository.tags()) == ["v1", "v2"]


def test_a_store_on_a_full_disk_is_read_by_a_process_that_only_reads(root, small_disk):
    with small_disk.full():
        for _ in range(3):
            with Store.open(root, read_only=True) as store:
                assert list(store.repository("a").tags()) == ["v1", "v2"]
        Store.open(root).close()


def test_without_a_reserve_a_store_on_a_full_disk_says_that_it_is_full(root, small_disk):
    (root / "reserved").unlink()
    with small_disk.full():
        for read_only in (False, True):
            with pytest.raises(StoreFullError):
                Store.open(root, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_opening_takes_no_more_of_the_reserve_than_it_needs(root, small_disk, read_only):
    before = (root / "reserved").stat().st_size
    with small_disk.full(), Store.open(root, read_only=read_only):
        assert (root / "reserved").stat().st_size >= before - 64 * 1024 > 0
        with small_disk.full("again"):
            pass
    with small_disk.full(), Store.open(root, read_only=read_only) as store:
        assert list(store.repository("a").tags()) == ["v1", "v2"]


def test_a_reserve_on_a_disk_that_is_nearly_full_is_enough_for_opening(root, small_disk):
    (root / "reserved").unlink()
    with small_disk.full(leaving=512 * 1024):
        Store.open(root).close()
        with small_disk.full("again"):
            Store.open(root).close()


@pytest.mark.parametrize("remove", [delete_manifest, untag, delete_repository, cancel, collect])
@pytest.mark.parametrize("opened", ["before", "afterwards"])
def test_on_a_full_disk_things_can_be_removed(root, small_disk, remove, opened):
    with contextlib.ExitStack() as stack:
        if opened == "before":
            store = stack.enter_context(Store.open(root))
        stack.enter_context(small_disk.full())
        if opened == "afterwards":
            store = stack.enter_context(Store.open(root))
        remove(store)
    assert check(root, hashes=True) == []


def test_deleting_and_collecting_makes_room_again(root, small_disk):
    with Store.open(root) as store:
        big = store.repository("a").put_blob(bytes(1024**2))
        with small_disk.full():
            with pytest.raises(StoreFullError):
                store.repository("a").put_blob(b"x" * 100_000)
            store.repository("a").delete_blob(big.digest)
            assert store.gc(grace=NOW).bytes >= 1024**2
            store.repository("a").put_blob(b"x" * 100_000)
    assert check(root, hashes=True) == []


def test_after_something_was_removed_a_disk_may_fill_up_again(root, small_disk):
    (root / "reserved").write_bytes(bytes(512 * 1024))
    with small_disk.full():
        with Store.open(root) as store:
            delete_manifest(store)
        assert (root / "reserved").stat().st_size > 256 * 1024
        with small_disk.full("again"), Store.open(root) as store:
            collect(store)
    assert check(root, hashes=True) == []


def test_a_collection_without_room_for_a_snapshot_has_collected(root, small_disk):
    with Store.open(root) as store:
        with store.transaction() as transaction:
            for number in range(2000):
                transaction.repository("a").tag(f"{number:0100}", image("other").digest)
        store.repository("a").put_blob(b"x")
        with small_disk.full():
            assert store.gc(grace=NOW).blobs == 1
        assert not (root / "catalog.snapshot").exists()
        store.repository("a").put_blob(b"x")
        store.gc(grace=NOW)
        assert (root / "catalog.snapshot").exists()
    assert check(root) == []


def test_a_push_that_runs_out_of_space_leaves_nothing(root, small_disk):
    with Store.open(root) as store, small_disk.full():
        before = rows(root), pool(root), set(files(root))
        for _ in range(2):
            with pytest.raises(StoreFullError), store.transaction() as transaction:
                push(transaction.repository("b"), image("large", layers=5), "v1")
        assert (rows(root), pool(root), set(files(root))) == before
        assert (root / "reserved").exists()  # it is for removing


def test_what_opening_takes_of_the_reserve_comes_back_when_the_store_is_closed(root, small_disk):
    before = (root / "reserved").stat().st_size
    with small_disk.full():
        for read_only in (False, True, False):
            with Store.open(root, read_only=read_only):
                assert (root / "reserved").stat().st_size < before
            if not read_only:  # which leaves the files that opening makes where they are
                assert (root / "reserved").stat().st_size == before


def test_a_reserve_grows_back_when_there_is_room(root, small_disk):
    before = (root / "reserved").stat().st_size
    for size in (0, 1, 64 * 1024):
        with open(root / "reserved", "wb") as file:  # as where it was killed while it was made, or copied without holes
            file.write(bytes(size))
        Store.open(root).close()
        assert (root / "reserved").stat().st_size >= before


def test_a_reserve_of_holes_is_filled(tmp_path, empty_store):
    root = shutil.copytree(empty_store, tmp_path / "store")
    with open(root / "reserved", "wb") as file:
        file.truncate(reserve.SIZE)
    Store.open(root).close()
    assert (root / "reserved").stat().st_blocks * 512 >= reserve.SIZE


def test_the_wal_does_not_keep_its_greatest_size(store):
    with store.transaction() as transaction:
        for number in range(300):
            transaction.repository("app").put_blob(b"%d" % number)
    with store._core.catalog.write() as connection:
        connection.driver.execute("CREATE TABLE large (content)")
        connection.driver.execute(
            "INSERT INTO large WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 24)"
            " SELECT randomblob(1000000) FROM n"
        )
    wal = store.root / "catalog.db-wal"
    assert wal.stat().st_size > 20 * 1024**2
    with store._core.catalog.write() as connection:
        connection.driver.execute("DROP TABLE large")
    for number in range(3):
        store.repository("app").put_blob(b"x%d" % number)
    assert wal.stat().st_size <= 8 * 1024**2


LARGE = Digest.of(b"x" * 1024**2)


# --- much to remove ---------------------------------------------------------------------------------------------------


def reserve_all(root, size=reserve.SIZE):
    """As on a large disk, of which everything else is full."""
    with open(root / "reserved", "wb") as file:
        file.write(b"%20d" % size + bytes(size - 20))


def tag_often(root, number):
    """Give a closed store a repository with one large image, and so many tags with long names."""
    with Store.open(root) as store:
        push(store.repository("large"), image("large"), "v1")
        assert store.repository("large").put_blob(b"x" * 1024**2).digest == LARGE
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection, connection:
        series = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        connection.execute(
            f"INSERT INTO tags (repository_id, name, manifest_id, updated) {series} SELECT t.repository_id,"
            " printf('t%0100d', i), t.manifest_id, t.updated FROM n, tags t JOIN repositories r ON"
            " r.id = t.repository_id WHERE r.name = 'large' AND t.name = 'v1'",
            (number,),
        )
        connection.execute(
            f"INSERT INTO tag_events (repository, tag, old_digest, new_digest, at, actor) {series}"
            " SELECT 'large', printf('t%0100d', i), NULL, ?, 1, 'x' FROM n",
            (number, image("large").digest),
        )


@pytest.mark.parametrize("small_disk", [40], indirect=True)
def test_on_a_full_disk_a_large_repository_is_deleted_and_room_to_remove_more_stays(root, small_disk):
    tag_often(root, 20_000)
    reserve_all(root)
    with small_disk.full(), Store.open(root) as store:
        store.delete_repository("large")
        assert list(store.repositories()) == ["a"]
    with small_disk.full("again"):
        assert (root / "reserved").stat().st_size > reserve.SIZE // 4
        with Store.open(root) as store:
            with small_disk.full("once more"), contextlib.suppress(StoreFullError):
                collect(store)
            assert not (root / "blobs" / "sha256" / LARGE.encoded).exists()
    with Store.open(root) as store:
        collect(store)
        assert rows(root)["deleted_repositories"] == []
    assert check(root, hashes=True) == []


def test_on_a_full_disk_a_collection_goes_further_than_the_reserve_is_large(root, small_disk):
    with Store.open(root) as store, store.transaction() as transaction:
        for number in range(1500):
            transaction.repository("a").put_blob(b"%d" % number)
    reserve_all(root, 512 * 1024)
    with small_disk.full(), Store.open(root) as store:
        assert store.gc(grace=NOW, force=True).blobs == 1500
    assert check(root, hashes=True) == []
