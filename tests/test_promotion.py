"""Promotion from one repository to another: whole graphs, in one commit, without bytes."""

from datetime import timedelta

import pytest
from images import artifact, described, document, image, index, note, push
from invariants import check

from ocistore import (
    BlobNotFoundError,
    Digest,
    InvalidNameError,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    Store,
    largechanges,
    promotion,
)
from ocistore.catalog import tags
from ocistore.changes import MountManifest, concerned
from ocistore.oci import mediatypes

NOW = timedelta(0)
APP = index([image(f"platform {number}", layers=3) for number in range(10)])
SIGNATURE = artifact("signature", subject=APP)
ABOUT_IT = artifact("about the signature", subject=SIGNATURE)
BY_TAG = artifact("as cosign has it")
TAG = f"{APP.digest.algorithm}-{APP.digest.encoded}.sig"

pytestmark = pytest.mark.every_pool


@pytest.fixture
def staging(store):
    """A repository with an image of ten platforms, with signatures, and something else."""
    repository = store.repository("staging")
    with store.transaction() as transaction:
        part = transaction.repository("staging")
        push(part, APP, "v1")
        push(part, SIGNATURE)
        push(part, ABOUT_IT)
        push(part, BY_TAG, TAG)
        push(part, image("something else"), "other")
    return repository


@pytest.fixture
def production(store):
    yield store.repository("production")
    assert check(store.root, hashes=True) == []


def everything(*pushed):
    return {
        digest for each in pushed for digest in (each.digest, *map(Digest.of, each.blobs), *everything(*each.children))
    }


def served(repository):
    return {each.digest for each in (*repository.manifests(), *repository.blobs())}


def test_a_whole_graph_is_promoted_with_what_is_about_it(staging, production):
    promoted = production.copy_from(staging, "v1", tags=["v1", "latest"])
    assert promoted == staging.resolve("v1")
    assert served(production) == everything(APP, SIGNATURE, ABOUT_IT, BY_TAG)
    assert list(production.tags()) == sorted([TAG, "v1", "latest"])
    assert production.resolve(TAG).digest == BY_TAG.digest
    assert production.get_manifest("v1").content == APP.manifest
    assert production.referrers(promoted) == staging.referrers(promoted) != []


def test_what_is_about_it_can_stay(staging, production):
    production.copy_from(staging, APP.digest, tags=["v1"], referrers=False)
    assert served(production) == everything(APP)
    assert list(production.tags()) == ["v1"]


def test_a_promotion_concerns_both_repositories():
    assert concerned([MountManifest("production", APP.digest, "staging")]) == {"production", "staging"}


def test_without_tags_none_is_made(staging, production):
    production.copy_from(staging, staging.resolve("v1"), referrers=False)
    assert list(production.tags()) == []
    assert production.resolve(APP.digest)


def test_promoting_again_changes_nothing_that_is_seen(staging, production):
    production.copy_from(staging, "v1", tags=["v1"])
    before = served(production), list(production.history())
    production.copy_from(staging, "v1", tags=["v1"])
    assert (served(production), list(production.history())) == before


def test_no_blob_is_read_or_written(store, staging, production, monkeypatch):
    used = store.usage()

    def fail(*arguments, **__):
        assert arguments == ([],), "bytes were touched"

    for name in ("open", "read", "hash", "stage", "publish"):
        monkeypatch.setattr(store._core.pool, name, fail, raising=True)
    production.copy_from(staging, "v1", tags=["v1"])
    monkeypatch.undo()
    assert (store.usage().blobs, store.usage().blob_bytes) == (used.blobs, used.blob_bytes)


def test_what_is_promoted_stays_when_its_source_is_deleted(store, staging, production):
    production.copy_from(staging, "v1", tags=["v1"])
    store.delete_repository("staging")
    store.gc(grace=NOW, keep_untagged=NOW, force=True)
    assert served(production) == everything(APP, SIGNATURE, ABOUT_IT, BY_TAG)


def test_a_promotion_is_part_of_a_transaction(store, staging, production):
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.repository("production").copy_from(staging, "v1", tags=["v1"])
        raise ZeroDivisionError
    assert not production.exists()
    with store.transaction() as transaction:
        transaction.repository("production").copy_from(staging, "v1", tags=["v1"])
        transaction.repository("staging").untag("v1")
    assert production.resolve("v1").digest == APP.digest
    with pytest.raises(ManifestNotFoundError):
        staging.resolve("v1")


