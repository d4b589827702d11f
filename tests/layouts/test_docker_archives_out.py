"""Archives for docker load: they hold what the config says, uncompressed, under the names that were asked for."""

import functools
import gzip
import io
import json
import lzma
import tarfile

import pytest
from click.testing import CliRunner
from images import Image, artifact, described, document, image, index, push
from state import unchanged

from ocistore import ArchiveInvalidError, CorruptError, Digest, Store
from ocistore.archives.compression import Limits, zstd
from ocistore.cli.commands import ocistore
from ocistore.oci import mediatypes


def tar_of(name, size=100):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        header = tarfile.TarInfo(name)
        header.size = size
        tar.addfile(header, io.BytesIO(name.encode() * size))
    return stream.getvalue()


def packed(content, media_type):
    if media_type.endswith("xz"):
        return lzma.compress(content)
    if media_type.endswith("gzip"):
        return gzip.compress(content, mtime=0)
    return zstd().compress(content) if media_type.endswith("zstd") else content


def configured(config, *layers):
    """An image of that config, as bytes, and of layers."""
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(config, mediatypes.OCI_CONFIG),
        "layers": [described(content, media_type) for content, media_type in layers],
    }
    return Image(document(body), (config, *(content for content, _ in layers)))


def built(name, *layers, diff_ids=None, config_type=mediatypes.OCI_CONFIG, architecture="arm64", algorithm="sha256"):
    """An image of layers, each a tar and a media type."""
    if diff_ids is None:
        diff_ids = [Digest.of(content) for content, _ in layers]
    config = document(
        {
            "architecture": architecture,
            "os": "linux",
            "name": name,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    )
    blobs = [packed(content, media_type) for content, media_type in layers]
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(config, config_type),
        "layers": [
            described(blob, media_type, algorithm=algorithm)
            for blob, (_, media_type) in zip(blobs, layers, strict=True)
        ],
    }
    return Image(document(body), (config, *blobs))


ONE, TWO, BIG = tar_of("one"), tar_of("two"), tar_of("big", 3_000_000)
PLAIN = built("plain", (ONE, mediatypes.OCI_LAYER), (BIG, mediatypes.OCI_LAYER))
PACKED = built(
    "packed", (ONE, mediatypes.OCI_LAYER_GZIP), (TWO, mediatypes.OCI_LAYER_ZSTD), (BIG, mediatypes.OCI_LAYER_GZIP)
)


def exported(store, *arguments, **options):
    stream = io.BytesIO()
    report = store.export(stream, *arguments, format="docker-archive", **options)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        return report, {member.name: tar.extractfile(member).read() for member in tar}


def layer(content):
    return f"{Digest.of(content).encoded}.tar"


def config(of):
    return f"{Digest.of(of.config).encoded}.json"


@pytest.mark.parametrize("graph", [PLAIN, PACKED], ids=["plain", "packed"])
def test_the_config_goes_out_as_it_is_and_layers_uncompressed(store, graph):
    push(store.repository("app"), graph, "v1")
    with unchanged(store.root):
        report, members = exported(store)
    tars = [ONE, BIG] if graph is PLAIN else [ONE, TWO, BIG]
    assert json.loads(members.pop("manifest.json")) == [
        {"Config": config(graph), "RepoTags": ["app:v1"], "Layers": [layer(content) for content in tars]}
    ]
    assert members == {config(graph): graph.config, **{layer(content): content for content in tars}}
    assert report.written_bytes == len(graph.config) + sum(map(len, tars))
    assert report.format == "docker-archive"


def test_every_image_and_layer_stands_there_once_under_all_its_names(store):
    repository = store.repository("app")
    push(repository, PLAIN, "v1", "latest")
    push(repository, PACKED, "v2")
    _, members = exported(store, ["app:v1=mirror/app:new", "app", f"app@{PACKED.digest}"])
    assert [(entry["Config"], entry["RepoTags"]) for entry in json.loads(members["manifest.json"])] == [
        (config(PLAIN), ["app:latest", "app:v1", "mirror/app:new"]),
        (config(PACKED), ["app:v2"]),
    ]
    assert len(members) == 1 + 2 + 3


