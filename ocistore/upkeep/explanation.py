"""Explaining why a manifest or blob is kept, or when a garbage collection may remove it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ocistore.arguments import GRACE, KEEP_UNTAGGED, check_duration
from ocistore.catalog import leases, relations, repositories
from ocistore.catalog.contract import in_snapshot
from ocistore.clock import instant
from ocistore.errors import BlobNotFoundError, RepositoryNotFoundError
from ocistore.oci.descriptor import Descriptor, digest_of
from ocistore.oci.digest import ALGORITHMS, Digest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oci.reference import Reference, repository_name
from ocistore.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from ocistore.catalog.connection import Connection
    from ocistore.core import Core

_HOLDERS: Final = 1000
"""How many manifests above a manifest are looked at; more than a few are rare."""

_SERVERS: Final = 10_000
"""How many repositories that serve it are looked through."""

_USERS: Final = 1000
"""How many manifests that refer to a blob are looked at, until enough of them last."""

_NAMED: Final = 10
"""How many reasons are named: one is enough to keep it."""


@dataclass(frozen=True)
class RepositoryExplanation(JSONValue):
    """What keeps a manifest or blob in one repository or, where none serves it, in the store."""

    repository: str | None
    kept_by: tuple[str, ...]
    """What keeps it, the first ten reasons; empty where nothing does."""
    due: datetime | None
    """The time from which it may be collected; None where something keeps it for as long as that exists."""


@dataclass(frozen=True)
class Explanation(JSONValue):
    """What keeps a manifest or blob, or when it may be collected."""

    digest: Digest
    repositories: tuple[RepositoryExplanation, ...]
    """One for each repository that was asked about and serves it; one for the store, where none serves it."""


def explain(
    core: Core,
    reference_or_digest: str | Descriptor,
    *,
    grace: timedelta = GRACE,
    keep_untagged: timedelta = KEEP_UNTAGGED,
) -> Explanation:
    """Say what keeps a manifest or blob; see :meth:`ocistore.Store.explain`."""
    check_duration(grace, "grace")
    check_duration(keep_untagged, "keep_untagged")
    repository: str | None = None
    if isinstance(reference_or_digest, Descriptor):
        wanted = digest_of(reference_or_digest, argument="reference_or_digest")
    elif "@" not in reference_or_digest and reference_or_digest.partition(":")[0] in ALGORITHMS:
        wanted = Digest.parse(reference_or_digest)
    else:
        reference = Reference.parse(reference_or_digest)
        repository = reference.repository
        wanted = reference.digest or Repository(core, repository).resolve(reference.target).digest

    def explained(connection: Connection) -> Explanation:
        explainer = _Explainer(connection, wanted, grace, keep_untagged, now=core.catalog.now())
        return Explanation(wanted, tuple(explainer.explain(repository)))

    return in_snapshot(core.catalog, explained)


class _Explainer:
    """Explains one digest in one state of the store."""

    def __init__(
        self, connection: Connection, digest: Digest, grace: timedelta, keep_untagged: timedelta, *, now: int
    ) -> None:
        self._connection = connection
        self._digest = digest
        self._grace = grace
        self._keep_untagged = keep_untagged
        self._began = now
        self._now = instant(self._began)

    def explain(self, repository: str | None) -> Iterator[RepositoryExplanation]:
        only = None if repository is None else repositories.find(self._connection, repository_name(repository))
        if repository is not None and only is None:
            raise RepositoryNotFoundError(repository)
        row = relations.row_of(self._connection, self._digest)
        servers = [] if row is None else relations.servers(self._connection, row.id, limit=_SERVERS)
        named = [(*each, repositories.name_of(self._connection, each[0])) for each in servers]
        served = [each for each in named if each[2] is not None and only in {None, each[0]}]
        if row is None or (only is not None and not served):
            raise BlobNotFoundError(self._digest, repository=repository)
        for repository_id, as_manifest, name in served:
            explain = self._manifest if as_manifest else self._blob
            lasting: list[str] = []
            ending: list[str] = []
            ends = [self._now]
            for text, until in explain(repository_id, row.id):
                (ending if until else lasting).append(text)
                ends += [until] if until else []
                if len(lasting) == _NAMED:
                    break
            reasons = (*lasting, *ending)[:_NAMED]
            yield RepositoryExplanation(name, reasons, None if lasting else max(ends))
        if not served:
            yield self._unserved(row)

    def _unserved(self, row: relations.BlobRow) -> RepositoryExplanation:
        if row.state == "absent":
            return RepositoryExplanation(None, ("a manifest names it; its bytes are not here",), None)
        if row.state == "condemned":
            return RepositoryExplanation(None, (), self._now)
        due = None if row.since is None else _later(instant(row.since), self._grace)
        return RepositoryExplanation(None, (), due)

    # Reasons, each with until when it holds; None where it does not end by itself.

    def _manifest(self, repository_id: int, manifest: int) -> Iterator[tuple[str, datetime | None]]:
        for holder in relations.holders(self._connection, repository_id, manifest, limit=_HOLDERS):
            above = "index" if holder.is_index else "subject"
            through = "" if holder.id == manifest else f"the {above} {holder.digest} keeps it, and has "
            if holder.tag is not None:
                yield f"{through}the tag {holder.tag}", None
            yield from self._leases(repository_id, holder.id, through)
            since = self._since(repository_id, holder.id, holder.since)
            if holder.tag is None and since is not None:
                until = _later(instant(since), self._keep_untagged)
                if until > self._now:
                    yield f"{through}lost what kept it, or was pushed, at {instant(since):%F %T} UTC", until

    def _blob(self, repository_id: int, blob: int) -> Iterator[tuple[str, datetime | None]]:
        users = relations.users(self._connection, repository_id, blob, limit=_USERS)
        for user in users:
            until = self._last_end(self._manifest(repository_id, user))
            if until is not None:
                until = _later(until, self._grace)  # which begins when the manifest is removed
            if until is None or until > self._now:
                yield f"the manifest {relations.digest_of(self._connection, user)} refers to it", until
        for namer in relations.naming_otherwise(self._connection, repository_id, blob, limit=_USERS):
            # That keeps no blob; but one counts as in use until whatever names it is removed.
            until = _later(self._now, self._grace)
            if until > self._now and self._last_end(self._manifest(repository_id, namer)) == self._now:
                yield f"the manifest {relations.digest_of(self._connection, namer)} names it until it is removed", until
        yield from self._leases(repository_id, blob, "")
        queued = relations.unreferenced_since(self._connection, repository_id, blob)
        since = self._since(repository_id, blob, queued)
        if not users and since is not None and (until := _later(instant(since), self._grace)) > self._now:
            yield f"it was pushed, or last in use, at {instant(since):%F %T} UTC", until

    def _last_end(self, reasons: Iterable[tuple[str, datetime | None]]) -> datetime | None:
        """Return until when these keep something: now where they do not.

        None where one of them does not end by itself.
        """
        last = self._now
        for _, until in reasons:
            if until is None:
                return None
            last = max(last, until)
        return last

    def _since(self, repository_id: int, blob: int, queued: int | None) -> int | None:
        """Return since when nothing refers to something: since now, where a lease kept it that has run out.

        Such a lease is ended by the next garbage collection, and what it alone kept begins to wait then.
        """
        if queued is not None:
            return queued
        named = leases.of_content(self._connection, repository_id, blob, now=-1)
        return self._began if any(lease.expires <= self._began for lease in named) else None

    def _leases(self, repository_id: int, blob: int, through: str) -> Iterator[tuple[str, datetime | None]]:
        for lease in leases.of_content(self._connection, repository_id, blob, now=self._began):
            reason = f" ({lease.reason})" if lease.reason else ""
            yield f"{through}the lease {lease.id}{reason}", instant(lease.expires)


def _later(at: datetime, by: timedelta) -> datetime:
    """Return a time, or the latest that a ``datetime`` can be: a grace of thousands of years means for ever."""
    return at + min(by, datetime.max.replace(tzinfo=UTC) - at)
