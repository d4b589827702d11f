"""Forgetting old history: the events of tags, of which there are more with every push."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ocistore.arguments import check_duration, whole_number
from ocistore.catalog import events
from ocistore.catalog.lock import rest
from ocistore.oci.jsonvalue import JSONValue

if TYPE_CHECKING:
    from ocistore.core import Core

_PAGE: Final = 500
"""Events that are looked at together; those that are forgotten are so in one transaction. Each takes about 10 µs."""


@dataclass(frozen=True)
class HistoryReport(JSONValue):
    """Which events were forgotten, or with ``dry_run`` would be."""

    events: int
    kept: int
    dry_run: bool


def prune_history(
    core: Core, *, keep_last: int | None = None, keep_for: timedelta | None = None, dry_run: bool = False
) -> HistoryReport:
    """Forget old events of tags; see :meth:`ocistore.Store.prune_history`."""
    if keep_last is None and keep_for is None:
        raise ValueError("say which history is to be kept: keep_last, keep_for or both")
    if keep_last is not None:
        keep_last = whole_number(keep_last, "keep_last")
    check_duration(keep_for, "keep_for")
    if not dry_run:
        core.require_writable()
    before = core.catalog.now() - (timedelta(0) if keep_for is None else keep_for) // timedelta(milliseconds=1)
    after, forgotten = 0, 0
    while True:
        with core.catalog.read() as connection:
            page = events.old(connection, before=before, keep_last=keep_last or 0, after=after, limit=_PAGE)
        if not page:
            break
        after = page[-1].id
        doomed = [event.id for event in page if event.forgettable]
        forgotten += len(doomed)
        if doomed and not dry_run:
            began = time.monotonic()
            with core.catalog.write() as connection:
                events.forget(connection, doomed)
            rest(began)
    with core.catalog.read() as connection:
        left = events.count(connection)
    return HistoryReport(events=forgotten, kept=left - (forgotten if dry_run else 0), dry_run=dry_run)
