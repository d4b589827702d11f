"""An archive that is described twice, by an OCI layout's index.json and by Docker's manifest.json: what both describe.

``docker save`` writes both from version 25 on, and so do containerd and others; and they need not agree. An image that
was saved without a name may be in manifest.json alone, and ``manifests`` in index.json be ``null`` (Docker 25.0.x); of
several that were saved by their digests, index.json may have one; manifests of Docker 25.0.0 have no layers; and a name
may be in one of them only. No tool reads both, so what is left out of one is lost to those that read the other.

An image is its config: that is how the two are compared. What index.json has is taken as it is, and manifest.json adds
the images and the names that are not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ocistore.errors import ManifestInvalidError
from ocistore.layouts.directory import BLOBS, INDEX_JSON, NotPlainError
from ocistore.layouts.imports.docker import Conversion, name_key, named, unlisted_names
from ocistore.layouts.imports.manifests import MAXIMUM_MANIFESTS_SIZE
from ocistore.layouts.index import (
    IMAGE_NAME,
    MAXIMUM_INDEX_SIZE,
    MAXIMUM_INDEX_VALUES,
    name_of,
)
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import Descriptor
from ocistore.oci.digest import Digest, digest_or_none
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.layouts.imports.docker import Converted, SavedImage
    from ocistore.layouts.imports.members import Members
    from ocistore.layouts.index import Name

_MAXIMUM_STEPS: Final = 1_000_000
"""Manifests that are looked at, each as often as an entry leads to it."""
_COMPARED: Final = 100
"""Manifests of one config that an image is compared with. In an archive that anybody made there are one or two."""


@dataclass
class _UnitedEntry:
    """One entry of index.json: as written there, and what leads to it."""

    value: dict[str, Any]
    descriptor: Descriptor
    name: Name
    images: set[tuple[str, ...]] = field(default_factory=set)
    """What the images of manifest.json are called that are in it, or are it."""
    named_by_docker: bool = False
    """Whether it has no name of its own, and was given one that manifest.json has."""


@dataclass(frozen=True)
class _Manifest:
    """A manifest that index.json leads to."""

    descriptor: Descriptor
    layers: int
    entry: _UnitedEntry


class _Part(NamedTuple):
    """What is to be known of a manifest that index.json leads to."""

    children: tuple[Descriptor, ...] = ()
    config: str | None = None
    """Its digest."""
    layers: int = 0


def united(archive: Members) -> tuple[bytes, Converted] | None:
    """Read both descriptions: return what index.json would be, and what is not in the archive as it says.

    None where index.json is damaged, which its reader will report.

    Raises:
        ArchiveInvalidError: a name in manifest.json leads out of the archive.
        OSError: the archive could not be read.
    """
    document = _index(archive)
    if document is None:
        return None
    return _Union(archive, document).united()


class _Union:
    def __init__(self, archive: Members, document: dict[str, Any]) -> None:
        self._archive = archive
        self._document = document
        self._conversion = Conversion(archive)
        self._entries = list(_entries(document))
        self._left = MAXIMUM_MANIFESTS_SIZE
        """Bytes of manifests that may still be read."""
        self._parts: dict[str, _Part] = {}
        self._by_config: dict[str, list[_Manifest]] = {}
        """The first of them that have it."""
        self._keys: dict[tuple[str, int], set[tuple[str, str, str] | None]] = {}
        """What all of them are called that have a config, and so many layers."""
        self._added: list[Descriptor] = []

    def united(self) -> tuple[bytes, Converted]:
        images = self._conversion.saved_images()
        self._walk()
        for image in images:
            self._place(image)
        for image in images:
            self._add(image)
        known = {name_key(entry.name) for entry in self._entries}
        self._conversion.result.left_out += unlisted_names(self._archive, images, known)
        listed = self._document.get("manifests") or []
        manifests = [*listed, *(descriptor.to_json() for descriptor in self._added)]
        index = json.dumps({**self._document, "manifests": manifests}, ensure_ascii=False, separators=(",", ":"))
        return index.encode("utf-8", "surrogatepass"), self._conversion.result

    # --- what index.json leads to -------------------------------------------------------------------------------------

    def _walk(self) -> None:
        """Look which configs index.json leads to. What is missing or damaged is passed over: it is found later."""
        steps = 0
        for entry in self._entries:
            seen: set[str] = set()
            pending = [entry.descriptor]
            while pending:
                descriptor = pending.pop()
                if descriptor.digest in seen:
                    continue
                seen.add(descriptor.digest)
                steps += 1
                if steps > _MAXIMUM_STEPS:
                    problem = f"{INDEX_JSON}: it, and what it leads to, list more than {_MAXIMUM_STEPS} manifests"
                    self._conversion.result.problems[problem] = None
                    return
                part = self._part(descriptor)
                pending += part.children
                if part.config is not None:
                    self._note(part.config, _Manifest(descriptor, part.layers, entry))

    def _note(self, config: str, manifest: _Manifest) -> None:
        some = self._by_config.setdefault(config, [])
        if len(some) < _COMPARED:
            some.append(manifest)
        self._keys.setdefault((config, manifest.layers), set()).add(name_key(manifest.entry.name))

    def _part(self, descriptor: Descriptor) -> _Part:
        digest = descriptor.digest
        if digest not in self._parts:
            self._left -= min(descriptor.size, MAXIMUM_MANIFEST_SIZE)
            document = self._manifest(descriptor) if self._left >= 0 else None
            found = _Part()
            if document is not None and mediatypes.is_index_type(descriptor.media_type):
                found = _Part(tuple(_descriptors(document.get("manifests"))))
            elif document is not None:
                layers = document.get("layers")
                for config in _descriptors([document.get("config")]):
                    found = _Part((), config.digest, len(layers) if isinstance(layers, list) else 0)
            self._parts[digest] = found
        return self._parts[digest]

    def _manifest(self, descriptor: Descriptor) -> dict[str, Any] | None:
        kind = descriptor.media_type
        if not (mediatypes.is_manifest_type(kind) or mediatypes.is_index_type(kind)):
            return None
        digest = descriptor.digest
        try:
            found = self._archive.followed(f"{BLOBS}/{digest.algorithm}/{digest.encoded}")
            if found.size() > MAXIMUM_MANIFEST_SIZE:
                return None
            document = strictjson.loads(found.read(found.size()), maximum=MAXIMUM_MANIFEST_SIZE)
        except (FileNotFoundError, NotPlainError, ManifestInvalidError) as error:
            pass_on_theirs(error)
            return None
        return document if isinstance(document, dict) else None

    # --- what manifest.json adds --------------------------------------------------------------------------------------

    def _config(self, image: SavedImage) -> str:
        """Return the digest of an image's config; empty where nothing says it."""
        blob = image.config.removeprefix(f"{BLOBS}/").replace("/", ":")
        if blob in self._by_config and image.config.startswith(f"{BLOBS}/"):
            return blob  # the same file, in the algorithm that index.json has, which need not be Docker's
        return self._conversion.config_digest(image) or _digest_named(image.config) or ""

    def _place(self, image: SavedImage) -> None:
        for manifest in self._by_config.get(self._config(image), ()):
            manifest.entry.images.add(image.names)

    def _add(self, image: SavedImage) -> None:
        known = self._by_config.get(self._config(image), [])
        whole = [manifest for manifest in known if manifest.layers == len(image.layers)]
        if whole:
            own = [manifest.descriptor.digest for manifest in whole] + [m.entry.descriptor.digest for m in whole]
            for name in self._conversion.names_of(image, own):
                self._add_name(name, image, whole)
            return
        descriptor = self._conversion.manifest_of(image)
        if descriptor is None:
            return
        own = [descriptor.digest, *(manifest.descriptor.digest for manifest in known)]
        names = {name_key(name_of(named(descriptor, name))): name for name in self._conversion.names_of(image, own)}
        replaced = False
        for manifest in known:
            # Of the same config, and of other layers than that speaks of.
            entry = manifest.entry
            if entry.descriptor.digest == manifest.descriptor.digest:
                entry.value |= {"mediaType": descriptor.media_type, "digest": str(descriptor.digest)}
                entry.value["size"] = descriptor.size
                self._conversion.result.left_out.append(
                    f"{manifest.descriptor.digest} (it lists {manifest.layers} layers, and its image has"
                    f" {len(image.layers)}: {descriptor.digest} is in its place)"
                )
                names.pop(name_key(entry.name), None)
                replaced = True
        self._added += [named(descriptor, name) for name in names.values()]
        if not image.names and not replaced:
            self._added.append(descriptor)

    def _add_name(self, name: str, image: SavedImage, whole: list[_Manifest]) -> None:
        """Give a name to what index.json has, unless it has that name already."""
        wanted = name_of(named(whole[0].descriptor, name))
        if name_key(wanted) in self._keys[self._config(image), len(image.layers)]:
            return
        for entry in (manifest.entry for manifest in whole):
            # What has no name of a repository is what this is the name of, if there is no other image in it.
            if len(entry.images) > 1:
                continue
            if entry.named_by_docker:
                self._added.append(named(entry.descriptor, name))
                return
            if entry.name.repository is None and entry.name.given in ("", wanted.tag):
                annotations = entry.value.get("annotations") or {}
                entry.value["annotations"] = {**annotations, IMAGE_NAME: name}
                entry.name, entry.named_by_docker = wanted, True
                return
        self._added.append(named(whole[0].descriptor, name))


