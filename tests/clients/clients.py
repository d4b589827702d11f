"""The clients of the table: how each copies an image from one form into another, which is all that is asked of them."""

from __future__ import annotations

import json
import shutil
import tarfile
from typing import TYPE_CHECKING, ClassVar

from contents import REPOSITORY, TAG, children
from found import (
    DIRECTORY,
    DOCKER_ARCHIVE,
    LAYOUT,
    OCI_ARCHIVE,
    ONE_PLATFORM,
    SAME_FILES,
    SAME_IMAGE,
    compared,
    in_archive,
    in_layout,
)
from programs import ClientError, Containerd, Registry, run

from ocistore import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from contents import Content

IMAGE = f"{REPOSITORY}:{TAG}"
_TRANSPORTS = {DIRECTORY: "dir", LAYOUT: "oci", OCI_ARCHIVE: "oci-archive", DOCKER_ARCHIVE: "docker-archive"}


class Bench:
    """Where clients work: what they copy from, and the servers that some need, started when first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._registry: Registry | None = None
        self._containerd: Containerd | ClientError | None = None
        self._number = 0

    def fresh(self) -> Path:
        """A new directory."""
        self._number += 1
        path = self.directory / str(self._number)
        path.mkdir()
        return path

    def source(self, content: Content, form: str, *, referrers_tags: bool = False) -> Path:
        """The content in that form, made without any client."""
        if form == DIRECTORY:
            return content.write_directory(self.fresh() / "dir")
        layout = content.write(self.fresh() / "layout", referrers_tags=referrers_tags)
        if form == LAYOUT:
            return layout
        archive = layout.with_name("archive.tar")
        with tarfile.open(archive, "w") as tar:
            for path in sorted(layout.iterdir()):
                tar.add(path, path.name)
        return archive

    @property
    def registry(self) -> str:
        """The address of a registry on this machine."""
        if self._registry is None:
            self._registry = Registry(self.fresh())
        return self._registry.address

    @property
    def containerd(self) -> str:
        """The socket of a containerd that serves only this bench."""
        if self._containerd is None:
            try:
                self._containerd = Containerd(self.fresh())
            except ClientError as error:
                self._containerd = error
        if isinstance(self._containerd, ClientError):
            raise self._containerd
        return self._containerd.address

    def close(self) -> None:
        """End the servers."""
        for server in (self._registry, self._containerd):
            if isinstance(server, Registry | Containerd):
                server.close()


class Client:
    """One client. What it cannot do raises :class:`ClientError` with what it said."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    install: ClassVar[str]
    version: ClassVar[tuple[str, ...]]
    """The command that prints it."""
    writes: ClassVar[tuple[str, ...]]
    """The forms that it has a command for; which does not say that the command succeeds."""
    reads: ClassVar[tuple[str, ...]]
    source: ClassVar[str] = LAYOUT
    """The form that is given to it, for it to write the others."""
    docker_source: ClassVar[str] = LAYOUT
    """The same where the media types are Docker's."""
    referrers_tags: ClassVar[bool] = False
    """Whether it finds referrers only by the tags that the distribution specification has for old registries."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def run(self, *command: object) -> str:
        return run(*command, inside=self.bench.directory)

    def write(self, content: Content, form: str, destination: Path) -> None:
        """Write the content, which it gets as :attr:`source`, to ``destination`` in that form."""
        given = self.docker_source if content.is_docker and self.source == LAYOUT else self.source
        source = self.bench.source(content, given, referrers_tags=self.referrers_tags)
        self.copy(source, given, destination, form)

    def read(self, content: Content, form: str, source: Path) -> str:
        """Read what ocistore wrote; how it differs from the content, as :mod:`found` says it."""
        work = self.bench.fresh()
        if self.source == LAYOUT:
            self.copy(source, form, work / "read", LAYOUT)
            return compared(content, in_layout(work / "read"))
        self.copy(source, form, work / "read.tar", self.source)
        return compared(content, in_archive(work / "read.tar", work / "read"))

    def copy(self, source: Path, form: str, destination: Path, into: str) -> None:
        """Copy the image TAG."""
        raise NotImplementedError


class Skopeo(Client):
    name = "skopeo"
    programs = ("skopeo",)
    install = "apt-get install skopeo"
    version = ("skopeo", "--version")
    writes = reads = (LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)
    docker_source = DIRECTORY

    def copy(self, source, form, destination, into):
        arguments = [transport(form, source), transport(into, destination)]
        self.run("skopeo", "--insecure-policy", "copy", "--quiet", "--all", *arguments)


def transport(form: str, path: Path) -> str:
    """How skopeo, podman and buildah are told of an image in a file."""
    if form == DIRECTORY:
        return f"dir:{path}"
    return f"{_TRANSPORTS[form]}:{path}:{IMAGE if form == DOCKER_ARCHIVE else TAG}"


class Umoci(Client):
    """It works inside of a layout, so writing is naming anew and clearing away, and reading is unpacking."""

    name = "umoci"
    programs = ("umoci",)
    install = "apt-get install umoci"
    version = ("umoci", "--version")
    writes = reads = (LAYOUT,)

    def copy(self, source, form, destination, into):
        shutil.copytree(source, destination)
        self.run("umoci", "tag", "--image", f"{destination}:{TAG}", "other")
        self.run("umoci", "rm", "--image", f"{destination}:{TAG}")
        self.run("umoci", "tag", "--image", f"{destination}:other", TAG)
        self.run("umoci", "rm", "--image", f"{destination}:other")
        self.run("umoci", "gc", "--layout", destination)

    def read(self, content, form, source):
        assert self.run("umoci", "ls", "--layout", source).split() == [TAG]
        bundle = self.bench.fresh() / "bundle"
        self.run("umoci", "unpack", "--image", f"{source}:{TAG}", bundle)
        assert files_below(bundle / "rootfs") == content.files
        return SAME_FILES


def files_below(root: Path) -> dict[str, bytes]:
    """The bytes of every file, by name; those of links not."""
    paths = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


class Podman(Client):
    """It unpacks layers when it reads, and packs them anew when it writes."""

    name = "podman"
    programs = ("podman",)
    install = "apt-get install podman"
    version = ("podman", "--version")
    writes = reads = (LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)
    docker_source = DIRECTORY

    def podman(self, storage, *arguments):
        places = ["--root", storage / "root", "--runroot", storage / "run", "--tmpdir", storage / "tmp"]
        return self.run("podman", *places, "--storage-driver", "vfs", *arguments)

    def copy(self, source, form, destination, into):
        storage = self.bench.fresh()
        image = self.take(storage, source, form)
        if into == LAYOUT:
            self.podman(storage, "push", "--quiet", image, transport(into, destination))
            return
        self.podman(storage, "tag", image, IMAGE)
        self.podman(storage, "save", "--quiet", "--format", _TRANSPORTS[into], "-o", destination, IMAGE)

    def take(self, storage, source, form):
        """Bring an image into podman's own storage; its identity there."""
        if form in (LAYOUT, DIRECTORY):
            return self.podman(storage, "pull", "--quiet", transport(form, source)).strip()
        self.podman(storage, "load", "--quiet", "-i", source)
        (identity,) = set(self.podman(storage, "images", "--quiet", "--no-trunc").split())
        return identity

    def read(self, content, form, source):
        storage = self.bench.fresh()
        identity = self.take(storage, source, form)
        (image,) = json.loads(self.podman(storage, "image", "inspect", identity))
        if form != LAYOUT:
            assert image["RepoTags"] == [f"localhost/{IMAGE}"]
        return kept(content, image["Digest"], image["Id"], image["RootFS"]["Layers"], exact=form != DOCKER_ARCHIVE)


