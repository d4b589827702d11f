"""Expressions that each kind of database writes its own way, and those that a planner must be told how to read.

Everything that statements take from here means the same on every database; how it is written stands here alone.
``tests/catalog/test_dialects.py`` holds the other modules of this package to it.

**Arrays**: any number of values as one bound parameter, a JSON array that the database unfolds into rows. A list of
placeholders has a limit (32,766) and compiles anew for every length; this is one prepared statement for any length.

**Order of joins**: a join that runs in the order in which it is written, whatever a version of SQLite or its statistics
would choose. The planner of SQLite guesses how many rows come of a recursive table or of an array, and each version
guesses another number: given a join of one with a table, 3.39 and 3.53 read the whole table, and look each of its rows
up in the other. ``CROSS JOIN`` tells SQLite the order (https://www.sqlite.org/optoverview.html#crossjoin): written so,
every statement begins with the few rows and continues by an index. ``tests/catalog/test_plans.py`` holds all of them
to it.

**Sums**: a manifest may say that a layer has 2**63 - 1 bytes, and SQLite's SUM fails where it leaves 64 bits. So the
two halves of each number are summed apart, and put together (by ``parameters.total``) where integers have no end: these
sums leave 64 bits at four thousand million rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Integer, Text, bindparam, case, exists, func, insert, literal_column, select
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import Join

from ocistore.catalog.parameters import HALF

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Exists, FromClause, Insert, ScalarSelect, Table, TableValuedAlias
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = [
    "array", "count_up_to_limit", "greatest", "halves", "in_order", "insertion", "member", "once_known", "present",
    "upsert",
]  # fmt: skip

_T = TypeVar("_T")

# Arrays.


def array(name: str) -> TableValuedAlias:
    """Return the elements of the array bound as ``name``: a table of ``value`` and ``key`` (its place)."""
    return func.json_each(bindparam(name, type_=Text)).table_valued(sql_column("value"), sql_column("key"))


def member(rows: TableValuedAlias, position: int) -> ColumnElement[Any]:
    """Return element ``position`` of each row, where every element of the array is an array itself."""
    return func.json_extract(rows.c.value, literal_column(f"'$[{position:d}]'"))


# Rows that are there, or how many; and new ones.


def insertion(table: Table, *columns: str) -> Insert:
    """Return an ``INSERT`` of one row, whose columns are bound by their own names."""
    return insert(table).values({column: bindparam(column) for column in columns})


def present(*conditions: ColumnElement[bool]) -> Exists:
    """Return ``EXISTS (SELECT 1 ... WHERE ...)``.

    SQLAlchemy alone says ``SELECT *``, and for that SQLite takes no index that lacks a column: with a million tags in a
    repository, asking whether one manifest is tagged read all of them.
    """
    return exists(literal_column("1")).where(*conditions)


def count_up_to_limit(around: FromClause, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    """Return how many rows there are for each of ``around``; of more than the parameter ``limit``, that many."""
    some = select(literal_column("1")).where(*conditions).limit(bindparam("limit")).correlate(around).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


# Numbers.


class greatest(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """The larger of two numbers, neither of which is NULL."""

    name = "greatest"
    type = Integer()
    inherit_cache = True


@compiles(greatest)
def _greatest(function: greatest, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the compiler's own
    return f"max({compiler.process(function.clauses, **options)})"


def halves(size: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return the sum of a column of sizes, in two columns, for :func:`total`."""
    bits: ColumnElement[int] = literal_column(str(HALF))
    mask: ColumnElement[int] = literal_column(str((1 << HALF) - 1))
    return (
        func.coalesce(func.sum(size.bitwise_rshift(bits)), 0),
        func.coalesce(func.sum(size.bitwise_and(mask)), 0),
    )


# The order of joins.


class InOrder(Join):
    """An inner join whose left side SQLite must read first."""

    inherit_cache = True


@compiles(InOrder)
def _in_order(join: InOrder, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - whatever the compiler passes on
    options["asfrom"] = True
    left, right = compiler.process(join.left, **options), compiler.process(join.right, **options)
    options.pop("from_linter", None)
    condition = compiler.process(cast("ColumnElement[bool]", join.onclause), **(options | {"asfrom": False}))
    return f"{left} CROSS JOIN {right} ON {condition}"


def in_order(first: FromClause, *then: tuple[FromClause, ColumnElement[bool]]) -> FromClause:
    """Join ``first`` with each of the others, on its condition, in this order."""
    joined = first
    for table, condition in then:
        joined = InOrder(joined, table, condition)
    return joined


def once_known(outer: ColumnElement[Any], value: ColumnElement[_T]) -> ColumnElement[_T]:
    """Return ``value``, a condition on a table of a join or what a column of it must equal, tied to a row of ``outer``.

    Otherwise SQLite (from 3.38 on, where there are statistics) may read the whole table before the join, to make a
    Bloom filter of the rows that come into question.
    """
    return case((outer.is_not(None), value))
