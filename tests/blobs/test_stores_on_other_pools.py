"""A store whose blobs are not in files of its directory: what works all the same, and what is refused, and how."""

import gc
import io
import os
from datetime import timedelta

import pytest
from images import artifact, image, push
from invariants import check
from state import POOLS

from ocistore import CorruptError, Digest, LayoutInvalidError, StorageError, Store, opening, rebuild
from ocistore.errors import RebuildRefusedError
from ocistore.testing.contents import MemoryContent
from ocistore.testing.memory import MemoryPool

NOW = timedelta(0)
IMAGE = image("one", layers=2)
LARGE = bytes(range(256)) * 8192


@pytest.fixture
def memory(tmp_path, monkeypatch):
    pool = MemoryPool()
    monkeypatch.setitem(POOLS, tmp_path / "memory", pool)
    return pool


@pytest.fixture
def stocked(tmp_path, memory):
    with Store.open(tmp_path / "memory", pool=memory) as store:
        push(store.repository("app"), IMAGE, "v1")
        push(store.repository("app"), artifact(subject=IMAGE), "note")
        store.repository("app").put_blob(LARGE)
        yield store
    assert check(tmp_path / "memory", hashes=True) == []


def damaged(pool, digest, content):
    pool._published[digest] = MemoryContent(content)


# --- opening ----------------------------------------------------------------------------------------------------------


def test_nothing_but_the_catalog_is_in_the_directory(stocked):
    assert set(os.listdir(stocked.root)) == {"catalog.db", "catalog.db-wal", "catalog.db-shm", "write.lock", "pool"}
    assert (stocked.root / "pool").stat().st_mode & 0o777 == 0o600


def test_a_store_opens_again_with_its_pool(stocked, memory):
    stocked.close()
    for options in ({}, {"read_only": True}, {"create": False}):
        with Store.open(stocked.root, pool=memory, **options) as again:
            assert again.repository("app").get_manifest("v1").content == IMAGE.manifest


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_is_not_opened_with_another_pool(stocked, memory, tmp_path, read_only):
    Store.open(tmp_path / "files").close()
    for root, pool, words in (
        (stocked.root, None, f"in the pool {memory.identity}, and it is opened without a pool"),
        (stocked.root, MemoryPool(), f"in the pool {memory.identity}, and it is opened with the pool memory:"),
        (tmp_path / "files", memory, "in its own directory, and it is opened with the pool"),
    ):
        with pytest.raises(StorageError, match=words):
            Store.open(root, pool=pool, read_only=read_only)


def test_a_new_store_is_not_made_with_the_pool_of_another(stocked, memory, tmp_path):
    with pytest.raises(CorruptError, match="has content"):
        Store.open(tmp_path / "new", pool=memory)
    Store.open(tmp_path / "new", pool=MemoryPool()).close()  # and what was begun is completed


@pytest.mark.parametrize("given", [None, MemoryPool()], ids=["files", "another"])
def test_what_was_begun_or_lost_with_a_pool_is_made_with_that_one_alone(tmp_path, given):
    memory = MemoryPool()
    (tmp_path / "write.lock").touch()
    (tmp_path / "pool").write_text(memory.identity)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(StorageError, match="in the pool memory:"):
        Store.open(tmp_path, pool=given)
    assert sorted(os.listdir(tmp_path)) == before
    Store.open(tmp_path, pool=memory).close()


def test_a_note_that_was_not_written_names_no_pool(tmp_path):
    (tmp_path / "write.lock").touch()
    (tmp_path / "pool").touch()
    Store.open(tmp_path, pool=MemoryPool()).close()


@pytest.mark.parametrize("note", [b"\xff", bytes(5000)], ids=["no text", "long"])
def test_a_note_that_names_no_pool_is_damage(tmp_path, note):
    (tmp_path / "write.lock").touch()
    (tmp_path / "pool").write_bytes(note)
    with pytest.raises(CorruptError, match="it does not name a pool"):
        Store.open(tmp_path)


def test_a_new_catalog_does_not_take_over_the_wal_of_a_lost_one(tmp_path):
    pool = MemoryPool()
    with Store.open(tmp_path, pool=pool) as store:
        for number in range(30):
            store.repository(f"old{number}").start_upload().close()
        with store._core.catalog.read():  # keeps a connection, and so the WAL, beyond the copy
            kept = {suffix: (tmp_path / f"catalog.db{suffix}").read_bytes() for suffix in ("-wal", "-shm")}
    (tmp_path / "catalog.db").unlink()
    for suffix, content in kept.items():
        (tmp_path / f"catalog.db{suffix}").write_bytes(content)
    with Store.open(tmp_path, pool=pool) as store:
        assert list(store.repositories()) == []
        assert store.check().is_ok


def test_a_store_that_somebody_else_makes_meanwhile_keeps_its_pool(tmp_path, monkeypatch):
    made = opening._make_root

    def late(paths):
        made(paths)
        monkeypatch.undo()
        Store.open(paths.root, pool=MemoryPool()).close()

    monkeypatch.setattr(opening, "_make_root", late)
    with pytest.raises(StorageError, match="opened without a pool"):
        Store.open(tmp_path / "store")


def test_a_pool_that_is_given_stays_open_where_the_store_is_refused(stocked, memory, monkeypatch):
    closed = []
    monkeypatch.setattr(memory, "close", lambda: closed.append(True))
    with pytest.raises(StorageError):
        Store.open(stocked.root, pool=MemoryPool())
    assert closed == []


@pytest.mark.parametrize("end", [Store.close, lambda _: None])
def test_a_pool_that_is_given_stays_open_where_the_store_is_closed_or_dropped(tmp_path, memory, monkeypatch, end):
    closed = []
    monkeypatch.setattr(memory, "close", lambda: closed.append(True))
    store = Store.open(tmp_path / "another", pool=memory)
    end(store)
    del store
    gc.collect()
    assert closed == []


