"""What a forked child must not inherit: locks whose holder is not in it, and objects that it must not close."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:

    class _RLock:  # the real one is final to mypy, and its method for forks unknown
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...  # noqa: FBT001, FBT002
        def release(self) -> None: ...
        def __enter__(self) -> bool: ...
        def __exit__(self, *_: object) -> None: ...
        def _at_fork_reinit(self) -> None: ...
        def _is_owned(self) -> bool: ...

else:
    _RLock = type(threading.RLock())


class ForkSafeLock(_RLock):
    """A lock between the threads of one process, free in every child. Used as a context manager.

    It is the interpreter's own: taking it and giving it up are one step each, which no interrupt comes between. A
    thread that holds it gets it again, so that a finalizer or a signal handler never waits for the thread that it
    interrupted; what it guards must bear that.
    """

    def __init__(self) -> None:
        _locks.add(self)

    def is_mine(self) -> bool:
        """Whether the calling thread holds it."""
        return self._is_owned()

    def renew(self) -> None:
        """Make it free, even if somebody holds it."""
        self._at_fork_reinit()


def make_immortal(thing: object) -> None:
    """Keep an object for ever, because it must not be closed, not even when the interpreter ends."""
    import ctypes  # noqa: PLC0415  (almost never needed)

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class Inherited(Protocol):
    """An object with descriptors that a forked child must let go of."""

    def let_go_in_child(self) -> None:
        """Let go of them; what is needed is opened again."""


def let_go_in_children(thing: Inherited) -> None:
    """Have every child let go of what ``thing`` holds, before anything else happens in it.

    A child that becomes a daemon closes every number that it does not know, and opens other files, which get them: what
    still believed in such a number would work with, and in the end close, a stranger's file.
    """
    _inherited.add(thing)


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


def renew_all() -> None:
    """Make all locks free, in a child, and let go of what it must not inherit."""
    for lock in list(_locks):
        lock.renew()
    for thing in list(_inherited):
        thing.let_go_in_child()


os.register_at_fork(after_in_child=renew_all)
