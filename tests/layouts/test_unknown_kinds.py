"""What an index lists under media types that this store does not know: blobs, which are kept and travel like others."""

import json
import tarfile
from datetime import timedelta

import pytest
from handmade import Layout, listed, verified
from images import Image, described, document, image
from invariants import check
from state import pool, unchanged

from ocistore import (
    BlobNotFoundError,
    Digest,
    LayoutInvalidError,
    ManifestBlobUnknownError,
    ReferencedError,
    Store,
    rebuild,
)
from ocistore.oci import mediatypes

APP = image("app")


@pytest.fixture
def repository(store):
    return store.repository("app")


KINDS = {
    "a build cache": ("application/vnd.buildkit.cacheconfig.v0", b'{"layers":[],"records":[]}'),
    "an artifact manifest": ("application/vnd.oci.artifact.manifest.v1+json", b'{"mediaType":"x/y","blobs":[]}'),
    "a layer": (mediatypes.OCI_LAYER_GZIP, b"bytes of a layer"),
    "schema 1": (mediatypes.DOCKER_SCHEMA1_SIGNED, b'{"schemaVersion":1}'),
    "nothing at all": ("application/x-empty", b""),
}


def listing(*children):
    """An index of these, each a type and its bytes, or an image."""
    entries = [
        described(child.manifest, child.media_type) if isinstance(child, Image) else described(child[1], child[0])
        for child in children
    ]
    content = document({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries})
    return Image(content, media_type=mediatypes.OCI_INDEX)


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def pushed(repository, kind):
    """An index of an image and of something unknown, tagged v1."""
    for blob in (*APP.blobs, kind[1]):
        repository.put_blob(blob)
    repository.put_manifest(APP.manifest)
    listed = listing(APP, kind)
    repository.put_manifest(listed.manifest, tags=["v1"])
    return listed


def test_it_is_a_blob_that_must_be_here(store, repository, kind):
    with pytest.raises(ManifestBlobUnknownError) as caught, unchanged(store.root):
        repository.put_manifest(listing(kind).manifest)
    assert caught.value.missing == (Digest.of(kind[1]),)
    repository.put_blob(kind[1])
    repository.put_manifest(listing(kind).manifest)
    assert check(store, hashes=True) == []


def test_a_collection_keeps_it_as_long_as_the_index(store, repository, kind, pushed):
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0))
    assert set(pool(store.root)) == {pushed.digest, APP.digest, Digest.of(kind[1]), *map(Digest.of, APP.blobs)}
    assert check(store, hashes=True) == []
    with pytest.raises(ReferencedError):
        repository.delete_blob(Digest.of(kind[1]))
    repository.untag("v1")
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
    assert pool(store.root) == {}
    assert check(store, hashes=True) == []


@pytest.mark.parametrize("form", ["layout", "layout.tar"])
def test_it_goes_out_and_comes_in_again(store, kind, pushed, tmp_path, form):
    report = store.export(tmp_path / form, ["app"])
    assert (report.absent, report.manifests) == ((), 2)
    with Store.open(tmp_path / "other") as other:
        other.import_(tmp_path / form)
        assert other.repository("app").get_manifest("v1").content == pushed.manifest
        assert other.repository("app").stat_blob(Digest.of(kind[1])).size == len(kind[1])
        assert check(other, hashes=True) == []
    if form == "layout":
        verified(tmp_path / form)
    else:
        with tarfile.open(tmp_path / form) as archive:
            assert f"blobs/{Digest.of(kind[1]).replace(':', '/')}" in archive.getnames()


def test_a_layout_that_lacks_it_is_refused_when_nothing_else_is_there(store, tmp_path, kind):
    layout = Layout(tmp_path / "layout").add(listing(kind), "app:v1")
    with pytest.raises(LayoutInvalidError, match=Digest.of(kind[1])), unchanged(store.root):
        store.import_(layout.write())


def test_it_is_copied_backed_up_and_rebuilt(store, kind, pushed, tmp_path):
    store.copy_to(tmp_path / "copy")
    store.backup(tmp_path / "backup")
    store.close()
    (store.root / "catalog.db").unlink()
    (store.root / "catalog.db-wal").unlink(missing_ok=True)
    for root in (tmp_path / "copy", tmp_path / "backup"):
        with Store.open(root) as other:
            assert other.repository("app").get_manifest("v1").content == pushed.manifest
            with other.repository("app").open_blob(Digest.of(kind[1])) as blob:
                assert blob.read() == kind[1]
            assert other.scrub(level="deep").exit_code == 0
        assert check(root, hashes=True) == []
    report = rebuild(store.root)
    assert report.missing == []
    with Store.open(store.root) as rebuilt:
        [name] = rebuilt.repositories()
        assert rebuilt.repository(name).stat_blob(Digest.of(kind[1])).size == len(kind[1])
        assert rebuilt.scrub(level="deep").rows == []


def test_choosing_a_platform_keeps_what_has_none(store, kind, pushed, tmp_path):
    store.export(tmp_path / "layout", ["app"], platforms=["linux/arm64"])
    assert [entry["digest"] for entry in listed(tmp_path / "layout")] == [pushed.digest]
    with Store.open(tmp_path / "other") as other:
        other.import_(tmp_path / "layout", platforms=["linux/arm64"])
        assert other.repository("app").resolve("v1").digest == pushed.digest


def test_what_it_refers_to_is_nobodys_business(store, repository):
    """A manifest listed under another type is only bytes."""
    repository.put_blob(APP.manifest)
    found = repository.put_manifest(listing(("x/y", APP.manifest)).manifest, tags=["v1"])
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0))
    assert set(pool(store.root)) == {found.digest, APP.digest}
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(Digest.of(APP.config))


# --- what writers in Go leave null ------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"mediaType": None}, {"mediaType": ""}, {"annotations": None}])
def test_a_layout_whose_manifests_are_null_is_empty_and_stays_a_layout(store, repository, tmp_path, more):
    source = Layout(tmp_path / "layout").write(document({"schemaVersion": 2, "manifests": None, **more}))
    report = store.import_(source)
    assert (report.tags, report.untagged, report.manifests) == ((), (), 0)
    for blob in APP.blobs:
        repository.put_blob(blob)
    repository.put_manifest(APP.manifest, tags=["v1"])
    store.export(source, ["app:v1"])
    assert [entry["digest"] for entry in listed(source)] == [APP.digest]


def test_an_empty_store_in_place_lists_nothing_and_not_null(store):
    store.export_in_place()
    assert json.loads((store.root / "index.json").read_bytes())["manifests"] == []


def test_manifests_with_null_lists_are_stored_as_they_are(store, repository, tmp_path):
    repository.put_blob(APP.config)
    config = described(APP.config, mediatypes.OCI_CONFIG)
    bodies = [
        {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": config, "layers": None, "subject": None},
        {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": None, "annotations": None},
    ]
    for number, body in enumerate(bodies):
        put = repository.put_manifest(document(body), tags=[f"v{number}"])
        assert repository.get_manifest(put.digest).content == document(body)
    store.export(tmp_path / "layout.tar")
    with Store.open(tmp_path / "other") as other:
        other.import_(tmp_path / "layout.tar", platforms=["linux/arm64"])
        assert other.repository("app").get_manifest("v1").content == document(bodies[1])
    assert check(store, hashes=True) == []
    assert store.scrub(level="deep").exit_code == 0
