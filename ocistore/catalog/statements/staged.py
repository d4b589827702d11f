"""What is seen of rows that a large change writes into a repository that others see, or removes; see ``batches.py``.

Nobody sees what it writes, and everybody what it removes, before the row of its batch says that it is revealed; from
then on it is the other way round: whatever their number, one row is changed for that. Afterwards what was written
becomes rows like others, and what was removed is deleted, some at a time, which changes nothing that is seen. There is
one batch at a time in each repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import and_, bindparam, case, exists, literal_column, or_, select, true

from ocistore.catalog import parameters, tables
from ocistore.catalog.expressions import present

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement, FromClause, Select

POINTERS: Final[tuple[Literal["manifest_id", "next_id"], ...]] = ("manifest_id", "next_id")

OWN: BindParameter[int] = bindparam(parameters.OWN, type_=tables.batches.c.id.type)
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
    hidden = is_hidden(table, own=own)
    there = hidden == table.c.leaves.is_not(None) if "leaves" in table.c else ~hidden
    return or_(table.c.batch.is_(None), there)


def is_leaving(table: FromClause, *, own: BindParameter[int] | None = None) -> ColumnElement[bool]:
    """Whether a membership that is there is going to be removed by a batch of somebody else."""
    return and_(table.c.leaves.is_not(None), is_hidden(table, own=own))


def goes_later(there: FromClause, brought: Any) -> ColumnElement[bool]:  # noqa: ANN401 - columns
    """Return whether a membership that is brought once more is removed all the same, by a batch that comes after that.

    Args:
        there: the table of memberships.
        brought: the columns of the row that is written into it, by an upsert.
    """
    # An upsert has no rows around it that a subquery could be about.
    hidden = there.c.batch.in_(select(_batches.c.id).where(_batches.c.revealed.is_(None)))
    return and_(there.c.leaves.is_not(None), hidden, brought.batch.is_(None))


def brought_again(there: Any, brought: Any) -> dict[str, ColumnElement[Any]]:  # noqa: ANN401 - a table, and columns
    """Return what a membership's ``batch`` and ``leaves`` become where it is brought once more.

    One that others see stays so; one that its batch only would have, and does not remove, is seen from now on where
    it is not brought by that batch. One that is removed by then is there again.
    """
    later = goes_later(there, brought)
    still_hidden = and_(there.c.leaves.is_(None), brought.batch.is_not(None))
    return {"batch": case((or_(later, still_hidden), there.c.batch)), "leaves": case((later, there.c.leaves))}


def target(tags: FromClause, *, own: BindParameter[int] | None = None) -> ColumnElement[Any]:
    """Return the manifest that a tag points at; NULL where the tag is not there."""
    return _now(tags, tags.c.manifest_id, tags.c.next_id, own=own)


def said(tags: FromClause, *, own: BindParameter[int] | None = None) -> ColumnElement[Any]:
    """Return what is said of a tag besides."""
    return _now(tags, tags.c.entry, tags.c.next_entry, own=own)


def points_at(tags: FromClause, manifest: ColumnElement[int], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a tag, or one that a batch brings or moves, points at a manifest: what keeps it from gc."""
    return or_(present(*conditions, tags.c.manifest_id == manifest), present(*conditions, tags.c.next_id == manifest))


def named(
    repository: ColumnElement[int], manifest: ColumnElement[int], pointer: Literal["manifest_id", "next_id"]
) -> Select[tuple[str]]:
    """Return the names of tags that say in one of their columns that they point at a manifest, or did, or will.

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
