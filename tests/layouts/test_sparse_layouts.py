"""What Docker, ctr and nerdctl save of an image that was pulled for one platform: an index that lacks the others."""

import io
import json
import shutil

import pytest
from archived import COMPRESSIONS, members_of, tarred
from click.testing import CliRunner
from handmade import Layout, listed, named
from images import Image, artifact, described, document, image, index, push
from invariants import check
from state import pool, unchanged

from ocistore import (
    Digest,
    LayoutInvalidError,
    ManifestNotFoundError,
    PlatformNotFoundError,
    Store,
)
from ocistore.cli.commands import ocistore
from ocistore.oci import mediatypes

AMD = image("amd", architecture="amd64")
ARM = image("arm")
PROVENANCE = artifact("provenance of amd", artifact_type=None, config_type=mediatypes.OCI_CONFIG)
PROVENANCE_ARM = artifact("provenance of arm", artifact_type=None, config_type=mediatypes.OCI_CONFIG)
SBOM = artifact("sbom", subject=ARM)
PLATFORMS = {AMD.digest: ("linux", "amd64"), ARM.digest: ("linux", "arm64")}


def listing(*children, media_type=mediatypes.OCI_INDEX, **more):
    """An index as BuildKit writes it: images with platforms, pairs of an attestation and what it is about."""
    entries = []
    for child in children:
        if isinstance(child, tuple):
            attestation, about = child
            annotations = {
                "vnd.docker.reference.digest": str(about.digest),
                "vnd.docker.reference.type": "attestation-manifest",
            }
            platform = {"architecture": "unknown", "os": "unknown"}
            entries.append(
                described(attestation.manifest, attestation.media_type, annotations=annotations, platform=platform)
            )
        elif child.digest in PLATFORMS:
            os, architecture = PLATFORMS[child.digest]
            platform = {"architecture": architecture, "os": os}
            entries.append(described(child.manifest, child.media_type, platform=platform))
        else:
            entries.append(described(child.manifest, child.media_type))
    return Image(
        document({"schemaVersion": 2, "mediaType": media_type, "manifests": entries, **more}), media_type=media_type
    )


BUILT = listing(AMD, ARM, (PROVENANCE, AMD), (PROVENANCE_ARM, ARM))
"""What ``docker buildx build --platform linux/amd64,linux/arm64`` pushes."""


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "layout")


@pytest.fixture(params=["a directory", "an archive", "a stream"])
def form(request):
    def made(path):
        if request.param == "a directory":
            return path
        if request.param == "a stream":
            return io.BytesIO(COMPRESSIONS["gzip"](tarred(members_of(path))))
        (path.parent / "archive.tar").write_bytes(tarred(members_of(path)))
        return path.parent / "archive.tar"

    return made


def saved(layout, whole, *parts, name="app:v1"):
    """A layout of an index, of which only these parts are there."""
    for part in parts:
        layout.put(part)
    layout.add(whole, name)
    return layout.write()


def contents(*images):
    return {digest for each in images for digest in (each.digest, *map(Digest.of, each.blobs))}


SAVED = {
    "an image and its attestation": ((AMD, PROVENANCE), (ARM, PROVENANCE_ARM)),
    "an image alone": ((AMD,), (ARM, PROVENANCE, PROVENANCE_ARM)),
    "an image and the attestation of another": ((AMD, PROVENANCE_ARM), (ARM, PROVENANCE)),
    "both images": ((AMD, ARM), (PROVENANCE, PROVENANCE_ARM)),
}
KINDS = {
    AMD.digest: "image for linux/amd64",
    ARM.digest: "image for linux/arm64",
    PROVENANCE.digest: f"attestation of {AMD.digest}",
    PROVENANCE_ARM.digest: f"attestation of {ARM.digest}",
}


