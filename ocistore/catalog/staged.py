"""What is seen of rows that a large change writes into a repository that others see; see ``batches.py``.

Nobody sees them before the row of their batch says that it is revealed, and everybody does from then on: whatever their
number, one row is changed for that. Afterwards they are made rows like others, some at a time, which changes nothing
that is seen. There is one batch at a time in each repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import bindparam, case, exists, literal_column, or_, select, true

from ocistore.catalog import tables
from ocistore.catalog.presence import present

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement, FromClause, Select

NOBODY: Final = 0
"""For :data:`OWN`: whoever reads has no batch of their own."""

POINTERS: Final[tuple[Literal["manifest_id", "next_id"], ...]] = ("manifest_id", "next_id")

OWN: BindParameter[int] = bindparam("own_batch", type_=tables.batches.c.id.type)
"""The batch of whoever reads, who sees it before others do."""

_batches = tables.batches


def is_hidden(table: FromClause, *, own: BindParameter[int] | None = None) -> ColumnElement[bool]:
    """Whether a row has a batch that is not revealed, nor the reader's own."""
    mine = true() if own is None else _batches.c.id != own
    # Of the nearest statement around it, whatever is between them.
    return (
        exists(literal_column("1"))
        .where(_batches.c.id == table.c.batch, _batches.c.revealed.is_(None), mine)
        .correlate_except(_batches)
    )


def is_seen(table: FromClause, *, own: BindParameter[int] | None = None) -> ColumnElement[bool]:
    """Whether a membership, or an event, is there."""
    return or_(table.c.batch.is_(None), ~is_hidden(table, own=own))


def target(tags: FromClause, *, own: BindParameter[int] | None = None) -> ColumnElement[Any]:
    """The manifest that a tag points at; NULL where the tag is not there."""
    return _now(tags, tags.c.manifest_id, tags.c.next_id, own=own)


def said(tags: FromClause, *, own: BindParameter[int] | None = None) -> ColumnElement[Any]:
    """What is said of a tag besides."""
    return _now(tags, tags.c.entry, tags.c.next_entry, own=own)


def points_at(tags: FromClause, manifest: ColumnElement[int], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a tag, or one that a batch brings or moves, points at a manifest: what keeps it from collection."""
    return or_(
        present(*conditions, tags.c.manifest_id == manifest), present(*conditions, tags.c.next_id == manifest)
    )


def named(
    repository: ColumnElement[int], manifest: ColumnElement[int], pointer: Literal["manifest_id", "next_id"]
) -> Select[tuple[str]]:
    """The names of tags that say in one of their columns that they point at a manifest, or did, or will.

    Apart from the tags themselves, because the index has nothing else: given conditions on other columns, SQLite reads
    all tags of the repository.
    """
    there = tables.tags.alias("there")
    found = select(there.c.name).where(there.c.repository_id == repository, there.c[pointer] == manifest)
    return found.correlate_except(there)


def is_tagged(repository: ColumnElement[int], manifest: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a tag that is seen points at a manifest."""
    tags = tables.tags
    return or_(
        *(
            present(
                tags.c.repository_id == repository,
                tags.c.name.in_(named(repository, manifest, pointer)),
                target(tags) == manifest,
            )
            for pointer in POINTERS
        )
    )


def _now(
    tags: FromClause, before: ColumnElement[Any], after: ColumnElement[Any], *, own: BindParameter[int] | None
) -> ColumnElement[Any]:
    return case(
        (tags.c.batch.is_(None), before),
        (~is_hidden(tags, own=own), after),
        (tags.c.fresh.is_(None), before),
    )
