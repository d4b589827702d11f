"""Reading and changing manifests: what they say, what they refer to, and which repository may serve them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog import leases
from ocistore.catalog.parameters import NOBODY, OWN, bound
from ocistore.catalog.written import Statements
from ocistore.oci.descriptor import Descriptor
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import manifest_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ocistore.catalog.connection import Connection
    from ocistore.oci.manifest import Manifest

_sql = Statements("manifests")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Stored(NamedTuple):
    """What the catalog knows of a manifest: enough for its descriptor."""

    digest: str
    size: int
    media_type: str
    artifact_type: str | None

    @property
    def descriptor(self) -> Descriptor:
        """What a tag or an index would say of it."""
        digest = Digest.parse(self.digest)
        return manifest_descriptor(self.media_type, digest, self.size, artifact_type=self.artifact_type)


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


def by_tag(connection: Connection, repository: str, tag: str) -> Stored | None:
    """Return the manifest a tag points at."""
    row = connection.execute(_sql.BY_TAG, {"repository": repository, "reference": tag}).first()
    return None if row is None else Stored(*row)


def by_digest(connection: Connection, repository: str, digest: str) -> Stored | None:
    """Return the manifest of that digest, if the repository holds it."""
    row = connection.execute(_sql.BY_DIGEST, {"repository": repository, "reference": digest}).first()
    return None if row is None else Stored(*row)


def platform(connection: Connection, digest: str) -> dict[str, object] | None:
    """Return what the config of an image manifest says it runs on; None where it says nothing or there is none.

    As JSON has it (image specification, image index, ``platform``).
    """
    found: str | None = connection.execute(_sql.PLATFORM, {"digest": digest}).scalar()
    parsed: dict[str, object] | None = json.loads(found) if found else None
    return parsed


def key(connection: Connection, repository_id: int, digest: str) -> int | None:
    """Return the key of a manifest in the order of :func:`page`; None where the repository has none of that digest.

    One that no repository has any more, and no gc has taken yet, has its key still: a listing may be continued
    after it. What other repositories have is never revealed.
    """
    found: int | None = connection.execute(_sql.ID_OF, {"digest": digest, "repository_id": repository_id}).scalar()
    return found


def page(connection: Connection, repository_id: int, *, after: int, limit: int) -> list[ListedManifest]:
    """Return up to ``limit`` manifests after the key ``after``, in the order in which the store first saw them."""
    rows = connection.execute(_sql.PAGE, {"repository_id": repository_id, "after": after, "limit": limit})
    return [ListedManifest(row[0], Stored(*row[1:])) for row in rows]


def referrers(
    connection: Connection,
    repository_id: int,
    digest: str,
    *,
    artifact_type: str | None,
    after: str = "",
    limit: int | None = None,
) -> list[Descriptor]:
    """Return the manifests here whose subject is the digest, with their annotations, in byte order of digests.

    Those after the digest ``after``, and up to ``limit`` of them, if it is given. All are read and sorted for that.
    Unlike other descriptors they have an artifact type in any case (distribution specification, "Listing Referrers").
    """
    statement = _sql.REFERRERS if artifact_type is None else _sql.REFERRERS_OF_TYPE
    parameters: dict[str, object] = {
        "repository_id": repository_id,
        "digest": digest,
        "after": after,
        "limit": -1 if limit is None else limit,
    }
    if artifact_type is not None:
        parameters["artifact_type"] = artifact_type
    rows = connection.execute(statement, parameters)
    return [
        Descriptor(
            media_type,
            Digest.parse(found),
            size,
            annotations=json.loads(annotations) if annotations else {},
            artifact_type=type_,
        )
        for found, size, media_type, type_, annotations in rows
    ]


# --- putting ----------------------------------------------------------------------------------------------------------


def children(
    connection: Connection, repository_id: int, digests: Iterable[str], *, batch: int | None = None
) -> dict[str, Child]:
    """Return what the catalog knows of these digests, seen from one repository, and from a batch, if that is given.

    Digests without a row are left out.
    """
    parameters = {"repository_id": repository_id, "digests": bound(digests), OWN: batch or NOBODY}
    rows = connection.execute(_sql.CHILDREN, parameters)
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
    rows = connection.execute(_sql.ENTRIES, {"repository_id": repository_id, "digests": bound(digests)})
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
        connection.execute(_sql.PUT, [_row(entry, ids, known) for entry in fresh])
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
            connection.execute(_sql.PUT_EDGES, rows)
    # Its config may have been absent when it was put first.
    noted = [
        {"id": ids[entry.manifest.descriptor.digest], "said": as_json(entry.platform)}
        for entry in new
        if entry.platform and known[entry.manifest.descriptor.digest].media_type is not None
    ]
    if noted:
        connection.execute(_sql.NOTE_PLATFORM, noted)
    members = [(ids[entry.manifest.descriptor.digest], 1 if entry.incomplete else None, entry.entry) for entry in new]
    _serve(connection, repository_id, members, now=now, batch=batch)


def below(connection: Connection, manifest_ids: Iterable[int]) -> list[str]:
    """Return the digests of all that manifests refer to, their subjects too."""
    return connection.execute(_sql.BELOW, {"ids": bound(manifest_ids)}).scalars()


def mount(
    connection: Connection,
    repository_id: int,
    manifest_ids: Sequence[int],
    source_id: int,
    *,
    now: int,
    batch: int | None = None,
) -> None:
    """Let the repository serve manifests that another one serves, as complete as they are there; see :func:`put`."""
    parameters = {"repository_id": source_id, "ids": bound(manifest_ids)}
    members = list(connection.execute(_sql.MEMBERS, parameters))
    _serve(connection, repository_id, members, now=now, batch=batch)


def _serve(
    connection: Connection,
    repository_id: int,
    members: Sequence[tuple[int, int | None, str | None]],
    *,
    now: int,
    batch: int | None,
) -> None:
    """Let the repository serve manifests whose rows are there: by id, with ``incomplete`` and ``entry``."""
    parameters = {"repository_id": repository_id, "rows": bound(members), "now": now, "batch": batch}
    connection.execute(_sql.ADD_MEMBERSHIP, parameters)
    connection.execute(_sql.OWN_EDGES, {"repository_id": repository_id, "ids": bound(member[0] for member in members)})


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
    return _encode(dict(value)) if value else None


# --- deleting ---------------------------------------------------------------------------------------------------------


def referring(connection: Connection, repository_id: int, manifest_id: int, *, after: int, limit: int) -> list[int]:
    """Return up to ``limit`` manifests of the repository whose subject is that manifest, after the id ``after``."""
    parameters = {"in_repository": repository_id, "this_manifest": manifest_id, "after": after, "limit": limit}
    return connection.execute(_sql.REFERRING, parameters).scalars()


def queue(connection: Connection, repository_id: int, manifest_ids: Iterable[int], *, since: int) -> None:
    """Queue manifests of the repository for gc, those that are not there since later."""
    connection.execute(_sql.QUEUE_THESE, {"in_repository": repository_id, "ids": bound(manifest_ids), "since": since})


def queue_referrers(
    connection: Connection, repository_id: int, manifest_id: int, *, since: int, limit: int = -1
) -> int:
    """Queue up to ``limit`` manifests of the repository that are about that one for gc.

    Returns:
        How many; none where all are there since then or later. Each takes 5 µs, and looking at one that is there 1 µs.
    """
    parameters = {"in_repository": repository_id, "this_manifest": manifest_id, "since": since, "limit": limit}
    found = connection.execute(_sql.NOT_QUEUED, parameters).scalars()
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
    for statement in (_sql.DISOWN, _sql.REMOVE_MEMBERSHIP, _sql.QUEUE_BLOBS, _sql.QUEUE_CHILDREN, _sql.QUEUE_SELF):
        connection.execute(statement, parameters)
    queue_referrers(connection, repository_id, manifest_id, since=since)
    leases.forget(connection, [(repository_id, manifest_id)])
