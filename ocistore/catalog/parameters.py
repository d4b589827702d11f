"""What is given to statements, and what is taken from their rows, where it is not simply a value.

The counterparts, as statements have them, are in ``expressions.py``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HALF: Final = 32
"""Bits of a size that are summed apart from the others."""

OWN: Final = "own_batch"
"""The parameter that is the batch of whoever reads, who sees it before others do; see ``statements/staged.py``."""

NOBODY: Final = 0
"""Its value where whoever reads has no batch."""

_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_make_encoder: Callable[..., Callable[[object, int], Iterable[str]]] | None = getattr(
    json.encoder, "c_make_encoder", None
)


# What JSONEncoder.encode makes anew for each text, which takes longer than to encode the few values of a small push.
_pieces: Callable[[object, int], Iterable[str]] = (
    (lambda value, _: _encoder.iterencode(value))
    if _make_encoder is None
    else _make_encoder(
        None,
        _encoder.default,
        json.encoder.encode_basestring_ascii,
        None,
        _encoder.key_separator,
        _encoder.item_separator,
        _encoder.sort_keys,
        _encoder.skipkeys,
        _encoder.allow_nan,
    )
)


def bound(values: Iterable[object]) -> str:
    """Return the text to bind for an array."""
    return "".join(_pieces(list(values), 0))


def total(row: Iterator[int]) -> int:
    """Take the next two columns of a row, and put them together."""
    return (next(row) << HALF) + next(row)
