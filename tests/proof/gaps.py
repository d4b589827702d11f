"""Two processes, of which one stands still before and after each of its system calls, while its locks are dropped and
the other one does something.

The one that stands still is traced (ptrace), so that it can be stopped inside SQLite, too. Its locks are dropped as any
code in it would drop them, which opens and closes the store's files: by a process that shares its table of open files,
to which POSIX locks belong (``CLONE_FILES``), because it cannot run anything itself while it stands still.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pickle
import platform
import select
import shutil
import signal
import sqlite3
import traceback
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from images import image, push
from invariants import check
from required import missing

from ocistore import OCIStoreError, Store, StoreBusyError
from ocistore.catalog.written import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ZERO = timedelta(0)
FILES = ("catalog.db", "catalog.db-wal", "catalog.db-shm")
TAGS = 200
"""All of them are moved at once, over and over: so many that SQLite reads several pages to see them."""
OLD, NEW = image("old"), image("new")

_PATIENCE = 60.0
"""Seconds until a process that says nothing is taken for stuck."""
_GLANCE = 2.0
"""Seconds that the other process is given while the first one stands still, should it wait for that one."""

# --- system calls -----------------------------------------------------------------------------------------------------

_CLONE = {"x86_64": 56, "aarch64": 220}
_FCNTL = {"x86_64": 72, "aarch64": 25}
"""By machine: the numbers of these calls."""
_CLONE_FILES = 0x400
_SEIZE, _INTERRUPT, _DETACH, _NEXT_CALL, _WHICH_CALL = 0x4206, 0x4207, 17, 24, 0x420E
_OPTIONS = 0x100001
"""PTRACE_O_EXITKILL, and PTRACE_O_TRACESYSGOOD: a stop at a system call is told from a signal by this bit:"""
_AT_CALL = signal.SIGTRAP | 0x80
_WALL = 0x40000000
_MARK = signal.SIGURG
"""Says where what is looked at begins and ends; whoever is not traced does nothing about it."""

_libc = ctypes.PyDLL(None, use_errno=True)  # which keeps the interpreter's lock, as a fork has to
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class _Call(ctypes.Structure):
    """The beginning of ``struct ptrace_syscall_info``, where a call is about to be made."""

    _fields_ = (
        ("kind", ctypes.c_uint8),
        ("_", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
    )


_BEFORE = 1
"""The kind of a stop before a call; else it is after one."""


def _ptrace(request: int, process: int, value: object = 0, size: int | None = None) -> None:
    if _libc.ptrace(request, process, size, value) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _sharing_files() -> int:
    """As :func:`os.fork`; but both have one table of open files."""
    return int(_libc.syscall(_CLONE[platform.machine()], _CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0))


def require_ptrace() -> None:
    if platform.machine() not in _CLONE:
        missing(f"needs to know the numbers of system calls on {platform.machine()}")


def _stops(process: int, go: Callable[[], object]) -> Iterator[int]:
    """Number every stop of the process between its two marks: before each system call, and after what takes a lock.

    After others, too, nothing that anybody sees happens until the next one begins.

    Args:
        go: tells the process, which waits for it, to begin.
    """
    _ptrace(_SEIZE, process, _OPTIONS)
    _ptrace(_INTERRUPT, process)
    os.waitpid(process, _WALL)
    go()
    signaled = marks = number = 0
    locks = False
    call = _Call()
    while marks < 2:
        _ptrace(_NEXT_CALL, process, signaled)
        signaled = 0
        _, status = os.waitpid(process, _WALL)
        if not os.WIFSTOPPED(status):
            return  # it has said why
        stopped_by = os.WSTOPSIG(status)
        if stopped_by == _MARK:
            marks += 1
        elif stopped_by != _AT_CALL:
            signaled = 0 if status >> 16 else stopped_by
        elif marks:
            _ptrace(_WHICH_CALL, process, ctypes.addressof(call), ctypes.sizeof(call))
            if call.kind == _BEFORE:
                locks = call.number == _FCNTL[platform.machine()]
            if call.kind == _BEFORE or locks:
                yield number
                number += 1
    _ptrace(_DETACH, process)


# --- what both do -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What the process does that stands still."""

    do: Callable[[Store, Path], list[str]]
    """Tells what it sees that is wrong."""
    tags: tuple[str, ...] = ()
    """What it pushes: images of the same names."""


