"""Archives that come in: layouts and Docker's, plain or compressed, from a file or a pipe; the same every time."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from dataclasses import replace

import pytest
from archived import COMPRESSIONS, config_of, docker_members, link, member, members_of, tarred
from handmade import IMAGE_NAME, REF_NAME, Layout
from images import artifact, document, image, index
from state import pool, unchanged

from ocistore import (
    ArchiveInvalidError,
    Digest,
    InvalidNameError,
    LayoutInvalidError,
    StorageError,
    Store,
    StoreBusyError,
)
from ocistore.layouts.imports.detection import opened
from ocistore.oci import mediatypes
from ocistore.progress import Tally

BIG = bytes(range(256)) * 1024
"""Larger than what is read at once."""
APP = image("app", layers=3, filler="x" * 100_000)
GRAPH = index([APP, image("second")])
LAYERS = [b"a layer", BIG, b"a third one"]


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "layout").add(GRAPH, "app:v1").add(artifact(subject=APP), None, "app@x:y")
    layout.entries[1]["annotations"] = {IMAGE_NAME: f"app@{artifact(subject=APP).digest}"}
    layout.write()
    return layout


@pytest.fixture
def archive(layout):
    return tarred(members_of(layout.path))


@pytest.fixture
def other(tmp_path, empty_store):
    with Store.open(shutil.copytree(empty_store, tmp_path / "other")) as opened:
        yield opened


def through_a_pipe(path, content):
    """A FIFO that gives some content to whoever opens it first."""
    os.mkfifo(path)

    def write():
        with open(path, "wb") as pipe:
            pipe.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    return writer


def imported(store, tmp_path, content, way, *arguments, **options):
    """Import an archive in one of the ways in which one can come."""
    file = tmp_path / "any name"
    if way == "a stream":
        return store.import_(io.BytesIO(content), *arguments, **options)
    if way == "a pipe":
        writer = through_a_pipe(file, content)
        try:
            return store.import_(file, *arguments, **options)
        finally:
            writer.join()
            file.unlink()
    file.write_bytes(content)
    try:
        return store.import_(file, *arguments, **options)
    finally:
        file.unlink()


WAYS = ["a file", "a stream"]
EACH_WAY = pytest.mark.parametrize("way", WAYS)
EACH_COMPRESSION = pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)


def read(store, repository, tag):
    """The bytes of everything that a tag leads to, by digest."""
    repository = store.repository(repository)
    found, pending = {}, [repository.resolve(tag)]
    while pending:
        descriptor = pending.pop()
        if mediatypes.is_manifest_type(descriptor.media_type) or mediatypes.is_index_type(descriptor.media_type):
            manifest = repository.get_manifest(descriptor.digest)
            found[descriptor.digest] = manifest.content
            pending += [edge.descriptor for edge in manifest.edges() if edge.role != "subject"]
        else:
            with repository.open_blob(descriptor.digest) as reader:
                found[descriptor.digest] = reader.read()
    return found


# --- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS, "a pipe"])
@EACH_COMPRESSION
def test_an_archived_layout_comes_in_as_its_directory_does(store, other, tmp_path, layout, way, compress):  # noqa: PLR0917
    report = imported(store, tmp_path, compress(tarred(members_of(layout.path))), way)
    expected = other.import_(layout.path)
    assert read(store, "app", "v1") == read(other, "app", "v1")
    assert pool(store.root) == pool(other.root)
    assert report == replace(expected, source=report.source)
    assert report.tags == ("app:v1",)
    assert [str(d.digest) for d in store.repository("app").referrers(APP.digest)] == [artifact(subject=APP).digest]


@EACH_WAY
def test_the_order_of_members_does_not_matter(store, tmp_path, layout, way):
    members = members_of(layout.path)
    assert members[-1][0].name == "index.json"
    assert imported(store, tmp_path, tarred(members[::-1]), way).tags == ("app:v1",)


@EACH_WAY
@pytest.mark.parametrize("form", ["gnu", "pax", "v7"])
def test_what_tar_makes_of_a_directory_is_read(store, tmp_path, layout, way, form):
    command = ["tar", "c", f"--format={form}", "-C", layout.path, "."]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    assert imported(store, tmp_path, content, way).tags == ("app:v1",)
    assert read(store, "app", "v1").keys() >= {APP.digest, *map(Digest.of, APP.blobs)}


@EACH_WAY
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_blob_of_a_long_digest_is_found(store, tmp_path, way, form):
    # blobs/sha512/ and 128 digits: more than the name of a ustar header has room for.
    layout = Layout(tmp_path / "layout")
    body = json.loads(image("long").manifest)
    layer = image("long").layers[0]
    body["layers"][0]["digest"] = Digest.of(layer, "sha512")
    content = document(body)
    layout.blob(content), layout.blob(image("long").config), layout.blob(layer, "sha512")
    digest = Digest.of(content)
    layout.entries = [{"mediaType": mediatypes.OCI_MANIFEST, "digest": digest, "size": len(content)}]
    layout.write()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        tar.add(layout.path, "")
    assert imported(store, tmp_path, out.getvalue(), way, "app").blobs == 2


@EACH_WAY
@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1024, 1025])
@EACH_COMPRESSION
def test_an_archive_that_lacks_its_padding_is_read(store, tmp_path, archive, way, cut, compress):  # noqa: PLR0917
    assert archive[-1025] == 0  # of index.json's last block
    assert imported(store, tmp_path, compress(archive[:-cut]), way).tags == ("app:v1",)


@EACH_WAY
@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
@pytest.mark.parametrize("records", [512, 10_240])
def test_a_compressed_archive_may_be_padded_and_of_several_parts(store, tmp_path, archive, way, kind, records):  # noqa: PLR0917
    # As bsdtar writes it into a pipe, and pigz, pbzip2, pixz and pzstd with several threads.
    compress = COMPRESSIONS[kind]
    content = b"".join(compress(archive[start : start + 40_000]) for start in range(0, len(archive), 40_000))
    content += bytes(-len(content) % records + records)
    assert imported(store, tmp_path, content, way).tags == ("app:v1",)


def test_the_form_is_known_by_its_content_whatever_its_name(store, tmp_path, archive):
    (tmp_path / "x.zip").write_bytes(archive)
    assert store.import_(tmp_path / "x.zip").tags == ("app:v1",)


def test_an_open_file_is_read_from_where_it_stands(store, tmp_path, archive):
    (tmp_path / "file").write_bytes(b"before" + archive)
    with (tmp_path / "file").open("rb") as file:
        file.seek(6)
        assert store.import_(file).tags == ("app:v1",)


class OneByteAtATime:
    """A file that has ``read`` and no more, and gives little."""

    def __init__(self, content):
        self.content = io.BytesIO(content)

    def read(self, size):
        return self.content.read(min(size, 1))


@EACH_COMPRESSION
def test_a_stream_may_give_as_little_as_it_likes(store, tmp_path, compress):
    layout = Layout(tmp_path / "layout").add(image("tiny"), "app:v1")
    content = compress(tarred(members_of(layout.write())))
    assert store.import_(OneByteAtATime(content)).tags == ("app:v1",)


@pytest.mark.parametrize("source", [7, None, ["a"]])
def test_what_cannot_be_read_is_a_type_error(store, source):
    with pytest.raises(TypeError, match="source must be a path or a binary file, not"), unchanged(store.root):
        store.import_(source)


def test_a_file_of_text_is_a_type_error(store):
    with pytest.raises(TypeError, match="binary mode"), unchanged(store.root):
        store.import_(io.StringIO("text"))


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), TimeoutError("too slow")], ids=repr)
def test_what_a_stream_of_the_caller_raises_is_raised_unchanged(store, archive, error):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 5000:
                raise error
            return super().read(min(size, 1000))

    with pytest.raises(type(error)) as caught, unchanged(store.root):
        store.import_(Broken(archive))
    assert caught.value is error


def test_what_the_progress_raises_while_a_stream_is_read_is_raised(store, archive):
    def broken(done, total):
        raise FileNotFoundError("of the caller's own")

    with pytest.raises(FileNotFoundError, match="caller's own"), unchanged(store.root):
        store.import_(io.BytesIO(archive), progress=broken)


@EACH_WAY
@EACH_COMPRESSION
def test_progress_grows_and_ends_with_all(store, tmp_path, archive, way, compress):
    told = []
    imported(store, tmp_path, compress(archive), way, progress=lambda done, total: told.append((done, total)))
    done = [done for done, _ in told]
    assert done == sorted(set(done))
    assert told[-1][0] == told[-1][1]


@EACH_WAY
def test_what_the_store_holds_is_verified_and_not_written(store, tmp_path, archive, way):
    imported(store, tmp_path, archive, way)
    inodes = {file: file.stat().st_ino for file in store.root.glob("blobs/*/*")}
    report = imported(store, tmp_path, archive, way)
    assert report.new_bytes == 0
    assert {file: file.stat().st_ino for file in store.root.glob("blobs/*/*")} == inodes


def test_what_the_store_holds_is_not_written_aside_either(store, archive, monkeypatch):
    store.import_(io.BytesIO(archive))
    written = []
    stage = type(store._core.pool).stage

    def noting(self, source, **options):
        staged = stage(self, source, **options)
        written.append(staged.size)
        return staged

    monkeypatch.setattr(type(store._core.pool), "stage", noting)
    store.import_(io.BytesIO(archive))
    assert max(written) < 64 * 1024 < max(map(len, APP.blobs))


def test_a_held_blob_that_a_collection_takes_meanwhile_makes_the_import_an_error_to_try_again(store, archive):
    store.import_(io.BytesIO(archive))
    with opened(io.BytesIO(archive), store._core, None) as source:
        config = Digest.of(APP.config)
        with pytest.raises(StoreBusyError, match="garbage collection removed it"):
            source.blob(config).stage(store._core.pool, config, len(APP.config), "auto", Tally(0, None))


@EACH_WAY
def test_blobs_that_nothing_needs_are_not_kept(store, tmp_path, layout, way):
    layout.blob(BIG)
    report = imported(store, tmp_path, tarred([*members_of(layout.path), member("README", b"read me")]), way)
    assert report.tags == ("app:v1",)
    assert Digest.of(BIG) not in pool(store.root)


def test_no_part_of_an_archive_can_be_linked(store, tmp_path, archive):
    for way in WAYS:
        with pytest.raises(StorageError, match="no part of an archive can be linked"), unchanged(store.root):
            imported(store, tmp_path, archive, way, mode="link")


def test_an_archive_that_is_written_to_while_it_is_read_is_noticed(store, tmp_path, archive):
    file = tmp_path / "archive"
    file.write_bytes(archive)

    def touched(done, total):
        with file.open("ab") as end:
            end.write(b"\0")

    with pytest.raises(LayoutInvalidError, match="the archive was changed while it was read"), unchanged(store.root):
        store.import_(file, progress=touched)


# --- Docker's ---------------------------------------------------------------------------------------------------------


def manifest_of(config, layers, kind=mediatypes.OCI_LAYER):
    """The manifest that an image of Docker's gets, byte for byte."""

    def described(content, media_type):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    return document(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": described(config, mediatypes.OCI_CONFIG),
            "layers": [described(layer, kind) for layer in layers],
        }
    )


