"""The documents of manifests that are made here: the keys in the specification's order, and one spelling of each.

Equal parts give equal bytes, and so the same digest: no spaces, as everybody's clients write manifests, and UTF-8;
annotations in the order of their keys, for nobody may rely on another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from ocistore.errors import ManifestInvalidError
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import Descriptor, json_annotations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EMPTY: Final = Descriptor.of(b"{}", mediatypes.OCI_EMPTY, embed=True)
"""The empty descriptor (image specification, image manifest, "Guidance for an Empty Descriptor"), content included."""


class HasDescriptor(Protocol):
    """What knows its own descriptor, such as a manifest."""

    @property
    def descriptor(self) -> Descriptor:
        """Type, digest and size of its bytes."""
        ...


Describable: TypeAlias = Descriptor | HasDescriptor
"""What a manifest can refer to: a descriptor, or what has one, such as another manifest."""


def image_document(
    *,
    config: Describable | None,
    layers: Iterable[Describable],
    artifact_type: str | None,
    subject: Describable | None,
    annotations: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return the document of an image manifest, whose values are checked by whoever reads it.

    Raises:
        TypeError: an argument is of a type that no part can be made of.
        ManifestInvalidError: an artifact has no type, or there is something else than text in annotations.
    """
    configured = EMPTY if config is None else descriptor_of(config, argument="config")
    if configured.media_type == mediatypes.OCI_EMPTY and artifact_type is None:
        reason = "a manifest without a config, or with the empty one, needs an artifact_type"
        raise ManifestInvalidError(reason, path="artifactType")
    document = _opening(mediatypes.OCI_MANIFEST, artifact_type)
    document["config"] = _canonical(configured, path="config")
    document["layers"] = _all_canonical(layers, argument="layers")
    return document | _closing(subject, annotations)


def index_document(
    *,
    manifests: Iterable[Describable],
    artifact_type: str | None,
    subject: Describable | None,
    annotations: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return the document of an index, likewise.

    Raises:
        TypeError, ManifestInvalidError: as :func:`image_document`.
    """
    document = _opening(mediatypes.OCI_INDEX, artifact_type)
    document["manifests"] = _all_canonical(manifests, argument="manifests")
    return document | _closing(subject, annotations)


def descriptor_of(value: Describable, *, argument: str) -> Descriptor:
    """Return the descriptor that ``value`` is, or has.

    Raises:
        TypeError: it neither is nor has one; the error names the argument.
    """
    found = value if isinstance(value, Descriptor) else getattr(value, "descriptor", None)
    if not isinstance(found, Descriptor):
        raise TypeError(f"{argument} must be a Descriptor, a Manifest or an Index, not {type(value).__name__}")
    return found


def _opening(media_type: str, artifact_type: str | None) -> dict[str, Any]:
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type is not None:
        # Where one is read, nothing counts as no type; somebody who gives one has one.
        document["artifactType"] = mediatypes.media_type(artifact_type, path="artifactType")
    return document


def _closing(subject: Describable | None, annotations: Mapping[str, str] | None) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if subject is not None:
        document["subject"] = _canonical(descriptor_of(subject, argument="subject"), path="subject")
    if annotations:
        document["annotations"] = _sorted(dict(annotations), path="annotations")
    return document


def _all_canonical(values: Iterable[Describable], *, argument: str) -> list[dict[str, Any]]:
    return [
        _canonical(descriptor_of(value, argument=f"{argument}[{position}]"), path=f"{argument}[{position}]")
        for position, value in enumerate(values)
    ]


def _canonical(descriptor: Descriptor, *, path: str) -> dict[str, Any]:
    document = descriptor.to_json()
    if descriptor.annotations:
        document["annotations"] = _sorted(document["annotations"], path=f"{path}.annotations")
    return document


def _sorted(annotations: dict[str, str], *, path: str) -> dict[str, str]:
    return dict(sorted(json_annotations(annotations, path=path).items()))