@pytest.mark.parametrize(("there", "absent"), SAVED.values(), ids=SAVED)
def test_it_comes_in_byte_for_byte_and_the_report_names_what_is_absent(store, layout, form, there, absent):
    source = form(saved(layout, BUILT, *there))
    report = store.import_(source)
    assert store.repository("app").get_manifest("v1").content == BUILT.manifest
    assert report.absent == {each.digest: f"{KINDS[each.digest]} in app:v1" for each in absent}
    assert report.tags == ("app:v1",)
    assert set(pool(store.root)) == contents(*there) | {BUILT.digest}
    assert check(store, hashes=True) == []


def test_a_docker_list_is_taken_in_likewise(store, layout):
    amd = image("amd", docker=True, architecture="amd64")
    whole = listing(amd, image("arm", docker=True), media_type=mediatypes.DOCKER_LIST)
    store.import_(saved(layout, whole, amd))
    assert store.repository("app").get_manifest("v1").content == whole.manifest


def test_a_dry_run_says_what_is_absent_and_an_import_that_completes_it_does_not(store, layout, tmp_path, form):
    source = saved(layout, BUILT, AMD)
    assert store.import_(form(source), dry_run=True).absent.keys() == SAVED_ABSENT
    assert store.import_(form(source)).absent.keys() == SAVED_ABSENT
    report = store.import_(saved(Layout(tmp_path / "more"), BUILT, ARM, PROVENANCE, PROVENANCE_ARM))
    assert report.absent == {}  # the repository has it by now
    assert set(pool(store.root)) == contents(AMD, ARM, PROVENANCE, PROVENANCE_ARM) | {BUILT.digest}
    assert store.import_(source).absent == {}
    assert check(store, hashes=True) == []


SAVED_ABSENT = {ARM.digest, PROVENANCE.digest, PROVENANCE_ARM.digest}


def test_what_another_repository_has_is_absent_and_comes_along_only_when_asked_for(store, layout):
    push(store.repository("other"), ARM, "v1")
    source = saved(layout, BUILT, AMD)
    assert ARM.digest in store.import_(source).absent
    with pytest.raises(ManifestNotFoundError):
        store.repository("app").get_manifest(ARM.digest)
    report = store.import_(source, complete=True)
    assert (ARM.digest in report.absent, ARM.digest in report.completed) == (False, True)
    assert store.repository("app").get_manifest(ARM.digest).content == ARM.manifest
    assert check(store, hashes=True) == []


def test_a_child_that_is_there_without_its_layer_is_damaged_and_the_error_says_what_would_do(store, layout):
    source = saved(layout, BUILT, AMD, ARM)
    (source / "blobs" / Digest.of(ARM.layers[0]).replace(":", "/")).unlink()
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(source)
    assert caught.value.problems == (
        f"{Digest.of(ARM.layers[0])} is missing: layer of the image for linux/arm64 in app:v1",
        "app:v1 is whole for linux/amd64: choose that (--platform)",
    )
    with pytest.raises(LayoutInvalidError, match="is missing: layer "), unchanged(store.root):
        store.import_(source, platforms=["linux/arm64"])
    store.import_(source, platforms=["linux/amd64"])
    assert set(pool(store.root)) >= contents(AMD)
    assert check(store, hashes=True) == []


ANOTHER_AMD = image("another", architecture="amd64")


@pytest.mark.parametrize(
    ("damaged", "whole"),
    [(PROVENANCE, "linux/arm64"), (artifact("without a platform"), None), (ANOTHER_AMD, "linux/arm64")],
    ids=["an attestation", "what is for no platform", "another image for the platform"],
)
def test_a_platform_is_not_said_to_do_where_choosing_it_would_not(store, layout, monkeypatch, damaged, whole):
    monkeypatch.setitem(PLATFORMS, ANOTHER_AMD.digest, ("linux", "amd64"))
    listed_as = (damaged, AMD) if damaged is PROVENANCE else damaged
    source = saved(layout, listing(AMD, ARM, listed_as), AMD, ARM, damaged)
    (source / "blobs" / Digest.of(damaged.layers[0]).replace(":", "/")).unlink()
    with pytest.raises(LayoutInvalidError) as caught:
        store.import_(source)
    advice = [problem for problem in caught.value.problems if "is whole for" in problem]
    assert advice == ([] if whole is None else [f"app:v1 is whole for {whole}: choose that (--platform)"])
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(source, platforms=["linux/amd64"])
    assert "linux/amd64: choose" not in str(caught.value)
    if whole is not None:
        store.import_(source, platforms=[whole])


