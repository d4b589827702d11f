"""Collection in small write transactions, with rests between them and an end to all of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ocistore.arguments import check_duration, whole_number
from ocistore.catalog import holds
from ocistore.catalog.lock import rest
from ocistore.clock import milliseconds
from ocistore.upkeep.preflight import refuse_held

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta
    from types import TracebackType

    from ocistore.catalog.connection import Connection
    from ocistore.core import Core


class Cut(Exception):  # noqa: N818 - no error
    """The bounds of this run are reached."""


class Bounds:
    """Limits on what one call may do."""

    def __init__(self, duration: timedelta | None, batches: int | None) -> None:
        check_duration(duration, "maximum_duration")
        if batches is not None:
            batches = whole_number(batches, "maximum_batches")
        self._end = None if duration is None else time.monotonic() + duration.total_seconds()
        self._most = batches
        self.batches = 0

    def begin(self) -> None:
        """Count one transaction.

        Raises:
            Cut: it would be one too many.
        """
        self.check()
        if self._most is not None and self.batches >= self._most:
            raise Cut
        self.batches += 1

    def check(self) -> None:
        """Check that there is time left.

        Raises:
            Cut: there is none.
        """
        if self._end is not None and time.monotonic() >= self._end:
            raise Cut


class Batch:
    """One write transaction of a collection, after which others have their turn."""

    def __init__(self, core: Core) -> None:
        self._root = core.root
        self._transaction: AbstractContextManager[Connection] = core.catalog.write()
        self._begun = 0.0

    def __enter__(self) -> Connection:
        connection = self._transaction.__enter__()
        try:
            self._begun = time.monotonic()
            # In each: a backup may have begun since the last one.
            refuse_held(connection, self._root)
            # And one that stood still until its hold ran out finds out here, whatever the clock says by then.
            holds.forget_expired(connection, now=milliseconds())
        except BaseException as error:
            self._transaction.__exit__(type(error), error, error.__traceback__)
            raise
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._transaction.__exit__(kind, error, traceback)
        rest(self._begun)
