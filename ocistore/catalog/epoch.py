"""The epoch: how a store notices that an older copy of its catalog was put back over newer blobs.

A catalog that was put back knows nothing of what was pushed since, so a collection would take that for garbage. The
epoch is counted in the catalog, with the first write of every process, and noted in the file of the write lock, which
is no part of any copy, after that write was committed. So the file is never ahead of its own catalog, whatever crashes:
a file that is ahead has seen a later catalog than this one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, select, update

from ocistore.catalog import holds, tables

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_t = tables.store
_current = select(_t.c.epoch)
_set = update(_t).values(epoch=bindparam("number"))

_LENGTH: Final = 20
"""Characters of the note: the digits of any 64-bit integer, so that a longer one never has to be cut off."""

OLDER_CATALOG: Final = "an older copy of the catalog was put back: what was pushed since would be taken for garbage"


def advance(connection: Connection, lock: int) -> int:
    """Count the epoch on, in a write transaction that holds the lock whose file is open as ``lock``.

    Where the file has seen a later catalog than this one, no collection may run until a person confirms.

    Returns:
        What to :func:`note` once the transaction is committed.
    """
    found: int = connection.execute(_current).scalar()
    seen = _noted(lock)
    number = max(found, seen) + 1
    connection.execute(_set, {"number": number})
    if seen > found:
        holds.place(connection, OLDER_CATALOG, now=time.time_ns() // 1_000_000)
    return number


def succeed(connection: Connection, lock: int) -> int:
    """Make a new catalog the successor of the one that the lock's file has seen. Returns what to :func:`note`."""
    number = _noted(lock) + 1
    connection.execute(_set, {"number": number})
    return number


def note(lock: int, number: int) -> None:
    """Write down, in the lock's file, how far its catalog has come. Need not survive a power cut."""
    os.pwrite(lock, str(number).rjust(_LENGTH).encode(), 0)


def _noted(lock: int) -> int:
    content = os.pread(lock, _LENGTH, 0).strip()
    return int(content) if content.isdigit() else 0
