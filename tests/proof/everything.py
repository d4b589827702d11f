"""Everything at once, in one store: processes with threads and forked children that push, tag, delete, lease, upload,
import, export, back up, scrub and collect with tiny graces, killed and stopped at any moment, and one tag that all of
them move, whose history must be that of one register.

The register: every write is a compare-and-swap of the tag from the digest that was read to one that nobody else ever
writes, and every resolve, and every swap that was refused, is a read. Each is written down, before and after, with the
system's monotonic clock, which all processes share. The order of the writes is in the store's own history of the tag.
It is linearizable (Herlihy and Wing, 1990) exactly if every operation can be placed between its two instants so that
each read finds the last write before it; with the order of writes known that is: what ended before something began does
not come after it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
import traceback
import warnings
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from crowd import Crowd
from images import artifact, note, push
from invariants import check
from races import HOT, LOST_RACES, MOMENT, REPOSITORIES, WORK

from ocistore import (
    CollectionRefusedError,
    Digest,
    LeaseExpiredError,
    ManifestNotFoundError,
    StorageError,
    Store,
    TagConflictError,
)
from ocistore.upkeep import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REGISTER = "register"
WORKERS, THREADS = 5, 2
_ENDED, _BEGAN = "E", "B"
_HOLD = 300
"""Milliseconds that collections are held off by a backup that says nothing."""


class Done(NamedTuple):
    """One operation on the register, as its process wrote it down."""

    began: int
    ended: int | None
    """None where its process was killed, or does not know what came of it."""
    kind: str
    """``read`` or ``write``."""
    value: str
    """The digest that was read or written."""
    expected: str | None = None
    """What a write had to find."""


_past_the_store = threading.Lock()
"""Held while a thread uses SQLite past the store, and while one forks: a child has SQLite's own locks as they are then,
and would wait for ever for one that another thread held."""


# --- what workers do --------------------------------------------------------------------------------------------------


class Worker:
    """One process's part."""

    def __init__(self, root: Path, number: int, died: Callable[[], None]) -> None:
        """``died`` writes down what one of its threads dies of."""
        self._root = root
        self._number = number
        self._died = died
        self._written = 0
        self._mutex = threading.Lock()

    def run(self) -> None:
        """Work with several threads until killed."""
        with Store.open(self._root) as store:
            threads = [threading.Thread(target=self._work, args=(store, each)) for each in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _work(self, store: Store, thread: int) -> None:
        rng = random.Random((self._number << 8) + thread)
        log = os.open(
            self._root.parent / f"register-{self._number}-{thread}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        try:
            while True:
                if rng.random() < (0.1 if thread else 0.9):
                    self._register(store, rng, log)
                else:
                    with contextlib.suppress(LOST_RACES, LeaseExpiredError):
                        rng.choice(_EVERYTHING)(store, rng)
        except BaseException:
            self._died()
            os._exit(1)

    def _register(self, store: Store, rng: random.Random, log: int) -> None:
        repository = store.repository(REGISTER)
        _note(log, _BEGAN, "read", "-")
        value = str(repository.resolve("r").digest)
        _note(log, _ENDED, "read", value)
        if rng.random() < 0.5:
            return
        with self._mutex:
            self._written += 1
            new = note(f"{self._number} {self._written}")
        repository.put_manifest(new.manifest)
        with contextlib.suppress(*LOST_RACES):
            self._swap(log, repository, new.digest, value)

    def _swap(self, log: int, repository, new: Digest, old: str) -> None:
        _note(log, _BEGAN, "write", new, old)
        try:
            repository.tag("r", new, expected=old)
        except TagConflictError as error:
            # Refused: nothing was written, and what was found there was read.
            _note(log, _ENDED, "read", str(error.actual))
            raise
        except ManifestNotFoundError:  # a collection took the manifest before it had the tag
            _note(log, _ENDED, "none", "-")
            raise
        _note(log, _ENDED, "write", new, old)


def _note(log: int, what: str, *words: str) -> None:
    os.write(log, " ".join([what, str(time.monotonic_ns()), *words, "\n"]).encode())


def _leased(store: Store, rng: random.Random) -> None:
    name = rng.choice(REPOSITORIES)
    with store.lease(ttl=timedelta(milliseconds=rng.choice([1, 20, 2000])), reason="everything"):
        wanted = rng.choice(HOT[:8])
        for blob in wanted.blobs:
            store.repository(name).put_blob(blob)
        time.sleep(rng.random() * 0.02)
        store.repository(name).put_manifest(wanted.manifest, tags=["leased"])


def _collect(store: Store, rng: random.Random) -> None:
    with contextlib.suppress(CollectionRefusedError):  # a backup is made, or one was killed a moment ago
        store.gc(grace=MOMENT, keep_untagged=rng.choice([MOMENT, timedelta(0)]), force=True)


def _scrub(store: Store, rng: random.Random) -> None:
    level = rng.choice(["quick", "default", "deep"])
    report = store.scrub(level=level)
    assert not report.damaged, report  # nobody damages anything


def _back_up(store: Store, rng: random.Random) -> None:
    destination = store.root.parent / f"backup-{os.getpid()}-{threading.get_ident()}"
    try:
        try:
            store.backup(destination, mode=rng.choice(["copy", "link"]))
        except StorageError as error:
            if "stood still" not in str(error):  # stopped for longer than the hold: it says so
                raise
            return
        with _past_the_store:
            found = check(destination, hashes=True, idle=False)
        assert not [words for words in found if "has no business" not in words], found
    finally:
        shutil.rmtree(destination, ignore_errors=True)


def _look_at_the_files(store: Store, rng: random.Random) -> None:
    """Opens and closes the catalog's files, which takes SQLite's locks from this process."""
    for name in ("catalog.db", "catalog.db-shm", "catalog.db-wal"):
        with contextlib.suppress(FileNotFoundError):
            (store.root / name).read_bytes()


def _open_again(store: Store, rng: random.Random) -> None:
    with Store.open(store.root, read_only=rng.random() < 0.5) as again:
        list(again.repositories())


def _in_a_child(store: Store, rng: random.Random) -> None:
    with _past_the_store:
        child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status in {0, signal.SIGKILL}, status
        return
    status = 1
    try:
        with contextlib.suppress(LOST_RACES):
            push(store.repository(rng.choice(REPOSITORIES)), rng.choice(HOT), "of a child")
        status = 0
    except BaseException:
        (store.root.parent / f"error-{os.getpid()}").write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _about(store: Store, rng: random.Random) -> None:
    subject = rng.choice(HOT[:8])
    repository = store.repository(rng.choice(REPOSITORIES))
    push(repository, subject, "t0")
    push(repository, artifact(rng.randrange(3), subject=subject))


_EVERYTHING = [*WORK, *[_leased] * 3, *[_collect] * 4, _scrub, _back_up, _look_at_the_files, _open_again, _in_a_child]
_EVERYTHING += [_about, _about]


# --- what they did ----------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What it came to."""

    wrong: list[str] = field(default_factory=list)
    operations: int = 0
    writes: int = 0
    kills: int = 0
    stops: int = 0
    checks: int = 0


class Everything:
    """All of it in a store of its own."""

    def __init__(self, root: Path, *, wrong_way: Callable[[], None] | None = None) -> None:
        """``wrong_way`` is called in each worker, to make it work in a wrong way."""
        self._root = root
        self._wrong_way = wrong_way
        with Store.open(root) as store:
            push(store.repository(REGISTER), note("first"), "r")

    def run(self, seconds: float, *, seed: int = 1, until_wrong: bool = False) -> Outcome:
        """Let them work, kill and stop some of them, and look at the store now and then."""
        outcome, rng, crowd = Outcome(), random.Random(seed), Crowd(self._root)
        for _ in range(WORKERS):
            crowd.start(partial(self._work, crowd))
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and not outcome.wrong:
                time.sleep(rng.random() * 0.2)
                if rng.random() < 0.4:
                    crowd.kill(rng)
                    outcome.kills += 1
                else:
                    crowd.stop(rng, rng.random() * 0.1)
                    outcome.stops += 1
                crowd.replace()
                outcome.wrong += crowd.errors()
                if rng.random() < 0.05 or until_wrong:
                    outcome.checks += 1
                    outcome.wrong += crowd.look()
                if until_wrong:
                    outcome.wrong += not_linearizable(list(operations(self._root.parent)), writes(self._root))
        finally:
            crowd.end(kill=True)
            outcome.wrong += crowd.errors()
        done = list(operations(self._root.parent))
        outcome.operations = len(done)
        outcome.writes = sum(each.kind == "write" and each.ended is not None for each in done)
        outcome.wrong += not_linearizable(done, writes(self._root))
        outcome.wrong += check(self._root, hashes=True, idle=False)
        with Store.open(self._root) as store:  # it is of use still
            time.sleep(_HOLD / 1000)
            store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
        outcome.wrong += check(self._root, hashes=True, idle=False)
        return outcome

    def _work(self, crowd: Crowd, number: int) -> None:
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which are the point
        # A backup that is killed holds collections off for so long, and one that is stopped longer must say so.
        hold._HOLD, hold._RENEWED_EVERY = _HOLD, _HOLD / 4000
        if self._wrong_way is not None:
            self._wrong_way()
        Worker(self._root, number, crowd.died).run()


# --- the register -----------------------------------------------------------------------------------------------------


def operations(directory: Path) -> Iterator[Done]:
    """What was done to the register, as the workers wrote it down."""
    for path in directory.glob("register-*"):
        pending: Done | None = None
        for line in path.read_text().splitlines():
            what, at, *words = line.split()
            if what == _BEGAN:
                if pending is not None:
                    yield pending
                pending = Done(int(at), None, *words)
            else:
                assert pending is not None
                if words[0] != "none":
                    yield Done(pending.began, int(at), *words)
                pending = None
        if pending is not None:
            yield pending


def writes(root: Path) -> list[str]:
    """What the register held, one after another, as the store's history says."""
    with contextlib.closing(sqlite3.connect(f"file:{root}/catalog.db?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT old_digest, new_digest FROM tag_events WHERE repository = ? AND tag = 'r' ORDER BY id", [REGISTER]
        ).fetchall()
    return [new for _, new in rows]


def not_linearizable(done: list[Done], order: list[str]) -> list[str]:
    """What of a history is not that of one register whose values were these, in this order, each once."""
    position = {value: number for number, value in enumerate(order)}
    found = []
    if len(position) != len(order):
        found.append("a value was written twice")
    placed = []
    for each in done:
        if each.ended is None:
            continue  # it may have happened, or not
        if each.value not in position:
            found.append(f"{each} is acknowledged, and not in the history")
            continue
        place = position[each.value]
        placed.append((each, place))
        if each.expected is not None and (place == 0 or order[place - 1] != each.expected):
            found.append(f"{each} was written over something else")
    # Of everything that had ended when something began, the latest place.
    by_end = sorted(placed, key=lambda pair: pair[0].ended)
    passed, latest = 0, (-1, None)
    for each, place in sorted(placed, key=lambda pair: pair[0].began):
        while passed < len(by_end) and by_end[passed][0].ended < each.began:
            if by_end[passed][1] > latest[0]:
                latest = by_end[passed][1], by_end[passed][0]
            passed += 1
        if place < latest[0] or (each.kind == "write" and place == latest[0]):
            found.append(f"{each} found or wrote number {place}, after {latest[1]} with number {latest[0]} had ended")
    return found
