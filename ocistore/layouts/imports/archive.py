"""An archive whose members can be read by name: one in a file, uncompressed, is read in place."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from ocistore.archives.tar import TarReader
from ocistore.blobs import hashing
from ocistore.layouts.imports.members import ArchiveEntry, Members
from ocistore.layouts.imports.source import SMALL
from ocistore.oci.digest import Digest, hasher

if TYPE_CHECKING:
    from ocistore.blobs.pool import Ingester, StagedBlob
    from ocistore.progress import Tally

_READ_AT_ONCE: Final = 64 * 1024
"""Bytes that are read of the archive to find one header after the other."""
_HASHED_AT_ONCE: Final = 1024 * 1024

P = TypeVar("P")


class Files(Protocol[P]):
    """Files by name, and the bytes of each. ``OSError`` where they cannot be read."""

    name: str
    """What messages call all of them."""
    members: Members[P]

    def read(self, entry: ArchiveEntry[P], size: int) -> bytes:
        """Return the first ``size`` bytes of a file, or all of it."""
        ...

    def digest(self, entry: ArchiveEntry[P]) -> Digest:
        """Return what the bytes of a file hash to, by sha256 or what was computed already; or what its name says."""
        ...


class Archive(Files[P], Protocol[P]):
    """All members of an archive."""

    streamed: bool
    """See :attr:`ocistore.layouts.imports.source.Source.streamed`."""

    def verify(self, entry: ArchiveEntry[P], digest: Digest, tally: Tally) -> None:
        """Compare a file with a digest; raises DigestMismatchError or SizeMismatchError."""
        ...

    def stage(self, pool: Ingester, entry: ArchiveEntry[P], digest: Digest, tally: Tally) -> StagedBlob:
        """Stage a file, verified; raises as :meth:`ocistore.layouts.imports.source.Source.stage` does."""
        ...

    def changed(self) -> str:
        """See :meth:`ocistore.layouts.imports.source.Source.changed`."""
        ...

    def close(self) -> None:
        """See :meth:`ocistore.layouts.imports.source.Source.close`."""
        ...


class ArchiveFile:
    """An uncompressed archive in a file: the headers are read once, and then each member where it is."""

    streamed = False

    def __init__(self, descriptor: int, *, name: str) -> None:
        """Read the headers. Takes over ``descriptor``, also where this raises.

        Raises:
            ArchiveInvalidError: it is damaged, or has members that are refused; see :class:`Members`.
            OSError: it could not be read.
        """
        self.name = name
        self.members: Members[int] = Members(name)
        """Each with the offset of its bytes."""
        self._file = io.BufferedReader(io.FileIO(descriptor), _READ_AT_ONCE)
        self._descriptor = descriptor
        self._opened = self._version()
        try:
            for member in TarReader(self._file, name=name, seek=self._file):
                self.members.add(self.members.accept(member), member, member.offset)
            self.members.check(self.digest)
        except BaseException:
            self._file.close()
            raise

    def read(self, entry: ArchiveEntry[int], size: int) -> bytes:
        """Return the beginning of a member."""
        offset, left = _offset(entry), min(size, entry.size)
        content = bytearray()
        while left and (piece := os.pread(self._descriptor, left, offset + len(content))):
            content += piece
            left -= len(piece)
        return bytes(content)

    def digest(self, entry: ArchiveEntry[int]) -> Digest:
        """Hash a member."""
        state = hasher("sha256")
        piece = _Slice(self._descriptor, _offset(entry), entry.size, None)
        buffer = memoryview(bytearray(_HASHED_AT_ONCE))
        while count := piece.readinto(buffer):
            state.update(buffer[:count])
        return Digest.of_hasher(state, "sha256")

    def verify(self, entry: ArchiveEntry[int], digest: Digest, tally: Tally) -> None:
        """Hash a member, and compare."""
        hashing.verify(self._descriptor, digest, entry.size, offset=_offset(entry), progress=tally.add)

    def stage(self, pool: Ingester, entry: ArchiveEntry[int], digest: Digest, tally: Tally) -> StagedBlob:
        """Copy a member."""
        if entry.size <= SMALL:
            return pool.stage(self.read(entry, entry.size), digest=digest, size=entry.size)
        piece = _Slice(self._descriptor, _offset(entry), entry.size, tally)
        return pool.stage(piece, digest=digest, size=entry.size)

    def changed(self) -> str:
        """Return how the file was changed since it was opened; empty where it was not."""
        return "" if self._version() == self._opened else "the archive was changed while it was read"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _version(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


def _offset(entry: ArchiveEntry[int]) -> int:
    assert entry.place is not None  # every file was added with one
    return entry.place


class _Slice(io.RawIOBase):
    """A part of a file, to be read once, from its beginning to its end. Moves nothing in the file."""

    def __init__(self, descriptor: int, offset: int, size: int, tally: Tally | None) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._left = size
        self._tally = tally

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - Buffer has a name from Python 3.12 on
        view = memoryview(buffer)[: self._left]
        count = os.preadv(self._descriptor, [view], self._offset) if view else 0
        self._offset += count
        self._left -= count
        if count and self._tally is not None:
            self._tally.add(count)
        return count
