"""Sums of sizes. A manifest may say that a layer has 2**63 - 1 bytes, and SQLite's SUM fails where it leaves 64 bits.

So the two halves of each number are summed apart, and put together where integers have no end: these sums leave 64 bits
at four thousand million rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, func, literal_column

if TYPE_CHECKING:
    from collections.abc import Iterator

_HALF: Final = 32
"""Bits."""


def halves(size: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The sum of a column of sizes, in two columns, for :func:`total`."""
    bits: ColumnElement[int] = literal_column(str(_HALF))
    mask: ColumnElement[int] = literal_column(str((1 << _HALF) - 1))
    return (
        func.coalesce(func.sum(size.bitwise_rshift(bits)), 0),
        func.coalesce(func.sum(size.bitwise_and(mask)), 0),
    )


def total(row: Iterator[int]) -> int:
    """Take the next two columns of a row, and put them together."""
    return (next(row) << _HALF) + next(row)
