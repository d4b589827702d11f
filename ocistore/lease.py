"""Leases: what is pushed or named inside the block of one is kept from garbage collection until it ends or runs out."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ocistore.arguments import require_duration
from ocistore.argumenttypes import checks_types
from ocistore.catalog import leases, repositories
from ocistore.catalog.contract import in_small_transactions
from ocistore.clock import instant
from ocistore.commit import on_a_full_disk
from ocistore.errors import LeaseExpiredError, ManifestNotFoundError, RepositoryNotFoundError
from ocistore.leasescope import HeldLease
from ocistore.oci.descriptor import digest_of
from ocistore.oci.reference import repository_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ocistore.catalog.connection import Connection
    from ocistore.core import Core
    from ocistore.oci.descriptor import Descriptor

MAXIMUM_TTL: Final = timedelta(days=36_500)
"""A hundred years: such an instant is one that ``datetime`` has, even where the clock is wrong by thousands."""

_MILLISECOND: Final = timedelta(milliseconds=1)


@checks_types
class Lease:
    """Keeps what is pushed inside ``with store.lease(ttl=...)`` from garbage collection, through that store object.

    Every blob and manifest that is pushed, mounted, imported or asked for with ``stat_blob`` inside is kept by its
    repository, and with a manifest all that it refers to, until the block ends; if the process dies instead, until the
    lease runs out. A lease survives a power cut.

    Inside is the work of the block: its own code, the tasks of asyncio that it makes, what it runs with
    ``asyncio.to_thread`` or in a copied context, and what another thread does in ``with lease.use()``. Other threads
    that use the same store object are neither kept by it nor refused when it has run out. A process that is forked
    inside works under it too, until it leaves the block or the lease ends.

    Leases may be nested: what is pushed is then kept by each of them.

    Attributes:
        id: its name in the explanation of why something is kept.
        expires: when it runs out; known once it has begun.
    """

    id: str
    expires: datetime

    def __init__(self, core: Core, *, ttl: timedelta, reason: str) -> None:
        """Make a lease that has not begun; :meth:`Store.lease` is how others get one."""
        _check(ttl)
        if not isinstance(reason, str) or not _is_text(reason):
            raise ValueError(f"the reason of a lease must be text that UTF-8 can hold, not {reason!a:.100}")
        self._core = core
        self._ttl = ttl
        self._reason = reason
        self._held = HeldLease(core)
        self._unused = [True]
        """Empty once it was begun: taking the only element is one step, even if others try."""
        self.id = self._held.id

    def __enter__(self) -> Self:
        """Begin it. It is durable when this returns: after a crash it lasts until it runs out.

        Raises:
            ValueError: it was begun before. What two blocks keep needs two leases.
            OCIStoreError: the store could not be written.
        """
        try:
            self._unused.pop()
        except IndexError:
            raise ValueError(f"the lease {self.id} was begun before: make another one") from None
        try:
            self._start()
        except BaseException:
            self._unused.append(True)
            raise
        self._held.enter_context()
        return self

    def _start(self) -> None:
        with self._core.catalog.write() as connection:
            now = self._core.catalog.now()  # not before: others may have held the lock for longer than this is to last
            until = now + self._ttl // _MILLISECOND
            leases.start(connection, leases.LeaseRow(self.id, self._reason, now, until))
        self.expires = instant(until)

    def __exit__(self, *_: object) -> None:
        self._held.leave_context()
        if self._held.is_inherited:
            return  # a forked child leaves the block too: the lease is its parent's
        self._held.ended = True
        on_a_full_disk(self._core.catalog, self._core.pool, self._end)

    @contextlib.contextmanager
    def use(self) -> Iterator[Self]:
        """Do what is inside under this lease too: for a thread, which does not inherit it from the one that made it.

        A thread of a pool needs this too, and what runs in the executor of an event loop; ``asyncio.to_thread``
        inherits the lease of its task::

            def push(content):
                with lease.use():
                    return repository.put_blob(content)

            with store.lease(ttl=timedelta(hours=1)) as lease, ThreadPoolExecutor() as executor:
                pushed = list(executor.map(push, contents))

        Any number of threads may do so at once. The lease still ends with its own block; what a thread pushes after
        that is not kept, and not refused.

        Raises:
            ValueError: it has not begun, or has ended.
        """
        if self._unused or self._held.ended:
            raise ValueError(f"the lease {self.id} has {'ended' if self._held.ended else 'not begun'}")
        self._held.enter_context()
        try:
            yield self
        finally:
            self._held.leave_context()

    def _end(self) -> None:
        """End it in many small transactions, because others wait in each. Killed between two, a collection ends it."""
        with self._core.catalog.write() as connection:
            leases.expire(connection, self.id)

        def end(connection: Connection) -> bool:
            return leases.end(connection, self.id, now=self._core.catalog.now(), limit=leases.ENDED_AT_ONCE)

        in_small_transactions(self._core.catalog, end)

    def __repr__(self) -> str:
        return f"<Lease {self.id} {self._reason!r}>"

    def renew(self, ttl: timedelta | None = None) -> None:
        """Let it run for ``ttl`` from now, or as long again as it was made for.

        Atomic, and durable when it returns. Not idempotent: each call begins the time again.

        Raises:
            LeaseExpiredError: it has ended or run out, and what it kept may be gone.
            OCIStoreError: the store could not be written. ``expires`` is then what it was.
        """
        wanted = self._ttl if ttl is None else ttl
        _check(wanted)
        with self._core.catalog.write() as connection:
            now = self._core.catalog.now()
            until = now + wanted // _MILLISECOND
            if not leases.renew(connection, self.id, now=now, expires=until):
                raise LeaseExpiredError(self.id)
        self.expires = instant(until)

    def keep(self, repository: str, digest: str | Descriptor) -> None:
        """Keep a blob or manifest that a repository serves already, with everything the manifest refers to.

        Idempotent, atomic, and durable when it returns.

        Raises:
            RepositoryNotFoundError: there is no such repository.
            ManifestNotFoundError: it serves neither a manifest nor a blob of that digest.
            LeaseExpiredError: the lease has ended or run out.
        """
        name, wanted = repository_name(repository), digest_of(digest, argument="digest")
        with self._core.catalog.write(repositories={name}) as connection:
            repository_id = repositories.find(connection, name)
            if repository_id is None:
                raise RepositoryNotFoundError(name)
            if not self._held.is_in_force(leases.expires(connection, self.id), now=self._core.catalog.now()):
                raise LeaseExpiredError(self.id)
            if not leases.keep(connection, self.id, repository_id, [wanted]):
                raise ManifestNotFoundError(wanted, repository=name)


def scope_of(lease: Lease) -> HeldLease:
    """Return the inner side of a lease, as the parts of its store see it."""
    return lease._held


def _check(ttl: timedelta) -> None:
    require_duration(ttl, "ttl")
    if not ttl:
        raise ValueError(f"a lease must last longer than {ttl}")
    if ttl > MAXIMUM_TTL:
        raise ValueError(f"a lease must not last longer than {MAXIMUM_TTL.days} days")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
