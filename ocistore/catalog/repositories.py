"""Reading and changing repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ocistore.catalog import batches
from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocistore.catalog.connection import Connection

_sql = Statements("repositories")

EMPTIED_AT_ONCE: Final = 1000
"""Rows of a deleted repository that go in one transaction; each takes 5 to 15 µs, in which a push waits."""


def beyond(prefix: str) -> str:
    """Return a string after everything that starts with ``prefix``: names are ASCII, and compared byte by byte."""
    return prefix + "\x7f"


def find(connection: Connection, name: str) -> int | None:
    """Return the id of the repository, or None."""
    found: int | None = connection.execute(_sql.FIND, {"name": name}).scalar()
    return found


def name_of(connection: Connection, repository_id: int) -> str | None:
    """Return the name of the repository of that id, which must exist; None where it is deleted."""
    found: str | None = connection.execute(_sql.NAME_OF, {"repository": repository_id}).scalar()
    return found


def ensure(connection: Connection, name: str, *, now: int) -> int:
    """Return the id of the repository, made if need be."""
    found = find(connection, name)
    return make(connection, name, now=now) if found is None else found


def make(connection: Connection, name: str, *, now: int) -> int:
    """Make a repository of that name, which there is not. Returns its id."""
    created: int = connection.execute(_sql.INSERT, {"name": name, "created": now}).scalar()
    return created


def page(connection: Connection, *, prefix: str, after: str, limit: int) -> list[str]:
    """Return up to ``limit`` names after ``after``, in byte order."""
    parameters = {"prefix": prefix, "beyond": beyond(prefix), "after": after, "limit": limit}
    return connection.execute(_sql.PAGE, parameters).scalars()


_FEW: Final = 1000
"""Repositories that are found by what they serve, and put into order here. Where there are more, all names are read in
their order, and each is asked whether it is one: otherwise every page would look at every one of them again."""


def holders(connection: Connection, digest: str, *, after: str, limit: int) -> list[str]:
    """Return up to ``limit`` repositories after ``after`` that serve a blob or manifest, in byte order.

    ``connection`` is of a snapshot.
    """
    few: list[str] = connection.execute(_sql.FEW_HOLDERS, {"digest": digest, "limit": _FEW + 1}).scalars()
    if len(few) <= _FEW:
        return sorted(name for name in few if name > after)[:limit]
    return connection.execute(_sql.HOLDERS, {"digest": digest, "after": after, "limit": limit}).scalars()


# --- deleting ---------------------------------------------------------------------------------------------------------


class Deleted(NamedTuple):
    """A repository that is deleted and not yet emptied."""

    repository_id: int
    name: str | None
    """None where nobody has ever seen it, so that its tags leave no events."""
    deleted: int
    actor: str
    next_event: int | None


class Emptied(NamedTuple):
    """What one transaction did to a deleted repository."""

    gone: bool
    """Nothing of it is left."""
    sessions: list[str]
    """The ids of the upload sessions that went with it, whose files are the caller's."""
    waits: bool
    """It stopped, because more tags are left than there is room for events."""


def remove(connection: Connection, repository_id: int, name: str, *, now: int, actor: str) -> None:
    """Delete the repository: nobody sees it, or anything in it, any more. What it holds goes by :func:`empty`.

    The removal of each tag is an event, and older than everything that happens from now on, whenever it is written.
    """
    here = {"in_repository": repository_id}
    connection.execute(_sql.HIDE, here)
    note = {"repository_id": repository_id, "name": name, "deleted": now, "actor": actor, "next_event": None}
    connection.execute(_sql.NOTE_DELETED, note)
    [(count, last)] = connection.execute(_sql.LAST_TAG, here)
    if count > EMPTIED_AT_ONCE:
        # Ids are given in their order and none is given twice as long as the one before it is taken: so the event of
        # the last tag keeps those of the others free.
        first = connection.execute(_sql.NEWEST_EVENT).scalar() + 1
        old = connection.execute(_sql.TARGET, here | {"tag": last}).scalar()
        event = {"id": first + count - 1, "repository": name, "tag": last, "old_digest": old, "new_digest": None}
        connection.execute(_sql.RECORD_NUMBERED, event | {"at": now, "actor": actor})
        connection.execute(_sql.RESERVE, here | {"event": first})


