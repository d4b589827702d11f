"""The time, in the unit in which the catalog stores it."""

from __future__ import annotations

import time


def milliseconds() -> int:
    """Return the time now in milliseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000
