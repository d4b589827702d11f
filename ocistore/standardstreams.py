"""No file of a store has the number of standard input, output or error.

Where a program runs without one of them, or has closed it, the next file that is opened gets its number, and whatever
is printed there, by a library in C or by a dying interpreter, is written into that file: into a blob, or the lock. So
such a file is moved to another number, and ``/dev/null`` takes its place, as in SQLite's own openings.
"""

from __future__ import annotations

import os
from typing import Final

FIRST: Final = 3
"""The first number that is nobody's in particular."""


def occupy() -> None:
    """Let ``/dev/null`` have those of the three numbers that are free."""
    while True:
        number = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if number >= FIRST:
            os.close(number)
            return
