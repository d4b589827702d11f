"""A process that stands still for eight days, at any one of its steps, while another one does its worst.

The clock is the tests': a stall moves it, and takes no time. While the process stands still, another one, with the same
clock, does what the operation has to fear, if need be as soon as the lock is free. A step is taking the lock, giving it
up, a look at the clock, and a system call that is made through :mod:`os` or :mod:`fcntl`.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pickle
import shutil
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from handmade import Layout
from images import image, index, push
from invariants import check

from ocistore import (
    BlobNotFoundError,
    CollectionRefusedError,
    Digest,
    LeaseExpiredError,
    ManifestBlobUnknownError,
    ManifestNotFoundError,
    OCIStoreError,
    RepositoryNotFoundError,
    StorageError,
    Store,
    UploadNotFoundError,
)
from ocistore.catalog.lock import Turn
from ocistore.upkeep import backup, hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ocistore.repository import Repository

STALL = timedelta(days=8)
"""Longer than anything lasts by itself: holds, leases, graces, sessions, and the files of who stages something."""

ZERO = timedelta(0)
HOUR = timedelta(hours=1)
GONE = (BlobNotFoundError, ManifestNotFoundError, RepositoryNotFoundError)

_CALLS = {
    os: ("open", "write", "pread", "stat", "lstat", "fstat", "fsync", "fdatasync", "link", "rename", "unlink", "chmod"),
    fcntl: ("flock", "fcntl"),
}

_time_ns = time.time_ns


class Clock:
    """One that processes share, and that jumps."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    def jump(self, by: timedelta) -> None:
        ahead = self._ahead() + by // timedelta(microseconds=1) * 1000
        self._shared[:] = ahead.to_bytes(8, "little")

    def _ahead(self) -> int:
        return int.from_bytes(self._shared[:], "little")

    def time_ns(self) -> int:
        return _time_ns() + self._ahead()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time_ns() / 1e9, UTC)


@dataclass(frozen=True)
class Scene:
    """What one process does, and what another does to it meanwhile."""

    work: Callable[[Store, Clock, Steps], list[str]]
    """Done by the process that stands still: what is wrong afterwards."""
    meanwhile: Callable[[Store], object]
    prepare: Callable[[Store], object]
    ahead: timedelta = ZERO
    """How old everything is when it begins."""
    stall: timedelta = STALL


class Steps:
    """The steps of a process, at one of which it stands still."""

    def __init__(self, clock: Clock, at: int | None, meanwhile: Callable[[], object], *, stall: timedelta) -> None:
        self.taken: list[str] = []
        self.stalled: str | None = None
        """At which step it stood still, if it did."""
        self.stalled_holding = False
        """Whether it stood still with the lock: what it then commits may have run out by then."""
        self._clock = clock
        self._at = at
        self._meanwhile = meanwhile
        self._stall = stall
        self._holding = self._pending = self._inside = False
        self._thread = threading.get_ident()

    def watch(self) -> None:
        for module, names in _CALLS.items():
            for name in names:
                setattr(module, name, self._before(name, getattr(module, name)))
        take, give_up = Turn.__enter__, Turn.__exit__

        def entered(turn: Turn) -> None:
            self._step("before the lock")
            take(turn)
            if self._is_mine(turn):
                self._holding = True
            self._step("with the lock")

        def left(turn: Turn, *error: object) -> None:
            give_up(turn, *error)
            if self._is_mine(turn):
                self._holding = False
            self._step("after the lock")

        Turn.__enter__, Turn.__exit__ = entered, left  # type: ignore[method-assign]
        time.time_ns = self._looked  # type: ignore[assignment]

    def _is_mine(self, turn: Turn) -> bool:
        return threading.get_ident() == self._thread and turn.path.endswith("store/write.lock")

    def _before(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object, **options: object) -> object:
            self._step(name)
            return call(*arguments, **options)

        return called

    def _looked(self) -> int:
        now = self._clock.time_ns()
        self._step("after a look at the clock")
        return now

    def _step(self, name: str) -> None:
        if self._inside or threading.get_ident() != self._thread:
            return
        self._inside = True
        try:
            if len(self.taken) == self._at:
                self._clock.jump(self._stall)
                self._pending = True
                self.stalled, self.stalled_holding = name, self._holding
            self.taken.append(name)
            if self._pending and not self._holding:
                self._pending = False
                self._meanwhile()
        finally:
            self._inside = False


