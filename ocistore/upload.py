"""Upload sessions: a blob that arrives in pieces."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ocistore.argumenttypes import checks_types
from ocistore.blobs.paths import checked_upload_name
from ocistore.catalog import repositories, uploads
from ocistore.changes import EndUpload, PutBlob
from ocistore.clock import instant
from ocistore.errors import (
    CorruptError,
    InvalidDigestError,
    InvalidNameError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
    UncertainCommitError,
    UploadNotFoundError,
    UploadRangeError,
)
from ocistore.forks import ForkSafeLock
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import Descriptor, digest_of
from ocistore.oci.digest import hasher
from ocistore.oci.jsonvalue import JSONValue
from ocistore.paging import pages
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ocistore.blobs.pool import OpenUpload
    from ocistore.core import Core

UPLOAD_LIFETIME: Final = timedelta(days=7)
"""How long a session lives after it was last opened or closed: as long as docker's registry keeps an upload."""

_LIFETIME: Final = UPLOAD_LIFETIME // timedelta(milliseconds=1)


@dataclass(frozen=True)
class UploadInfo(JSONValue):
    """An open upload session, as a listing shows it."""

    id: str
    algorithm: str
    offset: int
    """How many bytes have arrived."""
    started: datetime
    touched: datetime
    """When it was last opened or closed."""
    expires: datetime


