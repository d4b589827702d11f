"""Whether the database is whole: what SQLite finds wrong, and where rows contradict each other or the documents.

Most of it reads all rows: seconds for millions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog.written import Statements
from ocistore.errors import CorruptError, StorageError

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("check")

_NAMING: Final = ("repositories", "blobs", "repository_manifests", "tags")
"""The tables that say which manifest is called what, in which repository."""


_UNREAD: Final = re.compile(r"unable to get the page\. error code=(\d+)|failed to get page")
"""What SQLite says of a page that it could not read, with the number of its error (src/btree.c)."""
_CANNOT_READ: Final = frozenset({7, 10})
"""SQLITE_NOMEM and SQLITE_IOERR, the lowest eight bits of such a number (sqlite.org/rescode.html)."""


def problems(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong, in its own words, or else the rows that break a foreign key.

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
        for every_column in _sql.each("EVERY_COLUMN"):
            connection.execute(every_column)
    except CorruptError:
        return False
    return True


def refs_are_whole(connection: Connection) -> bool:
    """Whether nothing is wrong with the tables that have the names, whatever is wrong with others. Reads all of them.

    Raises:
        StorageError: they could not be read now.
    """
    try:
        found = [connection.command(f"PRAGMA integrity_check({table})").scalars() for table in _NAMING]
        return all(each == ["ok"] for each in found) and not any(
            connection.execute(statement).first() for statement in _sql.each("DANGLING")
        )
    except CorruptError:
        return False


class Said(NamedTuple):
    """What a manifest says of itself, as its row has it: nothing that decides what is kept."""

    media_type: str
    artifact_type: str | None
    config_media_type: str | None
    annotations: str | None
    platform: str | None
    """JSON, like the annotations."""


class Described(NamedTuple):
    """What the rows say of a manifest."""

    said: Said
    subject: str | None
    edges: list[tuple[str, str, int, str]]
    """Role, digest, size and media type, in the order of the document."""


def described(connection: Connection, blob_id: int) -> Described | None:
    """Return what the rows say of a blob as a manifest; None where it is none."""
    row = connection.execute(_sql.DESCRIBED, {"blob": blob_id}).first()
    if row is None:
        return None
    edges = [(role, digest, size, media_type) for role, digest, size, media_type in
             connection.execute(_sql.CHILDREN, {"blob": blob_id})]  # fmt: skip
    return Described(Said(*row[:5]), row[5], edges)


def correct(connection: Connection, blob_id: int, said: Said) -> None:
    """Note what a manifest says of itself. What it refers to stays as it is noted."""
    connection.execute(
        _sql.CORRECT, {"blob": blob_id, **{f"said_{key}": value for key, value in said._asdict().items()}}
    )


def inconsistencies(connection: Connection) -> list[str]:
    """Return what rows contradict each other. Reads all of them."""
    found = []
    for statement, words in (
        (_sql.MISSING_EDGES, "edges of manifests are missing from their repositories"),
        (_sql.EXCESS_EDGES, "edges of repositories belong to none of their manifests"),
        (_sql.SERVED_WITHOUT_BYTES, "blobs are served by repositories and not live"),
        (_sql.LACKING, "edges of manifests lead to content that their repositories do not serve"),
    ):
        count = connection.execute(statement).scalar()
        if count:
            found.append(f"{count} {words}")
    return found
