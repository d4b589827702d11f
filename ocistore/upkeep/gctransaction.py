"""One small write transaction of a garbage collection, after which others have their turn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ocistore.catalog import holds
from ocistore.catalog.lock import rest
from ocistore.upkeep.preflight import refuse_held

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from ocistore.catalog.connection import Connection
    from ocistore.core import Core


class GCTransaction:
    """A write transaction that no garbage collection may begin while a hold is in force. A context manager."""

    def __init__(self, core: Core) -> None:
        self._catalog = core.catalog
        self._transaction: AbstractContextManager[Connection] = self._catalog.write()
        self._begun = 0.0

    def __enter__(self) -> Connection:
        connection = self._transaction.__enter__()
        try:
            self._begun = time.monotonic()
            # In each: a backup may have begun since the last one.
            refuse_held(connection, self._catalog)
            # And one that stood still until its hold ran out finds out here, whatever the clock says by then.
            holds.forget_expired(connection, now=self._catalog.now())
        except BaseException as error:
            self._transaction.__exit__(type(error), error, error.__traceback__)
            raise
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._transaction.__exit__(kind, error, traceback)
        rest(self._begun)
