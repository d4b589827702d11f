"""Statements of ``catalog/stageddeletions.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import JSON, Text, bindparam, literal, null, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, count_up_to_limit, in_order, member

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement, Select, Table, Update

_tags = tables.tags
_blobs = tables.blobs
_manifests = tables.manifests
_blob_members, _manifest_members = tables.repository_blobs, tables.repository_manifests

_here: BindParameter[int] = bindparam("in_repository")
_ids = array("ids")
_rows = array("rows", JSON)


class _Statements(NamedTuple):
    """Those about one of the tables of memberships."""

    brought: Select[Any]
    leave: Update
    leaving: Select[Any]
    restore: Update


def _statements(table: Table, key: ColumnElement[int]) -> _Statements:
    these = (table.c.repository_id == _here, key.in_(select(_ids.c.value)))
    return _Statements(
        brought=select(key).where(*these, table.c.batch == bindparam("of_batch"), table.c.leaves.is_(None)),
        leave=update(table)
        .where(*these, table.c.batch.is_(None))
        .values(batch=bindparam("of_batch"), leaves=literal(1)),
        leaving=select(table.c.repository_id, key)
        .where(table.c.batch == bindparam("of_batch"), table.c.leaves.is_not(None))
        .order_by(table.c.repository_id, key)
        .limit(bindparam("limit")),
        restore=update(table)
        .where(tuple_(table.c.repository_id, key).in_(select(member(_rows, 0), member(_rows, 1))))
        .values(batch=null(), leaves=null()),
    )


BROUGHT_MANIFESTS, LEAVE_MANIFESTS, LEAVING_MANIFESTS, RESTORE_MANIFESTS = _statements(
    _manifest_members, _manifest_members.c.manifest_id
)
BROUGHT_BLOBS, LEAVE_BLOBS, LEAVING_BLOBS, RESTORE_BLOBS = _statements(_blob_members, _blob_members.c.blob_id)

_digests = array("digests", Text)
WIDTHS = select(
    _blobs.c.digest,
    *(
        count_up_to_limit(_blobs, _tags.c.repository_id == _here, pointer == _blobs.c.id)
        for pointer in (_tags.c.manifest_id, _tags.c.next_id)
    ),
    count_up_to_limit(_blobs, _manifests.c.subject_id == _blobs.c.id),
).select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
