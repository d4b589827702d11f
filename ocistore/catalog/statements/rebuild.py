"""Statements of ``catalog/rebuild.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    Integer,
    Text,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
    tuple_,
    update,
)

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, member, present, upsert

if TYPE_CHECKING:
    from sqlalchemy import BindParameter

_blobs = tables.blobs
_edges = tables.edges
_manifests = tables.manifests
_own_edges = tables.repository_edges
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

_rows = array("rows", JSON)
_served = array("rows", Text)
LIVE = upsert(_blobs).from_select(
    ["digest", "size", "state", "verified_at"],
    select(member(_rows, 0, Text), member(_rows, 1), literal("live"), bindparam("now")).where(true()),
)
LIVE = LIVE.on_conflict_do_update(
    index_elements=["digest"],
    set_={"size": LIVE.excluded.size, "state": literal("live"), "verified_at": LIVE.excluded.verified_at},
)
_ids = array("ids")
_here: BindParameter[int] = bindparam("in_repository", type_=Integer)
SERVE_BLOBS = (
    upsert(_blob_members)
    .from_select(
        ["repository_id", "blob_id", "unreferenced_since"],
        select(_here, _edges.c.child_id, bindparam("now", type_=Integer))
        .select_from(
            in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value), (_blobs, _blobs.c.id == _edges.c.child_id))
        )
        .where(
            _edges.c.role.in_([literal_column("'config'"), literal_column("'layer'")]),
            _blobs.c.state == literal("live"),
        )
        .distinct(),
    )
    .on_conflict_do_nothing()
)
ELSEWHERE = select(_ids.c.value).where(
    present(_manifest_members.c.manifest_id == _ids.c.value, _manifest_members.c.repository_id != _here)
)
LEAVE = delete(_manifest_members).where(
    _manifest_members.c.repository_id == _here, _manifest_members.c.manifest_id.in_(select(_ids.c.value))
)
LEAVE_EDGES = delete(_own_edges).where(
    _own_edges.c.repository_id == _here,
    tuple_(_own_edges.c.child_id, _own_edges.c.parent_id).in_(
        select(_edges.c.child_id, _edges.c.parent_id).select_from(
            in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value))
        )
    ),
)
KEEP_LOOSE = (
    upsert(_blob_members)
    .from_select(
        ["repository_id", "blob_id", "unreferenced_since"],
        select(_here, _blobs.c.id, bindparam("now")).where(
            _blobs.c.id.in_(select(_ids.c.value)),
            _blobs.c.state == literal("live"),
            ~present(_blob_members.c.blob_id == _blobs.c.id),
            ~present(_manifest_members.c.manifest_id == _blobs.c.id),
        ),
    )
    .on_conflict_do_nothing()
)
_child_members = _manifest_members.alias("child")
NOTE_INCOMPLETE = (
    update(_manifest_members)
    .where(
        _manifest_members.c.repository_id == _here,
        _manifest_members.c.manifest_id.in_(select(_ids.c.value)),
        present(
            _edges.c.parent_id == _manifest_members.c.manifest_id,
            _edges.c.role != literal("subject"),
            ~present(
                _child_members.c.repository_id == _manifest_members.c.repository_id,
                _child_members.c.manifest_id == _edges.c.child_id,
            ),
            ~present(
                _blob_members.c.repository_id == _manifest_members.c.repository_id,
                _blob_members.c.blob_id == _edges.c.child_id,
            ),
        ),
    )
    .values(incomplete=1)
)
_digests = array("digests", Text)
FORGET_VERIFIED = update(_blobs).where(_blobs.c.digest.in_(select(_digests.c.value))).values(verified_at=null())
SMALL = (
    select(_blobs.c.id, _blobs.c.digest, _blobs.c.size)
    .where(_blobs.c.id > bindparam("after"), _blobs.c.size <= bindparam("maximum"), _blobs.c.state == literal("live"))
    .order_by(_blobs.c.id)
    .limit(bindparam("limit"))
)
WIDTHS = (
    select(
        _manifest_members.c.manifest_id,
        select(func.count()).where(_edges.c.parent_id == _manifest_members.c.manifest_id).scalar_subquery(),
    )
    .where(_manifest_members.c.repository_id == _here, _manifest_members.c.manifest_id > bindparam("after"))
    .order_by(_manifest_members.c.manifest_id)
    .limit(bindparam("limit"))
)
WIDTHS_OF = select(
    _blobs.c.id, select(func.count()).where(_edges.c.parent_id == _blobs.c.id).scalar_subquery()
).select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
COUNT_OF = select(
    select(func.count()).where(_manifest_members.c.repository_id == bindparam("repository")).scalar_subquery(),
    select(func.count()).where(_blob_members.c.repository_id == bindparam("repository")).scalar_subquery(),
)
SERVE_MANIFEST = (
    upsert(_manifest_members)
    .from_select(
        ["repository_id", "manifest_id", "pushed_at", "unreferenced_since"],
        select(bindparam("repository"), _manifests.c.blob_id, bindparam("now"), bindparam("now"))
        .join_from(_served, _blobs, _blobs.c.digest == _served.c.value)
        .join(_manifests, _manifests.c.blob_id == _blobs.c.id)
        .where(true()),
    )
    .on_conflict_do_nothing()
)
SAY = (
    update(_manifest_members)
    .where(_manifest_members.c.repository_id == _here, _manifest_members.c.manifest_id == bindparam("manifest"))
    .values(entry=bindparam("said"))
)
SERVE_EDGES = (
    upsert(_own_edges)
    .from_select(
        ["repository_id", "child_id", "parent_id", "role"],
        select(bindparam("repository"), _edges.c.child_id, _edges.c.parent_id, _edges.c.role)
        .join_from(_served, _blobs, _blobs.c.digest == _served.c.value)
        .join(_edges, _edges.c.parent_id == _blobs.c.id)
        .where(true()),
    )
    .on_conflict_do_nothing()
)
