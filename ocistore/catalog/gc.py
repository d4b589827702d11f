"""What is due for gc. What keeps it is in ``reachability.py``, removing it in ``deletions.py``.

Each of the three queues (memberships of manifests, memberships of blobs, blobs; see ``tables``) is read in the order of
``unreferenced_since``, from its beginning, through a partial index: the cost is that of what is due, whatever else the
store holds. Nothing here decides when something is due: that is the caller's ``before``. Condemned blobs are in no
queue: they are found by their state, and due whatever the clock says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog.parameters import bound, total
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_sql = Statements("gc")

_COUNTED_AT_ONCE: Final = 20_000
"""Rows; a few milliseconds."""


class Membership(NamedTuple):
    """A row of one of the two tables of memberships."""

    repository_id: int
    blob_id: int
    since: int
    """Its ``unreferenced_since``."""


class Blob(NamedTuple):
    """A row of ``blobs`` that is due."""

    id: int
    digest: str
    size: int
    absent: bool
    """It has no bytes."""
    served: bool
    """A repository serves it, as a blob or as a manifest."""
    since: int
    """Its ``unreferenced_since``."""


class QueuePosition(NamedTuple):
    """How far a listing of a queue has come; begin with :data:`START`."""

    since: int
    first: int
    second: int


START: Final = QueuePosition(-1, 0, 0)


class Outlook(NamedTuple):
    """What gc has before it."""

    held: bool
    """It may not run."""
    work: bool
    """Something is due."""


def outlook(connection: Connection, *, now: int, untagged_before: int, before: int) -> Outlook:
    """Return whether gc may run, and has anything to do; all in one question, because mostly it has not."""
    parameters = {"now": now, "untagged_before": untagged_before, "before": before}
    held, work = connection.execute(_sql.OUTLOOK, parameters).first() or (0, 0)
    return Outlook(bool(held), bool(work))


def due_manifest_memberships(
    connection: Connection, *, before: int, limit: int, after: QueuePosition = START
) -> list[Membership]:
    """Return up to ``limit`` memberships of manifests that are due, after ``after``."""
    rows = connection.execute(_sql.DUE_MANIFEST_MEMBERSHIPS, _from(after, before, limit))
    return [Membership(*row) for row in rows]


def due_blob_memberships(
    connection: Connection, *, now: int, before: int, limit: int, after: QueuePosition = START
) -> list[tuple[Membership, bool]]:
    """Return up to ``limit`` memberships of blobs that are due, and whether a manifest there or a lease needs each."""
    rows = connection.execute(_sql.DUE_BLOB_MEMBERSHIPS, {**_from(after, before, limit), "now": now})
    return [(Membership(*row[:3]), bool(row[3])) for row in rows]


def due_blobs(connection: Connection, *, before: int, limit: int, after: QueuePosition = START) -> list[Blob]:
    """Return up to ``limit`` blobs that are due and not yet condemned."""
    parameters = {"before": before, "limit": limit, "since": after.since, "first": after.first}
    return [Blob(*row) for row in connection.execute(_sql.DUE_BLOBS, parameters)]


def due_bytes(connection: Connection, *, before: int) -> int:
    """Return an upper bound of the bytes that go when everything due goes, where no manifest is due."""
    return sum(
        total(iter(row)) for each in _sql.each("DUE_BYTES") for row in connection.execute(each, {"before": before})
    )


def live_bytes(connection: Connection, *, enough: int) -> int:
    """Return the bytes of all live blobs, or at least ``enough`` of them: it stops counting there."""
    found, last = 0, 0
    while found < enough:
        [(newest, *size)] = connection.execute(_sql.COUNT_LIVE, {"after": last, "limit": _COUNTED_AT_ONCE})
        if newest is None:
            break
        found, last = found + total(iter(size)), newest
    return found


def condemned(connection: Connection, *, limit: int, after: int = 0) -> list[tuple[int, str, int]]:
    """Return up to ``limit`` condemned blobs after the id ``after``, as id, digest and size."""
    return list(connection.execute(_sql.CONDEMNED, {"limit": limit, "after": after}))


def widths(connection: Connection, memberships: Iterable[Membership], *, limit: int) -> list[int]:
    """Return how many edges each of these manifests has in its repository: to its children, and from what is around it.

    Of each kind ``limit`` are counted.
    """
    return connection.execute(_sql.WIDTHS, {"rows": bound(row[:2] for row in memberships), "limit": limit}).scalars()


def edge_counts(connection: Connection, ids: Iterable[int]) -> list[int]:
    """Return how many edges each of these blobs has as a manifest: rows that go with it."""
    return connection.execute(_sql.EDGE_COUNTS, {"rows": bound(ids)}).scalars()


def _from(after: QueuePosition, before: int, limit: int) -> dict[str, object]:
    return {**after._asdict(), "before": before, "limit": limit}
