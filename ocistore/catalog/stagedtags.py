"""Statements about tags that a large change brings, moves or removes among those of a repository that others see.

Such a tag has what it points at now and what it points at once its batch is revealed; see ``staged.py``. Whoever moves
it meanwhile changes the former, and the event of the batch, which happens later, is written anew behind theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, bindparam, case, delete, func, insert, literal, null, select, true, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, bound, member, upsert
from ocistore.catalog.staged import NOBODY, OWN, is_hidden, named, said, target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import BindParameter

    from ocistore.catalog.connection import Connection

_t = tables.tags
_blobs = tables.blobs
_events = tables.tag_events
_members = tables.repository_manifests


class Move(NamedTuple):
    """A tag that is to point at a manifest."""

    name: str
    manifest_id: int
    digest: str
    entry: str | None = None
    """What is said of it besides; None leaves what was said of it where it points there already."""
    conditional: bool = False
    """It may move only from where it is now."""


class Target(NamedTuple):
    """What a tag points at."""

    manifest_id: int
    digest: str
    entry: str | None = None


class TagRow(NamedTuple):
    """A row of the table, be it seen or not."""

    batch: int | None
    hidden: bool
    """Its batch is not revealed."""
    next_id: int | None
    conditional: bool
    """Its batch may not be revealed once somebody else moves or removes it."""
    target: Target | None
    """What others see, or who asks sees in a batch of their own."""


_here: BindParameter[int] = bindparam("in_repository")
_names = array("names")
_these = and_(_t.c.repository_id == _here, _t.c.name.in_(select(_names.c.value)))
_seen = select(_blobs.c.digest).where(_blobs.c.id == target(_t, own=OWN)).scalar_subquery()
# As a set and not as a join: given a join, SQLite reads all tags of the repository through the index on its manifests,
# which took 100 ms of each push at 100,000 tags.
_rows = select(
    _t.c.name, _t.c.batch, is_hidden(_t), _t.c.next_id, _t.c.conditional, target(_t, own=OWN), _seen, said(_t, own=OWN)
).where(_these)
_record = insert(_events)

_moves = array("moves")
_staged = upsert(_t).from_select(
    [
        "repository_id",
        "name",
        "manifest_id",
        "updated",
        "entry",
        "batch",
        "fresh",
        "next_id",
        "next_entry",
        "conditional",
    ],
    select(
        _here,
        member(_moves, 0),
        member(_moves, 1),
        bindparam("now"),
        member(_moves, 2),
        bindparam("batch"),
        literal(1),
        member(_moves, 1),
        member(_moves, 2),
        member(_moves, 3),
    ).where(true()),
)
_stage = _staged.on_conflict_do_update(
    index_elements=["repository_id", "name"],
    set_={
        "manifest_id": case((_t.c.fresh.is_(None), _t.c.manifest_id), else_=_staged.excluded.manifest_id),
        "entry": case((_t.c.fresh.is_(None), _t.c.entry), else_=_staged.excluded.entry),
        "batch": _staged.excluded.batch,
        "next_id": _staged.excluded.next_id,
        "next_entry": _staged.excluded.next_entry,
        "conditional": func.coalesce(_staged.excluded.conditional, _t.c.conditional),
    },
)
_drop_fresh = delete(_t).where(_these, _t.c.fresh.is_not(None))
_stage_removal = (
    update(_t)
    .where(_these)
    .values(
        batch=bindparam("of_batch"),
        next_id=null(),
        next_entry=null(),
        conditional=func.coalesce(bindparam("is_conditional"), _t.c.conditional),
    )
)

_leave_to_batch = (
    update(_t)
    .where(_these, _t.c.next_id.is_not(None))
    .values(manifest_id=_t.c.next_id, entry=_t.c.next_entry, fresh=literal(1))
)
_overtake = (
    update(tables.batches)
    .where(tables.batches.c.id == bindparam("this_batch"), tables.batches.c.revealed.is_(None))
    .values(expires=literal(0))
)
_newest = (
    select(func.max(_events.c.id))
    .where(
        _events.c.repository == bindparam("repository"),
        _events.c.tag.in_(select(_names.c.value)),
        _events.c.batch == bindparam("batch"),
    )
    .group_by(_events.c.tag)
)
_hidden_events = select(_events.c.tag, _events.c.new_digest, _events.c.at, _events.c.actor).where(
    _events.c.id.in_(_newest)
)
_drop_hidden_events = delete(_events).where(
    _events.c.repository == bindparam("repository"),
    _events.c.tag.in_(select(_names.c.value)),
    _events.c.batch == bindparam("of_batch"),
)

_queue_left = (
    update(_members)
    .where(
        _members.c.repository_id == _here,
        _members.c.manifest_id.in_(
            select(_t.c.manifest_id).where(_these, _t.c.next_id.is_distinct_from(_t.c.manifest_id))
        ),
    )
    .values(unreferenced_since=bindparam("now"))
)
_settle = (
    update(_t)
    .where(_these, _t.c.next_id.is_not(None))
    .values(
        manifest_id=_t.c.next_id,
        entry=_t.c.next_entry,
        batch=null(),
        fresh=null(),
        next_id=null(),
        next_entry=null(),
        conditional=null(),
    )
)
_settle_removal = delete(_t).where(_these, _t.c.batch.is_not(None), _t.c.next_id.is_(None))
_restore = update(_t).where(_these).values(batch=null(), next_id=null(), next_entry=null(), conditional=null())
_some = (
    select(_t.c.repository_id, _t.c.name)
    .where(_t.c.batch == bindparam("batch"))
    .order_by(_t.c.repository_id, _t.c.name)
    .limit(bindparam("limit"))
)
_this: BindParameter[int] = bindparam("manifest")
_bound_to = select(_t.c.name, is_hidden(_t)).where(
    _t.c.repository_id == _here, _t.c.name.in_(named(_here, _this, "manifest_id")), _t.c.batch.is_not(None)
)


def find(
    connection: Connection, repository_id: int, names: Iterable[str], *, batch: int | None = None
) -> dict[str, TagRow]:
    """Return the rows of these tags, as others see them, or as who wrote ``batch`` does."""
    parameters = {"in_repository": repository_id, "names": bound(names), OWN.key: batch or NOBODY}
    return {
        row[0]: TagRow(row[1], bool(row[2]), row[3], bool(row[4]), None if row[5] is None else Target(*row[5:]))
        for row in connection.execute(_rows, parameters)
    }


def record(
    connection: Connection,
    repository: str,
    changed: Iterable[tuple[str, str | None, str | None]],
    *,
    now: int,
    actor: str,
    batch: int | None,
) -> None:
    """Note what was changed, as tag, digest before and digest now; it has not happened before ``batch`` is revealed."""
    events = [
        {
            "repository": repository,
            "tag": name,
            "old_digest": old,
            "new_digest": new,
            "at": now,
            "actor": actor,
            "batch": batch,
        }
        for name, old, new in changed
    ]
    if events:
        connection.execute(_record, events)


# --- in a batch -------------------------------------------------------------------------------------------------------


def move(
    connection: Connection,
    repository_id: int,
    repository: str,
    moves: Sequence[Move],
    *,
    now: int,
    actor: str,
    batch: int,
) -> None:
    """Point tags at manifests once the batch is revealed. Nothing else may have a batch in the repository."""
    rows = find(connection, repository_id, [entry.name for entry in moves], batch=batch)
    staged, changed = [], []
    for entry in moves:
        before = rows[entry.name].target if entry.name in rows else None
        said_of_it = entry.entry
        if before is None or before.manifest_id != entry.manifest_id:
            changed.append((entry.name, None if before is None else before.digest, entry.digest))
        elif said_of_it is None:
            said_of_it = before.entry
        # Also one that points there already: somebody may move it before this is revealed.
        staged.append((entry.name, entry.manifest_id, said_of_it, 1 if entry.conditional else None))
    if staged:
        parameters = {"in_repository": repository_id, "moves": bound(staged), "now": now, "batch": batch}
        connection.execute(_stage, parameters)
        record(connection, repository, changed, now=now, actor=actor, batch=batch)


def remove(
    connection: Connection,
    repository_id: int,
    repository: str,
    names: Sequence[str],
    *,
    now: int,
    actor: str,
    batch: int,
    conditional: bool = False,
) -> dict[str, Target]:
    """Remove tags once the batch is revealed. Returns those that there are, for who wrote it.

    With ``conditional`` the batch may not be revealed once somebody else moves or removes one of them.
    """
    rows = find(connection, repository_id, names, batch=batch)
    old = {name: row.target for name, row in rows.items() if row.target is not None}
    if old:
        these = {"in_repository": repository_id, "names": bound(old)}
        connection.execute(_drop_fresh, these)
        connection.execute(_stage_removal, these | {"of_batch": batch, "is_conditional": 1 if conditional else None})
        changed = [(name, gone.digest, None) for name, gone in sorted(old.items())]
        record(connection, repository, changed, now=now, actor=actor, batch=batch)
    return old


# --- by others meanwhile ----------------------------------------------------------------------------------------------


def rebase(connection: Connection, repository: str, old: Mapping[str, str | None], *, batch: int) -> None:
    """Let what a hidden batch does with tags begin at these digests (None: no such tag), and be later than that.

    Where the batch had nothing to move, because the tag pointed there already, it is not revealed any more.
    """
    these: dict[str, object] = {"repository": repository, "names": bound(old)}
    events = list(connection.execute(_hidden_events, these | {"batch": batch}))
    if len(events) < len(old):
        overtake(connection, batch)
    connection.execute(_drop_hidden_events, these | {"of_batch": batch})
    for name, new, at, actor in events:
        if new != old[name]:
            record(connection, repository, [(name, old[name], new)], now=at, actor=actor, batch=batch)


def overtake(connection: Connection, batch: int) -> None:
    """Let a hidden batch not be revealed: what it was going to do cannot be done any more."""
    connection.execute(_overtake, {"this_batch": batch})


def leave_to_batch(connection: Connection, repository_id: int, names: Iterable[str]) -> None:
    """Remove tags that a hidden batch moves: there are none, before it is revealed."""
    connection.execute(_leave_to_batch, {"in_repository": repository_id, "names": bound(names)})


def release(connection: Connection, repository_id: int, manifest_id: int, *, now: int) -> None:
    """Let no row name a manifest that is being deleted, and to which no tag points.

    One that only a hidden batch would have is dropped: that batch is not revealed any more.
    """
    rows = list(connection.execute(_bound_to, {"in_repository": repository_id, "manifest": manifest_id}))
    settle(connection, repository_id, [name for name, hidden in rows if not hidden], now=now)
    fresh = [name for name, hidden in rows if hidden]
    if fresh:
        connection.execute(_drop_fresh, {"in_repository": repository_id, "names": bound(fresh)})


# --- afterwards -------------------------------------------------------------------------------------------------------


def settle(connection: Connection, repository_id: int, names: Sequence[str], *, now: int) -> None:
    """Make tags whose batch is revealed ones without a batch, and queue what they pointed at for gc."""
    if names:
        these: dict[str, object] = {"in_repository": repository_id, "names": bound(names)}
        connection.execute(_queue_left, these | {"now": now})
        connection.execute(_settle, these)
        connection.execute(_settle_removal, these)


def restore(connection: Connection, repository_id: int, names: Sequence[str]) -> None:
    """Take tags out of a batch that is not going to be revealed: they are what others see."""
    these = {"in_repository": repository_id, "names": bound(names)}
    connection.execute(_drop_fresh, these)
    connection.execute(_restore, these)


def some_of_batch(connection: Connection, batch: int, *, limit: int) -> dict[int, list[str]]:
    """Return up to ``limit`` tags that have a batch, by repository."""
    found: dict[int, list[str]] = {}
    for repository_id, name in connection.execute(_some, {"batch": batch, "limit": limit}):
        found.setdefault(repository_id, []).append(name)
    return found
