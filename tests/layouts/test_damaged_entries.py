"""What is wrong in itself stands in the way of itself, and not of what was asked for by another name."""

import gzip
import hashlib
import io
import json
import tarfile

import pytest
from archived import config_of, member, members_of, tarred
from click.testing import CliRunner
from handmade import REF_NAME, Layout
from images import APP, Image, artifact, described, document, image, push
from invariants import check
from state import unchanged

from ocistore import Digest, LayoutInvalidError, ManifestNotFoundError, rebuild
from ocistore.cli.commands import ocistore
from ocistore.oci import mediatypes

GOOD_LAYER, BAD_LAYER = tarred([member("a", b"good")]), tarred([member("a", b"bad")])


# --- images in Docker's archives --------------------------------------------------------------------------------------


def without_a_layer(files, entry):
    del files["bad.tar"]


def without_the_config(files, entry):
    del files["bad.json"]


def config_that_is_no_json(files, entry):
    files["bad.json"] = b"{"


def config_without_rootfs(files, entry):
    files["bad.json"] = document({"architecture": "arm64", "os": "linux", "rootfs": None})


def fewer_layers_than_diff_ids(files, entry):
    entry["Layers"] = []


def layers_that_are_no_list(files, entry):
    entry["Layers"] = 7


def no_config_named(files, entry):
    del entry["Config"]


def a_layer_of_other_bytes(files, entry):
    files["bad.tar"] = GOOD_LAYER


BROKEN = [
    without_a_layer,
    without_the_config,
    config_that_is_no_json,
    config_without_rootfs,
    fewer_layers_than_diff_ids,
    layers_that_are_no_list,
    no_config_named,
    a_layer_of_other_bytes,
]
KNOWN_PLATFORM = [without_a_layer, config_without_rootfs, fewer_layers_than_diff_ids, a_layer_of_other_bytes]
FORMS = ["Docker's", "both", "unpacked"]


