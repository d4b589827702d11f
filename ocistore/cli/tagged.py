"""Which tags point at a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.catalog import manifests, repositories, tags

if TYPE_CHECKING:
    from ocistore.oci.digest import Digest
    from ocistore.store import Store


def tags_of(store: Store, repository: str, digest: Digest) -> list[str]:
    """The tags of a repository that point at the manifest of that digest, in byte order."""
    with store.catalog.snapshot() as connection:
        repository_id = repositories.find(connection, repository)
        if repository_id is None:
            return []
        manifest_id = manifests.key(connection, repository_id, digest)
        if manifest_id is None:
            return []
        return sorted(tags.of_manifest(connection, repository_id, manifest_id))
