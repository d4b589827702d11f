"""From store to store: whole graphs in one commit, every byte hashed, nothing copied twice, and the source kept."""

import errno
import json
import os
import shutil
import stat
from datetime import timedelta

import pytest
from images import Image, artifact, described, document, image, index, push
from processes import run_python
from state import catalog, files, pool, rows, state, strays, unchanged

from ocistore import (
    CorruptError,
    Digest,
    InvalidNameError,
    ManifestInvalidError,
    ManifestNotFoundError,
    PlatformNotFoundError,
    ReadOnlyStoreError,
    RepositoryNotFoundError,
    StorageError,
    Store,
    StoreFullError,
    StoreNotFoundError,
)
from ocistore.layouts import copying
from ocistore.oci import mediatypes

pytestmark = pytest.mark.every_pool

SUBJECT = image("subject", layers=2)
SBOM = artifact("sbom", subject=SUBJECT)
SIGNATURE = index([artifact("attestation")], subject=SBOM)
GRAPHS = {"one": SUBJECT, "two": index([image("arm"), index([image("amd", architecture="amd64")])]), "note": artifact()}


@pytest.fixture
def source(store):
    with store.transaction() as transaction:
        app = transaction.repository("app")
        for tag, graph in GRAPHS.items():
            push(app, graph, tag)
        push(app, SBOM)
        push(app, SIGNATURE)
        push(transaction.repository("other"), SUBJECT, "one")
    return store


@pytest.fixture
def other(tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "other")
    with Store.open(tmp_path / "other") as opened:
        yield opened
    with catalog(tmp_path / "other") as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert strays(tmp_path / "other") == []


def everything(store):
    """Tags with their digests, and all manifests, by repository."""
    return {
        name: (
            {tag: store.repository(name).resolve(tag).digest for tag in store.repository(name).tags()},
            {found.digest for found in store.repository(name).manifests()},
        )
        for name in store.repositories()
    }


def leases(store):
    return rows(store.root)["leases"]


# --- what is copied ---------------------------------------------------------------------------------------------------


@pytest.mark.needs_files
@pytest.mark.parametrize("mode", ["auto", "copy", "link"])
def test_a_copy_is_the_same_store(source, other, mode):
    with unchanged(source.root):
        report = source.copy_to(other, mode=mode)
    assert everything(other) == everything(source)
    assert pool(other.root) == pool(source.root)
    untagged = [f"app@{SBOM.digest}", f"app@{SIGNATURE.digest}"]
    assert report.names == tuple(sorted(["app:note", "app:one", "app:two", "other:one", *untagged]))
    assert report.copied_bytes == report.bytes == sum(map(len, pool(source.root).values()))
    assert (report.source, report.destination, report.moved) == (source.root, other.root, ())


def test_referrers_come_along_unless_they_are_left(source, other):
    report = source.copy_to(other, ["app:one"], referrers=False)
    assert report.names == ("app:one",)
    assert {found.digest for found in other.repository("app").manifests()} == {SUBJECT.digest}
    source.copy_to(other, ["app:one"])
    assert [found.digest for found in other.repository("app").referrers(SUBJECT.digest)] == [SBOM.digest]
    assert [found.digest for found in other.repository("app").referrers(SBOM.digest)] == [SIGNATURE.digest]


def test_names_may_change_on_the_way(source, other):
    source.copy_to(other, ["app:*=mirror/app", "other:one=mirror/app:second"])
    assert list(other.repositories()) == ["mirror/app"]
    assert list(other.repository("mirror/app").tags()) == ["note", "one", "second", "two"]


def test_platforms_are_narrowed_and_what_was_made_for_it_is_stored(source, other):
    report = source.copy_to(other, ["app:two"], platforms=["linux/amd64"])
    new = other.repository("app").resolve("two").digest
    assert report.replaced == {GRAPHS["two"].digest: new}
    (inner,) = other.repository("app").get_manifest(new).manifests
    (child,) = other.repository("app").get_manifest(inner.digest).manifests
    assert child.digest == image("amd", architecture="amd64").digest
    with pytest.raises(PlatformNotFoundError):
        source.copy_to(other, ["app:one"], platforms=["linux/amd64"])


def test_what_is_there_is_not_copied_again_and_doing_it_twice_changes_nothing(source, other):
    source.copy_to(other, ["other"])
    dry = source.copy_to(other, dry_run=True)
    before = set(pool(other.root))
    report = source.copy_to(other)
    assert dry.present_bytes == report.present_bytes == sum(len(pool(source.root)[digest]) for digest in before)
    assert report.copied_bytes == report.bytes - report.present_bytes
    found, history = files(other.root), list(other.repository("app").history())
    again = source.copy_to(other)
    assert (again.copied_bytes, again.moved) == (0, ())
    assert files(other.root) == found
    assert list(other.repository("app").history()) == history


