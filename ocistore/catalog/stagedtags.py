"""Tags that a large change brings, moves or removes among those of a repository that others see.

Such a tag has what it points at now and what it points at once its batch is revealed; see ``statements/staged.py``.
Whoever moves it meanwhile changes the former, and the event of the batch, which happens later, is written anew after
theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.parameters import NOBODY, OWN, bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ocistore.catalog.connection import Connection

_sql = Statements("stagedtags")


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
    """A row of the table, visible or not."""

    batch: int | None
    hidden: bool
    """Its batch is not revealed."""
    next_id: int | None
    conditional: bool
    """Its batch may not be revealed once somebody else moves or removes it."""
    target: Target | None
    """What others see, or who asks sees in a batch of their own."""


def find(
    connection: Connection, repository_id: int, names: Iterable[str], *, batch: int | None = None
) -> dict[str, TagRow]:
    """Return the rows of these tags, as others see them, or as who wrote ``batch`` does."""
    parameters = {"in_repository": repository_id, "names": bound(names), OWN: batch or NOBODY}
    return {
        row[0]: TagRow(row[1], bool(row[2]), row[3], bool(row[4]), None if row[5] is None else Target(*row[5:]))
        for row in connection.execute(_sql.ROWS, parameters)
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
        connection.execute(_sql.RECORD, events)


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
        connection.execute(_sql.STAGE, parameters)
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
        connection.execute(_sql.DROP_FRESH, these)
        connection.execute(
            _sql.STAGE_REMOVAL, these | {"of_batch": batch, "is_conditional": 1 if conditional else None}
        )
        changed = [(name, gone.digest, None) for name, gone in sorted(old.items())]
        record(connection, repository, changed, now=now, actor=actor, batch=batch)
    return old


# --- by others meanwhile ----------------------------------------------------------------------------------------------


def rebase(connection: Connection, repository: str, old: Mapping[str, str | None], *, batch: int) -> None:
    """Let what a hidden batch does with tags begin at these digests (None: no such tag), and be later than that.

    Where the batch had nothing to move, because the tag pointed there already, it is not revealed any more.
    """
    these: dict[str, object] = {"repository": repository, "names": bound(old)}
    events = list(connection.execute(_sql.HIDDEN_EVENTS, these | {"batch": batch}))
    if len(events) < len(old):
        overtake(connection, batch)
    connection.execute(_sql.DROP_HIDDEN_EVENTS, these | {"of_batch": batch})
    for name, new, at, actor in events:
        if new != old[name]:
            record(connection, repository, [(name, old[name], new)], now=at, actor=actor, batch=batch)


def overtake(connection: Connection, batch: int) -> None:
    """Let a hidden batch not be revealed: what it was going to do cannot be done any more."""
    connection.execute(_sql.OVERTAKE, {"this_batch": batch})


def leave_to_batch(connection: Connection, repository_id: int, names: Iterable[str]) -> None:
    """Remove tags that a hidden batch moves: there are none, before it is revealed."""
    connection.execute(_sql.LEAVE_TO_BATCH, {"in_repository": repository_id, "names": bound(names)})


def release(connection: Connection, repository_id: int, manifest_id: int, *, now: int) -> None:
    """Let no row name a manifest that is being deleted, and to which no tag points.

    One that only a hidden batch would have is dropped: that batch is not revealed any more.
    """
    rows = list(connection.execute(_sql.BOUND_TO, {"in_repository": repository_id, "manifest": manifest_id}))
    settle(connection, repository_id, [name for name, hidden in rows if not hidden], now=now)
    fresh = [name for name, hidden in rows if hidden]
    if fresh:
        connection.execute(_sql.DROP_FRESH, {"in_repository": repository_id, "names": bound(fresh)})


# --- afterwards -------------------------------------------------------------------------------------------------------


def settle(connection: Connection, repository_id: int, names: Sequence[str], *, now: int) -> None:
    """Make tags whose batch is revealed ones without a batch, and queue what they pointed at for gc."""
    if names:
        these: dict[str, object] = {"in_repository": repository_id, "names": bound(names)}
        connection.execute(_sql.QUEUE_LEFT, these | {"now": now})
        connection.execute(_sql.SETTLE, these)
        connection.execute(_sql.SETTLE_REMOVAL, these)


def restore(connection: Connection, repository_id: int, names: Sequence[str]) -> None:
    """Take tags out of a batch that is not going to be revealed: they are what others see."""
    these = {"in_repository": repository_id, "names": bound(names)}
    connection.execute(_sql.DROP_FRESH, these)
    connection.execute(_sql.RESTORE, these)


def some_of_batch(connection: Connection, batch: int, *, limit: int) -> dict[int, list[str]]:
    """Return up to ``limit`` tags that have a batch, by repository."""
    found: dict[int, list[str]] = {}
    for repository_id, name in connection.execute(_sql.SOME, {"batch": batch, "limit": limit}):
        found.setdefault(repository_id, []).append(name)
    return found
