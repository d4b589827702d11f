"""Archives past the code under test, written by the standard library: of layouts, and in the form of Docker's."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import tarfile
from typing import TYPE_CHECKING, Any

from images import document

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

COMPRESSIONS = {
    "plain": lambda content: content,
    "gzip": lambda content: gzip.compress(content, 1, mtime=0),
    "zstd": lambda content: zstd.compress(content, 1),
    "xz": lambda content: lzma.compress(content, preset=0),
    "bzip2": lambda content: bz2.compress(content, 1),
}


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive; ``fields`` are those of its header, as ``type`` and ``linkname``."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for key, value in fields.items():
        setattr(header, key, value)
    return header, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link, or a hard one."""
    return member(name, type=kind, linkname=target)


def tarred(members: Iterable[tuple[tarfile.TarInfo, bytes]], *, end: bytes = bytes(1024)) -> bytes:
    """An archive of these members, written as their headers say, be it true or not."""
    out = io.BytesIO()
    for header, content in members:
        out.write(header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        out.write(content + bytes(-len(content) % 512))
    return out.getvalue() + end


def members_of(directory: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The files of a layout, index.json last, as skopeo writes them."""
    found = [
        member(str(file.relative_to(directory)), file.read_bytes())
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    ]
    return sorted(found, key=lambda pair: (pair[0].name == "index.json", pair[0].name))


def config_of(layers: Iterable[bytes], **more: Any) -> bytes:
    """An image's config with the right ``diff_ids``."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return document({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **more})


def docker_members(
    images: Mapping[str | None, list[bytes]], *, compress: Any = COMPRESSIONS["plain"]
) -> list[tuple[tarfile.TarInfo, bytes]]:
    """An archive as podman and skopeo write it: configs and layers by their digests, and manifest.json at the end."""
    listed, files = [], {}
    for name, layers in images.items():
        config = config_of(layers)
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        files[config_name] = config
        names = []
        for layer in layers:
            names.append(f"{hashlib.sha256(layer).hexdigest()}.tar")
            files[names[-1]] = compress(layer)
        listed.append({"Config": config_name, "RepoTags": [name] if name else None, "Layers": names})
    return [*(member(name, content) for name, content in files.items()), member("manifest.json", document(listed))]
