"""The pool that keeps blobs as files of one filesystem, each content once, in the store's own directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.blobs.ballast import Ballast
from ocistore.blobs.directories import Directories
from ocistore.blobs.ingester import FileIngester
from ocistore.blobs.provider import FileProvider
from ocistore.blobs.staging import Staging
from ocistore.blobs.sweeper import FileSweeper
from ocistore.blobs.uploads import FileUploads
from ocistore.refusals import Ignoring

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.blobs.paths import StorePaths
    from ocistore.blobs.pool import StagedBlob


class FilePool(FileProvider, FileIngester):
    """A pool of files, as :class:`ocistore.blobs.pool.Pool` promises, with all that only some can do.

    Safe for any number of threads and processes. It holds descriptors of its directories until it is closed and nobody
    works with them any more.
    """

    identity = ""

    def __init__(self, paths: StorePaths, *, read_only: bool = False) -> None:
        """Touch nothing: the directories are opened when they are needed, and made by :meth:`create`."""
        self._directories = Directories(paths)
        self._staging = Staging(paths, self._directories)
        FileProvider.__init__(self, paths, self._directories)
        FileIngester.__init__(self, paths, self._directories, self._staging, read_only=read_only)
        self.uploads = FileUploads(paths, self._staging, self)
        """The files of upload sessions."""
        self.sweeper = FileSweeper(paths, self._directories, refuse_if_read_only=self.refuse_if_read_only)
        """What takes files out of the pool, and lists what is in it."""
        self.ballast = Ballast(paths)
        """What is given up when the disk is full."""
        self._closed = False

    @property
    def sharing(self) -> FilePool:
        """This pool: it takes and gives files by link and reflink."""
        return self

    @property
    def local(self) -> FilePool:
        """This pool: its blobs are files."""
        return self

    @property
    def addresses(self) -> None:
        """None: nobody but this machine reads the files."""
        return

    def create(self) -> None:
        """Make the directories of a store and make them durable; harmless where they exist.

        Raises:
            UnsupportedFilesystemError: the filesystem has no hard links.
            CorruptError: something that is not a directory is in the place of one.
            StoreFullError, ReadOnlyStoreError, StorageError: a directory could not be made.
        """
        self.refuse_if_read_only()
        self._directories.create()

    def hold(self) -> None:
        """Stay with the directory that has the root's name now, wherever it is moved, if it may be read."""
        with Ignoring():
            self._directories.hold()

    def close(self) -> None:
        """Let go of every descriptor the pool holds: those that another thread works with are closed by that.

        What was staged and not discarded stays staged, for whoever has it.
        """
        self._closed = True
        self._staging.sweep()
        self._directories.close()

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Give up what was staged, also after :meth:`close`; see :meth:`FileIngester.discard`."""
        super().discard(staged)
        if self._closed:  # what was opened again for this
            self._directories.close()
