"""An archive whose members can be read by name: one in a file, uncompressed, is read in place."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Final

from ocistore.archives.tar import TarReader
from ocistore.blobs import hashing
from ocistore.layouts.imports.members import Members
from ocistore.layouts.imports.source import SMALL, SourceFile
from ocistore.oci.digest import Digest, hasher

if TYPE_CHECKING:
    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.progress import Tally

_READ_AT_ONCE: Final = 64 * 1024
"""Bytes that are read of the archive to find one header after the other."""
_HASHED_AT_ONCE: Final = 1024 * 1024


class ArchiveFile:
    """An uncompressed archive in a file: the headers are read once, and then each member where it is."""

    streamed = False

    def __init__(self, descriptor: int, *, name: str) -> None:
        """Read the headers. Takes over ``descriptor``, also where this raises.

        Raises:
            ArchiveInvalidError: it is damaged, or has members that are refused; see :class:`Members`.
            OSError: it could not be read.
        """
        self.members = Members(name)
        self._file = io.BufferedReader(io.FileIO(descriptor), _READ_AT_ONCE)
        self._descriptor = descriptor
        self._opened = self._version()
        try:
            for member in TarReader(self._file, name=name, seek=self._file):
                accepted = self.members.accept(member)
                is_file = member.kind == "file"
                file = _ArchivedFile(descriptor, member.offset, member.size) if is_file else None
                self.members.add(accepted, member, file)
            self.members.check()
        except BaseException:
            self._file.close()
            raise

    def changed(self) -> str:
        """Return how the file was changed since it was opened; empty where it was not."""
        return "" if self._version() == self._opened else "the archive was changed while it was read"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _version(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


class _ArchivedFile(SourceFile):
    """A part of a file, copied or hashed where it is."""

    __slots__ = ("_descriptor", "_offset", "_size")

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._size = size

    def size(self) -> int:
        return self._size

    def read(self, size: int) -> bytes:
        left = min(size, self._size)
        content = bytearray()
        while left and (piece := os.pread(self._descriptor, left, self._offset + len(content))):
            content += piece
            left -= len(piece)
        return bytes(content)

    def digest(self) -> Digest:
        state = hasher("sha256")
        piece = _Slice(self._descriptor, self._offset, self._size, None)
        buffer = memoryview(bytearray(_HASHED_AT_ONCE))
        while count := piece.readinto(buffer):
            state.update(buffer[:count])
        return Digest.of_hasher(state, "sha256")

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        self.require_size(size)
        hashing.verify(self._descriptor, digest, size, offset=self._offset, progress=tally.add)

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:  # noqa: ARG002 - a part of a file cannot be shared
        self.require_size(size)
        if size <= SMALL:
            return pool.stage(self.read(size), digest=digest, size=size)
        return pool.stage(_Slice(self._descriptor, self._offset, size, tally), digest=digest, size=size)


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
