"""Statements of ``catalog/events.py``."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, delete, func, literal_column, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import array
from ocistore.catalog.statements.staged import is_seen

_t = tables.tag_events
_later = _t.alias("later")

_newest = select(func.max(_t.c.id)).scalar_subquery()
_some_later = (
    select(literal_column("1"))
    .where(_later.c.repository == _t.c.repository, _later.c.tag == _t.c.tag, _later.c.id > _t.c.id)
    .correlate(_t)
    .limit(bindparam("keep_last"))
    .subquery()
)
_later_ones = select(func.count()).select_from(_some_later).scalar_subquery()
OLD = (
    select(_t.c.id, and_(_later_ones >= bindparam("keep_last"), _t.c.id < _newest))
    .where(_t.c.id > bindparam("after"), _t.c.at < bindparam("before"), is_seen(_t))
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
_ids = array("ids")
FORGET = delete(_t).where(_t.c.id.in_(select(_ids.c.value)))
COUNT = select(func.count()).select_from(_t)
