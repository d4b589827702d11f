"""Statements of ``catalog/graph.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, bindparam, literal, literal_column, or_, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, once_known, present, walk
from ocistore.catalog.statements.staged import is_seen

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, Select

_blobs = tables.blobs
_edges = tables.edges
_own_edges = tables.repository_edges
_manifests = tables.manifests
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests


def _statement(*, referrers: bool) -> Select[Any]:
    roots = array("roots", Text)
    reached = (
        select(_blobs.c.id.label("id"))
        .select_from(in_order(roots, (_blobs, _blobs.c.digest == roots.c.value)))
        .cte("reached", recursive=True)
    )
    repository: BindParameter[int] = bindparam("repository_id")
    # Only a manifest that the repository holds is walked through: what another one made of it is not this one's
    # business.
    holder = _manifest_members.alias("holder")
    down = (
        select(_edges.c.child_id)
        .select_from(in_order(reached, (_edges, _edges.c.parent_id == reached.c.id)))
        .where(
            present(holder.c.manifest_id == reached.c.id, holder.c.repository_id == repository, is_seen(holder)),
            once_known(reached.c.id, _edges.c.role != literal("subject")),
        )
    )
    up = (
        select(_manifests.c.blob_id)
        .select_from(in_order(reached, (_manifests, _manifests.c.subject_id == reached.c.id)))
        .where(
            once_known(
                reached.c.id,
                present(
                    holder.c.manifest_id == _manifests.c.blob_id, holder.c.repository_id == repository, is_seen(holder)
                ),
            )
        )
    )
    closure = walk(reached, down, up) if referrers else reached.union(down)
    # As a blob only where something there refers to it as one: the bytes of a manifest that somebody put as a blob are
    # not the child that a sparse index lacks.
    as_blob = and_(
        present(
            _blob_members.c.repository_id == repository,
            _blob_members.c.blob_id == closure.c.id,
            is_seen(_blob_members),
        ),
        present(
            _own_edges.c.repository_id == repository,
            _own_edges.c.child_id == closure.c.id,
            _own_edges.c.role.in_([literal_column("'config'"), literal_column("'layer'")]),
        ),
    )
    as_manifest = present(
        _manifest_members.c.repository_id == repository,
        _manifest_members.c.manifest_id == closure.c.id,
        is_seen(_manifest_members),
    )
    return (
        select(
            _blobs.c.digest,
            _blobs.c.size,
            and_(_blobs.c.state == literal("live"), or_(as_blob, as_manifest)),
            _manifests.c.media_type,
            _manifests.c.artifact_type,
            _manifests.c.subject_id.is_not(None),
        )
        .select_from(in_order(closure, (_blobs, _blobs.c.id == closure.c.id)))
        .outerjoin(_manifests, and_(_manifests.c.blob_id == closure.c.id, as_manifest))
        .order_by(_blobs.c.digest)
    )


WALK = _statement(referrers=False)
WALK_WITH_REFERRERS = _statement(referrers=True)
