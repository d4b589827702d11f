"""The pool that keeps blobs as files of one filesystem, each content once, published by hard links.

What is staged lies at ``uploads/<name>`` and stays there until it is discarded; publishing gives the same file a second
name, ``blobs/<alg>/<hex>``. So publishing again, after a collection took that name, costs one link: no copy is made,
and no open file is needed to keep the bytes.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from ocistore.blobs.anchors import Anchors
from ocistore.blobs.directories import Directories
from ocistore.blobs.durability import sync_files, sync_filesystem, syncfs_reports_errors
from ocistore.blobs.hashing import digest_of, verify
from ocistore.blobs.ingest import ingest
from ocistore.blobs.oserrors import Translating, raise_translated
from ocistore.blobs.output import Output
from ocistore.blobs.pagecache import page_cache
from ocistore.blobs.paths import checked_upload_name
from ocistore.blobs.reader import READ_FLAGS, BlobReader
from ocistore.blobs.removal import Removal
from ocistore.blobs.reserve import Reserve
from ocistore.blobs.session import UploadFile
from ocistore.blobs.sharing import ToldFile, clone, linked, restore_mode
from ocistore.blobs.sources import opened
from ocistore.blobs.staged import StagedFile
from ocistore.errors import (
    CorruptError,
    DigestMismatchError,
    ReadOnlyStoreError,
    SizeMismatchError,
    StorageError,
)
from ocistore.filedescriptors import owned
from ocistore.forks import ThreadLock
from ocistore.oci.digest import Digest, hasher
from ocistore.refusals import Ignoring, is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ocistore.blobs.anchors import Anchor
    from ocistore.blobs.paths import StorePaths
    from ocistore.blobs.pool import Source, StagedBlob
    from ocistore.blobs.session import HashState
    from ocistore.blobs.sharing import Sharing
    from ocistore.filedescriptors import FileDescriptor

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PUBLISHED_MODE: Final = 0o444

_KEPT_OPEN: Final = 64
"""How many staged files stay open until they are synced. A file that is closed and opened again can lose the error of a
failed write-back together with its inode; more of them than this are synced with the whole filesystem, which cannot."""

_FILES_SYNCED_ONE_BY_ONE: Final = 8
"""Up to how many files are synced one by one. Measured: 3 small files 1.0 ms this way and 1.4 ms with the whole
filesystem, 8 files 1.5 and 1.2, 64 files 8.6 and 4.2. But a sync of the whole filesystem waits for everybody's
unwritten data too."""


class FilesystemPool:
    """A pool of files, as :class:`ocistore.blobs.pool.Pool` promises, and the files of upload sessions.

    Safe for any number of threads and processes. It holds descriptors of its directories until it is closed and nobody
    works with them any more.
    """

    def __init__(self, paths: StorePaths, *, read_only: bool = False) -> None:
        """Touches nothing: the directories are opened when they are needed, and made by :meth:`create`."""
        self._paths = paths
        self._read_only = read_only
        self._directories = Directories(paths)
        self.removal = Removal(paths, self._directories, refuse_if_read_only=self._refuse_if_read_only)
        """What takes files out of the pool, and lists what is in it."""
        self.reserve = Reserve(paths)
        """What is given up when the disk is full."""
        self._anchors = Anchors(self._unlink)
        self._kept: WeakSet[StagedFile] = WeakSet()
        """What is staged and still open."""
        self._syncing = ThreadLock()
        self._syncs_failed = 0
        self._closed = False
        self.past_cache = True
        """Whether big blobs may be written past the page cache; see :mod:`ocistore.blobs.output`."""
        self._clones = True
        """Whether the filesystem can share bytes by reflink, as far as was tried."""
        self._device = -1
        """Where the last file was staged: one object for all of them, of which there may be 100,000."""

    def create(self) -> None:
        """Make the directories of a store and make them durable; harmless where they exist.

        Raises:
            UnsupportedFilesystemError: the filesystem has no hard links.
            CorruptError: something that is not a directory lies in the place of one.
            StoreFullError, ReadOnlyStoreError, StorageError: a directory could not be made.
        """
        self._refuse_if_read_only()
        self._directories.create()

    def hold(self) -> None:
        """Stay with the directory that has the root's name now, wherever it is moved, if it may be read."""
        with Ignoring():
            self._directories.hold()

    def close(self) -> None:
        """Let go of every descriptor the pool holds: those that another thread works with are closed by that.

        What was staged and not discarded stays aside, for whoever has it.
        """
        self._closed = True
        self._anchors.sweep()
        self._directories.close()

    # --- in -----------------------------------------------------------------------------------------------------------

    def stage(
        self,
        source: Source,
        *,
        digest: Digest | None = None,
        size: int | None = None,
        algorithm: str = "sha256",
    ) -> StagedFile:
        """Write the bytes of ``source`` aside, hashing them as they stream (P0); see :meth:`Pool.stage`.

        What reading ``source`` raises is raised unchanged. Whatever is raised, nothing is left behind.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those that were announced.
            InvalidDigestError: ``algorithm`` is not one this process can compute.
            TypeError: ``source`` is nothing a blob can be read from, or gave something other than bytes.
            StoreFullError, ReadOnlyStoreError, StorageError: they could not be written.
        """
        self._refuse_if_read_only()
        if digest is not None:
            algorithm = digest.algorithm
        state = hasher(algorithm)
        with opened(source) as readable:
            anchor = self._anchors.new()
            path = partial(self._paths.upload, anchor.name)
            descriptor: FileDescriptor | None = None
            try:
                descriptor = self._new_file(anchor, _PUBLISHED_MODE)
                # Given a copy of the number, so that what this raises, which has a hold on it, keeps no file open.
                output = Output(int(descriptor), path=path, root=self._paths.root, past_cache=self.past_cache)
                total = ingest(readable, output, state, size=size)
                found = Digest.of_hasher(state, algorithm)
                _check(found, digest)
                # The caller's own objects, if there are some: an import holds 100,000 of them.
                return self._staged(
                    anchor, descriptor, found if digest is None else digest, total if size is None else size
                )
            except BaseException:
                descriptor = None  # its place on the disk is free at once, however long somebody keeps the error
                self._drop(anchor.name)
                raise

    def adopt(
        self,
        descriptor: int,
        *,
        digest: Digest,
        size: int,
        mode: Sharing = "auto",
        path: str = "the file",
        told: Callable[[int], object] = lambda _: None,
    ) -> StagedFile:
        """Stage the bytes of an open plain file, without copying them where ``mode`` allows and the filesystem can.

        They are hashed in any case, and lie aside as after :meth:`stage`.

        Args:
            descriptor: of the file, open for reading. All of it is read, and where it stands afterwards is not said.
            digest: what its bytes must hash to.
            size: how many there must be.
            mode: see :data:`ocistore.blobs.sharing.Sharing`.
            path: what messages call the file.
            told: called with the number of bytes of each piece that was read.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those; nothing is left behind.
            StorageError: with ``link``, the file cannot be linked, or was written to while it was read. Also, and
                StoreFullError, ReadOnlyStoreError, where the bytes could not be written. Nothing is left behind, and
                the file is as it was.
            OSError: the file could not be read.
        """
        self._refuse_if_read_only()
        actual = os.fstat(descriptor).st_size
        if actual != size:
            raise SizeMismatchError(expected=size, actual=actual)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if mode == "link":
            return self._adopt_linked(descriptor, digest, size, path=path, told=told)
        if mode == "auto" and self._clones:
            staged = self._adopt_cloned(descriptor, digest, size, told=told)
            if staged is not None:
                return staged
        with ToldFile(descriptor, told) as source:
            return self.stage(source, digest=digest, size=size)

    def _adopt_linked(
        self, source: int, digest: Digest, size: int, *, path: str, told: Callable[[int], object]
    ) -> StagedFile:
        anchor = self._anchors.new()
        try:
            before = os.fstat(source)
            with linked(source, self._directories.uploads(), anchor.name, path=path) as descriptor:
                verify(int(descriptor), digest, size, told=told)
            return self._staged(anchor, descriptor, digest, size, linked=before)
        except BaseException:
            self._drop(anchor.name)
            raise

    def _adopt_cloned(
        self, source: int, digest: Digest, size: int, *, told: Callable[[int], object]
    ) -> StagedFile | None:
        anchor = self._anchors.new()
        translating = Translating(partial(self._paths.upload, anchor.name), root=self._paths.root)
        descriptor: FileDescriptor | None = None
        try:
            descriptor = self._new_file(anchor, _PUBLISHED_MODE)
            with translating:
                if not clone(source, descriptor):
                    self._clones = os.fstat(source).st_dev != os.fstat(descriptor).st_dev
                    self._drop(anchor.name)
                    return None
                reading = owned(os.open, anchor.name, READ_FLAGS, dir_fd=self._directories.uploads())
            # The clone and not the source: it is what will be kept, and nobody writes to it.
            verify(int(reading), digest, size, told=told, reading=translating)
            return self._staged(anchor, descriptor, digest, size)
        except BaseException:
            descriptor = None
            self._drop(anchor.name)
            raise

    def _staged(
        self,
        anchor: Anchor,
        descriptor: FileDescriptor,
        digest: Digest,
        size: int,
        *,
        linked: os.stat_result | None = None,
    ) -> StagedFile:
        """The verified file of that name, which is kept open or not."""
        with Translating(partial(self._paths.upload, anchor.name), root=self._paths.root):
            status = os.fstat(descriptor)
            device = self._device
            if status.st_dev != device:
                self._device = device = status.st_dev
            # The umask took bits away; but a file that somebody brought stays theirs until it is published.
            if linked is None and stat.S_IMODE(status.st_mode) != _PUBLISHED_MODE:
                os.fchmod(descriptor, _PUBLISHED_MODE)
        staged = StagedFile(
            digest,
            size,
            anchor.name,
            device,
            status.st_ino,
            syncs_failed=self._syncs_failed,
            linked=linked,
            anchor=anchor,
        )
        if len(self._kept) < _KEPT_OPEN:
            staged.descriptor = descriptor
            self._kept.add(staged)
        return staged

    def publish(self, staged: Sequence[StagedBlob]) -> None:
        """Make the data durable, link it to its name, make the name durable (P1); see :meth:`Pool.publish`.

        Raises:
            CorruptError: a directory lies where a blob belongs, or ``blobs/<alg>`` is not a directory.
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be done. Where it was the sync, the bytes
                are given up at once: they cannot be trusted, so they must be staged again. Likewise where a collection
                removed them, because they were staged a day ago.
        """
        self._refuse_if_read_only()
        files = {_own(blob).digest: _own(blob) for blob in staged}
        try:
            self._publish(files)
        except StorageError as error:
            if error.errno == errno.ENOENT:
                self._raise_if_swept(files.values(), error)
            raise

    def _raise_if_swept(self, files: Iterable[StagedFile], error: StorageError) -> None:
        for file in files:
            path = self._paths.upload(file.name)
            with Translating(str(path), root=self._paths.root):
                try:
                    os.stat(file.name, dir_fd=self._directories.uploads(), follow_symlinks=False)
                except FileNotFoundError as gone:
                    pass_on_theirs(gone)
                    reason = "it was staged so long ago that it was taken for left behind, and removed; push it again"
                    raise StorageError(str(path), errno=errno.ENOENT, reason=reason) from error

    def _publish(self, files: Mapping[Digest, StagedFile]) -> None:
        self._make_durable([file for file in files.values() if not file.durable])
        touched: dict[str, int] = {}
        for file in files.values():
            directory = touched.get(file.digest.algorithm)
            with Translating(partial(self._paths.blob, file.digest), root=self._paths.root):
                if directory is None:
                    directory = self._directories.algorithm_for_writing(file.digest.algorithm)
                    touched[file.digest.algorithm] = directory
                self._link(file, directory)
        for algorithm, directory in touched.items():
            with Translating(partial(self._paths.algorithm, algorithm), root=self._paths.root):
                os.fsync(directory)

    def holds(self, blob: StagedBlob) -> bool:
        """Whether a plain file of its size stands, durably, under the name of ``blob`` (P2)."""
        file = _own(blob)
        with Translating(partial(self._paths.blob, file.digest), root=self._paths.root):
            status = self._directories.find(file.digest)
            if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
                return False
            if not file.is_at(status):
                # another publisher's file, whose name may not be durable yet
                os.fsync(self._directories.algorithm(file.digest.algorithm))
            return True

    def withdraw(self, blob: StagedBlob) -> None:
        """Take the name of ``blob`` away, if it stands for the staged file; see :meth:`Pool.withdraw`.

        Raises:
            StorageError: it could not be taken away.
        """
        file = _own(blob)
        with (
            Translating(partial(self._paths.blob, file.digest), root=self._paths.root),
            Ignoring(FileNotFoundError),
        ):
            if file.is_at(self._directories.find(file.digest)):
                os.unlink(file.digest.encoded, dir_fd=self._directories.algorithm(file.digest.algorithm))

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Take away the anchors of what was staged. Published bytes stay. Calling it again does nothing.

        Raises nothing where a file cannot be removed: the transaction it follows is over, and the sweep by age gets it.
        """
        for blob in staged:
            file = _own(blob)
            self._close_kept(file)
            if file.left:
                continue
            if file.linked is not None:
                self._give_back(file, file.linked)
            self._drop(file.name)
        if self._closed:  # what was opened again for this
            self._directories.close()

    def leave(self, staged: Iterable[StagedBlob]) -> None:
        """Leave what was published to a collection, where nobody can say now whether a row stands for it.

        It keeps a name in ``uploads/`` also when it is discarded; a day later a collection finds it by that, and takes
        it out of the pool if there is no row. What has no name in the pool is not left. Raises nothing, as ``discard``.
        """
        for blob in staged:
            file = _own(blob)
            with Ignoring():
                if not file.is_at(self._directories.find(file.digest)):
                    continue
                if file.anchor is not None:
                    file.left = True
                    self._anchors.let_go(file.name)
                else:  # the file of a session, which goes on
                    uploads = self._directories.uploads()
                    second = secrets.token_hex(16)
                    os.link(file.name, second, src_dir_fd=uploads, dst_dir_fd=uploads, follow_symlinks=False)

    def _give_back(self, file: StagedFile, before: os.stat_result) -> None:
        """Let a file that somebody brought be as it was, if it did not become a blob."""
        with Ignoring():  # likewise
            descriptor = owned(os.open, file.name, READ_FLAGS, dir_fd=self._directories.uploads())
            self._unlink(file.name)
            if not file.is_at(self._directories.find(file.digest)):
                restore_mode(descriptor, before)

    def open_staged(self, blob: StagedBlob) -> BlobReader:
        """The bytes of what is staged, for reading.

        Raises:
            StorageError: it was discarded, or could not be opened.
        """
        file = _own(blob)
        path = str(self._paths.upload(file.name))
        with Translating(path, root=self._paths.root):
            descriptor = owned(os.open, file.name, READ_FLAGS, dir_fd=self._directories.uploads())
        return BlobReader(descriptor, name=path, root=self._paths.root)

    # --- out ----------------------------------------------------------------------------------------------------------

    def has_algorithm(self, algorithm: str) -> bool:
        """Whether anything of that algorithm was ever stored.

        Raises:
            CorruptError: ``blobs/<alg>`` is not a directory.
            StorageError: the file system refused to say.
        """
        with Translating(partial(self._paths.algorithm, algorithm), root=self._paths.root):
            try:
                self._directories.algorithm(algorithm)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                return False
        return True

    def size(self, digest: Digest) -> int | None:
        """The number of bytes under that digest; None where there is no plain file.

        Raises:
            CorruptError: ``blobs/<alg>`` is not a directory.
            StorageError: the file system refused to say.
        """
        with Translating(partial(self._paths.blob, digest), root=self._paths.root):
            status = self._directories.find(digest)
        return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None

    def link(self, digest: Digest, size: int, directory: int, name: str) -> None:
        """Give the file of a blob another name, ``name`` in the open ``directory``; durable once that was synced.

        Raises:
            FileExistsError: the name is taken.
            CorruptError: there is no plain file of ``size`` bytes under the digest.
            OSError: it cannot be linked there, as on another filesystem.
        """
        status = self._directories.find(digest)
        if status is None:
            raise CorruptError(f"blob {digest}", reason="its file is gone", gone=digest)
        if status.st_size != size or not stat.S_ISREG(status.st_mode):
            raise CorruptError(f"blob {digest}", reason=f"its file has {status.st_size} bytes, not {size}")
        source = self._directories.algorithm(digest.algorithm)
        os.link(digest.encoded, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def directory(self, algorithm: str) -> FileDescriptor:
        """A descriptor of ``blobs/<alg>``, for who links many blobs.

        Raises:
            FileNotFoundError: nothing of that algorithm was ever stored.
            CorruptError: it is not a directory.
        """
        return self._directories.algorithm(algorithm)

    def open(self, digest: Digest, *, verify: bool = False) -> BlobReader:
        """The bytes under that digest, for reading. They are hashed again only with ``verify``, as they are read.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: what lies there is not a plain file; and later, reading to the end of wrong bytes.
            StorageError: it could not be opened.
        """
        name = str(self._paths.blob(digest))
        return BlobReader(
            self._open_blob(digest), name=name, root=self._paths.root, digest=digest if verify else None
        )

    def read(self, digest: Digest, size: int) -> bytes:
        """All ``size`` bytes under that digest, at once, not hashed again: for what is small, such as a manifest.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: there are fewer or more bytes, or what lies there is not a plain file.
            StorageError: they could not be read.
        """
        descriptor = self._open_blob(digest)
        try:
            content = os.read(descriptor, size + 1)
            while len(content) < size and (more := os.read(descriptor, size + 1 - len(content))):
                content += more
        except IsADirectoryError as error:
            pass_on_theirs(error)
            raise CorruptError(str(self._paths.blob(digest)), reason="it is not a plain file") from error
        except OSError as error:
            raise_translated(error, path=str(self._paths.blob(digest)), root=self._paths.root)
        if len(content) != size:
            raise CorruptError(str(self._paths.blob(digest)), reason=f"it does not have {size} bytes")
        return content

    def read_staged(self, blob: StagedBlob) -> bytes:
        """All bytes of what is staged, which were verified then: for what is small, such as a manifest.

        Raises:
            StorageError: they could not be read, or are not staged any more.
        """
        file = _own(blob)
        path = self._paths.upload(file.name)
        with Translating(str(path), root=self._paths.root), open(path, "rb") as opened:
            return opened.read(file.size)

    def found_digest(self, digest: Digest, *, told: Callable[[int], object] = lambda _: None) -> tuple[Digest, int]:
        """What the bytes under that digest hash to, and their number: for who looks whether they are the right ones.

        What cannot be read is read a second time, by another descriptor: one refusal says nothing of the bytes.

        Args:
            digest: under which they lie, and whose algorithm they are hashed with.
            told: called with the number of bytes of each piece that was read.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: what lies there is not a plain file.
            StorageError: they cannot be read now, which is no damage.
        """
        try:
            return self._found_digest(digest, told)
        except StorageError:
            return self._found_digest(digest, told)

    def _found_digest(self, digest: Digest, told: Callable[[int], object]) -> tuple[Digest, int]:
        translating = Translating(partial(self._paths.blob, digest), root=self._paths.root)
        descriptor = self._open_blob(digest)
        with translating:
            plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not plain:
            raise CorruptError(str(self._paths.blob(digest)), reason="it is not a plain file")
        return digest_of(int(descriptor), digest.algorithm, told=told, reading=translating)

    def _open_blob(self, digest: Digest) -> FileDescriptor:
        try:
            # The names inside are the last part of StorePaths.blob, without the 4 microseconds that a Path costs.
            directory = self._directories.algorithm(digest.algorithm)
            return owned(os.open, digest.encoded, READ_FLAGS, dir_fd=directory)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP and is_refusal(error):
                raise CorruptError(str(self._paths.blob(digest)), reason="it is a symbolic link") from error
            raise_translated(error, path=str(self._paths.blob(digest)), root=self._paths.root)

    # --- upload sessions ----------------------------------------------------------------------------------------------

    def create_upload(self) -> str:
        """Make the empty file of a new upload session, durably, and return its name: 32 hexadecimal digits.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be made.
        """
        anchor = self.begin_upload()
        self.keep_upload(anchor)
        return anchor.name

    def begin_upload(self) -> Anchor:
        """Likewise; but the file goes with what this returns, until :meth:`keep_upload`.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be made.
        """
        self._refuse_if_read_only()
        mode = self._paths.permissions.file
        anchor = self._anchors.new()
        try:
            with Translating(partial(self._paths.upload, anchor.name), root=self._paths.root):
                descriptor = self._new_file(anchor, mode)
                if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:  # the umask took bits away
                    os.fchmod(descriptor, mode)
                os.fsync(descriptor)
                os.fsync(self._directories.uploads())
        except BaseException:
            self._drop(anchor.name)
            raise
        return anchor

    def keep_upload(self, upload: Anchor) -> None:
        """Leave the file of an upload session to whoever knows its name: its row was committed."""
        self._anchors.let_go(upload.name)

    def open_upload(self, name: str, algorithm: str, *, state: HashState | None = None) -> UploadFile:
        """The file of an upload session, for this caller alone; see :class:`UploadFile`.

        Args:
            name: what :meth:`create_upload` returned.
            algorithm: what to hash the bytes with as they come.
            state: what a former ``UploadFile`` of this session left in ``state``, so that its bytes are not read again.

        Raises:
            FileNotFoundError: there is no such session file.
            StoreBusyError: somebody else, in this process or another, has it open.
            InvalidNameError, InvalidDigestError: the name or the algorithm is none.
            StorageError, CorruptError: it could not be opened, or is not a plain file.
        """
        self._refuse_if_read_only()
        checked_upload_name(name)
        with Translating(partial(self._paths.upload, name), root=self._paths.root):
            uploads = self._directories.uploads()
        return UploadFile.open(self._paths, uploads, name, algorithm, state=state, past_cache=self.past_cache)

    def remove_upload(self, name: str) -> None:
        """Remove the file of an upload session. Does nothing where there is none.

        Raises:
            InvalidNameError: ``name`` is none.
            ReadOnlyStoreError, StorageError: it could not be removed.
        """
        self._refuse_if_read_only()
        path = str(self._paths.upload(name))
        with Translating(path, root=self._paths.root):
            self._unlink(name)
        self._anchors.let_go(name)

    def upload_size(self, name: str) -> int:
        """The number of bytes in the file of an upload session.

        Raises:
            FileNotFoundError: there is no such session file, or it is no plain file.
            InvalidNameError: ``name`` is none.
            StorageError: the file system refused to say.
        """
        path = partial(self._paths.upload, checked_upload_name(name))
        with Translating(path, root=self._paths.root):
            try:
                status = os.stat(name, dir_fd=self._directories.uploads(), follow_symlinks=False)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path()))
        return status.st_size

    def page_cache(self) -> str:
        """What holds the bytes of upload sessions that were written and not synced; see :mod:`.pagecache`.

        Raises:
            StorageError: the kernel refused to say.
        """
        with Translating(str(self._paths.uploads), root=self._paths.root):
            return page_cache(self._directories.uploads())

    # --- within -------------------------------------------------------------------------------------------------------

    def _refuse_if_read_only(self) -> None:
        if self._read_only:
            raise ReadOnlyStoreError(self._paths.root)

    def _new_file(self, anchor: Anchor, mode: int) -> FileDescriptor:
        with Translating(partial(self._paths.upload, anchor.name), root=self._paths.root):
            return owned(os.open, anchor.name, _NEW_FILE, mode, dir_fd=self._directories.uploads())

    def _unlink(self, name: str) -> None:
        with Ignoring(FileNotFoundError):
            os.unlink(name, dir_fd=self._directories.uploads())

    def _unlink_quietly(self, name: str) -> None:
        # What cannot be removed now is swept by age; what the caller is told of matters more.
        with Ignoring():
            self._unlink(name)

    def _drop(self, name: str) -> None:
        self._unlink_quietly(name)
        self._anchors.let_go(name)

    def _close_kept(self, file: StagedFile) -> None:
        file.descriptor = None
        self._kept.discard(file)

    def _make_durable(self, files: Sequence[StagedFile]) -> None:
        if not files:
            return
        try:
            # Held here too, so that they stay open whoever else discards them meanwhile.
            descriptors = [file.descriptor for file in files if file.descriptor is not None]
            if len(descriptors) == len(files) <= _FILES_SYNCED_ONE_BY_ONE:
                sync_files(descriptors)
            elif syncfs_reports_errors():
                self._sync_filesystem(files)
            else:
                self._sync_each_by_name(files)
        except OSError as error:
            descriptors = []
            if is_refusal(error):
                for file in files:
                    self._close_kept(file)
                    self._drop(file.name)
            raise_translated(error, path=str(self._paths.uploads), root=self._paths.root)
        for file in files:
            file.durable = True
            self._close_kept(file)

    def _sync_filesystem(self, files: Sequence[StagedFile]) -> None:
        with self._syncing:
            # Of one description the kernel reports an error once, so whoever gets it counts it for all who share it.
            try:
                sync_filesystem(self._directories.uploads())
            except OSError as error:
                if is_refusal(error):
                    self._syncs_failed += 1
                raise
            if any(file.syncs_failed != self._syncs_failed for file in files):
                raise OSError(errno.EIO, "a sync since then failed, which may have lost these bytes")

    def _sync_each_by_name(self, files: Sequence[StagedFile]) -> None:
        uploads = self._directories.uploads()
        for file in files:
            os.fsync(owned(os.open, file.name, READ_FLAGS, dir_fd=uploads))

    def _link(self, file: StagedFile, directory: int) -> None:
        uploads = self._directories.uploads()
        if file.linked is not None and stat.S_IMODE(file.linked.st_mode) != _PUBLISHED_MODE:
            os.fchmod(owned(os.open, file.name, READ_FLAGS, dir_fd=uploads), _PUBLISHED_MODE)
        encoded = file.digest.encoded
        while True:
            try:
                os.link(file.name, encoded, src_dir_fd=uploads, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError as error:
                pass_on_theirs(error)
                try:
                    status = os.stat(encoded, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError as gone:
                    pass_on_theirs(gone)
                    continue  # it was withdrawn or collected in between
                if not file.is_at(status):
                    self._replace(file, directory)
            return

    def _replace(self, file: StagedFile, directory: int) -> None:
        uploads = self._directories.uploads()
        second = secrets.token_hex(16)
        os.link(file.name, second, src_dir_fd=uploads, dst_dir_fd=uploads, follow_symlinks=False)
        try:
            os.rename(second, file.digest.encoded, src_dir_fd=uploads, dst_dir_fd=directory)
        except IsADirectoryError as error:
            pass_on_theirs(error)
            raise CorruptError(str(self._paths.blob(file.digest)), reason="it is a directory") from error
        finally:
            # Renaming onto another name of the same file does nothing and leaves both; then the second has to go.
            self._unlink_quietly(second)


def _check(found: Digest, expected: Digest | None) -> None:
    if expected is not None and found != expected:
        raise DigestMismatchError(expected=expected, actual=found)


def _own(blob: StagedBlob) -> StagedFile:
    if not isinstance(blob, StagedFile):
        raise TypeError(f"{blob!r} was staged by another pool")
    return blob
