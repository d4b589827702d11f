"""Listings in pages: each page is one short statement, so that no transaction is open while the caller works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from ocistore.arguments import whole_number
from ocistore.errors import InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_K = TypeVar("_K")
_V = TypeVar("_V")

PAGE: Final = 1000
"""How many rows a listing fetches at once: about a millisecond of reading."""


def check_text(given: str, *, kind: str) -> str:
    """Return ``given``, which narrows a listing, where it is text. It need not be the name of anything.

    Raises:
        InvalidNameError: it is not text, or holds half of a surrogate pair, which no name does and no query can carry.
    """
    if not isinstance(given, str):
        raise InvalidNameError(given, kind=kind, reason="it is not text")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise InvalidNameError(given, kind=kind, reason="it cannot be written as UTF-8") from error
    return given


def pages(fetch: Callable[[_K, int], list[tuple[_K, _V]]], start: _K, limit: int | None) -> Iterator[_V]:
    """Return the values after the key ``start``, at most ``limit`` of them; the first page is fetched at once.

    Args:
        fetch: given a key and a number, up to that many pairs of key and value after that key.
        start: the key to begin after.
        limit: None for all.

    Raises:
        ValueError: the limit is negative.
        TypeError: the limit is not a whole number.
    """
    if limit is not None:
        limit = whole_number(limit, "limit")
    wanted = PAGE if limit is None else min(limit, PAGE)
    return _rest(fetch, fetch(start, wanted) if wanted else [], wanted, limit)


def _rest(
    fetch: Callable[[_K, int], list[tuple[_K, _V]]], page: list[tuple[_K, _V]], wanted: int, limit: int | None
) -> Iterator[_V]:
    given = 0
    while page:
        for _, value in page:
            yield value
        given += len(page)
        if len(page) < wanted or given == limit:
            return
        wanted = PAGE if limit is None else min(limit - given, PAGE)
        page = fetch(page[-1][0], wanted)
