"""Scrubbing the pool: files that no row knows are removed, or adopted by a repository."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ocistore.catalog import blobs, holds, repositories
from ocistore.catalog.manifests import children
from ocistore.clock import milliseconds
from ocistore.errors import (
    CorruptError,
    DigestMismatchError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    StorageError,
)
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE, check_manifest
from ocistore.refusals import Ignoring, pass_on_theirs
from ocistore.repository import Repository
from ocistore.upkeep.reading import UnreadableError, hashed
from ocistore.upkeep.scrubreport import LISTED, Damage

if TYPE_CHECKING:
    from ocistore.blobs.hashing import Count
    from ocistore.blobs.pool import PublishedFile
    from ocistore.changes import Missing
    from ocistore.core import Core
    from ocistore.oci.digest import Digest
    from ocistore.upkeep.budget import Budget
    from ocistore.upkeep.scrubreport import ScrubReport

_PAGE: Final = 500

_ORPHAN_AGE: Final = timedelta(hours=1)
"""Of a file without a row: a younger one may belong to a push that has not committed yet."""

_ORPHANS_SHARE: Final = 0.5
"""Of the time there is: how long to look for files without a row, so that some is left for the blobs."""


class Orphans:
    """Looks for files without a row, for one scrub."""

    def __init__(self, core: Core, report: ScrubReport, budget: Budget, *, repair: bool, progress: Count) -> None:
        """Begin; ``progress`` is called with the number of bytes of each piece that was read."""
        self._core = core
        self._catalog = core.catalog
        self._pool = core.pool
        self._report = report
        self._budget = budget
        self._repair = repair
        self._progress = progress
        self._now = milliseconds()

    def look_for(self, adopt: str | None) -> None:
        """Look for all files without a row.

        Raises:
            BudgetSpent: there is no more time for it.
        """
        old = self._now - _ORPHAN_AGE // timedelta(milliseconds=1)
        batch: list[PublishedFile] = []
        unplaced: list[tuple[Digest, bytes]] = []
        for file in self._pool.sweeper.files():
            if file.changed <= old:
                batch.append(file)
            if len(batch) == _PAGE:
                self._orphans(batch, adopt, unplaced)
                batch = []
        self._orphans(batch, adopt, unplaced)
        if adopt is not None:
            self._adopt_manifests(adopt, unplaced)

    def _orphans(self, files: list[PublishedFile], adopt: str | None, unplaced: list[tuple[Digest, bytes]]) -> None:
        self._budget.check(share=_ORPHANS_SHARE)
        with self._catalog.read() as connection:
            known = blobs.with_rows(connection, [file.digest for file in files if file.digest is not None])
        for file in files:
            if file.digest is not None and file.digest in known:
                continue
            self._budget.check(share=_ORPHANS_SHARE)
            try:
                good = file.digest is not None and self._is_good(file.digest, file.size)
            except UnreadableError as error:
                self._add_unreadable(file, str(error))
                continue
            if not good and file.digest is not None and self._pool.sweeper.find(file.digest) is None:
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
        try:
            return hashed(self._pool, digest, size, progress=self._progress) == (digest, size)
        except (CorruptError, FileNotFoundError) as error:
            pass_on_theirs(error)
            return False

    def _add_unreadable(self, file: PublishedFile, reason: str) -> None:
        self._report.unreadable += 1
        if len(self._report.unread) < LISTED:
            called = f"{file.algorithm}:{file.name[:128]}"
            problem = f"a file without a row, which cannot be read now: {reason}"
            self._report.unread.append(Damage(called, problem, repaired=False))

    def _quarantine_orphan(self, file: PublishedFile) -> None:
        with self._catalog.write() as connection:
            if file.digest is not None and blobs.with_rows(connection, [file.digest]):
                return
            name = self._pool.sweeper.quarantine(file)
        if name is not None:
            self._add_orphan(file, repaired=True, quarantined=name)

    def _add_orphan(self, file: PublishedFile, *, repaired: bool, quarantined: str | None) -> None:
        self._report.damaged += 1
        self._report.repaired += repaired
        if len(self._report.damages) < LISTED:
            called = f"{file.algorithm}:{file.name[:128]}"
            self._report.damages.append(Damage(called, "a file that is no blob", repaired, quarantined))

    def _trash(self, digest: Digest) -> None:
        with self._catalog.write() as connection:
            # Where a person has to look first, a file without a row may be one that the catalog has forgotten.
            if holds.waiting(connection) or blobs.with_rows(connection, [digest]):
                return
            trashed = self._pool.sweeper.trash(digest)
        if trashed is not None:
            self._report.trashed += 1
            self._pool.sweeper.delete_trashed(trashed.name)

    def _adopt(
        self, repository: str, file: PublishedFile, digest: Digest, unplaced: list[tuple[Digest, bytes]]
    ) -> None:
        if file.size <= MAXIMUM_MANIFEST_SIZE:
            with Ignoring(FileNotFoundError, CorruptError, ManifestInvalidError, DigestMismatchError):
                content = self._pool.read(digest, file.size)
                check_manifest(content, digest=digest)
                unplaced.append((digest, content))
                return
        with Ignoring(FileNotFoundError, StorageError), self._pool.open(digest, file.size) as source:
            Repository(self._core, repository).put_blob(source, digest=digest)
            self._report.adopted += 1

    def _adopt_manifests(self, repository: str, manifests: list[tuple[Digest, bytes]]) -> None:
        """Adopt manifests, children before the indexes they are in.

        An index that lacks some of its children, and not all, when everything is adopted that can be, is adopted as a
        sparse one; what lacks anything else, as a blob.
        """
        waiting = manifests
        missing: Missing = "refuse"
        while waiting:
            left = [each for each in waiting if not self._put_manifest(repository, *each, missing=missing)]
            if len(left) < len(waiting):
                missing = "refuse"  # something may be whole by now
            elif missing == "refuse":
                missing = "children"
            else:
                for digest, content in left:
                    Repository(self._core, repository).put_blob(content, digest=digest)
                break
            waiting = left
        self._report.adopted += len(manifests)

    def _put_manifest(self, repository: str, digest: Digest, content: bytes, *, missing: Missing) -> bool:
        """Adopt one. Return False where it lacks something that may not be missing."""
        into = Repository(self._core, repository)
        if missing == "children" and not self._has_children(repository, digest, content):
            return False
        try:
            into.put_manifest(content, digest=digest, missing=missing)
        except ManifestBlobUnknownError:
            return False
        except ManifestInvalidError:  # what it says of something that is here is not so
            into.put_blob(content, digest=digest)
        return True

    def _has_children(self, repository: str, digest: Digest, content: bytes) -> bool:
        """Whether the repository has any of the children of an index."""
        edges = check_manifest(content, digest=digest).edges()
        with self._catalog.read() as connection:
            key = repositories.find(connection, repository)
        if key is None:
            return False
        with self._catalog.read() as connection:
            known = children(connection, key, [edge.descriptor.digest for edge in edges if edge.role != "subject"])
        return any(child.manifest_here or child.blob_here for child in known.values())
