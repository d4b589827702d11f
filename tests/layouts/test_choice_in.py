"""What comes in, of all there is: by name, pattern, digest and platform, renamed, with referrers, completed or not."""

import errno
import io
import json
import os
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from archived import COMPRESSIONS, members_of, tarred
from click.testing import CliRunner
from handmade import IMAGE_NAME, REF_NAME, Layout
from images import Image, artifact, described, document, image, index, push
from state import pool, unchanged

from ocistore import (
    Digest,
    InvalidDigestError,
    InvalidNameError,
    LayoutInvalidError,
    ManifestNotFoundError,
    PlatformNotFoundError,
    ReadOnlyStoreError,
    StorageError,
    Store,
    StoreNotFoundError,
)
from ocistore.cli.commands import ocistore
from ocistore.layouts.imports.directorysource import BlobFile
from ocistore.oci import mediatypes
from ocistore.oci.platforms import narrow

ONE, TWO, THREE = image("one"), image("two"), image("three")
ARM, AMD = image("arm"), image("amd", architecture="amd64")
BOTH = index([ARM, AMD])
SBOM = artifact("sbom", subject=ARM)
SIGNATURE = artifact("signature", subject=SBOM)
OF_BOTH = artifact("of both", subject=BOTH)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "layout")


@pytest.fixture
def named(layout):
    """Several repositories with several tags."""
    layout.add(ONE, "app:v1").add(TWO, "app:v2").add(THREE, "app:latest").add(ONE, "other:v1").add(TWO, None, None)
    layout.entries[-1]["annotations"] = {IMAGE_NAME: f"app@{TWO.digest}"}
    layout.write()
    return layout.path


@pytest.fixture(params=["a directory", "an archive", "a stream"])
def form(request):
    """What makes one of the forms out of a layout's directory."""

    def made(path):
        if request.param == "a directory":
            return path
        content = COMPRESSIONS["gzip"](tarred(members_of(path)))
        if request.param == "a stream":
            return io.BytesIO(content)
        (path.parent / "archive").write_bytes(tarred(members_of(path)))
        return path.parent / "archive"

    return made


# --- by name ----------------------------------------------------------------------------------------------------------

SELECTED = {
    "one tag": (["app:v1"], ["app:v1"]),
    "a repository": (["app"], ["app:latest", "app:v1", "app:v2"]),
    "a pattern": (["app:v*"], ["app:v1", "app:v2"]),
    "another pattern": (["app:v[2-9]", "other:?1"], ["app:v2", "other:v1"]),
    "a tag with its digest": ([f"app:v1@{ONE.digest}"], ["app:v1"]),
    "renamed": (["app:v1=mirror/app:v9"], ["mirror/app:v9"]),
    "a tag kept": (["app:v1=mirror/app"], ["mirror/app:v1"]),
    "many renamed": (["app:v*=mirror/app"], ["mirror/app:v1", "mirror/app:v2"]),
    "twice": (["app:v1", "app:v1=app:stable"], ["app:stable", "app:v1"]),
    "by digest": ([f"app@{THREE.digest}"], ["app:latest"]),
    "by digest, named": ([f"app@{THREE.digest}=app:three"], ["app:three"]),
}


@pytest.mark.parametrize(("references", "expected"), SELECTED.values(), ids=SELECTED)
def test_references_choose_and_rename(store, named, references, expected):
    report = store.import_(named, references=references)
    assert list(report.tags) == expected
    for name in expected:
        repository, _, tag = name.partition(":")
        assert tag in set(store.repository(repository).tags())
    assert sorted(store.repositories()) == sorted({name.partition(":")[0] for name in expected})


def test_what_is_not_chosen_leaves_no_bytes(store, named, form):
    store.import_(form(named), references=["app:v1"])
    assert pool(store.root).keys() == {ONE.digest, *map(Digest.of, ONE.blobs)}


def test_untagged_content_is_chosen_by_its_digest(store, named):
    report = store.import_(named, references=[f"app@{TWO.digest}"])
    assert (report.tags, report.untagged) == (("app:v2",), (f"app@{TWO.digest}",))


