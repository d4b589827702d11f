"""Statements of collection: what is due, what keeps it, and taking it away.

Each of the three queues (memberships of manifests, memberships of blobs, blobs; see ``tables``) is read in the order of
``collect_after``, from its beginning, through a partial index: the cost is that of what is due, whatever else the store
holds. Nothing here decides when something is due: that is the caller's ``before``.

A condemned blob has ``collect_after`` 0, so that it stands before everything else and is due whatever the clock says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import (
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    update,
)

from ocistore.catalog import tables
from ocistore.catalog.arrays import array, bound, member
from ocistore.catalog.presence import present
from ocistore.catalog.sums import halves, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import BindParameter, Column, ColumnElement, Table

    from ocistore.catalog.connection import Connection

CONDEMNED: Final = 0
"""``collect_after`` of a condemned blob."""

AT_ONCE: Final = 1
"""``collect_after`` of a row without bytes that nothing names any more: nobody needs time to name it again."""

_REMEMBERED: Final = 10_000
"""Manifests of a repository."""

_COUNTED_AT_ONCE: Final = 20_000
"""Rows; a few milliseconds."""

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_tags = tables.tags
_kept = tables.lease_blobs
_leases = tables.leases
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests


class Membership(NamedTuple):
    """A row of one of the two tables of memberships."""

    repository_id: int
    blob_id: int
    since: int
    """Its ``collect_after``: since when perhaps nothing refers to it."""


class Blob(NamedTuple):
    """A row of ``blobs`` that is due."""

    id: int
    digest: str
    size: int
    absent: bool
    """It has no bytes."""
    served: bool
    """A repository serves it, as a blob or as a manifest."""
    named: bool
    """A manifest of the store names it."""
    since: int


class Place(NamedTuple):
    """How far a listing of a queue has come; begin with :data:`START`."""

    since: int
    first: int
    second: int


START: Final = Place(-1, 0, 0)

# --- what is due ------------------------------------------------------------------------------------------------------


def _due(table: Table, key: Column[Any], *more: ColumnElement[Any]) -> Any:  # noqa: ANN401 - a Select of what is asked
    place = tuple_(table.c.collect_after, table.c.repository_id, key)
    begin = tuple_(bindparam("since"), bindparam("first"), bindparam("second"))
    return (
        select(table.c.repository_id, key, table.c.collect_after, *more)
        .where(table.c.collect_after <= bindparam("before"), place > begin)
        .order_by(table.c.collect_after, table.c.repository_id, key)
        .limit(bindparam("limit"))
    )


# Literals, and not parameters, where the name of a role has to be known when the statement is prepared.
_part = _own_edges.c.role.in_([literal_column("'config'"), literal_column("'layer'")])
_in_force = (_leases.c.id == _kept.c.lease_id, _leases.c.expires > bindparam("now"))
_kept_by_lease = present(
    _kept.c.repository_id == _blob_members.c.repository_id, _kept.c.blob_id == _blob_members.c.blob_id, *_in_force
)
_referred_to = present(
    _own_edges.c.repository_id == _blob_members.c.repository_id,
    _own_edges.c.child_id == _blob_members.c.blob_id,
    _part,
)
_due_manifests = _due(_manifest_members, _manifest_members.c.manifest_id)
_due_parts = _due(_blob_members, _blob_members.c.blob_id, or_(_referred_to, _kept_by_lease))
_served = or_(
    present(_blob_members.c.blob_id == _blobs.c.id),
    present(_manifest_members.c.manifest_id == _blobs.c.id),
)
_named = present(_edges.c.child_id == _blobs.c.id)
_as_blob = (
    _blobs.c.id,
    _blobs.c.digest,
    _blobs.c.size,
    _blobs.c.state == literal("absent"),
    _served,
    _named,
    _blobs.c.collect_after,
)
_due_blobs = (
    select(*_as_blob)
    .where(
        _blobs.c.collect_after > literal(CONDEMNED),
        _blobs.c.collect_after <= bindparam("before"),
        tuple_(_blobs.c.collect_after, _blobs.c.id) > tuple_(bindparam("since"), bindparam("first")),
    )
    .order_by(_blobs.c.collect_after, _blobs.c.id)
    .limit(bindparam("limit"))
)
_condemned = (
    select(_blobs.c.id, _blobs.c.digest, _blobs.c.size)
    .where(
        _blobs.c.collect_after == literal(CONDEMNED),
        _blobs.c.state == literal("condemned"),
        _blobs.c.id > bindparam("after"),
    )
    .order_by(_blobs.c.id)
    .limit(bindparam("limit"))
)

_due_bytes = (
    select(*halves(_blobs.c.size)).where(
        _blobs.c.collect_after <= bindparam("before"), _blobs.c.state == literal("live")
    ),
    select(*halves(_blobs.c.size))
    .join_from(_blob_members, _blobs, _blobs.c.id == _blob_members.c.blob_id)
    .where(_blob_members.c.collect_after <= bindparam("before")),
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
    present(_manifest_members.c.collect_after <= bindparam("untagged_before")),
    present(_blob_members.c.collect_after <= bindparam("before")),
    present(_blobs.c.collect_after <= bindparam("before")),
    present(_blobs.c.collect_after == literal(CONDEMNED), _blobs.c.state == literal("condemned")),
    present(tables.leases.c.expires <= bindparam("now")),
    present(tables.uploads.c.expires <= bindparam("now")),
)
_outlook = select(_held, _work)


_wide = array("rows")
_widths = select(
    select(func.count()).where(_edges.c.parent_id == member(_wide, 1)).scalar_subquery()
    + select(func.count()).where(_manifests.c.subject_id == member(_wide, 1)).scalar_subquery()
    + select(func.count())
    .where(_own_edges.c.repository_id == member(_wide, 0), _own_edges.c.child_id == member(_wide, 1))
    .scalar_subquery()
).select_from(_wide)
_edge_counts = select(
    select(func.count()).where(_edges.c.parent_id == _wide.c.value).scalar_subquery()
).select_from(_wide)


class Outlook(NamedTuple):
    """What a collection has before it."""

    held: bool
    """It may not run."""
    work: bool
    """Something is due."""


def outlook(connection: Connection, *, now: int, untagged_before: int, before: int) -> Outlook:
    """Whether a collection may run, and has anything to do; all in one question, because mostly it has not."""
    parameters = {"now": now, "untagged_before": untagged_before, "before": before}
    held, work = connection.execute(_outlook, parameters).first() or (0, 0)
    return Outlook(bool(held), bool(work))


def due_manifests(connection: Connection, *, before: int, limit: int, after: Place = START) -> list[Membership]:
    """Up to ``limit`` memberships of manifests that are due, behind ``after``."""
    rows = connection.execute(_due_manifests, _from(after, before, limit))
    return [Membership(*row) for row in rows]


def due_parts(
    connection: Connection, *, now: int, before: int, limit: int, after: Place = START
) -> list[tuple[Membership, bool]]:
    """Up to ``limit`` memberships of blobs that are due, each with whether a manifest there or a lease needs it."""
    rows = connection.execute(_due_parts, {**_from(after, before, limit), "now": now})
    return [(Membership(*row[:3]), bool(row[3])) for row in rows]


def due_blobs(connection: Connection, *, before: int, limit: int, after: Place = START) -> list[Blob]:
    """Up to ``limit`` blobs that are due and not yet condemned."""
    parameters = {"before": before, "limit": limit, "since": after.since, "first": after.first}
    return [Blob(*row) for row in connection.execute(_due_blobs, parameters)]


def due_bytes(connection: Connection, *, before: int) -> int:
    """An upper bound of the bytes that go when everything due goes, where no manifest is due."""
    return sum(total(iter(row)) for each in _due_bytes for row in connection.execute(each, {"before": before}))


def live_bytes(connection: Connection, *, enough: int) -> int:
    """The bytes of all live blobs, or at least ``enough`` of them: it stops counting there."""
    found, last = 0, 0
    while found < enough:
        [(newest, *size)] = connection.execute(_count_live, {"after": last, "limit": _COUNTED_AT_ONCE})
        if newest is None:
            break
        found, last = found + total(iter(size)), newest
    return found


def condemned(connection: Connection, *, limit: int, after: int = 0) -> list[tuple[int, str, int]]:
    """Up to ``limit`` condemned blobs behind the id ``after``, as id, digest and size."""
    return list(connection.execute(_condemned, {"limit": limit, "after": after}))


def widths(connection: Connection, memberships: Iterable[Membership]) -> list[int]:
    """How many edges each of these manifests has in its repository: to its children, and from what is around it."""
    return connection.execute(_widths, {"rows": bound(row[:2] for row in memberships)}).scalars()


def edge_counts(connection: Connection, ids: Iterable[int]) -> list[int]:
    """How many edges each of these blobs has as a manifest: rows that go with it."""
    return connection.execute(_edge_counts, {"rows": bound(ids)}).scalars()


def _from(after: Place, before: int, limit: int) -> dict[str, object]:
    return {**after._asdict(), "before": before, "limit": limit}


# --- what keeps a manifest --------------------------------------------------------------------------------------------


def _holders(*, without: Any = ()) -> Any:  # noqa: ANN401 - a recursive table
    """A manifest of a repository and all that may keep it there: indexes around it, its subject, and so on upwards.

    Not through what is in ``without``.

    A set, so that content that refers to each other in a ring (an index whose subject is its own child) ends it: such
    content does not keep itself.
    """
    up = select(bindparam("manifest").label("id")).cte("up", recursive=True)
    repository: BindParameter[int] = bindparam("repository")
    indexes = select(_own_edges.c.parent_id).join_from(
        up,
        _own_edges,
        and_(
            _own_edges.c.child_id == up.c.id,
            _own_edges.c.repository_id == repository,
            _own_edges.c.role == literal_column("'manifest'"),
        ),
    )
    if without != ():
        indexes = indexes.where(_own_edges.c.parent_id.not_in(without))
    subjects = (
        select(_manifests.c.subject_id)
        .join_from(up, _manifests, _manifests.c.blob_id == up.c.id)
        .where(
            present(
                _manifest_members.c.repository_id == repository,
                _manifest_members.c.manifest_id == _manifests.c.subject_id,
            )
        )
    )
    if without != ():
        subjects = subjects.where(_manifests.c.subject_id.not_in(without))
    return up.union(indexes, subjects)


_known_dead = array("dead")
_up = _holders(without=select(_known_dead.c.value))
_tagged = present(_tags.c.repository_id == bindparam("repository"), _tags.c.manifest_id == _up.c.id)
_leased = present(_kept.c.repository_id == bindparam("repository"), _kept.c.blob_id == _up.c.id, *_in_force)
_young = present(
    _manifest_members.c.repository_id == bindparam("repository"),
    _manifest_members.c.manifest_id == _up.c.id,
    _manifest_members.c.collect_after > bindparam("before"),
)
_alive = select(_up.c.id).where(or_(_tagged, _leased, _young)).limit(literal_column("1"))
_up = _holders()
_in_an_index = present(
    _own_edges.c.repository_id == bindparam("repository"),
    _own_edges.c.child_id == _up.c.id,
    _own_edges.c.role == literal_column("'manifest'"),
)
_on_a_subject = present(
    _manifests.c.blob_id == _up.c.id,
    _manifest_members.c.repository_id == bindparam("repository"),
    _manifest_members.c.manifest_id == _manifests.c.subject_id,
)
_above = select(_up.c.id, or_(_in_an_index, _on_a_subject))
_below = _up.alias("below")
_as_index = present(
    _own_edges.c.repository_id == bindparam("repository"),
    _own_edges.c.child_id == _below.c.id,
    _own_edges.c.parent_id == _up.c.id,
    _own_edges.c.role == literal_column("'manifest'"),
)
_directly_above = (
    select(_own_edges.c.parent_id)
    .where(
        _own_edges.c.repository_id == bindparam("repository"),
        _own_edges.c.child_id == bindparam("manifest"),
        _own_edges.c.role == literal_column("'manifest'"),
    )
    .union(
        select(_manifests.c.subject_id).where(
            _manifests.c.blob_id == bindparam("manifest"),
            present(
                _manifest_members.c.repository_id == bindparam("repository"),
                _manifest_members.c.manifest_id == _manifests.c.subject_id,
            ),
        )
    )
)
_why = (
    select(
        _up.c.id,
        _blobs.c.digest,
        _as_index,
        select(_tags.c.name)
        .where(_tags.c.repository_id == bindparam("repository"), _tags.c.manifest_id == _up.c.id)
        .limit(literal_column("1"))
        .scalar_subquery(),
        _manifest_members.c.collect_after,
    )
    .join_from(_up, _blobs, _blobs.c.id == _up.c.id)
    .join(
        _manifest_members,
        and_(_manifest_members.c.repository_id == bindparam("repository"), _manifest_members.c.manifest_id == _up.c.id),
    )
    .limit(bindparam("limit"))
)
_relatives = (
    select(_edges.c.child_id)
    .where(
        _edges.c.parent_id == bindparam("manifest"),
        _edges.c.role == literal_column("'manifest'"),
        present(
            _manifest_members.c.repository_id == bindparam("repository"),
            _manifest_members.c.manifest_id == _edges.c.child_id,
        ),
    )
    .union(
        select(_manifests.c.blob_id).where(
            _manifests.c.subject_id == bindparam("manifest"),
            present(
                _manifest_members.c.repository_id == bindparam("repository"),
                _manifest_members.c.manifest_id == _manifests.c.blob_id,
            ),
        )
    )
)
_parts = (
    select(_edges.c.child_id)
    .where(
        _edges.c.parent_id == bindparam("manifest"),
        present(
            _blob_members.c.repository_id == bindparam("repository"), _blob_members.c.blob_id == _edges.c.child_id
        ),
    )
    .distinct()
)
_users = (
    select(_own_edges.c.parent_id)
    .where(_own_edges.c.repository_id == bindparam("repository"), _own_edges.c.child_id == bindparam("blob"), _part)
    .limit(bindparam("limit"))
)
_leased_here = select(_kept.c.lease_id).where(
    _kept.c.repository_id == bindparam("repository"), _kept.c.blob_id == bindparam("blob"), *_in_force
)
_servers = (
    select(_blob_members.c.repository_id, literal_column("0"))
    .where(_blob_members.c.blob_id == bindparam("blob"))
    .union_all(
        select(_manifest_members.c.repository_id, literal_column("1")).where(
            _manifest_members.c.manifest_id == bindparam("blob")
        )
    )
    .limit(bindparam("limit"))
)
_row_of = select(_blobs.c.id, _blobs.c.state, _blobs.c.collect_after).where(_blobs.c.digest == bindparam("digest"))
_digest_of = select(_blobs.c.digest).where(_blobs.c.id == bindparam("blob"))
_since = (
    select(_blob_members.c.collect_after)
    .where(_blob_members.c.repository_id == bindparam("repository"), _blob_members.c.blob_id == bindparam("blob"))
)
_blob = select(*_as_blob).where(_blobs.c.id == bindparam("blob"), _blobs.c.state == literal("live"))


class Known:
    """What was found of the manifests of a repository, as long as one state is seen, so that nothing is climbed twice.

    In a chain of referrers each manifest stands below all before it; without this it would be climbed once for each:
    four thousand of them took minutes, and a batch kept a push waiting for two seconds.
    """

    def __init__(self) -> None:
        self.alive: set[int] = set()
        self.dead: set[int] = set()
        self.waiting: set[int] = set()
        """Dead, and below something that has to leave before them."""

    def note(self, manifest_id: int, *, alive: bool) -> bool:
        """Remember it; of what was remembered only so much, so that memory stays constant. Returns ``alive``."""
        found = self.alive if alive else self.dead
        if len(found) >= _REMEMBERED:
            found.clear()
        found.add(manifest_id)
        return alive


def alive(
    connection: Connection,
    repository_id: int,
    manifest_id: int,
    *,
    now: int,
    before: int,
    known: Known | None = None,
) -> bool:
    """Whether the repository keeps a manifest.

    A tag, a lease that has not run out by ``now``, or being untagged only since later than ``before`` keeps it; or one
    of these keeps, however far up, an index around it or its subject.
    """
    known = Known() if known is None else known
    parameters: dict[str, object] = {"repository": repository_id, "manifest": manifest_id, "now": now, "before": before}
    dead: list[int] = []
    if known.alive or known.dead:
        directly = connection.execute(_directly_above, parameters).scalars()
        if not known.alive.isdisjoint(directly):
            return known.note(manifest_id, alive=True)
        dead = [above for above in directly if above in known.dead]
    found = connection.execute(_alive, {**parameters, "dead": bound(dead)}).first() is not None
    return known.note(manifest_id, alive=found)


def removable(
    connection: Connection, repository_id: int, manifest_id: int, *, known: Known | None = None
) -> list[int]:
    """What has to leave a repository together with a dead manifest; nothing if others have to leave before it.

    An index never stays without its children, nor a subject without its referrers: somebody may tag it yet. So what is
    above a manifest leaves first, which puts the manifest before the collector again. Manifests that are above each
    other in a ring leave together.
    """
    known = Known() if known is None else known
    parameters = {"repository": repository_id, "manifest": manifest_id}
    directly = connection.execute(_directly_above, parameters).scalars()
    if not directly:
        return [manifest_id]
    if not known.waiting.isdisjoint(directly):
        known.waiting.add(manifest_id)
        return []
    above = list(connection.execute(_above, parameters))
    if len(above) > 1 and not all(held for _, held in above):
        known.waiting.add(manifest_id)
        return []
    return [key for key, _ in above]


class Holder(NamedTuple):
    """A manifest that keeps another one, or that manifest itself."""

    id: int
    digest: str
    is_index: bool
    """It holds the manifest, or what keeps that, as an index; otherwise it is the subject of one of these."""
    tag: str | None
    """One of its tags."""
    since: int | None
    """Its ``collect_after``."""


def holders(connection: Connection, repository_id: int, manifest_id: int, *, limit: int) -> list[Holder]:
    """A manifest of a repository and up to ``limit`` of those that may keep it there, nearest first."""
    parameters = {"repository": repository_id, "manifest": manifest_id, "limit": limit}
    return [
        Holder(key, digest, bool(is_index), tag, since)
        for key, digest, is_index, tag, since in connection.execute(_why, parameters)
    ]


def relatives(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """The manifests of the repository that a manifest there keeps: the children of an index, and its referrers."""
    return connection.execute(_relatives, {"repository": repository_id, "manifest": manifest_id}).scalars()


def parts(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """The blobs of the repository that a manifest there refers to."""
    return connection.execute(_parts, {"repository": repository_id, "manifest": manifest_id}).scalars()


def users(connection: Connection, repository_id: int, blob_id: int, *, limit: int) -> list[int]:
    """Up to ``limit`` manifests of the repository that refer to a blob, as config or layer."""
    return connection.execute(_users, {"repository": repository_id, "blob": blob_id, "limit": limit}).scalars()


def leased(connection: Connection, repository_id: int, blob_id: int, *, now: int) -> bool:
    """Whether a lease that has not run out keeps a blob or manifest in the repository."""
    parameters = {"repository": repository_id, "blob": blob_id, "now": now}
    return connection.execute(_leased_here, parameters).first() is not None


def servers(connection: Connection, blob_id: int, *, limit: int) -> list[tuple[int, bool]]:
    """Up to ``limit`` repositories that serve a blob, each with whether it does so as a manifest."""
    rows = connection.execute(_servers, {"blob": blob_id, "limit": limit})
    return [(repository, bool(manifest)) for repository, manifest in rows]


class Row(NamedTuple):
    """A row of ``blobs``, whatever its state."""

    id: int
    state: str
    since: int | None


def row_of(connection: Connection, digest: str) -> Row | None:
    """What the catalog knows of a digest, or None."""
    row = connection.execute(_row_of, {"digest": digest}).first()
    return None if row is None else Row(*row)


def digest_of(connection: Connection, blob_id: int) -> str:
    """The digest of a row that must exist."""
    found: str = connection.execute(_digest_of, {"blob": blob_id}).scalar()
    return found


def idle_since(connection: Connection, repository_id: int, blob_id: int) -> int | None:
    """The ``collect_after`` of a blob's membership."""
    found: int | None = connection.execute(_since, {"repository": repository_id, "blob": blob_id}).scalar()
    return found


