"""Reading and changing tags and their history. Tags that a large change stages are in ``stagedtags.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ocistore.catalog import stagedtags
from ocistore.catalog.parameters import NOBODY, OWN, bound
from ocistore.catalog.repositories import beyond
from ocistore.catalog.stagedtags import Move, Target, record
from ocistore.catalog.written import Statement, Statements

__all__ = ["Event", "Move", "Target", "every", "history", "move", "of_manifest", "page", "remove", "targets"]

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.stagedtags import TagRow

_sql = Statements("tags")


class Event(NamedTuple):
    """One row of the history."""

    id: int
    tag: str
    old_digest: str | None
    new_digest: str | None
    at: int
    actor: str


def targets(
    connection: Connection, repository_id: int, names: Iterable[str], *, batch: int | None = None
) -> dict[str, Target]:
    """Return what these tags point at, for who wrote ``batch``, if it is given. Names that are no tags are left out."""
    found = stagedtags.find(connection, repository_id, names, batch=batch)
    return {name: row.target for name, row in found.items() if row.target is not None}


def of_manifest(
    connection: Connection,
    repository_id: int,
    manifest_id: int,
    *,
    limit: int | None = None,
    batch: int | None = None,
) -> list[str]:
    """Return the tags that point at a manifest, for who wrote ``batch``, if that is given.

    With ``limit``, up to so many of them, in byte order.
    """
    here = {
        "in_repository": repository_id,
        "manifest": manifest_id,
        "limit": -1 if limit is None else limit,
        OWN: batch or NOBODY,
    }
    found: list[str] = [name for each in _sql.each("OF_MANIFEST") for name in connection.execute(each, here).scalars()]
    return sorted(set(found))[:limit]


def page(connection: Connection, repository_id: int, *, prefix: str, after: str, limit: int) -> list[str]:
    """Return up to ``limit`` tags after ``after``, in byte order."""
    parameters = {
        "in_repository": repository_id,
        "prefix": prefix,
        "beyond": beyond(prefix),
        "after": after,
        "limit": limit,
    }
    return connection.execute(_sql.PAGE, parameters).scalars()


Order: TypeAlias = Literal["name", "newest", "oldest"]

_ORDERS: Final[dict[Order, Statement]] = {
    "name": _sql.LIST_BY_NAME,
    "newest": _sql.LIST_NEWEST,
    "oldest": _sql.LIST_OLDEST,
}


class Listed(NamedTuple):
    """A tag with what it points at."""

    name: str
    updated: int
    digest: str
    size: int
    media_type: str
    actor: str | None
    """Who moved it last; None where the history does not say it any more."""


def listing(
    connection: Connection,
    repository_id: int,
    repository: str,
    order: Order,
    *,
    prefix: str,
    after: tuple[int, str],
    limit: int,
) -> list[Listed]:
    """Return up to ``limit`` tags after a place, which is when a tag was moved, and its name.

    Tags that were moved at one instant are in the order of their names too, or the other way round with ``newest``.
    """
    parameters = {
        "in_repository": repository_id,
        "repository": repository,
        "prefix": prefix,
        "after": after[1],
        "limit": limit,
    }
    parameters |= {"beyond": beyond(prefix)} if order == "name" else {"updated": after[0]}
    return [Listed(*row) for row in connection.execute(_ORDERS[order], parameters)]


def every(connection: Connection, repository_id: int) -> list[tuple[str, str]]:
    """Return all tags of the repository with the digests they point at, in byte order: for an export."""
    return list(connection.execute(_sql.ALL, {"in_repository": repository_id}))


def move(
    connection: Connection,
    repository_id: int,
    repository: str,
    moves: Sequence[Move],
    *,
    now: int,
    actor: str,
    batch: int | None = None,
) -> None:
    """Point tags at manifests that the repository holds, making those that do not exist.

    Each real change is an event; a tag that points there already is not one. What a tag pointed at before goes before
    the collector. What was said of it goes with it. With ``batch``, nobody sees the events before that is revealed.
    """
    rows = stagedtags.find(connection, repository_id, [entry.name for entry in moves])
    _settle(connection, repository_id, rows, now=now)
    old = {name: row.target for name, row in rows.items() if row.target is not None}
    noted = [
        {"in_repository": repository_id, "tag": entry.name, "said": entry.entry}
        for entry in moves
        if entry.entry is not None
        and entry.name in old
        and old[entry.name].manifest_id == entry.manifest_id
        and old[entry.name].entry != entry.entry
    ]
    if noted:
        connection.execute(_sql.NOTE, noted)
    changed = {
        entry.name: entry
        for entry in moves
        if entry.name not in old or old[entry.name].manifest_id != entry.manifest_id
    }
    if not changed:
        return
    connection.execute(
        _sql.MOVE,
        {
            "in_repository": repository_id,
            "moves": bound((entry.name, entry.manifest_id, entry.entry) for entry in changed.values()),
            "now": now,
        },
    )
    left = {old[name].manifest_id for name in changed if name in old}
    if left:
        connection.execute(_sql.QUEUE, {"in_repository": repository_id, "manifests": bound(left), "now": now})
    record(
        connection,
        repository,
        [
            (entry.name, old[entry.name].digest if entry.name in old else None, entry.digest)
            for entry in changed.values()
        ],
        now=now,
        actor=actor,
        batch=batch,
    )
    _rebase(connection, repository, rows, {entry.name: entry.digest for entry in changed.values()})


def remove(
    connection: Connection,
    repository_id: int,
    repository: str,
    names: Sequence[str],
    *,
    now: int,
    actor: str,
    batch: int | None = None,
) -> dict[str, Target]:
    """Remove tags, each as an event, and queue what they pointed at for gc. Returns those that were there.

    With ``batch`` as :func:`move`. One that another batch is going to move comes to be with that; a batch that is going
    to remove it, too, is not revealed any more.
    """
    rows = stagedtags.find(connection, repository_id, names)
    _settle(connection, repository_id, rows, now=now)
    old = {name: row.target for name, row in rows.items() if row.target is not None}
    if not old:
        return old
    moved = [name for name in old if rows[name].hidden and rows[name].next_id is not None]
    connection.execute(_sql.DROP, {"in_repository": repository_id, "names": bound(old.keys() - set(moved))})
    if moved:
        stagedtags.leave_to_batch(connection, repository_id, moved)
    for row in rows.values():
        if row.target is not None and row.hidden and row.next_id is None and row.batch is not None:
            stagedtags.overtake(connection, row.batch)  # it is going to remove it, too
    manifests = {gone.manifest_id for gone in old.values()}
    connection.execute(_sql.QUEUE, {"in_repository": repository_id, "manifests": bound(manifests), "now": now})
    changed = [(name, gone.digest, None) for name, gone in sorted(old.items())]
    record(connection, repository, changed, now=now, actor=actor, batch=batch)
    _rebase(connection, repository, rows, dict.fromkeys(old))
    return old


def _settle(connection: Connection, repository_id: int, rows: Mapping[str, TagRow], *, now: int) -> None:
    revealed = [name for name, row in rows.items() if row.batch is not None and not row.hidden]
    stagedtags.settle(connection, repository_id, revealed, now=now)


def _rebase(
    connection: Connection, repository: str, rows: Mapping[str, TagRow], changed: Mapping[str, str | None]
) -> None:
    """Let hidden batches, of which there is one at most in a repository, do what they do after this."""
    hidden = {name: digest for name, digest in changed.items() if name in rows and rows[name].hidden}
    if hidden:
        [batch] = {row.batch for name, row in rows.items() if name in hidden and row.batch is not None}
        if any(rows[name].conditional for name in hidden):
            stagedtags.overtake(connection, batch)
        stagedtags.rebase(connection, repository, hidden, batch=batch)


def history(connection: Connection, repository: str, *, tag: str | None, before: int, limit: int) -> list[Event]:
    """Return up to ``limit`` events of a repository, or of one of its tags, before event ``before``, newest first."""
    parameters: dict[str, object] = {"repository": repository, "before": before, "limit": limit}
    if tag is None:
        rows = connection.execute(_sql.HISTORY, parameters)
    else:
        rows = connection.execute(_sql.HISTORY_OF_TAG, parameters | {"tag": tag})
    return [Event(*row) for row in rows]
