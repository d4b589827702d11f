"""Messages for whoever operates a store, by the logger ``ocistore`` of the standard library. Silent by default.

Each message is one line. Its record has ``event``, what happened in one word; ``store``, the directory; and more, such
as ``report``. Which there are, docs/operating.md lists.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import os

Event: TypeAlias = Literal[
    "gc", "scrub", "backup", "rebuild", "hold", "schema-upgraded", "directories-made-again", "lock-waited"
]

LOGGER: Final = "ocistore"
"""The name of the logger."""

LONG_WAIT: Final = 5.0
"""Seconds from which on waiting for the write lock is worth a message: a commit takes some ten milliseconds."""


def info(event: Event, message: str, store: str | os.PathLike[str], **fields: object) -> None:
    """Log what went as it should."""
    _log("INFO", event, message, store, fields)


def warning(event: Event, message: str, store: str | os.PathLike[str], **fields: object) -> None:
    """Log what somebody should look at."""
    _log("WARNING", event, message, store, fields)


def _log(level: str, event: Event, message: str, store: str | os.PathLike[str], fields: dict[str, object]) -> None:
    # Who has not loaded it listens to nothing, and loading it takes as long as opening a store.
    logging = sys.modules.get("logging")
    if logging is None:
        return
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:  # else Python prints warnings of those who configured nothing
        logger.addHandler(logging.NullHandler())
    logger.log(getattr(logging, level), "%s: %s", store, message, extra={"event": event, "store": str(store), **fields})
