"""Statements of scrub: which blobs to verify next, what is known of them, and whom damage concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, literal, literal_column, or_, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, bound, present

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import BindParameter

    from ocistore.catalog.connection import Connection

_t = tables.blobs
_edges = tables.edges
_own_edges = tables.repository_edges
_manifests = tables.manifests
_repositories = tables.repositories
_tags = tables.tags
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests
_child_members = _manifest_members.alias("child")


class LiveBlob(NamedTuple):
    """A live blob to be looked at."""

    id: int
    digest: str
    size: int
    verified_at: int | None


class Subset(NamedTuple):
    """Which blobs a scrub is about."""

    number: int
    """Of ``parts`` parts, counted from 0."""
    parts: int
    repository_id: int | None


class Affected(NamedTuple):
    """A repository that damage concerns, and one of the tags there, if one leads to it."""

    repository: str
    tag: str | None


_columns = (_t.c.id, _t.c.digest, _t.c.size, _t.c.verified_at)
_this: BindParameter[Any] = bindparam("repository")
_wanted = (
    _t.c.state == literal("live"),
    _t.c.id % bindparam("parts") == bindparam("number"),
    or_(
        _this.is_(None),
        present(_blob_members.c.repository_id == _this, _blob_members.c.blob_id == _t.c.id),
        present(_manifest_members.c.repository_id == _this, _manifest_members.c.manifest_id == _t.c.id),
    ),
)
_never_verified = (
    select(*_columns)
    .where(_t.c.verified_at.is_(None), _t.c.id > bindparam("after"), *_wanted)
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
_verified = (
    select(*_columns)
    .where(
        _t.c.verified_at <= bindparam("before"),
        tuple_(_t.c.verified_at, _t.c.id) > tuple_(bindparam("since"), bindparam("after")),
        *_wanted,
    )
    .order_by(_t.c.verified_at, _t.c.id)
    .limit(bindparam("limit"))
)
_ids = array("ids")
_mark = (
    update(_t)
    .where(_t.c.id.in_(select(_ids.c.value)), _t.c.state == literal("live"))
    .values(verified_at=bindparam("now"))
)
_unmark = update(_t).where(_t.c.id == bindparam("blob")).values(verified_at=None)
_size = select(_t.c.size).where(_t.c.digest == bindparam("digest"), _t.c.state == literal("live"))
_up = select(bindparam("repository_id").label("repository_id"), bindparam("blob").label("id")).cte("up", recursive=True)
_up = _up.union(
    select(_own_edges.c.repository_id, _own_edges.c.parent_id).join_from(
        _up,
        _own_edges,
        and_(
            _own_edges.c.repository_id == _up.c.repository_id,
            _own_edges.c.child_id == _up.c.id,
            _own_edges.c.role != literal_column("'subject'"),
        ),
    )
)
_tags_above = (
    select(_tags.c.name)
    .join_from(_up, _tags, and_(_tags.c.repository_id == _up.c.repository_id, _tags.c.manifest_id == _up.c.id))
    .distinct()
    .order_by(_tags.c.name)
    .limit(bindparam("limit"))
)
_serving = (
    select(_repositories.c.id, _repositories.c.name)
    .where(
        _repositories.c.name.is_not(None),
        or_(
            _repositories.c.id.in_(
                select(_blob_members.c.repository_id).where(_blob_members.c.blob_id == bindparam("blob"))
            ),
            _repositories.c.id.in_(
                select(_manifest_members.c.repository_id).where(_manifest_members.c.manifest_id == bindparam("blob"))
            ),
        )
    )
    .order_by(_repositories.c.name)
    .limit(bindparam("limit"))
)
def never_verified(connection: Connection, subset: Subset, *, after: int, limit: int) -> list[LiveBlob]:
    """Return up to ``limit`` blobs that were never verified, behind the id ``after``."""
    parameters = {"after": after, "limit": limit, **_of(subset)}
    return [LiveBlob(*row) for row in connection.execute(_never_verified, parameters)]


def verified_before(
    connection: Connection, subset: Subset, *, before: int, after: tuple[int, int], limit: int
) -> list[LiveBlob]:
    """Return up to ``limit`` blobs that were last verified by that instant, the oldest first, behind (instant, id)."""
    parameters = {"before": before, "since": after[0], "after": after[1], "limit": limit, **_of(subset)}
    return [LiveBlob(*row) for row in connection.execute(_verified, parameters)]


def _of(subset: Subset) -> dict[str, object]:
    return {"parts": subset.parts, "number": subset.number, "repository": subset.repository_id}


def mark(connection: Connection, ids: Iterable[int], *, now: int) -> None:
    """Note that the bytes of these blobs were hashed and found good, if they are still live."""
    connection.execute(_mark, {"ids": bound(ids), "now": now})


def unmark(connection: Connection, blob_id: int) -> None:
    """Note that nobody knows whether the bytes of a blob are good."""
    connection.execute(_unmark, {"blob": blob_id})


def live_size(connection: Connection, digest: str) -> int | None:
    """Return the size of a blob, if it is live."""
    found: int | None = connection.execute(_size, {"digest": digest}).scalar()
    return found


def affected(connection: Connection, blob_id: int, *, limit: int) -> list[Affected]:
    """Return up to ``limit`` repositories that serve a blob, each with up to ``limit`` of the tags that lead to it."""
    found = []
    for repository_id, name in connection.execute(_serving, {"blob": blob_id, "limit": limit}):
        parameters = {"repository_id": repository_id, "blob": blob_id, "limit": limit}
        tags = connection.execute(_tags_above, parameters).scalars()
        found += [Affected(name, tag) for tag in tags or [None]]
    return found
