"""Statements about the history as a whole: which events are old, and forgetting them. One tag's are in tags.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, bindparam, delete, func, literal_column, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, bound
from ocistore.catalog.staged import is_seen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_t = tables.tag_events
_later = _t.alias("later")


class Old(NamedTuple):
    """An event that is old enough to be forgotten."""

    id: int
    forgettable: bool
    """It is not among the last ones of its tag, nor the newest of the store."""


_newest = select(func.max(_t.c.id)).scalar_subquery()
_some_later = (
    select(literal_column("1"))
    .where(_later.c.repository == _t.c.repository, _later.c.tag == _t.c.tag, _later.c.id > _t.c.id)
    .correlate(_t)
    .limit(bindparam("keep_last"))
    .subquery()
)
_later_ones = select(func.count()).select_from(_some_later).scalar_subquery()
_old = (
    select(_t.c.id, and_(_later_ones >= bindparam("keep_last"), _t.c.id < _newest))
    .where(_t.c.id > bindparam("after"), _t.c.at < bindparam("before"), is_seen(_t))
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
_ids = array("ids")
_forget = delete(_t).where(_t.c.id.in_(select(_ids.c.value)))
_count = select(func.count()).select_from(_t)


def old(connection: Connection, *, before: int, keep_last: int, after: int, limit: int) -> list[Old]:
    """Return up to ``limit`` events behind the id ``after`` that are older than ``before``, in their order."""
    parameters = {"before": before, "keep_last": keep_last, "after": after, "limit": limit}
    return [Old(key, bool(forgettable)) for key, forgettable in connection.execute(_old, parameters)]


def forget(connection: Connection, ids: Iterable[int]) -> None:
    """Forget these events."""
    connection.execute(_forget, {"ids": bound(ids)})


def count(connection: Connection) -> int:
    """Return how many events there are. Reads all of them."""
    found: int = connection.execute(_count).scalar()
    return found