def live_blob(connection: Connection, blob_id: int) -> Blob | None:
    """The row of a blob, if it is live."""
    row = connection.execute(_blob, {"blob": blob_id}).first()
    return None if row is None else Blob(*((*row[:6], row[6] or 0)))


# --- taking away ------------------------------------------------------------------------------------------------------

_rows = array("rows")
_pairs = select(member(_rows, 0), member(_rows, 1))
_keep_manifests = (
    update(_manifest_members)
    .where(tuple_(_manifest_members.c.repository_id, _manifest_members.c.manifest_id).in_(_pairs))
    .values(collect_after=null())
)
_index = _manifest_members.alias("around")
_last_to_go = (
    select(func.max(_index.c.collect_after) + 1)
    .join_from(
        _own_edges,
        _index,
        and_(_index.c.repository_id == _own_edges.c.repository_id, _index.c.manifest_id == _own_edges.c.parent_id),
    )
    .where(
        _own_edges.c.repository_id == _manifest_members.c.repository_id,
        _own_edges.c.child_id == _manifest_members.c.manifest_id,
        _own_edges.c.role == literal_column("'manifest'"),
    )
    .scalar_subquery()
)
_put_behind = (
    update(_manifest_members)
    .where(
        tuple_(_manifest_members.c.repository_id, _manifest_members.c.manifest_id).in_(_pairs),
        _last_to_go <= bindparam("before"),
    )
    .values(collect_after=_last_to_go)
)
_these_parts = tuple_(_blob_members.c.repository_id, _blob_members.c.blob_id).in_(_pairs)
_keep_parts = update(_blob_members).where(_these_parts).values(collect_after=null())
_drop_parts = delete(_blob_members).where(_these_parts)
_ids = array("ids")
_these_blobs = _blobs.c.id.in_(select(_ids.c.value))
_queue_blobs = (
    update(_blobs)
    .where(_blobs.c.id == bindparam("blob"))
    .values(collect_after=func.max(func.coalesce(_blobs.c.collect_after, 0), bindparam("since")))
)
_keep_blobs = update(_blobs).where(_these_blobs).values(collect_after=null())
_condemn = (
    update(_blobs)
    .where(_these_blobs)
    .values(state=literal("condemned"), generation=_blobs.c.generation + 1, collect_after=literal(CONDEMNED))
)
_delete_blobs = delete(_blobs).where(_these_blobs)
_queue_absent = (
    update(_blobs)
    .where(
        _blobs.c.id.in_(select(_edges.c.child_id).where(_edges.c.parent_id.in_(select(_ids.c.value)))),
        _blobs.c.state == literal("absent"),
    )
    .values(collect_after=literal(AT_ONCE))
)
_delete_manifests = delete(_manifests).where(_manifests.c.blob_id.in_(select(_ids.c.value)))
_empty = (
    update(_blobs)
    .where(_these_blobs, _named)
    .values(
        state=literal("absent"),
        generation=_blobs.c.generation + 1,
        verified_at=null(),
        collect_after=null(),
    )
)
_delete_empty = delete(_blobs).where(_these_blobs, _blobs.c.state == literal("condemned"))


