"""How much a collection would take, counted in memory that does not grow with it, and in time that does linearly.

It follows the rules of :mod:`ocistore.upkeep.gc`, as :mod:`ocistore.upkeep.dryrun` does, but names nothing.
Each question is asked of the store as it is then: no state is held meanwhile, so that the WAL can be reset and others
can fork; what others push or delete in those seconds may be counted or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog import gc, losses, reachability
from ocistore.catalog.gc import START, QueuePosition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocistore.catalog.contract import Catalog

_REPOSITORIES: Final = 8
"""Of so many repositories it is remembered which manifests are alive."""


class Losses(NamedTuple):
    """What a garbage collection would remove."""

    blobs: int
    bytes: int


def losses_of(catalog: Catalog, *, now: int, untagged_before: int, before: int) -> Losses:
    """Return what a collection would take, now or later as a consequence, once the grace of what it releases is over.

    Content that refers to itself in a ring may be left out.

    Args:
        catalog: of an open store.
        now: milliseconds since the epoch.
        untagged_before: manifests that nothing has kept since then, or longer, are due.
        before: blobs that nothing has used since then, or longer, are due.
    """
    counting = _Counting(catalog, now, untagged_before, before)
    blobs = size = 0
    for candidate in counting.candidates():
        blobs += 1
        size += candidate.size
    return Losses(blobs, size)


class _Counting:
    """Counts what would be removed, once."""

    def __init__(self, catalog: Catalog, now: int, untagged_before: int, before: int) -> None:
        self._catalog = catalog
        self._now = now
        self._untagged_before = untagged_before
        self._before = before
        self._known: dict[int, reachability.Known] = {}

    def candidates(self) -> Iterator[losses.Losable]:
        """Yield each blob that would be removed, once."""
        for repository, manifest in self._dead_manifests():
            with self._catalog.read() as connection:
                found = losses.blobs_of(connection, repository, manifest)
            yield from self._going(found)
        after: QueuePosition | None = START
        while after is not None:
            with self._catalog.read() as connection:
                found, after = losses.idle(connection, before=self._before, after=after)
            yield from self._going(found)
        yield from self._unserved()

    def _going(self, candidates: Iterable[losses.Losable]) -> Iterator[losses.Losable]:
        return (candidate for candidate in candidates if self._goes(candidate.id))

    def _unserved(self) -> Iterator[losses.Losable]:
        after = START
        while True:
            with self._catalog.read() as connection:
                page = gc.due_blobs(connection, before=self._before, limit=losses.PAGE, after=after)
            yield from (losses.Losable(row.id, row.size) for row in page if not row.absent and not row.served)
            if len(page) < losses.PAGE:
                return
            after = QueuePosition(page[-1].since, page[-1].id, 0)

    # Manifests: those that are due, and what they keep, each once.

    def _dead_manifests(self) -> Iterator[tuple[int, int]]:
        after = START
        while True:
            with self._catalog.read() as connection:
                page = gc.due_manifest_memberships(
                    connection, before=self._untagged_before, limit=losses.PAGE, after=after
                )
            for row in page:
                yield from self._with_what_it_keeps(row.repository_id, row.blob_id)
            if len(page) < losses.PAGE:
                return
            after = QueuePosition(page[-1].since, page[-1].repository_id, page[-1].blob_id)

    def _with_what_it_keeps(self, repository: int, manifest: int) -> Iterator[tuple[int, int]]:
        # Each with how far its referrers were listed, None before its children were. What is done is not kept: so a
        # chain, however long, takes the memory of one.
        waiting: list[tuple[int, int | None]] = [(manifest, None)]
        while waiting:
            key, after = waiting.pop()
            if after is None:
                if self._alive(repository, key):
                    continue
                yield repository, key
            with self._catalog.read() as connection:
                children = losses.children(connection, repository, key) if after is None else []
                referrers, more = losses.referrers(connection, repository, key, after=after or 0)
            if more is not None:
                waiting.append((key, more))
            waiting.extend((each, None) for each in (*children, *referrers))

    def _alive(self, repository: int, manifest: int) -> bool:
        known = self._known.get(repository)
        if known is None:
            if len(self._known) >= _REPOSITORIES:
                del self._known[next(iter(self._known))]
            known = self._known[repository] = reachability.Known()
        with self._catalog.read() as connection:
            return reachability.alive(
                connection, repository, manifest, now=self._now, before=self._untagged_before, known=known
            )

    # Blobs. Each is asked about once, and each question ends with the first that keeps it: so of all manifests that
    # refer to it only dead ones are looked at, and one more.

    def _goes(self, blob: int) -> bool:
        after = 0
        while True:
            with self._catalog.read() as connection:
                page = losses.servers(connection, blob, now=self._now, after=after)
            if not all(self._leaves(server, blob) for server in page):
                return False
            if len(page) < losses.PAGE:
                return self._goes_as_manifest(blob)
            after = page[-1].repository_id

    def _goes_as_manifest(self, blob: int) -> bool:
        after = 0
        while True:
            with self._catalog.read() as connection:
                page = losses.servers_as_manifest(connection, blob, after=after)
            if any(self._alive(repository, blob) for repository in page):
                return False
            if len(page) < losses.PAGE:
                return True
            after = page[-1]

    def _leaves(self, server: losses.Server, blob: int) -> bool:
        if server.leased:
            return False
        after, used = 0, False
        while True:
            with self._catalog.read() as connection:
                page = losses.users(connection, server.repository_id, blob, after=after)
            if any(self._alive(server.repository_id, user) for user in page):
                return False
            used = used or bool(page)
            if len(page) < losses.PAGE:
                return used or (server.since is not None and server.since <= self._before)
            after = page[-1]
