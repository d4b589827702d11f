"""Tar archives: what tar itself writes is read, what we write tar reads, and what is wrong is said."""

import io
import os
import subprocess
import tarfile
import time

import pytest
from layered import remade

from ocistore import ArchiveInvalidError
from ocistore.archives.tar import MAXIMUM_EXTENDED_HEADER, TarReader
from ocistore.archives.tarwriting import TarWriter

LONG = "long/" * 60 + "name"


class Pipe(io.RawIOBase):
    """Gives bytes in small pieces, and cannot seek."""

    def __init__(self, content):
        self._content = io.BytesIO(content)

    def read(self, size=-1):
        return self._content.read(min(size, 700))


def written():
    out = bytearray()
    writer = TarWriter(out.extend)
    writer.directory("a")
    writer.file("a/file", b"hello", mode=0o755)
    writer.file(LONG, b"z" * 512)
    writer.file("café", b"")
    writer.symlink("link", "a/file")
    writer.finish()
    return bytes(out)


def listed(content, *, seek=False):
    source = io.BytesIO(content) if seek else Pipe(content)
    reader = TarReader(source, name="it", seek=source if seek else None)
    return [(m.name, m.kind, m.size, m.target, reader.read(1 << 20)) for m in reader]


@pytest.mark.parametrize("seek", [False, True])
def test_what_was_written_is_read(seek):
    assert listed(written(), seek=seek) == [
        ("a", "directory", 0, "", b""),
        ("a/file", "file", 5, "", b"hello"),
        (LONG, "file", 512, "", b"z" * 512),
        ("café", "file", 0, "", b""),
        ("link", "symlink", 0, "a/file", b""),
    ]


def test_tar_reads_what_was_written(tmp_path):
    (tmp_path / "it.tar").write_bytes(written())
    listing = ["tar", "tvf", tmp_path / "it.tar"]
    found = subprocess.run(listing, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert (found.returncode, found.stderr) == (0, "")
    assert [line.split(None, 5)[5] for line in found.stdout.splitlines()] == [
        "a/",
        "a/file",
        LONG,
        "café",
        "link -> a/file",
    ]
    assert found.stdout.splitlines()[1].startswith("-rwxr-xr-x 0/0")


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "pax", "ustar"])
@pytest.mark.parametrize("seek", [False, True])
def test_what_tar_writes_is_read(tmp_path, form, seek):
    top = tmp_path / "d"
    top.mkdir()
    (top / "file").write_bytes(b"f" * 1000)
    os.link(top / "file", top / "hard")
    (top / "soft").symlink_to("file")
    os.mkfifo(top / "fifo")
    with open(top / "holes", "wb") as sparse:
        for place in range(0, 1 << 24, 1 << 19):  # more than fit into one header
            sparse.seek(place)
            sparse.write(b"x" * 4096)
    subprocess.run(
        [
            "tar",
            "-C",
            tmp_path,
            "--sort=name",
            "--sparse" if form != "ustar" else "--no-xattrs",
            f"--format={form}",
            "-cf",
            tmp_path / "it.tar",
            "d",
        ],
        check=True,
    )
    content = (tmp_path / "it.tar").read_bytes()
    found = {name: (kind, target) for name, kind, _, target, _ in listed(content, seek=seek)}
    assert found == {
        "d": ("directory", ""),
        "d/fifo": ("fifo", ""),
        "d/file": ("file", ""),
        "d/hard": ("hardlink", "d/file"),
        "d/holes": ("file" if form == "ustar" else "sparse file", ""),
        "d/soft": ("symlink", "file"),
    }


def header(name="x", *, kind=tarfile.REGTYPE, size=0, fill=b"", form=tarfile.USTAR_FORMAT):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(form) + fill + bytes(-len(fill) % 512)


def pax(records):
    content = b"".join(records)
    return header(kind=tarfile.XHDTYPE, size=len(content), fill=content)


END = bytes(1024)


