"""Walking from manifests to everything they are made of, as one recursive statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_sql = Statements("graph")


class Node(NamedTuple):
    """Content that was reached."""

    digest: str
    size: int
    here: bool
    """Its bytes are in the pool, and the repository may serve them. False for foreign layers and sparse children."""
    media_type: str | None
    """Of a manifest that the repository holds; None for everything else."""
    artifact_type: str | None
    refers: bool
    """It is a manifest with a subject, whether or not the repository holds that."""


def walk(connection: Connection, repository_id: int, roots: Iterable[str], *, referrers: bool) -> list[Node]:
    """Return everything reachable from the manifests of these digests, themselves included, in byte order of digests.

    Args:
        connection: any.
        repository_id: whose content it must be.
        roots: digests of manifests.
        referrers: also the manifests that have a reached one as their subject, to any depth. Subjects are never
        followed.
    """
    statement = _sql.WALK_WITH_REFERRERS if referrers else _sql.WALK
    rows = connection.execute(statement, {"repository_id": repository_id, "roots": bound(roots)})
    types: dict[str | None, str | None] = {}  # SQLite gives a string of its own for each of 100,000 rows
    once = types.setdefault
    return [
        Node(digest, size, bool(here), once(media_type, media_type), once(artifact_type, artifact_type), bool(refers))
        for digest, size, here, media_type, artifact_type, refers in rows
    ]
