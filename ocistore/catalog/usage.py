"""Counting what a store holds. Reads every row of what it counts: seconds for millions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, literal, select

from ocistore.catalog import tables

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection


class Counts(NamedTuple):
    """Numbers of rows, and bytes as the rows say."""

    repositories: int
    tags: int
    manifests: int
    blobs: int
    blob_bytes: int
    uploads: int


_live = tables.blobs.c.state == literal("live")
_counts = select(
    select(func.count()).select_from(tables.repositories).scalar_subquery(),
    select(func.count()).select_from(tables.tags).scalar_subquery(),
    select(func.count(tables.repository_manifests.c.manifest_id.distinct())).scalar_subquery(),
    select(func.count()).select_from(tables.blobs).where(_live).scalar_subquery(),
    select(func.coalesce(func.sum(tables.blobs.c.size), 0)).where(_live).scalar_subquery(),
    select(func.count()).select_from(tables.uploads).scalar_subquery(),
)


def counts(connection: Connection) -> Counts:
    """Everything counted, in one state of the store."""
    row = connection.execute(_counts).first()
    return Counts(*(row or (0,) * len(Counts._fields)))
