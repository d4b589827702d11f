"""The file of a resumable upload: one writer at a time, and bytes that outlive a failed commit.

The file is at ``uploads/<name>``. To commit it is to stage it where it is and publish it by a link, so the bytes
never move. Should the transaction fail after the link was made, the file of the session and the file of a blob are one:
then it is copied before anything more is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from ocistore.blobs.output import Output
from ocistore.blobs.pool import HashState
from ocistore.blobs.staged import StagedFile
from ocistore.blobs.staging import PUBLISHED_MODE
from ocistore.errors import CorruptError, DigestMismatchError, StorageError, StoreBusyError, StoreClosedError
from ocistore.filedescriptors import owned
from ocistore.oci.digest import Digest, Hasher, hasher
from ocistore.oserrors import Translating, raise_translated
from ocistore.refusals import Ignoring, is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from typing import Self

    from ocistore.blobs.paths import StorePaths
    from ocistore.filedescriptors import FileDescriptor

_OPEN: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_READ_BLOCK: Final = 1024 * 1024
"""Bytes. What is read at a time where bytes have to be hashed again."""


class UploadFile:
    """The bytes of one upload session, held by this caller alone until it is closed, or its process dies.

    Used by one thread at a time. Keep it open until what it staged was discarded or the commit failed: the lock it
    holds is what keeps others from writing to bytes that are being published.
    """

    def __init__(
        self,
        paths: StorePaths,
        uploads: FileDescriptor,
        name: str,
        algorithm: str,
        *,
        descriptor: FileDescriptor,
        state: HashState | None,
        past_cache: bool,
    ) -> None:
        """Take over a locked ``descriptor``; others go through :meth:`FileUploads.open`."""
        self._root = paths.root
        self._path = str(paths.upload(name))
        self._uploads = uploads
        self._mode = paths.permissions.file
        self._algorithm = algorithm
        self._open: FileDescriptor | None = descriptor
        self.name = name
        """The 32 hexadecimal digits that name the session's file."""
        with Translating(self._path, root=self._root):
            status = os.fstat(descriptor)
        self._inode = status.st_ino
        self._offset = status.st_size
        self._past_cache = past_cache
        self._output = Output(int(descriptor), path=self._path, root=self._root, past_cache=past_cache)
        self._hasher = hasher(algorithm)
        self._hashed = 0
        if (
            state is not None
            and (state.identity, state.algorithm) == (self._inode, algorithm)
            and 0 <= state.offset <= self._offset
        ):
            self._hasher = state.hasher
            self._hashed = state.offset

    @classmethod
    def open(
        cls,
        paths: StorePaths,
        uploads: FileDescriptor,
        name: str,
        algorithm: str,
        *,
        state: HashState | None,
        past_cache: bool,
    ) -> UploadFile:
        """See :meth:`FileUploads.open`."""
        path = str(paths.upload(name))
        while True:
            descriptor = _opened(name, uploads, path=path, paths=paths)
            try:
                # Given a copy of the number, so that what this raises keeps neither the file open nor its lock.
                if _lock(int(descriptor), name, uploads, path=path, paths=paths):
                    return cls(
                        paths, uploads, name, algorithm, descriptor=descriptor, state=state, past_cache=past_cache
                    )
            except BaseException:
                del descriptor
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _descriptor(self) -> FileDescriptor:
        if self._open is None:
            raise StoreClosedError(f"upload {self.name}")
        return self._open

    @property
    def offset(self) -> int:
        """How many bytes there are."""
        return self._offset

    @property
    def state(self) -> HashState:
        """What lets :meth:`FileUploads.open` continue without reading the bytes again. Outlives closing."""
        return HashState(self._inode, self._hashed, self._algorithm, self._hasher)

    def append(self, chunk: bytes | bytearray | memoryview) -> int:
        """Write ``chunk`` after what is there and return the new offset. Durable only after :meth:`sync`.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be written; the offset is what it was.
        """
        self._own_the_bytes()
        view = memoryview(chunk).cast("B")
        position = self._offset + len(view)
        try:
            self._output.write(view, self._offset)
        except BaseException:
            # What cannot be cut off now is overwritten by the next chunk, or cut off when the file is staged.
            with Ignoring():
                os.ftruncate(self._descriptor, self._offset)
            raise
        if self._hashed == self._offset:
            self._hashed = -1  # not known, should a signal break in between these two lines
            self._hasher.update(view)
            self._hashed = position
        self._offset = position
        return position

    def sync(self) -> None:
        """Make all bytes durable.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: they are not, and cannot be trusted any more: the file was
                removed, and the upload has to start again.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if is_refusal(error):
                with Ignoring():
                    os.unlink(self.name, dir_fd=self._uploads)
            raise_translated(error, path=self._path, root=self._root)

    def truncate(self, offset: int) -> None:
        """Remove the bytes after ``offset``: those that a power cut may have torn, because nobody synced them.

        Raises:
            ValueError: there are fewer bytes than that.
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be done.
        """
        if not 0 <= offset <= self._offset:
            raise ValueError(f"cannot cut an upload of {self._offset} bytes at {offset}")
        self._own_the_bytes()
        with Translating(self._path, root=self._root):
            os.ftruncate(self._descriptor, offset)
        self._offset = offset
        if self._hashed > offset:
            self._hasher, self._hashed = hasher(self._algorithm), 0

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of all bytes. Only those that were not hashed with that algorithm as they came are read.

        Raises:
            InvalidDigestError: this process cannot compute that algorithm.
            StorageError: the bytes could not be read.
        """
        if algorithm != self._algorithm:
            return Digest.of_hasher(self._hash_on(hasher(algorithm), 0), algorithm)
        if self._hashed != self._offset:
            start = max(self._hashed, 0)
            state = self._hasher if self._hashed >= 0 else hasher(algorithm)
            self._hashed = -1
            self._hasher = self._hash_on(state, start)
            self._hashed = self._offset
        return Digest.of_hasher(self._hasher, algorithm)

    def _hash_on(self, state: Hasher, position: int) -> Hasher:
        block = memoryview(bytearray(min(_READ_BLOCK, max(self._offset - position, 1))))
        with Translating(self._path, root=self._root):
            while position < self._offset:
                count = os.preadv(self._descriptor, (block[: self._offset - position],), position)
                if count == 0:
                    raise StorageError(self._path, errno=None, reason=f"it ends at {position}, not at {self._offset}")
                state.update(block[:count])
                position += count
        return state

    def stage(self, digest: Digest) -> StagedFile:
        """Return the session's file as something to publish, durable, if its bytes are those of ``digest``.

        To discard what this returns is to end the session: do it after the commit, and not where the commit failed.

        Raises:
            DigestMismatchError: they are not; the session keeps its bytes and can continue.
            StoreFullError, ReadOnlyStoreError, StorageError: they could not be read, or made durable (see
            :meth:`sync`).
        """
        with Translating(self._path, root=self._root):
            mine = _may_change_mode(os.fstat(self._descriptor))
        if not mine:
            self._own_the_bytes()  # of a session that another member of the group began
        found = self.digest(digest.algorithm)
        if found != digest:
            raise DigestMismatchError(expected=digest, actual=found, subject=f"upload {self.name}")
        with Translating(self._path, root=self._root):
            status = os.fstat(self._descriptor)
            if status.st_size != self._offset:
                os.ftruncate(self._descriptor, self._offset)
        self.sync()
        with Translating(self._path, root=self._root):
            os.fchmod(self._descriptor, PUBLISHED_MODE)
        return StagedFile(digest, self._offset, self.name, status.st_dev, status.st_ino, durable=True)

    def close(self) -> None:
        """Let others have the session. Closing again does nothing."""
        if self._open is not None:
            # Closing alone is not enough: a child that was forked meanwhile may share the description.
            with Ignoring():
                fcntl.flock(self._open, fcntl.LOCK_UN)
            self._open = None

    def _own_the_bytes(self) -> None:
        """Make sure that no blob shares this file: what was staged once may have been published."""
        with Translating(self._path, root=self._root):
            status = os.fstat(self._descriptor)
            writable = fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
            if status.st_nlink == 1 and writable and _may_change_mode(status):
                if stat.S_IMODE(status.st_mode) != self._mode:  # staged, and never published or withdrawn again
                    os.fchmod(self._descriptor, self._mode)
                return
            if status.st_nlink == 0:  # the session was ended from outside: its name must not come back
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
            name = secrets.token_hex(16)
            try:
                copy = owned(
                    os.open, name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, self._mode, dir_fd=self._uploads
                )
                fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.fchmod(copy, self._mode)
                position = 0
                while position < self._offset and (
                    count := os.sendfile(copy, self._descriptor, position, self._offset - position)
                ):
                    position += count
                os.fsync(copy)
                os.rename(name, self.name, src_dir_fd=self._uploads, dst_dir_fd=self._uploads)
                os.fsync(self._uploads)
            except BaseException:
                with Ignoring():
                    os.unlink(name, dir_fd=self._uploads)
                raise
            self._output = Output(int(copy), path=self._path, root=self._root, past_cache=self._past_cache)
            self._inode = os.fstat(copy).st_ino
            self._open = copy


