"""What a client or ocistore left behind, read strictly and past both, and how it differs from what was given."""

from __future__ import annotations

import gzip
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contents import TAG, children, json_of
from handmade import REF_NAME, listed, verified

from ocistore import Digest
from ocistore.archives import compression

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from contents import Content

LAYOUT = "layout directory"
OCI_ARCHIVE = "oci-archive"
DOCKER_ARCHIVE = "docker-archive"
DIRECTORY = "dir"
"""What skopeo, podman and buildah call so: a manifest and its blobs, of any media types. Only they read it."""

SAME = "same"
WITHOUT_REFERRERS = "without its referrers"
ONE_PLATFORM = "one platform"
SAME_IMAGE = "same image"
SAME_FILES = "same files"
REPACKED = "repacked"
CONVERTED = "converted"


@dataclass(frozen=True)
class Found:
    """A graph of manifests with tags."""

    tags: dict[str, str]
    """Each with its digest."""
    blobs: dict[str, bytes]
    """All that can be reached, by digest."""


@dataclass(frozen=True)
class Archived:
    """What a Docker archive holds of one image: no manifest, so its own digest is not there."""

    tags: tuple[str, ...]
    config: bytes
    layers: tuple[bytes, ...]


def in_layout(path: Path) -> Found:
    """Everything in a layout's directory, each blob with its size and digest checked."""
    tags: dict[str, str] = {}
    for entry in listed(path):
        name = entry.get("annotations", {}).get(REF_NAME)
        if name is None:
            continue
        tag = name.rpartition(":")[2]  # some write REPO:TAG
        assert tags.setdefault(tag, entry["digest"]) == entry["digest"], f"two manifests are named {name}"
    return Found(tags, verified(path))


def missing_from(path: Path) -> set[str]:
    """The digests that something in a layout's directory needs and that are not there; foreign layers may be absent."""
    missing, seen = set(), set()
    pending = list(listed(path))
    while pending:
        descriptor = pending.pop()
        if descriptor["digest"] in seen:
            continue
        seen.add(descriptor["digest"])
        algorithm, encoded = descriptor["digest"].split(":")
        file = path / "blobs" / algorithm / encoded
        if file.exists():
            if not descriptor["mediaType"].endswith("+json"):
                continue
            body = json.loads(file.read_bytes())
            pending += [*(body.get("manifests") or ()), *(body.get("layers") or ())]
            if isinstance(body.get("config"), dict) and "digest" in body["config"]:
                pending.append(body["config"])
        elif not descriptor.get("urls"):
            missing.add(descriptor["digest"])
    return missing


def in_archive(path: Path, directory: Path) -> Found:
    """Everything in a layout that is in a tar, which is unpacked into a directory first."""
    with tarfile.open(path) as archive:
        archive.extractall(directory, filter="data")
    return in_layout(directory)


def in_docker_archive(path: Path) -> Archived:
    """The one image in a Docker archive, its layers as they lie there."""
    with tarfile.open(path) as archive:
        (image,) = json.loads(_member(archive, "manifest.json"))
        layers = tuple(_member(archive, name) for name in image["Layers"])
        return Archived(tuple(image["RepoTags"] or ()), _member(archive, image["Config"]), layers)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    while (member := archive.getmember(name)).issym():
        directory = name.rpartition("/")[0]
        parts: list[str] = []
        for part in f"{directory}/{member.linkname}".split("/"):
            if part == "..":
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        name = "/".join(parts)
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def compared(content: Content, found: Found) -> str:
    """How what is under the tag differs from what was given, in one of the words above."""
    digest = found.tags[TAG]
    if digest == content.root["digest"]:
        lost = content.below_root - found.blobs.keys()
        assert not lost, f"these are gone: {lost}"
        return SAME if found.blobs.keys() >= content.blobs.keys() else WITHOUT_REFERRERS
    if digest in content.blobs:
        return ONE_PLATFORM
    body = json_of(found.blobs[digest])
    if "config" not in body:
        lost = content.below_root - found.blobs.keys() - {content.root["digest"]}
        return CONVERTED if lost else REPACKED
    return _compared_image(content, found, body)


def _compared_image(content: Content, found: Found, body: Mapping[str, Any]) -> str:
    """An image under another digest: whether config and unpacked layers are those of an image that was given."""
    config = found.blobs[body["config"]["digest"]]
    layers = [found.blobs[layer["digest"]] for layer in body["layers"] if layer["digest"] in found.blobs]
    return compared_parts(content, config, layers, same=REPACKED)


def compared_parts(content: Content, config: bytes, layers: list[bytes] | tuple[bytes, ...], *, same: str) -> str:
    """A config and layers beside those that were given: ``same`` where their bytes are, once they are unpacked."""
    diff_ids = [str(Digest.of(unpacked(layer))) for layer in layers]
    configs = {given: ids for given, ids in content.diff_ids.items() if ids == diff_ids}
    assert configs, f"no image that was given has these layers: {diff_ids}"
    kept = any(content.blobs[given] == config for given in configs)
    platform = [] if content.root["digest"] in _parents(content, configs) else [ONE_PLATFORM]
    return ", ".join([*platform, same if kept else CONVERTED])


def _parents(content: Content, digests: Mapping[str, object]) -> set[str]:
    return {parent for parent, bytes_ in content.blobs.items() if not digests.keys().isdisjoint(children(bytes_))}


def unpacked(layer: bytes) -> bytes:
    """The tar that a layer is."""
    match compression.compression_of(layer[: compression.MAGIC_SIZE]):
        case "gzip":
            return gzip.decompress(layer)
        case "zstd":
            return bytes(compression.zstd().decompress(layer))
    return layer
