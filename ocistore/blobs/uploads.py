"""The upload sessions of the pool of files: each a file in ``uploads/``, of which :mod:`.session` is the open one."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from ocistore.blobs.pagecache import page_cache
from ocistore.blobs.paths import checked_upload_name
from ocistore.blobs.session import UploadFile
from ocistore.oserrors import Translating
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from ocistore.blobs.anchors import Anchor
    from ocistore.blobs.ingester import FileIngester
    from ocistore.blobs.paths import StorePaths
    from ocistore.blobs.pool import HashState, NewUpload
    from ocistore.blobs.staging import Staging


class FileUploads:
    """The role :class:`ocistore.blobs.pool.Uploads` of the pool of files."""

    def __init__(self, paths: StorePaths, staging: Staging, ingester: FileIngester) -> None:
        self._paths = paths
        self._staging = staging
        self._ingester = ingester

    def create(self) -> Anchor:
        """Make the empty file of a new session, durably. It goes with what this returns, until :meth:`keep`.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: it could not be made.
        """
        self._ingester.refuse_if_read_only()
        mode = self._paths.permissions.file
        anchor = self._staging.new()
        try:
            with self._staging.translating(anchor.name):
                descriptor = self._staging.create(anchor, mode)
                if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:  # the umask took bits away
                    os.fchmod(descriptor, mode)
                os.fsync(descriptor)
                os.fsync(self._staging.directory())
        except BaseException:
            self._staging.drop(anchor.name)
            raise
        return anchor

    def keep(self, upload: NewUpload) -> None:
        """Leave the file of an upload session to whoever knows its name: its row was committed."""
        self._staging.let_go(upload.name)

    def open(self, name: str, algorithm: str, *, state: HashState | None = None) -> UploadFile:
        """Open the file of a session, for this caller alone; see :meth:`Uploads.open`.

        Args:
            name: of the session.
            algorithm: what to hash the bytes with as they come.
            state: what a former ``UploadFile`` of this session left in ``state``, so that its bytes are not read again.

        Raises:
            FileNotFoundError: there is no such session file.
            StoreBusyError: somebody else, in this process or another, has it open.
            InvalidNameError, InvalidDigestError: the name or the algorithm is none.
            StorageError, CorruptError: it could not be opened, or is not a plain file.
        """
        self._ingester.refuse_if_read_only()
        checked_upload_name(name)
        with Translating(partial(self._paths.upload, name), root=self._paths.root):
            uploads = self._staging.directory()
        return UploadFile.open(self._paths, uploads, name, algorithm, state=state, past_cache=self._ingester.past_cache)

    def remove(self, name: str) -> None:
        """Remove the file of an upload session. Does nothing where there is none.

        Raises:
            InvalidNameError: ``name`` is none.
            ReadOnlyStoreError, StorageError: it could not be removed.
        """
        self._ingester.refuse_if_read_only()
        path = str(self._paths.upload(name))
        with Translating(path, root=self._paths.root):
            self._staging.unlink(name)
        self._staging.let_go(name)

    def size(self, name: str) -> int:
        """Return the number of bytes in the file of an upload session.

        Raises:
            FileNotFoundError: there is no such session file, or it is no plain file.
            InvalidNameError: ``name`` is none.
            StorageError: the file system refused to say.
        """
        path = partial(self._paths.upload, checked_upload_name(name))
        with Translating(path, root=self._paths.root):
            try:
                status = os.stat(name, dir_fd=self._staging.directory(), follow_symlinks=False)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path()))
        return status.st_size

    def page_cache(self) -> str:
        """Name what holds the bytes of upload sessions that were written and not synced; see :mod:`.pagecache`.

        Raises:
            StorageError: the kernel refused to say.
        """
        with Translating(str(self._paths.uploads), root=self._paths.root):
            return page_cache(self._staging.directory())