def _may_change_mode(status: os.stat_result) -> bool:
    user = os.geteuid()
    return user in {0, status.st_uid}


def _opened(name: str, uploads: FileDescriptor, *, path: str, paths: StorePaths) -> FileDescriptor:
    try:
        try:
            return owned(os.open, name, os.O_RDWR | _OPEN, dir_fd=uploads)
        except PermissionError as error:  # it was staged, and is 0444 since; it is copied before anything is written
            pass_on_theirs(error)
            return owned(os.open, name, os.O_RDONLY | _OPEN, dir_fd=uploads)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO} and is_refusal(error):
            raise CorruptError(path, reason="it is not a plain file") from error
        raise_translated(error, path=path, root=paths.root)


def _lock(descriptor: int, name: str, uploads: FileDescriptor, *, path: str, paths: StorePaths) -> bool:
    """Lock the file and return whether it is still the session's.

    Whoever held the lock before may have committed the session, which raises, or copied its file and left this one
    behind.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptError(path, reason="it is not a plain file")
        named = os.stat(name, dir_fd=uploads, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except BlockingIOError as error:
        if not is_refusal(error):
            raise
        raise StoreBusyError(f"upload {name}", waited=0.0) from error
    except OSError as error:  # such as no room for another lock
        raise_translated(error, path=path, root=paths.root)
    return (named.st_ino, named.st_dev) == (status.st_ino, status.st_dev)
