"""Indexes that lack children: what is put, kept, completed, collected and shown of them."""

import contextlib
import sqlite3
from datetime import timedelta

import pytest
from images import artifact, described, document, image, index, push
from invariants import check
from state import catalog, pool, rows, unchanged

from ocistore import (
    BlobNotFoundError,
    Digest,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    ManifestNotFoundError,
    ReferencedError,
    Store,
    rebuild,
)
from ocistore.oci import mediatypes

pytestmark = pytest.mark.every_pool

HERE, ABSENT, OTHER = image("here"), image("absent", layers=2), image("other")
SPARSE = index([HERE, ABSENT])
ALL = {"grace": timedelta(0), "keep_untagged": timedelta(0), "force": True}
CHOICES = ["children", "all"]


def states(store):
    return {digest: state for _, digest, _, state, *_ in rows(store.root)["blobs"]}


def blobs_of(*images):
    return {digest for each in images for digest in (each.digest, *map(Digest.of, each.blobs))}


@pytest.fixture(params=CHOICES)
def sparse(request, repository):
    """An index of which one child is here."""
    push(repository, HERE)
    return repository.put_manifest(SPARSE.manifest, tags=["v1"], missing=request.param)


def test_by_default_it_is_refused_and_every_absent_child_said_to_be_what_it_is(store, repository):
    push(repository, HERE)
    attested = {"vnd.docker.reference.digest": str(HERE.digest)}
    children = [
        described(HERE.manifest, HERE.media_type, platform={"os": "linux", "architecture": "amd64"}),
        described(ABSENT.manifest, ABSENT.media_type, platform={"os": "linux", "architecture": "arm64"}),
        described(OTHER.manifest, OTHER.media_type, annotations=attested),
        described(b"cache", "application/x-cache"),
        described(SPARSE.manifest, SPARSE.media_type),
    ]
    content = document({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": children})
    with pytest.raises(ManifestBlobUnknownError) as caught, unchanged(store.root):
        repository.put_manifest(content, tags=["v1"])
    assert caught.value.missing == (ABSENT.digest, OTHER.digest, Digest.of(b"cache"), SPARSE.digest)
    for words in ("image for linux/arm64", f"attestation of {HERE.digest}", "content of type application/x-", "index)"):
        assert words in str(caught.value)
    repository.put_manifest(content, tags=["v1"], missing="children")
    assert repository.get_manifest("v1").content == content
    assert check(store, hashes=True) == []


def test_it_comes_back_byte_for_byte_and_the_absent_child_is_known(store, repository, sparse):
    assert repository.get_manifest("v1").content == SPARSE.manifest
    assert states(store)[ABSENT.digest] == "absent"
    with pytest.raises(ManifestNotFoundError):
        repository.get_manifest(ABSENT.digest)
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(ABSENT.digest)
    assert check(store, hashes=True) == []
    assert store.scrub(level="deep").exit_code == 0


def test_an_index_none_of_whose_children_is_here_is_refused_unless_all_may_be_missing(store, repository):
    for missing in ("refuse", "children"):
        with pytest.raises(ManifestBlobUnknownError) as caught, unchanged(store.root):
            repository.put_manifest(SPARSE.manifest, missing=missing)
        assert caught.value.missing == (HERE.digest, ABSENT.digest)
    repository.put_manifest(SPARSE.manifest, missing="all", tags=["v1"])
    store.gc(**ALL)
    assert set(pool(store.root)) == {SPARSE.digest}
    assert check(store, hashes=True) == []


def test_an_empty_index_lacks_nothing(repository):
    for missing in ("refuse", "children", "all"):
        repository.put_manifest(index([]).manifest, missing=missing)


def test_only_all_lets_config_and_layers_be_missing(store, repository):
    repository.put_blob(HERE.config)
    for missing in ("refuse", "children"):
        with pytest.raises(ManifestBlobUnknownError, match=r"\(layer\)"), unchanged(store.root):
            repository.put_manifest(HERE.manifest, missing=missing)
    repository.put_manifest(HERE.manifest, missing="all", tags=["v1"])
    store.gc(**ALL)
    assert set(pool(store.root)) == {HERE.digest, Digest.of(HERE.config)}
    repository.put_blob(HERE.layers[0])
    store.gc(**ALL)
    assert set(pool(store.root)) == blobs_of(HERE)
    assert check(store, hashes=True) == []
    assert store.scrub(level="deep").exit_code == 0


@pytest.mark.parametrize("missing", ["", "none"])
def test_another_choice_is_refused(store, repository, missing):
    with pytest.raises(ValueError, match="refuse, children or all"), unchanged(store.root):
        repository.put_manifest(SPARSE.manifest, missing=missing)


def test_a_later_push_completes_it_and_the_index_keeps_the_child(store, repository, sparse):
    push(repository, ABSENT)
    store.gc(**ALL)
    assert set(pool(store.root)) == blobs_of(HERE, ABSENT) | {SPARSE.digest}
    with pytest.raises(ReferencedError):
        repository.delete_manifest(ABSENT.digest)
    repository.put_manifest(SPARSE.manifest)  # now it is whole
    with catalog(store.root) as connection:
        assert connection.execute("SELECT count(*) FROM repository_manifests WHERE incomplete").fetchone() == (0,)
    repository.untag("v1")
    store.gc(**ALL)
    assert pool(store.root) == {}
    assert rows(store.root)["blobs"] == []
    assert check(store, hashes=True) == []


def test_it_is_collected_with_what_is_only_known_of_it(store, repository, sparse):
    store.gc(**ALL)
    assert set(pool(store.root)) == blobs_of(HERE) | {SPARSE.digest}
    repository.untag("v1")
    report = store.gc(**ALL, dry_run=True)
    assert store.gc(**ALL).blobs == report.blobs
    assert rows(store.root)["blobs"] == rows(store.root)["edges"] == []


def test_what_another_repository_holds_is_absent_here(store, repository, sparse):
    push(store.repository("other"), ABSENT, "v1")
    with pytest.raises(ManifestNotFoundError):
        repository.get_manifest(ABSENT.digest)
    with pytest.raises(ManifestBlobUnknownError) as caught:
        repository.put_manifest(SPARSE.manifest)
    assert caught.value.missing == (ABSENT.digest,)
    store.repository("other").untag("v1")
    store.gc(**ALL)
    assert states(store)[ABSENT.digest] == "absent"
    assert set(pool(store.root)) == blobs_of(HERE) | {SPARSE.digest}
    assert check(store, hashes=True) == []


def test_a_child_that_is_here_as_a_blob_only_is_absent(store, repository, sparse):
    repository.put_blob(ABSENT.manifest)
    with pytest.raises(ManifestNotFoundError):
        repository.get_manifest(ABSENT.digest)
    store.gc(**ALL)
    assert ABSENT.digest not in pool(store.root)
    assert check(store, hashes=True) == []


def test_an_index_in_an_index_may_be_absent_or_sparse_itself(store, repository):
    inner = index([HERE, ABSENT])
    outer = index([inner, index([OTHER])])
    push(repository, HERE)
    repository.put_manifest(inner.manifest, missing="children")
    repository.put_manifest(outer.manifest, missing="children", tags=["v1"])
    store.gc(**ALL)
    assert set(pool(store.root)) == blobs_of(HERE) | {inner.digest, outer.digest}
    push(repository, index([OTHER]))
    store.gc(**ALL)
    assert set(pool(store.root)) == blobs_of(HERE, OTHER) | {inner.digest, outer.digest, index([OTHER]).digest}
    assert check(store, hashes=True) == []


def test_a_referrer_of_an_absent_child_is_kept_by_nothing_until_the_child_is_here(store, repository, sparse):
    about = artifact("sbom", subject=ABSENT)
    push(repository, about, "note")
    assert [each.digest for each in repository.referrers(ABSENT.digest)] == [about.digest]
    repository.untag("note")
    push(repository, ABSENT)
    store.gc(**ALL)
    assert about.digest in pool(store.root)
    assert check(store, hashes=True) == []


def test_two_sizes_of_one_absent_child_are_refused(store, repository):
    push(repository, HERE)
    children = [
        described(HERE.manifest, HERE.media_type),
        described(ABSENT.manifest, ABSENT.media_type),
        described(ABSENT.manifest, ABSENT.media_type, size=1),
    ]
    content = document({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": children})
    for missing in CHOICES:
        with pytest.raises(ManifestInvalidError, match="cannot have"), unchanged(store.root):
            repository.put_manifest(content, missing=missing)


def test_children_in_the_same_transaction_count(store):
    with store.transaction() as transaction:
        repository = transaction.repository("app")
        repository.put_blob(HERE.config)
        repository.put_blob(HERE.layers[0])
        repository.put_manifest(HERE.manifest)
        repository.put_manifest(SPARSE.manifest, missing="children", tags=["v1"])
    assert store.repository("app").get_manifest("v1").content == SPARSE.manifest
    assert check(store, hashes=True) == []


@pytest.mark.needs_files
def test_backup_and_rebuild_keep_it(store, repository, sparse, tmp_path):
    store.backup(tmp_path / "backup")
    with Store.open(tmp_path / "backup") as backup:
        assert backup.repository("library/app").get_manifest("v1").content == SPARSE.manifest
        assert backup.scrub(level="deep").exit_code == 0
    assert check(tmp_path / "backup", hashes=True) == []
    store.export_in_place()
    store.close()
    rebuild(store.root, force=True)
    with Store.open(store.root) as rebuilt:
        assert rebuilt.repository("library/app").get_manifest("v1").content == SPARSE.manifest
        assert rebuilt.scrub(level="deep").rows == []
    assert check(store.root, hashes=True) == []


@pytest.mark.needs_files
def test_a_rebuild_makes_no_row_of_bytes_for_content_that_an_index_lacked(store, repository):
    push(repository, HERE)
    children = [described(HERE.manifest, HERE.media_type), described(b"cache", "application/x-cache")]
    content = document({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": children})
    repository.put_manifest(content, missing="children", tags=["v1"])
    store.close()
    (store.root / "catalog.snapshot").unlink(missing_ok=True)
    rebuild(store.root, force=True)
    with Store.open(store.root) as rebuilt:
        assert states(rebuilt)[Digest.of(b"cache")] == "absent"
        assert rebuilt.scrub(level="deep").rows == []
    assert check(store.root, hashes=True) == []


def test_a_lost_child_of_a_whole_index_is_seen_by_a_deep_scrub(store, repository):
    push(repository, index([HERE, OTHER]), "v1")
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        key = connection.execute("SELECT id FROM blobs WHERE digest = ?", (OTHER.digest,)).fetchone()[0]
        connection.execute("DELETE FROM repository_edges WHERE parent_id = ?", (key,))
        connection.execute("DELETE FROM repository_manifests WHERE manifest_id = ?", (key,))
    assert "1 edges of manifests lead to content that their repositories do not serve" in store.scrub(level="deep").rows
