"""Statements of scrub: which blobs to look at next, what is known of them, and whom damage concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, func, literal, literal_column, or_, select, true, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.arrays import array, bound
from ocistore.catalog.presence import present
from ocistore.catalog.staged import is_seen
from ocistore.oci.mediatypes import NONDISTRIBUTABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import BindParameter

    from ocistore.catalog.connection import Connection

_t = tables.blobs
_edges = tables.edges
_own_edges = tables.repository_edges
_manifests = tables.manifests
_repositories = tables.repositories
_tags = tables.tags
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests
_child_members = _manifest_members.alias("child")


class Candidate(NamedTuple):
    """A live blob to be looked at."""

    id: int
    digest: str
    size: int
    verified_at: int | None


class Part(NamedTuple):
    """Which blobs a scrub is about."""

    number: int
    """Of ``parts`` parts, counted from 0."""
    parts: int
    repository_id: int | None


class Affected(NamedTuple):
    """A repository that damage concerns, and one of the tags there, if one leads to it."""

    repository: str
    tag: str | None


_columns = (_t.c.id, _t.c.digest, _t.c.size, _t.c.verified_at)
_this: BindParameter[Any] = bindparam("repository")
_wanted = (
    _t.c.state == literal("live"),
    _t.c.id % bindparam("parts") == bindparam("number"),
    or_(
        _this.is_(None),
        present(_blob_members.c.repository_id == _this, _blob_members.c.blob_id == _t.c.id),
        present(_manifest_members.c.repository_id == _this, _manifest_members.c.manifest_id == _t.c.id),
    ),
)
_never_verified = (
    select(*_columns)
    .where(_t.c.verified_at.is_(None), _t.c.id > bindparam("after"), *_wanted)
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
_verified = (
    select(*_columns)
    .where(
        _t.c.verified_at <= bindparam("before"),
        tuple_(_t.c.verified_at, _t.c.id) > tuple_(bindparam("since"), bindparam("after")),
        *_wanted,
    )
    .order_by(_t.c.verified_at, _t.c.id)
    .limit(bindparam("limit"))
)
_ids = array("ids")
_mark = (
    update(_t)
    .where(_t.c.id.in_(select(_ids.c.value)), _t.c.state == literal("live"))
    .values(verified_at=bindparam("now"))
)
_unmark = update(_t).where(_t.c.id == bindparam("blob")).values(verified_at=None)
_size = select(_t.c.size).where(_t.c.digest == bindparam("digest"), _t.c.state == literal("live"))
_digests = array("digests")
_with_rows = select(_t.c.digest).where(_t.c.digest.in_(select(_digests.c.value)), _t.c.state != literal("absent"))

_up = select(bindparam("repository_id").label("repository_id"), bindparam("blob").label("id")).cte("up", recursive=True)
_up = _up.union(
    select(_own_edges.c.repository_id, _own_edges.c.parent_id).join_from(
        _up,
        _own_edges,
        and_(
            _own_edges.c.repository_id == _up.c.repository_id,
            _own_edges.c.child_id == _up.c.id,
            _own_edges.c.role != literal_column("'subject'"),
        ),
    )
)
_tags_above = (
    select(_tags.c.name)
    .join_from(_up, _tags, and_(_tags.c.repository_id == _up.c.repository_id, _tags.c.manifest_id == _up.c.id))
    .distinct()
    .order_by(_tags.c.name)
    .limit(bindparam("limit"))
)
_serving = (
    select(_repositories.c.id, _repositories.c.name)
    .where(
        _repositories.c.name.is_not(None),
        or_(
            _repositories.c.id.in_(
                select(_blob_members.c.repository_id).where(_blob_members.c.blob_id == bindparam("blob"))
            ),
            _repositories.c.id.in_(
                select(_manifest_members.c.repository_id).where(_manifest_members.c.manifest_id == bindparam("blob"))
            ),
        )
    )
    .order_by(_repositories.c.name)
    .limit(bindparam("limit"))
)
_subject = _t.alias("subject")
_described = (
    select(
        _manifests.c.media_type,
        _manifests.c.artifact_type,
        _manifests.c.config_media_type,
        _manifests.c.annotations,
        _manifests.c.platform,
        _subject.c.digest,
    )
    .join_from(_manifests, _subject, _subject.c.id == _manifests.c.subject_id, isouter=True)
    .where(_manifests.c.blob_id == bindparam("blob"))
)
_correct = (
    update(_manifests)
    .where(_manifests.c.blob_id == bindparam("blob"))
    .values(
        media_type=bindparam("said_media_type"),
        artifact_type=bindparam("said_artifact_type"),
        config_media_type=bindparam("said_config_media_type"),
        annotations=bindparam("said_annotations"),
        platform=bindparam("said_platform"),
    )
)
_children = (
    select(_edges.c.role, _t.c.digest, _edges.c.size, _edges.c.media_type)
    .join_from(_edges, _t, _t.c.id == _edges.c.child_id)
    .where(_edges.c.parent_id == bindparam("blob"))
    .order_by(_edges.c.position)
)
# Each repository's own edges and those of its manifests, either of which may have too many.
_wanted_edges = select(
    _manifest_members.c.repository_id, _edges.c.child_id, _edges.c.parent_id, _edges.c.role
).join_from(_manifest_members, _edges, _edges.c.parent_id == _manifest_members.c.manifest_id)
_found_edges = select(_own_edges.c.repository_id, _own_edges.c.child_id, _own_edges.c.parent_id, _own_edges.c.role)
_missing_edges = select(func.count()).select_from(_wanted_edges.except_(_found_edges).subquery())
_excess_edges = select(func.count()).select_from(_found_edges.except_(_wanted_edges).subquery())
_served_without_bytes = select(
    select(func.count())
    .select_from(_blob_members)
    .join(_t, _t.c.id == _blob_members.c.blob_id)
    .where(_t.c.state != literal("live"))
    .scalar_subquery()
    + select(func.count())
    .select_from(_manifest_members)
    .join(_t, _t.c.id == _manifest_members.c.manifest_id)
    .where(_t.c.state != literal("live"))
    .scalar_subquery()
).where(true())


# What a repository may lack: whatever an incomplete manifest refers to, subjects, and foreign layers.
_lacking = select(func.count()).select_from(_manifest_members).join(
    _repositories, _repositories.c.id == _manifest_members.c.repository_id
).join(
    _edges, _edges.c.parent_id == _manifest_members.c.manifest_id
).where(
    _repositories.c.name.is_not(None),  # those that were deleted are emptied step by step
    is_seen(_manifest_members),  # what was removed by a large change goes likewise
    _manifest_members.c.incomplete.is_(None),
    or_(
        and_(
            _edges.c.role == literal("manifest"),
            ~present(
                _child_members.c.repository_id == _manifest_members.c.repository_id,
                _child_members.c.manifest_id == _edges.c.child_id,
                is_seen(_child_members),
            ),
        ),
        and_(
            _edges.c.role.in_([literal("config"), literal("layer")]),
            _edges.c.media_type.not_in([literal(media_type) for media_type in sorted(NONDISTRIBUTABLE)]),
            ~present(
                _blob_members.c.repository_id == _manifest_members.c.repository_id,
                _blob_members.c.blob_id == _edges.c.child_id,
                is_seen(_blob_members),
            ),
        ),
    ),
)


def never_verified(connection: Connection, part: Part, *, after: int, limit: int) -> list[Candidate]:
    """Up to ``limit`` blobs that were never verified, behind the id ``after``."""
    parameters = {"after": after, "limit": limit, **_of(part)}
    return [Candidate(*row) for row in connection.execute(_never_verified, parameters)]


def verified_before(
    connection: Connection, part: Part, *, before: int, after: tuple[int, int], limit: int
) -> list[Candidate]:
    """Up to ``limit`` blobs that were last verified by that instant, the oldest first, behind (instant, id)."""
    parameters = {"before": before, "since": after[0], "after": after[1], "limit": limit, **_of(part)}
    return [Candidate(*row) for row in connection.execute(_verified, parameters)]


def _of(part: Part) -> dict[str, object]:
    return {"parts": part.parts, "number": part.number, "repository": part.repository_id}


def mark(connection: Connection, ids: Iterable[int], *, now: int) -> None:
    """Note that the bytes of these blobs were hashed and found good, if they are still live."""
    connection.execute(_mark, {"ids": bound(ids), "now": now})


def unmark(connection: Connection, blob_id: int) -> None:
    """Note that nobody knows whether the bytes of a blob are good."""
    connection.execute(_unmark, {"blob": blob_id})


def live_size(connection: Connection, digest: str) -> int | None:
    """The size of a blob, if it is live."""
    found: int | None = connection.execute(_size, {"digest": digest}).scalar()
    return found


def with_rows(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Of these digests those whose bytes a row stands for, be it live or condemned."""
    return set(connection.execute(_with_rows, {"digests": bound(digests)}).scalars())


