"""Arguments that callers give: checks of durations, numbers and paths, whose errors name the argument; defaults."""

from __future__ import annotations

import operator
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ocistore.errors import InvalidNameError, StorageError
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE: Final = timedelta(hours=1)
"""How long a blob may wait for the manifest that refers to it, unless the caller of a garbage collection says it."""

KEEP_UNTAGGED: Final = timedelta(days=14)
"""How long a manifest stays that no tag, index or subject keeps, likewise."""

_MAXIMUM_LIFETIME: Final = timedelta(days=36_500)
"""A hundred years: such an instant is one that ``datetime`` has, even where the clock is wrong by thousands."""

_ZERO: Final = timedelta(0)


def check_duration(given: timedelta | None, name: str, *, positive: bool = False) -> None:
    """Refuse a duration that is negative or, with ``positive``, zero. None is accepted.

    Raises:
        ValueError: it is that.
    """
    if positive and given == _ZERO:
        raise ValueError(f"{name} must be positive")
    if given is not None and given < _ZERO:
        raise ValueError(f"{name} must not be negative")


def check_lifetime(ttl: timedelta, what: str) -> None:
    """Refuse a ``ttl`` that is not positive, or more than a hundred years.

    Raises:
        ValueError: it is that.
    """
    check_duration(ttl, "ttl")
    if not ttl:
        raise ValueError(f"{what} must last longer than {ttl}")
    if ttl > _MAXIMUM_LIFETIME:
        raise ValueError(f"{what} must not last longer than {_MAXIMUM_LIFETIME.days} days")


def check_choice(given: object, name: str, choices: Sequence[str]) -> None:
    """Refuse what is none of the words that an option may have.

    Raises:
        ValueError: it is none of them.
    """
    if given not in choices:
        raise ValueError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {given!r}")


def whole_number(given: int, name: str, *, least: int = 0) -> int:
    """Return a number that counts something, checked.

    Raises:
        TypeError: it is not a whole number, or is True or False.
        ValueError: it is less than ``least``, 0 or 1.
    """
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or isinstance(given, bool):
        raise TypeError(f"{name} must be an int, not {type(given).__name__}") from None
    if number < least:
        raise ValueError(f"{name} must be positive" if least else f"{name} must not be negative")
    return number


def absolute_path(given: str | os.PathLike[str], *, kind: str = "path") -> str:
    """Return a path that was given, from the root on, so that the process may change its directory.

    An empty one is none: it is what is left of a variable that was not set, and never means the working directory.

    Args:
        given: as the caller was given it.
        kind: what messages call it.

    Raises:
        InvalidNameError: nothing can have that name.
        TypeError: it is no path, or one in bytes.
        StorageError: it is relative to a directory that is gone.
    """
    it: object = given
    path: object = os.fspath(it) if isinstance(it, str | os.PathLike) else it
    if not isinstance(path, str):
        hint = ": os.fsdecode makes text of it" if isinstance(path, bytes) else ""
        raise TypeError(f"a {kind} must be text or an os.PathLike of text, not {type(path).__name__}{hint}")
    if not path:
        raise InvalidNameError(path, kind=kind, reason="it is empty")
    if "\0" in path:
        raise InvalidNameError(path, kind=kind, reason="it has a NUL character")
    try:
        absolute = os.path.abspath(path)
        os.fsencode(absolute)
    except UnicodeEncodeError as error:
        encoding = sys.getfilesystemencoding()
        reason = f"it cannot be written in {encoding}, the encoding of file names here; use a UTF-8 locale"
        raise InvalidNameError(path, kind=kind, reason=reason) from error
    except OSError as error:
        pass_on_theirs(error)
        reason = f"the working directory: {error.strerror}"
        raise StorageError(path, errno=error.errno, reason=reason) from error
    return absolute
