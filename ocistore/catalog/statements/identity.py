"""Statements of ``catalog/identity.py``."""

from __future__ import annotations

from sqlalchemy import bindparam, null, select, update

from ocistore.catalog import tables

_t = tables.store
FIND = select(_t.c.identity, _t.c.backup_of)
MARK = update(_t).values(backup_of=_t.c.identity, identity=bindparam("new"))
UNMARK = update(_t).where(_t.c.backup_of.is_not(None)).values(backup_of=null())
