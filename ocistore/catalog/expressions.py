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

from sqlalchemy import JSON, Integer, Text, bindparam, case, column, exists, func, insert, literal_column, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.dialects.sqlite.dml import OnConflictDoNothing, OnConflictDoUpdate
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CompoundSelect, Join, _CompoundSelectKeyword

from ocistore.catalog.parameters import HALF

if TYPE_CHECKING:
    from sqlalchemy import CTE, ColumnElement, Exists, FromClause, Insert, ScalarSelect, Select, Table, TableValuedAlias
    from sqlalchemy.dialects.postgresql.base import PGCompiler
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

__all__ = [
    "array", "count_up_to_limit", "greatest", "halves", "in_order", "insertion", "member", "once_known", "present",
    "upsert", "walk",
]  # fmt: skip

_T = TypeVar("_T")

# Arrays.


class _Elements(FunctionElement[Any]):
    """The elements of a JSON array as rows of ``value`` and ``key``."""

    inherit_cache = True

    def __init__(self, name: str, of: type[TypeEngine[Any]]) -> None:
        super().__init__(bindparam(name, type_=Text), literal_column("0", of))  # the second one for its type


@compiles(_Elements)
def _elements(function: _Elements, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the compiler's own
    given, _ = function.clauses
    return f"json_each({compiler.process(given, **options)})"


@compiles(_Elements, "postgresql")
def _elements_of_postgresql(function: _Elements, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    given, of = function.clauses
    rows = f"jsonb_array_elements(CAST({compiler.process(given, **options)} AS JSONB)) WITH ORDINALITY"
    value = "element" if isinstance(of.type, JSON) else _cast("element #>> '{}'", of)
    return f"(SELECT {value} AS value, number - 1 AS key FROM {rows} AS each (element, number))"  # noqa: S608 - ours


class _Member(FunctionElement[Any]):
    """One element of an array that is an element itself."""

    inherit_cache = True

    def __init__(self, value: ColumnElement[Any], position: int, of: type[TypeEngine[Any]]) -> None:
        super().__init__(value, literal_column(f"{position:d}", of))
        self.type = of()


@compiles(_Member)
def _member(function: _Member, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the compiler's own
    value, position = function.clauses
    return f"json_extract({compiler.process(value, **options)}, '$[{compiler.process(position)}]')"


@compiles(_Member, "postgresql")
def _member_of_postgresql(function: _Member, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    value, position = function.clauses
    return _cast(f"{compiler.process(value, **options)} ->> {compiler.process(position)}", position)


def _cast(text: str, of: ColumnElement[Any]) -> str:
    return f"CAST({text} AS {'BIGINT' if isinstance(of.type, Integer) else 'TEXT'})"


def array(name: str, of: type[TypeEngine[Any]] = Integer) -> TableValuedAlias:
    """Return the elements of the array bound as ``name``: a table of ``value`` and ``key`` (its place).

    Args:
        name: of the parameter.
        of: the type of its elements; ``JSON`` where they are arrays themselves, for :func:`member`.
    """
    return _Elements(name, of).table_valued(column("value"), column("key"))


def member(rows: TableValuedAlias, position: int, of: type[TypeEngine[Any]] = Integer) -> ColumnElement[Any]:
    """Return element ``position``, of that type, of each row, where every element of the array is an array itself."""
    return _Member(rows.c.value, position, of)


# Rows that are there, or how many; and new ones.


def insertion(table: Table, *columns: str) -> Insert:
    """Return an ``INSERT`` of one row, whose columns are bound by their own names."""
    return insert(table).values({name: bindparam(name) for name in columns})


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


# Upserts, which both databases write alike.


@compiles(OnConflictDoNothing, "postgresql")
@compiles(OnConflictDoUpdate, "postgresql")
def _upsert_of_postgresql(
    clause: OnConflictDoNothing | OnConflictDoUpdate,
    compiler: PGCompiler,
    **options: Any,  # noqa: ANN401 - the compiler's own
) -> str:
    # Only PostgreSQL has one, and its compiler looks for it.
    clause.constraint_target = None  # type: ignore[union-attr]
    update = isinstance(clause, OnConflictDoUpdate)
    visit = compiler.visit_on_conflict_do_update if update else compiler.visit_on_conflict_do_nothing
    return str(visit(clause, **options))  # type: ignore[no-untyped-call]


# Numbers.


class greatest(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """The larger of two numbers, neither of which is NULL."""

    name = "greatest"
    type = Integer()
    inherit_cache = True


@compiles(greatest)
def _greatest(function: greatest, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the compiler's own
    return f"max({compiler.process(function.clauses, **options)})"


@compiles(greatest, "postgresql")
def _greatest_of_postgresql(function: greatest, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"greatest({compiler.process(function.clauses, **options)})"


def halves(size: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return the sum of a column of sizes, in two columns, for :func:`total`."""
    bits: ColumnElement[int] = literal_column(str(HALF))
    mask: ColumnElement[int] = literal_column(str((1 << HALF) - 1))
    return (
        func.coalesce(func.sum(size.bitwise_rshift(bits)), 0),
        func.coalesce(func.sum(size.bitwise_and(mask)), 0),
    )


# Recursive walks.


class _Steps(CompoundSelect[Any]):
    """The steps of a walk, each of which begins at every row that was reached."""

    inherit_cache = False

    def __init__(self, reached: str, *steps: Select[Any]) -> None:
        super().__init__(_CompoundSelectKeyword.UNION, *steps)
        self.reached = reached

    def self_group(self, against: object = None) -> Any:  # noqa: ANN401, ARG002 - it goes without parentheses
        return self


@compiles(_Steps)
def _steps(steps: _Steps, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - the compiler's own
    return str(compiler.visit_compound_select(steps, **options))  # type: ignore[no-untyped-call]


@compiles(_Steps, "postgresql")
def _steps_of_postgresql(steps: _Steps, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    # It lets a walk look at what was reached only once, so all steps look at the same look.
    text = compiler.visit_compound_select(steps, **options)  # type: ignore[no-untyped-call]
    return f"(WITH {steps.reached} AS (SELECT * FROM {steps.reached}) {text})"  # noqa: S608 - ours


def walk(begin: CTE, *steps: Select[Any]) -> CTE:
    """Return the set of rows that are reached from those of ``begin``, recursive, by any number of these steps."""
    return begin.union(_Steps(begin.name, *steps))


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


@compiles(InOrder, "postgresql")
def _in_order_of_postgresql(join: InOrder, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    # Its CROSS JOIN takes no condition, and nobody needs to tell its planner.
    return str(compiler.visit_join(join, **options))  # type: ignore[no-untyped-call]


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
