"""What a layout lacks of a graph, and which children an index may lack.

An index is imported although children of it are absent: what Docker, ctr and nerdctl save of an image that was pulled
for one platform is such a sparse index. It needs one child that is there; and where it lists images, one of them,
because an attestation alone is about nothing. A child whose manifest is there and whose config or layers are not is
damaged, and not absent. A child of which nothing can be read here, because it speaks of digests of other algorithms or
of kinds that are none, is as good as absent.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.layouts.directory import NotPlainError
from ocistore.oci import mediatypes
from ocistore.oci.manifest import ATTESTED, kind_of
from ocistore.oci.platforms import is_wanted
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from ocistore.layouts.imports.manifests import Manifests
    from ocistore.layouts.imports.source import Source
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest


_TOLD_AT_MOST: Final = 50
"""Images that are looked at for what could be chosen: it is compared with everything that is damaged."""


class Lack(NamedTuple):
    """Something that does not exist."""

    digest: Digest
    kind: str
    """What it is, such as ``layer of the image for linux/arm64``; empty for the root of a graph."""
    damage: bool = False
    """Something is there that cannot do without it."""


class Wholeness:
    """Finds what is missing of the manifests of one layout, each of which is looked at once."""

    def __init__(self, source: Source, manifests: Manifests) -> None:
        """Look for blobs in ``source``.

        What is wrong with a manifest is noted by ``manifests``, and is not missing.
        """
        self._source = source
        self._manifests = manifests
        self._lacks: dict[Digest, tuple[Lack, ...]] = {}
        self._sizes: dict[Digest, int | None] = {}
        """The sizes of blobs that were looked for; None for those that do not exist."""

    def lacks(self, root: Descriptor) -> tuple[Lack, ...]:
        """Return what is missing of a graph, because of which it cannot be imported. Without recursion."""
        pending: list[tuple[Descriptor, Manifest | None]] = [(root, None)]
        while pending:
            descriptor, manifest = pending.pop()
            if manifest is not None:
                self._lacks[descriptor.digest] = self._of_manifest(manifest)
                continue
            if not mediatypes.is_known_manifest(descriptor.media_type):
                continue
            manifest = self._manifests.get(descriptor)  # also where it is known: this descriptor may say another size
            if descriptor.digest in self._lacks:
                continue
            if manifest is None:
                absent = self._manifests.is_absent(descriptor.digest) or descriptor.digest in self._manifests.unknown
                self._lacks[descriptor.digest] = (Lack(descriptor.digest, ""),) if absent else ()
                continue
            self._lacks[descriptor.digest] = ()
            pending.append((descriptor, manifest))
            pending += [(child, None) for child in manifest.manifests]
        return self._of_child(root)

    def here(self, child: Descriptor) -> bool:
        """Whether a child of an index exists, damaged or not."""
        lacks = self.lacks(child)
        return not lacks or any(lack.damage for lack in lacks)

    def _of_child(self, child: Descriptor) -> tuple[Lack, ...]:
        if mediatypes.is_known_manifest(child.media_type):
            return self._lacks[child.digest]
        return () if self._has(child.digest) else (Lack(child.digest, ""),)

    def _of_manifest(self, manifest: Manifest) -> tuple[Lack, ...]:
        if mediatypes.is_index_type(manifest.media_type):
            return self._of_index(manifest)
        return tuple(
            Lack(edge.descriptor.digest, edge.role, damage=True)
            for edge in manifest.edges()
            if edge.required and not self._has(edge.descriptor.digest)
        )

    def _of_index(self, index: Manifest) -> tuple[Lack, ...]:
        lacking = [(child, lacks) for child in index.manifests if (lacks := self._of_child(child))]
        if not lacking:
            return ()
        absent = {child.digest for child, _ in lacking}
        is_damaged = any(lack.damage for _, lacks in lacking for lack in lacks)
        images = [child for child in index.manifests if ATTESTED not in child.annotations]
        is_sparse = any(child.digest not in absent for child in images or index.manifests)
        if is_sparse and not is_damaged:
            return ()
        found: dict[Digest, Lack] = {}
        for child, lacks in lacking:
            for lack in lacks:
                if is_sparse and not lack.damage:
                    continue
                found.setdefault(lack.digest, lack._replace(kind=_within(lack.kind, child)))
        return tuple(found.values())

    def size(self, digest: Digest) -> int:
        """Return the size of a blob in bytes; the source is asked once.

        Raises what :meth:`ocistore.layouts.imports.source.SourceFile.size` does.
        """
        if digest not in self._sizes:
            try:
                self._sizes[digest] = self._source.blob(digest).size()
            except FileNotFoundError as error:
                pass_on_theirs(error)
                self._sizes[digest] = None
        size = self._sizes[digest]
        if size is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(digest))
        return size

    def _has(self, digest: Digest) -> bool:
        """Whether something is there, whether or not it is what it should be: what is wrong is not missing."""
        try:
            self.size(digest)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return False
        except (OSError, NotPlainError) as error:
            pass_on_theirs(error)
            return True
        return True


def absent_children(index: Manifest, wholeness: Wholeness) -> dict[Digest, str]:
    """Return the children that an index which is imported lacks, each with what it is."""
    return {child.digest: kind_of(child) for child in index.manifests if not wholeness.here(child)}


def whole_platforms(index: Manifest, wholeness: Wholeness) -> list[str]:
    """Return the platforms that can be chosen of an index, in order: what is then left of it and exists is complete."""
    images = [child for child in index.manifests if ATTESTED not in child.annotations]
    damaged: set[str] = set()
    for child in index.manifests:
        if any(lack.damage for lack in wholeness.lacks(child)):
            # What an attestation is about cannot be imported without it.
            damaged |= {child.digest, child.annotations.get(ATTESTED, child.digest)}
    if any(child.digest in damaged and child.stated_platform is None for child in images):
        return []
    broken = {child.stated_platform for child in images if child.digest in damaged}
    there = [child.platform for child in images if child.stated_platform is not None and not wholeness.lacks(child)]
    found = [platform for platform in dict.fromkeys(there[:_TOLD_AT_MOST]) if platform is not None]
    return [str(each) for each in found if not any(is_wanted(other, [each]) for other in broken if other is not None)]


def _within(kind: str, child: Descriptor) -> str:
    if not kind:
        return kind_of(child)
    return kind if " of the " in kind else f"{kind} of the {kind_of(child)}"