def test_where_no_files_are_the_page_cache_is_not_asked_for(stocked):
    stocked.past_page_cache = True
    assert not stocked.past_page_cache


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_reader_has_no_descriptor_and_says_so(stocked):
    with stocked.repository("app").open_blob(Digest.of(LARGE)) as reader:
        assert (reader.size, reader.descriptor) == (len(LARGE), None)
        with pytest.raises(io.UnsupportedOperation):
            reader.fileno()
        reader.seek(-3, os.SEEK_END)
        assert reader.read() == LARGE[-3:]


# --- upkeep -----------------------------------------------------------------------------------------------------------


def test_what_nothing_needs_is_collected(stocked, memory):
    stocked.repository("app").delete_blob(Digest.of(LARGE))
    report = stocked.gc(grace=NOW, keep_untagged=NOW, force=True)
    assert (report.complete, report.bytes, report.no_refs_file) == (True, len(LARGE), None)
    assert memory.size(Digest.of(LARGE)) is None
    assert list(memory.sweeper.trashed()) == []
    assert stocked.repository("app").get_manifest("v1").content == IMAGE.manifest


def test_damage_is_found_and_heals_from_quarantine_or_a_source(stocked, memory, tmp_path):
    stocked.export(tmp_path / "layout")
    layer = Digest.of(IMAGE.layers[0])
    damaged(memory, layer, bytes(len(IMAGE.layers[0])))
    assert stocked.scrub(repair=False).damaged == 1
    report = stocked.scrub()
    assert (report.damaged, report.repaired) == (1, 0)
    assert [file.name.partition(".")[0] for file in memory.sweeper.quarantined()] == [f"sha256-{layer.encoded}"]
    report = stocked.scrub(heal_from=[tmp_path / "layout"])
    assert (report.damaged, report.repaired) == (1, 1)
    assert memory.read(layer, len(IMAGE.layers[0])) == IMAGE.layers[0]
    file = memory.sweeper.find(layer)
    memory.sweeper.quarantine(file)  # by mistake
    assert stocked.scrub().repaired == 1
    assert memory.has(layer, len(IMAGE.layers[0]))


def test_content_without_a_row_goes(stocked, memory):
    digest = Digest.of(b"no row")
    damaged(memory, digest, b"no row")
    memory._published[digest].changed = 0
    assert stocked.scrub().trashed == 1
    assert memory.size(digest) is None


def test_the_check_misses_no_directories(stocked):
    assert stocked.check().is_ok


# --- in and out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode"), [("layout", "auto"), ("layout", "copy"), ("layout.tar", "auto"), ("layout.tar.gz", "auto")]
)
def test_exports_are_the_same_as_from_files(stocked, tmp_path, name, mode):
    told = []
    report = stocked.export(tmp_path / name, mode=mode, progress=lambda *step: told.append(step))
    assert told[-1][0] == told[-1][1] == report.bytes
    with Store.open(tmp_path / "files") as other, Store.open(tmp_path / "memory too", pool=MemoryPool()) as again:
        for store in (other, again):
            store.import_(tmp_path / name, mode=mode)
            assert store.repository("app").get_manifest("v1").content == IMAGE.manifest
            assert check(store, hashes=True) == [] if store is other else True


def test_copies_go_both_ways(stocked, tmp_path):
    push(stocked.repository("app"), image("large", layers=1), "large")
    with Store.open(tmp_path / "files") as files, Store.open(tmp_path / "again", pool=MemoryPool()) as again:
        stocked.copy_to(files)
        files.copy_to(again)
        again.copy_to(stocked)
        for store in (files, again):
            assert store.repository("app").get_manifest("v1").content == IMAGE.manifest
            assert sorted(store.repository("app").tags()) == ["large", "note", "v1"]
        assert check(files, hashes=True) == []


def test_a_backup_is_a_store_of_files(stocked, tmp_path):
    report = stocked.backup(tmp_path / "backup")
    assert report.missing == report.unreadable == ()
    assert stocked.backup(tmp_path / "backup").blobs == report.blobs
    with Store.open(tmp_path / "backup") as backup:
        assert backup.repository("app").get_manifest("v1").content == IMAGE.manifest
        assert backup.scrub(level="deep").exit_code == 0
    rebuild(tmp_path / "backup", force=True)


def test_damage_in_the_store_is_reported_by_a_backup(stocked, memory, tmp_path):
    good = memory._published[Digest.of(LARGE)]
    damaged(memory, Digest.of(LARGE), b"short")
    assert stocked.backup(tmp_path / "backup").missing == (Digest.of(LARGE),)
    memory._published[Digest.of(LARGE)] = good


def test_links_are_refused_with_the_reason(stocked, tmp_path, make_oci_store):
    stocked.export(tmp_path / "layout")
    empty = make_oci_store()
    for use in (
        lambda: stocked.export(tmp_path / "linked", mode="link"),
        lambda: stocked.backup(tmp_path / "backup", mode="link"),
        lambda: empty.import_(tmp_path / "layout", mode="link"),
        lambda: stocked.copy_to(tmp_path / "files", mode="link"),
    ):
        with pytest.raises(StorageError, match="copy instead"):
            use()


def test_an_export_in_place_and_a_rebuild_need_files(stocked):
    with pytest.raises(LayoutInvalidError, match="not files in its directory"):
        stocked.export_in_place()
    stocked.close()
    with pytest.raises(RebuildRefusedError, match="not in its own directory"):
        rebuild(stocked.root, force=True)
    assert not (stocked.root / "index.json").exists()