@EACH_WAY
@EACH_COMPRESSION
def test_an_archive_of_dockers_becomes_an_image_of_the_same_bytes(store, tmp_path, way, compress):
    content = compress(tarred(docker_members({"app:v1": LAYERS})))
    report = imported(store, tmp_path, content, way)
    assert report.tags == ("app:v1",)
    config = config_of(LAYERS)
    expected = [manifest_of(config, LAYERS), config, *LAYERS]
    assert read(store, "app", "v1") == {Digest.of(content): content for content in expected}


@EACH_WAY
@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("gzip", mediatypes.OCI_LAYER_GZIP),
        ("zstd", mediatypes.OCI_LAYER_ZSTD),
        ("xz", f"{mediatypes.OCI_LAYER}+xz"),
        ("bzip2", f"{mediatypes.OCI_LAYER}+bzip2"),
    ],
)
def test_compressed_layers_are_known_by_their_first_bytes(store, tmp_path, way, kind, media_type):
    compress = COMPRESSIONS[kind]
    imported(store, tmp_path, tarred(docker_members({"app:v1": LAYERS}, compress=compress)), way)
    layers = [compress(layer) for layer in LAYERS]
    content = manifest_of(config_of(LAYERS), layers, media_type)
    assert store.repository("app").get_manifest("v1").content == content
    assert read(store, "app", "v1").keys() >= {Digest.of(layer) for layer in layers}


