"""What tools write in ways of their own, rebuilt small: it comes in, or the error says what it is and what to do."""

import gzip
import hashlib
import io
import json
import struct
import tarfile

import pytest
from archived import config_of, link, member, members_of, tarred, zstd
from click.testing import CliRunner
from handmade import IMAGE_NAME, REF_NAME, Layout, listed
from images import Image, artifact, described, document, image, index
from invariants import check
from state import unchanged

from ocistore import ArchiveInvalidError, Digest, InvalidNameError, LayoutInvalidError, ManifestNotFoundError, Store
from ocistore.cli.commands import ocistore
from ocistore.images import list_files
from ocistore.oci import mediatypes

LAYER, UPPER = tarred([member("etc/lower", b"1")]), tarred([member("etc/upper", b"2")])
CONFIG = config_of([LAYER, UPPER])
PACKED = [gzip.compress(layer, mtime=0) for layer in (LAYER, UPPER)]


def digits(content):
    return hashlib.sha256(content).hexdigest()


def saved(files, *, config="c.json", names=("app:v1",), layers=("l1", "l2"), form=tarfile.GNU_FORMAT):
    """An archive of Docker's form, as the standard library writes it."""
    out = io.BytesIO()
    listed = [{"Config": config, "RepoTags": list(names), "Layers": list(layers)}]
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in {**files, "manifest.json": document(listed)}.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return out.getvalue()


def named(*packed, prefix="", suffix=".tar.gz"):
    return [f"{prefix}{digits(content)}{suffix}" for content in packed]


# --- Docker archives --------------------------------------------------------------------------------------------------

ONES = {
    "kaniko, ko and crane: the config's digest is its name": saved(
        {f"sha256:{digits(CONFIG)}": CONFIG, **dict(zip(named(*PACKED), PACKED, strict=True))},
        config=f"sha256:{digits(CONFIG)}",
        layers=named(*PACKED),
    ),
    "jib: config.json": saved(
        {"config.json": CONFIG, **dict(zip(named(*PACKED), PACKED, strict=True))},
        config="config.json",
        layers=named(*PACKED),
    ),
    "rules_oci: like blobs, but for the ending": saved(
        {
            f"blobs/sha256/{digits(CONFIG)}": CONFIG,
            **dict(zip(named(*PACKED, prefix="blobs/sha256/"), PACKED, strict=True)),
        },
        config=f"blobs/sha256/{digits(CONFIG)}",
        layers=named(*PACKED, prefix="blobs/sha256/"),
    ),
    "nix: a directory for each layer, in pax": saved(
        {f"{digits(CONFIG)}.json": CONFIG, f"{digits(LAYER)}/layer.tar": LAYER, f"{digits(UPPER)}/layer.tar": UPPER},
        config=f"{digits(CONFIG)}.json",
        layers=[f"{digits(LAYER)}/layer.tar", f"{digits(UPPER)}/layer.tar"],
        form=tarfile.PAX_FORMAT,
    ),
    "the SDK of .NET: packed layers called layer.tar": saved(
        {"c.json": CONFIG, "1/layer.tar": PACKED[0], "2/layer.tar": PACKED[1]}, layers=["1/layer.tar", "2/layer.tar"]
    ),
    "Docker on Windows: backslashes in manifest.json": saved(
        {"c.json": CONFIG, "1/layer.tar": LAYER, "2/layer.tar": UPPER}, layers=["1\\layer.tar", "2\\layer.tar"]
    ),
    "a dot before every name": saved(
        {"./c.json": CONFIG, "./1/layer.tar": LAYER, "./2/layer.tar": UPPER},
        config="./c.json",
        layers=["./1/layer.tar", "2/layer.tar"],
    ),
    "tar on a Mac: files beside files": saved(
        {"._c.json": b"x", "c.json": CONFIG, "._manifest.json": b"x", "l1": LAYER, "l2": UPPER, "._l1": b"x"}
    ),
}


@pytest.mark.parametrize("archive", ONES.values(), ids=ONES)
@pytest.mark.parametrize("way", ["a file", "a stream"])
def test_it_comes_in_whatever_its_files_are_called(store, tmp_path, archive, way):
    (tmp_path / "archive").write_bytes(archive)
    source = tmp_path / "archive" if way == "a file" else io.BytesIO(archive)
    assert store.import_(source).tags == ("app:v1",)
    manifest = store.repository("app").get_manifest("v1")
    assert manifest.config.digest == Digest.of(CONFIG)
    assert [file.path for file in list_files(store, "app:v1")] == ["etc", "etc/lower", "etc/upper"]


