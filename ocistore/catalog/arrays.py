"""Any number of values as one bound parameter: a JSON array that SQLite unfolds into rows.

A list of placeholders has a limit (32,766) and compiles anew for every length; this is one prepared statement for any
length.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, bindparam, func, literal_column
from sqlalchemy import column as sql_column

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, TableValuedAlias


def array(name: str) -> TableValuedAlias:
    """The elements of the array bound as ``name``, as a table with the columns ``value`` and ``key`` (its position)."""
    return func.json_each(bindparam(name, type_=Text)).table_valued(sql_column("value"), sql_column("key"))


def member(rows: TableValuedAlias, position: int) -> ColumnElement[Any]:
    """Element ``position`` of each row, where every element of the array is an array itself."""
    return func.json_extract(rows.c.value, literal_column(f"'$[{position:d}]'"))


def bound(values: Iterable[object]) -> str:
    """The text to bind."""
    return json.dumps(list(values), separators=(",", ":"))
