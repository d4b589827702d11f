"""How the changes of a commit are applied, inside the write transaction.

Runs of the same kind are applied together, with a handful of statements for any number of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ocistore.catalog import batches, blobs, manifests, repositories, stageddeletions, stagedtags, tags, uploads
from ocistore.changes import (
    ANY,
    DeleteBlob,
    DeleteManifest,
    DeleteRepository,
    EndUpload,
    LinkBlob,
    MountBlob,
    MountManifest,
    PutBlob,
    PutManifest,
    RemoveTag,
    SetTag,
)
from ocistore.errors import (
    BlobNotFoundError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    ManifestNotFoundError,
    ReferencedError,
    RepositoryNotFoundError,
    TagConflictError,
    UploadNotFoundError,
)
from ocistore.oci import mediatypes
from ocistore.oci.manifest import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ocistore.blobs.pool import Provider
    from ocistore.catalog.connection import Connection
    from ocistore.changes import Change
    from ocistore.leasescope import HeldLease
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Edge


class OccupiedError(Exception):
    """Rows of another batch are in a repository that others see, and for which a batch has something."""

    def __init__(self, repository_id: int) -> None:
        super().__init__(repository_id)
        self.repository_id = repository_id


@dataclass(slots=True)
class Applier:
    """One list of changes being applied, in the write transaction of ``connection``."""

    connection: Connection
    pool: Provider
    now: int
    actor: str
    platforms: Mapping[str, Mapping[str, object]]
    """The platforms of image manifests, by digest."""
    leases: Sequence[HeldLease] = ()
    """The leases that keep what these changes bring into a repository."""
    batch: int | None = None
    """The batch that is revealed before anybody sees these changes; None where they are seen at once."""
    occupied: dict[str, int] = field(default_factory=dict)
    """Repositories that others see among whose rows those of the batch are, with its id."""
    deleted: list[int] = field(default_factory=list)
    """Repositories that are deleted by now and still have rows: ``largedeletions.py`` removes these."""
    sessions: list[str] = field(default_factory=list)
    """Upload sessions deleted with their repositories. Their files remain when this is committed."""
    _left: int = field(default_factory=lambda: repositories.EMPTIED_AT_ONCE)
    ids: dict[str, int] = field(default_factory=dict)
    """Keys of repositories, by name."""
    manifest_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    """Keys of manifests, by repository and digest."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes in order, except that the bytes of all blobs and manifests become live rows first.

        Raises:
            OCIStoreError: one of them is refused; the transaction must then be rolled back.
        """
        changes = list(changes)
        staged = [change for change in changes if isinstance(change, (PutBlob, PutManifest))]
        if staged:
            blobs.publish(self.connection, {change.blob.digest: change.blob.size for change in staged}.items())
        for (kind, repository), run in groupby(changes, key=lambda change: (type(change), change.repository)):
            _APPLIERS[kind](self, repository, list(run))
        if self.leases:
            self._keep(changes)

    def _keep(self, changes: Iterable[Change]) -> None:
        kept: dict[str, list[Digest]] = {}
        for change in changes:
            if isinstance(change, PutBlob | PutManifest):
                kept.setdefault(change.repository, []).append(change.blob.digest)
            elif isinstance(change, LinkBlob | MountBlob | MountManifest):
                kept.setdefault(change.repository, []).append(change.digest)
        for repository, digests in kept.items():
            if repository in self.ids:  # it may have been deleted again by a later change
                for lease in self.leases:
                    lease.keep_all(self.connection, self.ids[repository], digests, now=self.now)

    # One method for a run of each kind of change in one repository.

    def _put_blobs(self, repository: str, run: Sequence[PutBlob]) -> None:
        digests = [change.blob.digest for change in run]
        self._link(repository, digests)

    def _link(self, repository: str, digests: Sequence[str]) -> None:
        repository_id = self._ensure(repository)
        batch = self.occupied.get(repository)
        blobs.add_memberships(self.connection, repository_id, digests, now=self.now, batch=batch)

    def _link_blobs(self, repository: str, run: Sequence[LinkBlob]) -> None:
        live = blobs.live_sizes(self.connection, [change.digest for change in run])
        for change in run:
            if live.get(change.digest) != change.size or not self.pool.has(change.digest, change.size):
                raise BlobNotFoundError(change.digest, repository=repository)
        self._link(repository, list(live))

    def _mount_blobs(self, repository: str, run: Sequence[MountBlob]) -> None:
        wanted: dict[str, list[Digest]] = {}
        for change in run:
            wanted.setdefault(change.source, []).append(change.digest)
        for source, digests in wanted.items():
            held = manifests.children(self.connection, self._find(source), digests, batch=self.batch)
            for digest in digests:
                # A file that is gone or cut short is answered like a blob that does not exist: pushing it again heals
                # it.
                child = held.get(digest)
                if child is None or not child.live or not child.blob_here or not self.pool.has(digest, child.size):
                    raise BlobNotFoundError(digest, repository=source)
        self._link(repository, [change.digest for change in run])

    def _delete_blobs(self, repository: str, run: Sequence[DeleteBlob]) -> None:
        repository_id = self._find(repository)
        self._overtake(repository_id)
        staged_in = self.occupied.get(repository)
        known: Mapping[str, manifests.Child] = {}
        if staged_in is not None:
            wanted = [change.digest for change in run]
            known = manifests.children(self.connection, repository_id, wanted, batch=staged_in)
        leaving: dict[Digest, int] = {}
        for change in run:
            digest = change.digest
            referrers = blobs.referrers(
                self.connection, repository_id, digest, roles=("config", "layer"), batch=staged_in
            )
            if referrers:
                raise ReferencedError(digest, repository=repository, referrers=tuple(referrers))
            if staged_in is None:
                there = blobs.remove_membership(self.connection, repository_id, digest, now=self.now)
            elif there := digest in known and known[digest].blob_here and digest not in leaving:
                leaving[digest] = known[digest].id
            if not there:
                raise BlobNotFoundError(digest, repository=repository)
        if staged_in is not None:
            ids = list(leaving.values())
            stageddeletions.leave_blobs(self.connection, repository_id, ids, now=self.now, batch=staged_in)

    def _put_manifests(self, repository: str, run: Sequence[PutManifest]) -> None:
        repository_id = self._ensure(repository)
        for level in _levels(run):
            wanted = dict.fromkeys(
                digest
                for change in level
                for digest in (
                    change.manifest.descriptor.digest,
                    *(edge.descriptor.digest for edge in change.manifest.edges()),
                )
            )
            known = manifests.children(self.connection, repository_id, wanted, batch=self.batch)
            self._rely(repository_id, known.values())
            incomplete = _check_children(level, known, repository=repository)
            absent = {
                edge.descriptor.digest: edge.descriptor.size
                for change in level
                for edge in change.manifest.edges()
                if edge.descriptor.digest not in known
            }
            if absent:
                blobs.name(self.connection, absent.items())
                known |= manifests.children(self.connection, repository_id, absent, batch=self.batch)
            new = [
                manifests.NewManifest(
                    change.manifest,
                    self.platforms.get(change.manifest.descriptor.digest),
                    incomplete=change.manifest.descriptor.digest in incomplete,
                    entry=change.entry,
                )
                for change in level
            ]
            staged_in = self.occupied.get(repository)
            manifests.put(self.connection, repository_id, new, known, now=self.now, batch=staged_in)
            for change in level:
                digest = change.manifest.descriptor.digest
                self.manifest_ids[repository, digest] = known[digest].id

    def _mount_manifests(self, repository: str, run: Sequence[MountManifest]) -> None:
        repository_id = self._ensure(repository)
        staged_in = self.occupied.get(repository)
        for source, some in groupby(run, key=lambda change: change.source):
            source_id = self._find(source)
            digests = [change.digest for change in some]
            held = manifests.children(self.connection, source_id, digests, batch=self.batch)
            for digest in digests:
                child = held.get(digest)
                if child is None or not child.live or not child.manifest_here or not self.pool.has(digest, child.size):
                    raise ManifestNotFoundError(digest, repository=source)
                self.manifest_ids[repository, digest] = child.id
            ids = [child.id for child in held.values()]
            wanted = [*digests, *manifests.below(self.connection, ids)]
            known = manifests.children(self.connection, repository_id, wanted, batch=self.batch)
            self._rely(repository_id, known.values())
            manifests.mount(self.connection, repository_id, ids, source_id, now=self.now, batch=staged_in)

    def _delete_manifests(self, repository: str, run: Sequence[DeleteManifest]) -> None:
        repository_id = self._find(repository)
        self._overtake(repository_id)
        staged_in = self.occupied.get(repository)
        self._know_manifests(repository, repository_id, [change.digest for change in run])
        for change in run:
            manifest_id = self._manifest_id(repository, repository_id, change.digest)
            referrers = blobs.referrers(
                self.connection, repository_id, change.digest, roles=("manifest",), batch=staged_in
            )
            if referrers:
                raise ReferencedError(change.digest, repository=repository, referrers=tuple(referrers))
            names = tags.of_manifest(self.connection, repository_id, manifest_id, batch=staged_in)
            self._untag(repository, repository_id, names)
            if staged_in is None:
                stagedtags.release(self.connection, repository_id, manifest_id, now=self.now)
                manifests.remove_membership(
                    self.connection, repository_id, manifest_id, now=self.now, since=change.since
                )
            else:
                stageddeletions.leave_manifests(
                    self.connection, repository_id, [manifest_id], now=self.now, batch=staged_in
                )
            self.manifest_ids.pop((repository, change.digest), None)

    def untag_some(self, change: DeleteManifest, *, limit: int) -> bool:
        """Remove up to ``limit`` tags of a manifest that is deleted next. Return whether fewer were left."""
        repository_id = self._find(change.repository)
        manifest_id = self._manifest_id(change.repository, repository_id, change.digest)
        staged_in = self.occupied.get(change.repository)
        names = tags.of_manifest(self.connection, repository_id, manifest_id, limit=limit, batch=staged_in)
        self._untag(change.repository, repository_id, names)
        return len(names) < limit

    def _untag(self, repository: str, repository_id: int, names: Sequence[str]) -> None:
        """Remove tags because of what they point at."""
        if not names:
            return
        if repository in self.occupied:
            stagedtags.remove(
                self.connection,
                repository_id,
                repository,
                names,
                now=self.now,
                actor=self.actor,
                batch=self.occupied[repository],
                conditional=True,
            )
        else:
            tags.remove(
                self.connection, repository_id, repository, names, now=self.now, actor=self.actor, batch=self.batch
            )

    def _set_tags(self, repository: str, run: Sequence[SetTag]) -> None:
        repository_id = self._find(repository)
        self._know_manifests(repository, repository_id, [change.digest for change in run])
        for piece in _split(run, lambda change: change.name, lambda change: [change.name]):
            moves = [
                tags.Move(
                    change.name,
                    self._manifest_id(repository, repository_id, change.digest),
                    change.digest,
                    change.entry,
                    conditional=change.expected is not ANY,
                )
                for change in piece
            ]
            conditional = {change.name: change for change in piece if change.expected is not ANY}
            if conditional:
                actual = tags.targets(self.connection, repository_id, conditional, batch=self.batch)
                for name, change in conditional.items():
                    found = actual[name].digest if name in actual else None
                    if found != change.expected:
                        expected = None if change.expected is None else str(change.expected)
                        raise TagConflictError(name, repository=repository, expected=expected, actual=found)
            if repository in self.occupied:
                batch = self.occupied[repository]
                stagedtags.move(
                    self.connection, repository_id, repository, moves, now=self.now, actor=self.actor, batch=batch
                )
            else:
                tags.move(
                    self.connection, repository_id, repository, moves, now=self.now, actor=self.actor, batch=self.batch
                )

    def _remove_tags(self, repository: str, run: Sequence[RemoveTag]) -> None:
        repository_id = self._find(repository)
        for piece in _split(run, lambda change: change.name, lambda change: [change.name]):
            names = [change.name for change in piece]
            if repository in self.occupied:
                batch = self.occupied[repository]
                removed = stagedtags.remove(
                    self.connection, repository_id, repository, names, now=self.now, actor=self.actor, batch=batch
                )
            else:
                removed = tags.remove(
                    self.connection, repository_id, repository, names, now=self.now, actor=self.actor, batch=self.batch
                )
            for name in names:
                if name not in removed:
                    raise ManifestNotFoundError(name, repository=repository)

    def _end_uploads(self, repository: str, run: Sequence[EndUpload]) -> None:
        for change in run:
            if uploads.find(self.connection, repository, change.upload) is None:
                raise UploadNotFoundError(change.upload, repository=repository)
            uploads.remove(self.connection, change.upload)

    def _delete_repositories(self, repository: str, run: Sequence[DeleteRepository]) -> None:
        for _ in run:
            repository_id = self._find(repository)
            self._overtake(repository_id)
            repositories.remove(self.connection, repository_id, repository, now=self.now, actor=self.actor)
            self._empty(repository_id)
            del self.ids[repository]
            self.manifest_ids = {key: value for key, value in self.manifest_ids.items() if key[0] != repository}

    def _empty(self, repository_id: int) -> None:
        """Empty a deleted repository, if that is little: small ones are removed in one commit."""
        emptied = repositories.deleted(self.connection, repository_id)
        if emptied is None or self._left <= 0:
            self.deleted.append(repository_id)
            return
        before = self.connection.driver.total_changes
        done, sessions, _ = repositories.empty(self.connection, emptied, now=self.now, limit=self._left)
        self.sessions += sessions
        self._left -= max(1, self.connection.driver.total_changes - before)
        if not done:
            self._left = 0  # and no more of these are removed in this transaction
            self.deleted.append(repository_id)

    # Batches of others.

    def _overtake(self, repository_id: int) -> None:
        """End batches that may rely on what is deleted here."""
        if self.batch is None:  # else the repository is occupied by ours
            batches.overtake(self.connection, repository_id)

    def _rely(self, repository_id: int, content: Iterable[manifests.Child]) -> None:
        """Note that something is referred to that a batch may be going to remove."""
        if any(child.leaving for child in content):
            self._overtake(repository_id)

    # Names to ids, once per transaction.

    def _find(self, repository: str) -> int:
        if repository not in self.ids:
            found = repositories.find(self.connection, repository)
            if found is None:
                raise RepositoryNotFoundError(repository)
            self._note(repository, found)
        return self.ids[repository]

    def _note(self, repository: str, repository_id: int) -> None:
        if self.batch is not None:
            occupant = batches.occupant(self.connection, repository_id)
            if occupant is not None:
                raise OccupiedError(repository_id)
            batches.occupy(self.connection, self.batch, repository_id, repository)
            self.occupied[repository] = self.batch
        self.ids[repository] = repository_id

    def _ensure(self, repository: str) -> int:
        if repository not in self.ids:
            found = repositories.find(self.connection, repository)
            if found is not None:
                self._note(repository, found)
            elif self.batch is None:
                self.ids[repository] = repositories.make(self.connection, repository, now=self.now)
            else:
                self.ids[repository] = batches.make(self.connection, self.batch, repository, now=self.now)
        return self.ids[repository]

    def _know_manifests(self, repository: str, repository_id: int, digests: Iterable[Digest]) -> None:
        unknown = {digest for digest in digests if (repository, digest) not in self.manifest_ids}
        if len(unknown) > 1:
            known = manifests.children(self.connection, repository_id, unknown, batch=self.batch)
            self._rely(repository_id, known.values())
            for digest, child in known.items():
                if child.manifest_here:
                    self.manifest_ids[repository, digest] = child.id

    def _manifest_id(self, repository: str, repository_id: int, digest: Digest) -> int:
        key = (repository, digest)
        if key not in self.manifest_ids:
            child = manifests.children(self.connection, repository_id, [digest], batch=self.batch).get(digest)
            if child is None or not child.manifest_here:
                raise ManifestNotFoundError(digest, repository=repository)
            self._rely(repository_id, [child])
            self.manifest_ids[key] = child.id
        return self.manifest_ids[key]


# Each function takes a run of the kind of its key, which no type can say of a mapping.
_APPLIERS: Final[dict[type[Any], Callable[[Applier, str, Any], None]]] = {
    PutBlob: Applier._put_blobs,
    LinkBlob: Applier._link_blobs,
    MountBlob: Applier._mount_blobs,
    MountManifest: Applier._mount_manifests,
    DeleteBlob: Applier._delete_blobs,
    PutManifest: Applier._put_manifests,
    DeleteManifest: Applier._delete_manifests,
    SetTag: Applier._set_tags,
    RemoveTag: Applier._remove_tags,
    EndUpload: Applier._end_uploads,
    DeleteRepository: Applier._delete_repositories,
}

_C = TypeVar("_C")


def _split(run: Sequence[_C], name: Callable[[_C], str], needs: Callable[[_C], Iterable[str]]) -> Iterator[list[_C]]:
    """Cut a run wherever a change needs, by name, one before it in the same piece."""
    batch: list[_C] = []
    names: set[str] = set()
    for change in run:
        if not names.isdisjoint(needs(change)):
            yield batch
            batch, names = [], set()
        batch.append(change)
        names.add(name(change))
    yield batch


def _levels(run: Sequence[PutManifest]) -> Iterator[list[PutManifest]]:
    """Yield pieces in which no manifest is the child of another one, or occurs twice."""
    return _split(
        run,
        lambda change: change.manifest.descriptor.digest,
        lambda change: [
            change.manifest.descriptor.digest,
            *(edge.descriptor.digest for edge in change.manifest.edges() if edge.role != "subject"),
        ],
    )


def _check_children(
    level: Iterable[PutManifest], known: Mapping[str, manifests.Child], *, repository: str
) -> set[Digest]:
    """Check that everything required exists, and that what exists has the size and type that the manifest says.

    Returns:
        The manifests that lack something which they may lack.
    """
    missing: dict[str, str] = {}
    incomplete: set[Digest] = set()
    for change in level:
        lacking = [edge for edge in change.manifest.edges() if _is_lacking(edge, known)]
        if not lacking:
            continue
        refused = _refused(change, lacking)
        is_index = mediatypes.is_index_type(change.manifest.media_type)
        for edge in refused:
            missing.setdefault(edge.descriptor.digest, kind_of(edge.descriptor) if is_index else edge.role)
        if not refused:
            _check_absent(lacking)
            incomplete.add(change.manifest.descriptor.digest)
    if missing:
        raise ManifestBlobUnknownError(tuple(missing), repository=repository, kinds=tuple(missing.values()))
    return incomplete


def _is_lacking(edge: Edge, known: Mapping[str, manifests.Child]) -> bool:
    """Whether it is required and missing in this repository, even if others hold it."""
    child = known.get(edge.descriptor.digest)
    as_manifest = edge.role in {"manifest", "subject"}
    if child is None or not child.live or not (child.manifest_here if as_manifest else child.blob_here):
        return edge.required
    if child.size != edge.descriptor.size:
        raise ManifestInvalidError(
            f"{edge.role} {edge.descriptor.digest} has {child.size} bytes, not {edge.descriptor.size}"
        )
    if as_manifest and child.media_type != edge.descriptor.media_type:
        raise ManifestInvalidError(
            f"{edge.role} {edge.descriptor.digest} is of type {child.media_type}, not {edge.descriptor.media_type}"
        )
    return False


def _refused(change: PutManifest, lacking: Sequence[Edge]) -> Sequence[Edge]:
    """Return what of that it may not lack."""
    if change.missing == "all":
        return ()
    children = {child.digest for child in change.manifest.manifests}
    gone = {edge.descriptor.digest for edge in lacking}
    return lacking if change.missing == "refuse" or not gone < children else ()


def _check_absent(lacking: Iterable[Edge]) -> None:
    """Check that a manifest says one thing of what nobody can look at."""
    said: dict[str, Edge] = {}
    for edge in lacking:
        digest = edge.descriptor.digest
        first = said.setdefault(digest, edge)
        if first.descriptor.size != edge.descriptor.size:
            sizes = f"{first.descriptor.size} and {edge.descriptor.size}"
            raise ManifestInvalidError(f"{edge.role} {digest} cannot have {sizes} bytes")
