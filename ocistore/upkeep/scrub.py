"""Scrub: are the bytes what the rows say, and is nothing in the pool that no row knows?

Blobs are looked at one after another, those that were verified longest ago first, and each is marked when it was found
good; so a scrub that is cut short, or killed, is gone on with by the next one. No lock is held while bytes are read.
What is damaged is looked at again in a write transaction before anything is done about it: a blob that was collected or
pushed again meanwhile is no damage.

A damaged file is moved to ``quarantine/``, never deleted. Its row stays live: nobody is served it, and pushing the same
digest again heals it, as does a source that has the bytes (:mod:`ocistore.upkeep.healing`).
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from ocistore.blobs.hashing import digest_of
from ocistore.catalog import holds, integrity, repositories, verification
from ocistore.catalog.blobs import bytes_of_live
from ocistore.commit import milliseconds
from ocistore.errors import (
    CorruptError,
    DigestMismatchError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    RepositoryNotFoundError,
    StorageError,
)
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE, check_manifest
from ocistore.oci.reference import repository_name
from ocistore.upkeep.healing import Healer

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from ocistore.blobs.removal import PoolFile
    from ocistore.catalog.verification import Candidate
    from ocistore.layouts.progress import Progress
    from ocistore.store import Store

Level: TypeAlias = Literal["quick", "default", "deep"]

INCONSISTENT: Final = "scrub found rows that contradict each other or the manifests"

_PAGE: Final = 500
_MARKED_EVERY: Final = 1.0
"""Seconds between two transactions that note what was verified: what a kill costs."""

_ORPHAN_AGE: Final = timedelta(hours=1)
"""Of a file without a row: a younger one may belong to a push that has not committed yet."""

_ORPHANS_SHARE: Final = 0.5
"""Of the time there is: how long to look for files without a row, so that some is left for the blobs."""
_LOOKS: Final = 10
"""How often a blob is looked at whose file is another one each time; then it is left to the next scrub."""

_LISTED: Final = 1000
_AFFECTED: Final = 100


@dataclass(frozen=True)
class Damage:
    """Something that is not as it should be."""

    digest: str
    problem: str
    repaired: bool
    quarantined: str | None = None
    """The name in ``quarantine/`` of what lay there."""
    repositories: tuple[str, ...] = ()
    """That serve it: the first hundred."""
    tags: tuple[str, ...] = ()
    """REPO:TAG of those that lead to it, likewise."""


@dataclass
class ScrubReport:
    """What a scrub looked at and found."""

    level: Level
    complete: bool = True
    """It came to the end, and was not cut short."""
    blobs: int = 0
    bytes: int = 0
    damaged: int = 0
    repaired: int = 0
    damages: list[Damage] = field(default_factory=list)
    """The first thousand."""
    rows: list[str] = field(default_factory=list)
    """What is wrong with the catalog itself; collections are held off then."""
    orphans: int = 0
    """Good files without a row that were left where they are, because nothing was to be repaired."""
    trashed: int = 0
    """Files without a row that were removed."""
    adopted: int = 0
    """Files without a row that a repository was given."""
    unusable: list[str] = field(default_factory=list)
    """Archives to heal from that turned out to be damaged when something was needed from them, and how."""

    @property
    def exit_code(self) -> int:
        """0 where all is well, 1 where everything that was not is repaired, 2 where damage is left."""
        if self.rows or self.damaged > self.repaired:
            return 2
        return 1 if self.damaged else 0


class _Cut(Exception):  # noqa: N818 - no error: the time is over
    pass


def scrub(
    store: Store,
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
    """Compare every live blob with its row, and repair what can be repaired. Runs beside everything else.

    Args:
        store: open for writing, or for reading only where ``repair`` is false.
        level: ``quick``: is there a file of the right size? ``default``: has it the right bytes? ``deep``: also, does
            the catalog say of each manifest what its bytes say, and do its rows agree with each other?
        repair: move damaged files aside and heal them; remove or adopt files without a row. Otherwise only report.
        repository: only what this one serves; then files without a row are not looked for.
        subset: ``(n, t)``: only the n-th of t parts; the t parts together are everything. Files without a row are
            looked for with the first.
        maximum_duration: stop after this long; the next scrub goes on there. Files without a row are looked for anew
            in each, in half of the time at most; for a million blobs that takes half a minute.
        rate: bytes to read in a second at most.
        heal_from: layouts, stores, and archives as an import reads them (of layouts or Docker's, plain, gzip or zstd),
            from which the bytes of damaged blobs are taken where they are good. A compressed archive is read once, when
            the first damage is found; what of it the catalog names is kept in ``uploads/`` until the end.
        adopt: a repository to be given the good files that no row knows; otherwise these are removed.
        progress: told of the bytes read, and of all there are.

    Raises:
        RepositoryNotFoundError: there is no such repository.
        LayoutInvalidError, ArchiveInvalidError: one of ``heal_from`` is none of these.
        ReadOnlyStoreError: the store is open for reading only.
        ValueError: a bound or the subset is none.

    Killed at any moment, everything that it said is done; the next one goes on.
    """
    if level not in get_args(Level):
        raise ValueError(f"level must be one of {', '.join(get_args(Level))}, not {level!r}")
    number, parts = subset
    if not 1 <= number <= parts:
        raise ValueError(f"subset must be (n, t) with 1 <= n <= t, not {subset!r}")
    if rate is not None and rate <= 0:
        raise ValueError("rate must be positive")
    if adopt is not None:
        repository_name(adopt)
    if repair:
        store.require_writable()
    with Healer(store, list(heal_from)) as healer:
        run = _Scrub(store, level, repair=repair, healer=healer, pace=_Pace(maximum_duration, rate), progress=progress)
        report = run.run(repository, number - 1, parts, adopt)
        report.unusable += healer.unusable
        return report


class _Pace:
    """How fast, and for how long."""

    def __init__(self, duration: timedelta | None, rate: int | None) -> None:
        self._began = time.monotonic()
        self._duration = None if duration is None else duration.total_seconds()
        self._rate = rate
        self._read = 0

    def check(self, *, share: float = 1.0) -> None:
        """Whether there is time for another blob, in that part of the time there is.

        Raises:
            _Cut: there is none.
        """
        if self._duration is not None and time.monotonic() >= self._began + self._duration * share:
            raise _Cut

    def read(self, count: int) -> None:
        """Count bytes, and wait where they came too fast."""
        self._read += count
        if self._rate is not None:
            ahead = self._began + self._read / self._rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


class _Scrub:
    """One run."""

    def __init__(
        self, store: Store, level: Level, *, repair: bool, healer: Healer, pace: _Pace, progress: Progress | None
    ) -> None:
        self._store = store
        self._catalog = store.catalog
        self._pool = store.pool
        self._level = level
        self._repair = repair
        self._healer = healer
        self._pace = pace
        self._progress = progress
        self._report = ScrubReport(level)
        self._began = milliseconds()
        self._total = 0
        self._good: list[int] = []
        self._marked = time.monotonic()

    def run(self, repository: str | None, number: int, parts: int, adopt: str | None) -> ScrubReport:
        """All of it."""
        part = verification.Part(number, parts, self._repository_id(repository))
        if self._progress is not None:
            with self._catalog.read() as connection:
                self._total = bytes_of_live(connection)
        try:
            # First: a scrub that never has the time for every blob would never come to them.
            if repository is None and number == 0 and self._level != "quick":
                try:
                    self._look_for_orphans(adopt)
                except _Cut:
                    self._report.complete = False
            try:
                for candidate in self._candidates(part):
                    self._pace.check()
                    self._look_at(candidate)
            finally:
                self._mark()
            if self._level == "deep":
                self._compare_rows()
        except _Cut:
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

    def _candidates(self, part: verification.Part) -> Iterator[Candidate]:
        last = 0
        while True:
            with self._catalog.read() as connection:
                page = verification.never_verified(connection, part, after=last, limit=_PAGE)
            if not page:
                break
            yield from page
            last = page[-1].id
        place = (-1, 0)
        while True:
            with self._catalog.read() as connection:
                page = verification.verified_before(
                    connection, part, before=self._began, after=place, limit=_PAGE
                )
            if not page:
                return
            yield from page
            place = (page[-1].verified_at or 0, page[-1].id)

    # --- one blob -----------------------------------------------------------------------------------------------------

    def _look_at(self, candidate: Candidate) -> None:
        digest = Digest.parse(candidate.digest)
        self._report.blobs += 1
        for _ in range(_LOOKS):
            file = self._pool.removal.find(digest)
            problem = self._problem(digest, candidate.size)
            if problem is None:
                if self._level == "deep":
                    self._compare_manifest(candidate, digest)
                if self._level != "quick":
                    self._good.append(candidate.id)
                    if time.monotonic() - self._marked > _MARKED_EVERY:
                        self._mark()
                return
            if self._damaged(candidate, digest, problem, file):
                return

    def _problem(self, digest: Digest, size: int) -> str | None:
        """What is wrong with the file of a blob, in words."""
        found = self._pool.size(digest)
        if found is None:
            return "there is no plain file" if self._pool.removal.find(digest) else "its file is gone"
        if found != size:
            return f"its file has {found} bytes, not {size}"
        if self._level == "quick":
            return None
        try:
            with self._pool.open(digest) as file:
                actual, read = digest_of(file.fileno(), digest.algorithm, told=self._told)
        except FileNotFoundError:
            return "its file is gone"
        except CorruptError as error:
            return error.reason
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        if (actual, read) != (digest, size):
            return "its bytes are not those of its digest"
        return None

    def _told(self, count: int) -> None:
        self._report.bytes += count
        self._pace.read(count)
        if self._progress is not None:
            self._progress(self._report.bytes, max(self._total, self._report.bytes))

    def _mark(self) -> None:
        good, self._good = self._good, []
        if good and self._repair:
            with self._catalog.write() as connection:
                verification.mark(connection, good, now=milliseconds())
        self._marked = time.monotonic()

    # --- damage -------------------------------------------------------------------------------------------------------

    def _damaged(self, candidate: Candidate, digest: Digest, problem: str, file: PoolFile | None) -> bool:
        """Do what is to be done about what lay there before it was looked at. False where it has to be looked at again.

        Inode and time of change are compared, because the number alone may be that of a new file by now.
        """
        if not self._repair:
            with self._catalog.read() as connection:
                live = verification.live_size(connection, digest) == candidate.size
            if live and self._problem(digest, candidate.size) is not None:
                self._add(candidate, problem, repaired=False, quarantined=None)
            return True
        quarantined = None
        with self._catalog.write() as connection:
            # Collected or pushed again since it was looked at, it is no damage: what lies there now is another file.
            if verification.live_size(connection, digest) != candidate.size:
                return True
            now = self._pool.removal.find(digest)
            if now is not None and now != file:
                return False
            if now is not None:
                quarantined = self._pool.removal.to_quarantine(now)
            verification.unmark(connection, candidate.id)
        self._add(candidate, problem, repaired=self._heal(candidate, digest), quarantined=quarantined)
        return True

    def _heal(self, candidate: Candidate, digest: Digest) -> bool:
        """Whether one of the sources had the bytes."""
        staged = self._healer.stage(digest, candidate.size)
        if staged is None:
            return False
        try:
            self._pool.publish([staged])
            with self._catalog.write() as connection:
                if verification.live_size(connection, digest) is None:
                    self._pool.withdraw(staged)
                else:
                    verification.mark(connection, [candidate.id], now=milliseconds())
        finally:
            self._pool.discard([staged])
        return True

    def _add(self, candidate: Candidate, problem: str, *, repaired: bool, quarantined: str | None) -> None:
        self._report.damaged += 1
        self._report.repaired += repaired
        if len(self._report.damages) >= _LISTED:
            return
        with self._catalog.read() as connection:
            concerned = verification.affected(connection, candidate.id, limit=_AFFECTED)
        self._report.damages.append(
            Damage(
                candidate.digest,
                problem,
                repaired,
                quarantined,
                tuple(dict.fromkeys(each.repository for each in concerned)),
                tuple(f"{each.repository}:{each.tag}" for each in concerned if each.tag is not None),
            )
        )

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _compare_manifest(self, candidate: Candidate, digest: Digest) -> None:
        with self._catalog.snapshot() as connection:
            rows = verification.described(connection, candidate.id)
        if rows is None:
            return
        try:
            content = self._pool.read(digest, candidate.size)
            manifest = check_manifest(content, media_type=rows.media_type, digest=digest, maximum=len(content))
        except (FileNotFoundError, CorruptError, DigestMismatchError):
            return  # collected since it was hashed
        except ManifestInvalidError as error:
            self._wrong_rows(f"{digest} is noted as a manifest of {rows.media_type}: {error}")
            return
        edges = [
            (edge.role, str(edge.descriptor.digest), edge.descriptor.size, edge.descriptor.media_type)
            for edge in manifest.edges()
        ]
        noted = json.loads(rows.annotations) if rows.annotations else {}
        for what, says, is_noted in (
            ("what it refers to", edges, rows.edges),
            ("its artifact type", manifest.artifact_type, rows.artifact_type),
            ("its annotations", dict(manifest.annotations), noted),
        ):
            if says != is_noted and self._is_still_there(candidate):
                self._wrong_rows(f"{digest}: {what} is noted wrongly")

    def _is_still_there(self, candidate: Candidate) -> bool:
        with self._catalog.read() as connection:
            return verification.described(connection, candidate.id) is not None

    def _compare_rows(self) -> None:
        with self._catalog.snapshot() as connection:
            found = [*integrity.problems(connection), *verification.inconsistencies(connection)]
        for problem in found:
            self._wrong_rows(problem)

    def _wrong_rows(self, problem: str) -> None:
        if not self._report.rows and self._repair:
            # What refers to what is not known any more, so nothing may be taken for garbage.
            with self._catalog.write() as connection:
                if INCONSISTENT not in holds.in_force(connection, now=milliseconds()):
                    holds.place(connection, INCONSISTENT, now=milliseconds())
        if len(self._report.rows) < _LISTED:
            self._report.rows.append(problem)

    # --- files without rows -------------------------------------------------------------------------------------------

    def _look_for_orphans(self, adopt: str | None) -> None:
        old = self._began - _ORPHAN_AGE // timedelta(milliseconds=1)
        batch: list[PoolFile] = []
        unplaced: list[tuple[Digest, bytes]] = []
        for file in self._pool.removal.files():
            if file.changed <= old:
                batch.append(file)
            if len(batch) == _PAGE:
                self._orphans(batch, adopt, unplaced)
                batch = []
        self._orphans(batch, adopt, unplaced)
        if adopt is not None:
            self._adopt_manifests(adopt, unplaced)

    def _orphans(self, files: list[PoolFile], adopt: str | None, unplaced: list[tuple[Digest, bytes]]) -> None:
        self._pace.check(share=_ORPHANS_SHARE)
        with self._catalog.read() as connection:
            known = verification.with_rows(connection, [file.digest for file in files if file.digest is not None])
        for file in files:
            if file.digest is not None and file.digest in known:
                continue
            self._pace.check(share=_ORPHANS_SHARE)
            good = file.digest is not None and self._is_good(file.digest, file.size)
            if not good and file.digest is not None and self._pool.removal.find(file.digest) is None:
                continue  # collected since it was listed
            if not self._repair:
                if good:
                    self._report.orphans += 1
                else:
                    self._add_orphan(file, repaired=False, quarantined=None)
            elif not good or file.digest is None:
                self._quarantine_orphan(file)
            elif adopt is None:
                self._trash(file.digest)
            else:
                self._adopt(adopt, file, file.digest, unplaced)

    def _is_good(self, digest: Digest, size: int) -> bool:
        with contextlib.suppress(CorruptError, OSError), self._pool.open(digest) as file:
            return digest_of(file.fileno(), digest.algorithm, told=self._told) == (digest, size)
        return False

    def _quarantine_orphan(self, file: PoolFile) -> None:
        with self._catalog.write() as connection:
            if file.digest is not None and verification.with_rows(connection, [file.digest]):
                return
            name = self._pool.removal.to_quarantine(file)
        if name is not None:
            self._add_orphan(file, repaired=True, quarantined=name)

    def _add_orphan(self, file: PoolFile, *, repaired: bool, quarantined: str | None) -> None:
        self._report.damaged += 1
        self._report.repaired += repaired
        if len(self._report.damages) < _LISTED:
            called = f"{file.algorithm}:{file.name[:128]}"
            self._report.damages.append(Damage(called, "a file that is no blob", repaired, quarantined))

    def _trash(self, digest: Digest) -> None:
        with self._catalog.write() as connection:
            # Where a person has to look first, a file without a row may be one that the catalog has forgotten.
            if holds.waiting(connection) or verification.with_rows(connection, [digest]):
                return
            if self._pool.removal.to_trash(digest) is None:
                return
        self._report.trashed += 1
        for file in self._pool.removal.trashed():
            self._pool.removal.remove_trashed(file.name)

    def _adopt(self, repository: str, file: PoolFile, digest: Digest, unplaced: list[tuple[Digest, bytes]]) -> None:
        if file.size <= MAXIMUM_MANIFEST_SIZE:
            with contextlib.suppress(FileNotFoundError, CorruptError, ManifestInvalidError, DigestMismatchError):
                content = self._pool.read(digest, file.size)
                check_manifest(content, digest=digest)
                unplaced.append((digest, content))
                return
        with contextlib.suppress(FileNotFoundError, StorageError), self._pool.open(digest) as source:
            self._store.repository(repository).put_blob(source, digest=digest)
            self._report.adopted += 1

    def _adopt_manifests(self, repository: str, manifests: list[tuple[Digest, bytes]]) -> None:
        """Children before the indexes they are in; what needs something that is not here is adopted as a blob."""
        into = self._store.repository(repository)
        waiting = manifests
        while waiting:
            left = []
            for digest, content in waiting:
                try:
                    into.put_manifest(content, digest=digest)
                except ManifestBlobUnknownError:
                    left.append((digest, content))
                except ManifestInvalidError:  # what it says of something that is here is not so
                    into.put_blob(content, digest=digest)
            if len(left) == len(waiting):
                for digest, content in left:
                    into.put_blob(content, digest=digest)
                break
            waiting = left
        self._report.adopted += len(manifests)
