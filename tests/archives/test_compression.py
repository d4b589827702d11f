"""Compressed streams: whole, in constant memory, or an error that says what is wrong."""

import bz2
import functools
import gzip
import importlib
import io
import lzma
import os
import random
import subprocess
import time

import pytest
from backports import zstd

from ocistore import ArchiveInvalidError
from ocistore.archives import compression
from ocistore.archives.compression import MAGIC_SIZE, Compressor, Decompressed, Limits, compression_of, stored_gzip

SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
COMPRESS = {
    "gzip": lambda data: gzip.compress(data) + gzip.compress(b"more"),
    "zstd": lambda data: SKIPPABLE + zstd.compress(data) + SKIPPABLE + zstd.compress(b"more"),
    "xz": lambda data: lzma.compress(data, preset=1) + bytes(8) + lzma.compress(b"more"),
    "bzip2": lambda data: bz2.compress(data) + bz2.compress(b"more"),
}
ONE = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": functools.partial(lzma.compress, preset=1),
    "bzip2": bz2.compress,
}
WRITTEN = ["gzip", "zstd"]
CONTENTS = [b"", b"a", bytes(3_000_000), random.Random(1).randbytes(1_100_000)]


# The dearest are many times the same.
@functools.cache
def compress(kind, content):
    return COMPRESS[kind](content)


@functools.cache
def text_in_one(kind):
    """Text, so that a flipped bit changes what it means; with a check sum, which zstd adds only where it is told to."""
    text = b" ".join(b"%d" % number for number in random.Random(2).sample(range(10**9), 100_000))
    options = {zstd.CompressionParameter.checksum_flag: 1}
    return zstd.compress(text, options=options) if kind == "zstd" else ONE[kind](text)


def read(content, kind, *, limits=None, size=64 * 1024):
    stream = Decompressed(io.BytesIO(content), kind, name="it", limits=limits)
    buffer, pieces = bytearray(size), []
    while count := stream.readinto(buffer):
        pieces.append(bytes(buffer[:count]))
    return b"".join(pieces)


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("content", CONTENTS, ids=len)
@pytest.mark.parametrize("size", [777, 1024 * 1024])
def test_every_member_or_frame_is_read_to_its_end(kind, content, size):
    compressed = compress(kind, content)
    assert compression_of(compressed[:MAGIC_SIZE]) == kind
    assert read(compressed, kind, size=size) == content + b"more"


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[:-1], "cut short"),
        (lambda whole: whole[: len(whole) // 2], "cut short"),
        (lambda whole: whole + b"x", "something follows"),
        (lambda whole: whole + bytes(512) + b"x", "something follows"),
        (lambda whole: whole + bytes(510) + whole, "something follows"),
        (lambda whole: whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:], "damaged"),
    ],
)
def test_what_is_wrong_with_a_stream_is_said(kind, damage, said):
    with pytest.raises(ArchiveInvalidError, match=said):
        read(damage(text_in_one(kind)), kind)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_bomb_is_refused_before_it_fills_anything(kind):
    bomb = COMPRESS[kind](bytes(4 * 1024 * 1024))
    assert len(read(bomb, kind)) == 4 * 1024 * 1024 + 4  # not so much that it would be one
    with pytest.raises(ArchiveInvalidError, match="more than 200 times its size"):
        read(bomb, kind, limits=Limits(slack=1024 * 1024))
    with pytest.raises(ArchiveInvalidError, match="more than 1000 bytes"):
        read(bomb, kind, limits=Limits(total=1000))


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("zeros", [1, 4, 511, 10_240, 300_000])
def test_zeros_behind_the_end_are_padding(kind, zeros):
    assert read(COMPRESS[kind](b"content") + bytes(zeros), kind) == b"contentmore"


@pytest.mark.parametrize("kind", COMPRESS)
def test_zeros_behind_the_end_come_to_an_end(kind, monkeypatch):
    monkeypatch.setattr("ocistore.archives.compression._PADDING", 1000)
    with pytest.raises(ArchiveInvalidError, match="more than 1000 zero bytes follow the end"):
        read(ONE[kind](b"content") + bytes(300_000), kind)


