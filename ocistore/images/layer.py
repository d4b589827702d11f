"""One layer as the archive that it is: opened, verified while it is read, decompressed within limits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ocistore import ArchiveInvalidError, BlobNotFoundError, CorruptError, DigestMismatchError, InvalidNameError
from ocistore.archives.layers import HashedStream, decompressed, verified_to_its_end
from ocistore.archives.tar import TarReader
from ocistore.artifacts import TITLE
from ocistore.oci import mediatypes
from ocistore.oci.reference import is_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ocistore import BlobReader, Descriptor, Digest, Manifest, Repository
    from ocistore.archives.tar import Member

_AT_ONCE: Final = 1024 * 1024


def layer_name(layer: Descriptor) -> str:
    """Return what messages call a layer."""
    return f"layer {layer.digest}"


def check_type(repository: Repository, layer: Descriptor) -> None:
    """Refuse what is not a layer of a file system.

    Raises:
        ArchiveInvalidError: it is encrypted, or of a type that is not known.
    """
    if layer.media_type.endswith("+encrypted"):
        raise ArchiveInvalidError(layer_name(layer), reason=f"it is encrypted ({layer.media_type})")
    if not mediatypes.is_tar(layer.media_type):
        remedy = f"print its bytes (ocistore cat {repository.name}@{layer.digest})"
        reason = f"{layer.media_type} is no known type of layer that has files in it: {remedy}"
        raise ArchiveInvalidError(layer_name(layer), reason=reason)


def layer_at(manifest: Manifest, layer: str) -> Descriptor:
    """Return a layer of an image by its number, from 1 for the lowest, or by its digest.

    Raises:
        InvalidNameError: the image has no such layer.
    """
    if is_digest(layer):
        for found in manifest.layers:
            if found.digest == layer:
                return found
    elif layer.isascii() and layer.isdigit() and len(layer) < 10 and 1 <= int(layer) <= len(manifest.layers):
        return manifest.layers[int(layer) - 1]
    reason = f"{manifest.descriptor.digest} has {len(manifest.layers)} layers; give a number from 1 on, or a digest"
    raise InvalidNameError(layer, kind="layer", reason=reason)


def open_layer(repository: Repository, layer: Descriptor, *, verify: bool) -> BlobReader:
    """Return the bytes of a layer, as they are stored.

    Raises:
        BlobNotFoundError: the repository does not hold it; the error says so where it is a foreign one.
        CorruptError: it has another size than the image says.
    """
    try:
        blob = repository.open_blob(layer.digest, verify=verify)
    except BlobNotFoundError as error:
        raise BlobNotFoundError(layer.digest, repository=repository.name, urls=layer.urls) from error
    if blob.size != layer.size:
        blob.close()
        raise CorruptError(f"blob {layer.digest}", reason=f"it has {blob.size} bytes, not {layer.size}")
    return blob


def members(repository: Repository, layer: Descriptor) -> Iterator[Member]:
    """Yield the members of a layer's archive. At their end, every byte of it has been verified.

    A layer without a single byte, or that decompresses to none, is one without members.

    Raises:
        BlobNotFoundError, CorruptError: as :func:`open_layer`; also where its bytes turn out to be damaged.
        ArchiveInvalidError: it is no archive, or a damaged one, or a decompression bomb.
    """
    with open_archive(repository, layer) as (archive, _):
        yield from archive


@contextlib.contextmanager
def open_archive(
    repository: Repository, layer: Descriptor, *, diff_id: Digest | None = None
) -> Iterator[tuple[TarReader, BlobReader]]:
    """Open the archive in a layer, and its bytes as they are stored. When the block ends, all of them were verified.

    Args:
        repository: which holds it.
        layer: its descriptor.
        diff_id: the digest that the archive must have before compression.

    Raises:
        DigestMismatchError: it has another.
        BlobNotFoundError, CorruptError, ArchiveInvalidError: as :func:`members`.
    """
    name = layer_name(layer)
    with open_layer(repository, layer, verify=True) as blob:
        source = decompressed(blob, name=name)
        hashed = None
        if diff_id is not None and (source is not blob or diff_id != layer.digest):
            hashed = HashedStream(source, diff_id.algorithm)
        with verified_to_its_end(blob, hashed or source):
            yield TarReader(hashed or source, name=name, is_layer=True), blob
        if hashed is not None and hashed.digest != diff_id:
            subject = f"{name}, decompressed,"
            raise DigestMismatchError(expected=str(diff_id), actual=str(hashed.digest), subject=subject)


def stacked_layers(repository: Repository, manifest: Manifest) -> tuple[Descriptor, ...]:
    """Return the layers that make the file system: all of an image; of an artifact those that are archives, if any are.

    Beside the archive of a chart is its signature, and beside those of a model its license: files without names.

    Raises:
        ArchiveInvalidError: one of them is encrypted, or of a type that is not known.
        BlobNotFoundError, CorruptError: one is not there, or has another size than the image says.
    """
    archives = tuple(layer for layer in manifest.layers if mediatypes.is_tar(layer.media_type))
    is_image = manifest.config is not None and mediatypes.is_image_config(manifest.config.media_type)
    layers = archives if archives and not is_image else manifest.layers
    for layer in layers:
        check_type(repository, layer)
        require_layer(repository, layer)
    return layers


def require_layer(repository: Repository, layer: Descriptor) -> None:
    """Raise before anything is read if a layer does not exist.

    Raises:
        BlobNotFoundError, CorruptError: as :func:`open_layer`.
    """
    open_layer(repository, layer, verify=False).close()


def has_titles(manifest: Manifest) -> bool:
    """Whether its layers are files: they have titles, and the config is not that of an image."""
    kind = None if manifest.config is None else manifest.config.media_type
    return not mediatypes.is_image_config(kind) and any(TITLE in layer.annotations for layer in manifest.layers)


@contextlib.contextmanager
def content_at(repository: Repository, layer: Descriptor, offset: int) -> Iterator[BinaryIO]:
    """Open the archive in a layer at an offset in it."""
    with open_layer(repository, layer, verify=False) as blob:
        source = decompressed(blob, name=layer_name(layer))
        if source is blob:
            blob.seek(offset)
        left = 0 if source is blob else offset
        while left:
            skipped = len(source.read(min(left, _AT_ONCE)))
            if not skipped:
                raise ArchiveInvalidError(layer_name(layer), reason="it is cut short")
            left -= skipped
        yield source
