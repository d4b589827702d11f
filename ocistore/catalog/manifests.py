"""Statements about manifests: what they say, what they refer to, and which repository may serve them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, bindparam, case, delete, func, insert, or_, select, true, update

from ocistore.catalog import leases, tables
from ocistore.catalog.expressions import array, bound, greatest, in_order, member, present, upsert
from ocistore.catalog.staged import NOBODY, OWN, brought_again, goes_later, is_leaving, is_seen, target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import BindParameter

    from ocistore.catalog.connection import Connection
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest

_blobs = tables.blobs
_manifests = tables.manifests
_edges = tables.edges
_members = tables.repository_manifests
_own_edges = tables.repository_edges
_blob_members = tables.repository_blobs
_repositories = tables.repositories
_tags = tables.tags


class Stored(NamedTuple):
    """What the catalog knows of a manifest: enough for its descriptor."""

    digest: str
    size: int
    media_type: str
    artifact_type: str | None


class ListedManifest(NamedTuple):
    """A manifest in a listing, with the key of its place there."""

    key: int
    stored: Stored


class Child(NamedTuple):
    """Content that a manifest refers to, as the catalog knows it."""

    id: int
    size: int
    live: bool
    blob_here: bool
    """The repository may serve it as a blob."""
    manifest_here: bool
    """The repository may serve it as a manifest."""
    media_type: str | None
    """Of a manifest, put in this repository or another: its row and its edges are there. None for other blobs."""
    leaving: bool
    """A batch that is not revealed is going to take it from the repository: whoever relies on it overtakes that."""


class NewManifest(NamedTuple):
    """A manifest to store, checked, whose bytes are published and live."""

    manifest: Manifest
    platform: Mapping[str, object] | None
    incomplete: bool = False
    """The repository lacks some of what it refers to, and may."""
    entry: str | None = None
    """What the index.json that listed it without a tag said of it besides; None leaves what was said before."""


# --- looking up -------------------------------------------------------------------------------------------------------

_stored = (_blobs.c.digest, _blobs.c.size, _manifests.c.media_type, _manifests.c.artifact_type)
_by_tag = (
    select(*_stored)
    .select_from(
        in_order(
            _repositories,
            (_tags, _tags.c.repository_id == _repositories.c.id),
            (_manifests, _manifests.c.blob_id == target(_tags)),
            (_blobs, _blobs.c.id == _manifests.c.blob_id),
        )
    )
    .where(_repositories.c.name == bindparam("repository"), _tags.c.name == bindparam("reference"))
)
_by_digest = (
    select(*_stored)
    .select_from(
        in_order(
            _repositories,
            (_blobs, _blobs.c.digest == bindparam("reference")),
            (
                _members,
                and_(_members.c.repository_id == _repositories.c.id, _members.c.manifest_id == _blobs.c.id),
            ),
            (_manifests, _manifests.c.blob_id == _blobs.c.id),
        )
    )
    .where(_repositories.c.name == bindparam("repository"), is_seen(_members))
)
_platform = (
    select(_manifests.c.platform)
    .select_from(in_order(_blobs, (_manifests, _manifests.c.blob_id == _blobs.c.id)))
    .where(_blobs.c.digest == bindparam("digest"))
)
_served_here = present(
    _members.c.manifest_id == _blobs.c.id, _members.c.repository_id == bindparam("repository_id"), is_seen(_members)
)
_served = or_(present(_members.c.manifest_id == _blobs.c.id), present(_blob_members.c.blob_id == _blobs.c.id))
_id_of = (
    select(_blobs.c.id)
    .join_from(_blobs, _manifests, _manifests.c.blob_id == _blobs.c.id)
    .where(_blobs.c.digest == bindparam("digest"), or_(_served_here, ~_served))
)
_page = (
    select(_members.c.manifest_id, *_stored)
    .select_from(
        in_order(
            _members,
            (_manifests, _manifests.c.blob_id == _members.c.manifest_id),
            (_blobs, _blobs.c.id == _members.c.manifest_id),
        )
    )
    .where(
        _members.c.repository_id == bindparam("repository_id"),
        _members.c.manifest_id > bindparam("after"),
        is_seen(_members),
    )
    .order_by(_members.c.manifest_id)
    .limit(bindparam("limit"))
)
_subject = _blobs.alias("subject")
_referrers = (
    select(*_stored, _manifests.c.annotations)
    .select_from(
        in_order(
            _subject,
            (_manifests, _manifests.c.subject_id == _subject.c.id),
            (
                _members,
                and_(
                    _members.c.repository_id == bindparam("repository_id"),
                    _members.c.manifest_id == _manifests.c.blob_id,
                ),
            ),
            (_blobs, _blobs.c.id == _manifests.c.blob_id),
        )
    )
    .where(_subject.c.digest == bindparam("digest"), is_seen(_members))
    .order_by(_blobs.c.digest)
)
_referrers_of_type = _referrers.where(_manifests.c.artifact_type == bindparam("artifact_type"))


def by_tag(connection: Connection, repository: str, tag: str) -> Stored | None:
    """Return the manifest a tag points at."""
    row = connection.execute(_by_tag, {"repository": repository, "reference": tag}).first()
    return None if row is None else Stored(*row)


def by_digest(connection: Connection, repository: str, digest: str) -> Stored | None:
    """Return the manifest of that digest, if the repository holds it."""
    row = connection.execute(_by_digest, {"repository": repository, "reference": digest}).first()
    return None if row is None else Stored(*row)


def platform(connection: Connection, digest: str) -> dict[str, object] | None:
    """Return what the config of an image manifest says it runs on; None where it says nothing or there is none.

    As JSON has it (image specification, image index, ``platform``).
    """
    found: str | None = connection.execute(_platform, {"digest": digest}).scalar()
    parsed: dict[str, object] | None = json.loads(found) if found else None
    return parsed


def key(connection: Connection, repository_id: int, digest: str) -> int | None:
    """Return the key of a manifest in the order of :func:`page`; None where the repository has none of that digest.

    One that no repository has any more, and no gc has taken yet, has its key still: a listing may be continued
    behind it. What others have is never told.
    """
    found: int | None = connection.execute(_id_of, {"digest": digest, "repository_id": repository_id}).scalar()
    return found


def page(connection: Connection, repository_id: int, *, after: int, limit: int) -> list[ListedManifest]:
    """Return up to ``limit`` manifests behind the key ``after``, in the order in which the store first saw them."""
    rows = connection.execute(_page, {"repository_id": repository_id, "after": after, "limit": limit})
    return [ListedManifest(row[0], Stored(*row[1:])) for row in rows]


def referrers(
    connection: Connection, repository_id: int, digest: str, *, artifact_type: str | None
) -> list[tuple[Stored, dict[str, str]]]:
    """Return the manifests here whose subject is the digest, with their annotations, in byte order of digests."""
    statement = _referrers if artifact_type is None else _referrers_of_type
    parameters = {"repository_id": repository_id, "digest": digest, "artifact_type": artifact_type}
    if artifact_type is None:
        del parameters["artifact_type"]
    rows = connection.execute(statement, parameters)
    return [
        (Stored(found, size, media_type, type_), json.loads(annotations) if annotations else {})
        for found, size, media_type, type_, annotations in rows
    ]


# --- putting ----------------------------------------------------------------------------------------------------------

_digests = array("digests")
_children = (
    select(
        _blobs.c.digest,
        _blobs.c.id,
        _blobs.c.size,
        _blobs.c.state,
        *(
            select(is_leaving(table, own=OWN))
            .where(
                table.c.repository_id == bindparam("repository_id"), key == _blobs.c.id, is_seen(table, own=OWN)
            )
            .scalar_subquery()
            for table, key in ((_blob_members, _blob_members.c.blob_id), (_members, _members.c.manifest_id))
        ),
        _manifests.c.media_type,
    )
    .select_from(in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value)))
    .outerjoin(_manifests, _manifests.c.blob_id == _blobs.c.id)
)
# A value and not a join, for which SQLite may read all manifests of the repository.
_said = (
    select(_members.c.entry)
    .where(_members.c.repository_id == bindparam("repository_id"), _members.c.manifest_id == _blobs.c.id)
    .scalar_subquery()
)
_entries = select(_blobs.c.digest, _said).select_from(
    in_order(_digests, (_blobs, _blobs.c.digest == _digests.c.value))
)
_put = insert(_manifests)
_note_platform = (
    update(_manifests)
    .where(_manifests.c.blob_id == bindparam("id"), _manifests.c.platform.is_(None))
    .values(platform=bindparam("said"))
)
_put_edges = insert(_edges)
_ids = array("ids")
_rows = array("rows")
_brought = upsert(_members).from_select(
    ["repository_id", "manifest_id", "pushed_at", "unreferenced_since", "incomplete", "entry", "batch"],
    select(
        bindparam("repository_id"),
        member(_rows, 0),
        bindparam("now"),
        bindparam("now"),
        member(_rows, 1),
        member(_rows, 2),
        bindparam("batch"),
    ).where(true()),
)
_was_gone = and_(_members.c.leaves.is_not(None), ~goes_later(_members, _brought.excluded))
_add_membership = _brought.on_conflict_do_update(
    index_elements=["repository_id", "manifest_id"],
    set_={
        "unreferenced_since": _brought.excluded.unreferenced_since,
        "pushed_at": _brought.excluded.pushed_at,
        "incomplete": _brought.excluded.incomplete,
        "entry": func.coalesce(_brought.excluded.entry, case((~_was_gone, _members.c.entry))),
        **brought_again(_members, _brought.excluded),
    },
)

_own = upsert(_own_edges).from_select(
    ["repository_id", "child_id", "parent_id", "role"],
    select(bindparam("repository_id"), _edges.c.child_id, _edges.c.parent_id, _edges.c.role)
    .select_from(in_order(_ids, (_edges, _edges.c.parent_id == _ids.c.value)))
    .where(true()),
)
_own = _own.on_conflict_do_nothing()


def children(
    connection: Connection, repository_id: int, digests: Iterable[str], *, batch: int | None = None
) -> dict[str, Child]:
    """Return what the catalog knows of these digests, seen from one repository, and from a batch, if that is given.

    Digests without a row are left out.
    """
    parameters = {"repository_id": repository_id, "digests": bound(digests), OWN.key: batch or NOBODY}
    rows = connection.execute(_children, parameters)
    return {
        digest: Child(
            id_,
            size,
            state == "live",
            as_blob is not None,
            as_manifest is not None,
            media_type,
            leaving=bool(as_blob or as_manifest),
        )
        for digest, id_, size, state, as_blob, as_manifest, media_type in rows
    }


def entries(connection: Connection, repository_id: int, digests: Iterable[str]) -> dict[str, str]:
    """Return what was said besides of these manifests, by digest, where they came into the repository without a tag."""
    rows = connection.execute(_entries, {"repository_id": repository_id, "digests": bound(digests)})
    return {digest: entry for digest, entry in rows if entry is not None}


def put(
    connection: Connection,
    repository_id: int,
    new: Sequence[NewManifest],
    known: Mapping[str, Child],
    *,
    now: int,
    batch: int | None = None,
) -> None:
    """Store manifests with their edges and let the repository serve them.

    Args:
        connection: of a write transaction.
        repository_id: the repository.
        new: the manifests. None may refer to another of them as a child; their own blobs are live.
        known: what :func:`children` said of them and of everything they refer to.
        now: milliseconds since the epoch; their grace starts then.
        batch: which is to be revealed before others see those that the repository does not serve yet.
    """
    ids = {entry.manifest.descriptor.digest: known[entry.manifest.descriptor.digest].id for entry in new}
    fresh = [entry for entry in new if known[entry.manifest.descriptor.digest].media_type is None]
    if fresh:
        connection.execute(_put, [_row(entry, ids, known) for entry in fresh])
        rows = [
            {
                "parent_id": ids[entry.manifest.descriptor.digest],
                "position": position,
                "role": edge.role,
                "child_id": known[edge.descriptor.digest].id,
                "size": edge.descriptor.size,
                "media_type": edge.descriptor.media_type,
            }
            for entry in fresh
            for position, edge in enumerate(entry.manifest.edges())
        ]
        if rows:
            connection.execute(_put_edges, rows)
    # Its config may have been absent when it was put first.
    noted = [
        {"id": ids[entry.manifest.descriptor.digest], "said": as_json(entry.platform)}
        for entry in new
        if entry.platform and known[entry.manifest.descriptor.digest].media_type is not None
    ]
    if noted:
        connection.execute(_note_platform, noted)
    members = [
        (ids[entry.manifest.descriptor.digest], 1 if entry.incomplete else None, entry.entry) for entry in new
    ]
    parameters = {"repository_id": repository_id, "rows": bound(members), "now": now, "batch": batch}
    connection.execute(_add_membership, parameters)
    connection.execute(_own, {"repository_id": repository_id, "ids": bound(ids.values())})


def _row(entry: NewManifest, ids: Mapping[Digest, int], known: Mapping[str, Child]) -> dict[str, object]:
    manifest = entry.manifest
    return {
        "blob_id": ids[manifest.descriptor.digest],
        "media_type": manifest.media_type,
        "artifact_type": manifest.artifact_type,
        "config_media_type": manifest.config.media_type if manifest.config is not None else None,
        "subject_id": known[manifest.subject.digest].id if manifest.subject is not None else None,
        "annotations": as_json(manifest.annotations),
        "platform": as_json(entry.platform),
    }


def as_json(value: Mapping[str, object] | None) -> str | None:
    """Return an object as a row holds it; None for an empty one."""
    return json.dumps(dict(value), ensure_ascii=False, separators=(",", ":")) if value else None


# --- deleting ---------------------------------------------------------------------------------------------------------

_this: BindParameter[int] = bindparam("this_manifest")
_here: BindParameter[int] = bindparam("in_repository")
_remove_membership = delete(_members).where(_members.c.repository_id == _here, _members.c.manifest_id == _this)
_children_of = select(_edges.c.child_id).where(_edges.c.parent_id == _this)
_queue_blobs = (
    update(_blob_members)
    .where(
        _blob_members.c.repository_id == _here,
        _blob_members.c.blob_id.in_(_children_of),
        # as the last index of the same ones left it
        _blob_members.c.unreferenced_since.is_distinct_from(bindparam("now")),
    )
    .values(unreferenced_since=bindparam("now"))
)
# What was queued later, because it was pushed again, keeps its own time.
_is_behind = func.coalesce(_members.c.unreferenced_since, -1) < bindparam("since")
_queue_children = (
    update(_members)
    .where(
        _members.c.repository_id == _here,
        _members.c.manifest_id.in_(_children_of),
        _is_behind,
    )
    .values(unreferenced_since=bindparam("since"))
)
_about_this = (
    select(_manifests.c.blob_id)
    .select_from(
        in_order(
            _manifests,
            (_members, and_(_members.c.repository_id == _here, _members.c.manifest_id == _manifests.c.blob_id)),
        )
    )
    .where(_manifests.c.subject_id == _this)
    .limit(bindparam("limit"))
)
_not_queued = _about_this.where(_is_behind)
_referring = _about_this.where(_manifests.c.blob_id > bindparam("after")).order_by(_manifests.c.blob_id)
_queue_these = (
    update(_members)
    .where(
        _members.c.repository_id == _here,
        _members.c.manifest_id.in_(select(_ids.c.value)),
        _is_behind,
    )
    .values(unreferenced_since=bindparam("since"))
)
_queue_self = (
    update(_blobs)
    .where(_blobs.c.id == _this)
    .values(unreferenced_since=greatest(func.coalesce(_blobs.c.unreferenced_since, 0), bindparam("since")))
)
_disown = delete(_own_edges).where(
    _own_edges.c.repository_id == _here, _own_edges.c.child_id.in_(_children_of), _own_edges.c.parent_id == _this
)


def referring(connection: Connection, repository_id: int, manifest_id: int, *, after: int, limit: int) -> list[int]:
    """Return up to ``limit`` manifests of the repository whose subject is that manifest, after the id ``after``."""
    parameters = {"in_repository": repository_id, "this_manifest": manifest_id, "after": after, "limit": limit}
    return connection.execute(_referring, parameters).scalars()


def queue(connection: Connection, repository_id: int, manifest_ids: Iterable[int], *, since: int) -> None:
    """Queue manifests of the repository for gc, those that are not there since later."""
    connection.execute(_queue_these, {"in_repository": repository_id, "ids": bound(manifest_ids), "since": since})


def queue_referrers(
    connection: Connection, repository_id: int, manifest_id: int, *, since: int, limit: int = -1
) -> int:
    """Queue up to ``limit`` manifests of the repository that are about that one for gc.

    Returns:
        How many; none where all are there since then or later. Each takes 5 µs, and looking at one that is there 1 µs.
    """
    parameters = {"in_repository": repository_id, "this_manifest": manifest_id, "since": since, "limit": limit}
    found = connection.execute(_not_queued, parameters).scalars()
    if found:
        queue(connection, repository_id, found, since=since)
    return len(found)


def remove_membership(
    connection: Connection, repository_id: int, manifest_id: int, *, now: int, since: int | None = None
) -> None:
    """Take a manifest, which no tag points at any more, from the repository, and queue what it held for gc.

    Its row and its edges belong to its bytes and go with those.

    Args:
        connection: of a write transaction.
        repository_id: the repository.
        manifest_id: the manifest.
        now: milliseconds since the epoch. Its blobs were in use until then, so their grace begins.
        since: since when nothing has needed it, if that was not now: its children and referrers have not been needed
            since then either.
    """
    since = now if since is None else since
    parameters = {"in_repository": repository_id, "this_manifest": manifest_id, "now": now, "since": since}
    for statement in (_disown, _remove_membership, _queue_blobs, _queue_children, _queue_self):
        connection.execute(statement, parameters)
    queue_referrers(connection, repository_id, manifest_id, since=since)
    leases.forget(connection, [(repository_id, manifest_id)])
