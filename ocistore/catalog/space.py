"""The pages of the database file: how many are free, and giving them back to the filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

INCREMENTAL: Final = 2
"""What ``PRAGMA auto_vacuum`` says of a file that can give pages back one by one."""

_FRAME_HEADER: Final = 24
"""Bytes that a WAL has beside each page (section 4.1 of SQLite's file format)."""

_PAGES_PER_MAP: Final = 500
"""Of how many pages at least one says where they belong, in a file that can give pages back; of 4 KiB, 819 do."""


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
    """Return how many there are."""
    size, count, free, mode = (
        int(connection.command(f"PRAGMA {name}").scalar())
        for name in ("page_size", "page_count", "freelist_count", "auto_vacuum")
    )
    return Pages(size, count, free, mode == INCREMENTAL)


def needed_to_write_anew(found: Pages) -> int:
    """Return the bytes of a WAL that has everything: its frames, and what is needed to find pages in them."""
    used = found.total - found.free
    return (used + used // _PAGES_PER_MAP + 2) * (found.size + _FRAME_HEADER)


def give_back(connection: Connection, count: int) -> None:
    """Give up to ``count`` free pages back, in a write transaction; each takes 5 to 20 µs."""
    connection.command(f"PRAGMA incremental_vacuum({count:d})")


def write_anew(connection: Connection) -> None:
    """Write the whole database anew, without free pages, so that it can give them back incrementally from now on.

    Outside any transaction, with the write lock held.

    Raises:
        OCIStoreError: it could not be written. Nothing is changed.
    """
    connection.watch = None  # its own checkpoint would be taken for another's
    connection.command(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    connection.command("VACUUM")
