"""Statements of ``catalog/check.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, func, literal, literal_column, or_, select, true, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import present
from ocistore.catalog.statements.staged import is_seen, target
from ocistore.oci.mediatypes import NONDISTRIBUTABLE

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

_t = tables.blobs
_edges = tables.edges
_own_edges = tables.repository_edges
_manifests = tables.manifests
_repositories = tables.repositories
_tags = tables.tags
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests
_child_members = _manifest_members.alias("child")

_subject = _t.alias("subject")
DESCRIBED = (
    select(
        _manifests.c.media_type,
        _manifests.c.artifact_type,
        _manifests.c.config_media_type,
        _manifests.c.annotations,
        _manifests.c.platform,
        _subject.c.digest,
    )
    .join_from(_manifests, _subject, _subject.c.id == _manifests.c.subject_id, isouter=True)
    .where(_manifests.c.blob_id == bindparam("blob"))
)
CORRECT = (
    update(_manifests)
    .where(_manifests.c.blob_id == bindparam("blob"))
    .values(
        media_type=bindparam("said_media_type"),
        artifact_type=bindparam("said_artifact_type"),
        config_media_type=bindparam("said_config_media_type"),
        annotations=bindparam("said_annotations"),
        platform=bindparam("said_platform"),
    )
)
CHILDREN = (
    select(_edges.c.role, _t.c.digest, _edges.c.size, _edges.c.media_type)
    .join_from(_edges, _t, _t.c.id == _edges.c.child_id)
    .where(_edges.c.parent_id == bindparam("blob"))
    .order_by(_edges.c.position)
)
# Each repository's own edges and those of its manifests, either of which may have too many.
_wanted_edges = select(
    _manifest_members.c.repository_id, _edges.c.child_id, _edges.c.parent_id, _edges.c.role
).join_from(_manifest_members, _edges, _edges.c.parent_id == _manifest_members.c.manifest_id)
_found_edges = select(_own_edges.c.repository_id, _own_edges.c.child_id, _own_edges.c.parent_id, _own_edges.c.role)
MISSING_EDGES = select(func.count()).select_from(_wanted_edges.except_(_found_edges).subquery())
EXCESS_EDGES = select(func.count()).select_from(_found_edges.except_(_wanted_edges).subquery())
SERVED_WITHOUT_BYTES = select(
    select(func.count())
    .select_from(_blob_members)
    .join(_t, _t.c.id == _blob_members.c.blob_id)
    .where(_t.c.state != literal("live"))
    .scalar_subquery()
    + select(func.count())
    .select_from(_manifest_members)
    .join(_t, _t.c.id == _manifest_members.c.manifest_id)
    .where(_t.c.state != literal("live"))
    .scalar_subquery()
).where(true())

# What a repository may lack: whatever an incomplete manifest refers to, subjects, and foreign layers.
LACKING = (
    select(func.count())
    .select_from(_manifest_members)
    .join(_repositories, _repositories.c.id == _manifest_members.c.repository_id)
    .join(_edges, _edges.c.parent_id == _manifest_members.c.manifest_id)
    .where(
        _repositories.c.name.is_not(None),  # those that were deleted are emptied step by step
        is_seen(_manifest_members),  # what was removed by a large change goes likewise
        _manifest_members.c.incomplete.is_(None),
        or_(
            and_(
                _edges.c.role == literal("manifest"),
                ~present(
                    _child_members.c.repository_id == _manifest_members.c.repository_id,
                    _child_members.c.manifest_id == _edges.c.child_id,
                    is_seen(_child_members),
                ),
            ),
            and_(
                _edges.c.role.in_([literal("config"), literal("layer")]),
                _edges.c.media_type.not_in([literal(media_type) for media_type in sorted(NONDISTRIBUTABLE)]),
                ~present(
                    _blob_members.c.repository_id == _manifest_members.c.repository_id,
                    _blob_members.c.blob_id == _edges.c.child_id,
                    is_seen(_blob_members),
                ),
            ),
        ),
    )
)
_one: ColumnElement[int] = literal_column("1")
DANGLING = (
    select(_one)
    .where(
        or_(
            ~present(_repositories.c.id == _tags.c.repository_id),
            ~present(_t.c.id == target(_tags)),
        )
    )
    .limit(_one),
    select(_one)
    .where(
        or_(
            ~present(_repositories.c.id == _manifest_members.c.repository_id),
            ~present(_t.c.id == _manifest_members.c.manifest_id),
        )
    )
    .limit(_one),
)
EVERY_COLUMN = tuple(select(table).limit(literal_column("0")) for table in tables.metadata.sorted_tables)
