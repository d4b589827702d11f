"""Backup: a consistent copy of a store that is in use, which opens as a store itself.

    1  a hold is placed, in a write transaction: no collection acts from its commit on, because each of its transactions
       looks for holds; the next collection ends the hold of a backup that died, and one that stands still for an hour
       has lost its own and fails
    2  the catalog is copied as it is at one instant, to DEST/catalog.db.unfinished
    3  every live blob of that copy is given to DEST, unless it is there already, and made durable
    4  the copy takes its name: only now DEST is the new backup. Killed before, it is the one that it was
    5  files in DEST that the new backup does not name are removed

The bytes of a live blob never change and, held, are never removed; so the copy of the catalog finds all of them,
however long it takes and whatever is pushed meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.blobs.pool import name_of
from ocistore.catalog import blobs, epoch, holds, identity, leases, uploads
from ocistore.catalog.contract import one_file
from ocistore.catalog.migrate import revision
from ocistore.catalog.schema import SCHEMA_REVISION
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.core import check_if_moved
from ocistore.errors import CorruptError, OCIStoreError, StorageError, StoreBusyError, StoreNotFoundError
from ocistore.filedescriptors import owned
from ocistore.files.durability import sync_path
from ocistore.files.making import make_file
from ocistore.files.plantedlinks import refuse_planted
from ocistore.layouts.directory import LayoutDirectory, NotPlainError
from ocistore.layouts.exports.layoutfiles import BlobWriter
from ocistore.oci.digest import Digest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.opening import OF_THE_VOLUME, make_lock
from ocistore.oserrors import Translating
from ocistore.progress import Tally
from ocistore.refusals import Ignoring, pass_on_theirs, theirs
from ocistore.upkeep import refsfile
from ocistore.upkeep.hold import Hold, gc_held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.blobs.pool import PublishedFile
    from ocistore.blobs.sharing import TransferMode
    from ocistore.core import Core
    from ocistore.progress import Progress

_PAGE: Final = 1000
_LISTED: Final = 1000


_NOT_OF_A_FILE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What keeps a process from opening or reading any file."""

_HALF_MADE: Final = frozenset({"blobs", "uploads", "trash", "quarantine"})
"""What may be in a directory, with nothing in it, where the first backup died or failed while it began."""


@dataclass(frozen=True)
class BackupReport(JSONValue):
    """What a backup copied."""

    destination: Path
    blobs: int
    """Live blobs of the store, all of which the backup has now, except those that are missing."""
    bytes: int
    """Bytes of these blobs; those that an earlier backup had are not copied again."""
    removed: int
    """Files of an earlier backup that this one does not need."""
    missing: tuple[str, ...]
    """Digests of live blobs whose files are gone or, unless they are linked, of the wrong size: the first thousand."""
    unreadable: tuple[str, ...]
    """Digests of live blobs that could not be read now, and are not in the copy either: the first thousand."""


@check_if_moved
def backup(
    core: Core,
    destination: str | os.PathLike[str],
    *,
    mode: TransferMode = "auto",
    progress: Progress | None = None,
) -> BackupReport:
    """Copy a store that is in use; see :meth:`ocistore.Store.backup`."""
    core.require_writable()
    target = StorePaths.at(destination, spare=len(".unfinished"))
    refuse_planted(target.root)
    with Translating(str(target.root), root=target.root):
        _refuse_foreign(core, target)
    pool = FilePool(target)
    try:
        with Translating(str(target.root), root=target.root), gc_held(core, target) as hold:
            pool.create()
            with _alone(target):
                earlier = _refuse_foreign(core, target)  # again: another backup may have been made there meanwhile
                make_lock(target)
                return _Backup(
                    core, target, pool, identity=earlier or identity.fresh(), hold=hold, mode=mode, progress=progress
                ).run()
    finally:
        pool.close()


def _refuse_foreign(core: Core, target: StorePaths) -> str | None:
    """Refuse a destination that this has not made, or that is in the store or around it.

    Returns:
        The identity of the earlier backup; None where there is none, or it was not finished.
    """
    ours, theirs = core.root.resolve(), target.root.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise StoreNotFoundError(target.root, reason="a backup cannot lie in its own store, or around it")
    try:
        present = set(os.listdir(target.root)) - OF_THE_VOLUME
    except FileNotFoundError as error:
        pass_on_theirs(error)
        return None
    except NotADirectoryError as error:
        pass_on_theirs(error)
        raise StoreNotFoundError(target.root, reason="it is a file, not a directory") from error
    if target.catalog.name not in present:
        if not present or target.unfinished_backup.name in present:
            return None
        if present <= _HALF_MADE and not any(target.blobs.glob("*")):
            return None
        raise StoreNotFoundError(target.root, reason="the directory is not empty, and no backup")
    with core.catalog.read() as connection:
        this = identity.find(connection).identity
    there = _identity_of_backup(target)
    if there.backup_of is None:
        reason = "it is a store, a copy of one, or a backup that was written to and is a store of its own since"
        raise StoreNotFoundError(target.root, reason=reason)
    if there.backup_of != this:
        raise StoreNotFoundError(target.root, reason="it is the backup of another store, or from before a rebuild")
    return there.identity


