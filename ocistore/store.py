"""Store: the façade. Each public call that changes something is one transaction; the parts below do the work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from ocistore import logs
from ocistore.arguments import GRACE, KEEP_UNTAGGED
from ocistore.argumenttypes import checks_types
from ocistore.catalog import holds, repositories
from ocistore.catalog.contract import in_snapshot
from ocistore.catalog.usage import counts
from ocistore.changes import DeleteRepository
from ocistore.errors import RepositoryNotFoundError
from ocistore.lease import Lease, end_lease, lease_infos
from ocistore.oci.descriptor import digest_of
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oci.reference import Reference, repository_name
from ocistore.opening import open_core
from ocistore.oserrors import Translating
from ocistore.paging import check_text, pages
from ocistore.repository import Repository
from ocistore.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from pathlib import Path
    from typing import NoReturn, Self

    from ocistore.archives.compression import Compression
    from ocistore.blobs.pool import Pool
    from ocistore.blobs.sharing import TransferMode
    from ocistore.core import Core
    from ocistore.layouts.copying import CopyReport
    from ocistore.layouts.exporting import ExportReport
    from ocistore.layouts.exports.formats import ExportFormat
    from ocistore.layouts.importing import ImportReport
    from ocistore.layouts.imports.detection import ImportSource
    from ocistore.lease import LeaseInfo
    from ocistore.oci.descriptor import Descriptor
    from ocistore.progress import Progress
    from ocistore.upkeep.backup import BackupReport
    from ocistore.upkeep.check import CheckReport
    from ocistore.upkeep.compaction import CompactReport
    from ocistore.upkeep.explanation import Explanation
    from ocistore.upkeep.gc import GCReport
    from ocistore.upkeep.history import HistoryReport
    from ocistore.upkeep.rebuild import RebuildReport
    from ocistore.upkeep.scrubreport import Level, ScrubReport

_LOADING: Final = Translating(os.path.dirname(__file__))
"""A block that loads a part of this package when it is used first, which may be when no more files can be opened."""


@dataclass(frozen=True)
class Usage(JSONValue):
    """What a store holds. Bytes are those of blobs, each counted once, even if several repositories serve it."""

    repositories: int
    tags: int
    manifests: int
    blobs: int
    """Blobs, manifests included."""
    blob_bytes: int
    uploads: int
    """Open upload sessions."""


@checks_types
class Store:
    """An open store. Thread-safe; any number of processes may have the same directory open at once.

    Use it as a context manager, or :meth:`close` it; otherwise it is closed when the interpreter ends.
    It may be carried over a ``fork``: the child then has connections of its own.
    """

    def __init__(self, core: Core) -> None:
        """Wrap an open core; others call :meth:`open`."""
        self._core = core

    @property
    def root(self) -> Path:
        """The store's directory, absolute."""
        return self._core.root

    @property
    def location(self) -> str:
        """Where the store is, for messages."""
        return str(self._core.root)

    @property
    def made_again(self) -> tuple[Path, ...]:
        """The directories that were missing, as in a copy by git, and were made again when the store was opened."""
        return self._core.made_again

    @property
    def read_only(self) -> bool:
        """Whether changes are refused."""
        return self._core.read_only

    @property
    def actor(self) -> str:
        """The name that the history of tags has for changes made here; the user's login name, if not set.

        Raises:
            InvalidNameError: on setting it: it is no text, or too long.
        """
        return self._core.actor

    @actor.setter
    def actor(self, actor: str) -> None:
        self._core.actor = actor

    @property
    def maximum_manifest_size(self) -> int:
        """Bytes that a manifest which is pushed or imported through this object may have; 4 MiB, if not set."""
        return self._core.maximum_manifest_size

    @maximum_manifest_size.setter
    def maximum_manifest_size(self, size: int) -> None:
        self._core.maximum_manifest_size = size

    @property
    def past_page_cache(self) -> bool:
        """Whether big blobs are written past the kernel's page cache, so that they evict nobody else's pages.

        True, if not set. It is done on Linux from 6.16 on, where the filesystem can.
        """
        return self._core.past_page_cache

    @past_page_cache.setter
    def past_page_cache(self, value: bool) -> None:
        self._core.past_page_cache = value

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        *,
        create: bool = True,
        read_only: bool = False,
        any_filesystem: bool = False,
        pool: Pool | None = None,
    ) -> Store:
        """Open a store, making it or upgrading its schema where needed.

        Safe when many processes do it at once with a directory that does not exist yet. Takes the same time however
        much the store holds. What it makes or upgrades is durable when it returns; after a crash, opening the store
        again completes it.

        Args:
            root: the store's directory. It may exist if it is empty.
            create: make a store where there is none.
            read_only: change nothing, not even the schema. Works on read-only media, without permission to write, and
                while others write.
            any_filesystem: accept a filesystem in user space (FUSE) of which is not known what is under it. Only where
                that is a disk of this machine: otherwise what is acknowledged may be lost.
            pool: what keeps the bytes of blobs, if not the directory: a pool of your own (:mod:`ocistore.pools`), or an
                :class:`ocistore.testing.memory.MemoryPool`. A store is always opened with the pool that it was made
                with; that pool is empty when the store is made. It stays open when the store is closed, or cannot be
                opened: whoever made it closes it.

        Raises:
            StoreNotFoundError: there is no store, and none may be made: ``create`` is false, it is a file, or a
                directory with something else in it.
            ReadOnlyStoreError: it may not be written; open it with ``read_only=True``.
            SchemaTooNewError: a newer ocistore wrote it.
            SchemaTooOldError: it needs an upgrade, and ``read_only`` is true.
            CorruptError: its catalog is no database, or has a schema that ocistore did not make.
            UnsupportedFilesystemError: a network filesystem, or one without hard links.
            StorageError: it was made with another pool.
            StorageError, StoreFullError, StoreBusyError: the operating system refused, or another process is stuck.
        """
        return cls(open_core(root, create=create, read_only=read_only, any_filesystem=any_filesystem, pool=pool))

    def close(self) -> None:
        """Close the store. Closing again does nothing; every other call then raises StoreClosedError.

        What other threads are in the middle of continues until it needs the store again; the last of them closes the
        files. Where this was the process's last use of the store, it may wait for the write lock.
        """
        self._core.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or sent to another process: what is open belongs to this object.

        Raises:
            TypeError: always.
        """
        raise TypeError("a Store is neither copied nor pickled: open its root again, also in another process")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {str(self.root)!r}{' (closed)' if self._core.is_closed else ''}>"

    # Repositories.

    def repository(self, name: str) -> Repository:
        """Return the repository of that name, without a look at the store: it exists from its first content on.

        Raises:
            InvalidNameError: no repository can have that name.
        """
        return Repository(self._core, name)

    def repositories(self, *, prefix: str = "", after: str = "", limit: int | None = None) -> Iterator[str]:
        """Yield the names of the repositories in byte order.

        Each page is read on its own: what others change meanwhile may be seen or not.

        Args:
            prefix: only those that start with it.
            after: begin after this name, which need not exist.
            limit: how many at most; None for all.
        """
        check_text(prefix, kind="prefix")
        check_text(after, kind="repository")

        def page(last: str, count: int) -> list[tuple[str, str]]:
            with self._core.catalog.read() as connection:
                names = repositories.page(connection, prefix=prefix, after=last, limit=count)
            return [(name, name) for name in names]

        return pages(page, after, limit)

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor of the manifest that ``REPO:TAG``, ``REPO@DIGEST`` or ``REPO:TAG@DIGEST`` names.

        Where there are both, the digest counts, as for other container tools, and the tag need not exist.
        See :class:`Reference`.

        Raises:
            InvalidNameError, InvalidDigestError: it is no reference, or names a repository and no more.
            RepositoryNotFoundError, ManifestNotFoundError: there is none.
        """
        parsed = Reference.parse(reference)
        return self.repository(parsed.repository).resolve(parsed.target)

    def holders(self, digest: str | Descriptor, *, after: str = "", limit: int | None = None) -> Iterator[str]:
        """Yield the names of the repositories that serve a blob or manifest, in byte order; none where nobody does.

        What it costs follows the number of these repositories; where they are more than a thousand, that of all.
        Each page is read on its own: what others change meanwhile may be seen or not.

        Args:
            digest: of the blob or manifest.
            after: begin after this name, which need not exist.
            limit: how many at most; None for all.
        """
        wanted = digest_of(digest, argument="digest")
        check_text(after, kind="repository")

        def page(last: str, count: int) -> list[tuple[str, str]]:
            names = in_snapshot(
                self._core.catalog,
                lambda connection: repositories.holders(connection, wanted, after=last, limit=count),
            )
            return [(name, name) for name in names]

        return pages(page, after, limit)

    def delete_repository(self, name: str) -> None:
        """Delete a repository with its tags, manifests, blobs and uploads, in one commit, whatever refers to it.

        Atomic, and durable when it returns; deleting it again raises RepositoryNotFoundError. Its history stays and can
        be read again when a repository of that name exists again. Blobs that others serve stay; garbage collection
        removes the rest.

        Nobody sees any of it after the commit. The rows of what it held are removed afterwards, in small transactions;
        after a crash meanwhile, the next garbage collection removes them.

        Raises:
            RepositoryNotFoundError: there is none of that name.
            ReadOnlyStoreError, StoreBusyError, StoreFullError, StorageError: nothing was changed.
        """
        checked = repository_name(name)
        with self._core.catalog.read() as connection:
            if repositories.find(connection, checked) is None:
                raise RepositoryNotFoundError(checked)
        self._core.commit([DeleteRepository(checked)])

    def transaction(self) -> Transaction:
        """Begin a transaction: what is changed through it, in any repositories, appears in one commit or not at all.

        It is committed, durably, when its ``with`` block ends; where the block raises or a change is refused, and after
        a crash before, nothing has changed.

        Raises:
            ReadOnlyStoreError: the store cannot be changed.
        """
        self._core.require_writable()
        return Transaction(self._core)

    def lease(self, *, ttl: timedelta, reason: str = "") -> Lease:
        """Make a lease: a context manager that keeps what is pushed or asked for inside from garbage collection.

        For builds that take hours: what they pushed first still exists when they push what refers to it. Inside are
        the code of the block, its tasks of asyncio and what it runs in a copied context; a thread takes part with
        :meth:`Lease.use`.

        Args:
            ttl: how long it lasts if the process dies without ending it; :meth:`Lease.renew` begins that time again.
            reason: for those who ask why something is kept.

        Raises:
            ValueError: ``ttl`` is not positive or more than a hundred years; ``reason`` is no text.
            ReadOnlyStoreError: the store cannot be changed.
        """
        self._core.require_writable()
        return Lease(self._core, ttl=ttl, reason=reason)

    def leases(self) -> Iterator[LeaseInfo]:
        """Yield the leases that are in force, with how much each keeps, in the order of their ids."""
        return lease_infos(self._core)

    def end_lease(self, id: str) -> None:  # noqa: A002  (as Repository.upload)
        """End a lease, whoever holds it: what it kept may be garbage-collected, as if it had run out.

        For one whose holder is gone, or hangs. A holder that still works gets LeaseExpiredError when it pushes the next
        time. Atomic: it keeps nothing from one moment on; durable when it returns; ending it again raises
        LeaseExpiredError. What it kept is queued for collection in small transactions; after a crash meanwhile, the
        next collection does the rest.

        Raises:
            LeaseExpiredError: no lease of that id is in force.
            ReadOnlyStoreError, StoreBusyError, StoreFullError, StorageError: it could not be written.
        """
        end_lease(self._core, id)

    # In and out, loaded when they are used first.

    def export(
        self,
        destination: str | os.PathLike[str] | BinaryIO,
        references: Iterable[str] | None = None,
        *,
        mode: TransferMode = "auto",
        referrers: bool | None = None,
        referrers_lists: bool = False,
        format: ExportFormat | None = None,
        compression: Compression | None = None,
        platforms: Sequence[str] = (),
        base: Iterable[str | os.PathLike[str]] = (),
        verify: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write references, as they all are at one moment, each with its whole graph, as an OCI layout or an archive.

        Idempotent: the same content gives the same bytes. An existing layout gets more content, and names in it are
        replaced; an existing archive is replaced. Durable when it returns, except what goes to a pipe or a file object.
        After a crash there is the old archive or index, or the new one.

        Sizes are checked; the bytes themselves are verified when content comes into the store, when it is scrubbed, and
        here with ``verify``. What is in a layout already is taken to be right where its size is.

        Args:
            destination: a directory that does not exist, is empty, or is an OCI layout; a file; a pipe; or a binary
                file object, which is written to and not closed.
            references: each REPO (all its tags), REPO:TAG, REPO:PATTERN, REPO@DIGEST or REPO:TAG@DIGEST, and after it,
                if it is to be called otherwise, =REPO or =REPO:TAG; None for every tag there is. See
                :class:`ocistore.Selector`.
            mode: how bytes get into a directory; see :data:`ocistore.TransferMode`.
            referrers: also whatever is about an exported manifest, to any depth: what has it as its subject, and what
                has a tag made of its digest, as cosign's signatures have. None: wherever the form can hold it, which a
                Docker archive cannot. What is about an index is left out where that index loses platforms. How many
                were left out is reported.
            referrers_lists: for each exported manifest with referrers, an index that lists them, with the tag
                ``sha256-HEX`` (distribution specification, "Referrers Tag Schema"), where regctl and older clients
                look.
            format: what to write; without one, a directory that exists and a name without the suffix of an archive mean
                ``dir``, others ``oci-archive``.
            compression: of an archive.
            platforms: which to keep, each OS/ARCHITECTURE[/VARIANT]; none means all. An index that loses some is
                another index, with another digest; it is written although the store need not hold it.
            base: layouts, archives of images and stores that the other side has. Configs and layers that are in one of
                them are left out; manifests are always exported.
            verify: read everything in the store that is to be exported, and compare it with its digests, before
                anything is written. Large blobs are hashed by several threads.
            dry_run: only report, and write nothing, not even an empty directory.
            progress: called with the bytes written, with ``verify`` also those read before, and the bytes in all.

        Raises:
            RepositoryNotFoundError, ManifestNotFoundError, InvalidNameError, InvalidDigestError: a reference names
                nothing; so does a pattern that no tag matches, and the name of a repository without tags; or two things
                would get one name.
            TagConflictError: REPO:TAG@DIGEST, and the tag points elsewhere.
            PlatformNotFoundError: what was asked for by its name is of other platforms; or everything is.
            LayoutInvalidError: the destination, or a base, is of another kind than named above.
            ArchiveInvalidError: an archive cannot be written there; or a Docker archive cannot hold what was asked for.
            CorruptError: a blob of the store is missing or has the wrong size, or with ``verify`` the wrong bytes.
            BlobNotFoundError: something was deleted and collected while it was exported.
            StoreFullError, StorageError: it could not be written; with ``errno`` EPIPE, the reader closed it; with
                EACCES, perhaps somebody else planted a link or a pipe of that name where everybody may write.
            ValueError: options that do not go together.

        After a crash, or any error, an existing layout is as it was, with perhaps some blobs more; and an archive is as
        it was. What was written to a pipe or a file object stays written: only an archive with its end is one.
        """
        with _LOADING:
            from ocistore.layouts.exporting import export  # noqa: PLC0415

        return export(
            self._core,
            destination,
            references,
            mode=mode,
            referrers=referrers,
            referrers_lists=referrers_lists,
            format=format,
            compression=compression,
            platforms=platforms,
            base=base,
            verify=verify,
            dry_run=dry_run,
            progress=progress,
        )

    def export_in_place(self) -> ExportReport:
        """Make the store's own root a plain OCI layout of all its tags: ``oci-layout`` and ``index.json`` are written.

        Other tools may then read the root, and must not write to it. The files show the store as it was: export again
        after changes. Idempotent, and durable when it returns; after a crash there is the old index or the new one.

        Raises:
            ReadOnlyStoreError, StoreFullError, StorageError: they could not be written.
        """
        with _LOADING:
            from ocistore.layouts.exporting import export_in_place  # noqa: PLC0415

        return export_in_place(self._core)

    def import_(
        self,
        source: ImportSource,
        repository: str | None = None,
        *,
        references: Iterable[str] | None = None,
        platforms: Iterable[str] = (),
        referrers: bool = True,
        complete: bool = False,
        mode: TransferMode = "auto",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import a layout or archive, or the wanted part of it, in one commit.

        Atomic, durable when it returns, and idempotent. Every byte is hashed. Content that the store holds already is
        verified and not written again. Tags that exist are moved. Entries of media types that are no manifest's are
        left out, and reported. How names become repositories and tags is in docs/layouts.md.

        Args:
            source: a directory, a layout or of skopeo's form ``dir``; an archive of a layout or one of Docker's,
                plain or compressed with gzip, zstd, xz or bzip2, or a pipe that gives one, by its path; or an open
                binary file that does. Its content says which of these it is.
            repository: where everything is imported, whatever the layout's names say. Required where they name none. As
                REPO:TAG, where one thing is imported, also its tag.
            references: what to import, as ``REPO[:TAG|PATTERN][@DIGEST][=REPO[:TAG]]``, by the names that the layout
                has; None for everything.
            platforms: which to keep, each ``OS/ARCHITECTURE[/VARIANT]``; none means all. An index that loses some is
                another index, with another digest.
            referrers: also what is about that, by its subject or by a tag made of the digest, to any depth, whether it
                is listed with a name or not. If not, entries that have a subject and no tag are left out. How many were
                left out is reported.
            complete: take what the source lacks from the store, whichever repository there holds it.
            mode: how the bytes of a directory get into the store; see :data:`ocistore.TransferMode`.
                Those of archives are copied.
            dry_run: read and check everything, and change nothing.
            progress: called with the bytes read and the bytes in all.

        Raises:
            LayoutInvalidError: it is no layout, damaged, or has too many manifests; ``problems`` names everything that
                is missing or wrong.
            ArchiveInvalidError: it is an archive that is damaged or hostile, or of nothing that is read.
            InvalidNameError: an entry names no repository and none was given, and it is about nothing that does; a name
                that was given is malformed; or several things were to get one tag.
            ManifestNotFoundError: something that was asked for does not exist.
            PlatformNotFoundError: what was asked for by its name is of other platforms; or everything is.
            StoreFullError, StorageError, StoreBusyError, ReadOnlyStoreError: it could not be read or stored.

        Whatever is raised, and after a crash, no repository has changed.
        """
        with _LOADING:
            from ocistore.layouts.importing import import_layout  # noqa: PLC0415

        return import_layout(
            self._core,
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

    def copy_to(
        self,
        destination: Store | str | os.PathLike[str],
        references: Iterable[str] | None = None,
        *,
        platforms: Sequence[str] = (),
        referrers: bool = True,
        mode: TransferMode = "auto",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> CopyReport:
        """Copy references, each with its whole graph, into another store, in one commit.

        Atomic, durable when it returns, and idempotent. What is copied is kept in the source meanwhile by a lease,
        unless the source was opened read-only. Every byte that the destination does not hold is hashed on the way in.
        Tags that exist are moved.

        Args:
            destination: an open store, or the directory of one, which is made where there is none.
            references: as :meth:`export` takes them, renaming included; None for every tag.
            platforms: which to keep, as in an export.
            referrers: also whatever is about something copied, by its subject or by a tag made of the digest, to any
                depth: signatures, SBOMs, attestations. How many were left out is reported.
            mode: see :data:`ocistore.TransferMode`. With ``link`` the two stores have the same files:
                what damages one damages the other. Small blobs are copied, unless they are linked.
            dry_run: only report, and write nothing: no store is made, no lease taken.
            progress: called with the bytes read and the bytes in all.

        Raises:
            StoreNotFoundError: the destination can be no store.
            RepositoryNotFoundError, ManifestNotFoundError, InvalidNameError, InvalidDigestError: a reference names
                nothing, as in an export.
            TagConflictError, PlatformNotFoundError: it names something else, as in an export.
            CorruptError: something in the source is damaged. Nothing was copied.
            BlobNotFoundError: the source was opened read-only, and something was deleted and collected meanwhile.
                Nothing was copied.
            ManifestInvalidError: a manifest is larger than the destination takes, or all together are more than 256
                MiB, which are in memory until the commit: copy repositories one after another, or back the store up.
            ReadOnlyStoreError, StoreFullError, StorageError, StoreBusyError: the destination could not be written.
            ValueError: both are the same store, or one is inside the other; or ``mode`` is unknown.

        Whatever is raised, and after a crash, no repository of the destination has changed.
        """
        with _LOADING:
            from ocistore.layouts.copying import copy  # noqa: PLC0415

        return copy(
            self._core,
            destination._core if isinstance(destination, Store) else destination,
            references,
            platforms=platforms,
            referrers=referrers,
            mode=mode,
            dry_run=dry_run,
            progress=progress,
        )

    # Upkeep, loaded when it is used first.

    def gc(
        self,
        *,
        grace: timedelta = GRACE,
        keep_untagged: timedelta = KEEP_UNTAGGED,
        dry_run: bool = False,
        force: bool = False,
        maximum_duration: timedelta | None = None,
        maximum_batches: int | None = None,
    ) -> GCReport:
        """Collect garbage: remove content that no tag, index, subject or lease keeps. Safe while others push.

        Alive in a repository are: tagged manifests; the children of an alive index; referrers whose subject is alive;
        manifests that have been untagged for less than ``keep_untagged``; what a lease names. A blob is alive while an
        alive manifest of its repository refers to it, while a lease names it, and for ``grace`` after it was pushed or
        last in use.

        It works in many small transactions, each of which is atomic and durable. Idempotent: running it again removes
        what is due by then. After a crash, the next garbage collection completes what this one began.

        Args:
            grace: how long a blob may wait for the manifest that refers to it.
            keep_untagged: how long a manifest stays readable under its digest once nothing keeps it.
            dry_run: change nothing; report what would be removed now, and why a real run would be refused.
            force: also where more than half of the live bytes would be removed; a dry run then does not warn of it.
            maximum_duration: begin no further transaction after this long, and remove no further file; what is left is
                removed by the next garbage collection.
            maximum_batches: begin no further transaction after this many.

        Raises:
            CollectionRefusedError: an older catalog was restored, or it was rebuilt and nobody confirmed it yet, or a
                backup is under way, or more than half of the live bytes (and more than 1,000 blobs or 1 GiB) would be
                removed.
            ValueError: a bound or a time is negative.
            TypeError: a bound is no whole number, or a time no duration.
            OCIStoreError: the store could not be written. What was removed by then stays removed.
        """
        with _LOADING:
            from ocistore.upkeep.gc import collect  # noqa: PLC0415

        report = collect(
            self._core,
            grace=grace,
            keep_untagged=keep_untagged,
            dry_run=dry_run,
            force=force,
            maximum_duration=maximum_duration,
            maximum_batches=maximum_batches,
        )
        if not dry_run:
            done = "" if report.complete else ", and left something for the next one"
            text = f"garbage collection removed {report.blobs} blobs of {report.bytes} bytes{done}"
            logs.info("gc", text, self.root, report=report)
        return report

    def explain(
        self,
        reference_or_digest: str | Descriptor,
        *,
        grace: timedelta = GRACE,
        keep_untagged: timedelta = KEEP_UNTAGGED,
    ) -> Explanation:
        """Explain what keeps a manifest or blob: tags, indexes, its subject, leases, or having been needed lately.

        Args:
            reference_or_digest: a digest or descriptor, in every repository that serves it or else in the store; or
                REPO[:TAG][@DIGEST], in that repository only.
            grace: as for the garbage collection that is asked about.
            keep_untagged: as for the garbage collection that is asked about.

        Raises:
            RepositoryNotFoundError: there is no such repository.
            ValueError, TypeError: ``grace`` or ``keep_untagged`` is negative, or no duration.
            BlobNotFoundError: the repository does not serve that digest, or no repository and no manifest knows it.
        """
        with _LOADING:
            from ocistore.upkeep.explanation import explain  # noqa: PLC0415

        return explain(
            self._core,
            reference_or_digest,
            grace=grace,
            keep_untagged=keep_untagged,
        )

    def confirm(self) -> None:
        """Confirm that a restored or rebuilt catalog is complete, and allow garbage collection again.

        Idempotent, atomic, and durable when it returns.

        Raises:
            ReadOnlyStoreError, StoreBusyError, StoreFullError, StorageError: it could not be written; nothing changed.
        """
        self._core.require_writable()
        with self._core.catalog.write() as connection:
            holds.confirm(connection)

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
        """Compare every live blob with its row, and repair what can be repaired, while others use the store.

        Idempotent: scrubbing again repairs what is damaged by then. Each repair is durable when it is reported.

        Args:
            level: ``quick``: is there a file of the right size? ``default``: has it the right bytes? ``deep``: also,
                does the catalog say of each manifest what its bytes say, and do its rows agree with each other?
            repair: move damaged files to ``quarantine/`` and heal them; remove or adopt files without a row. Otherwise
                only report.
            repository: only what this one serves; then files without a row are not looked for.
            subset: ``(n, t)``: only the n-th of t parts; the t parts together are everything. Files without a row are
                looked for with the first.
            maximum_duration: stop after this long; the next scrub continues there. Files without a row are looked for
                anew in each, in half of the time at most; for a million blobs that takes half a minute.
            rate: how many bytes to read in a second at most; None for no limit.
            heal_from: layouts, stores, and archives as an import reads them (of layouts or Docker's, plain, gzip or
                zstd), from which the bytes of damaged blobs are taken where they are good. A compressed archive is read
                once, when the first damage is found; what of it the catalog names is kept in ``uploads/`` until the
                end.
            adopt: a repository to be given the good files that no row knows; otherwise these are removed.
            progress: called with the bytes read and the bytes in all.

        Raises:
            RepositoryNotFoundError: there is no such repository.
            LayoutInvalidError, ArchiveInvalidError: one of ``heal_from`` is none of these.
            ReadOnlyStoreError: the store is open for reading only.
            ValueError: a bound or the subset is out of range.
            TypeError: one of them is no whole number, or no duration.

        After a crash at any moment, everything that it reported is done, and the next scrub continues.
        """
        with _LOADING:
            from ocistore.upkeep.scrub import scrub  # noqa: PLC0415

        report = scrub(
            self._core,
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
        text = f"scrub found {report.damaged} of {report.blobs} blobs damaged, and repaired {report.repaired}"
        (logs.warning if report.exit_code else logs.info)("scrub", text, self.root, report=report)
        return report

    def check(self) -> CheckReport:
        """Compare the catalog with what it should be: schema, pages, foreign keys, and the directories beside it.

        Reads the whole catalog and no blobs (for those: :meth:`scrub`). Changes nothing.

        Raises:
            StorageError: it could not be read now.
        """
        with _LOADING:
            from ocistore.upkeep.check import check  # noqa: PLC0415

        return check(self._core)

    def backup(
        self,
        destination: str | os.PathLike[str],
        *,
        mode: TransferMode = "auto",
        progress: Progress | None = None,
    ) -> BackupReport:
        """Copy a store that is in use, or bring an earlier copy up to date. Durable when it returns.

        After a crash, an earlier backup is as it was, and a first one is unfinished; doing it again completes it.
        Open upload sessions and leases are left out; everything else that was committed when it began is in it. A blob
        that is damaged in the store, or cannot be read now, does not end it: it is reported, and missing in the copy
        too, unless an earlier backup there has it; the next backup tries again.

        Args:
            destination: a directory that does not exist yet, or is empty, or an earlier backup of this store. A backup
                that is opened as a store and gets anything put into it is a store of its own from then on. A store
                whose catalog was rebuilt is another store: what the rebuild could not find may be in the earlier backup
                only.
            mode: ``auto`` shares the bytes by reflink where the filesystem can, else copies; ``copy`` always copies;
                ``link`` makes hard links, which costs nothing and protects against deleting, not against a broken disk.
            progress: called with the bytes copied and the bytes in all.

        Raises:
            StoreNotFoundError: ``destination`` is no backup of this store, and was left alone.
            StorageError, StoreFullError: it could not be written; an earlier backup there is as it was.
            StoreBusyError: another backup is being written there.
            ReadOnlyStoreError, StoreBusyError: garbage collection could not be held off.
        """
        with _LOADING:
            from ocistore.upkeep.backup import backup  # noqa: PLC0415

        report = backup(
            self._core,
            destination,
            mode=mode,
            progress=progress,
        )
        lacking = len(report.missing) + len(report.unreadable)
        lacks = f", and lacks {lacking}" if lacking else ""
        text = f"backup to {report.destination} has {report.blobs} blobs{lacks}"
        (logs.warning if lacking else logs.info)("backup", text, self.root, report=report)
        return report

    def prune_history(
        self,
        *,
        keep_last: int | None = None,
        keep_for: timedelta | None = None,
        dry_run: bool = False,
    ) -> HistoryReport:
        """Forget events of tags that are older than ``keep_for`` and not among the last ``keep_last`` of their tag.

        By itself a store never forgets one. Each takes about 300 bytes with its indexes. Tags, and what they point at,
        stay as they are; so does the newest event of the store in any case, because the numbers of events are never
        used twice. Reads all events that are old enough. It works in small transactions, each of which is atomic and
        durable; after a crash, doing it again completes it.

        Args:
            keep_last: how many of each tag, removed tags included, stay however old they are; None for none.
            keep_for: how long all of them stay; None for no time.
            dry_run: change nothing.

        Raises:
            ValueError: neither is given, or one is negative.
            TypeError: one is no whole number, or no duration.
            OCIStoreError: the store could not be read or written. What was forgotten by then stays forgotten.
        """
        with _LOADING:
            from ocistore.upkeep.history import prune_history  # noqa: PLC0415

        return prune_history(
            self._core,
            keep_last=keep_last,
            keep_for=keep_for,
            dry_run=dry_run,
        )

    def compact(self) -> CompactReport:
        """Write the catalog anew, without the space of rows that are gone. Nothing that is stored changes.

        Idempotent, and durable when it returns.

        Garbage collection frees most of it by itself, in small steps, in stores made by this version. This is for those
        made before, which it converts; and it orders the rows, so that long listings are read in the order of the file.

        Other writers wait meanwhile, about two seconds for each gigabyte; those for whom it takes longer than
        they wait get StoreBusyError. Readers do not wait. It needs as much room again as the catalog has, beside it for
        the WAL, and as much memory; no directory for temporary files.

        Raises:
            StoreFullError: there is no room for it, which is found out before anything is written.
            StorageError: the disk fails. The catalog is as it was.
            StoreBusyError, ReadOnlyStoreError: it cannot be written.

        After a crash at any moment, the catalog is as it was, or compact.
        """
        with _LOADING:
            from ocistore.upkeep.compaction import compact  # noqa: PLC0415

        return compact(self._core)

    def usage(self) -> Usage:
        """Count what the store holds. This reads every row that it counts."""
        with self._core.catalog.read() as connection:
            return Usage(*counts(connection))


@checks_types
def check_import(
    source: ImportSource,
    repository: str | None = None,
    *,
    references: Iterable[str] | None = None,
    platforms: Iterable[str] = (),
    referrers: bool = True,
) -> AbstractContextManager[ImportSource]:
    """Check the arguments of an import before there is a store to import into.

    Args:
        source: as :meth:`Store.import_` takes it.
        repository: as :meth:`Store.import_` takes it.
        references: as :meth:`Store.import_` takes them.
        platforms: as :meth:`Store.import_` takes them.
        referrers: as :meth:`Store.import_` takes it.

    Returns:
        A context manager that looks whether there may be a layout or archive, and gives what to import in its block:
        of a pipe the beginning was read, which is given again.

    Raises:
        InvalidNameError, InvalidDigestError, ValueError, TypeError: an argument is malformed.
        LayoutInvalidError, ArchiveInvalidError: entering the block: there is nothing that can be imported.
        StorageError: entering the block: it could not be opened or read.
    """
    with _LOADING:
        from ocistore.layouts.importing import check_import  # noqa: PLC0415

    return check_import(source, repository, references=references, platforms=platforms, referrers=referrers)


@checks_types
def rebuild(root: str | os.PathLike[str], *, force: bool = False, progress: Progress | None = None) -> RebuildReport:
    """Make the catalog of a store again, when it is lost or damaged. This reads and hashes every blob.

    Not idempotent: the catalog is good afterwards, and rebuilding it again is refused without ``force``.

    Args:
        root: the store's directory, in which nobody may work meanwhile.
        force: also where the catalog is good.
        progress: called with the bytes hashed, and all there are.

    Raises:
        StoreNotFoundError: there are no blobs: it is no store.
        RebuildRefusedError: the catalog is good, of whatever schema, or a process has it open, perhaps this one.
        StoreBusyError: somebody is writing.
        OCIStoreError: something could not be read or written; the old catalog is as it was.

    Durable when it returns. Nothing is collected afterwards until :meth:`Store.confirm`. After a crash at any moment,
    there is the old catalog or the new one.
    """
    with _LOADING:
        from ocistore.upkeep.rebuild import rebuild  # noqa: PLC0415

    report = rebuild(root, force=force, progress=progress)
    text = f"rebuilt the catalog, with {report.manifests} manifests and {report.tags} tags"
    logs.warning("rebuild", text, root, report=report)
    return report
