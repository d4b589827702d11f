"""Forks.

SQLite remembers in the process's memory which locks it holds on a file; a child gets that memory and not the locks. A
child's own connections would trust it, and commit into a WAL that the parent's close deletes. So no connection is open
at the instant of a fork: uses are waited for and not begun, every connection is closed, and both sides open new ones.

What a child may use it decides by what it finds, not by what was said before the fork: where a connection was open, or
in use, the file is the parent's for ever, and the child neither uses nor closes what it has of it. So it does not
matter whether the hooks ran to their end, were interrupted, or were passed by (``fork`` called from C, as uWSGI does).
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from ocistore import forks
from ocistore.catalog import lock
from ocistore.catalog.sqliteerrors import BUSY_TIMEOUT
from ocistore.errors import OCIStoreError, StoreBusyError
from ocistore.refusals import Ignoring

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Protocol

    class Forkable(Protocol):
        """What :class:`ocistore.catalog.database.Database` is here."""

        def prepare_for_fork(self, *, deadline: float) -> None: ...  # noqa: D102  (said there)
        def after_fork_in_child(self) -> None: ...  # noqa: D102
        def close_at_exit(self) -> None: ...  # noqa: D102


_POLL: Final = 0.0005
_ATTEMPTS: Final = 100
"""How many interrupts one preparation bears."""


class Gate:
    """What keeps uses from beginning while a fork is prepared and happens."""

    def __init__(self) -> None:
        self.closed_by: int | None = None
        """The thread that forks."""

    def is_open(self) -> bool:
        """Whether uses may begin."""
        return self.closed_by is None

    def wait(self) -> None:
        """Wait until it is open.

        The thread that forks finds it closed only where its hook was interrupted, or in a signal handler in the middle
        of it: then it opens it. The hook looks again, and a child looks for itself.
        """
        me = threading.get_ident()
        while (by := self.closed_by) is not None:
            if by == me or by not in sys._current_frames():
                self.closed_by = None
            else:
                time.sleep(_POLL)


gate = Gate()
_registries: list[Mapping[Any, Forkable]] = []


def follow(registry: Mapping[Any, Forkable]) -> None:
    """Prepare what is in the registry for every fork, and close what is left in it when the interpreter ends."""
    _registries.append(registry)


def inherited() -> StoreBusyError:
    """Return the error with which a child is refused a file that it may not use."""
    return StoreBusyError(
        "the store",
        waited=0.0,
        reason="it was in use when this process was forked, or the fork was made past Python (from C): open it after"
        " such a fork, close it before, or run another program in the child",
    )


def adopt() -> None:
    """Begin anew in a child that was forked past Python's hooks, for files that were not open at that instant."""
    if _process.number != os.getpid():
        _after_fork_in_child()
        forks.renew_all()
        lock.after_fork_in_child()


class _Process:
    """The process that this module works for; a child forked past the hooks finds its parent's number."""

    def __init__(self) -> None:
        self.number = os.getpid()


_process = _Process()


def _everything() -> Iterable[Forkable]:
    return [each for registry in _registries for each in tuple(registry.values())]


def _before_fork() -> None:
    """Prepare. An exception that a signal handler raises meanwhile is kept for the end: Python forks all the same."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    raised: BaseException | None = None
    for _ in range(_ATTEMPTS):
        try:
            _prepare(deadline)
            break
        except BaseException as error:  # noqa: BLE001  (raised below)
            raised = error
    if raised is not None:
        raise raised


def _prepare(deadline: float) -> None:
    gate.closed_by = threading.get_ident()
    for each in _everything():
        # One that fails is refused to the child, and costs the others nothing.
        with Ignoring(OCIStoreError, OSError, ValueError, sqlite3.Error):
            each.prepare_for_fork(deadline=deadline)
    if gate.is_open():  # opened by a signal handler that used a store
        _prepare(deadline)


def _after_fork_in_parent() -> None:
    gate.closed_by = None


def _after_fork_in_child() -> None:
    for each in _everything():
        each.after_fork_in_child()
    gate.closed_by = None
    _process.number = os.getpid()


def _at_exit() -> None:
    """Close what was not closed, without waiting for anybody. What is still in use then is left to the kernel."""
    for each in _everything():
        with Ignoring(OCIStoreError, OSError, ValueError, sqlite3.Error):
            each.close_at_exit()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
