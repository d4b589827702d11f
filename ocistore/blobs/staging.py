"""The directory ``uploads/``: what is staged lies in it, and upload sessions, each under a random name."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from ocistore.blobs.anchors import Anchors
from ocistore.blobs.reader import READ_FLAGS
from ocistore.filedescriptors import owned
from ocistore.oserrors import Translating, raise_translated
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from typing import NoReturn

    from ocistore.blobs.anchors import Anchor
    from ocistore.blobs.directories import Directories
    from ocistore.blobs.paths import StorePaths
    from ocistore.filedescriptors import FileDescriptor

PUBLISHED_MODE: Final = 0o444
"""The mode of what is staged, because it is that of what is published."""

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """The files in ``uploads/`` of one pool. Each belongs to an anchor until it is let go of."""

    def __init__(self, paths: StorePaths, directories: Directories) -> None:
        self.paths = paths
        self._directories = directories
        self._anchors = Anchors(self.unlink)

    def directory(self) -> FileDescriptor:
        """Return a descriptor of ``uploads/``."""
        return self._directories.uploads()

    def new(self) -> Anchor:
        """Return a name that nobody has, which goes with this object."""
        return self._anchors.new()

    def create(self, anchor: Anchor, mode: int) -> FileDescriptor:
        """Make the file of an anchor, open for writing.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be made.
        """
        try:
            return owned(os.open, anchor.name, _NEW_FILE, mode, dir_fd=self._directories.uploads())
        except OSError as error:
            self.refused(anchor.name, error)

    def fill(self, anchor: Anchor, descriptor: FileDescriptor, content: bytes) -> None:
        """Write all of ``content`` to the file of an anchor, which is empty and open as ``descriptor``.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: not all of it could be written.
        """
        try:
            written = os.pwrite(descriptor, content, 0)
            while written < len(content):
                written += os.pwrite(descriptor, memoryview(content)[written:], written)
        except OSError as error:
            self.refused(anchor.name, error)

    def open(self, name: str) -> FileDescriptor:
        """Open a file for reading.

        Raises:
            OSError: it cannot be opened.
        """
        return owned(os.open, name, READ_FLAGS, dir_fd=self._directories.uploads())

    def translating(self, name: str) -> Translating:
        """Return a block in which every refusal is about the file of that name."""
        return Translating(partial(self.paths.upload, name), root=self.paths.root)

    def refused(self, name: str, error: OSError) -> NoReturn:
        """Raise what a refusal of the file of that name means; for what is done for each blob, where a block is slow.

        Raises:
            OCIStoreError, OSError: see :func:`ocistore.oserrors.raise_translated`.
        """
        raise_translated(error, path=str(self.paths.upload(name)), root=self.paths.root)

    def unlink(self, name: str) -> None:
        """Remove a file. Does nothing where there is none.

        Raises:
            OSError: it could not be removed.
        """
        with Ignoring(FileNotFoundError):
            os.unlink(name, dir_fd=self._directories.uploads())

    def unlink_quietly(self, name: str) -> None:
        """Remove a file if that can be done: otherwise it is swept by age, and the caller has worse to report."""
        try:
            os.unlink(name, dir_fd=self._directories.uploads())
        except OSError as error:
            pass_on_theirs(error)

    def drop(self, name: str) -> None:
        """Remove the file of an anchor, which is done with."""
        self.unlink_quietly(name)
        self._anchors.let_go(name)

    def let_go(self, name: str) -> None:
        """Leave the file to whoever knows its name."""
        self._anchors.let_go(name)

    def sweep(self) -> None:
        """Remove the files whose anchors are garbage."""
        self._anchors.sweep()
