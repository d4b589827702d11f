"""Statements of ``catalog/epoch.py``."""

from __future__ import annotations

from sqlalchemy import bindparam, literal_column, select, update

from ocistore.catalog import tables

_t = tables.store
# A SELECT and an UPDATE: with RETURNING, SQLite takes longer for one than for both.
INCREMENT = update(_t).values(epoch=_t.c.epoch + literal_column("1"))
SET = update(_t).values(epoch=bindparam("number"))
FIND = select(_t.c.epoch, _t.c.identity, _t.c.backup_of)
