"""Promote an image from staging to production, in one commit: ``python promote.py STORE APP TAG``.

The image, for all its platforms, and what is about it, its signatures and SBOMs, are served by ``production/APP`` from
the moment in which its tag appears there; no bytes are read or moved. ``latest`` follows, unless somebody else moves it
in the same moment: then nothing is promoted.
"""

from __future__ import annotations

import sys

from ocistore import Manifest, ManifestNotFoundError, Repository, RepositoryNotFoundError, RepositoryWriter, Store


def copy(source: Repository, target: RepositoryWriter, manifest: Manifest) -> None:
    """Let a repository serve a manifest of another one, with all that it refers to and all that is about it."""
    for child in manifest.manifests:
        copy(source, target, source.get_manifest(child))
    for blob in filter(None, (manifest.config, *manifest.layers)):
        target.mount_blob(blob, source.name)
    target.put_manifest(manifest)
    for referrer in source.referrers(manifest.descriptor):
        copy(source, target, source.get_manifest(referrer))


def latest(repository: Repository) -> str | None:
    """Return what ``latest`` points at; None where there is no such tag."""
    try:
        return repository.resolve("latest").digest
    except (RepositoryNotFoundError, ManifestNotFoundError):
        return None


def main(root: str, app: str, tag: str) -> None:
    """Promote one tag."""
    with Store.open(root, create=False) as store:
        staging, production = store.repository(f"staging/{app}"), store.repository(f"production/{app}")
        before = latest(production)
        image = staging.get_manifest(tag)
        with store.transaction() as transaction:
            target = transaction.repository(production.name)
            copy(staging, target, image)
            target.tag(tag, image.descriptor, expected=None)  # a released version never changes
            target.tag("latest", image.descriptor, expected=before)
        print(f"{production.name}:{tag} is {image.descriptor.digest}")


if __name__ == "__main__":
    main(*sys.argv[1:])
