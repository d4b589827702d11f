"""Statements of ``catalog/gc.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, bindparam, case, func, literal, literal_column, or_, select, tuple_

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, count_up_to_limit, halves, in_order, member, present

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Table

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_kept = tables.lease_blobs
_leases = tables.leases
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

_hidden = (
    select(tables.repositories.c.id)
    .where(tables.repositories.c.name.is_(None))
    .union(select(tables.staged_repositories.c.repository_id))
)


def due(table: Table, key: Column[Any], *more: ColumnElement[Any]) -> Any:  # noqa: ANN401 - a Select of what is asked
    """Return the rows of a table of memberships that are due, after a place in their queue, with more columns."""
    place = tuple_(table.c.unreferenced_since, table.c.repository_id, key)
    begin = tuple_(bindparam("since"), bindparam("first"), bindparam("second"))
    return (
        select(table.c.repository_id, key, table.c.unreferenced_since, *more)
        .where(
            table.c.unreferenced_since <= bindparam("before"),
            place > begin,
            # What is emptied is queued anew, as used until then. What is staged is kept by its batch, and so is what it
            # relies on: all of a repository into which something is staged.
            table.c.repository_id.not_in(_hidden),
        )
        .order_by(table.c.unreferenced_since, table.c.repository_id, key)
        .limit(bindparam("limit"))
    )


# Literals, and not parameters, where the name of a role has to be known when the statement is prepared.
IS_HELD_AS_BLOB = _own_edges.c.role.in_([literal_column("'config'"), literal_column("'layer'")])
IN_FORCE = (_leases.c.id == _kept.c.lease_id, _leases.c.expires > bindparam("now"))
_kept_by_lease = present(
    _kept.c.repository_id == _blob_members.c.repository_id, _kept.c.blob_id == _blob_members.c.blob_id, *IN_FORCE
)
_referred_to = present(
    _own_edges.c.repository_id == _blob_members.c.repository_id,
    _own_edges.c.child_id == _blob_members.c.blob_id,
    IS_HELD_AS_BLOB,
)
DUE_MANIFEST_MEMBERSHIPS = due(_manifest_members, _manifest_members.c.manifest_id)
DUE_BLOB_MEMBERSHIPS = due(_blob_members, _blob_members.c.blob_id, or_(_referred_to, _kept_by_lease))
_served = or_(
    present(_blob_members.c.blob_id == _blobs.c.id),
    present(_manifest_members.c.manifest_id == _blobs.c.id),
)
IS_CONDEMNED = _blobs.c.state == literal_column("'condemned'")
BLOB_COLUMNS = (
    _blobs.c.id,
    _blobs.c.digest,
    _blobs.c.size,
    _blobs.c.state == literal("absent"),
    _served,
    _blobs.c.unreferenced_since,
)
DUE_BLOBS = (
    select(*BLOB_COLUMNS)
    .where(
        _blobs.c.unreferenced_since <= bindparam("before"),
        tuple_(_blobs.c.unreferenced_since, _blobs.c.id) > tuple_(bindparam("since"), bindparam("first")),
    )
    .order_by(_blobs.c.unreferenced_since, _blobs.c.id)
    .limit(bindparam("limit"))
)
CONDEMNED = (
    select(_blobs.c.id, _blobs.c.digest, _blobs.c.size)
    .where(IS_CONDEMNED, _blobs.c.id > bindparam("after"))
    .order_by(_blobs.c.id)
    .limit(bindparam("limit"))
)

DUE_BYTES = (
    select(*halves(_blobs.c.size)).where(
        _blobs.c.unreferenced_since <= bindparam("before"), _blobs.c.state == literal("live")
    ),
    select(*halves(_blobs.c.size))
    .select_from(in_order(_blob_members, (_blobs, _blobs.c.id == _blob_members.c.blob_id)))
    .where(_blob_members.c.unreferenced_since <= bindparam("before")),
)
_next_live = (
    select(_blobs.c.id, case((_blobs.c.state == literal("live"), _blobs.c.size), else_=0).label("size"))
    .where(_blobs.c.id > bindparam("after"))
    .order_by(_blobs.c.id)
    .limit(bindparam("limit"))
    .subquery()
)
COUNT_LIVE = select(func.max(_next_live.c.id), *halves(_next_live.c.size))

_held = present(or_(tables.collection_holds.c.expires.is_(None), tables.collection_holds.c.expires > bindparam("now")))
_work = or_(
    present(_manifest_members.c.unreferenced_since <= bindparam("untagged_before")),
    present(_blob_members.c.unreferenced_since <= bindparam("before")),
    present(_blobs.c.unreferenced_since <= bindparam("before")),
    present(IS_CONDEMNED, _blobs.c.id > literal_column("0")),
    present(tables.leases.c.expires <= bindparam("now")),
    present(tables.uploads.c.expires <= bindparam("now")),
    present(tables.deleted_repositories.c.repository_id.is_not(None)),
    present(tables.batches.c.expires <= bindparam("now")),
)
OUTLOOK = select(_held, _work)

_wide = array("rows", JSON)

WIDTHS = select(
    count_up_to_limit(_wide, _edges.c.parent_id == member(_wide, 1))
    + count_up_to_limit(_wide, _manifests.c.subject_id == member(_wide, 1))
    + count_up_to_limit(
        _wide, _own_edges.c.repository_id == member(_wide, 0), _own_edges.c.child_id == member(_wide, 1)
    )
).select_from(_wide)
_ids = array("rows")
EDGE_COUNTS = select(select(func.count()).where(_edges.c.parent_id == _ids.c.value).scalar_subquery()).select_from(_ids)
