"""An archive that can be read but once, from beginning to end: what may be needed is staged as it comes by.

What that is cannot be known before the end, where many tools write ``index.json``. So every blob is staged, hashed
while it is written, and refused at once where its bytes are not its name's; every other file is staged too, because
Docker's archives call their layers anything. What turns out not to be needed is discarded.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final

from ocistore.archives.tar import TarReader
from ocistore.errors import (
    ArchiveInvalidError,
    DigestMismatchError,
    SizeMismatchError,
    StoreBusyError,
)
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, NotPlainError
from ocistore.layouts.imports.docker import MANIFEST_JSON, MAXIMUM_MANIFEST_JSON_SIZE
from ocistore.layouts.imports.members import Members, digest_in
from ocistore.layouts.imports.source import SMALL, InMemory, SourceFile
from ocistore.layouts.index import MAXIMUM_INDEX_SIZE, MAXIMUM_LAYOUT_FILE_SIZE
from ocistore.oci.digest import Digest, hasher
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocistore.archives.tar import Member, Readable
    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.reader import BlobReader
    from ocistore.blobs.sharing import TransferMode
    from ocistore.progress import Tally

_IN_MEMORY: Final = {
    OCI_LAYOUT: MAXIMUM_LAYOUT_FILE_SIZE,
    INDEX_JSON: MAXIMUM_INDEX_SIZE,
    MANIFEST_JSON: MAXIMUM_MANIFEST_JSON_SIZE,
}
_KEPT: Final = 16 * 1024 * 1024
"""Bytes of small files that are no blobs and yet kept in memory: Docker's archives once had three to a layer, and to
write and remove a file costs more than all else that is done about it."""
_READ_AT_ONCE: Final = 1024 * 1024


class ArchiveStream:
    """An archive that was read to its end."""

    streamed = True

    def __init__(self, stream: Readable, pool: Pool, *, name: str, held: Callable[[Digest, int], bool]) -> None:
        """Read all of it. Whatever is raised, nothing stays staged.

        Args:
            stream: the archive, decompressed.
            pool: where to stage.
            name: what messages call it.
            held: whether the store has a blob of that digest and size.

        Raises:
            ArchiveInvalidError: it is damaged, or has members that are refused.
            StoreFullError, StorageError, ReadOnlyStoreError: it could not be staged.
            OSError: it could not be read.
        """
        self.members = Members(name)
        self._pool = pool
        self._is_held = held
        self._staged: list[StagedBlob] = []
        self._room = _KEPT
        self._reader = TarReader(stream, name=name)
        try:
            for member in self._reader:
                accepted = self.members.accept(member)
                file = self._arrived(accepted, member) if member.kind == "file" and accepted else None
                self.members.add(accepted, member, file)
            self.members.check()
        except BaseException:
            self.close()
            raise

    def changed(self) -> str:
        """Return the empty string: it was read once, so nothing can have changed."""
        return ""

    def close(self) -> None:
        """Discard all that was staged."""
        self._pool.discard(self._staged)
        self._staged = []

    # --- as they come -------------------------------------------------------------------------------------------------

    def _arrived(self, name: str, member: Member) -> SourceFile:
        maximum = _IN_MEMORY.get(name)
        if maximum is not None:
            return self._in_memory(member, maximum)
        digest = digest_in(name)
        if digest is None and member.size <= min(SMALL, self._room):
            self._room -= member.size
            return InMemory(b"".join(self._content()))
        try:
            if digest is not None and member.size > SMALL and self._is_held(digest, member.size):
                self._verify(digest)
                return _Held(self._pool, digest, member.size)
            staged = self._pool.stage(self._content(), digest=digest, size=member.size)
        except DigestMismatchError as error:
            return _Broken(error, member.size)
        except SizeMismatchError as error:
            raise ArchiveInvalidError(self.members.name, member=member.name, reason=str(error)) from error
        self._staged.append(staged)
        return _Staged(self._pool, staged)

    def _content(self) -> Iterator[bytes]:
        """Yield the bytes of the member that the reader is at."""
        while piece := self._reader.read(_READ_AT_ONCE):
            yield piece

    def _in_memory(self, member: Member, maximum: int) -> InMemory:
        if member.size > maximum:
            raise ArchiveInvalidError(
                self.members.name, member=member.name, reason=f"it is larger than {maximum} bytes"
            )
        return InMemory(b"".join(self._content()))

    def _verify(self, digest: Digest) -> None:
        state = hasher(digest.algorithm)
        for piece in self._content():
            state.update(piece)
        actual = Digest.of_hasher(state, digest.algorithm)
        if actual != digest:
            raise DigestMismatchError(expected=digest, actual=actual)


class _Arrived(SourceFile):
    """A blob that came by, and was hashed."""

    def __init__(self, pool: Pool, digest: Digest, size: int) -> None:
        self._pool = pool
        self._digest = digest
        self._size = size

    @abc.abstractmethod
    def _opened(self) -> BlobReader:
        """Open it to be read again."""

    @abc.abstractmethod
    def _itself(self) -> StagedBlob:
        """Return what was staged, or say that there is nothing."""

    def size(self) -> int:
        return self._size

    def read(self, size: int) -> bytes:
        with self._opened() as reader:
            return reader.read(size)

    def digest(self) -> Digest:
        return self._digest

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Compare the digest; where a link has the name of another algorithm, the bytes."""
        self.require_size(size)
        actual = self._digest if self._digest.algorithm == digest.algorithm else self._digest_by(digest.algorithm)
        if actual != digest:
            raise DigestMismatchError(expected=digest, actual=actual)
        tally.add(size)

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:  # noqa: ARG002 - it is a copy
        """Return what was staged when it came by."""
        self.verify(digest, size, tally)
        if self._digest == digest:
            return self._itself()
        with self._opened() as reader:
            return pool.stage(reader, digest=digest, size=size)

    def _digest_by(self, algorithm: str) -> Digest:
        state = hasher(algorithm)
        with self._opened() as reader:
            while piece := reader.read(_READ_AT_ONCE):
                state.update(piece)
        return Digest.of_hasher(state, algorithm)


class _Staged(_Arrived):
    """One that was staged."""

    def __init__(self, pool: Pool, staged: StagedBlob) -> None:
        super().__init__(pool, staged.digest, staged.size)
        self._staged = staged

    def _opened(self) -> BlobReader:
        return self._pool.open_staged(self._staged)

    def _itself(self) -> StagedBlob:
        return self._staged


class _Held(_Arrived):
    """One that the store has: it was found to be right, and was not written."""

    def _opened(self) -> BlobReader:
        try:
            return self._pool.open(self._digest, self._size)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            raise _collected(self._digest) from error

    def _itself(self) -> StagedBlob:
        raise _collected(self._digest)


class _Broken(SourceFile):
    """A blob that came by, and was not what its name says: it is an error where it is needed."""

    def __init__(self, error: DigestMismatchError, size: int) -> None:
        self._error = error
        self._size = size

    def size(self) -> int:
        return self._size

    def read(self, size: int) -> bytes:  # noqa: ARG002 - there is nothing to be read
        raise NotPlainError(str(self._error))

    def digest(self) -> Digest:
        """Return what its bytes hashed to."""
        return Digest.parse(self._error.actual)

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:  # noqa: ARG002 - it was seen to be wrong
        self.require_size(size)
        raise self._error

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:  # noqa: ARG002 - it was seen to be wrong
        self.require_size(size)
        raise self._error


def _collected(digest: Digest) -> StoreBusyError:
    return StoreBusyError(digest, waited=0.0, reason="garbage collection removed it; try again")
