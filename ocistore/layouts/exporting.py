"""Exporting references: as an OCI layout or an archive, or in place, where the store's own root becomes one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ocistore.blobs.paths import is_store
from ocistore.catalog.contract import in_snapshot
from ocistore.core import check_if_moved
from ocistore.errors import ArchiveInvalidError, LayoutInvalidError, ManifestInvalidError, StorageError
from ocistore.files.making import TEMPORARY, make_directories
from ocistore.files.plantedlinks import refuse_planted
from ocistore.layouts.directory import BLOBS, INDEX_JSON, OCI_LAYOUT, LayoutDirectory, NotPlainError
from ocistore.layouts.exports import sink
from ocistore.layouts.exports.absences import kinds
from ocistore.layouts.exports.dockerarchive import docker_archive
from ocistore.layouts.exports.exclusions import held
from ocistore.layouts.exports.formats import ExportDestination, ExportFormat, destination_of
from ocistore.layouts.exports.layoutfiles import BlobWriter, is_there
from ocistore.layouts.exports.ociarchive import write_oci_archive
from ocistore.layouts.exports.selection import Selection, choose
from ocistore.layouts.exports.verifying import verify_all
from ocistore.layouts.index import (
    LAYOUT_FILE,
    MAXIMUM_INDEX_SIZE,
    MAXIMUM_LAYOUT_FILE_SIZE,
    Listing,
    check_layout_file,
    index_bytes,
    merged,
    read_index,
)
from ocistore.layouts.transfer import TransferReport
from ocistore.layouts.vanished import check_if_collected
from ocistore.oserrors import Translating
from ocistore.progress import Tally
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ocistore.archives.compression import Compression
    from ocistore.blobs.permissions import Permissions
    from ocistore.blobs.sharing import TransferMode
    from ocistore.core import Core
    from ocistore.layouts.exports.dockerarchive import DockerArchive
    from ocistore.oci.descriptor import Descriptor
    from ocistore.progress import Progress


@dataclass(frozen=True)
class ExportReport(TransferReport):
    """What an export wrote, or found there already; or, where it was a dry run, what it would have."""

    destination: Path | None
    """Where it was written, an absolute path; None where it was a file object."""
    format: ExportFormat
    names: tuple[str, ...]
    """The exported tags as REPO:TAG, and untagged manifests as REPO@DIGEST, as they are called there; in byte order."""
    absent: tuple[str, ...]
    """Digests that exported manifests refer to and the repository does not hold: foreign layers, absent children."""
    absent_kinds: Mapping[str, str]
    """What each of these is, such as ``image for linux/arm64 in app:v1``, as far as that can be read."""
    left_out: tuple[str, ...]
    """What a Docker archive cannot hold of an index beside the one image that went out, such as attestations and other
    images for its platform, each as "DIGEST (WHAT IT IS)"."""
    written_bytes: int
    """Bytes of blobs and manifests that were written; in a Docker archive layers count uncompressed. What an archive
    adds to them, and what compressing it saves, is not counted."""
    present_bytes: int
    """Bytes of blobs and manifests that the layout had already."""
    base_blobs: int
    """Blobs that were left out because a base holds them."""
    base_bytes: int


@dataclass(frozen=True)
class _Plan:
    """The plan of an export: what is to be written, and where."""

    destination: ExportDestination
    selection: Selection
    left_out: frozenset[str]
    """Digests of blobs that a base holds."""
    mode: TransferMode
    dry_run: bool
    absent_kinds: Mapping[str, str]

    def report(self, *, written: int, present: int = 0, archive: DockerArchive | None = None) -> ExportReport:
        selection, sizes, manifests = self.selection, self.selection.sizes, self.selection.manifest_count
        if archive is not None:
            manifests = len(archive.manifests)
            going = archive.manifests | archive.blobs
            sizes = {digest: size for digest, size in sizes.items() if digest in going}
        return ExportReport(
            destination=self.destination.path,
            format=self.destination.format,
            names=selection.names,
            manifests=manifests,
            blobs=len(sizes) - manifests,
            bytes=sum(sizes.values()),
            absent=selection.absent,
            absent_kinds=self.absent_kinds,
            replaced=selection.replaced if archive is None else {},  # there are no indexes in it
            other_platforms=selection.other_platforms,
            left_out=() if archive is None else archive.left_out,
            referrers_left=selection.referrers_left,
            written_bytes=written,
            present_bytes=present,
            base_blobs=len(self.left_out),
            base_bytes=sum(sizes[digest] for digest in self.left_out),
            dry_run=self.dry_run,
        )


@check_if_moved
def export(
    core: Core,
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
    """Write references as an OCI layout or an archive; see :meth:`ocistore.Store.export`."""
    bases = list(base)
    to = destination_of(
        destination,
        format=format,
        compression=compression,
        mode=mode,
        referrers=bool(referrers) or referrers_lists,
        with_base=bool(bases),
    )
    images_only = to.format == "docker-archive"
    with_referrers = not images_only if referrers is None else referrers
    if referrers_lists and not with_referrers:
        raise ValueError("lists of referrers and no referrers do not go together")
    if to.path is not None:
        refuse_planted(to.path)
        _refuse_store(core, to.path)
    with check_if_collected(core):
        selection = in_snapshot(
            core.catalog,
            lambda connection: choose(
                connection,
                core.pool,
                references,
                referrers=with_referrers,
                referrers_lists=referrers_lists,
                images_only=images_only,
                platforms=platforms,
            ),
        )
        blobs = {node.digest: node.size for node in selection.nodes.values() if node.here and node.media_type is None}
        plan = _Plan(to, selection, held(bases, blobs), mode, dry_run, kinds(core.pool, selection))
        if to.format == "dir":
            if verify:
                progress = _verify(core, plan, progress)
            return _export_directory(core, plan, progress)
        if to.path is not None:
            sink.require_room(to.path, to.name)
        if to.format == "docker-archive":
            if references is not None and not selection.entries:
                # What was asked for was no image: an archive of nothing is not what anybody wants.
                reason = "all that was asked for is about images, such as signatures; docker-archive cannot hold it"
                raise ArchiveInvalidError(to.name, reason=reason)
            return _export_docker(core, plan, platforms, progress, verify=verify)
        if verify:
            progress = _verify(core, plan, progress)
        return _export_archive(core, plan, progress)


def _verify(
    core: Core, plan: _Plan, progress: Progress | None, archive: DockerArchive | None = None
) -> Progress | None:
    """Hash all that is exported of the store, and return the progress for the bytes that are written after that.

    Raises:
        CorruptError: something is damaged.
    """
    going = {digest: size for digest, size in plan.selection.sizes.items() if digest not in plan.left_out}
    if archive is not None:
        going = {digest: size for digest, size in going.items() if digest in archive.manifests | archive.blobs}
    sizes = {digest: size for digest, size in going.items() if digest not in plan.selection.made}
    read = sum(sizes.values())
    written = 0 if plan.dry_run else sum(going.values()) if archive is None else archive.size
    tally = Tally(read + written, progress)
    verify_all(core.pool, sizes, tally)
    tally.reach(read)
    if progress is None:
        return None
    told = progress
    return lambda done, total: told(read + done, read + total)


def export_in_place(core: Core) -> ExportReport:
    """Make the store's own root a plain OCI layout; see :meth:`ocistore.Store.export_in_place`."""
    core.require_writable()
    core.catalog.refuse_moved()  # lest the index of one store is written into another
    if core.pool.local is None:
        raise LayoutInvalidError(core.root, problems=("the blobs of the store are not files in its directory",))
    with _locked_directory(core.root, permissions=core.paths.permissions) as layout:
        # Under the lock, so that of two exports at once the later state is written last.
        selection = in_snapshot(core.catalog, lambda connection: choose(connection, core.pool, None))
        absent_kinds = kinds(core.pool, selection)
        with Translating(str(core.root), root=core.root):
            layout.clear_leftovers()
            layout.replace(OCI_LAYOUT, LAYOUT_FILE)
            layout.sync_top()
            names = merged(_entries_in_place(layout), selection.entries, keep=False)
            layout.replace(INDEX_JSON, index_bytes(names))
            layout.sync_top()
    to = ExportDestination(core.root, "dir", "none")
    plan = _Plan(to, selection, frozenset(), "auto", dry_run=False, absent_kinds=absent_kinds)
    return plan.report(written=0, present=sum(plan.selection.sizes.values()))


