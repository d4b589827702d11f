"""Scrubbing: checking that the bytes are what the rows say, and that the pool has nothing that no row knows.

Blobs are looked at one after another, those that were verified longest ago first, and each is marked when it was found
good; so a scrub that is cut short, or killed, is continued by the next one. No lock is held while bytes are read,
and large blobs are read by several threads ahead of that order.
What is damaged is looked at again in a write transaction before anything is done about it: a blob that was collected or
pushed again meanwhile is no damage.

A damaged file is moved to ``quarantine/``, never deleted. Its row stays live: nobody is served it, and pushing the same
digest again heals it, as does a source that has the bytes (:mod:`ocistore.upkeep.healing`); the first of these is
``quarantine/`` itself, where a good copy may be. Only what was read in full, twice, and is wrong has wrong bytes. A
file that cannot be read (an error of the disk, no memory) is reported as that, and stays where it is.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, get_args

from ocistore.arguments import check_choice, check_duration, whole_number
from ocistore.catalog import repositories
from ocistore.catalog import scrub as scrub_rows
from ocistore.catalog.blobs import bytes_of_live
from ocistore.commit import give_up
from ocistore.core import check_if_moved
from ocistore.errors import (
    CorruptError,
    RepositoryNotFoundError,
)
from ocistore.oci.digest import Digest
from ocistore.oci.reference import repository_name
from ocistore.refusals import pass_on_theirs, theirs
from ocistore.threads import WORTH_A_THREAD, Ahead, Counter
from ocistore.upkeep.budget import Budget, BudgetSpent
from ocistore.upkeep.deepscrub import Comparison
from ocistore.upkeep.healing import Healer
from ocistore.upkeep.orphans import Orphans
from ocistore.upkeep.reading import UnreadableError, hashed, tried
from ocistore.upkeep.replacing import sweep_rebuilt
from ocistore.upkeep.scrubreport import LISTED, Damage, Level, ScrubReport

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

    from ocistore.blobs.pool import PublishedFile
    from ocistore.catalog.scrub import LiveBlob
    from ocistore.core import Core
    from ocistore.progress import Progress

_PAGE: Final = 500
_MARKED_EVERY: Final = 1.0
"""Seconds between two transactions that note what was verified: what a kill costs."""

_LOOKS: Final = 10
"""How often a blob is looked at whose file is another one each time; then it is left to the next scrub."""

_AFFECTED: Final = 100

_Look: TypeAlias = "tuple[PublishedFile | None, str | None]"
"""What is under a name, and what is wrong with it."""


@check_if_moved
def scrub(
    core: Core,
    *,
    level: Level = "default",
    repair: bool = True,
    repository: str | None = None,
    subset: tuple[int, int] = (1, 1),
    maximum_duration: timedelta | None = None,
    rate: int | None = None,
    heal_from: Iterable[str | os.PathLike[str]] = (),
    adopt: str | None = None,
    progress: Progress | None = None,
) -> ScrubReport:
    """Compare every live blob with its row, and repair it; see :meth:`ocistore.Store.scrub`."""
    check_choice(level, "level", get_args(Level))
    try:
        number, parts = subset
    except (TypeError, ValueError) as error:
        raise TypeError(f"subset must be a pair of numbers (n, t), not {subset!r}") from error
    number, parts = whole_number(number, "subset"), whole_number(parts, "subset")
    if not 1 <= number <= parts:
        raise ValueError(f"subset must be (n, t) with 1 <= n <= t, not {subset!r}")
    check_duration(maximum_duration, "maximum_duration")
    if rate is not None:
        rate = whole_number(rate, "rate", least=1)
    if adopt is not None:
        repository_name(adopt)
    if repair:
        core.require_writable()
    budget = Budget(duration=maximum_duration, rate=rate)
    with Healer(core, list(heal_from)) as healer:
        run = _Scrub(core, level, repair=repair, healer=healer, budget=budget, progress=progress)
        if repair:
            sweep_rebuilt(core)
        report = run.run(repository, number - 1, parts, adopt)
        report.unusable += healer.unusable
        return report


class _Scrub:
    """Runs one scrub."""

    def __init__(
        self, core: Core, level: Level, *, repair: bool, healer: Healer, budget: Budget, progress: Progress | None
    ) -> None:
        self._core = core
        self._catalog = core.catalog
        self._pool = core.pool
        self._level = level
        self._repair = repair
        self._healer = healer
        self._budget = budget
        self._progress = None if progress is None else theirs(progress)
        self._report = ScrubReport(level)
        self._counter = Counter(self._count)
        self._orphans = Orphans(core, self._report, budget, repair=repair, progress=self._counter.add)
        self._comparison = Comparison(core, self._report, repair=repair)
        self._began = core.catalog.now()
        self._total = 0
        self._good: list[int] = []
        self._marked = time.monotonic()

    def run(self, repository: str | None, number: int, parts: int, adopt: str | None) -> ScrubReport:
        """Scrub."""
        part = scrub_rows.Subset(number, parts, self._repository_id(repository))
        if self._progress is not None:
            with self._catalog.read() as connection:
                self._total = bytes_of_live(connection)
        try:
            # First: a scrub that never has the time for every blob would never come to them.
            if repository is None and number == 0 and self._level != "quick":
                try:
                    self._orphans.look_for(adopt)
                except BudgetSpent:
                    self._report.complete = False
            try:
                self._look_at_all(part)
            finally:
                self._mark()
            if self._level == "deep":
                self._comparison.compare_rows()
        except BudgetSpent:
            self._report.complete = False
        return self._report

    def _repository_id(self, repository: str | None) -> int | None:
        if repository is None:
            return None
        with self._catalog.read() as connection:
            found = repositories.find(connection, repository_name(repository))
        if found is None:
            raise RepositoryNotFoundError(repository)
        return found

    def _candidates(self, part: scrub_rows.Subset) -> Iterator[LiveBlob]:
        last = 0
        while True:
            with self._catalog.read() as connection:
                page = scrub_rows.never_verified(connection, part, after=last, limit=_PAGE)
            if not page:
                break
            yield from page
            last = page[-1].id
        place = (-1, 0)
        while True:
            with self._catalog.read() as connection:
                page = scrub_rows.verified_before(connection, part, before=self._began, after=place, limit=_PAGE)
            if not page:
                return
            yield from page
            place = (page[-1].verified_at or 0, page[-1].id)

    def _look_at_all(self, part: scrub_rows.Subset) -> None:
        """Look at every blob; threads are ahead with the large ones."""
        # How fast bytes come is for one thread to say, which waits.
        threads = 0 if self._budget.is_paced or self._level == "quick" else None
        with Ahead(
            self._look, self._candidates(part), beside=_is_large, threads=threads, counter=self._counter
        ) as ahead:
            for candidate, look in ahead:
                self._budget.check()
                self._look_at(candidate, look)

    # --- one blob -----------------------------------------------------------------------------------------------------

    def _look_at(self, candidate: LiveBlob, look: Callable[[], _Look]) -> None:
        """See to one blob; ``look`` looks at its file for the first time, or a thread did."""
        digest = Digest.parse(candidate.digest)
        self._report.blobs += 1
        try:
            for _ in range(_LOOKS):
                if self._is_settled(candidate, digest, look):
                    return
                look = partial(self._look, candidate)
        except UnreadableError as error:
            self._unreadable(candidate, digest, str(error))

    def _look(self, candidate: LiveBlob) -> _Look:
        """Return the file of a blob, as it was before it was read, and what is wrong with it.

        Raises:
            UnreadableError: it could not be found out.
        """
        digest = Digest.parse(candidate.digest)
        file = tried(lambda: self._pool.sweeper.find(digest))
        return file, self._problem(digest, candidate.size)

    def _is_settled(self, candidate: LiveBlob, digest: Digest, look: Callable[[], _Look]) -> bool:
        """Whether the blob was found good, or was dealt with. False where it has to be looked at again."""
        file, problem = look()
        if problem is not None:
            return self._damaged(candidate, digest, problem, file)
        if self._level == "deep":
            self._comparison.compare_manifest(candidate, digest)
        if self._level != "quick":
            self._good.append(candidate.id)
            if time.monotonic() - self._marked > _MARKED_EVERY:
                self._mark()
        return True

    def _problem(self, digest: Digest, size: int) -> str | None:
        """Return what is wrong with the file of a blob, in words.

        Raises:
            UnreadableError: it could not be found out.
        """
        found = tried(lambda: self._pool.size(digest))
        if found is None:
            there = tried(lambda: self._pool.sweeper.find(digest))
            return "there is no plain file" if there else "its file is gone"
        if found != size:
            return f"its file has {found} bytes, not {size}"
        if self._level == "quick":
            return None
        try:
            read = hashed(self._pool, digest, size, progress=self._counter.add)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return "its file is gone"
        except CorruptError as error:
            return error.reason
        return None if read == (digest, size) else "its bytes are not those of its digest"

    def _count(self, count: int) -> None:
        self._report.bytes += count
        self._budget.read(count)
        if self._progress is not None:
            self._progress(self._report.bytes, max(self._total, self._report.bytes))

    def _mark(self) -> None:
        good, self._good = self._good, []
        if good and self._repair:
            with self._catalog.write() as connection:
                scrub_rows.mark(connection, good, now=self._catalog.now())
        self._marked = time.monotonic()

    # --- damage -------------------------------------------------------------------------------------------------------

    def _damaged(self, candidate: LiveBlob, digest: Digest, problem: str, file: PublishedFile | None) -> bool:
        """Do what has to be done about damage. Return False where the blob has to be looked at again.

        Inode and time of change are compared, because the number alone may be that of a new file by now.
        """
        if not self._repair:
            self._catalog.refuse_moved()
            with self._catalog.read() as connection:
                live = scrub_rows.live_size(connection, digest) == candidate.size
            if live and self._problem(digest, candidate.size) is not None:
                self._add(candidate, problem, repaired=False, quarantined=None)
            return True
        quarantined = None
        with self._catalog.write() as connection:
            # Collected or pushed again since it was looked at, it is no damage: what is there now is another file.
            if scrub_rows.live_size(connection, digest) != candidate.size:
                return True
            now = self._pool.sweeper.find(digest)
            if now is not None and now != file:
                return False
            if now is not None:
                quarantined = self._pool.sweeper.quarantine(now)
            scrub_rows.unmark(connection, candidate.id)
        self._add(candidate, problem, repaired=self._heal(candidate, digest), quarantined=quarantined)
        return True

    def _unreadable(self, candidate: LiveBlob, digest: Digest, reason: str) -> None:
        """Report what could not be read. It stays where it is, but where other good bytes can take its place."""
        self._catalog.refuse_moved()
        with self._catalog.read() as connection:
            if scrub_rows.live_size(connection, digest) != candidate.size:
                return
        problem = f"it cannot be read now: {reason}"
        if self._repair and self._heal(candidate, digest):
            self._add(candidate, problem, repaired=True, quarantined=None)
            return
        self._report.unreadable += 1
        self._list(self._report.unread, candidate, problem, repaired=False, quarantined=None)

    def _heal(self, candidate: LiveBlob, digest: Digest) -> bool:
        """Heal a blob. Return whether one of the sources had the bytes."""
        staged = self._healer.stage(digest, candidate.size)
        if staged is None:
            return False
        try:
            self._pool.publish([staged])
            with self._catalog.write() as connection:
                live = scrub_rows.live_size(connection, digest) is not None
                if live:
                    scrub_rows.mark(connection, [candidate.id], now=self._catalog.now())
                else:
                    self._pool.withdraw(staged)
        except BaseException as error:
            give_up(self._catalog, self._pool, [staged], error)
            raise
        finally:
            self._pool.discard([staged])
        if live:
            self._healer.taken_back(digest)
        return True

    def _add(self, candidate: LiveBlob, problem: str, *, repaired: bool, quarantined: str | None) -> None:
        self._report.damaged += 1
        self._report.repaired += repaired
        self._list(self._report.damages, candidate, problem, repaired=repaired, quarantined=quarantined)

    def _list(
        self, listed: list[Damage], candidate: LiveBlob, problem: str, *, repaired: bool, quarantined: str | None
    ) -> None:
        if len(listed) >= LISTED:
            return
        with self._catalog.read() as connection:
            concerned = scrub_rows.affected(connection, candidate.id, limit=_AFFECTED)
        listed.append(
            Damage(
                candidate.digest,
                problem,
                repaired,
                quarantined,
                tuple(dict.fromkeys(each.repository for each in concerned)),
                tuple(f"{each.repository}:{each.tag}" for each in concerned if each.tag is not None),
            )
        )


def _is_large(candidate: LiveBlob) -> bool:
    return candidate.size >= WORTH_A_THREAD
