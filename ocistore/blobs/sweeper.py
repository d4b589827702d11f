"""Moving bytes out of the pool of files, to ``trash/``, to ``quarantine/``, and away; and the listings for that.

Every move is one rename, so a file is always in exactly one place. None of them is synced, unless it says so: a power
cut may put a file back into ``blobs/``, where it has no row, and a later collection finds it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from ocistore.blobs.hashing import digest_of
from ocistore.blobs.pool import PublishedFile, UnpublishedFile
from ocistore.blobs.reader import READ_FLAGS, BlobReader
from ocistore.errors import InvalidDigestError
from ocistore.filedescriptors import owned
from ocistore.oci.digest import ALGORITHMS, Digest, digest_or_none
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ocistore.blobs.directories import Directories
    from ocistore.blobs.paths import StorePaths


class FileSweeper:
    """The role :class:`ocistore.blobs.pool.Sweeper` of the pool of files."""

    def __init__(self, paths: StorePaths, directories: Directories, *, refuse_if_read_only: Callable[[], None]) -> None:
        self._paths = paths
        self._directories = directories
        self._refuse_if_read_only = refuse_if_read_only

    # --- what there is ------------------------------------------------------------------------------------------------

    def files(self) -> Iterator[PublishedFile]:
        """List everything in the directories of the pool, in no order, in constant memory.

        What comes or goes meanwhile may be given or not.

        Raises:
            CorruptError: ``blobs/<alg>`` is not a directory.
            StorageError: a directory could not be read.
        """
        for algorithm in ALGORITHMS:
            with Translating(partial(self._paths.algorithm, algorithm), root=self._paths.root):
                try:
                    directory = self._directories.algorithm(algorithm)
                except FileNotFoundError as error:
                    pass_on_theirs(error)
                    continue
                for name, status in _entries(directory):
                    digest = _digest(algorithm, name) if stat.S_ISREG(status.st_mode) else None
                    yield PublishedFile(
                        algorithm, name, digest, status.st_size, status.st_ino, status.st_ctime_ns // 1_000_000
                    )

    def find(self, digest: Digest) -> PublishedFile | None:
        """Return what has the name of a blob, whatever it is; None where nothing does.

        Raises:
            CorruptError: ``blobs/<alg>`` is not a directory.
            StorageError: the file system refused to say.
        """
        with Translating(partial(self._paths.blob, digest), root=self._paths.root):
            status = self._directories.find(digest)
        if status is None:
            return None
        plain = digest if stat.S_ISREG(status.st_mode) else None
        return PublishedFile(
            digest.algorithm, digest.encoded, plain, status.st_size, status.st_ino, status.st_ctime_ns // 1_000_000
        )

    def staged(self) -> Iterator[UnpublishedFile]:
        """List what is in ``uploads/``: upload sessions, and what was staged."""
        return self._list(self._directories.uploads, lambda: self._paths.uploads)

    def trashed(self) -> Iterator[UnpublishedFile]:
        """List what is in ``trash/``."""
        return self._list(self._directories.trash, lambda: self._paths.trash)

    def quarantined(self) -> Iterator[UnpublishedFile]:
        """List what is in ``quarantine/``."""
        return self._list(self._directories.quarantine, lambda: self._paths.quarantine)

    def _list(self, directory: Callable[[], int], path: Callable[[], Path]) -> Iterator[UnpublishedFile]:
        with Translating(path, root=self._paths.root):
            try:
                listed = directory()
            except FileNotFoundError as error:
                pass_on_theirs(error)
                if self._directories.is_gone():
                    raise
                return  # lost in a copy, as empty directories are; who opens the store for writing makes it again
            for name, status in _entries(listed):
                if not stat.S_ISDIR(status.st_mode):
                    yield _unpublished(name, status)

    def find_staged(self, name: str) -> UnpublishedFile | None:
        """Return what has that name in ``uploads/``; None where nothing does, or a directory.

        Raises:
            StorageError: the file system refused to say.
        """
        with Translating(f"{self._paths.uploads}/{name}", root=self._paths.root):
            try:
                status = os.stat(name, dir_fd=self._directories.uploads(), follow_symlinks=False)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                return None
        return None if stat.S_ISDIR(status.st_mode) else _unpublished(name, status)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Keep others from opening a session's file in ``uploads/`` inside the block; false where somebody has it open.

        Raises:
            StorageError: it cannot be locked.
        """
        path = partial(self._paths.upload, name)
        is_free = True
        with Translating(path, root=self._paths.root):
            try:
                # Gone; or staged by who may read it alone.
                with Ignoring(FileNotFoundError, PermissionError):
                    descriptor = owned(os.open, name, READ_FLAGS, dir_fd=self._directories.uploads())
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                pass_on_theirs(error)
                is_free = False
        yield is_free

    def published(self, file: UnpublishedFile) -> Digest | None:
        """Return by which digest a file in ``uploads/`` is published too: by a push that died, or is not over yet.

        It is hashed, and so found without listing the pool. None where it was not published, or is gone.

        Raises:
            CorruptError: ``blobs/<alg>`` is not a directory.
            StorageError: it could not be read.
        """
        with Translating(f"{self._paths.uploads}/{file.name}", root=self._paths.root):
            try:
                descriptor = owned(os.open, file.name, READ_FLAGS, dir_fd=self._directories.uploads())
            except FileNotFoundError as error:
                pass_on_theirs(error)
                return None
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink == 1 or status.st_ino != file.identity:
                return None
            for algorithm in ALGORITHMS:
                try:
                    self._directories.algorithm(algorithm)
                    os.lseek(descriptor, 0, os.SEEK_SET)
                    digest, _ = digest_of(descriptor, algorithm)
                except (FileNotFoundError, InvalidDigestError) as error:  # not there, or none that is installed
                    pass_on_theirs(error)
                    continue
                named = self._directories.find(digest)
                if named is not None and (named.st_ino, named.st_dev) == (status.st_ino, status.st_dev):
                    return digest
        return None

    def open_quarantined(self, name: str) -> BinaryIO:
        """Open a file of ``quarantine/`` for reading.

        Raises:
            StorageError: it is not there, or cannot be opened.
        """
        path = f"{self._paths.quarantine}/{name}"
        with Translating(path, root=self._paths.root):
            descriptor = owned(os.open, name, READ_FLAGS, dir_fd=self._directories.quarantine())
        return BlobReader.of_file(descriptor, name=path, root=self._paths.root)

    # --- out of the pool ----------------------------------------------------------------------------------------------

    def trash(self, digest: Digest) -> UnpublishedFile | None:
        """Move the file of a blob to ``trash/``. Return what it is there; None where there is none.

        A directory in its place is none of ours to delete, and goes to ``quarantine/``.

        Only where nothing can come to rely on the name meanwhile: inside a write transaction that sees no live row.

        Raises:
            ReadOnlyStoreError, StoreFullError, StorageError: it could not be moved.
        """
        name = _unused_name(digest.algorithm, digest.encoded)
        status = self._move(digest.algorithm, digest.encoded, self._directories.trash, inode=None, to=name)
        return None if status is None else _unpublished(name, status)

    def quarantine(self, file: PublishedFile) -> str | None:
        """Move what is in the pool, blob or not, to ``quarantine/``, durably. Returns its name there.

        Nothing is moved, and None returned, where that file stands under its name no more: somebody replaced it.

        Raises:
            ReadOnlyStoreError, StoreFullError, StorageError: it could not be moved.
        """
        name = _unused_name(file.algorithm, file.name)
        moved = self._move(file.algorithm, file.name, self._directories.quarantine, inode=file.identity, to=name)
        if moved is None:
            return None
        with Translating(str(self._paths.quarantine), root=self._paths.root):
            os.fsync(self._directories.quarantine())
            os.fsync(self._directories.algorithm(file.algorithm))
        return name

    def _move(
        self, algorithm: str, name: str, directory: Callable[[], int], *, inode: int | None, to: str
    ) -> os.stat_result | None:
        self._refuse_if_read_only()
        with Translating(lambda: self._paths.blobs / algorithm / name, root=self._paths.root):
            try:
                source = self._directories.algorithm(algorithm)
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
                if inode is not None and status.st_ino != inode:
                    return None
                if stat.S_ISDIR(status.st_mode):
                    directory = self._directories.quarantine
                os.rename(name, to, src_dir_fd=source, dst_dir_fd=directory())
            except FileNotFoundError as error:
                pass_on_theirs(error)
                return None
            return status

    # --- gone ---------------------------------------------------------------------------------------------------------

    def delete(self, file: PublishedFile) -> bool:
        """Remove a file from the pool at once: of a backup, where nobody works. False where it is gone, or none.

        Raises:
            ReadOnlyStoreError, StorageError: it could not be removed.
        """
        if file.digest is None:
            return False
        algorithm = file.algorithm
        return self._remove(
            file.name, lambda: self._directories.algorithm(algorithm), lambda: self._paths.algorithm(algorithm)
        )

    def delete_trashed(self, name: str) -> bool:
        """Remove a file from ``trash/``. False where somebody else did.

        Raises:
            ReadOnlyStoreError, StorageError: it could not be removed.
        """
        return self._remove(name, self._directories.trash, lambda: self._paths.trash)

    def delete_quarantined(self, name: str) -> bool:
        """Remove a file from ``quarantine/`` whose bytes are in the pool again. False where somebody else did.

        Raises:
            ReadOnlyStoreError, StorageError: it could not be removed.
        """
        return self._remove(name, self._directories.quarantine, lambda: self._paths.quarantine)

    def delete_staged(self, name: str) -> bool:
        """Remove a file from ``uploads/``. False where somebody else did.

        Raises:
            ReadOnlyStoreError, StorageError: it could not be removed.
        """
        return self._remove(name, self._directories.uploads, lambda: self._paths.uploads)

    def _remove(self, name: str, directory: Callable[[], int], path: Callable[[], Path]) -> bool:
        self._refuse_if_read_only()
        with Translating(lambda: path() / name, root=self._paths.root):
            try:
                os.unlink(name, dir_fd=directory())
            except FileNotFoundError as error:
                pass_on_theirs(error)
                return False
        return True


def _entries(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    # A description of its own: two listings at once would share the position of one.
    descriptor = owned(os.open, ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    with os.scandir(descriptor) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError as error:  # gone since it was listed
                pass_on_theirs(error)
                continue
            yield entry.name, status


def _unpublished(name: str, status: os.stat_result) -> UnpublishedFile:
    return UnpublishedFile(name, status.st_size, status.st_ctime_ns // 1_000_000, status.st_ino, status.st_nlink > 1)


def _digest(algorithm: str, name: str) -> Digest | None:
    return digest_or_none(f"{algorithm}:{name}")


def _unused_name(algorithm: str, name: str) -> str:
    """Readable by people, and never the name of two files. A name in the pool that is no digest may be any length."""
    return f"{algorithm}-{os.fsdecode(os.fsencode(name)[:128])}.{secrets.token_hex(8)}"
