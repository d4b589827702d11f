"""Telling who waits how many bytes are done, also within one large blob."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ocistore.refusals import theirs
from ocistore.threads import Counter

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then with the bytes done and the bytes in all; the former grow from call to call."""


class Tally:
    """Counts bytes, and reports them."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        """Count from 0; ``total`` is the bytes in all, as far as is known before."""
        self._total = total
        self._progress = None if progress is None else theirs(progress)
        self._done = 0
        self.counter = Counter(self._count)
        """For threads that count bytes too: they are reported in the thread that made this."""

    def add(self, count: int) -> None:
        """Count so many more bytes as done, in whichever thread."""
        self.counter.add(count)

    def _count(self, count: int) -> None:
        self.reach(self._done + count)

    def reach(self, done: int) -> None:
        """Count bytes up to a number done in all, if there were not that many before."""
        if done <= self._done:
            return
        self._done = done
        if self._progress is None:
            return
        # A file that grew since it was looked at makes more of the whole, never more than the whole.
        self._progress(done, max(done, self._total))
