"""Choosing platforms: what an image runs on, what was asked for, and an index with only the chosen ones in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ocistore.errors import ManifestInvalidError
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import ARCHITECTURES, Descriptor, Platform
from ocistore.oci.manifest import ATTESTED, MAXIMUM_MANIFEST_SIZE, Manifest, check_manifest, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ocistore.oci.digest import Digest

T = TypeVar("T")

_VERSIONED: Final = re.compile(r"v([0-9]{1,3})(?:\.([0-9]{1,3}))?", re.ASCII)
"""A variant that is newer than others of its architecture: ``v7``, ``v8.2``."""

_IMPLIED_VARIANT: Final = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
"""The variant of an architecture that names none, as containerd takes it."""

_MAXIMUM_DEPTH: Final = 64
"""Indexes in indexes; real ones are two deep."""


def parse_platforms(texts: Iterable[str]) -> list[Platform]:
    """Parse each of them; see :meth:`Platform.parse`.

    Raises:
        InvalidNameError: one of them is nothing of the kind.
    """
    return [Platform.parse(text) for text in texts]


def is_wanted(platform: Platform, wanted: Sequence[Platform]) -> bool:
    """Whether an image of that platform is one of those asked for. What was not asked for may be anything."""
    return any(_is_exact(platform, each) for each in wanted)


def _is_exact(platform: Platform, wanted: Platform) -> bool:
    return _has_fitting_system(platform, wanted) and (not wanted.variant or _variant(platform) == wanted.variant)


def _has_fitting_system(platform: Platform, wanted: Platform) -> bool:
    """Whether everything but the variant fits.

    A version fits where it begins with the one that is wanted, part by part, or none is said: which Windows an image is
    built for, its first three parts say. The features of a platform are mandatory (image specification, image index,
    ``os.features``): those that were asked for must have all of them among them.
    """
    if (platform.os, _architecture(platform)) != (wanted.os, _architecture(wanted)):
        return False
    if wanted.os_version and platform.os_version:
        parts = wanted.os_version.split(".")
        if platform.os_version.split(".")[: len(parts)] != parts:
            return False
    return not wanted.os_features or set(platform.os_features) <= set(wanted.os_features)


def fitting(candidates: Iterable[tuple[T, Platform]], wanted: Platform) -> list[T]:
    """Return those that can be used where a platform is wanted, the best first.

    An older variant runs where a newer one is wanted (``arm/v6`` on ``arm/v7``), and never the other way round; where
    none is wanted, the one that is implied comes first, then older ones, then newer ones. Then come those without
    mandatory features that nobody asked for before those with some, and those that say the wanted version before those
    that say none. Equal ones keep their order (image specification, image index, ``manifests``).
    """
    ranked = [(rank, found) for found, platform in candidates if (rank := _rank(platform, wanted)) is not None]
    return [found for _, found in sorted(ranked, key=lambda pair: pair[0])]


def _rank(platform: Platform, wanted: Platform) -> tuple[int, ...] | None:
    """Return how well it fits, less is better; None for what does not fit."""
    if not _has_fitting_system(platform, wanted):
        return None
    has, wants = _variant(platform), _variant(wanted)
    if has == wants:
        place = (0, 0, 0)
    else:
        number, limit = _number(has), _number(wants)
        if number is not None and limit is not None and number < limit:
            place = (1, -number[0], -number[1])
        elif wanted.variant:
            return None
        else:
            place = (2, *(number or (0, 0)))
    return (
        *place,
        int(not set(platform.os_features) <= set(wanted.os_features)),
        int(bool(wanted.os_version) and not platform.os_version),
    )


def _architecture(platform: Platform) -> str:
    return ARCHITECTURES.get(platform.architecture, (platform.architecture, ""))[0]


def _variant(platform: Platform) -> str:
    return platform.variant or _IMPLIED_VARIANT.get(platform.architecture, "")


def _number(variant: str) -> tuple[int, int] | None:
    match = _VERSIONED.fullmatch(variant)
    return None if match is None else (int(match[1]), int(match[2] or 0))


@dataclass
class Narrowed:
    """What is left of a graph of indexes, and the indexes that had to be made for it."""

    descriptor: Descriptor | None
    """The descriptor of what replaces the root: the root itself, another index, or None where nothing is left."""
    made: dict[Digest, Manifest] = field(default_factory=dict)
    """Indexes that are not in the original, children before parents."""
    replaced: dict[Digest, Digest] = field(default_factory=dict)
    """Indexes of the original that lost something, the root and those in it, with those in their place."""
    available: dict[str, None] = field(default_factory=dict)
    """The platforms that were found, in order, each once; where nothing is left, of those that are here."""
    absent: dict[str, str] = field(default_factory=dict)
    """What fits, or nobody knows whether it does, and is not here; each with what it is."""


def narrow(
    root: Descriptor,
    wanted: Sequence[Platform],
    *,
    fetch: Callable[[Descriptor], Manifest],
    platform_of: Callable[[Descriptor], Platform | None],
    here: Callable[[Descriptor], bool] = lambda _: True,
) -> Narrowed:
    """Leave out what is not of the wanted platforms. An index that loses a child is another index, with another digest.

    What has no platform, such as an artifact, stays; an attestation stays with the manifest that it is about. What is
    not here is left out, unless an index would lose nothing else: then that stays as it is.

    Args:
        root: a manifest or an index.
        wanted: what to keep; nothing means everything.
        fetch: the manifest of a descriptor; called for indexes only.
        platform_of: the platform of an image manifest whose descriptor says none; None where its config says none.
        here: whether a child of an index is there, and not only listed.

    Raises:
        ManifestInvalidError: indexes are nested too deeply. Also what ``fetch`` and ``platform_of`` raise.
    """
    if not wanted:
        return Narrowed(root)
    narrowing = _Narrowing(wanted, fetch, platform_of, here, Narrowed(root))
    left = narrowing.left_of(root, depth=0)
    older = narrowing.with_older_variants()
    if older != list(wanted):
        narrowing = _Narrowing(older, fetch, platform_of, here, Narrowed(root))
        left = narrowing.left_of(root, depth=0)
    result = narrowing.result
    result.descriptor = left
    for found, platform in narrowing.found:
        if left is not None or found.digest == root.digest or here(found):
            result.available[str(platform)] = None
    return result


@dataclass
class _Narrowing:
    wanted: Sequence[Platform]
    fetch: Callable[[Descriptor], Manifest]
    platform_of: Callable[[Descriptor], Platform | None]
    here: Callable[[Descriptor], bool]
    result: Narrowed
    found: list[tuple[Descriptor, Platform]] = field(default_factory=list)
    """What has a platform, in order; what fits and is not here is not among it."""
    indexes: dict[Digest, Descriptor | None] = field(default_factory=dict)
    """What was left of each: the same one may be in many."""

    def with_older_variants(self) -> list[Platform]:
        """Return what was wanted; instead of a variant that is not here, an older one that is, and runs there."""
        older: list[Platform] = []
        for wanted in self.wanted:
            best = None
            if wanted.variant and not any(_is_exact(platform, wanted) for _, platform in self.found):
                there = ((platform, platform) for found, platform in self.found if self.here(found))
                best = next(iter(fitting(there, wanted)), None)
            older.append(wanted if best is None else replace(wanted, variant=_variant(best)))
        return older

    def left_of(self, descriptor: Descriptor, *, depth: int) -> Descriptor | None:
        is_index = mediatypes.is_index_type(descriptor.media_type)
        platform = None if is_index else descriptor.stated_platform
        if platform is not None and not is_wanted(platform, self.wanted):
            self.found.append((descriptor, platform))
            return None
        if depth and not self.here(descriptor):
            self.result.absent[descriptor.digest] = kind_of(descriptor)
            return None
        if is_index:
            if descriptor.digest not in self.indexes:
                self.indexes[descriptor.digest] = self._left_of_index(descriptor, depth=depth)
            return self.indexes[descriptor.digest]
        if platform is None and mediatypes.is_manifest_type(descriptor.media_type):
            found = self.platform_of(descriptor)
            platform = found if found is not None and found.is_stated else None
        if platform is None:
            return descriptor
        self.found.append((descriptor, platform))
        return descriptor if is_wanted(platform, self.wanted) else None

    def _left_of_index(self, descriptor: Descriptor, *, depth: int) -> Descriptor | None:
        if depth == _MAXIMUM_DEPTH:
            raise ManifestInvalidError(f"{descriptor.digest} is nested in more than {_MAXIMUM_DEPTH} indexes")
        index = self.fetch(descriptor)
        kept = [
            None if ATTESTED in child.annotations else self.left_of(child, depth=depth + 1) for child in index.manifests
        ]
        stayed = {child.digest for child, left in zip(index.manifests, kept, strict=True) if left is not None}
        absent = {child.digest for child in index.manifests if child.digest in self.result.absent}
        for position, child in enumerate(index.manifests):
            about = child.annotations.get(ATTESTED)
            if about in absent:
                absent.add(child.digest)  # what it is about is to be here, and is not: it is left out with that
            elif about in stayed:
                if self.here(child):
                    kept[position] = child
                else:
                    absent.add(child.digest)
                    self.result.absent[child.digest] = kind_of(child)
        if not any(kept):
            return None if index.manifests else descriptor
        children = list(zip(index.manifests, kept, strict=True))
        if all(left == child or (left is None and child.digest in absent) for child, left in children):
            return descriptor
        made = _with_children(index, kept)
        self.result.made[made.descriptor.digest] = made
        self.result.replaced[descriptor.digest] = made.descriptor.digest
        return replace(descriptor, digest=made.descriptor.digest, size=made.descriptor.size, data=None)


def _with_children(index: Manifest, kept: Sequence[Descriptor | None]) -> Manifest:
    """Return the index with those children, and everything else in it as it was."""
    document: dict[str, Any] = strictjson.loads(index.content, maximum=len(index.content))
    children = []
    for written, left in zip(document["manifests"], kept, strict=True):
        if left is not None:
            children.append({**written, "digest": str(left.digest), "size": left.size})
    document["manifests"] = children
    content = strictjson.dumps(document)
    return check_manifest(content, media_type=index.media_type, maximum=max(MAXIMUM_MANIFEST_SIZE, len(content)))
