"""Images written to directories: what their layers make, by whoever, and nothing else anywhere."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from images import described, document
from layered import OPAQUE, UPPER, archive, directory, hardlink, layered, member, put, symlink

from ocistore import (
    ArchiveInvalidError,
    ArtifactInvalidError,
    BlobNotFoundError,
    CorruptError,
    Digest,
    DigestMismatchError,
    ManifestInvalidError,
)
from ocistore.artifacts import push_files
from ocistore.images import LeftOut, UnpackReport, list_files, unpack

BASE = archive(
    member("./", kind=tarfile.DIRTYPE, mode=0o755, mtime=1_600_000_000),
    directory("etc/"),
    member("etc/passwd", b"root", mtime=1_500_000_000),
    member("etc/shadow", b"secret", mode=0o600),
    member("etc/old", b"old"),
    directory("usr"),
    directory("usr/bin"),
    member("usr/bin/sh", b"#!", mode=0o755),
    hardlink("usr/bin/bash", "usr/bin/sh"),
    symlink("bin", "usr/bin"),
    member("tmp", kind=tarfile.DIRTYPE, mode=0o1777),
    member("proc", kind=tarfile.DIRTYPE, mode=0o555, mtime=1_400_000_000),
    directory("var/cache"),
    member("var/cache/a", b"a"),
)
REFERENCE = "library/app:v1"


@pytest.fixture
def image(repository):
    """A function that pushes an image of these layers."""

    def push(*layers, **more):
        return put(repository, layered(*layers, **more), "v1")

    return push


@pytest.fixture
def out(tmp_path):
    """Where to unpack: nothing is there, and nothing beside it."""
    beside = tmp_path / "beside"
    beside.mkdir()
    return beside / "rootfs"


def tree(top):
    """Everything in a directory: kind and mode, and content or target."""
    found = {}
    for above, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(above, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    said = file.read()
            else:
                said = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            found[os.path.relpath(path, top)] = (stat.filemode(status.st_mode), said)
    return found


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_files_are_those_that_the_layers_make_together(store, image, out):
    digest = image(BASE, UPPER)
    report = unpack(store, REFERENCE, out)
    assert tree(out) == {
        "bin": ("lrwxrwxrwx", "usr/bin"),
        "etc": ("drwxr-xr-x", ""),
        "etc/passwd": ("-rw-r--r--", b"root and more"),
        "etc/shadow": ("-rw-------", b"secret"),
        "proc": ("dr-xr-xr-x", ""),
        "tmp": ("drwxrwxrwt", ""),
        "usr": ("drwxr-xr-x", ""),
        "usr/bin": ("drwxr-xr-x", ""),
        "usr/bin/added": ("-rw-r--r--", b"through a link, without a directory of its own"),
        "usr/bin/bash": ("-rwxr-xr-x", b"#!"),
        "usr/bin/sh": ("-rwxr-xr-x", b"#!"),
        "var": ("drwxr-xr-x", ""),
        "var/cache": ("drwxr-xr-x", ""),
        "var/cache/new": ("-rw-r--r--", b"new"),
    }
    assert os.path.samefile(out / "usr/bin/sh", out / "usr/bin/bash")
    assert report == UnpackReport(
        digest=digest, files=5, hardlinks=1, symlinks=1, directories=7, fifos=0, bytes=70, left_out=()
    )
    assert os.listdir(out.parent) == ["rootfs"]


def test_they_are_the_ones_that_are_listed(store, image, out):
    image(BASE, UPPER)
    unpack(store, REFERENCE, out)
    assert sorted(tree(out)) == sorted(file.path for file in list_files(store, REFERENCE))


def test_times_are_kept_those_of_directories_too(store, image, out):
    image(BASE, archive(member("etc/added", b"in a directory that the layer does not describe")))
    unpack(store, REFERENCE, out)
    assert os.stat(out).st_mtime == 1_600_000_000
    assert os.stat(out / "etc/passwd").st_mtime == 1_500_000_000
    assert os.stat(out / "proc").st_mtime == 1_400_000_000
    assert os.stat(out / "etc").st_mtime == 0
    assert os.lstat(out / "bin").st_mtime == 0


@pytest.mark.parametrize("mtime", [-(1 << 40), 1 << 40, 1 << 62])
def test_times_that_no_filesystem_has_do_no_harm(store, image, out, mtime):
    header = tarfile.TarInfo("old")
    header.mtime = mtime
    image(archive(header.tobuf(tarfile.PAX_FORMAT)))
    unpack(store, REFERENCE, out)
    assert abs(os.stat(out / "old").st_mtime) > 1 << 31


def test_the_umask_takes_nothing_away(store, image, out):
    image(archive(member("all", b"", mode=0o666), member("d", kind=tarfile.DIRTYPE, mode=0o777)))
    before = os.umask(0o077)
    try:
        unpack(store, REFERENCE, out)
    finally:
        os.umask(before)
    assert {mode for mode, _ in tree(out).values()} == {"-rw-rw-rw-", "drwxrwxrwx"}


def test_a_directory_that_nobody_may_enter_is_filled_first(store, image, out):
    image(archive(member("d", kind=tarfile.DIRTYPE, mode=0), member("d/in", b"x")), archive(member("d/more", b"y")))
    unpack(store, REFERENCE, out)
    assert stat.S_IMODE(os.stat(out / "d").st_mode) == 0
    os.chmod(out / "d", 0o700)
    assert sorted(os.listdir(out / "d")) == ["in", "more"]


def test_a_fifo_is_made_and_nobody_waits_for_it(store, image, out):
    image(archive(member("pipe", kind=tarfile.FIFOTYPE, mode=0o622)), archive(member("pipe", b"a file in its place")))
    unpack(store, REFERENCE, out)
    assert tree(out) == {"pipe": ("-rw-r--r--", b"a file in its place")}
    image(archive(member("pipe", kind=tarfile.FIFOTYPE, mode=0o622, mtime=7)))
    assert unpack(store, REFERENCE, out.parent / "other").fifos == 1
    assert stat.filemode(os.stat(out.parent / "other/pipe").st_mode) == "prw--w--w-"


def test_what_takes_privileges_or_gives_some_is_left_out_and_said(store, image, out):
    image(
        archive(
            member("dev/null", kind=tarfile.CHRTYPE),
            member("dev/sda", kind=tarfile.BLKTYPE),
            hardlink("dev/zero", "dev/null"),
            member("su", b"run me", mode=0o6755),
            member("mail", kind=tarfile.DIRTYPE, mode=0o2775),
        )
    )
    report = unpack(store, REFERENCE, out)
    assert tree(out) == {
        "dev": ("drwxr-xr-x", ""),
        "mail": ("drwxrwsr-x", ""),
        "su": ("-rwxr-xr-x", b"run me"),
    }
    assert [(each.path, each.what) for each in report.left_out] == [
        ("dev/null", "character device"),
        ("dev/sda", "block device"),
        ("dev/zero", "character device"),
        ("su", "setuid bit"),
        ("su", "setgid bit"),
    ]


def test_what_is_left_out_and_hidden_by_a_higher_layer_is_not_said(store, image, out):
    image(
        archive(
            member("null", kind=tarfile.CHRTYPE), member("su", mode=0o4755), member("d/null", kind=tarfile.CHRTYPE)
        ),
        archive(member(".wh.null"), member("su", mode=0o755), member("d", b"a file")),
    )
    assert unpack(store, REFERENCE, out).left_out == ()
    assert sorted(tree(out)) == ["d", "su"]


def test_a_device_that_is_replaced_by_a_file_is_that_file(store, image, out):
    image(archive(member("null", kind=tarfile.CHRTYPE)), archive(member("null", b"a file")))
    assert unpack(store, REFERENCE, out).left_out == ()
    assert tree(out) == {"null": ("-rw-r--r--", b"a file")}


def with_attributes(name, kind=tarfile.REGTYPE, **attributes):
    header = tarfile.TarInfo(name)
    header.type, header.mode = kind, 0o755
    header.pax_headers = {f"SCHILY.xattr.{key.replace('__', '.')}": value for key, value in attributes.items()}
    return header.tobuf(tarfile.PAX_FORMAT)


def test_extended_attributes_of_users_are_kept_and_others_said(store, image, out):
    image(
        archive(
            with_attributes("a", user__mime="text", security__capability="rights"),
            with_attributes("d", tarfile.DIRTYPE, user__old="x"),
            member("d/in"),
        ),
        archive(with_attributes("d", tarfile.DIRTYPE, user__new="y"), with_attributes("n/m", user__deep="z")),
    )
    try:
        os.setxattr(out.parent, "user.try", b"")
    except OSError:
        pytest.skip("this filesystem has no extended attributes")
    report = unpack(store, REFERENCE, out)
    assert {name: os.getxattr(out / "a", name) for name in os.listxattr(out / "a")} == {"user.mime": b"text"}
    assert os.listxattr(out / "d") == ["user.new"]
    assert os.listxattr(out / "n") == []
    assert os.listxattr(out / "n/m") == ["user.deep"]
    assert report.left_out == (LeftOut("a", "extended attribute security.capability", "only those in user. are kept"),)


def test_hard_links_are_to_what_was_there_before_it_was_replaced(store, image, out):
    image(archive(member("a", b"old"), hardlink("b", "a")), archive(member("a", b"new"), hardlink("c", "b")))
    report = unpack(store, REFERENCE, out)
    assert {name: said for name, (_, said) in tree(out).items()} == {"a": b"new", "b": b"old", "c": b"old"}
    assert (report.files, report.hardlinks, report.bytes) == (2, 1, 6)


def test_a_hard_link_to_itself_is_the_file(store, image, out):
    image(archive(member("a", b"content"), hardlink("a", "./a")))
    unpack(store, REFERENCE, out)
    assert tree(out) == {"a": ("-rw-r--r--", b"content")}


def test_the_image_for_the_platform_is_unpacked(store, repository, out):
    children = []
    for architecture in ("amd64", "arm64"):
        child = layered(archive(member(architecture)), config={"architecture": architecture})
        put(repository, child)
        children.append(
            described(child.manifest, child.media_type, platform={"os": "linux", "architecture": architecture})
        )
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children}
    repository.put_manifest(document(index), tags=["v1"])
    unpack(store, REFERENCE, out, platform="linux/arm64")
    assert os.listdir(out) == ["arm64"]


def test_progress_grows_to_the_bytes_of_all_layers(store, image, out):
    image(
        BASE,
        archive(member("large", os.urandom(3_000_000))),
        compress=bytes,
        layer_type="application/vnd.oci.image.layer.v1.tar",
    )
    told = []
    unpack(store, REFERENCE, out, progress=lambda done, total: told.append((done, total)))
    size = sum(layer.size for layer in store.repository("library/app").get_manifest("v1").layers)
    assert told == sorted(told)
    assert told[-1] == (size, size)
    assert len(told) > 4


def test_the_report_is_json_and_back(store, image, out):
    image(archive(member("su", b"x", mode=0o4755)))
    report = unpack(store, REFERENCE, out)
    said = json.loads(json.dumps(report.to_json()))
    assert said["leftOut"][0]["what"] == "setuid bit"
    assert UnpackReport.from_json(said) == report


# --- where ------------------------------------------------------------------------------------------------------------


def test_an_empty_directory_is_filled_and_keeps_its_mode(store, image, out):
    image(BASE)
    out.mkdir(mode=0o700)
    before = os.stat(out).st_ino
    unpack(store, REFERENCE, out)
    assert (os.stat(out).st_ino, stat.S_IMODE(os.stat(out).st_mode)) == (before, 0o700)
    assert "proc" in os.listdir(out)
    assert not [name for name in os.listdir(out) if name.startswith(".ocistore")]
    assert os.stat(out / "proc").st_mtime == 1_400_000_000


def test_it_may_be_named_through_a_link_or_be_the_current_directory(store, image, out, monkeypatch):
    image(archive(member("a")))
    out.mkdir()
    os.symlink("rootfs", out.parent / "link")
    unpack(store, REFERENCE, out.parent / "link")
    assert os.listdir(out) == ["a"]
    here = out.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    unpack(store, REFERENCE, ".")
    assert os.listdir(here) == ["a"]


@pytest.mark.parametrize("what", ["full", "file", "dangling", "below nothing"])
def test_what_is_neither_empty_nor_missing_is_refused(store, image, out, what):
    image(BASE)
    destination = out
    if what == "full":
        (out / "something").mkdir(parents=True)
    elif what == "file":
        out.write_bytes(b"mine")
    elif what == "dangling":
        out.symlink_to("nowhere")
    else:
        destination = out / "rootfs"
    before = tree(out.parent)
    with pytest.raises(OSError) as caught:
        unpack(store, REFERENCE, destination)
    assert caught.value.errno in {errno.ENOTEMPTY, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
    assert tree(out.parent) == before


def test_a_store_is_no_place_for_it(store, image):
    image(BASE)
    with pytest.raises(ArtifactInvalidError, match="store"):
        unpack(store, REFERENCE, store.root / "blobs" / "rootfs")


def test_what_appears_meanwhile_in_its_place_is_left_alone(store, image, out):
    image(BASE)

    def meanwhile(done, total):
        if not out.exists():
            (out / "theirs").mkdir(parents=True)

    with pytest.raises(OSError):
        unpack(store, REFERENCE, out, progress=meanwhile)
    assert tree(out.parent) == {"rootfs": ("drwxr-xr-x", ""), "rootfs/theirs": ("drwxr-xr-x", "")}


# --- hostile images ---------------------------------------------------------------------------------------------------

SECRET = b"of the machine"


@pytest.fixture
def outside(out):
    """A directory beside the one that is unpacked to; nothing in it may change."""
    outside = out.parent / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(SECRET)
    return outside


def hostile(outside):
    """Images that would write, or make links to what is, outside; each as its layers."""
    return {
        "upwards": [archive(member("../outside/new"))],
        "upwards later": [archive(member("a/../../outside/new"))],
        "through an absolute link": [archive(symlink("a", str(outside)), member("a/file", b"changed"))],
        "through a relative link": [archive(symlink("a", "../outside"), member("a/file", b"changed"))],
        "through a link of a lower layer": [
            archive(symlink("a", str(outside))),
            archive(member("a/file", b"changed")),
        ],
        "through two links": [archive(symlink("a", ".."), symlink("b", "a/outside"), member("b/file", b"changed"))],
        "a hard link to a file": [archive(hardlink("a", str(outside / "file")), member("a", b"changed"))],
        "a hard link through a link": [
            archive(symlink("l", str(outside)), hardlink("a", "l/file"), member("a", b"changed"))
        ],
        "a hard link to a link": [
            archive(symlink("l", str(outside / "file")), hardlink("a", "l"), member("a", b"changed"))
        ],
        "a file over a hard link to a link": [
            archive(symlink("l", str(outside / "file")), hardlink("a", "l")),
            archive(member("a", b"changed")),
        ],
        "a directory over a link": [
            archive(symlink("a", str(outside))),
            archive(directory("a"), member("a/file", b"changed")),
        ],
        "a link over a directory": [
            archive(directory("a"), member("a/b")),
            archive(symlink("a", str(outside)), member("a/file", b"changed")),
        ],
        "hidden through a link": [archive(symlink("a", str(outside))), archive(member("a/.wh.file"))],
        "all hidden through a link": [archive(symlink("a", str(outside))), archive(member(f"a/{OPAQUE}"))],
        "the top hidden": [archive(member("a")), archive(member(".wh..")), archive(member(".wh...."))],
        "modes through a link": [
            archive(symlink("a", str(outside)), member("a", kind=tarfile.SYMTYPE, target=str(outside), mode=0))
        ],
        "the top is a link": [archive(symlink(".", str(outside)), member("file", b"changed"))],
        "a link in a ring": [archive(symlink("a", "b"), symlink("b", "a"), member("a/file"))],
        "absolute names": [archive(member(str(outside / "file"), b"changed"))],
    }


@pytest.mark.parametrize("name", hostile(Path()))
def test_nothing_outside_is_touched_whatever_the_image_says(store, image, out, outside, name):
    image(*hostile(outside)[name])
    before = os.stat(outside / "file"), os.stat(outside)
    try:
        unpack(store, REFERENCE, out)
    except ArchiveInvalidError:
        assert not out.exists()
    assert tree(outside) == {"file": ("-rw-r--r--", SECRET)}
    after = os.stat(outside / "file"), os.stat(outside)
    assert [(each.st_mode, each.st_nlink, each.st_mtime_ns) for each in after] == [
        (each.st_mode, each.st_nlink, each.st_mtime_ns) for each in before
    ]
    assert sorted(os.listdir(out.parent)) in (["outside"], ["outside", "rootfs"])


def test_a_directory_that_somebody_replaces_by_a_link_meanwhile_is_not_followed(store, image, out, outside):
    # Nobody can who is not the same user: what is staged is in a directory that only its owner may enter.
    image(archive(directory("a"), directory("b"), member("b/x"), member("a/file", b"changed")))

    def meanwhile(done, total):
        for staged in out.parent.glob(".ocistore-*/tree/a"):
            if staged.is_dir() and not staged.is_symlink():
                staged.rmdir()
                staged.symlink_to(outside)

    with pytest.raises(OSError) as caught:
        unpack(store, REFERENCE, out, progress=meanwhile)
    assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}
    assert tree(outside) == {"file": ("-rw-r--r--", SECRET)}
    assert sorted(os.listdir(out.parent)) == ["outside"]


def test_a_directory_that_became_a_link_of_another_case_is_not_followed(store, image, out, outside, monkeypatch):
    # As on a filesystem that takes "A" and "a" for one name: the link is found where the directory should be.
    make = os.mkdir

    def folding(path, mode=0o777, *, dir_fd=None):
        make(str(path).lower() if path == "A" else path, mode, dir_fd=dir_fd)

    monkeypatch.setattr("os.mkdir", folding)
    image(archive(symlink("a", str(outside)), directory("A"), member("A/file", b"changed")))
    with pytest.raises(OSError):
        unpack(store, REFERENCE, out)
    assert tree(outside) == {"file": ("-rw-r--r--", SECRET)}
    assert sorted(os.listdir(out.parent)) == ["outside"]


def test_a_very_deep_path_is_unpacked_and_removed_again_where_that_fails(store, image, out):
    deep = "/".join(["d"] * 500)
    image(archive(member(f"{deep}/file", b"deep")))
    unpack(store, REFERENCE, out)
    assert tree(out)[f"{deep}/file"] == ("-rw-r--r--", b"deep")
    image(archive(member(f"{deep}/file", b"deep"), hardlink("a", "nothing")))
    with pytest.raises(ArchiveInvalidError, match="hard link to 'nothing'"):
        unpack(store, REFERENCE, out.parent / "other")
    assert os.listdir(out.parent) == ["rootfs"]


def test_deeper_than_that_is_refused(store, image, out):
    image(archive(member("/".join(["d"] * 600))))
    with pytest.raises(ArchiveInvalidError, match="more than 512 parts"):
        unpack(store, REFERENCE, out)


@pytest.mark.parametrize(
    "layer",
    [
        archive(directory("d"), hardlink("a", "d")),
        archive(hardlink("a", "missing")),
        archive(member("a/b", b""), hardlink("a", "a/b")),
        archive(hardlink("a", "../x")),
    ],
)
def test_a_hard_link_to_no_file_is_refused(store, image, out, layer):
    image(layer)
    with pytest.raises(ArchiveInvalidError, match="hard link"):
        unpack(store, REFERENCE, out)
    assert os.listdir(out.parent) == []


def test_a_bomb_ends_before_it_fills_the_disk(store, image, out):
    image(archive(member("zeros", bytes(400_000_000))))
    with pytest.raises(ArchiveInvalidError, match="decompresses to more than"):
        unpack(store, REFERENCE, out)
    assert os.listdir(out.parent) == []


def test_no_more_than_the_limit_is_written(store, image, out):
    image(archive(member("a", b"12345")), archive(member("a", b"67890")))
    with pytest.raises(ArchiveInvalidError, match="more than 9 bytes"):
        unpack(store, REFERENCE, out, maximum_size=9)
    assert os.listdir(out.parent) == []
    assert unpack(store, REFERENCE, out, maximum_size=10).bytes == 5


def test_a_sparse_file_is_left_out_and_said(store, image, out):
    header = tarfile.TarInfo("sparse")
    header.type = tarfile.GNUTYPE_SPARSE
    image(archive(header.tobuf(tarfile.GNU_FORMAT)))
    assert [(each.path, each.what) for each in unpack(store, REFERENCE, out).left_out] == [("sparse", "sparse file")]
    assert tree(out) == {}


def test_an_artifact_of_files_is_pulled_and_not_unpacked(store, tmp_path, out):
    (tmp_path / "weights").write_bytes(b"x")
    push_files(store, REFERENCE, [tmp_path / "weights"])
    with pytest.raises(ArtifactInvalidError, match="pull it"):
        unpack(store, REFERENCE, out)


# --- images that are not whole ----------------------------------------------------------------------------------------


def test_a_layer_that_is_another_than_the_config_says_is_refused(store, image, out):
    diff_ids = [str(Digest.of(b"another"))]
    image(BASE, config={"rootfs": {"type": "layers", "diff_ids": diff_ids}})
    with pytest.raises(DigestMismatchError) as caught:
        unpack(store, REFERENCE, out)
    assert (caught.value.expected, caught.value.actual) == (diff_ids[0], Digest.of(BASE))
    assert os.listdir(out.parent) == []


def test_an_uncompressed_layer_too(store, image, out):
    uncompressed = {"compress": bytes, "layer_type": "application/vnd.oci.image.layer.v1.tar"}
    image(BASE, config={"rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"another"))]}}, **uncompressed)
    with pytest.raises(DigestMismatchError):
        unpack(store, REFERENCE, out)
    image(BASE, **uncompressed)
    unpack(store, REFERENCE, out)


@pytest.mark.parametrize("rootfs", [None, {"type": "layers", "diff_ids": []}])
def test_a_config_that_says_of_other_layers_is_refused(store, image, out, rootfs):
    image(BASE, config={"rootfs": rootfs})
    with pytest.raises(ManifestInvalidError):
        unpack(store, REFERENCE, out)


def test_a_layer_that_is_not_there_is_said_before_anything_is_written(store, repository, image, out):
    image(BASE, UPPER)
    layer = repository.get_manifest("v1").layers[1]
    (store.root / "blobs" / "sha256" / layer.digest.encoded).unlink()
    with pytest.raises((BlobNotFoundError, CorruptError)):
        unpack(store, REFERENCE, out)
    assert os.listdir(out.parent) == []


def test_a_damaged_layer_leaves_nothing(store, repository, image, out):
    image(BASE, archive(member("large", os.urandom(300_000))))
    layer = repository.get_manifest("v1").layers[1]
    path = store.root / "blobs" / "sha256" / layer.digest.encoded
    content = bytearray(path.read_bytes())
    content[200_000] ^= 1
    os.chmod(path, 0o600)
    path.write_bytes(content)
    with pytest.raises(CorruptError):
        unpack(store, REFERENCE, out)
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("call", ["mkdir", "symlink", "link", "rename", "fchmod", "utime", "listdir", "rmdir"])
def test_a_call_that_fails_leaves_nothing(  # noqa: PLR0917
    store, image, out, monkeypatch, call, exists
):
    image(BASE, UPPER)
    if exists:
        out.mkdir()
    real, count = getattr(os, call), 0
    for number in range(1, 30):
        count = 0

        def failing(*arguments, number=number, **keywords):
            nonlocal count
            count += 1
            if count == number:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments, **keywords)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing)
            try:
                unpack(store, REFERENCE, out)
            except OSError as error:
                failed = error.errno
            else:
                assert count < number
                return
        assert failed == errno.EIO
        assert os.listdir(out.parent) == (["rootfs"] if exists else [])
        assert not exists or os.listdir(out) == []
    pytest.fail("it never came to its end")


UNPRIVILEGED = """
import os, sys
import ocistore
from ocistore.images import unpack
with ocistore.Store.open(sys.argv[1], read_only=True) as store:
    unpack(store, "library/app:v1", sys.argv[4])  # imports the rest: that of root's may not be readable
