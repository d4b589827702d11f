"""The files of an OCI layout directory, opened so that nothing in it leads elsewhere.

Whatever is in a layout came from outside: every name is opened relative to a directory that is already open, symbolic
links are refused everywhere below the directory that the caller named, and only plain files are read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from ocistore.blobs.permissions import inherit
from ocistore.blobs.reader import READ_FLAGS
from ocistore.filedescriptors import owned
from ocistore.files.content import write_all
from ocistore.files.making import TEMPORARY, make_directory, new_file
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from ocistore.blobs.permissions import Permissions
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.oci.digest import Digest

OCI_LAYOUT: Final = "oci-layout"
INDEX_JSON: Final = "index.json"
BLOBS: Final = "blobs"

_LEFTOVER: Final = re.compile(re.escape(TEMPORARY) + "[0-9a-f]{16}", re.ASCII)

_NOT_PLAIN: Final = "it is not a plain file"
_LINK: Final = f"{_NOT_PLAIN}, but a symbolic link, which is not followed; tar --dereference packs what it leads to"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NotPlainError(Exception):
    """Something in a layout is not the plain file or directory it should be; the text says what it is."""


class LayoutDirectory:
    """An open layout directory. A context manager; keeps a descriptor of each directory it has seen."""

    def __init__(self, path: Path, *, permissions: Permissions | None = None) -> None:
        """Open it; ``path`` itself may be a symbolic link, as everywhere on a command line.

        ``permissions`` are those of what is made in it, where it is a store's or a backup's; if not given, it is for
        the umask to say.

        Raises:
            OSError: there is no directory.
        """
        self.path = path
        self._permissions = permissions
        self._held: FileDescriptor | None = owned(os.open, path, _DIRECTORY)
        self._blobs: FileDescriptor | None = None
        self._algorithms: dict[str, FileDescriptor] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its descriptors: each is closed when nobody works with it. Calling it again does nothing."""
        self._algorithms.clear()
        self._blobs = self._held = None

    @property
    def descriptor(self) -> FileDescriptor:
        """A descriptor of the directory, until it is closed.

        Raises:
            ValueError: it is closed.
        """
        if self._held is None:
            raise ValueError(f"the layout {self.path} is closed")
        return self._held

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of the file of a blob, for messages."""
        return self.path / BLOBS / digest.algorithm / digest.encoded

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return the bytes of a small file of the top level.

        Raises:
            FileNotFoundError: there is none.
            NotPlainError: it is something else, or larger than ``maximum`` bytes.
        """
        descriptor = open_plain(name, self.descriptor)
        content = bytearray()
        while chunk := os.read(descriptor, 1024 * 1024):
            content += chunk
            if len(content) > maximum:
                raise NotPlainError(f"it is larger than {maximum} bytes")
        return bytes(content)

    def open_blob(self, digest: Digest) -> FileDescriptor:
        """Return a descriptor of the file of a blob.

        Raises:
            FileNotFoundError: there is none.
            NotPlainError: it, or a directory on the way to it, is something else.
        """
        return open_plain(digest.encoded, self.algorithm(digest.algorithm))

    def blob_size(self, digest: Digest) -> int:
        """Return the size of the file of a blob, in bytes.

        Raises:
            FileNotFoundError: there is none.
            NotPlainError: it, or a directory on the way to it, is something else.
        """
        return plain_size(digest.encoded, self.algorithm(digest.algorithm))

    def algorithm(self, algorithm: str) -> FileDescriptor:
        """Return a descriptor of ``blobs/<algorithm>``.

        Raises:
            FileNotFoundError: there is none.
            NotPlainError: it, or ``blobs``, is no directory, or a symbolic link.
        """
        found = self._algorithms.get(algorithm)
        if found is None:
            found = self._algorithms[algorithm] = _open_directory(algorithm, self._open_blobs())
        return found

    def make_algorithm(self, algorithm: str) -> FileDescriptor:
        """Return the descriptor of ``blobs/<algorithm>``, which is made if need be. Durable after :meth:`sync`."""
        with Ignoring(FileExistsError):
            os.mkdir(BLOBS, dir_fd=self.descriptor)
        if self._permissions is not None:
            if make_directory(algorithm, self._permissions.directory, dir_fd=self._open_blobs()):
                inherit(algorithm, self._open_blobs())
        else:
            with Ignoring(FileExistsError):
                os.mkdir(algorithm, dir_fd=self._open_blobs())
        return self.algorithm(algorithm)

    def _open_blobs(self) -> FileDescriptor:
        if self._blobs is None:
            self._blobs = _open_directory(BLOBS, self.descriptor)
        return self._blobs

    def sync(self) -> None:
        """Make the names in the top level, and in every directory of an algorithm that was opened, durable.

        Also those of directories: the process that made one may have been killed before this.
        """
        for directory in (*self._algorithms.values(), self._blobs):
            if directory is not None:
                os.fsync(directory)
        self.sync_top()

    def sync_top(self) -> None:
        """Make the names in the top level durable."""
        os.fsync(self.descriptor)

    def clear_leftovers(self) -> None:
        """Remove what crashed writers abandoned. Only for a holder of the layout alone: others may be writing."""
        for name in os.listdir(self.descriptor):
            if _LEFTOVER.fullmatch(name) is not None:
                with Ignoring(IsADirectoryError):  # which ocistore did not make
                    os.unlink(name, dir_fd=self.descriptor)

    @contextlib.contextmanager
    def replacing(self, name: str, content: bytes | bytearray) -> Iterator[None]:
        """Write a file of the top level, which gets its name when the block ends; durable after :meth:`sync_top`.

        Its bytes are durable before: a crash leaves the old file or the new one. So does an error.
        """
        temporary, descriptor = new_file(self.descriptor)
        try:
            try:
                if self._permissions is not None:
                    os.fchmod(descriptor, self._mode_of(name) or self._permissions.file)
                write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                del descriptor
            yield
            os.rename(temporary, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            with Ignoring():
                os.unlink(temporary, dir_fd=self.descriptor)
            raise

    def _mode_of(self, name: str) -> int | None:
        """Return the mode of a file that is to be replaced: somebody may have let others read it."""
        try:
            status = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return None
        return stat.S_IMODE(status.st_mode) & 0o666 if stat.S_ISREG(status.st_mode) else None

    def replace(self, name: str, content: bytes | bytearray) -> None:
        """Replace a file of the top level as :meth:`replacing` does, and do nothing before the file gets its name."""
        with self.replacing(name, content):
            pass


def _open_directory(name: str, parent: int) -> FileDescriptor:
    try:
        return owned(os.open, name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        pass_on_theirs(error)
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise NotPlainError(f"{name} is a symbolic link or no directory") from error
        raise


def plain_size(name: str, parent: int) -> int:
    """Return the size of a plain file in an open directory, in bytes; raises as :meth:`LayoutDirectory.blob_size`."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise NotPlainError(_LINK if stat.S_ISLNK(status.st_mode) else _NOT_PLAIN)
    return status.st_size


def open_plain(name: str, parent: int) -> FileDescriptor:
    """Return a descriptor of a plain file of an open directory; raises as :meth:`LayoutDirectory.open_blob`."""
    try:
        descriptor = owned(os.open, name, READ_FLAGS, dir_fd=parent)
    except OSError as error:
        pass_on_theirs(error)
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise NotPlainError(_LINK if error.errno == errno.ELOOP else _NOT_PLAIN) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NotPlainError(_NOT_PLAIN)
    return descriptor
