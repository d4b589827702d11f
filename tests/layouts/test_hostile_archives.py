"""Archives that lie, lead elsewhere or never end: one clear error, an unchanged store, nothing written elsewhere."""

import bz2
import functools
import gzip
import io
import os
import re
import tarfile
import time

import pytest
from archived import COMPRESSIONS, config_of, docker_members, link, member, members_of, tarred
from handmade import REF_NAME, Layout
from images import Image, described, document, image, push
from state import strays, unchanged

from ocistore import ArchiveInvalidError, Digest, LayoutInvalidError, Store
from ocistore.archives.compression import Limits
from ocistore.layouts.imports.detection import checked
from ocistore.layouts.imports.members import MAXIMUM_MEMBERS, MAXIMUM_NAME_LENGTH, MAXIMUM_OTHERS
from ocistore.oci import mediatypes

KINDS = [kind for kind in COMPRESSIONS if kind != "plain"]
APP = image("app", layers=2, filler="x" * 70_000)
CONFIG, LAYER, LAYER_2 = map(Digest.of, APP.blobs)


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A store with something in it, which no test may change."""
    with Store.open(tmp_path_factory.mktemp("hostile") / "store") as store:
        push(store.repository("app"), image("kept"), "v1")
        push(store.repository("other"), image("kept"), "v1")
        yield store


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Those of a good archive."""
    return members_of(Layout(tmp_path_factory.mktemp("good") / "layout").add(APP, "app:v2").write())


def everything_below(directory):
    return sorted(str(path) for path in directory.rglob("*"))


@pytest.fixture(params=["a file", "a stream"])
def refused(request, stocked, tmp_path, monkeypatch):
    """What an import says of an archive that must be refused, and that nothing is changed by it, here or elsewhere."""

    def refused(content, error=ArchiveInvalidError, *arguments):
        here = tmp_path / "deep" / "down"
        here.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(here)
        file = here / "archive"
        file.write_bytes(content)
        before = everything_below(tmp_path)
        with pytest.raises(error) as caught, unchanged(stocked.root):
            stocked.import_(io.BytesIO(content) if request.param == "a stream" else file, *arguments)
        assert strays(stocked.root) == []
        assert everything_below(tmp_path) == before
        assert not os.path.lexists("/tmp/escaped")
        return caught.value

    return refused


# --- members ----------------------------------------------------------------------------------------------------------

MEMBERS = {
    "absolute": (member("/tmp/escaped", b"x"), "its path is absolute"),
    "upwards": (member("../escaped", b"x"), "its path leads upwards"),
    "upwards from within": (member("blobs/../../escaped", b"x"), "its path leads upwards"),
    "upwards and back": (member("blobs/../index.json", b"x"), "its path leads upwards"),
    "a link out, absolute": (link("out", "/etc/passwd"), "a link out of the archive, to '/etc/passwd'"),
    "a link out": (link("blobs/out", "../../etc/passwd"), "leads out of the archive, to 'blobs/../../etc/passwd'"),
    "a hard link out": (link("out", "../etc/passwd", tarfile.LNKTYPE), "leads out of the archive, to '../etc/passwd'"),
    "a hard link out, absolute": (link("out", "/etc/passwd", tarfile.LNKTYPE), "its path is absolute"),
    "a link to itself": (link("ring", "ring"), "links without end"),
    "a character device": (member("null", type=tarfile.CHRTYPE), "it is a character device"),
    "a block device": (member("disk", type=tarfile.BLKTYPE), "it is a block device"),
    "a FIFO": (member("pipe", type=tarfile.FIFOTYPE), "it is a fifo"),
    "a sparse file": (member("hole", type=tarfile.GNUTYPE_SPARSE), "it is a sparse file"),
    "a contradiction": (member("x", b"", type=b"Z"), "its kind, b'Z', is unknown"),
    "a name too long": (member("a/" * MAXIMUM_NAME_LENGTH, b"x"), "a name of [0-9]+ characters"),
    "a path too deep": (member("a/" * 33, b"x"), "a path of more than 32 names"),
    "a second index.json": (member("index.json", b"{}"), "two members of that name"),
    "a second index.json, in other words": (member("./index.json", b"{}"), "two members of that name"),
    "a second oci-layout, as a link": (link("oci-layout", "index.json"), "two members of that name"),
    "a directory in the place of a file": (member("oci-layout", type=tarfile.DIRTYPE), "two members of that name"),
    "something in a file": (member("oci-layout/x", b"x"), "it is no directory, and yet other members lie in it"),
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(("hostile", "reason"), MEMBERS.values(), ids=MEMBERS)
def test_a_hostile_member_is_refused_and_named(refused, members, hostile, reason, place):
    content = tarred([hostile, *members] if place == "before" else [*members, hostile])
    error = refused(content)
    assert re.search(reason, str(error)), str(error)
    named = hostile[0].name.rstrip("/")
    assert error.member[:50] in {named[:50], named.removeprefix("./")[:50], named.partition("/")[0]}


def test_links_in_a_ring_are_refused(refused, members):
    ring = [link("one", "two"), link("two", "three", tarfile.LNKTYPE), link("three", "one")]
    assert "links without end" in str(refused(tarred([*members, *ring])))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (f"blobs/sha256/{CONFIG.encoded}", f"{LAYER} has {len(APP.config)} bytes, not {len(APP.layers[0])}"),
        (f"blobs/sha256/{LAYER_2.encoded}", f"{LAYER}: content has digest {LAYER_2}, not {LAYER}"),
        ("nothing", f"{LAYER} is missing: layer in app:v2"),
        ("a/directory", f"{LAYER}: it is a directory"),
    ],
)
def test_a_link_to_other_bytes_in_the_place_of_a_blob_is_refused(refused, members, kind, target, problem):
    name = f"blobs/sha256/{LAYER.encoded}"
    others = [(header, content) for header, content in members if header.name != name]
    made = link(name, f"../../{target}" if kind == tarfile.SYMTYPE else target, kind)
    content = tarred([*others, made, member("a/directory", type=tarfile.DIRTYPE)])
    assert refused(content, LayoutInvalidError).problems == (problem,)


