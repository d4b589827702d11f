"""Statements about batches: large changes that are written into hidden repositories first, and revealed by one commit.

A repository without a name is seen by nobody, and what is in it is not collected while its batch is there. Where the
name that it is to have is free, it is given that name; otherwise what it holds is given to the repository of that name.
Events of a batch are hidden as long as its row is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, literal, literal_column, or_, select, true, update
from sqlalchemy.dialects.sqlite import insert as upsert

from ocistore.catalog import tables
from ocistore.catalog.arrays import array, bound
from ocistore.catalog.presence import present

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Column, ColumnElement, Select, Table
    from sqlalchemy.sql.dml import UpdateBase

    from ocistore.catalog.connection import Connection

_t = tables.batches
_staged = tables.staged_repositories
_repositories, _deleted = tables.repositories, tables.deleted_repositories
_blobs, _events, _tags, _kept = tables.blobs, tables.tag_events, tables.tags, tables.lease_blobs
_blob_members, _manifest_members = tables.repository_blobs, tables.repository_manifests
_own_edges = tables.repository_edges


def visible(events: Table) -> ColumnElement[bool]:
    """Whether an event is one that has happened."""
    return or_(events.c.batch.is_(None), events.c.batch.not_in(select(_t.c.id)))


class Staged(NamedTuple):
    """A hidden repository of a batch."""

    repository_id: int
    name: str
    """What it is to be called, or is called the one that is given what it holds."""


_start = insert(_t)
_renew = (
    update(_t).where(_t.c.id == bindparam("batch"), _t.c.expires > bindparam("now")).values(expires=bindparam("until"))
)
_expired = select(_t.c.id).where(_t.c.expires <= bindparam("now")).order_by(_t.c.expires).limit(literal_column("1"))
_make = insert(_repositories).returning(_repositories.c.id)
_note = insert(_staged)
_of_batch = select(_staged.c.repository_id, _staged.c.name).where(_staged.c.batch_id == bindparam("batch"))
_some_of_batch = _of_batch.limit(bindparam("limit"))
_digests = array("digests")
_wanted = select(_blobs.c.id).join_from(_digests, _blobs, _blobs.c.digest == _digests.c.value)
_to = bindparam("to", type_=_repositories.c.id.type)
_source: ColumnElement[int] = bindparam("source", type_=_repositories.c.id.type)
_MEMBERS: Final = (
    (_blob_members, _blob_members.c.blob_id, _blob_members.c.linked_at),
    (_manifest_members, _manifest_members.c.manifest_id, _manifest_members.c.pushed_at),
)
_ADOPTED: Final = -1
"""Since when a hidden repository has what it only has because the one of its name does."""

_adopt = tuple(
    upsert(table)
    .from_select(
        ["repository_id", chosen.name, since.name, "collect_after"],
        select(_to, chosen, literal(_ADOPTED), table.c.collect_after).where(
            table.c.repository_id == _source, chosen.in_(_wanted)
        ),
    )
    .on_conflict_do_nothing()
    for table, chosen, since in _MEMBERS
)


def _lost(table: Table, key: Column[int], since: Column[int]) -> Select[Any]:
    """A row that the hidden repository ``source`` adopted and that ``to`` does not have any more."""
    there = table.alias("there")
    return (
        select(key)
        .where(
            table.c.repository_id == _source,
            since == literal(_ADOPTED),
            ~present(there.c.repository_id == _to, there.c[key.name] == key),
        )
        .limit(literal_column("1"))
    )


_losses = tuple(_lost(*of) for of in _MEMBERS)
_call = update(_repositories).where(_repositories.c.id == bindparam("staged")).values(name=bindparam("called"))
_taken = (
    select(_staged.c.repository_id, _staged.c.name, _repositories.c.id)
    .join_from(_staged, _repositories, _repositories.c.name == _staged.c.name)
    .where(_staged.c.batch_id == bindparam("batch"))
)
_forget_staged = delete(_staged).where(_staged.c.repository_id == bindparam("staged"))
_forget_all_staged = delete(_staged).where(_staged.c.batch_id == bindparam("batch"))
_delete = delete(_t).where(_t.c.id == bindparam("batch"))
_to_be_emptied = insert(_deleted)


def _given(
    table: Table, *updated: str, own: ColumnElement[bool] | None = None, kept: Column[str] | None = None
) -> UpdateBase:
    """A statement that gives all rows of the staged repository to another one."""
    given = upsert(table).from_select(
        [column.name for column in table.columns],
        select(*(_to if column.name == "repository_id" else column for column in table.columns))
        .where(table.c.repository_id == _source, true() if own is None else own)
        .order_by(*(column for column in table.primary_key.columns if column.name != "repository_id")),
    )
    key = [column.name for column in table.primary_key.columns]
    if not updated:
        return given.on_conflict_do_nothing(index_elements=key)
    return given.on_conflict_do_update(
        index_elements=key,
        set_={name: given.excluded[name] for name in updated}
        | ({} if kept is None else {kept.name: func.coalesce(given.excluded[kept.name], kept)}),
        # As a push of the same has it: what a manifest refers to stays out of the queue.
        where=table.c.collect_after.is_not(None) if table is _blob_members else true(),
    )


_give = (
    _given(_blob_members, "collect_after", own=_blob_members.c.linked_at != literal(_ADOPTED)),
    _given(
        _manifest_members,
        "collect_after",
        "pushed_at",
        "incomplete",
        own=_manifest_members.c.pushed_at != literal(_ADOPTED),
        kept=_manifest_members.c.entry,
    ),
    _given(_own_edges),
    _given(_kept),
)
_give_tags = _given(_tags)
_there = _tags.alias("there")
_both_have = (
    select(_tags.c.name, _tags.c.manifest_id, _blobs.c.digest, _tags.c.entry)
    .join_from(_tags, _blobs, _blobs.c.id == _tags.c.manifest_id)
    .where(
        _tags.c.repository_id == _source,
        present(_there.c.repository_id == _to, _there.c.name == _tags.c.name),
    )
    .order_by(_tags.c.name)
)
_names = array("names")
_drop_events = delete(_events).where(
    _events.c.repository == bindparam("name"),
    _events.c.tag.in_(select(_names.c.value)),
    _events.c.batch == bindparam("batch"),
)
_some_events = (
    select(_events.c.id)
    .where(_events.c.repository == bindparam("name"), _events.c.batch == bindparam("batch"))
    .limit(bindparam("limit"))
)
_ids = array("ids")
_drop_these_events = delete(_events).where(_events.c.id.in_(select(_ids.c.value)))


def start(connection: Connection, batch: int, *, expires: int) -> None:
    """Store a new batch, whose id nobody else has."""
    connection.execute(_start, {"id": batch, "expires": expires})


def renew(connection: Connection, batch: int, *, now: int, expires: int) -> bool:
    """Let it last until ``expires``. False where it has run out, or is gone."""
    return connection.execute(_renew, {"batch": batch, "now": now, "until": expires}).rowcount == 1


def make(connection: Connection, batch: int, name: str, *, now: int) -> int:
    """Make a hidden repository for what is to be in the one of that name. Returns its id."""
    made: int = connection.execute(_make, {"name": None, "created": now}).scalar()
    connection.execute(_note, {"repository_id": made, "batch_id": batch, "name": name})
    return made


def adopt(connection: Connection, source: int, to: int, digests: Iterable[str]) -> None:
    """Let a hidden repository serve what another one serves of these digests, as long as that does."""
    for statement in _adopt:
        connection.execute(statement, {"source": source, "to": to, "digests": bound(digests)})


def has_lost(connection: Connection, staged: int, to: int | None) -> bool:
    """Whether a hidden repository adopted something that the one of its name, if there is one, does not have now."""
    parameters = {"source": staged, "to": -1 if to is None else to}
    return any(connection.execute(statement, parameters).first() is not None for statement in _losses)


def taken(connection: Connection, batch: int) -> list[tuple[Staged, int]]:
    """The hidden repositories of a batch whose name another one has by now, with its id."""
    rows = connection.execute(_taken, {"batch": batch})
    return [(Staged(repository_id, name), other) for repository_id, name, other in rows]


def give(connection: Connection, staged: Staged, to: int) -> None:
    """Give what a hidden repository serves to another one, which then serves it too; but for its tags."""
    for statement in _give:
        connection.execute(statement, {"source": staged.repository_id, "to": to})


def tags_of_both(connection: Connection, staged: Staged, to: int) -> list[tuple[str, int, str, str | None]]:
    """The tags of a hidden repository that another one has too: name, manifest, its digest and what was said of it."""
    return list(connection.execute(_both_have, {"source": staged.repository_id, "to": to}))


def drop_events(connection: Connection, batch: int, name: str, names: Sequence[str]) -> None:
    """Forget the hidden events of these tags."""
    connection.execute(_drop_events, {"batch": batch, "name": name, "names": bound(names)})


def give_tags(connection: Connection, staged: Staged, to: int) -> None:
    """Give those tags of a hidden repository to another one that it does not have."""
    connection.execute(_give_tags, {"source": staged.repository_id, "to": to})


def discard(connection: Connection, staged: Staged, *, now: int) -> None:
    """Let a hidden repository be emptied: nobody has ever seen it, so its tags leave no events."""
    connection.execute(_forget_staged, {"staged": staged.repository_id})
    note = {"repository_id": staged.repository_id, "name": None, "deleted": now, "actor": "", "next_event": None}
    connection.execute(_to_be_emptied, note)


def reveal(connection: Connection, batch: int) -> None:
    """Give the hidden repositories that are left the names they are to have, and show the events of the batch."""
    called = [
        {"staged": repository_id, "called": name}
        for repository_id, name in connection.execute(_of_batch, {"batch": batch})
    ]
    if called:
        connection.execute(_call, called)
    connection.execute(_forget_all_staged, {"batch": batch})
    connection.execute(_delete, {"batch": batch})


def expired(connection: Connection, *, now: int) -> int | None:
    """A batch that has run out: whoever wrote it is dead."""
    found: int | None = connection.execute(_expired, {"now": now}).scalar()
    return found


def abandon(connection: Connection, batch: int, *, now: int, limit: int) -> bool:
    """Forget up to ``limit`` events of a batch, and let its repositories be emptied.

    Returns:
        Whether the batch is gone.
    """
    left = limit
    for row in list(connection.execute(_some_of_batch, {"batch": batch, "limit": limit})):
        staged = Staged(*row)
        events = connection.execute(_some_events, {"batch": batch, "name": staged.name, "limit": left}).scalars()
        connection.execute(_drop_these_events, {"ids": bound(events)})
        left -= len(events) + 1
        if left <= 0:
            return False
        discard(connection, staged, now=now)
    if left == limit:
        connection.execute(_delete, {"batch": batch})
    return left == limit
