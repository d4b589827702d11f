"""File descriptors that belong to an object, so that no interrupt leaves one open that nobody knows."""

from __future__ import annotations

import fcntl
import os
import weakref
from functools import partial
from typing import Any

from ocistore import standardstreams

_owned: dict[weakref.ref[Any], weakref.ref[Any]] = {}


class Descriptor:
    """An open file. Closed by :meth:`close`, or when nobody refers to it any more.

    Opening and closing are one step of the interpreter each, without any instruction of Python's: between a call and
    the assignment of what it returned, or at the first instruction of a ``__del__``, an interrupt would lose it.
    """

    __slots__ = ("__weakref__", "_closer", "_held")

    def __init__(self, path: str, flags: int, mode: int = 0o600) -> None:
        """Open it, and not for programs that this process starts.

        Raises:
            OSError: it cannot be opened.
        """
        self._held: list[int] = []
        # Closes what the list holds by the time it is asked to, and that only once.
        self._closer = map(os.close, iter(self._held))
        closing = weakref.ref(self, partial(next, self._closer))
        _owned[weakref.ref(self, _owned.pop)] = closing
        self._held.extend(map(os.open, (path,), (flags | os.O_CLOEXEC,), (mode,)))
        if self._held[0] < standardstreams.FIRST:
            low = self._held[0]
            self._held[:] = map(fcntl.fcntl, (low,), (fcntl.F_DUPFD_CLOEXEC,), (standardstreams.FIRST,))
            os.close(low)
            standardstreams.occupy()

    @property
    def number(self) -> int:
        """The number that system calls take.

        Raises:
            ValueError: it is closed.
        """
        if self._closer is _CLOSED:
            raise ValueError("the file is closed")
        return self._held[0]

    @property
    def closed(self) -> bool:
        """Whether it is."""
        return self._closer is _CLOSED

    def close(self) -> None:
        """Close it. Closing again does nothing."""
        next(self._closer, None)
        self._closer = _CLOSED


_CLOSED: map[None] = map(os.close, iter(()))