def test_an_image_without_a_name_has_none_and_one_without_layers_has_none(store):
    empty = built("empty")
    push(store.repository("app"), empty)
    _, members = exported(store, [f"app@{empty.digest}"])
    assert json.loads(members["manifest.json"]) == [{"Config": config(empty), "RepoTags": None, "Layers": []}]


def test_the_same_images_give_the_same_bytes(store, tmp_path):
    with Store.open(tmp_path / "other") as other:
        for each, graphs in ((store, (PLAIN, PACKED)), (other, (PACKED, PLAIN))):
            for graph in graphs:
                push(each.repository("app"), graph, "plain" if graph is PLAIN else "packed")
            each.export(tmp_path / f"{each.root.name}.tar", format="docker-archive")
            each.export(tmp_path / f"{each.root.name}.tgz", format="docker-archive")
    for suffix in ("tar", "tgz"):
        assert (tmp_path / f"store.{suffix}").read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()
    assert gzip.decompress((tmp_path / "store.tgz").read_bytes()) == (tmp_path / "store.tar").read_bytes()


def test_what_media_types_say_of_compression_is_not_believed(store):
    lying = built("lying", (gzip.compress(ONE, mtime=0), mediatypes.OCI_LAYER), diff_ids=[Digest.of(ONE)])
    push(store.repository("app"), lying, "v1")
    assert exported(store)[1][layer(ONE)] == ONE


def test_layers_of_xz_and_of_nothing_go_out_as_what_they_are(store):
    xz = built("xz", (ONE, "application/vnd.oci.image.layer.v1.tar+xz"))
    nothing = built(
        "nothing", (b"", mediatypes.OCI_LAYER_GZIP), (b"", mediatypes.OCI_LAYER), (bytes(1024), mediatypes.OCI_LAYER)
    )
    push(store.repository("app"), xz, "xz")
    push(store.repository("app"), nothing, "nothing")
    _, members = exported(store)
    assert (members[layer(ONE)], members[layer(b"")], members[layer(bytes(1024))]) == (ONE, b"", bytes(1024))


def test_docker_types_and_other_algorithms_go_out_too(store):
    docker = built("docker", (ONE, mediatypes.DOCKER_LAYER_GZIP), config_type=mediatypes.DOCKER_CONFIG)
    push(store.repository("app"), docker, "v1")
    other = built("sha512", (TWO, mediatypes.OCI_LAYER), algorithm="sha512")
    repository = store.repository("app")
    repository.put_blob(TWO, algorithm="sha512")
    repository.put_blob(other.config)
    repository.put_manifest(other.manifest, tags=["v2"])
    _, members = exported(store)
    assert (members[layer(ONE)], members[layer(TWO)]) == (ONE, TWO)


def test_an_index_of_one_image_is_that_image_and_of_several_needs_a_platform(store):
    arm = built("arm", (ONE, mediatypes.OCI_LAYER))
    amd = built("amd", (TWO, mediatypes.OCI_LAYER), architecture="amd64")
    push(store.repository("app"), index([index([arm])]), "one")
    push(store.repository("app"), index([arm, amd]), "two")
    assert layer(ONE) in exported(store, ["app:one"])[1]
    with pytest.raises(ArchiveInvalidError, match=r"'app:two': it is an index of 2 images.*choose one platform"):
        exported(store)
    _, members = exported(store, ["app:two"], platforms=["linux/amd64"])
    assert (layer(ONE) in members, layer(TWO) in members) == (False, True)
    assert json.loads(members["manifest.json"])[0]["RepoTags"] == ["app:two"]