@pytest.fixture
def archive(tmp_path):
    def make(broken, form):
        files = {
            "good.json": config_of([GOOD_LAYER]),
            "good.tar": GOOD_LAYER,
            "bad.json": config_of([BAD_LAYER], architecture="arm64"),
            "bad.tar": BAD_LAYER,
        }
        listed = [
            {"Config": f"{name}.json", "RepoTags": [f"{name}:v1"], "Layers": [f"{name}.tar"]}
            for name in ("good", "bad")
        ]
        broken(files, listed[1])
        if form == "unpacked":  # where only blobs are read, besides the files of the top level
            places = {name: f"blobs/sha256/{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
            for entry in listed:
                _replace(entry, places)
            files = {places[name]: content for name, content in files.items()}
        files["manifest.json"] = document(listed)
        members = [member(name, content) for name, content in files.items()]
        if form != "Docker's":
            members += members_of(Layout(tmp_path / "layout").add(APP, "app:v1").write())
        content = tarred(members)
        if form != "unpacked":
            (tmp_path / "archive").write_bytes(content)
        else:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                tar.extractall(tmp_path / "archive", filter="data")
        return tmp_path / "archive"

    return make


def _replace(entry, places):
    if "Config" in entry:
        entry["Config"] = places.get(entry["Config"], f"blobs/sha256/{'0' * 64}")
    if isinstance(entry["Layers"], list):
        entry["Layers"] = [places.get(name, f"blobs/sha256/{'1' * 64}") for name in entry["Layers"]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_image_does_not_block_another_that_was_asked_for(store, archive, broken, form):
    source = archive(broken, form)
    report = store.import_(source, references=["good:v1"])
    assert report.tags == ("good:v1",)
    if broken is not a_layer_of_other_bytes:  # which is known only when it is hashed
        [said] = report.unusable
        assert "'bad:v1': " in said
    if form != "Docker's":
        assert store.import_(source, references=["app:*"]).tags == ("app:v1",)


@pytest.mark.parametrize(
    ("broken", "form"),
    # Unpacked, a file has the name of its digest.
    [(broken, form) for broken in BROKEN for form in FORMS if (broken, form) != (a_layer_of_other_bytes, "unpacked")],
)
def test_it_is_an_error_where_it_or_everything_was_asked_for(store, archive, broken, form):
    source = archive(broken, form)
    for choice in ({"references": ["bad:v1"]}, {"references": ["good:v1", "bad:*"]}, {}, {"repository": "mine"}):
        with pytest.raises(LayoutInvalidError), unchanged(store.root):
            store.import_(source, **choice)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("broken", KNOWN_PLATFORM)
def test_it_does_not_block_the_images_of_another_platform(store, archive, broken, form):
    source = archive(broken, form)
    assert "good:v1" in store.import_(source, platforms=["linux/amd64"]).tags
    assert "good:v1" in store.import_(source, references=["good", "bad:*"], platforms=["linux/amd64"]).tags
    with pytest.raises(LayoutInvalidError), unchanged(store.root):
        store.import_(source, references=["bad:v1"], platforms=["linux/arm64"])


@pytest.mark.parametrize("form", FORMS)
def test_it_may_be_of_the_platform_where_that_is_not_known(store, archive, form):
    with pytest.raises(LayoutInvalidError, match="missing"), unchanged(store.root):
        store.import_(archive(without_the_config, form), platforms=["linux/amd64"])


@pytest.mark.parametrize("form", FORMS)
def test_an_unknown_algorithm_in_a_config_blocks_nothing_else(store, archive, form):
    def md5(files, entry):
        files["bad.json"] = document({"architecture": "arm64", "rootfs": {"diff_ids": ["md5:" + "0" * 32]}})

    source = archive(md5, form)
    report = store.import_(source)
    assert "good:v1" in report.tags
    assert any("'bad:v1': " in said for said in report.unusable)
    with pytest.raises(LayoutInvalidError, match="unknown algorithm"), unchanged(store.root):
        store.import_(source, references=["bad:v1"])


def test_a_name_with_the_digest_of_another_image_does_not_block_other_names(store, archive):
    def misnamed(files, entry):
        entry["RepoTags"] = ["bad:v2", "bad@sha256:" + "0" * 64]

    source = archive(misnamed, "Docker's")
    assert store.import_(source, references=["good:v1", "bad:v2"]).tags == ("bad:v2", "good:v1")
    with pytest.raises(LayoutInvalidError, match="the name of another image"), unchanged(store.root):
        store.import_(source)


def test_the_command_says_what_it_left_out(store, archive):
    command = ["--store", str(store.root), "import", str(archive(without_a_layer, "Docker's")), "--ref", "good:v1"]
    result = CliRunner().invoke(ocistore, command)
    assert result.exit_code == 0
    assert "left out: " in result.stderr
    assert "'bad:v1': 'bad.tar' is missing" in result.stderr


@pytest.mark.parametrize("way", ["a file", "a stream", "compressed"])
@pytest.mark.parametrize("size", [20, 100_000])
@pytest.mark.parametrize("part", ["a layer", "the config", "the manifest"])
@pytest.mark.parametrize("form", ["a layout", "Docker's", "both"])
def test_a_blob_of_other_bytes_does_not_block_another_image(store, tmp_path, way, size, part, form):  # noqa: PLR0917
    images = {}
    for name, architecture in (("good", "amd64"), ("bad", "arm64")):
        layer = tarred([member(name, bytes(size))])
        config = config_of([layer], architecture=architecture)
        body = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": described(config, mediatypes.OCI_CONFIG),
            "layers": [described(layer, mediatypes.OCI_LAYER)],
        }
        images[name] = Image(document(body), (config, layer))
    layout = Layout(tmp_path / "layout")
    for name, each in images.items():
        layout.add(each, None, f"docker.io/library/{name}:v1")
    files = {header.name: content for header, content in members_of(layout.write())}
    if form == "Docker's":
        del files["oci-layout"], files["index.json"]
    if form != "a layout":
        files["manifest.json"] = document(
            [
                {
                    "Config": f"blobs/sha256/{Digest.of(each.config).encoded}",
                    "RepoTags": [f"{name}:v1"],
                    "Layers": [f"blobs/sha256/{Digest.of(each.layers[0]).encoded}"],
                }
                for name, each in images.items()
            ]
        )
    bad = images["bad"]
    content = {"a layer": bad.layers[0], "the config": bad.config, "the manifest": bad.manifest}[part]
    files[f"blobs/sha256/{Digest.of(content).encoded}"] = content[:-1] + b"?"
    archive = tarred([member(name, content) for name, content in files.items()])
    (tmp_path / "archive").write_bytes(gzip.compress(archive) if way == "compressed" else archive)

    def source():
        return io.BytesIO(archive) if way == "a stream" else tmp_path / "archive"

    reference = "docker.io/library/{}:v1" if form == "a layout" else "{}:v1"
    assert len(store.import_(source(), references=[reference.format("good")]).tags) == 1
    assert check(store, hashes=True) == []
    if form == "a layout" or part != "the manifest":  # which Docker does not need
        for choice in ({"references": [reference.format("bad")]}, {}):
            with pytest.raises(LayoutInvalidError), unchanged(store.root):
                store.import_(source(), **choice)
    assert not list((store.root / "uploads").iterdir())


# --- entries of index.json --------------------------------------------------------------------------------------------

OTHER = image("other", architecture="arm64")
DAMAGED = {
    "a size below nothing": {"size": -1},
    "no size": {"size": None},
    "a digest cut short": {"digest": "sha256:abc"},
    "a number for a media type": {"mediaType": 5},
    "a number for an artifact type": {"artifactType": 5},
    "a list for a platform": {"platform": []},
    "half a platform": {"platform": {"os": "linux"}},
    "numbers in a platform": {"platform": {"os": 1, "architecture": 2}},
    "urls that are none": {"urls": [None]},
    "data that is no base64": {"data": "###"},
    "annotations that are no text": {"annotations": {REF_NAME: "bad:v1", "x": 5}},
    "a key in capitals": {"Digest": str(OTHER.digest)},
}


@pytest.fixture(params=DAMAGED.values(), ids=DAMAGED)
def damaged(request, tmp_path):
    layout = Layout(tmp_path / "layout").add(APP, "good:v1")
    layout.put(OTHER)
    entry = described(OTHER.manifest, OTHER.media_type, annotations={REF_NAME: "bad:v1"})
    layout.entries.append({**entry, **request.param})
    return layout.write()


def test_a_damaged_entry_does_not_block_another_that_was_asked_for(store, damaged):
    report = store.import_(damaged, references=["good:v1"])
    assert report.tags == ("good:v1",)
    [said] = report.unusable
    assert "'bad:v1': index.json: " in said
    assert "manifests[1]" in said


def test_a_damaged_entry_is_an_error_where_it_or_everything_was_asked_for(store, damaged):
    for choice in ({"references": ["bad:v1"]}, {"references": ["good:v1", "bad"]}, {}, {"repository": "mine"}):
        with pytest.raises(LayoutInvalidError, match=r"manifests\[1\]"), unchanged(store.root):
            store.import_(damaged, **choice)
    with pytest.raises(ManifestNotFoundError), unchanged(store.root):
        store.import_(damaged, references=["good:v2"])


@pytest.mark.parametrize("name", [{REF_NAME: 5}, [REF_NAME], "bad:v1"], ids=repr)
@pytest.mark.parametrize("entry", ["an object", None, 7])
def test_what_has_a_name_that_cannot_be_read_may_be_what_was_asked_for(store, tmp_path, name, entry):
    layout = Layout(tmp_path / "layout").add(APP, "good:v1")
    entry = described(OTHER.manifest, OTHER.media_type, annotations=name) if entry == "an object" else entry
    layout.entries.append(entry)
    source = layout.write()
    assert store.import_(source, references=["good:v1"]).tags == ("good:v1",)
    with pytest.raises(LayoutInvalidError, match=r"manifests\[1\]"), unchanged(store.root):
        store.import_(source, references=["bad:v1"])


def test_a_damaged_entry_for_another_platform_blocks_nothing(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(APP, "good:v1")
    platform = {"architecture": "s390x", "os": "linux"}
    layout.entries.append({**described(OTHER.manifest, OTHER.media_type, platform=platform), "size": -1})
    source = layout.write()
    assert store.import_(source, platforms=["linux/arm64"]).tags == ("good:v1",)
    with pytest.raises(LayoutInvalidError), unchanged(store.root):
        store.import_(source, platforms=["linux/arm64", "linux/s390x"])


def test_where_index_json_itself_cannot_be_read_that_is_said_whatever_was_asked_for(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(APP, "good:v1")
    source = layout.write()
    (source / "index.json").write_bytes((source / "index.json").read_bytes()[:-1])
    for choice in ({}, {"references": ["good:v1"]}, {"platforms": ["linux/arm64"]}):
        with pytest.raises(LayoutInvalidError, match=r"index\.json: .*not JSON"), unchanged(store.root):
            store.import_(source, **choice)


@pytest.mark.parametrize("form", ["a layout", "Docker's"])
def test_more_damage_than_anybody_reads_is_not_kept(store, tmp_path, form):
    count = 20_000
    if form == "a layout":
        manifests = f"[{','.join(['{}'] * count)}]"
        source = Layout(tmp_path / "layout").write(b'{"schemaVersion":2,"manifests":' + manifests.encode() + b"}")
    else:
        source = tmp_path / "archive"
        source.write_bytes(tarred([member("manifest.json", b"[" + b"{}," * count + b"{}]")]))
    for choice in ({}, {"references": ["good:v1"]}):
        with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
            store.import_(source, **choice)
        assert len(caught.value.problems) == 1


# --- what is about something else -------------------------------------------------------------------------------------

SIGNATURE = artifact("signature", subject=APP)


@pytest.mark.parametrize("damage", ["gone", "other bytes", "another size"])
def test_what_may_be_about_something_and_cannot_be_read_is_said_to_be_left_out(store, tmp_path, damage):
    layout = Layout(tmp_path / "layout").add(APP, "good:v1").add(SIGNATURE)
    file = layout.path / "blobs" / "sha256" / SIGNATURE.digest.encoded
    if damage == "gone":
        file.unlink()
    elif damage == "other bytes":
        file.write_bytes(SIGNATURE.manifest[:-1] + b"?")
    else:
        layout.entries[-1]["size"] += 1
    report = store.import_(layout.write(), references=["good:v1"])
    assert report.tags == ("good:v1",)
    [said] = report.unusable
    assert said.startswith(f"{SIGNATURE.digest} (")
    with pytest.raises(LayoutInvalidError), unchanged(store.root):
        store.import_(layout.path)


def test_a_referrer_that_lacks_something_says_how_to_do_without(store, tmp_path):
    source = Layout(tmp_path / "layout").add(APP, "good:v1").add(SIGNATURE).write()
    (source / "blobs" / "sha256" / Digest.of(SIGNATURE.layers[0]).encoded).unlink()
    said = f"good@{SIGNATURE.digest} is about something that comes in, and can be left out"
    with pytest.raises(LayoutInvalidError, match=f"{said} .--no-referrers"), unchanged(store.root):
        store.import_(source, references=["good:v1"])
    with pytest.raises(LayoutInvalidError, match=f"{said} .--no-referrers"), unchanged(store.root):
        store.import_(source)
    with pytest.raises(LayoutInvalidError) as caught:
        store.import_(source, references=[f"good@{SIGNATURE.digest}"])
    assert "--no-referrers" not in str(caught.value)
    assert store.import_(source, referrers=False, dry_run=True).tags == ("good:v1",)
    report = store.import_(source, references=["good:v1"], referrers=False)
    assert (report.tags, report.referrers_left) == (("good:v1",), 1)


# --- what says nothing ------------------------------------------------------------------------------------------------

EMPTY = {
    "artifactType": {"artifactType": ""},
    "urls": {"urls": []},
    "data": {"data": ""},
    "platform, as .NET's SDK writes it": {"platform": {}},
    "platform of empty strings, as go-containerregistry writes it": {"platform": {"architecture": "", "os": ""}},
    "nothing but an operating system": {"platform": {"architecture": "", "os": "linux"}},
    "parts of a platform": {
        "platform": {"architecture": "arm64", "os": "linux", "os.version": "", "os.features": [], "variant": ""}
    },
    "nulls": dict.fromkeys(("artifactType", "urls", "data", "platform")),
}


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
def test_an_entry_with_members_that_say_nothing_comes_in(store, tmp_path, empty):
    source = Layout(tmp_path / "layout").add(OTHER, "app:v1", **empty).write()
    assert store.import_(source).tags == ("app:v1",)
    assert store.import_(source, "mine", platforms=["linux/arm64"]).tags == ("mine:v1",)
    store.export(tmp_path / "out", ["app:v1"], platforms=["linux/arm64"])
    assert store.import_(tmp_path / "out", "again").tags == ("again:v1",)


@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
def test_a_child_of_an_index_with_members_that_say_nothing_is_chosen_by_its_config(store, repository, tmp_path, empty):
    for blob in OTHER.blobs:
        repository.put_blob(blob)
    repository.put_manifest(OTHER.manifest)
    index = {
        "schemaVersion": 2,
        "mediaType": "",
        "artifactType": "",
        "manifests": [described(OTHER.manifest, OTHER.media_type, **empty)],
    }
    pushed = repository.put_manifest(document(index), media_type=mediatypes.OCI_INDEX, tags=["v1"])
    store.export(tmp_path / "out", [f"{repository.name}:v1"], platforms=["linux/arm64"])
    assert json.loads((tmp_path / "out" / "index.json").read_bytes())["manifests"][0]["digest"] == pushed.digest


def test_a_config_whose_platform_is_empty_says_none(store, tmp_path):
    flux = image("flux", architecture="", os="")  # as those made from go-containerregistry's empty image
    source = Layout(tmp_path / "layout").add(flux, "app:v1").write()
    assert store.import_(source, platforms=["linux/amd64"]).tags == ("app:v1",)
    assert store.export(tmp_path / "out", ["app:v1"], platforms=["linux/amd64"]).names == ("app:v1",)


def test_a_manifest_with_members_that_say_nothing_is_stored_scrubbed_and_rebuilt(store, repository):
    nothing = {"mediaType": "", "artifactType": "", "annotations": None, "subject": None}
    config, layer = OTHER.config, OTHER.layers[0]
    empty = {"artifactType": "", "platform": {}, "data": "", "annotations": None, "urls": []}
    body = {
        "schemaVersion": 2,
        **nothing,
        "config": described(config, mediatypes.OCI_CONFIG, **empty),
        "layers": [described(layer, mediatypes.OCI_LAYER, **empty)],
    }
    made = Image(document(body), (config, layer))
    pushed = push(repository, made, "v1")
    index = {"schemaVersion": 2, **nothing, "manifests": [described(made.manifest, made.media_type, **empty)]}
    repository.put_manifest(document(index), tags=["index"])
    assert (pushed.media_type, pushed.artifact_type) == (mediatypes.OCI_MANIFEST, None)
    assert repository.get_manifest("v1").artifact_type == mediatypes.OCI_CONFIG
    assert store.scrub().corrected == []
    assert check(store, hashes=True) == []
    store.close()
    (store.root / "catalog.snapshot").unlink(missing_ok=True)
    rebuild(store.root, force=True)
    assert check(store.root, hashes=True) == []
