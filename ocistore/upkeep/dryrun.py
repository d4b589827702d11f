"""What a garbage collection would remove, found without changing anything: for a dry run.

It follows the rules of :mod:`ocistore.upkeep.gc` over one snapshot of the catalog, and keeps a number for
everything that would be removed: about 200 bytes each.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ocistore.catalog import gc, leases, reachability, relations
from ocistore.catalog.gc import START, QueuePosition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocistore.catalog.connection import Connection

_PAGE: Final = 1000


@dataclass(slots=True)
class Forecast:
    """What would be removed: memberships as (repository, blob), blobs with their sizes."""

    manifests: dict[tuple[int, int], int] = field(default_factory=dict)
    """The memberships, each with the time since when nothing keeps it."""
    parts: dict[tuple[int, int], int] = field(default_factory=dict)
    blobs: dict[int, gc.Blob] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The bytes of the blobs that would be removed."""
        return sum(blob.size for blob in self.blobs.values())


def forecast(connection: Connection, *, now: int, untagged_before: int, before: int) -> Forecast:
    """Return what a collection would take.

    Args:
        connection: of a snapshot, so that everything is seen in one state.
        now: milliseconds since the epoch; blobs whose manifest is removed have been in use until then.
        untagged_before: manifests that nothing has kept since then, or longer, are due.
        before: blobs that nothing has used since then, or longer, are due.
    """
    found = Forecast()
    let_go = leases.let_go(connection, now=now)
    _manifests(connection, found, now, untagged_before, let_go.manifests)
    _parts(connection, found, now, before, let_go.blobs)
    _blobs(connection, found, before)
    return found


def _manifests(
    connection: Connection, found: Forecast, now: int, before: int, let_go: Iterable[tuple[int, int]]
) -> None:
    queue: deque[tuple[int, int, int]] = deque()
    seen: set[tuple[int, int]] = set()
    known: defaultdict[int, reachability.Known] = defaultdict(reachability.Known)

    def alive(repository: int, manifest: int) -> bool:
        return reachability.alive(
            connection,
            repository,
            manifest,
            now=now,
            before=before,
            known=known[repository],
            leases_end=now > before,  # else what they release is removed at once
        )

    due_now = [(*membership, now) for membership in let_go if now <= before]
    # The last to be due first: what several keep is removed when the last of these is.
    for due in (*due_now, *reversed(list(_due_manifests(connection, before)))):
        queue.append(due)
        while queue:
            repository, manifest, since = queue.popleft()
            if (repository, manifest) in seen or alive(repository, manifest):
                continue
            seen.add((repository, manifest))
            found.manifests[repository, manifest] = since
            # A relative that was pushed again later than it has lost its keeper has a later time of its own: then it is
            # alive, as the question above finds.
            queue.extend(
                (repository, relative, since) for relative in relations.relatives(connection, repository, manifest)
            )


def _parts(connection: Connection, found: Forecast, now: int, before: int, let_go: Iterable[tuple[int, int]]) -> None:
    at_once = now <= before  # what a manifest leaves that is removed now
    # How many dead manifests refer to each blob: so many users are looked at, as config and as layer, and one more.
    dead: Counter[tuple[int, int]] = Counter()
    if at_once:
        for repository, manifest in found.manifests:
            dead.update((repository, blob) for blob in relations.blobs_of(connection, repository, manifest))

    def goes(repository: int, blob: int) -> bool:
        limit = 2 * dead[repository, blob] + 1
        users = relations.users(connection, repository, blob, limit=limit)
        return all((repository, user) in found.manifests for user in users) and not relations.leased(
            connection, repository, blob, now=now
        )

    after = START
    while page := gc.due_blob_memberships(connection, now=now, before=before, limit=_PAGE, after=after):
        for (repository, blob, since), needed in page:
            if not needed or (at_once and goes(repository, blob)):
                found.parts[repository, blob] = since
        last = page[-1][0]
        after = QueuePosition(last.since, last.repository_id, last.blob_id)
    if not at_once:
        # Whatever a manifest names that is removed now has been in use until now, as a child or a subject, too.
        for repository, manifest in found.manifests:
            for blob in relations.blobs_of(connection, repository, manifest):
                found.parts.pop((repository, blob), None)
    else:
        found.parts.update({membership: now for membership in let_go if goes(*membership)})
        asked = set(found.parts)
        for (repository, manifest), since in found.manifests.items():
            for blob in relations.blobs_of(connection, repository, manifest):
                if (repository, blob) not in asked and goes(repository, blob):
                    found.parts[repository, blob] = since
                asked.add((repository, blob))


def _blobs(connection: Connection, found: Forecast, before: int) -> None:
    # A blob is due when the last of its memberships was, or when it was released itself, if that was later.
    gone: dict[int, int] = {}
    for (_, blob), since in (*found.manifests.items(), *found.parts.items()):
        gone[blob] = max(since, gone.get(blob, since))

    def due(blob: gc.Blob) -> bool:
        return max(blob.since, gone.get(blob.id, blob.since)) <= before

    leaving = Counter(blob for _, blob in (*found.manifests, *found.parts))

    def goes(blob: int) -> bool:
        servers = relations.servers(connection, blob, limit=leaving[blob] + 1)
        return all(
            (repository, blob) in (found.manifests if as_manifest else found.parts)
            for repository, as_manifest in servers
        )

    after = START
    while page := gc.due_blobs(connection, before=before, limit=_PAGE, after=after):
        for row in page:
            if not row.absent and due(row) and goes(row.id):
                found.blobs[row.id] = row
        after = QueuePosition(page[-1].since, page[-1].id, 0)
    for blob in gone:
        if blob not in found.blobs and goes(blob):
            live = relations.live_blob(connection, blob)
            if live is not None and due(live):
                found.blobs[blob] = live


def condemned(connection: Connection) -> Iterator[gc.Blob]:
    """Yield what an earlier collection condemned and did not remove; it is removed in any case."""
    after = 0
    while page := gc.condemned(connection, limit=_PAGE, after=after):
        for key, digest, size in page:
            yield gc.Blob(key, digest, size, absent=False, served=False, since=0)
        after = page[-1][0]


def _due_manifests(connection: Connection, before: int) -> Iterator[tuple[int, int, int]]:
    after = START
    while page := gc.due_manifest_memberships(connection, before=before, limit=_PAGE, after=after):
        yield from page
        after = QueuePosition(page[-1].since, page[-1].repository_id, page[-1].blob_id)
