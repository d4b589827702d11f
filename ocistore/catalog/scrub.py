"""What scrub asks: which blobs to verify next, what is known of them, and whom damage concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_sql = Statements("scrub")


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


def never_verified(connection: Connection, subset: Subset, *, after: int, limit: int) -> list[LiveBlob]:
    """Return up to ``limit`` blobs that were never verified, after the id ``after``."""
    parameters = {"after": after, "limit": limit, **_of(subset)}
    return [LiveBlob(*row) for row in connection.execute(_sql.NEVER_VERIFIED, parameters)]


def verified_before(
    connection: Connection, subset: Subset, *, before: int, after: tuple[int, int], limit: int
) -> list[LiveBlob]:
    """Return up to ``limit`` blobs that were last verified by that instant, the oldest first, after (instant, id)."""
    parameters = {"before": before, "since": after[0], "after": after[1], "limit": limit, **_of(subset)}
    return [LiveBlob(*row) for row in connection.execute(_sql.VERIFIED, parameters)]


def _of(subset: Subset) -> dict[str, object]:
    return {"parts": subset.parts, "number": subset.number, "repository": subset.repository_id}


def mark(connection: Connection, ids: Iterable[int], *, now: int) -> None:
    """Note that the bytes of these blobs were hashed and found good, if they are still live."""
    connection.execute(_sql.MARK, {"ids": bound(ids), "now": now})


def unmark(connection: Connection, blob_id: int) -> None:
    """Note that nobody knows whether the bytes of a blob are good."""
    connection.execute(_sql.UNMARK, {"blob": blob_id})


def live_size(connection: Connection, digest: str) -> int | None:
    """Return the size of a blob, if it is live."""
    found: int | None = connection.execute(_sql.SIZE, {"digest": digest}).scalar()
    return found


def affected(connection: Connection, blob_id: int, *, limit: int) -> list[Affected]:
    """Return up to ``limit`` repositories that serve a blob, each with up to ``limit`` of the tags that lead to it."""
    found = []
    for repository_id, name in connection.execute(_sql.SERVING, {"blob": blob_id, "limit": limit}):
        parameters = {"repository_id": repository_id, "blob": blob_id, "limit": limit}
        tags = connection.execute(_sql.TAGS_ABOVE, parameters).scalars()
        found += [Affected(name, tag) for tag in tags or [None]]
    return found
