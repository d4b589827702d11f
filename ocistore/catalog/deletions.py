"""Statements of collection: taking away what nothing keeps, and taking out of the queues what something keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, bindparam, delete, func, literal, literal_column, null, select, tuple_, update

from ocistore.catalog import leases, tables
from ocistore.catalog.expressions import array, bound, greatest, in_order, member
from ocistore.catalog.gc import CONDEMNED, IS_NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.gc import Membership

AT_ONCE: Final = 1
"""``collect_after`` of a row without bytes that nothing names any more: nobody needs time to name it again."""

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
    .values(collect_after=null())
)
_index = _manifest_members.alias("around")
_last_to_go = (
    select(func.max(_index.c.collect_after) + 1)
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
    .values(collect_after=_last_to_go)
)
_these_blob_memberships = tuple_(_blob_members.c.repository_id, _blob_members.c.blob_id).in_(_pairs)
_keep_blob_memberships = update(_blob_members).where(_these_blob_memberships).values(collect_after=null())
_remove_blob_memberships = delete(_blob_members).where(_these_blob_memberships)
_ids = array("ids")
_these_blobs = _blobs.c.id.in_(select(_ids.c.value))
_queue_blobs = (
    update(_blobs)
    .where(_blobs.c.id == bindparam("blob"))
    .values(collect_after=greatest(func.coalesce(_blobs.c.collect_after, 0), bindparam("since")))
)
_keep_blobs = update(_blobs).where(_these_blobs).values(collect_after=null())
_condemn = (
    update(_blobs)
    .where(_these_blobs)
    .values(state=literal("condemned"), generation=_blobs.c.generation + 1, collect_after=literal(CONDEMNED))
)
_delete_blobs = delete(_blobs).where(_these_blobs)
_queue_absent = (
    update(_blobs)
    .where(
        _blobs.c.id.in_(select(_edges.c.child_id).where(_edges.c.parent_id.in_(select(_ids.c.value)))),
        _blobs.c.state == literal("absent"),
    )
    .values(collect_after=literal(AT_ONCE))
)
_delete_manifests = delete(_manifests).where(_manifests.c.blob_id.in_(select(_ids.c.value)))
_empty = (
    update(_blobs)
    .where(_these_blobs, IS_NAMED)
    .values(
        state=literal("absent"),
        generation=_blobs.c.generation + 1,
        verified_at=null(),
        collect_after=null(),
    )
)
_delete_empty = delete(_blobs).where(_these_blobs, _blobs.c.state == literal("condemned"))


def keep_manifest_memberships(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of manifests that something keeps out of the queue."""
    connection.execute(_keep_manifest_memberships, {"rows": bound(row[:2] for row in memberships)})


def put_behind(connection: Connection, memberships: Iterable[Membership], *, before: int) -> None:
    """Put manifests that left the queue back into it, behind the last of the indexes around them that are due.

    Otherwise each of these indexes would put them before the collector anew, in vain but for the last: of 9,000
    manifests that 20 indexes share, that took a minute.
    """
    connection.execute(_put_behind, {"rows": bound(row[:2] for row in memberships), "before": before})


def keep_blob_memberships(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of blobs that something needs out of the queue."""
    connection.execute(_keep_blob_memberships, {"rows": bound(row[:2] for row in memberships)})


def remove_blob_memberships(connection: Connection, memberships: Sequence[Membership]) -> None:
    """Take blobs from repositories, and put each before the collector: due since its membership was."""
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


def forget(connection: Connection, ids: Iterable[int]) -> None:
    """Delete rows without bytes that nothing names."""
    connection.execute(_delete_blobs, {"ids": bound(ids)})


def reap(connection: Connection, ids: Sequence[int]) -> None:
    """Delete condemned blobs, whose files are gone, with what is known of them as manifests.

    A row that a manifest still names, as a sparse index does, stays, without bytes; rows without bytes that only these
    manifests named are put before the collector.
    """
    parameters = {"ids": bound(ids)}
    for statement in (_queue_absent, _delete_manifests, _empty, _delete_empty):
        connection.execute(statement, parameters)
