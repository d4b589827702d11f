"""Large deletions, in small transactions: of what a deleted repository leaves, and of a manifest with very many tags.

A repository is deleted by one row, in one commit; nobody sees what it held from then on. Its rows, of which there may
be any number, are removed afterwards, by the same call or, where that was killed, by the next collection.

Of a manifest that very many tags point at, or very many manifests are about, most is removed beforehand. Each tag that
is removed is an event, and takes 25 µs: in one transaction 20,000 of them kept everybody else from writing for half a
second. So tags are removed in small transactions first, each of which can be seen, and referrers are queued for
collection; the manifest itself is removed last, with what is left.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.blobs.pool import may_grow
from ocistore.catalog import blobs, manifests, repositories, tags
from ocistore.catalog.contract import in_small_transactions
from ocistore.catalog.lock import rest
from ocistore.commit import on_a_full_disk
from ocistore.errors import OCIStoreError, StorageError, StoreFullError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.blobs.pool import Pool, Uploads
    from ocistore.catalog.connection import Connection
    from ocistore.catalog.contract import Catalog
    from ocistore.changes import DeleteManifest

MANY: Final = 1000
"""Tags or referrers of one manifest that are too many to be removed, or queued, together with it; so many are at once.
Each takes 5 to 25 µs."""


def empty_deleted(catalog: Catalog, pool: Pool, repository_ids: Iterable[int]) -> None:
    """Delete all rows of these repositories, which are deleted already.

    Nothing is raised where the store cannot be written: the deletion has happened, and the next collection completes
    it.
    """
    for repository_id in repository_ids:
        with contextlib.suppress(OCIStoreError):
            on_a_full_disk(catalog, pool, partial(_empty, catalog, pool, repository_id))


def _empty(catalog: Catalog, pool: Pool, repository_id: int) -> None:
    done = False
    while not done:
        with catalog.write() as connection:
            began = time.monotonic()
            emptied = repositories.deleted(connection, repository_id)
            if emptied is None:
                return
            done, sessions, waits = repositories.empty(
                connection,
                emptied,
                now=catalog.now(),
                limit=repositories.EMPTIED_AT_ONCE,
                may_grow=partial(may_grow, pool),
            )
        remove_files(pool.uploads, sessions)
        if waits:
            raise StoreFullError(str(catalog.root))
        if not done:
            rest(began)


def remove_files(uploads: Uploads, sessions: Iterable[str]) -> None:
    """Remove the files of upload sessions whose rows are gone; those that cannot be removed are swept by age."""
    for session in sessions:
        with contextlib.suppress(StorageError):
            uploads.remove(session)


class _Position(NamedTuple):
    repository_id: int
    manifest_id: int


def thin_out(catalog: Catalog, pool: Pool, change: DeleteManifest, *, actor: str) -> DeleteManifest:
    """Remove the tags of a manifest that is about to be deleted, and queue its referrers, where there are many.

    Returns:
        What is left to be done.

    Nothing is changed where the deletion is going to be refused. After a crash some of the tags are gone, each with its
    event; deleting the manifest again completes it.

    Raises:
        OCIStoreError: the store could not be written.
    """
    with catalog.read() as connection:
        place = _place(connection, change)
        if place is None:
            return change
        many_tags = len(tags.of_manifest(connection, *place, limit=MANY + 1)) > MANY
        many_referrers = len(manifests.referring(connection, *place, after=0, limit=MANY + 1)) > MANY
    concerned = {change.repository}
    if many_tags:

        def untag(connection: Connection) -> bool:
            if not may_grow(pool):  # by the events
                raise StoreFullError(str(catalog.root))
            return _untag_some(connection, change, now=catalog.now(), actor=actor)

        on_a_full_disk(catalog, pool, partial(in_small_transactions, catalog, untag, repositories=concerned))
    if not many_referrers:
        return change
    queueing = _Queueing(change, since=catalog.now())
    on_a_full_disk(catalog, pool, partial(in_small_transactions, catalog, queueing.queue_some, repositories=concerned))
    return replace(change, since=queueing.since)


def _place(connection: Connection, change: DeleteManifest) -> _Position | None:
    """Return where the manifest is; None where it does not exist, or may not be deleted, as the commit then says."""
    repository_id = repositories.find(connection, change.repository)
    if repository_id is None:
        return None
    child = manifests.children(connection, repository_id, [change.digest]).get(change.digest)
    if child is None or not child.manifest_here:
        return None
    if blobs.referrers(connection, repository_id, change.digest, roles=("manifest",)):
        return None
    return _Position(repository_id, child.id)


def _untag_some(connection: Connection, change: DeleteManifest, *, now: int, actor: str) -> bool:
    """Remove some tags. Return whether few are left."""
    place = _place(connection, change)
    if place is None:
        return True
    names = tags.of_manifest(connection, *place, limit=MANY)
    if len(names) == MANY:
        tags.remove(connection, place.repository_id, change.repository, names, now=now, actor=actor)
    return len(names) < MANY


class _Queueing:
    """Queues referrers for garbage collection, which removes none whose subject exists; it may be asked in vain."""

    def __init__(self, change: DeleteManifest, since: int) -> None:
        self.since = since
        self._change = change
        self._after = 0

    def queue_some(self, connection: Connection) -> bool:
        """Queue some. Return whether there are no more."""
        place = _place(connection, self._change)
        if place is None:
            return True
        found = manifests.referring(connection, *place, after=self._after, limit=MANY)
        if found:
            manifests.queue(connection, place.repository_id, found, since=self.since)
            self._after = found[-1]
        return len(found) < MANY
