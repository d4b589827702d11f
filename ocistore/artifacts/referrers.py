"""The tree of referrers: what is about a manifest, what is about that, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ocistore import ArtifactInvalidError, Descriptor, Digest, Reference
from ocistore.argumenttypes import checks_types
from ocistore.oci.jsonvalue import JSONValue

if TYPE_CHECKING:
    from ocistore import Repository, Store

MAXIMUM_REFERRERS: Final = 100_000
"""How many referrers one tree may have. Their descriptors are held in memory, with their annotations."""


@dataclass(frozen=True)
class Referrer(JSONValue):
    """One manifest that is about another one."""

    descriptor: Descriptor
    """Its descriptor, with artifact type and annotations."""
    subject: Digest
    """What it is about."""
    depth: int
    """Steps from the root of the tree: 1 for what is about the root itself."""


@dataclass(frozen=True)
class ReferrerTree(JSONValue):
    """A manifest and all its referrers. A list, not trees in trees: it may be deeper than what can recurse."""

    root: Descriptor
    referrers: tuple[Referrer, ...]
    """All referrers: each before those that are about it, and these before its next sibling. Siblings are in byte
    order of digests."""

    def about(self, digest: str) -> tuple[Referrer, ...]:
        """Return the referrers whose subject is that manifest."""
        return tuple(referrer for referrer in self.referrers if referrer.subject == digest)


@checks_types
def discover(store: Store, reference: str, *, artifact_type: str | None = None) -> ReferrerTree:
    """Return the referrers of a manifest, to any depth.

    Args:
        store: where to look.
        reference: REPO:TAG or REPO@DIGEST; with both, the digest decides.
        artifact_type: only those of this type; what is about one of another type is not looked at.

    Raises:
        RepositoryNotFoundError, ManifestNotFoundError: there is no such manifest.
        InvalidNameError, InvalidDigestError: the reference is malformed, or has neither tag nor digest.
        ArtifactInvalidError: there are more than 100,000.
    """
    wanted = Reference.parse(reference)
    repository = store.repository(wanted.repository)
    root = repository.resolve(wanted.target)
    return ReferrerTree(root, referrers_of(repository, root.digest, artifact_type=artifact_type))


@checks_types
def referrers_of(
    repository: Repository, digest: Digest, *, artifact_type: str | None = None, seen: set[Digest] | None = None
) -> tuple[Referrer, ...]:
    """Return the referrers of a manifest, to any depth, in the order of :attr:`ReferrerTree.referrers`.

    Args:
        repository: where to look.
        digest: of the manifest, which need not be there.
        artifact_type: only those of this type; what is about one of another type is not looked at.
        seen: referrers to leave out, with what is about them; what is found is added. For callers that ask for several
            manifests: an index may be about what is in it, that too, and so on, and then the trees of all of them
            together would be quadratic.

    Raises:
        RepositoryNotFoundError: there is no such repository.
        ArtifactInvalidError: there are more than 100,000.
    """
    found: list[Referrer] = []
    seen = set() if seen is None else seen
    waiting = _about(repository, digest, 1, artifact_type)
    while waiting:
        referrer = waiting.pop()
        # A manifest has one subject and cannot be about itself; still, a hash is only as good as its algorithm.
        if referrer.descriptor.digest in seen or referrer.descriptor.digest == digest:
            continue
        if len(found) >= MAXIMUM_REFERRERS:
            raise ArtifactInvalidError(
                f"{repository.name}@{digest}", reason=f"it has more than {MAXIMUM_REFERRERS} referrers"
            )
        seen.add(referrer.descriptor.digest)
        found.append(referrer)
        waiting += _about(repository, referrer.descriptor.digest, referrer.depth + 1, artifact_type)
    return tuple(found)


def _about(repository: Repository, digest: Digest, depth: int, artifact_type: str | None) -> list[Referrer]:
    """Return the direct referrers, in reverse order."""
    about = repository.referrers(digest, artifact_type=artifact_type)
    return [Referrer(descriptor, digest, depth) for descriptor in reversed(about)]
