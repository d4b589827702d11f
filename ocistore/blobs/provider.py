"""What the pool of files publishes, for reading: ``blobs/<alg>/<hex>``, opened in held directories."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from ocistore.blobs.hashing import digest_of, no_count
from ocistore.blobs.reader import READ_FLAGS, BlobReader
from ocistore.errors import CorruptError
from ocistore.filedescriptors import owned
from ocistore.oserrors import Translating, raise_translated
from ocistore.refusals import Ignoring, is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.blobs.directories import Directories
    from ocistore.blobs.hashing import Count
    from ocistore.blobs.paths import StorePaths
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.oci.digest import Digest


class FileProvider:
    """The role :class:`ocistore.blobs.pool.Provider` of the pool of files, and where its files are."""

    def __init__(self, paths: StorePaths, directories: Directories) -> None:
        self._paths = paths
        self._directories = directories

    def has_algorithm(self, algorithm: str) -> bool:
        """Whether ``blobs/<alg>`` is there.

        Raises:
            CorruptError: it is not a directory.
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
        """Return the number of bytes under that digest; None where there is no plain file.

        Raises:
            CorruptError: ``blobs/<alg>`` is not a directory.
            StorageError: the file system refused to say.
        """
        try:
            status = self._directories.find(digest)
        except OSError as error:
            raise_translated(error, path=str(self._paths.blob(digest)), root=self._paths.root)
        return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None

    def has(self, digest: Digest, size: int) -> bool:
        """Whether there is a plain file of ``size`` bytes. Raises as :meth:`size`."""
        return self.size(digest) == size

    def open(self, digest: Digest, size: int, *, verify: bool = False) -> BlobReader:
        """Open the file of a blob; see :meth:`Provider.open`.

        Raises:
            FileNotFoundError: there is none.
            CorruptError: it does not have ``size`` bytes, or is not a plain file; and later, reading to the end of
                wrong bytes.
            StorageError: it could not be opened.
        """
        name = str(self._paths.blob(digest))
        reader = BlobReader.of_file(
            self._open_blob(digest), name=name, root=self._paths.root, digest=digest if verify else None
        )
        if reader.size != size:
            reader.close()
            raise CorruptError(f"blob {digest}", reason=f"its file has {reader.size} bytes, not {size}")
        return reader

    def read(self, digest: Digest, size: int) -> bytes:
        """Return all ``size`` bytes of the file of a blob; see :meth:`Provider.read`.

        Raises:
            FileNotFoundError: there is none.
            CorruptError: there are fewer or more bytes, or it is not a plain file.
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

    def hash(self, digest: Digest, *, fresh: bool = False, progress: Count = no_count) -> tuple[Digest, int]:
        """Hash the file of a blob; see :meth:`Provider.hash`.

        Raises:
            FileNotFoundError: there is none.
            CorruptError: it is not a plain file.
            StorageError: it cannot be read now.
        """
        translating = Translating(partial(self._paths.blob, digest), root=self._paths.root)
        descriptor = self._open_blob(digest)
        with translating:
            plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not plain:
            raise CorruptError(str(self._paths.blob(digest)), reason="it is not a plain file")
        if fresh:
            with Ignoring():  # what the kernel has cached may be what is wrong
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return digest_of(int(descriptor), digest.algorithm, progress=progress, reading=translating)

    def path(self, digest: Digest) -> Path:
        """Return the path of the file of a blob, there or not."""
        return self._paths.blob(digest)

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
        """Return a descriptor of ``blobs/<alg>``, for who links many blobs.

        Raises:
            FileNotFoundError: nothing of that algorithm was ever stored.
            CorruptError: it is not a directory.
        """
        return self._directories.algorithm(algorithm)

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