@EACH_WAY
def test_several_images_come_with_all_their_names(store, tmp_path, way):
    members = docker_members({"one:v1": LAYERS, "docker.io/library/two:latest": LAYERS[:1], "localhost:5000/x:y": []})
    listed = json.loads(members[-1][1])
    listed[0]["RepoTags"] += ["one:v2", "uno:v1"]
    members[-1] = member("manifest.json", document(listed))
    report = imported(store, tmp_path, tarred(members), way)
    assert report.tags == ("docker.io/library/two:latest", "one:v1", "one:v2", "uno:v1", "x:y")
    assert (report.manifests, report.blobs) == (3, 6)


@EACH_WAY
def test_an_image_without_a_name_needs_a_repository_and_gets_no_tag(store, tmp_path, way):
    content = tarred(docker_members({None: LAYERS}))
    with pytest.raises(InvalidNameError, match="say which one to import into"), unchanged(store.root):
        imported(store, tmp_path, content, way)
    report = imported(store, tmp_path, content, way, "app")
    assert report.untagged == (f"app@{Digest.of(manifest_of(config_of(LAYERS), LAYERS))}",)


def older(layers):
    """As ``docker save`` wrote it up to version 24: a directory for each layer, and links where layers are equal."""
    config = config_of(layers)
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    members = []
    for number, (name, layer) in enumerate(zip(names, layers, strict=True)):
        directory = name.partition("/")[0]
        same = layers.index(layer)
        made = member(name, layer) if same == number else link(name, f"../{names[same]}")
        members += [
            member(f"{directory}/", type=tarfile.DIRTYPE),
            member(f"{directory}/VERSION", b"1.0"),
            member(f"{directory}/json", b"{}"),
            made,
        ]
    listed = [{"Config": "config.json", "RepoTags": ["app:v1"], "Layers": names}]
    return [
        *members,
        member("config.json", config),
        member("manifest.json", document(listed)),
        member("repositories", document({"app": {"v1": "0" * 64}})),
    ]


