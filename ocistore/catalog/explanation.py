"""Statements that explain what keeps a blob or manifest, and foretell what would go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Integer, and_, bindparam, func, literal, literal_column, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import in_order, once_known, present
from ocistore.catalog.gc import BLOB_COLUMNS, IN_FORCE, IS_HELD_AS_BLOB, Blob
from ocistore.catalog.reachability import climb

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_own_edges = tables.repository_edges
_tags = tables.tags
_kept = tables.lease_blobs
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests

_up = climb()
_below = _up.alias("below")
_as_index = present(
    once_known(
        _below.c.id,
        present(
            _own_edges.c.repository_id == bindparam("repository"),
            _own_edges.c.child_id == _below.c.id,
            _own_edges.c.parent_id == _up.c.id,
            _own_edges.c.role == literal_column("'manifest'"),
        ).correlate(_below, _up),
    )
)
_why = (
    select(
        _up.c.id,
        _blobs.c.digest,
        _as_index,
        func.coalesce(
            *(
                select(_tags.c.name)
                .where(_tags.c.repository_id == bindparam("repository"), pointer == _up.c.id)
                .limit(literal_column("1"))
                .scalar_subquery()
                for pointer in (_tags.c.manifest_id, _tags.c.next_id)
            )
        ),
        _manifest_members.c.unreferenced_since,
    )
    .select_from(
        in_order(
            _up,
            (_blobs, _blobs.c.id == _up.c.id),
            (
                _manifest_members,
                and_(
                    _manifest_members.c.repository_id == once_known(_up.c.id, bindparam("repository", type_=Integer)),
                    _manifest_members.c.manifest_id == _up.c.id,
                ),
            ),
        )
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
_blobs_of = (
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
    .where(
        _own_edges.c.repository_id == bindparam("repository"),
        _own_edges.c.child_id == bindparam("blob"),
        IS_HELD_AS_BLOB,
    )
    .limit(bindparam("limit"))
)
_leased_here = select(_kept.c.lease_id).where(
    _kept.c.repository_id == bindparam("repository"), _kept.c.blob_id == bindparam("blob"), *IN_FORCE
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
_row_of = select(_blobs.c.id, _blobs.c.state, _blobs.c.unreferenced_since).where(_blobs.c.digest == bindparam("digest"))
_digest_of = select(_blobs.c.digest).where(_blobs.c.id == bindparam("blob"))
_since = (
    select(_blob_members.c.unreferenced_since)
    .where(_blob_members.c.repository_id == bindparam("repository"), _blob_members.c.blob_id == bindparam("blob"))
)
_blob = select(*BLOB_COLUMNS).where(_blobs.c.id == bindparam("blob"), _blobs.c.state == literal("live"))


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
        for key, digest, is_index, tag, since in connection.execute(_why, parameters)
    ]


def relatives(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """Return the manifests of the repository that one there keeps: the children of an index, and its referrers."""
    return connection.execute(_relatives, {"repository": repository_id, "manifest": manifest_id}).scalars()


def blobs_of(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """Return the blobs of the repository that a manifest there refers to."""
    return connection.execute(_blobs_of, {"repository": repository_id, "manifest": manifest_id}).scalars()


def users(connection: Connection, repository_id: int, blob_id: int, *, limit: int) -> list[int]:
    """Return up to ``limit`` manifests of the repository that refer to a blob, as config or layer."""
    return connection.execute(_users, {"repository": repository_id, "blob": blob_id, "limit": limit}).scalars()


def leased(connection: Connection, repository_id: int, blob_id: int, *, now: int) -> bool:
    """Whether a lease that has not run out keeps a blob or manifest in the repository."""
    parameters = {"repository": repository_id, "blob": blob_id, "now": now}
    return connection.execute(_leased_here, parameters).first() is not None


def servers(connection: Connection, blob_id: int, *, limit: int) -> list[tuple[int, bool]]:
    """Return up to ``limit`` repositories that serve a blob, each with whether it does so as a manifest."""
    rows = connection.execute(_servers, {"blob": blob_id, "limit": limit})
    return [(repository, bool(manifest)) for repository, manifest in rows]


class BlobRow(NamedTuple):
    """A row of ``blobs``, whatever its state."""

    id: int
    state: str
    since: int | None


def row_of(connection: Connection, digest: str) -> BlobRow | None:
    """Return what the catalog knows of a digest, or None."""
    row = connection.execute(_row_of, {"digest": digest}).first()
    return None if row is None else BlobRow(*row)


def digest_of(connection: Connection, blob_id: int) -> str:
    """Return the digest of a row that must exist."""
    found: str = connection.execute(_digest_of, {"blob": blob_id}).scalar()
    return found


def unreferenced_since(connection: Connection, repository_id: int, blob_id: int) -> int | None:
    """Return the ``unreferenced_since`` of a blob's membership."""
    found: int | None = connection.execute(_since, {"repository": repository_id, "blob": blob_id}).scalar()
    return found


def live_blob(connection: Connection, blob_id: int) -> Blob | None:
    """Return the row of a blob, if it is live."""
    row = connection.execute(_blob, {"blob": blob_id}).first()
    return None if row is None else Blob(*((*row[:5], row[5] or 0)))
