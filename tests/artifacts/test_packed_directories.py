"""Directories as layers: the same tree gives the same digest, and whatever an archive says, it stays inside."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tracemalloc
from functools import partial

import pytest
from backports import zstd
from images import described, document
from processes import run_python
from state import unchanged

from ocistore import ArchiveInvalidError, ArtifactInvalidError, CorruptError, Digest, DigestMismatchError, artifacts
from ocistore.archives.compression import Limits
from ocistore.artifacts import TITLE, pull_files, unpacking
from ocistore.artifacts.titles import CONTENT_DIGEST, UNPACK
from ocistore.oci import mediatypes

push_files = partial(artifacts.push_files, layer="tar")

STRANGE = "caf\N{LATIN SMALL LETTER E WITH ACUTE}\n"


def make_tree(top):
    """A directory with everything in it that may be packed."""
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "a.txt").write_bytes(b"a text")
    (top / "zero").write_bytes(b"")
    (top / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (top / "sub" / "run").chmod(0o755)
    (top / "sub" / ("long " * 40)).write_bytes(b"long")
    (top / STRANGE).write_bytes(b"strange")
    with open(os.fsencode(top) + b"/not utf-8 \xff", "wb"):
        pass
    (top / "link").symlink_to("sub/run")
    (top / "sub" / "up").symlink_to("../a.txt")
    (top / "sub" / "dangling").symlink_to("nothing/here")
    os.link(top / "a.txt", top / "hard")
    return top


def seen(top):
    """Every path below a directory, with what it is: kind, whether it is executable, content."""
    found = {}
    for directory, directories, files in os.walk(os.fsencode(top)):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                what = ("link", os.readlink(path))
            elif stat.S_ISDIR(mode):
                what = ("directory",)
            else:
                with open(path, "rb") as file:
                    what = ("file", bool(mode & stat.S_IXUSR), file.read())
            found[os.path.relpath(path, os.fsencode(top))] = what
    return found


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


@pytest.fixture
def packed(repository):
    """A function that puts an artifact of one packed directory, and gives the reference of it."""

    def put(archive, title="d", *, compress=gzip.compress, content=None):
        layer = compress(archive)
        repository.put_blob(layer)
        repository.put_blob(b"{}")
        annotations = {TITLE: title, UNPACK: "true"}
        if content is not None:
            annotations[CONTENT_DIGEST] = str(content)
        body = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": described(b"{}", mediatypes.OCI_EMPTY),
            "layers": [described(layer, mediatypes.OCI_LAYER_GZIP, annotations=annotations)],
        }
        repository.put_manifest(document(body), tags=["packed"])
        return f"{repository.name}:packed"

    return put


def member(name, kind=tarfile.REGTYPE, *, content=b"", target="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, len(content), target, mode
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def archive(*members):
    return b"".join(members) + bytes(1024)


def directory(name="d"):
    return member(name, tarfile.DIRTYPE, mode=0o755)


def symlink(name, target):
    return member(name, tarfile.SYMTYPE, target=target)


def hardlink(name, target):
    return member(name, tarfile.LNKTYPE, target=target)


# --- packing ----------------------------------------------------------------------------------------------------------


def test_a_directory_is_a_layer_as_oras_writes_it(store, tree):
    pushed = push_files(store, "docs:v1", [tree])

    (layer,) = store.repository("docs").get_manifest(pushed.digest).layers
    with store.repository("docs").open_blob(layer.digest) as blob:
        content = gzip.decompress(blob.read())
    assert layer.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert layer.annotations == {
        "io.deis.oras.content.digest": Digest.of(content),
        "io.deis.oras.content.unpack": "true",
        "org.opencontainers.image.title": "tree",
    }
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
    assert members[0].name == "tree"
    assert [m.name for m in members[1:4]] == ["tree/a.txt", f"tree/{STRANGE}", "tree/empty"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert {m.name: m.mode for m in members if m.name in {"tree", "tree/a.txt", "tree/sub/run"}} == {
        "tree": 0o755,
        "tree/a.txt": 0o644,
        "tree/sub/run": 0o755,
    }
    assert not any(m.islnk() for m in members)


def test_the_same_tree_gives_the_same_digest_whatever_the_order_times_and_modes(store, tree, tmp_path):
    first = push_files(store, "docs:v1", [tree])
    other = tmp_path / "other" / "tree"
    umask = os.umask(0o077)
    try:
        make_tree(other)
    finally:
        os.umask(umask)
    (other / "a.txt").unlink()  # and so it comes last in the directory
    (other / "a.txt").write_bytes(b"a text")
    for path in other.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    os.utime(other, (1, 1))
    (other / "zero").chmod(0o4640)

    assert push_files(store, "docs:v2", [f"{other}/"]) == first


def test_other_trees_give_other_digests(store, tree):
    digests = [push_files(store, "docs:v1", [tree]).digest]
    (tree / "a.txt").chmod(0o755)
    digests.append(push_files(store, "docs:v1", [tree]).digest)
    (tree / "more").mkdir()
    digests.append(push_files(store, "docs:v1", [tree]).digest)
    (tree / "link").unlink()
    (tree / "link").symlink_to("zero")
    digests.append(push_files(store, "docs:v1", [tree]).digest)
    assert len(set(digests)) == 4


def test_a_directory_is_called_by_its_name_however_it_is_spelled(store, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    (tmp_path / "other").symlink_to(tree)
    for path, title in ((".", "tree"), ("../tree/", "tree"), ("../other", "other")):
        pushed = push_files(store, "docs:v1", [path])
        assert store.repository("docs").get_manifest(pushed.digest).layers[0].annotations[TITLE] == title
    with pytest.raises(ArtifactInvalidError, match="must not be empty"):
        push_files(store, "docs:v1", ["/"])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/etc/passwd", "absolute"),
        ("../../outside", "out of the directory"),
        ("..", "out of the directory"),
        ("deep/../../../outside", "out of the directory"),
        ("top/../outside", "out of the directory"),
        ("run/../../../outside", "through 'run', which is no directory"),
        ("nothing/../../a.txt", "through 'nothing', which is no directory"),
        ("bad", "in a ring"),
    ],
)
def test_links_that_lead_elsewhere_are_not_packed(store, tree, target, said):
    (tree / "sub" / "top").symlink_to("..")
    bad = tree / "bad" if target == ".." else tree / "sub" / "bad"
    bad.symlink_to(target)
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match=said) as caught:
        push_files(store, "docs:v1", [tree])
    assert caught.value.name == str(bad)


def test_what_is_neither_file_directory_nor_link_is_not_packed(store, tree):
    for name, kind in (("fifo", "a FIFO"), ("socket", "a socket"), ("device", "a device")):
        path = tree / "sub" / name
        if name == "fifo":
            os.mkfifo(path)
        elif name == "socket":
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(path))
            listening.close()
        else:
            with contextlib.suppress(PermissionError):
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            if not path.exists():
                continue
        with unchanged(store.root), pytest.raises(ArtifactInvalidError, match=kind) as caught:
            push_files(store, "docs:v1", [tree])
        assert caught.value.name == str(path)
        path.unlink()


def test_directories_may_be_as_deep_as_titles_and_no_deeper(store, tree, tmp_path):
    deep = tree.joinpath(*["x"] * 63)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    push_files(store, "docs:v1", [tree])
    pull_files(store, "docs:v1", tmp_path / "out")
    assert (tmp_path / "out" / "tree").joinpath(*["x"] * 63, "file").read_bytes() == b"deep"

    (deep / "x").mkdir()
    (deep / "x" / "file").write_bytes(b"deeper")
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="deeper than 64"):
        push_files(store, "docs:v1", [tree])


def test_a_store_is_not_packed_into_itself(store):
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="it is the store"):
        push_files(store, "docs:v1", [store.root.parent])
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="it is the store"):
        push_files(store, "docs:v1", [store.root])


def grown(tree):
    with (tree / "z" / "large").open("ab") as file:
        file.write(b"more")


def shrunk(tree):
    os.truncate(tree / "z" / "large", 100)


def rewritten(tree):
    with (tree / "z" / "large").open("r+b") as file:
        file.write(b"other")
    os.utime(tree / "z" / "large", (1, 1))


def vanished(tree):
    (tree / "z" / "last").unlink()


def replaced(tree):
    (tree / "z" / "last").unlink()
    os.mkfifo(tree / "z" / "last")


def turned_into_a_link(tree):
    (tree / "z" / "last").unlink()
    (tree / "z" / "last").symlink_to("/etc/passwd")


def added(tree):
    (tree / "z" / "added").write_bytes(b"")
    os.utime(tree / "z", (1, 1))


@pytest.mark.parametrize("change", [grown, shrunk, rewritten, vanished, replaced, turned_into_a_link, added])
def test_a_directory_that_changes_while_it_is_packed_is_one_clear_error(store, tree, change):
    (tree / "z").mkdir()
    (tree / "z" / "large").write_bytes(bytes(3 * 1024 * 1024))
    (tree / "z" / "last").write_bytes(b"last")
    done = []

    def progress(read, total):
        if read > 1024 * 1024 and not done:  # in the middle of the large file
            done.append(read)
            change(tree)

    with unchanged(store.root), pytest.raises(ArtifactInvalidError) as caught:
        push_files(store, "docs:v1", [tree], progress=progress)
    assert done
    assert caught.value.name.startswith(str(tree / "z"))
    if change not in {replaced, turned_into_a_link}:
        assert caught.value.reason == "it changed while it was packed"


def test_what_cannot_be_read_is_named(store, tree, monkeypatch):
    real = os.open

    def refuse(path, *arguments, **more):
        if path == "run":
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    with unchanged(store.root), pytest.raises(PermissionError) as caught:
        push_files(store, "docs:v1", [tree])
    assert caught.value.filename == str(tree / "sub" / "run")


def test_packing_and_unpacking_need_little_memory(store, tmp_path):
    size = 48 * 1024 * 1024
    top = tmp_path / "top"
    top.mkdir()
    with (top / "large").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        push_files(store, "docs:v1", [top])
        pull_files(store, "docs:v1", tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 3
    assert (tmp_path / "out" / "top" / "large").stat().st_size == size


# --- unpacking --------------------------------------------------------------------------------------------------------


def test_what_was_packed_is_unpacked_to_the_same_tree(store, tree, tmp_path):
    push_files(store, "docs:v1", [tree, tree / "a.txt"])
    report = pull_files(store, "docs:v1", tmp_path / "out")
    assert report.files == (tmp_path / "out" / "tree", tmp_path / "out" / "a.txt")
    assert seen(tmp_path / "out" / "tree") == seen(tree)
    assert sorted(os.listdir(tmp_path / "out")) == ["a.txt", "tree"]

    (tree / "a.txt").unlink()
    shutil.rmtree(tree / "sub")
    pull_files(store, "docs:v1", tmp_path / "out")  # into what is there already
    pull_files(store, "docs:v1", tree.parent)
    assert seen(tmp_path / "out" / "tree") == seen(tree)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress, lzma.compress, bz2.compress])
def test_archives_of_other_makers_are_unpacked_too(store, packed, tmp_path, compress):
    content = archive(
        member("./d/file", content=b"content", mode=0o4711),
        directory("d/"),
        hardlink("d/hard", "d/file"),
        directory("d/sub"),
        symlink("d/sub/to", ".."),
        symlink("d/sub/top", "to/file"),
        hardlink("d/sub/again", "d/sub/top"),
    )
    content = content.rstrip(b"\0")  # its end and padding, which some leave out
    content += bytes(-len(content) % 512)
    pull_files(store, packed(content, compress=compress), tmp_path / "out")
    assert seen(tmp_path / "out") == {
        b"d": ("directory",),
        b"d/file": ("file", True, b"content"),
        b"d/hard": ("file", True, b"content"),
        b"d/sub": ("directory",),
        b"d/sub/to": ("link", b".."),
        b"d/sub/top": ("link", b"to/file"),
        b"d/sub/again": ("link", b"to/file"),
    }
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "out" / "d" / "file").stat().st_mode) == 0o711 & ~umask, "no set-user-id bit"


def test_an_archive_may_be_kept_as_it_is(store, tree, tmp_path):
    pushed = push_files(store, "docs:v1", [tree])
    pull_files(store, "docs:v1", tmp_path / "out", keep_packed=True)
    (layer,) = store.repository("docs").get_manifest(pushed.digest).layers
    assert Digest.of((tmp_path / "out" / "tree").read_bytes()) == layer.digest


def test_what_is_in_a_directory_already_stays_and_files_are_replaced(store, packed, tmp_path):
    out = tmp_path / "out"
    (out / "d" / "sub").mkdir(parents=True)
    (out / "d" / "sub" / "mine").write_bytes(b"mine")
    (out / "d" / "file").write_bytes(b"old")
    os.link(out / "d" / "file", tmp_path / "old")
    (out / "d" / "link").symlink_to("/etc")
    content = archive(directory(), member("d/file", content=b"new"), member("d/sub/new/er"), symlink("d/link", "sub"))

    pull_files(store, packed(content), out)

    assert (out / "d" / "sub" / "mine").read_bytes() == b"mine"
    assert (out / "d" / "file").read_bytes() == b"new"
    assert (tmp_path / "old").read_bytes() == b"old", "the file was written into, not replaced"
    assert (out / "d" / "sub" / "new" / "er").read_bytes() == b""
    assert os.readlink(out / "d" / "link") == "sub"
    assert sorted(os.listdir(out)) == ["d"]


HOSTILE = {
    "absolute": (archive(directory(), member("/d/file")), "outside of 'd'"),
    "absolute title": (archive(directory(), member("/etc/passwd")), "outside of 'd'"),
    "another directory": (archive(directory(), member("e/file")), "outside of 'd'"),
    "a name that only begins so": (archive(directory(), member("dd/file")), "outside of 'd'"),
    "up": (archive(directory(), member("d/../file")), "plain spelling"),
    "up at the end": (archive(directory(), member("d/sub/..", tarfile.DIRTYPE)), "plain spelling"),
    "dot": (archive(directory(), member("d/./file")), "plain spelling"),
    "empty name": (archive(directory(), member("d//file")), "plain spelling"),
    "a file in the place of the directory": (archive(member("d", content=b"x")), "in the place of the directory"),
    "a link in the place of the directory": (archive(symlink("d", "/etc")), "in the place of the directory"),
    "absolute link": (archive(directory(), symlink("d/link", "/etc/passwd")), "absolute path"),
    "link up": (archive(directory(), symlink("d/link", "../secret")), "out of the directory"),
    "link up through a link": (
        archive(directory(), directory("d/a"), symlink("d/a/top", ".."), symlink("d/link", "a/top/../secret")),
        "out of the directory",
    ),
    "link up through what is not there": (archive(directory(), symlink("d/link", "x/../../y")), "no directory"),
    "ring": (archive(directory(), symlink("d/a", "b"), symlink("d/b", "a")), "in a ring"),
    "link to itself": (archive(directory(), symlink("d/a", "a")), "in a ring"),
    "file through a link": (
        archive(directory(), directory("d/sub"), symlink("d/link", "sub"), member("d/link/file")),
        "would lie in 'link'",
    ),
    "directory through a link": (
        archive(directory(), symlink("d/link", "."), directory("d/link/sub")),
        "would lie in 'link'",
    ),
    "link through a link": (
        archive(directory(), symlink("d/link", "."), symlink("d/link/sub", "..")),
        "would lie in 'link'",
    ),
    "link over a directory": (archive(directory(), directory("d/a"), symlink("d/a", ".")), "two members"),
    "directory over a link": (archive(directory(), symlink("d/a", "."), directory("d/a")), "two members"),
    "file below a file": (archive(directory(), member("d/a"), member("d/a/b")), "would lie in 'a'"),
    "a directory implied, then a file": (archive(directory(), member("d/a/b"), member("d/a")), "two members"),
    "duplicate file": (archive(directory(), member("d/a"), member("d/a", content=b"x")), "two members"),
    "duplicate directory": (archive(directory(), directory()), "two members"),
    "hard link outside": (archive(directory(), hardlink("d/a", "/etc/passwd")), "outside of 'd'"),
    "hard link up": (archive(directory(), hardlink("d/a", "d/../../etc/passwd")), "plain spelling"),
    "hard link to nothing": (archive(directory(), hardlink("d/a", "d/b")), "no file before it"),
    "hard link to a directory": (archive(directory(), directory("d/b"), hardlink("d/a", "d/b")), "no file before it"),
    "hard link to a symlink out": (archive(directory(), symlink("d/b", "../c"), hardlink("d/a", "d/b")), "leads out"),
    "hard link to a symlink that leads out from there": (
        archive(directory(), directory("d/e"), symlink("d/e/b", "../c"), hardlink("d/a", "d/e/b")),
        "leads out",
    ),
    "hard link to itself": (archive(directory(), hardlink("d/a", "d/a")), "no file before it"),
    "device": (archive(directory(), member("d/null", tarfile.CHRTYPE)), "is a character device"),
    "disk": (archive(directory(), member("d/disk", tarfile.BLKTYPE)), "is a block device"),
    "fifo": (archive(directory(), member("d/pipe", tarfile.FIFOTYPE)), "is a fifo"),
    "sparse": (archive(directory(), member("d/holes", tarfile.GNUTYPE_SPARSE)), "is a sparse file"),
    "too deep": (archive(directory(), member("d" + "/x" * 65)), "deeper than 64"),
    "too long": (archive(directory(), member("d" + ("/" + "x" * 200) * 21)), "more than 4095 bytes"),
    "link to nothing": (archive(directory(), symlink("d/a", "")), "a symbolic link to nothing"),
    "link farther than any": (archive(directory(), symlink("d/a", "x/" * 2048)), "more than 4095 bytes"),
    "link through too many names": (
        archive(directory(), directory("d/x"), symlink("d/a", "x/../" * 600)),
        "more than 1024 names",
    ),
    "empty": (bytes(1024), "its archive is empty"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_and_leave_no_trace(store, packed, tmp_path, name):
    content, said = HOSTILE[name]
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_bytes(b"mine")
    reference = packed(content)
    before = sorted(os.listdir(tmp_path))

    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match=said):
        pull_files(store, reference, out)

    assert os.listdir(out) == ["mine"]
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (b"no archive", "no tar archive|cut short"),
        (gzip.compress(b"no archive".ljust(1024)), "no tar archive"),
        (gzip.compress(archive(directory(), member("d/a", content=b"x" * 1000)))[:-20], "cut short"),
        (gzip.compress(archive(directory())) + b"trailing", "something follows"),
        (gzip.compress(archive(directory(), member("d/a", content=b"x" * 1000))[:1600]), "cut short"),
    ],
    ids=["nothing known", "no tar", "gzip cut short", "something behind gzip", "tar cut short"],
)
def test_damaged_archives_are_refused_and_leave_no_trace(store, packed, tmp_path, layer, said):
    with pytest.raises(ArchiveInvalidError, match=said):
        pull_files(store, packed(layer, compress=bytes), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_a_bomb_is_refused_and_leaves_no_trace(store, packed, tmp_path, monkeypatch):
    reference = packed(archive(directory(), member("d/zeros", content=bytes(16 * 1024 * 1024))))
    monkeypatch.setattr("ocistore.archives.compression.Limits", lambda: Limits(slack=1024 * 1024))
    with pytest.raises(ArchiveInvalidError, match="times its size"):
        pull_files(store, reference, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_more_members_than_anybody_packs_are_refused(store, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAXIMUM_UNPACKED", 3)
    pull_files(store, packed(archive(directory(), member("d/a"), member("d/b"))), tmp_path / "out")
    with pytest.raises(ArtifactInvalidError, match="more than 3 members"):
        pull_files(store, packed(archive(directory(), *(member(f"d/{n}") for n in range(3)))), tmp_path / "out")


def test_longer_names_than_memory_holds_are_refused(store, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("ocistore.artifacts.unpacking.MAXIMUM_NAMES_SIZE", 10)
    pull_files(store, packed(archive(directory(), member("d/12345"), symlink("d/a", "b12"))), tmp_path / "out")
    with pytest.raises(ArtifactInvalidError, match="more than 10 characters"):
        pull_files(store, packed(archive(directory(), member("d/12345"), symlink("d/a", "b12345"))), tmp_path / "out")


def test_the_digest_of_the_content_is_compared(store, packed, tmp_path):
    content = archive(directory(), member("d/a", content=b"a"))
    pull_files(store, packed(content, content=Digest.of(content, "sha512")), tmp_path / "out")
    with pytest.raises(DigestMismatchError):
        pull_files(store, packed(content, content=Digest.of(b"another")), tmp_path / "other")
    with pytest.raises(ArtifactInvalidError, match="digest of its content"):
        pull_files(store, packed(content, content="sha256:abc"), tmp_path / "other")
    assert os.listdir(tmp_path / "other") == []


def test_a_damaged_blob_takes_no_name(store, packed, tmp_path):
    content = archive(directory(), member("d/a", content=b"a")) + bytes(1024 * 1024)
    reference = packed(content, compress=bytes)
    blob = store.root / "blobs" / "sha256" / Digest.of(content).encoded
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(1024)
        file.write(b"b")  # the content of the file
    with pytest.raises(CorruptError):
        pull_files(store, reference, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


OBSTACLES = {
    "a file in the place of the directory": lambda d: d.write_bytes(b"mine"),
    "a link in the place of the directory": lambda d: d.symlink_to("/etc"),
    "a directory in the place of a file": lambda d: (d / "file").mkdir(parents=True),
    "a link in the place of a file": lambda d: (d.mkdir(), (d / "file").symlink_to("/etc/passwd")),
    "a link in the place of a directory inside": lambda d: (d.mkdir(), (d / "sub").symlink_to("/tmp")),
    "a fifo in the place of a file": lambda d: (d.mkdir(), os.mkfifo(d / "file")),
    "a file in the place of a link": lambda d: (d.mkdir(), (d / "link").write_bytes(b"mine")),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_nothing_is_replaced_by_something_of_another_kind(store, packed, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    OBSTACLES[name](out / "d")
    content = archive(directory(), member("d/aa"), member("d/file"), member("d/sub/file"), symlink("d/link", "file"))
    reference = packed(content)
    before = sorted(map(str, out.rglob("*")))

    with pytest.raises(ArtifactInvalidError, match="in the destination"):
        pull_files(store, reference, out)

    assert sorted(map(str, out.rglob("*"))) == before


def test_files_and_a_directory_they_lie_in_may_be_layers_of_one_artifact(store, repository, tree, tmp_path):
    repository.put_blob(b"{}")
    pushed = push_files(store, f"{repository.name}:v1", [tree, tree / "a.txt"])
    body = store.repository(repository.name).get_manifest(pushed.digest).content
    repository.put_manifest(body.replace(b'"a.txt"', b'"tree/sub/b.txt"'), tags=["v2"])
    pull_files(store, f"{repository.name}:v2", tmp_path / "out")
    assert (tmp_path / "out" / "tree" / "sub" / "b.txt").read_bytes() == b"a text"
    assert (tmp_path / "out" / "tree" / "sub" / "run").exists()
    with pytest.raises(ArtifactInvalidError, match="would be a file, and a directory"):
        pull_files(store, f"{repository.name}:v2", tmp_path / "other", keep_packed=True)


def test_a_pull_that_dies_leaves_nothing_half_written_under_its_name(store, tree, tmp_path):
    push_files(store, "docs:v1", [tree])
    with contextlib.suppress(AssertionError):
        run_python(
            """
