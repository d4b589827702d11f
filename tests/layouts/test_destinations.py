"""Where layouts are written: what may lie there, how the bytes get there, and that the same content gives the same."""

import errno
import os
import shutil
import stat

import pytest
from handmade import VERSION, Layout, contents, listed, names, tree, verified
from images import artifact, image, index, push
from state import files, pool, state, unchanged

from ocistore import CorruptError, Digest, LayoutInvalidError, StorageError, Store, StoreFullError
from ocistore.files.durability import sync_filesystem

MODES = ["auto", "copy", "link"]
IMAGES = [image("one", layers=3), image("two"), index([image("arm"), image("amd")]), artifact()]


@pytest.fixture
def filled(store):
    with store.transaction() as transaction:
        for number, pushed in enumerate(IMAGES):
            push(transaction.repository("app"), pushed, f"v{number}")
            push(transaction.repository(f"tools/{number}"), pushed, "latest")
    return store


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "out"


def blob_files(path):
    return {f"{file.parent.name}:{file.name}": file for file in path.glob("blobs/*/*")}


def names_of_everything():
    return {f"app:v{number}" for number in range(4)} | {f"tools/{number}:latest" for number in range(4)}


# --- the same content, the same bytes ---------------------------------------------------------------------------------


def test_stores_filled_in_different_order_give_identical_layouts(filled, empty_store, tmp_path):
    other = Store.open(shutil.copytree(empty_store, tmp_path / "other"))
    with other:
        for number, pushed in reversed(list(enumerate(IMAGES))):
            push(other.repository(f"tools/{number}"), pushed, "latest")
            push(other.repository("app"), pushed, f"v{number}")
        filled.export(tmp_path / "first")
        other.export(tmp_path / "second", reversed(list(other.repositories())))
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "second")
    assert len(first) == len(pool(filled.root)) + 2


def test_one_export_and_two_of_its_halves_give_identical_layouts(filled, tmp_path):
    filled.export(tmp_path / "whole")
    filled.export(tmp_path / "halves", ["tools/2", "app:v3"])
    filled.export(tmp_path / "halves")
    assert contents(tmp_path / "whole") == contents(tmp_path / "halves")


@pytest.mark.parametrize("mode", MODES)
def test_exporting_twice_writes_no_blob_again(filled, destination, mode):
    filled.export(destination, mode=mode)
    before, index_json = tree(destination / "blobs"), (destination / "index.json").read_bytes()
    times = {name: file.stat().st_mtime_ns for name, file in blob_files(destination).items()}
    filled.export(destination, mode=mode)
    assert tree(destination / "blobs") == before
    assert {name: file.stat().st_mtime_ns for name, file in blob_files(destination).items()} == times
    assert (destination / "index.json").read_bytes() == index_json


# --- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_writes_the_same_layout_and_leaves_the_store_as_it_was(filled, destination, mode):
    with unchanged(filled.root):
        report = filled.export(destination, mode=mode)
    assert set(report.names) == names_of_everything()
    assert verified(destination) == pool(filled.root)
    assert {path.name for path in destination.iterdir()} == {"blobs", "index.json", "oci-layout"}


def test_links_are_the_files_of_the_store_and_cannot_be_written_to(filled, destination):
    filled.export(destination, mode="link")
    for digest, file in blob_files(destination).items():
        own = filled.root / "blobs" / digest.replace(":", "/")
        assert file.stat().st_ino == own.stat().st_ino
        assert stat.S_IMODE(file.stat().st_mode) == 0o444


@pytest.mark.parametrize("mode", ["auto", "copy"])
def test_copies_are_files_of_their_own_that_may_be_changed(filled, destination, mode):
    filled.export(destination, mode=mode)
    before = files(filled.root)
    for digest, file in blob_files(destination).items():
        own = filled.root / "blobs" / digest.replace(":", "/")
        assert file.stat().st_ino != own.stat().st_ino
        assert file.stat().st_mode & stat.S_IWUSR
        file.write_bytes(b"changed")
    assert files(filled.root) == before


