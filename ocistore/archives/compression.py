"""Compressed streams: recognised by their first bytes, decompressed in constant memory, and only so far.

A few kilobytes can decompress to petabytes. So everything that is decompressed here is counted against :class:`Limits`,
which speak of the whole stream: its bytes, and how many times more they are than what they were made of.
"""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import re
import sys
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from ocistore.errors import ArchiveInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

Compression: TypeAlias = Literal["none", "gzip", "zstd"]
"""What is written."""
ReadCompression: TypeAlias = Literal["none", "gzip", "zstd", "xz", "bzip2"]
"""What is read."""

GZIP_MAGIC: Final = b"\x1f\x8b"
"""RFC 1952, section 2.3.1."""
XZ_MAGIC: Final = b"\xfd7zXZ\x00"
"""The .xz file format, section 2.1.1.1."""
BZIP2_MAGIC: Final = (b"BZh", b"1AY&SY", b"\x17rE8P\x90")
"""What a bzip2 stream begins with; a digit; and then what its first block does, or its end where it has none."""
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""RFC 8878, section 3.1.1."""
_ZSTD_SKIPPABLE: Final = tuple(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))
"""RFC 8878, section 3.1.2: frames that carry no content; some tools begin their streams with one."""
MAGIC_SIZE: Final = 10

_INPUT: Final = 256 * 1024
"""Bytes read of the compressed stream at once."""
_FIRST_GIVEN: Final = 512
"""Bytes given to a new decompressor, and twice as many each time after. What it leaves over is copied: a stream of tiny
members would otherwise cost a copy of all that was read for each of them."""
_OUTPUT: Final = 1024 * 1024
"""Bytes decompressed at once: what keeps memory constant, whatever the input claims."""
_GZIP_LEVEL: Final = 6
"""What gzip itself and most tools use."""
_ISAL_LEVEL: Final = 2
"""Its own default. Of random bytes it takes 450 MB/s, where zlib takes 35; of text 9.5 GB/s, where zlib takes 300 MB/s,
and three times the room."""
_ZSTD_WINDOW_LOG: Final = 27
"""The largest window that is accepted, 128 MiB: what zstd's own tool accepts unless it is allowed more memory."""
_NEEDS_MEMORY: Final = re.compile(r"too much memory|[Mm]emory usage limit")
"""What zstd and xz say of a stream that is whole, and was written with a larger window."""
_XZ_MEMORY: Final = 144 * 1024 * 1024
"""Bytes that xz may use: the same window, and its tables. ``xz -9`` needs 65 MiB."""
_PADDING: Final = 64 * 1024 * 1024
"""Bytes of zeros after the end. Writers to tapes and pipes pad to blocks, of 10 KiB or what they are asked for."""
_FREE_PARTS: Final = 10_000
_MINIMUM_PART: Final = {"gzip": 48, "zstd": 48, "xz": 1024, "bzip2": 1024}
"""Members or frames that a stream may be made of whatever their size, and bytes that those beyond must have on average.
To begin one costs 5 microseconds, and 40 of xz and bzip2. A layer that can be read at random has one for each file, of
80 bytes or more; what compresses with xz or bzip2 in parallel has one for each 100 KiB or more."""


@dataclass(frozen=True)
class Limits:
    """Limits on what a compressed stream may decompress to."""

    ratio: int = 200
    """Times the bytes that went in. File systems of images compress to a third or a tenth; gzip cannot do better than
    1,032, xz than some 7,000, zstd than some 30,000 and bzip2 than a million, and what comes near that is zeros."""
    slack: int = 256 * 1024 * 1024
    """Bytes that may come out whatever went in: a small stream of zeros is no bomb yet."""
    total: int = 1 << 40
    """Bytes in all: 1 TiB."""