def kept(content: Content, manifest: str, identity: str, diff_ids: list[str] | None, *, exact: bool) -> str:
    """How an image in the storage of podman or buildah differs, by the digests of manifest, config and layers."""
    # Their identity of an image is the SHA-256 of its config, also where we call the config by another algorithm.
    wanted = f"sha256:{identity.removeprefix('sha256:')}"
    config = next((given for given in content.diff_ids if Digest.of(content.blobs[given]) == wanted), None)
    assert config is not None, f"no image that was given has the config {wanted}"
    assert content.diff_ids[config] == (diff_ids or [])
    if exact:
        assert manifest in content.blobs, f"no manifest that was given is {manifest}"
    one = config not in children(content.blobs[content.root["digest"]])
    return f"{ONE_PLATFORM}, {SAME_IMAGE}" if one else SAME_IMAGE


class Buildah(Client):
    """As podman, whose storage it shares."""

    name = "buildah"
    programs = ("buildah",)
    install = "apt-get install buildah"
    version = ("buildah", "--version")
    writes = reads = (LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)
    docker_source = DIRECTORY

    def buildah(self, storage, *arguments):
        places = ["--root", storage / "root", "--runroot", storage / "run"]
        return self.run("buildah", *places, "--storage-driver", "vfs", *arguments)

    def copy(self, source, form, destination, into):
        storage = self.bench.fresh()
        image = self.take(storage, source, form)
        self.buildah(storage, "push", "--quiet", image, transport(into, destination))

    def take(self, storage, source, form):
        """Bring an image into buildah's own storage; its identity there."""
        return self.buildah(storage, "pull", "--quiet", transport(form, source)).strip()

    def read(self, content, form, source):
        storage = self.bench.fresh()
        image = json.loads(self.buildah(storage, "inspect", "--type", "image", self.take(storage, source, form)))
        diff_ids = image["OCIv1"]["rootfs"]["diff_ids"]
        return kept(content, image["FromImageDigest"], image["FromImageID"], diff_ids, exact=form != DOCKER_ARCHIVE)


