"""Statements of ``catalog/blobs.py``."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Text,
    and_,
    bindparam,
    case,
    delete,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)

from ocistore.catalog import tables
from ocistore.catalog.blobs import MAXIMUM_NAMED
from ocistore.catalog.expressions import array, halves, in_order, member, present, upsert
from ocistore.catalog.statements.gc import IS_HELD_AS_BLOB
from ocistore.catalog.statements.staged import OWN, brought_again, is_seen

_t = tables.blobs
_members = tables.repository_blobs
_repositories = tables.repositories
_own_edges = tables.repository_edges

_digests = array("digests", Text)
LIVE = (
    select(_t.c.digest, _t.c.size)
    .select_from(in_order(_digests, (_t, _t.c.digest == _digests.c.value)))
    .where(_t.c.state == literal("live"))
)

PAGE_OF_LIVE = (
    select(_t.c.id, _t.c.digest, _t.c.size)
    .where(_t.c.id > bindparam("after"), _t.c.state == literal("live"))
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)

BYTES_OF_LIVE = select(*halves(_t.c.size)).where(_t.c.state == literal("live"))

_rows = array("rows", JSON)
_published = upsert(_t).from_select(
    ["digest", "size", "state"], select(member(_rows, 0, Text), member(_rows, 1), literal("live")).where(true())
)
# A live row stays as it is: its bytes are the same ones, and whoever took it out of the queue knew why. Its size may be
# what a manifest says of something that was missing when the catalog was rebuilt, and those who have the bytes know.
PUBLISH = _published.on_conflict_do_update(
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
    ["digest", "size", "state"], select(member(_rows, 0, Text), member(_rows, 1), literal("absent")).where(true())
)
NAME = _named.on_conflict_do_nothing(index_elements=["digest"])

_brought = upsert(_members).from_select(
    ["repository_id", "blob_id", "unreferenced_since", "batch"],
    select(bindparam("repository_id"), _t.c.id, bindparam("now"), bindparam("batch"))
    .select_from(in_order(_digests, (_t, _t.c.digest == _digests.c.value)))
    .where(_t.c.state == literal("live")),
)
ADD_MEMBERSHIPS = _brought.on_conflict_do_update(
    index_elements=["repository_id", "blob_id"],
    set_={"unreferenced_since": _brought.excluded.unreferenced_since, **brought_again(_members, _brought.excluded)},
    where=or_(_members.c.unreferenced_since.is_not(None), _members.c.batch.is_not(None)),
)

_referred_to = present(
    _own_edges.c.repository_id == _members.c.repository_id,
    _own_edges.c.child_id == _members.c.blob_id,
    IS_HELD_AS_BLOB,
)
MEMBERSHIP = (
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
_served_here = present(
    _members.c.blob_id == _t.c.id, _members.c.repository_id == bindparam("repository_id"), is_seen(_members)
)
_served = or_(present(_members.c.blob_id == _t.c.id), present(tables.repository_manifests.c.manifest_id == _t.c.id))
ID_OF = select(_t.c.id).where(_t.c.digest == bindparam("digest"), or_(_served_here, ~_served))
PAGE = (
    select(_members.c.blob_id, _t.c.digest, _t.c.size)
    .select_from(in_order(_members, (_t, _t.c.id == _members.c.blob_id)))
    .where(
        _members.c.repository_id == bindparam("repository_id"),
        _members.c.blob_id > bindparam("after"),
        _t.c.state == literal("live"),
        is_seen(_members),
    )
    .order_by(_members.c.blob_id)
    .limit(bindparam("limit"))
)
_this_blob = select(_t.c.id).where(_t.c.digest == bindparam("digest")).scalar_subquery()
_this_membership = (
    _members.c.repository_id == bindparam("this_repository"),
    _members.c.blob_id == _this_blob,
)
TOUCH = (
    update(_members)
    .where(*_this_membership, _members.c.unreferenced_since.is_not(None))
    .values(unreferenced_since=bindparam("now"))
)
REMOVE_MEMBERSHIP = delete(_members).where(*_this_membership, is_seen(_members)).returning(_members.c.blob_id)
QUEUE = update(_t).where(_t.c.digest == bindparam("this_digest")).values(unreferenced_since=bindparam("now"))

_roles = array("roles", Text)
_parent = _t.alias("parent")
_holder = tables.repository_manifests
REFERRERS = (
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
    .limit(literal_column(str(MAXIMUM_NAMED)))
)
WITH_ROWS = select(_t.c.digest).where(_t.c.digest.in_(select(_digests.c.value)), _t.c.state != literal("absent"))
