"""A pool in memory: all roles of :class:`ocistore.pools.Pool`, and nothing that only files can do.

::

    pool = MemoryPool()
    with Store.open(directory, pool=pool) as store:
        ...

The catalog is in the directory, the content in the pool: it lasts as long as the object, so a store that is opened
again in the same process needs the same one. Safe for any number of threads. A forked child has a copy of its own, and
other processes have none: it is for tests.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import weakref
from typing import TYPE_CHECKING, Final

from ocistore.errors import (
    CorruptError,
    DigestMismatchError,
    StorageError,
)
from ocistore.forks import ForkSafeLock
from ocistore.oci.digest import Digest, hasher
from ocistore.pools import Pool, PublishedFile, UnpublishedFile, ingest, no_count, open_source
from ocistore.testing.contents import Buffer, MemoryBlob, MemoryContent, now, reader_of
from ocistore.testing.memoryuploads import MemorySession, MemoryUploads, NewSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from ocistore.pools import BlobReader, Count, Source, StagedBlob

_BLOCK: Final = 1024 * 1024
"""Bytes that are hashed between two counts."""


class MemoryPool(Pool):
    """A pool in memory."""

    def __init__(self) -> None:
        self.identity = f"memory:{secrets.token_hex(8)}"
        self._mutex = ForkSafeLock()
        self._published: dict[Digest, MemoryContent] = {}
        self._staged: weakref.WeakValueDictionary[str, MemoryBlob] = weakref.WeakValueDictionary()
        self._left: dict[str, MemoryBlob] = {}
        """Staged, and discarded after :meth:`leave`."""
        self._trash: dict[str, MemoryContent] = {}
        self._quarantine: dict[str, MemoryContent] = {}
        self._sessions: dict[str, MemorySession] = {}
        self._uploads = MemoryUploads(self._sessions, self._mutex, self._stage)
        self._sweeper = _Sweeper(self)

    def __repr__(self) -> str:
        return f"<MemoryPool {self.identity}>"

    @property
    def uploads(self) -> MemoryUploads:
        """The upload sessions."""
        return self._uploads

    @property
    def sweeper(self) -> _Sweeper:
        """What lists and removes."""
        return self._sweeper

    def close(self) -> None:
        """Do nothing: the content lasts as long as this object."""

    # --- Provider -----------------------------------------------------------------------------------------------------

    def has_algorithm(self, algorithm: str) -> bool:
        """Whether anything of that algorithm is published."""
        with self._mutex:
            return any(digest.algorithm == algorithm for digest in self._published)

    def size(self, digest: Digest) -> int | None:
        """Return the number of bytes that are found by that digest; None where there are none."""
        content = self._published.get(digest)
        return None if content is None else len(content.data)

    def has(self, digest: Digest, size: int) -> bool:
        """Whether that many bytes are found by that digest."""
        return self.size(digest) == size

    def open(self, digest: Digest, size: int, *, verify: bool = False) -> BlobReader:
        """Return a reader of the bytes, whose ``fileno()`` raises ``io.UnsupportedOperation``.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: there are fewer or more; and later, with ``verify``, they are not the right ones.
        """
        return reader_of(self._content(digest, size), digest if verify else None)

    def read(self, digest: Digest, size: int) -> bytes:
        """Return all the bytes.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: there are fewer or more.
        """
        return self._content(digest, size)

    def hash(self, digest: Digest, *, fresh: bool = False, progress: Count = no_count) -> tuple[Digest, int]:  # noqa: ARG002 - nothing is cached
        """Return what the bytes hash to and their number.

        Raises:
            FileNotFoundError: there are none.
        """
        data = self._content(digest, None)
        state = hasher(digest.algorithm)
        for begin in range(0, len(data), _BLOCK):
            block = data[begin : begin + _BLOCK]
            state.update(block)
            progress(len(block))
        return Digest.of_hasher(state, digest.algorithm), len(data)

    def _content(self, digest: Digest, size: int | None) -> bytes:
        content = self._published.get(digest)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"blob {digest}")
        if size is not None and len(content.data) != size:
            raise CorruptError(f"blob {digest}", reason=f"it has {len(content.data)} bytes, not {size}")
        return content.data

    # --- Ingester -----------------------------------------------------------------------------------------------------

    def stage(
        self,
        source: Source,
        *,
        digest: Digest | None = None,
        size: int | None = None,
        algorithm: str = "sha256",
    ) -> MemoryBlob:
        """Keep the bytes of ``source`` apart; see :meth:`Ingester.stage`.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those that were announced.
            InvalidDigestError: ``algorithm`` is not one this process can compute.
            TypeError: ``source`` is nothing a blob can be read from, or gave something other than bytes.
        """
        if digest is not None:
            algorithm = digest.algorithm
        state = hasher(algorithm)
        buffer = Buffer()
        with open_source(source) as readable:
            ingest(readable, buffer, state, size=size)
        found = Digest.of_hasher(state, algorithm)
        if digest is not None and found != digest:
            raise DigestMismatchError(expected=digest, actual=found)
        return self._stage(MemoryBlob(found, MemoryContent(bytes(buffer.data))))

    def _stage(self, blob: MemoryBlob) -> MemoryBlob:
        with self._mutex:
            self._staged[blob.name] = blob
        return blob

    def publish(self, staged: Sequence[StagedBlob]) -> None:
        """Let the bytes of all of them be found by their digests, at once.

        Raises:
            StorageError: one of them was discarded.
        """
        blobs = [_own(blob) for blob in staged]
        with self._mutex:
            contents = {blob.digest: _staged_content(blob) for blob in blobs}
            for content in contents.values():
                content.changed = now()
            self._published |= contents

    def holds(self, blob: StagedBlob) -> bool:
        """Whether bytes of its size are found by the digest of ``blob``."""
        own = _own(blob)
        return self.has(own.digest, own.size)

    def withdraw(self, blob: StagedBlob) -> None:
        """Let what ``blob`` published be found no more."""
        own = _own(blob)
        with self._mutex:
            if own.content is not None and self._published.get(own.digest) is own.content:
                del self._published[own.digest]

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Give up what was staged, and the upload sessions it was staged from."""
        for each in staged:
            blob = _own(each)
            with self._mutex:
                self._staged.pop(blob.name, None)
                if blob.session is not None and blob.content is not None:
                    self._sessions.pop(blob.session, None)
                blob.content = None

    def leave(self, staged: Iterable[StagedBlob]) -> None:
        """Leave what was published to a collection."""
        for each in staged:
            blob = _own(each)
            with self._mutex:
                content = blob.content
                if content is not None and self._published.get(blob.digest) is content:
                    left = MemoryBlob(blob.digest, content)
                    self._left[left.name] = left

    def open_staged(self, blob: StagedBlob) -> BlobReader:
        """Return a reader of the bytes of what is staged.

        Raises:
            StorageError: it was discarded.
        """
        return reader_of(_staged_content(_own(blob)).data, None)