class Stage:
    """A scene, and a store to play it on again and again."""

    def __init__(self, scene: Scene, directory: Path, empty_store: Path) -> None:
        self._scene = scene
        self._before = directory / "before"
        self._tried = directory / "tried"
        shutil.copytree(empty_store, self._before / "store")
        with Store.open(self._before / "store") as store:
            scene.prepare(store)
        (self._before / "store" / "reserved").unlink()
        os.truncate(os.open(self._before / "store" / "reserved", os.O_CREAT | os.O_WRONLY, 0o600), 4096)

    def play(self, at: int | None = None, wrong: Callable[[], None] | None = None) -> tuple[list[str], list[str]]:
        """Stand still at that step, or at none: all steps that were taken, and what is wrong."""
        shutil.rmtree(self._tried, ignore_errors=True)
        shutil.copytree(self._before, self._tried)
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            answer = ([], ["it ended without a word"])
            try:
                if wrong is not None:
                    wrong()
                answer = self._played(at)
            except BaseException:
                answer = ([], [traceback.format_exc()])
            finally:
                with open(writable, "wb") as file:
                    pickle.dump(answer, file)
                os._exit(0)
        os.close(writable)
        with open(readable, "rb") as file:
            steps, wrong_now = pickle.load(file)
        os.waitpid(child, 0)
        place = "nowhere" if at is None else f"at step {at}"
        return steps, [f"{place} ({steps[at] if at is not None and at < len(steps) else '?'}): {w}" for w in wrong_now]

    def _played(self, at: int | None) -> tuple[list[str], list[str]]:
        root = self._tried / "store"
        clock = Clock()
        clock.jump(self._scene.ahead)
        with _other(root, clock, self._scene.meanwhile) as meanwhile, Store.open(root) as store:
            steps = Steps(clock, at, meanwhile, stall=self._scene.stall)
            steps.watch()
            found = self._scene.work(store, clock, steps)
        taken = list(steps.taken)
        return taken, found + check(root, hashes=True, idle=False)


@contextlib.contextmanager
def _other(root: Path, clock: Clock, meanwhile: Callable[[Store], object]) -> Iterator[Callable[[], None]]:
    """Another process: what makes it do its part, and returns when that is done."""
    asked, answered = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"+"
        try:
            os.close(asked[1])
            time.time_ns = clock.time_ns
            if os.read(asked[0], 1):
                with Store.open(root) as store:
                    meanwhile(store)
        except BaseException:
            answer = traceback.format_exc().encode()
        finally:
            os.write(answered[1], answer)
            os._exit(0)

    def run() -> None:
        os.write(asked[1], b".")
        said = os.read(answered[0], 1 << 16)
        if said != b"+":
            raise RuntimeError(f"the other process: {said.decode()}")

    try:
        yield run
    finally:
        os.close(asked[1])
        os.waitpid(child, 0)


def _collect(store: Store) -> None:
    with contextlib.suppress(CollectionRefusedError):
        store.gc(grace=ZERO, keep_untagged=ZERO, force=True)


def _delete_and_collect(store: Store) -> None:
    store.delete_repository("doomed")
    _collect(store)


KEPT, DOOMED, OTHER = image("kept"), image("doomed", layers=2), index([image("arm"), image("amd")])


def _fill(store: Store) -> None:
    push(store.repository("kept"), KEPT, "v1")
    push(store.repository("doomed"), DOOMED, "v1")


def _is_whole(store: Store, name: str, pushed: object, tag: str) -> list[str]:
    try:
        repository = store.repository(name)
        found = repository.get_manifest(tag).content == pushed.manifest
        for blob in pushed.blobs:
            with repository.open_blob(Digest.of(blob)) as reader:
                found = found and reader.read() == blob
        for child in pushed.children:
            found = found and not _is_whole(store, name, child, str(child.digest))
    except GONE as error:
        return [f"{name}:{tag} was acknowledged, and: {error!r}"]
    return [] if found else [f"{name}:{tag} is not what was pushed"]


def _back_up(store: Store, clock: Clock, steps: Steps) -> list[str]:
    target = store.root.parent / "backup"
    # Right in themselves: a hold is renewed after each blob, as it is after each minute.
    hold._RENEWED_EVERY, backup._PAGE = 0.0, 1  # type: ignore[misc]
    try:
        report = store.backup(target)
    except OCIStoreError:
        return []  # and it says so
    return [f"reported missing: {digest}" for digest in report.missing] + check(target, hashes=True, idle=False)


def _back_up_slowly(store: Store, clock: Clock, steps: Steps) -> list[str]:
    """With ten minutes left of the hold when it is to be renewed for the first time."""
    renew, late = hold.Hold.renew, [HOUR * 5 / 6]

    def renewed(hold: hold.Hold) -> None:
        if late:
            clock.jump(late.pop())
        renew(hold)

    hold.Hold.renew = renewed  # type: ignore[method-assign]
    return _back_up(store, clock, steps)


def _export(store: Store, clock: Clock, steps: Steps) -> list[str]:
    target = store.root.parent / "layout"
    try:
        store.export(target, ["doomed"])
    except OCIStoreError:
        return []
    with Store.open(store.root.parent / "other") as other:
        other.import_(target, "doomed")
        return _is_whole(other, "doomed", DOOMED, "v1")


def _lay_out(store: Store) -> None:
    _fill(store)
    layout = Layout(store.root.parent / "layout")
    layout.add(OTHER, "v1")
    layout.write()


