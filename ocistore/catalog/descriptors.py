"""File descriptors that belong to an object, so that no interrupt leaves one open that nobody knows."""

from __future__ import annotations

import os


class Descriptor:
    """An open file. Closed by :meth:`close`, or when nobody refers to it any more."""

    __slots__ = ("__weakref__", "_held")

    def __init__(self, path: str, flags: int, mode: int = 0o600) -> None:
        """Open it, and not for programs that this process starts.

        Raises:
            OSError: it cannot be opened.
        """
        self._held: list[int] = []
        # In one step of the interpreter: between a call and the assignment of what it returns, an interrupt loses it.
        self._held.extend(map(os.open, (path,), (flags | os.O_CLOEXEC,), (mode,)))

    @property
    def number(self) -> int:
        """The number that system calls take.

        Raises:
            ValueError: it is closed.
        """
        try:
            return self._held[0]
        except IndexError:
            raise ValueError("the file is closed") from None

    def close(self) -> None:
        """Close it. Closing again does nothing."""
        while self._held:
            # Likewise in one step, lest a number is closed twice: by then it may be another file's.
            any(map(os.close, map(self._held.pop, (0,))))

    def __del__(self) -> None:
        if self._held:
            self.close()
