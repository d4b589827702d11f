"""The one JSON reader for bytes from outside: reads what all clients read alike, and refuses the rest in bounded time.

``json.loads`` alone takes the last of two equal keys where others take the first, accepts NaN and UTF-16, recurses as
deep as the document says, and spends quadratic time on long numbers.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from ocistore.errors import ManifestInvalidError

MAXIMUM_DEPTH: Final = 64
"""Levels of nesting. A platform's features, the deepest thing the specifications know, stand at level 5."""
MAXIMUM_NUMBER_LENGTH: Final = 64
"""Characters. An int64 has 20 at most; reading a decimal number takes time quadratic in its length."""

# A string, or what is left of the document where one is not closed. Possessive: never reads a character twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OPENING: Final = b"[{"
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def loads(content: bytes, *, maximum: int) -> Any:  # noqa: ANN401 - what JSON holds is for the caller to find out
    """What the JSON document says, in dicts, lists, strings, numbers, booleans and None.

    Args:
        content: the document: UTF-8 without byte order mark.
        maximum: how many bytes it may have.

    Raises:
        ManifestInvalidError: it is too long, not UTF-8, not JSON (RFC 8259), nested deeper than 64 levels, or holds
            equal keys in one object, numbers that are not finite or longer than 64 characters, or halves of surrogate
            pairs.
    """
    if not isinstance(content, bytes):
        raise ManifestInvalidError(f"{type(content).__name__} is not bytes")
    if len(content) > maximum:
        raise ManifestInvalidError(f"it has {len(content)} bytes, at most {maximum} are allowed")
    _check_depth(content)
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ManifestInvalidError("it starts with a byte order mark; it must be UTF-8 without one")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestInvalidError(f"it is not UTF-8: byte {error.start} is out of place") from error
    try:
        document = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ManifestInvalidError(f"it is not JSON: {error.msg} at {place}") from error
    # Only an escape can put half a surrogate pair into text that was UTF-8, and few documents have one that looks so.
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(document)
    return document


def _check_depth(content: bytes) -> None:
    """Refuse deep nesting before the parser, which recurses, sees it."""
    if content.count(b"{") + content.count(b"[") <= MAXIMUM_DEPTH:
        return
    depth = 0
    for bracket in _STRING.sub(b"", content).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in _OPENING else -1
        if depth > MAXIMUM_DEPTH:
            raise ManifestInvalidError(f"it is nested deeper than {MAXIMUM_DEPTH} levels")


def _check_surrogates(document: object) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestInvalidError("a string holds half of a surrogate pair, which is no character") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ManifestInvalidError(f"the key {key!r:.100} stands twice in one object")
            seen.add(key)
    return members


def _integer(text: str) -> int:
    if len(text) > MAXIMUM_NUMBER_LENGTH:
        raise ManifestInvalidError(f"a number has {len(text)} characters, at most {MAXIMUM_NUMBER_LENGTH} are allowed")
    return int(text)


def _fraction(text: str) -> float:
    if len(text) > MAXIMUM_NUMBER_LENGTH:
        raise ManifestInvalidError(f"a number has {len(text)} characters, at most {MAXIMUM_NUMBER_LENGTH} are allowed")
    number = float(text)
    if not math.isfinite(number):
        raise ManifestInvalidError(f"the number {text} is too large")
    return number


def _constant(text: str) -> float:
    raise ManifestInvalidError(f"{text} is not a number in JSON")


# Made once: json.loads makes a decoder for each call that has options.
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)
