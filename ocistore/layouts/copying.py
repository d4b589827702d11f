"""From one store on this machine to another: whole graphs, every byte hashed on the way in, one commit."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from ocistore.arguments import absolute_path, check_choice
from ocistore.blobs.adoption import adopt
from ocistore.blobs.pool import name_of
from ocistore.blobs.sharing import TransferMode
from ocistore.catalog import manifests, repositories
from ocistore.catalog.contract import in_snapshot
from ocistore.catalog.lock import rest
from ocistore.changes import SetTag
from ocistore.commit import ATTEMPTS
from ocistore.core import Core
from ocistore.errors import (
    BlobNotFoundError,
    CorruptError,
    DigestMismatchError,
    ManifestInvalidError,
    ReadOnlyStoreError,
    SizeMismatchError,
    StoreBusyError,
    StoreFullError,
)
from ocistore.layouts.exports.absences import kinds
from ocistore.layouts.exports.selection import Group, Selection, choose
from ocistore.layouts.imports.manifests import MAXIMUM_MANIFESTS_SIZE
from ocistore.layouts.index import said_besides
from ocistore.layouts.transfer import TransferReport, changes, moved, present, stage_manifests, take_back
from ocistore.layouts.vanished import check_if_collected, gone_is_damage
from ocistore.lease import Lease, scope_of
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import Manifest, check_manifest
from ocistore.opening import open_core
from ocistore.oserrors import Translating
from ocistore.progress import Tally
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ocistore.blobs.pool import StagedBlob
    from ocistore.catalog import graph
    from ocistore.progress import Progress

_KEPT: Final = timedelta(hours=1)
"""How long what is copied is kept in the source if the copying process dies."""
_RENEWED_EVERY: Final = 60.0
"""Seconds."""
_KEPT_AT_ONCE: Final = 1000
"""Manifests in one transaction of the source; each takes 10 to 20 µs."""
_SMALL: Final = 16 * 1024
"""Bytes. What is not larger is read at once and staged from memory: sharing four blocks costs more than copying."""


@dataclass(frozen=True)
class CopyReport(TransferReport):
    """What a copy brought into a store; or, where it was a dry run, what it would have."""

    source: Path
    destination: Path
    names: tuple[str, ...]
    """Tags as REPO:TAG, and untagged manifests as REPO@DIGEST, as they are called in the destination; in byte order."""
    moved: tuple[str, ...]
    """The copied tags that pointed at something else in the destination, just before."""
    absent: tuple[str, ...]
    """Digests that copied manifests refer to and the source does not hold: foreign layers, absent children."""
    absent_kinds: Mapping[str, str]
    """What each of these is, such as ``image for linux/arm64 in app:v1``, as far as that can be read."""
    copied_bytes: int
    """Bytes of blobs and manifests that the destination did not hold, whether copied or shared with the source."""
    present_bytes: int
    """Bytes of blobs and manifests that it held."""


def copy(
    source: Core,
    destination: Core | str | os.PathLike[str],
    references: Iterable[str] | None = None,
    *,
    platforms: Sequence[str] = (),
    referrers: bool = True,
    mode: TransferMode = "auto",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy references into another store, in one commit; see :meth:`ocistore.Store.copy_to`."""
    check_choice(mode, "mode", get_args(TransferMode))
    target = destination.root if isinstance(destination, Core) else Path(absolute_path(destination))
    refuse_same(source.root, target)
    if isinstance(destination, Core) and not dry_run:
        destination.require_writable()
    if references is not None and not isinstance(references, str):
        references = list(references)  # they are read again where something vanished
    with check_if_collected(source), _keeping(source, target, dry_run=dry_run) as keeping:
        selection = keeping.choose(references, referrers=referrers, platforms=platforms)
        with _opened(destination, target, dry_run=dry_run) as opened:
            copying = _Copying(source, opened, target, selection, mode)
            if opened is not None and not dry_run:
                copying.run(opened, keeping, progress)
            return copying.report(dry_run=dry_run)


def refuse_same(source: Path, destination: Path) -> None:
    """Refuse to copy a store to itself, or into one of its own directories.

    Raises:
        ValueError: it is that.
    """
    ours, theirs = Path(os.path.realpath(source)), Path(os.path.realpath(destination))
    if ours == theirs:
        raise ValueError(f"the source and the destination are the same store: {ours}")
    if ours in theirs.parents or theirs in ours.parents:
        raise ValueError(f"one store cannot lie in the other: {ours} and {theirs}")