def test_what_an_index_has_besides_the_image_is_named_and_not_counted(store):
    first = built("first", (ONE, mediatypes.OCI_LAYER_GZIP))
    second = built("second", (TWO, mediatypes.OCI_LAYER_GZIP))
    attestation, soci = artifact("attestation"), artifact("soci")
    amd = {"platform": {"architecture": "amd64", "os": "linux"}}
    children = [
        described(first.manifest, first.media_type, **amd),
        described(second.manifest, second.media_type, **amd),
        described(soci.manifest, soci.media_type),
        described(
            attestation.manifest,
            attestation.media_type,
            platform={"architecture": "unknown", "os": "unknown"},
            annotations={"vnd.docker.reference.digest": str(first.digest)},
        ),
    ]
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": children}
    every = Image(document(body), media_type=mediatypes.OCI_INDEX, children=(first, second, soci, attestation))
    push(store.repository("app"), every, "v1", "v2")
    push(store.repository("app"), first, "plain")
    report = store.export(io.BytesIO(), ["app:v1", "app:v2"], format="docker-archive")
    assert report.left_out == (
        f"{second.digest} (image for linux/amd64 in app:v1)",
        f"{soci.digest} (manifest in app:v1)",
        f"{attestation.digest} (attestation of {first.digest} in app:v1)",
    )
    sizes = map(len, (first.manifest, *first.blobs))
    assert (report.manifests, report.blobs, report.bytes) == (1, 2, sum(sizes))
    amd64 = built("amd", (TWO, mediatypes.OCI_LAYER), architecture="amd64")
    push(store.repository("app"), index([first, amd64]), "both")
    narrowed = store.export(
        io.BytesIO(), ["app:both"], format="docker-archive", platforms=["linux/arm64"], dry_run=True
    )
    assert (narrowed.replaced, narrowed.manifests) == ({}, 1)
    plain = store.export(io.BytesIO(), ["app:plain"], format="docker-archive")
    assert (plain.left_out, plain.manifests, plain.blobs, plain.bytes) == ((), 1, 2, report.bytes)
    result = CliRunner().invoke(
        ocistore, ["--store", str(store.root), "export", "--format", "docker-archive", "--dry-run", "app:v1", "-"]
    )
    assert f"left out, because docker-archive cannot hold it: {attestation.digest} (attestation of" in result.stderr


FOREIGN = Image(
    document(
        {
            **json.loads(built("foreign", (TWO, mediatypes.OCI_LAYER)).manifest),
            "layers": [described(TWO, mediatypes.OCI_NONDISTRIBUTABLE_LAYER, urls=["https://layers.example/1"])],
        }
    ),
    built("foreign", (TWO, mediatypes.OCI_LAYER)).blobs[:1],
)
BOMB = gzip.compress(bytes(1 << 20), mtime=0) * 350
REFUSED = {
    "an artifact": (artifact(), "it is an artifact"),
    "an index of nothing": (index(), "an index of 0 images"),
    "no diff_ids": (image("app"), "its config does not say what its layers are"),
    "fewer layers than the config says": (built("app", diff_ids=[Digest.of(ONE)]), "0 layers, its config speaks of 1"),
    "other layers than the config says": (
        built("app", (ONE, mediatypes.OCI_LAYER), diff_ids=[Digest.of(TWO)]),
        "and not",
    ),
    "other compressed layers": (
        built("app", (ONE, mediatypes.OCI_LAYER_GZIP), diff_ids=[Digest.of(TWO)]),
        "and not",
    ),
    "a model": (built("app", (b"GGUF" * 1000, "application/vnd.docker.ai.gguf.v3")), "gguf.v3, and no archive"),
    "WebAssembly": (
        built("app", (b"\0asm" * 999, "application/vnd.wasm.content.layer.v1+wasm")),
        "v1.wasm, and no archive",
    ),
    "a signature": (
        built("app", (b"{}", "application/vnd.dev.cosign.simplesigning.v1+json")),
        "v1.json, and no archive of files",
    ),
    "an encrypted layer": (
        built("app", (BIG, f"{mediatypes.OCI_LAYER_GZIP}+encrypted"), diff_ids=[Digest.of(ONE)]),
        "is encrypted",
    ),
    "an encrypted layer of another type": (
        built("app", (b"\x93" * 5000, mediatypes.OCI_LAYER_GZIP.removesuffix("+gzip")), diff_ids=[Digest.of(ONE)]),
        "is no tar archive, whatever its type says",
    ),
    "something compressed that is no archive": (
        built("app", (b"\0asm" * 1000, mediatypes.OCI_LAYER_GZIP)),
        "is no tar archive, whatever its type says",
    ),
    "a layer shorter than a header": (built("app", (b"short", mediatypes.OCI_LAYER)), "is no tar archive"),
    "rootfs that is null": (configured(b'{"rootfs":null}', (ONE, mediatypes.OCI_LAYER)), "there is no rootfs"),
    "rootfs that is a list": (configured(b'{"rootfs":[]}', (ONE, mediatypes.OCI_LAYER)), "is not an object"),
    "a config that is a list": (configured(b"[]", (ONE, mediatypes.OCI_LAYER)), "it is not an object"),
    "a config that is null": (configured(b"null", (ONE, mediatypes.OCI_LAYER)), "it is not an object"),
    "diff_ids that are null": (
        configured(b'{"rootfs":{"diff_ids":null}}', (ONE, mediatypes.OCI_LAYER)),
        "1 layers, its config speaks of 0",
    ),
    "diff_ids that are numbers": (
        configured(b'{"rootfs":{"diff_ids":[1]}}', (ONE, mediatypes.OCI_LAYER)),
        "rootfs.diff_ids",
    ),
    "a diff_id that is no digest": (built("app", (ONE, mediatypes.OCI_LAYER), diff_ids=["../../x"]), "rootfs.diff_ids"),
    "diff_ids that are no list": (built("app", diff_ids="x"), "'x' is not a list"),
    "a foreign layer": (FOREIGN, "is not in the store"),
    "a stream that is cut short": (
        built("app", (gzip.compress(BIG)[:-20], mediatypes.OCI_LAYER), diff_ids=[Digest.of(BIG)]),
        "cut short",
    ),
    "a bomb": (
        built("app", (BOMB, mediatypes.OCI_LAYER), diff_ids=[Digest.of(BIG)]),
        "more than 200 times its size",
    ),
}


