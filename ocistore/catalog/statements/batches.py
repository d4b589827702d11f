"""Statements of ``catalog/batches.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, bindparam, delete, literal, literal_column, null, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, insertion, member

if TYPE_CHECKING:
    from sqlalchemy import Select

_t = tables.batches
_staged = tables.staged_repositories
_repositories, _deleted, _events = tables.repositories, tables.deleted_repositories, tables.tag_events
_blob_members, _manifest_members = tables.repository_blobs, tables.repository_manifests

START = insertion(_t, "id", "expires", "revealed")
RENEW = (
    update(_t).where(_t.c.id == bindparam("batch"), _t.c.expires > bindparam("now")).values(expires=bindparam("until"))
)
_batch = (_t.c.id, _t.c.expires, _t.c.revealed)
EXPIRED = select(*_batch).where(_t.c.expires <= bindparam("now")).order_by(_t.c.expires).limit(literal_column("1"))
MAKE = insertion(_repositories, "name", "created").returning(_repositories.c.id)
NOTE = insertion(_staged, "repository_id", "batch_id", "name")
OCCUPANT = (
    select(*_batch)
    .select_from(in_order(_staged, (_t, _t.c.id == _staged.c.batch_id)))
    .where(_staged.c.repository_id == bindparam("repository"))
)
OVERTAKE = (
    update(_t)
    .where(
        _t.c.id.in_(select(_staged.c.batch_id).where(_staged.c.repository_id == bindparam("repository"))),
        _t.c.revealed.is_(None),
    )
    .values(expires=literal(0))
)
TAKEN: Select[Any] = (
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
SOME_OF_BATCH = _of_batch.limit(bindparam("limit"))
BEING_EMPTIED = select(_deleted.c.repository_id).where(_deleted.c.repository_id == bindparam("repository"))
CALL = (
    update(_repositories)
    .where(
        _repositories.c.id.in_(select(_staged.c.repository_id).where(_staged.c.batch_id == bindparam("batch"))),
        _repositories.c.name.is_(None),
    )
    .values(name=select(_staged.c.name).where(_staged.c.repository_id == _repositories.c.id).scalar_subquery())
)
FORGET_STAGED = delete(_staged).where(_staged.c.repository_id == bindparam("staged"))
_some = _staged.alias("some")
FORGET_SOME_STAGED = delete(_staged).where(
    _staged.c.repository_id.in_(
        select(_some.c.repository_id).where(_some.c.batch_id == bindparam("batch")).limit(bindparam("limit"))
    )
)
REVEAL = update(_t).where(_t.c.id == bindparam("batch")).values(revealed=literal(1), expires=bindparam("now"))
IS_REVEALED = select(_t.c.id).where(_t.c.id == bindparam("batch"), _t.c.revealed.is_not(None))
DELETE = delete(_t).where(_t.c.id == bindparam("batch"))
TO_BE_EMPTIED = insertion(_deleted, "repository_id", "name", "deleted", "actor", "next_event")
SOME_EVENTS = (
    select(_events.c.id)
    .where(_events.c.repository == bindparam("name"), _events.c.batch == bindparam("batch"))
    .limit(bindparam("limit"))
)
_ids = array("ids")
DROP_THESE_EVENTS = delete(_events).where(_events.c.id.in_(select(_ids.c.value)))


def _members(table: Any, key: Any) -> tuple[Any, Any]:  # noqa: ANN401 - a table of memberships, and its column
    """Return statements that find some rows of a batch, and settle rows."""
    rows = array("rows", JSON)
    some = (
        select(table.c.repository_id, key)
        .where(table.c.batch == bindparam("batch"))
        .order_by(table.c.repository_id, key)
        .limit(bindparam("limit"))
    )
    these = tuple_(table.c.repository_id, key).in_(select(member(rows, 0), member(rows, 1)))
    return some, update(table).where(these).values(batch=null())


SOME_MANIFESTS, SETTLE_MANIFESTS = _members(_manifest_members, _manifest_members.c.manifest_id)
SOME_BLOBS, SETTLE_BLOBS = _members(_blob_members, _blob_members.c.blob_id)