@dataclass(frozen=True)
class Deed:
    """What the other process does, which has the store open, too."""

    do: Callable[[Store, Path], object]
    tags: tuple[str, ...] = ()
    locks: bool = True
    """Whether it takes the write lock, and so has to come later where the first one has it."""
    again: bool = False
    """Whether it can be done any number of times, by a process that has nothing else open."""


def _push(store: Store, root: Path) -> list[str]:
    push(store.repository("app"), image("pushed"), "pushed")
    return []


def _transact(store: Store, root: Path) -> list[str]:
    with store.transaction() as transaction:
        push(transaction.repository("app"), image("in-one"), "in-one")
        push(transaction.repository("app"), image("as-well"), "as-well")
        transaction.repository("doomed").delete_manifest(image("doomed").digest)
    return []


def _collect(store: Store, root: Path) -> list[str]:
    store.gc(grace=ZERO, keep_untagged=ZERO, force=True)
    return []


def _read(store: Store, root: Path) -> list[str]:
    repository = store.repository("app")
    if repository.get_manifest("before").content != image("before").manifest:
        return ["it is not what was pushed"]
    with store._core.catalog.read() as connection:
        return _torn(connection.execute(_TARGETS).scalar())


def _look(store: Store, root: Path) -> list[str]:
    try:
        with store._core.catalog.snapshot() as connection:
            first = connection.execute(_ANY).scalar()
            found = _torn(connection.execute(_TARGETS).scalar())
            return found + _torn(1 + (connection.execute(_ANY).scalar() != first))
    except StoreBusyError as error:
        return [] if "its locks were dropped" in str(error) else [repr(error)]


def _torn(targets: object) -> list[str]:
    return [] if targets == 1 else [f"tags that are only moved together point at {targets} manifests"]


_MANY = "FROM tags t JOIN repositories r ON r.id = t.repository_id WHERE r.name = 'many' AND t.name <> 'new'"
_TARGETS = Statement("targets", {"sqlite": f"SELECT count(DISTINCT t.manifest_id) {_MANY}"})
_ANY = Statement("any", {"sqlite": f"SELECT min(t.manifest_id) {_MANY}"})


def _close(store: Store, root: Path) -> list[str]:
    store.close()
    return []


def _open_another(store: Store, root: Path) -> list[str]:
    with Store.open(root) as second:
        push(second.repository("app"), image("second"), "second")
    return []


def _close_and_open(store: Store, root: Path) -> list[str]:
    store.close()
    with Store.open(root) as again:
        push(again.repository("app"), image("again"), "again")
    return []


WORKS = {
    "push": Work(_push, ("pushed",)),
    "transaction": Work(_transact, ("in-one", "as-well")),
    "gc": Work(_collect),
    "read": Work(_read),
    "snapshot": Work(_look),
    "close": Work(_close),
    "close and open": Work(_close_and_open, ("again",)),
    "open another": Work(_open_another, ("second",)),
}


def _push_and_close(store: Store, root: Path) -> None:
    push(store.repository("app"), image("theirs-too"), "theirs-too")
    store.close()


def _move_all_and_settle(store: Store, root: Path) -> None:
    with store.transaction() as transaction:
        for number in range(TAGS):
            transaction.repository("many").tag(_name(number), NEW.digest)
    with contextlib.suppress(StoreBusyError), store._core.catalog.locked():
        store._core.catalog.settle()
    push(store.repository("app"), image("theirs-too"), "theirs-too")  # into a WAL that begins anew, if it may


def _read_past_us(store: Store, root: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(root / "catalog.db", timeout=0.0)) as bare,
        contextlib.suppress(sqlite3.OperationalError),  # it does not wait for who closes
    ):
        bare.execute("SELECT count(*) FROM tags").fetchall()


