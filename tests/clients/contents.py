"""What clients are given: real images and artifacts, small, the same bytes every time, and made without any client."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from handmade import Layout, named
from images import SBOM, SIGNATURE, described, document

from ocistore import Digest
from ocistore.archives import compression
from ocistore.oci import mediatypes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TAG = "v1"
REPOSITORY = "library/app"
CREATED = "2024-05-06T07:08:09Z"

_COMPRESSIONS = {
    mediatypes.OCI_LAYER_GZIP: "gzip",
    mediatypes.OCI_LAYER_ZSTD: "zstd",
    mediatypes.OCI_NONDISTRIBUTABLE_LAYER_GZIP: "gzip",
    mediatypes.DOCKER_LAYER_GZIP: "gzip",
}


@dataclass
class Content:
    """A graph of manifests with one tag, and perhaps referrers that no tag leads to."""

    name: str
    """As the table calls it."""
    algorithm: str = "sha256"
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Everything there is, manifests included, by digest."""
    root: dict[str, Any] = field(default_factory=dict)
    """The descriptor that the tag points at."""
    referrers: list[dict[str, Any]] = field(default_factory=list)
    diff_ids: dict[str, list[str]] = field(default_factory=dict)
    """Of each image: the hashes of its uncompressed layers, in their order, by the digest of its config."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What is in the layers of the image for this table's own platform, linux/amd64."""

    def put(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Add some bytes; their descriptor."""
        descriptor = described(content, media_type, algorithm=self.algorithm, **more)
        self.blobs[descriptor["digest"]] = content
        return descriptor

    def manifest(self, body: Mapping[str, Any], media_type: str, **more: Any) -> dict[str, Any]:
        """Add a manifest; its descriptor."""
        return self.put(document({"schemaVersion": 2, "mediaType": media_type, **body}), media_type, **more)

    def image(
        self,
        names: Sequence[str],
        *,
        architecture: str = "amd64",
        media_types: Sequence[str] = (),
        docker: bool = False,
        absent: Mapping[str, Sequence[str]] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Add an image with a layer for each name, whose config tells the truth about them.

        ``media_types`` are those of the layers, gzip if there are none; ``absent`` are the layers that are left out,
        each with the URLs where it is to be had.
        """
        gzip_type = mediatypes.DOCKER_LAYER_GZIP if docker else mediatypes.OCI_LAYER_GZIP
        layers, diff_ids = [], []
        for name, media_type in zip(names, media_types or [gzip_type] * len(names), strict=True):
            tree = tree_of(name)
            tar = tar_of(tree)
            diff_ids.append(str(Digest.of(tar)))
            packed = packed_as(tar, _COMPRESSIONS[media_type])
            if absent and name in absent:
                urls = list(absent[name])
                layers.append(described(packed, media_type, algorithm=self.algorithm, urls=urls))
                continue
            layers.append(self.put(packed, media_type))
            if architecture == "amd64":
                self.files.update(tree)
        config = self.put(
            document(
                {
                    "created": CREATED,
                    "architecture": architecture,
                    "os": "linux",
                    "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/hello"]},
                    "rootfs": {"type": "layers", "diff_ids": diff_ids},
                    "history": [{"created": CREATED, "created_by": f"made of {name}"} for name in names],
                }
            ),
            mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG,
        )
        self.diff_ids[config["digest"]] = diff_ids
        media_type = mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST
        return self.manifest({"config": config, "layers": layers}, media_type, **more)

    def artifact(self, name: str, artifact_type: str, **body: Any) -> dict[str, Any]:
        """Add a manifest of one file, as artifacts are packed (image manifest, "Guidelines for Artifact Usage")."""
        annotations = {"org.opencontainers.image.title": f"{name}.json"}
        layer = self.put(document({"name": name}), "application/json", annotations=annotations)
        config = self.put(b"{}", mediatypes.OCI_EMPTY)
        return self.manifest(
            {"artifactType": artifact_type, "config": config, "layers": [layer], **body}, mediatypes.OCI_MANIFEST
        )

    def index(self, manifests: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """Add an index of these."""
        return self.manifest({"manifests": list(manifests)}, mediatypes.OCI_INDEX, **more)

    @cached_property
    def below_root(self) -> frozenset[str]:
        """The digests of all that the tag leads to: everything but the referrers and what only they have."""
        return frozenset(reachable(self.blobs, [self.root["digest"]]))

    @property
    def image_name(self) -> str:
        """What ocistore calls it, and containerd's annotation."""
        return f"{REPOSITORY}:{TAG}"

    def write(self, path: Path, *, referrers_tags: bool = False) -> Path:
        """Write it as a layout directory, by hand.

        ``referrers_tags`` adds the tags by which referrers are found where nothing else lists them (distribution
        specification, "Referrers Tag Schema").
        """
        layout = Layout(path)
        for digest, content in self.blobs.items():
            layout.blob(content, Digest.parse(digest).algorithm)
        layout.entries.append({**self.root, "annotations": named(TAG, self.image_name)})
        layout.entries.extend(self.referrers)
        if referrers_tags:
            for subject, found in self._by_subject().items():
                content = document({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": found})
                layout.blob(content)
                tag = subject.replace(":", "-")
                layout.entries.append(described(content, mediatypes.OCI_INDEX, annotations=named(tag)))
        return layout.write()

    @property
    def is_docker(self) -> bool:
        """Whether its media types are Docker's."""
        return self.root["mediaType"] == mediatypes.DOCKER_MANIFEST

    def write_directory(self, path: Path) -> Path:
        """Write one image as the ``dir:`` of skopeo, podman and buildah, which keeps manifests as they are."""
        path.mkdir()
        (path / "version").write_bytes(b"Directory Transport Version: 1.1\n")
        for digest, content in self.blobs.items():
            name = "manifest.json" if digest == self.root["digest"] else Digest.parse(digest).encoded
            (path / name).write_bytes(content)
        return path

    def _by_subject(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for descriptor in self.referrers:
            subject = json_of(self.blobs[descriptor["digest"]])["subject"]["digest"]
            found.setdefault(subject, []).append(descriptor)
        return found


def reachable(blobs: Mapping[str, bytes], roots: Sequence[str]) -> dict[str, bytes]:
    """What these digests lead to among the blobs."""
    found: dict[str, bytes] = {}
    pending = list(roots)
    while pending:
        digest = pending.pop()
        if digest in found or digest not in blobs:
            continue
        found[digest] = blobs[digest]
        pending += children(blobs[digest])
    return found


def children(content: bytes) -> list[str]:
    """The digests that a manifest has below it; none where it is no manifest."""
    if not content.startswith(b"{"):
        return []
    body = json_of(content)
    descriptors = [*(body.get("manifests") or ()), *(body.get("layers") or ())]
    config = body.get("config")
    if isinstance(config, dict) and "digest" in config:
        descriptors.append(config)
    return [descriptor["digest"] for descriptor in descriptors]


def json_of(content: bytes) -> dict[str, Any]:
    """A document, which must be an object."""
    value = json.loads(content)
    assert isinstance(value, dict)
    return value


# --- layers -----------------------------------------------------------------------------------------------------------


def tree_of(name: str) -> dict[str, bytes]:
    """The files of the layer of that name."""
    return {
        f"etc/{name}.conf": f"name = {name}\n".encode(),
        f"usr/share/{name}/text": f"{name}\n".encode() * 200,
    }


def tar_of(tree: Mapping[str, bytes]) -> bytes:
    """The files as a tar archive, their directories before them, and a symbolic link to the first."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        directories = {parent for name in tree for parent in _parents(name)}
        for directory in sorted(directories):
            _add(archive, directory, tarfile.DIRTYPE, mode=0o755)
        for name, content in tree.items():
            _add(archive, name, tarfile.REGTYPE, mode=0o644, content=content)
        first = next(iter(tree))
        _add(archive, f"{first}.link", tarfile.SYMTYPE, mode=0o777, target=first.rpartition("/")[2])
    return stream.getvalue()


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _add(
    archive: tarfile.TarFile, name: str, kind: bytes, *, mode: int, content: bytes = b"", target: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.linkname, member.mtime = kind, mode, len(content), target, 1715000000
    archive.addfile(member, io.BytesIO(content))


def packed_as(content: bytes, algorithm: str) -> bytes:
    """Compressed, without anything that depends on when."""
    if algorithm == "zstd":
        return bytes(compression.zstd().compress(content))
    return gzip.compress(content, mtime=0)


# --- the table's rows -------------------------------------------------------------------------------------------------


def single_image() -> Content:
    content = Content("single image")
    content.root = content.image(["base", "app"])
    return content


def _platforms(content: Content, *architectures: str) -> list[dict[str, Any]]:
    return [
        content.image([architecture], architecture=architecture, platform={"architecture": architecture, "os": "linux"})
        for architecture in architectures
    ]


def multi_platform_index() -> Content:
    content = Content("multi-platform index")
    content.root = content.index(_platforms(content, "amd64", "arm64"))
    return content


def nested_index() -> Content:
    content = Content("nested index")
    inner = content.index(_platforms(content, "amd64", "arm64"))
    content.root = content.index([inner, *_platforms(content, "s390x")])
    return content


def artifact() -> Content:
    content = Content("artifact")
    content.root = content.artifact("settings", "application/vnd.example.settings.v1")
    return content


def artifact_with_referrers() -> Content:
    content = Content("artifact with referrers")
    content.root = content.artifact("signed-settings", "application/vnd.example.settings.v1")
    sbom = content.artifact("sbom", SBOM, subject=content.root)
    signature = content.artifact("signature", SIGNATURE, subject=sbom)
    content.referrers = [{**sbom, "artifactType": SBOM}, {**signature, "artifactType": SIGNATURE}]
    return content


def zstd_layers() -> Content:
    content = Content("zstd layers")
    content.root = content.image(["base", "app"], media_types=[mediatypes.OCI_LAYER_ZSTD] * 2)
    return content


def foreign_layers() -> Content:
    content = Content("foreign layers")
    content.root = content.image(
        ["foreign", "app"],
        media_types=[mediatypes.OCI_NONDISTRIBUTABLE_LAYER_GZIP, mediatypes.OCI_LAYER_GZIP],
        absent={"foreign": ["http://127.0.0.1:9/foreign"]},
    )
    return content


def docker_media_types() -> Content:
    content = Content("Docker media types")
    content.root = content.image(["base", "app"], docker=True)
    return content


def empty_layer_list() -> Content:
    content = Content("empty layer list")
    content.root = content.image([])
    return content


def sha512() -> Content:
    content = Content("sha512", algorithm="sha512")
    content.root = content.image(["base", "app"])
    return content


CONTENTS = {
    content.name: content
    for content in (
        single_image(),
        multi_platform_index(),
        nested_index(),
        artifact(),
        artifact_with_referrers(),
        zstd_layers(),
        foreign_layers(),
        docker_media_types(),
        empty_layer_list(),
        sha512(),
    )
}