@pytest.mark.parametrize("way", ["a file", "a stream"])
@pytest.mark.parametrize("size", [1, 200_000])
def test_a_layer_that_is_there_once_for_each_image_is_one(store, tmp_path, way, size):
    layer = tarred([member("a", bytes(size))])
    config, other = config_of([layer]), config_of([layer, UPPER])
    entries = [
        {"Config": "1.json", "RepoTags": ["one:v1"], "Layers": ["layer.tar"]},
        {"Config": "2.json", "RepoTags": ["two:v1"], "Layers": ["layer.tar", "upper.tar"]},
    ]
    members = [
        member("1.json", config),
        member("layer.tar", layer),
        member("2.json", other),
        member("./layer.tar", layer),
        member("upper.tar", UPPER),
        member("manifest.json", document(entries)),
    ]
    (tmp_path / "archive").write_bytes(tarred(members))
    source = tmp_path / "archive" if way == "a file" else io.BytesIO(tarred(members))
    assert store.import_(source).tags == ("one:v1", "two:v1")
    assert check(store, hashes=True) == []
    assert not list((store.root / "uploads").iterdir())
    members[3] = member("layer.tar", layer[:-1] + b"x")
    for source in (tarred(members), tarred([*members, link("1.json", "2.json")])):
        (tmp_path / "archive").write_bytes(source)
        given = tmp_path / "archive" if way == "a file" else io.BytesIO(source)
        with pytest.raises(ArchiveInvalidError, match="two members of that name"), unchanged(store.root):
            store.import_(given, "mine")


def test_one_name_for_two_platforms_says_to_choose_one(store):
    layers = {"amd64": LAYER, "arm64": UPPER}
    files = {f"{name}.json": config_of([layer], architecture=name) for name, layer in layers.items()}
    files |= {f"{name}.tar": layer for name, layer in layers.items()}
    entries = [{"Config": f"{name}.json", "RepoTags": ["app:v1"], "Layers": [f"{name}.tar"]} for name in layers]
    members = [*(member(name, content) for name, content in files.items()), member("manifest.json", document(entries))]
    with pytest.raises(LayoutInvalidError, match=r"for linux/amd64 and linux/arm64: choose one of these \(--platform"):
        store.import_(io.BytesIO(tarred(members)))
    assert store.import_(io.BytesIO(tarred(members)), platforms=["linux/arm64"]).tags == ("app:v1",)


# --- what it is, and what to do ---------------------------------------------------------------------------------------

IMAGE = image("app", architecture="amd64")


def skopeos_directory(path, image=IMAGE):
    """What ``skopeo copy`` and ``podman save`` write as ``dir``."""
    path.mkdir()
    (path / "version").write_text("Directory Transport Version: 1.1\n")
    (path / "manifest.json").write_bytes(image.manifest)
    for child in image.children:
        (path / f"{child.digest.encoded}.manifest.json").write_bytes(child.manifest)
    for each in (image, *image.children):
        for blob in each.blobs:
            (path / digits(blob)).write_bytes(blob)
    return path


def an_unpacked_archive(path):
    with tarfile.open(fileobj=io.BytesIO(saved({"c.json": CONFIG, "l1": LAYER, "l2": UPPER}))) as tar:
        tar.extractall(path, filter="data")


def an_archive_with_a_directory_around_it(path):
    Layout(path.parent / "layout").add(IMAGE, "app:v1").write()
    with tarfile.open(path, "w") as tar:
        tar.add(path.parent / "layout", "some/layout")


def skopeos_directory_in_an_archive(path):
    skopeos_directory(path.parent / "directory")
    with tarfile.open(path, "w") as tar:
        tar.add(path.parent / "directory", ".")


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (skopeos_directory_in_an_archive, LayoutInvalidError, "skopeo's form dir: unpack it"),
        (an_unpacked_archive, LayoutInvalidError, r"an unpacked archive of Docker's.*pack it again \(tar -C"),
        (an_archive_with_a_directory_around_it, ArchiveInvalidError, r"in 'some/layout': pack .*tar -C some/layout"),
    ],
)
def test_what_cannot_be_read_is_said_to_be_what_it_is(store, tmp_path, make, error, said):
    make(tmp_path / "source")
    with pytest.raises(error, match=said), unchanged(store.root):
        store.import_(tmp_path / "source")
    result = CliRunner().invoke(ocistore, ["--store", str(tmp_path / "new"), "import", str(tmp_path / "source")])
    assert result.exit_code != 0
    assert not (tmp_path / "new").exists() or "archive" in make.__name__