UNMATCHED = {
    "a tag": ("app:v3", "v3"),
    "a pattern": ("app:x*", "x*"),
    "a repository": ("nothing", "*"),
    "a digest": (f"app@{AMD.digest}", AMD.digest),
    "a tag elsewhere": (f"app:v1@{TWO.digest}", None),
}


@pytest.mark.parametrize(("reference", "meant"), UNMATCHED.values(), ids=UNMATCHED)
def test_a_reference_that_means_nothing_is_an_error_that_names_it(store, layout, named, reference, meant):
    if meant is None:
        layout.entries.pop()
        layout.write()
    with pytest.raises(ManifestNotFoundError) as caught, unchanged(store.root):
        store.import_(named, references=["app:v1", reference])
    assert (caught.value.repository, caught.value.where) == (reference.partition(":")[0].partition("@")[0], str(named))
    assert caught.value.reference == (meant or TWO.digest)
    assert str(named) in str(caught.value)


def test_a_name_alone_that_means_nothing_is_not_called_a_repository(store, named):
    with pytest.raises(ManifestNotFoundError, match="nothing in it is called 'v9'"):
        store.import_(named, "app", references=["v9"])


@pytest.mark.parametrize(
    ("references", "error"),
    [
        (["APP:v1"], InvalidNameError),
        (["app:v*=app:v1"], InvalidNameError),
        (["app@sha256:1"], InvalidDigestError),
        ("app:v1", TypeError),
    ],
)
def test_references_that_are_none_are_refused(store, named, references, error):
    with pytest.raises(error), unchanged(store.root):
        store.import_(named, references=references)


def test_two_results_of_one_name_are_refused(store, named):
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(named, references=["app:v1=app:x", "app:v2=app:x"])
    (problem,) = caught.value.problems
    assert problem.startswith(f"app:x is the name of two entries: {ONE.digest} and {TWO.digest}")


def test_two_results_of_one_name_and_one_digest_are_one(store, named):
    assert store.import_(named, references=["app:v1=app:x", "other:v1=app:x"]).tags == ("app:x",)


def test_names_without_a_repository_are_meant_by_the_repository_that_is_given(store, layout):
    source = layout.add(ONE, "v1").add(TWO, "v2").write()
    assert store.import_(source, "mine", references=["mine:v1"]).tags == ("mine:v1",)
    with pytest.raises(ManifestNotFoundError):
        store.import_(source, "mine", references=["app:v1"])


def test_names_without_any_repository_are_meant_in_every_one(store, layout):
    source = layout.add(ONE, "v1").add(TWO, "v2").write()
    assert store.import_(source, references=["app:v1", "mirror/app:v2=mirror/app:v3"]).tags == (
        "app:v1",
        "mirror/app:v3",
    )


def test_what_is_chosen_by_its_own_name_goes_into_the_repository_that_is_given(store, named):
    assert store.import_(named, "mine", references=["app:v1"]).tags == ("mine:v1",)
    assert store.import_(named, "mine", references=["app:v1=mine:x"]).tags == ("mine:x",)
    with pytest.raises(InvalidNameError, match="everything into mine"), unchanged(store.root):
        store.import_(named, "mine", references=["app:v1=other:x"])


def test_tags_that_pointed_at_something_else_are_named(store, layout, form):
    push(store.repository("app"), AMD, "v1", "v2")
    source = layout.add(BOTH, "app:v1").add(AMD, "app:v2").add(AMD, "new:v1").write()
    assert store.import_(form(source), dry_run=True).moved == ("app:v1",)
    assert store.import_(form(source)).moved == ("app:v1",)
    assert store.import_(form(source)).moved == ()


# --- platforms --------------------------------------------------------------------------------------------------------


def test_an_index_is_narrowed_and_the_report_says_so(store, layout, form):
    report = store.import_(form(layout.add(BOTH, "app:v1").write()), platforms=["linux/arm64"])
    found = store.repository("app").get_manifest("v1")
    assert [child.digest for child in found.manifests] == [ARM.digest]
    assert report.replaced == {BOTH.digest: found.descriptor.digest}
    assert pool(store.root).keys() == {found.descriptor.digest, ARM.digest, *map(Digest.of, ARM.blobs)}


