"""The upload sessions of a pool in memory."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import weakref
from typing import TYPE_CHECKING

from ocistore.errors import DigestMismatchError, StorageError, StoreBusyError, StoreClosedError
from ocistore.oci.digest import Digest, Hasher, hasher
from ocistore.pools import HashState, checked_upload_name
from ocistore.testing.contents import MemoryBlob, MemoryContent, now

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ocistore.forks import ForkSafeLock
    from ocistore.pools import NewUpload


class MemorySession:
    """The bytes of an upload session, and who has it open."""

    _identities = itertools.count(1)

    def __init__(self) -> None:
        self.data = bytearray()
        self.identity = next(self._identities)
        self.changed = now()
        self.staged: MemoryContent | None = None
        """All its bytes, as they were staged last."""
        self._holder: weakref.ref[object] | None = None

    def take(self, holder: object) -> bool:
        """Give it to ``holder`` until that is garbage, or gives it back. False where somebody has it."""
        if self._holder is not None and self._holder() is not None:
            return False
        self._holder = weakref.ref(holder)
        return True

    def give_back(self, holder: object) -> None:
        """Let others have it, if ``holder`` has."""
        if self._holder is not None and self._holder() is holder:
            self._holder = None


class NewSession:
    """A session that begins, and goes with this object until it is kept."""

    def __init__(self, name: str) -> None:
        self.name = name


class MemoryUploads:
    """The role :class:`ocistore.pools.Uploads` of a pool in memory."""

    def __init__(
        self, sessions: dict[str, MemorySession], mutex: ForkSafeLock, stage: Callable[[MemoryBlob], MemoryBlob]
    ) -> None:
        self._sessions = sessions
        self._mutex = mutex
        self._stage = stage
        self._beginning: dict[str, weakref.finalize[..., NewSession]] = {}

    def create(self) -> NewSession:
        """Begin an empty session; see :meth:`Uploads.create`."""
        made = NewSession(secrets.token_hex(16))
        self._sessions[made.name] = MemorySession()
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

    def _session(self, name: str) -> MemorySession:
        session = self._sessions.get(checked_upload_name(name))
        if session is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"upload {name}")
        return session


class MemoryUpload:
    """An open upload session; see :class:`ocistore.pools.OpenUpload`."""

    def __init__(
        self, uploads: MemoryUploads, name: str, session: MemorySession, algorithm: str, state: HashState | None
    ) -> None:
        self.name = name
        self._uploads = uploads
        self._open: MemorySession | None = session
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

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _session(self) -> MemorySession:
        if self._open is None:
            raise StoreClosedError(f"upload {self.name}")
        return self._open

    def _existing(self) -> MemorySession:
        """Return the session, if nobody removed it."""
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
        session.changed = now()
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
        session.staged = MemoryContent(bytes(session.data))
        return self._uploads._stage(MemoryBlob(digest, session.staged, session=self.name))

    def close(self) -> None:
        """Let others have the session."""
        session, self._open = self._open, None
        if session is not None:
            session.give_back(self)
