"""Copies of a catalog that are restored: an older one is noticed, whenever it was made, and no other is."""

import os
import shutil
import subprocess
from contextlib import nullcontext
from datetime import timedelta

import pytest
from images import image, push
from processes import run_python
from state import pool, strays

from ocistore import CollectionRefusedError, CorruptError, Digest, Store
from ocistore.catalog import epoch

NOW = timedelta(0)


def upload(store):
    session = store.repository("app").start_upload()
    session.write(b"sent in pieces")
    session.commit(Digest.of(b"sent in pieces"))


def mount(store):
    store.repository("other").mount_blob(Digest.of(b"one"), "app")


STEPS = [
    lambda store: store.repository("app").put_blob(b"one"),
    lambda store: store.repository("app").put_blob(b"two"),
    lambda store: push(store.repository("app"), image("first"), "v1"),
    mount,
    upload,
    lambda store: store.repository("app").tag("v2", image("first").digest),
    lambda store: push(store.repository("app"), image("second"), "v1"),
    lambda store: store.repository("app").untag("v2"),
    lambda store: store.gc(grace=NOW),
    lambda store: push(store.repository("last"), image("third"), "v1"),
]
"""All in one process, through one open store."""


def by_cp(root, copy):
    """As a person copies it, not knowing of the WAL."""
    subprocess.run(["cp", root / "catalog.db", copy], check=True)


def with_wal(root, copy):
    by_cp(root, copy)
    if (root / "catalog.db-wal").exists():
        subprocess.run(["cp", root / "catalog.db-wal", f"{copy}-wal"], check=True)


BACKUP = """
import sqlite3, sys
source, copy = map(sqlite3.connect, sys.argv[1:])
source.backup(copy)
copy.close()
source.close()
"""


def by_sqlite(root, copy):
    run_python(BACKUP, root / "catalog.db", copy)


def put_back(root, copy):
    for suffix in ("", "-wal", "-shm"):
        (root / f"catalog.db{suffix}").unlink(missing_ok=True)
        if os.path.exists(f"{copy}{suffix}"):
            shutil.copyfile(f"{copy}{suffix}", root / f"catalog.db{suffix}")


def everything_stays(root, copy):
    """Whether the store refuses to collect with that catalog, and to remove what it does not know."""
    tried = shutil.copytree(root, copy.parent / "tried")
    try:
        put_back(tried, copy)
        before = pool(tried)
        with Store.open(tried) as store:
            try:
                store.gc(grace=NOW, keep_untagged=NOW, force=True)
            except CollectionRefusedError:
                store.scrub()
                assert pool(tried) == before
                return True
            return False
    finally:
        shutil.rmtree(tried)


@pytest.mark.parametrize("copied", [by_cp, with_wal, by_sqlite])
def test_a_copy_that_is_put_back_is_noticed_whenever_it_was_made(tmp_path, empty_store, copied):
    root = shutil.copytree(empty_store, tmp_path / "store")
    copies = []
    with Store.open(root) as store:
        for number, step in enumerate(STEPS):
            copies.append(tmp_path / f"copy{number}")
            copied(root, copies[-1])
            step(store)
        newest = tmp_path / "newest"
        copied(root, newest)
    assert [everything_stays(root, copy) for copy in copies] == [True] * len(STEPS)
    # What was committed last is in the WAL: a copy without it is an older one.
    assert everything_stays(root, newest) == (copied is by_cp)


def test_the_newest_copy_of_a_closed_store_is_as_good_as_the_store(tmp_path, empty_store):
    root = shutil.copytree(empty_store, tmp_path / "store")
    with Store.open(root) as store:
        for step in STEPS:
            step(store)
    by_cp(root, tmp_path / "copy")
    assert not everything_stays(root, tmp_path / "copy")


def test_a_push_after_an_older_catalog_was_put_back_keeps_collections_off(tmp_path, store):
    store.repository("app").put_blob(b"one")
    by_sqlite(store.root, tmp_path / "copy")
    store.repository("app").put_blob(b"two")
    store.close()
    put_back(store.root, tmp_path / "copy")
    with Store.open(store.root) as restored:
        restored.repository("app").put_blob(b"three")
        restored.repository("app").put_blob(b"four")
        with pytest.raises(CollectionRefusedError) as caught:
            restored.gc(grace=NOW)
        assert caught.value.reasons == (epoch.OLDER_CATALOG,)
    assert set(pool(store.root)) >= {Digest.of(b"two")}


