"""Compressed streams: recognised by their first bytes, decompressed in constant memory, and only so far.

A few kilobytes can decompress to petabytes. So everything that is decompressed here is counted against :class:`Limits`,
which speak of the whole stream: its bytes, and how many times more they are than what they were made of.
"""

from __future__ import annotations

import importlib
import io
import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from ocistore.errors import ArchiveInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

Compression: TypeAlias = Literal["none", "gzip", "zstd"]

GZIP_MAGIC: Final = b"\x1f\x8b"
"""RFC 1952, section 2.3.1."""
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""RFC 8878, section 3.1.1."""
_ZSTD_SKIPPABLE: Final = tuple(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))
"""RFC 8878, section 3.1.2: frames that carry no content; some tools begin their streams with one."""
MAGIC_SIZE: Final = 4

_INPUT: Final = 256 * 1024
"""Bytes read of the compressed stream at once."""
_OUTPUT: Final = 1024 * 1024
"""Bytes decompressed at once: what keeps memory constant, whatever the input claims."""
_GZIP_LEVEL: Final = 6
"""What gzip itself and most tools use."""
_ZSTD_WINDOW_LOG: Final = 27
"""The largest window that is accepted, 128 MiB: what zstd's own tool accepts unless it is told to use more memory."""


@dataclass(frozen=True)
class Limits:
    """How much may come out of a compressed stream."""

    ratio: int = 200
    """Times the bytes that went in. File systems of images compress to a third or a tenth; gzip cannot do better than
    1,032 and zstd than some 30,000, and what comes near that is zeros."""
    slack: int = 256 * 1024 * 1024
    """Bytes that may come out whatever went in: a small stream of zeros is no bomb yet."""
    total: int = 1 << 40
    """Bytes in all: 1 TiB."""


class _Decompressor(Protocol):
    """One gzip member or zstd frame, with the interface of the newer modules."""

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


class _Zstd:
    def __init__(self) -> None:
        module = zstd()
        self._error = module.ZstdError
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._state = module.ZstdDecompressor(options=options)

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


def zstd() -> Any:  # noqa: ANN401 - a module, which has other names in other versions of Python
    """The module ``compression.zstd`` of Python 3.14, or its backport.

    Raises:
        ArchiveInvalidError: it is not installed.
    """
    try:
        return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError as error:
        raise ArchiveInvalidError("zstd", reason="to read or write it, install ocistore[zstd]") from error


def compression_of(beginning: bytes) -> Compression:
    """What a stream that begins with these bytes, at least :data:`MAGIC_SIZE` of them, is compressed with."""
    if beginning.startswith(GZIP_MAGIC):
        return "gzip"
    if beginning.startswith((ZSTD_MAGIC, *_ZSTD_SKIPPABLE)):
        return "zstd"
    return "none"


class Decompressed(io.RawIOBase):
    """The bytes of a compressed file, to be read once, from beginning to end. Closes nothing but itself."""

    def __init__(self, source: BinaryIO, compression: Compression, *, name: str, limits: Limits | None = None) -> None:
        """Read ``source`` from where it stands; ``name`` is what messages call it.

        Raises:
            ArchiveInvalidError: the package that it needs is not installed.
        """
        self._source = source
        self._name = name
        self._limits = Limits() if limits is None else limits
        self._new: type[_Gzip | _Zstd] = _Gzip if compression == "gzip" else _Zstd
        self._compression = compression
        self._state: _Decompressor = self._new()
        self._waiting = b""
        self._ended = False
        self._in = self._out = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - Buffer has a name from Python 3.12 on
        """Fill the buffer as far as one step of decompressing does; 0 at the end.

        Raises:
            ArchiveInvalidError: the stream is damaged, cut short, followed by something else, or decompresses to more
                than the limits allow.
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
            given, self._waiting = self._waiting, b""
            exhausted = False
            if not given and self._state.needs_input:
                given = self._source.read(_INPUT)
                self._in += len(given)
                exhausted = not given  # and yet there may be something left inside
            try:
                data = self._state.decompress(given, most)
            except _DamagedError as error:
                reason = f"the {self._compression} stream is damaged: {error}"
                raise ArchiveInvalidError(self._name, reason=reason) from error
            self._out += len(data)
            self._check_limits()
            if data:
                return data
            if exhausted and not self._state.eof:
                raise ArchiveInvalidError(self._name, reason=f"the {self._compression} stream is cut short")

    def _next_part(self) -> bool:
        """Whether another member or frame follows the one that ended: both formats are made of any number of them."""
        following = self._state.unused_data + self._waiting
        while len(following) < MAGIC_SIZE and (more := self._source.read(_INPUT)):
            self._in += len(more)
            following += more
        if not following:
            return False
        if compression_of(following) != self._compression:
            reason = f"something follows the end of the {self._compression} stream"
            raise ArchiveInvalidError(self._name, reason=reason)
        self._state, self._waiting = self._new(), following
        return True

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
        """``write`` takes all bytes it is given, or raises.

        Raises:
            ArchiveInvalidError: the package that zstd needs is not installed.
        """
        self._write = write
        self._compress: Callable[[bytes], bytes]
        self._flush: Callable[[], bytes]
        if compression == "gzip":
            state = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
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
