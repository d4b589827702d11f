"""Docker's archives read as a layout: each image gets an OCI manifest; its config and its layers stay byte for byte.

There is one form, ``manifest.json`` beside configs and layers that it names, and many writers: ``docker save``,
podman's and skopeo's ``docker-archive``, crane's tarballs. From version 25 on ``docker save`` puts a whole OCI layout
beside it, which says more: then that is read, and not this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ocistore.archives.compression import MAGIC_SIZE, compression_of
from ocistore.errors import InvalidDigestError, ManifestInvalidError
from ocistore.layouts.directory import NotPlainError
from ocistore.layouts.imports.manifests import MAXIMUM_MANIFESTS_SIZE
from ocistore.layouts.index import IMAGE_NAME, index_bytes
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import Descriptor, json_object
from ocistore.oci.digest import Digest

if TYPE_CHECKING:
    from ocistore.layouts.imports.archive import Archive
    from ocistore.layouts.imports.members import Entry

MANIFEST_JSON: Final = "manifest.json"
MAXIMUM_MANIFEST_JSON_SIZE: Final = 16 * 1024 * 1024
"""Bytes: some ten thousand images."""
MAXIMUM_CONFIG_SIZE: Final = 8 * 1024 * 1024
"""Bytes of an image's config, which is read into memory, in and out. Real ones have a few kilobytes."""
MAXIMUM_CONFIGS_SIZE: Final = 256 * 1024 * 1024
"""Bytes of all configs that are read; each is read anew for each image that names it."""
MAXIMUM_NAMES: Final = 50_000
"""Images, and names that they have, in one archive: each becomes an entry of an index, in memory."""

_KEYS: Final = frozenset({"Config", "RepoTags", "Layers", "Parent", "LayerSources"})
_LAYER_TYPES: Final = {
    "none": mediatypes.OCI_LAYER,
    "gzip": mediatypes.OCI_LAYER_GZIP,
    "zstd": mediatypes.OCI_LAYER_ZSTD,
    # The specification has no types for these; they end as people end them, and say what the bytes are.
    "xz": f"{mediatypes.OCI_LAYER}+xz",
    "bzip2": f"{mediatypes.OCI_LAYER}+bzip2",
}

P = TypeVar("P")


@dataclass
class Converted(Generic[P]):
    """An archive of Docker's, as a layout."""

    index: bytes = b""
    """What its index.json would be."""
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    blobs: dict[Digest, Entry[P]] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)
    """What is missing or wrong, each once."""


def converted(archive: Archive[P]) -> Converted[P]:
    """Read ``manifest.json``, and what it names as far as need be.

    An uncompressed layer is what ``diff_ids`` of the config say: where that was not hashed yet, it is taken at its word
    here, and verified when it is staged.

    Raises:
        ArchiveInvalidError: a name in it leads out of the archive.
        OSError: the archive could not be read.
    """
    conversion = _Conversion(archive)
    try:
        images = _images(archive)
    except (ManifestInvalidError, NotPlainError) as error:
        conversion.result.problems[f"{MANIFEST_JSON}: {error}"] = None
        return conversion.result
    entries: list[Descriptor] = []
    for position, image in enumerate(images):
        try:
            entries += conversion.image(image, path=f"[{position}]")
        except ManifestInvalidError as error:
            conversion.result.problems[f"{MANIFEST_JSON}: {error}"] = None
        except _TooMuchError as error:
            conversion.result.problems[f"{MANIFEST_JSON}: {error}"] = None
            return conversion.result
    conversion.result.index = index_bytes(entries)
    return conversion.result


def _images(archive: Archive[P]) -> list[Any]:
    entry = archive.members.plain(MANIFEST_JSON)
    if entry.size > MAXIMUM_MANIFEST_JSON_SIZE:
        raise NotPlainError(f"it is larger than {MAXIMUM_MANIFEST_JSON_SIZE} bytes")
    document = strictjson.loads(archive.read(entry, entry.size), maximum=MAXIMUM_MANIFEST_JSON_SIZE)
    if not isinstance(document, list):
        raise ManifestInvalidError("it is not a list of images")
    return document


class _TooMuchError(Exception):
    """There is more of something than is read; the text says of what."""


