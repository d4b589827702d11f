"""The pages of the database file: how many are free, and giving them back to the filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

INCREMENTAL: Final = 2
"""What ``PRAGMA auto_vacuum`` says of a file that can give pages back one by one."""


class Pages(NamedTuple):
    """Of the database file, without its WAL."""

    size: int
    """Bytes of each."""
    total: int
    free: int
    """Those of them that hold nothing."""
    incremental: bool
    """Free ones can be given back without writing the whole file anew."""


def pages(connection: Connection) -> Pages:
    """How many there are."""
    size, count, free, mode = (
        int(connection.command(f"PRAGMA {name}").scalar())
        for name in ("page_size", "page_count", "freelist_count", "auto_vacuum")
    )
    return Pages(size, count, free, mode == INCREMENTAL)


def give_back(connection: Connection, count: int) -> None:
    """Give up to ``count`` free pages back, in a write transaction; each takes 5 to 20 µs."""
    connection.command(f"PRAGMA incremental_vacuum({count:d})")


def write_anew(connection: Connection) -> None:
    """Write the whole database anew, without free pages, so that it can give them back incrementally from now on.

    Outside any transaction, with the write lock held.
    """
    connection.command(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    connection.command("VACUUM")