class Ctr(Client):
    """containerd's own command, which reads and writes tars only."""

    name = "ctr"
    programs = ("containerd", "ctr")
    install = "apt-get install containerd"
    version = ("ctr", "--version")
    writes = (LAYOUT, OCI_ARCHIVE)
    reads = (LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)
    source = OCI_ARCHIVE

    def copy(self, source, form, destination, into):
        space = self.bench.fresh().name
        ctr = ["ctr", "--address", self.bench.containerd, "--namespace", space, "images"]
        if into == LAYOUT:
            destination.mkdir()
        self.run(*ctr, "import", "--no-unpack", "--all-platforms", source)
        (name,) = (name for name in self.run(*ctr, "ls", "--quiet").split() if name.endswith(f":{TAG}"))
        self.run(*ctr, "export", "--all-platforms", destination, name)


class Crane(Client):
    """It copies between registries and files, so every image goes through the registry that it brings along."""

    name = "crane"
    programs = ("crane",)
    install = "go install github.com/google/go-containerregistry/cmd/crane@v0.22.1"
    version = ("crane", "version")
    writes = (LAYOUT, DOCKER_ARCHIVE)
    reads = (LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)

    def copy(self, source, form, destination, into):
        image = f"{self.bench.registry}/{IMAGE}"
        self.run("crane", "push", source, image)
        if into == LAYOUT:
            self.run("crane", "pull", "--format", "oci", "--annotate-ref", image, destination)
            return
        self.run("crane", "pull", "--format", "tarball", image, destination)


class Oras(Client):
    """It reads layouts and tars of them, and writes a tar only of what is in a registry."""

    name = "oras"
    programs = ("oras", "crane")
    install = "go install oras.land/oras/cmd/oras@v1.3.6"
    version = ("oras", "version")
    writes = (LAYOUT, OCI_ARCHIVE)
    reads = (LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)

    def copy(self, source, form, destination, into):
        copy = ["oras", "cp", "--no-tty", "--recursive", "--from-oci-layout", f"{source}:{TAG}"]
        if into == LAYOUT:
            self.run(*copy, "--to-oci-layout", f"{destination}:{TAG}")
            return
        image = f"{self.bench.registry}/{IMAGE}"
        self.run(*copy, "--to-plain-http", image)
        self.run("oras", "backup", "--no-tty", "--plain-http", "--include-referrers", "--output", destination, image)


class Regctl(Client):
    name = "regctl"
    programs = ("regctl",)
    install = "go install github.com/regclient/regclient/cmd/regctl@v0.11.7"
    version = ("regctl", "version")
    writes = (LAYOUT, OCI_ARCHIVE)
    reads = (LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)
    referrers_tags = True

    def copy(self, source, form, destination, into):
        if into == OCI_ARCHIVE:
            self.run("regctl", "image", "export", f"ocidir://{source}:{TAG}", destination)
        elif form == LAYOUT:
            images = (f"ocidir://{path}:{TAG}" for path in (source, destination))
            self.run("regctl", "image", "copy", "--referrers", *images)
        else:
            self.run("regctl", "image", "import", f"ocidir://{destination}:{TAG}", source)


CLIENTS = {client.name: client for client in (Skopeo, Umoci, Podman, Buildah, Ctr, Crane, Oras, Regctl)}
