"""Looking at a store: references, repositories that serve something, blobs, and where their bytes are."""

import mmap
import os
from datetime import timedelta

import pytest
from images import APP, artifact, image, index, push
from state import unchanged

from ocistore import (
    BlobNotFoundError,
    Digest,
    InvalidNameError,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    Store,
)
from ocistore.catalog import repositories
from ocistore.testing.memory import MemoryPool

OTHER = image("other")
ABSENT = Digest.of(b"nobody has this")
NOW = timedelta(0)


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.every_pool
def test_a_reference_is_resolved_by_tag_or_digest(store, repository):
    pushed = push(repository, APP, "v1")
    for reference in ("library/app:v1", f"library/app@{pushed.digest}", f"library/app:v1@{pushed.digest}"):
        assert store.resolve(reference) == pushed


def test_the_digest_counts_where_the_tag_points_elsewhere(store, repository):
    pushed = push(repository, APP)
    push(repository, OTHER, "v1")
    assert store.resolve(f"library/app:v1@{pushed.digest}") == pushed


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("library/app", InvalidNameError),
        ("library/app:v2", ManifestNotFoundError),
        ("library/other:v1", RepositoryNotFoundError),
        ("UPPER:v1", InvalidNameError),
        (f"library/app@{ABSENT}", ManifestNotFoundError),
    ],
)
def test_a_reference_that_means_nothing_is_refused(store, repository, reference, error):
    push(repository, APP, "v1")
    with pytest.raises(error):
        store.resolve(reference)


def test_a_store_says_where_it_is(store):
    assert store.location == str(store.root)


# --- repositories -----------------------------------------------------------------------------------------------------


def test_a_repository_exists_from_its_first_content_until_it_is_deleted(store, repository):
    assert not repository.exists()
    repository.put_blob(b"first")
    assert repository.exists()
    store.delete_repository(repository.name)
    assert not repository.exists()


@pytest.mark.every_pool
def test_the_repositories_that_serve_something_are_named_in_byte_order(store):
    for name in ("b", "a/z", "a", "c"):
        push(store.repository(name), APP)
    push(store.repository("other"), OTHER)
    store.repository("bytes").put_blob(APP.manifest)
    assert list(store.holders(Digest.of(APP.layers[0]))) == ["a", "a/z", "b", "c"]
    assert list(store.holders(APP.digest)) == ["a", "a/z", "b", "bytes", "c"]
    assert list(store.holders(APP.digest, after="a", limit=2)) == ["a/z", "b"]
    assert list(store.holders(OTHER.digest)) == ["other"]
    assert list(store.holders(ABSENT)) == []


def test_a_repository_that_is_deleted_serves_nothing(store):
    for name in ("a", "b"):
        push(store.repository(name), APP)
    store.delete_repository("a")
    assert list(store.holders(APP.digest)) == ["b"]


def test_many_repositories_that_serve_something_are_read_in_their_order(store, monkeypatch):
    names = [f"r{number:02}" for number in range(20)]
    with store.transaction() as transaction:
        for name in names:
            push(transaction.repository(name), APP if name != "r07" else OTHER)
    monkeypatch.setattr(repositories, "_FEW", 5)
    wanted = [name for name in names if name != "r07"]
    assert list(store.holders(APP.digest)) == wanted
    assert list(store.holders(Digest.of(APP.layers[0]), after="r05", limit=3)) == ["r06", "r08", "r09"]
    assert list(store.holders(OTHER.digest)) == ["r07"]


# --- blobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.every_pool
def test_a_repository_has_the_blobs_that_it_serves(store, repository):
    blob = repository.put_blob(b"content")
    assert repository.has_blob(blob)
    assert repository.has_blob(blob.digest)
    assert not repository.has_blob(ABSENT)
    assert not store.repository("other").has_blob(blob)


def test_a_blob_whose_file_is_cut_short_is_not_had(repository):
    blob = repository.put_blob(b"content")
    path = repository.blob_path(blob)
    path.chmod(0o644)
    path.write_bytes(b"cont")
    assert not repository.has_blob(blob)


