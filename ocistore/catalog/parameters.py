"""What is given to statements, and what is taken from their rows, where it is not simply a value.

The counterparts, as statements have them, are in ``expressions.py``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HALF: Final = 32
"""Bits of a size that are summed apart from the others."""

OWN: Final = "own_batch"
"""The parameter that is the batch of whoever reads, who sees it before others do; see ``statements/staged.py``."""

NOBODY: Final = 0
"""Its value where whoever reads has no batch."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


def bound(values: Iterable[object]) -> str:
    """Return the text to bind for an array."""
    return _encode(list(values))


def total(row: Iterator[int]) -> int:
    """Take the next two columns of a row, and put them together."""
    return (next(row) << HALF) + next(row)
