"""Statements of ``catalog/manifests.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import JSON, Text, and_, bindparam, case, delete, func, or_, select, true, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, greatest, in_order, insertion, member, present, upsert
from ocistore.catalog.statements.staged import OWN, brought_again, goes_later, is_leaving, is_seen, target

if TYPE_CHECKING:
    from sqlalchemy import BindParameter

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_members = tables.repository_manifests
_own_edges = tables.repository_edges
_blob_members = tables.repository_blobs
_repositories = tables.repositories
_tags = tables.tags


# --- looking up -------------------------------------------------------------------------------------------------------

_stored = (_blobs.c.digest, _blobs.c.size, _manifests.c.media_type, _manifests.c.artifact_type)
BY_TAG = (
    select(*_stored)
    .select_from(
        in_order(
            _repositories,
            (_tags, _tags.c.repository_id == _repositories.c.id),
            (_manifests, _manifests.c.blob_id == target(_tags)),
            (_blobs, _blobs.c.id == _manifests.c.blob_id),
        )
    )
    .where(_repositories.c.name == bindparam("repository"), _tags.c.name == bindparam("reference"))
)
BY_DIGEST = (
    select(*_stored)
    .select_from(
        in_order(
            _repositories,
            (_blobs, _blobs.c.digest == bindparam("reference")),
            (
                _members,
                and_(_members.c.repository_id == _repositories.c.id, _members.c.manifest_id == _blobs.c.id),
            ),
            (_manifests, _manifests.c.blob_id == _blobs.c.id),
        )
    )
    .where(_repositories.c.name == bindparam("repository"), is_seen(_members))
)
PLATFORM = (
    select(_manifests.c.platform)
    .select_from(in_order(_blobs, (_manifests, _manifests.c.blob_id == _blobs.c.id)))
    .where(_blobs.c.digest == bindparam("digest"))
)
_served_here = present(
    _members.c.manifest_id == _blobs.c.id, _members.c.repository_id == bindparam("repository_id"), is_seen(_members)
)
_served = or_(present(_members.c.manifest_id == _blobs.c.id), present(_blob_members.c.blob_id == _blobs.c.id))
ID_OF = (
    select(_blobs.c.id)
    .join_from(_blobs, _manifests, _manifests.c.blob_id == _blobs.c.id)
    .where(_blobs.c.digest == bindparam("digest"), or_(_served_here, ~_served))
)
PAGE = (
    select(_members.c.manifest_id, *_stored)
    .select_from(
        in_order(
            _members,
            (_manifests, _manifests.c.blob_id == _members.c.manifest_id),
            (_blobs, _blobs.c.id == _members.c.manifest_id),
        )
    )
    .where(
        _members.c.repository_id == bindparam("repository_id"),
        _members.c.manifest_id > bindparam("after"),
        is_seen(_members),
    )
    .order_by(_members.c.manifest_id)
    .limit(bindparam("limit"))
)
_subject = _blobs.alias("subject")
REFERRERS = (
    select(*_stored, _manifests.c.annotations)
    .select_from(
        in_order(
            _subject,
            (_manifests, _manifests.c.subject_id == _subject.c.id),
            (
                _members,
                and_(
                    _members.c.repository_id == bindparam("repository_id"),
                    _members.c.manifest_id == _manifests.c.blob_id,
                ),
            ),
            (_blobs, _blobs.c.id == _manifests.c.blob_id),
        )
    )
    .where(_subject.c.digest == bindparam("digest"), _blobs.c.digest > bindparam("after"), is_seen(_members))
    .order_by(_blobs.c.digest)
    .limit(bindparam("limit"))
)
REFERRERS_OF_TYPE = REFERRERS.where(_manifests.c.artifact_type == bindparam("artifact_type"))


# --- putting ----------------------------------------------------------------------------------------------------------

_digests = array("digests", Text)
CHILDREN = (
    select(
        _blobs.c.digest,
        _blobs.c.id,
        _blobs.c.size,
        _blobs.c.state,
        *(
            select(is_leaving(table, own=OWN))
            .where(table.c.repository_id == bindparam("repository_id"), key == _blobs.c.id, is_seen(table, own=OWN))
            .scalar_subquery()
            for table, key in ((_blob_members, _blob_members.c.blob_id), (_members, _members.c.manifest_id))
        ),
        _manifests.c.media_type,
    )
    .select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
    .outerjoin(_manifests, _manifests.c.blob_id == _blobs.c.id)
)
# A value and not a join, for which SQLite may read all manifests of the repository.
_said = (
    select(_members.c.entry)
    .where(_members.c.repository_id == bindparam("repository_id"), _members.c.manifest_id == _blobs.c.id)
    .scalar_subquery()
)
ENTRIES = select(_blobs.c.digest, _said).select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
PUT = insertion(
    _manifests, "blob_id", "media_type", "artifact_type", "config_media_type", "annotations", "platform", "subject_id"
)
NOTE_PLATFORM = (
    update(_manifests)
    .where(_manifests.c.blob_id == bindparam("id"), _manifests.c.platform.is_(None))
    .values(platform=bindparam("said"))
)
PUT_EDGES = insertion(_edges, "parent_id", "position", "role", "child_id", "size", "media_type")
_ids = array("ids")
_rows = array("rows", JSON)
_brought = upsert(_members).from_select(
    ["repository_id", "manifest_id", "pushed_at", "unreferenced_since", "incomplete", "entry", "batch"],
    select(
        bindparam("repository_id"),
        member(_rows, 0),
        bindparam("now"),
        bindparam("now"),
        member(_rows, 1),
        member(_rows, 2, Text),
        bindparam("batch"),
    ).where(true()),
)
_was_gone = and_(_members.c.leaves.is_not(None), ~goes_later(_members, _brought.excluded))
ADD_MEMBERSHIP = _brought.on_conflict_do_update(
    index_elements=["repository_id", "manifest_id"],
    set_={
        "unreferenced_since": _brought.excluded.unreferenced_since,
        "pushed_at": _brought.excluded.pushed_at,
        "incomplete": _brought.excluded.incomplete,
        "entry": func.coalesce(_brought.excluded.entry, case((~_was_gone, _members.c.entry))),
        **brought_again(_members, _brought.excluded),
    },
)

MEMBERS = select(_members.c.manifest_id, _members.c.incomplete, _members.c.entry).where(
    _members.c.repository_id == bindparam("repository_id"), _members.c.manifest_id.in_(select(_ids.c.value))
)
BELOW = (
    select(_blobs.c.digest)
    .select_from(
        in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value), (_blobs, _blobs.c.id == _edges.c.child_id))
    )
    .distinct()
)
OWN_EDGES = upsert(_own_edges).from_select(
    ["repository_id", "child_id", "parent_id", "role"],
    select(bindparam("repository_id"), _edges.c.child_id, _edges.c.parent_id, _edges.c.role)
    .select_from(in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value)))
    .where(true()),
)
OWN_EDGES = OWN_EDGES.on_conflict_do_nothing()


# --- deleting ---------------------------------------------------------------------------------------------------------

_this: BindParameter[int] = bindparam("this_manifest")
_here: BindParameter[int] = bindparam("in_repository")
REMOVE_MEMBERSHIP = delete(_members).where(_members.c.repository_id == _here, _members.c.manifest_id == _this)
_children_of = select(_edges.c.child_id).where(_edges.c.parent_id == _this)
QUEUE_BLOBS = (
    update(_blob_members)
    .where(
        _blob_members.c.repository_id == _here,
        _blob_members.c.blob_id.in_(_children_of),
        # as the last index of the same ones left it
        _blob_members.c.unreferenced_since.is_distinct_from(bindparam("now")),
    )
    .values(unreferenced_since=bindparam("now"))
)
# What was queued later, because it was pushed again, keeps its own time.
_is_behind = func.coalesce(_members.c.unreferenced_since, -1) < bindparam("since")
QUEUE_CHILDREN = (
    update(_members)
    .where(
        _members.c.repository_id == _here,
        _members.c.manifest_id.in_(_children_of),
        _is_behind,
    )
    .values(unreferenced_since=bindparam("since"))
)
_about_this = (
    select(_manifests.c.blob_id)
    .select_from(
        in_order(
            _manifests,
            (_members, and_(_members.c.repository_id == _here, _members.c.manifest_id == _manifests.c.blob_id)),
        )
    )
    .where(_manifests.c.subject_id == _this)
    .limit(bindparam("limit"))
)
NOT_QUEUED = _about_this.where(_is_behind)
REFERRING = _about_this.where(_manifests.c.blob_id > bindparam("after")).order_by(_manifests.c.blob_id)
QUEUE_THESE = (
    update(_members)
    .where(
        _members.c.repository_id == _here,
        _members.c.manifest_id.in_(select(_ids.c.value)),
        _is_behind,
    )
    .values(unreferenced_since=bindparam("since"))
)
QUEUE_SELF = (
    update(_blobs)
    .where(_blobs.c.id == _this)
    .values(unreferenced_since=greatest(func.coalesce(_blobs.c.unreferenced_since, 0), bindparam("since")))
)
DISOWN = delete(_own_edges).where(
    _own_edges.c.repository_id == _here, _own_edges.c.child_id.in_(_children_of), _own_edges.c.parent_id == _this
)