class _Decompressor(Protocol):
    """One gzip member, zstd frame, or xz or bzip2 stream, with the interface of the newer modules."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _DamagedError(Exception):
    """What is given to a decompressor is no stream of its kind."""


class _Gzip:
    def __init__(self) -> None:
        self._state = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._state.eof

    @property
    def needs_input(self) -> bool:
        return not self._state.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._state.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return self._state.decompress(self._state.unconsumed_tail + data, max_length)
        except zlib.error as error:
            raise _DamagedError(str(error)) from error


class _Standard:
    """A decompressor of the standard library that has this interface already."""

    def __init__(self, state: Any, error: type[Exception]) -> None:  # noqa: ANN401 - of three modules
        self._state = state
        self._error = error

    @property
    def eof(self) -> bool:
        return bool(self._state.eof)

    @property
    def needs_input(self) -> bool:
        return bool(self._state.needs_input)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._state.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return bytes(self._state.decompress(data, max_length))
        except self._error as error:
            raise _DamagedError(str(error)) from error


def _new_xz() -> _Decompressor:
    return _Standard(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), lzma.LZMAError)


def _new_bzip2() -> _Decompressor:
    return _Standard(bz2.BZ2Decompressor(), OSError)


def _new_zstd() -> _Decompressor:
    module = zstd()
    options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return _Standard(module.ZstdDecompressor(options=options), module.ZstdError)


def zstd() -> Any:  # noqa: ANN401 - a module, which has other names in other versions of Python
    """Return the module ``compression.zstd`` of Python 3.14, or its backport.

    Raises:
        ArchiveInvalidError: it is not installed.
    """
    try:
        return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError as error:
        raise ArchiveInvalidError("zstd", reason="to read or write it, install ocistore[zstd]") from error


@cache
def _isal() -> Any:  # noqa: ANN401 - a module that need not be there
    """Return what compresses as zlib does, in a fraction of its time; None where it is not installed."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return None


def stored_gzip(data: bytes) -> bytes:
    """Return up to 64 KiB as a gzip file that holds them as they are: the same bytes whichever library is installed.

    RFC 1952, section 2.3; the one block is that of RFC 1951, section 3.2.4.
    """
    head = GZIP_MAGIC + b"\x08" + bytes(6) + b"\xff"
    length = len(data).to_bytes(2, "little")
    block = b"\x01" + length + bytes(byte ^ 0xFF for byte in length) + data
    return head + block + zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")


_NEW: Final[dict[str, Callable[[], _Decompressor]]] = {
    "gzip": _Gzip,
    "zstd": _new_zstd,
    "xz": _new_xz,
    "bzip2": _new_bzip2,
}


def compression_of(beginning: bytes) -> ReadCompression:
    """Return what a stream is compressed with that begins with these bytes, at least :data:`MAGIC_SIZE` of them."""
    if beginning.startswith(GZIP_MAGIC):
        return "gzip"
    if beginning.startswith((ZSTD_MAGIC, *_ZSTD_SKIPPABLE)):
        return "zstd"
    if beginning.startswith(XZ_MAGIC):
        return "xz"
    # Text may begin with BZh, but not continue so.
    magic, block, end = BZIP2_MAGIC
    if beginning.startswith(magic) and b"1" <= beginning[3:4] <= b"9" and beginning[4:].startswith((block, end)):
        return "bzip2"
    return "none"


