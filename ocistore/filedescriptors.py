"""File descriptors that belong to an object, so that neither an interrupt nor a thread that closes a store can do harm.

A number that is closed while another thread is about to use it is soon the number of another file, perhaps of another
store. And between a call that opens and the assignment of what it returns, an interrupt loses the number for ever. So
an open file is an object: it is closed when nobody has it any more, and an argument of a running call counts.

And none has the number of standard input, output or error. Where a program runs without one of them, or has closed it,
the next file that is opened gets its number, and whatever is printed there, by a library in C or by a dying
interpreter, is written into that file: into a blob, or the lock. So such a file is moved to another number, and
``/dev/null`` takes its place, as in SQLite's own openings.
"""

from __future__ import annotations

import fcntl
import os
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST: Final = 3
"""The first number that no standard stream has."""


class FileDescriptor(int):
    """The number of an open file, which is closed with the last reference to this object. Never close it itself.

    To close it early is to let go of it; a copy of the number (``int(descriptor)``) keeps nothing open.
    """

    __slots__ = ()

    # A function in Python would be entered before it closes anything, and that is where an interrupt comes in.
    __del__ = property(partial(partial, os.close))


def owned(call: Callable[..., int], *arguments: object, **keywords: object) -> FileDescriptor:
    """Return what ``call`` opens, as an object that owns it.

    Both happen in one step of the interpreter, between whose parts no interrupt comes.
    """
    descriptor = next(map(FileDescriptor, starmap(partial(call, *arguments, **keywords), ((),))))
    if descriptor < _FIRST:
        descriptor = owned(fcntl.fcntl, descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST)
        _occupy_standard_streams()
    return descriptor


def _occupy_standard_streams() -> None:
    """Let ``/dev/null`` have those of the three numbers that are free."""
    while True:
        number = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if number >= _FIRST:
            os.close(number)
            return


class OpenFile:
    """A file for one who has to close it at a certain instant, as the locks on it make necessary.

    Also closed when nobody refers to it any more. Having its number does not keep it open.
    """

    __slots__ = ("__weakref__", "_held")

    def __init__(self, path: str, flags: int, mode: int = 0o600) -> None:
        """Open it; programs that this process starts do not inherit it.

        Raises:
            OSError: it cannot be opened.
        """
        self._held = [owned(os.open, path, flags | os.O_CLOEXEC, mode)]

    @property
    def number(self) -> int:
        """The number that system calls take.

        Raises:
            ValueError: it is closed.
        """
        try:
            return int(self._held[0])
        except IndexError:
            raise ValueError("the file is closed") from None

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return not self._held

    def close(self) -> None:
        """Close it, in one step of the interpreter. Closing again does nothing."""
        self._held.clear()
