"""Names of files as text: archives and annotations write them in UTF-8, and the system in what its locale says.

Both are the same in a UTF-8 locale. In another, such as ASCII's, the bytes of a name are to stay what they are.
"""

from __future__ import annotations

import os
from typing import Final

MAXIMUM_PATH: Final = 4095
"""Bytes: no process could open a file of a longer path."""
MAXIMUM_NAMES_SIZE: Final = 256 * 1024 * 1024
"""Characters of all names of files that are held in memory at once, and of what links lead to: with a million of 4 KiB
there would be no end."""


def name_bytes(name: str) -> bytes:
    """Return the bytes of a name in an archive, where those that are no UTF-8 are escaped as in ``os.fsdecode``."""
    return name.encode("utf-8", "surrogateescape")


def name_on_disk(name: str) -> str:
    """Return the name to call the system with, so that a file has the bytes of ``name``."""
    return os.fsdecode(name_bytes(name))


def name_from_disk(name: str) -> str:
    """Return the name in an archive of a file that the system, or an argument of a command, calls so."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")