def test_an_index_that_loses_nothing_stays_the_same(store, layout):
    report = store.import_(layout.add(BOTH, "app:v1").write(), platforms=["linux/amd64", "linux/arm64"])
    assert report.replaced == {}
    assert store.repository("app").resolve("v1").digest == BOTH.digest


def test_the_platform_is_the_descriptors_where_that_says_one(store, layout):
    body = json.loads(BOTH.manifest)
    for child, architecture in zip(body["manifests"], ("s390x", "riscv64"), strict=True):
        child["platform"] = {"os": "linux", "architecture": architecture}
    layout.put(BOTH)
    content = document(body)
    layout.blob(content)
    layout.entries = [described(content, mediatypes.OCI_INDEX, annotations={REF_NAME: "app:v1"})]
    store.import_(layout.write(), platforms=["linux/s390x"])
    assert [child.digest for child in store.repository("app").get_manifest("v1").manifests] == [ARM.digest]


def test_a_platform_that_is_not_there_is_an_error_that_says_which_are(store, layout):
    source = layout.add(BOTH, "app:v1").add(AMD, "app:v2").write()
    with pytest.raises(PlatformNotFoundError) as caught, unchanged(store.root):
        store.import_(source, platforms=["linux/riscv64"])
    assert caught.value.reference == "app:v1"
    assert caught.value.available == ("linux/arm64", "linux/amd64")
    with pytest.raises(PlatformNotFoundError), unchanged(store.root):
        store.import_(source, references=["app:v2"], platforms=["linux/arm64"])


def test_what_was_not_asked_for_by_its_name_and_is_of_other_platforms_is_left_out_and_said_to_be(store, layout):
    source = layout.add(BOTH, "app:v1").add(AMD, "app:v2").write()
    for references in (None, ["app"], ["app:v*"]):
        report = store.import_(source, references=references, platforms=["linux/arm64"])
        assert (report.tags, report.other_platforms) == (("app:v1",), ("app:v2",))
    assert list(store.repository("app").tags()) == ["v1"]


@pytest.mark.parametrize("platforms", [["arm64"], ["linux/arm64/v8/x"], "linux/arm64"])
def test_platforms_that_are_none_are_refused(store, layout, platforms):
    with pytest.raises((InvalidNameError, TypeError)), unchanged(store.root):
        store.import_(layout.add(BOTH, "app:v1").write(), platforms=platforms)


def test_what_is_left_out_need_not_be_there(store, layout):
    source = layout.add(BOTH, "app:v1").write()
    for digest in map(Digest.of, AMD.layers):
        (source / "blobs" / digest.replace(":", "/")).unlink()
    assert store.import_(source, platforms=["linux/arm64"]).manifests == 2


def test_a_damaged_index_is_an_error_also_where_it_would_be_narrowed(store, layout):
    source = layout.add(BOTH, "app:v1").write()
    (source / "blobs" / BOTH.digest.replace(":", "/")).write_bytes(bytes(len(BOTH.manifest)))
    with pytest.raises(LayoutInvalidError, match=BOTH.digest), unchanged(store.root):
        store.import_(source, platforms=["linux/arm64"])


# --- referrers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def referred(layout):
    """An index, an SBOM of one of its images, a signature of that, and one of the index; and something unrelated."""
    layout.add(BOTH, "app:v1")
    for referrer in (SBOM, SIGNATURE, OF_BOTH, artifact("unrelated", subject=ONE)):
        layout.put(referrer)
        layout.entry(referrer, {IMAGE_NAME: f"app@{referrer.digest}"})
    layout.add(ONE, "app:other")
    return layout.write()


def referrers(store, digest, repository="app"):
    return [str(descriptor.digest) for descriptor in store.repository(repository).referrers(digest)]