@contextlib.contextmanager
def _opened(destination: Core | str | os.PathLike[str], target: Path, *, dry_run: bool) -> Iterator[Core | None]:
    """Open the destination; None for a dry run where there is none yet."""
    if isinstance(destination, Core):
        yield destination
        return
    with Translating(str(target)):
        try:
            is_new = stat.S_ISDIR(os.stat(target).st_mode) and not os.listdir(target)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            is_new = not os.path.islink(target)
    if dry_run and is_new:
        yield None
        return
    with open_core(destination, create=not dry_run, read_only=dry_run) as core:
        yield core


# --- in the source ----------------------------------------------------------------------------------------------------


@dataclass
class _Keeping:
    """Keeps in the source what is being copied."""

    source: Core
    lease: Lease | None
    renewed: float = field(default_factory=time.monotonic)

    def choose(self, references: Iterable[str] | None, *, referrers: bool, platforms: Sequence[str]) -> Selection:
        """Return what is to be copied, and is kept from now on."""
        for _ in range(ATTEMPTS):
            selection = in_snapshot(
                self.source.catalog,
                lambda connection: choose(
                    connection, self.source.pool, references, referrers=referrers, platforms=platforms
                ),
            )
            if self.lease is None or all(self._keep(self.lease, group) for group in selection.groups):
                return selection
        raise StoreBusyError(
            "the source", waited=0.0, reason="garbage collection keeps removing what is copied; try again"
        )

    def _keep(self, lease: Lease, group: Group) -> bool:
        """Keep all that was asked for, in small transactions.

        Return whether it still exists, and so all that it keeps.
        """
        roots = list(group.roots)
        for begin in range(0, len(roots), _KEPT_AT_ONCE):
            some = roots[begin : begin + _KEPT_AT_ONCE]
            with self.source.catalog.write(repositories={group.source}) as connection:
                began = time.monotonic()
                here = repositories.find(connection, group.source)
                if here is None:
                    return False
                there = manifests.children(connection, here, some)
                if any(digest not in there or not there[digest].manifest_here for digest in some):
                    return False
                scope_of(lease).keep_all(connection, here, some, now=self.source.catalog.now())
            if begin + len(some) < len(roots):
                rest(began)
        return True

    def renew(self) -> None:
        """Say that somebody is still at work."""
        if self.lease is not None and time.monotonic() - self.renewed > _RENEWED_EVERY:
            self.lease.renew()
            self.renewed = time.monotonic()


@contextlib.contextmanager
def _keeping(source: Core, target: Path, *, dry_run: bool) -> Iterator[_Keeping]:
    with contextlib.ExitStack() as stack:
        lease = None
        if not source.read_only and not dry_run:
            # Not even on a full disk, from which somebody may be saving what is there, is a lease worth failing for.
            with contextlib.suppress(ReadOnlyStoreError, StoreFullError):
                lease = stack.enter_context(Lease(source, ttl=_KEPT, reason=f"being copied to {target}"))
        yield _Keeping(source, lease)


# --- in the destination -----------------------------------------------------------------------------------------------