BOTH = index([image("amd", architecture="amd64"), image("arm")])


@pytest.mark.parametrize("made", [IMAGE, BOTH, image("docker", docker=True)], ids=["an image", "an index", "Docker's"])
@pytest.mark.parametrize("mode", ["copy", "link"])
def test_skopeos_directories_come_in(store, tmp_path, made, mode):
    source = skopeos_directory(tmp_path / "source", made)
    assert store.import_(source, "app:v1", mode=mode, dry_run=True).tags == ("app:v1",)
    report = store.import_(source, "app:v1", mode=mode)
    assert report.tags == ("app:v1",)
    assert store.repository("app").get_manifest("v1").content == made.manifest
    assert check(store, hashes=True) == []
    with pytest.raises(InvalidNameError, match="names no repository"):
        store.import_(source)
    result = CliRunner().invoke(ocistore, ["--store", str(tmp_path / "new"), "import", str(source), "app:v1"])
    assert result.exit_code == 0


def test_of_skopeos_directory_a_platform_is_chosen_and_signatures_are_named(store, tmp_path):
    source = skopeos_directory(tmp_path / "source", BOTH)
    (source / "signature-1").write_bytes(b"OpenPGP")
    report = store.import_(source, "app:v1", platforms=["linux/arm64"])
    assert [child.digest for child in store.repository("app").get_manifest("v1").manifests] == [BOTH.children[1].digest]
    assert report.skipped == ("'signature-1' (a signature that is no content of OCI's)",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.json", b"{}", "manifest.json: .*schemaVersion"),
        ("manifest.json", IMAGE.manifest[:-1], "manifest.json: .*not JSON"),
        (digits(IMAGE.layers[0]), b"?", "has 1 bytes"),
        (digits(IMAGE.layers[0]), b"?" * len(IMAGE.layers[0]), "content has digest"),
        (digits(IMAGE.config), None, "is missing: config in app:v1"),
    ],
    ids=str,
)
def test_a_damaged_directory_of_skopeos_is_refused(store, tmp_path, name, content, said):
    source = skopeos_directory(tmp_path / "source")
    (source / name).unlink()
    if content is not None:
        (source / name).write_bytes(content)
    with pytest.raises(LayoutInvalidError, match=said), unchanged(store.root):
        store.import_(source, "app:v1")
    (source / "index.json").write_bytes(b"{}")  # which makes it something else
    with pytest.raises(LayoutInvalidError, match="no oci-layout"), unchanged(store.root):
        store.import_(source, "app:v1")


def test_a_file_deep_in_an_archive_of_others_is_no_sign_of_a_layout(store):
    archive = tarred([member("usr/share/app/manifest.json", b"[]"), member("etc/passwd", b"x")])
    with pytest.raises(ArchiveInvalidError, match="it has no oci-layout"):
        store.import_(io.BytesIO(archive))


# --- names ------------------------------------------------------------------------------------------------------------


def entry(image, **annotations):
    return described(image.manifest, image.media_type, annotations=annotations)


def layout_of(path, *entries, images=(IMAGE,), **more):
    layout = Layout(path)
    for each in images:
        layout.put(each)
    return layout.write(document({"schemaVersion": 2, "manifests": list(entries), **more}))


@pytest.mark.parametrize("digest", [IMAGE.digest, Digest.of(IMAGE.config)])
@pytest.mark.parametrize("key", [REF_NAME, IMAGE_NAME])
def test_a_digest_alone_is_no_name(store, tmp_path, digest, key):
    source = layout_of(tmp_path / "layout", entry(IMAGE, **{key: digest}))
    with pytest.raises(InvalidNameError, match="names no repository"), unchanged(store.root):
        store.import_(source)
    assert store.import_(source, "mine").tags == ()


def test_what_kubernetes_has_in_containerd_comes_in_once(store, tmp_path):
    names = ["docker.io/library/app:v1", f"docker.io/library/app@{IMAGE.digest}", str(Digest.of(IMAGE.config))]
    other = image("other")
    source = layout_of(
        tmp_path / "layout",
        *(entry(IMAGE, **{IMAGE_NAME: name}) for name in names),
        entry(other, **{IMAGE_NAME: "registry.k8s.io/pause:3.9"}),
        images=(IMAGE, other),
    )
    assert store.import_(source).tags == ("docker.io/library/app:v1", "registry.k8s.io/pause:3.9")
    assert "sha256" not in list(store.repositories())