def test_referrers_of_what_is_chosen_come_along_to_any_depth(store, referred, form):
    report = store.import_(form(referred), references=["app:v1"])
    assert (referrers(store, ARM.digest), referrers(store, SBOM.digest)) == ([SBOM.digest], [SIGNATURE.digest])
    assert referrers(store, BOTH.digest) == [OF_BOTH.digest]
    assert sorted(report.untagged) == sorted(f"app@{r.digest}" for r in (SBOM, SIGNATURE, OF_BOTH))
    assert report.tags == ("app:v1",)
    assert artifact("unrelated", subject=ONE).digest not in pool(store.root)


def test_they_come_into_every_repository_that_gets_what_they_refer_to(store, referred):
    store.import_(referred, references=["app:v1=one", "app:v1=two"])
    assert referrers(store, ARM.digest, "one") == referrers(store, ARM.digest, "two") == [SBOM.digest]


def test_without_referrers_those_without_a_tag_stay_out(store, layout, referred, form):
    layout.add(artifact("tagged", subject=ARM), "app:note").write()
    report = store.import_(form(referred), referrers=False)
    assert report.tags == ("app:note", "app:other", "app:v1")
    assert report.untagged == ()
    assert referrers(store, ARM.digest) == [artifact("tagged", subject=ARM).digest]


def test_without_referrers_untagged_content_that_refers_to_nothing_comes_in(store, layout, referred):
    layout.put(TWO)
    layout.entry(TWO, {IMAGE_NAME: f"app@{TWO.digest}"}).write()
    assert store.import_(referred, referrers=False).untagged == (f"app@{TWO.digest}",)


def test_a_referrer_that_is_asked_for_by_digest_comes_in(store, referred):
    report = store.import_(referred, references=[f"app@{SBOM.digest}"], referrers=False)
    assert report.untagged == (f"app@{SBOM.digest}",)


def test_with_platforms_the_referrers_of_what_stayed_come_along(store, referred):
    store.import_(referred, references=["app:v1"], platforms=["linux/arm64"])
    assert referrers(store, ARM.digest) == [SBOM.digest]
    assert OF_BOTH.digest not in pool(store.root)  # it is about an index that did not come


def test_all_with_platforms_leaves_out_what_refers_to_what_was_left_out(store, layout, referred):
    of_amd = artifact("of amd", subject=AMD)
    layout.put(of_amd)
    layout.entry(of_amd, {IMAGE_NAME: f"app@{of_amd.digest}"}).write()
    store.import_(referred, platforms=["linux/arm64"])
    assert referrers(store, ARM.digest) == [SBOM.digest]
    assert not {of_amd.digest, OF_BOTH.digest} & pool(store.root).keys()


def test_referrers_that_only_a_tag_of_their_subjects_digest_lists_come_along(store, layout):
    # The referrers tag schema, as regctl and oras write it where a registry has no referrers API.
    layout.add(ARM, "app:v1").put(SBOM)
    tag = ARM.digest.replace(":", "-")
    listing = index([SBOM])
    layout.add(listing, f"app:{tag}").write()
    report = store.import_(layout.path, references=["app:v1"])
    assert referrers(store, ARM.digest) == [SBOM.digest]
    assert report.tags == ("app:v1",)


def test_a_damaged_entry_that_is_not_chosen_does_no_harm(store, layout):
    source = layout.add(ONE, "app:v1").add(TWO, "app:v2").write()
    (source / "blobs" / TWO.digest.replace(":", "/")).write_bytes(b"damaged")
    assert store.import_(source, references=["app:v1"]).tags == ("app:v1",)


# --- completed from the store -----------------------------------------------------------------------------------------


@pytest.fixture
def delta(layout):
    """A layout without the layers and the child that its destination has."""
    source = layout.add(index([ONE, TWO]), "app:v2").write()
    for digest in (ONE.digest, *map(Digest.of, ONE.blobs), *map(Digest.of, TWO.layers)):
        (source / "blobs" / digest.replace(":", "/")).unlink()
    return source


