"""Store: the front door. It wires catalog and pool; each public call that changes something is one transaction."""

from __future__ import annotations

import os
import pwd
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO, Final

from ocistore.blobs.oserrors import Translating
from ocistore.catalog import repositories
from ocistore.catalog.usage import counts
from ocistore.changes import DeleteManifest, DeleteRepository
from ocistore.commit import commit
from ocistore.emptying import empty_deleted, remove_files
from ocistore.errors import InvalidNameError, ReadOnlyStoreError, RepositoryNotFoundError, StoreClosedError
from ocistore.forks import ThreadLock
from ocistore.lease import Lease, held
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE
from ocistore.oci.reference import repository_name
from ocistore.opening import open_store
from ocistore.pages import pages, text
from ocistore.parts import commit_in_parts, is_large
from ocistore.repository import Repository
from ocistore.thinning import thin_out
from ocistore.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import NoReturn, Self

    from ocistore.archives.compression import Compression
    from ocistore.blobs.filesystem import FilesystemPool
    from ocistore.blobs.paths import StorePaths
    from ocistore.blobs.pool import StagedBlob
    from ocistore.blobs.session import HashState
    from ocistore.blobs.sharing import Sharing
    from ocistore.catalog.contract import Catalog
    from ocistore.changes import Change
    from ocistore.layouts.exporting import ExportReport
    from ocistore.layouts.exports.forms import ExportForm
    from ocistore.layouts.exports.writing import ExportMode
    from ocistore.layouts.importing import ImportReport
    from ocistore.layouts.imports.recognition import ImportSource
    from ocistore.layouts.progress import Progress
    from ocistore.upkeep.backup import BackupReport
    from ocistore.upkeep.collection import GCReport
    from ocistore.upkeep.compaction import CompactReport
    from ocistore.upkeep.findings import Level, ScrubReport
    from ocistore.upkeep.history import HistoryReport

_LOADING: Final = Translating(os.path.dirname(__file__))
"""A block that loads a part of this package when it is used first, which may be when no more files can be opened."""

_MAXIMUM_ACTOR: Final = 1024
"""Characters. Every change of a tag keeps a copy."""

_REMEMBERED_UPLOADS: Final = 256
"""For how many closed upload sessions the state of hashing is kept: resuming those does not read their bytes again."""


@dataclass(frozen=True)
class Usage:
    """What a store holds. Bytes are those of blobs, each counted once however many repositories serve it."""

    repositories: int
    tags: int
    manifests: int
    blobs: int
    """Manifests included: they are blobs too."""
    blob_bytes: int
    uploads: int
    """Open upload sessions."""


