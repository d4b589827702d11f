"""Small images and layouts to push, import and look up. The same salt and number always give the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"

PLATFORM: Final = '{"architecture":"amd64","os":"linux"}'
"""As the catalog writes down what the config says."""

_LAYER_SIZE: Final = 1024
_SMALLEST_BLOB: Final = 1024
_LARGEST_BLOB: Final = 4096


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes and their digest."""

    content: bytes
    digest: str
    in_file: int | None = None
    """The size in bytes where they are in a file and not here."""

    @classmethod
    def of(cls, content: bytes) -> Blob:
        """With its digest computed."""
        return cls(content, f"sha256:{hashlib.sha256(content).hexdigest()}")

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if self.in_file is None else self.in_file


@dataclass(frozen=True, slots=True)
class Image:
    """A config, layers and the manifest that names them."""

    config: Blob
    layers: Sequence[Blob]
    manifest: Blob

    @classmethod
    def of(cls, layers: Sequence[Blob]) -> Image:
        """With the config and the manifest that go with these layers."""
        config = Blob.of(
            _json(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
                }
            )
        )
        manifest = Blob.of(
            _json(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST_TYPE,
                    "config": descriptor(CONFIG_TYPE, config),
                    "layers": [descriptor(LAYER_TYPE, layer) for layer in layers],
                }
            )
        )
        return cls(config, layers, manifest)


def small_image(salt: str, number: int) -> Image:
    """A config, one layer of 1 KiB and the manifest: the first two are of no other image."""
    return Image.of([Blob.of(_noise(salt, number, _LAYER_SIZE))])


def image_of(salt: str, first: int, count: int) -> Image:
    """An image of many layers of 1 to 4 KiB, numbered from ``first``."""
    span = _LARGEST_BLOB - _SMALLEST_BLOB + 1
    # The step shares no factor with the span, so that every size occurs equally often.
    sizes = (_SMALLEST_BLOB + number * 1009 % span for number in range(first, first + count))
    return Image.of([Blob.of(_noise(salt, number, size)) for number, size in enumerate(sizes, first)])


def write_layout(root: Path, images: Sequence[Image], *, names: Sequence[str]) -> None:
    """An OCI layout directory of these images, one name each."""
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for image in images:
        for blob in (image.config, *image.layers, image.manifest):
            (blobs / blob.digest.partition(":")[2]).write_bytes(blob.content)
    write_index(root, [(name, image.manifest) for name, image in zip(names, images, strict=True)])


def write_index(root: Path, entries: Sequence[tuple[str, Blob]]) -> None:
    """The two files of the top level of a layout."""
    manifests = [
        descriptor(MANIFEST_TYPE, manifest) | {"annotations": {"org.opencontainers.image.ref.name": name}}
        for name, manifest in entries
    ]
    (root / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}))


def descriptor(media_type: str, blob: Blob) -> dict[str, object]:
    """What refers to a blob."""
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def fresh_salt() -> str:
    """One that was never used: content made with it is in no store."""
    return os.urandom(8).hex()


def _noise(salt: str, number: int, size: int) -> bytes:
    return hashlib.shake_128(f"{salt}/{number}".encode()).digest(size)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
