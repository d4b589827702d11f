"""Content that only the descriptors of a layout carry (image specification, "Descriptor", ``data``)."""

import base64
import io

import pytest
from archived import members_of, tarred
from handmade import Layout, listed
from images import Image, described, document, image
from invariants import check

from ocistore import Digest, LayoutInvalidError, Store
from ocistore.oci import mediatypes


def carried(content, media_type, **more):
    return described(content, media_type, data=base64.b64encode(content).decode(), **more)


def of(*layers, config=None):
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": carried(b"{}", mediatypes.OCI_EMPTY) if config is None else config,
        "layers": list(layers),
    }
    return Image(document(body))


NOTE = of(carried(b"note", "text/plain"))


@pytest.mark.parametrize("form", ["a directory", "an archive", "a stream"])
@pytest.mark.parametrize("mode", ["auto", "link"])
def test_it_comes_in_and_goes_out_as_blobs(store, tmp_path, form, mode):
    path = Layout(tmp_path / "layout").add(NOTE, "note:v1").write()
    archive = tarred(members_of(path))
    (tmp_path / "archive").write_bytes(archive)
    if form != "a directory":
        mode = "auto"
    source = {"a directory": path, "an archive": tmp_path / "archive", "a stream": io.BytesIO(archive)}[form]
    report = store.import_(source, mode=mode)
    assert (report.tags, report.blobs) == (("note:v1",), 2)
    for content in (b"{}", b"note"):
        with store.repository("note").open_blob(Digest.of(content), verify=True) as blob:
            assert blob.read() == content
    assert check(store, hashes=True) == []
    store.export(tmp_path / "out")
    with Store.open(tmp_path / "other") as other:
        assert other.import_(tmp_path / "out", dry_run=True).blobs == 2


def test_manifests_may_be_carried_by_an_index_and_by_index_json(store, tmp_path):
    child = image("child", layers=0)
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [carried(child.manifest, mediatypes.OCI_MANIFEST)],
    }
    layout = Layout(tmp_path / "layout")
    layout.blob(child.config)
    layout.entries.append(
        carried(document(body), mediatypes.OCI_INDEX, annotations={"org.opencontainers.image.ref.name": "app:v1"})
    )
    assert store.import_(layout.write()).manifests == 2
    assert store.repository("app").get_manifest(child.digest).content == child.manifest
    store.export(tmp_path / "out")
    assert [entry["digest"] for entry in listed(tmp_path / "out")] == [Digest.of(document(body))]


def test_what_is_there_is_taken_from_there_and_must_be_right(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(NOTE, "note:v1")
    layout.blob(b"note").write_bytes(b"tone")
    with pytest.raises(LayoutInvalidError, match="digest"):
        store.import_(layout.write())


def test_what_is_carried_wrongly_is_refused(store, tmp_path):
    wrong = described(b"note", "text/plain", data=base64.b64encode(b"tone").decode())
    with pytest.raises(LayoutInvalidError, match="data"):
        store.import_(Layout(tmp_path / "layout").add(of(wrong), "note:v1").write())


def test_a_layout_that_carries_nothing_lacks_what_it_lacks(store, tmp_path):
    bare = Image(image("bare").manifest)
    with pytest.raises(LayoutInvalidError, match="is missing: config"):
        store.import_(Layout(tmp_path / "layout").add(bare, "app:v1").write())
