"""Statements of ``catalog/leases.py``."""

from __future__ import annotations

from sqlalchemy import JSON, Text, bindparam, delete, func, literal, or_, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, insertion, member, present, upsert
from ocistore.catalog.leases import ENDED

_t = tables.leases
_kept = tables.lease_blobs
_blobs = tables.blobs
_members = (
    (tables.repository_blobs, tables.repository_blobs.c.blob_id),
    (tables.repository_manifests, tables.repository_manifests.c.manifest_id),
)

INSERT = insertion(_t, "id", "reason", "created", "expires")
RENEW = (
    update(_t).where(_t.c.id == bindparam("lease"), _t.c.expires > bindparam("now")).values(expires=bindparam("until"))
)
EXPIRES = select(_t.c.expires).where(_t.c.id == bindparam("lease"))
_count = select(func.count()).select_from(_kept).where(_kept.c.lease_id == _t.c.id)
_is_manifest = present(
    tables.repository_manifests.c.repository_id == _kept.c.repository_id,
    tables.repository_manifests.c.manifest_id == _kept.c.blob_id,
)
PAGE = (
    select(
        _t.c.id,
        _t.c.reason,
        _t.c.created,
        _t.c.expires,
        _count.scalar_subquery(),
        _count.where(_is_manifest).scalar_subquery(),
    )
    .where(_t.c.id > bindparam("after"), _t.c.expires > bindparam("now"))
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
_repository = select(tables.repositories.c.id).where(tables.repositories.c.name == bindparam("repository"))
_blob = select(_blobs.c.id).where(_blobs.c.digest == bindparam("digest"))
STANDING = select(
    _t.c.expires,
    present(
        _kept.c.lease_id == bindparam("lease"),
        _kept.c.repository_id == _repository.scalar_subquery(),
        _kept.c.blob_id == _blob.scalar_subquery(),
    ),
).where(_t.c.id == bindparam("lease"))
EXPIRED = select(_t.c.id).where(_t.c.expires <= bindparam("now")).order_by(_t.c.expires).limit(bindparam("limit"))
_digests = array("digests", Text)
KEEP = upsert(_kept).from_select(
    ["lease_id", "repository_id", "blob_id"],
    select(bindparam("lease"), bindparam("repository_id"), _blobs.c.id)
    .select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
    .where(
        or_(
            *(
                present(of.c.repository_id == bindparam("repository_id"), of_blob == _blobs.c.id)
                for of, of_blob in _members
            )
        )
    ),
)
KEEP = KEEP.on_conflict_do_update(
    index_elements=["lease_id", "repository_id", "blob_id"], set_={"lease_id": KEEP.excluded.lease_id}
)
EXPIRE = update(_t).where(_t.c.id == bindparam("lease")).values(expires=literal(ENDED))
SOME = (
    select(_kept.c.repository_id, _kept.c.blob_id)
    .where(_kept.c.lease_id == bindparam("lease"))
    .order_by(_kept.c.repository_id, _kept.c.blob_id)
    .limit(bindparam("limit"))
)
LET_GO = tuple(
    select(_kept.c.repository_id, _kept.c.blob_id)
    .select_from(in_order(_t, (_kept, _kept.c.lease_id == _t.c.id)))
    .where(
        _t.c.expires <= bindparam("now"),
        present(
            of.c.repository_id == _kept.c.repository_id, of_blob == _kept.c.blob_id, of.c.unreferenced_since.is_(None)
        ),
    )
    .distinct()
    for of, of_blob in _members
)
_rows = array("rows", JSON)
_pairs = select(member(_rows, 0), member(_rows, 1))
# Whatever it kept is looked at by the next gc; what something else keeps then leaves the queue again.
QUEUE = tuple(
    update(of)
    .where(tuple_(of.c.repository_id, of_blob).in_(_pairs), of.c.unreferenced_since.is_(None))
    .values(unreferenced_since=bindparam("now"))
    for of, of_blob in _members
)
DROP = delete(_kept).where(
    _kept.c.lease_id == bindparam("lease"), tuple_(_kept.c.repository_id, _kept.c.blob_id).in_(_pairs)
)
DELETE = delete(_t).where(_t.c.id == bindparam("lease"))
FORGET = delete(_kept).where(
    tuple_(_kept.c.repository_id, _kept.c.blob_id).in_(_pairs),
    *(~present(of.c.repository_id == _kept.c.repository_id, of_blob == _kept.c.blob_id) for of, of_blob in _members),
)
EVERY = select(_t.c.id)
OF = (
    select(_t.c.id, _t.c.reason, _t.c.created, _t.c.expires)
    .select_from(in_order(_kept, (_t, _t.c.id == _kept.c.lease_id)))
    .where(
        _kept.c.repository_id == bindparam("repository_id"),
        _kept.c.blob_id == bindparam("blob"),
        _t.c.expires > bindparam("now"),
    )
    .order_by(_t.c.expires)
)