@pytest.mark.parametrize(
    ("refused", "slack"),
    [
        *(pytest.param(refused, 16 << 20, id=refused) for refused in REFUSED),
        pytest.param("a bomb", Limits().slack, id="a bomb, of its real size", marks=pytest.mark.slow),
    ],
)
def test_what_such_an_archive_cannot_hold_is_refused_before_anything_is_written(
    store, tmp_path, monkeypatch, refused, slack
):
    graph, message = REFUSED[refused]
    monkeypatch.setattr("ocistore.archives.compression.Limits", functools.partial(Limits, slack=slack))
    push(store.repository("app"), PLAIN, "a")
    push(store.repository("app"), graph, "v1")
    (tmp_path / "out.tar").write_bytes(b"mine")
    stream = io.BytesIO()
    for destination in (tmp_path / "out.tar", stream):
        with pytest.raises(ArchiveInvalidError, match=message), unchanged(store.root):
            store.export(destination, format="docker-archive")
    assert (tmp_path / "out.tar").read_bytes() == b"mine"
    assert stream.getvalue() == b""


def test_a_dry_run_knows_the_size_and_refuses_what_the_real_one_would(store, tmp_path):
    push(store.repository("app"), PACKED, "v1")
    dry = store.export(tmp_path / "out.tar", format="docker-archive", dry_run=True)
    assert not (tmp_path / "out.tar").exists()
    assert dry.written_bytes == store.export(tmp_path / "out.tar", format="docker-archive").written_bytes
    push(store.repository("app"), artifact(), "note")
    with pytest.raises(ArchiveInvalidError):
        store.export(tmp_path / "out.tar", format="docker-archive", dry_run=True)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_blob_that_is_gone_is_named(store, tmp_path, number):
    push(store.repository("app"), PACKED, "v1")
    digest = Digest.of(PACKED.blobs[number])
    (store.root / "blobs" / "sha256" / digest.encoded).unlink()
    with pytest.raises(CorruptError, match=digest):
        store.export(tmp_path / "out.tar", format="docker-archive")
    assert not (tmp_path / "out.tar").exists()


def test_progress_ends_with_all_bytes(store, tmp_path):
    push(store.repository("app"), PACKED, "v1")
    told = []
    report = store.export(tmp_path / "out.tar", format="docker-archive", progress=lambda *step: told.append(step))
    assert told == sorted(told)
    assert told[-1] == (report.written_bytes, report.written_bytes)