@pytest.mark.parametrize("older", [True, False])
def test_a_copy_that_is_put_back_is_noticed_by_a_collection_that_has_nothing_to_do(tmp_path, store, older):
    store.repository("app").put_blob(b"one")
    if older:
        by_sqlite(store.root, tmp_path / "copy")
    store.repository("app").put_blob(b"two")
    if not older:
        by_sqlite(store.root, tmp_path / "copy")
    for suffix in ("-wal", "-shm"):
        (store.root / f"catalog.db{suffix}").unlink()
    os.rename(tmp_path / "copy", store.root / "catalog.db")
    with pytest.raises(CorruptError, match="replaced"):
        store.gc()
    with Store.open(store.root) as restored, pytest.raises(CollectionRefusedError) if older else nullcontext():
        restored.gc()


def test_files_beside_the_catalog_that_were_replaced_are_opened_anew_by_a_collection(store):
    store.repository("app").put_blob(b"one")
    store.gc()
    (store.root / "catalog.db-shm").unlink()
    store.gc()
    assert (store.root / "catalog.db-shm").exists()


def test_a_copy_that_is_put_back_under_an_open_store_is_noticed_by_it_and_by_the_next(tmp_path, store):
    store.repository("app").put_blob(b"one")
    by_sqlite(store.root, tmp_path / "copy")
    store.repository("app").put_blob(b"two")
    for suffix in ("-wal", "-shm"):
        (store.root / f"catalog.db{suffix}").unlink()
    os.rename(tmp_path / "copy", store.root / "catalog.db")
    with pytest.raises(CorruptError, match="replaced"):
        store.gc(grace=NOW)
    with Store.open(store.root) as restored, pytest.raises(CollectionRefusedError, match="older copy"):
        restored.gc(grace=NOW)
    assert Digest.of(b"two") in pool(store.root)


@pytest.mark.parametrize("further", [0, 3])
def test_the_catalog_of_a_backup_is_not_that_of_the_store(tmp_path, store, further):
    """However far the backup came by itself: its numbers and those of the store say nothing of each other."""
    store.repository("app").put_blob(b"one")
    store.backup(tmp_path / "backup")
    store.repository("app").put_blob(b"two")
    store.close()
    with Store.open(tmp_path / "backup") as backup:
        for number in range(further):
            backup.repository("app").put_blob(b"%d" % number)
    put_back(store.root, tmp_path / "backup" / "catalog.db")
    with Store.open(store.root) as restored, pytest.raises(CollectionRefusedError, match=r"was (restored|replaced)"):
        restored.gc(grace=NOW)
    assert Digest.of(b"two") in pool(store.root)


def test_a_backup_that_was_looked_after_can_be_overwritten_and_looked_after_again(tmp_path, store):
    for number in range(5):
        store.repository("app").put_blob(b"%d" % number)
        store.backup(tmp_path / "backup")
        with Store.open(tmp_path / "backup") as backup:
            backup.gc(grace=NOW)
            backup.scrub()
            store.repository("app").delete_blob(Digest.of(b"%d" % number))


DIES = """
import os, sys
from ocistore import Store
from ocistore.catalog import epoch
with Store.open(sys.argv[1]) as store:
    epoch.note = lambda lock, mark: os._exit(0)
    store.repository("app").put_blob(b"one")
"""


def test_who_is_killed_before_a_commit_is_noted_leaves_no_alarm(tmp_path, empty_store):
    root = shutil.copytree(empty_store, tmp_path / "store")
    for number in range(2):
        run_python(DIES, root)
        with Store.open(root) as again:
            again.repository("app").put_blob(b"%d" % number)
            again.gc(grace=NOW)


def test_a_note_without_identity_or_sense_is_no_alarm(store):
    store.repository("app").put_blob(b"one")
    lock = store.root / "write.lock"
    for note in (b"%20d" % 1, b"", b"nonsense", b"\xff" * 53, b"%20d" % 2 + b" "):
        lock.write_bytes(note)
        store.gc(grace=NOW)
        store.repository("app").put_blob(note)


def test_what_changes_nothing_is_not_counted(store):
    with store._core.catalog.read() as connection:
        before = epoch.find(connection)
    store.gc()
    with store._core.catalog.read() as connection:
        assert epoch.find(connection) == before
    store.repository("app").put_blob(b"one")
    with store._core.catalog.read() as connection:
        assert epoch.find(connection).epoch > before.epoch


def test_a_catalog_that_does_not_say_how_far_it_came_is_damaged(store):
    with store._core.catalog.write() as connection:
        connection.driver.execute("DELETE FROM store")
    with pytest.raises(CorruptError, match="does not say"):
        store.repository("app").put_blob(b"one")
    with store._core.catalog.locked():
        pass  # nothing is stuck
    for name in strays(store.root):  # what was published is left to a collection, because no row can be asked about
        staged = store.root / "uploads" / name
        assert staged.samefile(store.root / "blobs" / "sha256" / Digest.of(b"one").encoded)
        staged.unlink()
