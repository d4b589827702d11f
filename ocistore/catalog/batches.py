"""Statements about batches: large changes that are written in many transactions, and revealed by one small one.

What is for a repository that does not exist goes into a hidden one, without a name, which is given its name in the end.
What is for one that exists goes among its rows, each of which names the batch, and is hidden as long as that is not
revealed (see ``staged.py``); afterwards the rows are *settled*, some at a time: they are made ones without a batch.
Events of a batch are hidden likewise. What is removed from one that exists names the batch, too, and goes when that is
settled.

There is one batch at a time in a repository that exists. Nothing of such a repository is collected meanwhile; a batch
that somebody deletes something from under is *overtaken*: it is not revealed, and begun anew. One that has run out or
was overtaken is *abandoned*, some of its rows at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, insert, literal, literal_column, null, select, tuple_, update

from ocistore.catalog import deletions, manifests, stageddeletions, stagedtags, tables
from ocistore.catalog.expressions import array, bound, in_order, member
from ocistore.catalog.gc import Membership

if TYPE_CHECKING:
    from sqlalchemy import Select

    from ocistore.catalog.connection import Connection

UNLINKED_AT_ONCE: Final = 50
"""Manifests of an abandoned batch that are taken out of a repository in one transaction; each takes 100 µs."""

NAMED_AT_ONCE: Final = 500
"""New repositories from which on it is noted after the commit that reveals them that they are no longer a batch's."""

_t = tables.batches
_staged = tables.staged_repositories
_repositories, _deleted, _events = tables.repositories, tables.deleted_repositories, tables.tag_events
_blob_members, _manifest_members = tables.repository_blobs, tables.repository_manifests


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


_start = insert(_t)
_renew = (
    update(_t).where(_t.c.id == bindparam("batch"), _t.c.expires > bindparam("now")).values(expires=bindparam("until"))
)
_batch = (_t.c.id, _t.c.expires, _t.c.revealed)
_expired = select(*_batch).where(_t.c.expires <= bindparam("now")).order_by(_t.c.expires).limit(literal_column("1"))
_make = insert(_repositories).returning(_repositories.c.id)
_note = insert(_staged)
_occupant = (
    select(*_batch)
    .select_from(in_order(_staged, (_t, _t.c.id == _staged.c.batch_id)))
    .where(_staged.c.repository_id == bindparam("repository"))
)
_overtake = (
    update(_t)
    .where(
        _t.c.id.in_(select(_staged.c.batch_id).where(_staged.c.repository_id == bindparam("repository"))),
        _t.c.revealed.is_(None),
    )
    .values(expires=literal(0))
)
_taken: Select[Any] = (
    select(literal_column("1"))
    .select_from(in_order(_staged, (_repositories, _repositories.c.name == _staged.c.name)))
    .where(_staged.c.batch_id == bindparam("batch"), _repositories.c.id != _staged.c.repository_id)
    .limit(literal_column("1"))
)
_of_batch = (
    select(_staged.c.repository_id, _staged.c.name, _repositories.c.name.is_(None))
    .select_from(in_order(_staged, (_repositories, _repositories.c.id == _staged.c.repository_id)))
    .where(_staged.c.batch_id == bindparam("batch"))
)
_some_of_batch = _of_batch.limit(bindparam("limit"))
_being_emptied = select(_deleted.c.repository_id).where(_deleted.c.repository_id == bindparam("repository"))
_call = (
    update(_repositories)
    .where(
        _repositories.c.id.in_(select(_staged.c.repository_id).where(_staged.c.batch_id == bindparam("batch"))),
        _repositories.c.name.is_(None),
    )
    .values(name=select(_staged.c.name).where(_staged.c.repository_id == _repositories.c.id).scalar_subquery())
)
_forget_staged = delete(_staged).where(_staged.c.repository_id == bindparam("staged"))
_some = _staged.alias("some")
_forget_some_staged = delete(_staged).where(
    _staged.c.repository_id.in_(
        select(_some.c.repository_id).where(_some.c.batch_id == bindparam("batch")).limit(bindparam("limit"))
    )
)
_reveal = update(_t).where(_t.c.id == bindparam("batch")).values(revealed=literal(1), expires=bindparam("now"))
_is_revealed = select(_t.c.id).where(_t.c.id == bindparam("batch"), _t.c.revealed.is_not(None))
_delete = delete(_t).where(_t.c.id == bindparam("batch"))
_to_be_emptied = insert(_deleted)
_some_events = (
    select(_events.c.id)
    .where(_events.c.repository == bindparam("name"), _events.c.batch == bindparam("batch"))
    .limit(bindparam("limit"))
)
_ids = array("ids")
_drop_these_events = delete(_events).where(_events.c.id.in_(select(_ids.c.value)))


def _members(table: Any, key: Any) -> tuple[Any, Any]:  # noqa: ANN401 - a table of memberships, and its column
    """Return statements that find some rows of a batch, and settle rows."""
    rows = array("rows")
    some = (
        select(table.c.repository_id, key)
        .where(table.c.batch == bindparam("batch"))
        .order_by(table.c.repository_id, key)
        .limit(bindparam("limit"))
    )
    these = tuple_(table.c.repository_id, key).in_(select(member(rows, 0), member(rows, 1)))
    return some, update(table).where(these).values(batch=null())


_some_manifests, _settle_manifests = _members(_manifest_members, _manifest_members.c.manifest_id)
_some_blobs, _settle_blobs = _members(_blob_members, _blob_members.c.blob_id)


# --- writing one ------------------------------------------------------------------------------------------------------