class Decompressed(io.RawIOBase):
    """The bytes of a compressed file, to be read once, from beginning to end. Closes nothing but itself.

    A stream may be made of any number of members, frames or streams, one after another, and be padded with zeros after
    the last, as what writes to tapes and pipes pads it.
    """

    def __init__(
        self, source: BinaryIO, compression: ReadCompression, *, name: str, limits: Limits | None = None
    ) -> None:
        """Read ``source`` from its position; ``name`` is what messages call it.

        Raises:
            ArchiveInvalidError: the package that it needs is not installed.
        """
        self._source = source
        self._name = name
        self._limits = Limits() if limits is None else limits
        self._new = _NEW[compression]
        self._compression = compression
        self._state = self._new()
        self._given = _FIRST_GIVEN
        self._read = b""
        """What was read of the source last."""
        self._position = 0
        """How much of that was given to a decompressor."""
        self._ended = False
        self._in = self._out = 0
        self._parts = 1

    def readable(self) -> bool:
        """Return True: the stream can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - Buffer has a name from Python 3.12 on
        """Fill the buffer as far as one step of decompressing does; 0 at the end.

        Raises:
            ArchiveInvalidError: the stream is damaged, cut short, followed by something else than zeros, made of too
                many parts for its size, or decompresses to more than the limits allow.
        """
        view = memoryview(buffer).cast("B")
        if not view or self._ended:
            return 0
        data = self._some(min(len(view), _OUTPUT))
        view[: len(data)] = data
        return len(data)

    def _some(self, most: int) -> bytes:
        while True:
            if self._state.eof and not self._next_part():
                self._ended = True
                return b""
            given = b""
            if self._state.needs_input:
                given = self._next_input()
            exhausted = not given and self._state.needs_input  # and yet there may be something left inside
            try:
                data = self._state.decompress(given, most)
            except _DamagedError as error:
                reason = f"the {self._compression} stream is damaged: {error}"
                if _NEEDS_MEMORY.search(str(error)):
                    reason = f"its {self._compression} stream needs more memory than it may have: {error}"
                raise ArchiveInvalidError(self._name, reason=reason) from error
            if self._state.eof:
                self._position -= len(self._state.unused_data)  # which was given last
            self._out += len(data)
            self._check_limits()
            if data:
                return data
            if exhausted and not self._state.eof:
                raise ArchiveInvalidError(self._name, reason=f"the {self._compression} stream is cut short")

    # --- input --------------------------------------------------------------------------------------------------------

    def _next_input(self) -> bytes:
        """Return some of what was read, more each time; none at the end."""
        if self._position == len(self._read):
            self._fill()
        given = self._read[self._position : self._position + self._given]
        self._position += len(given)
        self._given = min(2 * self._given, _INPUT)
        return given

    def _fill(self) -> bool:
        """Read more and append it to what is left. Return whether there was more."""
        more = self._source.read(_INPUT)
        self._in += len(more)
        self._read, self._position = self._read[self._position :] + more, 0
        return bool(more)

    def _next_bytes(self) -> bytes:
        """Return the next bytes, as many as are needed to know what they are; fewer at the end."""
        while len(self._read) - self._position < MAGIC_SIZE and self._fill():
            pass
        return self._read[self._position : self._position + MAGIC_SIZE]

    def _next_part(self) -> bool:
        """Whether another member, frame or stream follows the one that ended."""
        following = self._next_bytes()
        if following.startswith(b"\0"):
            zeros = self._skip_zeros()
            following = self._next_bytes()
            # Some tools read on after zeros and some do not, except for xz, of which they are a part (section 2.2).
            if following and (self._compression != "xz" or zeros % 4):
                raise self._follows()
        if not following:
            return False
        if compression_of(following) != self._compression:
            raise self._follows()
        self._parts += 1
        if self._parts > _FREE_PARTS + self._in // _MINIMUM_PART[self._compression]:
            reason = f"the {self._compression} stream is made of more parts than anybody writes"
            raise ArchiveInvalidError(self._name, reason=reason)
        self._state, self._given = self._new(), _FIRST_GIVEN
        return True

    def _skip_zeros(self) -> int:
        zeros = 0
        while True:
            left = self._read[self._position :]
            there = len(left.lstrip(b"\0"))
            zeros += len(left) - there
            self._position = len(self._read) - there
            if zeros > _PADDING:
                reason = f"more than {_PADDING} zero bytes follow the end of the {self._compression} stream"
                raise ArchiveInvalidError(self._name, reason=reason)
            if there or not self._fill():
                return zeros

    def _follows(self) -> ArchiveInvalidError:
        return ArchiveInvalidError(self._name, reason=f"something follows the end of the {self._compression} stream")

    def _check_limits(self) -> None:
        limits = self._limits
        if self._out > limits.total:
            raise ArchiveInvalidError(self._name, reason=f"it decompresses to more than {limits.total} bytes")
        if self._out > self._in * limits.ratio + limits.slack:
            reason = f"it decompresses to more than {limits.ratio} times its size"
            raise ArchiveInvalidError(self._name, reason=reason)


class Compressor:
    """Compresses what is written, so that the same bytes give the same bytes: no time, no name."""

    def __init__(self, write: Callable[[bytes], object], compression: Compression) -> None:
        """Compress to ``write``, which takes all bytes it is given, or raises.

        Raises:
            ArchiveInvalidError: the package that zstd needs is not installed.
        """
        self._write = write
        self._compress: Callable[[bytes], bytes]
        self._flush: Callable[[], bytes]
        if compression == "gzip":
            module = _isal()
            if module is None:
                state = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
            else:
                state = module.compressobj(_ISAL_LEVEL, zlib.DEFLATED, 31)
            self._compress, self._flush = state.compress, state.flush
        else:
            frame = zstd().ZstdCompressor()
            self._compress, self._flush = frame.compress, frame.flush

    def write(self, data: bytes) -> None:
        """Compress and write."""
        if compressed := self._compress(data):
            self._write(compressed)

    def finish(self) -> None:
        """Write what is left. The compressed stream is complete then."""
        self._write(self._flush())