def _index(archive: Members) -> dict[str, Any] | None:
    """Return the index.json of an archive; None where it is damaged."""
    try:
        entry = archive.followed(INDEX_JSON)
        if entry.size() > MAXIMUM_INDEX_SIZE:
            return None
        content = entry.read(entry.size())
        if sum(map(content.count, (b",", b"[", b"{"))) > MAXIMUM_INDEX_VALUES:
            return None
        document = strictjson.loads(content, maximum=MAXIMUM_INDEX_SIZE)
    except (FileNotFoundError, NotPlainError, ManifestInvalidError) as error:
        pass_on_theirs(error)
        return None
    if not isinstance(document, dict) or not isinstance(document.get("manifests"), list | None):
        return None
    return document if "manifests" in document else None


def _entries(document: dict[str, Any]) -> Iterator[_UnitedEntry]:
    for value in document["manifests"] or ():
        for descriptor in _descriptors([value]):
            yield _UnitedEntry(value, descriptor, name_of(descriptor))


def _descriptors(values: object) -> list[Descriptor]:
    """Return those of a list that are descriptors. What is wrong with others is said when they are needed."""
    found = []
    for value in values if isinstance(values, list) else ():
        try:
            found.append(Descriptor.from_json(value, path=""))
        except ManifestInvalidError:
            continue
    return found


def _digest_named(name: str) -> Digest | None:
    """Return the digest that a config's name says it has, as ``docker save`` and others name them."""
    encoded = name.rpartition("/")[2].removesuffix(".json")
    return digest_or_none(f"sha256:{encoded}")
