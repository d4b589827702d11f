"""Statements of ``catalog/losses.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, literal, literal_column, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import present
from ocistore.catalog.statements.gc import IN_FORCE, IS_HELD_AS_BLOB, due

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement, ScalarSelect

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_kept = tables.lease_blobs
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

_here: BindParameter[int] = bindparam("repository")
_this: BindParameter[int] = bindparam("manifest")
_is_child = _own_edges.c.role == literal_column("'manifest'")


def _newest(column: ColumnElement[int], *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    """Return the greatest value of the column after a prefix of an index that is fixed by the conditions."""
    return select(column).where(*conditions).order_by(column.desc()).limit(literal_column("1")).scalar_subquery()


def _newest_index_around(child: ColumnElement[int]) -> ScalarSelect[Any]:
    return _newest(
        _own_edges.c.parent_id, _own_edges.c.repository_id == _here, _own_edges.c.child_id == child, _is_child
    )


def _waits_for_others(manifest: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether the repository holds it and it is not in the queue itself."""
    return present(
        _manifest_members.c.repository_id == _here,
        _manifest_members.c.manifest_id == manifest,
        _manifest_members.c.unreferenced_since.is_(None),
    )


CHILDREN = (
    select(_edges.c.child_id)
    .where(
        _edges.c.parent_id == _this,
        _edges.c.role == literal_column("'manifest'"),
        _newest_index_around(_edges.c.child_id) == _this,
        _waits_for_others(_edges.c.child_id),
    )
    .distinct()
)
REFERRERS = (
    select(
        _manifests.c.blob_id,
        and_(_newest_index_around(_manifests.c.blob_id).is_(None), _waits_for_others(_manifests.c.blob_id)),
    )
    .where(_manifests.c.subject_id == _this, _manifests.c.blob_id > bindparam("after"))
    .order_by(_manifests.c.blob_id)
    .limit(bindparam("limit"))
)


def _newest_server(table: Any, key: ColumnElement[int], blob: ColumnElement[int]) -> ScalarSelect[Any]:  # noqa: ANN401 - a table
    return _newest(table.c.repository_id, key == blob)


def _newest_user(blob: ColumnElement[int], repository: ColumnElement[int]) -> ScalarSelect[Any]:
    return _newest(
        _own_edges.c.parent_id, _own_edges.c.repository_id == repository, _own_edges.c.child_id == blob, IS_HELD_AS_BLOB
    )


BLOBS_OF = select(_blobs.c.id, _blobs.c.size).where(
    _blobs.c.id.in_(select(_edges.c.child_id).where(_edges.c.parent_id == _this)),
    _blobs.c.state == literal("live"),
    _newest_server(_blob_members, _blob_members.c.blob_id, _blobs.c.id) == _here,
    _newest_user(_blobs.c.id, _here) == _this,
)
ITSELF = select(_blobs.c.id, _blobs.c.size).where(
    _blobs.c.id == _this,
    _blobs.c.state == literal("live"),
    ~present(_blob_members.c.blob_id == _blobs.c.id),
    _newest_server(_manifest_members, _manifest_members.c.manifest_id, _blobs.c.id) == _here,
)
_other = _blob_members.alias("other")
_live_size = (
    select(_blobs.c.size)
    .where(_blobs.c.id == _blob_members.c.blob_id, _blobs.c.state == literal("live"))
    .scalar_subquery()
)
IDLE = due(
    _blob_members,
    _blob_members.c.blob_id,
    _live_size,
    and_(
        _newest_server(_other, _other.c.blob_id, _blob_members.c.blob_id) == _blob_members.c.repository_id,
        _newest_user(_blob_members.c.blob_id, _blob_members.c.repository_id).is_(None),
    ),
)
SERVERS = (
    select(
        _blob_members.c.repository_id,
        _blob_members.c.unreferenced_since,
        present(
            _kept.c.repository_id == _blob_members.c.repository_id,
            _kept.c.blob_id == _blob_members.c.blob_id,
            *IN_FORCE,
        ),
    )
    .where(_blob_members.c.blob_id == bindparam("blob"), _blob_members.c.repository_id > bindparam("after"))
    .order_by(_blob_members.c.repository_id)
    .limit(bindparam("limit"))
)
SERVERS_AS_MANIFEST = (
    select(_manifest_members.c.repository_id)
    .where(_manifest_members.c.manifest_id == bindparam("blob"), _manifest_members.c.repository_id > bindparam("after"))
    .order_by(_manifest_members.c.repository_id)
    .limit(bindparam("limit"))
)
USERS = (
    select(_own_edges.c.parent_id)
    .where(
        _own_edges.c.repository_id == _here,
        _own_edges.c.child_id == bindparam("blob"),
        IS_HELD_AS_BLOB,
        _own_edges.c.parent_id > bindparam("after"),
    )
    .order_by(_own_edges.c.parent_id)
    .limit(bindparam("limit"))
)
