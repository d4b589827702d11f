"""Choosing what goes out: by pattern and under another name, by platform, and without what the other side has."""

import json
import subprocess

import pytest
from handmade import IMAGE_NAME, Layout, listed, names, tree, verified
from images import Image, artifact, described, document, image, index, push
from state import pool, unchanged

from ocistore import (
    ArchiveInvalidError,
    CorruptError,
    Digest,
    InvalidNameError,
    LayoutInvalidError,
    ManifestNotFoundError,
    PlatformNotFoundError,
    StorageError,
    Store,
)
from ocistore.oci import mediatypes
from ocistore.oci.platforms import ATTESTED

pytestmark = pytest.mark.every_pool


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "out"


def image_names(path):
    return sorted(entry["annotations"][IMAGE_NAME] for entry in listed(path))


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(store):
    with store.transaction() as transaction:
        app = transaction.repository("app")
        push(app, image("one"), "1.0", "latest")
        push(app, image("two"), "1.1")
        push(app, image("three"), "2.0", "x")
        push(transaction.repository("tools/x"), image("x"), "1.0")
    return store


ONE = image("one").digest
CHOSEN = {
    "a pattern": (["app:1.*"], ["app:1.0", "app:1.1"]),
    "one letter": (["app:?"], ["app:x"]),
    "a set": (["app:[12].0"], ["app:1.0", "app:2.0"]),
    "not of a set": (["app:[!1].0"], ["app:2.0"]),
    "everything by pattern": (["app:*"], ["app:1.0", "app:1.1", "app:2.0", "app:latest", "app:x"]),
    "renamed": (["app:1.0=mirror/app:stable"], ["mirror/app:stable"]),
    "into a repository": (["app:1.*=mirror/app"], ["mirror/app:1.0", "mirror/app:1.1"]),
    "a repository": (["tools/x=y"], ["y:1.0"]),
    "twice": (["app:1.0=a:1", "app:1.0=b:1"], ["a:1", "b:1"]),
    "a digest by its name": ([f"app@{ONE}=b:1"], ["b:1"]),
    "a digest into a repository": ([f"app@{ONE}=b"], [f"b@{ONE}"]),
    "tag and digest": ([f"app:1.0@{ONE}=b"], ["b:1.0"]),
    "one name twice for one thing": (["app:1.0=b:1", "app:latest=b:1"], ["b:1"]),
}


@pytest.mark.parametrize(("references", "expected"), CHOSEN.values(), ids=CHOSEN.keys())
def test_patterns_and_new_names(filled, destination, references, expected):
    assert filled.export(destination, references).names == tuple(expected)
    assert image_names(destination) == expected
    verified(destination)


def test_two_repositories_may_go_out_as_one(filled, destination):
    filled.export(destination, ["app:1.1=all", "tools/x:1.0=all"])
    assert names(destination) == {"1.1": image("two").digest, "1.0": image("x").digest}


WRONG = {
    "a pattern that nothing matches": ("app:9.*", ManifestNotFoundError, "'9.*'"),
    "one tag for many": ("app:1.*=b:1", InvalidNameError, "one new tag for several"),
    "a name for two things": ("tools/x:1.0=app:1.0", InvalidNameError, "the name of two things"),
    "up and away": ("app:1.0=../../etc", InvalidNameError, "'../../etc'"),
    "absolute": ("app:1.0=/etc/passwd", InvalidNameError, "repository"),
    "a tag that is a path": ("app:1.0=b:../x", InvalidNameError, "tag"),
    "no name": ("app:1.0=", InvalidNameError, "''"),
    "two names": ("app:1.0=b=c", InvalidNameError, "'b=c'"),
    "a line feed": ("app:1.0=b\nc", InvalidNameError, "repository"),
    "a digest as the new name": (f"app:1.0=b@{ONE}", InvalidNameError, "b@sha256"),
    "too long": (f"app:1.0={'b' * 300}", InvalidNameError, "300 characters"),
}