@pytest.mark.parametrize("option", ["--gzip", "--bzip2", "--xz"])
def test_what_tar_pads_on_its_way_into_a_pipe_is_read(tmp_path, option):
    # As bsdtar does of its own accord: whole records, of zeros behind the end of what is compressed.
    (tmp_path / "file").write_bytes(b"content")
    compressed = subprocess.run(
        ["tar", "-C", tmp_path, option, "-cf", "-", "file"], check=True, capture_output=True
    ).stdout
    kind = option.removeprefix("--")
    assert b"content" in read(compressed + bytes(-len(compressed) % 10_240), kind)


@pytest.mark.parametrize("content", [b"", b"a"])
@pytest.mark.parametrize("kind", COMPRESS)
def test_a_stream_of_parts_with_nothing_in_them_takes_time_by_its_size(kind, content):
    part = ONE[kind](content)
    stream = part * (6_400_000 // len(part))
    began = time.process_time()
    with pytest.raises(ArchiveInvalidError, match="more parts than anybody writes"):
        read(stream, kind)
    assert time.process_time() - began < 4


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_layer_with_a_part_for_each_file_is_read(kind):
    # As layers are written of which single files can be read: more parts than any stream may have.
    generator = random.Random(3)
    files = [generator.randbytes(60) for _ in range(12_000)]
    assert read(b"".join(map(ONE[kind], files)), kind, size=1 << 20) == b"".join(files)


def test_xz_of_a_window_that_needs_more_memory_than_others_is_refused():
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    content = lzma.compress(b"content", filters=filters)
    with pytest.raises(ArchiveInvalidError, match="Memory usage limit"):
        read(content, "xz")


@pytest.mark.parametrize("content", [b"BZh9 is how some texts begin", b"BZhello", b"BZh", b"\xfd7zX", b""])
def test_what_only_begins_like_a_compressed_stream_is_none(content):
    assert compression_of(content) == "none"


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_compressed_comes_out_again_and_is_the_same_every_time(kind):
    def compressed():
        out = bytearray()
        compressor = Compressor(out.extend, kind)
        for content in CONTENTS:
            compressor.write(content)
        compressor.finish()
        return bytes(out)

    assert read(compressed(), kind) == b"".join(CONTENTS)
    assert compressed() == compressed()


def test_what_needs_more_memory_than_it_may_have_is_not_called_damaged(monkeypatch):
    window = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 28})
    with pytest.raises(ArchiveInvalidError, match="needs more memory"):
        read(window.compress(b"x" * 1000) + window.flush(), "zstd")
    monkeypatch.setattr(compression, "_XZ_MEMORY", 1000)
    with pytest.raises(ArchiveInvalidError, match="needs more memory"):
        read(COMPRESS["xz"](b"x" * 1000), "xz")


@pytest.mark.parametrize("size", [0, 1, 1_536, 65_535])
def test_bytes_that_are_only_stored_are_a_gzip_file(size):
    data = bytes(range(256)) * 256
    assert gzip.decompress(stored_gzip(data[:size])) == data[:size]


@pytest.mark.parametrize("module", [None, "isal.isal_zlib"])
def test_gzip_is_written_by_whichever_library_is_there(monkeypatch, module):
    if module is not None and os.environ.get("OCISTORE_REQUIRE_ALL"):
        importlib.import_module(module)
    found = None if module is None else pytest.importorskip(module)
    monkeypatch.setattr(compression, "_isal", lambda: found)
    data = os.urandom(100_000) + b"text " * 100_000
    written = []
    for _ in range(2):
        out = []
        compressor = Compressor(out.append, "gzip")
        for at in range(0, len(data), 70_000):
            compressor.write(data[at : at + 70_000])
        compressor.finish()
        written.append(b"".join(out))
    assert written[0] == written[1], "no time, no name"
    assert gzip.decompress(written[0]) == data
    assert len(written[0]) < 150_000
