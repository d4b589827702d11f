"""Statements about repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, null, or_, select, update

from ocistore.catalog import tables

if TYPE_CHECKING:
    from sqlalchemy import BindParameter

    from ocistore.catalog.connection import Connection

_t = tables.repositories
_blobs, _tags = tables.blobs, tables.tags
_repository_blobs, _repository_manifests = tables.repository_blobs, tables.repository_manifests

_find = select(_t.c.id).where(_t.c.name == bindparam("name"))
_name_of = select(_t.c.name).where(_t.c.id == bindparam("repository"))
_insert = insert(_t).returning(_t.c.id)
_page = (
    select(_t.c.name)
    .where(_t.c.name > bindparam("after"), _t.c.name >= bindparam("prefix"), _t.c.name < bindparam("beyond"))
    .order_by(_t.c.name)
    .limit(bindparam("limit"))
)


def beyond(prefix: str) -> str:
    """A string behind everything that starts with ``prefix``: names are ASCII, and compared byte by byte."""
    return prefix + "\x7f"


def find(connection: Connection, name: str) -> int | None:
    """The id of the repository, or None."""
    found: int | None = connection.execute(_find, {"name": name}).scalar()
    return found


def name_of(connection: Connection, repository_id: int) -> str:
    """The name of the repository of that id, which must exist."""
    found: str = connection.execute(_name_of, {"repository": repository_id}).scalar()
    return found


def ensure(connection: Connection, name: str, *, now: int) -> int:
    """The id of the repository, made if need be."""
    found = find(connection, name)
    if found is not None:
        return found
    created: int = connection.execute(_insert, {"name": name, "created": now}).scalar()
    return created


def page(connection: Connection, *, prefix: str, after: str, limit: int) -> list[str]:
    """Up to ``limit`` names behind ``after``, in byte order."""
    parameters = {"prefix": prefix, "beyond": beyond(prefix), "after": after, "limit": limit}
    return connection.execute(_page, parameters).scalars()


_this: BindParameter[int] = bindparam("repository_id")
_blobs_of = select(_repository_blobs.c.blob_id).where(_repository_blobs.c.repository_id == _this)
_manifests_of = select(_repository_manifests.c.manifest_id).where(_repository_manifests.c.repository_id == _this)
_old = _blobs.alias("old")
_events_of_all_tags = insert(tables.tag_events).from_select(
    ["repository", "tag", "old_digest", "new_digest", "at", "actor"],
    select(bindparam("name"), _tags.c.name, _old.c.digest, null(), bindparam("now"), bindparam("actor"))
    .join_from(_tags, _old, _old.c.id == _tags.c.manifest_id)
    .where(_tags.c.repository_id == _this)
    .order_by(_tags.c.name),
)
_queue_blobs = (
    update(_blobs)
    .where(or_(_blobs.c.id.in_(_blobs_of), _blobs.c.id.in_(_manifests_of)))
    .values(collect_after=bindparam("now"))
)
_delete_members = tuple(
    delete(table).where(table.c.repository_id == _this)
    for table in (
        _tags,
        tables.lease_blobs,
        tables.uploads,
        tables.repository_edges,
        _repository_blobs,
        _repository_manifests,
    )
)
_delete = delete(_t).where(_t.c.id == _this)


def remove(connection: Connection, repository_id: int, name: str, *, now: int, actor: str) -> None:
    """Delete the repository with all it holds: its tags (each as an event), uploads and memberships.

    The blobs stay in the pool until a collection finds that nothing else refers to them.
    """
    parameters = {"repository_id": repository_id, "name": name, "now": now, "actor": actor}
    for statement in (_events_of_all_tags, _queue_blobs, *_delete_members, _delete):
        connection.execute(statement, parameters)
