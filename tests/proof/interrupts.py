"""Interrupts at any instruction: operations in which KeyboardInterrupt is raised before the Nth, and what is left then.

It is raised from a trace function, so at places, too, where a signal would come an instruction later; and by signals,
which come when they come. Run in a process of its own, because what it counts are a process's descriptors and locks.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import random
import signal
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from images import image, push
from instructions import PACKAGE, Interrupted, count
from invariants import check
from state import catalog

from ocistore import Digest, OCIStoreError, Store
from ocistore.artifacts import push_files
from ocistore.blobs.paths import StorePaths
from ocistore.catalog import users
from ocistore.catalog.lock import WriteLock

if TYPE_CHECKING:
    from collections.abc import Callable

ENOUGH = 20
"""Wrong things after which the rest is not tried."""

NOW = timedelta(0)
KEPT = image("kept", layers=2)


class Signalled:
    """Raises in the block when a timer has run out."""

    def __init__(self, seconds: float) -> None:
        self.reached = False
        self.place = ""
        self._seconds = seconds
        self._inside = False

    def _raise(self, number, frame):
        if self._inside:
            self._inside = False
            self.reached = True
            self.place = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
            raise KeyboardInterrupt

    def __enter__(self):
        signal.signal(signal.SIGALRM, self._raise)
        self._inside = True
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(self, *_):
        self._inside = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def put(store, number):
    store.repository("put").put_blob(b"put %d" % number)


def put_large(store, number):
    store.repository("put").put_blob(b"%d" % number * 300_000)


def push_directory(store, number):
    """With a file of 2 MiB, which a thread stages, and from the second time on only hashes."""
    top = store.root.parent / "model"
    (top / "below").mkdir(parents=True, exist_ok=True)
    if not (top / "large").exists():
        (top / "large").write_bytes(bytes(2 << 20))
        (top / "below" / "small").write_bytes(b"small")
    push_files(store, f"models:v{number % 3}", [top])


def commit(store, number):
    store.repository("kept").tag(f"t{number % 5}", KEPT.digest)


def read(store, number):
    repository = store.repository("kept")
    assert repository.get_manifest("v1").content == KEPT.manifest
    assert len(list(repository.tags())) > 0
    with repository.open_blob(Digest.of(KEPT.blobs[0])) as reader:
        reader.read()


def transaction(store, number):
    with store.transaction() as change:
        change.repository("one").put_blob(b"one %d" % number)
        change.repository("two").put_blob(b"two %d" % number)


def upload(store, number):
    with store.repository("up").start_upload() as session:
        session.write(b"up %d" % number)
        session.commit(str(Digest.of(b"up %d" % number)))


def collect(store, number):
    store.repository("put").put_blob(b"dead %d" % number)
    store.gc(grace=NOW, keep_untagged=NOW, force=True)


def import_(store, number):
    store.import_(store.root.parent / "layout", f"imported{number % 3}")


def lease(store, number):
    with store.lease(ttl=timedelta(hours=1)):
        store.repository("put").put_blob(b"leased %d" % number)


def open_and_close(store, number):
    with Store.open(store.root) as second:
        list(second.repositories())


def open_elsewhere(store, number):
    with Store.open(store.root.parent / "other") as other:
        other.repository("a").put_blob(b"other %d" % number)


OPERATIONS = {
    function.__name__: function
    for function in (
        put,
        put_large,
        push_directory,
        commit,
        read,
        transaction,
        upload,
        collect,
        import_,
        lease,
        open_and_close,
        open_elsewhere,
    )
}


def descriptors() -> dict[str, int]:
    """How often each file is open, without SQLite's connections, which are kept for the next one."""
    found: dict[str, int] = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{number}")
            found[name] = found.get(name, 0) + 1
    return found


