"""A pool in memory: all roles of :class:`ocistore.blobs.pool.Pool`, and nothing that only files can do.

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
import io
import itertools
import os
import secrets
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from ocistore.blobs.hashing import no_count
from ocistore.blobs.ingest import ingest
from ocistore.blobs.paths import checked_upload_name
from ocistore.blobs.pool import HashState, Pool, PublishedFile, UnpublishedFile
from ocistore.blobs.reader import BlobReader
from ocistore.blobs.sources import opened
from ocistore.errors import (
    CorruptError,
    DigestMismatchError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
)
from ocistore.forks import ForkSafeLock
from ocistore.oci.digest import Digest, Hasher, hasher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import BinaryIO, Self

    from ocistore.blobs.hashing import Count
    from ocistore.blobs.pool import NewUpload, Source, StagedBlob

_BLOCK: Final = 1024 * 1024
"""Bytes that are hashed between two counts."""


class _Content:
    """Bytes that never change, wherever they are at the moment."""

    _identities = itertools.count(1)

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.identity = next(self._identities)
        self.changed = _now()

    def unpublished(self, name: str, *, may_be_published: bool = False) -> UnpublishedFile:
        return UnpublishedFile(name, len(self.data), self.changed, self.identity, may_be_published)


class MemoryBlob:
    """What the pool staged."""

    def __init__(self, digest: Digest, content: _Content, *, session: str | None = None) -> None:
        self.digest = digest
        self.size = len(content.data)
        self.name = secrets.token_hex(16)
        self.content: _Content | None = content
        """None once it was discarded."""
        self.session = session
        """Of which upload session it is all the bytes."""


class MemoryPool(Pool):
    """A pool in memory."""

    def __init__(self) -> None:
        self.identity = f"memory:{secrets.token_hex(8)}"
        self._mutex = ForkSafeLock()
        self._published: dict[Digest, _Content] = {}
        self._staged: weakref.WeakValueDictionary[str, MemoryBlob] = weakref.WeakValueDictionary()
        self._left: dict[str, MemoryBlob] = {}
        """Staged, and discarded after :meth:`leave`."""
        self._trash: dict[str, _Content] = {}
        self._quarantine: dict[str, _Content] = {}
        self._sessions: dict[str, _Session] = {}
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
        return _reader(self._content(digest, size), digest if verify else None)

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
        buffer = _Buffer()
        with opened(source) as readable:
            ingest(readable, buffer, state, size=size)
        found = Digest.of_hasher(state, algorithm)
        if digest is not None and found != digest:
            raise DigestMismatchError(expected=digest, actual=found)
        return self._stage(MemoryBlob(found, _Content(bytes(buffer.data))))

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
                content.changed = _now()
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
        return _reader(_staged_content(_own(blob)).data, None)


class _Sweeper:
    """The role :class:`ocistore.blobs.pool.Sweeper` of a pool in memory."""

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

    def _is_published(self, content: _Content | None) -> bool:
        return content is not None and any(each is content for each in self._pool._published.values())

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        session = self._pool._sessions.get(name)
        if session is None:
            yield True
            return
        holder = _NewSession(name)
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
        return _reader(content.data, None)

    def _list(self, directory: dict[str, _Content]) -> Iterator[UnpublishedFile]:
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


# --- upload sessions --------------------------------------------------------------------------------------------------


class _Session:
    """The bytes of an upload session, and who has it open."""

    _identities = itertools.count(1)

    def __init__(self) -> None:
        self.data = bytearray()
        self.identity = next(self._identities)
        self.changed = _now()
        self.staged: _Content | None = None
        """All its bytes, as they were staged last."""
        self._holder: weakref.ref[object] | None = None

    def take(self, holder: object) -> bool:
        """Give it to ``holder`` until that is garbage, or gives it back. False where somebody has it."""
        if self._holder is not None and self._holder() is not None:
            return False
        self._holder = weakref.ref(holder)
        return True

    def give_back(self, holder: object) -> None:
        if self._holder is not None and self._holder() is holder:
            self._holder = None


class _NewSession:
    def __init__(self, name: str) -> None:
        self.name = name


class MemoryUploads:
    """The role :class:`ocistore.blobs.pool.Uploads` of a pool in memory."""

    def __init__(
        self, sessions: dict[str, _Session], mutex: ForkSafeLock, stage: Callable[[MemoryBlob], MemoryBlob]
    ) -> None:
        self._sessions = sessions
        self._mutex = mutex
        self._stage = stage
        self._beginning: dict[str, weakref.finalize[..., _NewSession]] = {}

    def create(self) -> _NewSession:
        """Begin an empty session; see :meth:`Uploads.create`."""
        made = _NewSession(secrets.token_hex(16))
        self._sessions[made.name] = _Session()
        self._beginning[made.name] = weakref.finalize(made, self.remove, made.name)
        return made

    def keep(self, upload: NewUpload) -> None:
        """Leave a session to whoever knows its name."""
        beginning = self._beginning.pop(upload.name, None)
        if beginning is not None:
            beginning.detach()

    def open(self, name: str, algorithm: str, *, state: HashState | None = None) -> MemoryUpload:
        """Return the bytes of a session, for this caller alone; see :meth:`Uploads.open`.

        Raises:
            FileNotFoundError: there is no such session.
            StoreBusyError: somebody else has it open.
            InvalidNameError, InvalidDigestError: the name or the algorithm is none.
        """
        session = self._session(name)
        upload = MemoryUpload(self, name, session, algorithm, state)
        with self._mutex:
            if not session.take(upload):
                raise StoreBusyError(f"upload {name}", waited=0.0)
        return upload

    def size(self, name: str) -> int:
        """Return the number of bytes of a session.

        Raises:
            FileNotFoundError: there is no such session.
            InvalidNameError: the name is none.
        """
        return len(self._session(name).data)

    def remove(self, name: str) -> None:
        """Remove the bytes of a session.

        Raises:
            InvalidNameError: the name is none.
        """
        self._sessions.pop(checked_upload_name(name), None)
        self._beginning.pop(name, None)

    def page_cache(self) -> str:
        """Return the same name each time: what is appended lasts as long as the pool."""
        return "memory"

    def _session(self, name: str) -> _Session:
        session = self._sessions.get(checked_upload_name(name))
        if session is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"upload {name}")
        return session


class MemoryUpload:
    """An open upload session; see :class:`ocistore.blobs.pool.OpenUpload`."""

    def __init__(
        self, uploads: MemoryUploads, name: str, session: _Session, algorithm: str, state: HashState | None
    ) -> None:
        self.name = name
        self._uploads = uploads
        self._open: _Session | None = session
        self._last = session
        self._algorithm = algorithm
        self._hasher = hasher(algorithm)
        self._hashed = 0
        if (
            state is not None
            and (state.identity, state.algorithm) == (session.identity, algorithm)
            and state.offset <= len(session.data)
        ):
            self._hasher, self._hashed = state.hasher, state.offset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _session(self) -> _Session:
        if self._open is None:
            raise StoreClosedError(f"upload {self.name}")
        return self._open

    def _existing(self) -> _Session:
        """The session, if nobody removed it."""
        session = self._session
        if self._uploads._sessions.get(self.name) is not session:
            raise StorageError(f"upload {self.name}", errno=errno.ENOENT, reason=os.strerror(errno.ENOENT))
        return session

    @property
    def offset(self) -> int:
        """How many bytes there are."""
        return len(self._last.data)

    @property
    def state(self) -> HashState:
        """What lets the session be opened without hashing its bytes again."""
        return HashState(self._last.identity, self._hashed, self._algorithm, self._hasher)

    def append(self, chunk: bytes | bytearray | memoryview) -> int:
        """Write ``chunk`` after what is there and return the new offset.

        Raises:
            StorageError: the session was removed.
        """
        session = self._existing()
        session.data += memoryview(chunk).cast("B")
        session.changed = _now()
        return len(session.data)

    def sync(self) -> None:
        """Do nothing, but where the session is closed."""
        self._session  # noqa: B018 - asks whether it is open

    def truncate(self, offset: int) -> None:
        """Remove the bytes after ``offset``.

        Raises:
            ValueError: there are fewer bytes than that.
            StorageError: the session was removed.
        """
        session = self._existing()
        if not 0 <= offset <= len(session.data):
            raise ValueError(f"cannot cut an upload of {len(session.data)} bytes at {offset}")
        del session.data[offset:]
        if self._hashed > offset:
            self._hasher, self._hashed = hasher(self._algorithm), 0

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of all bytes.

        Raises:
            InvalidDigestError: this process cannot compute that algorithm.
        """
        data = self._session.data
        state: Hasher = self._hasher if algorithm == self._algorithm else hasher(algorithm)
        state.update(bytes(data[self._hashed if algorithm == self._algorithm else 0 :]))
        if algorithm == self._algorithm:
            self._hashed = len(data)
        return Digest.of_hasher(state, algorithm)

    def stage(self, digest: Digest) -> MemoryBlob:
        """Return the session's bytes as something to publish; see :meth:`OpenUpload.stage`.

        Raises:
            DigestMismatchError: they are not those of ``digest``.
            StorageError: the session was removed.
        """
        session = self._existing()
        found = self.digest(digest.algorithm)
        if found != digest:
            raise DigestMismatchError(expected=digest, actual=found, subject=f"upload {self.name}")
        session.staged = _Content(bytes(session.data))
        return self._uploads._stage(MemoryBlob(digest, session.staged, session=self.name))

    def close(self) -> None:
        """Let others have the session."""
        session, self._open = self._open, None
        if session is not None:
            session.give_back(self)


# --- within -----------------------------------------------------------------------------------------------------------


class _Buffer:
    """What :func:`ingest` writes to."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: memoryview, position: int) -> None:
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


def _reader(data: bytes, digest: Digest | None) -> BlobReader:
    return BlobReader(_Bytes(data), len(data), digest=digest)


def _own(blob: StagedBlob) -> MemoryBlob:
    if not isinstance(blob, MemoryBlob):
        raise TypeError(f"{blob!r} was staged by another pool")
    return blob


def _staged_content(blob: MemoryBlob) -> _Content:
    if blob.content is None:
        raise StorageError(f"blob {blob.digest}", errno=errno.ENOENT, reason="it is staged no more; push it again")
    return blob.content


def _unused_name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.encoded}.{secrets.token_hex(8)}"


def _now() -> int:
    return time.time_ns() // 1_000_000
