"""An operation in a process that dies or is refused on the way, and what must be found afterwards."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import sqlite3
import traceback
from typing import TYPE_CHECKING

from invariants import check
from operations import fill, kept

from ocistore import CorruptError, OCIStoreError, Store, threads
from ocistore.catalog import address, database, sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from operations import Operation

CLEAN, REFUSED, RAW, STUCK, SLANDERED = 0, 3, 4, 5, 6
"""How a run with one failing call ends: well; with one error of ours; with another; with a store of no more use;
with good content called damaged."""

_PATIENCE = 1.0
"""Seconds that a run with one failing call waits for a lock."""


@contextlib.contextmanager
def having(cores: int) -> Iterator[None]:
    """Let this process have that many cores to give threads to."""
    before = threads._cores
    threads._cores = lambda: cores
    try:
        yield
    finally:
        threads._cores = before


class Bench:
    """One operation, and stores to try it on.

    Without threads, unless they are asked for: strace counts the calls of each thread for itself, so that only what one
    thread does is refused, or killed, once and at the same place each time.
    """

    def __init__(self, operation: Operation, directory: Path, empty_store: Path, *, cores: int = 0) -> None:
        self._operation = operation
        self._cores = cores
        self._before = directory / "before"
        self._tried = directory / "tried"
        self._acknowledged = mmap.mmap(-1, 4096)  # shared with what is forked, without a system call
        shutil.copytree(empty_store, self._before / "store")
        fill(self._before / "store")
        operation.prepare(self._before / "store")

    @property
    def root(self) -> Path:
        return self._tried / "store"

    def fresh(self) -> None:
        """Begin again."""
        shutil.rmtree(self._tried, ignore_errors=True)
        shutil.copytree(self._before, self._tried)
        self._acknowledged[0] = 0

    def run(self) -> None:
        """All steps."""
        with having(self._cores), self._operation.open(self.root) as store:
            for number, step in enumerate(self._operation.steps, 1):
                step.do(store)
                self._acknowledged[0] = number

    def run_refused(self) -> None:
        """All steps, twice if the first time failed. Ends the process with what came of it."""
        # A lock that could not be given back is waited for, by whoever wants it next. How long is of no matter here.
        sqlite.BUSY_TIMEOUT = address.BUSY_TIMEOUT = database.BUSY_TIMEOUT = _PATIENCE
        status = CLEAN
        try:
            self.run()
        except CorruptError as error:
            traceback.print_exc()
            # SQLite itself calls its database malformed where the disk cannot read it (SQLITE_IOERR_CORRUPTFS).
            cause = getattr(error.__cause__, "orig", error.__cause__)  # in a migration it is wrapped by SQLAlchemy
            status = REFUSED if isinstance(cause, sqlite3.Error) else SLANDERED
        except OCIStoreError:
            status = REFUSED
        except BaseException:
            traceback.print_exc()
            status = RAW
        if status != RAW and self._fails_again():
            status = STUCK
        os._exit(status)

    def _fails_again(self) -> bool:
        try:
            acknowledged = self._acknowledged[0]
            self.run()
            self._acknowledged[0] = max(acknowledged, self._acknowledged[0])
        except BaseException:
            traceback.print_exc()
            return True
        return False

    def wrong(self) -> list[str]:
        """What is not as it must be now, in words; and whether the operation can be done after all."""
        try:
            with (self._operation.look or self._operation.open)(self.root) as store:
                found = [words for words in check(self.root, hashes=True, idle=False) if not self._is_expected(words)]
                if self._operation.keeps and not kept(store):
                    found.append("what nobody touched is gone")
                if not self._operation.there(store):
                    found.append("what was acknowledged before is gone")
                found += [
                    f"step {number} was acknowledged and is not there"
                    for number, step in enumerate(self._operation.steps, 1)
                    if number <= self._acknowledged[0] and not step.seen(store)
                ]
            self.run()
            with Store.open(self.root) as store:
                found += [
                    f"step {number} cannot be done again"
                    for number, step in enumerate(self._operation.steps, 1)
                    if not step.seen(store)
                ]
                if not kept(store):
                    found.append("what nobody touched is gone in the end")
            found += check(self.root, hashes=True, idle=False)
        except Exception as error:  # a finding like any other
            found = [f"the store cannot be used: {error!r}", traceback.format_exc()]
        return found

    def _is_expected(self, words: str) -> bool:
        """Whether it is about what the operation is there to mend, or a file that the next one of its kind removes."""
        return words.startswith((".ocistore-", "catalog.db.rebuilt", *self._operation.damaged))
