"""The budget of one call: how long it may take, how many transactions it may begin, how fast it may read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ocistore.arguments import check_duration, whole_number

if TYPE_CHECKING:
    from datetime import timedelta


class BudgetSpent(Exception):  # noqa: N818 - no error
    """The call has used what it was given, and stops."""


class Budget:
    """What one call may use. It begins when this is made; a limit that is None does not limit.

    Attributes:
        transactions: how many were begun.
    """

    def __init__(
        self, *, duration: timedelta | None = None, transactions: int | None = None, rate: int | None = None
    ) -> None:
        """Begin; ``rate`` is in bytes a second.

        Raises:
            ValueError, TypeError: ``duration`` is negative or no length of time, ``transactions`` no whole number.
        """
        check_duration(duration, "maximum_duration")
        self._most = None if transactions is None else whole_number(transactions, "maximum_batches")
        self._duration = None if duration is None else duration.total_seconds()
        self._rate = rate
        self._began = time.monotonic()
        self._read = 0
        self.transactions = 0

    @property
    def is_paced(self) -> bool:
        """Whether there is a limit on how fast bytes are read."""
        return self._rate is not None

    def check(self, *, share: float = 1.0) -> None:
        """Check that time is left, in that share of it.

        Raises:
            BudgetSpent: none is.
        """
        if self._duration is not None and time.monotonic() >= self._began + self._duration * share:
            raise BudgetSpent

    def begin_transaction(self) -> None:
        """Count one transaction.

        Raises:
            BudgetSpent: it would be one too many, or no time is left.
        """
        self.check()
        if self._most is not None and self.transactions >= self._most:
            raise BudgetSpent
        self.transactions += 1

    def read(self, count: int) -> None:
        """Count bytes that were read, and wait where they came too fast."""
        self._read += count
        if self._rate is not None:
            ahead = self._began + self._read / self._rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
