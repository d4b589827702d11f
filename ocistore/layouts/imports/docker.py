"""Docker's archives read as a layout: each image gets an OCI manifest; its config and its layers stay byte for byte.

There is one form, ``manifest.json`` beside configs and layers that it names, and many writers: ``docker save``,
podman's and skopeo's ``docker-archive``, crane's tarballs. Where there is an ``index.json``, too, both are read: see
:mod:`ocistore.layouts.imports.united`.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ocistore.archives.compression import MAGIC_SIZE, compression_of
from ocistore.errors import LayoutInvalidError, ManifestInvalidError
from ocistore.layouts.directory import NotPlainError
from ocistore.layouts.imports.manifests import MAXIMUM_MANIFESTS_SIZE
from ocistore.layouts.imports.source import InMemory, SourceOver
from ocistore.layouts.index import IMAGE_NAME, MAXIMUM_DAMAGED, Damaged, index_bytes, name_of
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.config import MAXIMUM_CONFIG_SIZE, ImageConfig
from ocistore.oci.descriptor import Descriptor, Platform, json_object
from ocistore.oci.digest import Digest, is_any_digest, is_of_other_algorithm
from ocistore.oci.reference import DEFAULT_HOST, DEFAULT_NAMESPACE
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from ocistore.layouts.imports.members import Members
    from ocistore.layouts.imports.source import Source, SourceFile
    from ocistore.layouts.index import Name

MANIFEST_JSON: Final = "manifest.json"
MAXIMUM_MANIFEST_JSON_SIZE: Final = 16 * 1024 * 1024
"""Bytes: some ten thousand images."""
MAXIMUM_CONFIGS_SIZE: Final = 256 * 1024 * 1024
"""Bytes of all configs that are read; each is read anew for each image that names it."""
MAXIMUM_NAMES: Final = 50_000
"""Images, and names that they have, in one archive: each becomes an entry of an index, in memory."""

REPOSITORIES: Final = "repositories"
"""Names of images by their topmost layers: all that described them before Docker 1.10."""
_MAXIMUM_REPOSITORIES_SIZE: Final = 4 * 1024 * 1024
_ANY: Final = Descriptor(mediatypes.OCI_MANIFEST, Digest.of(b""), 0)
_NO_NAMES: Final = ("<none>:<none>", "")
"""How Docker prints an image that has no name, and some tools write it: they take it for one."""
_KEYS: Final = frozenset({"Config", "RepoTags", "Layers", "Parent", "LayerSources"})
_LAYER_TYPES: Final = {
    "none": mediatypes.OCI_LAYER,
    "gzip": mediatypes.OCI_LAYER_GZIP,
    "zstd": mediatypes.OCI_LAYER_ZSTD,
    # The specification has no types for these; they end as people end them, and say what the bytes are.
    "xz": f"{mediatypes.OCI_LAYER}+xz",
    "bzip2": f"{mediatypes.OCI_LAYER}+bzip2",
}


@dataclass(frozen=True)
class SavedImage:
    """One image, as manifest.json describes it."""

    config: str
    """The name of its config in the archive."""
    layers: tuple[str, ...]
    """Their names in the archive, the lowest first."""
    names: tuple[str, ...]
    """``RepoTags``: what it is called."""
    path: str
    """Its place in manifest.json, for messages."""

    @property
    def called(self) -> str:
        """What it is called, for messages."""
        return f"{self.names[0]:.200}" if self.names else f"{MANIFEST_JSON}{self.path}"


@dataclass
class Converted:
    """Images of Docker's as parts of a layout."""

    manifests: dict[Digest, bytes] = field(default_factory=dict)
    """Those that are not in the archive."""
    blobs: dict[Digest, SourceFile] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)
    """What is wrong with all of it, each once."""
    damaged: list[Damaged] = field(default_factory=list)
    """Images of which something is missing or wrong, under each of their names."""
    left_out: list[str] = field(default_factory=list)
    """What something in the archive describes and cannot be imported; each a line that says why."""


