"""The time, in the unit in which the catalog stores it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def milliseconds() -> int:
    """Return the time now in milliseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000


def instant(at: int) -> datetime:
    """Return a time that was noted in milliseconds since the Unix epoch."""
    return datetime.fromtimestamp(at / 1000, UTC)