def _open_and_close(store: Store, root: Path) -> None:
    with Store.open(root) as second:
        list(second.repositories())


DEEDS = {
    "closes": Deed(_close),
    "pushes and closes": Deed(_push_and_close, ("theirs-too",)),
    "moves all tags and the WAL": Deed(_move_all_and_settle, ("theirs-too",)),
    "reads by sqlite3": Deed(_read_past_us, locks=False, again=True),
    "opens and closes": Deed(_open_and_close, again=True),
}


def _name(number: int) -> str:
    return f"{number:04}-" + "n" * 100


# --- playing it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """When what is done to the one that stands still."""

    drop: Callable[[int], bool]
    """Whether its locks are dropped at a stop."""
    act: Callable[[int], bool]
    """Whether the other one does its deed at a stop, or as soon afterwards as it can."""


def at(dropped: int, acted: int) -> Plan:
    """Once each."""
    return Plan(lambda stop: stop == dropped, lambda stop: stop == acted)


def dropped_until(acted: int) -> Plan:
    """No lock outlasts a system call until the other one has acted."""
    return Plan(lambda stop: stop <= acted, lambda stop: stop == acted)


EVERYWHERE = Plan(lambda stop: True, lambda stop: True)
NOWHERE = Plan(lambda stop: False, lambda stop: False)


@dataclass
class Played:
    """What came of it."""

    stops: int = 0
    acts: int = 0
    wrong: list[str] = field(default_factory=list)


class Stage:
    """A store, and two processes, for one work and one deed."""

    def __init__(self, directory: Path, empty_store: Path) -> None:
        self._before = directory / "before"
        self._root = directory / "store"
        shutil.copytree(empty_store, self._before)
        (self._before / "reserved").touch()
        os.truncate(self._before / "reserved", 4096)
        with Store.open(self._before) as store:
            push(store.repository("app"), image("before"), "before")
            push(store.repository("doomed"), image("doomed"))
            store.repository("app").put_blob(b"of no use")
            push(store.repository("many"), OLD)
            push(store.repository("many"), NEW, "new")
            with store.transaction() as transaction:
                for number in range(TAGS):
                    transaction.repository("many").tag(_name(number), OLD.digest)

    def play(self, work: str, deed: str, plan: Plan, *, wrong_way: Callable[[], None] | None = None) -> Played:
        """Let one process do its work, with the other one's deed and the loss of locks as planned.

        Args:
            wrong_way: called in both processes, to make them work in a wrong way.
        """
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._before, self._root)
        played = Played()
        try:
            with (
                _Other(self._root, DEEDS[deed], wrong_way) as other,
                _Traced(self._root, WORKS[work], wrong_way) as one,
            ):
                for stop in one.stops():
                    played.stops += 1
                    if plan.drop(stop):
                        one.drop_locks()
                    other.wanted = other.wanted or plan.act(stop)
                    other.act_if_it_can()
                other.finish()
                played.acts = other.acts
                played.wrong += one.finish()
        except (RuntimeError, OCIStoreError) as error:
            played.wrong.append(str(error))
        tags = ["before", "mine", "theirs", *WORKS[work].tags, *(DEEDS[deed].tags if played.acts else ())]
        played.wrong += self._lost(tags)
        return played

    def _lost(self, tags: list[str]) -> list[str]:
        try:
            with Store.open(self._root) as store:
                repository = store.repository("app")
                found = set(repository.tags())
                lost = [f"{tag} was acknowledged and is gone" for tag in tags if tag not in found]
                for tag in found:
                    repository.get_manifest(tag)
                with store._core.catalog.read() as connection:
                    lost += _torn(connection.execute(_TARGETS).scalar())
            return lost + check(self._root, hashes=True, idle=False)
        except (OCIStoreError, sqlite3.Error) as error:
            return [f"the store cannot be used: {error!r}"]


