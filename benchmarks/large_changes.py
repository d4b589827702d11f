"""How long one call holds the lock for which all others wait, and how much memory it takes, where a change is large."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from benchmarks.harness import Row, bounded, duration, memory_growth, settle
from benchmarks.images import fresh_salt, small_image, write_layout
from ocistore import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.harness import Setup
    from ocistore.catalog.connection import Connection

_REPOSITORY: Final = "library/large"
_LOCK_BOUND: Final = 0.25
"""Seconds."""
_MEMORY_BOUND: Final = 100
"""MiB."""


def changing_much(setup: Setup) -> list[Row]:
    """Imports into a new repository and one that exists, transactions that move, mount and remove, and a collection."""
    count = setup.sizes.large_change
    salt = fresh_salt()
    source, others = setup.fresh("source"), setup.fresh("others")
    names = [f"v{number}" for number in range(count)]
    first, second = ([small_image(salt, number) for number in range(begin, begin + count)] for begin in (0, count))
    write_layout(source, first, names=names)
    write_layout(others, second, names=names)
    before, after = ([image.manifest.digest for image in images] for images in (first, second))
    layers = [image.layers[0].digest for image in first]
    del first, second
    rows = []
    with Store.open(setup.fresh("ours")) as store:
        for name, what, work in (
            ("new", "import them into a new repository", lambda: store.import_(source, _REPOSITORY)),
            ("existing", "import as many others, which move all its tags", lambda: store.import_(others, _REPOSITORY)),
            (
                "expect",
                "move them back in one transaction, each if it is as expected",
                lambda: _expect(store, names, before, after),
            ),
            ("mount", "mount a layer of each into another repository, likewise", lambda: _mount(store, layers)),
            ("untag", "remove all of its tags in one transaction", lambda: _untag(store, names)),
            ("remove", "delete as many manifests in one transaction", lambda: _remove(store, after)),
            ("delete", "delete the repository", lambda: store.delete_repository(_REPOSITORY)),
            ("collect", "collect all of it", lambda: _collect(store)),
        ):
            settle()
            began = time.perf_counter()
            longest, commits = _longest(store, work)
            rows.append(
                bounded(
                    f"lock-{name}",
                    f"{count:,} images: {what}; the longest that the lock is held",
                    unit="s",
                    ours=[longest],
                    bound=_LOCK_BOUND,
                    beside={"the whole call": duration(time.perf_counter() - began), "commits": f"{commits:,}"},
                )
            )
    return rows + _memory(setup, source, count)


def _expect(store: Store, names: Sequence[str], wanted: Sequence[str], expected: Sequence[str]) -> None:
    with store.transaction() as transaction:
        for name, new, old in zip(names, wanted, expected, strict=True):
            transaction.repository(_REPOSITORY).tag(name, new, expected=old)


def _mount(store: Store, layers: Sequence[str]) -> None:
    with store.transaction() as transaction:
        for layer in layers:
            transaction.repository(f"{_REPOSITORY}/mounted").mount_blob(layer, _REPOSITORY)


def _remove(store: Store, manifests: Sequence[str]) -> None:
    with store.transaction() as transaction:
        for manifest in manifests:
            transaction.repository(_REPOSITORY).delete_manifest(manifest)


def _untag(store: Store, names: Sequence[str]) -> None:
    with store.transaction() as transaction:
        for name in names:
            transaction.repository(_REPOSITORY).untag(name)


def _collect(store: Store) -> None:
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)


def _longest(store: Store, work: Callable[[], object]) -> tuple[float, int]:
    held: list[float] = []
    catalog = store._core.catalog
    write = catalog.write

    def watched(**options: bool) -> AbstractContextManager[Connection]:
        return _watched(write(**options), held)

    catalog.write = watched  # type: ignore[method-assign]
    try:
        work()
    finally:
        del catalog.write
    return max(held), len(held)


@contextlib.contextmanager
def _watched(transaction: AbstractContextManager[Connection], held: list[float]) -> Iterator[Connection]:
    began = None
    try:
        with transaction as connection:
            began = time.perf_counter()
            yield connection
    finally:
        if began is not None:
            held.append(time.perf_counter() - began)


def _memory(setup: Setup, source: Path, count: int) -> list[Row]:
    root, destination = setup.fresh("ours"), setup.fresh("exported")
    rows = []
    for form, what, path in (("archive", "import", source), ("export", "export", destination)):
        settle()
        rows.append(
            bounded(
                f"large-{what}-memory",
                f"memory that a process grows by while it {what}s {count:,} tagged images",
                unit="MiB",
                ours=[memory_growth(root, path, form)],
                bound=_MEMORY_BOUND,
            )
        )
    return rows
