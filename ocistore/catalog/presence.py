"""Whether there is any row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, literal_column

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Exists


def present(*conditions: ColumnElement[bool]) -> Exists:
    """``EXISTS (SELECT 1 ... WHERE ...)``.

    SQLAlchemy alone says ``SELECT *``, and for that SQLite takes no index that lacks a column: with a million tags in a
    repository, asking whether one manifest is tagged read all of them.
    """
    return exists(literal_column("1")).where(*conditions)
