"""What an import reads from, whatever its form: a few small files by name, and blobs by digest.

Each of these is a :class:`SourceFile`, which knows where its bytes are, and reads, verifies and stages itself.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final, Protocol

from ocistore.errors import DigestMismatchError, SizeMismatchError
from ocistore.oci.digest import Digest

if TYPE_CHECKING:
    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.layouts.index import Damaged
    from ocistore.progress import Tally

SMALL: Final = 64 * 1024
"""Bytes. What is not larger is read at once and staged from memory, which saves half of the system calls."""


class SourceFile(abc.ABC):
    """A file in a source, found and not yet read.

    Where it does not exist any more, methods raise ``FileNotFoundError``; where it is something else than a plain file,
    :class:`ocistore.layouts.directory.NotPlainError`; where it cannot be read, ``OSError``.
    """

    __slots__ = ()

    @abc.abstractmethod
    def size(self) -> int:
        """Return its size in bytes, without reading it."""

    @abc.abstractmethod
    def read(self, size: int) -> bytes:
        """Return its first ``size`` bytes, or all where there are fewer; unverified."""

    @abc.abstractmethod
    def digest(self) -> Digest:
        """Return what its bytes hash to, by sha256 or what was computed already; or what its name says."""

    @abc.abstractmethod
    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Compare its bytes with a digest and a size.

        Raises:
            DigestMismatchError, SizeMismatchError: it is not that.
        """

    @abc.abstractmethod
    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:
        """Stage it, verified.

        Raises:
            DigestMismatchError, SizeMismatchError: it is not that; nothing stays staged.
            StoreFullError, StorageError: it could not be written, or not be linked where ``mode`` asks for that.
            StoreBusyError: the store had it, so that it was not written, and has it no longer.
        """

    def require_size(self, size: int) -> None:
        """Raise SizeMismatchError where it has another size."""
        if self.size() != size:
            raise SizeMismatchError(expected=size, actual=self.size())


class InMemory(SourceFile):
    """A file whose bytes are held in memory."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def size(self) -> int:
        """Return its size in bytes."""
        return len(self._content)

    def read(self, size: int) -> bytes:
        """Return its beginning."""
        return self._content[:size]

    def digest(self) -> Digest:
        """Hash it."""
        return Digest.of(self._content)

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Hash it, and compare."""
        self.require_size(size)
        actual = Digest.of(self._content, digest.algorithm)
        if actual != digest:
            raise DigestMismatchError(expected=digest, actual=actual)
        tally.add(size)

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:  # noqa: ARG002 - there is nothing to share, and it is done at once
        """Write it, whatever the mode."""
        return pool.stage(self._content, digest=digest, size=size)


class Source(Protocol):
    """An OCI layout, or what is read as one, that is open. Its methods raise as those of :class:`SourceFile`."""

    name: str
    """What messages call it."""
    streamed: bool
    """Whether all of it was read, and reported as progress, when it was opened, so that nothing can be read again."""
    has_files: bool
    """Whether each blob is a file of its own, which can be linked."""
    left_out: tuple[str, ...]
    """What something in it describes, and its index does not list; each a line for a report."""
    damaged: tuple[Damaged, ...]
    """What something in it describes, and its index does not list because it is wrong in itself."""

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return a file of the top level: ``oci-layout`` or ``index.json``.

        Refuse one larger than ``maximum`` bytes.
        """
        ...

    def blob(self, digest: Digest) -> SourceFile:
        """Return the file with the content of a digest. Where there is none, this raises, or what it returns does."""
        ...

    def changed(self) -> str:
        """Return what was changed since it was opened, as far as can be seen; empty where nothing was."""
        ...

    def close(self) -> None:
        """Close what is open, and discard what was staged. Calling it again does nothing."""
        ...


class SourceOver:
    """A source that is another one, except for what a class derived from this finds elsewhere."""

    def __init__(self, source: Source) -> None:
        """Read from ``source``, and close it when this is closed."""
        self.name = source.name
        self.streamed = source.streamed
        self.has_files = source.has_files
        self.left_out = source.left_out
        self.damaged = source.damaged
        self._source = source

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return a file of the source."""
        return self._source.read(name, maximum=maximum)

    def blob(self, digest: Digest) -> SourceFile:
        """Return a blob of the source."""
        return self._source.blob(digest)

    def changed(self) -> str:
        """Return what was changed in the source."""
        return self._source.changed()

    def close(self) -> None:
        """Close the source."""
        self._source.close()