@pytest.mark.parametrize(
    ("count", "seconds"), [(2000, 2), pytest.param(MAXIMUM_OTHERS - 2, 10, marks=pytest.mark.slow)]
)
def test_links_that_lead_on_and_on_take_little_time(refused, members, count, seconds):
    deep = "a/" * 30 + "b"
    links = [link(f"{n:05}/{deep}", f"{n + 1:05}/{deep}", tarfile.LNKTYPE) for n in range(count)]
    began = time.process_time()
    assert "links without end" in str(refused(tarred([*members, *links])))
    assert time.process_time() - began < seconds
    links = [link(f"{n:05}/{deep}", f"{n + 1:05}/{deep[:-1]}c", tarfile.LNKTYPE) for n in range(count)]
    assert "is missing" in str(refused(tarred([*members[1:], *links]), LayoutInvalidError))  # they lead to nothing
    assert time.process_time() - began < 2 * seconds


def test_members_below_a_link_are_refused(refused, members):
    # Other tools would write through the link.
    error = refused(tarred([link("blobs", "elsewhere"), member("elsewhere", type=tarfile.DIRTYPE), *members]))
    assert (error.member, "yet other members lie in it" in error.reason) == ("blobs", True)


SPARSE = (
    "GNU.sparse.major=1\n",
    "GNU.sparse.minor=0\n",
    "GNU.sparse.name=index.json\n",
    f"GNU.sparse.realsize={1 << 60}\n",
)


def test_a_sparse_member_of_an_exabyte_is_refused(refused, members):
    records = b"".join(b"%d %s" % (len(record) + 3, record.encode()) for record in SPARSE)
    header = member("pax", records, type=tarfile.XHDTYPE)
    assert "it is a sparse file" in str(refused(tarred([header, member("GNUSparseFile.0/x", b"x"), *members])))


def test_a_member_that_says_it_is_an_exabyte_is_refused(refused, members):
    large = tarfile.TarInfo("large")
    large.size = 1 << 60
    content = tarred(members, end=b"") + large.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)
    began = time.process_time()
    assert "cut short" in str(refused(content))
    assert time.process_time() - began < 2


@pytest.mark.parametrize("what", [b"x" * 512, tarred([member("more", b"x")]), b"\0" * 100 + b"x"])
def test_what_follows_the_end_is_refused(refused, members, what):
    assert "something follows the end" in str(refused(tarred(members) + what))


