"""Statements of ``catalog/repositories.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Text, bindparam, delete, func, literal, literal_column, null, or_, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, insertion, member, present, upsert
from ocistore.catalog.statements.staged import is_seen, target

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, Delete, Select, Table

_t = tables.repositories
_deleted = tables.deleted_repositories
_blobs, _tags, _events = tables.blobs, tables.tags, tables.tag_events
_uploads, _kept = tables.uploads, tables.lease_blobs
_repository_blobs, _repository_manifests = tables.repository_blobs, tables.repository_manifests

FIND = select(_t.c.id).where(_t.c.name == bindparam("name"))
NAME_OF = select(_t.c.name).where(_t.c.id == bindparam("repository"))
INSERT = insertion(_t, "name", "created").returning(_t.c.id)
PAGE = (
    select(_t.c.name)
    .where(_t.c.name > bindparam("after"), _t.c.name >= bindparam("prefix"), _t.c.name < bindparam("beyond"))
    .order_by(_t.c.name)
    .limit(bindparam("limit"))
)

_memberships = (
    (_repository_blobs, _repository_blobs.c.blob_id),
    (_repository_manifests, _repository_manifests.c.manifest_id),
)
_few = [
    select(_t.c.name)
    .select_from(in_order(_blobs, (of, of_blob == _blobs.c.id), (_t, _t.c.id == of.c.repository_id)))
    .where(
        _blobs.c.digest == bindparam("digest"),
        _blobs.c.state == literal("live"),
        _t.c.name.is_not(None),
        is_seen(of),
    )
    for of, of_blob in _memberships
]
FEW_HOLDERS = _few[0].union(*_few[1:]).limit(bindparam("limit"))
_held = (
    select(_blobs.c.id)
    .where(_blobs.c.digest == bindparam("digest"), _blobs.c.state == literal("live"))
    .scalar_subquery()
)
HOLDERS = (
    select(_t.c.name)
    .where(
        _t.c.name > bindparam("after"),
        or_(*(present(of.c.repository_id == _t.c.id, of_blob == _held, is_seen(of)) for of, of_blob in _memberships)),
    )
    .order_by(_t.c.name)
    .limit(bindparam("limit"))
)


# --- deleting ---------------------------------------------------------------------------------------------------------

_this: BindParameter[int] = bindparam("in_repository")
HIDE = update(_t).where(_t.c.id == _this).values(name=null())
NOTE_DELETED = insertion(_deleted, "repository_id", "name", "deleted", "actor", "next_event")
LAST_TAG = select(func.count(), func.max(_tags.c.name)).where(
    _tags.c.repository_id == _this, target(_tags).is_not(None)
)
TARGET = (
    select(_blobs.c.digest)
    .select_from(in_order(_tags, (_blobs, _blobs.c.id == target(_tags))))
    .where(_tags.c.repository_id == _this, _tags.c.name == bindparam("tag"))
)
NEWEST_EVENT = select(func.coalesce(func.max(_events.c.id), 0))
RECORD = insertion(_events, "repository", "tag", "old_digest", "new_digest", "at", "actor")
RECORD_NUMBERED = insertion(_events, "id", "repository", "tag", "old_digest", "new_digest", "at", "actor")
RECORD_AGAIN = (
    upsert(_events).values({column.name: bindparam(column.name) for column in _events.c if column.name != "batch"})
).on_conflict_do_nothing(index_elements=["id"])  # that of the last tag is there already
RESERVE = update(_deleted).where(_deleted.c.repository_id == _this).values(next_event=bindparam("event"))
_find_deleted = select(
    _deleted.c.repository_id, _deleted.c.name, _deleted.c.deleted, _deleted.c.actor, _deleted.c.next_event
)
THIS_DELETED = _find_deleted.where(_deleted.c.repository_id == _this)
NEXT_DELETED = _find_deleted.order_by(_deleted.c.repository_id).limit(literal_column("1"))
_seen = select(_blobs.c.digest).where(_blobs.c.id == target(_tags)).scalar_subquery()
SOME_TAGS = (
    select(_tags.c.name, _seen).where(_tags.c.repository_id == _this).order_by(_tags.c.name).limit(bindparam("limit"))
)
DROP_TAGS = delete(_tags).where(_tags.c.repository_id == _this, _tags.c.name <= bindparam("last"))
SOME_UPLOADS = select(_uploads.c.id).where(_uploads.c.repository_id == _this).limit(bindparam("limit"))
_names = array("names", Text)
DROP_UPLOADS = delete(_uploads).where(_uploads.c.id.in_(select(_names.c.value)))
_rows = array("rows", JSON)


def _pages(table: Table) -> tuple[Select[Any], Delete]:
    """Return statements that read the keys of up to ``limit`` rows of a repository, and delete them."""
    key = [column for column in table.primary_key.columns if column.name != "repository_id"]
    some = select(*key).where(table.c.repository_id == _this).limit(bindparam("limit"))
    these = select(*(member(_rows, position, type(column.type)) for position, column in enumerate(key)))
    return some, delete(table).where(
        table.c.repository_id == _this, tuple_(*key).in_(these) if len(key) > 1 else key[0].in_(these)
    )


SOME_LEASED, DROP_LEASED = _pages(_kept)
SOME_EDGES, DROP_EDGES = _pages(tables.repository_edges)
SOME_BLOBS, DROP_BLOBS = _pages(_repository_blobs)
SOME_MANIFESTS, DROP_MANIFESTS = _pages(_repository_manifests)
QUEUE_BLOBS = (
    update(_blobs).where(_blobs.c.id.in_(select(member(_rows, 0)))).values(unreferenced_since=bindparam("now"))
)
DELETE_NOTE = delete(_deleted).where(_deleted.c.repository_id == _this)
DELETE = delete(_t).where(_t.c.id == _this)