class _Copying:
    """Copies what was chosen into the destination."""

    def __init__(
        self, source: Core, destination: Core | None, target: Path, selection: Selection, mode: TransferMode
    ) -> None:
        self._source = source
        self._target = target
        self._selection = selection
        self._mode: TransferMode = mode
        self._sizes = {Digest(digest): size for digest, size in selection.sizes.items()}
        self._tags = [
            SetTag(group.repository, entry.tag, entry.descriptor.digest, entry=said_besides(entry.descriptor))
            for group in selection.groups
            for entry in group.entries
            if entry.tag is not None
        ]
        self._said = {
            (group.repository, entry.descriptor.digest): said_besides(entry.descriptor)
            for group in selection.groups
            for entry in group.entries
            if entry.tag is None
        }
        self._present = frozenset() if destination is None else present(destination, self._sizes)
        self._absent_kinds = kinds(source.pool, selection)
        self._moved = () if destination is None else moved(destination, self._tags)

    def report(self, *, dry_run: bool) -> CopyReport:
        """Return the report of what is copied."""
        selection = self._selection
        there = sum(self._sizes[digest] for digest in self._present)
        total = sum(self._sizes.values())
        return CopyReport(
            source=self._source.root,
            destination=self._target,
            names=selection.names,
            moved=self._moved,
            manifests=selection.manifest_count,
            blobs=len(self._sizes) - selection.manifest_count,
            bytes=total,
            absent=selection.absent,
            absent_kinds=self._absent_kinds,
            replaced=selection.replaced,
            other_platforms=selection.other_platforms,
            referrers_left=selection.referrers_left,
            copied_bytes=total - there,
            present_bytes=there,
            dry_run=dry_run,
        )

    def run(self, destination: Core, keeping: _Keeping, progress: Progress | None) -> None:
        """Do it."""
        try:
            self._run(destination, keeping, progress, held=self._present)
        except BlobNotFoundError:
            # A collection took something that was found in the destination a moment ago: bring it along then.
            self._run(destination, keeping, progress, held=frozenset())

    def _run(self, destination: Core, keeping: _Keeping, progress: Progress | None, *, held: frozenset[Digest]) -> None:
        graphs, blobs = self._graphs(self._read_manifests(destination))
        wanted = dict.fromkeys(digest for sizes in blobs.values() for digest in sizes if digest not in held)
        total = sum(self._sizes[digest] for digest in wanted)

        def told(done: int, total: int) -> None:
            keeping.renew()
            if progress is not None:
                progress(done, total)

        done, tally = 0, Tally(total, told)
        staged: dict[Digest, StagedBlob] = {}
        try:
            for digest in wanted:
                staged[digest] = self._stage(destination, digest, tally)
                done += self._sizes[digest]
                tally.reach(done)
            stage_manifests(destination, graphs, staged)
            # What the source does not hold is absent there, too.
            destination.commit(changes(blobs, graphs, self._tags, staged, missing="all", said=self._said))
        except BlobNotFoundError:
            take_back(graphs)
            raise
        finally:
            destination.discard(staged.values())

    def _stage(self, destination: Core, digest: Digest, tally: Tally) -> StagedBlob:
        size = self._sizes[digest]
        of = f" of {self._source.root}"
        try:
            if size <= _SMALL and self._mode != "link":
                with gone_is_damage(digest, of=of):
                    content = self._source.pool.read(digest, size)
                return destination.pool.stage(content, digest=digest, size=size)
            path = name_of(self._source.pool, digest)
            with gone_is_damage(digest, of=of):
                reader = self._source.pool.open(digest, size)
            with reader, Translating(path):
                return adopt(
                    destination.pool, reader, digest=digest, size=size, mode=self._mode, path=path, progress=tally.add
                )
        except (DigestMismatchError, SizeMismatchError) as error:
            self._source.catalog.refuse_moved()
            raise CorruptError(f"blob {digest} of {self._source.root}", reason=str(error)) from error

    def _read_manifests(self, destination: Core) -> dict[str, Manifest]:
        """Return all manifests that the source holds, each once."""
        read: dict[str, Manifest] = {}
        left = MAXIMUM_MANIFESTS_SIZE
        for node in self._selection.nodes.values():
            if node.here and node.media_type is not None:
                left -= node.size
                if left < 0:
                    raise ManifestInvalidError(f"those to copy have more than {MAXIMUM_MANIFESTS_SIZE} bytes together")
                read[node.digest] = self._manifest(node, maximum=destination.maximum_manifest_size)
        return read

    def _graphs(
        self, read: Mapping[str, Manifest]
    ) -> tuple[dict[str, dict[Digest, Manifest]], dict[str, dict[Digest, int]]]:
        """Return what each repository of the destination gets.

        That is manifests, children before parents, and blobs with sizes.
        """
        graphs: dict[str, dict[Digest, Manifest]] = {}
        blobs: dict[str, dict[Digest, int]] = {}
        for group in self._selection.groups:
            own = {node.digest: read[node.digest] for node in group.nodes if node.here and node.media_type is not None}
            own |= {manifest.descriptor.digest: manifest for manifest in group.made}
            here = {node.digest for node in group.nodes if node.here}
            graphs.setdefault(group.repository, {}).update(_children_first(own))
            blobs.setdefault(group.repository, {}).update(
                (edge.descriptor.digest, self._sizes[edge.descriptor.digest])
                for manifest in own.values()
                for edge in manifest.edges()
                if edge.role in {"config", "layer"} and edge.descriptor.digest in here
            )
        return graphs, blobs

    def _manifest(self, node: graph.Node, *, maximum: int) -> Manifest:
        digest = Digest(node.digest)
        with gone_is_damage(digest, noun="manifest", of=f" of {self._source.root}"):
            content = self._source.pool.read(digest, node.size)
        try:
            return check_manifest(content, media_type=node.media_type, digest=digest, maximum=maximum)
        except DigestMismatchError as error:
            self._source.catalog.refuse_moved()
            raise CorruptError(f"manifest {digest} of {self._source.root}", reason=str(error)) from error


def _children_first(own: Mapping[str, Manifest]) -> Iterator[tuple[Digest, Manifest]]:
    """Yield the manifests, without recursion: a parent after all its children."""
    given: set[str] = set()
    pending = [(manifest, False) for manifest in own.values()]
    while pending:
        manifest, complete = pending.pop()
        digest = manifest.descriptor.digest
        if digest in given:
            continue
        if complete or not manifest.manifests:
            given.add(digest)
            yield digest, manifest
            continue
        pending.append((manifest, True))
        pending += [(own[child.digest], False) for child in manifest.manifests if child.digest in own]
