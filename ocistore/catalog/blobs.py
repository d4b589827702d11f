"""Statements about blobs and about which repository may serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, bindparam, case, delete, literal, literal_column, null, or_, select, true, update

from ocistore.catalog import leases, tables
from ocistore.catalog.expressions import array, bound, halves, in_order, member, present, total, upsert
from ocistore.catalog.staged import NOBODY, OWN, brought_again, is_seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.catalog.connection import Connection

_t = tables.blobs
_members = tables.repository_blobs
_repositories = tables.repositories
_own_edges = tables.repository_edges


class HeldBlob(NamedTuple):
    """A blob as a repository holds it."""

    size: int
    unreferenced_since: int | None
    """Since when no manifest of the repository refers to it, as far as it is known; None where one does."""


_digests = array("digests")
_live = (
    select(_t.c.digest, _t.c.size)
    .select_from(in_order(_digests, (_t, _t.c.digest == _digests.c.value)))
    .where(_t.c.state == literal("live"))
)

_page_of_live = (
    select(_t.c.id, _t.c.digest, _t.c.size)
    .where(_t.c.id > bindparam("after"), _t.c.state == literal("live"))
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)

_bytes_of_live = select(*halves(_t.c.size)).where(_t.c.state == literal("live"))

_rows = array("rows")
_published = upsert(_t).from_select(
    ["digest", "size", "state"], select(member(_rows, 0), member(_rows, 1), literal("live")).where(true())
)
# A live row stays as it is: its bytes are the same ones, and whoever took it out of the queue knew why. Its size may be
# what a manifest says of something that was missing when the catalog was rebuilt, and those who have the bytes know.
_publish = _published.on_conflict_do_update(
    index_elements=["digest"],
    set_={
        "size": _published.excluded.size,
        "state": literal("live"),
        "unreferenced_since": case((_t.c.state == literal("live"), _t.c.unreferenced_since)),
        "verified_at": null(),
    },
    where=or_(_t.c.state != literal("live"), _t.c.size != _published.excluded.size),
)
_named = upsert(_t).from_select(
    ["digest", "size", "state"], select(member(_rows, 0), member(_rows, 1), literal("absent")).where(true())
)
_name = _named.on_conflict_do_nothing(index_elements=["digest"])

_brought = upsert(_members).from_select(
    ["repository_id", "blob_id", "unreferenced_since", "batch"],
    select(bindparam("repository_id"), _t.c.id, bindparam("now"), bindparam("batch"))
    .select_from(in_order(_digests, (_t, _t.c.digest == _digests.c.value)))
    .where(_t.c.state == literal("live")),
)
_add_memberships = _brought.on_conflict_do_update(
    index_elements=["repository_id", "blob_id"],
    set_={"unreferenced_since": _brought.excluded.unreferenced_since, **brought_again(_members, _brought.excluded)},
    where=or_(_members.c.unreferenced_since.is_not(None), _members.c.batch.is_not(None)),
)

_referred_to = present(
    _own_edges.c.repository_id == _members.c.repository_id,
    _own_edges.c.child_id == _members.c.blob_id,
    _own_edges.c.role.in_([literal_column("'config'"), literal_column("'layer'")]),
)
_membership = (
    select(_t.c.size, case((~_referred_to, _members.c.unreferenced_since)))
    .select_from(
        in_order(
            _repositories,
            (_t, _t.c.digest == bindparam("digest")),
            (_members, and_(_members.c.repository_id == _repositories.c.id, _members.c.blob_id == _t.c.id)),
        )
    )
    .where(
        _repositories.c.name == bindparam("repository"),
        _t.c.state == literal("live"),
        is_seen(_members),
    )
)
_this_blob = select(_t.c.id).where(_t.c.digest == bindparam("digest")).scalar_subquery()
_this_membership = (
    _members.c.repository_id == bindparam("this_repository"),
    _members.c.blob_id == _this_blob,
)
_touch = (
    update(_members)
    .where(*_this_membership, _members.c.unreferenced_since.is_not(None))
    .values(unreferenced_since=bindparam("now"))
)
_remove_membership = delete(_members).where(*_this_membership, is_seen(_members)).returning(_members.c.blob_id)
_queue = update(_t).where(_t.c.digest == bindparam("this_digest")).values(unreferenced_since=bindparam("now"))

MAXIMUM_REFERRERS: Final = 1000
"""How many are named where something may not be deleted: a hundred thousand took 0.4 s, under the lock."""

_roles = array("roles")
_parent = _t.alias("parent")
_holder = tables.repository_manifests
_referrers = (
    select(_parent.c.digest)
    .select_from(
        in_order(
            _t,
            (
                _own_edges,
                and_(_own_edges.c.repository_id == bindparam("repository_id"), _own_edges.c.child_id == _t.c.id),
            ),
            (_parent, _parent.c.id == _own_edges.c.parent_id),
        )
    )
    .where(
        _t.c.digest == bindparam("digest"),
        _own_edges.c.role.in_(select(_roles.c.value)),
        present(
            _holder.c.repository_id == bindparam("repository_id"),
            _holder.c.manifest_id == _own_edges.c.parent_id,
            is_seen(_holder, own=OWN),
        ),
    )
    .limit(literal_column(str(MAXIMUM_REFERRERS)))
)
_with_rows = select(_t.c.digest).where(_t.c.digest.in_(select(_digests.c.value)), _t.c.state != literal("absent"))


def live_sizes(connection: Connection, digests: Iterable[str]) -> dict[str, int]:
    """Return of these digests those that are live, with their sizes."""
    rows = connection.execute(_live, {"digests": bound(digests)})
    return dict(rows)


def page_of_live(connection: Connection, *, after: int, limit: int) -> list[tuple[int, str, int]]:
    """Return up to ``limit`` live blobs behind the id ``after``, as id, digest and size."""
    return list(connection.execute(_page_of_live, {"after": after, "limit": limit}))


def bytes_of_live(connection: Connection) -> int:
    """Return the bytes of all live blobs. Reads every row."""
    [row] = connection.execute(_bytes_of_live)
    return total(iter(row))


def publish(connection: Connection, rows: Iterable[tuple[str, int]]) -> None:
    """Make blobs live, given as digest and size. Their files must be published, and held in this transaction."""
    connection.execute(_publish, {"rows": bound(rows)})


def name(connection: Connection, rows: Iterable[tuple[str, int]]) -> None:
    """Make a row for each digest that has none: content that is referred to but not here."""
    connection.execute(_name, {"rows": bound(rows)})


def add_memberships(
    connection: Connection, repository_id: int, digests: Sequence[str], *, now: int, batch: int | None = None
) -> None:
    """Let the repository serve these live blobs. Where nothing there refers to one yet, its grace starts again.

    Those that it does not serve yet are seen by others once ``batch`` is revealed, if that is given.
    """
    parameters = {"repository_id": repository_id, "digests": bound(digests), "now": now, "batch": batch}
    connection.execute(_add_memberships, parameters)


def held(connection: Connection, repository: str, digest: str) -> HeldBlob | None:
    """Return the blob as the repository holds it, or None where it does not or the blob is not live."""
    row = connection.execute(_membership, {"repository": repository, "digest": digest}).first()
    return None if row is None else HeldBlob(*row)


def touch(connection: Connection, repository_id: int, digest: str, *, now: int) -> None:
    """Start the grace of a membership again."""
    connection.execute(_touch, {"this_repository": repository_id, "digest": digest, "now": now})


def remove_membership(connection: Connection, repository_id: int, digest: str, *, now: int) -> bool:
    """Take the blob from the repository and queue it for gc. False where it was not there."""
    gone = connection.execute(_remove_membership, {"this_repository": repository_id, "digest": digest}).scalars()
    if gone:
        leases.forget(connection, [(repository_id, blob_id) for blob_id in gone])
        connection.execute(_queue, {"this_digest": digest, "now": now})
    return bool(gone)


def referrers(
    connection: Connection, repository_id: int, digest: str, *, roles: Sequence[str], batch: int | None = None
) -> list[str]:
    """Return the manifests of the repository that refer to the digest in one of these roles, in byte order.

    Of more than a thousand, only so many. As who wrote ``batch`` sees it, if that is given.
    """
    parameters = {
        "repository_id": repository_id, "digest": digest, "roles": bound(roles), OWN.key: batch or NOBODY
    }  # fmt: skip
    return sorted(set(connection.execute(_referrers, parameters).scalars()))


def with_rows(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Return of these digests those whose bytes a row stands for, be it live or condemned."""
    return set(connection.execute(_with_rows, {"digests": bound(digests)}).scalars())
