"""What garbage collection keeps, as one pure function of dictionaries: the model that its statements are compared with.

A manifest stays in its repository while something reaches it. Roots are what a tag points at, what a lease in force
names, and what lost its last keeper, or was pushed, less than ``keep_untagged`` ago. From a root everything is reached
that an index lists as a manifest, and every manifest whose subject is reached, within the repository. A ring without a
root keeps nothing.

A blob stays in its repository while a manifest there refers to it as a config or layer, a lease names it, or ``grace``
has not passed since it was pushed or needed. Bytes stay in the pool while a repository serves them as a blob or as a
manifest, and for ``grace`` after the last of them left.

All instants are milliseconds. ``None`` in place of one says that something refers to it, as far as anybody has looked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Contents:
    """One repository: what it serves, each with since when nothing has referred to it."""

    tags: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, int | None] = field(default_factory=dict)
    blobs: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class References:
    """What a manifest refers to, whether or not it is there."""

    manifests: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    subject: str | None = None


@dataclass(frozen=True)
class ModelLease:
    """What a lease names, as (repository, digest), and when it runs out."""

    expires: int
    names: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class ModelState:
    """A whole store."""

    repositories: Mapping[str, Contents] = field(default_factory=dict)
    references: Mapping[str, References] = field(default_factory=dict)
    """Of every manifest."""
    leases: Mapping[str, ModelLease] = field(default_factory=dict)
    pool: Mapping[str, int | None] = field(default_factory=dict)
    """Everything whose bytes are there, with since when no repository has served it."""


def collected(state: ModelState, *, now: int, grace: int, keep_untagged: int) -> ModelState:
    """Return what a complete garbage collection leaves of a store.

    Args:
        state: before it.
        now: when it runs; nothing else happens meanwhile.
        grace: how long blobs stay that nothing needs, in milliseconds.
        keep_untagged: how long manifests stay that nothing keeps, in milliseconds.
    """
    before = now - grace
    in_force = {key: lease for key, lease in state.leases.items() if lease.expires > now}
    leased = {name for lease in in_force.values() for name in lease.names}
    released = {name for key, lease in state.leases.items() if key not in in_force for name in lease.names}
    pool = dict(state.pool)
    repositories = {
        name: _collected(
            contents,
            state.references,
            leased={digest for repository, digest in leased if repository == name},
            released={digest for repository, digest in released if repository == name},
            now=now,
            before=before,
            untagged_before=now - keep_untagged,
            pool=pool,
        )
        for name, contents in state.repositories.items()
    }
    served = {digest for each in repositories.values() for digest in (*each.manifests, *each.blobs)}
    left = {
        digest: _in_queue(since, before)
        for digest, since in pool.items()
        if digest in served or since is None or since > before
    }
    references = {digest: each for digest, each in state.references.items() if digest in left}
    return ModelState(repositories, references, in_force, left)


def _collected(
    contents: Contents,
    references: Mapping[str, References],
    *,
    leased: set[str],
    released: set[str],
    now: int,
    before: int,
    untagged_before: int,
    pool: dict[str, int | None],
) -> Contents:
    """Return what is left of one repository, and note in ``pool`` since when it has not served what leaves it."""
    manifests = {digest: _released(digest, since, released, now) for digest, since in contents.manifests.items()}
    blobs = {digest: _released(digest, since, released, now) for digest, since in contents.blobs.items()}
    young = {digest for digest, since in manifests.items() if since is not None and since > untagged_before}
    roots = (young | leased | set(contents.tags.values())) & manifests.keys()
    kept = reached(roots, manifests, references)
    for digest in manifests.keys() - kept:
        # It was needed for as long as anything above it: that is what leaves with it, or before it.
        above = {other for other in manifests if digest in reached({other}, manifests, references)}
        pool[digest] = max(pool[digest] or 0, *(manifests[other] or 0 for other in above))
        for child in _everything(references[digest]) & blobs.keys():
            blobs[child] = now
    needed = leased.union(*(references[digest].blobs for digest in kept))
    left = {
        digest: _in_queue(since, before)
        for digest, since in blobs.items()
        if digest in needed or since is None or since > before
    }
    for digest in blobs.keys() - left.keys():
        pool[digest] = max(pool[digest] or 0, blobs[digest] or 0)
    return Contents(contents.tags, {digest: _in_queue(manifests[digest], untagged_before) for digest in kept}, left)


def reached(roots: Iterable[str], manifests: Iterable[str], references: Mapping[str, References]) -> frozenset[str]:
    """Return which manifests of a repository are reached from some of them, with those."""
    there = frozenset(manifests)
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += references[digest].manifests & there
            waiting += [other for other in there if references[other].subject == digest]
    return frozenset(found)


def _everything(references: References) -> frozenset[str]:
    subject = () if references.subject is None else (references.subject,)
    return references.manifests.union(references.blobs, subject)


def _released(digest: str, since: int | None, released: set[str], now: int) -> int | None:
    """Return since when nothing refers to something, once leases that have run out are ended."""
    return now if since is None and digest in released else since


def _in_queue(since: int | None, before: int) -> int | None:
    """Return since when nothing refers to something, once that was looked at which has not been needed since then."""
    return since if since is not None and since > before else None
