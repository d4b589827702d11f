"""Arguments that callers give: checks of durations and numbers, whose errors name the argument, and defaults."""

from __future__ import annotations

import operator
from datetime import timedelta
from typing import Final

GRACE: Final = timedelta(hours=1)
"""How long a blob may wait for the manifest that refers to it, unless the caller of a garbage collection says it."""

KEEP_UNTAGGED: Final = timedelta(days=14)
"""How long a manifest stays that no tag, index or subject keeps, likewise."""

_ZERO: Final = timedelta(0)


def check_duration(given: object, name: str) -> None:
    """Refuse what is no duration, such as a number of seconds. None is accepted.

    Raises:
        TypeError: it is not a ``datetime.timedelta``.
        ValueError: it is negative.
    """
    if given is None:
        return
    if not isinstance(given, timedelta):
        reason = f"{name} must be a datetime.timedelta, such as timedelta(hours=1), not {type(given).__name__}"
        raise TypeError(reason)
    if given < _ZERO:
        raise ValueError(f"{name} must not be negative")


def require_duration(given: object, name: str) -> None:
    """Refuse what is no duration, None included.

    Raises:
        TypeError, ValueError: as :func:`check_duration`.
    """
    if given is None:
        raise TypeError(f"{name} must be a datetime.timedelta, such as timedelta(hours=1), not None")
    check_duration(given, name)


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