@pytest.mark.parametrize(("reference", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_hostile_and_senseless_names_write_nothing(filled, destination, reference, error, message):
    for name in (destination, f"{destination}.tar"):
        with pytest.raises(error, match=message.replace("*", r"\*")), unchanged(filled.root):
            filled.export(name, ["app:1.0", reference])
    assert {path.name for path in destination.parent.iterdir()} == {"store"}


def test_referrers_go_out_under_the_new_name_of_their_subject(store, destination):
    subject = image("subject")
    sbom = artifact("sbom", subject=subject)
    with store.transaction() as transaction:
        push(transaction.repository("app"), subject, "v1")
        push(transaction.repository("app"), sbom)
        push(transaction.repository("app"), image("other"), "v2")
        push(transaction.repository("app"), artifact("of the other", subject=image("other")))
    store.export(destination, ["app:v1=a:1", "app:v2=b:2"], referrers=True)
    of_other = artifact("of the other", subject=image("other")).digest
    assert image_names(destination) == sorted(["a:1", f"a@{sbom.digest}", "b:2", f"b@{of_other}"])


# --- platforms --------------------------------------------------------------------------------------------------------

ARM, AMD = image("arm"), image("amd", architecture="amd64")
WINDOWS = image("windows", os="windows", architecture="amd64")
SBOM = artifact("sbom of arm", subject=ARM)


def platformed(children, **more):
    """An index whose descriptors say the platforms that are given."""
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [
            {**described(child.manifest, child.media_type), **({"platform": platform} if platform else {})}
            for child, platform in children
        ],
    }
    return Image(document(body | more), media_type=mediatypes.OCI_INDEX, children=tuple(child for child, _ in children))


LINUX_ARM = {"os": "linux", "architecture": "arm64"}
LINUX_AMD = {"os": "linux", "architecture": "amd64"}
BOTH = platformed([(ARM, LINUX_ARM), (AMD, LINUX_AMD)], annotations={"kept": "yes"})
SILENT = index([image("arm 2"), image("amd 2", architecture="amd64")])
"""Its descriptors say no platforms: the configs do."""
NESTED = index([BOTH, WINDOWS, artifact("note")])


@pytest.fixture
def platforms(store):
    with store.transaction() as transaction:
        app = transaction.repository("app")
        push(app, BOTH, "both")
        push(app, SILENT, "silent")
        push(app, NESTED, "nested")
        push(app, ARM, "arm")
        push(app, WINDOWS, "windows")
        push(app, SBOM)
        push(app, artifact("about the index", subject=BOTH))
    return store


def manifest(path, digest):
    return json.loads((path / "blobs" / digest.replace(":", "/")).read_bytes())


def test_an_index_keeps_what_is_wanted_and_is_another_index(platforms, destination):
    with unchanged(platforms.root):
        report = platforms.export(destination, ["app:both"], platforms=["linux/arm64"], referrers=False)
    new = names(destination)["both"]
    assert report.replaced == {BOTH.digest: new}
    assert (report.manifests, report.blobs) == (2, 2)
    found = manifest(destination, new)
    assert found["manifests"] == [json.loads(BOTH.manifest)["manifests"][0]]
    assert found["annotations"] == {"kept": "yes"}
    assert verified(destination).keys() == {new, ARM.digest, *map(Digest.of, ARM.blobs)}


def test_where_descriptors_are_silent_the_configs_say_the_platform(platforms, destination):
    platforms.export(destination, ["app:silent"], platforms=["linux/amd64"])
    found = manifest(destination, names(destination)["silent"])
    assert [child["digest"] for child in found["manifests"]] == [SILENT.children[1].digest]


def test_a_config_says_the_platform_that_came_after_its_manifest(store, destination):
    app = store.repository("app")
    for child in SILENT.children:
        for layer in child.layers:
            app.put_blob(layer)
        app.put_manifest(child.manifest, missing="all")
        app.put_blob(child.config)
    app.put_manifest(SILENT.manifest, tags=["silent"])
    store.export(destination, ["app:silent"], platforms=["linux/amd64"])
    found = manifest(destination, names(destination)["silent"])
    assert [child["digest"] for child in found["manifests"]] == [SILENT.children[1].digest]


def test_indexes_in_indexes_are_narrowed_and_artifacts_stay(platforms, destination):
    wanted = ["linux/arm64/v8", "windows/amd64"]
    report = platforms.export(destination, ["app:nested"], platforms=wanted, referrers=False)
    outer = manifest(destination, names(destination)["nested"])
    inner = manifest(destination, outer["manifests"][0]["digest"])
    assert [child["digest"] for child in inner["manifests"]] == [ARM.digest]
    assert [child["digest"] for child in outer["manifests"][1:]] == [WINDOWS.digest, artifact("note").digest]
    assert report.manifests == 5
    verified(destination)


def test_an_index_that_loses_nothing_is_itself(platforms, destination):
    report = platforms.export(destination, ["app:both"], platforms=["linux/arm64", "linux/amd64"])
    assert names(destination) == {"both": BOTH.digest}
    assert report.replaced == {}


def test_attestations_go_with_what_they_are_about(store, destination):
    attestations = {child: artifact(f"attestation of {name}") for name, child in (("arm", ARM), ("amd", AMD))}
    unknown = {"os": "unknown", "architecture": "unknown"}
    body = json.loads(platformed([(ARM, LINUX_ARM), (AMD, LINUX_AMD)]).manifest)
    for child, attestation in attestations.items():
        body["manifests"].append(
            described(attestation.manifest, platform=unknown, annotations={ATTESTED: child.digest})
            | {"mediaType": attestation.media_type}
        )
    graph = Image(document(body), media_type=mediatypes.OCI_INDEX, children=(ARM, AMD, *attestations.values()))
    push(store.repository("app"), graph, "v1")
    store.export(destination, platforms=["linux/amd64"])
    found = manifest(destination, names(destination)["v1"])
    assert [child["digest"] for child in found["manifests"]] == [AMD.digest, attestations[AMD].digest]
    assert attestations[AMD].digest in verified(destination)


@pytest.mark.parametrize("reference", ["app:windows", f"app@{WINDOWS.digest}", "app:windows=other:v1"])
def test_what_was_asked_for_by_name_and_is_of_other_platforms_is_an_error_that_says_which(
    platforms, destination, reference
):
    with pytest.raises(PlatformNotFoundError, match=r"app.* is not for linux/arm64: there are windows/amd64") as caught:
        platforms.export(destination, ["app:arm", reference], platforms=["linux/arm64"])
    assert (caught.value.wanted, caught.value.available) == (("linux/arm64",), ("windows/amd64",))
    assert not destination.exists()


def test_an_index_of_which_nothing_would_be_left_is_such_an_error_too(platforms, destination):
    with pytest.raises(PlatformNotFoundError) as caught:
        platforms.export(destination, ["app:both"], platforms=["linux/s390x"])
    assert caught.value.available == ("linux/arm64", "linux/amd64")
    assert not destination.exists()


def test_of_many_what_is_of_other_platforms_stays_behind_and_is_said(platforms, destination):
    report = platforms.export(destination, platforms=["linux/arm64"], referrers=False)
    assert report.other_platforms == ("app:windows",)
    assert report.names == ("app:arm", "app:both", "app:nested", "app:silent")
    assert names(destination)["arm"] == ARM.digest
    verified(destination)


def test_where_all_of_many_are_of_other_platforms_that_is_an_error(platforms, destination):
    with pytest.raises(PlatformNotFoundError, match="linux/arm64"):
        platforms.export(destination, ["app:a*"], platforms=["plan9/mips"])
    assert not destination.exists()


def test_a_senseless_platform_is_refused(platforms, destination):
    with pytest.raises(InvalidNameError, match="OS/ARCHITECTURE"):
        platforms.export(destination, platforms=["arm64"])


def test_referrers_of_what_is_kept_come_along_and_those_of_a_narrowed_index_stay(platforms, destination):
    report = platforms.export(destination, ["app:both"], platforms=["linux/arm64"], referrers=True)
    assert report.names == ("app:both", f"app@{SBOM.digest}")


def test_narrowed_indexes_go_into_archives_before_what_they_list(platforms, destination, tmp_path):
    platforms.export(tmp_path / "out.tar", ["app:nested"], platforms=["linux/arm64"])
    destination.mkdir()
    subprocess.run(["tar", "xf", tmp_path / "out.tar", "-C", destination], check=True)
    platforms.export(tmp_path / "layout", ["app:nested"], platforms=["linux/arm64"])
    assert verified(destination) == verified(tmp_path / "layout")
    assert names(destination) == names(tmp_path / "layout")


def test_what_was_narrowed_comes_back_as_it_went_out(platforms, destination, empty_store, tmp_path):
    platforms.export(destination, ["app:nested"], platforms=["linux/arm64"])
    with Store.open(tmp_path / "other") as other:
        other.import_(destination)
        assert other.repository("app").resolve("nested").digest == names(destination)["nested"]
        assert pool(other.root) == verified(destination)


@pytest.mark.needs_files
def test_damage_in_an_index_makes_no_good_one(platforms, destination):
    file = platforms.root / "blobs" / "sha256" / BOTH.digest.encoded
    file.chmod(0o644)
    file.write_bytes(BOTH.manifest.replace(b"kept", b"lost"))
    with pytest.raises(CorruptError, match=BOTH.digest):
        platforms.export(destination, ["app:both"], platforms=["linux/arm64"])
    file.unlink()
    with pytest.raises(CorruptError, match="its file is gone"):
        platforms.export(destination, ["app:both"], platforms=["linux/arm64"])
    assert not destination.exists()


# --- what the other side has ------------------------------------------------------------------------------------------

SHARED = b"the base layer"


def based(name):
    """An image on a layer that others have too."""
    plain = image(name)
    body = json.loads(plain.manifest)
    body["layers"].insert(0, described(SHARED, mediatypes.OCI_LAYER))
    return Image(document(body), (*plain.blobs, SHARED))


@pytest.fixture
def months(store):
    with store.transaction() as transaction:
        push(transaction.repository("app"), based("january"), "january")
        push(transaction.repository("app"), based("february"), "february")
    return store


def a_layout(store, path):
    store.export(path, ["app:january"])


def an_archive(store, path):
    store.export(path, ["app:january"], format="oci-archive")


def a_compressed_archive(store, path):
    store.export(path, ["app:january"], format="oci-archive", compression="gzip")


def a_store(store, path):
    store.export(path.parent / "layout", ["app:january"])
    with Store.open(path) as other:
        other.import_(path.parent / "layout", "elsewhere")


@pytest.mark.parametrize("make", [a_layout, an_archive, a_compressed_archive, a_store], ids=lambda make: make.__name__)
def test_blobs_that_a_base_holds_are_left_out(months, destination, tmp_path, make):
    make(months, tmp_path / "base")
    report = months.export(destination, ["app:february"], base=[tmp_path / "base"])
    assert (report.base_blobs, report.base_bytes) == (1, len(SHARED))
    assert report.written_bytes == report.bytes - len(SHARED)
    written = {f"sha256:{path.name}" for path in destination.glob("blobs/sha256/*")}
    assert written == {based("february").digest, *map(Digest.of, based("february").blobs)} - {Digest.of(SHARED)}
    assert names(destination) == {"february": based("february").digest}


def test_manifests_always_travel(months, destination, tmp_path):
    months.export(tmp_path / "base")
    report = months.export(destination, base=[tmp_path / "base"])
    written = {f"sha256:{path.name}" for path in destination.glob("blobs/sha256/*")}
    assert written == {based("january").digest, based("february").digest}
    assert report.base_blobs == report.blobs


def test_what_a_base_has_with_another_size_is_not_what_it_has(months, destination, tmp_path):
    months.export(tmp_path / "base", ["app:january"])
    file = tmp_path / "base" / "blobs" / "sha256" / Digest.of(SHARED).encoded
    file.write_bytes(SHARED[:3])
    assert months.export(destination, ["app:february"], base=[tmp_path / "base"]).base_blobs == 0
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert months.export(destination, ["app:february"], base=[tmp_path / "base"]).base_blobs == 0


def test_several_bases_are_one(months, destination, tmp_path):
    for name in ("january", "february"):
        months.export(tmp_path / f"{name}.tar", [f"app:{name}"])
    report = months.export(destination, base=[tmp_path / "january.tar", tmp_path / "february.tar"])
    assert report.base_blobs == report.blobs


def no_layout(path):
    path.mkdir()


def a_damaged_layout(path):
    Layout(path).write(version=b"{}")


def no_archive(path):
    path.write_bytes(b"mine" * 1000)


def an_archive_of_something_else(path):
    (path.parent / "letter").write_bytes(b"mine")
    subprocess.run(["tar", "cf", path, "-C", path.parent, "letter"], check=True)


def nothing(path):
    pass


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (no_layout, LayoutInvalidError),
        (a_damaged_layout, LayoutInvalidError),
        (no_archive, ArchiveInvalidError),
        (an_archive_of_something_else, ArchiveInvalidError),
        (nothing, StorageError),
    ],
    ids=lambda value: value.__name__,
)
def test_a_base_that_is_none_is_refused_and_nothing_written(months, destination, tmp_path, make, error):
    make(tmp_path / "base")
    with pytest.raises(error, match=str(tmp_path / "base")):
        months.export(destination, base=[tmp_path / "base"])
    assert not destination.exists()


