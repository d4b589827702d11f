"""Digests: which algorithms there are, and the one parser that decides what may become a path in the pool."""

from __future__ import annotations

import hashlib
import re
from typing import Final, Protocol, final

from ocistore.errors import InvalidDigestError

ALGORITHMS: Final = {"sha256": 64, "sha512": 128, "blake3": 64}
"""How many hexadecimal digits a digest of each has (image specification, descriptor, "Registered algorithms")."""

# The two that every installation can check, in one match; everything else takes the slow way, which finds the reason.
_COMMON = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
# Longer than any digest of any algorithm: what is longer is refused before a pattern looks at it.
_MAXIMUM_LENGTH: Final = 256


class Hasher(Protocol):
    """What hashes bytes as they stream: the objects of ``hashlib``, and those of the ``blake3`` package."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in lower-case hexadecimal. More may follow."""
        ...


@final
class Digest(str):
    """An algorithm and the hash it gave, as ``sha256:6c3c...`` (image specification, descriptor, "Digests").

    A string that was checked: every instance, however it was made, is of an algorithm that this process can compute,
    with the right number of lower-case hexadecimal digits, and so is safe as part of a path. Equal to the plain string
    of the same text, and usable wherever that is.

    Raises:
        InvalidDigestError: ``text`` is anything else; ``reason`` says what is wrong with it.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        """Check ``text``, which is what makes the promise above hold for unpickled and copied instances too."""
        try:
            match = _COMMON.fullmatch(text)
        except TypeError:
            raise InvalidDigestError(text, reason="it is not text") from None
        # The matched text and not the argument: a subclass of str may print as something else.
        return str.__new__(cls, match.group() if match is not None else _uncommon(text))

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return the digest that ``text`` spells; the same object where it is a ``Digest`` already.

        Raises:
            InvalidDigestError: it spells none of an algorithm this process can compute.
        """
        return text if type(text) is cls else cls(text)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """Return the digest of those bytes.

        Raises:
            InvalidDigestError: there is no such algorithm here.
        """
        state = hasher(algorithm)
        state.update(data)
        return cls.of_hasher(state, algorithm)

    @classmethod
    def of_hasher(cls, state: Hasher, algorithm: str) -> Digest:
        """Return the digest of what was fed to ``state``, which came from ``hasher(algorithm)``."""
        return cls(f"{algorithm}:{state.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """What is before the colon: ``sha256``."""
        return self[: self.index(":")]

    @property
    def encoded(self) -> str:
        """What is after the colon: lower-case hexadecimal digits."""
        return self[self.index(":") + 1 :]


def digest_or_none(text: str) -> Digest | None:
    """Return the digest that ``text`` spells; None where it spells none of an algorithm this process can compute."""
    try:
        return Digest.parse(text)
    except InvalidDigestError:
        return None


def is_any_digest(text: str) -> bool:
    """Whether it is a digest, of an algorithm that is known here or of another."""
    return digest_or_none(text) is not None or is_of_other_algorithm(text)


def is_of_other_algorithm(text: object) -> bool:
    """Whether it is a digest by its form (image specification, descriptor, "Digests"), of an algorithm not known here.

    Or of one whose package is not installed.
    """
    if not isinstance(text, str) or len(text) > _MAXIMUM_LENGTH or (match := _GRAMMAR.fullmatch(text)) is None:
        return False
    try:
        hasher(match[1])
    except InvalidDigestError:
        return True
    return False


def hasher(algorithm: str) -> Hasher:
    """Return a fresh hasher of that algorithm.

    Raises:
        InvalidDigestError: the algorithm is unknown, or its package is not installed.
    """
    if algorithm == "sha256":
        return hashlib.sha256()
    if algorithm == "sha512":
        return hashlib.sha512()
    if algorithm == "blake3":
        try:
            from blake3 import blake3  # noqa: PLC0415 - an extra, and loaded only by those who use it
        except ImportError as error:
            raise InvalidDigestError(algorithm, reason="blake3 needs a package: install ocistore[blake3]") from error
        state: Hasher = blake3()
        return state
    raise InvalidDigestError(algorithm, reason=f"unknown algorithm; known are {', '.join(ALGORITHMS)}")


def _uncommon(text: str) -> str:
    """Return ``text`` where it is a digest of an optional algorithm.

    Otherwise raise an error that says why it is not.
    """
    if len(text) > _MAXIMUM_LENGTH:
        raise InvalidDigestError(text, reason=f"it has {len(text)} characters")
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise InvalidDigestError(text, reason="it is not of the form algorithm:hexadecimal")
    algorithm, encoded = match.groups()
    length = ALGORITHMS.get(algorithm)
    if length is None:
        raise InvalidDigestError(text, reason=f"unknown algorithm; known are {', '.join(ALGORITHMS)}")
    if _HEX.fullmatch(encoded) is None:
        raise InvalidDigestError(text, reason="what follows the colon is not lower-case hexadecimal")
    if len(encoded) != length:
        raise InvalidDigestError(text, reason=f"{algorithm} has {length} hexadecimal digits, this has {len(encoded)}")
    hasher(algorithm)  # known, but perhaps not installed
    return match.group()