def start(connection: Connection, batch: int, *, expires: int) -> None:
    """Store a new batch, whose id nobody else has."""
    connection.execute(_start, {"id": batch, "expires": expires, "revealed": None})


def renew(connection: Connection, batch: int, *, now: int, expires: int) -> bool:
    """Let it last until ``expires``. False where it has run out, was overtaken, or is gone."""
    return connection.execute(_renew, {"batch": batch, "now": now, "until": expires}).rowcount == 1


def make(connection: Connection, batch: int, name: str, *, now: int) -> int:
    """Make a hidden repository that is to have that name. Returns its id."""
    made: int = connection.execute(_make, {"name": None, "created": now}).scalar()
    occupy(connection, batch, made, name)
    return made


def occupy(connection: Connection, batch: int, repository_id: int, name: str) -> None:
    """Note that rows of a repository are going to name the batch. It must have no :func:`occupant`."""
    connection.execute(_note, {"repository_id": repository_id, "batch_id": batch, "name": name})


def occupant(connection: Connection, repository_id: int) -> Batch | None:
    """Return the batch that rows of a repository may name."""
    row = connection.execute(_occupant, {"repository": repository_id}).first()
    return None if row is None else Batch(row[0], row[1], bool(row[2]))


def overtake(connection: Connection, repository_id: int) -> None:
    """Let no batch of a repository be revealed that is not: something that it may rely on is being deleted."""
    connection.execute(_overtake, {"repository": repository_id})


def is_taken(connection: Connection, batch: int) -> bool:
    """Whether a name that it is to give is somebody's by now."""
    return connection.execute(_taken, {"batch": batch}).first() is not None


def reveal(connection: Connection, batch: int, *, now: int) -> bool:
    """Let everybody see what is in it, from the commit of this transaction on.

    Returns:
        Whether it has something to be settled. It has run out by ``now``, so that gc settles them, too.
    """
    this = {"batch": batch}
    staged = [Staged(*row) for row in connection.execute(_some_of_batch, this | {"limit": NAMED_AT_ONCE})]
    connection.execute(_call, this)
    if len(staged) < NAMED_AT_ONCE and all(each.is_hidden for each in staged):
        connection.execute(_forget_some_staged, this | {"limit": NAMED_AT_ONCE})
        connection.execute(_delete, this)
        return False
    connection.execute(_reveal, {"batch": batch, "now": now})
    return True


# --- ending one -------------------------------------------------------------------------------------------------------


def expired(connection: Connection, *, now: int) -> Batch | None:
    """Return a batch that is to be ended: it is revealed, or has run out, because whoever wrote it is dead."""
    row = connection.execute(_expired, {"now": now}).first()
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
    for some, settle in ((_some_manifests, _settle_manifests), (_some_blobs, _settle_blobs)):
        rows = list(connection.execute(some, {"batch": batch, "limit": left})) if left else []
        if rows:
            connection.execute(settle, {"rows": bound(rows)})
        left -= len(rows)
    if left < limit or connection.execute(_forget_some_staged, {"batch": batch, "limit": limit}).rowcount == limit:
        return False
    connection.execute(_delete, {"batch": batch})
    return True


def _abandon(connection: Connection, batch: int, *, now: int, limit: int) -> bool:
    stagedtags.overtake(connection, batch)  # whatever the clock of its owner says
    if connection.execute(_is_revealed, {"batch": batch}).first() is not None:
        return True
    left = limit
    for repository_id, names in stagedtags.some_of_batch(connection, batch, limit=limit).items():
        stagedtags.restore(connection, repository_id, names)
        left -= len(names)
    if left:
        left -= stageddeletions.restore(connection, batch, limit=left)
    if left:
        rows = list(connection.execute(_some_manifests, {"batch": batch, "limit": min(left, UNLINKED_AT_ONCE)}))
        for repository_id, manifest_id in rows:
            manifests.remove_membership(connection, repository_id, manifest_id, now=now)
        left = 0 if rows else left
    if left:
        rows = list(connection.execute(_some_blobs, {"batch": batch, "limit": left}))
        deletions.remove_blob_memberships(
            connection, [Membership(repository_id, blob_id, now) for repository_id, blob_id in rows]
        )
        left -= len(rows)
    for row in list(connection.execute(_some_of_batch, {"batch": batch, "limit": limit})):
        if left <= 0:
            return False
        staged = Staged(*row)
        left -= drop_events(connection, batch, staged.name, limit=left)
        if left <= 0:
            return False
        _discard(connection, staged, now=now)
        left -= 1
    if left == limit:
        connection.execute(_delete, {"batch": batch})
    return left == limit


def drop_events(connection: Connection, batch: int, name: str, *, limit: int) -> int:
    """Forget up to ``limit`` events of a batch that is not revealed, in the repository of that name.

    Returns:
        How many.
    """
    events = connection.execute(_some_events, {"batch": batch, "name": name, "limit": limit}).scalars()
    connection.execute(_drop_these_events, {"ids": bound(events)})
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
    connection.execute(_forget_staged, {"staged": repository_id})
    return True


def _discard(connection: Connection, staged: Staged, *, now: int) -> None:
    """Forget that a repository is one of a batch; a hidden one is emptied: nobody has seen it, so without events."""
    connection.execute(_forget_staged, {"staged": staged.repository_id})
    if staged.is_hidden and connection.execute(_being_emptied, {"repository": staged.repository_id}).first() is None:
        note = {"repository_id": staged.repository_id, "name": None, "deleted": now, "actor": "", "next_event": None}
        connection.execute(_to_be_emptied, note)
