"""The one JSON reader for bytes from outside: reads what all clients read alike, and refuses the rest in bounded time.

``json.loads`` alone takes the last of two equal keys where others take the first, accepts NaN and UTF-16, recurses as
deep as the document says, and spends quadratic time on long numbers.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ocistore.errors import ManifestInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAXIMUM_DEPTH: Final = 64
"""Levels of nesting. A platform's features, the deepest thing the specifications know, are at level 5."""
MAXIMUM_NUMBER_LENGTH: Final = 64
"""Characters. An int64 has 20 at most; reading a decimal number takes time quadratic in its length."""

# A string, or what is left of the document where one is not closed. Possessive: never reads a character twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# As many closed strings, and bytes between them, as there are.
_OUTSIDE = re.compile(rb'(?:[^"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*+")
_OPENING: Final = b"[{"
_AT_ONCE: Final = 16 * 1024
"""Bytes that are looked at together."""
_LONGEST_CHARACTER: Final = 4
"""Bytes, in UTF-8."""
_HALF: Final = "a string holds half of a surrogate pair, which is no character"
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def loads(content: bytes, *, maximum: int) -> Any:  # noqa: ANN401 - what JSON holds is for the caller to find out
    """Return what the JSON document says, in dicts, lists, strings, numbers, booleans and None.

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
    return _loads(content)


def dumps(document: object) -> bytes:
    """Return the bytes of a document that is written: UTF-8 without spaces, keys in the order that they have.

    Raises:
        ManifestInvalidError: it holds something that JSON has not, or text with half of a surrogate pair.
    """
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ManifestInvalidError(_HALF) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestInvalidError(f"it cannot be written as JSON: {error}") from error


def loads_each(content: bytes, key: str, begin: Callable[[], Callable[[Any], object]], *, maximum: int) -> Any:  # noqa: ANN401 - likewise
    """Read as :func:`loads`, but give away each element of the list under ``key`` of the document, and never hold all.

    In the document that is returned the list is empty.

    Args:
        content: the document, as for :func:`loads`.
        key: of the document, which is an object then.
        begin: gives what is called with each element, in order. Called once more where all of it is read again: then
            what was given before does not count. Before this returns nobody knows whether the document is valid.
        maximum: how many bytes it may have.

    Raises:
        ManifestInvalidError: as :func:`loads`.
    """
    if not isinstance(content, bytes) or len(content) > maximum:
        return loads(content, maximum=maximum)  # which says what is wrong
    _check_depth(content)
    try:
        return _Pieces(content).read(key, begin())
    except (_WholeError, UnicodeDecodeError, ManifestInvalidError):
        pass
    # Something is wrong, or rare: reading all of it says which of the two, and where.
    document = _loads(content)
    elements = document.get(key) if isinstance(document, dict) else None
    if isinstance(elements, list):
        document[key] = []
        take = begin()
        for position, element in enumerate(elements):
            elements[position] = None
            take(element)
    return document


def _loads(content: bytes) -> Any:  # noqa: ANN401 - likewise
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
    for piece in _without_strings(content):
        for bracket in piece.translate(None, _NOT_BRACKETS):
            depth += 1 if bracket in _OPENING else -1
            if depth > MAXIMUM_DEPTH:
                raise ManifestInvalidError(f"it is nested deeper than {MAXIMUM_DEPTH} levels")


def _without_strings(content: bytes) -> Iterator[bytes]:
    """Yield the document without its strings, some at a time: what is between two strings takes 40 bytes in memory."""
    begin = 0
    while begin < len(content):
        outside = _OUTSIDE.match(content, begin, begin + _AT_ONCE)
        end = begin if outside is None else outside.end()
        if end == begin:  # here begins a string that is longer than that, or is not closed
            string = _STRING.match(content, begin)
            begin = len(content) if string is None else string.end()
        else:
            yield _STRING.sub(b"", content[begin:end])
            begin = end


class _WholeError(Exception):
    """The document has to be read as a whole."""


class _Pieces:
    """A document that is read some bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._next = 0
        """Where the bytes begin that were not decoded yet."""
        self._text = ""
        self._at = 0
        """Where the text begins that was not read yet."""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_sharing_keys(), parse_int=_integer, parse_float=_fraction, parse_constant=_constant
        )
        self._has_surrogates = b"\\ud" in content or b"\\uD" in content

    def read(self, key: str, take: Callable[[Any], object]) -> dict[str, Any]:
        """Read the document; raise :class:`_WholeError` wherever it is no object that is valid."""
        members: dict[str, Any] = {}
        self._expect("{")
        if self._peek() == "}":
            self._whole()
        while True:
            if self._peek() != '"':
                self._whole()
            name = self._value()
            if name in members:
                self._whole()
            self._expect(":")
            if name == key and self._peek() == "[":
                members[name] = []
                self._elements(take)
            else:
                members[name] = self._value()
            if self._passed(",}") == "}":
                break
        if self._peek():
            self._whole()
        return members

    def _elements(self, take: Callable[[Any], object]) -> None:
        self._expect("[")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            take(self._value())
            if self._passed(",]") == "]":
                return

    def _whole(self) -> NoReturn:
        raise _WholeError

    def _passed(self, characters: str) -> str:
        """Skip one of these characters, which must come next, and return it."""
        found = self._peek()
        if not found or found not in characters:
            self._whole()
        self._at += 1
        return found

    def _expect(self, character: str) -> None:
        self._passed(character)

    def _peek(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = self._at if space is None else space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _value(self) -> Any:  # noqa: ANN401 - likewise
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                end = len(self._text)
            if end < len(self._text):  # else it may continue
                self._at = end
                if self._has_surrogates:
                    _check_surrogates(value)
                return value
            if not self._more():
                self._whole()

    def _more(self) -> bool:
        """Decode as much again as there is, so that a long value is read a few times only. Return False at the end."""
        if self._next == len(self._content):
            return False
        left = self._text[self._at :]
        end = min(len(self._content), self._next + max(_AT_ONCE, len(left), _LONGEST_CHARACTER))
        piece = self._content[self._next : end]
        text, count = codecs.utf_8_decode(piece, "strict", end == len(self._content))
        self._next += count
        self._text, self._at = left + text, 0
        return True


def _sharing_keys() -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Make objects as :func:`_object` does, for many that are kept: each key is one string in all of them."""
    keys: dict[str, str] = {}

    def shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return _object([(keys.setdefault(key, key), value) for key, value in pairs])

    return shared


def _check_surrogates(document: object) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestInvalidError(_HALF) from error


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
