"""Bytes on their way in: written and hashed in one pass, in constant memory, each byte read once.

The bytes that are hashed are the bytes that are written, out of the same buffer: a source that changes while it is read
can give a blob that nobody wanted, but never one that is not what its digest says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ocistore.blobs.output import BLOCK
from ocistore.blobs.sources import open_source
from ocistore.errors import SizeMismatchError
from ocistore.oci.digest import Digest, hasher
from ocistore.threads import Ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.blobs.pool import Source
    from ocistore.blobs.sources import Fill
    from ocistore.oci.digest import Hasher

_SMALL: Final = 64 * 1024
"""Bytes. The first buffer: below malloc's threshold for mapping memory (128 KiB), so a small blob costs no page
faults."""

_BLOCKS: Final = 8
"""How many blocks may wait for the hash: enough to ride out a stall of the disk of some milliseconds."""


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: memoryview, position: int) -> None:
        """Write all of ``data`` at ``position``."""


def ingest(source: bytes | Fill, output: Sink, hasher: Hasher, *, size: int | None) -> int:
    """Write all of ``source`` to ``output``, hash it, and return how many bytes it was.

    With a ``size``, no more than one byte more than that is taken from a source that has to be read.

    Raises:
        SizeMismatchError: there are fewer or more bytes than ``size``.
        StoreFullError, ReadOnlyStoreError, StorageError: they could not be written.
    """
    if isinstance(source, bytes):
        total = len(source)
    else:
        total = _copy(source, output, hasher, limit=None if size is None else size + 1)
    if size is not None and total != size:
        raise SizeMismatchError(expected=size, actual=total)
    if isinstance(source, bytes):
        hasher.update(source)
        output.write(memoryview(source), 0)
    return total


def digest_of_source(source: Source, algorithm: str, *, size: int | None = None) -> tuple[Digest, int]:
    """Read all of a source, write it nowhere, and return its digest and how many bytes it was.

    What reading ``source`` raises is raised unchanged.

    Raises:
        SizeMismatchError: there are fewer or more bytes than ``size``.
        InvalidDigestError: ``algorithm`` is not one this process can compute.
    """
    state = hasher(algorithm)
    with open_source(source) as readable:
        count = ingest(readable, _Nowhere(), state, size=size)
    return Digest.of_hasher(state, algorithm), count


class _Nowhere:
    """What is only hashed is written here."""

    def write(self, data: memoryview, position: int) -> None:
        """Do nothing."""


def _copy(fill: Fill, output: Sink, hasher: Hasher, *, limit: int | None) -> int:
    first = memoryview(bytearray(_SMALL if limit is None else min(_SMALL, limit)))
    total = fill(first)
    hasher.update(first[:total])
    output.write(first[:total], 0)
    if total < len(first) or total == limit:
        return total
    return _copy_beside_hashing(fill, output, hasher, position=total, limit=limit)


def _copy_beside_hashing(fill: Fill, output: Sink, hasher: Hasher, *, position: int, limit: int | None) -> int:
    """Read and write here while a thread hashes: hashlib lets go of the interpreter meanwhile."""
    free: list[memoryview] = []

    def pieces() -> Iterator[memoryview]:
        left = None if limit is None else limit - position
        while left is None or left > 0:
            block = free.pop() if free else memoryview(bytearray(BLOCK))
            room = block if left is None else block[:left]
            count = fill(room)
            if count:
                yield room[:count]
            if count < len(room):
                return
            left = None if left is None else left - count

    # The last piece, which may be the first, is too short to be worth a thread.
    with Ahead(hasher.update, pieces(), beside=_is_whole, threads=1, ahead=_BLOCKS) as ahead:
        for piece, hashed in ahead:
            output.write(piece, position)
            hashed()
            position += len(piece)
            if _is_whole(piece):
                free.append(piece)
    return position


def _is_whole(piece: memoryview) -> bool:
    return len(piece) == BLOCK