def deleted(connection: Connection, repository_id: int | None = None) -> Deleted | None:
    """Return a repository that is deleted and not yet emptied: that one, or the first one; None where there is none."""
    if repository_id is None:
        row = connection.execute(_sql.NEXT_DELETED).first()
    else:
        row = connection.execute(_sql.THIS_DELETED, {"in_repository": repository_id}).first()
    return None if row is None else Deleted(*row)


def empty(
    connection: Connection, emptied: Deleted, *, now: int, limit: int, may_grow: Callable[[], bool] | None = None
) -> Emptied:
    """Delete up to ``limit`` rows of a deleted repository, and at last its own.

    What keeps blobs goes first, because the events of tags take more room than the tags did, which on a full disk only
    a collection of blobs can make. These stay in the pool until it finds that nothing else refers to them.

    Args:
        connection: of a write transaction, in which :func:`deleted` gave ``emptied``.
        emptied: the repository.
        now: milliseconds since the epoch: until then its blobs were in use.
        limit: rows; each takes 5 to 10 µs.
        may_grow: tells whether there is room for what only grows, here the history; asked before more tags than
            these go.
    """
    here: dict[str, object] = {"in_repository": emptied.repository_id}
    sessions: list[str] = connection.execute(_sql.SOME_UPLOADS, here | {"limit": limit}).scalars()
    connection.execute(_sql.DROP_UPLOADS, {"names": bound(sessions)})
    left = limit - len(sessions)
    for some, drop, are_served in (
        (_sql.SOME_LEASED, _sql.DROP_LEASED, False),
        (_sql.SOME_EDGES, _sql.DROP_EDGES, False),
        (_sql.SOME_BLOBS, _sql.DROP_BLOBS, True),
        (_sql.SOME_MANIFESTS, _sql.DROP_MANIFESTS, True),  # after tags, which refer to them
    ):
        if left and drop is _sql.DROP_MANIFESTS:
            tags = list(connection.execute(_sql.SOME_TAGS, here | {"limit": left}))
            if len(tags) == left and may_grow is not None and not may_grow():
                return Emptied(gone=False, sessions=sessions, waits=True)
            _empty_tags(connection, emptied, tags)
            left -= len(tags)
        if left:
            found = list(connection.execute(some, here | {"limit": left}))
            if found:
                rows = {"rows": bound(found)}
                connection.execute(drop, here | rows)
                if are_served:
                    connection.execute(_sql.QUEUE_BLOBS, rows | {"now": now})
            left -= len(found)
    if left:
        if not batches.vacate(connection, emptied.repository_id, emptied.name, limit=left):
            return Emptied(gone=False, sessions=sessions, waits=False)
        connection.execute(_sql.DELETE_NOTE, here)
        connection.execute(_sql.DELETE, here)
    return Emptied(gone=left > 0, sessions=sessions, waits=False)


def _empty_tags(connection: Connection, emptied: Deleted, found: Sequence[Any]) -> None:
    """Delete the first tags of it."""
    here = {"in_repository": emptied.repository_id}
    if not found:
        return
    seen = [(tag, old) for tag, old in found if old is not None]
    event = {"repository": emptied.name, "new_digest": None, "at": emptied.deleted, "actor": emptied.actor}
    if emptied.name is None or not seen:
        pass
    elif emptied.next_event is None:
        connection.execute(_sql.RECORD, [event | {"tag": tag, "old_digest": old} for tag, old in seen])
    else:
        numbered = [
            event | {"id": number, "tag": tag, "old_digest": old}
            for number, (tag, old) in enumerate(seen, emptied.next_event)
        ]
        connection.execute(_sql.RECORD_AGAIN, numbered)
        connection.execute(_sql.RESERVE, here | {"event": emptied.next_event + len(seen)})
    connection.execute(_sql.DROP_TAGS, here | {"last": found[-1][0]})


def empty_whole(connection: Connection, repository_id: int, *, now: int) -> None:
    """Delete all rows of a deleted repository at once, where nobody waits."""
    while (emptied := deleted(connection, repository_id)) is not None:
        empty(connection, emptied, now=now, limit=EMPTIED_AT_ONCE)
