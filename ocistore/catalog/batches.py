"""Batches: large changes that are written in many transactions, and revealed by one small one.

What is for a repository that does not exist goes into a hidden one, without a name, which is given its name in the end.
What is for one that exists goes among its rows, each of which names the batch, and is hidden as long as that is not
revealed (see ``statements/staged.py``); afterwards the rows are *settled*, some at a time: they are made ones without a
batch. Events of a batch are hidden likewise. What is removed from one that exists names the batch, too, and goes when
that is settled.

There is one batch at a time in a repository that exists. Nothing of such a repository is collected meanwhile; a batch
that somebody deletes something from under is *overtaken*: it is not revealed, and begun anew. One that has run out or
was overtaken is *abandoned*, some of its rows at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog import deletions, manifests, stageddeletions, stagedtags
from ocistore.catalog.gc import Membership
from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("batches")

UNLINKED_AT_ONCE: Final = 50
"""Manifests of an abandoned batch that are taken out of a repository in one transaction; each takes 100 µs."""

NAMED_AT_ONCE: Final = 500
"""New repositories from which on it is noted after the commit that reveals them that they are no longer a batch's."""


class Staged(NamedTuple):
    """A repository of a batch."""

    repository_id: int
    name: str
    """What it is called, or is to be called."""
    is_hidden: bool
    """It was made for the batch, and has no name yet."""


class Batch(NamedTuple):
    """The row of one."""

    id: int
    expires: int
    revealed: bool


# --- writing one ------------------------------------------------------------------------------------------------------


def start(connection: Connection, batch: int, *, expires: int) -> None:
    """Store a new batch, whose id nobody else has."""
    connection.execute(_sql.START, {"id": batch, "expires": expires, "revealed": None})


def renew(connection: Connection, batch: int, *, now: int, expires: int) -> bool:
    """Let it last until ``expires``. False where it has run out, was overtaken, or is gone."""
    return connection.execute(_sql.RENEW, {"batch": batch, "now": now, "until": expires}).rowcount == 1


def make(connection: Connection, batch: int, name: str, *, now: int) -> int:
    """Make a hidden repository that is to have that name. Returns its id."""
    made: int = connection.execute(_sql.MAKE, {"name": None, "created": now}).scalar()
    occupy(connection, batch, made, name)
    return made


def occupy(connection: Connection, batch: int, repository_id: int, name: str) -> None:
    """Note that rows of a repository are going to name the batch. It must have no :func:`occupant`."""
    connection.execute(_sql.NOTE, {"repository_id": repository_id, "batch_id": batch, "name": name})


def occupant(connection: Connection, repository_id: int) -> Batch | None:
    """Return the batch that rows of a repository may name."""
    row = connection.execute(_sql.OCCUPANT, {"repository": repository_id}).first()
    return None if row is None else Batch(row[0], row[1], bool(row[2]))


def overtake(connection: Connection, repository_id: int) -> None:
    """Let no batch of a repository be revealed that is not: something that it may rely on is being deleted."""
    connection.execute(_sql.OVERTAKE, {"repository": repository_id})


def is_taken(connection: Connection, batch: int) -> bool:
    """Whether a name that it is to give is somebody's by now."""
    return connection.execute(_sql.TAKEN, {"batch": batch}).first() is not None


def reveal(connection: Connection, batch: int, *, now: int) -> bool:
    """Let everybody see what is in it, from the commit of this transaction on.

    Returns:
        Whether it has something to be settled. It has run out by ``now``, so that gc settles them, too.
    """
    this = {"batch": batch}
    staged = [Staged(*row) for row in connection.execute(_sql.SOME_OF_BATCH, this | {"limit": NAMED_AT_ONCE})]
    connection.execute(_sql.CALL, this)
    if len(staged) < NAMED_AT_ONCE and all(each.is_hidden for each in staged):
        connection.execute(_sql.FORGET_SOME_STAGED, this | {"limit": NAMED_AT_ONCE})
        connection.execute(_sql.DELETE, this)
        return False
    connection.execute(_sql.REVEAL, {"batch": batch, "now": now})
    return True


# --- ending one -------------------------------------------------------------------------------------------------------


def expired(connection: Connection, *, now: int) -> Batch | None:
    """Return a batch that is to be ended: it is revealed, or has run out, because whoever wrote it is dead."""
    row = connection.execute(_sql.EXPIRED, {"now": now}).first()
    return None if row is None else Batch(row[0], row[1], bool(row[2]))


