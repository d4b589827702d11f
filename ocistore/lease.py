"""Leases: what is pushed or named inside the block of one is kept from garbage collection until it ends or runs out."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ocistore.arguments import check_lifetime
from ocistore.argumenttypes import checks_types
from ocistore.catalog import leases, repositories
from ocistore.catalog.contract import in_small_transactions
from ocistore.clock import instant
from ocistore.commit import on_a_full_disk
from ocistore.errors import LeaseExpiredError, ManifestNotFoundError, RepositoryNotFoundError
from ocistore.leasescope import HeldLease
from ocistore.oci.descriptor import digest_of
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oci.reference import repository_name
from ocistore.paging import pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ocistore.catalog.connection import Connection
    from ocistore.core import Core
    from ocistore.oci.descriptor import Descriptor

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
        _end(self._core, self.id)

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


@dataclass(frozen=True)
class LeaseInfo(JSONValue):
    """A lease that is in force."""

    id: str
    reason: str
    created: datetime
    expires: datetime
    manifests: int
    """How many manifests it keeps by themselves, each counted once for every repository. What these refer to is kept
    too, and not counted."""
    blobs: int
    """How many blobs it keeps likewise."""


def lease_infos(core: Core) -> Iterator[LeaseInfo]:
    """See :meth:`ocistore.Store.leases`."""

    def page(last: str, count: int) -> list[tuple[str, LeaseInfo]]:
        with core.catalog.read() as connection:
            rows = leases.page(connection, now=core.catalog.now(), after=last, limit=count)
        return [(row.id, _info(row)) for row in rows]

    return pages(page, "", None)


def _info(row: leases.CountedLease) -> LeaseInfo:
    return LeaseInfo(
        row.id, row.reason, instant(row.created), instant(row.expires), row.manifests, row.kept - row.manifests
    )


def end_lease(core: Core, lease: str) -> None:
    """See :meth:`ocistore.Store.end_lease`."""
    core.require_writable()
    with core.catalog.read() as connection:
        expires = leases.expires(connection, lease)
    if expires is None or expires <= core.catalog.now():
        raise LeaseExpiredError(lease)
    _end(core, lease)


def _end(core: Core, lease: str) -> None:
    """End it in many small transactions, because others wait in each. Killed between two, a collection ends it."""

    def end_some(connection: Connection) -> bool:
        return leases.end(connection, lease, now=core.catalog.now(), limit=leases.ENDED_AT_ONCE)

    def end() -> None:
        with core.catalog.write() as connection:
            leases.expire(connection, lease)
        in_small_transactions(core.catalog, end_some)

    on_a_full_disk(core.catalog, core.pool, end)


def scope_of(lease: Lease) -> HeldLease:
    """Return the inner side of a lease, as the parts of its store see it."""
    return lease._held


def _check(ttl: timedelta) -> None:
    check_lifetime(ttl, "a lease")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
