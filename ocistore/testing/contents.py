"""What a pool in memory keeps: bytes that never change, read as a file without a descriptor."""

from __future__ import annotations

import io
import itertools
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from ocistore.pools import BlobReader, UnpublishedFile

if TYPE_CHECKING:
    from ocistore.oci.digest import Digest


def now() -> int:
    """Return the milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class MemoryContent:
    """Bytes that never change, wherever they are at the moment."""

    _identities = itertools.count(1)

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.identity = next(self._identities)
        self.changed = now()

    def unpublished(self, name: str, *, may_be_published: bool = False) -> UnpublishedFile:
        """Return what a listing says of it."""
        return UnpublishedFile(name, len(self.data), self.changed, self.identity, may_be_published)


class MemoryBlob:
    """What the pool staged."""

    def __init__(self, digest: Digest, content: MemoryContent, *, session: str | None = None) -> None:
        self.digest = digest
        self.size = len(content.data)
        self.name = secrets.token_hex(16)
        self.content: MemoryContent | None = content
        """None once it was discarded."""
        self.session = session
        """Of which upload session it is all the bytes."""


class Buffer:
    """What :func:`ingest` writes to."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: memoryview, position: int) -> None:
        """Write all of ``data`` at ``position``."""
        self.data[position : position + len(data)] = data


class _Bytes(io.RawIOBase):
    """A file in memory, without a descriptor."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - Buffer has a name from Python 3.12 on
        return self._file.readinto(buffer)

    def readall(self) -> bytes:
        return self._file.read()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def reader_of(data: bytes, digest: Digest | None = None) -> BlobReader:
    """Return a reader of some bytes, verified as they are read where there is a digest."""
    return BlobReader(_Bytes(data), len(data), digest=digest)
