"""Statements of ``catalog/stagedtags.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import JSON, Text, and_, bindparam, case, delete, func, literal, null, or_, select, true, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, insertion, member, upsert
from ocistore.catalog.statements.staged import OWN, is_hidden, named, said, target

if TYPE_CHECKING:
    from sqlalchemy import BindParameter

_t = tables.tags
_blobs = tables.blobs
_events = tables.tag_events
_members = tables.repository_manifests

_here: BindParameter[int] = bindparam("in_repository")
_names = array("names", Text)
_these = and_(_t.c.repository_id == _here, _t.c.name.in_(select(_names.c.value)))
_seen = select(_blobs.c.digest).where(_blobs.c.id == target(_t, own=OWN)).scalar_subquery()
# As a set and not as a join: given a join, SQLite reads all tags of the repository through the index on its manifests,
# which took 100 ms of each push at 100,000 tags.
ROWS = select(
    _t.c.name, _t.c.batch, is_hidden(_t), _t.c.next_id, _t.c.conditional, target(_t, own=OWN), _seen, said(_t, own=OWN)
).where(_these)
RECORD = insertion(_events, "repository", "tag", "old_digest", "new_digest", "at", "actor", "batch")

_moves = array("moves", JSON)
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
        member(_moves, 0, Text),
        member(_moves, 1),
        bindparam("now"),
        member(_moves, 2, Text),
        bindparam("batch"),
        literal(1),
        member(_moves, 1),
        member(_moves, 2, Text),
        member(_moves, 3),
    ).where(true()),
)
STAGE = _staged.on_conflict_do_update(
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
DROP_FRESH = delete(_t).where(_these, _t.c.fresh.is_not(None))
STAGE_REMOVAL = (
    update(_t)
    .where(_these)
    .values(
        batch=bindparam("of_batch"),
        next_id=null(),
        next_entry=null(),
        conditional=func.coalesce(bindparam("is_conditional"), _t.c.conditional),
    )
)

LEAVE_TO_BATCH = (
    update(_t)
    .where(_these, _t.c.next_id.is_not(None))
    .values(manifest_id=_t.c.next_id, entry=_t.c.next_entry, fresh=literal(1))
)
OVERTAKE = (
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
HIDDEN_EVENTS = select(_events.c.tag, _events.c.new_digest, _events.c.at, _events.c.actor).where(
    _events.c.id.in_(_newest)
)
DROP_HIDDEN_EVENTS = delete(_events).where(
    _events.c.repository == bindparam("repository"),
    _events.c.tag.in_(select(_names.c.value)),
    _events.c.batch == bindparam("of_batch"),
)

QUEUE_LEFT = (
    update(_members)
    .where(
        _members.c.repository_id == _here,
        _members.c.manifest_id.in_(
            select(_t.c.manifest_id).where(_these, _t.c.next_id.is_distinct_from(_t.c.manifest_id))
        ),
    )
    .values(unreferenced_since=bindparam("now"))
)
_revealed = (  # which is when everybody saw it move
    select(tables.batches.c.expires)
    .where(tables.batches.c.id == _t.c.batch, tables.batches.c.revealed.is_not(None))
    .scalar_subquery()
)
_moves_now = or_(_t.c.fresh.is_not(None), _t.c.next_id != _t.c.manifest_id)
SETTLE = (
    update(_t)
    .where(_these, _t.c.next_id.is_not(None))
    .values(
        updated=case((_moves_now, func.coalesce(_revealed, _t.c.updated)), else_=_t.c.updated),
        manifest_id=_t.c.next_id,
        entry=_t.c.next_entry,
        batch=null(),
        fresh=null(),
        next_id=null(),
        next_entry=null(),
        conditional=null(),
    )
)
SETTLE_REMOVAL = delete(_t).where(_these, _t.c.batch.is_not(None), _t.c.next_id.is_(None))
RESTORE = update(_t).where(_these).values(batch=null(), next_id=null(), next_entry=null(), conditional=null())
SOME = (
    select(_t.c.repository_id, _t.c.name)
    .where(_t.c.batch == bindparam("batch"))
    .order_by(_t.c.repository_id, _t.c.name)
    .limit(bindparam("limit"))
)
_this: BindParameter[int] = bindparam("manifest")
BOUND_TO = select(_t.c.name, is_hidden(_t)).where(
    _t.c.repository_id == _here, _t.c.name.in_(named(_here, _this, "manifest_id")), _t.c.batch.is_not(None)
)
