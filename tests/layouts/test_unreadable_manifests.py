"""Manifests that speak of digests or kinds which are not known here: left out, said to be, and in nobody's way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from archived import config_of, member, tarred
from handmade import Layout, named
from images import artifact, described, document, image

from ocistore import LayoutInvalidError, Store
from ocistore.oci import mediatypes

if TYPE_CHECKING:
    from pathlib import Path

MD5 = "md5:d41d8cd98f00b204e9800998ecf8427e"
UNREADABLE: dict[str, dict[str, Any]] = {
    "digest of another algorithm": {"digest": MD5},
    "media type that is none": {"mediaType": "layer"},
    "media type with parameters": {"mediaType": "text/plain; charset=utf-8"},
    "empty media type": {"mediaType": ""},
    "no media type": {"mediaType": None},
}
CONFIG = document({"architecture": "amd64", "os": "linux"})
GOOD = image("good")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.open(tmp_path / "store") as store:
        yield store


def unreadable(kind: str, **more: Any) -> bytes:
    """An image manifest of which the layer is described so."""
    return manifest_with(UNREADABLE[kind], **more)


def manifest_with(change: dict[str, Any], **more: Any) -> bytes:
    layer = described(b"layer", mediatypes.OCI_LAYER) | change
    config = described(CONFIG, mediatypes.OCI_CONFIG)
    return document(
        {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": config, "layers": [layer], **more}
    )


def an_index(*children: dict[str, Any]) -> bytes:
    return document({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": list(children)})


def listed(layout: Layout, content: bytes, name: str | None, media_type: str = mediatypes.OCI_MANIFEST) -> Layout:
    layout.blob(content)
    for blob in (CONFIG, b"layer"):
        layout.blob(blob)
    layout.entries.append(described(content, media_type, annotations=named(name)))
    return layout


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_manifest_is_left_out_and_the_others_come_in(tmp_path: Path, store: Store, kind: str) -> None:
    content = unreadable(kind)
    layout = listed(Layout(tmp_path / "layout").add(GOOD, "app:good"), content, "app:bad").write()
    report = store.import_(layout)
    assert report.tags == ("app:good",)
    (left,) = report.unusable
    assert left.startswith(f"{described(content)['digest']} ('app:bad': layers[0].")
    assert store.import_(layout, references=["app:*"]).tags == ("app:good",)


@pytest.mark.parametrize("references", [["app:bad"], ["app:good", "app:bad"], ["app:b*"]])
def test_what_was_asked_for_and_cannot_be_read_is_an_error(tmp_path: Path, store: Store, references: list[str]) -> None:
    content = unreadable("digest of another algorithm")
    layout = listed(Layout(tmp_path / "layout").add(GOOD, "app:good"), content, "app:bad").write()
    with pytest.raises(LayoutInvalidError, match=r"asked for, and cannot be read: .*'app:bad': .*md5"):
        store.import_(layout, references=references)
    assert list(store.repositories()) == []


@pytest.mark.parametrize("options", [{}, {"platforms": ["linux/arm64"]}])
def test_an_unreadable_child_of_an_index_is_as_good_as_absent(
    tmp_path: Path, store: Store, options: dict[str, Any]
) -> None:
    good = described(GOOD.manifest, mediatypes.OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64"})
    bad = described(unreadable("digest of another algorithm"), mediatypes.OCI_MANIFEST)
    index = an_index(good, bad)
    layout = Layout(tmp_path / "layout")
    layout.put(GOOD)
    layout.blob(unreadable("digest of another algorithm"))
    report = store.import_(listed(layout, index, "app:v1", mediatypes.OCI_INDEX).write(), **options)
    assert report.tags == ("app:v1",)
    assert store.repository("app").resolve("v1").digest == described(index)["digest"]
    assert report.absent.keys() == {bad["digest"]}
    assert "md5" in report.absent[bad["digest"]]


def test_an_index_of_nothing_that_can_be_read_is_left_out(tmp_path: Path, store: Store) -> None:
    bad = unreadable("empty media type")
    index = an_index(described(bad, mediatypes.OCI_MANIFEST))
    layout = Layout(tmp_path / "layout").add(GOOD, "app:good")
    layout.blob(bad)
    report = store.import_(listed(layout, index, "app:v1", mediatypes.OCI_INDEX).write())
    assert (report.tags, len(report.unusable)) == (("app:good",), 1)
    assert described(bad)["digest"] in report.unusable[0]


def test_an_index_that_lists_a_digest_of_another_algorithm_is_left_out(tmp_path: Path, store: Store) -> None:
    index = an_index({"mediaType": mediatypes.OCI_MANIFEST, "digest": MD5, "size": 3})
    layout = Layout(tmp_path / "layout").add(GOOD, "app:good")
    report = store.import_(listed(layout, index, "app:v1", mediatypes.OCI_INDEX).write())
    assert (report.tags, len(report.unusable)) == (("app:good",), 1)


def test_a_referrer_that_cannot_be_read_stays_behind(tmp_path: Path, store: Store) -> None:
    subject = described(GOOD.manifest, mediatypes.OCI_MANIFEST)
    signature = artifact("signature", subject=GOOD)
    bad = unreadable("media type that is none", subject=subject)
    layout = listed(Layout(tmp_path / "layout").add(GOOD, "app:good").add(signature), bad, None).write()
    for options in ({}, {"references": ["app:good"]}):
        report = store.import_(layout, **options)
        assert report.tags == ("app:good",)
        assert report.untagged == (f"app@{signature.digest}",)
        if not options:
            assert len(report.unusable) == 1


@pytest.mark.parametrize("change", [{"size": -1}, {"digest": "sha256:short"}, {"digest": 5}, {"mediaType": 5}])
def test_damage_is_still_an_error(tmp_path: Path, store: Store, change: dict[str, Any]) -> None:
    content = manifest_with(change)
    layout = listed(Layout(tmp_path / "layout").add(GOOD, "app:good"), content, "app:bad").write()
    with pytest.raises(LayoutInvalidError, match=r"layers\[0\]"):
        store.import_(layout)


@pytest.mark.parametrize("names", [[""], ["<none>:<none>", ""], None])
def test_an_empty_name_in_a_docker_archive_is_none(tmp_path: Path, store: Store, names: list[str] | None) -> None:
    config = config_of([])
    described_so = [{"Config": "config.json", "RepoTags": names, "Layers": []}]
    archive = tmp_path / "saved.tar"
    archive.write_bytes(tarred([member("config.json", config), member("manifest.json", document(described_so))]))
    assert store.import_(archive, "app:v1").tags == ("app:v1",)