class HashStates:
    """How far the bytes of closed upload sessions were hashed, for the sessions closed last. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = ThreadLock()
        self._states: OrderedDict[str, HashState] = OrderedDict()

    def put(self, upload: str, state: HashState) -> None:
        """Remember it, and forget the oldest where there are too many."""
        with self._mutex:
            self._states[upload] = state
            while len(self._states) > _REMEMBERED_UPLOADS:
                self._states.popitem(last=False)

    def pop(self, upload: str) -> HashState | None:
        """What is remembered of a session, which is forgotten: it has one owner at a time."""
        with self._mutex:
            return self._states.pop(upload, None)


class Store:
    """An open store. Thread-safe; any number of processes may have the same directory open at once.

    Use it as a context manager, or :meth:`close` it; a store that is neither is closed when the interpreter ends.
    It may be carried over a ``fork``: the child then has connections of its own.

    Attributes:
        root: the store's directory, absolute.
        read_only: whether changes are refused.
        actor: whom the history of tags names for changes made through this object; the user's login name, if not set.
        maximum_manifest_size: bytes that a manifest pushed or imported through this object may have; 4 MiB, if not set.
        past_page_cache: whether big blobs are written past the kernel's page cache, so that they push nobody else's
            pages out of it; true, if not set. It is done on Linux from 6.16 on, where the filesystem can.
    """

    root: Path

    def __init__(self, paths: StorePaths, catalog: Catalog, pool: FilesystemPool) -> None:
        """Others go through :meth:`open`."""
        self.root = paths.root
        self.paths = paths
        self._actor = _login_name()
        self.maximum_manifest_size = MAXIMUM_MANIFEST_SIZE
        self.hash_states = HashStates()
        self.next_look_at_snapshot = 0.0
        """When a collection that finds nothing looks whether the snapshot is old (monotonic). Not part of the public
        contract."""
        self._catalog = catalog
        self._pool = pool
        self._closed = False
        self._dropped = weakref.finalize(self, _drop, catalog, pool)

    @property
    def actor(self) -> str:
        """Whom the history of tags names. Setting it to what is no text, or too long, is an InvalidNameError."""
        return self._actor

    @actor.setter
    def actor(self, actor: str) -> None:
        if len(text(actor, kind="actor")) > _MAXIMUM_ACTOR:
            reason = f"it has {len(actor)} characters, at most {_MAXIMUM_ACTOR} are allowed"
            raise InvalidNameError(actor, kind="actor", reason=reason)
        self._actor = actor

    @classmethod
    def open(
        cls, root: str | os.PathLike[str], *, create: bool = True, read_only: bool = False, any_filesystem: bool = False
    ) -> Store:
        """Open a store, making it or bringing its schema up to date where need be.

        Safe when many processes do it at once with a directory that does not exist yet. Takes the same time however
        much the store holds.

        Args:
            root: the store's directory. It may exist if it is empty.
            create: make a store where there is none.
            read_only: change nothing, not even the schema. Works on read-only media, for who may not write, and while
                others write.
            any_filesystem: accept a filesystem in user space (FUSE) of which is not known what is behind it. Only where
                that is a disk of this machine: otherwise what is acknowledged may be lost.

        Raises:
            StoreNotFoundError: there is no store, and none may be made: ``create`` is false, it is a file, or a
                directory with something else in it.
            ReadOnlyStoreError: it may not be written; open it with ``read_only=True``.
            SchemaTooNewError: a newer ocistore wrote it.
            SchemaTooOldError: it needs an upgrade, and ``read_only`` is true.
            CorruptError: its catalog is no database, or its schema is not one of ours.
            UnsupportedFilesystemError: a network filesystem, or one without hard links.
            StorageError, StoreFullError, StoreBusyError: the operating system refused, or another process is stuck.
        """
        return cls(*open_store(root, create=create, read_only=read_only, any_filesystem=any_filesystem))

    def close(self) -> None:
        """Close the store. Closing again does nothing; every other call then raises StoreClosedError.

        What other threads are in the middle of goes on until it needs the store again; the last of them closes the
        files. Where this was the process's last use of the store, it waits for the write lock, if need be.
        """
        self._closed = True
        try:
            self._catalog.close()
        finally:
            self._pool.close()
        if (self._pool.reserve.gave or not self._catalog.read_only) and not self._catalog.moved:
            self._pool.reserve.restore()
        self._dropped.detach()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or sent to another process: what is open belongs to this object.

        Raises:
            TypeError: always.
        """
        raise TypeError("a Store is neither copied nor pickled: open its root again, also in another process")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {str(self.root)!r}{' (closed)' if self._closed else ''}>"

    # What the parts of the store use of each other.

    @property
    def catalog(self) -> Catalog:
        """The rows. Not part of the public contract."""
        if self._closed:
            raise StoreClosedError(f"the store {self.root}")
        return self._catalog

    @property
    def pool(self) -> FilesystemPool:
        """The bytes. Not part of the public contract."""
        if self._closed:
            raise StoreClosedError(f"the store {self.root}")
        return self._pool

    @property
    def past_page_cache(self) -> bool:
        """Whether big blobs are written past the kernel's page cache, where that can be trusted."""
        return self._pool.past_cache

    @past_page_cache.setter
    def past_page_cache(self, value: bool) -> None:
        self._pool.past_cache = value

    @property
    def read_only(self) -> bool:
        """Whether changes are refused."""
        return self._catalog.read_only

    def require_writable(self) -> None:
        """Refuse a change before any work is done for it.

        Raises:
            ReadOnlyStoreError: the store was opened read-only.
            StoreClosedError: it is closed.
            StoreNotFoundError: its directory was moved, replaced or removed.
            StoreBusyError: this process was forked while the store was in use.
        """
        if self.catalog.read_only:
            raise ReadOnlyStoreError(self.root)
        self.catalog.refuse_inherited()
        self.catalog.refuse_moved()

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply changes in one transaction; see :func:`ocistore.commit.commit`. Not part of the public contract."""
        if self.catalog.read_only:  # whether it was moved is asked under the write lock
            raise ReadOnlyStoreError(self.root)
        if len(changes) == 1 and isinstance(changes[0], DeleteManifest):
            changes = [thin_out(self.catalog, self.pool, changes[0], actor=self.actor)]
        how = commit_in_parts if is_large(self.catalog, changes) else commit
        catalog, pool = self.catalog, self.pool  # once: what is committed is no error, be the store closed by now
        done = how(catalog, pool, changes, actor=self.actor, leases=held(self))
        remove_files(pool, done.sessions)
        empty_deleted(catalog, pool, done.deleted)

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Remove what was staged, be the store closed by now. Idempotent. Not part of the public contract."""
        self._pool.discard(staged)

    # Repositories.

    def repository(self, name: str) -> Repository:
        """The repository of that name. Touches nothing: it need not exist, and exists from its first content.

        Raises:
            InvalidNameError: no repository can have that name.
        """
        return Repository(self, name)

    def repositories(self, *, prefix: str = "", after: str = "", limit: int | None = None) -> Iterator[str]:
        """The names of the repositories in byte order.

        Args:
            prefix: only those that start with it.
            after: begin behind this name, which need not exist.
            limit: how many at most; None for all.
        """
        text(prefix, kind="prefix")
        text(after, kind="repository")

        def page(last: str, count: int) -> list[tuple[str, str]]:
            with self.catalog.read() as connection:
                names = repositories.page(connection, prefix=prefix, after=last, limit=count)
            return [(name, name) for name in names]

        return pages(page, after, limit)

    def delete_repository(self, name: str) -> None:
        """Delete a repository with its tags, manifests, blobs and uploads, in one commit, whatever refers to it.

        Its history stays and can be read again when a repository of that name exists again. Blobs that others serve
        stay; the rest is left to collection.

        Nobody sees any of it from the commit on. The rows of what it held go afterwards, in small transactions: where
        the process dies meanwhile, the next collection removes them.

        Raises:
            RepositoryNotFoundError: there is none of that name.
        """
        checked = repository_name(name)
        with self.catalog.read() as connection:
            if repositories.find(connection, checked) is None:
                raise RepositoryNotFoundError(checked)
        self.commit([DeleteRepository(checked)])

    def transaction(self) -> Transaction:
        """A context manager: what is changed through it, in any repositories, appears in one commit or not at all."""
        self.require_writable()
        return Transaction(self)

    def lease(self, *, ttl: timedelta, reason: str = "") -> Lease:
        """A context manager: what is pushed or asked for inside is kept from collection until the block ends.

        For builds that take hours: what they pushed first is still there when they push what refers to it. Inside are
        the code of the block, its tasks of asyncio and what it runs in a copied context; a thread takes part with
        :meth:`Lease.use`.

        Args:
            ttl: when it runs out if the process dies without ending it; :meth:`Lease.renew` begins it again.
            reason: for whoever asks why something is kept.

        Raises:
            ValueError: ``ttl`` is not positive or more than a hundred years; ``reason`` is no text.
        """
        self.require_writable()
        return Lease(self, ttl=ttl, reason=reason)

    # In and out. The layouts stand above the store and are reached for only when they are used.

    def export(
        self,
        destination: str | os.PathLike[str] | BinaryIO,
        references: Iterable[str] | None = None,
        *,
        mode: ExportMode = "auto",
        referrers: bool | None = None,
        referrers_lists: bool = False,
        form: ExportForm | None = None,
        compression: Compression | None = None,
        platforms: Sequence[str] = (),
        base: Iterable[str | os.PathLike[str]] = (),
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write references as an OCI layout or an archive; see :func:`ocistore.layouts.exporting.export`."""
        with _LOADING:
            from ocistore.layouts.exporting import export  # noqa: PLC0415

        return export(
            self,
            destination,
            references,
            mode=mode,
            referrers=referrers,
            referrers_lists=referrers_lists,
            form=form,
            compression=compression,
            platforms=platforms,
            base=base,
            dry_run=dry_run,
            progress=progress,
        )

    def export_in_place(self) -> ExportReport:
        """Make the store's own root a plain OCI layout; see :func:`ocistore.layouts.exporting.export_in_place`."""
        with _LOADING:
            from ocistore.layouts.exporting import export_in_place  # noqa: PLC0415

        return export_in_place(self)

    def import_(
        self,
        source: ImportSource,
        repository: str | None = None,
        *,
        references: Iterable[str] | None = None,
        platforms: Iterable[str] = (),
        referrers: bool = True,
        complete: bool = False,
        mode: Sharing = "auto",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Take in a layout or an archive, whole or not at all; see :func:`ocistore.layouts.importing.import_layout`."""
        with _LOADING:
            from ocistore.layouts.importing import import_layout  # noqa: PLC0415

        return import_layout(
            self,
            source,
            repository,
            references=references,
            platforms=platforms,
            referrers=referrers,
            complete=complete,
            mode=mode,
            dry_run=dry_run,
            progress=progress,
        )

    # Upkeep, likewise.

    def gc(
        self,
        *,
        grace: timedelta = timedelta(hours=1),
        keep_untagged: timedelta = timedelta(days=14),
        dry_run: bool = False,
        force: bool = False,
        maximum_duration: timedelta | None = None,
        maximum_batches: int | None = None,
    ) -> GCReport:
        """Give back what nothing needs any more; see :func:`ocistore.upkeep.collection.collect`."""
        with _LOADING:
            from ocistore.upkeep.collection import collect  # noqa: PLC0415

        return collect(
            self,
            grace=grace,
            keep_untagged=keep_untagged,
            dry_run=dry_run,
            force=force,
            maximum_duration=maximum_duration,
            maximum_batches=maximum_batches,
        )

    def scrub(
        self,
        *,
        level: Level = "default",
        repair: bool = True,
        repository: str | None = None,
        subset: tuple[int, int] = (1, 1),
        maximum_duration: timedelta | None = None,
        rate: int | None = None,
        heal_from: Iterable[str | os.PathLike[str]] = (),
        adopt: str | None = None,
        progress: Progress | None = None,
    ) -> ScrubReport:
        """Compare every blob with what it should be, and repair it; see :func:`ocistore.upkeep.scrub.scrub`."""
        with _LOADING:
            from ocistore.upkeep.scrub import scrub  # noqa: PLC0415

        return scrub(
            self,
            level=level,
            repair=repair,
            repository=repository,
            subset=subset,
            maximum_duration=maximum_duration,
            rate=rate,
            heal_from=heal_from,
            adopt=adopt,
            progress=progress,
        )

    def backup(
        self, destination: str | os.PathLike[str], *, mode: ExportMode = "auto", progress: Progress | None = None
    ) -> BackupReport:
        """Copy the store while it is in use; see :func:`ocistore.upkeep.backup.backup`."""
        with _LOADING:
            from ocistore.upkeep.backup import backup  # noqa: PLC0415

        return backup(self, destination, mode=mode, progress=progress)

    def prune_history(
        self, *, keep_last: int | None = None, keep_for: timedelta | None = None, dry_run: bool = False
    ) -> HistoryReport:
        """Forget old events of tags; see :func:`ocistore.upkeep.history.prune_history`."""
        with _LOADING:
            from ocistore.upkeep.history import prune_history  # noqa: PLC0415

        return prune_history(self, keep_last=keep_last, keep_for=keep_for, dry_run=dry_run)

    def compact(self) -> CompactReport:
        """Write the catalog anew, without free space; see :func:`ocistore.upkeep.compaction.compact`."""
        with _LOADING:
            from ocistore.upkeep.compaction import compact  # noqa: PLC0415

        return compact(self)

    def usage(self) -> Usage:
        """Count what the store holds. Reads every row it counts."""
        with self.catalog.read() as connection:
            return Usage(*counts(connection))


def _drop(catalog: Catalog, pool: FilesystemPool) -> None:
    """Close what was not closed. It may be called in the middle of anything, and so waits for nobody."""
    try:
        catalog.close(wait=False)
    finally:
        pool.close()


def _login_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name.encode(errors="replace").decode()  # it may have bytes that are no text
    except KeyError:  # as in many containers
        return f"uid {uid}"
