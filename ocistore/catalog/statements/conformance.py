"""Statements of ``testing/catalogs.py``, which tests a catalog by what it does with them."""

from __future__ import annotations

from sqlalchemy import Text, bindparam, delete, func, select, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, insertion

_t = tables.repositories
ADD = insertion(_t, "name", "created")
NAMES = select(_t.c.name).order_by(_t.c.name)
TIME_OF = select(_t.c.created).where(_t.c.name == bindparam("called"))
SET_TIME = update(_t).where(_t.c.name == bindparam("called")).values(created=bindparam("to"))
REMOVE_ALL = delete(_t)
_wanted = array("wanted", Text)
NAMED = select(func.count()).select_from(_wanted).where(_wanted.c.value.in_(select(_t.c.name)))
