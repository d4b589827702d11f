"""Statements of ``catalog/deletions.py``."""

from __future__ import annotations

from sqlalchemy import JSON, and_, bindparam, delete, func, literal, literal_column, null, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, greatest, in_order, member, present
from ocistore.catalog.statements.gc import IS_CONDEMNED

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

_rows = array("rows", JSON)
_pairs = select(member(_rows, 0), member(_rows, 1))
KEEP_MANIFEST_MEMBERSHIPS = (
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
PUT_BEHIND = (
    update(_manifest_members)
    .where(
        tuple_(_manifest_members.c.repository_id, _manifest_members.c.manifest_id).in_(_pairs),
        _last_to_go <= bindparam("before"),
    )
    .values(unreferenced_since=_last_to_go)
)
_these_blob_memberships = tuple_(_blob_members.c.repository_id, _blob_members.c.blob_id).in_(_pairs)
KEEP_BLOB_MEMBERSHIPS = update(_blob_members).where(_these_blob_memberships).values(unreferenced_since=null())
REMOVE_BLOB_MEMBERSHIPS = delete(_blob_members).where(_these_blob_memberships)
_ids = array("ids")
_these_blobs = _blobs.c.id.in_(select(_ids.c.value))
QUEUE_BLOBS = (
    update(_blobs)
    .where(_blobs.c.id == bindparam("blob"))
    .values(unreferenced_since=greatest(func.coalesce(_blobs.c.unreferenced_since, 0), bindparam("since")))
)
KEEP_BLOBS = update(_blobs).where(_these_blobs).values(unreferenced_since=null())
CONDEMN = update(_blobs).where(_these_blobs).values(state=literal("condemned"), unreferenced_since=null())
_is_named = present(_edges.c.child_id == _blobs.c.id)
ABSENT_CHILDREN = (
    select(_blobs.c.id)
    .select_from(
        in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value), (_blobs, _blobs.c.id == _edges.c.child_id))
    )
    .where(_blobs.c.state == literal("absent"))
    .distinct()
)
DELETE_ABSENT = delete(_blobs).where(_these_blobs, _blobs.c.state == literal("absent"), ~_is_named)
DELETE_MANIFESTS = delete(_manifests).where(_manifests.c.blob_id.in_(select(_ids.c.value)))
EMPTY = (
    update(_blobs)
    .where(_these_blobs, _is_named)
    .values(state=literal("absent"), verified_at=null(), unreferenced_since=null())
)
DELETE_EMPTY = delete(_blobs).where(_these_blobs, IS_CONDEMNED)
