"""Memberships that a large change removes from a repository that others see.

Others see them, and may not rely on them, until its batch is revealed; see ``statements/staged.py``. Afterwards each
leaves the repository as if it had been removed then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog import deletions, manifests
from ocistore.catalog.gc import Membership
from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.catalog.connection import Connection

_sql = Statements("stageddeletions")


class Width(NamedTuple):
    """How much goes with a manifest, each counted up to a limit."""

    tags: int
    referrers: int
    """Of all repositories."""


def widths(connection: Connection, repository_id: int, digests: Iterable[str], *, limit: int) -> dict[str, Width]:
    """Return how much would go with each of these manifests, and has to be queued for gc."""
    parameters = {"in_repository": repository_id, "digests": bound(digests), "limit": limit}
    return {
        digest: Width(now + later, referrers)
        for digest, now, later, referrers in connection.execute(_sql.WIDTHS, parameters)
    }


def leave_manifests(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int, batch: int) -> None:
    """Take manifests, which the batch has no tag for, from the repository once the batch is revealed.

    Those that only the batch would have brought go at once.
    """
    these: dict[str, object] = {"in_repository": repository_id, "ids": bound(ids), "of_batch": batch}
    for manifest_id in connection.execute(_sql.BROUGHT_MANIFESTS, these).scalars():
        manifests.remove_membership(connection, repository_id, manifest_id, now=now)
    connection.execute(_sql.LEAVE_MANIFESTS, these)


def leave_blobs(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int, batch: int) -> None:
    """Do the same for blobs."""
    these: dict[str, object] = {"in_repository": repository_id, "ids": bound(ids), "of_batch": batch}
    brought = connection.execute(_sql.BROUGHT_BLOBS, these).scalars()
    deletions.remove_blob_memberships(connection, [Membership(repository_id, blob_id, now) for blob_id in brought])
    connection.execute(_sql.LEAVE_BLOBS, these)


def settle_manifests(connection: Connection, batch: int, *, now: int, since: int, limit: int, referrers: int) -> bool:
    """Let up to ``limit`` manifests leave whose batch is revealed, and queue up to ``referrers`` manifests about them.

    Args:
        connection: of a write transaction.
        batch: it.
        now: milliseconds since the epoch; so long their blobs were in use.
        since: since when it is revealed.
        limit: each takes 100 µs.
        referrers: each takes 5 µs. A manifest with more leaves in a later transaction.

    Returns:
        Whether any were left.
    """
    rows = list(connection.execute(_sql.LEAVING_MANIFESTS, {"of_batch": batch, "limit": limit}))
    left = referrers
    for repository_id, manifest_id in rows:
        left -= manifests.queue_referrers(connection, repository_id, manifest_id, since=since, limit=left)
        if left <= 0:
            break
        manifests.remove_membership(connection, repository_id, manifest_id, now=now, since=since)
    return bool(rows)


def settle_blobs(connection: Connection, batch: int, *, since: int, limit: int) -> int:
    """Let up to ``limit`` blobs leave whose batch is revealed, and which nothing there refers to. Returns how many."""
    rows = list(connection.execute(_sql.LEAVING_BLOBS, {"of_batch": batch, "limit": limit}))
    deletions.remove_blob_memberships(
        connection, [Membership(repository_id, blob_id, since) for repository_id, blob_id in rows]
    )
    return len(rows)


def restore(connection: Connection, batch: int, *, limit: int) -> int:
    """Take up to ``limit`` memberships out of a batch that is not going to be revealed: they stay. Returns how many."""
    count = 0
    for leaving, keep in (
        (_sql.LEAVING_MANIFESTS, _sql.RESTORE_MANIFESTS),
        (_sql.LEAVING_BLOBS, _sql.RESTORE_BLOBS),
    ):
        rows = list(connection.execute(leaving, {"of_batch": batch, "limit": limit - count}))
        if rows:
            connection.execute(keep, {"rows": bound(rows)})
        count += len(rows)
    return count
