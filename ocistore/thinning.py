"""Deleting a manifest that very many tags point at, or very many manifests are about: most of it is removed beforehand.

Each tag that is removed is an event, and takes 25 µs: in one transaction 20,000 of them kept everybody else from
writing for half a second. So where there are many, tags are removed in small transactions first, each of which can be
seen, and referrers are queued for collection; the manifest itself is removed last, with what is left.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.blobs.pool import may_grow
from ocistore.catalog import blobs, manifests, repositories, tags
from ocistore.catalog.lock import rest
from ocistore.clock import milliseconds
from ocistore.commit import on_a_full_disk
from ocistore.errors import StoreFullError

if TYPE_CHECKING:
    from ocistore.blobs.pool import Pool
    from ocistore.catalog.connection import Connection
    from ocistore.catalog.contract import Catalog
    from ocistore.changes import DeleteManifest

AT_ONCE: Final = 1000
"""Tags or referrers of one manifest that are removed in one transaction. Each takes 5 to 25 µs."""


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
        many_tags = len(tags.of_manifest(connection, *place, limit=AT_ONCE + 1)) > AT_ONCE
        many_referrers = len(manifests.referring(connection, *place, after=0, limit=AT_ONCE + 1)) > AT_ONCE
    if many_tags:
        _repeat(catalog, pool, partial(_untag, change=change, actor=actor), grows=True)  # by the events
    if not many_referrers:
        return change
    since = milliseconds()
    _repeat(catalog, pool, _Queueing(change, since), grows=False)
    return replace(change, since=since)


def _repeat(catalog: Catalog, pool: Pool, step: partial[bool] | _Queueing, *, grows: bool) -> None:
    def once() -> bool:
        if grows and not may_grow(pool):
            raise StoreFullError(str(catalog.root))
        with catalog.write() as connection:
            return step(connection)

    done = False
    while not done:
        began = time.monotonic()
        done = on_a_full_disk(catalog, pool, once)
        if not done:
            rest(began)


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


def _untag(connection: Connection, *, change: DeleteManifest, actor: str) -> bool:
    """Remove some tags. Return whether few are left."""
    place = _place(connection, change)
    if place is None:
        return True
    names = tags.of_manifest(connection, *place, limit=AT_ONCE)
    if len(names) == AT_ONCE:
        tags.remove(connection, place.repository_id, change.repository, names, now=milliseconds(), actor=actor)
    return len(names) < AT_ONCE


class _Queueing:
    """Queues referrers for garbage collection, which removes none whose subject exists; it may be asked in vain."""

    def __init__(self, change: DeleteManifest, since: int) -> None:
        self._change = change
        self._since = since
        self._after = 0

    def __call__(self, connection: Connection) -> bool:
        """Queue some. Return whether there are no more."""
        place = _place(connection, self._change)
        if place is None:
            return True
        found = manifests.referring(connection, *place, after=self._after, limit=AT_ONCE)
        if found:
            manifests.queue(connection, place.repository_id, found, since=self._since)
            self._after = found[-1]
        return len(found) < AT_ONCE
