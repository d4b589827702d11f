"""Garbage collection of what is beside the pool: expired upload sessions, what was staged and abandoned, and trash/."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ocistore.catalog import blobs, uploads
from ocistore.errors import CorruptError, InvalidDigestError, StorageError, StoreBusyError
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ocistore.blobs.pool import UnpublishedFile
    from ocistore.core import Core
    from ocistore.upkeep.budget import Budget
    from ocistore.upkeep.gctransaction import GCTransaction

_PAGE: Final = 250

_STRAY_AGE: Final = timedelta(hours=24)
"""How long a file in ``uploads/`` without a session was not touched, so that the process that staged it has died."""


class Abandoned:
    """Removes abandoned files, for one garbage collection, and counts them."""

    def __init__(self, core: Core, budget: Budget, *, batch: Callable[[], GCTransaction], now: int) -> None:
        """Begin with counts of 0; ``batch`` begins a write transaction."""
        self._core = core
        self._catalog = core.catalog
        self._sweeper = core.pool.sweeper
        self._budget = budget
        self._batch = batch
        self._now = now
        self.uploads = self.abandoned = self.bytes = 0

    def end_uploads(self) -> None:
        """End upload sessions that nobody touched in their lifetime.

        Raises:
            BudgetSpent: the bounds are reached.
        """
        after = (-1, "")
        while True:
            with self._catalog.read() as connection:
                ended = uploads.expired(connection, now=self._now, after=after, limit=_PAGE)
            if not ended:
                return
            for _, name, algorithm in ended:
                self._end_upload(name, algorithm)
            after = ended[-1][:2]

    def _end_upload(self, name: str, algorithm: str) -> None:
        try:
            file = self._core.pool.uploads.open(name, algorithm)
        except StoreBusyError:
            return  # somebody is writing it: nothing of it is abandoned
        except (FileNotFoundError, CorruptError, InvalidDigestError) as error:
            pass_on_theirs(error)
            file = None  # nobody can resume it: it is gone, no plain file, or of an algorithm that is not installed
        try:
            with self._batch() as connection:
                ended = uploads.remove_expired(connection, name, now=self._now)
            if ended:
                self.uploads += 1
                staged = self._sweeper.find_staged(name)
                if staged is not None and self._take_from_pool(staged):
                    self.bytes += 0 if file is None else file.offset
                with contextlib.suppress(StorageError):  # a directory in its place is not ours to delete
                    self._core.pool.uploads.remove(name)
        finally:
            if file is not None:
                file.close()

    def sweep_uploads(self) -> None:
        """Remove what was staged, or published before its row was committed, and abandoned."""
        for file in self._abandoned():
            self._budget.check()
            alone = self._take_from_pool(file)
            if self._sweeper.delete_staged(file.name):
                self.abandoned += 1
                self.bytes += file.size if alone else 0

    def abandoned_files(self) -> Iterator[tuple[str, int]]:
        """Yield what somebody staged and abandoned, with the bytes that removing it would free."""
        for file in self._abandoned():
            digest = self._sweeper.published(file) if file.may_be_published else None
            if digest is not None:
                with self._catalog.read() as connection:
                    digest = None if blobs.with_rows(connection, [digest]) else digest
            yield file.name, file.size if not file.may_be_published or digest is not None else 0

    def _abandoned(self) -> Iterator[UnpublishedFile]:
        for file in self._sweeper.staged():
            if file.changed < self._now - _STRAY_AGE // timedelta(milliseconds=1):
                # A session that begins has its file locked until its row is committed.
                with self._sweeper.alone(file.name) as alone:
                    if not alone:
                        continue
                    with self._catalog.read() as connection:
                        session = uploads.known(connection, [file.name])
                    if not session:
                        yield file

    def _take_from_pool(self, file: UnpublishedFile) -> bool:
        """Remove the other name of a file that a killed push published, if no row stands for it.

        Whether the name in ``uploads/`` is its last one: to remove that gives its bytes back. What is moved to
        ``trash/`` is counted there.
        """
        digest = self._sweeper.published(file) if file.may_be_published else None
        if digest is not None:
            with self._catalog.read() as connection:
                known = blobs.with_rows(connection, [digest])
            if not known:
                with self._batch() as connection:
                    if not blobs.with_rows(connection, [digest]):
                        found = self._sweeper.find(digest)
                        if found is not None and found.identity == file.identity:  # and not somebody's who came later
                            self._sweeper.trash(digest)
        return not file.may_be_published

    def empty_trash(self) -> None:
        """Remove what was moved from the pool to ``trash/``."""
        self.delete(self._sweeper.trashed())

    def delete(self, trashed: Iterable[UnpublishedFile], check: Callable[[], object] = lambda: None) -> None:
        """Remove some of that. ``check`` is called before each file, and may raise."""
        for file in trashed:
            check()
            self._budget.check()
            if self._sweeper.delete_trashed(file.name):
                self.bytes += file.size
