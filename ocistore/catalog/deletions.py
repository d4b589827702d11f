"""Statements of gc: removing what nothing keeps, and taking out of the queues what something keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, func, literal, literal_column, null, select, tuple_, update

from ocistore.catalog import leases, tables
from ocistore.catalog.expressions import array, bound, greatest, in_order, member, present
from ocistore.catalog.gc import IS_CONDEMNED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.gc import Membership

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

_rows = array("rows")
_pairs = select(member(_rows, 0), member(_rows, 1))
_keep_manifest_memberships = (
    update(_manifest_members)
    .where(tuple_(_manifest_members.c.repository_id, _manifest_members.c.manifest_id).in_(_pairs))
    .values(unreferenced_since=null())
)
_index = _manifest_members.alias("around")
_last_to_go = (
    select(func.max(_index.c.unreferenced_since) + 1)
    .select_from(
        in_order(
            _own_edges,
            (
                _index,
                and_(
                    _index.c.repository_id == _own_edges.c.repository_id,
                    _index.c.manifest_id == _own_edges.c.parent_id,
                ),
            ),
        )
    )
    .where(
        _own_edges.c.repository_id == _manifest_members.c.repository_id,
        _own_edges.c.child_id == _manifest_members.c.manifest_id,
        _own_edges.c.role == literal_column("'manifest'"),
    )
    .scalar_subquery()
)
_put_behind = (
    update(_manifest_members)
    .where(
        tuple_(_manifest_members.c.repository_id, _manifest_members.c.manifest_id).in_(_pairs),
        _last_to_go <= bindparam("before"),
    )
    .values(unreferenced_since=_last_to_go)
)
_these_blob_memberships = tuple_(_blob_members.c.repository_id, _blob_members.c.blob_id).in_(_pairs)
_keep_blob_memberships = update(_blob_members).where(_these_blob_memberships).values(unreferenced_since=null())
_remove_blob_memberships = delete(_blob_members).where(_these_blob_memberships)
_ids = array("ids")
_these_blobs = _blobs.c.id.in_(select(_ids.c.value))
_queue_blobs = (
    update(_blobs)
    .where(_blobs.c.id == bindparam("blob"))
    .values(unreferenced_since=greatest(func.coalesce(_blobs.c.unreferenced_since, 0), bindparam("since")))
)
_keep_blobs = update(_blobs).where(_these_blobs).values(unreferenced_since=null())
_condemn = (
    update(_blobs)
    .where(_these_blobs)
    .values(state=literal("condemned"), unreferenced_since=null())
)
_is_named = present(_edges.c.child_id == _blobs.c.id)
_absent_children = (
    select(_blobs.c.id)
    .select_from(
        in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value), (_blobs, _blobs.c.id == _edges.c.child_id))
    )
    .where(_blobs.c.state == literal("absent"))
    .distinct()
)
_delete_absent = delete(_blobs).where(_these_blobs, _blobs.c.state == literal("absent"), ~_is_named)
_delete_manifests = delete(_manifests).where(_manifests.c.blob_id.in_(select(_ids.c.value)))
_empty = (
    update(_blobs)
    .where(_these_blobs, _is_named)
    .values(state=literal("absent"), verified_at=null(), unreferenced_since=null())
)
_delete_empty = delete(_blobs).where(_these_blobs, IS_CONDEMNED)


def keep_manifest_memberships(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of manifests that something keeps out of the queue."""
    connection.execute(_keep_manifest_memberships, {"rows": bound(row[:2] for row in memberships)})


def put_behind(connection: Connection, memberships: Iterable[Membership], *, before: int) -> None:
    """Put manifests that left the queue back into it, behind the last of the indexes around them that are due.

    Otherwise each of these indexes would queue them anew, in vain but for the last: of 9,000
    manifests that 20 indexes share, that took a minute.
    """
    connection.execute(_put_behind, {"rows": bound(row[:2] for row in memberships), "before": before})


def keep_blob_memberships(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of blobs that something needs out of the queue."""
    connection.execute(_keep_blob_memberships, {"rows": bound(row[:2] for row in memberships)})


def remove_blob_memberships(connection: Connection, memberships: Sequence[Membership]) -> None:
    """Take blobs from repositories, and queue each for gc: due since its membership was."""
    if not memberships:
        return
    connection.execute(_remove_blob_memberships, {"rows": bound(row[:2] for row in memberships)})
    leases.forget(connection, (row[:2] for row in memberships))
    connection.execute(_queue_blobs, [{"blob": row.blob_id, "since": row.since} for row in memberships])


def keep_blobs(connection: Connection, ids: Iterable[int]) -> None:
    """Take blobs out of the queue."""
    connection.execute(_keep_blobs, {"ids": bound(ids)})


def condemn(connection: Connection, ids: Iterable[int]) -> None:
    """Let nobody rely on these blobs any more, from the commit of this transaction on."""
    connection.execute(_condemn, {"ids": bound(ids)})


def reap(connection: Connection, ids: Sequence[int]) -> None:
    """Delete condemned blobs, whose files are gone, with what is known of them as manifests.

    A row that a manifest still names, as a sparse index does, stays, without bytes; rows without bytes that only these
    manifests named go with them.
    """
    parameters = {"ids": bound(ids)}
    absent = connection.execute(_absent_children, parameters).scalars()
    for statement in (_delete_manifests, _empty, _delete_empty):
        connection.execute(statement, parameters)
    connection.execute(_delete_absent, {"ids": bound(absent)})
