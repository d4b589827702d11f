"""An archive that can be read but once, from beginning to end: what may be needed is staged as it comes by.

What that is cannot be known before the end, where many tools write ``index.json``. So every blob is staged, hashed
while it is written, and refused at once where its bytes are not its name's; every other file is staged too, because
Docker's archives call their layers anything. What turns out not to be needed is discarded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from ocistore.archives.tar import TarReader
from ocistore.errors import (
    ArchiveInvalidError,
    DigestMismatchError,
    SizeMismatchError,
    StoreBusyError,
)
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, NotPlainError
from ocistore.layouts.imports.docker import MANIFEST_JSON, MAXIMUM_MANIFEST_JSON_SIZE
from ocistore.layouts.imports.members import ArchiveEntry, Members, digest_in
from ocistore.layouts.imports.source import SMALL
from ocistore.layouts.index import MAXIMUM_INDEX_SIZE, MAXIMUM_LAYOUT_FILE_SIZE
from ocistore.oci.digest import Digest, hasher
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocistore.archives.tar import Member, Readable
    from ocistore.blobs.pool import Ingester, Pool, StagedBlob
    from ocistore.blobs.reader import BlobReader
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


@dataclass(frozen=True, slots=True)
class _Held:
    """A blob that the store has: it came by, was found to be right, and was not written."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class _Broken:
    """A blob that came by, and was not what its name says: it is an error where it is needed."""

    error: DigestMismatchError

    @property
    def digest(self) -> Digest:
        """What its bytes hashed to."""
        return Digest.parse(self.error.actual)


_Place: TypeAlias = "bytes | StagedBlob | _Held | _Broken"


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
        self.name = name
        self.members: Members[_Place] = Members(name)
        self._pool = pool
        self._is_held = held
        self._staged: list[StagedBlob] = []
        self._room = _KEPT
        self._reader = TarReader(stream, name=name)
        try:
            for member in self._reader:
                accepted = self.members.accept(member)
                place = self._arrived(accepted, member) if member.kind == "file" and accepted else None
                self.members.add(accepted, member, place)
            self.members.check(self.digest)
        except BaseException:
            self.close()
            raise

    def read(self, entry: ArchiveEntry[_Place], size: int) -> bytes:
        """Return the beginning of a file that came by; raise NotPlainError where it was not what its name says."""
        place = _place(entry)
        if isinstance(place, bytes):
            return place[:size]
        if isinstance(place, _Broken):
            raise NotPlainError(str(place.error))
        with self._opened(place) as reader:
            return reader.read(size)

    def digest(self, entry: ArchiveEntry[_Place]) -> Digest:
        """Return the digest of a file, computed when it came by."""
        place = _place(entry)
        return Digest.of(place) if isinstance(place, bytes) else place.digest

    def verify(self, entry: ArchiveEntry[_Place], digest: Digest, tally: Tally) -> None:
        """Compare that; where a link has the name of another algorithm, the bytes that were staged."""
        place = _place(entry)
        if isinstance(place, _Broken):
            raise place.error
        if isinstance(place, bytes):
            actual = Digest.of(place, digest.algorithm)
        elif place.digest.algorithm == digest.algorithm:
            actual = place.digest
        else:
            actual = self._digest_by(place, digest.algorithm)
        if actual != digest:
            raise DigestMismatchError(expected=digest, actual=actual)
        tally.add(entry.size)

    def stage(self, pool: Ingester, entry: ArchiveEntry[_Place], digest: Digest, tally: Tally) -> StagedBlob:
        """Return the blob that was staged when it came by."""
        place = _place(entry)
        self.verify(entry, digest, tally)
        if isinstance(place, bytes):
            return pool.stage(place, digest=digest, size=entry.size)
        assert not isinstance(place, _Broken)  # which is never verified
        if place.digest == digest:
            if isinstance(place, _Held):
                raise _collected(digest)
            return place
        with self._opened(place) as reader:
            return pool.stage(reader, digest=digest, size=entry.size)

    def _opened(self, place: StagedBlob | _Held) -> BlobReader:
        if not isinstance(place, _Held):
            return self._pool.open_staged(place)
        try:
            return self._pool.open(place.digest, place.size)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            raise _collected(place.digest) from error

    def _digest_by(self, place: StagedBlob | _Held, algorithm: str) -> Digest:
        state = hasher(algorithm)
        with self._opened(place) as reader:
            while piece := reader.read(_READ_AT_ONCE):
                state.update(piece)
        return Digest.of_hasher(state, algorithm)

    def changed(self) -> str:
        """Return the empty string: it was read once, so nothing can have changed."""
        return ""

    def close(self) -> None:
        """Discard all that was staged."""
        self._pool.discard(self._staged)
        self._staged = []

    # --- as they come -------------------------------------------------------------------------------------------------

    def _arrived(self, name: str, member: Member) -> _Place:
        maximum = _IN_MEMORY.get(name)
        if maximum is not None:
            return self._in_memory(member, maximum)
        digest = digest_in(name)
        if digest is None and member.size <= min(SMALL, self._room):
            self._room -= member.size
            return b"".join(self._content())
        try:
            if digest is not None and member.size > SMALL and self._is_held(digest, member.size):
                self._verify(digest)
                return _Held(digest, member.size)
            staged = self._pool.stage(self._content(), digest=digest, size=member.size)
        except DigestMismatchError as error:
            return _Broken(error)
        except SizeMismatchError as error:
            raise ArchiveInvalidError(self.name, member=member.name, reason=str(error)) from error
        self._staged.append(staged)
        return staged

    def _content(self) -> Iterator[bytes]:
        """Yield the bytes of the member that the reader is at."""
        while piece := self._reader.read(_READ_AT_ONCE):
            yield piece

    def _in_memory(self, member: Member, maximum: int) -> bytes:
        if member.size > maximum:
            raise ArchiveInvalidError(self.name, member=member.name, reason=f"it is larger than {maximum} bytes")
        return b"".join(self._content())

    def _verify(self, digest: Digest) -> None:
        state = hasher(digest.algorithm)
        for piece in self._content():
            state.update(piece)
        actual = Digest.of_hasher(state, digest.algorithm)
        if actual != digest:
            raise DigestMismatchError(expected=digest, actual=actual)


def _place(entry: ArchiveEntry[_Place]) -> _Place:
    assert entry.place is not None  # every file was added with one
    return entry.place


def _collected(digest: Digest) -> StoreBusyError:
    return StoreBusyError(digest, waited=0.0, reason="garbage collection removed it; try again")
