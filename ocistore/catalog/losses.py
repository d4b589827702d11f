"""Count what gc would take, each manifest and each blob once, without remembering any.

What is reached in several ways is counted in one of them, which is found with one look into an index: a manifest where
the newest index around it is seen or, if none is around it, its subject; a blob with the newest manifest that refers to
it in the newest repository that serves it. Where it goes, all these go too, so that one of them comes by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog.gc import START, QueuePosition
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("losses")

PAGE: Final = 500
"""Rows that are read at once."""


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


def children(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """Return the manifests that are to be counted as children of an index, if they go: at most one for each entry."""
    return connection.execute(_sql.CHILDREN, {"repository": repository_id, "manifest": manifest_id}).scalars()


def referrers(
    connection: Connection, repository_id: int, manifest_id: int, *, after: int
) -> tuple[list[int], int | None]:
    """Return the manifests that are to be counted as referrers of a manifest, if they go.

    Returns:
        A page of them, and the id after which to continue; None where there are no more.
    """
    parameters = {"repository": repository_id, "manifest": manifest_id, "after": after, "limit": PAGE}
    rows = list(connection.execute(_sql.REFERRERS, parameters))
    return [key for key, counts in rows if counts], rows[-1][0] if len(rows) == PAGE else None


def blobs_of(connection: Connection, repository_id: int, manifest_id: int) -> list[Losable]:
    """Return the blobs that are to be counted with a manifest that goes: its own, and of what it refers to."""
    parameters = {"repository": repository_id, "manifest": manifest_id}
    return [Losable(*row) for each in (_sql.ITSELF, _sql.BLOBS_OF) for row in connection.execute(each, parameters)]


def idle(
    connection: Connection, *, before: int, after: QueuePosition = START
) -> tuple[list[Losable], QueuePosition | None]:
    """Return the blobs that are to be counted where no manifest refers to them, if they go.

    Returns:
        A page of them, and after what to continue; None where there are no more.
    """
    rows = list(connection.execute(_sql.IDLE, {**after._asdict(), "before": before, "limit": PAGE}))
    found = [Losable(row[1], row[3]) for row in rows if row[4] and row[3] is not None]
    return found, QueuePosition(rows[-1][2], rows[-1][0], rows[-1][1]) if len(rows) == PAGE else None


def servers(connection: Connection, blob_id: int, *, now: int, after: int) -> list[Server]:
    """Return a page of the memberships of a blob as a blob, by repository, after one."""
    rows = connection.execute(_sql.SERVERS, {"blob": blob_id, "now": now, "after": after, "limit": PAGE})
    return [Server(repository, since, bool(leased)) for repository, since, leased in rows]


def servers_as_manifest(connection: Connection, blob_id: int, *, after: int) -> list[int]:
    """Return a page of the repositories that serve a blob as a manifest, after one."""
    return connection.execute(_sql.SERVERS_AS_MANIFEST, {"blob": blob_id, "after": after, "limit": PAGE}).scalars()


def users(connection: Connection, repository_id: int, blob_id: int, *, after: int) -> list[int]:
    """Return a page of the manifests of a repository that refer to a blob, after one."""
    parameters = {"repository": repository_id, "blob": blob_id, "after": after, "limit": PAGE}
    return connection.execute(_sql.USERS, parameters).scalars()