class _Conversion(Generic[P]):
    def __init__(self, archive: Archive[P]) -> None:
        self.result: Converted[P] = Converted()
        self._archive = archive
        self._compressed: dict[str, Descriptor] = {}
        """Layers that had to be hashed, by name: images share them."""
        self._names = 0
        self._configs_size = 0
        self._manifests_size = 0

    def image(self, value: object, *, path: str) -> list[Descriptor]:
        """The entries of one image: one for each of its names. None where something is wrong, which is noted."""
        members = json_object(value, _KEYS, path=path)
        config_name = _text(members.get("Config"), path=f"{path}.Config")
        layer_names = [_text(name, path=f"{path}.Layers") for name in _list(members.get("Layers"), f"{path}.Layers")]
        names = [_text(name, path=f"{path}.RepoTags") for name in _list(members.get("RepoTags"), f"{path}.RepoTags")]
        self._names += len(names) or 1
        if self._names > MAXIMUM_NAMES:
            raise _TooMuchError(f"it has more than {MAXIMUM_NAMES} images and names")
        entry = self._found(config_name)
        if entry is None:
            for name in layer_names:
                self._found(name)
            return []
        config = self._config(entry, config_name)
        diff_ids = _diff_ids(config, name=config_name)
        if len(diff_ids) != len(layer_names):
            reason = f"it has {len(layer_names)} layers, and its config {len(diff_ids)} diff_ids"
            raise ManifestInvalidError(reason, path=path)
        layers = [self._layer(name, diff_id) for name, diff_id in zip(layer_names, diff_ids, strict=True)]
        digest = Digest.of(config)
        self.result.blobs[digest] = entry
        return self._entries(
            names, Descriptor(mediatypes.OCI_CONFIG, digest, len(config)), [layer for layer in layers if layer]
        )

    def _entries(self, names: list[str], config: Descriptor, layers: list[Descriptor]) -> list[Descriptor]:
        document = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        content = json.dumps(document, separators=(",", ":")).encode()
        digest = Digest.of(content)
        self._manifests_size += 0 if digest in self.result.manifests else len(content)
        if self._manifests_size > MAXIMUM_MANIFESTS_SIZE:
            raise _TooMuchError(f"the manifests of its images have more than {MAXIMUM_MANIFESTS_SIZE} bytes")
        self.result.manifests[digest] = content
        return [
            Descriptor(mediatypes.OCI_MANIFEST, digest, len(content), annotations={IMAGE_NAME: name} if name else {})
            for name in names or [""]
        ]

    def _config(self, entry: Entry[P], name: str) -> bytes:
        if entry.size > MAXIMUM_CONFIG_SIZE:
            raise ManifestInvalidError(f"{name!r:.200} is larger than {MAXIMUM_CONFIG_SIZE} bytes")
        self._configs_size += entry.size
        if self._configs_size > MAXIMUM_CONFIGS_SIZE:
            raise _TooMuchError(f"the configs of its images have more than {MAXIMUM_CONFIGS_SIZE} bytes")
        return self._archive.read(entry, entry.size)

    def _layer(self, name: str, diff_id: Digest) -> Descriptor | None:
        entry = self._found(name)
        if entry is None:
            return None
        compression = compression_of(self._archive.read(entry, MAGIC_SIZE))
        if compression == "none":
            layer = Descriptor(mediatypes.OCI_LAYER, diff_id, entry.size)
        else:
            if name not in self._compressed:
                self._compressed[name] = Descriptor(_LAYER_TYPES[compression], self._archive.digest(entry), entry.size)
            layer = self._compressed[name]
        self.result.blobs[layer.digest] = entry
        return layer

    def _found(self, name: str) -> Entry[P] | None:
        try:
            return self._archive.members.followed(name)
        except FileNotFoundError:
            self.result.problems[f"{name!r:.200} is missing"] = None
        except NotPlainError as error:
            self.result.problems[f"{name!r:.200}: {error}"] = None
        return None


def _diff_ids(config: bytes, *, name: str) -> list[Digest]:
    path = f"{name!r:.200}: rootfs.diff_ids"
    document = strictjson.loads(config, maximum=MAXIMUM_CONFIG_SIZE)
    rootfs = document.get("rootfs") if isinstance(document, dict) else None
    if not isinstance(rootfs, dict):
        raise ManifestInvalidError("there is no rootfs", path=path)
    try:
        return [Digest.parse(digest) for digest in _list(rootfs.get("diff_ids"), path)]
    except InvalidDigestError as error:
        raise ManifestInvalidError(str(error), path=path) from error


def _list(value: object, path: str) -> list[Any]:
    if value is None:  # as Go writes an empty one
        return []
    if not isinstance(value, list):
        raise ManifestInvalidError(f"{value!r:.100} is not a list", path=path)
    return value


def _text(value: object, *, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise ManifestInvalidError(f"{value!r:.100} is not text", path=path)
    return value
