"""Leases: what must not be collected until when, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_sql = Statements("leases")

ENDED_AT_ONCE: Final = 250
"""Things that a lease kept in one transaction of its end; each takes 15 to 20 µs, in which a push waits."""

ENDED: Final = 0
"""``expires`` of a lease that is being ended."""


class LeaseRow(NamedTuple):
    """A lease, ended or not."""

    id: str
    reason: str
    created: int
    expires: int


class CountedLease(NamedTuple):
    """A lease, with how much it keeps."""

    id: str
    reason: str
    created: int
    expires: int
    kept: int
    """How many blobs and manifests, each of one repository."""
    manifests: int
    """How many of them are manifests."""


def page(connection: Connection, *, now: int, after: str, limit: int) -> list[CountedLease]:
    """Return up to ``limit`` leases after the id ``after`` that have not run out."""
    return [CountedLease(*row) for row in connection.execute(_sql.PAGE, {"now": now, "after": after, "limit": limit})]


def start(connection: Connection, lease: LeaseRow) -> None:
    """Store a new lease, which keeps nothing yet."""
    connection.execute(_sql.INSERT, lease._asdict())


def renew(connection: Connection, lease: str, *, now: int, expires: int) -> bool:
    """Let it run until ``expires``. False where it has ended or run out."""
    return connection.execute(_sql.RENEW, {"lease": lease, "now": now, "until": expires}).rowcount == 1


def expires(connection: Connection, lease: str) -> int | None:
    """Return when it runs out, or ran out; :data:`ENDED` while it is being ended. None where there is no such lease."""
    found: int | None = connection.execute(_sql.EXPIRES, {"lease": lease}).scalar()
    return found


def standing(connection: Connection, lease: str, repository: str, digest: str) -> tuple[int | None, bool]:
    """Return what :func:`expires` gives, and whether the lease has a row for a digest in a repository."""
    parameters = {"lease": lease, "repository": repository, "digest": digest}
    found, keeps = connection.execute(_sql.STANDING, parameters).first() or (None, 0)
    return found, bool(keeps)


def keep(connection: Connection, lease: str, repository_id: int, digests: Iterable[str]) -> bool:
    """Keep what the repository serves of these digests, blobs and manifests. The lease must exist.

    Returns:
        Whether it serves any of them.
    """
    kept = {"lease": lease, "repository_id": repository_id, "digests": bound(digests)}
    return connection.execute(_sql.KEEP, kept).rowcount > 0


def expire(connection: Connection, lease: str) -> None:
    """Let a lease keep nothing any more, whatever the clock says. Does nothing where it has ended."""
    connection.execute(_sql.EXPIRE, {"lease": lease})


def end(connection: Connection, lease: str, *, now: int, limit: int) -> bool:
    """Queue up to ``limit`` things that a lease kept for gc, and end it where these were the last ones.

    One that keeps more is over all the same: setting the clock back does not let it be renewed.

    Returns:
        Whether it has ended.
    """
    some = list(connection.execute(_sql.SOME, {"lease": lease, "limit": limit}))
    for statement in _sql.each("QUEUE"):
        connection.execute(statement, {"rows": bound(some), "now": now})
    connection.execute(_sql.DROP, {"lease": lease, "rows": bound(some)})
    if len(some) == limit:
        expire(connection, lease)
        return False
    connection.execute(_sql.DELETE, {"lease": lease})
    return True


class LetGo(NamedTuple):
    """Memberships that are queued for gc when leases end that have run out: (repository, blob)."""

    blobs: list[tuple[int, int]]
    manifests: list[tuple[int, int]]


def let_go(connection: Connection, *, now: int) -> LetGo:
    """Return what is queued for gc when all leases end that have run out by ``now``: it was in no queue before."""
    return LetGo(
        *([(row[0], row[1]) for row in connection.execute(each, {"now": now})] for each in _sql.each("LET_GO"))
    )


def forget(connection: Connection, members: Iterable[tuple[int, int]]) -> None:
    """Let no lease, in force or not, name what a repository does not serve any more.

    Every statement that takes memberships away is followed by this one: the rows of a lease refer to blobs, and a blob
    that a lease names cannot be deleted.

    Args:
        connection: of a write transaction.
        members: repositories, each with a blob or manifest that was taken from it. Where it serves the same content in
            the other way, as a blob or as a manifest, that stays kept.
    """
    connection.execute(_sql.FORGET, {"rows": bound(members)})


def expired(connection: Connection, *, now: int, limit: int) -> list[str]:
    """Return up to ``limit`` leases that have run out and were never ended."""
    return connection.execute(_sql.EXPIRED, {"now": now, "limit": limit}).scalars()


def of_content(connection: Connection, repository_id: int, blob_id: int, *, now: int) -> list[LeaseRow]:
    """Return the leases, of those that have not run out, that keep a blob or manifest in a repository."""
    parameters = {"repository_id": repository_id, "blob": blob_id, "now": now}
    return [LeaseRow(*row) for row in connection.execute(_sql.OF, parameters)]


def clear(connection: Connection, *, now: int) -> None:
    """End all leases: in a copy, nobody is left who holds one."""
    for lease in connection.execute(_sql.EVERY).scalars():
        while not end(connection, lease, now=now, limit=ENDED_AT_ONCE):
            pass