def test_an_unknown_mode_is_refused(filled, destination):
    with pytest.raises(ValueError, match="auto, copy or link"):
        filled.export(destination, mode="symlink")
    assert not destination.exists()


@pytest.fixture
def other_filesystem(small_disk, filled):
    assert small_disk.root.stat().st_dev != filled.root.stat().st_dev
    return small_disk.root


def test_links_to_another_filesystem_are_refused_in_words(filled, other_filesystem):
    with pytest.raises(StorageError, match="hard links do not reach; copy instead") as caught:
        filled.export(other_filesystem / "out", mode="link")
    assert caught.value.errno == errno.EXDEV
    assert caught.value.path == str(other_filesystem / "out")
    assert not (other_filesystem / "out" / "index.json").exists()


@pytest.mark.parametrize("mode", ["auto", "copy"])
def test_copies_reach_another_filesystem_also_after_links_did_not(filled, other_filesystem, mode):
    with pytest.raises(StorageError):
        filled.export(other_filesystem / "out", mode="link")
    filled.export(other_filesystem / "out", mode=mode)
    assert verified(other_filesystem / "out") == pool(filled.root)


def free(directory):
    """Free blocks, and the bytes of one."""
    descriptor = os.open(directory, os.O_RDONLY)
    sync_filesystem(descriptor)
    os.close(descriptor)
    status = os.statvfs(directory)
    return status.f_bfree, status.f_frsize


def test_bytes_are_shared_where_the_filesystem_can_and_stay_apart_when_changed(reflinking):
    size = 32 << 20
    with Store.open(reflinking / "store") as store:
        large = image("large")
        repository = store.repository("app")
        layer = repository.put_blob(os.urandom(1 << 20) * (size >> 20))
        body = large.manifest.replace(str(Digest.of(large.layers[0])).encode(), str(layer.digest).encode()).replace(
            b'"size":%d}]' % len(large.layers[0]), b'"size":%d}]' % size
        )
        repository.put_blob(large.config)
        repository.put_manifest(body, tags=["v1"])
        before, block = free(reflinking)
        store.export(reflinking / "shared", mode="auto")
        after_sharing, _ = free(reflinking)
        store.export(reflinking / "copied", mode="copy")
        after_copying, _ = free(reflinking)
        assert verified(reflinking / "shared") == verified(reflinking / "copied") == pool(store.root)
        assert (before - after_sharing) * block < size / 8
        assert (after_sharing - after_copying) * block >= size
        file = blob_files(reflinking / "shared")[layer.digest]
        with file.open("r+b") as changed:
            changed.write(b"changed")
        with repository.open_blob(layer.digest) as reader:
            assert Digest.of(reader.read()) == layer.digest


# --- what lies there --------------------------------------------------------------------------------------------------


def test_a_destination_may_be_missing_with_its_parents(filled, tmp_path):
    filled.export(tmp_path / "a" / "b" / "out")
    assert verified(tmp_path / "a" / "b" / "out") == pool(filled.root)


def test_a_destination_may_be_empty(filled, destination):
    destination.mkdir()
    filled.export(destination)
    assert verified(destination) == pool(filled.root)


def test_a_destination_may_be_given_relative_and_behind_a_symbolic_link(filled, destination, tmp_path, monkeypatch):
    destination.mkdir()
    (tmp_path / "link").symlink_to(destination)
    monkeypatch.chdir(tmp_path)
    assert filled.export("link").destination == tmp_path / "link"
    assert verified(destination) == pool(filled.root)


def test_a_blob_of_the_wrong_size_in_the_destination_is_written_again(filled, destination):
    filled.export(destination)
    good = tree(destination)
    for file in blob_files(destination).values():
        file.chmod(0o644)
        file.write_bytes(b"cut short")
    for mode in ("copy", "link"):
        filled.export(destination, mode=mode)
        assert verified(destination) == pool(filled.root)
    assert tree(destination).keys() == good.keys()


def a_file(path):
    path.write_bytes(b"mine")


