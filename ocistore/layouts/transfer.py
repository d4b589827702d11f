"""What import, export and copy have in common: the report, what is held, which tags move, the changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from ocistore.catalog import blobs as blob_rows
from ocistore.catalog import manifests as manifest_rows
from ocistore.catalog import repositories
from ocistore.catalog import tags as tag_rows
from ocistore.catalog.contract import in_snapshot
from ocistore.changes import LinkBlob, PutBlob, PutManifest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oci.manifest import HELD_PARSED

if TYPE_CHECKING:
    from collections.abc import Collection

    from ocistore.blobs.pool import StagedBlob
    from ocistore.catalog.connection import Connection
    from ocistore.changes import Change, Missing, SetTag
    from ocistore.core import Core
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest

_LOOKED_UP_AT_ONCE: Final = 2000
"""How many blobs or tags are looked up in one statement, whose rows are held together."""


@dataclass(frozen=True)
class TransferReport(JSONValue):
    """What was imported, exported or copied; or, where it was a dry run, what would have been."""

    manifests: int
    blobs: int
    """Manifests not included."""
    bytes: int
    """Bytes of blobs and manifests, each counted once, whether or not they had to be written."""
    replaced: Mapping[str, str]
    """Digests of indexes that lost platforms, with those of the indexes that are in their place."""
    other_platforms: tuple[str, ...]
    """Names that were left out, because there is nothing of the wanted platforms."""
    referrers_left: int
    """How many manifests were left out that are about something imported, exported or copied, or about an index that
    lost platforms, to any depth: signatures, SBOMs, attestations."""
    dry_run: bool


def present(core: Core, sizes: Mapping[Digest, int]) -> frozenset[Digest]:
    """Return which of these blobs the store holds, whichever repository serves them."""
    found: list[Digest] = []
    left = iter(sizes.items())
    while some := dict(islice(left, _LOOKED_UP_AT_ONCE)):
        with core.catalog.read() as connection:
            live = blob_rows.live_sizes(connection, some)
        found += (digest for digest, size in some.items() if live.get(digest) == size and core.pool.has(digest, size))
    return frozenset(found)


def moved(core: Core, tags: Collection[SetTag]) -> tuple[str, ...]:
    """Return the tags that point at something else now than they are to, as REPO:TAG, in byte order."""
    wanted: dict[str, dict[str, Digest]] = {}
    for tag in tags:
        wanted.setdefault(tag.repository, {})[tag.name] = tag.digest

    def changing(connection: Connection) -> list[str]:
        found = []
        for repository, new in wanted.items():
            here = repositories.find(connection, repository)
            if here is not None:
                names = iter(new)
                while some := list(islice(names, _LOOKED_UP_AT_ONCE)):
                    old = tag_rows.targets(connection, here, some)
                    found += [f"{repository}:{name}" for name, target in old.items() if target.digest != new[name]]
        return found

    return tuple(sorted(in_snapshot(core.catalog, changing)))


def still_absent(core: Core, absent: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the absent children, by repository, that it does not hold either; by digest."""

    def lacking(connection: Connection) -> dict[str, str]:
        found: dict[str, str] = {}
        for repository, kinds in absent.items():
            here = repositories.find(connection, repository)
            known = {} if here is None else manifest_rows.children(connection, here, kinds)
            for digest, kind in kinds.items():
                child = known.get(digest)
                if child is None or not (child.manifest_here or child.blob_here):
                    found.setdefault(digest, kind)
        return found

    return dict(sorted(in_snapshot(core.catalog, lacking).items()))


def stage_manifests(
    core: Core, manifests: Mapping[str, Mapping[Digest, Manifest]], staged: dict[Digest, StagedBlob]
) -> None:
    """Add to ``staged`` every manifest whose bytes are not there already, as those of a layer may be.

    Where they are many, they are read from there from then on, and not held in memory; see :func:`take_back`.
    """
    pool = core.pool

    def read(manifest: Descriptor) -> bytes:
        with pool.open_staged(staged[manifest.digest]) as reader:
            return reader.read()

    parsed = 0
    for held in manifests.values():
        for digest, manifest in held.items():
            if digest not in staged:
                staged[digest] = pool.stage(manifest.content, digest=digest, size=manifest.descriptor.size)
                parsed += manifest.edge_count
                if parsed > HELD_PARSED:
                    manifest.put_aside(read)


def take_back(manifests: Mapping[str, Mapping[Digest, Manifest]]) -> None:
    """Hold all bytes in memory again, because what was staged is about to be discarded, and staged once more."""
    for held in manifests.values():
        for manifest in held.values():
            manifest.take_back()


def changes(
    blobs: Mapping[str, Mapping[Digest, int]],
    manifests: Mapping[str, Mapping[Digest, Manifest]],
    tags: Collection[SetTag],
    staged: Mapping[Digest, StagedBlob],
    *,
    missing: Missing,
    said: Mapping[tuple[str, Digest], str | None],
) -> list[Change]:
    """Return the changes to be committed.

    Args:
        blobs: by repository, with their sizes; those that are not staged are held by the store.
        manifests: by repository, children before parents; all of them staged.
        tags: in any order.
        staged: by digest.
        missing: what the manifests may lack.
        said: what is said besides of manifests that come without a tag, by repository and digest.
    """
    found: list[Change] = []
    for repository, sizes in blobs.items():
        for digest, size in sizes.items():
            blob = staged.get(digest)
            found.append(LinkBlob(repository, digest, size) if blob is None else PutBlob(repository, blob))
    for repository, held in manifests.items():
        found += [
            PutManifest(repository, manifest, staged[digest], missing, said.get((repository, digest)))
            for digest, manifest in held.items()
        ]
    return [*found, *tags]