def test_what_the_source_lacks_comes_from_any_repository_of_the_store(store, delta, form):
    push(store.repository("base"), ONE, "v1")
    store.repository("elsewhere").put_blob(TWO.layers[0])
    report = store.import_(form(delta), complete=True)
    assert report.tags == ("app:v2",)
    assert list(report.completed) == sorted([ONE.digest, *map(Digest.of, ONE.blobs), *map(Digest.of, TWO.layers)])
    with store.repository("app").open_blob(Digest.of(TWO.layers[0])) as blob:
        assert blob.read() == TWO.layers[0]
    assert store.repository("app").get_manifest(ONE.digest).content == ONE.manifest
    size = len(index([ONE, TWO]).manifest) + len(TWO.manifest) + len(TWO.config)
    assert report.new_bytes == size < report.bytes


def test_without_asking_nothing_comes_from_the_store_and_the_error_says_how(store, delta, form):
    push(store.repository("base"), ONE, "v1")
    store.repository("elsewhere").put_blob(TWO.layers[0])
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(form(delta))
    *missing, hint = caught.value.problems
    layer = f"{Digest.of(TWO.layers[0])} is missing: layer of the manifest in app:v2"
    assert sorted(missing) == sorted([f"{ONE.digest} is missing: manifest in app:v2", layer])
    assert "--complete" in hint


def test_what_neither_has_is_named(store, delta, form):
    push(store.repository("base"), ONE, "v1")
    for complete in (False, True):
        with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
            store.import_(form(delta), complete=complete)
        assert f"{Digest.of(TWO.layers[0])} is missing: layer of the manifest in app:v2" in caught.value.problems
        assert "--complete" not in str(caught.value)


def test_what_the_store_holds_with_another_size_completes_nothing(store, delta):
    push(store.repository("base"), ONE, "v1")
    store.repository("elsewhere").put_blob(TWO.layers[0])
    blob = store.root / "blobs" / Digest.of(TWO.layers[0]).replace(":", "/")
    os.chmod(blob, 0o600)
    blob.write_bytes(b"cut")
    with pytest.raises(LayoutInvalidError, match=Digest.of(TWO.layers[0])), unchanged(store.root):
        store.import_(delta, complete=True)
    blob.write_bytes(TWO.layers[0])
    blob.chmod(0o444)


def collecting(store):
    """A progress in the course of which all that only ``elsewhere`` has is collected."""

    def collected(done, total):
        if "elsewhere" in store.repositories():
            store.delete_repository("elsewhere")
            store.gc(grace=timedelta(0), force=True)

    return collected


def test_what_a_collection_takes_of_what_the_source_has_is_brought_along_then(store, delta):
    push(store.repository("base"), ONE, "v1")
    layer, empty = described(TWO.layers[0]), described(b"{}", mediatypes.OCI_EMPTY)
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": empty, "layers": [layer]}
    push(store.repository("base"), Image(document(body), (b"{}", TWO.layers[0])), "v2")
    store.repository("elsewhere").put_blob(TWO.config)
    assert store.import_(delta, complete=True, progress=collecting(store)).tags == ("app:v2",)
    with store.repository("app").open_blob(Digest.of(TWO.config)) as blob:
        assert blob.read() == TWO.config


def test_what_a_collection_takes_while_it_is_counted_on_is_missing(store, delta):
    push(store.repository("base"), ONE, "v1")
    store.repository("elsewhere").put_blob(TWO.layers[0])

    with pytest.raises(LayoutInvalidError) as caught:
        store.import_(delta, complete=True, progress=collecting(store))
    assert caught.value.problems == (f"{Digest.of(TWO.layers[0])} is missing: it was there when this began",)
    assert "app" not in store.repositories()


# --- only looked at ---------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_come_in_and_changes_nothing(store, named, form):
    push(store.repository("app"), ONE, "v1")
    with unchanged(store.root):
        foreseen = store.import_(form(named), dry_run=True)
    assert foreseen.new_bytes == sum(len(c) for i in (TWO, THREE) for c in (i.manifest, *i.blobs))
    assert store.import_(form(named)) == replace(foreseen, dry_run=False)


def test_a_dry_run_finds_what_is_wrong(store, named, form):
    (named / "blobs" / Digest.of(TWO.layers[0]).replace(":", "/")).write_bytes(bytes(len(TWO.layers[0])))
    with pytest.raises(Exception, match=Digest.of(TWO.layers[0])), unchanged(store.root):
        store.import_(form(named), dry_run=True)