@EACH_WAY
def test_links_to_layers_are_followed_within_the_archive(store, tmp_path, way):
    layers = [*LAYERS, LAYERS[0], LAYERS[1]]
    assert imported(store, tmp_path, tarred(older(layers)), way).tags == ("app:v1",)
    assert store.repository("app").get_manifest("v1").content == manifest_of(config_of(layers), layers)


@EACH_WAY
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_may_come_before_what_they_lead_to(store, tmp_path, way, kind):
    members = docker_members({"app:v1": LAYERS})
    listed = json.loads(members[-1][1])
    listed[0]["Layers"][0] = "deep/link"
    target = f"{hashlib.sha256(LAYERS[0]).hexdigest()}.tar"
    members[-1] = member("manifest.json", document(listed))
    made = link("deep/link", f"../{target}" if kind == tarfile.SYMTYPE else target, kind)
    assert imported(store, tmp_path, tarred([made, *members]), way).tags == ("app:v1",)


@EACH_WAY
def test_where_there_is_a_layout_too_both_are_read(store, tmp_path, layout, way):
    content = tarred([*docker_members({"app:docker": LAYERS}), *members_of(layout.path)])
    assert imported(store, tmp_path, content, way).tags == ("app:docker", "app:v1")


SYMBOLIC, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
LINKED = {
    "symbolic links": lambda name: [link(name, f"../../stuff/{name.rpartition('/')[2]}")],
    "hard links": lambda name: [link(name, f"stuff/{name.rpartition('/')[2]}", HARD)],
    "links to links": lambda name: [link(name, "../../a/b/c"), link("a/b/c", "../d"), link("a/d", "stuff/it", HARD)],
}


@EACH_WAY
@pytest.mark.parametrize("links", LINKED.values(), ids=LINKED)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_blobs_may_be_links_to_members(store, tmp_path, way, links, first, algorithm):  # noqa: PLR0917
    # As in layouts that Debian publishes; a tool that finds equal files writes one, and a link.
    layout = Layout(tmp_path / "layout")
    body = json.loads(image("long", filler="x" * 100_000).manifest)
    layer = image("long", filler="x" * 100_000).layers[0]
    body["layers"][0]["digest"] = Digest.of(layer, algorithm)
    content = document(body)
    layout.blob(content), layout.blob(image("long", filler="x" * 100_000).config), layout.blob(layer, algorithm)
    layout.entries = [{"mediaType": mediatypes.OCI_MANIFEST, "digest": Digest.of(content), "size": len(content)}]
    layout.write()
    name = f"blobs/{algorithm}/{Digest.of(layer, algorithm).encoded}"
    made = links(name)
    elsewhere = "stuff/it" if len(made) == 3 else f"stuff/{name.rpartition('/')[2]}"
    others = [pair for pair in members_of(layout.path) if pair[0].name != name]
    rest = [member(elsewhere, layer), *others]
    report = imported(store, tmp_path, tarred([*made, *rest] if first else [*rest, *made]), way, "app")
    assert report.blobs == 2
    with store.repository("app").open_blob(Digest.of(layer, algorithm)) as blob:
        assert blob.read() == layer
    again = imported(store, tmp_path, tarred([*made, *rest]), way, "app")
    assert again.new_bytes == 0