def keep_manifests(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of manifests that something keeps out of the queue."""
    connection.execute(_keep_manifests, {"rows": bound(row[:2] for row in memberships)})


def put_behind(connection: Connection, memberships: Iterable[Membership], *, before: int) -> None:
    """Put manifests that left the queue back into it, behind the last of the indexes around them that are due.

    Otherwise each of these indexes would put them before the collector anew, in vain but for the last: of 9,000
    manifests that 20 indexes share, that took a minute.
    """
    connection.execute(_put_behind, {"rows": bound(row[:2] for row in memberships), "before": before})


def keep_parts(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of blobs that something needs out of the queue."""
    connection.execute(_keep_parts, {"rows": bound(row[:2] for row in memberships)})


def drop_parts(connection: Connection, memberships: Sequence[Membership]) -> None:
    """Take blobs from repositories, and put each before the collector: due since its membership was."""
    if not memberships:
        return
    connection.execute(_drop_parts, {"rows": bound(row[:2] for row in memberships)})
    connection.execute(_queue_blobs, [{"blob": row.blob_id, "since": row.since} for row in memberships])


def keep_blobs(connection: Connection, ids: Iterable[int]) -> None:
    """Take blobs out of the queue."""
    connection.execute(_keep_blobs, {"ids": bound(ids)})


def condemn(connection: Connection, ids: Iterable[int]) -> None:
    """Let nobody rely on these blobs any more, from the commit of this transaction on."""
    connection.execute(_condemn, {"ids": bound(ids)})


def forget(connection: Connection, ids: Iterable[int]) -> None:
    """Delete rows without bytes that nothing names."""
    connection.execute(_delete_blobs, {"ids": bound(ids)})


def reap(connection: Connection, ids: Sequence[int]) -> None:
    """Delete condemned blobs, whose files are gone, with what is known of them as manifests.

    A row that a manifest still names, as a sparse index does, stays, without bytes; rows without bytes that only these
    manifests named are put before the collector.
    """
    parameters = {"ids": bound(ids)}
    for statement in (_queue_absent, _delete_manifests, _empty, _delete_empty):
        connection.execute(statement, parameters)
