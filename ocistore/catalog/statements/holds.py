"""Statements of ``catalog/holds.py``."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, literal_column, or_, select, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import insertion

_t = tables.collection_holds

PLACE = insertion(_t, "reason", "since", "expires").returning(_t.c.id)
IN_FORCE = (
    select(_t.c.id, _t.c.reason).where(or_(_t.c.expires.is_(None), _t.c.expires > bindparam("now"))).order_by(_t.c.id)
)
WAITING = select(_t.c.reason).where(_t.c.expires.is_(None)).limit(literal_column("1"))
TEMPORARY = select(_t.c.id).where(_t.c.expires.is_not(None)).order_by(_t.c.id)
RENEW = (
    update(_t).where(_t.c.id == bindparam("hold"), _t.c.expires > bindparam("now")).values(expires=bindparam("until"))
)
LIFT = delete(_t).where(_t.c.id == bindparam("hold"))
CONFIRM = delete(_t).where(_t.c.expires.is_(None)).returning(_t.c.reason)
CLEAR_TEMPORARY = delete(_t).where(_t.c.expires.is_not(None))
FORGET = delete(_t).where(_t.c.expires <= bindparam("now"))
