"""What an index.json says of an entry besides its name: kept in the store, and written again wherever it goes."""

import json
from datetime import timedelta

import pytest
from handmade import IMAGE_NAME, REF_NAME, Layout, listed
from images import artifact, image, index, push
from invariants import check

from ocistore import Digest, Store, rebuild
from ocistore.upkeep import refsfile

APP, OTHER = image("app"), image("other")
SIGNATURE = artifact("signature", subject=APP)
KIND = {"kind": "dev.cosignproject.cosign/image", "org.example.note": "ä"}
PLATFORM = {"architecture": "arm64", "os": "linux", "variant": "v8", "os.features": ["sse4"], "os.version": "1.2"}


def said(path, digest=APP.digest):
    """What the entries of that digest say besides their names."""
    [found] = [
        (
            {key: text for key, text in entry.get("annotations", {}).items() if key not in {REF_NAME, IMAGE_NAME}},
            entry.get("platform"),
        )
        for entry in listed(path)
        if entry["digest"] == digest
    ]
    return found


@pytest.fixture
def source(tmp_path):
    layout = Layout(tmp_path / "source").add(APP, "app:v1", platform=PLATFORM)
    layout.entries[-1]["annotations"] |= KIND
    return layout.write()


def test_it_goes_out_again_in_every_way(store, source, tmp_path):
    store.import_(source)
    store.export(tmp_path / "layout", ["app:v1"])
    store.export_in_place()
    store.backup(tmp_path / "backup")
    store.copy_to(tmp_path / "copy", ["app:v1=mirror:v9"])
    for root in (tmp_path / "backup", tmp_path / "copy"):
        with Store.open(root) as other:
            other.export_in_place()
    for root in ("layout", "store", "backup", "copy"):
        assert said(tmp_path / root) == (KIND, PLATFORM), root
    store.export(tmp_path / "layout.tar", ["app:v1"])
    with Store.open(tmp_path / "again") as again:
        again.import_(tmp_path / "layout.tar")
        again.export_in_place()
    assert said(tmp_path / "again") == (KIND, PLATFORM)
    assert check(store, hashes=True) == []


def test_each_tag_keeps_its_own(store, tmp_path):
    layout = Layout(tmp_path / "source").add(APP, "app:v1", platform=PLATFORM).add(APP, "app:v2")
    layout.entries[-1]["annotations"] |= KIND
    store.import_(layout.write())
    store.export(tmp_path / "one", ["app:v1"])
    store.export(tmp_path / "two", ["app:v2"])
    assert said(tmp_path / "one") == ({}, PLATFORM)
    assert said(tmp_path / "two") == (KIND, None)


def test_a_tag_that_moves_leaves_it_behind_and_one_that_stays_keeps_it(store, source, tmp_path):
    store.import_(source)
    repository = store.repository("app")
    before = list(repository.history())
    repository.tag("v1", APP.digest)
    repository.put_manifest(APP.manifest, tags=["v1"])
    store.export(tmp_path / "kept", ["app:v1"])
    assert said(tmp_path / "kept") == (KIND, PLATFORM)
    assert list(repository.history()) == before
    push(repository, OTHER, "v1")
    store.export(tmp_path / "moved", ["app:v1"])
    assert said(tmp_path / "moved", OTHER.digest) == ({}, None)
    repository.tag("v1", APP.digest)
    store.export(tmp_path / "back", ["app:v1"])
    assert said(tmp_path / "back") == ({}, None)


def test_an_import_replaces_it_without_an_event(store, source, tmp_path):
    store.import_(source)
    again = Layout(tmp_path / "again").add(APP, "app:v1")
    again.entries[-1]["annotations"] |= {"kind": "another"}
    report = store.import_(again.write())
    assert report.moved == ()
    assert len(list(store.repository("app").history())) == 1
    store.export(tmp_path / "out", ["app:v1"])
    assert said(tmp_path / "out") == ({"kind": "another"}, None)


def test_what_has_no_tag_keeps_it_too(store, tmp_path):
    layout = Layout(tmp_path / "source").add(APP, "app:v1").add(SIGNATURE)
    layout.entries[-1] |= {"annotations": {"kind": "dev.cosignproject.cosign/sigs"}}
    store.import_(layout.write())
    store.copy_to(tmp_path / "copy", ["app:v1"])
    with Store.open(tmp_path / "copy") as other:
        other.export(tmp_path / "out", ["app:v1"], referrers=True)
    assert said(tmp_path / "out", SIGNATURE.digest) == ({"kind": "dev.cosignproject.cosign/sigs"}, None)
    store.import_(tmp_path / "out")
    store.export(tmp_path / "digest", [f"app@{SIGNATURE.digest}"])
    assert said(tmp_path / "digest", SIGNATURE.digest)[0] == {"kind": "dev.cosignproject.cosign/sigs"}


def test_an_index_that_is_narrowed_keeps_it(store, tmp_path):
    layout = Layout(tmp_path / "source").add(index([APP, image("amd", architecture="amd64")]), "app:v1")
    layout.entries[-1]["annotations"] |= KIND
    store.import_(layout.write(), platforms=["linux/arm64"])
    store.export(tmp_path / "out", ["app:v1"])
    digest = store.repository("app").resolve("v1").digest
    assert said(tmp_path / "out", digest) == (KIND, None)
    document = json.loads((tmp_path / "out" / "blobs" / digest.replace(":", "/")).read_bytes())
    assert [Digest(child["digest"]) for child in document["manifests"]] == [APP.digest]


@pytest.mark.parametrize("names_from", ["catalog.snapshot", "index.json", "the old catalog"])
def test_a_rebuild_keeps_it(store, tmp_path, names_from):
    layout = Layout(tmp_path / "source").add(APP, "app:v1", platform=PLATFORM).add(SIGNATURE).add(OTHER, "app:long")
    layout.entries[-1]["annotations"] |= {"long": "x" * 4096}
    layout.entries[0]["annotations"] |= KIND | {"wide": "\U0001f433" * 3500}
    layout.entries[1] |= {"annotations": {"kind": "dev.cosignproject.cosign/sigs"}}
    store.import_(layout.write())
    if names_from == "index.json":
        store.export_in_place()
    elif names_from == "catalog.snapshot":
        refsfile.refresh(store._core.catalog, store._core.paths, older_than=timedelta(0))
    store.close()
    if names_from != "the old catalog":
        for suffix in ("", "-wal", "-shm"):
            (store.root / f"catalog.db{suffix}").unlink(missing_ok=True)
    rebuild(store.root, force=True)
    with Store.open(store.root) as rebuilt:
        rebuilt.export(tmp_path / "out", ["app"])
        assert check(rebuilt, hashes=True) == []
    assert said(tmp_path / "out") == (KIND | {"wide": "\U0001f433" * 3500}, PLATFORM)
    assert said(tmp_path / "out", SIGNATURE.digest) == ({"kind": "dev.cosignproject.cosign/sigs"}, None)
    assert said(tmp_path / "out", OTHER.digest)[0].keys() == ({"long"} if names_from == "index.json" else set())