def test_times_and_owners_that_need_an_extended_header_are_read():
    member = tarfile.TarInfo("x")
    member.mtime, member.uid, member.gid = -1.5, 1 << 30, 1 << 31
    (found,) = TarReader(io.BytesIO(member.tobuf(tarfile.PAX_FORMAT) + END), name="it")
    assert (found.mtime, found.uid, found.gid) == (-1, 1 << 30, 1 << 31)


@pytest.mark.parametrize("seek", [False, True])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"no tar archive at all".ljust(1024), "no tar archive"),
        (header()[:100], "cut short"),
        (header(size=1000, fill=bytes(487)), "cut short"),
        (header(size=1000, fill=bytes(500))[:-13], "cut short"),
        (header(size=3, fill=b"abc")[:514], "cut short"),
        (header(size=3, fill=b"abc") + header("y")[:500], "cut short"),
        (pax([b"12 path=abc\n"])[:700], "cut short"),
        (pax([b"5 a=\n"] * 10_001) + header() + END, "more than 10000 attributes"),
        (pax([b"5 a=\n"] * 6000) * 2 + header() + END, "more than 10000 attributes"),
        (header(size=1 << 40, form=tarfile.GNU_FORMAT) + END, "cut short"),
        (header(size=(1 << 63), form=tarfile.GNU_FORMAT) + END, "9223372036854775808 bytes"),
        (header() + b"\xff" * 512 + END, "damaged, at byte 512"),
        (header() + END + header() + END, "something follows the end"),
        (header() + bytes(512) + header() + END, "something follows the end"),
        (header(kind=b"?") + END, "kind, b'\\?', is unknown"),
        (pax([b"11 path=ab\n"]) + END, "belongs to nothing"),
        (pax([b"99 path=ab\n"]) + header() + END, "extended header is damaged"),
        (pax([b"x path=ab\n"]) + header() + END, "extended header is damaged"),
        (pax([b"0 path=ab\n"]) + header() + END, "extended header is damaged"),
        (pax([b"12 path=a\0b\n"]) + header() + END, "zero byte"),
        (header("") + END, "name is empty"),
        (pax([b"11 uid=0x1\n"]) + header() + END, "is no number"),
        (pax([b"12 size=-99\n"]) + header() + END, "is no number"),
        (pax([b"29 size=99999999999999999999\n"]) + header() + END, "says that it has"),
        (header(kind=tarfile.XGLTYPE, size=11, fill=b"11 path=ab\n") + header() + END, "global header"),
        (header(kind=tarfile.XHDTYPE, size=MAXIMUM_EXTENDED_HEADER + 1) + END, "more than 1048576 bytes"),
        (header(kind=tarfile.GNUTYPE_LONGNAME, size=1 << 30) + END, "more than 1048576 bytes"),
        (2 * pax([b"600008 a=" + b"x" * 599_998 + b"\n"]) + header() + END, "more than 1048576 bytes"),
        (pax([b"16 linkpath=a\0b\n"]) + header(kind=tarfile.SYMTYPE) + END, "zero byte"),
    ],
)
def test_what_is_wrong_is_said(content, said, seek):
    with pytest.raises(ArchiveInvalidError, match=said):
        listed(content, seek=seek)


def test_a_comment_for_all_members_does_no_harm():
    content = header(kind=tarfile.XGLTYPE, size=16, fill=b"16 comment=abcd\n") + header("x") + END
    assert [name for name, *_ in listed(content)] == ["x"]


def test_an_archive_without_its_end_is_read():
    assert [name for name, *_ in listed(header("x") + header("y"))] == ["x", "y"]


@pytest.mark.parametrize("seek", [False, True])
@pytest.mark.parametrize("end", [b"", bytes(1), bytes(511), bytes(512)])
@pytest.mark.parametrize("size", [1, 511, 512, 513])
def test_an_archive_without_its_padding_is_read(seek, end, size):
    whole = header("x", size=3, fill=b"abc") + header("y", size=size, fill=b"z" * size)
    content = whole[: 1024 + 512 + size] + end
    assert [(name, data) for name, *_, data in listed(content, seek=seek)] == [("x", b"abc"), ("y", b"z" * size)]
    source = io.BytesIO(content)
    assert [m.name for m in TarReader(source, name="it", seek=source if seek else None)] == ["x", "y"]