class _Process:
    """One of both, forked; what it says is pickled."""

    def __init__(self) -> None:
        self._ask, self._answer = os.pipe(), os.pipe()
        self.id = os.fork()
        if self.id == 0:
            try:
                os.close(self._ask[1])
                os.close(self._answer[0])
                self._run()
            except BaseException:
                self._say(traceback.format_exc())
            finally:
                os._exit(0)
        os.close(self._ask[0])
        os.close(self._answer[1])

    def _run(self) -> None:
        raise NotImplementedError

    # In the process itself.

    def _say(self, what: object) -> None:
        os.write(self._answer[1], pickle.dumps(what))

    def _is_asked(self) -> bytes:
        return os.read(self._ask[0], 1)

    # In ours.

    def ask(self, what: bytes = b".") -> None:
        os.write(self._ask[1], what)

    def said(self, patience: float = _PATIENCE) -> object:
        """What it says; None where it says nothing for so long."""
        if not select.select([self._answer[0]], [], [], patience)[0]:
            if patience == _PATIENCE:
                raise RuntimeError("a process is stuck")
            return None
        answer = pickle.loads(os.read(self._answer[0], 1 << 16))
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def end(self) -> None:
        for descriptor in (self._ask[1], self._answer[0]):
            os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.id, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.id, _WALL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class _Other(_Process):
    """The one that does a deed."""

    def __init__(self, root: Path, deed: Deed, wrong_way: Callable[[], None] | None) -> None:
        self._root, self._deed, self._wrong_way = root, deed, wrong_way
        super().__init__()
        self.said()
        self.acts = 0
        self.wanted = False
        self._acting = False
        self._lock = os.open(root / "write.lock", os.O_RDWR)

    def _run(self) -> None:
        if self._wrong_way is not None:
            self._wrong_way()
        store = Store.open(self._root)
        push(store.repository("app"), image("theirs"), "theirs")
        if self._deed.again:
            store.close()
        self._say([])
        while self._is_asked():
            self._deed.do(store, self._root)
            self._say([])

    def act_if_it_can(self) -> None:
        """Let it do what is wanted of it, unless it would have to wait for the one that stands still."""
        if self._acting:
            self._acting = self.said(0.0) is None
        if not self.wanted or self._acting or (self.acts and not self._deed.again):
            return
        if self._deed.locks and not self._is_free():
            return
        self.wanted = False
        self.acts += 1
        self.ask()
        self._acting = self.said(_GLANCE) is None

    def _is_free(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return True

    def finish(self) -> None:
        """Wait for what it has begun."""
        self.act_if_it_can()
        if self._acting:
            self.said()

    def end(self) -> None:
        os.close(self._lock)
        super().end()


class _Traced(_Process):
    """The one that stands still."""

    def __init__(self, root: Path, work: Work, wrong_way: Callable[[], None] | None) -> None:
        self._root, self._work, self._wrong_way = root, work, wrong_way
        self._drop, self._dropped = os.pipe(), os.pipe()
        super().__init__()
        self.said()

    def _run(self) -> None:
        if self._wrong_way is not None:
            self._wrong_way()
        os.close(self._drop[1])
        os.close(self._dropped[0])
        store = Store.open(self._root)
        push(store.repository("app"), image("mine"), "mine")
        dropper = _sharing_files()
        if dropper == 0:
            self._drop_when_asked()
        self._say([])
        self._is_asked()
        signal.raise_signal(_MARK)
        found = self._work.do(store, self._root)
        signal.raise_signal(_MARK)
        self._say(found)
        self._is_asked()  # and then it ends, as if it were killed

    def _drop_when_asked(self) -> None:
        while os.read(self._drop[0], 1) == b".":
            for name in FILES:
                with contextlib.suppress(FileNotFoundError):
                    os.close(os.open(self._root / name, os.O_RDONLY))
            os.write(self._dropped[1], b".")
        os._exit(0)

    def stops(self) -> Iterator[int]:
        return _stops(self.id, self.ask)

    def drop_locks(self) -> None:
        os.write(self._drop[1], b".")
        os.read(self._dropped[0], 1)

    def finish(self) -> list[str]:
        found = self.said()
        assert isinstance(found, list)
        return found

    def end(self) -> None:
        os.write(self._drop[1], b"q")
        super().end()
        for descriptor in (*self._drop, *self._dropped):
            os.close(descriptor)
