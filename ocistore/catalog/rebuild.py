"""Rebuild a catalog: filling a new catalog from the bytes of the pool. Nothing else uses it meanwhile."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.catalog.connection import Connection

_sql = Statements("rebuild")


def live(connection: Connection, rows: Iterable[tuple[str, int]], *, now: int) -> None:
    """Make rows of files that were hashed and found good, given as digest and size."""
    connection.execute(_sql.LIVE, {"rows": bound(rows), "now": now})


def forget_verified(connection: Connection, digests: Iterable[str]) -> None:
    """Note that nobody knows whether the bytes of these blobs are good."""
    connection.execute(_sql.FORGET_VERIFIED, {"digests": bound(digests)})


def small_blobs(connection: Connection, *, after: int, maximum: int, limit: int) -> list[tuple[int, str, int]]:
    """Return up to ``limit`` blobs of at most ``maximum`` bytes after the id ``after``, as id, digest and size."""
    return list(connection.execute(_sql.SMALL, {"after": after, "maximum": maximum, "limit": limit}))


def serve_manifests(connection: Connection, repository_id: int, digests: Sequence[str], *, now: int) -> None:
    """Let a repository serve those of these digests that are manifests."""
    parameters = {"rows": bound(digests), "repository": repository_id, "now": now}
    connection.execute(_sql.SERVE_MANIFEST, parameters)
    connection.execute(_sql.SERVE_EDGES, parameters)


def say(connection: Connection, repository_id: int, manifest_id: int, entry: str) -> None:
    """Keep with a manifest without a tag what is said of it besides."""
    connection.execute(_sql.SAY, {"in_repository": repository_id, "manifest": manifest_id, "said": entry})


def manifests_of(connection: Connection, repository_id: int, *, after: int, rows: int) -> list[int]:
    """Return manifests of a repository after the id ``after``: as many as have ``rows`` edges at most, or one."""
    found = list(connection.execute(_sql.WIDTHS, {"in_repository": repository_id, "after": after, "limit": rows}))
    return _fitting(found, rows)


def fitting(connection: Connection, digests: Sequence[str], *, rows: int) -> int:
    """Return how many of these manifests have ``rows`` edges together at most; one at least."""
    return len(_fitting(list(connection.execute(_sql.WIDTHS_OF, {"digests": bound(digests[:rows])})), rows))


def _fitting(widths: Sequence[tuple[int, int]], rows: int) -> list[int]:
    totals = accumulate(width + 1 for _, width in widths)
    count = sum(1 for total in totals if total <= rows)
    return [key for key, _ in widths[: max(1, count)]]


def leave_to_others(connection: Connection, repository_id: int, ids: Sequence[int]) -> None:
    """Take those of these manifests from a repository that another one has."""
    here = {"in_repository": repository_id}
    others = connection.execute(_sql.ELSEWHERE, here | {"ids": bound(ids)}).scalars()
    connection.execute(_sql.LEAVE_EDGES, here | {"ids": bound(others)})
    connection.execute(_sql.LEAVE, here | {"ids": bound(others)})


def serve_blobs(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int) -> None:
    """Let a repository serve the configs and layers of these manifests, and note of those that lack something."""
    here = {"in_repository": repository_id, "ids": bound(ids)}
    connection.execute(_sql.SERVE_BLOBS, here | {"now": now})
    connection.execute(_sql.NOTE_INCOMPLETE, here)


def keep_loose(connection: Connection, repository_id: int, ids: Sequence[int], *, now: int) -> None:
    """Let a repository serve those of these blobs that are live and that none serves."""
    connection.execute(_sql.KEEP_LOOSE, {"in_repository": repository_id, "ids": bound(ids), "now": now})


def count_of(connection: Connection, repository_id: int) -> tuple[int, int]:
    """Return how many manifests and blobs a repository has."""
    row = connection.execute(_sql.COUNT_OF, {"repository": repository_id}).first()
    return (0, 0) if row is None else (row[0], row[1])
