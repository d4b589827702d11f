"""Compressed streams: whole, in constant memory, or an error that says what is wrong."""

import gzip
import io
import random

import pytest
from backports import zstd

from ocistore import ArchiveInvalidError
from ocistore.archives.compression import Compressor, Decompressed, Limits, compression_of

SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
COMPRESS = {
    "gzip": lambda data: gzip.compress(data) + gzip.compress(b"more"),
    "zstd": lambda data: SKIPPABLE + zstd.compress(data) + SKIPPABLE + zstd.compress(b"more"),
}
CONTENTS = [b"", b"a", bytes(3_000_000), random.Random(1).randbytes(1_500_000)]


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
    compressed = COMPRESS[kind](content)
    assert compression_of(compressed[:4]) == kind
    assert read(compressed, kind, size=size) == content + b"more"


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[:-1], "cut short"),
        (lambda whole: whole[: len(whole) // 2], "cut short"),
        (lambda whole: whole + b"x", "something follows"),
        (lambda whole: whole + bytes(512), "something follows"),
        (lambda whole: whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:], "damaged"),
    ],
)
def test_what_is_wrong_with_a_stream_is_said(kind, damage, said):
    # Text, so that a flipped bit changes what it means; with a check sum, which zstd adds only where it is told to.
    text = b" ".join(b"%d" % number for number in random.Random(2).sample(range(10**9), 100_000))
    options = {zstd.CompressionParameter.checksum_flag: 1}
    whole = gzip.compress(text) if kind == "gzip" else zstd.compress(text, options=options)
    with pytest.raises(ArchiveInvalidError, match=said):
        read(damage(whole), kind)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_bomb_is_refused_before_it_fills_anything(kind):
    bomb = COMPRESS[kind](bytes(64 * 1024 * 1024))
    assert len(read(bomb, kind)) == 64 * 1024 * 1024 + 4  # not so much that it would be one
    with pytest.raises(ArchiveInvalidError, match="more than 200 times its size"):
        read(bomb, kind, limits=Limits(slack=1024 * 1024))
    with pytest.raises(ArchiveInvalidError, match="more than 1000 bytes"):
        read(bomb, kind, limits=Limits(total=1000))


@pytest.mark.parametrize("kind", COMPRESS)
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
