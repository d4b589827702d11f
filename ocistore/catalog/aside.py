"""Statements of collection about manifests that are below very many others, which are looked at outside the lock.

To climb through a hundred thousand indexes takes half a second. What is found of them in a snapshot may not decide that
a manifest goes; but as long as anything is above it, it may leave the queue, or be put behind others in it, whatever is
found: it comes back when that goes. Only where manifests are above each other in a ring, nothing would put it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, func, literal_column, or_, select, update

from ocistore.catalog import tables
from ocistore.catalog.keepers import upwards
from ocistore.catalog.order import in_order
from ocistore.catalog.presence import present

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Select

    from ocistore.catalog.collection import Membership
    from ocistore.catalog.connection import Connection

_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_members = tables.repository_manifests
_subject_members = _members.alias("of_subject")
_index = _members.alias("around")

_up = upwards()
_below = _manifests.alias("below")
_in_ring: Select[Any] = (
    select(literal_column("1"))
    .select_from(_up)
    .where(
        or_(  # most have nothing below them, which takes no climbing
            present(_edges.c.parent_id == bindparam("manifest"), _edges.c.role == literal_column("'manifest'")),
            present(_below.c.subject_id == bindparam("manifest")),
        ),
        or_(
            present(
                _own_edges.c.repository_id == bindparam("repository"),
                _own_edges.c.child_id == _up.c.id,
                _own_edges.c.parent_id == bindparam("manifest"),
                _own_edges.c.role == literal_column("'manifest'"),
            ),
            present(_manifests.c.blob_id == _up.c.id, _manifests.c.subject_id == bindparam("manifest")),
        ),
    )
    .limit(literal_column("1"))
)
_last_to_go = (
    select(func.max(_index.c.collect_after) + 1)
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
        _own_edges.c.repository_id == bindparam("repository"),
        _own_edges.c.child_id == bindparam("manifest"),
        _own_edges.c.role == literal_column("'manifest'"),
    )
)
_is_below = or_(
    present(
        _own_edges.c.repository_id == _members.c.repository_id,
        _own_edges.c.child_id == _members.c.manifest_id,
        _own_edges.c.role == literal_column("'manifest'"),
    ),
    present(
        _manifests.c.blob_id == _members.c.manifest_id,
        _subject_members.c.repository_id == _members.c.repository_id,
        _subject_members.c.manifest_id == _manifests.c.subject_id,
    ),
)
_put_aside = (
    update(_members)
    .where(
        _members.c.repository_id == bindparam("in_repository"),
        _members.c.manifest_id == bindparam("this_manifest"),
        _members.c.collect_after == bindparam("since"),
        _is_below,
    )
    .values(collect_after=bindparam("until"))
)


class Aside(NamedTuple):
    """A membership of a manifest that leaves its place in the queue."""

    row: Membership
    until: int | None
    """Its new place; None where it leaves the queue."""


def is_in_ring(connection: Connection, repository_id: int, manifest_id: int) -> bool:
    """Whether a manifest of the repository is above something that is above it."""
    return connection.execute(_in_ring, {"repository": repository_id, "manifest": manifest_id}).first() is not None


def last_to_go(connection: Connection, repository_id: int, manifest_id: int) -> int | None:
    """The place in the queue behind the last of the indexes around a manifest; None where none of them is in it."""
    found: int | None = connection.execute(
        _last_to_go, {"repository": repository_id, "manifest": manifest_id}
    ).scalar()
    return found


def put_aside(connection: Connection, rows: Iterable[Aside]) -> None:
    """Let memberships leave their places, which are still there, and where something is above the manifests."""
    connection.execute(
        _put_aside,
        [
            {"in_repository": row.repository_id, "this_manifest": row.blob_id, "since": row.since, "until": until}
            for row, until in rows
        ],
    )
