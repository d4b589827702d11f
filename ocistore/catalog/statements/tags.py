"""Statements of ``catalog/tags.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import JSON, Text, bindparam, delete, func, literal_column, null, select, true, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, member, upsert
from ocistore.catalog.statements.staged import OWN, POINTERS, is_seen, named, target

if TYPE_CHECKING:
    from sqlalchemy import BindParameter

_t = tables.tags
_blobs = tables.blobs
_events = tables.tag_events
_members = tables.repository_manifests

_here: BindParameter[int] = bindparam("in_repository")
_names = array("names", Text)
_this: BindParameter[int] = bindparam("manifest")
# Two statements and not their union, for the order of which SQLite reads all tags of the repository.
OF_MANIFEST = tuple(
    select(_t.c.name)
    .where(_t.c.repository_id == _here, _t.c.name.in_(named(_here, _this, pointer)), target(_t, own=OWN) == _this)
    .order_by(_t.c.name)
    .limit(bindparam("limit"))
    for pointer in POINTERS
)
_with_prefix = (_t.c.name >= bindparam("prefix"), _t.c.name < bindparam("beyond"))
PAGE = (
    select(_t.c.name)
    .where(_t.c.repository_id == _here, _t.c.name > bindparam("after"), *_with_prefix, target(_t).is_not(None))
    .order_by(_t.c.name)
    .limit(bindparam("limit"))
)
ALL = (
    select(_t.c.name, _blobs.c.digest)
    .select_from(in_order(_t, (_blobs, _blobs.c.id == target(_t))))
    .where(_t.c.repository_id == _here)
    .order_by(_t.c.name)
)
_manifest = tables.manifests
_latest = _events.alias("latest")
_actor = (
    select(_latest.c.actor)
    .where(_latest.c.repository == bindparam("repository"), _latest.c.tag == _t.c.name, is_seen(_latest))
    .order_by(_latest.c.id.desc())
    .limit(literal_column("1"))
    .correlate(_t)
    .scalar_subquery()
)
_listed = (
    select(_t.c.name, _t.c.updated, _blobs.c.digest, _blobs.c.size, _manifest.c.media_type, _actor)
    .select_from(in_order(_t, (_blobs, _blobs.c.id == target(_t)), (_manifest, _manifest.c.blob_id == _blobs.c.id)))
    .where(_t.c.repository_id == _here)
    .limit(bindparam("limit"))
)
_place = tuple_(_t.c.updated, _t.c.name)
_last = tuple_(bindparam("updated"), bindparam("after"))
# A range of names would have SQLite read all of them by name, and sort them.
_begins = func.substr(_t.c.name, literal_column("1"), func.length(bindparam("prefix"))) == bindparam("prefix")
LIST_BY_NAME = _listed.where(_t.c.name > bindparam("after"), *_with_prefix).order_by(_t.c.name)
LIST_NEWEST = _listed.where(_place < _last, _begins).order_by(_t.c.updated.desc(), _t.c.name.desc())
LIST_OLDEST = _listed.where(_place > _last, _begins).order_by(_t.c.updated, _t.c.name)
_moves = array("moves", JSON)
_moved = upsert(_t).from_select(
    ["repository_id", "name", "manifest_id", "updated", "entry"],
    select(_here, member(_moves, 0, Text), member(_moves, 1), bindparam("now"), member(_moves, 2, Text)).where(true()),
)
MOVE = _moved.on_conflict_do_update(
    index_elements=["repository_id", "name"],
    set_={
        "manifest_id": _moved.excluded.manifest_id,
        "updated": _moved.excluded.updated,
        "entry": _moved.excluded.entry,
        "fresh": null(),  # what a batch is going to bring is, from now on, something that it is going to move
    },
)
NOTE = update(_t).where(_t.c.repository_id == _here, _t.c.name == bindparam("tag")).values(entry=bindparam("said"))
DROP = delete(_t).where(_t.c.repository_id == _here, _t.c.name.in_(select(_names.c.value)))
_manifests = array("manifests")
QUEUE = (
    update(_members)
    .where(_members.c.repository_id == _here, _members.c.manifest_id.in_(select(_manifests.c.value)))
    .values(unreferenced_since=bindparam("now"))
)
HISTORY = (
    select(_events.c.id, _events.c.tag, _events.c.old_digest, _events.c.new_digest, _events.c.at, _events.c.actor)
    .where(_events.c.repository == bindparam("repository"), _events.c.id < bindparam("before"), is_seen(_events))
    .order_by(_events.c.id.desc())
    .limit(bindparam("limit"))
)
HISTORY_OF_TAG = HISTORY.where(_events.c.tag == bindparam("tag"))