def _refuse_store(core: Core, path: Path) -> None:
    """Refuse to write into a store: only the store's own code does that."""
    with Translating(str(path)):
        is_inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(core.root))
    if path == core.root or is_store(path):
        raise LayoutInvalidError(path, problems=("it is a store; export it in place to make it a layout",))
    if is_inside:
        raise LayoutInvalidError(path, problems=("it lies in the store, whose directories are its own",))


# --- archives ---------------------------------------------------------------------------------------------------------


def _export_archive(core: Core, plan: _Plan, progress: Progress | None) -> ExportReport:
    to, sizes = plan.destination, plan.selection.sizes
    written = sum(size for digest, size in sizes.items() if digest not in plan.left_out)
    if not plan.dry_run:
        tally = Tally(written, progress)
        with sink.opened(to.target, name=to.name, compression=to.compression, tally=tally) as out:
            write_oci_archive(out, core.pool, plan.selection, left_out=plan.left_out)
        tally.reach(written)
    return plan.report(written=written)


def _export_docker(
    core: Core, plan: _Plan, platforms: Sequence[str], progress: Progress | None, *, verify: bool
) -> ExportReport:
    to = plan.destination
    try:
        archive = docker_archive(core.pool, plan.selection, archive=to.name, platforms=platforms)
    except ArchiveInvalidError:
        if verify:  # it may be damage that the archive cannot hold
            _verify(core, plan, None)
        raise
    if verify:
        progress = _verify(core, plan, progress, archive)
    if not plan.dry_run:
        tally = Tally(archive.size, progress)
        with sink.opened(to.target, name=to.name, compression=to.compression, tally=tally) as out:
            archive.write(out, core.pool, archive=to.name)
        tally.reach(archive.size)
    return plan.report(written=archive.size, archive=archive)


