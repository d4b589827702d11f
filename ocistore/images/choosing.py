"""Which image a reference means: an index is searched for the one that fits a platform."""

from __future__ import annotations

import platform as machine
from typing import TYPE_CHECKING

from ocistore import (
    BlobNotFoundError,
    ManifestInvalidError,
    ManifestNotFoundError,
    Platform,
    PlatformNotFoundError,
    Reference,
)
from ocistore.argumenttypes import checks_types
from ocistore.images.config import platform_of
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import ARCHITECTURES
from ocistore.oci.manifest import ATTESTED, kind_of
from ocistore.oci.platforms import fitting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocistore import Descriptor, Digest, Manifest, Repository, Store

_UNKNOWN = "unknown"
"""The operating system that BuildKit writes for what is no image, such as an attestation."""
_ARM = {"armv5l": "v5", "armv6l": "v6", "armv7l": "v7"}


def own_platform() -> Platform:
    """Return the platform of this machine, as images call it."""
    name = machine.machine().lower()
    if name in _ARM:
        return Platform("arm", "linux", variant=_ARM[name])
    architecture, variant = ARCHITECTURES.get(name, (name, ""))
    return Platform(architecture, "linux", variant=variant)


def find_image(store: Store, reference: str, platform: str | None) -> tuple[Repository, Manifest]:
    """Return the one image that a reference means, for a platform as :func:`choose_image`, and its repository.

    Raises:
        InvalidNameError, InvalidDigestError: the reference, or the platform, is malformed.
        PlatformNotFoundError, ManifestNotFoundError, RepositoryNotFoundError, ManifestInvalidError: as there.
    """
    wanted = Reference.parse(reference)
    repository = store.repository(wanted.repository)
    asked = None if platform is None else Platform.parse(platform)
    return repository, choose_image(repository, wanted, asked)


@checks_types
def choose_image(repository: Repository, reference: Reference, platform: Platform | None = None) -> Manifest:
    """Return the one image that a reference means.

    An image, or artifact, itself, where that is for the platform, or none was asked for. Of an index, the image for the
    platform that was asked for; without one, the only image in it that is here, or the one for the machine that this
    runs on. Of several that fit, the first in the index (image specification, image index, ``manifests``); an older
    variant fits where a newer one is wanted, ``arm/v6`` on ``arm/v7``, and not the other way round. What is no image,
    such as an attestation or an index of SOCI's, is none of them, unless there is nothing else.

    Args:
        repository: that of the reference.
        reference: with a tag or digest.
        platform: what is asked for; without a variant, any.

    Raises:
        PlatformNotFoundError: no image that is here fits. The error lists the platforms that there are.
        ManifestNotFoundError, RepositoryNotFoundError: the reference means nothing.
        ManifestInvalidError: the config of an image, which had to be read for its platform, is malformed.
    """
    manifest = repository.get_manifest(reference.target)
    if not mediatypes.is_index_type(manifest.media_type):
        found = None if platform is None else platform_of(repository, manifest)
        if platform is not None and (found is None or not fitting([(found, found)], platform)):
            available = () if found is None else (str(found),)
            raise PlatformNotFoundError(str(reference), wanted=(str(platform),), available=available)
        return manifest
    listed = list(_candidates(repository, manifest))
    if platform is None and (only := _only(repository, listed)) is not None:
        return only
    wanted = own_platform() if platform is None else platform
    absent: dict[str, str] = {}
    others: list[Manifest] = []
    for child in fitting([(child, said) for child, said in listed if said is not None], wanted):
        held = _held(repository, child)
        if held is None:
            absent[child.digest] = kind_of(child)
        elif _is_image(held):
            return held
        else:
            others.append(held)
    if others:
        return others[0]
    there = [str(said) for child, said in listed if said is not None and _held(repository, child) is not None]
    reason = "" if listed else "it says none, being an index of 0 images"
    raise PlatformNotFoundError(
        str(reference), wanted=(str(wanted),), available=tuple(dict.fromkeys(there)), absent=absent, reason=reason
    )


def _candidates(repository: Repository, index: Manifest) -> Iterator[tuple[Descriptor, Platform | None]]:
    """Yield the manifests in an index, and in the indexes in it, in order, each once; without attestations."""
    seen: set[Digest] = {index.descriptor.digest}
    waiting = list(reversed(index.manifests))
    while waiting:
        child = waiting.pop()
        if child.digest in seen:
            continue
        seen.add(child.digest)
        if mediatypes.is_index_type(child.media_type):
            inner = _held(repository, child)
            waiting += () if inner is None else reversed(inner.manifests)
        elif not mediatypes.is_manifest_type(child.media_type) or ATTESTED in child.annotations:
            continue
        elif child.stated_platform is None or child.stated_platform.os != _UNKNOWN:
            yield child, child.stated_platform or _platform_inside(repository, child)


def _only(repository: Repository, listed: Sequence[tuple[Descriptor, Platform | None]]) -> Manifest | None:
    """Return the only image that is here; where none is an image, the only one."""
    images: list[Manifest] = []
    others: list[Manifest] = []
    for child, _ in listed:
        found = _held(repository, child)
        if found is not None:
            (images if _is_image(found) else others).append(found)
        if len(images) > 1:
            return None
    left = images or others
    return left[0] if len(left) == 1 else None


def _is_image(manifest: Manifest) -> bool:
    """Whether it is an image.

    Artifacts that are listed beside images, such as SOCI's indexes of their layers, are not.
    """
    return mediatypes.is_image_config(manifest.artifact_type)


def _held(repository: Repository, child: Descriptor) -> Manifest | None:
    try:
        return repository.get_manifest(child.digest)
    except ManifestNotFoundError:
        return None


def _platform_inside(repository: Repository, child: Descriptor) -> Platform | None:
    manifest = _held(repository, child)
    try:
        return None if manifest is None else platform_of(repository, manifest)
    except (BlobNotFoundError, ManifestInvalidError):
        return None