@pytest.mark.parametrize("cut", [1, 512, 700, -1024 - 512, -1024 - 512 - 100])
def test_an_archive_that_is_cut_short_is_refused(refused, members, cut):
    refused(tarred(members)[:cut], (ArchiveInvalidError, LayoutInvalidError))


def test_a_damaged_header_is_refused(refused, members):
    content = bytearray(tarred(members))
    content[512 * 3 + 20 if content[512 * 3] else 20] ^= 0xFF
    refused(bytes(content), (ArchiveInvalidError, LayoutInvalidError))


def test_a_hole_of_exabytes_behind_the_end_is_not_read(stocked, members, tmp_path):
    file = tmp_path / "archive"
    file.write_bytes(tarred(members))
    with file.open("r+b") as opened:
        opened.truncate(1 << 42)
    began = time.process_time()
    with pytest.raises(ArchiveInvalidError, match="zero bytes follow the end"), unchanged(stocked.root):
        stocked.import_(file)
    assert time.process_time() - began < 3


# --- too much ---------------------------------------------------------------------------------------------------------


def test_too_many_members_are_refused_in_little_time(stocked):
    header = member("x")[0]
    names = [b"%06d" % number for number in range(MAXIMUM_OTHERS + 2)]
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    others = 256 + sum(block[6:148]) + sum(block[156:])
    content = bytearray()
    for name in names:
        block[:6] = name
        block[148:156] = b"%06o\0 " % (others + sum(name))
        content += block
    began = time.process_time()
    with pytest.raises(ArchiveInvalidError, match=f"more than {MAXIMUM_OTHERS} members"), unchanged(stocked.root):
        stocked.import_(io.BytesIO(gzip.compress(content, 1)))
    assert time.process_time() - began < 10


def test_long_names_are_not_taken_for_those_of_blobs(refused, members, monkeypatch):
    monkeypatch.setattr("ocistore.layouts.imports.members.MAXIMUM_OTHERS", 10)
    blobs = [(f"blobs/x/{number}-" + "y" * 400, f"blobs/sha256/{number:064}") for number in range(20)]
    for many in ([member(name) for name, _ in blobs], [link(name, "x") for _, name in blobs]):
        assert "more than 10 members that are no blobs" in str(refused(tarred([*members, *many])))


def test_too_many_blobs_are_refused(refused, members, monkeypatch):
    monkeypatch.setattr("ocistore.layouts.imports.members.MAXIMUM_MEMBERS", 10)
    many = [member(f"blobs/sha256/{Digest.of(b'%d' % n).encoded}", b"%d" % n) for n in range(20)]
    assert "the archive has more than 10 members" in str(refused(tarred([*members, *many])))
    assert MAXIMUM_MEMBERS == 500_000


@pytest.mark.parametrize("name", ["index.json", "oci-layout", "manifest.json"])
def test_a_top_level_file_of_4_gib_is_not_read(stocked, members, tmp_path, name):
    others = [pair for pair in members if pair[0].name != name]
    large = tarfile.TarInfo(name)
    large.size = 4 << 30
    file = tmp_path / "archive"
    if name == "manifest.json":
        others = []
    with file.open("wb") as opened:
        opened.write(tarred(others, end=b"") + large.tobuf(tarfile.GNU_FORMAT))
        opened.seek(4 << 30, 1)
        opened.write(bytes(1024))
    for source in (file, file.open("rb")):
        began = time.process_time()
        with (
            pytest.raises((LayoutInvalidError, ArchiveInvalidError), match=f"{name}.* is larger than"),
            unchanged(stocked.root),
        ):
            stocked.import_(source)
        assert time.process_time() - began < 3
    source.close()


