"""What is related to a blob or manifest: what keeps it, what it keeps, who serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.gc import Blob
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("relations")


class Holder(NamedTuple):
    """A manifest that keeps another one, or that manifest itself."""

    id: int
    digest: str
    is_index: bool
    """It holds the manifest, or what keeps that, as an index; otherwise it is the subject of one of these."""
    tag: str | None
    """One of its tags."""
    since: int | None
    """Its ``unreferenced_since``."""


def holders(connection: Connection, repository_id: int, manifest_id: int, *, limit: int) -> list[Holder]:
    """Return a manifest of a repository and up to ``limit`` of those that may keep it there, nearest first."""
    parameters = {"repository": repository_id, "manifest": manifest_id, "limit": limit}
    return [
        Holder(key, digest, bool(is_index), tag, since)
        for key, digest, is_index, tag, since in connection.execute(_sql.WHY, parameters)
    ]


def relatives(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """Return the manifests of the repository that one there keeps: the children of an index, and its referrers."""
    return connection.execute(_sql.RELATIVES, {"repository": repository_id, "manifest": manifest_id}).scalars()


def blobs_of(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """Return the blobs of the repository that a manifest there refers to."""
    return connection.execute(_sql.BLOBS_OF, {"repository": repository_id, "manifest": manifest_id}).scalars()


def users(connection: Connection, repository_id: int, blob_id: int, *, limit: int) -> list[int]:
    """Return up to ``limit`` manifests of the repository that refer to a blob, as config or layer."""
    return connection.execute(_sql.USERS, {"repository": repository_id, "blob": blob_id, "limit": limit}).scalars()


def naming_otherwise(connection: Connection, repository_id: int, blob_id: int, *, limit: int) -> list[int]:
    """Return up to ``limit`` manifests of the repository that name a blob as child or subject, which keeps no blob."""
    parameters = {"repository": repository_id, "blob": blob_id, "limit": limit}
    return connection.execute(_sql.NAMING_OTHERWISE, parameters).scalars()


def leased(connection: Connection, repository_id: int, blob_id: int, *, now: int) -> bool:
    """Whether a lease that has not run out keeps a blob or manifest in the repository."""
    parameters = {"repository": repository_id, "blob": blob_id, "now": now}
    return connection.execute(_sql.LEASED_HERE, parameters).first() is not None


def servers(connection: Connection, blob_id: int, *, limit: int) -> list[tuple[int, bool]]:
    """Return up to ``limit`` repositories that serve a blob, each with whether it does so as a manifest."""
    rows = connection.execute(_sql.SERVERS, {"blob": blob_id, "limit": limit})
    return [(repository, bool(manifest)) for repository, manifest in rows]


class BlobRow(NamedTuple):
    """A row of ``blobs``, whatever its state."""

    id: int
    state: str
    since: int | None


def row_of(connection: Connection, digest: str) -> BlobRow | None:
    """Return what the catalog knows of a digest, or None."""
    row = connection.execute(_sql.ROW_OF, {"digest": digest}).first()
    return None if row is None else BlobRow(*row)


def digest_of(connection: Connection, blob_id: int) -> str:
    """Return the digest of a row that must exist."""
    found: str = connection.execute(_sql.DIGEST_OF, {"blob": blob_id}).scalar()
    return found


def unreferenced_since(connection: Connection, repository_id: int, blob_id: int) -> int | None:
    """Return the ``unreferenced_since`` of a blob's membership."""
    found: int | None = connection.execute(_sql.SINCE, {"repository": repository_id, "blob": blob_id}).scalar()
    return found


def live_blob(connection: Connection, blob_id: int) -> Blob | None:
    """Return the row of a blob, if it is live."""
    row = connection.execute(_sql.BLOB, {"blob": blob_id}).first()
    return None if row is None else Blob(*((*row[:5], row[5] or 0)))