# --- a directory ------------------------------------------------------------------------------------------------------


def _export_directory(core: Core, plan: _Plan, progress: Progress | None) -> ExportReport:
    path = plan.destination.path
    assert path is not None
    sizes = {digest: size for digest, size in plan.selection.sizes.items() if digest not in plan.left_out}
    if plan.dry_run:
        there = _present(path, sizes)
        return plan.report(written=sum(sizes.values()) - there, present=there)
    with Translating(str(path)):
        make_directories(path)
    with _locked_directory(path) as layout:
        existing = _existing_entries(layout)
        with Translating(str(path)):
            layout.clear_leftovers()
        tally = Tally(sum(sizes.values()), progress)
        with BlobWriter(core, layout, plan.mode, tally) as writer:
            for manifest in plan.selection.made.values():
                writer.write_made(manifest)
            writer.write_all((digest, size) for digest, size in sizes.items() if digest not in plan.selection.made)
            with Translating(str(path)):
                # The files first, because the sync of a file takes with it most of what the directories wait for.
                if existing is None:
                    layout.replace(OCI_LAYOUT, LAYOUT_FILE)
                before = existing or Listing([], [], [], {})
                names = merged(before.entries, plan.selection.entries)
                with layout.replacing(INDEX_JSON, index_bytes(names, before.unusable, before.besides)):
                    writer.finish()
        with Translating(str(path)):
            layout.sync_top()
    return plan.report(written=sum(sizes.values()) - writer.present_bytes, present=writer.present_bytes)


def _present(path: Path, sizes: Mapping[str, int]) -> int:
    """Return how many bytes of it a layout has already; refuse the layout where writing to it would be refused."""
    if not os.path.lexists(path):
        return 0
    with _opened_directory(path) as layout:
        _existing_entries(layout)
        found = 0
        for digest, size in sizes.items():
            algorithm, _, encoded = digest.partition(":")
            with Translating(str(path)), Ignoring(FileNotFoundError):
                try:
                    directory = layout.algorithm(algorithm)
                except NotPlainError as error:
                    raise LayoutInvalidError(path, problems=(str(error),)) from error
                found += size if is_there(directory, encoded, size) else 0
    return found


def _opened_directory(path: Path, *, permissions: Permissions | None = None) -> LayoutDirectory:
    try:
        return LayoutDirectory(path, permissions=permissions)
    except NotADirectoryError as error:
        pass_on_theirs(error)
        problem = "it is not a directory; an archive is written where the name ends as one's, or its format is given"
        raise LayoutInvalidError(path, problems=(problem,)) from error
    except OSError as error:
        pass_on_theirs(error)
        raise StorageError(str(path), errno=error.errno, reason=error.strerror or str(error)) from error


@contextlib.contextmanager
def _locked_directory(path: Path, *, permissions: Permissions | None = None) -> Iterator[LayoutDirectory]:
    """Lock the directory against other exports into it: two of them would lose each other's names."""
    with _opened_directory(path, permissions=permissions) as layout:
        with Translating(str(path)):  # there may be no room for another lock
            fcntl.flock(layout.descriptor, fcntl.LOCK_EX)
        try:
            yield layout
        finally:
            with Ignoring():  # closing it gives the lock up too, unless a child forked meanwhile shares the description
                fcntl.flock(layout.descriptor, fcntl.LOCK_UN)


def _existing_entries(layout: LayoutDirectory) -> Listing | None:
    """Return what the layout in the destination lists; None where it is empty, or an export into it was cut short."""
    try:
        check_layout_file(layout.read(OCI_LAYOUT, maximum=MAXIMUM_LAYOUT_FILE_SIZE))
        return read_index(layout.read(INDEX_JSON, maximum=MAXIMUM_INDEX_SIZE))
    except FileNotFoundError as error:
        pass_on_theirs(error)
        with Translating(str(layout.path)):
            others = {
                name
                for name in os.listdir(layout.descriptor)
                if name not in (OCI_LAYOUT, BLOBS) and not name.startswith(TEMPORARY)
            }
        if others:
            problem = "it is not empty and not an OCI layout"
            raise LayoutInvalidError(layout.path, problems=(problem,)) from None
        return None
    except (NotPlainError, ManifestInvalidError) as error:
        raise LayoutInvalidError(layout.path, problems=(str(error),)) from error
    except OSError as error:
        pass_on_theirs(error)
        raise StorageError(str(layout.path), errno=error.errno, reason=str(error)) from error


def _entries_in_place(layout: LayoutDirectory) -> list[Descriptor]:
    """Return the entries of an earlier export in place, for their names.

    None where they cannot be read: it is replaced.
    """
    try:
        return read_index(layout.read(INDEX_JSON, maximum=MAXIMUM_INDEX_SIZE)).entries
    except (FileNotFoundError, NotPlainError, ManifestInvalidError) as error:
        pass_on_theirs(error)
        return []
