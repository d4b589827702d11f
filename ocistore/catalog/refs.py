"""Statements about what a store calls its manifests, all of it: for what has to outlive the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, case, func, literal_column, select, tuple_

from ocistore.catalog import tables
from ocistore.catalog.expressions import in_order, present
from ocistore.catalog.staged import is_seen, is_tagged, said, target

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from ocistore.catalog.connection import Connection

_repositories = tables.repositories
_blobs = tables.blobs
_tags = tables.tags
_members = tables.repository_manifests


MAXIMUM_ENTRY: Final = 4096
"""Characters of what is said of something besides; what is longer is left out, because a page of names is in memory."""


class Ref(NamedTuple):
    """A tag, or a manifest that has none, of one repository."""

    repository_id: int
    repository: str
    tag: str | None
    digest: str
    incomplete: bool = False
    """Something of the manifest was absent when it was put there, and that was accepted."""
    entry: str | None = None
    """What is said of it besides, as in the table of tags, up to :data:`MAXIMUM_ENTRY`."""


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
_newest_event = select(
    func.coalesce(func.max(tables.tag_events.c.id), 0), present(tables.batches.c.revealed.is_(None))
)
_page_of_tags = (
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
_page_of_untagged = (
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
UNKNOWN: Final = -1
"""In the place of :func:`newest_event`."""


def newest_event(connection: Connection) -> int:
    """Return the id of the last change of a tag: where it is the same, so are all tags.

    :data:`UNKNOWN` while a large change is under way, because others happen after its own events and before it.
    """
    [(found, under_way)] = connection.execute(_newest_event)
    return UNKNOWN if under_way else int(found)


def page_of_tags(connection: Connection, *, after: tuple[int, str], limit: int) -> list[Ref]:
    """Return up to ``limit`` tags of all repositories, behind ``after``: (repository id, tag)."""
    return [
        Ref(row[0], row[1], row[2], row[3], incomplete=bool(row[4]), entry=row[5])
        for row in connection.execute(_page_of_tags, {"repository": after[0], "after": after[1], "limit": limit})
    ]


def page_of_untagged(
    connection: Connection, *, after: tuple[int, int], limit: int
) -> tuple[list[Ref], tuple[int, int]]:
    """Return up to ``limit`` manifests without a tag, behind ``after``, and where the next page begins."""
    rows = list(connection.execute(_page_of_untagged, {"repository": after[0], "after": after[1], "limit": limit}))
    place = (rows[-1][0], rows[-1][2]) if rows else after
    return [Ref(row[0], row[1], None, row[3], incomplete=bool(row[4]), entry=row[5]) for row in rows], place
