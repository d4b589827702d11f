"""When a collection must not run: somebody holds it off, or it would take more than anybody is likely to want."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ocistore.catalog import collection, holds
from ocistore.commit import milliseconds
from ocistore.errors import CollectionRefusedError
from ocistore.upkeep.forecast import forecast

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.catalog.connection import Connection
    from ocistore.store import Store

_GUARDED_BLOBS: Final = 1000
_GUARDED_BYTES: Final = 1024**3
"""A collection that takes no more than either is never too much: half of a small store is a normal thing to delete."""


def refuse_held(connection: Connection, root: Path) -> None:
    """Stop where collections are held off.

    Raises:
        CollectionRefusedError: they are.
    """
    reasons = holds.in_force(connection, now=milliseconds())
    if reasons:
        raise CollectionRefusedError(root, reasons=reasons, remedy="look at the store, then: ocistore gc --confirm")


def refuse_too_much(store: Store, *, now: int, untagged_before: int, before: int) -> None:
    """Stop where a collection would take more than half of the live bytes, once these are many.

    Args:
        store: open.
        now: milliseconds since the epoch.
        untagged_before: as :func:`~ocistore.upkeep.forecast.forecast` has it.
        before: likewise.

    Raises:
        CollectionRefusedError: it would.
    """

    def expected(connection: Connection) -> tuple[int, int]:
        found = forecast(connection, now=now, untagged_before=untagged_before, before=before, at_once=True)
        return len(found.blobs), found.bytes

    with store.catalog.snapshot() as connection:
        if collection.due_manifests(connection, before=untagged_before, limit=1):
            blobs, doomed = expected(connection)
        else:
            blobs, doomed = _GUARDED_BLOBS + 1, collection.due_bytes(connection, before=before)
            if _is_too_much(connection, blobs, doomed):  # that was an upper bound
                blobs, doomed = expected(connection)
        if _is_too_much(connection, blobs, doomed):
            live = collection.live_bytes(connection, enough=2 * doomed)
            reason = f"it would take {blobs} blobs of {doomed} bytes, more than half of the {live} bytes there are"
            raise CollectionRefusedError(
                store.root, reasons=[reason], remedy="see what with --dry-run; if it is right, use --force"
            )


def _is_too_much(connection: Connection, blobs: int, doomed: int) -> bool:
    if blobs <= _GUARDED_BLOBS and doomed <= _GUARDED_BYTES:
        return False
    return doomed > 0 and collection.live_bytes(connection, enough=2 * doomed) < 2 * doomed
