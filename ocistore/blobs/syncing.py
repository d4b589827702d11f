"""Making staged files durable before they are published: one by one, or with the whole filesystem."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from ocistore.files.durability import sync_files, sync_filesystem, syncfs_reports_errors
from ocistore.forks import ForkSafeLock
from ocistore.oserrors import raise_translated
from ocistore.refusals import is_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocistore.blobs.staged import StagedFile
    from ocistore.blobs.staging import Staging
    from ocistore.filedescriptors import FileDescriptor

_KEPT_OPEN: Final = 64
"""How many staged files stay open until they are synced. A file that is closed and opened again can lose the error of a
failed write-back together with its inode; more of them than this are synced with the whole filesystem, which cannot."""

_FILES_SYNCED_ONE_BY_ONE: Final = 8
"""Up to how many files are synced one by one. Measured: 3 small files 1.0 ms this way and 1.4 ms with the whole
filesystem, 8 files 1.5 and 1.2, 64 files 8.6 and 4.2. But a sync of the whole filesystem waits for everybody's
unwritten data too."""


class Syncer:
    """Keeps staged files of one pool open as long as that is useful, and syncs them."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._kept: WeakSet[StagedFile] = WeakSet()
        """What is staged and still open."""
        self._syncing = ForkSafeLock()
        self.failed = 0
        """How many syncs of the whole filesystem failed. What is staged notes it when it is made."""

    def keep(self, staged: StagedFile, descriptor: FileDescriptor) -> None:
        """Keep a file open, where there are not too many already."""
        if len(self._kept) < _KEPT_OPEN:
            staged.descriptor = descriptor
            self._kept.add(staged)

    def close(self, staged: StagedFile) -> None:
        """Let go of a file that was kept open."""
        if staged.descriptor is not None:
            staged.descriptor = None
            self._kept.discard(staged)

    def make_durable(self, files: Sequence[StagedFile]) -> None:
        """Sync the data of all of them.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: it failed, and cannot be trusted to succeed later: they
                were removed.
        """
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
                    self.close(file)
                    self._staging.drop(file.name)
            paths = self._staging.paths
            raise_translated(error, path=str(paths.uploads), root=paths.root)
        for file in files:
            file.durable = True
            self.close(file)

    def _sync_filesystem(self, files: Sequence[StagedFile]) -> None:
        with self._syncing:
            # Of one description the kernel reports an error once, so whoever gets it counts it for all who share it.
            try:
                sync_filesystem(self._staging.directory())
            except OSError as error:
                if is_refusal(error):
                    self.failed += 1
                raise
            if any(file.syncs_failed != self.failed for file in files):
                raise OSError(errno.EIO, "a sync since then failed, which may have lost these bytes")

    def _sync_each_by_name(self, files: Sequence[StagedFile]) -> None:
        for file in files:
            os.fsync(self._staging.open(file.name))