def run(root: Path, name: str, wanted: int, seed: int, how: str) -> dict[str, object]:
    """``wanted`` interrupts of an operation, in a way of ``HOW``; what leaked, and how often it ended before.

    It ends where ``ENOUGH`` is found already.
    """
    chance = random.Random(f"{name} {seed}")
    work = OPERATIONS[name]
    store = Store.open(root / "store")
    wrong: list[str] = []
    before = len(os.listdir(root / "store" / "uploads"))
    finished = interrupts = number = 0
    work(store, -1)
    next_one = HOW[how](store, work, chance)
    while interrupts < wanted:
        number += 1
        interrupted = next_one()
        began = time.monotonic()
        try:
            with interrupted:
                work(store, number)
        except KeyboardInterrupt:
            interrupts += 1
        except Exception as error:
            wrong.append(f"{name} {number}: {interrupted.place}: {type(error).__name__} {error}"[:300])
        else:
            if interrupted.reached:
                interrupts += 1  # it came in a finalizer, where the interpreter reports it and goes on
            else:
                finished += 1
        if time.monotonic() - began > 5:
            wrong.append(f"{name} {number}: it took {time.monotonic() - began:.1f} s")
        if sys.exc_info()[1] is not None:
            wrong.append(f"{name} {number}: still handled after {interrupted.place}: {sys.exc_info()[1]!r}"[:300])
        wrong += [f"{name} {number}: {words}" for words in held(store)]
        if len(wrong) >= ENOUGH:
            break
    for session in tuple(store.repository("up").uploads()) if name == "upload" else ():
        store.repository("up").cancel_upload(session.id)  # an upload session outlives who began it
    store.close()
    gc.collect()
    left = [path for path in descriptors() if str(root / "store") in path or str(root / "other") in path]
    staged = len(os.listdir(root / "store" / "uploads")) - before
    wrong += [f"{name}: {digest} is in the pool, and no row stands for it" for digest in rowless(root / "store")]
    return {"interrupts": interrupts, "finished": finished, "wrong": wrong, "open": left, "staged": staged}


def rowless(root: Path) -> list[str]:
    """What lies in the pool for nobody, and is found by a scrub only: no collection knows of it."""
    with catalog(root) as connection:
        known = {digest for (digest,) in connection.execute("SELECT digest FROM blobs WHERE state != 'absent'")}
    return [
        f"{algorithm}:{encoded}"
        for algorithm in os.listdir(root / "blobs")
        for encoded in os.listdir(root / "blobs" / algorithm)
        if f"{algorithm}:{encoded}" not in known and os.stat(root / "blobs" / algorithm / encoded).st_nlink == 1
    ]


def _by_trace(store, work, chance) -> Callable[[], Interrupted]:
    longest = count(lambda: work(store, -2)) * 11 // 10
    return lambda: Interrupted(chance.randrange(1, longest))


def _in_transactions(store, work, chance) -> Callable[[], Interrupted]:
    """At one instruction after another of what begins and ends them."""
    below = os.path.join(PACKAGE, "catalog", "transactions")
    places = itertools.cycle(range(1, count(lambda: work(store, -2), below=below) + 1))
    return lambda: Interrupted(next(places), below=below)


def _by_signal(store, work, chance) -> Callable[[], Signalled]:
    began = time.monotonic()
    work(store, -2)
    longest = time.monotonic() - began
    return lambda: Signalled(chance.uniform(0.000_01, longest))


HOW = {"trace": _by_trace, "signal": _by_signal, "transactions": _in_transactions}


def held(store) -> list[str]:
    """What is held that nobody holds."""
    found = []
    for each in tuple(users.databases.values()):
        if each.busy():
            found.append("a use did not end")
    lock = WriteLock(os.fspath(StorePaths(store.root).write_lock), timeout=1)
    try:
        with lock.held(wait=False):
            pass
    except OCIStoreError as error:
        found.append(f"the write lock is taken: {error}")
    return found


def prepare(root: Path) -> None:
    with Store.open(root / "store") as store:
        push(store.repository("kept"), KEPT, "v1")
        store.export(root / "layout", ["kept:v1"])


def main(directory: str, names: str, wanted: str, seed: str, how: str) -> None:
    """Print what was found, as JSON."""
    warnings.simplefilter("ignore")
    root = Path(directory)
    sys.unraisablehook = lambda unraisable: None  # an interrupt in a finalizer
    prepare(root)
    found = {name: run(root, name, int(wanted), int(seed), how) for name in names.split(",")}
    with Store.open(root / "store") as store:
        found["store"] = {"wrong": check(store, hashes=True, idle=False), "interrupts": 0, "open": [], "staged": 0}
    sys.stdout.write(json.dumps(found))
