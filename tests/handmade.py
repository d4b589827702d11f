"""OCI layouts past the code under test: written by hand, byte by byte, and read back strictly."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from images import described, document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from images import Image

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
VERSION = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass
class Layout:
    """A layout being written. Nothing is there until :meth:`write`, or what the test puts there itself."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, content: bytes, algorithm: str = "sha256") -> Path:
        """Write one blob; its file."""
        file = self.path / "blobs" / algorithm / hashlib.new(algorithm, content).hexdigest()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def put(self, image: Image, algorithm: str = "sha256") -> None:
        """Write everything an image consists of."""
        for child in image.children:
            self.put(child)
        for blob in image.blobs:
            self.blob(blob)
        self.blob(image.manifest, algorithm)

    def add(self, image: Image, name: str | None = None, image_name: str | None = None, **more: Any) -> Layout:
        """Write an image and list it; ``more`` are properties of its descriptor."""
        self.put(image)
        return self.entry(image, named(name, image_name), **more)

    def entry(self, image: Image, annotations: Mapping[str, str] | None = None, **more: Any) -> Layout:
        """List an image, which need not be there."""
        if annotations:
            more["annotations"] = dict(annotations)
        self.entries.append(described(image.manifest, image.media_type, **more))
        return self

    def write(self, index: bytes | None = None, version: bytes | None = VERSION) -> Path:
        """Write ``oci-layout`` and ``index.json``; the layout's directory."""
        self.path.mkdir(exist_ok=True)
        if version is not None:
            (self.path / "oci-layout").write_bytes(version)
        if index is None:
            index = document({"schemaVersion": 2, "manifests": self.entries})
        (self.path / "index.json").write_bytes(index)
        return self.path


def named(name: str | None = None, image_name: str | None = None) -> dict[str, str]:
    """The annotations of an entry of that ref.name and containerd's name."""
    pairs = {REF_NAME: name, IMAGE_NAME: image_name}
    return {key: value for key, value in pairs.items() if value is not None}


def listed(path: Path) -> list[dict[str, Any]]:
    """The entries of the layout's ``index.json``."""
    document = json.loads((path / "index.json").read_bytes())
    assert document["schemaVersion"] == 2
    return document["manifests"]


def names(path: Path) -> dict[str, str]:
    """The ref.names in a layout, each with its digest; every one stands there once."""
    found = [(entry["annotations"][REF_NAME], entry["digest"]) for entry in listed(path) if _name(entry)]
    assert len(dict(found)) == len(found), found
    return dict(found)


def _name(entry: dict[str, Any]) -> str | None:
    return entry.get("annotations", {}).get(REF_NAME)


def verified(path: Path) -> dict[str, bytes]:
    """All blobs reachable from the entries of a layout, by digest: present, of their size and of their digest."""
    assert json.loads((path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    found: dict[str, bytes] = {}
    pending = list(listed(path))
    while pending:
        descriptor = pending.pop()
        if descriptor["digest"] in found:
            assert len(found[descriptor["digest"]]) == descriptor["size"]
            continue
        content = _blob(path, descriptor)
        if content is None:
            continue
        found[descriptor["digest"]] = content
        if "manifest" in descriptor["mediaType"] or "index" in descriptor["mediaType"]:
            pending.extend(_children(json.loads(content)))
    return found


def _blob(path: Path, descriptor: dict[str, Any]) -> bytes | None:
    algorithm, encoded = descriptor["digest"].split(":")
    try:
        content = (path / "blobs" / algorithm / encoded).read_bytes()
    except FileNotFoundError:
        assert descriptor.get("urls"), f"{descriptor['digest']} is missing"
        return None
    assert len(content) == descriptor["size"]
    assert hashlib.new(algorithm, content).hexdigest() == encoded
    return content


def _children(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from manifest.get("manifests", ())
    yield from manifest.get("layers", ())
    if "config" in manifest:
        yield manifest["config"]


def tree(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a directory: mode, inode and bytes."""
    found = {}
    for file in sorted(path.rglob("*")):
        status = os.lstat(file)
        content = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
        found[str(file.relative_to(path))] = (status.st_mode, status.st_ino, content)
    return found


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of every file below a directory, by name."""
    return {name: content for name, (_, _, content) in tree(path).items() if (path / name).is_file()}
