"""Statements of ``catalog/refs.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, case, func, literal_column, select, tuple_

from ocistore.catalog import tables
from ocistore.catalog.expressions import in_order, present
from ocistore.catalog.statements.staged import is_seen, is_tagged, said, target

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

from ocistore.catalog.refs import MAXIMUM_ENTRY

_repositories = tables.repositories
_blobs = tables.blobs
_tags = tables.tags
_members = tables.repository_manifests


def _name_of(repository_id: ColumnElement[int]) -> ColumnElement[str | None]:
    """Return the name of a repository; NULL where it is deleted."""
    return select(_repositories.c.name).where(_repositories.c.id == repository_id).scalar_subquery()


def _short(entry: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((func.length(entry) <= literal_column(str(MAXIMUM_ENTRY)), entry))


_incomplete = present(
    _members.c.repository_id == _tags.c.repository_id,
    _members.c.manifest_id == target(_tags),
    _members.c.incomplete.is_not(None),
)
NEWEST_EVENT = select(func.coalesce(func.max(tables.tag_events.c.id), 0), present(tables.batches.c.revealed.is_(None)))
PAGE_OF_TAGS = (
    select(
        _tags.c.repository_id,
        _name_of(_tags.c.repository_id),
        _tags.c.name,
        _blobs.c.digest,
        _incomplete,
        _short(said(_tags)),
    )
    .select_from(in_order(_tags, (_blobs, _blobs.c.id == target(_tags))))
    .where(
        tuple_(_tags.c.repository_id, _tags.c.name) > tuple_(bindparam("repository"), bindparam("after")),
        _name_of(_tags.c.repository_id).is_not(None),
    )
    .order_by(_tags.c.repository_id, _tags.c.name)
    .limit(bindparam("limit"))
)
PAGE_OF_UNTAGGED = (
    select(
        _members.c.repository_id,
        _name_of(_members.c.repository_id),
        _members.c.manifest_id,
        _blobs.c.digest,
        _members.c.incomplete.is_not(None),
        _short(_members.c.entry),
    )
    .select_from(in_order(_members, (_blobs, _blobs.c.id == _members.c.manifest_id)))
    .where(
        tuple_(_members.c.repository_id, _members.c.manifest_id) > tuple_(bindparam("repository"), bindparam("after")),
        _name_of(_members.c.repository_id).is_not(None),
        is_seen(_members),
        ~is_tagged(_members.c.repository_id, _members.c.manifest_id),
    )
    .order_by(_members.c.repository_id, _members.c.manifest_id)
    .limit(bindparam("limit"))
)