@EACH_WAY
def test_the_files_at_the_top_and_directories_may_be_links(store, tmp_path, layout, way):
    members = [
        member(f"version-1/{header.name}", content, **({"type": header.type} if not header.isreg() else {}))
        for header, content in members_of(layout.path)
    ]
    links = [link(name, f"version-1/{name}") for name in ("index.json", "oci-layout")]
    links.append(link("blobs", "./version-1/../version-1/blobs/"))
    assert imported(store, tmp_path, tarred([*links, *members]), way).tags == ("app:v1",)


def changed(**fields):
    members = docker_members({"app:v1": LAYERS})
    listed = json.loads(members[-1][1])
    listed[0].update(fields)
    return [*members[:-1], member("manifest.json", document(listed))]


def with_config(config):
    members = changed(Config="other.json")
    return [member("other.json", config), *members]


LAYER_NAMES = [f"{hashlib.sha256(layer).hexdigest()}.tar" for layer in LAYERS]
WRONG = {
    "no list": ([member("manifest.json", b"{}")], "manifest.json: .*not a list of images"),
    "no JSON": ([member("manifest.json", b"[")], "manifest.json: .*not JSON"),
    "text for an image": ([member("manifest.json", b'["app"]')], "manifest.json: .*not an object"),
    "two configs": ([member("manifest.json", b'[{"Config":"a","config":"b"}]')], "differs only in case"),
    "no config": (changed(Config=None), r"manifest.json: .*\[0\].Config: None is not text"),
    "a number of layers": (changed(Layers=3), r"manifest.json: .*\[0\].Layers: 3 is not a list"),
    "missing config and layers": (
        changed(Config="gone.json", Layers=["a.tar", LAYER_NAMES[0], "b.tar"]),
        "'gone.json' is missing: config in app:v1; 'a.tar' is missing: layer in app:v1; 'b.tar' is missing: layer in",
    ),
    "a missing layer": (
        changed(Layers=["a.tar", *LAYER_NAMES[1:]]),
        "'a.tar' is missing: layer of the image for linux/amd64 in app:v1$",
    ),
    "a missing config of what has no name": (
        changed(Config="gone.json", RepoTags=None),
        r"'gone.json' is missing: config in manifest.json\[0\]$",
    ),
    "too few layers": (changed(Layers=LAYER_NAMES[:2]), "has 2 layers, and its config 3 diff_ids"),
    "layers in another order": (changed(Layers=LAYER_NAMES[::-1]), "content has digest|bytes, not"),
    "a directory for a layer": (
        [*changed(Layers=["d", *LAYER_NAMES[1:]]), member("d", type=tarfile.DIRTYPE)],
        "'d': it is a directory",
    ),
    "a dangling link for a layer": ([*changed(Layers=["l", *LAYER_NAMES[1:]]), link("l", "gone")], "'l' is missing"),
    "a layer above": (changed(Layers=["../a", *LAYER_NAMES[1:]]), "'../a': its path leads upwards"),
    "an absolute layer": (changed(Layers=["/etc/passwd", *LAYER_NAMES[1:]]), "'/etc/passwd': its path is absolute"),
    "a config without rootfs": (with_config(b"{}"), "diff_ids: there is no rootfs"),
    "a config that is no JSON": (with_config(b"x"), "not JSON"),
    "diff_ids that are none": (with_config(document({"rootfs": {"diff_ids": ["sha256:x"]}})), "is not a digest"),
    "a config of 5 MiB": (with_config(b" " * (5 << 20)), "is larger than 4194304 bytes"),
}


@pytest.mark.parametrize(("members", "problem"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("way", WAYS)
def test_an_archive_of_dockers_with_something_wrong_is_refused(store, tmp_path, members, problem, way):
    with pytest.raises((LayoutInvalidError, ArchiveInvalidError), match=problem), unchanged(store.root):
        imported(store, tmp_path, tarred(members), way)


@pytest.mark.parametrize("way", WAYS)
def test_an_uncompressed_layer_that_is_not_its_diff_id_is_refused(store, tmp_path, way):
    members = docker_members({"app:v1": LAYERS})
    other = bytes(len(LAYERS[0]))
    members = [member(h.name, other if content == LAYERS[0] else content) for h, content in members]
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        imported(store, tmp_path, tarred(members), way)
    expected, actual = Digest.of(LAYERS[0]), Digest.of(other)
    assert caught.value.problems == (f"{expected}: content has digest {actual}, not {expected}",)


@pytest.mark.parametrize("name", [REF_NAME, "x"])
def test_an_archive_of_nothing_that_is_known_is_refused(store, tmp_path, name):
    for way in WAYS:
        with pytest.raises(ArchiveInvalidError, match=r"no oci-layout, .* and no manifest.json"), unchanged(store.root):
            imported(store, tmp_path, tarred([member(name, b"x")]), way)