@pytest.mark.parametrize(
    ("kind", "slack"),
    [
        *((kind, 16 << 20) for kind in KINDS if kind != "zstd"),
        *(pytest.param(kind, Limits().slack, marks=[] if kind == "zstd" else pytest.mark.slow) for kind in KINDS),
    ],
)
def test_a_bomb_is_refused_before_it_fills_anything(stocked, members, kind, slack, monkeypatch):
    monkeypatch.setattr("ocistore.archives.compression.Limits", functools.partial(Limits, slack=slack))
    compress = {"gzip": gzip.compress, "bzip2": bz2.compress}.get(kind, COMPRESSIONS[kind])  # as well as it can
    large = tarfile.TarInfo("junk")
    large.size = 1 << 40
    zeros = compress(bytes(slack // 4)) * 6
    content = compress(tarred(members[-2:], end=large.tobuf(tarfile.GNU_FORMAT))) + zeros
    with pytest.raises(ArchiveInvalidError, match="decompresses to more than"), unchanged(stocked.root):
        stocked.import_(io.BytesIO(content))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [3, 20, 200, -1])
def test_a_compressed_archive_that_is_cut_short_is_refused(refused, members, kind, cut):
    refused(COMPRESSIONS[kind](tarred(members))[:cut])


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_a_compressed_archive_is_refused(refused, members, kind):
    for follows in (b"something", bytes(512) + b"something", tarred(members)):
        refused(COMPRESSIONS[kind](tarred(members)) + follows)


@pytest.mark.parametrize(
    ("form", "beginning"), [("zip", b"PK\x03\x04"), ("lz4", b"\x04\x22\x4d\x18"), ("lzip", b"LZIP\x01")]
)
def test_a_form_that_is_not_read_is_named(refused, form, beginning):
    assert f"in the form of {form}" in str(refused(beginning + b"an archive"))


@pytest.mark.parametrize("content", [b"", b"text", b"text" * 1000, bytes(1024), b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_archive_is_refused(refused, content):
    refused(content)


# --- blobs that lie ---------------------------------------------------------------------------------------------------


def replaced(members, digest, content):
    name = f"blobs/sha256/{digest.encoded}"
    assert name in {header.name for header, _ in members}
    return [member(name, content) if header.name == name else (header, old) for header, old in members]


@pytest.mark.parametrize("digest", [APP.digest, CONFIG, LAYER], ids=["manifest", "config", "layer"])
def test_a_blob_whose_name_is_not_its_hash_is_refused(refused, members, digest):
    original = next(content for header, content in members if digest.encoded in header.name)
    error = refused(tarred(replaced(members, digest, bytes(len(original)))), (ArchiveInvalidError, LayoutInvalidError))
    assert f"has digest {Digest.of(bytes(len(original)))}, not {digest}" in str(error)


def test_a_blob_whose_size_is_not_its_descriptors_is_refused(refused, tmp_path):
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(b"{}"),
        "layers": [described(b"layer", size=6)],
    }
    lying = Image(document(body), (b"{}", b"layer"))
    content = tarred(members_of(Layout(tmp_path / "layout").add(lying, "app:v2").write()))
    assert refused(content, LayoutInvalidError).problems == (f"{Digest.of(b'layer')} has 5 bytes, not 6",)


def test_all_that_is_missing_is_named_at_once(refused, members):
    kept = [pair for pair in members if not any(digest.encoded in pair[0].name for digest in (CONFIG, LAYER, LAYER_2))]
    problems = refused(tarred(kept), LayoutInvalidError).problems
    kinds = {CONFIG: "config", LAYER: "layer", LAYER_2: "layer"}
    assert sorted(problem.partition(" in ")[0] for problem in problems) == sorted(
        f"{digest} is missing: {kind}" for digest, kind in kinds.items()
    )


def test_a_missing_index_or_version_is_named(refused, members):
    for name in ("index.json", "oci-layout"):
        kept = [pair for pair in members if pair[0].name != name]
        assert refused(tarred(kept), LayoutInvalidError).problems == (f"there is no {name}",)


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    "other:v1",
    "docker.io/library/other:v1",
    "localhost:5000/other:v1",
    "../other:v1",
    "other:v1@sha256:" + "0" * 64,
    "app/../other:v1",
    "/other:v1",
    "other:v1\n",
    "other",
    "OTHER:v1",
]


@pytest.mark.parametrize("annotation", [REF_NAME, "io.containerd.image.name"])
@pytest.mark.parametrize("name", NAMES)
def test_with_a_repository_given_no_other_one_is_touched(store, tmp_path, annotation, name):
    push(store.repository("other"), image("kept"), "v1")
    before = store.repository("other").resolve("v1"), list(store.repository("other").history())
    layout = Layout(tmp_path / "layout")
    layout.put(APP)
    layout.entry(APP, {annotation: name})
    report = store.import_(io.BytesIO(tarred(members_of(layout.write()))), "mine")
    assert list(store.repositories()) == ["mine", "other"]
    assert (store.repository("other").resolve("v1"), list(store.repository("other").history())) == before
    assert all(tag.startswith("mine:") for tag in report.tags)


@pytest.mark.parametrize("name", ["other:v1", "localhost:5000/other:v1"])
def test_dockers_names_touch_no_other_repository_either(store, name):
    push(store.repository("other"), image("kept"), "v1")
    report = store.import_(io.BytesIO(tarred(docker_members({name: [b"layer"]}))), "mine")
    assert report.tags == ("mine:v1",)
    assert store.repository("other").resolve("v1").digest == image("kept").digest


def test_two_entries_of_one_name_are_refused(refused, tmp_path):
    layout = Layout(tmp_path / "layout").add(APP, "app:v2").add(image("second"), "app:v2")
    (problem,) = refused(tarred(members_of(layout.write())), LayoutInvalidError).problems
    assert problem == f"app:v2 is the name of two entries: {APP.digest} and {image('second').digest}"


def test_two_names_that_are_one_in_the_repository_given_are_refused(refused, tmp_path):
    layout = Layout(tmp_path / "layout").add(APP, "one:v2").add(image("second"), "two:v2")
    (problem,) = refused(tarred(members_of(layout.write())), LayoutInvalidError, "mine").problems
    assert problem.startswith("mine:v2 is the name of two entries")


# --- what costs more than it weighs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        b"[" + b",".join([b'{"Config":"config"}'] * 200) + b"]",
        b'[{"Config":"config","RepoTags":[' + b",".join([b'"a:1"'] * 200) + b"]}]",
    ],
    ids=["images", "names"],
)
def test_more_images_than_anybody_saves_are_refused(refused, images, monkeypatch):
    monkeypatch.setattr("ocistore.layouts.imports.docker.MAXIMUM_NAMES", 100)
    error = refused(
        tarred([member("config", config_of([])), member("manifest.json", images)]), LayoutInvalidError, "app"
    )
    assert "more than 100 images and names" in str(error)