def end(connection: Connection, batch: Batch, *, now: int, limit: int) -> bool:
    """Settle or abandon up to ``limit`` of its rows. Idempotent, and nothing that is seen changes.

    Returns:
        Whether it is gone.
    """
    if batch.revealed:
        return _settle(connection, batch, now=now, limit=limit)
    return _abandon(connection, batch.id, now=now, limit=limit)


def _settle(connection: Connection, revealed: Batch, *, now: int, limit: int) -> bool:
    batch, since = revealed.id, revealed.expires
    left = limit
    for repository_id, names in stagedtags.some_of_batch(connection, batch, limit=limit).items():
        stagedtags.settle(connection, repository_id, names, now=now)
        left -= len(names)
    if left and stageddeletions.settle_manifests(
        connection, batch, now=now, since=since, limit=min(left, UNLINKED_AT_ONCE), referrers=limit
    ):
        return False
    if left:
        left -= stageddeletions.settle_blobs(connection, batch, since=since, limit=left)
    for some, settle in ((_sql.SOME_MANIFESTS, _sql.SETTLE_MANIFESTS), (_sql.SOME_BLOBS, _sql.SETTLE_BLOBS)):
        rows = list(connection.execute(some, {"batch": batch, "limit": left})) if left else []
        if rows:
            connection.execute(settle, {"rows": bound(rows)})
        left -= len(rows)
    if left < limit or connection.execute(_sql.FORGET_SOME_STAGED, {"batch": batch, "limit": limit}).rowcount == limit:
        return False
    connection.execute(_sql.DELETE, {"batch": batch})
    return True


def _abandon(connection: Connection, batch: int, *, now: int, limit: int) -> bool:
    stagedtags.overtake(connection, batch)  # whatever the clock of its owner says
    if connection.execute(_sql.IS_REVEALED, {"batch": batch}).first() is not None:
        return True
    left = limit
    for repository_id, names in stagedtags.some_of_batch(connection, batch, limit=limit).items():
        stagedtags.restore(connection, repository_id, names)
        left -= len(names)
    if left:
        left -= stageddeletions.restore(connection, batch, limit=left)
    if left:
        rows = list(connection.execute(_sql.SOME_MANIFESTS, {"batch": batch, "limit": min(left, UNLINKED_AT_ONCE)}))
        for repository_id, manifest_id in rows:
            manifests.remove_membership(connection, repository_id, manifest_id, now=now)
        left = 0 if rows else left
    if left:
        rows = list(connection.execute(_sql.SOME_BLOBS, {"batch": batch, "limit": left}))
        deletions.remove_blob_memberships(
            connection, [Membership(repository_id, blob_id, now) for repository_id, blob_id in rows]
        )
        left -= len(rows)
    for row in list(connection.execute(_sql.SOME_OF_BATCH, {"batch": batch, "limit": limit})):
        if left <= 0:
            return False
        staged = Staged(*row)
        left -= drop_events(connection, batch, staged.name, limit=left)
        if left <= 0:
            return False
        _discard(connection, staged, now=now)
        left -= 1
    if left == limit:
        connection.execute(_sql.DELETE, {"batch": batch})
    return left == limit


def drop_events(connection: Connection, batch: int, name: str, *, limit: int) -> int:
    """Forget up to ``limit`` events of a batch that is not revealed, in the repository of that name.

    Returns:
        How many.
    """
    events = connection.execute(_sql.SOME_EVENTS, {"batch": batch, "name": name, "limit": limit}).scalars()
    connection.execute(_sql.DROP_THESE_EVENTS, {"ids": bound(events)})
    return len(events)


def vacate(connection: Connection, repository_id: int, name: str | None, *, limit: int) -> bool:
    """Forget that a batch had rows in a deleted repository, which has no more of them, and up to ``limit`` events.

    Returns:
        Whether no batch knows of it.
    """
    batch = occupant(connection, repository_id)
    if batch is None:
        return True
    if not batch.revealed and name is not None and drop_events(connection, batch.id, name, limit=limit) == limit:
        return False
    connection.execute(_sql.FORGET_STAGED, {"staged": repository_id})
    return True


def _discard(connection: Connection, staged: Staged, *, now: int) -> None:
    """Forget that a repository is one of a batch; a hidden one is emptied: nobody has seen it, so without events."""
    connection.execute(_sql.FORGET_STAGED, {"staged": staged.repository_id})
    if (
        staged.is_hidden
        and connection.execute(_sql.BEING_EMPTIED, {"repository": staged.repository_id}).first() is None
    ):
        note = {"repository_id": staged.repository_id, "name": None, "deleted": now, "actor": "", "next_event": None}
        connection.execute(_sql.TO_BE_EMPTIED, note)
