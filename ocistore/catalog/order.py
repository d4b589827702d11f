"""Joins that run in the order in which they are written, whatever a version of SQLite or its statistics would choose.

The planner of SQLite guesses how many rows come of a recursive table or of an array, and each version guesses another
number: given a join of one with a table, 3.39 and 3.53 read the whole table, and look each of its rows up in the other.
``CROSS JOIN`` tells SQLite the order (https://www.sqlite.org/optoverview.html#crossjoin): written so, every statement
begins with what is few and goes on by an index. ``tests/catalog/test_plans.py`` holds all of them to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import case
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.selectable import Join

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, FromClause
    from sqlalchemy.sql.compiler import SQLCompiler


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


_T = TypeVar("_T")


def once_known(outer: ColumnElement[Any], value: ColumnElement[_T]) -> ColumnElement[_T]:
    """A condition on a table of a join, or what a column of it must equal, that takes a row of ``outer`` to know.

    Otherwise SQLite (from 3.38 on, where there are statistics) may read the whole table before the join, to make a
    Bloom filter of the rows that come into question.
    """
    return case((outer.is_not(None), value))
