"""Statements of ``catalog/relations.py``."""

from __future__ import annotations

from sqlalchemy import Integer, and_, bindparam, func, literal, literal_column, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import in_order, once_known, present
from ocistore.catalog.statements.gc import BLOB_COLUMNS, IN_FORCE, IS_HELD_AS_BLOB
from ocistore.catalog.statements.reachability import climb

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
WHY = (
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
RELATIVES = (
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
BLOBS_OF = (
    select(_edges.c.child_id)
    .where(
        _edges.c.parent_id == bindparam("manifest"),
        present(_blob_members.c.repository_id == bindparam("repository"), _blob_members.c.blob_id == _edges.c.child_id),
    )
    .distinct()
)
_naming = (
    select(_own_edges.c.parent_id)
    .where(_own_edges.c.repository_id == bindparam("repository"), _own_edges.c.child_id == bindparam("blob"))
    .limit(bindparam("limit"))
)
USERS = _naming.where(IS_HELD_AS_BLOB)
NAMING_OTHERWISE = _naming.where(~IS_HELD_AS_BLOB)
LEASED_HERE = select(_kept.c.lease_id).where(
    _kept.c.repository_id == bindparam("repository"), _kept.c.blob_id == bindparam("blob"), *IN_FORCE
)
SERVERS = (
    select(_blob_members.c.repository_id, literal_column("0"))
    .where(_blob_members.c.blob_id == bindparam("blob"))
    .union_all(
        select(_manifest_members.c.repository_id, literal_column("1")).where(
            _manifest_members.c.manifest_id == bindparam("blob")
        )
    )
    .limit(bindparam("limit"))
)
ROW_OF = select(_blobs.c.id, _blobs.c.state, _blobs.c.unreferenced_since).where(_blobs.c.digest == bindparam("digest"))
DIGEST_OF = select(_blobs.c.digest).where(_blobs.c.id == bindparam("blob"))
SINCE = select(_blob_members.c.unreferenced_since).where(
    _blob_members.c.repository_id == bindparam("repository"), _blob_members.c.blob_id == bindparam("blob")
)
BLOB = select(*BLOB_COLUMNS).where(_blobs.c.id == bindparam("blob"), _blobs.c.state == literal("live"))
