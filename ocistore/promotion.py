"""Promotion: what another repository of the store serves, with all that belongs to it, as changes without bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog import graph, manifests, repositories, tags
from ocistore.catalog.about import reach
from ocistore.catalog.contract import in_snapshot
from ocistore.changes import MountBlob, MountManifest, SetTag
from ocistore.errors import ManifestNotFoundError, RepositoryNotFoundError
from ocistore.oci.digest import Digest
from ocistore.oci.reference import tag_or_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.contract import Reader
    from ocistore.changes import Change
    from ocistore.oci.descriptor import Descriptor


class Promotion(NamedTuple):
    """What is to be done to have a manifest in another repository too."""

    descriptor: Descriptor
    changes: list[Change]


def promotion(
    catalog: Reader,
    source: str,
    destination: str,
    reference: str | Descriptor,
    *,
    names: Iterable[str],
    referrers: bool,
) -> Promotion:
    """Return the changes that let ``destination`` serve a manifest as ``source`` serves it now.

    Args:
        catalog: of both.
        source: the name of the repository that has it.
        destination: the name of the other one.
        reference: the tag or digest.
        names: the tags that are to point at it.
        referrers: also what is about it, or about something below it, to any depth: by its subject, or by a tag made
            of the digest, which the destination gets too.

    Raises:
        RepositoryNotFoundError, ManifestNotFoundError: there is none.
    """
    wanted = tag_or_digest(reference, argument="reference")

    def promoting(connection: Connection) -> Promotion:
        source_id = repositories.find(connection, source)
        if source_id is None:
            raise RepositoryNotFoundError(source)
        find = manifests.by_digest if isinstance(wanted, Digest) else manifests.by_tag
        stored = find(connection, source, wanted)
        if stored is None:
            raise ManifestNotFoundError(wanted, repository=source)
        tagged: dict[str, str] = {}
        if referrers:
            reached = reach(connection, source_id, [stored.digest])
            nodes, tagged = reached.nodes, reached.tagged
        else:
            nodes = graph.walk(connection, source_id, [stored.digest], referrers=False)
        held = [node.digest for node in nodes if node.media_type is not None]
        # What is a manifest there may be a layer too, and then has to be here as that.
        both = {digest for digest, child in manifests.children(connection, source_id, held).items() if child.blob_here}
        said = tags.targets(connection, source_id, [*tagged, *({wanted} if stored.digest != wanted else ())])
        changes: list[Change] = [
            MountBlob(destination, Digest.parse(node.digest), source)
            for node in nodes
            if node.here and (node.media_type is None or node.digest in both)
        ]
        changes += [MountManifest(destination, Digest.parse(digest), source) for digest in held]
        digest = Digest.parse(stored.digest)
        besides = said[wanted].entry if wanted in said else None
        changes += [SetTag(destination, name, digest, entry=besides) for name in names]
        changes += [
            SetTag(destination, tag, Digest.parse(about), entry=said[tag].entry) for tag, about in tagged.items()
        ]
        return Promotion(stored.descriptor, changes)

    return in_snapshot(catalog, promoting)
