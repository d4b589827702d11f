"""Reading the config of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore import CorruptError, ImageConfig, ManifestInvalidError
from ocistore.argumenttypes import checks_types
from ocistore.oci import mediatypes
from ocistore.oci.config import MAXIMUM_CONFIG_SIZE

if TYPE_CHECKING:
    from ocistore import Manifest, Platform, Repository


@checks_types
def read_config(repository: Repository, manifest: Manifest) -> bytes:
    """Return the exact bytes of the config of an image; :meth:`ocistore.ImageConfig.parse` says what is in them.

    Raises:
        ManifestInvalidError: it is an index or an artifact, which has no such config, or the config is too large.
        BlobNotFoundError: the repository does not hold it.
        CorruptError: its bytes are damaged.
    """
    config = manifest.config
    if config is None or not mediatypes.is_image_config(config.media_type):
        what = "an index" if config is None else f"an artifact, whose config is {config.media_type}"
        raise ManifestInvalidError(f"{manifest.descriptor.digest} is {what}: it has no config of an image")
    if config.size > MAXIMUM_CONFIG_SIZE:
        raise ManifestInvalidError(f"it has {config.size} bytes, at most {MAXIMUM_CONFIG_SIZE} are read", path="config")
    with repository.open_blob(config.digest, verify=True) as blob:
        if blob.size != config.size:
            raise CorruptError(f"blob {config.digest}", reason=f"it has {blob.size} bytes, not {config.size}")
        return blob.read()


def platform_of(repository: Repository, manifest: Manifest) -> Platform | None:
    """Return what an image runs on, by its config; None for an artifact, and where the config does not say.

    Raises:
        ManifestInvalidError: the config is malformed.
        BlobNotFoundError, CorruptError: it cannot be read.
    """
    if manifest.config is None or not mediatypes.is_image_config(manifest.config.media_type):
        return None
    found = ImageConfig.parse(read_config(repository, manifest), name="config").platform
    return None if found is None or "unknown" in (found.os, found.architecture) else found
