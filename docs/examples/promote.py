"""Promote an image from staging to production, in one commit: ``python promote.py STORE APP TAG``.

The image, for all its platforms, and what is about it, its signatures and SBOMs, are served by ``production/APP`` from
the moment in which its tag appears there; no bytes are read or moved. ``latest`` follows, unless somebody else moves it
in the same moment: then nothing is promoted.
"""

from __future__ import annotations

import sys

from ocistore import ManifestNotFoundError, Repository, RepositoryNotFoundError, Store


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
        with store.transaction() as transaction:
            target = transaction.repository(production.name)
            image = target.copy_from(staging, tag)
            target.tag(tag, image, expected=None)  # a released version never changes
            target.tag("latest", image, expected=before)
        print(f"{production.name}:{tag} is {image.digest}")


if __name__ == "__main__":
    main(*sys.argv[1:])