def test_a_child_that_is_damaged_is_not_absent(store, layout):
    source = saved(layout, BUILT, AMD, ARM)
    for damaged in (ARM.digest, Digest.of(ARM.layers[0])):
        file = source / "blobs" / damaged.replace(":", "/")
        before = file.read_bytes()
        file.write_bytes(b"?" * len(before))
        with pytest.raises(LayoutInvalidError, match=damaged), unchanged(store.root):
            store.import_(source)
        file.write_bytes(before)


def test_an_index_none_of_whose_images_is_there_is_refused_and_all_that_is_missing_said_to_be_what_it_is(store, layout):
    source = saved(layout, BUILT, PROVENANCE, ARM)
    (source / "blobs" / Digest.of(ARM.config).replace(":", "/")).unlink()
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(source)
    assert set(caught.value.problems) == {
        f"{AMD.digest} is missing: image for linux/amd64 in app:v1",
        f"{Digest.of(ARM.config)} is missing: config of the image for linux/arm64 in app:v1",
        f"{PROVENANCE_ARM.digest} is missing: attestation of {ARM.digest} in app:v1",
    }
    for blob in (ARM.digest, *map(Digest.of, ARM.layers)):
        (source / "blobs" / blob.replace(":", "/")).unlink()
    with pytest.raises(LayoutInvalidError, match="image for linux/arm64 in app:v1"), unchanged(store.root):
        store.import_(source)


def test_everything_missing_is_said_to_be_what_it_is(store, layout):
    gone = image("gone")
    source = layout.add(AMD, "app:v1").entry(gone, named("app:v2")).write()
    (source / "blobs" / Digest.of(AMD.layers[0]).replace(":", "/")).unlink()
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(source)
    assert caught.value.problems == (
        f"{Digest.of(AMD.layers[0])} is missing: layer in app:v1",
        f"{gone.digest} is missing: app:v2",
    )


# --- platforms --------------------------------------------------------------------------------------------------------


def children(store, reference="v1"):
    return [child.digest for child in store.repository("app").get_manifest(reference).manifests]


def test_choosing_a_platform_leaves_out_attestations_that_are_absent_and_says_so(store, layout, form):
    report = store.import_(form(saved(layout, BUILT, AMD)), platforms=["linux/amd64"])
    assert children(store) == [AMD.digest]
    assert report.absent == {PROVENANCE.digest: f"attestation of {AMD.digest} in app:v1"}
    assert report.replaced.keys() == {BUILT.digest}
    assert check(store, hashes=True) == []


def test_choosing_a_platform_keeps_an_attestation_that_is_there(store, layout):
    report = store.import_(saved(layout, BUILT, AMD, PROVENANCE), platforms=["linux/amd64"])
    assert (children(store), report.absent) == ([AMD.digest, PROVENANCE.digest], {})


def test_an_index_that_would_lose_only_what_is_absent_stays_as_it_is(store, layout):
    whole = listing(AMD, (PROVENANCE, AMD))
    report = store.import_(saved(layout, whole, AMD), platforms=["linux/amd64"])
    assert store.repository("app").resolve("v1").digest == whole.digest
    assert report.absent.keys() == {PROVENANCE.digest}
    both = store.import_(saved(layout, BUILT, AMD, name="app:v2"), platforms=["linux/amd64", "linux/arm64"])
    assert store.repository("app").resolve("v2").digest == BUILT.digest
    assert ARM.digest in both.absent


def test_a_platform_that_is_absent_is_an_error_that_says_which_would_do(store, layout):
    source = saved(layout, BUILT, AMD)
    for references in (None, ["app:v1"]):
        with pytest.raises(PlatformNotFoundError) as caught, unchanged(store.root):
            store.import_(source, platforms=["linux/arm64"], references=references)
        assert caught.value.available == ("linux/amd64",)
        assert caught.value.absent == {ARM.digest: "image for linux/arm64"}
        assert f"{ARM.digest} is missing (image for linux/arm64); --platform linux/amd64 would do" in str(caught.value)


