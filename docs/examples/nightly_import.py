"""Import what skopeo left tonight, keep the newest five versions of each image, and free the rest.

``python nightly_import.py STORE DIRECTORY``, from cron or a timer of systemd. The directory has a layout for each
repository, as ``skopeo sync`` or ``skopeo copy docker://… oci:DIRECTORY/app:1.2`` write them: ``app/``, ``tools/git/``.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ocistore import LayoutInvalidError, Store

if TYPE_CHECKING:
    from ocistore import Repository

KEPT = 5


def import_all(store: Store, directory: Path) -> int:
    """Import each layout in a directory into the repository of its path; return how many were damaged."""
    damaged = 0
    for marker in sorted(directory.rglob("oci-layout")):
        name = marker.parent.relative_to(directory).as_posix()
        try:
            report = store.import_(marker.parent, name)
        except LayoutInvalidError as error:
            print(f"{name}: {error}", file=sys.stderr)
            damaged += 1
        else:
            print(f"{name}: {len(report.tags)} tags, {report.new_bytes:,} new bytes")
    return damaged


def keep_newest(store: Store, repository: Repository, count: int) -> list[str]:
    """Remove all tags but those that were changed last, in one commit; return those that were removed."""
    old = [tag.name for tag in islice(repository.list_tags(sort="updated"), count, None)]
    with store.transaction() as transaction:
        for tag in old:
            transaction.repository(repository.name).untag(tag)
    return old


def main(root: str, directory: str) -> int:
    """Do the work of a night."""
    with Store.open(root) as store:
        store.actor = "nightly import"
        damaged = import_all(store, Path(directory))
        for name in store.repositories():
            for tag in keep_newest(store, store.repository(name), KEPT):
                print(f"{name}:{tag} is no longer kept")
        report = store.gc(keep_untagged=timedelta(days=2))  # time enough to notice, and to tag it again
        print(f"freed {report.bytes:,} bytes, {report.blobs} blobs")
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