class ConvertedSource(SourceOver):
    """A source that has images of Docker's, of which only the manifests, and what lists them, are not in it."""

    def __init__(self, source: Source, files: Mapping[str, bytes], images: Converted) -> None:
        """Put ``files`` in the place of those of the top level.

        Raises:
            LayoutInvalidError: what describes the images is damaged.
        """
        super().__init__(source)
        if images.problems:
            raise LayoutInvalidError(Path(self.name), problems=tuple(images.problems))
        self.left_out, self.damaged = tuple(images.left_out), tuple(images.damaged)
        self._files = files
        self._images = images

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return what a file of the top level is, or would be."""
        if name not in self._files:
            return super().read(name, maximum=maximum)
        content = self._files[name]
        if len(content) > maximum:
            raise NotPlainError(f"it would be larger than {maximum} bytes")
        return content

    def blob(self, digest: Digest) -> SourceFile:
        """Return a manifest that was made, or a blob of the source."""
        made = self._images.manifests.get(digest)
        return InMemory(made) if made is not None else self._images.blobs.get(digest) or super().blob(digest)


def converted(archive: Members) -> tuple[bytes, Converted]:
    """Read ``manifest.json``, and what it names as far as needed; return what its index.json would be, and the rest.

    An uncompressed layer is what ``diff_ids`` of the config say: where that was not hashed yet, it is taken at its word
    here, and verified when it is staged.

    Raises:
        ArchiveInvalidError: a name in it leads out of the archive.
        OSError: the archive could not be read.
    """
    conversion = Conversion(archive)
    entries: list[Descriptor] = []
    images = conversion.saved_images()
    for image in images:
        descriptor = conversion.manifest_of(image)
        if descriptor is not None:
            names = conversion.names_of(image, [descriptor.digest])
            entries += [named(descriptor, name) for name in names or ([] if image.names else [""])]
    conversion.result.left_out += unlisted_names(archive, images, set())
    return bytes(index_bytes(entries)), conversion.result


def named(descriptor: Descriptor, name: str) -> Descriptor:
    """Return the descriptor as an entry of an index with that name; without one where it is empty."""
    return replace(descriptor, annotations={IMAGE_NAME: name} if name else {})


def name_key(name: Name) -> tuple[str, str, str] | None:
    """Return the one spelling that Docker gives a name: host, repository and tag; None where it has no tag."""
    if name.repository is None or name.tag is None:
        return None
    host, repository = name.host, name.repository
    if host is None:
        first, slash, rest = repository.partition("/")
        if slash and ("." in first or first == "localhost"):
            host, repository = first, rest
        else:
            host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in repository:
        repository = f"{DEFAULT_NAMESPACE}/{repository}"
    return host, repository, name.tag


def unlisted_names(
    archive: Members, images: Iterable[SavedImage], known: AbstractSet[tuple[str, str, str] | None]
) -> list[str]:
    """Return the names that only the file ``repositories`` has, each with that reason.

    Docker wrote its names there before there was manifest.json, and writes them still; it does not read them where
    there is one.

    Args:
        archive: the archive.
        images: those of manifest.json.
        known: other names that something has.

    Raises:
        OSError: it could not be read.
    """
    listed = known | {name_key(name_of(named(_ANY, name))) for image in images for name in image.names}
    return [
        f"{name!r:.300} (only the file {REPOSITORIES} names it)"
        for name in _repository_names(archive)
        if name_key(name_of(named(_ANY, name))) not in listed
    ]


def _repository_names(archive: Members) -> list[str]:
    try:
        entry = archive.followed(REPOSITORIES)
        if entry.size() > _MAXIMUM_REPOSITORIES_SIZE:
            return []
        document = strictjson.loads(entry.read(entry.size()), maximum=_MAXIMUM_REPOSITORIES_SIZE)
    except (FileNotFoundError, NotPlainError, ManifestInvalidError) as error:
        pass_on_theirs(error)
        return []
    if not isinstance(document, dict):
        return []
    return [f"{name}:{tag}" for name, tags in document.items() if isinstance(tags, dict) for tag in tags]


class _TooMuchError(Exception):
    """There is more of something than is read; the text says of what."""


class Conversion:
    """The images that are read from one archive. What is wrong with one is noted in the result."""

    def __init__(self, archive: Members) -> None:
        """Begin; nothing is read yet."""
        self.result = Converted()
        self._archive = archive
        self._compressed: dict[str, Descriptor] = {}
        """Layers that had to be hashed, by name: images share them."""
        self._configs: dict[str, Digest | None] = {}
        """By name, what was found where only the digest was asked for."""
        self._noted: dict[str, None] = {}
        """What is wrong with the image that is looked at."""
        self._platform: Platform | None = None
        """What that is for, as far as its config was read."""
        self._configs_size = 0
        self._manifests_size = 0
        self._ended = False
        """Whether there was too much of something, so that no more is read."""

    def saved_images(self) -> list[SavedImage]:
        """Return the images that manifest.json lists, except those that are wrong in themselves, which is noted.

        Raises:
            OSError: it could not be read.
        """
        images: list[SavedImage] = []
        count = 0
        try:
            for position, value in enumerate(_listed(self._archive)):
                try:
                    image = _saved_image(value, path=f"[{position}]")
                except ManifestInvalidError as error:
                    self._noted = {f"{MANIFEST_JSON}: {error}": None}
                    self._note_damage(_names_in(value)[:MAXIMUM_DAMAGED])
                    if len(self.result.damaged) > MAXIMUM_DAMAGED:
                        reason = f"more than {MAXIMUM_DAMAGED} of its entries are damaged: {error}"
                        raise _TooMuchError(reason) from error
                    continue
                count += len(image.names) or 1
                if count > MAXIMUM_NAMES:
                    raise _TooMuchError(f"it has more than {MAXIMUM_NAMES} images and names")
                images.append(image)
        except (ManifestInvalidError, NotPlainError, _TooMuchError) as error:
            self._wrong(error)
            return []
        return images

    def config_digest(self, image: SavedImage) -> Digest | None:
        """Return the digest of an image's config, by which Docker knows an image; None where it does not exist.

        Raises:
            ArchiveInvalidError: its name leads out of the archive.
            OSError: it could not be read.
        """
        if image.config not in self._configs:
            found = None
            with Ignoring(FileNotFoundError, NotPlainError, ManifestInvalidError, _TooMuchError):
                entry = self._archive.followed(image.config)
                found = Digest.of(self._config(entry, image.config))
            self._configs[image.config] = found
        return self._configs[image.config]

    def manifest_of(self, image: SavedImage) -> Descriptor | None:
        """Return the manifest that an image gets; None where something is wrong, which is noted.

        Raises:
            ArchiveInvalidError: a name leads out of the archive.
            OSError: something could not be read.
        """
        if self._ended:
            return None
        self._noted, self._platform, unknown = {}, None, False
        try:
            descriptor = self._image(image)
        except ManifestInvalidError as error:
            descriptor, unknown = None, error.unknown
            self._noted[f"{MANIFEST_JSON}: {error}"] = None
        except NotPlainError as error:
            descriptor = None
            self._noted[f"{image.path}: {error}"] = None
        except _TooMuchError as error:
            self._wrong(error)
            self._ended = True
            return None
        if descriptor is None:
            self._note_damage(image.names, unknown=unknown)
        return descriptor

    def names_of(self, image: SavedImage, digests: Sequence[Digest]) -> list[str]:
        """Return the names of an image. A digest in a name must be the image's; where it is another's, that is noted.

        Where nobody knows, because it is of an algorithm that is not known here, that is noted, and is no damage.

        Args:
            image: the image.
            digests: of what it is, the manifest first. That of its config, by which Docker knows it, counts too.

        Raises:
            ArchiveInvalidError: the name of its config leads out of the archive.
            OSError: something could not be read.
        """
        names: list[str] = []
        for name in image.names:
            before, _, digest = name.partition("@")
            if not is_any_digest(digest) or digest in digests:
                names.append(name)
            elif digest == self.config_digest(image):
                names.append(f"{before}@{digests[0]}")
            else:
                unknown = is_of_other_algorithm(digest)
                reason = "has a digest of an unknown algorithm" if unknown else "is the name of another image"
                problem = f"{MANIFEST_JSON}: {image.path}.RepoTags: {name!r:.300} {reason}, this is {digests[0]}"
                damaged = Damaged((problem,), digests[0], {IMAGE_NAME: name}, unknown=unknown)
                self.result.damaged.append(damaged)
        return names

    def _note_damage(self, names: Sequence[str], *, unknown: bool = False) -> None:
        problems = tuple(self._noted)
        for name in names or ("",):
            annotations = {IMAGE_NAME: name} if name else {}
            damaged = Damaged(problems, annotations=annotations, platform=self._platform, unknown=unknown)
            self.result.damaged.append(damaged)

    def _wrong(self, error: Exception) -> None:
        self.result.problems[f"{MANIFEST_JSON}: {error}"] = None

    def _image(self, image: SavedImage) -> Descriptor | None:
        entry = self._found(image.config, f"config in {image.called}")
        if entry is None:
            for name in image.layers:
                self._found(name, f"layer in {image.called}")
            return None
        config = ImageConfig.parse(self._config(entry, image.config), name=f"{image.config!r:.200}")
        with contextlib.suppress(ManifestInvalidError):
            self._platform = config.platform
        if len(config.diff_ids) != len(image.layers):
            reason = f"it has {len(image.layers)} layers, and its config {len(config.diff_ids)} diff_ids"
            raise ManifestInvalidError(reason, path=image.path)
        of = "" if self._platform is None else f" of the image for {self._platform}"
        kind = f"layer{of} in {image.called}"
        layers = [self._layer(name, diff_id, kind) for name, diff_id in zip(image.layers, config.diff_ids, strict=True)]
        found = [layer for layer in layers if layer is not None]
        if len(found) < len(layers):
            return None
        digest = Digest.of(config.content)
        self.result.blobs[digest] = entry
        return self._manifest(Descriptor(mediatypes.OCI_CONFIG, digest, len(config.content)), found)

    def _manifest(self, config: Descriptor, layers: list[Descriptor]) -> Descriptor:
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
        return Descriptor(mediatypes.OCI_MANIFEST, digest, len(content))

    def _config(self, entry: SourceFile, name: str) -> bytes:
        if entry.size() > MAXIMUM_CONFIG_SIZE:
            raise ManifestInvalidError(f"{name!r:.200} is larger than {MAXIMUM_CONFIG_SIZE} bytes")
        self._configs_size += entry.size()
        if self._configs_size > MAXIMUM_CONFIGS_SIZE:
            raise _TooMuchError(f"the configs of its images have more than {MAXIMUM_CONFIGS_SIZE} bytes")
        return entry.read(entry.size())

    def _layer(self, name: str, diff_id: Digest, kind: str) -> Descriptor | None:
        entry = self._found(name, kind)
        if entry is None:
            return None
        compression = compression_of(entry.read(MAGIC_SIZE))
        if compression == "none":
            layer = Descriptor(mediatypes.OCI_LAYER, diff_id, entry.size())
        else:
            if name not in self._compressed:
                self._compressed[name] = Descriptor(_LAYER_TYPES[compression], entry.digest(), entry.size())
            layer = self._compressed[name]
        self.result.blobs[layer.digest] = entry
        return layer

    def _found(self, name: str, kind: str) -> SourceFile | None:
        """Return a member of the archive; None where it does not exist, which is noted with what it is."""
        try:
            return self._archive.followed(name)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            if "\\" in name:  # as Docker on Windows writes names in manifest.json, and not those of members
                return self._found(name.replace("\\", "/"), kind)
            self._noted[f"{name!r:.200} is missing: {kind}"] = None
        except NotPlainError as error:
            self._noted[f"{name!r:.200}: {error}"] = None
        return None


def _listed(archive: Members) -> list[Any]:
    entry = archive.followed(MANIFEST_JSON)
    if entry.size() > MAXIMUM_MANIFEST_JSON_SIZE:
        raise NotPlainError(f"it is larger than {MAXIMUM_MANIFEST_JSON_SIZE} bytes")
    document = strictjson.loads(entry.read(entry.size()), maximum=MAXIMUM_MANIFEST_JSON_SIZE)
    if document is None:  # as Go writes an empty list
        return []
    if not isinstance(document, list):
        reason = "it is not a list of images"
        if isinstance(document, dict) and "schemaVersion" in document:
            reason += ", but the manifest of one, as in skopeo's form dir: unpack it, and import the directory"
        raise ManifestInvalidError(reason)
    return document


def _saved_image(value: object, *, path: str) -> SavedImage:
    members = json_object(value, _KEYS, path=path)
    config = _text(members.get("Config"), path=f"{path}.Config")
    layers = [_text(name, path=f"{path}.Layers") for name in _list(members.get("Layers"), f"{path}.Layers")]
    listed = [name for name in _list(members.get("RepoTags"), f"{path}.RepoTags") if name not in _NO_NAMES]
    names = tuple(_text(name, path=f"{path}.RepoTags") for name in listed)
    return SavedImage(config, tuple(layers), names, path)


def _names_in(value: object) -> tuple[str, ...]:
    """Return the names that a damaged entry gives its image, as far as they can be read."""
    names = value.get("RepoTags") if isinstance(value, dict) else None
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


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
