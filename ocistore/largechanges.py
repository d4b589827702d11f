"""Committing what is large: in many small transactions that nobody sees, and one that reveals all of it.

An import of 50,000 manifests held the write lock for 7 to 17 seconds, in which nobody else could push. So the rows of
large changes are written a part at a time, as a batch (see ``catalog/batches.py``): into hidden repositories or,
hidden, into those that exist. One small transaction reveals them. The rows in repositories that existed are settled
afterwards, which nobody sees, by the same call or, where that was killed, by the next collection. A batch keeps what is
in it from collection; that of a process that died runs out, and a collection removes it.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Final

from ocistore.applier import Applier, OccupiedError
from ocistore.catalog import batches, identity, repositories, stageddeletions
from ocistore.catalog.contract import in_small_transactions
from ocistore.catalog.lock import end_of_rest, rest_until
from ocistore.changes import (
    MOUNTS,
    DeleteBlob,
    DeleteManifest,
    LinkBlob,
    MountBlob,
    MountManifest,
    PutBlob,
    PutManifest,
    RemoveTag,
    SetTag,
)
from ocistore.commit import ATTEMPTS, REMOVALS, commit, give_up, gone, not_in_pool, read_platforms
from ocistore.errors import OCIStoreError, StoreBusyError, StoreFullError, UncertainCommitError
from ocistore.largedeletions import MANY, empty_deleted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocistore.blobs.pool import Pool
    from ocistore.catalog.connection import Connection
    from ocistore.catalog.contract import Catalog
    from ocistore.changes import Change
    from ocistore.leasescope import HeldLease
    from ocistore.oci.digest import Digest

LARGE: Final = 3000
"""The number of rows, about, from which changes are committed in parts; each takes 10 to 30 µs."""

AT_ONCE: Final = 500
"""The number of rows, about, that are written in one transaction."""

TTL: Final = 10 * 60 * 1000
"""Milliseconds that a batch lasts from its last transaction. Only a process that is stopped takes as long for one."""

_STARTS: Final = 3
"""How often a batch is begun. Another time is needed where something was deleted meanwhile that it may have relied on,
a repository was made or had another batch, or it ran out. After that, all of it is one transaction."""

_PATIENCE: Final = 60.0
"""Seconds that another batch in one of the repositories is waited for."""

_LOOK: Final = 0.05
"""Seconds between two looks whether it has ended."""

_STAGEABLE: Final = (
    PutBlob,
    LinkBlob,
    MountBlob,
    MountManifest,
    DeleteBlob,
    PutManifest,
    DeleteManifest,
    SetTag,
    RemoveTag,
)
"""All that one transaction may write."""


class _AgainError(Exception):
    """The batch cannot be revealed as it is."""


def is_large(catalog: Catalog, changes: Sequence[Change]) -> bool:
    """Whether to commit them in parts."""
    # Each has one row at least: mostly that is all there is to count.
    if len(changes) > LARGE or sum(map(_rows, changes)) > LARGE:
        return True
    # One alone is thinned out, in steps that are seen.
    return len(changes) > 1 and bool(_wide(catalog, changes, {}, referrers=True))


def _wide(catalog: Catalog, changes: Sequence[Change], ids: Mapping[str, int], *, referrers: bool = False) -> list[int]:
    """Return where among the changes manifests are deleted that have very many tags or, if asked for, referrers."""
    wanted: dict[str, list[Digest]] = {}
    for change in changes:
        if isinstance(change, DeleteManifest):
            wanted.setdefault(change.repository, []).append(change.digest)
    if not wanted:
        return []
    wide: set[tuple[str, str]] = set()
    with catalog.read() as connection:
        for repository, digests in wanted.items():
            repository_id = ids.get(repository) or repositories.find(connection, repository)
            if repository_id is not None:
                found = stageddeletions.widths(connection, repository_id, digests, limit=MANY + 1)
                wide |= {
                    (repository, digest)
                    for digest, width in found.items()
                    if width.tags > MANY or (referrers and width.referrers > MANY)
                }
    return [
        place
        for place, change in enumerate(changes)
        if isinstance(change, DeleteManifest) and (change.repository, change.digest) in wide
    ]


def commit_large(
    catalog: Catalog, pool: Pool, changes: Sequence[Change], *, actor: str, leases: Sequence[HeldLease] = ()
) -> Applier:
    """Apply all changes as :func:`ocistore.commit.commit` does, so that nobody sees some of them and not the others.

    What cannot be written beforehand, such as the end of an upload session, is applied in the transaction that reveals
    the rest, and so is what comes after it in the same repository.

    Raises:
        UncertainCommitError, OCIStoreError: as there.

    After a crash all of it is visible, or none.
    """
    beforehand, last = _divided(changes)
    if beforehand:
        for _ in range(_STARTS):
            try:
                return _LargeChange(catalog, pool, actor, leases).run(beforehand, last)
            except _AgainError:
                pass
            except OccupiedError as occupied:
                _wait_for(catalog, occupied.repository_id)
            except StoreFullError:
                if not all(isinstance(change, REMOVALS) for change in changes):
                    raise
                break  # one transaction is given the ballast for removals
    return commit(catalog, pool, changes, actor=actor, leases=leases)


_ROWS: Final[Mapping[type[Change], int]] = {MountManifest: 10, DeleteManifest: 5, DeleteBlob: 3, MountBlob: 2}
"""How many rows each change takes; others take one."""


def _rows(change: Change) -> int:
    return 3 + 2 * change.manifest.edge_count if isinstance(change, PutManifest) else _ROWS.get(type(change), 1)


def _divided(changes: Sequence[Change]) -> tuple[list[Change], list[Change]]:
    """Divide the changes: what can be written beforehand; and the rest, with all that follows it in its repositories.

    The expectation that there is no tag is noted in the row of that tag, and has none where the tag is removed again.
    """
    untagged = {(change.repository, change.name) for change in changes if isinstance(change, RemoveTag)}
    deleted = {(change.repository, change.digest) for change in changes if isinstance(change, DeleteManifest)}
    beforehand: list[Change] = []
    last: list[Change] = []
    waiting: set[str] = set()
    for change in changes:
        about = {change.repository, change.source} if isinstance(change, MOUNTS) else {change.repository}
        forgotten = (
            isinstance(change, SetTag)
            and change.expected is None
            and ((change.repository, change.name) in untagged or (change.repository, change.digest) in deleted)
        )
        if isinstance(change, _STAGEABLE) and not forgotten and waiting.isdisjoint(about):
            beforehand.append(change)
        else:
            last.append(change)
            waiting |= about
    return beforehand, last


def _parts(changes: Sequence[Change]) -> Iterator[list[Change]]:
    part: list[Change] = []
    rows = 0
    for change in changes:
        more = _rows(change)
        if part and rows + more > AT_ONCE:
            yield part
            part, rows = [], 0
        part.append(change)
        rows += more
    if part:
        yield part


class _LargeChange:
    """Commits one list of changes in parts, as a batch."""

    def __init__(self, catalog: Catalog, pool: Pool, actor: str, leases: Sequence[HeldLease]) -> None:
        self._catalog = catalog
        self._pool = pool
        self._actor = actor
        self._leases = leases
        self._batch = secrets.randbits(62) | 1
        self._published: set[Digest] = set()
        self._ids: dict[str, int] = {}
        self._occupied: dict[str, int] = {}
        self._unsettled = False
        self._rested = 0.0
        """The instant of the monotonic clock until which the lock is left to others."""

    def run(self, beforehand: Sequence[Change], last: Sequence[Change]) -> Applier:
        """Commit all of it."""
        staged = _staged([*beforehand, *last])
        try:
            self._publish(not_in_pool(self._catalog, self._pool, staged))
            with self._catalog.write() as connection:
                identity.become_store(connection)
                batches.start(connection, self._batch, expires=self._catalog.now() + TTL)
            for part in _parts(beforehand):
                self._apply_part(part)
            done = self._apply(last, reveal=True)
        except BaseException as error:
            try:
                # Else the batch runs out, if it was not revealed.
                if isinstance(error, Exception) and not isinstance(error, (StoreBusyError, UncertainCommitError)):
                    with contextlib.suppress(OCIStoreError):
                        self._abandon()
            finally:
                give_up(self._catalog, self._pool, [staged[digest].blob for digest in self._published], error)
            raise
        with contextlib.suppress(OCIStoreError):  # it has happened, and the next collection settles it
            if self._unsettled:
                _end(self._catalog, batches.Batch(self._batch, done.now, revealed=True))
        return done

    def _publish(self, changes: Sequence[PutBlob | PutManifest]) -> None:
        self._published.update(change.blob.digest for change in changes)
        self._pool.publish([change.blob for change in changes])

    def _apply_part(self, part: Sequence[Change]) -> None:
        begin = 0
        for place in _wide(self._catalog, part, self._ids):
            if place > begin:
                self._apply(part[begin:place])
            begin = place
            change = part[place]
            if isinstance(change, DeleteManifest):
                self._untag(change)
        self._apply(part[begin:])

    def _untag(self, change: DeleteManifest) -> None:
        """Remove all tags of a manifest that is deleted next."""

        def untag(connection: Connection) -> bool:
            application = self._application(connection, self._renewed(connection), {})
            return application.untag_some(change, limit=AT_ONCE)

        in_small_transactions(self._catalog, untag)

    def _renewed(self, connection: Connection) -> int:
        """Return the time now, from which the batch lasts once more."""
        now = self._catalog.now()
        if not batches.renew(connection, self._batch, now=now, expires=now + TTL):
            raise _AgainError
        return now

    def _application(self, connection: Connection, now: int, platforms: Mapping[str, Mapping[str, object]]) -> Applier:
        """Return what applies changes to the batch."""
        application = Applier(connection, self._pool, now, self._actor, platforms, self._leases)
        application.batch, application.occupied, application.ids = self._batch, self._occupied, self._ids
        return application

    def _apply(self, changes: Sequence[Change], *, reveal: bool = False) -> Applier:
        """Apply some of the changes in one transaction."""
        staged = _staged(changes)
        platforms: dict[str, dict[str, object]] = {}
        for _ in range(ATTEMPTS):
            read_platforms(self._pool, changes, platforms)
            rest_until(self._rested)  # of which the reading was a part
            with self._catalog.write() as connection:
                began = time.monotonic()
                now = self._renewed(connection)
                missing = gone(connection, self._pool, staged, self._published)
                if not missing:
                    read_platforms(self._pool, changes, platforms)
                    if reveal:
                        if batches.is_taken(connection, self._batch):
                            raise _AgainError
                        self._unsettled = batches.reveal(connection, self._batch, now=now)
                        application = Applier(connection, self._pool, now, self._actor, platforms, self._leases)
                    else:
                        application = self._application(connection, now, platforms)
                    application.apply(changes)
            self._rested = end_of_rest(began)
            if not missing:
                for change in changes:
                    if isinstance(change, PutManifest):
                        change.manifest.forget_parts()
                return application
            self._publish(missing)
        raise StoreBusyError("the pool", waited=0.0, reason="garbage collection keeps removing the content; try again")

    def _abandon(self) -> None:
        _end(self._catalog, batches.Batch(self._batch, 0, revealed=False))
        empty_deleted(self._catalog, self._pool, self._ids.values())


def _end(catalog: Catalog, batch: batches.Batch) -> None:
    """Settle or abandon all of a batch."""

    def end(connection: Connection) -> bool:
        return batches.end(connection, batch, now=catalog.now(), limit=AT_ONCE)

    in_small_transactions(catalog, end)


def _wait_for(catalog: Catalog, repository_id: int) -> None:
    """Let the batch in a repository end, and end it where nobody else does."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with catalog.read() as connection:
            batch = batches.occupant(connection, repository_id)
        if batch is None:
            return
        if batch.revealed or batch.expires <= catalog.now():
            _end(catalog, batch)
        else:
            time.sleep(_LOOK)


def _staged(changes: Sequence[Change]) -> Mapping[Digest, PutBlob | PutManifest]:
    return {change.blob.digest: change for change in changes if isinstance(change, PutBlob | PutManifest)}
