"""A race at one store: pushers of all kinds, collectors, and a checker that stops all of them to look.

Content is drawn from few images, so that what one pushes another collects.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from crowd import Crowd
from images import artifact, image, index, push
from invariants import check
from state import pool, rows

from ocistore import (
    BlobNotFoundError,
    Digest,
    InvalidNameError,
    LayoutInvalidError,
    LeaseExpiredError,
    ManifestBlobUnknownError,
    ManifestNotFoundError,
    ReferencedError,
    RepositoryNotFoundError,
    Store,
    TagConflictError,
    UploadNotFoundError,
    largechanges,
)
from ocistore.catalog import repositories, tags
from ocistore.upkeep import abandoned, gc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

HOT = [image(f"hot {number}", layers=1 + number % 3) for number in range(8)]
HOT += [index([HOT[0], HOT[1]]), index([HOT[2], HOT[3]]), artifact(subject=HOT[4])]
SPARSE = index([HOT[0], HOT[5]])
REPOSITORIES = ("one", "two", "three")
LEASED = "leased"
"""A repository in which nobody deletes: what goes from it, a collection took."""
MOMENT = timedelta(milliseconds=3)
IN_PARTS = "parts"
"""A repository all of whose tags are moved or removed at once, in large changes."""
TOGETHER = tuple("abcdef")
"""Its tags."""
LONGEST = 1.0
"""Seconds that a lease is made for, at most, and that a large change lasts whose process was killed."""
PUSHERS, COLLECTORS = 4, 2
PAUSE = 0.005
"""Seconds at most between two collections of one collector."""

LOST_RACES = (
    BlobNotFoundError,
    InvalidNameError,  # nothing to export: the repository has no tags
    LayoutInvalidError,
    LeaseExpiredError,  # and it says so, before anything is lost
    ManifestBlobUnknownError,
    ManifestNotFoundError,
    ReferencedError,
    RepositoryNotFoundError,
    TagConflictError,
    UploadNotFoundError,
)
"""What may come of a push whose grace is three milliseconds, or of deleting beside others: it is tried again."""


def _push(store: Store, rng: random.Random) -> None:
    push(store.repository(rng.choice(REPOSITORIES)), rng.choice(HOT), f"t{rng.randrange(3)}")


def _sparse(store: Store, rng: random.Random) -> None:
    """An index of which one child is brought along, and the other may be there, or come, or never come."""
    repository = store.repository(rng.choice(REPOSITORIES))
    push(repository, HOT[0])
    repository.put_manifest(SPARSE.manifest, missing="children", tags=[f"t{rng.randrange(3)}"])


def _in_one(store: Store, rng: random.Random) -> None:
    with store.transaction() as transaction:
        for name in rng.sample(REPOSITORIES, 2):
            push(transaction.repository(name), rng.choice(HOT), f"t{rng.randrange(3)}")


def _retag(store: Store, rng: random.Random) -> None:
    repository = store.repository(rng.choice(REPOSITORIES))
    repository.tag(f"t{rng.randrange(3)}", rng.choice(HOT).digest)


def _mount(store: Store, rng: random.Random) -> None:
    one, other = rng.sample(REPOSITORIES, 2)
    wanted = rng.choice(HOT[:8])
    for blob in wanted.blobs:
        store.repository(one).mount_blob(Digest.of(blob), other)
    store.repository(one).put_manifest(wanted.manifest, tags=["mounted"])


def _delete(store: Store, rng: random.Random) -> None:
    repository = store.repository(rng.choice(REPOSITORIES))
    what = rng.randrange(10)
    if what == 0:
        store.delete_repository(repository.name)
    elif what < 4:
        repository.delete_manifest(rng.choice(HOT).digest)
    else:
        for tag in repository.tags(limit=2):
            repository.untag(tag)


def _out_and_in(store: Store, rng: random.Random) -> None:
    layout = store.root.parent / f"layout-{threading.get_native_id()}"  # removed below: each thread has its own
    try:
        store.export(layout, [rng.choice(REPOSITORIES)])
        store.import_(layout, rng.choice(REPOSITORIES))
    finally:
        shutil.rmtree(layout, ignore_errors=True)


def _upload(store: Store, rng: random.Random) -> None:
    with store.repository(rng.choice(REPOSITORIES)).start_upload() as upload:
        content = rng.choice(HOT).manifest
        upload.write(content)
        upload.commit(Digest.of(content))


class LostUnderLeaseError(Exception):
    """A collection took what a lease kept that was still in force."""


def _under_a_lease(store: Store, rng: random.Random) -> None:
    """Push the parts of an image, dawdle for longer than their grace, and push what refers to them."""
    repository, wanted = store.repository(LEASED), rng.choice(HOT[:8])
    with store.lease(ttl=timedelta(seconds=rng.choice([0.002, LONGEST, LONGEST])), reason="a slow push") as lease:
        try:
            for blob in wanted.blobs:
                repository.put_blob(blob)
            if rng.random() < 0.5:
                lease.renew()
            time.sleep(rng.random() * 0.1)
            for blob in wanted.blobs:
                repository.stat_blob(Digest.of(blob))
            repository.put_manifest(wanted.manifest)
            time.sleep(rng.random() * 0.1)
            repository.get_manifest(wanted.digest)
        except (BlobNotFoundError, ManifestBlobUnknownError, ManifestNotFoundError, RepositoryNotFoundError) as error:
            if datetime.now(UTC) < lease.expires:
                raise LostUnderLeaseError from error
            raise


class TornError(Exception):
    """Somebody saw a part of a large change, and not all of it."""


def _in_parts(store: Store, rng: random.Random) -> None:
    """Move or remove all tags in one large change, or push or refer to what others may be removing."""
    _see_all_or_none(store)
    with pytest.MonkeyPatch.context() as patched:
        # In steps of few rows, between any two of which others may come, and which do not wait long for the dead.
        patched.setattr(largechanges, "LARGE", 4)
        patched.setattr(largechanges, "AT_ONCE", rng.choice([1, 3, 6]))
        patched.setattr(largechanges, "TTL", int(LONGEST * 1000))
        patched.setattr(largechanges, "_PATIENCE", LONGEST)
        _change_all(store, rng)
    _see_all_or_none(store)


def _change_all(store: Store, rng: random.Random) -> None:
    repository, wanted, what = store.repository(IN_PARTS), rng.choice(HOT[:3]), rng.randrange(6)
    if what == 0:
        push(repository, index([wanted, HOT[3]]), "index")
    elif what == 1:
        push(repository, wanted)
    else:
        with store.transaction() as transaction:
            pending = transaction.repository(IN_PARTS)
            for blob in wanted.blobs:
                pending.put_blob(blob)
            if what == 2:
                pending.delete_manifest(repository.resolve(TOGETHER[0]).digest)
            elif what == 3:
                expected = repository.resolve(TOGETHER[0]).digest
                pending.put_manifest(wanted.manifest)
                for tag in TOGETHER:
                    pending.tag(tag, wanted.digest, expected=expected)
            else:
                pending.put_manifest(wanted.manifest, tags=TOGETHER)


def _see_all_or_none(store: Store) -> None:
    with store._core.catalog.snapshot() as connection:
        repository_id = repositories.find(connection, IN_PARTS)
        found = {} if repository_id is None else dict(tags.every(connection, repository_id))
    found.pop("index", None)
    if found and (found.keys() != set(TOGETHER) or len(set(found.values())) > 1):
        raise TornError(found)


WORK = [_under_a_lease] * 3 + [_push] * 6 + [_in_one] * 3 + [_sparse] * 2 + [_delete] * 2
WORK += [_retag, _mount, _out_and_in, _upload, *[_in_parts] * 2]


_stopped = mmap.mmap(-1, 1)
"""A byte that all workers share: not zero when they are to end by themselves."""


def _pusher(store: Store, rng: random.Random, counted: Callable[[], None]) -> None:
    while not _stopped[0]:
        with contextlib.suppress(LOST_RACES):
            rng.choice(WORK)(store, rng)
            counted()


def _collector(store: Store, rng: random.Random, counted: Callable[[], None]) -> None:
    # Some go in the smallest steps, between any two of which others may come.
    for name in ("_MANIFESTS", "_ROWS", "_FILES"):
        setattr(gc, name, rng.choice([1, getattr(gc, name)]))
    while not _stopped[0]:
        store.gc(grace=MOMENT, keep_untagged=MOMENT, force=True)
        counted()
        time.sleep(rng.random() * PAUSE)


@dataclass
class Outcome:
    """What a race came to."""

    violations: list[str] = field(default_factory=list)
    pushes: int = 0
    collections: int = 0
    kills: int = 0
    checks: int = 0
    failures: list[str] = field(default_factory=list)
    """What workers died of, other than by being killed."""
    leaked: list[str] = field(default_factory=list)
    nameless: int = 0
    """Files of the pool without a row, which pushes that were killed left to scrub."""

    def note(self, failures: Iterable[str]) -> None:
        """What workers died of."""
        for failure in failures:
            seen = any(error.__name__ in failure for error in (LostUnderLeaseError, TornError, sqlite3.IntegrityError))
            (self.violations if seen else self.failures).append(failure)

    @property
    def wrong(self) -> list[str]:
        return self.violations + self.failures + self.leaked


class Race:
    """One race in a store of its own."""

    def __init__(self, root: Path, *, wrong: Callable[[], None] | None = None) -> None:
        """``wrong`` is called in each worker, to make it work in a wrong way."""
        self._root = root
        self._wrong = wrong
        self._counts = root.parent / "counts"
        self._counts.mkdir()
        Store.open(root).close()

    def run(self, seconds: float, *, kill: bool = False, until_wrong: bool = False, seed: int = 1) -> Outcome:
        """Let them run for so long; then collect everything that nothing refers to, after which nothing may be left.

        ``until_wrong`` ends it sooner, when something of the store was seen to be wrong; not when a worker found so and
        died of it, as may happen first.
        """
        outcome, rng, crowd = Outcome(), random.Random(seed), Crowd(self._root)
        _stopped[0] = 0
        for work in [_pusher] * PUSHERS + [_collector] * COLLECTORS:
            crowd.start(partial(self._work, work))
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and not (until_wrong and outcome.violations):
                time.sleep(0.1)
                if kill:
                    crowd.kill(rng)
                    outcome.kills += 1
                crowd.replace()
                outcome.note(crowd.errors())
                outcome.violations += crowd.look()
                outcome.checks += 1
        finally:
            _stopped[0] = 1
            crowd.end(kill=kill)
            outcome.note(crowd.errors())
        outcome.pushes = sum(path.stat().st_size for path in self._counts.glob("_pusher-*"))
        outcome.collections = sum(path.stat().st_size for path in self._counts.glob("_collector-*"))
        outcome.violations += check(self._root, hashes=True, idle=False)
        if not outcome.wrong:
            outcome.leaked, outcome.nameless = self._leaked(killed=kill)
        return outcome

    def _work(self, work: Callable[..., None], number: int) -> None:
        if self._wrong is not None:
            self._wrong()
        count = os.open(self._counts / f"{work.__name__}-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with Store.open(self._root) as store:
            work(store, random.Random(number), lambda: os.write(count, b"."))

    def _leaked(self, *, killed: bool) -> tuple[list[str], int]:
        """What a last collection leaves that no row names, when everything is old; and how many files scrub is left."""
        with pytest.MonkeyPatch.context() as patched, Store.open(self._root) as store:
            patched.setattr(abandoned, "_STRAY_AGE", timedelta(0))
            time.sleep(LONGEST)  # until the leases of those who were killed have run out
            for name in list(store.repositories()):
                for session in list(store.repository(name).uploads()):
                    store.repository(name).upload(session.id).cancel()
            for _ in range(2):  # the first one makes the anchors of what it takes young, as any change of a file does
                time.sleep(0.05)
                store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
        named = {str(row[1]) for row in rows(self._root)["blobs"] if row[3] == "live"}
        nameless = sorted(set(pool(self._root)) - named)
        # Whoever dies between a name and its commit leaves a file that no row names, for scrub to find.
        found = [] if killed else [f"leaked: {digest}" for digest in nameless]
        for directory in ("uploads", "trash"):
            found += [f"left: {directory}/{name}" for name in os.listdir(self._root / directory)]
        found += [f"a lease that nobody ended: {row[0]}" for row in rows(self._root)["leases"]]
        return found + check(self._root, hashes=True), len(nameless)