import os, sys
from ocistore import Store
from ocistore.artifacts import pull_files, staging
staging.StagedTree.sync = lambda self: os._exit(9)
with Store.open(sys.argv[1]) as store:
    pull_files(store, "docs:v1", sys.argv[2])
""",
            store.root,
            tmp_path / "out",
        )
    left = os.listdir(tmp_path / "out")
    assert left, "it had not begun"
    assert all(name.startswith(".ocistore-") for name in left)
    assert stat.S_IMODE((tmp_path / "out" / left[0]).stat().st_mode) == 0o700


@pytest.mark.parametrize("small_disk", [2], indirect=True)
def test_a_full_disk_leaves_no_trace(store, small_disk, tmp_path):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "large").write_bytes(os.urandom(3 * 1024 * 1024))
    push_files(store, "docs:v1", [tmp_path / "top"])
    out = small_disk.root / "out"
    with pytest.raises(OSError, match="No space left"):
        pull_files(store, "docs:v1", out)
    assert os.listdir(out) == []


def test_tar_reads_what_is_packed(store, tree, tmp_path):
    push_files(store, "docs:v1", [tree])
    pull_files(store, "docs:v1", tmp_path / "kept", keep_packed=True)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xzf", tmp_path / "kept" / "tree"], check=True)
    assert seen(tmp_path / "out" / "tree") == seen(tree)