class _Sweeper:
    """The role :class:`ocistore.pools.Sweeper` of a pool in memory."""

    def __init__(self, pool: MemoryPool) -> None:
        self._pool = pool

    def files(self) -> Iterator[PublishedFile]:
        with self._pool._mutex:
            digests = list(self._pool._published)
        return (found for digest in digests if (found := self.find(digest)) is not None)

    def find(self, digest: Digest) -> PublishedFile | None:
        content = self._pool._published.get(digest)
        if content is None:
            return None
        return PublishedFile(
            digest.algorithm, digest.encoded, digest, len(content.data), content.identity, content.changed
        )

    def staged(self) -> Iterator[UnpublishedFile]:
        with self._pool._mutex:
            names = [*self._pool._staged, *self._pool._left, *self._pool._sessions]
        return (found for name in names if (found := self.find_staged(name)) is not None)

    def find_staged(self, name: str) -> UnpublishedFile | None:
        with self._pool._mutex:
            session = self._pool._sessions.get(name)
            if session is not None:
                identity = 0 if session.staged is None else session.staged.identity
                published = identity != 0 and self._is_published(session.staged)
                return UnpublishedFile(name, len(session.data), session.changed, identity, published)
            blob = self._blob(name)
            if blob is None or blob.content is None:
                return None
            return blob.content.unpublished(name, may_be_published=self._is_published(blob.content))

    def _blob(self, name: str) -> MemoryBlob | None:
        return self._pool._left.get(name) or self._pool._staged.get(name)

    def _is_published(self, content: MemoryContent | None) -> bool:
        return content is not None and any(each is content for each in self._pool._published.values())

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        session = self._pool._sessions.get(name)
        if session is None:
            yield True
            return
        holder = NewSession(name)
        is_free = session.take(holder)
        try:
            yield is_free
        finally:
            session.give_back(holder)

    def published(self, file: UnpublishedFile) -> Digest | None:
        with self._pool._mutex:
            found = [each for each, content in self._pool._published.items() if content.identity == file.identity]
        return found[0] if found else None

    def trash(self, digest: Digest) -> UnpublishedFile | None:
        with self._pool._mutex:
            content = self._pool._published.pop(digest, None)
            if content is None:
                return None
            name = _unused_name(digest)
            self._pool._trash[name] = content
            return content.unpublished(name)

    def trashed(self) -> Iterator[UnpublishedFile]:
        return self._list(self._pool._trash)

    def quarantine(self, file: PublishedFile) -> str | None:
        with self._pool._mutex:
            now = None if file.digest is None else self.find(file.digest)
            if file.digest is None or now is None or now.identity != file.identity:
                return None
            name = _unused_name(file.digest)
            self._pool._quarantine[name] = self._pool._published.pop(file.digest)
            return name

    def quarantined(self) -> Iterator[UnpublishedFile]:
        return self._list(self._pool._quarantine)

    def open_quarantined(self, name: str) -> BinaryIO:
        content = self._pool._quarantine.get(name)
        if content is None:
            raise StorageError(name, errno=errno.ENOENT, reason=os.strerror(errno.ENOENT))
        return reader_of(content.data, None)

    def _list(self, directory: dict[str, MemoryContent]) -> Iterator[UnpublishedFile]:
        with self._pool._mutex:
            found = list(directory.items())
        return (content.unpublished(name) for name, content in found)

    def delete(self, file: PublishedFile) -> bool:
        with self._pool._mutex:
            return file.digest is not None and self._pool._published.pop(file.digest, None) is not None

    def delete_staged(self, name: str) -> bool:
        with self._pool._mutex:
            removed = self._pool._sessions.pop(name, None) is not None
            blob = self._pool._left.pop(name, None) or self._pool._staged.pop(name, None)
            if blob is not None:
                blob.content = None
            return removed or blob is not None

    def delete_trashed(self, name: str) -> bool:
        with self._pool._mutex:
            return self._pool._trash.pop(name, None) is not None

    def delete_quarantined(self, name: str) -> bool:
        with self._pool._mutex:
            return self._pool._quarantine.pop(name, None) is not None


def _own(blob: StagedBlob) -> MemoryBlob:
    if not isinstance(blob, MemoryBlob):
        raise TypeError(f"{blob!r} was staged by another pool")
    return blob


def _staged_content(blob: MemoryBlob) -> MemoryContent:
    if blob.content is None:
        raise StorageError(f"blob {blob.digest}", errno=errno.ENOENT, reason="it is staged no more; push it again")
    return blob.content


def _unused_name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.encoded}.{secrets.token_hex(8)}"