def affected(connection: Connection, blob_id: int, *, limit: int) -> list[Affected]:
    """Up to ``limit`` repositories that serve a blob, each with up to ``limit`` of the tags that lead to it."""
    found = []
    for repository_id, name in connection.execute(_serving, {"blob": blob_id, "limit": limit}):
        parameters = {"repository_id": repository_id, "blob": blob_id, "limit": limit}
        tags = connection.execute(_tags_above, parameters).scalars()
        found += [Affected(name, tag) for tag in tags or [None]]
    return found


class Said(NamedTuple):
    """What a manifest says of itself, as its row has it: nothing that decides what is kept."""

    media_type: str
    artifact_type: str | None
    config_media_type: str | None
    annotations: str | None
    platform: str | None
    """JSON, like the annotations."""


class Described(NamedTuple):
    """What the rows say of a manifest."""

    said: Said
    subject: str | None
    edges: list[tuple[str, str, int, str]]
    """Role, digest, size and media type, in the order of the document."""


def described(connection: Connection, blob_id: int) -> Described | None:
    """What the rows say of a blob as a manifest; None where it is none."""
    row = connection.execute(_described, {"blob": blob_id}).first()
    if row is None:
        return None
    edges = [(role, digest, size, media_type) for role, digest, size, media_type in
             connection.execute(_children, {"blob": blob_id})]  # fmt: skip
    return Described(Said(*row[:5]), row[5], edges)


def correct(connection: Connection, blob_id: int, said: Said) -> None:
    """Note what a manifest says of itself. What it refers to stays as it is noted."""
    connection.execute(_correct, {"blob": blob_id, **{f"said_{key}": value for key, value in said._asdict().items()}})


def inconsistencies(connection: Connection) -> list[str]:
    """What rows contradict each other. Reads all of them."""
    found = []
    for statement, words in (
        (_missing_edges, "edges of manifests are missing from their repositories"),
        (_excess_edges, "edges of repositories belong to none of their manifests"),
        (_served_without_bytes, "blobs are served by repositories and not live"),
        (_lacking, "parts of manifests are not served by their repositories"),
    ):
        count = connection.execute(statement).scalar()
        if count:
            found.append(f"{count} {words}")
    return found
