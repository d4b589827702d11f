"""The changes that a commit is made of, as values: what each is, and nothing of how it is applied.

Every change of a store, by one call on a repository, a transaction of many or an import, is a list of these values;
``applier.py`` applies them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection

    from ocistore.blobs.pool import StagedBlob
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest


class AnyValue(enum.Enum):
    """The type of :data:`ANY`."""

    ANY = "any"


ANY: Final = AnyValue.ANY
"""For a tag's ``expected``: accept any state, whether or not the tag exists."""


Missing: TypeAlias = Literal["refuse", "children", "all"]
"""What a manifest may lack in its repository: with ``refuse``, nothing; with ``children``, an index may lack some of
its children, and not all of them; with ``all`` everything. A subject and foreign layers may always be absent."""


@dataclass(frozen=True, slots=True)
class PutBlob:
    """Let a repository serve a staged blob."""

    repository: str
    blob: StagedBlob


@dataclass(frozen=True, slots=True)
class LinkBlob:
    """Let a repository serve a blob of the pool, whose bytes the caller has read and verified elsewhere."""

    repository: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class MountBlob:
    """Let a repository serve a blob that another one serves."""

    repository: str
    digest: Digest
    source: str


@dataclass(frozen=True, slots=True)
class MountManifest:
    """Let a repository serve a manifest that another one serves, of which it has all that the other one has."""

    repository: str
    digest: Digest
    source: str


@dataclass(frozen=True, slots=True)
class DeleteBlob:
    """Remove a blob that nothing refers to from a repository."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class PutManifest:
    """Store a checked manifest whose bytes are staged."""

    repository: str
    manifest: Manifest
    blob: StagedBlob
    missing: Missing = "refuse"
    entry: str | None = None
    """What the index.json that listed it without a tag said of it besides."""


@dataclass(frozen=True, slots=True)
class DeleteManifest:
    """Remove a manifest that no index refers to, and its tags, from a repository."""

    repository: str
    digest: Digest
    since: int | None = None
    """Since when its referrers are queued for garbage collection, where very many of them were queued beforehand."""


@dataclass(frozen=True, slots=True)
class SetTag:
    """Point a tag at a manifest of its repository, if it is as expected."""

    repository: str
    name: str
    digest: Digest
    expected: Digest | AnyValue | None = ANY
    entry: str | None = None
    """What the index.json that it comes from said of it besides; None leaves what was said, unless the tag moves."""


@dataclass(frozen=True, slots=True)
class RemoveTag:
    """Remove a tag."""

    repository: str
    name: str


@dataclass(frozen=True, slots=True)
class EndUpload:
    """End an upload session; its file is removed elsewhere."""

    repository: str
    upload: str


@dataclass(frozen=True, slots=True)
class DeleteRepository:
    """Delete a repository with everything it holds."""

    repository: str


Change: TypeAlias = (
    PutBlob
    | LinkBlob
    | MountBlob
    | MountManifest
    | DeleteBlob
    | PutManifest
    | DeleteManifest
    | SetTag
    | RemoveTag
    | EndUpload
    | DeleteRepository
)


MOUNTS: Final = (MountBlob, MountManifest)
"""What comes from another repository."""


def concerned(changes: Collection[Change]) -> frozenset[str]:
    """Return the names of all repositories that changes read or write."""
    names = {change.repository for change in changes}
    return frozenset(names | {change.source for change in changes if isinstance(change, MOUNTS)})