@pytest.mark.every_pool
def test_blobs_are_listed_in_the_order_in_which_they_came(store, repository):
    blobs = [repository.put_blob(f"blob {number}".encode()) for number in range(5)]
    store.repository("other").put_blob(b"of another one")
    assert list(repository.blobs()) == blobs
    assert list(repository.blobs(limit=2)) == blobs[:2]
    assert list(repository.blobs(after=blobs[1], limit=2)) == blobs[2:4]
    assert list(repository.blobs(after=blobs[4].digest)) == []


def test_manifests_are_not_listed_as_blobs(repository):
    push(repository, index([APP]))
    assert {blob.digest for blob in repository.blobs()} == {Digest.of(content) for content in APP.blobs}


def test_a_list_of_blobs_continues_after_one_that_was_deleted(repository):
    blobs = [repository.put_blob(f"blob {number}".encode()) for number in range(3)]
    repository.delete_blob(blobs[1])
    assert list(repository.blobs()) == [blobs[0], blobs[2]]
    assert list(repository.blobs(after=blobs[1])) == blobs[2:]


def test_a_list_of_blobs_does_not_tell_what_others_have(store, repository):
    repository.put_blob(b"ours")
    theirs = store.repository("other").put_blob(b"theirs")
    for after in (theirs, ABSENT):
        with pytest.raises(BlobNotFoundError):
            list(repository.blobs(after=after))
    with pytest.raises(RepositoryNotFoundError):
        store.repository("nobody").blobs()


def test_looking_changes_nothing(store, repository):
    blob = repository.put_blob(b"content")
    with unchanged(store.root):
        repository.has_blob(blob)
        list(repository.blobs())
        list(store.holders(blob))
        repository.blob_path(blob)
        repository.exists()


# --- where the bytes are ----------------------------------------------------------------------------------------------


def test_a_blob_can_be_mapped_and_not_written(repository):
    blob = repository.put_blob(b"content to map")
    path = repository.blob_path(blob)
    assert path.stat().st_mode & 0o777 == 0o444
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:7] == b"content"


def test_what_is_open_can_be_read_after_a_collection(store, repository):
    blob = repository.put_blob(b"content")
    path = repository.blob_path(blob)
    with open(path, "rb") as file:
        repository.delete_blob(blob)
        assert path.exists()
        store.gc(grace=NOW, keep_untagged=NOW, force=True)
        assert not os.path.exists(path)
        assert file.read() == b"content"
    with pytest.raises(BlobNotFoundError):
        repository.blob_path(blob)


def test_a_path_is_given_only_of_what_the_repository_serves(store, repository):
    blob = repository.put_blob(b"content")
    other = store.repository("other")
    with pytest.raises(RepositoryNotFoundError):
        other.blob_path(blob)
    other.put_blob(b"something else")
    with pytest.raises(BlobNotFoundError):
        other.blob_path(blob)
    assert repository.blob_url(blob, expires=timedelta(hours=1)) is None


class _WithAddresses(MemoryPool):
    """A pool that gives addresses, as one in an object store does."""

    @property
    def addresses(self):
        return self

    def url(self, digest, size, *, expires):
        return f"https://blobs.example/{digest}?size={size}&for={expires.total_seconds():.0f}"


def test_a_pool_may_give_addresses_and_no_paths(tmp_path):
    with Store.open(tmp_path / "store", pool=_WithAddresses()) as store:
        repository = store.repository("app")
        blob = repository.put_blob(b"content")
        assert repository.blob_path(blob) is None
        url = repository.blob_url(blob, expires=timedelta(minutes=5))
        assert url == f"https://blobs.example/{blob.digest}?size=7&for=300"
        with pytest.raises(BlobNotFoundError):
            repository.blob_url(ABSENT, expires=timedelta(minutes=5))
        with pytest.raises(ValueError, match="expires must be positive"):
            repository.blob_url(blob, expires=NOW)
        with pytest.raises(ValueError, match="expires must not be negative"):
            repository.blob_url(blob, expires=timedelta(seconds=-1))


def test_an_artifact_is_found_where_its_subject_is(store, repository):
    push(repository, APP)
    note = push(repository, artifact(subject=APP))
    assert list(store.holders(note)) == [repository.name]
