"""Tiny valid content made from parameters: the same parameters always give the same bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocistore import Descriptor, Digest
from ocistore.oci import mediatypes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ocistore.repository import RepositoryWriter

OCTET_STREAM = "application/octet-stream"
SBOM = "application/vnd.example.sbom.v1+json"
SIGNATURE = "application/vnd.example.signature.v1"


@dataclass(frozen=True)
class Image:
    """A manifest and the blobs it needs."""

    manifest: bytes
    blobs: tuple[bytes, ...] = ()
    media_type: str = mediatypes.OCI_MANIFEST
    children: tuple[Image, ...] = field(default=())

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)

    @property
    def config(self) -> bytes:
        return self.blobs[0]

    @property
    def layers(self) -> tuple[bytes, ...]:
        return self.blobs[1:]


def document(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def described(
    content: bytes, media_type: str = OCTET_STREAM, *, algorithm: str = "sha256", **more: Any
) -> dict[str, Any]:
    """The descriptor of some content, as JSON has it; ``more`` adds properties or replaces them."""
    digest = str(Digest.of(content, algorithm))
    return {"mediaType": media_type, "digest": digest, "size": len(content), **more}


def image(
    name: object = "app",
    *,
    layers: int = 1,
    subject: Image | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
    **config: object,
) -> Image:
    """An image manifest with its config and layers, all of them different for different names."""
    config_bytes = document({"architecture": "arm64", "os": "linux", "name": str(name), **config})
    layer_bytes = tuple(f"layer {number} of {name}".encode() for number in range(layers))
    media_type = mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": described(config_bytes, mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG),
        "layers": [
            described(layer, mediatypes.DOCKER_LAYER_GZIP if docker else mediatypes.OCI_LAYER) for layer in layer_bytes
        ],
    }
    _extend(body, subject=subject, artifact_type=artifact_type, annotations=annotations)
    return Image(document(body), (config_bytes, *layer_bytes), media_type)


def artifact(
    name: object = "note",
    *,
    subject: Image | None = None,
    artifact_type: str | None = SBOM,
    annotations: Mapping[str, str] | None = None,
    config_type: str = mediatypes.OCI_EMPTY,
) -> Image:
    """A manifest of one file, as artifacts are packed: with the empty config (image manifest, "Artifacts")."""
    content = f"content of {name}".encode()
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(b"{}", config_type),
        "layers": [described(content)],
    }
    _extend(body, subject=subject, artifact_type=artifact_type, annotations=annotations)
    return Image(document(body), (b"{}", content))


def index(
    children: Iterable[Image] = (),
    *,
    subject: Image | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
) -> Image:
    """An image index of these manifests. Without children it is the smallest manifest there is: it needs no blobs."""
    children = tuple(children)
    media_type = mediatypes.DOCKER_LIST if docker else mediatypes.OCI_INDEX
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [described(child.manifest, child.media_type) for child in children],
    }
    _extend(body, subject=subject, artifact_type=artifact_type, annotations=annotations)
    return Image(document(body), media_type=media_type, children=children)


def note(text: object) -> Image:
    """A manifest that needs nothing else: an empty index, different for each text."""
    return index(annotations={"note": str(text)})


def push(repository: RepositoryWriter, pushed: Image, *tags: str) -> Descriptor:
    """Put everything an image consists of, from the leaves up, and tag it."""
    for child in pushed.children:
        push(repository, child)
    for blob in pushed.blobs:
        repository.put_blob(blob)
    return repository.put_manifest(pushed.manifest, tags=tags)


def _extend(
    body: dict[str, Any],
    *,
    subject: Image | None,
    artifact_type: str | None,
    annotations: Mapping[str, str] | None,
) -> None:
    if artifact_type is not None:
        body["artifactType"] = artifact_type
    if subject is not None:
        body["subject"] = described(subject.manifest, subject.media_type)
    if annotations is not None:
        body["annotations"] = dict(annotations)


APP = image()
"""For tests that need an image and do not care which."""
