"""What the layers of an artifact are called: their annotations, and which titles can be the names of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ocistore import ArtifactInvalidError, Reference
from ocistore.archives.names import MAXIMUM_PATH
from ocistore.argumenttypes import checks_types
from ocistore.oci import mediatypes

if TYPE_CHECKING:
    from ocistore import Descriptor, Manifest

TITLE: Final = "org.opencontainers.image.title"
"""The annotation of a layer that names its file (image specification, "Pre-Defined Annotation Keys")."""
UNPACK: Final = "io.deis.oras.content.unpack"
"""The annotation by which ``oras`` marks a layer that is a whole directory, as an archive: then it is ``true``."""
CONTENT_DIGEST: Final = "io.deis.oras.content.digest"
"""The annotation of such a layer with the digest of the archive before it was compressed."""
EXECUTABLE: Final = "dev.ocistore.executable"
"""The annotation of a layer that is a file which may be executed: then it is ``true``. There is none that others use
alike: ``oras`` makes every such file 0644."""

MAXIMUM_DIRECTORIES: Final = 64
"""Directories above a file. Some hundreds of them make a tree that tools which recurse cannot remove any more."""
TOO_DEEP: Final = (
    f"it lies deeper than {MAXIMUM_DIRECTORIES} directories, or its path has more than {MAXIMUM_PATH} bytes"
)
"""The reason why something in a directory is neither packed nor unpacked."""
_MAXIMUM_COMPONENT: Final = 255
"""Bytes. What Linux filesystems take as one name."""


@checks_types
def is_packed_directory(layer: Descriptor) -> bool:
    """Whether a layer of an artifact is a whole directory, packed as an archive, which :func:`pull_files` unpacks."""
    return layer.annotations.get(UNPACK) == "true"


def is_executable(layer: Descriptor) -> bool:
    """Whether a layer of an artifact is a file that may be executed."""
    return layer.annotations.get(EXECUTABLE) == "true"


def layers_by_title(reference: str, manifest: Manifest, *, keep_packed: bool = False) -> dict[str, Descriptor]:
    """Return the layers that have titles, in order, after all titles were checked.

    Args:
        reference: what messages call the manifest.
        manifest: of the artifact.
        keep_packed: whether packed directories become files, so that nothing else can be in them.

    Raises:
        ArtifactInvalidError: it is an index, none of its layers has a title, or one of them cannot be a file's name or
            cannot be beside the others.
    """
    if mediatypes.is_index_type(manifest.media_type):
        raise ArtifactInvalidError(
            reference, reason="it is an index, which has no files: pull one of its manifests by its digest"
        )
    titled: dict[str, Descriptor] = {}
    directories: dict[str, str] = {}
    for layer in manifest.layers:
        title = layer.annotations.get(TITLE)
        if title is None:
            continue
        components = title_components(title)
        if title in titled:
            raise ArtifactInvalidError(title, reason="two files have this title")
        titled[title] = layer
        for depth in range(1, len(components)):
            directories.setdefault("/".join(components[:depth]), title)
    for title, layer in titled.items():
        if title in directories and (keep_packed or not is_packed_directory(layer)):
            reason = f"it would be a file, and a directory in {directories[title]!r:.300}"
            raise ArtifactInvalidError(title, reason=reason)
    if not titled:
        raise ArtifactInvalidError(reference, reason=_without_titles(reference, manifest))
    return titled


def _without_titles(reference: str, manifest: Manifest) -> str:
    """Return the message that nothing is to be pulled, and what to do instead."""
    if manifest.config is not None and mediatypes.is_image_config(manifest.config.media_type):
        remedy = "it is an image, whose files are in its layers (ocistore ls-files, ocistore cat)"
    else:
        remedy = f"print one of them by its digest (ocistore cat {Reference.parse(reference).repository}@DIGEST)"
    return f"none of its layers has a title ({TITLE}), so there are no files: {remedy}"


def title_components(title: str) -> list[str]:
    """Return the names on the way to a file, its own name last.

    Refused is whatever is no relative path in its one plain spelling. A backslash is an ordinary character here.

    Raises:
        ArtifactInvalidError: no file can have this title.
    """
    if not title:
        raise ArtifactInvalidError(title, reason="a title must not be empty")
    try:
        encoded = title.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArtifactInvalidError(title, reason="a title must be UTF-8") from error
    if len(encoded) > MAXIMUM_PATH:
        raise ArtifactInvalidError(title, reason=f"a title has at most {MAXIMUM_PATH} bytes, this has {len(encoded)}")
    if any(byte < 0x20 or byte == 0x7F for byte in encoded):
        raise ArtifactInvalidError(title, reason="a title must not hold control characters")
    if title.startswith("/"):
        raise ArtifactInvalidError(title, reason="a title must be a relative path")
    components = title.split("/")
    if len(components) > MAXIMUM_DIRECTORIES + 1:
        raise ArtifactInvalidError(title, reason=f"a title leads through at most {MAXIMUM_DIRECTORIES} directories")
    for component in components:
        if component in ("", ".", ".."):
            raise ArtifactInvalidError(title, reason=f"{component!r} in a title is no name of a file or directory")
        if len(component.encode("utf-8")) > _MAXIMUM_COMPONENT:
            raise ArtifactInvalidError(title, reason=f"a file's name has at most {_MAXIMUM_COMPONENT} bytes")
    return components
