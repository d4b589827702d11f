"""Looking for damage in the database itself. Reads all of it: seconds for millions of rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sqlalchemy import literal_column, select

from ocistore.catalog import tables
from ocistore.errors import CorruptError, StorageError

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection


_UNREAD: Final = re.compile(r"unable to get the page\. error code=(\d+)|failed to get page")
"""What SQLite says of a page that it could not read, with the number of its error (src/btree.c)."""
_CANNOT_READ: Final = frozenset({7, 10})
"""SQLITE_NOMEM and SQLITE_IOERR, the lowest eight bits of such a number (sqlite.org/rescode.html)."""


def problems(connection: Connection) -> list[str]:
    """What SQLite finds wrong, in its own words, or else the rows that break a foreign key; empty where all is well.

    Where something is wrong it is asked again: SQLite calls a read that failed damage, too (SQLITE_IOERR_CORRUPTFS).

    Raises:
        StorageError: some of it cannot be read now, which does not mean that it is damaged.
    """
    found = _problems(connection) and _problems(connection)
    for problem in found:
        for unread in _UNREAD.finditer(problem):
            if unread[1] is None or int(unread[1]) & 0xFF in _CANNOT_READ:
                raise StorageError("the catalog", errno=None, reason=f"a part of it cannot be read: {problem}")
    return found


def _problems(connection: Connection) -> list[str]:
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
