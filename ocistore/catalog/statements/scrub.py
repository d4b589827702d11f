"""Statements of ``catalog/scrub.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, and_, bindparam, literal, literal_column, or_, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, present

if TYPE_CHECKING:
    from sqlalchemy import BindParameter

_t = tables.blobs
_own_edges = tables.repository_edges
_repositories = tables.repositories
_tags = tables.tags
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

_columns = (_t.c.id, _t.c.digest, _t.c.size, _t.c.verified_at)
_this: BindParameter[Any] = bindparam("repository", type_=Integer)
_wanted = (
    _t.c.state == literal("live"),
    _t.c.id % bindparam("parts") == bindparam("number"),
    or_(
        _this.is_(None),
        present(_blob_members.c.repository_id == _this, _blob_members.c.blob_id == _t.c.id),
        present(_manifest_members.c.repository_id == _this, _manifest_members.c.manifest_id == _t.c.id),
    ),
)
NEVER_VERIFIED = (
    select(*_columns)
    .where(_t.c.verified_at.is_(None), _t.c.id > bindparam("after"), *_wanted)
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
VERIFIED = (
    select(*_columns)
    .where(
        _t.c.verified_at <= bindparam("before"),
        tuple_(_t.c.verified_at, _t.c.id) > tuple_(bindparam("since"), bindparam("after")),
        *_wanted,
    )
    .order_by(_t.c.verified_at, _t.c.id)
    .limit(bindparam("limit"))
)
_ids = array("ids")
MARK = (
    update(_t)
    .where(_t.c.id.in_(select(_ids.c.value)), _t.c.state == literal("live"))
    .values(verified_at=bindparam("now"))
)
UNMARK = update(_t).where(_t.c.id == bindparam("blob")).values(verified_at=None)
SIZE = select(_t.c.size).where(_t.c.digest == bindparam("digest"), _t.c.state == literal("live"))
_up = select(
    bindparam("repository_id", type_=Integer).label("repository_id"), bindparam("blob", type_=Integer).label("id")
).cte("up", recursive=True)
_up = _up.union(
    select(_own_edges.c.repository_id, _own_edges.c.parent_id).join_from(
        _up,
        _own_edges,
        and_(
            _own_edges.c.repository_id == _up.c.repository_id,
            _own_edges.c.child_id == _up.c.id,
            _own_edges.c.role != literal_column("'subject'"),
        ),
    )
)
TAGS_ABOVE = (
    select(_tags.c.name)
    .join_from(_up, _tags, and_(_tags.c.repository_id == _up.c.repository_id, _tags.c.manifest_id == _up.c.id))
    .distinct()
    .order_by(_tags.c.name)
    .limit(bindparam("limit"))
)
SERVING = (
    select(_repositories.c.id, _repositories.c.name)
    .where(
        _repositories.c.name.is_not(None),
        or_(
            _repositories.c.id.in_(
                select(_blob_members.c.repository_id).where(_blob_members.c.blob_id == bindparam("blob"))
            ),
            _repositories.c.id.in_(
                select(_manifest_members.c.repository_id).where(_manifest_members.c.manifest_id == bindparam("blob"))
            ),
        ),
    )
    .order_by(_repositories.c.name)
    .limit(bindparam("limit"))
)
