"""Statements about memberships that a large change removes from a repository that others see.

Others see them, and may not rely on them, until its batch is revealed; see ``staged.py``. Afterwards each leaves the
repository as if it had been removed then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, literal, null, select, tuple_, update

from ocistore.catalog import deletions, manifests, tables
from ocistore.catalog.expressions import array, bound, count_up_to_limit, in_order, member
from ocistore.catalog.gc import Membership

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import BindParameter, ColumnElement, Select, Table, Update

    from ocistore.catalog.connection import Connection

_tags = tables.tags
_blobs = tables.blobs
_manifests = tables.manifests
_blob_members, _manifest_members = tables.repository_blobs, tables.repository_manifests

_here: BindParameter[int] = bindparam("in_repository")
_ids = array("ids")
_rows = array("rows")


class _Statements(NamedTuple):
    """Those about one of the tables of memberships."""

    brought: Select[Any]
    leave: Update
    leaving: Select[Any]
    restore: Update


def _statements(table: Table, key: ColumnElement[int]) -> _Statements:
    these = (table.c.repository_id == _here, key.in_(select(_ids.c.value)))
    return _Statements(
        brought=select(key).where(*these, table.c.batch == bindparam("of_batch"), table.c.leaves.is_(None)),
        leave=update(table)
        .where(*these, table.c.batch.is_(None))
        .values(batch=bindparam("of_batch"), leaves=literal(1)),
        leaving=select(table.c.repository_id, key)
        .where(table.c.batch == bindparam("of_batch"), table.c.leaves.is_not(None))
        .order_by(table.c.repository_id, key)
        .limit(bindparam("limit")),
        restore=update(table)
        .where(tuple_(table.c.repository_id, key).in_(select(member(_rows, 0), member(_rows, 1))))
        .values(batch=null(), leaves=null()),
    )


_of_manifests = _statements(_manifest_members, _manifest_members.c.manifest_id)
_of_blobs = _statements(_blob_members, _blob_members.c.blob_id)

_digests = array("digests")
_widths = select(
    _blobs.c.digest,
    *(
        count_up_to_limit(_blobs, _tags.c.repository_id == _here, pointer == _blobs.c.id)
        for pointer in (_tags.c.manifest_id, _tags.c.next_id)
    ),
    count_up_to_limit(_blobs, _manifests.c.subject_id == _blobs.c.id),
).select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))


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
        for digest, now, later, referrers in connection.execute(_widths, parameters)
    }


def leave_manifests(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int, batch: int) -> None:
    """Take manifests, which the batch has no tag for, from the repository once the batch is revealed.

    Those that only the batch would have brought go at once.
    """
    these: dict[str, object] = {"in_repository": repository_id, "ids": bound(ids), "of_batch": batch}
    for manifest_id in connection.execute(_of_manifests.brought, these).scalars():
        manifests.remove_membership(connection, repository_id, manifest_id, now=now)
    connection.execute(_of_manifests.leave, these)


def leave_blobs(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int, batch: int) -> None:
    """Likewise blobs."""
    these: dict[str, object] = {"in_repository": repository_id, "ids": bound(ids), "of_batch": batch}
    brought = connection.execute(_of_blobs.brought, these).scalars()
    deletions.remove_blob_memberships(connection, [Membership(repository_id, blob_id, now) for blob_id in brought])
    connection.execute(_of_blobs.leave, these)


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
    rows = list(connection.execute(_of_manifests.leaving, {"of_batch": batch, "limit": limit}))
    left = referrers
    for repository_id, manifest_id in rows:
        left -= manifests.queue_referrers(connection, repository_id, manifest_id, since=since, limit=left)
        if left <= 0:
            break
        manifests.remove_membership(connection, repository_id, manifest_id, now=now, since=since)
    return bool(rows)


def settle_blobs(connection: Connection, batch: int, *, since: int, limit: int) -> int:
    """Let up to ``limit`` blobs leave whose batch is revealed, and which nothing there refers to. Returns how many."""
    rows = list(connection.execute(_of_blobs.leaving, {"of_batch": batch, "limit": limit}))
    deletions.remove_blob_memberships(
        connection, [Membership(repository_id, blob_id, since) for repository_id, blob_id in rows]
    )
    return len(rows)


def restore(connection: Connection, batch: int, *, limit: int) -> int:
    """Take up to ``limit`` memberships out of a batch that is not going to be revealed: they stay. Returns how many."""
    count = 0
    for statements in (_of_manifests, _of_blobs):
        rows = list(connection.execute(statements.leaving, {"of_batch": batch, "limit": limit - count}))
        if rows:
            connection.execute(statements.restore, {"rows": bound(rows)})
        count += len(rows)
    return count