def test_a_nested_index_that_is_absent_or_lacks_everything_is_left_out(store, layout):
    inner, lacking = index([ARM]), listing(image("x"), image("y"))
    whole = listing(AMD, inner, lacking)
    layout.put(Image(lacking.manifest))
    report = store.import_(saved(layout, whole, AMD))
    assert report.absent == {each.digest: "index in app:v1" for each in (inner, lacking)}
    assert children(store) == [AMD.digest, inner.digest, lacking.digest]
    narrowed = store.import_(saved(layout, whole, name="app:v2"), platforms=["linux/amd64"])
    assert store.repository("app").resolve("v2").digest == whole.digest
    assert narrowed.absent.keys() == {inner.digest, lacking.digest}
    assert check(store, hashes=True) == []


def test_only_what_is_absent_below_a_nested_index_is_absent(store, layout):
    inner = listing(AMD, ARM)
    report = store.import_(saved(layout, listing(inner), AMD, inner))
    assert report.absent == {ARM.digest: "image for linux/arm64 in app:v1"}


# --- out again --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sparse(store, layout):
    store.import_(saved(layout, BUILT, AMD, PROVENANCE))
    shutil.rmtree(layout.path)
    return store


@pytest.mark.parametrize("name", ["out", "out.tar", "out.tar.gz"])
def test_it_goes_out_as_it_is_and_comes_in_again(sparse, tmp_path, name):
    report = sparse.export(tmp_path / name, ["app"])
    assert set(report.absent) == {ARM.digest, PROVENANCE_ARM.digest}
    with Store.open(tmp_path / "other") as other:
        back = other.import_(tmp_path / name)
        assert back.absent.keys() == set(report.absent)
        assert other.repository("app").get_manifest("v1").content == BUILT.manifest
        assert check(other, hashes=True) == []


def test_it_is_said_what_is_absent_and_of_what(sparse, tmp_path):
    app = sparse.repository("app")
    nested = listing(BUILT)
    app.put_manifest(nested.manifest, tags=["nested"])
    said = {each.digest: f"{KINDS[each.digest]} in app:v1" for each in (ARM, PROVENANCE_ARM)}
    assert sparse.export(tmp_path / "out", ["app:v1"]).absent_kinds == said
    assert sparse.export(tmp_path / "out.tar", ["app:v1"], dry_run=True).absent_kinds == said
    within = {digest: kind.replace("app:v1", "mine:v2") for digest, kind in said.items()}
    assert sparse.copy_to(tmp_path / "copy", ["app:nested=mine:v2"]).absent_kinds == within
    assert sparse.export_in_place().absent_kinds.keys() == said.keys()
    amd = sparse.export(tmp_path / "amd", ["app:v1"], platforms=["linux/amd64"])
    assert amd.absent_kinds == {}
    foreign = Image(
        document(
            {
                **json.loads(AMD.manifest),
                "layers": [described(b"?", mediatypes.OCI_NONDISTRIBUTABLE_LAYER, urls=["https://layers.example/1"])],
            }
        ),
        AMD.blobs[:1],
    )
    push(app, foreign, "foreign")
    result = CliRunner().invoke(ocistore, ["--store", str(sparse.root), "export", "app:foreign", str(tmp_path / "f")])
    assert f"not exported: {Digest.of(b'?')} (layer in app:foreign)\n" in result.stderr
    result = CliRunner().invoke(ocistore, ["copy", str(sparse.root), str(tmp_path / "c"), "app:foreign"])
    assert f"not copied: {Digest.of(b'?')} (layer in app:foreign)\n" in result.stderr


