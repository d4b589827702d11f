"""Statements about tags and their history."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, true, update
from sqlalchemy.dialects.sqlite import insert as upsert

from ocistore.catalog import tables
from ocistore.catalog.arrays import array, bound, member
from ocistore.catalog.batches import visible
from ocistore.catalog.order import in_order
from ocistore.catalog.repositories import beyond

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


class Target(NamedTuple):
    """What a tag points at."""

    manifest_id: int
    digest: str
    entry: str | None = None


class Event(NamedTuple):
    """One row of the history."""

    id: int
    tag: str
    old_digest: str | None
    new_digest: str | None
    at: int
    actor: str


_here: BindParameter[int] = bindparam("in_repository")
_names = array("names")
# As a set and not as a join: given a join, SQLite reads all tags of the repository through the index on its manifests,
# which took 100 ms of each push at 100,000 tags.
_targets = (
    select(_t.c.name, _t.c.manifest_id, _blobs.c.digest, _t.c.entry)
    .select_from(in_order(_t, (_blobs, _blobs.c.id == _t.c.manifest_id)))
    .where(_t.c.repository_id == _here, _t.c.name.in_(select(_names.c.value)))
)
_of_manifest = select(_t.c.name).where(_t.c.repository_id == _here, _t.c.manifest_id == bindparam("manifest"))
_some_of_manifest = _of_manifest.order_by(_t.c.name).limit(bindparam("limit"))
_page = (
    select(_t.c.name)
    .where(
        _t.c.repository_id == _here,
        _t.c.name > bindparam("after"),
        _t.c.name >= bindparam("prefix"),
        _t.c.name < bindparam("beyond"),
    )
    .order_by(_t.c.name)
    .limit(bindparam("limit"))
)
_all = (
    select(_t.c.name, _blobs.c.digest)
    .select_from(in_order(_t, (_blobs, _blobs.c.id == _t.c.manifest_id)))
    .where(_t.c.repository_id == _here)
    .order_by(_t.c.name)
)
_moves = array("moves")
_moved = upsert(_t).from_select(
    ["repository_id", "name", "manifest_id", "updated", "entry"],
    select(_here, member(_moves, 0), member(_moves, 1), bindparam("now"), member(_moves, 2)).where(true()),
)
_move = _moved.on_conflict_do_update(
    index_elements=["repository_id", "name"],
    set_={
        "manifest_id": _moved.excluded.manifest_id,
        "updated": _moved.excluded.updated,
        "entry": _moved.excluded.entry,
    },
)
_note = (
    update(_t)
    .where(_t.c.repository_id == _here, _t.c.name == bindparam("tag"))
    .values(entry=bindparam("said"))
)
_drop = delete(_t).where(_t.c.repository_id == _here, _t.c.name.in_(select(_names.c.value)))
_manifests = array("manifests")
_queue = (
    update(_members)
    .where(_members.c.repository_id == _here, _members.c.manifest_id.in_(select(_manifests.c.value)))
    .values(collect_after=bindparam("now"))
)
_record = insert(_events)
_history = (
    select(_events.c.id, _events.c.tag, _events.c.old_digest, _events.c.new_digest, _events.c.at, _events.c.actor)
    .where(_events.c.repository == bindparam("repository"), _events.c.id < bindparam("before"), visible(_events))
    .order_by(_events.c.id.desc())
    .limit(bindparam("limit"))
)
_history_of_tag = _history.where(_events.c.tag == bindparam("tag"))


def targets(connection: Connection, repository_id: int, names: Iterable[str]) -> dict[str, Target]:
    """What these tags point at. Names that are no tags are left out."""
    rows = connection.execute(_targets, {"in_repository": repository_id, "names": bound(names)})
    return {name: Target(*rest) for name, *rest in rows}


def of_manifest(
    connection: Connection, repository_id: int, manifest_id: int, *, limit: int | None = None
) -> list[str]:
    """The tags that point at a manifest; with ``limit``, up to so many of them, in byte order."""
    here = {"in_repository": repository_id, "manifest": manifest_id}
    if limit is None:
        return connection.execute(_of_manifest, here).scalars()
    return connection.execute(_some_of_manifest, here | {"limit": limit}).scalars()


def page(connection: Connection, repository_id: int, *, prefix: str, after: str, limit: int) -> list[str]:
    """Up to ``limit`` tags behind ``after``, in byte order."""
    parameters = {
        "in_repository": repository_id,
        "prefix": prefix,
        "beyond": beyond(prefix),
        "after": after,
        "limit": limit,
    }
    return connection.execute(_page, parameters).scalars()


def every(connection: Connection, repository_id: int) -> list[tuple[str, str]]:
    """All tags of the repository with the digests they point at, in byte order: for an export."""
    return list(connection.execute(_all, {"in_repository": repository_id}))


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
    old = targets(connection, repository_id, [entry.name for entry in moves])
    noted = [
        {"in_repository": repository_id, "tag": entry.name, "said": entry.entry}
        for entry in moves
        if entry.entry is not None
        and entry.name in old
        and old[entry.name].manifest_id == entry.manifest_id
        and old[entry.name].entry != entry.entry
    ]
    if noted:
        connection.execute(_note, noted)
    changed = {
        entry.name: entry
        for entry in moves
        if entry.name not in old or old[entry.name].manifest_id != entry.manifest_id
    }
    if not changed:
        return
    connection.execute(
        _move,
        {
            "in_repository": repository_id,
            "moves": bound((entry.name, entry.manifest_id, entry.entry) for entry in changed.values()),
            "now": now,
        },
    )
    left = {old[name].manifest_id for name in changed if name in old}
    if left:
        connection.execute(_queue, {"in_repository": repository_id, "manifests": bound(left), "now": now})
    connection.execute(
        _record,
        [
            {
                "repository": repository,
                "tag": entry.name,
                "old_digest": old[entry.name].digest if entry.name in old else None,
                "new_digest": entry.digest,
                "at": now,
                "actor": actor,
                "batch": batch,
            }
            for entry in changed.values()
        ],
    )


def remove(
    connection: Connection, repository_id: int, repository: str, names: Sequence[str], *, now: int, actor: str
) -> dict[str, Target]:
    """Remove tags, each as an event, and queue what they pointed at for collection. Returns those that were there."""
    old = targets(connection, repository_id, names)
    if not old:
        return old
    connection.execute(_drop, {"in_repository": repository_id, "names": bound(old)})
    manifests = {target.manifest_id for target in old.values()}
    connection.execute(_queue, {"in_repository": repository_id, "manifests": bound(manifests), "now": now})
    connection.execute(
        _record,
        [
            {
                "repository": repository,
                "tag": name,
                "old_digest": target.digest,
                "new_digest": None,
                "at": now,
                "actor": actor,
                "batch": None,
            }
            for name, target in sorted(old.items())
        ],
    )
    return old


def history(connection: Connection, repository: str, *, tag: str | None, before: int, limit: int) -> list[Event]:
    """Up to ``limit`` events of a repository, or of one of its tags, before the event ``before``, newest first."""
    parameters: dict[str, object] = {"repository": repository, "before": before, "limit": limit}
    if tag is None:
        rows = connection.execute(_history, parameters)
    else:
        rows = connection.execute(_history_of_tag, parameters | {"tag": tag})
    return [Event(*row) for row in rows]
