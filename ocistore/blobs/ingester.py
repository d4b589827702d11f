"""How content gets into the pool of files: staged in ``uploads/``, published by a hard link, and its ways back out.

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
from typing import TYPE_CHECKING

from ocistore.blobs.hashing import no_count, verify
from ocistore.blobs.ingest import ingest
from ocistore.blobs.output import Output
from ocistore.blobs.reader import BlobReader
from ocistore.blobs.sharing import linked, restore_mode
from ocistore.blobs.sources import AT_HAND, open_source
from ocistore.blobs.staged import StagedFile
from ocistore.blobs.staging import PUBLISHED_MODE, Staging
from ocistore.blobs.syncing import Syncer
from ocistore.errors import (
    CorruptError,
    DigestMismatchError,
    ReadOnlyStoreError,
    SizeMismatchError,
    StorageError,
)
from ocistore.files.cloning import clone
from ocistore.files.content import CountedFile
from ocistore.oci.digest import Digest, hasher
from ocistore.oserrors import Translating, raise_translated
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NoReturn

    from ocistore.blobs.anchors import Anchor
    from ocistore.blobs.directories import Directories
    from ocistore.blobs.hashing import Count
    from ocistore.blobs.paths import StorePaths
    from ocistore.blobs.pool import Source, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.filedescriptors import FileDescriptor


class FileIngester:
    """The role :class:`ocistore.blobs.pool.Ingester` of the pool of files, and what shares files with it."""

    def __init__(self, paths: StorePaths, directories: Directories, staging: Staging, *, read_only: bool) -> None:
        self._paths = paths
        self._directories = directories
        self._staging = staging
        self._read_only = read_only
        self._syncer = Syncer(staging)
        self.past_cache = True
        """Whether big blobs may be written past the page cache; see :mod:`ocistore.blobs.output`."""
        self._clones = True
        """Whether the filesystem can share bytes by reflink, as far as was tried."""
        self._device = -1
        """Where the last file was staged: one object for all of them, of which there may be 100,000."""

    def refuse_if_read_only(self) -> None:
        """Refuse to change anything in a pool that was opened for reading.

        Raises:
            ReadOnlyStoreError: it was.
        """
        if self._read_only:
            raise ReadOnlyStoreError(self._paths.root)

    def stage(
        self,
        source: Source,
        *,
        digest: Digest | None = None,
        size: int | None = None,
        algorithm: str = "sha256",
    ) -> StagedFile:
        """Write the bytes of ``source`` to a file in ``uploads/``, hashing them as they stream (P0).

        What reading ``source`` raises is raised unchanged. Whatever is raised, nothing is left behind.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those that were announced.
            InvalidDigestError: ``algorithm`` is not one this process can compute.
            TypeError: ``source`` is nothing a blob can be read from, or gave something other than bytes.
            StoreFullError, ReadOnlyStoreError, StorageError: they could not be written.
        """
        self.refuse_if_read_only()
        if digest is not None:
            algorithm = digest.algorithm
        if type(source) is bytes and len(source) <= AT_HAND:
            return self._stage_at_hand(source, digest=digest, size=size, algorithm=algorithm)
        state = hasher(algorithm)
        with open_source(source) as readable:
            anchor = self._staging.new()
            path = partial(self._paths.upload, anchor.name)
            descriptor: FileDescriptor | None = None
            try:
                descriptor = self._staging.create(anchor, PUBLISHED_MODE)
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
                self._staging.drop(anchor.name)
                raise

    def _stage_at_hand(self, content: bytes, *, digest: Digest | None, size: int | None, algorithm: str) -> StagedFile:
        """Stage bytes in memory: they are verified before a file is made, and written by one call."""
        if size is not None and len(content) != size:
            raise SizeMismatchError(expected=size, actual=len(content))
        found = Digest.of(content, algorithm)
        _check(found, digest)
        anchor = self._staging.new()
        descriptor: FileDescriptor | None = None
        try:
            descriptor = self._staging.create(anchor, PUBLISHED_MODE)
            self._staging.fill(anchor, descriptor, content)
            return self._staged(
                anchor, descriptor, found if digest is None else digest, len(content) if size is None else size
            )
        except BaseException:
            descriptor = None  # likewise
            self._staging.drop(anchor.name)
            raise

    def adopt(
        self,
        descriptor: int,
        *,
        digest: Digest,
        size: int,
        mode: TransferMode = "auto",
        path: str = "the file",
        progress: Count = no_count,
    ) -> StagedFile:
        """Stage the bytes of an open plain file, without copying them where ``mode`` allows and the filesystem can.

        They are hashed in any case, and are staged as by :meth:`stage`.

        Args:
            descriptor: of the file, open for reading. All of it is read, and where it stands afterwards is not said.
            digest: what its bytes must hash to.
            size: how many there must be.
            mode: see :data:`ocistore.TransferMode`.
            path: what messages call the file.
            progress: called with the number of bytes of each piece that was read.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those; nothing is left behind.
            StorageError: with ``link``, the file cannot be linked, or was written to while it was read. Also, and
                StoreFullError, ReadOnlyStoreError, where the bytes could not be written. Nothing is left behind, and
                the file is as it was.
            OSError: the file could not be read.
        """
        self.refuse_if_read_only()
        actual = os.fstat(descriptor).st_size
        if actual != size:
            raise SizeMismatchError(expected=size, actual=actual)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if mode == "link":
            return self._adopt_linked(descriptor, digest, size, path=path, progress=progress)
        if mode == "auto" and self._clones:
            staged = self._adopt_cloned(descriptor, digest, size, progress=progress)
            if staged is not None:
                return staged
        with CountedFile(descriptor, progress) as source:
            return self.stage(source, digest=digest, size=size)

    def _adopt_linked(self, source: int, digest: Digest, size: int, *, path: str, progress: Count) -> StagedFile:
        anchor = self._staging.new()
        try:
            before = os.fstat(source)
            with linked(source, self._directories.uploads(), anchor.name, path=path) as descriptor:
                verify(int(descriptor), digest, size, progress=progress)
            return self._staged(anchor, descriptor, digest, size, linked=before)
        except BaseException:
            self._staging.drop(anchor.name)
            raise

    def _adopt_cloned(self, source: int, digest: Digest, size: int, *, progress: Count) -> StagedFile | None:
        anchor = self._staging.new()
        translating = self._staging.translating(anchor.name)
        descriptor: FileDescriptor | None = None
        try:
            descriptor = self._staging.create(anchor, PUBLISHED_MODE)
            with translating:
                if not clone(source, descriptor):
                    self._clones = os.fstat(source).st_dev != os.fstat(descriptor).st_dev
                    self._staging.drop(anchor.name)
                    return None
                reading = self._staging.open(anchor.name)
            # The clone and not the source: it is what will be kept, and nobody writes to it.
            verify(int(reading), digest, size, progress=progress, reading=translating)
            return self._staged(anchor, descriptor, digest, size)
        except BaseException:
            descriptor = None
            self._staging.drop(anchor.name)
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
        """Return the verified file of that name, which is kept open or not."""
        try:
            status = os.fstat(descriptor)
            # The umask took bits away; but a file that somebody brought stays theirs until it is published.
            if linked is None and stat.S_IMODE(status.st_mode) != PUBLISHED_MODE:
                os.fchmod(descriptor, PUBLISHED_MODE)
        except OSError as error:
            self._staging.refused(anchor.name, error)
        device = self._device
        if status.st_dev != device:
            self._device = device = status.st_dev
        staged = StagedFile(
            digest,
            size,
            anchor.name,
            device,
            status.st_ino,
            syncs_failed=self._syncer.failed,
            linked=linked,
            anchor=anchor,
        )
        self._syncer.keep(staged, descriptor)
        return staged

    def publish(self, staged: Sequence[StagedBlob]) -> None:
        """Make the data durable, link it to its name, make the name durable (P1); see :meth:`Ingester.publish`.

        Raises:
            CorruptError: a directory is where a blob belongs, or ``blobs/<alg>`` is not a directory.
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be done. Where it was the sync, the bytes
                are given up at once: they cannot be trusted, so they must be staged again. Likewise where a collection
                removed them, because they were staged a day ago.
        """
        self.refuse_if_read_only()
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
                    reason = "it was staged so long ago that it was taken for abandoned, and removed; push it again"
                    raise StorageError(str(path), errno=errno.ENOENT, reason=reason) from error

    def _publish(self, files: Mapping[Digest, StagedFile]) -> None:
        self._syncer.make_durable([file for file in files.values() if not file.durable])
        touched: dict[str, int] = {}
        for file in files.values():
            algorithm = file.digest.algorithm
            directory = touched.get(algorithm)
            try:
                if directory is None:
                    directory = touched[algorithm] = self._directories.algorithm_for_writing(algorithm)
                self._link(file, directory)
            except OSError as error:
                self._refused(file.digest, error)
        for algorithm, directory in touched.items():
            with Translating(partial(self._paths.algorithm, algorithm), root=self._paths.root):
                os.fsync(directory)

    def holds(self, blob: StagedBlob) -> bool:
        """Whether a plain file of its size stands, durably, under the name of ``blob`` (P2)."""
        file = _own(blob)
        try:
            status = self._directories.find(file.digest)
            if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
                return False
            if not file.is_at(status):
                # another publisher's file, whose name may not be durable yet
                os.fsync(self._directories.algorithm(file.digest.algorithm))
        except OSError as error:
            self._refused(file.digest, error)
        return True

    def _refused(self, digest: Digest, error: OSError) -> NoReturn:
        raise_translated(error, path=str(self._paths.blob(digest)), root=self._paths.root)

    def withdraw(self, blob: StagedBlob) -> None:
        """Remove the name of ``blob``, if it stands for the staged file; see :meth:`Ingester.withdraw`.

        Raises:
            StorageError: it could not be removed.
        """
        file = _own(blob)
        with (
            Translating(partial(self._paths.blob, file.digest), root=self._paths.root),
            Ignoring(FileNotFoundError),
        ):
            if file.is_at(self._directories.find(file.digest)):
                os.unlink(file.digest.encoded, dir_fd=self._directories.algorithm(file.digest.algorithm))

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Remove the anchors of what was staged. Published bytes stay. Calling it again does nothing.

        Raises nothing where a file cannot be removed: the transaction it follows is over, and the sweep by age gets it.
        """
        for blob in staged:
            file = _own(blob)
            self._syncer.close(file)
            if file.left:
                continue
            if file.linked is not None:
                self._give_back(file, file.linked)
            self._staging.drop(file.name)

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
                    self._staging.let_go(file.name)
                else:  # the file of a session, which continues
                    uploads = self._directories.uploads()
                    second = secrets.token_hex(16)
                    os.link(file.name, second, src_dir_fd=uploads, dst_dir_fd=uploads, follow_symlinks=False)

    def _give_back(self, file: StagedFile, before: os.stat_result) -> None:
        """Let a file that somebody brought be as it was, if it did not become a blob."""
        with Ignoring():  # likewise
            descriptor = self._staging.open(file.name)
            self._staging.unlink(file.name)
            if not file.is_at(self._directories.find(file.digest)):
                restore_mode(descriptor, before)

    def open_staged(self, blob: StagedBlob) -> BlobReader:
        """Return a reader of the bytes of what is staged.

        Raises:
            StorageError: it was discarded, or could not be opened.
        """
        file = _own(blob)
        path = str(self._paths.upload(file.name))
        with Translating(path, root=self._paths.root):
            descriptor = self._staging.open(file.name)
        return BlobReader.of_file(descriptor, name=path, root=self._paths.root)

    def _link(self, file: StagedFile, directory: int) -> None:
        uploads = self._directories.uploads()
        if file.linked is not None and stat.S_IMODE(file.linked.st_mode) != PUBLISHED_MODE:
            os.fchmod(self._staging.open(file.name), PUBLISHED_MODE)
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
            self._staging.unlink_quietly(second)


def _check(found: Digest, expected: Digest | None) -> None:
    if expected is not None and found != expected:
        raise DigestMismatchError(expected=expected, actual=found)


def _own(blob: StagedBlob) -> StagedFile:
    if not isinstance(blob, StagedFile):
        raise TypeError(f"{blob!r} was staged by another pool")
    return blob
