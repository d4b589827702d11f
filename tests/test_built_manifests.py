"""Manifests and indexes that were made of values, put into a store, alone and in transactions."""

import pytest
from state import files, unchanged

from ocistore import (
    BlobNotFoundError,
    Descriptor,
    Digest,
    DigestMismatchError,
    Index,
    Manifest,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    StoreFullError,
    mediatypes,
)

EMPTY = Digest.of(b"{}")
NOTE = Manifest.build(artifact_type="application/x", annotations={"note": "yes"})


def image(repository, name):
    config = repository.put_blob(f'{{"architecture":"{name}","os":"linux"}}'.encode(), media_type=mediatypes.OCI_CONFIG)
    layer = repository.put_blob(f"files of {name}".encode(), media_type=mediatypes.OCI_LAYER)
    return Manifest.build(config=config, layers=[layer])


def test_an_image_for_two_platforms_is_built_and_pushed(repository):
    children = []
    for name in ("amd64", "arm64"):
        built = image(repository, name)
        assert repository.put_manifest(built) == built.descriptor
        children.append(built.descriptor.replace(platform=f"linux/{name}"))
    built = Index.build(manifests=children)
    assert repository.put_manifest(built, tags=["latest"]) == built.descriptor
    found = repository.get_manifest("latest")
    assert isinstance(found, Index)
    assert [str(child.platform) for child in found.manifests] == ["linux/amd64", "linux/arm64"]
    assert [type(repository.get_manifest(child)) for child in found.manifests] == [Manifest, Manifest]


def test_a_blob_is_described_as_it_is_said_to_be(repository):
    assert repository.put_blob(b"x", media_type="a/b") == Descriptor.of(b"x", "a/b")
    assert repository.stat_blob(Digest.of(b"x")) == Descriptor.of(b"x")
    with pytest.raises(ManifestInvalidError):
        repository.put_blob(b"y", media_type="no type")


def test_a_media_type_that_is_none_stores_nothing(store, repository):
    repository.put_blob(b"x")
    with unchanged(store.root), pytest.raises(ManifestInvalidError):
        repository.put_blob(b"y", media_type="no type")


@pytest.mark.parametrize("in_transaction", [False, True])
def test_blobs_that_a_value_has_in_itself_are_stored_with_it(store, repository, in_transaction):
    layer = Descriptor.of(b"embedded", embed=True)
    built = Manifest.build(artifact_type="application/x", layers=[layer, layer])
    if in_transaction:
        with store.transaction() as transaction:
            transaction.repository(repository.name).put_manifest(built, tags=["v1"])
            transaction.repository("other").mount_blob(layer, repository.name)
    else:
        repository.put_manifest(built, tags=["v1"])
    for digest, content in ((EMPTY, b"{}"), (layer.digest, b"embedded")):
        with repository.open_blob(digest) as blob:
            assert blob.read() == content


def test_with_bytes_nothing_is_stored_but_them(store, repository):
    repository.put_blob(b"something")
    with unchanged(store.root), pytest.raises(ManifestBlobUnknownError) as caught:
        repository.put_manifest(NOTE.content)
    assert caught.value.missing == (EMPTY,)


def test_nothing_is_stored_of_a_value_that_is_refused(store, repository):
    repository.put_blob(b"something")
    built = Manifest.build(artifact_type="application/x", layers=[Descriptor.of(b"nowhere")])
    with unchanged(store.root), pytest.raises(ManifestBlobUnknownError) as caught:
        repository.put_manifest(built)
    assert caught.value.missing == (Digest.of(b"nowhere"),)
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(EMPTY)


def test_nothing_that_was_staged_is_left_where_something_cannot_be_staged(store, repository, monkeypatch):
    repository.put_blob(b"something")
    stage = store._core.pool.stage

    def until_the_manifest(source, **options):
        if source == NOTE.content:
            raise StoreFullError("the disk")
        return stage(source, **options)

    monkeypatch.setattr(store._core.pool, "stage", until_the_manifest)
    with unchanged(store.root), pytest.raises(StoreFullError):
        repository.put_manifest(NOTE)
    assert list((store.root / "uploads").iterdir()) == []


def test_a_subject_that_a_manifest_has_in_itself_is_not_stored(repository):
    subject = NOTE.descriptor.replace(data=NOTE.content)
    repository.put_manifest(Manifest.build(artifact_type="application/y", subject=subject))
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(subject)
    assert [each.artifact_type for each in repository.referrers(NOTE.descriptor)] == ["application/y"]


def test_what_is_said_beside_a_value_must_be_what_it_says(store, repository):
    repository.put_blob(b"something")
    with unchanged(store.root):
        with pytest.raises(DigestMismatchError):
            repository.put_manifest(NOTE, digest=EMPTY)
        with pytest.raises(ManifestInvalidError):
            repository.put_manifest(NOTE, media_type=mediatypes.OCI_INDEX)
    sha512 = Digest.of(NOTE.content, "sha512")
    assert repository.put_manifest(NOTE, digest=sha512).digest == sha512


def test_a_value_of_other_bytes_than_it_says_is_refused(store, repository):
    repository.put_blob(b"something")
    false = Manifest(NOTE.descriptor, NOTE.content + b" ")
    with unchanged(store.root), pytest.raises(DigestMismatchError):
        repository.put_manifest(false)


def test_what_was_read_in_one_repository_is_put_into_another(store, repository):
    repository.put_manifest(NOTE, tags=["v1"])
    other = store.repository("other")
    assert other.put_manifest(repository.get_manifest("v1"), tags=["v1"]) == NOTE.descriptor
    assert other.stat_blob(EMPTY).size == 2


def test_putting_a_value_again_changes_no_file(store, repository):
    repository.put_manifest(NOTE, tags=["v1"])
    before = files(store.root)
    repository.put_manifest(NOTE, tags=["v1"])
    assert files(store.root) == before
