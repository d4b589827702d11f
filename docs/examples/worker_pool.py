"""Many processes write to one store: ``python worker_pool.py STORE REPOSITORY FILE...``.

Each worker opens the store for itself and pushes the result for one file: here its lines, sorted. At the end, one index
lists what all of them made, and gets the tag: readers see the whole batch or nothing.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

from ocistore import Descriptor, Index, Manifest, Store

TYPE = "application/vnd.example.sorted-lines"

_store: Store


def open_store(root: str) -> None:
    """Open the store in a worker, once. A Store is not sent to another process, and need not be."""
    global _store  # noqa: PLW0603 - the state of a worker
    _store = Store.open(root)


def work(repository: str, path: str) -> Descriptor:
    """Make the result for one file, and push it; what is returned is small."""
    lines = sorted(Path(path).read_bytes().splitlines(keepends=True))
    target = _store.repository(repository)
    result = target.put_blob(lines, media_type="text/plain")
    name = {"org.opencontainers.image.title": Path(path).name}
    return target.put_manifest(Manifest.build(layers=[result], artifact_type=TYPE, annotations=name))


def main(root: str, repository: str, *paths: str) -> None:
    """Share the files out to as many workers as there are cores."""
    with (
        Store.open(root) as store,
        store.lease(ttl=timedelta(hours=6), reason="a batch") as lease,
        ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=open_store, initargs=(root,)) as workers,
    ):
        made: list[Descriptor] = []
        for result in workers.map(work, [repository] * len(paths), paths):
            lease.keep(repository, result)  # nothing is tagged yet, and the batch may take longer than the grace
            made.append(result)
            print(f"\r{len(made)}/{len(paths)}", end="", file=sys.stderr)
        index = Index.build(manifests=made, artifact_type=TYPE)
        print(store.repository(repository).put_manifest(index, tags=["latest"]).digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