def test_configs_are_not_read_without_end(refused, monkeypatch):
    config = config_of([], filler="x" * 1000)
    monkeypatch.setattr("ocistore.layouts.imports.docker.MAXIMUM_CONFIGS_SIZE", 5 * len(config))
    images = b"[" + b",".join([b'{"Config":"config"}'] * 6) + b"]"
    error = refused(tarred([member("config", config), member("manifest.json", images)]), LayoutInvalidError, "app")
    assert "the configs of its images have more than" in str(error)


def test_manifests_of_images_are_not_made_without_end(refused, monkeypatch):
    monkeypatch.setattr("ocistore.layouts.imports.docker.MAXIMUM_MANIFESTS_SIZE", 1000)
    names = {f"app:{number}": [b"%d" % number] for number in range(4)}
    error = refused(tarred(docker_members(names)), LayoutInvalidError)
    assert "the manifests of its images have more than 1000 bytes" in str(error)


@pytest.mark.parametrize("content", ["frames of nothing", "headers of nothing"])
def test_a_stream_that_never_comes_to_a_member_is_given_up(content, monkeypatch):
    monkeypatch.setattr("ocistore.layouts.imports.detection._MAXIMUM_BEGINNING", 1024 * 1024)
    header = tarfile.TarInfo("x")
    header.type = tarfile.XGLTYPE
    piece = b"P\x2aM\x18" + (1024).to_bytes(4, "little") + bytes(1024)
    stream = io.BytesIO((piece if content == "frames of nothing" else header.tobuf()) * 5000)
    with pytest.raises(ArchiveInvalidError, match="no member in its first"), checked(stream):
        pass
    assert stream.tell() < 3 * 1024 * 1024


def test_an_index_of_more_values_than_memory_holds_is_refused_before_it_is_parsed(refused, members, monkeypatch):
    monkeypatch.setattr("ocistore.layouts.index.MAXIMUM_INDEX_VALUES", 100)
    index = b'{"schemaVersion":2,"manifests":[' + b",".join([b"[]"] * 60) + b"]}"
    others = [(header, content) for header, content in members if header.name != "index.json"]
    error = refused(tarred([*others, member("index.json", index)]), LayoutInvalidError)
    assert "index.json: invalid manifest: it is made of more than 100 values" in str(error)