def _import(store: Store, clock: Clock, steps: Steps) -> list[str]:
    try:
        store.import_(store.root.parent / "layout", "app")
    except OCIStoreError:
        return []
    return _is_whole(store, "app", OTHER, "v1")


def _copy(store: Store, clock: Clock, steps: Steps) -> list[str]:
    target = store.root.parent / "other"
    try:
        store.copy_to(target, ["doomed:v1"])
    except OCIStoreError:
        return []
    with Store.open(target) as other:
        return _is_whole(other, "doomed", DOOMED, "v1")


@contextlib.contextmanager
def _unless_swept() -> Iterator[None]:
    """Allow for what was staged and not published for a day, which is refused with that for a reason."""
    try:
        yield
    except StorageError as error:
        if "push it again" not in str(error):
            raise


def _push(store: Store, clock: Clock, steps: Steps) -> list[str]:
    with contextlib.suppress(ManifestBlobUnknownError, *GONE), _unless_swept():
        push(store.repository("app"), OTHER, "v1")
        return _is_whole(store, "app", OTHER, "v1")
    return []


def _transact(store: Store, clock: Clock, steps: Steps) -> list[str]:
    try:
        with _unless_swept():
            with store.transaction() as transaction:
                push(transaction.repository("app"), OTHER, "v1")
                push(transaction.repository("doomed"), DOOMED, "again")
            return _is_whole(store, "app", OTHER, "v1") + _is_whole(store, "doomed", DOOMED, "again")
    except OCIStoreError as error:
        return [f"a transaction brings all that it needs: {error!r}"]
    return []


def _read(repository: Repository, content: bytes) -> None:
    if content == KEPT.manifest:
        repository.get_manifest(KEPT.digest)
    else:
        repository.stat_blob(Digest.of(content))


def _lease(store: Store, clock: Clock, steps: Steps) -> list[str]:
    found: list[str] = []
    repository = store.repository("app")

    def kept(*needed: bytes) -> None:
        try:
            for blob in needed:
                _read(repository, blob)
        except GONE as error:
            if clock.now() < lease.expires:
                found.append(f"a lease that is in force lost: {error!r}")

    with (
        contextlib.suppress(LeaseExpiredError, ManifestBlobUnknownError, *GONE),
        _unless_swept(),
        store.lease(ttl=HOUR, reason="slow") as lease,
    ):
        for blob in KEPT.blobs:
            repository.put_blob(blob)
        kept(*KEPT.blobs)
        clock.jump(HOUR / 2)
        lease.renew()
        kept(*KEPT.blobs)
        repository.put_manifest(KEPT.manifest)
        kept(*KEPT.blobs, KEPT.manifest)
    return found


def _upload(store: Store, clock: Clock, steps: Steps) -> list[str]:
    repository = store.repository("app")
    content = b"in pieces"
    try:
        upload = repository.start_upload()
    except StorageError as error:
        return [] if "start it again" in str(error) else [f"not begun: {error!r}"]
    begun = clock.now()
    if steps.stalled == "before the lock" and repository.stat_upload(upload.id).expires < begun:
        return ["a session is over when it begins"]
    try:
        upload.close()
        _collect(store)  # with all times at zero: a session that was just begun or closed is none of its business
        with repository.upload(upload.id) as upload:
            upload.write(content[:3])
        _collect(store)
        with repository.upload(upload.id) as upload:
            upload.write(content[3:])
            upload.commit(Digest.of(content))
    except UploadNotFoundError as error:
        # It stood still for longer than a session lasts, between two calls or with what it had to commit.
        return [] if clock.now() - begun > STALL or steps.stalled_holding else [f"just begun, and: {error!r}"]
    return []


def _push_again(store: Store) -> None:
    push(store.repository("again"), DOOMED, "v1")
    store.repository("again").put_blob(b"fresh")


def _collected(store: Store, clock: Clock, steps: Steps) -> list[str]:
    store.gc(grace=HOUR, keep_untagged=HOUR, force=True)
    if "again" not in list(store.repositories()):
        return []
    found = _is_whole(store, "again", DOOMED, "v1")
    try:
        store.repository("again").stat_blob(Digest.of(b"fresh"))
    except GONE as error:
        found.append(f"its grace had just begun: {error!r}")
    return found


def _delete(store: Store) -> None:
    _fill(store)
    store.delete_repository("doomed")
    store.repository("kept").put_blob(b"loose")


SCENES = {
    "backup": Scene(_back_up, _delete_and_collect, _fill),
    "slow backup": Scene(_back_up_slowly, _delete_and_collect, _fill, stall=HOUR / 3),
    "export": Scene(_export, _delete_and_collect, _fill),
    "copy": Scene(_copy, _delete_and_collect, _fill),
    "import": Scene(_import, _collect, _lay_out),
    "push": Scene(_push, _collect, _fill),
    "transaction": Scene(_transact, _collect, _fill),
    "lease": Scene(_lease, _collect, _fill),
    "upload": Scene(_upload, _collect, _fill),
    "gc": Scene(_collected, _push_again, _delete, ahead=timedelta(days=1)),
}
