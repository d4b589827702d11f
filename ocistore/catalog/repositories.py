"""Statements about repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, literal_column, null, select, tuple_, update

from ocistore.catalog import batches, tables
from ocistore.catalog.expressions import array, bound, in_order, member, upsert
from ocistore.catalog.staged import target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import BindParameter, Delete, Select, Table

    from ocistore.catalog.connection import Connection

EMPTIED_AT_ONCE: Final = 1000
"""Rows of a deleted repository that go in one transaction; each takes 5 to 15 µs, in which a push waits."""

_t = tables.repositories
_deleted = tables.deleted_repositories
_blobs, _tags, _events = tables.blobs, tables.tags, tables.tag_events
_uploads, _kept = tables.uploads, tables.lease_blobs
_repository_blobs, _repository_manifests = tables.repository_blobs, tables.repository_manifests

_find = select(_t.c.id).where(_t.c.name == bindparam("name"))
_name_of = select(_t.c.name).where(_t.c.id == bindparam("repository"))
_insert = insert(_t).returning(_t.c.id)
_page = (
    select(_t.c.name)
    .where(_t.c.name > bindparam("after"), _t.c.name >= bindparam("prefix"), _t.c.name < bindparam("beyond"))
    .order_by(_t.c.name)
    .limit(bindparam("limit"))
)


def beyond(prefix: str) -> str:
    """Return a string behind everything that starts with ``prefix``: names are ASCII, and compared byte by byte."""
    return prefix + "\x7f"


def find(connection: Connection, name: str) -> int | None:
    """Return the id of the repository, or None."""
    found: int | None = connection.execute(_find, {"name": name}).scalar()
    return found


def name_of(connection: Connection, repository_id: int) -> str | None:
    """Return the name of the repository of that id, which must exist; None where it is deleted."""
    found: str | None = connection.execute(_name_of, {"repository": repository_id}).scalar()
    return found


def ensure(connection: Connection, name: str, *, now: int) -> int:
    """Return the id of the repository, made if need be."""
    found = find(connection, name)
    return make(connection, name, now=now) if found is None else found


def make(connection: Connection, name: str, *, now: int) -> int:
    """Make a repository of that name, which there is not. Returns its id."""
    created: int = connection.execute(_insert, {"name": name, "created": now}).scalar()
    return created


def page(connection: Connection, *, prefix: str, after: str, limit: int) -> list[str]:
    """Return up to ``limit`` names behind ``after``, in byte order."""
    parameters = {"prefix": prefix, "beyond": beyond(prefix), "after": after, "limit": limit}
    return connection.execute(_page, parameters).scalars()


# --- deleting ---------------------------------------------------------------------------------------------------------

_this: BindParameter[int] = bindparam("in_repository")
_hide = update(_t).where(_t.c.id == _this).values(name=null())
_note_deleted = insert(_deleted)
_last_tag = (
    select(func.count(), func.max(_tags.c.name)).where(_tags.c.repository_id == _this, target(_tags).is_not(None))
)
_target = (
    select(_blobs.c.digest)
    .select_from(in_order(_tags, (_blobs, _blobs.c.id == target(_tags))))
    .where(_tags.c.repository_id == _this, _tags.c.name == bindparam("tag"))
)
_newest_event = select(func.coalesce(func.max(_events.c.id), 0))
_record = insert(_events)
_record_numbered = insert(_events)
_record_again = upsert(_events).on_conflict_do_nothing(index_elements=["id"])  # that of the last tag is there already
_reserve = update(_deleted).where(_deleted.c.repository_id == _this).values(next_event=bindparam("event"))
_find_deleted = select(
    _deleted.c.repository_id, _deleted.c.name, _deleted.c.deleted, _deleted.c.actor, _deleted.c.next_event
)
_this_deleted = _find_deleted.where(_deleted.c.repository_id == _this)
_next_deleted = _find_deleted.order_by(_deleted.c.repository_id).limit(literal_column("1"))
_seen = select(_blobs.c.digest).where(_blobs.c.id == target(_tags)).scalar_subquery()
_some_tags = (
    select(_tags.c.name, _seen)
    .where(_tags.c.repository_id == _this)
    .order_by(_tags.c.name)
    .limit(bindparam("limit"))
)
_drop_tags = delete(_tags).where(_tags.c.repository_id == _this, _tags.c.name <= bindparam("last"))
_some_uploads = select(_uploads.c.id).where(_uploads.c.repository_id == _this).limit(bindparam("limit"))
_names = array("names")
_drop_uploads = delete(_uploads).where(_uploads.c.id.in_(select(_names.c.value)))
_rows = array("rows")


def _pages(table: Table) -> tuple[Select[Any], Delete]:
    """Return statements that read the keys of up to ``limit`` rows of a repository, and delete them."""
    key = [column for column in table.primary_key.columns if column.name != "repository_id"]
    some = select(*key).where(table.c.repository_id == _this).limit(bindparam("limit"))
    these = select(*(member(_rows, position) for position in range(len(key))))
    return some, delete(table).where(
        table.c.repository_id == _this, tuple_(*key).in_(these) if len(key) > 1 else key[0].in_(these)
    )


_some_leased, _drop_leased = _pages(_kept)
_some_edges, _drop_edges = _pages(tables.repository_edges)
_some_blobs, _drop_blobs = _pages(_repository_blobs)
_some_manifests, _drop_manifests = _pages(_repository_manifests)
_PARTS: Final = (
    (_some_leased, _drop_leased, False),
    (_some_edges, _drop_edges, False),
    (_some_blobs, _drop_blobs, True),
    (_some_manifests, _drop_manifests, True),  # after tags, which refer to them
)
"""In their order: what reads some, what deletes these, and whether they are what the repository serves."""
_queue_blobs = (
    update(_blobs)
    .where(_blobs.c.id.in_(select(member(_rows, 0))))
    .values(unreferenced_since=bindparam("now"))
)
_delete_note = delete(_deleted).where(_deleted.c.repository_id == _this)
_delete = delete(_t).where(_t.c.id == _this)


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
    connection.execute(_hide, here)
    note = {"repository_id": repository_id, "name": name, "deleted": now, "actor": actor, "next_event": None}
    connection.execute(_note_deleted, note)
    [(count, last)] = connection.execute(_last_tag, here)
    if count > EMPTIED_AT_ONCE:
        # Ids are given in their order and none is given twice as long as the one before it is taken: so the event of
        # the last tag keeps those of the others free.
        first = connection.execute(_newest_event).scalar() + 1
        old = connection.execute(_target, here | {"tag": last}).scalar()
        event = {"id": first + count - 1, "repository": name, "tag": last, "old_digest": old, "new_digest": None}
        connection.execute(_record_numbered, event | {"at": now, "actor": actor})
        connection.execute(_reserve, here | {"event": first})


def deleted(connection: Connection, repository_id: int | None = None) -> Deleted | None:
    """Return a repository that is deleted and not yet emptied: that one, or the first one; None where there is none."""
    if repository_id is None:
        row = connection.execute(_next_deleted).first()
    else:
        row = connection.execute(_this_deleted, {"in_repository": repository_id}).first()
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
    sessions: list[str] = connection.execute(_some_uploads, here | {"limit": limit}).scalars()
    connection.execute(_drop_uploads, {"names": bound(sessions)})
    left = limit - len(sessions)
    for some, drop, are_served in _PARTS:
        if left and drop is _drop_manifests:
            tags = list(connection.execute(_some_tags, here | {"limit": left}))
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
                    connection.execute(_queue_blobs, rows | {"now": now})
            left -= len(found)
    if left:
        if not batches.vacate(connection, emptied.repository_id, emptied.name, limit=left):
            return Emptied(gone=False, sessions=sessions, waits=False)
        connection.execute(_delete_note, here)
        connection.execute(_delete, here)
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
        connection.execute(_record, [event | {"tag": tag, "old_digest": old} for tag, old in seen])
    else:
        numbered = [
            event | {"id": number, "tag": tag, "old_digest": old}
            for number, (tag, old) in enumerate(seen, emptied.next_event)
        ]
        connection.execute(_record_again, numbered)
        connection.execute(_reserve, here | {"event": emptied.next_event + len(seen)})
    connection.execute(_drop_tags, here | {"last": found[-1][0]})


def empty_whole(connection: Connection, repository_id: int, *, now: int) -> None:
    """Delete all rows of a deleted repository at once, where nobody waits."""
    while (emptied := deleted(connection, repository_id)) is not None:
        empty(connection, emptied, now=now, limit=EMPTIED_AT_ONCE)
