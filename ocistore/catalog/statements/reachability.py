"""Statements of ``catalog/reachability.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, and_, bindparam, func, literal_column, or_, select

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, in_order, once_known, present, walk
from ocistore.catalog.statements.gc import IN_FORCE
from ocistore.catalog.statements.staged import points_at

if TYPE_CHECKING:
    from sqlalchemy import BindParameter

_manifests = tables.manifests
_own_edges = tables.repository_edges
_tags = tables.tags
_kept = tables.lease_blobs
_leases = tables.leases
_manifest_members = tables.repository_manifests


def climb(*, without: Any = ()) -> Any:  # noqa: ANN401 - a recursive table
    """Return a manifest of a repository and all that may keep it: indexes around it, its subject, and so on upwards.

    Not through what is in ``without``.

    A set, so that content that refers to each other in a ring (an index whose subject is its own child) ends it: such
    content does not keep itself.
    """
    up = select(bindparam("manifest", type_=Integer).label("id")).cte("up", recursive=True)
    repository: BindParameter[int] = bindparam("repository", type_=Integer)
    indexes = (
        select(_own_edges.c.parent_id)
        .select_from(
            in_order(
                up,
                (
                    _own_edges,
                    and_(
                        _own_edges.c.child_id == up.c.id,
                        _own_edges.c.repository_id == once_known(up.c.id, repository),
                    ),
                ),
            )
        )
        .where(once_known(up.c.id, _own_edges.c.role == literal_column("'manifest'")))
    )
    if without != ():
        indexes = indexes.where(once_known(up.c.id, _own_edges.c.parent_id.not_in(without)))
    subjects = (
        select(_manifests.c.subject_id)
        .select_from(in_order(up, (_manifests, _manifests.c.blob_id == up.c.id)))
        .where(
            once_known(
                up.c.id,
                present(
                    _manifest_members.c.repository_id == repository,
                    _manifest_members.c.manifest_id == _manifests.c.subject_id,
                ),
            )
        )
    )
    if without != ():
        subjects = subjects.where(once_known(up.c.id, _manifests.c.subject_id.not_in(without)))
    return walk(up, indexes, subjects)


_known_dead = array("dead")
_up = climb(without=select(_known_dead.c.value))
_tagged = points_at(_tags, _up.c.id, _tags.c.repository_id == bindparam("repository"))
_leased = present(_kept.c.repository_id == bindparam("repository"), _kept.c.blob_id == _up.c.id, *IN_FORCE)
_young = present(
    _manifest_members.c.repository_id == bindparam("repository"),
    _manifest_members.c.manifest_id == _up.c.id,
    _manifest_members.c.unreferenced_since > bindparam("before"),
)
ALIVE = select(_up.c.id).where(or_(_tagged, _leased, _young)).limit(literal_column("1"))
# What a lease kept that has run out is queued for gc when that ends, and so is young then.
_let_go = present(
    _kept.c.repository_id == bindparam("repository"),
    _kept.c.blob_id == _up.c.id,
    _leases.c.id == _kept.c.lease_id,
    _leases.c.expires <= bindparam("now"),
    _manifest_members.c.repository_id == bindparam("repository"),
    _manifest_members.c.manifest_id == _up.c.id,
    _manifest_members.c.unreferenced_since.is_(None),
)
ALIVE_ONCE_LEASES_END = select(_up.c.id).where(or_(_tagged, _leased, _young, _let_go)).limit(literal_column("1"))
_up = climb()
_in_an_index = present(
    _own_edges.c.repository_id == bindparam("repository"),
    _own_edges.c.child_id == _up.c.id,
    _own_edges.c.role == literal_column("'manifest'"),
)
_on_a_subject = present(
    _manifests.c.blob_id == _up.c.id,
    _manifest_members.c.repository_id == bindparam("repository"),
    _manifest_members.c.manifest_id == _manifests.c.subject_id,
)
_these = array("these")
_is_of_these = and_(
    _manifest_members.c.repository_id == bindparam("repository"),
    _manifest_members.c.manifest_id.in_(select(_these.c.value)),
)
_queued = func.coalesce(_manifest_members.c.unreferenced_since, 0)
QUEUED_LAST = select(func.coalesce(func.max(_queued), 0)).where(_is_of_these)
QUEUED_FIRST = select(func.coalesce(func.min(_queued), 0)).where(_is_of_these)
ABOVE = select(_up.c.id, or_(_in_an_index, _on_a_subject))
DIRECTLY_ABOVE = (
    select(_own_edges.c.parent_id)
    .where(
        _own_edges.c.repository_id == bindparam("repository"),
        _own_edges.c.child_id == bindparam("manifest"),
        _own_edges.c.role == literal_column("'manifest'"),
    )
    .union(
        select(_manifests.c.subject_id).where(
            _manifests.c.blob_id == bindparam("manifest"),
            present(
                _manifest_members.c.repository_id == bindparam("repository"),
                _manifest_members.c.manifest_id == _manifests.c.subject_id,
            ),
        )
    )
)
