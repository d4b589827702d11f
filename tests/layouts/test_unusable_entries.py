"""Entries of a layout of which nothing can be read here: they do not stand in the way of the others."""

import json

import pytest
from click.testing import CliRunner
from handmade import REF_NAME, Layout, listed
from images import described, document, image, push
from state import unchanged

from ocistore import LayoutInvalidError, ManifestNotFoundError, PlatformNotFoundError, Store, rebuild
from ocistore.cli.commands import ocistore

APP, OTHER = image("app"), image("other")
MD5 = "md5:" + "0" * 32
UNUSABLE = {
    "md5": ({"digest": MD5}, MD5, "an algorithm that is not known"),
    "an unknown algorithm": ({"digest": "multihash+base58:QmRZxt2b1F"}, "multihash+base58:QmRZxt2b1F", "not known"),
    "a word for a media type": ({"mediaType": "image"}, OTHER.digest, "'image' is not a media type"),
    "an empty media type": ({"mediaType": ""}, OTHER.digest, "'' is not a media type"),
    "no media type": ({"mediaType": None}, OTHER.digest, "None is not a media type"),
    "a media type with parameters": ({"mediaType": "a/b; charset=utf-8"}, OTHER.digest, "is not a media type"),
}


@pytest.fixture(params=UNUSABLE.values(), ids=UNUSABLE)
def unusable(request, tmp_path):
    """A layout of something good and something of which nothing can be read, and what is said of that."""
    changes, digest, reason = request.param
    layout = Layout(tmp_path / "layout").add(APP, "app:v1")
    layout.put(OTHER)
    layout.entries.append({**described(OTHER.manifest, OTHER.media_type, annotations={REF_NAME: "app:v2"}), **changes})
    return layout.write(), digest, reason


def test_what_can_be_taken_in_is_and_the_rest_is_named(store, unusable):
    source, digest, reason = unusable
    report = store.import_(source)
    assert report.tags == ("app:v1",)
    [said] = report.unusable
    assert said.startswith(f"{digest} ('app:v2': ")
    assert reason in said
    result = CliRunner().invoke(ocistore, ["--store", str(store.root), "import", str(source)])
    assert result.exit_code == 0
    assert f"left out: {said}\n" in result.stderr


def test_another_that_was_asked_for_by_name_comes_in(store, unusable):
    report = store.import_(unusable[0], references=["app:v1=mine:v1"])
    assert report.tags == ("mine:v1",)
    assert store.import_(unusable[0], references=["app:v*"]).tags == ("app:v1",)


def test_what_was_asked_for_by_name_is_an_error_that_says_why(store, unusable):
    source, digest, reason = unusable
    with (
        pytest.raises(LayoutInvalidError, match="it was asked for, and cannot be read") as caught,
        unchanged(store.root),
    ):
        store.import_(source, references=["app:v1", "app:v2"])
    assert digest in str(caught.value)
    assert reason in str(caught.value)
    with pytest.raises(ManifestNotFoundError), unchanged(store.root):
        store.import_(source, references=["app:v3"])


def test_something_of_an_unknown_media_type_that_was_asked_for_is_an_error_that_says_so(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(APP, "app:v1").add(OTHER, "app:v2", mediaType="x/y")
    with pytest.raises(LayoutInvalidError, match="x/y is no manifest"), unchanged(store.root):
        store.import_(layout.write(), references=["app:v2"])


def test_an_export_into_such_a_layout_keeps_the_entry_as_it_was(store, unusable):
    source, digest, _ = unusable
    before = json.loads((source / "index.json").read_bytes())["manifests"][1]
    push(store.repository("app"), image("new"), "v3")
    store.export(source, ["app:v3"])
    assert listed(source)[-1] == before
    index = json.loads((source / "index.json").read_bytes())
    index["manifests"][-1]["annotations"][REF_NAME] = "v2"  # as the next export calls its own
    (source / "index.json").write_bytes(document(index))
    push(store.repository("app"), image("newer"), "v2")
    store.export(source, ["app:v2"])
    assert [entry["digest"] for entry in listed(source)].count(digest) == 0


def test_a_rebuild_reads_the_names_of_the_others(store, unusable):
    push(store.repository("app"), APP, "v1")
    store.export_in_place()
    index = json.loads((store.root / "index.json").read_bytes())
    index["manifests"].append(json.loads((unusable[0] / "index.json").read_bytes())["manifests"][1])
    (store.root / "index.json").write_bytes(document(index))
    store.close()
    (store.root / "catalog.snapshot").unlink(missing_ok=True)
    rebuild(store.root, force=True)
    with Store.open(store.root) as rebuilt:
        assert rebuilt.repository("app").resolve("v1").digest == APP.digest


@pytest.mark.parametrize("entries", [[], None, [{"mediaType": "x/y", "digest": str(APP.digest), "size": 1}]])
def test_nothing_imported_is_said_loudly_and_an_error_where_something_was_asked_for(store, tmp_path, entries):
    source = Layout(tmp_path / "layout").write(document({"schemaVersion": 2, "manifests": entries}))
    assert store.import_(source).tags == ()
    for more in ([], ["--json"]):
        result = CliRunner().invoke(ocistore, ["--store", str(store.root), "import", str(source), *more])
        assert result.exit_code == 0
        assert f"nothing was imported: {source} lists nothing that can be\n" in result.stderr
    with pytest.raises(ManifestNotFoundError), unchanged(store.root):
        store.import_(source, references=["app:v1"])
    with pytest.raises(PlatformNotFoundError), unchanged(store.root):
        store.import_(source, platforms=["linux/amd64"])
    with pytest.raises(LayoutInvalidError, match="nothing in it to be called app:v1"), unchanged(store.root):
        store.import_(source, "app:v1")


@pytest.mark.parametrize("choice", [{"repository": "app:v1"}, {"platforms": ["linux/amd64"]}], ids=str)
@pytest.mark.parametrize("name", UNUSABLE)
def test_where_nothing_comes_in_the_error_says_what_is_there_and_why_it_cannot(store, tmp_path, choice, name):
    changes, digest, reason = UNUSABLE[name]
    layout = Layout(tmp_path / "layout")
    layout.put(OTHER)
    layout.entries.append({**described(OTHER.manifest, OTHER.media_type), **changes})
    with pytest.raises((LayoutInvalidError, PlatformNotFoundError)) as caught, unchanged(store.root):
        store.import_(layout.write(), **choice)
    assert "there is nothing in it" in str(caught.value)
    assert f"but for what cannot come in: {digest} (" in str(caught.value)
    assert reason in str(caught.value)
