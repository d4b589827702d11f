"""Returning the space of deleted rows to the filesystem."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ocistore.blobs.ballast import available
from ocistore.catalog import space
from ocistore.catalog.contract import one_file
from ocistore.errors import StoreBusyError, StoreFullError
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oserrors import Translating

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ocistore.catalog.connection import Connection
    from ocistore.core import Core

_AT_ONCE: Final = 200
"""Pages that are freed in one transaction; each takes 5 to 20 µs."""

_WORTH: Final = 1000
"""Free pages that are left alone: 4 MB, which the next pushes fill again."""

_PART: Final = 4
"""One page in so many may be free without being returned."""


@dataclass(frozen=True)
class CompactReport(JSONValue):
    """What writing the catalog anew changed. Bytes are those of ``catalog.db``."""

    bytes_before: int
    bytes_after: int


def compact(core: Core) -> CompactReport:
    """Write the catalog anew, without free space; see :meth:`ocistore.Store.compact`."""
    core.require_writable()
    catalog = core.catalog
    file = one_file(catalog)
    with file.locked(), catalog.read() as connection:
        before = space.pages(connection)
        _refuse_without_room(core, space.needed_to_write_anew(before))
        space.write_anew(connection)
        after = space.pages(connection)
    with contextlib.suppress(StoreBusyError), file.locked():
        file.settle()  # or later, where somebody still reads the state before
    return CompactReport(before.size * before.total, after.size * after.total)


def _refuse_without_room(core: Core, needed: int) -> None:
    with Translating(str(core.root), root=core.root):
        free = available(core.root)
    if free < needed:
        reason = f"to write the catalog anew takes {needed:,} bytes, and {free:,} are free"
        raise StoreFullError(str(core.paths.catalog), reason=reason)


def give_back(core: Core, batch: Callable[[], AbstractContextManager[Connection]]) -> None:
    """Return free pages to the filesystem in small transactions, where a good part of the catalog is free.

    Args:
        core: open for writing.
        batch: begins a write transaction of a collection.

    Raises:
        OCIStoreError: the store could not be written. It is as it was, except for the space.
    """
    while True:
        with core.catalog.read() as connection:
            found = space.pages(connection)
        if not found.incremental or found.free <= max(_WORTH, found.total // _PART):
            return
        with batch() as connection:
            space.give_back(connection, _AT_ONCE)
