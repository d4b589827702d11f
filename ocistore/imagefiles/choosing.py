"""Which image a reference means: an index is gone into, down to the one that fits a platform."""

from __future__ import annotations

import platform as machine
from typing import TYPE_CHECKING

from ocistore.errors import ManifestInvalidError, ManifestNotFoundError, PlatformNotFoundError
from ocistore.imagefiles.config import platform_of
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import Platform
from ocistore.oci.manifest import ATTESTED
from ocistore.oci.platforms import is_wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest
    from ocistore.oci.reference import Reference
    from ocistore.repository import Repository

_UNKNOWN = "unknown"
"""The operating system that BuildKit writes for what is no image, such as an attestation."""
_ALIASES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
_ARM = {"armv5l": "v5", "armv6l": "v6", "armv7l": "v7"}


def own_platform() -> Platform:
    """What this machine runs, as images call it."""
    name = machine.machine().lower()
    if name in _ARM:
        return Platform("arm", "linux", variant=_ARM[name])
    return Platform(_ALIASES.get(name, name), "linux")


def choose_image(repository: Repository, reference: Reference, platform: Platform | None = None) -> Manifest:
    """The one image that a reference means.

    An image, or artifact, itself, where that is for the platform, or none was asked for. Of an index, the image for the
    platform that was asked for; without one, the only image in it, or the one for the machine that this runs on.

    Args:
        repository: that of the reference.
        reference: with a tag or digest.
        platform: what is asked for; without a variant, any.

    Raises:
        PlatformNotFoundError: no image fits, or several do. The error lists the platforms that there are.
        ManifestNotFoundError, RepositoryNotFoundError: the reference means nothing, or the image that fits is not here.
        ManifestInvalidError: the config of an image, which had to be asked for its platform, is none.
    """
    manifest = repository.get_manifest(reference.target)
    if not mediatypes.is_index_type(manifest.media_type):
        found = None if platform is None else platform_of(repository, manifest)
        if platform is not None and (found is None or not is_wanted(found, [platform])):
            available = [] if found is None else [str(found)]
            raise PlatformNotFoundError(str(reference), wanted=[str(platform)], available=available)
        return manifest
    images = dict(_images(repository, manifest))
    if platform is None and len(images) == 1:
        return repository.get_manifest(next(iter(images)))
    wanted = own_platform() if platform is None else platform
    fitting = {digest: found for digest, found in images.items() if found is not None and is_wanted(found, [wanted])}
    exact = [digest for digest, found in fitting.items() if str(found) == str(wanted)]
    if len(fitting) != 1 and len(exact) != 1:
        raise PlatformNotFoundError(
            str(reference),
            wanted=[str(wanted)],
            available=sorted({str(found) for found in images.values() if found is not None}),
            fitting=[f"{found} ({digest})" for digest, found in fitting.items()],
        )
    return repository.get_manifest(exact[0] if len(exact) == 1 else next(iter(fitting)))


def _images(repository: Repository, index: Manifest) -> Iterator[tuple[Digest, Platform | None]]:
    """What is in an index, and in the indexes in it, in order, each once; without attestations."""
    seen: set[Digest] = {index.descriptor.digest}
    waiting = list(reversed(index.manifests))
    while waiting:
        child = waiting.pop()
        if child.digest in seen:
            continue
        seen.add(child.digest)
        if mediatypes.is_index_type(child.media_type):
            waiting += reversed(_children(repository, child))
        elif ATTESTED not in child.annotations and (child.platform is None or child.platform.os != _UNKNOWN):
            yield child.digest, child.platform or _platform_inside(repository, child)


def _children(repository: Repository, index: Descriptor) -> tuple[Descriptor, ...]:
    try:
        return repository.get_manifest(index.digest).manifests
    except ManifestNotFoundError:
        return ()


def _platform_inside(repository: Repository, child: Descriptor) -> Platform | None:
    try:
        return platform_of(repository, repository.get_manifest(child.digest))
    except (ManifestNotFoundError, ManifestInvalidError):
        return None
