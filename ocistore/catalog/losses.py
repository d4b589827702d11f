"""Statements that count what gc would take, each manifest and each blob once, without remembering any.

What is reached in several ways is counted in one of them, which is found with one look into an index: a manifest where
the newest index around it is seen or, if none is around it, its subject; a blob with the newest manifest that refers to
it in the newest repository that serves it. Where it goes, all these go too, so that one of them comes by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, literal, literal_column, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import present
from ocistore.catalog.gc import IN_FORCE, IS_HELD_AS_BLOB, START, QueuePosition, due

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement, ScalarSelect

    from ocistore.catalog.connection import Connection

PAGE: Final = 500
"""Rows that are read at once."""

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


class Losable(NamedTuple):
    """A blob that goes if nothing else keeps it."""

    id: int
    size: int


class Server(NamedTuple):
    """A membership of a blob."""

    repository_id: int
    since: int | None
    """Its ``unreferenced_since``."""
    leased: bool


def _newest(column: ColumnElement[int], *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    """Return the greatest value of the column behind a prefix of an index that is fixed by the conditions."""
    return select(column).where(*conditions).order_by(column.desc()).limit(literal_column("1")).scalar_subquery()


def _newest_index_around(child: ColumnElement[int]) -> ScalarSelect[Any]:
    return _newest(
        _own_edges.c.parent_id, _own_edges.c.repository_id == _here, _own_edges.c.child_id == child, _is_child
    )


def _waits_for_others(manifest: ColumnElement[int]) -> ColumnElement[bool]:
    """It is held by the repository and not in the queue itself."""
    return present(
        _manifest_members.c.repository_id == _here,
        _manifest_members.c.manifest_id == manifest,
        _manifest_members.c.unreferenced_since.is_(None),
    )


_children = (
    select(_edges.c.child_id)
    .where(
        _edges.c.parent_id == _this,
        _edges.c.role == literal_column("'manifest'"),
        _newest_index_around(_edges.c.child_id) == _this,
        _waits_for_others(_edges.c.child_id),
    )
    .distinct()
)
_referrers = (
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


_blobs_of = (
    select(_blobs.c.id, _blobs.c.size)
    .where(
        _blobs.c.id.in_(select(_edges.c.child_id).where(_edges.c.parent_id == _this)),
        _blobs.c.state == literal("live"),
        _newest_server(_blob_members, _blob_members.c.blob_id, _blobs.c.id) == _here,
        _newest_user(_blobs.c.id, _here) == _this,
    )
)
_itself = select(_blobs.c.id, _blobs.c.size).where(
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
_idle = due(
    _blob_members,
    _blob_members.c.blob_id,
    _live_size,
    and_(
        _newest_server(_other, _other.c.blob_id, _blob_members.c.blob_id) == _blob_members.c.repository_id,
        _newest_user(_blob_members.c.blob_id, _blob_members.c.repository_id).is_(None),
    ),
)
_servers = (
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
_servers_as_manifest = (
    select(_manifest_members.c.repository_id)
    .where(_manifest_members.c.manifest_id == bindparam("blob"), _manifest_members.c.repository_id > bindparam("after"))
    .order_by(_manifest_members.c.repository_id)
    .limit(bindparam("limit"))
)
_users = (
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


def children(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """Return the manifests that are to be counted as children of an index, if they go: at most one for each entry."""
    return connection.execute(_children, {"repository": repository_id, "manifest": manifest_id}).scalars()


def referrers(
    connection: Connection, repository_id: int, manifest_id: int, *, after: int
) -> tuple[list[int], int | None]:
    """Return the manifests that are to be counted as referrers of a manifest, if they go.

    Returns:
        A page of them, and behind which id to go on; None where there are no more.
    """
    parameters = {"repository": repository_id, "manifest": manifest_id, "after": after, "limit": PAGE}
    rows = list(connection.execute(_referrers, parameters))
    return [key for key, counts in rows if counts], rows[-1][0] if len(rows) == PAGE else None


def blobs_of(connection: Connection, repository_id: int, manifest_id: int) -> list[Losable]:
    """Return the blobs that are to be counted with a manifest that goes: its own, and of what it refers to."""
    parameters = {"repository": repository_id, "manifest": manifest_id}
    return [Losable(*row) for each in (_itself, _blobs_of) for row in connection.execute(each, parameters)]


def idle(
    connection: Connection, *, before: int, after: QueuePosition = START
) -> tuple[list[Losable], QueuePosition | None]:
    """Return the blobs that are to be counted where no manifest refers to them, if they go.

    Returns:
        A page of them, and behind what to go on; None where there are no more.
    """
    rows = list(connection.execute(_idle, {**after._asdict(), "before": before, "limit": PAGE}))
    found = [Losable(row[1], row[3]) for row in rows if row[4] and row[3] is not None]
    return found, QueuePosition(rows[-1][2], rows[-1][0], rows[-1][1]) if len(rows) == PAGE else None


def servers(connection: Connection, blob_id: int, *, now: int, after: int) -> list[Server]:
    """Return a page of the memberships of a blob as a blob, by repository, behind one."""
    rows = connection.execute(_servers, {"blob": blob_id, "now": now, "after": after, "limit": PAGE})
    return [Server(repository, since, bool(leased)) for repository, since, leased in rows]


def servers_as_manifest(connection: Connection, blob_id: int, *, after: int) -> list[int]:
    """Return a page of the repositories that serve a blob as a manifest, behind one."""
    return connection.execute(_servers_as_manifest, {"blob": blob_id, "after": after, "limit": PAGE}).scalars()


def users(connection: Connection, repository_id: int, blob_id: int, *, after: int) -> list[int]:
    """Return a page of the manifests of a repository that refer to a blob, behind one."""
    parameters = {"repository": repository_id, "blob": blob_id, "after": after, "limit": PAGE}
    return connection.execute(_users, parameters).scalars()
