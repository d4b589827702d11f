"""Lengths of time as people write them: ``90s``, ``1h30m``, ``14d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS: Final = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PART: Final = re.compile(r"(\d{1,9})(ms|[smhdw])", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def duration_option(name: str, *, default: str | None = None, help: str) -> Callable[[Any], Any]:  # noqa: A002 - click's
    """Return an option whose value is a length of time."""
    return click.option(
        name, metavar="DURATION", default=default, show_default=default is not None, callback=_duration, help=help
    )


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Parse it; a number without a unit is refused, except 0."""
    if value is None:
        return None
    if value == "0":
        return timedelta(0)
    if _DURATION.fullmatch(value) is None:
        raise click.BadParameter(
            f"{value!r} is not a length of time: give numbers with units, such as 90s or 1h30m; "
            f"the units are {', '.join(_UNITS)}",
            context,
            parameter,
        )
    try:
        return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in _PART.findall(value)), timedelta(0))
    except OverflowError:
        raise click.BadParameter(f"{value!r} is too long", context, parameter) from None
