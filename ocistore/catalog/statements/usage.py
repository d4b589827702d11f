"""Statements of ``catalog/usage.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, literal, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import halves
from ocistore.catalog.statements.staged import is_seen, target

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table


def _is_hidden(table: Table) -> ColumnElement[bool]:
    """Whether a row belongs to a repository that nobody sees: it is deleted and not yet emptied, or staged."""
    return table.c.repository_id.in_(select(tables.repositories.c.id).where(tables.repositories.c.name.is_(None)))


_live = tables.blobs.c.state == literal("live")
COUNTS = select(
    select(func.count()).where(tables.repositories.c.name.is_not(None)).scalar_subquery(),
    select(func.count()).where(~_is_hidden(tables.tags), target(tables.tags).is_not(None)).scalar_subquery(),
    select(func.count(tables.repository_manifests.c.manifest_id.distinct()))
    .where(~_is_hidden(tables.repository_manifests), is_seen(tables.repository_manifests))
    .scalar_subquery(),
    select(func.count()).select_from(tables.blobs).where(_live).scalar_subquery(),
    select(func.count()).where(~_is_hidden(tables.uploads)).scalar_subquery(),
    *(select(half).where(_live).scalar_subquery() for half in halves(tables.blobs.c.size)),
)
