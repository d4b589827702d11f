"""Locks between threads, which a forked child must not inherit: whoever held one at that instant is not in it."""

from __future__ import annotations

import os
import threading
import weakref


class ThreadLock:
    """A lock between the threads of one process, free in every child. Used as a context manager."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Make it free, whoever held it."""
        self._lock = threading.Lock()


_locks: weakref.WeakSet[ThreadLock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_renew_all)
