"""Everything below manifests, and all that is about any of it: by its subject, or by a tag made of a digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocistore.catalog import graph, tags
from ocistore.oci.digest import Digest
from ocistore.oci.referrertags import PREFIXES, tags_about

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection


@dataclass(frozen=True)
class Reached:
    """Everything below some manifests, and everything about it."""

    nodes: list[graph.Node]
    tagged: dict[str, str]
    """Tags of what was reached by its tag alone, with the digests they point at."""


def reach(connection: Connection, repository_id: int, roots: Iterable[str]) -> Reached:
    """Return everything below manifests of a repository, and about any of it, to any depth.

    Args:
        connection: of a snapshot.
        repository_id: whose content and tags it must be.
        roots: digests of manifests.
    """
    below = set(roots)
    tagged: dict[str, str] = {}
    looked_up: set[str] = set()
    has_tags = any(tags.page(connection, repository_id, prefix=prefix, after="", limit=1) for prefix in PREFIXES)
    while True:
        nodes = graph.walk(connection, repository_id, below, referrers=True)
        if not has_tags:
            return Reached(nodes, tagged)
        unknown = [node.digest for node in nodes if node.media_type is not None and node.digest not in looked_up]
        looked_up.update(unknown)
        found = tagged_about(connection, repository_id, unknown)
        tagged |= found
        if below.issuperset(found.values()):
            return Reached(nodes, tagged)
        below.update(found.values())


def tagged_about(connection: Connection, repository_id: int, digests: Iterable[str]) -> dict[str, str]:
    """Return the tags of a repository that name something about these manifests, with the digests they point at."""
    names = [tag for digest in digests for tag in tags_about(Digest(digest))]
    return {name: target.digest for name, target in tags.targets(connection, repository_id, names).items()}
