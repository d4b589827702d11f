"""Statements of ``catalog/uploads.py``."""

from __future__ import annotations

from sqlalchemy import Text, bindparam, delete, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, insertion

_t = tables.uploads
_repositories = tables.repositories

_columns = (_t.c.id, _t.c.algorithm, _t.c.offset, _t.c.started, _t.c.touched, _t.c.expires, _t.c.page_cache)
INSERT = insertion(_t, "repository_id", "id", "algorithm", "offset", "started", "touched", "expires", "page_cache")
FIND = (
    select(*_columns)
    .select_from(in_order(_t, (_repositories, _repositories.c.id == _t.c.repository_id)))
    .where(_repositories.c.name == bindparam("repository"), _t.c.id == bindparam("upload"))
)
PAGE = (
    select(*_columns)
    .where(_t.c.repository_id == bindparam("in_repository"), _t.c.id > bindparam("after"))
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
TOUCH = (
    update(_t)
    .where(_t.c.id == bindparam("upload"))
    .values(
        offset=bindparam("now_at"),
        touched=bindparam("now"),
        expires=bindparam("now") + _t.c.expires - _t.c.touched,
        page_cache=bindparam("written_to"),
    )
)
EXPIRED = (
    select(_t.c.expires, _t.c.id, _t.c.algorithm)
    .where(
        _t.c.expires <= bindparam("now"),
        tuple_(_t.c.expires, _t.c.id) > tuple_(bindparam("after"), bindparam("after_id")),
    )
    .order_by(_t.c.expires, _t.c.id)
    .limit(bindparam("limit"))
)
REMOVE_EXPIRED = delete(_t).where(_t.c.id == bindparam("upload"), _t.c.expires <= bindparam("now"))
CLEAR = delete(_t)
_names = array("names", Text)
KNOWN = select(_t.c.id).where(_t.c.id.in_(select(_names.c.value)))
DELETE = delete(_t).where(_t.c.id == bindparam("upload"))