@checks_types
class Upload:
    """An open upload session, held by one writer at a time over all processes.

    Threads that use the same object take turns: one of them completes its call before another begins, and after a
    ``close``, ``commit`` or ``cancel`` the others get ``StoreClosedError``. A signal handler or a finalizer that runs
    in the middle of a turn of its own thread is refused, with ``StoreBusyError``.

    Leaving the context closes the session's file and does not cancel the session. Written bytes survive the death of
    the process at once, and a power cut after :meth:`close`: a session that is resumed after the machine was started
    again, or the filesystem mounted again, is where it was at its last ``close``.
    """

    id: str

    def __init__(self, core: Core, repository: str, file: OpenUpload) -> None:
        """Open what is given; others call :meth:`Repository.start_upload` or :meth:`Repository.upload`."""
        self._core = core
        self._repository = repository
        self._file: OpenUpload | None = file
        self._process = os.getpid()
        self._turn = ForkSafeLock()
        self.id = file.name

    @classmethod
    def start(cls, core: Core, repository: str, *, algorithm: str) -> Upload:
        """See :meth:`Repository.start_upload`."""
        hasher(algorithm)  # an unknown algorithm is refused before anything is made
        core.require_writable()
        pool = core.pool
        made = pool.uploads.create()
        name = made.name
        try:
            cache = pool.uploads.page_cache()
            file = pool.uploads.open(name, algorithm)
            with core.catalog.write(repositories={repository}) as connection:
                now = core.catalog.now()  # under the lock: a session lives from its beginning, not from the wait for it
                repository_id = repositories.ensure(connection, repository, now=now)
                session = uploads.Session(name, algorithm, 0, now, now, now + _LIFETIME, cache)
                uploads.start(connection, repository_id, session)
        except UncertainCommitError:
            pool.uploads.keep(made)  # its row may be there, and needs its file
            raise
        except FileNotFoundError as error:
            pass_on_theirs(error)
            reason = "it began so long ago that it was taken for abandoned, and removed; start it again"
            pool.uploads.remove(name)
            raise StorageError(str(core.paths.upload(name)), errno=error.errno, reason=reason) from error
        except BaseException:
            pool.uploads.remove(name)
            raise
        pool.uploads.keep(made)
        return cls(core, repository, file)

    @classmethod
    def resume(cls, core: Core, repository: str, name: str) -> Upload:
        """See :meth:`Repository.upload`."""
        core.require_writable()
        session = _find(core, repository, name)
        try:
            file = core.pool.uploads.open(name, session.algorithm, state=core.hash_states.pop(name))
        except FileNotFoundError as error:
            pass_on_theirs(error)
            raise UploadNotFoundError(name, repository=repository) from error
        try:
            session = _find(core, repository, name)  # the one that held it before may have written more, or ended it
            cache = core.pool.uploads.page_cache()
            if session.page_cache != cache:
                # What nobody synced may be gone, or zeros. Cut off first: the row then says that what follows is kept.
                file.truncate(min(session.offset, file.offset))
                _touch(core, repository, name, offset=file.offset, page_cache=cache)
        except BaseException:
            file.close()
            raise
        return cls(core, repository, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Upload {self.id} of {self._repository!r}>"

    def _has_ended(self) -> bool:
        return self._file is None or self._process != os.getpid()  # in a forked child it is its parent's

    def _open_file(self) -> OpenUpload:
        if self._file is None or self._process != os.getpid():
            raise StoreClosedError(f"upload {self.id}")
        return self._file

    def _alone(self) -> ForkSafeLock:
        """Return the lock to hold while it is used, so that no other thread uses it then."""
        if self._turn.is_mine():
            raise StoreBusyError(f"upload {self.id}", waited=0.0, reason="this thread is in the middle of using it")
        return self._turn

    @contextlib.contextmanager
    def _unless_ended(self) -> Iterator[None]:
        """Answer a file that is gone with the reason, where that is the end of the session."""
        try:
            yield
        except StorageError:
            _find(self._core, self._repository, self.id)
            raise

    @property
    def offset(self) -> int:
        """The number of bytes that have arrived: where the next chunk starts."""
        return self._open_file().offset

    def write(self, chunk: bytes | bytearray | memoryview, *, offset: int | None = None) -> int:
        """Append a chunk.

        The bytes survive the death of the process at once, and a power cut after :meth:`close`. Writing a chunk again
        appends it again, unless ``offset`` says where it belongs.

        Args:
            chunk: bytes of any length; large ones are cheaper.
            offset: where the chunk starts, in bytes, to be checked.

        Returns:
            The new offset, in bytes.

        Raises:
            UploadRangeError: the upload is not at ``offset``; the error's ``offset`` says where it is.
            UploadNotFoundError: the session was ended meanwhile, with its repository.
            StoreFullError, StorageError: nothing of the chunk was kept.
        """
        if offset is not None and not isinstance(offset, int):
            raise TypeError(f"offset must be an int, not {type(offset).__name__}")
        self._open_file()
        with self._alone():
            file = self._open_file()
            if offset is not None and offset != file.offset:
                raise UploadRangeError(offset=file.offset, given=offset)
            with self._unless_ended():
                return file.append(chunk)

    def commit(self, digest: str | Descriptor) -> Descriptor:
        """Make the bytes a blob of the repository and end the session.

        Atomic, and durable when it returns; committing again raises StoreClosedError. After a crash there is the
        session with what was durable of its bytes, or the blob. The bytes are not read again, unless the session was
        resumed in another process or ``digest`` is of another algorithm than the session's.

        Raises:
            DigestMismatchError: the bytes are not those of ``digest``. The session and its bytes stay.
            UploadNotFoundError: the session was ended meanwhile.
            StoreFullError, StoreBusyError: the session and its bytes stay.
            StorageError: they stay too, unless it was the sync of the bytes that failed: then those cannot be trusted,
                and the upload has to start again.
        """
        wanted = digest_of(digest, argument="digest")
        self._open_file()
        with self._alone():
            file = self._open_file()
            with self._unless_ended():
                staged = file.stage(wanted)
                self._core.commit([EndUpload(self._repository, self.id), PutBlob(self._repository, staged)])
            # In this order: an interrupt before the file is gone leaves it to close, which finds the session ended.
            self._core.discard([staged])
            self._file = None
            file.close()
        return Descriptor(mediatypes.OCTET_STREAM, wanted, staged.size)

    def cancel(self) -> None:
        """End the session and discard its bytes.

        Atomic, and durable when it returns. Idempotent: cancelling an ended session does nothing.

        Raises:
            OCIStoreError: the session could not be ended, or its file not removed; garbage collection removes that.
        """
        if self._has_ended():
            return
        with self._alone():
            if self._has_ended():
                return
            pool = self._core.pool
            with contextlib.suppress(UploadNotFoundError):
                self._core.commit([EndUpload(self._repository, self.id)])
            file, self._file = self._open_file(), None
            pool.uploads.remove(self.id)
            file.close()

    def close(self) -> None:
        """Make what was written durable, and let others resume the session.

        Idempotent. After a crash meanwhile, the session is where it was at its last ``close``, or at this one.

        Raises:
            OCIStoreError: the bytes or the catalog could not be written. The object is closed all the same; resume the
                session to see where it continues.
        """
        if self._has_ended():
            return
        with self._alone():
            file, self._file = self._file, None
            if file is not None:
                self._close(file)

    def _close(self, file: OpenUpload) -> None:
        try:
            file.sync()
            cache = self._core.pool.uploads.page_cache()
            if _touch(self._core, self._repository, self.id, offset=file.offset, page_cache=cache):
                self._core.hash_states.put(self.id, file.state)
            else:  # its repository was deleted while it began, by somebody who did not know of its file
                self._core.pool.uploads.remove(self.id)
        finally:
            file.close()


def _find(core: Core, repository: str, name: str) -> uploads.Session:
    try:
        checked_upload_name(name)
    except InvalidNameError as error:
        raise UploadNotFoundError(str(name), repository=repository) from error
    with core.catalog.read() as connection:
        session = uploads.find(connection, repository, name)
    if session is None:
        raise UploadNotFoundError(name, repository=repository)
    return session


def sessions(core: Core, repository_id: int) -> Iterator[UploadInfo]:
    """See :meth:`Repository.uploads`."""

    def page(last: str, count: int) -> list[tuple[str, UploadInfo | None]]:
        with core.catalog.read() as connection:
            rows = uploads.page(connection, repository_id, after=last, limit=count)
        return [(row.id, _info(core, row)) for row in rows]

    return (found for found in pages(page, "", None) if found is not None)


def stat_session(core: Core, repository: str, name: str) -> UploadInfo:
    """See :meth:`Repository.stat_upload`."""
    found = _info(core, _find(core, repository, name))
    if found is None:
        raise UploadNotFoundError(name, repository=repository)
    return found


def cancel_session(core: Core, repository: str, name: str) -> None:
    """See :meth:`Repository.cancel_upload`."""
    core.require_writable()
    session = _find(core, repository, name)
    try:
        file = core.pool.uploads.open(name, session.algorithm)
    except (FileNotFoundError, CorruptError, InvalidDigestError) as error:
        pass_on_theirs(error)
        file = None  # nobody can resume it: it is gone, no plain file, or of an algorithm that is not installed
    try:
        core.commit([EndUpload(repository, name)])
        with contextlib.suppress(StorageError):  # a directory is none of ours
            core.pool.uploads.remove(name)
    finally:
        if file is not None:
            file.close()


def _info(core: Core, row: uploads.Session) -> UploadInfo | None:
    """Return what a listing shows; None where the session's file does not exist, so that it cannot be resumed."""
    try:
        offset = core.pool.uploads.size(row.id)
    except FileNotFoundError as error:
        pass_on_theirs(error)
        return None
    if offset > row.offset and row.page_cache != core.pool.uploads.page_cache():
        offset = row.offset  # to which resuming it cuts it
    return UploadInfo(row.id, row.algorithm, offset, instant(row.started), instant(row.touched), instant(row.expires))


def _touch(core: Core, repository: str, name: str, *, offset: int, page_cache: str) -> bool:
    with core.catalog.write(repositories={repository}) as connection:
        now = core.catalog.now()
        return uploads.touch(connection, name, offset=offset, now=now, expires=now + _LIFETIME, page_cache=page_cache)
