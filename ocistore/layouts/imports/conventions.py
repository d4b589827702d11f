"""What an index.json says by its writers' customs: that it is one image, or that entries of it are signatures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ocistore.errors import ManifestInvalidError
from ocistore.layouts.directory import INDEX_JSON, NotPlainError
from ocistore.layouts.index import IMAGE_NAME, MAXIMUM_INDEX_SIZE, REF_NAME, name_of
from ocistore.oci.manifest import check_manifest
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocistore.layouts.imports.source import Source
    from ocistore.layouts.index import Name
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest

_KIND: Final = "kind"
_WRITERS: Final = ("dev.cosignproject.cosign/", "dev.hauler/")
_SUFFIXES: Final = {"sigs": ".sig", "atts": ".att", "sboms": ".sbom"}
_IMAGES: Final = frozenset({"image", "imageIndex"})


def with_own_names(entries: Sequence[Descriptor]) -> list[Descriptor]:
    """Return the entries, those about an image of the same name under the tag that is made of its digest.

    Where that may be one of several images, without a tag. ``cosign save``, and what is built on it, writes an image
    and what is about it as entries of one index.json, all of them with the name of the image or without any, and says
    by the annotation ``kind`` which is which. In a registry, cosign has them under such tags.
    """
    images: dict[tuple[str, str], dict[Digest, Name]] = {}
    for entry in entries:
        if _kind(entry) in _IMAGES:
            images.setdefault(_given(entry), {})[entry.digest] = name_of(entry)
    if not images:
        return list(entries)
    return [_renamed(entry, images.get(_given(entry), {})) if _kind(entry) in _SUFFIXES else entry for entry in entries]


def _renamed(entry: Descriptor, images: dict[Digest, Name]) -> Descriptor:
    annotations = {key: text for key, text in entry.annotations.items() if key not in {REF_NAME, IMAGE_NAME}}
    name = next(iter(images.values()), None)
    repository = None if name is None else name.repository
    if repository is not None and name is not None and name.host is not None:
        repository = f"{name.host}/{repository}"
    if len(images) == 1:
        [digest] = images
        annotations[REF_NAME] = f"{digest.algorithm}-{digest.encoded}{_SUFFIXES[_kind(entry)]}"
        if repository is not None:
            annotations[IMAGE_NAME] = f"{repository}:{annotations[REF_NAME]}"
    elif repository is not None:
        annotations[IMAGE_NAME] = f"{repository}@{entry.digest}"
    else:
        return entry
    return replace(entry, annotations=annotations)


def _kind(entry: Descriptor) -> str:
    """Return what the annotation says, without who wrote it; empty where it says nothing that is known."""
    kind = entry.annotations.get(_KIND, "")
    for writer in _WRITERS:
        if kind.startswith(writer):
            return kind.removeprefix(writer)
    return ""


def _given(entry: Descriptor) -> tuple[str, str]:
    return entry.annotations.get(REF_NAME, ""), entry.annotations.get(IMAGE_NAME, "")


def index_of_platforms(source: Source, entries: Sequence[Descriptor], *, maximum: int) -> Manifest | None:
    """Return the index that index.json is; None where it is a list of things that have no more in common.

    Tools that write an index as a layout (go-containerregistry's ``layout.Write``, apko) make it the index.json, which
    then lists nothing but images for several platforms, none with a name. ``crane push`` pushes its bytes as that.

    Args:
        source: where it is.
        entries: all that it lists.
        maximum: bytes of a manifest.
    """
    platforms = {entry.platform for entry in entries if entry.stated_platform is not None}
    if len(platforms) < len(entries):
        return None
    try:
        return check_manifest(source.read(INDEX_JSON, maximum=MAXIMUM_INDEX_SIZE), maximum=maximum)
    except (ManifestInvalidError, NotPlainError, OSError) as error:
        pass_on_theirs(error)
        return None