# --- dry runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.tar", "deep/out", "deep/out.tar"])
def test_a_dry_run_says_what_would_be_and_touches_nothing(months, tmp_path, name):
    with unchanged(months.root):
        dry = months.export(tmp_path / name, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    wet = months.export(tmp_path / name)
    assert dry.dry_run
    assert not wet.dry_run
    assert [getattr(dry, field) for field in ("names", "bytes", "written_bytes", "present_bytes", "blobs")] == [
        getattr(wet, field) for field in ("names", "bytes", "written_bytes", "present_bytes", "blobs")
    ]


@pytest.mark.needs_files
@pytest.mark.parametrize("mode", ["auto", "copy", "link"])
def test_what_is_there_already_is_counted_before_and_while_it_is_written(months, destination, mode):
    first = months.export(destination, ["app:january"], mode=mode)
    assert (first.present_bytes, first.written_bytes) == (0, first.bytes)
    before = tree(destination)
    dry = months.export(destination, mode=mode, dry_run=True)
    assert tree(destination) == before
    wet = months.export(destination, mode=mode)
    assert dry.present_bytes == wet.present_bytes == first.bytes
    assert dry.written_bytes == wet.written_bytes == wet.bytes - first.bytes


def test_a_dry_run_refuses_what_the_real_one_would(months, destination, tmp_path):
    destination.mkdir()
    (destination / "letter").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    for path in (destination, tmp_path / "file", months.root):
        with pytest.raises(LayoutInvalidError):
            months.export(path, dry_run=True)
