"""Garbage collection: condemn, then reap.

What is removed passes three queues, one after another, so that no recursion is needed: memberships of manifests,
memberships of blobs, blobs. Each is read from its beginning in small write transactions, and each transaction asks
again, in the same state in which it acts, whether something keeps the row; so no push is ever in between.

    manifests   due and alive: leaves the queue. Due and dead: leaves its repository, after the indexes around it and
                its subject, so that nobody ever tags half a graph; what it held is put before us
    parts       a blob's membership that no manifest of the repository refers to: the same
    condemn     a blob that no repository serves is ``condemned``, and committed: from now on nobody may rely on it
    reap        in a later transaction: is it still condemned? Its file is renamed to trash/, its row is deleted
    trash       outside every lock, what is in trash/ is unlinked, by a thread beside the next batch

A push of the same content makes a condemned row live again, with its own verified bytes under the name; a rename that
came first makes that push look and publish once more (see ``blobs/pool.py``). Two steps, because each simpler order
lost data when it was tried: unlinking before the row is deleted loses it to a crash, deleting the row first to a race.

Killed anywhere, a collection leaves what the next one completes: condemned rows are found first, and trash/ is emptied.
Time decides only when something is removed, never whether it may be: a clock that is wrong costs a push its grace, and
no blob that is referred to.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Final

from ocistore.arguments import GRACE, KEEP_UNTAGGED, check_duration
from ocistore.blobs.pool import may_grow
from ocistore.catalog import (
    batches,
    deletions,
    epoch,
    gc,
    holds,
    leases,
    manifests,
    reachability,
    repositories,
    uploads,
)
from ocistore.catalog.contract import in_snapshot
from ocistore.commit import on_a_full_disk
from ocistore.core import check_if_moved
from ocistore.errors import (
    StorageError,
    StoreFullError,
)
from ocistore.largedeletions import remove_files
from ocistore.oci.digest import Digest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.threads import Ahead
from ocistore.upkeep import refsfile
from ocistore.upkeep.abandoned import Abandoned
from ocistore.upkeep.budget import Budget, BudgetSpent
from ocistore.upkeep.compaction import give_back
from ocistore.upkeep.dryrun import Forecast, condemned, forecast
from ocistore.upkeep.gctransaction import GCTransaction
from ocistore.upkeep.hold import abandoned, end_abandoned
from ocistore.upkeep.preflight import refuse_held, refuse_too_much, too_much
from ocistore.upkeep.replacing import sweep_rebuilt

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from ocistore.blobs.pool import UnpublishedFile
    from ocistore.catalog.connection import Connection
    from ocistore.core import Core

_MANIFESTS: Final = 50
"""Memberships of manifests in one transaction; each takes about 150 µs."""

_EDGES: Final = 2000
"""Edges of the manifests in one transaction, of which one has 10,000 at most: each takes 4 to 7 µs. Uncounted, 20
indexes of the same 9,000 manifests made a transaction of 1.4 s. One manifest is not divided: 70 ms for that many."""

_REFERRERS: Final = 1000
"""Of a manifest with more than ``_EDGES``, so many are queued in one transaction; each takes 5 to 10 µs."""

_ROWS: Final = 250
"""Other rows in one transaction; each takes 5 to 15 µs."""

_FILES: Final = 100
"""Files that are renamed in one transaction; each takes 20 µs. All three keep a push waiting for a few milliseconds."""

_LISTED: Final = 1000
"""How many blobs a dry run names."""

_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True)
class GCCandidate(JSONValue):
    """A blob that a garbage collection would remove."""

    digest: str
    size: int
    why: str


@dataclass(frozen=True)
class GCReport(JSONValue):
    """What a garbage collection removed, or what a dry run would remove."""

    dry_run: bool
    complete: bool
    """Whether it came to the end: with False, its bounds cut it short, and something that was due is left."""
    manifests: int
    """Manifests removed from their repositories, because nothing keeps them there."""
    memberships: int
    """Blobs removed from repositories where no manifest refers to them."""
    blobs: int
    """Blobs removed from the pool; manifests are blobs too."""
    bytes: int
    """Bytes freed in the filesystem: of those blobs, and of what was abandoned in ``uploads/``."""
    uploads: int
    """Upload sessions that had expired."""
    abandoned: int
    """Staged files in ``uploads/`` that were abandoned."""
    leases: int
    """Leases that had run out."""
    batches: int
    """Write transactions."""
    no_refs_file: str | None = None
    """Why the names could not be written to ``catalog.snapshot``; None where they were, or did not have to be."""
    candidates: tuple[GCCandidate, ...] = ()
    """Of a dry run: the first thousand blobs that would be removed."""
    refused: tuple[str, ...] = ()
    """Of a dry run: why a real one would be refused now, and remove none of it."""


@check_if_moved
def collect(
    core: Core,
    *,
    grace: timedelta = GRACE,
    keep_untagged: timedelta = KEEP_UNTAGGED,
    dry_run: bool = False,
    force: bool = False,
    maximum_duration: timedelta | None = None,
    maximum_batches: int | None = None,
) -> GCReport:
    """Collect garbage; see :meth:`ocistore.Store.gc`."""
    check_duration(grace, "grace")
    check_duration(keep_untagged, "keep_untagged")
    budget = Budget(duration=maximum_duration, transactions=maximum_batches)
    now = core.catalog.now()
    run = _Run(core, now, now - _milliseconds(keep_untagged), now - _milliseconds(grace), budget)
    return run.forecast(force=force) if dry_run else run.run(force=force)


class _Run:
    """Runs one garbage collection."""

    def __init__(self, core: Core, now: int, untagged_before: int, before: int, budget: Budget) -> None:
        self._core = core
        self._catalog = core.catalog
        self._sweeper = core.pool.sweeper
        self._now = now
        self._untagged_before = untagged_before
        self._before = before
        self._budget = budget
        self._leftovers = Abandoned(core, budget, batch=self._batch, now=now)
        self._manifests = self._memberships = self._blobs = self._leases = 0
        self._let_go: dict[tuple[int, int], int] = {}
        """Since when manifests are due that wait for some that are due since earlier, and so come back into the queue
        with a time before their own. Rare: what is around a manifest is mostly released when that is, or later. A
        collection that is killed or cut short forgets it: then they may be removed before their own grace, never when
        in use.
        """

    def forecast(self, *, force: bool) -> GCReport:
        """Report what a real run would take."""
        file = self._catalog.file
        seen = None if file is None else file.noted_epoch()  # first: a note is never ahead of its catalog

        def looked(connection: Connection) -> tuple[Forecast, tuple[GCCandidate, ...], set[str], int, list[str]]:
            expected = forecast(connection, now=self._now, untagged_before=self._untagged_before, before=self._before)
            decided = {blob.id: blob for blob in condemned(connection)}
            expected.blobs.update(decided)
            listed = tuple(islice(_candidates(expected, decided), _LISTED))
            ended = {name for _, name, _ in uploads.expired(connection, now=self._now, after=(-1, ""), limit=-1)}
            over = len(leases.expired(connection, now=self._now, limit=-1))
            put_back = None if seen is None else epoch.contradiction(epoch.find(connection), seen)
            held = holds.in_force(connection, now=self._catalog.now(), without=abandoned(self._core, connection))
            refused = list(dict.fromkeys([*held, *([] if put_back is None else [put_back])]))
            return expected, listed, ended, over, refused

        # What is refused a real run would find with its first write, and place a hold.
        expected, listed, ended, over, refused = in_snapshot(self._catalog, looked)
        if not force:
            reason = too_much(self._core, now=self._now, untagged_before=self._untagged_before, before=self._before)
            refused += () if reason is None else (reason,)
        found = list(self._leftovers.abandoned_files())
        left_behind = sum(file.size for file in self._sweeper.staged() if file.name in ended)
        left_behind += sum(size for _, size in found) + sum(file.size for file in self._sweeper.trashed())
        return GCReport(
            dry_run=True,
            complete=True,
            manifests=len(expected.manifests),
            memberships=len(expected.parts),
            blobs=len(expected.blobs),
            bytes=expected.bytes + left_behind,
            uploads=len(ended),
            abandoned=len(found),
            leases=over,
            batches=0,
            candidates=listed,
            refused=tuple(refused),
        )

    def run(self, *, force: bool) -> GCReport:
        """Collect."""
        self._core.require_writable()
        file = self._catalog.file
        seen = None if file is None else file.noted_epoch()  # first: a note is never ahead of its catalog
        found, put_back = self._outlook(seen)
        if file is not None and (put_back or not file.stands()):
            # A write finds the same, and places the hold. Where nothing is to be found, nothing is written.
            on_a_full_disk(self._catalog, self._core.pool, file.note_epoch)
            found, _ = self._outlook(seen)
        if found.held:
            end_abandoned(self._core)
            with self._catalog.read() as connection:
                refuse_held(connection, self._catalog)
        sweep_rebuilt(self._core)
        complete = True
        problem = None
        if found.work:
            if not force:
                refuse_too_much(self._core, now=self._now, untagged_before=self._untagged_before, before=self._before)
            try:
                # Each transaction is whole, so that it may begin again.
                on_a_full_disk(self._catalog, self._core.pool, self._work)
            except BudgetSpent:
                complete = False
        try:
            self._leftovers.sweep_uploads()
            self._leftovers.empty_trash()
        except BudgetSpent:
            complete = False
        if found.work:
            try:
                give_back(self._core, self._batch)
            except BudgetSpent:
                complete = False
            if self._core.pool.ballast is not None:
                self._core.pool.ballast.make()
        if found.work or time.monotonic() >= self._core.next_look_at_refs:
            # What was collected stays so, whether or not there is room for the refs file; else the next collection
            # writes it.
            problem = self._write_refs_file()
        return GCReport(
            dry_run=False,
            complete=complete,
            manifests=self._manifests,
            memberships=self._memberships,
            blobs=self._blobs,
            bytes=self._leftovers.bytes,
            uploads=self._leftovers.uploads,
            abandoned=self._leftovers.abandoned,
            leases=self._leases,
            batches=self._budget.transactions,
            no_refs_file=problem,
        )

    def _outlook(self, seen: epoch.Mark | None) -> tuple[gc.Outlook, bool]:
        """Return what is to be done, and whether the catalog cannot be the one that was noted."""
        with self._catalog.read() as connection:
            found = gc.outlook(connection, now=self._now, untagged_before=self._untagged_before, before=self._before)
            return found, seen is not None and epoch.contradiction(epoch.find(connection), seen) is not None

    def _write_refs_file(self) -> str | None:
        """Write the refs file where that is due. Return why it could not be written; None where it is up to date."""
        if self._core.pool.local is None:
            return None  # it is for a rebuild, which needs the files of blobs
        # Only so often where nothing is due, because looking takes longer than finding nothing.
        self._core.next_look_at_refs = time.monotonic() + refsfile.MAXIMUM_AGE.total_seconds()
        try:
            refsfile.refresh(self._catalog, self._core.paths, check=self._budget.check)
        except BudgetSpent:
            return "there was no time left for it"
        except (StorageError, StoreFullError) as error:
            return str(error)
        return None

    def _work(self) -> None:
        worked = True
        while (full := self._complete()) is not None and worked:
            # Blobs that nothing keeps any more make the room that the rest needs.
            worked = self._empty_queues()
        if full is not None:
            raise full
        self._empty_queues()

    def _complete(self) -> StoreFullError | None:
        """End what is over. Return the error, where there was no room for some of it."""
        full = None
        for end in (self._end_batches, self._empty_repositories, self._end_leases, self._leftovers.end_uploads):
            try:
                end()
            except StoreFullError as error:
                full = error
        return full

    def _empty_queues(self) -> bool:
        worked = False
        while self._collect_manifests() or self._collect_parts() or self._condemn() or self._reap():
            worked = True
        return worked

    # --- the queues ---------------------------------------------------------------------------------------------------

    def _batch(self) -> GCTransaction:
        self._budget.begin_transaction()
        return GCTransaction(self._core)

    def _collect_manifests(self) -> bool:
        """Collect manifests, and return whether there were some due.

        Children of what is removed are due since then, and so are found by this again.
        """
        worked = False
        while self._is_due(lambda c: gc.due_manifest_memberships(c, before=self._untagged_before, limit=1)):
            worked = True
            self._queue_referrers()
            with self._batch() as connection:
                due = gc.due_manifest_memberships(connection, before=self._untagged_before, limit=_MANIFESTS)
                due = due[: _fitting(gc.widths(connection, due, limit=_EDGES))]
                fresh = partial(reachability.Known, climbed=_MANIFESTS)
                known: defaultdict[int, reachability.Known] = defaultdict(fresh)
                dead = [row for row in due if not self._alive(connection, row, known[row.repository_id])]
                # Those that wait for others leave the queue too, and come back into it when those are removed.
                deletions.keep_manifest_memberships(connection, due)
                since = {row[:2]: max(row.since, self._let_go.get(row[:2], 0)) for row in due}
                gone: set[tuple[int, int]] = set()
                waiting = []
                later = False
                for row in dead:
                    if row[:2] in gone:
                        continue
                    if later:
                        again = reachability.queued_last(connection, row.repository_id, [row.blob_id])
                        since[row[:2]] = max(since[row[:2]], again)
                    removed, last = self._unlink(connection, row, since, known[row.repository_id])
                    gone.update((row.repository_id, key) for key in removed)
                    if not removed:
                        waiting.append(row)
                    # What was needed for longer than its place in the queue says released others only then, and these
                    # may be here, too: below a ring, of which a part was pushed again.
                    later = later or last > row.since
                deletions.put_behind(connection, waiting, before=self._untagged_before)
                let_go = {
                    row[:2]: since[row[:2]]
                    for row in waiting
                    if since[row[:2]] > reachability.queued_again(connection, row.repository_id, row.blob_id)
                }
            self._let_go.update(let_go)
            for key in gone:
                self._let_go.pop(key, None)
            self._manifests += len(gone)
        return worked

    def _queue_referrers(self) -> None:
        """Queue what is about the next manifest beforehand, where that is very much.

        In vain where somebody tags the manifest meanwhile: then they leave the queue again.
        """
        with self._catalog.read() as connection:
            due = gc.due_manifest_memberships(connection, before=self._untagged_before, limit=1)
            if not due:
                return
            [row] = due
            referring = manifests.referring(connection, row.repository_id, row.blob_id, after=0, limit=_EDGES)
            if len(referring) < _EDGES or self._alive(connection, row, reachability.Known()):
                return
        since = max(row.since, self._let_go.get(row[:2], 0))
        after = 0
        while referring:
            with self._batch() as connection:
                referring = manifests.referring(
                    connection, row.repository_id, row.blob_id, after=after, limit=_REFERRERS
                )
                if referring:
                    manifests.queue(connection, row.repository_id, referring, since=since)
                    after = referring[-1]

    def _alive(self, connection: Connection, row: gc.Membership, known: reachability.Known) -> bool:
        return reachability.alive(
            connection, row.repository_id, row.blob_id, now=self._now, before=self._untagged_before, known=known
        )

    def _unlink(
        self,
        connection: Connection,
        row: gc.Membership,
        since: Mapping[tuple[int, int], int],
        known: reachability.Known,
    ) -> tuple[list[int], int]:
        """Remove a manifest and what keeps it in a ring.

        Return them, and since when the last of them was not needed.
        """
        removable = reachability.removable(connection, row.repository_id, row.blob_id, known=known)
        last = since[row[:2]]
        if len(removable) > 1:
            last = max(last, reachability.queued_last(connection, row.repository_id, removable))
            for each in ((row.repository_id, key) for key in removable):
                last = max(last, since.get(each, 0), self._let_go.get(each, 0))
        for key in removable:
            manifests.remove_membership(connection, row.repository_id, key, now=self._in_use_until(), since=last)
        return removable, last

    def _in_use_until(self) -> int:
        """Return until when the blobs of a manifest that is removed now were in use.

        Their grace begins now, not with this run.

        Without a grace they are removed in this run.
        """
        return max(self._now, self._catalog.now()) if self._before < self._now else self._now

    def _collect_parts(self) -> bool:
        worked = False
        while self._is_due(lambda c: gc.due_blob_memberships(c, now=self._now, before=self._before, limit=1)):
            worked = True
            with self._batch() as connection:
                due = gc.due_blob_memberships(connection, now=self._now, before=self._before, limit=_ROWS)
                idle = [row for row, needed in due if not needed]
                deletions.keep_blob_memberships(connection, [row for row, needed in due if needed])
                deletions.remove_blob_memberships(connection, idle)
            self._memberships += len(idle)
        return worked

    def _condemn(self) -> bool:
        worked = False
        while self._is_due(lambda c: gc.due_blobs(c, before=self._before, limit=1)):
            worked = True
            with self._batch() as connection:
                due = gc.due_blobs(connection, before=self._before, limit=_ROWS)
                doomed = [row.id for row in due if not row.absent and not row.served]
                deletions.keep_blobs(connection, {row.id for row in due}.difference(doomed))
                deletions.condemn(connection, doomed)
        return worked

    def _reap(self) -> bool:
        worked = False
        # The kernel takes as long to unlink as all the rest takes: a thread does that beside the next batch.
        with Ahead(lambda files: self._leftovers.delete(files, ahead.check), self._reaped(), threads=1) as ahead:
            for _, emptied in ahead:
                worked = True
                emptied()
        return worked

    def _reaped(self) -> Iterator[list[UnpublishedFile]]:
        """Remove condemned blobs from the pool, batch by batch, into the trash; yield the files of each."""
        while self._is_due(lambda c: gc.condemned(c, limit=1)):
            with self._batch() as connection:
                doomed = gc.condemned(connection, limit=_FILES)
                doomed = doomed[: _fitting(gc.edge_counts(connection, (key for key, _, _ in doomed)))]
                trashed = [self._sweeper.trash(Digest.parse(digest)) for _, digest, _ in doomed]
                deletions.reap(connection, [key for key, _, _ in doomed])
            self._blobs += len(doomed)
            yield [file for file in trashed if file is not None]

    def _is_due(self, question: Callable[[Connection], object]) -> bool:
        # Outside the lock first, so that a collection that finds nothing writes nothing.
        with self._catalog.read() as connection:
            return bool(question(connection))

    # --- what is deleted already --------------------------------------------------------------------------------------

    def _end_batches(self) -> None:
        """Remove what a killed process wrote and did not come to reveal, and settle what it revealed."""
        while self._is_due(lambda c: batches.expired(c, now=self._now)):
            with self._batch() as connection:
                batch = batches.expired(connection, now=self._now)
                if batch is not None:
                    batches.end(connection, batch, now=self._now, limit=repositories.EMPTIED_AT_ONCE)

    def _empty_repositories(self) -> None:
        """Complete what a killed process left of a repository that it deleted."""
        while self._is_due(repositories.deleted):
            with self._batch() as connection:
                emptied = repositories.deleted(connection)
                if emptied is None:
                    return
                # After this run began, so that it removes what its dry run says.
                now = max(self._catalog.now(), self._now + 1)
                _, sessions, waits = repositories.empty(
                    connection,
                    emptied,
                    now=now,
                    limit=repositories.EMPTIED_AT_ONCE,
                    may_grow=partial(may_grow, self._core.pool),
                )
            remove_files(self._core.pool.uploads, sessions)
            if waits:
                raise StoreFullError(str(self._core.root))

    # --- leases -----------------------------------------------------------------------------------------------------

    def _end_leases(self) -> None:
        while self._is_due(lambda c: leases.expired(c, now=self._now, limit=1)):
            with self._batch() as connection:
                for lease in leases.expired(connection, now=self._now, limit=1):
                    self._leases += leases.end(connection, lease, now=self._now, limit=leases.ENDED_AT_ONCE)


def _fitting(edges: Iterable[int]) -> int:
    """Return how many manifests, given the edges of each, are removed in one transaction: one at least."""
    return max(1, sum(1 for total in accumulate(edges) if total <= _EDGES))


def _candidates(expected: Forecast, decided: Container[int]) -> Iterator[GCCandidate]:
    as_manifests = {key for _, key in expected.manifests}
    as_parts = {key for _, key in expected.parts}
    for blob in expected.blobs.values():
        if blob.id in decided:
            why = "an earlier collection condemned it"
        elif blob.id in as_manifests:
            why = "no tag, index, subject or lease keeps this manifest"
        elif blob.id in as_parts:
            why = "no manifest refers to it, and no lease keeps it"
        else:
            why = "no repository serves it"
        yield GCCandidate(blob.digest, blob.size, why)


def _milliseconds(duration: timedelta) -> int:
    return duration // _MILLISECOND
