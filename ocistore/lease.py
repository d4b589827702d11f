"""Leases: what is pushed or named while one is held is kept from collection until it ends or runs out."""

from __future__ import annotations

import os
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ocistore.catalog import leases, repositories
from ocistore.commit import milliseconds, on_a_full_disk
from ocistore.errors import LeaseExpiredError, ManifestNotFoundError, RepositoryNotFoundError
from ocistore.forks import ThreadLock
from ocistore.oci.digest import Digest
from ocistore.oci.reference import repository_name

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ocistore.store import Store

MAXIMUM_TTL: Final = timedelta(days=36_500)
"""A hundred years: there an instant is one that ``datetime`` has, even where the clock is wrong by thousands."""

_REST: Final = 0.5
"""How long to leave the lock to others after a transaction, as a part of the time it took."""


class Lease:
    """What happens inside ``with store.lease(ttl=...)``, in any thread, through that store object.

    Every blob and manifest that is pushed, mounted, imported or asked for with ``stat_blob`` meanwhile is kept by its
    repository, and with a manifest all that it refers to, until the block ends. If the process dies instead, until the
    lease runs out: it is a row, and survives a power cut.

    Attributes:
        id: what a collection's explanation calls it.
        expires: when it runs out.
    """

    id: str
    expires: datetime

    def __init__(self, store: Store, *, ttl: timedelta, reason: str) -> None:
        """Others go through :meth:`Store.lease`."""
        _check(ttl)
        if not isinstance(reason, str) or not _is_text(reason):
            raise ValueError(f"the reason of a lease must be text that UTF-8 can hold, not {reason!a:.100}")
        self._store = store
        self._ttl = ttl
        self._reason = reason
        self._process = os.getpid()
        self._mutex = ThreadLock()
        self._entered = False
        self.id = secrets.token_hex(16)

    def __enter__(self) -> Self:
        """Begin it.

        Raises:
            ValueError: it was begun before. What two blocks keep needs two leases.
            OCIStoreError: the store could not be written.
        """
        with self._mutex:
            if self._entered:
                raise ValueError(f"the lease {self.id} was begun before: make another one")
            self._start()
            self._entered = True
        self._store.leases.add(self.id)
        return self

    def _start(self) -> None:
        now = milliseconds()
        with self._store.catalog.write() as connection:
            leases.start(connection, leases.Lease(self.id, self._reason, now, self._until(now, self._ttl)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process != os.getpid():
            return  # a forked child leaves the block too: the lease is its parent's
        self._store.leases.discard(self.id)
        on_a_full_disk(self._store.pool, self._end)

    def _end(self) -> None:
        """In many small transactions, because others wait in each. Killed between two, a collection ends it."""
        with self._store.catalog.write() as connection:
            leases.expire(connection, self.id)
        ended = False
        while not ended:
            with self._store.catalog.write() as connection:
                began = time.monotonic()
                ended = leases.end(connection, self.id, now=milliseconds(), limit=leases.ENDED_AT_ONCE)
            # Who waits is woken when the lock is given up, and has lost it again if we take it before they run.
            if not ended:
                time.sleep((time.monotonic() - began) * _REST)

    def __repr__(self) -> str:
        return f"<Lease {self.id} {self._reason!r}>"

    def renew(self, ttl: timedelta | None = None) -> None:
        """Let it run for ``ttl`` from now, or as long again as it was made for.

        Raises:
            LeaseExpiredError: it has ended or run out, and what it kept may be gone.
        """
        now = milliseconds()
        wanted = self._ttl if ttl is None else ttl
        _check(wanted)
        with self._store.catalog.write() as connection:
            renewed = leases.renew(connection, self.id, now=now, expires=self._until(now, wanted))
        if not renewed:
            raise LeaseExpiredError(self.id)

    def keep(self, repository: str, digest: str) -> None:
        """Keep a blob or manifest that a repository serves already, with everything the manifest refers to.

        Raises:
            RepositoryNotFoundError: there is no such repository.
            ManifestNotFoundError: it serves neither a manifest nor a blob of that digest.
            LeaseExpiredError: the lease has ended or run out.
        """
        name, wanted = repository_name(repository), Digest.parse(digest)
        with self._store.catalog.write() as connection:
            repository_id = repositories.find(connection, name)
            if repository_id is None:
                raise RepositoryNotFoundError(name)
            if not leases.in_force(connection, self.id, now=milliseconds()):
                raise LeaseExpiredError(self.id)
            if not leases.keep(connection, self.id, repository_id, [wanted]):
                raise ManifestNotFoundError(wanted, repository=name)

    def _until(self, now: int, ttl: timedelta) -> int:
        expires = now + ttl // timedelta(milliseconds=1)
        self.expires = datetime.fromtimestamp(expires / 1000, UTC)
        return expires


def _check(ttl: timedelta) -> None:
    if ttl <= timedelta(0):
        raise ValueError(f"a lease must last longer than {ttl}")
    if ttl > MAXIMUM_TTL:
        raise ValueError(f"a lease must not last longer than {MAXIMUM_TTL.days} days")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
