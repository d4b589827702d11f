"""Looking for damage in the database itself. Reads all of it: seconds for millions of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import literal_column, select

from ocistore.catalog import tables
from ocistore.errors import CorruptError

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection


def problems(connection: Connection) -> list[str]:
    """What SQLite finds wrong, in its own words, or else the rows that break a foreign key; empty where all is well."""
    try:
        found = [str(text) for text in connection.command("PRAGMA integrity_check").scalars() if text != "ok"]
        rows = [] if found else list(connection.command("PRAGMA foreign_key_check"))
    except CorruptError as error:  # damage so bad that the check itself stumbles over it
        return [str(error)]
    return found + [f"row {row} of {table} refers to a row of {parent} that is gone" for table, row, parent, _ in rows]


def has_all_columns(connection: Connection) -> bool:
    """Whether every table and column is there that this version knows, whatever else there is."""
    try:
        for table in tables.metadata.sorted_tables:
            connection.execute(select(table).limit(literal_column("0")))
    except CorruptError:
        return False
    return True
