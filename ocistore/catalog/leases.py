"""Statements about leases: what must not be collected until when, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import bindparam, delete, insert, literal, or_, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert as upsert

from ocistore.catalog import tables
from ocistore.catalog.arrays import array, bound, member
from ocistore.catalog.presence import present

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

ENDED_AT_ONCE: Final = 250
"""Things that a lease kept in one transaction of its end; each takes 15 to 20 µs, in which a push waits."""

_ENDED: Final = 0
"""``expires`` of a lease that is being ended."""

_t = tables.leases
_kept = tables.lease_blobs
_blobs = tables.blobs
_members = (
    (tables.repository_blobs, tables.repository_blobs.c.blob_id),
    (tables.repository_manifests, tables.repository_manifests.c.manifest_id),
)


class Lease(NamedTuple):
    """A lease, ended or not."""

    id: str
    reason: str
    created: int
    expires: int


_insert = insert(_t)
_renew = (
    update(_t).where(_t.c.id == bindparam("lease"), _t.c.expires > bindparam("now")).values(expires=bindparam("until"))
)
_in_force = select(_t.c.id).where(_t.c.id == bindparam("lease"), _t.c.expires > bindparam("now"))
_expired = select(_t.c.id).where(_t.c.expires <= bindparam("now")).order_by(_t.c.expires).limit(bindparam("limit"))
_digests = array("digests")
_keep = upsert(_kept).from_select(
    ["lease_id", "repository_id", "blob_id"],
    select(bindparam("lease"), bindparam("repository_id"), _blobs.c.id)
    .join_from(_digests, _blobs, _blobs.c.digest == _digests.c.value)
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
_expire = update(_t).where(_t.c.id == bindparam("lease")).values(expires=literal(_ENDED))
_some = (
    select(_kept.c.repository_id, _kept.c.blob_id)
    .where(_kept.c.lease_id == bindparam("lease"))
    .order_by(_kept.c.repository_id, _kept.c.blob_id)
    .limit(bindparam("limit"))
)
_rows = array("rows")
_pairs = select(member(_rows, 0), member(_rows, 1))
# Whatever it kept is looked at by the next collection; what something else keeps then leaves the queue again.
_queue = tuple(
    update(of)
    .where(tuple_(of.c.repository_id, of_blob).in_(_pairs), of.c.collect_after.is_(None))
    .values(collect_after=bindparam("now"))
    for of, of_blob in _members
)
_drop = delete(_kept).where(
    _kept.c.lease_id == bindparam("lease"), tuple_(_kept.c.repository_id, _kept.c.blob_id).in_(_pairs)
)
_delete = delete(_t).where(_t.c.id == bindparam("lease"))
_every = select(_t.c.id)
_of = (
    select(_t.c.id, _t.c.reason, _t.c.created, _t.c.expires)
    .join_from(_kept, _t, _t.c.id == _kept.c.lease_id)
    .where(
        _kept.c.repository_id == bindparam("repository_id"),
        _kept.c.blob_id == bindparam("blob"),
        _t.c.expires > bindparam("now"),
    )
    .order_by(_t.c.expires)
)


def start(connection: Connection, lease: Lease) -> None:
    """Store a new lease, which keeps nothing yet."""
    connection.execute(_insert, lease._asdict())


def renew(connection: Connection, lease: str, *, now: int, expires: int) -> bool:
    """Let it run until ``expires``. False where it has ended or run out."""
    return connection.execute(_renew, {"lease": lease, "now": now, "until": expires}).rowcount == 1


def in_force(connection: Connection, lease: str, *, now: int) -> bool:
    """Whether it has neither ended nor run out."""
    return connection.execute(_in_force, {"lease": lease, "now": now}).first() is not None


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
    """Put up to ``limit`` things that a lease kept before the collector, and end it where these were the last ones.

    Returns:
        Whether it has ended.
    """
    some = list(connection.execute(_some, {"lease": lease, "limit": limit}))
    for statement in _queue:
        connection.execute(statement, {"rows": bound(some), "now": now})
    connection.execute(_drop, {"lease": lease, "rows": bound(some)})
    if len(some) == limit:
        return False
    connection.execute(_delete, {"lease": lease})
    return True


def expired(connection: Connection, *, now: int, limit: int) -> list[str]:
    """Up to ``limit`` leases that have run out and were never ended."""
    return connection.execute(_expired, {"now": now, "limit": limit}).scalars()


def of_content(connection: Connection, repository_id: int, blob_id: int, *, now: int) -> list[Lease]:
    """The leases, of those that have not run out, that keep a blob or manifest in a repository."""
    parameters = {"repository_id": repository_id, "blob": blob_id, "now": now}
    return [Lease(*row) for row in connection.execute(_of, parameters)]


def clear(connection: Connection, *, now: int) -> None:
    """End all leases: in a copy, nobody is left who holds one."""
    for lease in connection.execute(_every).scalars():
        while not end(connection, lease, now=now, limit=ENDED_AT_ONCE):
            pass