os.setgid(65534), os.setgroups([]), os.setuid(65534)
with ocistore.Store.open(sys.argv[1], read_only=True) as store:
    for name, wrong in ((sys.argv[2], 0), (sys.argv[3], 1)):
        try:
            unpack(store, "library/app:v1", name, maximum_size=60 if wrong else None)
        except ocistore.ArchiveInvalidError as error:
            assert wrong, error
            assert not os.path.exists(name)
"""


@pytest.mark.parametrize("exists", [False, True])
def test_nobody_needs_to_be_root(store, image, tmp_path, exists):
    if os.geteuid() != 0:
        pytest.skip("everything here is done by somebody else than root")
    image(BASE, archive(member("locked", kind=tarfile.DIRTYPE, mode=0), member("locked/in", b"x" * 50)), UPPER)
    with tempfile.TemporaryDirectory(prefix="ocistore-unprivileged-") as place:
        os.chmod(place, 0o777)
        shutil.copytree(store.root, f"{place}/store")
        for above, directories, files in os.walk(f"{place}/store"):
            for name in (*directories, *files, "."):
                os.chown(os.path.join(above, name), 65534, 65534)
        if exists:
            os.mkdir(f"{place}/good")
            os.chown(f"{place}/good", 65534, 65534)
        program = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, f"{place}/store", f"{place}/good", f"{place}/bad", tmp_path / "first"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert program.returncode == 0, program.stderr
        assert os.stat(f"{place}/good/etc/passwd").st_uid == 65534
        assert stat.S_IMODE(os.stat(f"{place}/good/locked").st_mode) == 0
        assert stat.S_IMODE(os.stat(f"{place}/good/proc").st_mode) == 0o555
        assert sorted(os.listdir(place)) == ["good", "store"]
