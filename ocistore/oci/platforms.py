"""Choosing platforms: what an image runs on, what was asked for, and an index with only the chosen ones in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ocistore.errors import InvalidNameError, ManifestInvalidError
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import Descriptor, Platform
from ocistore.oci.manifest import ATTESTED, MAXIMUM_MANIFEST_SIZE, Manifest, check_manifest, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocistore.oci.digest import Digest

_PART: Final = re.compile(r"[a-z0-9._-]+", re.ASCII)

_ALIASES: Final = {
    "aarch64": ("arm64", ""), "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "i386": ("386", ""),
    "i686": ("386", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6"),
}
"""Architectures as machines call them, and as images do (Go's GOARCH, which the image specification asks for)."""
_IMPLIED_VARIANT: Final = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
"""The variant of an architecture that names none, as containerd takes it."""

_MAXIMUM_DEPTH: Final = 64
"""Indexes in indexes; real ones are two deep."""


def parse_platform(text: str) -> Platform:
    """What people type: ``OS/ARCHITECTURE[/VARIANT]``, such as ``linux/arm64``.

    Raises:
        InvalidNameError: it is nothing of the kind.
    """
    parts = text.lower().split("/") if isinstance(text, str) else []
    if not 2 <= len(parts) <= 3 or any(_PART.fullmatch(part) is None for part in parts):
        raise InvalidNameError(text, kind="platform", reason="it must be OS/ARCHITECTURE[/VARIANT], as linux/arm64")
    architecture, variant = _ALIASES.get(parts[1], (parts[1], ""))
    return Platform(architecture, parts[0], variant=parts[2] if len(parts) == 3 else variant)


def is_wanted(platform: Platform, wanted: Sequence[Platform]) -> bool:
    """Whether an image of that platform is one of those asked for. No variant asked for means any."""
    return any(
        platform.os == each.os
        and platform.architecture == each.architecture
        and (not each.variant or _variant(platform) == each.variant)
        for each in wanted
    )


def _variant(platform: Platform) -> str:
    return platform.variant or _IMPLIED_VARIANT.get(platform.architecture, "")


@dataclass
class Narrowed:
    """What is left of a graph of indexes, and the indexes that had to be made for it."""

    descriptor: Descriptor | None
    """Of what now stands in the place of the root: the root itself, another index, or None where nothing is left."""
    made: dict[Digest, Manifest] = field(default_factory=dict)
    """Indexes that are not in the original, children before parents."""
    available: dict[str, None] = field(default_factory=dict)
    """Where nothing is left: the platforms that there are, in order, each once."""
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

    What has no platform, such as an artifact, stays; an attestation goes with the manifest that it is about. What is
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
    narrowing = _Narrowing(wanted, fetch, platform_of, here, Narrowed(root))
    result = narrowing.result
    if wanted:
        result.descriptor = narrowing.left_of(root, depth=0)
        if result.descriptor is None:
            for other, platform in narrowing.others:
                if other.digest == root.digest or here(other):
                    result.available[str(platform)] = None
    return result


@dataclass
class _Narrowing:
    wanted: Sequence[Platform]
    fetch: Callable[[Descriptor], Manifest]
    platform_of: Callable[[Descriptor], Platform | None]
    here: Callable[[Descriptor], bool]
    result: Narrowed
    others: list[tuple[Descriptor, Platform]] = field(default_factory=list)
    """Of other platforms."""
    indexes: dict[Digest, Descriptor | None] = field(default_factory=dict)
    """What was left of each: the same one may be in many."""

    def left_of(self, descriptor: Descriptor, *, depth: int) -> Descriptor | None:
        is_index = mediatypes.is_index_type(descriptor.media_type)
        platform = None if is_index else descriptor.platform
        if platform is not None and not is_wanted(platform, self.wanted):
            self.others.append((descriptor, platform))
            return None
        if depth and not self.here(descriptor):
            self.result.absent[descriptor.digest] = kind_of(descriptor)
            return None
        if is_index:
            if descriptor.digest not in self.indexes:
                self.indexes[descriptor.digest] = self._left_of_index(descriptor, depth=depth)
            return self.indexes[descriptor.digest]
        if platform is None and mediatypes.is_manifest_type(descriptor.media_type):
            platform = self.platform_of(descriptor)
            if platform is not None and not is_wanted(platform, self.wanted):
                self.others.append((descriptor, platform))
                return None
        return descriptor

    def _left_of_index(self, descriptor: Descriptor, *, depth: int) -> Descriptor | None:
        if depth == _MAXIMUM_DEPTH:
            raise ManifestInvalidError(f"{descriptor.digest} is nested in more than {_MAXIMUM_DEPTH} indexes")
        index = self.fetch(descriptor)
        kept = [
            None if ATTESTED in child.annotations else self.left_of(child, depth=depth + 1)
            for child in index.manifests
        ]
        stayed = {child.digest for child, left in zip(index.manifests, kept, strict=True) if left is not None}
        absent = {child.digest for child in index.manifests if child.digest in self.result.absent}
        for position, child in enumerate(index.manifests):
            about = child.annotations.get(ATTESTED)
            if about in absent:
                absent.add(child.digest)  # what it is about is to be here, and is not: it goes where that goes
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
        return replace(descriptor, digest=made.descriptor.digest, size=made.descriptor.size, data=None)


def _with_children(index: Manifest, kept: Sequence[Descriptor | None]) -> Manifest:
    """The index with those children, and whatever else is in it as it was."""
    document: dict[str, Any] = strictjson.loads(index.content, maximum=len(index.content))
    children = []
    for written, left in zip(document["manifests"], kept, strict=True):
        if left is not None:
            children.append({**written, "digest": str(left.digest), "size": left.size})
    document["manifests"] = children
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return check_manifest(content, media_type=index.media_type, maximum=max(MAXIMUM_MANIFEST_SIZE, len(content)))

