"""Statements of gc: what is due. What keeps it is in ``reachability.py``, removing it in ``deletions.py``.

Each of the three queues (memberships of manifests, memberships of blobs, blobs; see ``tables``) is read in the order of
``unreferenced_since``, from its beginning, through a partial index: the cost is that of what is due, whatever else the
store holds. Nothing here decides when something is due: that is the caller's ``before``. Condemned blobs are in no
queue: they are found by their state, and due whatever the clock says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, case, func, literal, literal_column, or_, select, tuple_

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, bound, count_up_to_limit, halves, in_order, member, present, total

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, ColumnElement, Table

    from ocistore.catalog.connection import Connection

_COUNTED_AT_ONCE: Final = 20_000
"""Rows; a few milliseconds."""

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_kept = tables.lease_blobs
_leases = tables.leases
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

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

_hidden = (
    select(tables.repositories.c.id)
    .where(tables.repositories.c.name.is_(None))
    .union(select(tables.staged_repositories.c.repository_id))
)


def due(table: Table, key: Column[Any], *more: ColumnElement[Any]) -> Any:  # noqa: ANN401 - a Select of what is asked
    """Return the rows of a table of memberships that are due, behind a place in their queue, with more columns."""
    place = tuple_(table.c.unreferenced_since, table.c.repository_id, key)
    begin = tuple_(bindparam("since"), bindparam("first"), bindparam("second"))
    return (
        select(table.c.repository_id, key, table.c.unreferenced_since, *more)
        .where(
            table.c.unreferenced_since <= bindparam("before"),
            place > begin,
            # What is emptied is queued anew, as used until then. What is staged is kept by its batch, and so is what it
            # relies on: all of a repository into which something is staged.
            table.c.repository_id.not_in(_hidden),
        )
        .order_by(table.c.unreferenced_since, table.c.repository_id, key)
        .limit(bindparam("limit"))
    )


# Literals, and not parameters, where the name of a role has to be known when the statement is prepared.
IS_HELD_AS_BLOB = _own_edges.c.role.in_([literal_column("'config'"), literal_column("'layer'")])
IN_FORCE = (_leases.c.id == _kept.c.lease_id, _leases.c.expires > bindparam("now"))
_kept_by_lease = present(
    _kept.c.repository_id == _blob_members.c.repository_id, _kept.c.blob_id == _blob_members.c.blob_id, *IN_FORCE
)
_referred_to = present(
    _own_edges.c.repository_id == _blob_members.c.repository_id,
    _own_edges.c.child_id == _blob_members.c.blob_id,
    IS_HELD_AS_BLOB,
)
_due_manifest_memberships = due(_manifest_members, _manifest_members.c.manifest_id)
_due_blob_memberships = due(_blob_members, _blob_members.c.blob_id, or_(_referred_to, _kept_by_lease))
_served = or_(
    present(_blob_members.c.blob_id == _blobs.c.id),
    present(_manifest_members.c.manifest_id == _blobs.c.id),
)
IS_CONDEMNED = _blobs.c.state == literal_column("'condemned'")
BLOB_COLUMNS = (
    _blobs.c.id,
    _blobs.c.digest,
    _blobs.c.size,
    _blobs.c.state == literal("absent"),
    _served,
    _blobs.c.unreferenced_since,
)
_due_blobs = (
    select(*BLOB_COLUMNS)
    .where(
        _blobs.c.unreferenced_since <= bindparam("before"),
        tuple_(_blobs.c.unreferenced_since, _blobs.c.id) > tuple_(bindparam("since"), bindparam("first")),
    )
    .order_by(_blobs.c.unreferenced_since, _blobs.c.id)
    .limit(bindparam("limit"))
)
_condemned = (
    select(_blobs.c.id, _blobs.c.digest, _blobs.c.size)
    .where(IS_CONDEMNED, _blobs.c.id > bindparam("after"))
    .order_by(_blobs.c.id)
    .limit(bindparam("limit"))
)

_due_bytes = (
    select(*halves(_blobs.c.size)).where(
        _blobs.c.unreferenced_since <= bindparam("before"), _blobs.c.state == literal("live")
    ),
    select(*halves(_blobs.c.size))
    .select_from(in_order(_blob_members, (_blobs, _blobs.c.id == _blob_members.c.blob_id)))
    .where(_blob_members.c.unreferenced_since <= bindparam("before")),
)
_next_live = (
    select(_blobs.c.id, case((_blobs.c.state == literal("live"), _blobs.c.size), else_=0).label("size"))
    .where(_blobs.c.id > bindparam("after"))
    .order_by(_blobs.c.id)
    .limit(bindparam("limit"))
    .subquery()
)
_count_live = select(func.max(_next_live.c.id), *halves(_next_live.c.size))


_held = present(
    or_(tables.collection_holds.c.expires.is_(None), tables.collection_holds.c.expires > bindparam("now"))
)
_work = or_(
    present(_manifest_members.c.unreferenced_since <= bindparam("untagged_before")),
    present(_blob_members.c.unreferenced_since <= bindparam("before")),
    present(_blobs.c.unreferenced_since <= bindparam("before")),
    present(IS_CONDEMNED, _blobs.c.id > literal_column("0")),
    present(tables.leases.c.expires <= bindparam("now")),
    present(tables.uploads.c.expires <= bindparam("now")),
    present(tables.deleted_repositories.c.repository_id.is_not(None)),
    present(tables.batches.c.expires <= bindparam("now")),
)
_outlook = select(_held, _work)


_wide = array("rows")

_widths = select(
    count_up_to_limit(_wide, _edges.c.parent_id == member(_wide, 1))
    + count_up_to_limit(_wide, _manifests.c.subject_id == member(_wide, 1))
    + count_up_to_limit(
        _wide, _own_edges.c.repository_id == member(_wide, 0), _own_edges.c.child_id == member(_wide, 1)
    )
).select_from(_wide)
_edge_counts = select(
    select(func.count()).where(_edges.c.parent_id == _wide.c.value).scalar_subquery()
).select_from(_wide)


class Outlook(NamedTuple):
    """What gc has before it."""

    held: bool
    """It may not run."""
    work: bool
    """Something is due."""


def outlook(connection: Connection, *, now: int, untagged_before: int, before: int) -> Outlook:
    """Return whether gc may run, and has anything to do; all in one question, because mostly it has not."""
    parameters = {"now": now, "untagged_before": untagged_before, "before": before}
    held, work = connection.execute(_outlook, parameters).first() or (0, 0)
    return Outlook(bool(held), bool(work))


def due_manifest_memberships(
    connection: Connection, *, before: int, limit: int, after: QueuePosition = START
) -> list[Membership]:
    """Return up to ``limit`` memberships of manifests that are due, behind ``after``."""
    rows = connection.execute(_due_manifest_memberships, _from(after, before, limit))
    return [Membership(*row) for row in rows]


def due_blob_memberships(
    connection: Connection, *, now: int, before: int, limit: int, after: QueuePosition = START
) -> list[tuple[Membership, bool]]:
    """Return up to ``limit`` memberships of blobs that are due, and whether a manifest there or a lease needs each."""
    rows = connection.execute(_due_blob_memberships, {**_from(after, before, limit), "now": now})
    return [(Membership(*row[:3]), bool(row[3])) for row in rows]


def due_blobs(connection: Connection, *, before: int, limit: int, after: QueuePosition = START) -> list[Blob]:
    """Return up to ``limit`` blobs that are due and not yet condemned."""
    parameters = {"before": before, "limit": limit, "since": after.since, "first": after.first}
    return [Blob(*row) for row in connection.execute(_due_blobs, parameters)]


def due_bytes(connection: Connection, *, before: int) -> int:
    """Return an upper bound of the bytes that go when everything due goes, where no manifest is due."""
    return sum(total(iter(row)) for each in _due_bytes for row in connection.execute(each, {"before": before}))


def live_bytes(connection: Connection, *, enough: int) -> int:
    """Return the bytes of all live blobs, or at least ``enough`` of them: it stops counting there."""
    found, last = 0, 0
    while found < enough:
        [(newest, *size)] = connection.execute(_count_live, {"after": last, "limit": _COUNTED_AT_ONCE})
        if newest is None:
            break
        found, last = found + total(iter(size)), newest
    return found


def condemned(connection: Connection, *, limit: int, after: int = 0) -> list[tuple[int, str, int]]:
    """Return up to ``limit`` condemned blobs behind the id ``after``, as id, digest and size."""
    return list(connection.execute(_condemned, {"limit": limit, "after": after}))


def widths(connection: Connection, memberships: Iterable[Membership], *, limit: int) -> list[int]:
    """Return how many edges each of these manifests has in its repository: to its children, and from what is around it.

    Of each kind ``limit`` are counted.
    """
    return connection.execute(_widths, {"rows": bound(row[:2] for row in memberships), "limit": limit}).scalars()


def edge_counts(connection: Connection, ids: Iterable[int]) -> list[int]:
    """Return how many edges each of these blobs has as a manifest: rows that go with it."""
    return connection.execute(_edge_counts, {"rows": bound(ids)}).scalars()


def _from(after: QueuePosition, before: int, limit: int) -> dict[str, object]:
    return {**after._asdict(), "before": before, "limit": limit}