def a_full_directory(path):
    path.mkdir()
    (path / "letter").write_bytes(b"mine")


def a_directory_with_an_index(path):
    path.mkdir()
    (path / "index.json").write_bytes(b'{"mine": true}')


def without_version(path):
    Layout(path).add(image("mine"), "v0").write(version=None)


def of_another_version(path):
    Layout(path).add(image("mine"), "v0").write(version=b'{"imageLayoutVersion":"2.0.0"}')


def with_a_damaged_index(path):
    Layout(path).add(image("mine"), "v0").write(b'{"schemaVersion":2,"manifests":[')


def with_a_damaged_entry(path):
    Layout(path).add(image("mine"), "v0").entry(image("mine"), digest="sha256:" + "0" * 32).write()


def with_a_linked_index(path):
    Layout(path).add(image("mine"), "v0").write()
    (path / "index.json").rename(path / "other.json")
    (path / "index.json").symlink_to("other.json")


def with_linked_blobs(path):
    Layout(path).add(image("mine"), "v0").write()
    (path / "blobs").rename(path.parent / "elsewhere")
    (path / "blobs").symlink_to(path.parent / "elsewhere")


def with_a_file_as_blobs(path):
    path.mkdir()
    (path / "oci-layout").write_bytes(VERSION)
    (path / "blobs").write_bytes(b"mine")


REFUSED = [
    a_file,
    a_full_directory,
    a_directory_with_an_index,
    without_version,
    of_another_version,
    with_a_damaged_index,
    with_a_damaged_entry,
    with_a_linked_index,
    with_linked_blobs,
    with_a_file_as_blobs,
]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__.replace("_", " "))
def test_anything_else_in_the_destination_is_refused_and_left_untouched(filled, destination, make):
    make(destination)
    before = tree(destination.parent / "out") if destination.is_dir() else destination.read_bytes()
    with pytest.raises((LayoutInvalidError, StorageError)) as caught, unchanged(filled.root):
        filled.export(destination)
    assert str(destination) in str(caught.value)
    assert before == (tree(destination) if destination.is_dir() else destination.read_bytes())


@pytest.mark.parametrize("place", ["", "out", "blobs", "blobs/sha256", "uploads", "trash", "trash/deep/out"])
def test_a_store_is_no_destination_of_its_own(filled, place):
    with pytest.raises(LayoutInvalidError) as caught, unchanged(filled.root):
        filled.export(filled.root / place)
    assert "store" in str(caught.value)


def test_another_store_is_no_destination(filled, tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "other")
    with pytest.raises(LayoutInvalidError, match="it is a store; export it in place"), unchanged(tmp_path / "other"):
        filled.export(tmp_path / "other")


def test_the_store_is_no_destination_behind_a_symbolic_link(filled, tmp_path):
    (tmp_path / "link").symlink_to(filled.root / "trash")
    with pytest.raises(LayoutInvalidError, match="it lies in the store"), unchanged(filled.root):
        filled.export(tmp_path / "link")


def test_a_read_only_destination_is_not_blamed_on_the_store(filled, small_disk):
    filled.export(small_disk.root / "layout")
    small_disk.remount_read_only()
    for path in (small_disk.root / "layout", small_disk.root / "out"):
        with pytest.raises(StorageError, match="Read-only file system") as caught:
            filled.export(path)
        assert caught.value.errno == errno.EROFS
        assert caught.value.path.startswith(str(path))


def test_a_full_disk_leaves_the_layout_there_was(filled, small_disk):
    destination = small_disk.root / "out"
    filled.export(destination, ["app:v1"])
    before = names(destination)
    with small_disk.full(), pytest.raises(StoreFullError):
        filled.export(destination)
    assert names(destination) == before
    verified(destination)
    assert [path.name for path in destination.iterdir() if path.name.startswith(".")] == []
    filled.export(destination)
    assert verified(destination) == pool(filled.root)


