"""Statements about leases: what must not be collected until when, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import bindparam, delete, insert, literal, or_, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, bound, in_order, member, present, upsert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

ENDED_AT_ONCE: Final = 250
"""Things that a lease kept in one transaction of its end; each takes 15 to 20 µs, in which a push waits."""

ENDED: Final = 0
"""``expires`` of a lease that is being ended."""

_t = tables.leases
_kept = tables.lease_blobs
_blobs = tables.blobs
_members = (
    (tables.repository_blobs, tables.repository_blobs.c.blob_id),
    (tables.repository_manifests, tables.repository_manifests.c.manifest_id),
)


class LeaseRow(NamedTuple):
    """A lease, ended or not."""

    id: str
    reason: str
    created: int
    expires: int


_insert = insert(_t)
_renew = (
    update(_t).where(_t.c.id == bindparam("lease"), _t.c.expires > bindparam("now")).values(expires=bindparam("until"))
)
_expires = select(_t.c.expires).where(_t.c.id == bindparam("lease"))
_repository = select(tables.repositories.c.id).where(tables.repositories.c.name == bindparam("repository"))
_blob = select(_blobs.c.id).where(_blobs.c.digest == bindparam("digest"))
_standing = select(
    _t.c.expires,
    present(
        _kept.c.lease_id == bindparam("lease"),
        _kept.c.repository_id == _repository.scalar_subquery(),
        _kept.c.blob_id == _blob.scalar_subquery(),
    ),
).where(_t.c.id == bindparam("lease"))
_expired = select(_t.c.id).where(_t.c.expires <= bindparam("now")).order_by(_t.c.expires).limit(bindparam("limit"))
_digests = array("digests")
_keep = upsert(_kept).from_select(
    ["lease_id", "repository_id", "blob_id"],
    select(bindparam("lease"), bindparam("repository_id"), _blobs.c.id)
    .select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
    .where(
        or_(
            *(
                present(of.c.repository_id == bindparam("repository_id"), of_blob == _blobs.c.id)
                for of, of_blob in _members
            )
        )
    ),
)
_keep = _keep.on_conflict_do_update(
    index_elements=["lease_id", "repository_id", "blob_id"], set_={"lease_id": _keep.excluded.lease_id}
)
_expire = update(_t).where(_t.c.id == bindparam("lease")).values(expires=literal(ENDED))
_some = (
    select(_kept.c.repository_id, _kept.c.blob_id)
    .where(_kept.c.lease_id == bindparam("lease"))
    .order_by(_kept.c.repository_id, _kept.c.blob_id)
    .limit(bindparam("limit"))
)
_let_go = tuple(
    select(_kept.c.repository_id, _kept.c.blob_id)
    .select_from(in_order(_t, (_kept, _kept.c.lease_id == _t.c.id)))
    .where(
        _t.c.expires <= bindparam("now"),
        present(
            of.c.repository_id == _kept.c.repository_id, of_blob == _kept.c.blob_id, of.c.unreferenced_since.is_(None)
        ),
    )
    .distinct()
    for of, of_blob in _members
)
_rows = array("rows")
_pairs = select(member(_rows, 0), member(_rows, 1))
# Whatever it kept is looked at by the next gc; what something else keeps then leaves the queue again.
_queue = tuple(
    update(of)
    .where(tuple_(of.c.repository_id, of_blob).in_(_pairs), of.c.unreferenced_since.is_(None))
    .values(unreferenced_since=bindparam("now"))
    for of, of_blob in _members
)
_drop = delete(_kept).where(
    _kept.c.lease_id == bindparam("lease"), tuple_(_kept.c.repository_id, _kept.c.blob_id).in_(_pairs)
)
_delete = delete(_t).where(_t.c.id == bindparam("lease"))
_forget = delete(_kept).where(
    tuple_(_kept.c.repository_id, _kept.c.blob_id).in_(_pairs),
    *(
        ~present(of.c.repository_id == _kept.c.repository_id, of_blob == _kept.c.blob_id)
        for of, of_blob in _members
    ),
)
_every = select(_t.c.id)
_of = (
    select(_t.c.id, _t.c.reason, _t.c.created, _t.c.expires)
    .select_from(in_order(_kept, (_t, _t.c.id == _kept.c.lease_id)))
    .where(
        _kept.c.repository_id == bindparam("repository_id"),
        _kept.c.blob_id == bindparam("blob"),
        _t.c.expires > bindparam("now"),
    )
    .order_by(_t.c.expires)
)


def start(connection: Connection, lease: LeaseRow) -> None:
    """Store a new lease, which keeps nothing yet."""
    connection.execute(_insert, lease._asdict())


def renew(connection: Connection, lease: str, *, now: int, expires: int) -> bool:
    """Let it run until ``expires``. False where it has ended or run out."""
    return connection.execute(_renew, {"lease": lease, "now": now, "until": expires}).rowcount == 1


def expires(connection: Connection, lease: str) -> int | None:
    """Return when it runs out, or ran out; :data:`ENDED` while it is being ended. None where there is no such lease."""
    found: int | None = connection.execute(_expires, {"lease": lease}).scalar()
    return found


def standing(connection: Connection, lease: str, repository: str, digest: str) -> tuple[int | None, bool]:
    """Return what :func:`expires` gives, and whether the lease has a row for a digest in a repository."""
    parameters = {"lease": lease, "repository": repository, "digest": digest}
    found, keeps = connection.execute(_standing, parameters).first() or (None, 0)
    return found, bool(keeps)


def keep(connection: Connection, lease: str, repository_id: int, digests: Iterable[str]) -> bool:
    """Keep what the repository serves of these digests, be it a blob or a manifest. The lease must exist.

    Returns:
        Whether it serves any of them.
    """
    kept = {"lease": lease, "repository_id": repository_id, "digests": bound(digests)}
    return connection.execute(_keep, kept).rowcount > 0


def expire(connection: Connection, lease: str) -> None:
    """Let a lease keep nothing any more, whatever the clock says. Does nothing where it has ended."""
    connection.execute(_expire, {"lease": lease})


def end(connection: Connection, lease: str, *, now: int, limit: int) -> bool:
    """Queue up to ``limit`` things that a lease kept for gc, and end it where these were the last ones.

    One that keeps more is over all the same: no clock that is put back lets it be renewed.

    Returns:
        Whether it has ended.
    """
    some = list(connection.execute(_some, {"lease": lease, "limit": limit}))
    for statement in _queue:
        connection.execute(statement, {"rows": bound(some), "now": now})
    connection.execute(_drop, {"lease": lease, "rows": bound(some)})
    if len(some) == limit:
        expire(connection, lease)
        return False
    connection.execute(_delete, {"lease": lease})
    return True


class LetGo(NamedTuple):
    """Memberships that are queued for gc when leases end that have run out: (repository, blob)."""

    blobs: list[tuple[int, int]]
    manifests: list[tuple[int, int]]


def let_go(connection: Connection, *, now: int) -> LetGo:
    """Return what is queued for gc when all leases end that have run out by ``now``: it was in no queue before."""
    return LetGo(*([(row[0], row[1]) for row in connection.execute(each, {"now": now})] for each in _let_go))


def forget(connection: Connection, members: Iterable[tuple[int, int]]) -> None:
    """Let no lease, be it in force or not, name what a repository does not serve any more.

    Every statement that takes memberships away is followed by this one: the rows of a lease refer to blobs, and a blob
    that a lease names cannot be deleted.

    Args:
        connection: of a write transaction.
        members: repositories, each with a blob or manifest that was taken from it. Where it serves the same content in
            the other way, as a blob or as a manifest, that stays kept.
    """
    connection.execute(_forget, {"rows": bound(members)})


def expired(connection: Connection, *, now: int, limit: int) -> list[str]:
    """Return up to ``limit`` leases that have run out and were never ended."""
    return connection.execute(_expired, {"now": now, "limit": limit}).scalars()


def of_content(connection: Connection, repository_id: int, blob_id: int, *, now: int) -> list[LeaseRow]:
    """Return the leases, of those that have not run out, that keep a blob or manifest in a repository."""
    parameters = {"repository_id": repository_id, "blob": blob_id, "now": now}
    return [LeaseRow(*row) for row in connection.execute(_of, parameters)]


def clear(connection: Connection, *, now: int) -> None:
    """End all leases: in a copy, nobody is left who holds one."""
    for lease in connection.execute(_every).scalars():
        while not end(connection, lease, now=now, limit=ENDED_AT_ONCE):
            pass