def test_what_is_not_there_is_not_promoted(store, staging, production):
    for reference in ("v2", Digest.of(b"nothing"), Digest.of(APP.children[0].layers[0])):
        with pytest.raises(ManifestNotFoundError):
            production.copy_from(staging, reference)
    with pytest.raises(RepositoryNotFoundError):
        production.copy_from(store.repository("nobody"), "v1")
    with pytest.raises(InvalidNameError):
        production.copy_from(staging, "v1", tags=["no tag"])
    assert not production.exists()


def test_between_two_stores_there_is_another_way(store, staging, tmp_path):
    with (
        Store.open(tmp_path / "another") as other,
        pytest.raises(ValueError, match=r"staging is in another store, .*: use Store\.copy_to"),
    ):
        other.repository("production").copy_from(staging, "v1")


def test_a_store_that_is_opened_twice_is_one(store, staging, production):
    with Store.open(store.root) as again:
        production.copy_from(again.repository("staging"), "v1", tags=["v1"])
    assert production.resolve("v1").digest == APP.digest


def test_what_a_source_lacks_and_may_lack_is_lacked(staging, production):
    sparse = index([image("here"), image("elsewhere")])
    push(staging, image("here"))
    staging.put_manifest(sparse.manifest, tags=["sparse"], missing="children")
    production.copy_from(staging, "sparse", tags=["sparse"])
    assert served(production) == everything(image("here")) | {sparse.digest}


def test_a_manifest_that_is_also_a_layer_is_promoted_as_both(staging, production):
    inner = image("inner")
    config = {"mediaType": mediatypes.OCI_EMPTY, "digest": str(Digest.of(b"{}")), "size": 2}
    layered = document(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": config,
            "layers": [described(inner.manifest)],
            "artifactType": "a/b",
        }
    )
    push(staging, inner)
    for blob in (b"{}", inner.manifest):
        staging.put_blob(blob)
    child = staging.put_manifest(layered)
    both = document(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_INDEX,
            "manifests": [described(inner.manifest, inner.media_type), described(layered, child.media_type)],
        }
    )
    staging.put_manifest(both, tags=["both"])
    production.copy_from(staging, "both", tags=["both"])
    assert production.has_blob(inner.digest)
    assert production.get_manifest(inner.digest)


def test_what_is_deleted_meanwhile_is_looked_for_once_more(staging, production, monkeypatch):
    looked = []

    def promoted(*arguments, **options):
        found = promotion.promotion(*arguments, **options)
        if not looked:
            staging.untag("v1")
            staging.delete_manifest(APP.digest)
            push(staging, image("newer"), "v1")
        looked.append(found)
        return found

    monkeypatch.setattr("ocistore.repository.promotion", promoted)
    assert production.copy_from(staging, "v1", tags=["v1"]).digest == image("newer").digest
    assert len(looked) == 2
    assert served(production) == everything(image("newer"))


@pytest.mark.needs_files
def test_a_damaged_blob_is_not_promoted(staging, production):
    damaged = staging.blob_path(Digest.of(APP.children[3].layers[1]))
    damaged.unlink()
    with pytest.raises(BlobNotFoundError):
        production.copy_from(staging, "v1", tags=["v1"])
    assert not production.exists()
    staging.put_blob(APP.children[3].layers[1])
    production.copy_from(staging, "v1", tags=["v1"])


def test_a_large_promotion_is_seen_at_once(staging, production, monkeypatch):
    monkeypatch.setattr(largechanges, "LARGE", 20)
    monkeypatch.setattr(largechanges, "AT_ONCE", 20)
    push(production, note("already here"), "v0")
    seen = []
    move = tags.move

    def moved(*arguments, **options):
        seen.append(served(production))
        return move(*arguments, **options)

    monkeypatch.setattr(tags, "move", moved)
    monkeypatch.setattr("ocistore.catalog.stagedtags.move", moved)
    before = served(production)
    try:
        production.copy_from(staging, "v1", tags=["v1"])
    finally:
        monkeypatch.undo()
    assert seen == [before] * len(seen) != []
    assert served(production) == everything(APP, SIGNATURE, ABOUT_IT, BY_TAG) | before


def test_a_lease_keeps_what_is_promoted(store, staging, production):
    with store.lease(ttl=timedelta(hours=1)):
        production.copy_from(staging, "v1")
        store.delete_repository("staging")
        store.gc(grace=NOW, keep_untagged=NOW, force=True)
        assert production.get_manifest(APP.digest)
    store.gc(grace=NOW, keep_untagged=NOW, force=True)
    with pytest.raises(ManifestNotFoundError):
        production.get_manifest(APP.digest)