def test_a_read_only_store_can_be_asked_what_would_come_in(store, named):
    with Store.open(store.root, read_only=True) as read_only:
        assert read_only.import_(named, dry_run=True).manifests == 3
        with pytest.raises(ReadOnlyStoreError):
            read_only.import_(named)
        with pytest.raises(ReadOnlyStoreError):
            read_only.import_(io.BytesIO(tarred(members_of(named))), dry_run=True)


# --- how the bytes get in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "copy", "link"])
def test_every_mode_brings_the_same_in(store, layout, mode):
    large = image("large", filler="x" * 100_000)
    source = layout.add(large, "app:v1").write()
    assert store.import_(source, mode=mode).tags == ("app:v1",)
    blob = store.root / "blobs" / Digest.of(large.config).replace(":", "/")
    original = source / "blobs" / Digest.of(large.config).replace(":", "/")
    assert blob.samefile(original) == (mode == "link")
    assert blob.stat().st_mode & 0o777 == 0o444
    assert blob.read_bytes() == large.config


def test_linking_what_is_wrong_leaves_the_layout_as_it_was(store, layout):
    source = layout.add(ONE, "app:v1").write()
    file = source / "blobs" / Digest.of(ONE.layers[0]).replace(":", "/")
    file.write_bytes(bytes(len(ONE.layers[0])))
    mode = file.stat().st_mode
    with pytest.raises(LayoutInvalidError, match=Digest.of(ONE.layers[0])), unchanged(store.root):
        store.import_(source, mode="link")
    assert (file.stat().st_mode, file.stat().st_nlink) == (mode, 1)


def test_a_mode_that_is_none_is_refused(store, named):
    with pytest.raises(ValueError, match="mode must be auto, copy or link"):
        store.import_(named, mode="move")


def test_linking_across_filesystems_is_refused(small_disk, empty_store, named):
    root = small_disk.root / "store"
    shutil.copytree(empty_store, root)
    with Store.open(root) as store, pytest.raises(StorageError, match="another filesystem"), unchanged(root):
        store.import_(named, mode="link")


# --- a directory that changes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["replaced", "rewritten", "gone"])
def test_an_index_that_changes_while_the_layout_is_read_is_noticed(store, named, change):
    file = named / "index.json"

    def changed(done, total):
        if change == "replaced":
            (named / "new").write_bytes(file.read_bytes() if file.exists() else b"")
            (named / "new").rename(file)
        elif change == "rewritten":
            file.write_bytes(document({"schemaVersion": 2, "manifests": []}))
        else:
            file.unlink(missing_ok=True)

    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(named, progress=changed)
    assert caught.value.problems == ("index.json was changed while the layout was read",)


def test_an_index_that_cannot_be_looked_at_again_is_a_problem_of_the_layout(store, named, monkeypatch):
    stat = os.stat

    def refused(path, **options):
        if path == "index.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return stat(path, **options)

    def refuse(done, total):
        monkeypatch.setattr(os, "stat", refused)

    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(named, progress=refuse)
    monkeypatch.undo()
    why = "whether it was changed while it was read cannot be found out: Permission denied"
    assert caught.value.problems == (why,)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    def run(*arguments, stdin=None):
        return CliRunner().invoke(ocistore, ["--store", str(tmp_path / "store"), *map(str, arguments)], input=stdin)

    return run


def test_the_command_takes_every_choice(run, layout):
    source = layout.add(BOTH, "app:v1").add(ONE, "app:v2").write()
    options = ["--ref", "app:v1=mine:x", "--platform", "linux/arm64", "--no-referrers", "--mode", "copy"]
    shown = run("import", source, *options)
    assert (shown.exit_code, shown.stdout) == (0, "mine:x\n")
    assert f"only some platforms of {BOTH.digest}" in shown.stderr
    assert "are new" in shown.stderr


def test_the_command_reads_standard_input(run, named, tmp_path):
    for compress in COMPRESSIONS.values():
        shown = run("import", "-", "--json", stdin=compress(tarred(members_of(named))))
        assert shown.exit_code == 0
        assert len(json.loads(shown.stdout)["tags"]) == 4