def test_tags_that_move_are_said_and_in_the_history(source, other):
    push(other.repository("app"), image("old"), "one", "mine")
    assert source.copy_to(other, ["app"], dry_run=True).moved == ("app:one",)
    assert source.copy_to(other, ["app"]).moved == ("app:one",)
    assert other.repository("app").resolve("one").digest == SUBJECT.digest
    assert other.repository("app").resolve("mine").digest == image("old").digest
    assert next(other.repository("app").history("one")).new == SUBJECT.digest


def test_a_manifest_that_is_a_layer_too_is_copied_as_both(store, other):
    inner = image("inner")
    outer = Image(
        document({**json.loads(image("outer").manifest), "layers": [described(inner.manifest, inner.media_type)]}),
        (image("outer").config, inner.manifest),
    )
    push(store.repository("app"), inner, "inner")
    push(store.repository("app"), outer, "outer")
    store.copy_to(other)
    assert everything(other) == everything(store)
    with other.repository("app").open_blob(inner.digest) as reader:
        assert reader.read() == inner.manifest


def test_an_absent_foreign_layer_stays_absent_and_is_said(store, other):
    plain = image("windows")
    body = json.loads(plain.manifest)
    body["layers"].append(described(b"?", mediatypes.OCI_NONDISTRIBUTABLE_LAYER, urls=["https://layers.example/1"]))
    push(store.repository("app"), Image(document(body), plain.blobs), "v1")
    assert store.copy_to(other).absent == (Digest.of(b"?"),)
    assert everything(other) == everything(store)


def test_nested_indexes_three_hundred_deep_are_copied(store, other):
    nested = image("innermost")
    for _ in range(300):
        nested = index([nested])
    chain = [nested]
    while chain[-1].children:
        chain += chain[-1].children
    with store.transaction() as transaction:
        repository = transaction.repository("app")
        for each in reversed(chain):
            for blob in each.blobs:
                repository.put_blob(blob)
            repository.put_manifest(each.manifest)
        repository.tag("deep", nested.digest)
    assert store.copy_to(other).manifests == 301
    assert everything(other) == everything(store)


def test_nothing_chosen_copies_nothing(source, other):
    with unchanged(other.root):
        assert source.copy_to(other, []).names == ()


def test_progress_ends_with_all_bytes_that_are_copied(source, other):
    told = []
    source.copy_to(other, progress=lambda *step: told.append(step))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 0


# --- how bytes get there ----------------------------------------------------------------------------------------------


def large(repository):
    layer = os.urandom(100_000)
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(b"{}"),
        "layers": [described(layer)],
    }
    push(repository, Image(document(body), (b"{}", layer)), "v1")
    return Digest.of(layer)


@pytest.mark.needs_files
def test_linked_blobs_are_one_file_and_copied_ones_are_not(store, tmp_path):
    digest = large(store.repository("app"))
    place = f"blobs/sha256/{digest.encoded}"
    for mode, same in (("link", True), ("copy", False), ("auto", False)):
        store.copy_to(tmp_path / mode, mode=mode)
        assert (tmp_path / mode / place).samefile(store.root / place) == same
        assert stat.S_IMODE((tmp_path / mode / place).stat().st_mode) == 0o444


@pytest.mark.needs_files
def test_links_do_not_reach_another_filesystem(source, small_disk):
    with pytest.raises(StorageError, match="copy instead") as caught:
        source.copy_to(small_disk.root / "store", mode="link")
    assert caught.value.errno == errno.EXDEV


def test_an_unknown_mode_is_refused(source, other):
    with pytest.raises(ValueError, match="auto, copy or link"):
        source.copy_to(other, mode="move")


# --- where to ---------------------------------------------------------------------------------------------------------


def test_the_destination_is_made_where_there_is_none(source, tmp_path):
    source.copy_to(tmp_path / "new")
    with Store.open(tmp_path / "new", create=False) as new:
        assert everything(new) == everything(source)


@pytest.mark.parametrize("there", [False, True])
def test_a_dry_run_makes_nothing_and_takes_no_lease(source, tmp_path, there):
    if there:
        (tmp_path / "new").mkdir()
    with unchanged(source.root):
        report = source.copy_to(tmp_path / "new", dry_run=True)
    assert (report.copied_bytes, report.dry_run) == (report.bytes, True)
    assert (tmp_path / "new").exists() == there
    assert not there or list((tmp_path / "new").iterdir()) == []


def test_a_store_is_not_copied_to_itself_nor_into_itself(source, tmp_path):
    (tmp_path / "link").symlink_to(source.root)
    for destination in (source, source.root, tmp_path / "link"):
        with pytest.raises(ValueError, match="the same store"), unchanged(source.root):
            source.copy_to(destination)
    for destination in (source.root / "blobs" / "new", source.root.parent):
        with pytest.raises(ValueError, match="one store cannot lie in the other"), unchanged(source.root):
            source.copy_to(destination)


