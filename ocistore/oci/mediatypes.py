"""Media types: those that this store must tell apart, and the grammar of all others."""

from __future__ import annotations

import re
from typing import Final

from ocistore.errors import ManifestInvalidError

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_NONDISTRIBUTABLE_LAYER: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_NONDISTRIBUTABLE_LAYER_GZIP: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OCI_NONDISTRIBUTABLE_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

OCTET_STREAM: Final = "application/octet-stream"
"""Bytes of which nothing is known: the type of a blob on its own, until a manifest that refers to it says another."""

_ALL: Final[dict[object, str]] = {
    text: text for name, text in dict(vars()).items() if name.startswith(("OCI_", "DOCKER_", "OCTET_"))
}
"""The ones above: so there is one object for each of them, however many descriptors are held."""

_MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_IMAGE_CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
NONDISTRIBUTABLE: Final = frozenset(
    {
        DOCKER_FOREIGN_LAYER,
        OCI_NONDISTRIBUTABLE_LAYER,
        OCI_NONDISTRIBUTABLE_LAYER_GZIP,
        OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
    }
)
# RFC 6838, section 4.2: both names start with a letter or digit and have at most 127 characters; no parameters.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_GRAMMAR = re.compile(rf"{_NAME}/{_NAME}", re.ASCII)
# What the types of layers that are archives end with, whoever defined them: Helm's charts, models, and all of OCI's and
# Docker's own. After an underscore or a letter it is another word.
_TAR = re.compile(r"[./+-]tar(?:[.+](?:gzip|gz|zstd|zst|xz|bzip2|bz2))?", re.ASCII)


def is_manifest_type(media_type: str) -> bool:
    """Whether it is the type of a manifest of one image or artifact: config and layers."""
    return media_type in _MANIFESTS


def is_index_type(media_type: str) -> bool:
    """Whether it is the type of a manifest of manifests: an OCI image index or a Docker manifest list."""
    return media_type in _INDEXES


def is_known_manifest(media_type: str) -> bool:
    """Whether content of that type is read as a manifest, of either kind. Content of any other type is a blob."""
    return media_type in _MANIFESTS or media_type in _INDEXES


def is_image_config(media_type: str | None) -> bool:
    """Whether it is the type of an image's config: what describes a file system and how to run it."""
    return media_type in _IMAGE_CONFIGS


def is_tar(media_type: str) -> bool:
    """Whether content of that type is a tar archive, compressed or not; what is encrypted is none."""
    start = max(media_type.rfind(f"{before}tar") for before in "./+-")
    return start >= 0 and _TAR.fullmatch(media_type, start) is not None


def is_nondistributable(media_type: str) -> bool:
    """Whether layers of that type may be left where their ``urls`` say, instead of being pushed."""
    return media_type in NONDISTRIBUTABLE


def is_media_type(text: object) -> bool:
    """Whether it is one by RFC 6838, section 4.2."""
    return isinstance(text, str) and _GRAMMAR.fullmatch(text) is not None


def media_type(text: object, *, path: str = "mediaType") -> str:
    """Return ``text`` where it is a media type by RFC 6838, section 4.2, as the image specification demands.

    Raises:
        ManifestInvalidError: it is not; it carries ``path``, the place where it stood.
    """
    if type(text) is str and (known := _ALL.get(text)) is not None:
        return known
    if not isinstance(text, str) or (match := _GRAMMAR.fullmatch(text)) is None:
        unknown = isinstance(text, str | None)  # text that means something to its author, or nothing
        reason = f"{text!r:.100} is not a media type, such as application/json"
        raise ManifestInvalidError(reason, path=path, unknown=unknown)
    return match.group()
