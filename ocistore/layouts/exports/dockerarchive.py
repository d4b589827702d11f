"""Writing images as ``docker load`` reads them: manifest.json, each config, and each layer as an uncompressed tar.

An image is what its config says: the config names the digests of its layers' uncompressed bytes (``rootfs.diff_ids``;
image specification, "Image JSON"). So layers that are compressed are decompressed on the way, twice: once for their
sizes, which are in the archive before the bytes, and to compare them with the config before anything is written; and
once to write them. What was imported uncompressed is exported byte for byte.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from ocistore.archives.compression import MAGIC_SIZE, Decompressed, ReadCompression, compression_of
from ocistore.archives.tar import BLOCK, begins_like_tar
from ocistore.archives.tarwriting import TarWriter
from ocistore.errors import ArchiveInvalidError, CorruptError, ManifestInvalidError
from ocistore.layouts.imports.docker import MANIFEST_JSON
from ocistore.layouts.vanished import gone_is_damage
from ocistore.oci import mediatypes
from ocistore.oci.config import MAXIMUM_CONFIG_SIZE, ImageConfig
from ocistore.oci.descriptor import Platform
from ocistore.oci.digest import Digest, hasher
from ocistore.oci.manifest import ATTESTED, Manifest, kind_of
from ocistore.oci.platforms import fitting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocistore.blobs.pool import Provider
    from ocistore.layouts.exports.selection import Selection
    from ocistore.layouts.exports.sink import ArchiveSink
    from ocistore.oci.descriptor import Descriptor

_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True)
class _Layer:
    """One layer as it is written."""

    diff_id: Digest
    size: int
    """Bytes, uncompressed."""
    blob: Descriptor
    compression: ReadCompression


@dataclass(frozen=True)
class _Image:
    """One image, with the names it gets."""

    config: Descriptor
    layers: tuple[Digest, ...]
    """Their diff_ids."""
    names: list[str]


@dataclass(frozen=True)
class DockerArchive:
    """What an archive will have in it, checked."""

    images: list[_Image]
    layers: dict[Digest, _Layer]
    """The layers by diff_id, each once."""
    manifests: frozenset[str]
    """The digests of the manifests of these images."""
    left_out: tuple[str, ...]
    """What the indexes that lead to them list besides and the archive cannot hold, each as "DIGEST (WHAT IT IS)"."""

    @property
    def blobs(self) -> set[str]:
        """The digests of the blobs of the store that are in it, decompressed or not."""
        return {image.config.digest for image in self.images} | {layer.blob.digest for layer in self.layers.values()}

    @property
    def size(self) -> int:
        """Bytes of all configs and layers."""
        configs = {image.config.digest: image.config.size for image in self.images}
        return sum(configs.values()) + sum(layer.size for layer in self.layers.values())

    def write(self, outlet: ArchiveSink, pool: Provider, *, archive: str) -> None:
        """Write it; the same images under the same names give the same bytes.

        Raises:
            CorruptError: a blob is gone, or is not what it was when it was checked.
            StorageError, StoreFullError: it could not be written.
        """
        tar = TarWriter(outlet.write)
        tar.file(MANIFEST_JSON, self._manifest_json())
        for config in {image.config.digest: image.config for image in self.images}.values():
            tar.begin_file(f"{config.digest.encoded}.json", config.size)
            outlet.send(pool, config.digest, config.size)
            tar.end_file()
        for layer in self.layers.values():
            tar.begin_file(_member(layer.diff_id), layer.size)
            if layer.compression == "none":
                outlet.send(pool, layer.blob.digest, layer.size)
            else:
                _write_decompressed(outlet, pool, layer, archive)
            tar.end_file()
        tar.finish()

    def _manifest_json(self) -> bytes:
        document = [
            {
                "Config": f"{image.config.digest.encoded}.json",
                "RepoTags": image.names or None,
                "Layers": [_member(diff_id) for diff_id in image.layers],
            }
            for image in self.images
        ]
        return json.dumps(document, separators=(",", ":")).encode()


def docker_archive(
    pool: Provider, selection: Selection, *, archive: str, platforms: Sequence[str] = ()
) -> DockerArchive:
    """Look at all images that were chosen, and read all of their layers that are compressed.

    Args:
        pool: where their bytes are.
        selection: what was chosen; each name must lead to one image.
        archive: what messages call the archive.
        platforms: which were chosen: of an index, the image that fits the only one best is written.

    Raises:
        ArchiveInvalidError: one of them is no image, is an index of several, lacks a layer, or has layers that are not
            what its config says.
        CorruptError: a blob is missing, or has another size.
    """
    wanted = Platform.parse(platforms[0]) if len(platforms) == 1 else None
    checking = _Checking(pool, selection, archive, wanted)
    for entry in sorted(selection.entries, key=lambda entry: entry.image_name):
        checking.add(entry.descriptor, entry.image_name, tagged=entry.tag is not None)
    left_out = {text: None for digest, text in checking.others.items() if digest not in checking.manifests}
    return DockerArchive(
        list(checking.images.values()), checking.layers, frozenset(checking.manifests), tuple(left_out)
    )


class _Checking:
    def __init__(self, pool: Provider, selection: Selection, archive: str, wanted: Platform | None) -> None:
        self._wanted = wanted
        self._pool = pool
        self._selection = selection
        self._archive = archive
        self.images: dict[Digest, _Image] = {}
        """The images by config: that is what an image is to Docker, however its layers are compressed."""
        self.manifests: set[Digest] = set()
        """Of these images."""
        self.others: dict[Digest, str] = {}
        """What indexes list besides an image that is written, each as "DIGEST (WHAT IT IS)"."""
        self.layers: dict[Digest, _Layer] = {}
        self._diff_ids: dict[Digest, _Layer] = {}
        """By the digests of blobs: many images have the same ones."""

    def add(self, descriptor: Descriptor, name: str, *, tagged: bool) -> None:
        manifest = self._image(descriptor, name)
        config = manifest.config
        if config is None or not mediatypes.is_image_config(config.media_type):
            raise self._refused(name, f"it is an artifact ({manifest.artifact_type}), and no image")
        self.manifests.add(manifest.descriptor.digest)
        image = self.images.get(config.digest)
        if image is None:
            diff_ids = self._checked_diff_ids(config, name)
            if len(diff_ids) != len(manifest.layers):
                reason = f"it has {len(manifest.layers)} layers, its config speaks of {len(diff_ids)}"
                raise self._refused(name, reason)
            for blob in manifest.layers:
                self._check_type(blob, name)
            for blob, diff_id in zip(manifest.layers, diff_ids, strict=True):
                self._check_layer(blob, diff_id, name)
            image = self.images[config.digest] = _Image(config, diff_ids, [])
        if tagged:
            image.names.append(name)

    def _image(self, descriptor: Descriptor, name: str) -> Manifest:
        """Return the one image that the descriptor leads to; of several for one platform, the first that is here."""
        listed: list[tuple[Manifest, Platform | None]] = []
        pending, seen = [descriptor], set()
        while pending:
            each = pending.pop()
            if each.digest in seen or not self._is_here(each):
                continue
            seen.add(each.digest)
            if mediatypes.is_index_type(each.media_type):
                pending += reversed(self._manifest(each).manifests)
                continue
            if each is not descriptor:
                self.others.setdefault(each.digest, f"{each.digest} ({kind_of(each)} in {name})")
            if mediatypes.is_manifest_type(each.media_type) and ATTESTED not in each.annotations:
                listed.append((self._manifest(each), each.stated_platform))
        images = [pair for pair in listed if mediatypes.is_image_config(pair[0].artifact_type)] or listed
        known = [(found, platform) for found, platform in images if platform is not None]
        if self._wanted is not None and (fits := fitting(known, self._wanted)):
            return fits[0]
        if len(images) != 1 and (len(known) != len(images) or len({_kind(platform) for _, platform in known}) != 1):
            platforms = sorted({str(platform) for _, platform in known})
            there = f" ({', '.join(platforms[:20])})" if platforms else ""
            reason = f"it is an index of {len(images)} images{there}: choose one platform"
            raise self._refused(name, reason if images else "it is an index of 0 images")
        return images[0][0]

    def _is_here(self, descriptor: Descriptor) -> bool:
        node = self._selection.nodes.get(descriptor.digest)
        return descriptor.digest in self._selection.made or (node is not None and node.here)

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        made = self._selection.made.get(descriptor.digest)
        if made is not None:
            return made
        return Manifest(descriptor, self._read(descriptor))

    def _read(self, descriptor: Descriptor) -> bytes:
        with gone_is_damage(descriptor.digest):
            return self._pool.read(descriptor.digest, descriptor.size)

    def _checked_diff_ids(self, config: Descriptor, name: str) -> tuple[Digest, ...]:
        if config.size > MAXIMUM_CONFIG_SIZE:
            raise self._refused(name, f"its config has {config.size} bytes")
        try:
            return ImageConfig.parse(self._read(config)).diff_ids
        except ManifestInvalidError as error:
            place = f"{error.path}: " if error.path else ""
            reason = f"its config does not say what its layers are (rootfs.diff_ids): {place}{error.reason}"
            raise self._refused(name, reason) from error

    def _check_type(self, blob: Descriptor, name: str) -> None:
        kind = blob.media_type
        if kind.endswith("+encrypted"):
            raise self._refused(name, f"its layer {blob.digest} is encrypted ({kind})")
        if not mediatypes.is_tar(kind):
            raise self._refused(name, f"its layer {blob.digest} is {kind}, and no archive of files")

    def _check_layer(self, blob: Descriptor, diff_id: Digest, name: str) -> None:
        layer = self._diff_ids.get(blob.digest)
        if layer is None:
            layer = self._diff_ids[blob.digest] = self._looked_at(blob, diff_id, name)
        if layer.diff_id != diff_id:
            reason = f"layer {blob.digest} is, uncompressed, {layer.diff_id}, and not {diff_id} as its config says"
            raise self._refused(name, reason)
        known = self.layers.get(diff_id)
        if known is None or known.compression != "none":  # what need not be decompressed is preferred
            self.layers[diff_id] = layer

    def _looked_at(self, blob: Descriptor, expected: Digest, name: str) -> _Layer:
        node = self._selection.nodes.get(blob.digest)
        if node is None or not node.here:
            raise self._refused(name, f"its layer {blob.digest} is not in the store")
        with _opened(self._pool, blob) as (source, compression):
            beginning, blocks = _begun(_blocks(source, compression, name=f"{self._archive}: layer {blob.digest}"))
            if not begins_like_tar(beginning):
                raise self._refused(name, f"its layer {blob.digest} is no tar archive, whatever its type says")
            if compression == "none" and blob.digest.algorithm == expected.algorithm:
                return _Layer(blob.digest, blob.size, blob, compression)
            state, size = hasher(expected.algorithm), 0
            for data in blocks:
                state.update(data)
                size += len(data)
        return _Layer(Digest.of_hasher(state, expected.algorithm), size, blob, compression)

    def _refused(self, name: str, reason: str) -> ArchiveInvalidError:
        return ArchiveInvalidError(self._archive, member=name, reason=f"{reason}; docker-archive cannot hold it")


@contextlib.contextmanager
def _opened(pool: Provider, blob: Descriptor) -> Iterator[tuple[BinaryIO, ReadCompression]]:
    """Open a blob, and find out what it is compressed with: media types are often wrong about that."""
    with gone_is_damage(blob.digest):
        source = pool.open(blob.digest, blob.size)
    with source:
        if source.size != blob.size:
            raise CorruptError(f"blob {blob.digest}", reason=f"its file has {source.size} bytes, not {blob.size}")
        yield cast("BinaryIO", source), compression_of(source.peek(MAGIC_SIZE)[:MAGIC_SIZE])


def _blocks(source: BinaryIO, compression: ReadCompression, *, name: str) -> Iterator[bytes]:
    """Yield the uncompressed bytes, bounded as everything that is decompressed."""
    stream = source if compression == "none" else cast("BinaryIO", Decompressed(source, compression, name=name))
    while data := stream.read(_BLOCK):
        yield data


def _begun(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, as many as a header of an archive has where there are as many; and all of them."""
    first = b""
    while len(first) < BLOCK and (more := next(blocks, b"")):
        first += more
    return first[:BLOCK], itertools.chain([first] if first else [], blocks)


def _write_decompressed(outlet: ArchiveSink, pool: Provider, layer: _Layer, archive: str) -> None:
    position = 0
    digest = layer.blob.digest
    with _opened(pool, layer.blob) as (source, compression):
        for data in _blocks(source, compression, name=f"{archive}: layer {digest}"):
            position += len(data)
            if position > layer.size:
                break
            outlet.write(data)
    if position != layer.size:
        raise CorruptError(f"blob {digest}", reason="it decompresses to another size than a moment ago")


def _kind(platform: Platform) -> tuple[str, str, str]:
    """Return what two images must agree in, if one may be written for both."""
    return platform.os, platform.architecture, platform.variant


def _member(diff_id: Digest) -> str:
    return f"{diff_id.encoded}.tar"
