"""Which leases the running work holds: what a commit asks before it relies on content staying."""

from __future__ import annotations

import os
import secrets
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ocistore.catalog import leases
from ocistore.errors import LeaseExpiredError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_held: ContextVar[tuple[HeldLease, ...]] = ContextVar("ocistore_leases", default=())
"""The leases that the running work holds, of any store.

A context variable, because a lease belongs to the work inside its block and not to a thread or a store: a task of
asyncio has it from the task that made it, as has code run in a copied context; others who use the same store do not.
"""


def held(owner: object) -> tuple[HeldLease, ...]:
    """Return the leases that the running work holds through one open store, outermost first."""
    entered = _held.get()
    return tuple(lease for lease in entered if lease.belongs_to(owner)) if entered else ()


class HeldLease:
    """A lease as the parts of an open store see it: what it keeps, and whether it is in force.

    Attributes:
        id: what the catalog and a garbage collection's explanation call it.
        ended: whether its block was left.
    """

    def __init__(self, owner: object) -> None:
        """Make one that has not begun; ``owner`` is the open store through which content is stored."""
        self.id = secrets.token_hex(16)
        self.ended = False
        self._owner = owner
        self._process = os.getpid()

    def enter_context(self) -> None:
        """Let the running work hold it, once more where it holds it already."""
        # An ended lease is dropped: its block was entered in one context and left in another.
        _held.set((*(lease for lease in _held.get() if not lease.ended), self))

    def leave_context(self) -> None:
        """Undo the latest :meth:`enter_context`. Do nothing where the running work does not hold it."""
        # Not with a token: a generator may be closed in another context than it was begun in.
        remaining = list(_held.get())
        if self in remaining:
            remaining.reverse()
            remaining.remove(self)  # the innermost use
            remaining.reverse()
            _held.set(tuple(remaining))

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that made it."""
        return self._process != os.getpid()

    def belongs_to(self, owner: object) -> bool:
        """Whether it is to keep what is pushed through ``owner``: it was made by it, and has not ended."""
        return self._owner is owner and not self.ended

    def keep_all(self, connection: Connection, repository_id: int, digests: Iterable[str], *, now: int) -> None:
        """Keep content that a write transaction brings into a repository.

        A lease that was properly ended meanwhile, as while the bytes were written, keeps nothing, without an error.

        Raises:
            LeaseExpiredError: it has run out.
        """
        if self._is_to_keep(leases.expires(connection, self.id), now=now):
            leases.keep(connection, self.id, repository_id, digests)

    def lacks(self, connection: Connection, repository: str, digest: str, *, now: int) -> bool:
        """Whether it still has to keep something that a repository serves. Reads one row.

        Raises:
            LeaseExpiredError: it has run out.
        """
        expires, keeps = leases.standing(connection, self.id, repository, digest)
        return self._is_to_keep(expires, now=now) and not keeps

    def is_in_force(self, expires: int | None, *, now: int) -> bool:
        """Whether a lease whose row expires then (milliseconds since the epoch; None without a row) keeps anything."""
        return expires is not None and expires > now

    def _is_to_keep(self, expires: int | None, *, now: int) -> bool:
        if self.is_in_force(expires, now=now):
            return True
        # A forked child does not see its parent leave the block, but finds that the lease has ended.
        if self.ended or (self.is_inherited and expires in {None, leases.ENDED}):
            return False
        raise LeaseExpiredError(self.id)
