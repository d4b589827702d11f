"""Holding collections off while something is copied."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ocistore.catalog import holds
from ocistore.commit import milliseconds
from ocistore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.blobs.paths import StorePaths
    from ocistore.store import Store

HELD: Final = "a backup is being copied"

_HOLD: Final = timedelta(hours=1) // timedelta(milliseconds=1)
_RENEWED_EVERY: Final = 60.0
"""Seconds."""


class Hold:
    """Keeps collections from acting for as long as it is told, now and then, that somebody is still at work."""

    def __init__(self, store: Store, target: StorePaths) -> None:
        self._catalog = store.catalog
        self._target = target
        self._renewed = time.monotonic()
        now = milliseconds()
        with self._catalog.write() as connection:
            holds.forget_expired(connection, now=now)
            self._id = holds.place(connection, HELD, now=now, expires=now + _HOLD)

    def renew(self) -> None:
        """Let it go on, if it is time to."""
        if time.monotonic() - self._renewed > _RENEWED_EVERY:
            self.confirm()

    def confirm(self) -> None:
        """Let it go on, and make sure that it was there all the time.

        Raises:
            StorageError: it had run out, as where the machine was asleep: what was to be copied may be collected.
        """
        now = milliseconds()
        with self._catalog.write() as connection:
            kept = holds.renew(connection, self._id, now=now, expires=now + _HOLD)
        if not kept:
            reason = "the backup stood still for so long that collections were no longer held off; run it again"
            raise StorageError(str(self._target.root), errno=None, reason=reason)
        self._renewed = time.monotonic()

    def lift(self) -> None:
        """Let collections run again."""
        with self._catalog.write() as connection:
            holds.lift(connection, self._id)


@contextlib.contextmanager
def collections_held(store: Store, target: StorePaths) -> Iterator[Hold]:
    """No collection acts from now on until the block ends, which may be as late as it wants if it renews the hold."""
    hold = Hold(store, target)
    try:
        yield hold
    finally:
        hold.lift()
