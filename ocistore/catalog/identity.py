"""Which store a catalog is of, and whether it is a backup, which the next one may overwrite.

A store gets a random identity when its catalog is made, also by a rebuild. A backup has one of its own, and says of
which store it is the backup, for as long as nobody has put anything into it.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.written import Statements
from ocistore.errors import CorruptError

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("identity")


class Identity(NamedTuple):
    """Who a catalog says it is."""

    identity: str
    backup_of: str | None
    """The identity of the store that this is a backup of; None for a store."""


def fresh() -> str:
    """Return an identity that no store has."""
    return secrets.token_hex(16)


def find(connection: Connection) -> Identity:
    """Return who the catalog says it is.

    Raises:
        CorruptError: it does not say, as a database that somebody else made.
    """
    try:
        row = connection.execute(_sql.FIND).first()
    except sqlite3.OperationalError as error:
        raise CorruptError("the catalog", reason=f"it does not say whose it is: {error}") from error
    if row is None:
        raise CorruptError("the catalog", reason="it does not say whose it is")
    return Identity(*row)


def become_backup(connection: Connection, identity: str) -> None:
    """Make a copied catalog that of a backup of the store it was copied from."""
    connection.is_backup = None
    connection.execute(_sql.MARK, {"new": identity})


def become_store(connection: Connection) -> None:
    """Make the catalog that of a store of its own, which no backup overwrites. Does nothing where it is one."""
    if connection.is_backup is not False:
        connection.execute(_sql.UNMARK)
