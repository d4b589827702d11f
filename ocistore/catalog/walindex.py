"""Whether a read was undisturbed: what the shared memory says of the WAL before and after it.

A read has a lock on the part of the WAL that it sees. Whatever in its process opens and closes ``-shm`` drops it (see
``guard.py``), and a checkpoint in another process may then write later pages into the database under the read, or have
the WAL begin anew. Both are to be seen in the shared memory before the first page is touched. So it is looked at before
a read and after it, in a map that stays as long as any connection: a read that may be torn is made again.
"""

from __future__ import annotations

import struct
from typing import Final

SIZE: Final = 136
"""Bytes: the header of the wal-index, twice, and what checkpoints note (section 2.1 of SQLite's format of WAL mode)."""

_LAST_FRAME: Final = 16
_SALTS: Final = slice(32, 40)
_WRITTEN: Final = 96
"""Where the number of frames stands that are in the database, too."""
_MARKS: Final = 100
"""Where the marks of readers begin."""
_ATTEMPTED: Final = 128
"""Where the number of frames stands that a checkpoint has written into the database, or is about to."""


def is_undisturbed(before: bytes, after: bytes, *, known: bool = False) -> bool:
    """Tell whether a read between both saw one state. It may say no where it did, if others commit.

    Every frame that a reader sees is in the WAL when it begins. While its lock is held, no checkpoint goes further than
    that, and a WAL that it reads from does not begin anew.

    Args:
        before: the shared memory when it had not begun yet.
        after: the shared memory when it was over.
        known: the read began while the shared memory said what it says ``before``. Then it does not say no for a WAL
            that began anew under one who reads the database only, because all of it was there already.
    """
    if before == after:
        return True
    if len(before) < SIZE or len(after) < SIZE:
        return False
    seen, written = _number(before, _LAST_FRAME), _number(before, _WRITTEN)
    attempted = _number(after, _ATTEMPTED)
    if before[_SALTS] == after[_SALTS]:
        return attempted <= seen
    if not known or seen != written or attempted != 0:
        return False
    return seen == 0 or _beginnings(after) == _beginnings(before) + 1  # the first ever has any salt


def is_same_state(one: bytes, other: bytes) -> bool:
    """Tell whether nobody committed, and no checkpoint went on, between both."""
    return one[:_MARKS] == other[:_MARKS] and _number(one, _ATTEMPTED) == _number(other, _ATTEMPTED)


def _number(memory: bytes, place: int) -> int:
    number: int = struct.unpack_from("=I", memory, place)[0]
    return number


def _beginnings(memory: bytes) -> int:
    """Return how often the WAL began anew: the first salt counts it, from a random number."""
    return int.from_bytes(memory[32:36], "big")