def test_no_bytes_at_all_are_an_archive_where_that_was_said():
    assert list(TarReader(io.BytesIO(), name="it", is_layer=True)) == []


def test_attributes_are_not_read_without_end(monkeypatch):
    one = pax([b"5 a=\n"] * 9_000) + header()
    content = one * 400
    began = time.process_time()
    with pytest.raises(ArchiveInvalidError, match="more attributes than anybody writes"):
        listed(content, seek=True)
    assert time.process_time() - began < 5
    monkeypatch.setattr("ocistore.archives.tar._FREE_RECORDS", 10_000)
    usual = pax([b"12 path=abc\n", *[b"5 a=\n"] * 15]) + header()
    assert len(listed(usual * 800, seek=True)) == 800


GNU = b"ustar  \0"
OCTAL = b"14277301234\0"


@pytest.mark.parametrize(
    ("magic", "there", "name"),
    [
        (b"ustar\x0000", b"dir/sub", "dir/sub/x"),
        (GNU, OCTAL + OCTAL, "x"),
        (GNU, OCTAL + bytes(12), "x"),
        (GNU, bytes(12) + OCTAL, "x"),
        (GNU, b"\x80" + b"\1" * 11 + OCTAL, "x"),
        (GNU, b"\xff" * 24, "x"),
        (GNU, b"dir/sub", "dir/sub/x"),  # as Go wrote it until 1.8
        (bytes(8), b"noise", "x"),  # version 7 of Unix had no prefix
    ],
)
def test_what_is_no_prefix_is_no_part_of_a_name(magic, there, name):
    content = remade(header(size=3), at257=magic, at345=there) + b"abc".ljust(512, b"\0") + END
    assert listed(content) == [(name, "file", 3, "", b"abc")]


def test_the_names_in_an_incremental_archive_of_tar_are_its_own(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"f")
    command = ["tar", "-C", tmp_path, "--format=gnu", "--incremental", "-cf", "-", "d/file"]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    assert content[345:350].isdigit()  # a time, where ustar has a prefix
    assert [name for name, *_ in listed(content)] == ["d/file"]


@pytest.mark.parametrize("key", [b"path", b"size", b"mtime", b"uid", b"gid"])
def test_an_attribute_without_a_value_leaves_what_the_header_says(key):
    record = b"%02d %s=\n" % (len(key) + 5, key)
    assert listed(pax([record]) + header(size=3, fill=b"abc") + END) == [("x", "file", 3, "", b"abc")]
    said = b"%02d %s=7\n" % (len(key) + 6, key)
    assert listed(pax([said, record]) + header(size=3, fill=b"abc") + END) == [("x", "file", 3, "", b"abc")]


def test_a_long_name_ends_at_its_first_zero_byte_and_an_empty_one_is_none():
    def long(name):
        return header("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=len(name), fill=name)

    assert [name for name, *_ in listed(long(b"y" * 200 + b"\0junk") + header() + END)] == ["y" * 200]
    assert [name for name, *_ in listed(long(b"\0") + header() + END)] == ["x"]
    both = [long(b"gnu\0"), pax([b"12 path=pax\n"])]
    for first, second in (both, reversed(both)):
        assert [name for name, *_ in listed(first + second + header() + END)] == ["gnu"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_of_what_has_no_content_none_is_stored_whatever_its_size_says(kind):
    content = header(kind=kind, size=5) + header("y", size=3, fill=b"abc") + END
    assert [(name, size, data) for name, _, size, _, data in listed(content)] == [("x", 0, b""), ("y", 3, b"abc")]


def test_what_stands_behind_the_end_of_a_layer_means_nothing():
    def layer(content):
        return [member.name for member in TarReader(Pipe(content), name="it", is_layer=True)]

    for behind in (b"", b"garbage", header("y") + END, bytes(20_000)):
        assert layer(header() + END + behind) == ["x"]
    for behind in (b"garbage", header("y") + END):  # behind one block of zeros, which is no end
        with pytest.raises(ArchiveInvalidError, match="something follows"):
            layer(header() + bytes(512) + behind)
