"""Whether there is any row, or how many of a few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, exists, func, literal_column, select

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Exists, FromClause, ScalarSelect


def present(*conditions: ColumnElement[bool]) -> Exists:
    """``EXISTS (SELECT 1 ... WHERE ...)``.

    SQLAlchemy alone says ``SELECT *``, and for that SQLite takes no index that lacks a column: with a million tags in a
    repository, asking whether one manifest is tagged read all of them.
    """
    return exists(literal_column("1")).where(*conditions)


def count_up_to_limit(around: FromClause, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    """How many rows there are for each of ``around``; of more than the parameter ``limit``, so many."""
    some = select(literal_column("1")).where(*conditions).limit(bindparam("limit")).correlate(around).subquery()
    return select(func.count()).select_from(some).scalar_subquery()