def _identity_of_backup(target: StorePaths) -> identity.Identity:
    earlier = SQLiteCatalog(target.root, database=target.catalog, lock=target.write_lock, read_only=True)
    try:
        found = revision(earlier)
        if found is None:
            raise StoreNotFoundError(target.root, reason="its catalog.db is empty")
        if found > SCHEMA_REVISION:
            reason = f"its catalog.db has schema {found}, newer than {SCHEMA_REVISION} which this ocistore knows"
            raise StoreNotFoundError(target.root, reason=reason)
        # An older schema does no harm: its catalog is asked whose it is, and replaced.
        with earlier.read() as connection:
            return identity.find(connection)
    except CorruptError as error:
        raise StoreNotFoundError(target.root, reason=f"its catalog.db is none of a backup: {error.reason}") from error
    finally:
        earlier.close()


@contextlib.contextmanager
def _alone(target: StorePaths) -> Iterator[None]:
    """Keep a second backup out, which would remove what this one copies, and write into its catalog.

    The directory is locked and not the write lock, which the copied catalog needs for each of its transactions.
    """
    directory = owned(os.open, target.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pass_on_theirs(error)
            raise StoreBusyError(f"the backup {target.root}", waited=0.0) from error
        yield
    finally:
        # Closing alone is not enough: a child that was forked meanwhile may share the description.
        with Ignoring():
            fcntl.flock(directory, fcntl.LOCK_UN)
        del directory


class _Backup:
    """Writes one backup, while collections are held off."""

    def __init__(
        self,
        core: Core,
        target: StorePaths,
        pool: FilePool,
        *,
        identity: str,
        hold: Hold,
        mode: TransferMode,
        progress: Progress | None,
    ) -> None:
        self._core = core
        self._target = target
        self._pool = pool
        self._identity = identity
        self._hold = hold
        self._mode: TransferMode = mode
        self._progress = None if progress is None else theirs(progress)
        self._missing: list[str] = []
        self._unreadable: list[str] = []
        self._directories: dict[str, tuple[int, int]] = {}
        """Of each algorithm: where to link from, and where to."""
        self._fresh = not any(target.blobs.iterdir())
        self._blobs = self._bytes = 0

    def run(self) -> BackupReport:
        """Write all of the backup."""
        copy = self._copied_catalog()
        try:
            self._copy_blobs(copy)
            self._hold.confirm()
            with copy.read() as connection:
                mark = epoch.find(connection)
            copy.settle()
        finally:
            copy.close()
        self._put_in_place(mark)
        return BackupReport(
            destination=self._target.root,
            blobs=self._blobs,
            bytes=self._bytes,
            removed=self._remove_others(),
            missing=tuple(self._missing),
            unreadable=tuple(self._unreadable),
        )

    def _copied_catalog(self) -> SQLiteCatalog:
        unfinished = self._target.unfinished_backup
        with Translating(str(unfinished), root=self._target.root):
            for suffix in ("-wal", "-shm"):
                Path(f"{unfinished}{suffix}").unlink(missing_ok=True)  # of a backup that was killed
            # Emptied and not removed: without it what was killed would be no backup, and be refused.
            make_file(unfinished, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, self._target.permissions.file)
        one_file(self._core.catalog).copy_to(unfinished)
        copy = SQLiteCatalog(
            self._target.root,
            database=unfinished,
            lock=self._target.write_lock,
            read_only=False,
            counts_epochs=False,
        )
        try:
            with copy.write() as connection:
                # What belongs to processes that work with the store, and to nobody in a copy of it.
                uploads.clear(connection)
                leases.clear(connection, now=copy.now())
                holds.clear_temporary(connection)
                identity.become_backup(connection, self._identity)
        except BaseException:
            copy.close()
            raise
        return copy

    def _copy_blobs(self, copy: SQLiteCatalog) -> None:
        total = 0
        if self._progress is not None:
            with copy.read() as connection:
                total = blobs.bytes_of_live(connection)
        tally = Tally(total, self._told)
        with (
            LayoutDirectory(self._target.root, permissions=self._target.permissions) as directory,
            BlobWriter(self._core, directory, self._mode, tally, permissions=0o444) as writer,
        ):
            directory.clear_leftovers()
            after = 0
            while True:
                with copy.read() as connection:
                    page = blobs.page_of_live(connection, after=after, limit=_PAGE)
                if not page:
                    break
                left = self._link(directory, page) if self._mode == "link" else page
                for _, digest, size in left:
                    self._copy(writer, digest, size)
                self._bytes += sum(size for _, _, size in page)
                tally.reach(self._bytes)
                self._blobs += len(page)
                after = page[-1][0]
                self._hold.renew()
            writer.finish()

    def _link(self, directory: LayoutDirectory, page: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
        """Link what is there, at the cost of the link, and return the rest: it is asked about one by one.

        Not as exports do, which look at sizes: a stat for each is a quarter of all, and scrub of either store finds it.
        """
        left = []
        for row in page:
            algorithm, _, encoded = row[1].partition(":")
            try:
                source, target = self._directories[algorithm]
            except KeyError:
                left.append(row)
                sharing = self._core.pool.sharing
                with Ignoring(OSError, NotPlainError):
                    if sharing is not None:
                        self._directories[algorithm] = (
                            sharing.directory(algorithm),
                            directory.make_algorithm(algorithm),
                        )
                continue
            try:
                os.link(encoded, encoded, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            except OSError as error:
                pass_on_theirs(error)
                left.append(row)
        return left

    def _copy(self, writer: BlobWriter, digest: str, size: int) -> None:
        name = Digest.parse(digest)
        try:
            writer.write(name, size)
        except CorruptError:
            self._core.catalog.refuse_moved()
            if len(self._missing) < _LISTED:
                self._missing.append(digest)
        except StorageError as error:
            # Of this blob, and not of the copy, or of a process that may open no more files.
            if error.path != name_of(self._core.pool, name) or error.errno in _NOT_OF_A_FILE:
                raise
            if len(self._unreadable) < _LISTED:
                self._unreadable.append(digest)

    def _told(self, done: int, total: int) -> None:
        self._hold.renew()
        if self._progress is not None:
            self._progress(done, total)

    def _put_in_place(self, mark: epoch.Mark) -> None:
        target = self._target
        with Translating(str(target.catalog), root=target.root):
            sync_path(target.unfinished_backup)
        earlier = SQLiteCatalog(target.root, database=target.catalog, lock=target.write_lock, read_only=True)
        try:
            with Translating(str(target.catalog), root=target.root), earlier.locked():
                # Under the lock, because somebody who opened the earlier backup as a store may be putting things into
                # it.
                try:
                    _refuse_foreign(self._core, target)
                except StoreNotFoundError:
                    target.unfinished_backup.unlink()  # it has no business in a store
                    raise
                # An earlier backup that was looked after as a store may have come further than this one.
                earlier.note_successor(mark)
                self._rename()
        finally:
            earlier.close()
        with contextlib.suppress(OCIStoreError):
            finished = SQLiteCatalog(target.root, database=target.catalog, lock=target.write_lock, read_only=True)
            try:
                refsfile.refresh(finished, target, older_than=timedelta(0))
            finally:
                finished.close()

    def _rename(self) -> None:
        target = self._target
        # Of a backup that was opened as a store and not closed: beside a new catalog it would be taken for its WAL.
        for suffix in ("-wal", "-shm"):
            Path(f"{target.catalog}{suffix}").unlink(missing_ok=True)
        os.rename(target.unfinished_backup, target.catalog)
        sync_path(target.root)

    def _remove_others(self) -> int:
        removed = 0
        if self._fresh:
            return removed
        finished = SQLiteCatalog(
            self._target.root,
            database=self._target.catalog,
            lock=self._target.write_lock,
            read_only=False,
            counts_epochs=False,
        )
        try:
            for batch in _batches(self._pool.sweeper.files()):
                # A write transaction: somebody may have opened the backup as a store by now, and be pushing.
                with finished.write() as connection:
                    named = blobs.live_sizes(connection, [file.digest for file in batch if file.digest is not None])
                    for file in batch:
                        if file.digest not in named and self._pool.sweeper.delete(file):
                            removed += 1
        finally:
            finished.close()
        return removed


def _batches(files: Iterator[PublishedFile]) -> Iterator[list[PublishedFile]]:
    while batch := list(islice(files, _PAGE)):
        yield batch