def test_what_a_crashed_export_left_is_cleared_by_the_next_one(filled, destination):
    destination.mkdir()
    (destination / ".ocistore-0123456789abcdef").write_bytes(b"cut short")
    (destination / ".ocistore-notes").write_bytes(b"mine")
    filled.export(destination)
    left = [path.name for path in destination.iterdir() if path.name.startswith(".")]
    assert left == [".ocistore-notes"]


# --- damage in the store ----------------------------------------------------------------------------------------------


def test_a_directory_with_the_name_of_such_a_leftover_is_not_ours_and_stays(filled, destination):
    (destination / ".ocistore-0123456789abcdef").mkdir(parents=True)
    filled.export(destination)
    assert (destination / ".ocistore-0123456789abcdef").is_dir()
    assert verified(destination) == pool(filled.root)


def test_a_link_that_cannot_take_its_name_leaves_no_other(filled, destination):
    taken = destination / "blobs" / "sha256" / IMAGES[0].digest.encoded
    taken.mkdir(parents=True)
    with pytest.raises(StorageError, match="directory"):
        filled.export(destination, mode="link")
    assert os.listdir(destination) == ["blobs"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_damage_in_the_store_is_named_and_the_layout_stays_as_it_was(filled, destination, mode, damage):
    filled.export(destination, ["app:v0"], mode=mode)
    before = listed(destination)
    hit = Digest.of(image("two").layers[0])
    file = filled.root / "blobs" / "sha256" / hit.encoded
    if damage == "gone":
        file.unlink()
    else:
        file.chmod(0o644)
        file.write_bytes(b"cut")
    with pytest.raises(CorruptError, match=hit):
        filled.export(destination, mode=mode)
    assert listed(destination) == before
    verified(destination)
    assert {path.name for path in destination.iterdir()} == {"blobs", "index.json", "oci-layout"}


# --- in place ---------------------------------------------------------------------------------------------------------


def test_in_place_the_root_becomes_a_layout_and_stays_a_store(filled, tmp_path, empty_store):
    before = state(filled.root)
    report = filled.export_in_place()
    assert report.destination == filled.root
    assert set(report.names) == names_of_everything()
    assert verified(filled.root) == pool(filled.root)
    after = state(filled.root)
    assert after.rows == before.rows
    assert after.files.keys() - before.files.keys() == {"oci-layout", "index.json"}
    filled.export(tmp_path / "out")
    assert (tmp_path / "out" / "index.json").read_bytes() == (filled.root / "index.json").read_bytes()
    with Store.open(shutil.copytree(empty_store, tmp_path / "other")) as other:
        assert set(other.import_(filled.root).tags) == names_of_everything()
        assert pool(other.root) == pool(filled.root)


def test_in_place_the_index_shows_the_store_as_it_was_until_it_is_written_again(repository, store):
    push(repository, image("one"), "v1", "old")
    store.export_in_place()
    push(repository, image("two"), "v2")
    repository.untag("old")
    assert names(store.root).keys() == {"v1", "old"}
    verified(store.root)
    store.export_in_place()
    assert names(store.root) == {"v1": image("one").digest, "v2": image("two").digest}
    verified(store.root)


def test_in_place_the_store_opens_and_takes_pushes(repository, store):
    push(repository, image("one"), "v1")
    store.export_in_place()
    with Store.open(store.root) as again:
        push(again.repository("library/app"), image("two"), "v2")
    assert repository.resolve("v2").digest == image("two").digest


def test_a_store_without_tags_becomes_an_empty_layout(store):
    assert store.export_in_place().names == ()
    assert listed(store.root) == []


def test_what_a_crashed_export_in_place_left_is_cleared_by_the_next_one(store):
    (store.root / ".ocistore-0123456789abcdef").write_bytes(b"cut short")
    store.export_in_place()
    assert not (store.root / ".ocistore-0123456789abcdef").exists()


def test_a_store_can_import_its_own_root(filled):
    filled.export_in_place()
    before, histories = files(filled.root), [list(filled.repository(name).history()) for name in filled.repositories()]
    filled.import_(filled.root)
    assert files(filled.root) == before
    assert [list(filled.repository(name).history()) for name in filled.repositories()] == histories
