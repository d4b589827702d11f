"""When a garbage collection must not run: it is held off, or it would remove more than anybody is likely to want."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ocistore.catalog import gc, holds
from ocistore.errors import CollectionRefusedError
from ocistore.upkeep.gcestimate import losses_of

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection
    from ocistore.catalog.contract import Catalog
    from ocistore.core import Core

_CONFIRM: Final = "look at the store, then: ocistore gc --confirm"
_WAIT: Final = "wait until it is done, or end that process"

_GUARDED_BLOBS: Final = 1000
_GUARDED_BYTES: Final = 1024**3
"""A collection that removes no more than either is never too much: deleting half of a small store is normal."""


def refuse_held(connection: Connection, catalog: Catalog) -> None:
    """Stop where collections are held off.

    Raises:
        CollectionRefusedError: they are.
    """
    reasons = holds.in_force(connection, now=catalog.now())
    if reasons:
        raise CollectionRefusedError(
            catalog.root, reasons=tuple(reasons), remedy=_CONFIRM if holds.waiting(connection) else _WAIT
        )


def refuse_too_much(core: Core, *, now: int, untagged_before: int, before: int) -> None:
    """Stop where a collection would take too much; see :func:`too_much`.

    Raises:
        CollectionRefusedError: it would.
    """
    reason = too_much(core, now=now, untagged_before=untagged_before, before=before)
    if reason is not None:
        raise CollectionRefusedError(
            core.root, reasons=(reason,), remedy="see what with --dry-run; if it is right, use --force"
        )


def too_much(core: Core, *, now: int, untagged_before: int, before: int) -> str | None:
    """Return the reason why a collection removes too much: more than half of the live bytes, once these are many.

    Args:
        core: open.
        now: milliseconds since the epoch.
        untagged_before: as :func:`~ocistore.upkeep.gcestimate.losses_of` has it.
        before: as :func:`~ocistore.upkeep.gcestimate.losses_of` has it.
    """
    with core.catalog.read() as connection:
        manifests = bool(gc.due_manifest_memberships(connection, before=untagged_before, limit=1))
        # Where no manifest is due, an upper bound costs one statement.
        most = None if manifests else gc.due_bytes(connection, before=before)
    if most is not None and not _is_too_much(core, _GUARDED_BLOBS + 1, most):
        return None
    blobs, doomed = losses_of(core.catalog, now=now, untagged_before=untagged_before, before=before)
    if not _is_too_much(core, blobs, doomed):
        return None
    with core.catalog.read() as connection:
        live = gc.live_bytes(connection, enough=2 * doomed)
    return f"it would remove {blobs:,} blobs, {doomed:,} bytes, more than half of the {live:,} bytes there are"


def _is_too_much(core: Core, blobs: int, doomed: int) -> bool:
    if doomed <= 0 or (blobs <= _GUARDED_BLOBS and doomed <= _GUARDED_BYTES):
        return False
    with core.catalog.read() as connection:
        return gc.live_bytes(connection, enough=2 * doomed) < 2 * doomed