@pytest.mark.parametrize("content", [b"", b"text", tarred([])])
def test_the_command_makes_no_store_where_standard_input_has_no_archive(run, tmp_path, content):
    assert run("import", "-", stdin=content).exit_code == 44
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_command_makes_no_store_where_a_file_has_no_archive(run, tmp_path, compression):
    (tmp_path / "file").write_bytes(COMPRESSIONS[compression](b"no archive" * 1000))
    assert run("import", tmp_path / "file").exit_code == 44
    assert not (tmp_path / "store").exists()


def test_a_dry_run_makes_no_store(run, named, tmp_path):
    shown = run("import", named, "--dry-run", "--json")
    foreseen = json.loads(shown.stdout)
    assert foreseen["newBytes"] == foreseen["bytes"] > 0
    assert run("import", "-", "--dry-run", stdin=tarred(members_of(named))).exit_code == 0
    assert not (tmp_path / "store").exists()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "file").write_text("no store")
    assert run("import", named, "--dry-run").exit_code == StoreNotFoundError.exit_code
    (tmp_path / "store" / "file").unlink()
    assert run("init").exit_code == 0
    shown = run("import", named, "--dry-run")
    assert "would be new" in shown.stderr
    assert run("tags", "app").exit_code == 11


@pytest.mark.parametrize("what", ["an index", "what refers", "a list of referrers"])
def test_what_a_layout_lists_many_times_is_read_once(store, layout, monkeypatch, what):
    layout.add(AMD, "app:v1")
    thing, names = {
        "an index": (BOTH, [f"app:both{number}" for number in range(50)]),
        "what refers": (SBOM, [f"app:sbom{number}" for number in range(50)]),
        "a list of referrers": (index([SBOM]), [f"app:sha256-{number:064}" for number in range(50)]),
    }[what]
    for name in names:
        layout.add(thing, name)
    read = []
    content = BlobFile.read
    monkeypatch.setattr(BlobFile, "read", lambda self, size: read.append(self.digest()) or content(self, size))
    narrowed = []

    def noted(root, *more, **named):
        narrowed.append(root)
        return narrow(root, *more, **named)

    monkeypatch.setattr("ocistore.layouts.imports.planning.narrow", noted)
    chosen = {"platforms": ["linux/amd64"]} if what == "an index" else {"references": ["app:v1"]}
    store.import_(layout.write(), **chosen)
    assert len(read) < 10
    assert len(narrowed) <= 2


def test_the_config_that_says_the_platform_is_read_once(store, layout, monkeypatch):
    many = index([AMD] * 50)
    document_ = json.loads(many.manifest)
    for child in document_["manifests"]:
        child.pop("platform", None)
    layout.add(Image(document(document_), (), many.media_type, (AMD,)), "app:v1")
    read = []
    content = BlobFile.read
    monkeypatch.setattr(BlobFile, "read", lambda self, size: read.append(self.digest()) or content(self, size))
    store.import_(layout.write(), platforms=["linux/amd64"])
    assert read.count(Digest.of(AMD.config)) == 1


ONE_NAME = {
    "linux/amd64": image("one", architecture="amd64"),
    "linux/arm64": image("other", architecture="arm64"),
}


@pytest.mark.parametrize("platform", ONE_NAME)
@pytest.mark.parametrize(
    "asked",
    [("app:v1", None, ["app:v1"]), ("app:v1", None, None), ("app:v1", "app:v1", None), (None, "app:v1", None)],
)
def test_one_name_of_images_for_several_platforms(layout, store, platform, asked):
    name, repository, references = asked
    for each in ONE_NAME.values():
        layout.add(each, name)
    layout.write()
    report = store.import_(layout.path, repository, references=references, platforms=[platform])
    assert (report.tags, report.other_platforms) == (("app:v1",), ())
    assert store.repository("app").resolve("v1").digest == ONE_NAME[platform].digest
    with pytest.raises(PlatformNotFoundError) as caught:
        store.import_(layout.path, repository, references=references, platforms=["linux/s390x"])
    if name is not None:
        assert caught.value.available == tuple(ONE_NAME)
