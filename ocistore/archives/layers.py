"""The archive in a layer, whatever it is compressed with (media types lie, first bytes do not), read to its end."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Final

from ocistore.archives.compression import MAGIC_SIZE, Decompressed, compression_of
from ocistore.errors import ArchiveInvalidError
from ocistore.oci.digest import Digest, hasher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from ocistore.archives.compression import Limits
    from ocistore.archives.tar import Readable

_AT_ONCE: Final = 1024 * 1024
"""Bytes decompressed at a time. Archives are read 512 bytes at a time, and small steps cost as much as large ones."""


def decompressed(source: io.BufferedReader[Any], *, name: str, limits: Limits | None = None) -> BinaryIO:
    """Return the bytes of a stream that is at its beginning, decompressed where they are compressed.

    Args:
        source: the stream, which stays the caller's to close.
        name: what messages call it.
        limits: how much may come out of it.

    Raises:
        ArchiveInvalidError: the package that zstd needs is not installed; and, while it is read, that the stream is
            damaged or more comes out of it than the limits allow.
    """
    compression = compression_of(source.peek(MAGIC_SIZE)[:MAGIC_SIZE])
    if compression == "none":
        return source
    return io.BufferedReader(Decompressed(source, compression, name=name, limits=limits), _AT_ONCE)


class HashedStream:
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, source: Readable, algorithm: str) -> None:
        """Hash what is read of ``source`` from now on."""
        self._source = source
        self._algorithm = algorithm
        self._state = hasher(algorithm)

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        data = self._source.read(size)
        self._state.update(data)
        return data

    @property
    def digest(self) -> Digest:
        """Of all that was read so far."""
        return Digest.of_hasher(self._state, self._algorithm)


@contextlib.contextmanager
def verified_to_its_end(blob: io.BufferedReader[Any], source: Readable) -> Iterator[None]:
    """Read the archive in a blob inside the block; at its end all bytes were read, and so verified.

    A damaged blob looks like a damaged archive first. Who made it is not to blame for that: the rest of the blob is
    read, too, and where that shows that its bytes are not the right ones, the error says so.

    Args:
        blob: what raises where its bytes turn out not to be those of its digest.
        source: the same, decompressed.
    """
    try:
        yield
        while source.read(_AT_ONCE):
            pass
    except ArchiveInvalidError:
        while blob.read(_AT_ONCE):
            pass
        raise
    while blob.read(_AT_ONCE):
        pass