@pytest.mark.parametrize(
    ("reference", "tags"),
    [
        ("busybox", ["docker.io/library/busybox:1", "docker.io/library/busybox:2"]),
        ("busybox:1", ["docker.io/library/busybox:1"]),
        ("library/busybox:2", ["docker.io/library/busybox:2"]),
        ("docker.io/busybox:2", ["docker.io/library/busybox:2"]),
        ("org/app:v1", ["docker.io/org/app:v1"]),
        ("org/app:v1=mine:v1", ["mine:v1"]),
        ("app", ["app:v1"]),
        ("redis:7", ["redis:7"]),
    ],
)
def test_names_are_meant_as_docker_reads_them(store, tmp_path, reference, tags):
    names = ["docker.io/library/busybox:1", "docker.io/library/busybox:2", "docker.io/org/app:v1"]
    names += ["app:v1", "docker.io/library/app:v1", "redis:7", "docker.io/library/redis:7"]
    source = layout_of(tmp_path / "layout", *(entry(IMAGE, **{IMAGE_NAME: name}) for name in names))
    assert list(store.import_(source, references=[reference]).tags) == tags
    with pytest.raises(ManifestNotFoundError, match="'other'"):
        store.import_(source, references=["other:v1"])


def test_what_names_no_repository_is_meant_before_what_docker_would_mean(store, tmp_path):
    other = image("other")
    entries = [
        entry(IMAGE, **{IMAGE_NAME: "docker.io/library/app:v1"}),
        entry(other, **{REF_NAME: "v1"}),
        entry(other, **{IMAGE_NAME: "docker.io/library/other:v1"}),
    ]
    source = layout_of(tmp_path / "layout", *entries, images=(IMAGE, other))
    assert store.import_(source, references=["app:v1"]).tags == ("app:v1",)
    assert store.repository("app").resolve("v1").digest == other.digest


@pytest.mark.parametrize("part", ["index.json", "a blob"])
def test_a_link_in_a_directory_is_said_to_be_one(store, tmp_path, part):
    source = Layout(tmp_path / "layout").add(IMAGE, "app:v1").write()  # as Bazel lays them out
    file = source / (part if part == "index.json" else f"blobs/sha256/{IMAGE.digest.encoded}")
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LayoutInvalidError, match="a symbolic link, which is not followed; tar --dereference"):
        store.import_(source)


def test_an_index_json_of_dockers_type_is_read(store, tmp_path):
    source = layout_of(tmp_path / "layout", entry(IMAGE, **{REF_NAME: "app:v1"}), mediaType=mediatypes.DOCKER_LIST)
    assert store.import_(source).tags == ("app:v1",)
    store.export(source, ["app:v1=other:v2"])
    assert len(listed(source)) == 2


# --- signatures that say by an annotation what they are ---------------------------------------------------------------

SIGNED, SECOND = image("signed"), image("second")
SIGNATURE = artifact("signature", artifact_type=None, config_type=mediatypes.OCI_CONFIG)
ATTESTATION = artifact("attestation", artifact_type=None, config_type=mediatypes.OCI_CONFIG)
NAMES = {
    "cosign, without names": {},
    "hauler, with the image's": {REF_NAME: "ghcr.io/x/app:v1"},
    "with containerd's name": {IMAGE_NAME: "ghcr.io/x/app:v1", REF_NAME: "v1"},
    "behind a host": {REF_NAME: "host:5000/ghcr.io/x/app:v1"},
}


@pytest.fixture(params=["dev.cosignproject.cosign/", "dev.hauler/"])
def kinds(request):
    return lambda kind: {"kind": f"{request.param}{kind}"}


