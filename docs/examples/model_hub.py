"""A hub of models in a directory: push versions, list and compare them, delete some, and see what each costs.

python model_hub.py STORE push NAME VERSION DIRECTORY
python model_hub.py STORE versions NAME
python model_hub.py STORE compare NAME VERSION VERSION
python model_hub.py STORE delete NAME VERSION
python model_hub.py STORE pull NAME VERSION DIRECTORY
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from ocistore import Repository, Store
from ocistore.artifacts import TITLE, pull_files, push_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocistore import Descriptor

TYPE = "application/vnd.example.model"


def show_progress(done: int, total: int) -> None:
    """Rewrite one line on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done / max(total, 1):4.0%} of {total:,} bytes", end="", file=sys.stderr)


def push(store: Store, name: str, version: str, directory: str) -> None:
    """Push a directory as a version, which must be new. What other versions have is read, and not written again."""
    models = store.repository(f"models/{name}")
    with store.lease(ttl=timedelta(hours=1), reason=f"push of {name} {version}"):  # until it has its tag
        pushed = push_files(store, models.name, [directory], artifact_type=TYPE, contents=True, progress=show_progress)
        models.tag(version, pushed, expected=None)
    print(pushed.digest)


def files_of(models: Repository, version: str) -> dict[str, Descriptor]:
    """Return the files of a version by their paths."""
    return {layer.annotations[TITLE]: layer for layer in models.get_manifest(version).layers}


def versions(store: Store, name: str) -> None:
    """List the versions, newest first: date, size, and the bytes that deleting only this one would free."""
    models = store.repository(f"models/{name}")
    blobs = {
        version: {file.digest: file.size for file in files_of(models, version).values()} for version in models.tags()
    }
    users = Counter(digest for sizes in blobs.values() for digest in sizes)
    for tag in models.list_tags(sort="updated", total_size=True):
        own = sum(size for digest, size in blobs[tag.name].items() if users[digest] == 1)
        print(f"{tag.name}\t{tag.updated:%Y-%m-%d %H:%M}\t{tag.total_size:,} bytes\t{own:,} its own")


def compare(store: Store, name: str, old: str, new: str) -> None:
    """Say which files two versions do not have in common."""
    models = store.repository(f"models/{name}")
    before, after = files_of(models, old), files_of(models, new)
    for path in sorted({*before, *after}):
        if path not in after:
            print(f"removed {path}")
        elif path not in before:
            print(f"added {path}, {after[path].size:,} bytes")
        elif before[path].digest != after[path].digest:
            print(f"changed {path}, {before[path].size:,} to {after[path].size:,} bytes")


def delete(store: Store, name: str, version: str) -> None:
    """Delete a version, and free at once what no other has."""
    models = store.repository(f"models/{name}")
    models.delete_manifest(models.resolve(version))
    report = store.gc(grace=timedelta(0), keep_untagged=timedelta(0))  # every push here is one commit under a lease
    print(f"freed {report.bytes:,} bytes")


def pull(store: Store, name: str, version: str, directory: str) -> None:
    """Write the files of a version into a directory, verified."""
    report = pull_files(store, f"models/{name}:{version}", directory, progress=show_progress)
    print(f"{len(report.files)} files")


COMMANDS: dict[str, Callable[..., None]] = {
    "push": push,
    "versions": versions,
    "compare": compare,
    "delete": delete,
    "pull": pull,
}


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("arguments", nargs="+")
    given = parser.parse_args()
    with Store.open(given.store) as store:
        COMMANDS[given.command](store, *given.arguments)


if __name__ == "__main__":
    main()
