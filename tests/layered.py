"""Images made of layers that are archives, written by hand."""

from __future__ import annotations

import gzip
import random
import tarfile
from typing import TYPE_CHECKING, Any

from images import Image, described, document

from ocistore import Digest
from ocistore.oci import mediatypes

if TYPE_CHECKING:
    from ocistore.repository import RepositoryWriter

DIRECTORY, SYMLINK, HARDLINK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
OPAQUE = ".wh..wh..opq"


def member(
    name: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
    mode: int = 0o644,
    mtime: int = 0,
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode, info.mtime = kind, len(content), target, mode, mtime
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


def remade(block: bytes, **fields: bytes) -> bytes:
    """A member whose header has other bytes at some places, given as ``at124=``, and the checksum that it has then."""
    header = bytearray(block[:512])
    for place, content in fields.items():
        offset = int(place.removeprefix("at"))
        header[offset : offset + len(content)] = content
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + block[512:]


def directory(name: str) -> bytes:
    return member(name, kind=DIRECTORY, mode=0o755)


def symlink(name: str, target: str) -> bytes:
    return member(name, kind=SYMLINK, target=target, mode=0o777)


def hardlink(name: str, target: str) -> bytes:
    return member(name, kind=HARDLINK, target=target)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


def layered(
    *layers: bytes,
    compress: Any = gzip.compress,
    layer_type: str = mediatypes.OCI_LAYER_GZIP,
    config: dict[str, Any] | None = None,
    docker: bool = False,
) -> Image:
    """An image of these archives, the first of them lowest."""
    stored = [compress(layer) for layer in layers]
    described_config = {"architecture": "amd64", "os": "linux", **(config or {})}
    described_config.setdefault("rootfs", {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in layers]})
    config_bytes = document(described_config)
    manifest_type = mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST
    body = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": described(config_bytes, mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG),
        "layers": [described(layer, layer_type) for layer in stored],
    }
    return Image(document(body), (config_bytes, *stored), manifest_type)


def put(repository: RepositoryWriter, image: Image, *tags: str) -> str:
    """Push it, and give its digest."""
    for blob in image.blobs:
        repository.put_blob(blob)
    return repository.put_manifest(image.manifest, tags=tags).digest


def random_layers(seed: int, *, count: int = 3, size: int = 12, bare: bool = False) -> list[bytes]:
    """Layers that add to, replace, hide and link each other's files, as builders write them: parents first.

    With ``bare``, some directories that lower layers have are left out, as some builders do; there may be links there.
    """
    chosen = random.Random(seed)
    names = ["a", "b", "c"]

    def path() -> str:
        return "/".join(chosen.choice(names) for _ in range(chosen.randint(1, 3)))

    layers = []
    for number in range(count):
        members: list[bytes] = []
        own: dict[str, str] = {}

        def above(of: str, own: Any = own, members: Any = members, left_out: float = bare and number and 0.5) -> bool:
            """Write the directories above something; false where something else of this layer is in the way."""
            parts = of.split("/")[:-1]
            prefixes = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            if any(own.get(prefix, "d") != "d" for prefix in prefixes):
                return False
            for prefix in prefixes:
                if prefix not in own and chosen.random() >= left_out:
                    own[prefix] = "d"
                    members.append(directory(prefix))
            return True

        files: list[str] = []
        for step in range(size):
            new = path()
            kind = chosen.choice("fffdslwo" if number else "fffdsl")
            if new in own or any(each.startswith(f"{new}/") for each in own) or not above(new):
                continue
            if kind == "w":
                parent, _, name = new.rpartition("/")
                own[f"{new}?"] = "w"
                members.append(member(f"{parent}/.wh.{name}".removeprefix("/")))
            elif kind == "o":
                own[new] = "d"
                members += [directory(new), member(f"{new}/{OPAQUE}")]
            elif kind == "d":
                own[new] = "d"
                members.append(directory(new))
            elif kind == "s":
                own[new] = "s"
                members.append(symlink(new, chosen.choice(["a", "../b", "/c", "/a/b", "nowhere"])))
            elif kind == "l" and files:
                own[new] = "f"
                members.append(hardlink(new, chosen.choice(files)))
                files.append(new)
            else:
                own[new] = "f"
                members.append(member(new, f"{number} {step} {new}".encode(), mode=0o755 if step % 2 else 0o644))
                files.append(new)
        layers.append(archive(*members))
    return layers


UPPER = archive(
    directory("etc"),
    member("etc/passwd", b"root and more"),
    member("etc/.wh.old"),
    directory("var/cache"),
    member("var/cache/new", b"new"),
    member(f"var/cache/{OPAQUE}"),
    member("bin/added", b"through a link, without a directory of its own"),
)
"""A layer that replaces, removes and hides what those below it have, and goes through a link of theirs."""