def tags(store, repository):
    found = store.repository(repository)
    return {tag: found.resolve(tag).digest for tag in found.tags()}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_signatures_get_the_tags_that_cosign_looks_for(store, tmp_path, names, kinds):
    about = f"sha256-{SIGNED.digest.encoded}"
    source = layout_of(
        tmp_path / "layout",
        entry(SIGNED, **kinds("image"), **names),
        entry(SIGNATURE, **kinds("sigs"), **names),
        entry(ATTESTATION, **kinds("atts"), **names),
        images=(SIGNED, SIGNATURE, ATTESTATION),
    )
    wanted = {"v1": SIGNED.digest, f"{about}.sig": SIGNATURE.digest, f"{about}.att": ATTESTATION.digest}
    store.import_(source, "mine:v1")
    assert tags(store, "mine") == wanted
    if names:
        store.import_(source, references=["ghcr.io/x/app:v1"])
        assert tags(store, "ghcr.io/x/app") == wanted
        assert store.import_(source, "bare", references=["ghcr.io/x/app:v1"], referrers=False).referrers_left == 2
    store.copy_to(tmp_path / "copy", ["mine:v1"])
    with Store.open(tmp_path / "copy") as other:
        assert tags(other, "mine") == wanted
        other.export(tmp_path / "out", ["mine"])
    written = {each["digest"]: each["annotations"]["kind"] for each in listed(tmp_path / "out")}
    assert written[SIGNATURE.digest] == kinds("sigs")["kind"]


def test_signatures_of_one_of_several_images_have_no_tag(store, tmp_path, kinds):
    names = {REF_NAME: "app:v1"}
    platforms = [{"os": "linux", "architecture": name} for name in ("amd64", "arm64")]
    source = layout_of(
        tmp_path / "layout",
        {**entry(SIGNED, **kinds("image"), **names), "platform": platforms[0]},
        {**entry(SECOND, **kinds("image"), **names), "platform": platforms[1]},
        entry(SIGNATURE, **kinds("sigs"), **names),
        images=(SIGNED, SECOND, SIGNATURE),
    )
    report = store.import_(source, platforms=["linux/arm64"])
    assert report.tags == ("app:v1",)
    assert report.untagged == (f"app@{SIGNATURE.digest}",)
    assert tags(store, "app") == {"v1": SECOND.digest}


# --- artifacts and layers ---------------------------------------------------------------------------------------------

CHART = gzip.compress(tarred([member("chart/Chart.yaml", b"name: chart")]), mtime=0)
SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 8) + b"metadata"
ESTARGZ_END = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0" + b"%016xSTARGZ" % 5 + b"\x01\0\0\xff\xff\0\0\0\0\0\0\0\0"


def of_layers(config_type, *layers, config=b"{}"):
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(config, config_type),
        "layers": [described(content, kind) for content, kind in layers],
    }
    return Image(document(body), (config, *(content for content, _ in layers)))