def test_a_destination_that_is_no_store_is_left_alone(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_bytes(b"mine")
    for dry_run in (True, False):
        with pytest.raises(StoreNotFoundError):
            source.copy_to(tmp_path / "mine", dry_run=dry_run)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]


def test_a_read_only_destination_is_refused_and_a_read_only_source_is_not(source, other):
    source.close()
    other.close()
    with (
        Store.open(source.root, read_only=True) as reading,
        Store.open(other.root, read_only=True) as refusing,
        pytest.raises(ReadOnlyStoreError),
    ):
        reading.copy_to(refusing)
    with Store.open(source.root, read_only=True) as reading, unchanged(source.root):
        reading.copy_to(other.root)
        with Store.open(other.root) as opened:
            assert everything(opened) == everything(reading)


@pytest.mark.parametrize(
    ("references", "error"),
    [
        (["absent"], RepositoryNotFoundError),
        (["app:absent"], ManifestNotFoundError),
        (["app:x*"], ManifestNotFoundError),
        (["app:one=b:1", "app:two=b:1"], InvalidNameError),
        (["app:one=../b"], InvalidNameError),
    ],
)
def test_a_reference_that_stands_for_nothing_makes_no_store(source, tmp_path, references, error):
    with pytest.raises(error), unchanged(source.root):
        source.copy_to(tmp_path / "new", references)
    assert not (tmp_path / "new").exists()


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.needs_files
@pytest.mark.parametrize("what", ["a small blob", "a large blob", "a manifest"])
@pytest.mark.parametrize("damage", ["gone", "cut short", "other bytes"])
def test_damage_in_the_source_is_named_and_nothing_is_copied(source, other, what, damage):
    digest = {
        "a small blob": Digest.of(SUBJECT.layers[1]),
        "a large blob": large(source.repository("zoo")),
        "a manifest": SBOM.digest,
    }[what]
    file = source.root / "blobs" / "sha256" / digest.encoded
    content = file.read_bytes()
    file.chmod(0o644)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "cut short" else bytes(len(content)))
    before = state(other.root).rows
    with pytest.raises(CorruptError, match=digest.encoded):
        source.copy_to(other)
    assert state(other.root).rows == before
    assert pool(other.root) == {}
    assert leases(source) == []


def test_a_full_disk_changes_nothing_in_the_destination(source, small_disk):
    large(source.repository("zoo"))
    Store.open(small_disk.root / "store").close()
    with small_disk.full(), pytest.raises(StoreFullError):
        source.copy_to(small_disk.root / "store")
    with Store.open(small_disk.root / "store") as there:
        assert everything(there) == {}
        assert pool(there.root) == {}
        assert strays(there.root) == []


def test_a_manifest_that_the_destination_would_not_take_is_refused(source, other):
    other.maximum_manifest_size = 100
    with pytest.raises(ManifestInvalidError, match="at most 100"), unchanged(other.root):
        source.copy_to(other)


def test_more_manifests_than_memory_should_hold_are_refused(source, other, monkeypatch):
    monkeypatch.setattr(copying, "MAXIMUM_MANIFESTS_SIZE", 1000)
    with pytest.raises(ManifestInvalidError, match="more than 1000 bytes together"), unchanged(other.root):
        source.copy_to(other)


# --- collections meanwhile --------------------------------------------------------------------------------------------


def collect(store):
    return store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)


def test_what_is_being_copied_is_kept_in_the_source(source, other):
    met = []

    def progress(done, total):
        if not met:
            met.append(leases(source))
            for tag in list(source.repository("app").tags()):
                source.repository("app").untag(tag)
            source.repository("other").untag("one")
            collect(source)

    source.copy_to(other, mode="copy", progress=progress)
    assert "copied to" in str(met)
    assert set(everything(other)["app"][0]) == set(GRAPHS)
    assert leases(source) == []
    collect(source)
    assert pool(source.root) == {}


def test_what_a_collection_takes_from_the_destination_meanwhile_is_brought_along(source, other):
    push(other.repository("old"), SUBJECT, "one")
    met = []

    def progress(done, total):
        if not met:
            met.append(done)
            other.delete_repository("old")
            collect(other)

    source.copy_to(other, progress=progress)
    assert met
    assert everything(other) == everything(source)


KILLED = """
import os, sys
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    store.copy_to(sys.argv[2], progress=lambda done, total: os._exit(0))
"""


@pytest.mark.needs_files
def test_a_killed_copy_leaves_nothing_visible_and_a_lease_that_runs_out(source, other):
    run_python(KILLED, source.root, other.root)
    assert everything(other) == {}
    assert len(leases(source)) == 1
    for name in strays(other.root):
        (other.root / "uploads" / name).unlink()
    source.copy_to(other)
    assert everything(other) == everything(source)


@pytest.mark.needs_files
def test_what_may_not_be_linked_is_named_by_its_path(source, other, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StorageError, match="belongs to somebody else") as caught:
        source.copy_to(other, mode="link")
    assert caught.value.path.startswith(str(source.root / "blobs"))