def test_what_is_absent_beside_a_chosen_platform_is_said_to_be_what_it_is(sparse, tmp_path):
    both = sparse.export(tmp_path / "both", ["app:v1"], platforms=["linux/amd64", "linux/arm64"])
    assert both.absent_kinds == {ARM.digest: "image for linux/arm64 in app:v1"} | {
        digest: both.absent_kinds[digest] for digest in both.absent if digest != ARM.digest
    }


def test_the_bytes_of_a_child_that_is_no_manifest_here_stay_behind(sparse, tmp_path):
    sparse.repository("app").put_blob(ARM.manifest)  # as a push in the middle has it, or a mistake
    report = sparse.export(tmp_path / "out", ["app"])
    assert set(report.absent) == {ARM.digest, PROVENANCE_ARM.digest}
    copied = sparse.copy_to(tmp_path / "copy")
    assert copied.absent == report.absent
    with Store.open(tmp_path / "other") as other:
        assert ARM.digest in other.import_(tmp_path / "out").absent
        assert check(other, hashes=True) == []


def test_it_goes_out_narrowed_to_what_is_here(sparse, tmp_path):
    report = sparse.export(tmp_path / "out", ["app"], platforms=["linux/amd64"])
    assert report.absent == ()
    [entry] = listed(tmp_path / "out")
    index_bytes = (tmp_path / "out" / "blobs" / entry["digest"].replace(":", "/")).read_bytes()
    assert [child["digest"] for child in json.loads(index_bytes)["manifests"]] == [AMD.digest, PROVENANCE.digest]
    with pytest.raises(PlatformNotFoundError) as caught:
        sparse.export(tmp_path / "arm", ["app:v1"], platforms=["linux/arm64"])
    assert (caught.value.available, caught.value.absent) == (("linux/amd64",), {ARM.digest: "image for linux/arm64"})
    assert not (tmp_path / "arm").exists()


def test_narrowing_does_not_take_what_only_another_repository_holds(sparse, tmp_path):
    push(sparse.repository("other"), ARM, "v1")
    with pytest.raises(PlatformNotFoundError):
        sparse.export(tmp_path / "out", ["app:v1"], platforms=["linux/arm64"])


def test_it_is_copied_as_it_is_and_completed_by_a_later_copy(sparse, tmp_path):
    report = sparse.copy_to(tmp_path / "copy")
    assert set(report.absent) == {ARM.digest, PROVENANCE_ARM.digest}
    with Store.open(tmp_path / "copy") as other:
        assert other.repository("app").get_manifest("v1").content == BUILT.manifest
        assert check(other, hashes=True) == []
        push(sparse.repository("app"), ARM)
        sparse.copy_to(other)
        assert other.repository("app").get_manifest(ARM.digest).content == ARM.manifest
        assert check(other, hashes=True) == []


def test_what_was_put_with_nothing_of_it_is_copied_too(store, tmp_path):
    store.repository("app").put_manifest(BUILT.manifest, missing="all", tags=["v1"])
    store.copy_to(tmp_path / "copy")
    with Store.open(tmp_path / "copy") as other:
        assert other.repository("app").get_manifest("v1").content == BUILT.manifest


def test_in_place_it_is_a_layout_as_sparse_as_the_store(sparse, tmp_path):
    sparse.export_in_place()
    with Store.open(tmp_path / "other") as other:
        assert other.import_(sparse.root).absent.keys() == {ARM.digest, PROVENANCE_ARM.digest}


def test_the_command_line_says_what_is_absent_and_shows_it(store, layout):
    source = saved(layout, BUILT, AMD)
    result = CliRunner().invoke(ocistore, ["--store", str(store.root), "import", str(source)])
    assert result.exit_code == 0
    assert f"absent, and so not imported: {ARM.digest} (image for linux/arm64 in app:v1)\n" in result.stderr
    shown = CliRunner().invoke(ocistore, ["--store", str(store.root), "show", "app:v1"]).stdout
    assert sum("(not in the store)" in line for line in shown.splitlines()) == 3
    as_json = CliRunner().invoke(ocistore, ["--store", str(store.root), "show", "app:v1", "--json"]).stdout
    assert set(json.loads(as_json)["absent"]) == SAVED_ABSENT