@pytest.mark.parametrize(
    ("made", "paths"),
    [
        (
            of_layers(
                "application/vnd.cncf.helm.config.v1+json",
                (b"-----BEGIN PGP", "application/vnd.cncf.helm.chart.provenance.v1.prov"),
                (CHART, "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
            ),
            ["chart", "chart/Chart.yaml"],
        ),
        (
            of_layers(
                "application/vnd.kitops.modelkit.config.v1+json",
                (LAYER, "application/vnd.kitops.modelkit.model.v1.tar"),
                (b"text", "application/vnd.docker.ai.license"),
                (UPPER, "application/vnd.kitops.modelkit.dataset.v1.tar"),
            ),
            ["etc", "etc/lower", "etc/upper"],
        ),
        (
            of_layers("application/vnd.cncf.flux.config.v1+json", (CHART, "application/vnd.flux.content.v1.tar+gzip")),
            ["chart", "chart/Chart.yaml"],
        ),
        (
            of_layers(mediatypes.OCI_CONFIG, (zstd.compress(LAYER) + SKIPPABLE, mediatypes.OCI_LAYER_ZSTD)),
            ["etc", "etc/lower"],
        ),
        (
            of_layers(mediatypes.OCI_CONFIG, (SKIPPABLE + zstd.compress(LAYER), mediatypes.OCI_LAYER_ZSTD)),
            ["etc", "etc/lower"],
        ),
        (of_layers(mediatypes.OCI_CONFIG, (PACKED[0] + ESTARGZ_END, mediatypes.OCI_LAYER_GZIP)), ["etc", "etc/lower"]),
    ],
    ids=["helm", "kitops", "flux", "zstd:chunked", "pzstd", "estargz"],
)
def test_files_are_listed_whatever_lies_beside_the_archives(store, tmp_path, made, paths):
    store.import_(Layout(tmp_path / "layout").add(made, "app:v1").write())
    assert [file.path for file in list_files(store, "app:v1")] == paths


def test_of_an_image_no_layer_is_left_out(store, tmp_path):
    made = of_layers(mediatypes.OCI_CONFIG, (LAYER, mediatypes.OCI_LAYER), (b"x", "application/vnd.erofs.layer.v1"))
    store.import_(Layout(tmp_path / "layout").add(made, "app:v1").write())
    with pytest.raises(ArchiveInvalidError, match="no known type of layer"):
        list(list_files(store, "app:v1"))


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_an_archive_that_the_sdk_of_net_writes_comes_in(store, tmp_path):
    entries = [
        {
            "mediaType": IMAGE.media_type,
            "size": len(IMAGE.manifest),
            "digest": str(IMAGE.digest),
            "platform": {},
            "annotations": {IMAGE_NAME: f"docker.io/library/app:{tag}", REF_NAME: tag},
        }
        for tag in ("1.0", "latest")
    ]
    archive = tarred(members_of(layout_of(tmp_path / "layout", *entries)))
    assert store.import_(io.BytesIO(archive)).tags == ("docker.io/library/app:1.0", "docker.io/library/app:latest")


def platform(name):
    return {"platform": {"os": "linux", "architecture": name}}


def test_an_index_that_was_written_down_as_a_layout_is_one_index(store, tmp_path):
    other = image("other")
    entries = [
        described(each.manifest, each.media_type, **platform(name))
        for each, name in ((IMAGE, "amd64"), (other, "arm64"))
    ]
    annotations = {"org.opencontainers.image.vendor": "x"}
    source = layout_of(tmp_path / "layout", *entries, images=(IMAGE, other), annotations=annotations)
    assert store.import_(source, "app:v1").tags == ("app:v1",)
    manifest = store.repository("app").get_manifest("v1")
    assert manifest.content == (source / "index.json").read_bytes()
    assert [child.digest for child in manifest.manifests] == [IMAGE.digest, other.digest]
    assert check(store, hashes=True) == []
    assert store.import_(source, "one:v1", platforms=["linux/arm64"]).tags == ("one:v1",)
    assert store.repository("one").resolve("v1").digest == other.digest
    assert store.import_(source, "mine").tags == ()


@pytest.mark.parametrize(
    "more", [{}, {**platform("amd64")}, {**platform("arm64"), "annotations": {REF_NAME: "v2"}}], ids=str
)
def test_things_that_are_no_one_index_are_several(store, tmp_path, more):
    other = image("other")
    entries = [
        described(IMAGE.manifest, IMAGE.media_type, **platform("amd64")),
        described(other.manifest, other.media_type, **more),
    ]
    source = layout_of(tmp_path / "layout", *entries, images=(IMAGE, other))
    with pytest.raises(InvalidNameError, match="2 things to be called that"), unchanged(store.root):
        store.import_(source, "app:v1")


def test_an_export_keeps_what_an_index_json_says_besides(store, tmp_path):
    besides = {"annotations": {"org.example.note": "ä"}, "artifactType": "application/x", "org.example": [1]}
    source = layout_of(tmp_path / "layout", entry(IMAGE, **{REF_NAME: "app:v1"}), **besides)
    store.import_(source)
    for name in ("v2", "v3"):
        store.export(source, [f"app:v1=app:{name}"])
        written = json.loads((source / "index.json").read_bytes())
        assert {key: written[key] for key in besides} == besides
    assert len(written["manifests"]) == 3


def test_a_label_of_tar_is_no_member(store, tmp_path):
    members = [member("label", type=b"V"), *members_of(Layout(tmp_path / "layout").add(IMAGE, "app:v1").write())]
    assert store.import_(io.BytesIO(tarred(members))).tags == ("app:v1",)
    (tmp_path / "archive").write_bytes(tarred(members))
    assert store.import_(tmp_path / "archive", "mine").tags == ("mine:v1",)
    with pytest.raises(ArchiveInvalidError, match="its kind, b'V', is unknown"):
        store.import_(io.BytesIO(tarred([member("label", b"x", type=b"V"), *members])))


def test_files_that_other_tools_leave_in_a_layout_do_no_harm(store, tmp_path):
    source = Layout(tmp_path / "layout").add(IMAGE, "app:v1").write()
    (source / "ingest").mkdir()
    for name in ("ingest/x", "blobs/sha256/._x", "blobs/.DS_Store", "._index.json", ".lock"):
        (source / name).write_bytes(b"x")
    assert store.import_(source).tags == ("app:v1",)
    assert store.import_(io.BytesIO(tarred(members_of(source))), "mine").tags == ("mine:v1",)
