"""Statements of a rebuild: filling a new catalog from the bytes of the pool. Nothing else uses it meanwhile."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, literal, literal_column, null, select, true, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, bound, in_order, member, present, upsert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import BindParameter

    from ocistore.catalog.connection import Connection

_blobs = tables.blobs
_edges = tables.edges
_manifests = tables.manifests
_own_edges = tables.repository_edges
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests


_rows = array("rows")
_live = upsert(_blobs).from_select(
    ["digest", "size", "state", "verified_at"],
    select(member(_rows, 0), member(_rows, 1), literal("live"), bindparam("now")).where(true()),
)
_live = _live.on_conflict_do_update(
    index_elements=["digest"],
    set_={"size": _live.excluded.size, "state": literal("live"), "verified_at": _live.excluded.verified_at},
)
_ids = array("ids")
_here: BindParameter[int] = bindparam("in_repository")
_serve_blobs = (
    upsert(_blob_members)
    .from_select(
        ["repository_id", "blob_id", "unreferenced_since"],
        select(_here, _edges.c.child_id, bindparam("now"))
        .select_from(
            in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value), (_blobs, _blobs.c.id == _edges.c.child_id))
        )
        .where(
            _edges.c.role.in_([literal_column("'config'"), literal_column("'layer'")]),
            _blobs.c.state == literal("live"),
        )
        .distinct(),
    )
    .on_conflict_do_nothing()
)
_elsewhere = (
    select(_ids.c.value)
    .where(present(_manifest_members.c.manifest_id == _ids.c.value, _manifest_members.c.repository_id != _here))
)
_leave = delete(_manifest_members).where(
    _manifest_members.c.repository_id == _here, _manifest_members.c.manifest_id.in_(select(_ids.c.value))
)
_leave_edges = delete(_own_edges).where(
    _own_edges.c.repository_id == _here,
    tuple_(_own_edges.c.child_id, _own_edges.c.parent_id).in_(
        select(_edges.c.child_id, _edges.c.parent_id).select_from(
            in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value))
        )
    ),
)
_keep_loose = (
    upsert(_blob_members)
    .from_select(
        ["repository_id", "blob_id", "unreferenced_since"],
        select(_here, _blobs.c.id, bindparam("now")).where(
            _blobs.c.id.in_(select(_ids.c.value)),
            _blobs.c.state == literal("live"),
            ~present(_blob_members.c.blob_id == _blobs.c.id),
            ~present(_manifest_members.c.manifest_id == _blobs.c.id),
        ),
    )
    .on_conflict_do_nothing()
)
_child_members = _manifest_members.alias("child")
_note_incomplete = (
    update(_manifest_members)
    .where(
        _manifest_members.c.repository_id == _here,
        _manifest_members.c.manifest_id.in_(select(_ids.c.value)),
        present(
            _edges.c.parent_id == _manifest_members.c.manifest_id,
            _edges.c.role != literal("subject"),
            ~present(
                _child_members.c.repository_id == _manifest_members.c.repository_id,
                _child_members.c.manifest_id == _edges.c.child_id,
            ),
            ~present(
                _blob_members.c.repository_id == _manifest_members.c.repository_id,
                _blob_members.c.blob_id == _edges.c.child_id,
            ),
        )
    )
    .values(incomplete=1)
)
_digests = array("digests")
_forget_verified = (
    update(_blobs).where(_blobs.c.digest.in_(select(_digests.c.value))).values(verified_at=null())
)
_small = (
    select(_blobs.c.id, _blobs.c.digest, _blobs.c.size)
    .where(_blobs.c.id > bindparam("after"), _blobs.c.size <= bindparam("maximum"), _blobs.c.state == literal("live"))
    .order_by(_blobs.c.id)
    .limit(bindparam("limit"))
)
_widths = (
    select(
        _manifest_members.c.manifest_id,
        select(func.count()).where(_edges.c.parent_id == _manifest_members.c.manifest_id).scalar_subquery(),
    )
    .where(_manifest_members.c.repository_id == _here, _manifest_members.c.manifest_id > bindparam("after"))
    .order_by(_manifest_members.c.manifest_id)
    .limit(bindparam("limit"))
)
_widths_of = select(
    _blobs.c.id, select(func.count()).where(_edges.c.parent_id == _blobs.c.id).scalar_subquery()
).select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
_count_of = select(
    select(func.count()).where(_manifest_members.c.repository_id == bindparam("repository")).scalar_subquery(),
    select(func.count()).where(_blob_members.c.repository_id == bindparam("repository")).scalar_subquery(),
)
_serve_manifest = (
    upsert(_manifest_members)
    .from_select(
        ["repository_id", "manifest_id", "pushed_at", "unreferenced_since"],
        select(bindparam("repository"), _manifests.c.blob_id, bindparam("now"), bindparam("now"))
        .join_from(_rows, _blobs, _blobs.c.digest == _rows.c.value)
        .join(_manifests, _manifests.c.blob_id == _blobs.c.id)
        .where(true()),
    )
    .on_conflict_do_nothing()
)
_say = (
    update(_manifest_members)
    .where(_manifest_members.c.repository_id == _here, _manifest_members.c.manifest_id == bindparam("manifest"))
    .values(entry=bindparam("said"))
)
_serve_edges = (
    upsert(_own_edges)
    .from_select(
        ["repository_id", "child_id", "parent_id", "role"],
        select(bindparam("repository"), _edges.c.child_id, _edges.c.parent_id, _edges.c.role)
        .join_from(_rows, _blobs, _blobs.c.digest == _rows.c.value)
        .join(_edges, _edges.c.parent_id == _blobs.c.id)
        .where(true()),
    )
    .on_conflict_do_nothing()
)


def live(connection: Connection, rows: Iterable[tuple[str, int]], *, now: int) -> None:
    """Make rows of files that were hashed and found good, given as digest and size."""
    connection.execute(_live, {"rows": bound(rows), "now": now})


def forget_verified(connection: Connection, digests: Iterable[str]) -> None:
    """Note that nobody knows whether the bytes of these blobs are good."""
    connection.execute(_forget_verified, {"digests": bound(digests)})


def small_blobs(connection: Connection, *, after: int, maximum: int, limit: int) -> list[tuple[int, str, int]]:
    """Return up to ``limit`` blobs of at most ``maximum`` bytes behind the id ``after``, as id, digest and size."""
    return list(connection.execute(_small, {"after": after, "maximum": maximum, "limit": limit}))


def serve_manifests(connection: Connection, repository_id: int, digests: Sequence[str], *, now: int) -> None:
    """Let a repository serve those of these digests that are manifests."""
    parameters = {"rows": bound(digests), "repository": repository_id, "now": now}
    connection.execute(_serve_manifest, parameters)
    connection.execute(_serve_edges, parameters)


def say(connection: Connection, repository_id: int, manifest_id: int, entry: str) -> None:
    """Keep with a manifest without a tag what is said of it besides."""
    connection.execute(_say, {"in_repository": repository_id, "manifest": manifest_id, "said": entry})


def manifests_of(connection: Connection, repository_id: int, *, after: int, rows: int) -> list[int]:
    """Return manifests of a repository after the id ``after``: as many as have ``rows`` edges at most, or one."""
    found = list(connection.execute(_widths, {"in_repository": repository_id, "after": after, "limit": rows}))
    return _fitting(found, rows)


def fitting(connection: Connection, digests: Sequence[str], *, rows: int) -> int:
    """Return how many of these manifests have ``rows`` edges together at most; one at least."""
    return len(_fitting(list(connection.execute(_widths_of, {"digests": bound(digests[:rows])})), rows))


def _fitting(widths: Sequence[tuple[int, int]], rows: int) -> list[int]:
    totals = accumulate(width + 1 for _, width in widths)
    count = sum(1 for total in totals if total <= rows)
    return [key for key, _ in widths[: max(1, count)]]


def leave_to_others(connection: Connection, repository_id: int, ids: Sequence[int]) -> None:
    """Take those of these manifests from a repository that another one has."""
    here = {"in_repository": repository_id}
    others = connection.execute(_elsewhere, here | {"ids": bound(ids)}).scalars()
    connection.execute(_leave_edges, here | {"ids": bound(others)})
    connection.execute(_leave, here | {"ids": bound(others)})


def serve_blobs(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int) -> None:
    """Let a repository serve the configs and layers of these manifests, and note of those that lack something."""
    here = {"in_repository": repository_id, "ids": bound(ids)}
    connection.execute(_serve_blobs, here | {"now": now})
    connection.execute(_note_incomplete, here)


def keep_loose(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int) -> None:
    """Let a repository serve those of these blobs that are live and that none serves."""
    connection.execute(_keep_loose, {"in_repository": repository_id, "ids": bound(ids), "now": now})


def count_of(connection: Connection, repository_id: int) -> tuple[int, int]:
    """Return how many manifests and blobs a repository has."""
    row = connection.execute(_count_of, {"repository": repository_id}).first()
    return (0, 0) if row is None else (row[0], row[1])
