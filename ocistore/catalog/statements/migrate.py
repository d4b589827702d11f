"""Statements of ``catalog/migrate.py``."""

from __future__ import annotations

from sqlalchemy import bindparam, column, select, table

from ocistore.catalog import tables

SELECT_VERSION = select(tables.version.c.version_num)
INSERT_VERSION = tables.version.insert().values(version_num=bindparam("revision"))
_master = table("sqlite_master", column("type"), column("name"), column("sql"))
SELECT_VERSIONED = select(_master.c.name).where(_master.c.name == "alembic_version")
SELECT_SCHEMA = (
    select(_master.c.type, _master.c.name, _master.c.sql)
    .where(_master.c.name.not_like("sqlite\\_%", escape="\\"), _master.c.name != "alembic_version")
    .order_by(_master.c.type, _master.c.name)
)
INSERT_STORE = tables.store.insert().values(id=1, epoch=1, created=bindparam("now"), identity=bindparam("who"))
