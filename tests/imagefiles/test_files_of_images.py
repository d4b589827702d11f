"""The files of an image: layers one upon the other, what they hide, and where links lead inside them."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc

import pytest
from backports import zstd
from images import described, document
from layered import OPAQUE, UPPER, archive, directory, hardlink, layered, member, put, random_layers, symlink
from state import unchanged

from ocistore import (
    ArchiveInvalidError,
    ArtifactInvalidError,
    BlobNotFoundError,
    CorruptError,
    Digest,
    FileNotInImageError,
    InvalidNameError,
)
from ocistore.archives.compression import Limits
from ocistore.artifacts import TITLE, push_files
from ocistore.images import list_files, open_file, stackedlayers
from ocistore.oci import mediatypes

BASE = archive(
    directory("./"),
    directory("etc/"),
    member("etc/passwd", b"root"),
    member("etc/old", b"old"),
    directory("usr"),
    directory("usr/bin"),
    member("usr/bin/sh", b"#!", mode=0o4755, mtime=1_700_000_000),
    hardlink("usr/bin/bash", "usr/bin/sh"),
    symlink("bin", "usr/bin"),
    directory("var"),
    directory("var/cache"),
    member("var/cache/a", b"a"),
)


def paths(store, *arguments, **more):
    return [file.path for file in list_files(store, *arguments, **more)]


def content(store, *arguments, **more):
    with open_file(store, *arguments, **more) as file:
        return file.read()


@pytest.fixture
def images(repository, store):
    """A function that pushes an image of these layers, and gives its reference."""

    def push(*layers, **more):
        put(repository, layered(*layers, **more), "v1")
        return f"{repository.name}:v1"

    return push


# --- listing ----------------------------------------------------------------------------------------------------------


def test_layers_are_stacked_and_what_they_hide_is_gone(store, images):
    reference = images(BASE, UPPER)
    with unchanged(store.root):
        assert paths(store, reference) == [
            *("bin", "etc", "etc/passwd", "usr", "usr/bin", "usr/bin/added", "usr/bin/bash", "usr/bin/sh"),
            *("var", "var/cache", "var/cache/new"),
        ]


def test_each_file_says_what_its_archive_says(store, images):
    files = {file.path: file for file in list_files(store, images(BASE, UPPER))}
    sh, bash, link = files["usr/bin/sh"], files["usr/bin/bash"], files["bin"]
    assert (sh.kind, sh.size, sh.mode, sh.mtime) == ("file", 2, 0o4755, 1_700_000_000)
    assert (bash.kind, bash.size, bash.target) == ("hardlink", 2, "usr/bin/sh")
    assert (link.kind, link.size, link.target) == ("symlink", 0, "usr/bin")
    lower, upper = store.repository("library/app").get_manifest("v1").layers
    assert (sh.layer, files["etc/passwd"].layer) == (lower, upper)


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ([archive(member("a")), archive(member(".wh.a"))], []),
        ([archive(member("a")), archive(member(".wh.a"), member("a"))], ["a"]),
        ([archive(member("a")), archive(member("a"), member(".wh.a"))], ["a"]),
        ([archive(member("d/a"), member("d/b")), archive(member(".wh.d"), member("d/c"))], ["d", "d/c"]),
        ([archive(member("d/a"), member("d/b")), archive(member("d/c"), member(".wh.d"))], ["d", "d/c"]),
        ([archive(member("d/a")), archive(directory("d"), member(f"d/{OPAQUE}"))], ["d"]),
        ([archive(member("d/e/a")), archive(member("d/e/b"), member(f"d/{OPAQUE}"))], ["d", "d/e", "d/e/b"]),
        ([archive(member("a"), member("d/b")), archive(member("c"), member(OPAQUE))], ["c"]),
        ([archive(member("d/a")), archive(member("d"))], ["d"]),
        ([archive(member("d")), archive(directory("d"), member("d/a"))], ["d", "d/a"]),
        ([archive(symlink("l", "d"), member("d/a")), archive(directory("l"), member("l/b"))], ["d", "d/a", "l", "l/b"]),
        ([archive(symlink("l", "/d"), member("d/a")), archive(member("l/b"))], ["d", "d/a", "d/b", "l"]),
        ([archive(symlink("l", "/d"), member("d/a")), archive(member("l/.wh.a"))], ["d", "l"]),
        ([archive(member("a")), archive(member(".wh.b"), member("c/.wh.d"))], ["a"]),
        ([archive(member("a"), member(".wh..wh.plnk"), member(".wh..wh.aufs"))], ["a"]),
        ([archive(member("a")), archive(member(".wh.a")), archive(member("a"))], ["a"]),
        ([archive(member("/a"), member("./b"), member("c//d"))], ["a", "b", "c", "c/d"]),
        ([archive(member("a", b"1"), member("a", b"2"))], ["a"]),
        ([archive(member("x/.wh.q"), symlink("x", "d"), member("x/f"))], ["d", "d/f", "x"]),
        ([archive(symlink("l", "d"), member("l/a"), directory("l"), member("l/b"))], ["d", "d/a", "l", "l/b"]),
    ],
)
def test_what_is_left_when_layers_meet(store, images, layers, left):
    assert paths(store, images(*layers)) == left


@pytest.mark.parametrize(
    ("compress", "layer_type"),
    [
        (gzip.compress, mediatypes.OCI_LAYER_GZIP),
        (gzip.compress, mediatypes.DOCKER_LAYER_GZIP),
        (zstd.compress, mediatypes.OCI_LAYER_ZSTD),
        (zstd.compress, "application/vnd.docker.image.rootfs.diff.tar.zstd"),
        (bytes, mediatypes.OCI_LAYER),
        (bytes, mediatypes.DOCKER_LAYER),
        (bytes, mediatypes.OCI_LAYER_GZIP),
        (lzma.compress, "application/vnd.oci.image.layer.v1.tar+xz"),
        (bz2.compress, "application/vnd.oci.image.layer.v1.tar+bzip2"),
        (gzip.compress, "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        (gzip.compress, "application/vnd.kitops.modelkit.model.v1.tar+gzip"),
        (bytes, "application/vnd.kitops.modelkit.dataset.v1.tar"),
        (gzip.compress, "application/vnd.cncf.flux.content.v1.tar+gzip"),
        (bytes, "application/x-tar"),
    ],
)
def test_layers_are_read_however_they_are_compressed_and_described(store, images, compress, layer_type):
    reference = images(BASE, compress=compress, layer_type=layer_type, docker="docker" in layer_type)
    assert content(store, reference, "/bin/sh") == b"#!"
    assert "etc/passwd" in paths(store, reference)


@pytest.mark.parametrize(
    ("nothing", "compress"),
    [
        (b"", bytes),
        (b"", gzip.compress),
        (b"", zstd.compress),
        (b"", lzma.compress),
        (bytes(512), gzip.compress),
        (bytes(1024), bytes),
        (bytes(100), bytes),
    ],
)
def test_a_layer_of_nothing_is_one_without_files(store, images, nothing, compress):
    reference = images(archive(member("below", b"content")), nothing, archive(member("z")), compress=compress)
    assert paths(store, reference) == ["below", "z"]
    assert paths(store, reference, layer=2) == []
    assert content(store, reference, "below") == b"content"


@pytest.mark.parametrize("end", [b"", bytes(1), bytes(511), bytes(512), bytes(700)])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("padded", [True, False])
def test_a_layer_without_its_padding_is_read_where_its_members_are_whole(store, images, end, compress, padded):
    # As umoci writes them.
    last = member("last", b"content")
    layer = member("first", b"x") + (last if padded else last[: 512 + len(b"content")])
    reference = images(layer + end, compress=compress)
    assert paths(store, reference) == paths(store, reference, layer=1) == ["first", "last"]
    assert content(store, reference, "last") == b"content"


@pytest.mark.parametrize("behind", [b"garbage", archive(member("hidden")), bytes(30_000)])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_what_stands_behind_the_end_of_a_layer_is_no_file_of_it(store, images, behind, compress):
    # umoci, podman and Docker stop reading there; see what umoci unpacks of such a layer.
    reference = images(archive(member("a", b"content")) + behind, compress=compress)
    assert paths(store, reference) == paths(store, reference, layer=1) == ["a"]
    assert content(store, reference, "a") == b"content"


def test_a_hard_link_to_a_symbolic_link_is_one(store, images):
    reference = images(LINKS, archive(hardlink("d/another", "dangling"), hardlink("null2", "null")))
    files = {file.path: file for file in list_files(store, reference)}
    assert [(files[path].kind, files[path].target) for path in ("to-link", "d/another")] == [
        ("symlink", "/secret"),
        ("symlink", "nothing"),
    ]
    assert files["null2"].kind == "character device"
    assert files["d/another"].layer != files["dangling"].layer


def test_only_what_is_at_a_path_and_below_is_listed(store, images):
    reference = images(BASE)
    for path in ("etc", "/etc", "/etc/", "./etc", "/usr/../etc"):
        assert paths(store, reference, path) == ["etc", "etc/old", "etc/passwd"]
    assert paths(store, reference, "/etc/passwd") == ["etc/passwd"]
    assert paths(store, reference, "/bin") == ["bin"]
    assert paths(store, reference, "/bin/") == ["usr/bin", "usr/bin/bash", "usr/bin/sh"]
    assert paths(store, reference, "/bin/sh") == ["usr/bin/sh"]
    assert paths(store, reference, "/") == paths(store, reference)
    for path in ("etc/shadow", "etc/passwd/x", "et"):
        with pytest.raises(FileNotInImageError, match="no such file"):
            paths(store, reference, path)


def test_one_layer_is_listed_as_it_is(store, images):
    reference = images(BASE, UPPER)
    upper = store.repository("library/app").get_manifest("v1").layers[1]
    for layer in (2, "2", upper.digest):
        assert paths(store, reference, layer=layer) == [
            *("etc", "etc/passwd", "etc/.wh.old", "var/cache", "var/cache/new", f"var/cache/{OPAQUE}", "bin/added"),
        ]
    assert paths(store, reference, "var/", layer=2) == ["var/cache", "var/cache/new", f"var/cache/{OPAQUE}"]
    with pytest.raises(FileNotInImageError):
        paths(store, reference, "usr", layer=2)


@pytest.mark.parametrize("layer", [0, 3, -1, "x", "", "9" * 5000, str(Digest.of(b"another"))])
def test_a_layer_that_is_not_there_is_an_error(store, images, layer):
    reference = images(BASE, UPPER)
    with pytest.raises(InvalidNameError, match="has 2 layers"):
        paths(store, reference, layer=layer)


def test_an_image_without_layers_has_no_files(store, images):
    assert paths(store, images()) == []


def test_the_files_of_one_layer_are_given_as_they_are_read(store, images):
    # Content that gzip cannot make small, so that the archive is longer than what is read ahead.
    long = archive(*(member(f"file{number}", os.urandom(1024 * 1024)) for number in range(4)))
    listed = list_files(store, images(long[:-1024] + b"not a header".ljust(512)), layer=1)
    assert [next(listed).path for _ in range(4)] == ["file0", "file1", "file2", "file3"]
    with pytest.raises(ArchiveInvalidError, match="at byte"):
        next(listed)


def test_what_is_held_of_an_image_are_its_names(store, images):
    reference = images(archive(*(member(f"directory/file{number}") for number in range(1_000))))
    list(list_files(store, reference))
    tracemalloc.start()
    try:
        listed = list_files(store, reference)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1_000 * 200 < held < 1_000 * 800
    assert sum(1 for _ in listed) == 1_001


# --- reading ----------------------------------------------------------------------------------------------------------


def test_the_topmost_layer_that_has_a_file_decides(store, images):
    reference = images(BASE, UPPER)
    assert content(store, reference, "etc/passwd") == b"root and more"
    assert content(store, reference, "/usr/bin/added").startswith(b"through")
    for path in ("etc/old", "/var/cache/a"):
        with pytest.raises(FileNotInImageError, match="no such file"):
            content(store, reference, path)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress])
def test_large_files_are_read_as_they_are(store, images, compress):
    large = os.urandom(100_000) * 30
    reference = images(archive(member("a", b"before"), member("large", large), member("z")), compress=compress)
    with open_file(store, reference, "large") as file:
        assert file.file.size == len(large)
        assert file.read(10) == large[:10]
        assert file.read() == large[10:]
        assert file.read() == b""
    assert content(store, reference, "z") == b""


LINKS = archive(
    member("secret", b"of the image"),
    directory("d"),
    directory("d/e"),
    symlink("d/absolute", "/secret"),
    symlink("d/up", "../../../../secret"),
    symlink("d/e/through", "../top/secret"),
    symlink("d/top", "/d/.."),
    hardlink("d/hard", "./secret"),
    hardlink("d/harder", "/d/hard"),
    symlink("a", "b"),
    symlink("b", "d/../a"),
    symlink("dangling", "nothing"),
    symlink("to-directory", "d"),
    hardlink("own", "own"),
    hardlink("lost", "nothing"),
    hardlink("to-link", "d/absolute"),
    member("null", kind=tarfile.CHRTYPE),
    member("holes", kind=tarfile.GNUTYPE_SPARSE),
)


@pytest.mark.parametrize(
    "path", ["d/absolute", "d/up", "d/e/through", "d/hard", "d/harder", "/d/top/../to-directory/up", "to-link"]
)
def test_links_are_followed_inside_the_image_only(store, images, path):
    assert content(store, images(LINKS), path) == b"of the image"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a", "in a ring"),
        ("b/c", "in a ring"),
        ("dangling", "no such file"),
        ("d", "it is a directory"),
        ("to-directory", "it is a directory"),
        ("own", "hard link to no file"),
        ("lost", "hard link to no file"),
        ("null", "a character device"),
        ("holes", "a sparse file, whose holes are not filled in here"),
        ("", "no such file"),
        ("/", "no such file"),
        ("secret/x", "no such file"),
    ],
)
def test_what_has_no_content_is_said(store, images, path, said):
    with pytest.raises(FileNotInImageError, match=said) as caught:
        content(store, images(LINKS), path)
    assert caught.value.path == path


def test_a_hard_link_keeps_its_content_when_the_file_is_hidden_or_replaced(store, images):
    reference = images(BASE, archive(member("usr/bin/.wh.sh")))
    assert content(store, reference, "usr/bin/bash") == b"#!"
    reference = images(BASE, archive(member("usr/bin/sh", b"another")))
    assert content(store, reference, "usr/bin/bash") == b"#!"


# --- what is wrong with layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([b"no archive"], "no tar archive|cut short"),
        ([archive(member("a/../../etc/passwd"))], "leads upwards"),
        ([archive(member(".."))], "leads upwards"),
        ([archive(member("x/" * 513 + "x"))], "more than 512 parts"),
        ([archive(member("x" * 5000))], "more than 4095 bytes"),
        ([archive(member("f"), member("f/a"))], "is no directory"),
        ([archive(symlink("a", "b"), symlink("b", "a"), member("a/c"))], "in a ring"),
        ([archive(member(".wh."))], "hides nothing"),
        ([archive(member("a/.wh..."))], "hides nothing"),
        ([archive(member("a/.wh.."))], "hides nothing"),
        ([archive(member("a"))[:-512] + archive(member("b"))], "something follows"),
        ([archive(member("a", b"x" * 1000))[:700]], "cut short"),
        ([tarfile.TarInfo("a").tobuf()[:500]], "cut short|no tar"),
    ],
)
@pytest.mark.parametrize("act", [paths, lambda store, reference: content(store, reference, "a")])
def test_hostile_and_damaged_layers_are_named(store, images, layers, said, act):
    reference = images(*layers)
    layer = store.repository("library/app").get_manifest("v1").layers[0]
    with unchanged(store.root), pytest.raises(ArchiveInvalidError, match=said) as caught:
        act(store, reference)
    assert caught.value.archive == f"layer {layer.digest}"


def test_a_name_that_leads_back_is_read_as_text(store, images):
    members = directory("a/b"), symlink("l", "a/b"), member("a/b/../c", b"c"), member("./l/../d", b"d")
    reference = images(archive(*members))
    assert paths(store, reference) == ["a", "a/b", "a/c", "d", "l"]
    assert content(store, reference, "a/c") == b"c"
    assert set(paths(store, reference, layer=1)) == {"a/b", "a/c", "d", "l"}


@pytest.mark.parametrize("layer", [None, 1])
def test_a_bomb_is_refused(store, images, monkeypatch, layer):
    reference = images(archive(member("zeros", bytes(16 * 1024 * 1024))))
    assert paths(store, reference, layer=layer) == ["zeros"]
    monkeypatch.setattr("ocistore.archives.compression.Limits", lambda: Limits(slack=1024 * 1024))
    with pytest.raises(ArchiveInvalidError, match="times its size"):
        paths(store, reference, layer=layer)


def test_more_files_than_any_image_has_are_refused(store, images, monkeypatch):
    monkeypatch.setattr(stackedlayers, "MAXIMUM_FILES", 3)
    assert len(paths(store, images(archive(member("d/a"), member("d/b"))))) == 3
    with pytest.raises(ArchiveInvalidError, match="more than 3 files"):
        paths(store, images(archive(member("d/a"), member("d/b")), archive(member("d/c"))))


def test_longer_names_than_memory_holds_are_refused(store, images, monkeypatch):
    monkeypatch.setattr(stackedlayers, "MAXIMUM_NAMES_SIZE", 10)
    hidden = archive(member("1234567"), directory("d"), symlink("d/l", "1234"))
    upper = archive(member(".wh.d"), member("1234567", b"again"), member("123"))
    with pytest.raises(ArchiveInvalidError, match="more than 10 characters"):
        paths(store, images(hidden))
    monkeypatch.setattr(stackedlayers, "MAXIMUM_NAMES_SIZE", 15)
    assert paths(store, images(hidden, upper)) == ["123", "1234567"]  # what is hidden, or replaced, does not count
    with pytest.raises(ArchiveInvalidError, match="more than 15 characters"):
        paths(store, images(hidden, archive(member("12"))))


@pytest.mark.parametrize(
    ("target", "said"),
    [("a/" * 300_000, "leads to a path of more than 4095 bytes"), ("a/" * 2000, "leads through more than 1024 names")],
)
def test_a_link_that_leads_through_more_than_anybody_walks_is_refused_at_once(store, images, target, said):
    with pytest.raises(ArchiveInvalidError, match=said):
        paths(store, images(archive(symlink("link", target), member("link/file"))))


def test_marks_in_directories_that_are_not_there_are_not_remembered_for_ever(store, images, monkeypatch):
    monkeypatch.setattr(stackedlayers, "_MAXIMUM_FOLLOWED", 10)
    followed = []
    resolve = stackedlayers.resolve

    def noted(path, *more, **named):
        followed.append(path)
        return resolve(path, *more, **named)

    monkeypatch.setattr(stackedlayers, "resolve", noted)
    marks = [member(f"{number}/.wh.x") for number in range(20)]
    assert paths(store, images(archive(*marks, *marks[-5:], *marks[:1]))) == []
    assert len(followed) == 21


def test_what_was_cleared_is_not_looked_through_again(store, images, monkeypatch):
    looked = []

    class Counted(dict):
        def __getitem__(self, path):
            looked.append(path)
            return super().__getitem__(path)

    init = stackedlayers.FileTree.__init__

    def counted(self):
        init(self)
        self._below = Counted(self._below)

    monkeypatch.setattr(stackedlayers.FileTree, "__init__", counted)
    deep = ["/".join("d" * depth) for depth in range(1, 41)]
    files = [member(f"{deep[-1]}/{number}/file") for number in range(40)]
    marks = [member(f"{path}/{OPAQUE}") for path in reversed(deep)]
    assert len(paths(store, images(archive(*files, *marks)))) == 120
    assert len(looked) < 1000


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("place", [600, -1500])
def test_a_damaged_blob_is_never_taken_for_good(store, images, compress, place):
    names = b"".join(member(f"file{number}", os.urandom(100)) for number in range(50))
    reference = images(archive(names) + bytes(2048), compress=compress)
    layer = store.repository("library/app").get_manifest("v1").layers[0]
    path = store.root / "blobs" / "sha256" / layer.digest.encoded
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(place, os.SEEK_SET if place > 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    for act in (paths, lambda *given: paths(*given, layer=1), lambda *given: content(*given, "file1")):
        with pytest.raises(CorruptError):
            act(store, reference)


def test_a_damaged_blob_is_called_so_also_where_it_looks_like_a_damaged_archive(store, images):
    reference = images(archive(member("a"), member("large", os.urandom(1024 * 1024))), compress=bytes)
    layer = store.repository("library/app").get_manifest("v1").layers[0]
    path = store.root / "blobs" / "sha256" / layer.digest.encoded
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(b"?")  # the first header does not match its sum any more
    for number in (None, 1):
        with pytest.raises(CorruptError):
            paths(store, reference, layer=number)


def test_layers_that_are_not_in_the_store_or_of_other_types_are_named(store, repository):
    image = layered(BASE)
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST}
    for blob in image.blobs:
        repository.put_blob(blob)
    config = described(image.config, mediatypes.OCI_CONFIG)
    foreign = described(b"elsewhere", mediatypes.DOCKER_FOREIGN_LAYER, urls=["https://example.org/layer"])
    encrypted = described(image.layers[0], f"{mediatypes.OCI_LAYER_GZIP}+encrypted")
    unknown = described(image.layers[0], "application/vnd.example.layer.v1.erofs")
    for layer, error, said in (
        (foreign, BlobNotFoundError, "a foreign layer, of https://example.org/layer"),
        (encrypted, ArchiveInvalidError, "is encrypted"),
        (unknown, ArchiveInvalidError, "erofs is no known type of layer"),
    ):
        repository.put_manifest(document({**body, "config": config, "layers": [layer]}), tags=["v1"])
        for number in (None, 1):
            with pytest.raises(error, match=said) as caught:
                paths(store, "library/app:v1", layer=number)
            assert layer["digest"] in str(caught.value)


# --- artifacts --------------------------------------------------------------------------------------------------------


def test_the_files_of_an_artifact_are_its_titles_and_what_is_in_its_directories(store, tmp_path):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "file").write_bytes(b"in a directory")
    (tmp_path / "d" / ".wh.file").write_bytes(b"a name like any other")
    (tmp_path / "d" / "link").symlink_to("sub/file")
    (tmp_path / "note.txt").write_bytes(b"a note")
    push_files(store, "notes:v1", [tmp_path / "note.txt", tmp_path / "d"], layer="tar")

    assert paths(store, "notes:v1") == ["d", "d/.wh.file", "d/link", "d/sub", "d/sub/file", "note.txt"]
    assert content(store, "notes:v1", "note.txt") == b"a note"
    assert content(store, "notes:v1", "d/sub/file") == content(store, "notes:v1", "d/link") == b"in a directory"
    assert paths(store, "notes:v1", layer=2) == ["d", "d/.wh.file", "d/link", "d/sub", "d/sub/file"]
    with pytest.raises(FileNotInImageError):
        content(store, "notes:v1", "d/nothing")


def test_a_damaged_file_of_an_artifact_never_comes_to_an_end(store, tmp_path):
    (tmp_path / "note.txt").write_bytes(b"a note" * 100_000)
    push_files(store, "notes:v1", [tmp_path / "note.txt"])
    path = store.root / "blobs" / "sha256" / Digest.of(b"a note" * 100_000).encoded
    path.chmod(0o600)
    path.write_bytes(b"A note" * 100_000)
    with open_file(store, "notes:v1", "note.txt") as file, pytest.raises(CorruptError):
        file.read()


@pytest.mark.parametrize(("title", "error"), [("/", ArtifactInvalidError), ("../up", ArchiveInvalidError)])
def test_titles_that_are_no_names_are_refused(store, repository, title, error):
    repository.put_blob(b"{}")
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(b"{}", mediatypes.OCI_EMPTY),
        "layers": [described(b"{}", annotations={TITLE: title})],
    }
    repository.put_manifest(document(body), tags=["v1"])
    with pytest.raises(error):
        paths(store, "library/app:v1")


# --- against tarfile --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_lonely_layer_has_the_files_that_tarfile_sees(store, images, seed):
    (layer,) = random_layers(seed, count=1, size=30)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        expected = {each.name: tar.extractfile(each).read() for each in tar if each.isreg() or each.islnk()}
    reference = images(layer)
    found = {file.path for file in list_files(store, reference) if file.kind in ("file", "hardlink")}
    assert found == set(expected)
    assert {path: content(store, reference, path) for path in found} == expected
