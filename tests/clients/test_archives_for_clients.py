"""Archives that go out are what podman, skopeo, crane, oras and regctl take in, with the same digests."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from handmade import names
from images import document
from required import missing

from ocistore import Digest, Store
from ocistore.oci import mediatypes

pytestmark = pytest.mark.clients

PATIENCE = 300
ARCHITECTURES = ("amd64", "arm64")


def found(client):
    """Where the client is: on the path, or where Go installs programs."""
    path = shutil.which(client) or shutil.which(client, path=str(Path.home() / "go" / "bin"))
    if path is None:
        missing(f"needs {client}")
    return path


def run(client, *arguments):
    command = [found(client), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Images of two compressed layers that umoci built, for two platforms, with an index of both."""
    directory = tmp_path_factory.mktemp("built")
    layout = directory / "layout"
    run("umoci", "init", "--layout", layout)
    for architecture in ARCHITECTURES:
        reference = f"{layout}:{architecture}"
        run("umoci", "new", "--image", reference)
        run("umoci", "config", "--image", reference, "--architecture", architecture, "--os", "linux")
        for name in ("one", "two"):
            (directory / name).write_bytes(f"{name} for {architecture}".encode() * 1000)
            rootless = [] if os.geteuid() == 0 else ["--rootless"]
            run("umoci", "insert", *rootless, "--image", reference, directory / name, f"/{name}")
    with Store.open(directory / "store") as opened:
        opened.import_(layout, "library/app")
        repository = opened.repository("library/app")
        children = []
        for architecture in ARCHITECTURES:
            child = repository.resolve(architecture).to_json()
            children.append({**child, "platform": {"os": "linux", "architecture": architecture}})
        body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": children}
        repository.put_manifest(document(body), tags=["multi"])
        yield opened


@pytest.fixture
def repository(store):
    return store.repository("library/app")


@pytest.fixture
def podman(tmp_path):
    """podman with a storage of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="podman-") as short:  # it takes no path of more than 50 characters
        options = ["--storage-driver", "vfs", "--root", tmp_path / "storage", "--runroot", short]
        yield lambda *arguments: run("podman", *options, *arguments)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.zst"])
def test_skopeo_reads_layouts_in_archives(store, repository, tmp_path, suffix):
    store.export(tmp_path / f"out.{suffix}", ["library/app:amd64"])
    reference = f"oci-archive:{tmp_path}/out.{suffix}:amd64"
    assert run("skopeo", "inspect", "--raw", reference).encode() == repository.get_manifest("amd64").content


def test_skopeo_copies_an_index_out_of_an_archive_with_its_digest(store, repository, tmp_path):
    store.export(tmp_path / "out.tar", ["library/app:multi"])
    run(
        "skopeo",
        "--insecure-policy",
        "copy",
        "--all",
        "--preserve-digests",
        f"oci-archive:{tmp_path}/out.tar:multi",
        f"oci:{tmp_path}/copied:multi",
    )
    assert names(tmp_path / "copied") == {"multi": repository.resolve("multi").digest}


def test_skopeo_reads_an_index_that_was_narrowed(store, tmp_path):
    store.export(tmp_path / "out.tar", ["library/app:multi"], platforms=["linux/arm64"])
    reference = f"oci-archive:{tmp_path}/out.tar:multi"
    assert len(json.loads(run("skopeo", "inspect", "--raw", reference))["manifests"]) == 1
    inspected = run("skopeo", "--override-arch", "arm64", "inspect", "--config", reference)
    assert json.loads(inspected)["architecture"] == "arm64"


def test_oras_reads_layouts_in_archives(store, repository, tmp_path):
    store.export(tmp_path / "out.tar", ["library/app"])
    fetched = run("oras", "manifest", "fetch", "--oci-layout", f"{tmp_path}/out.tar:multi")
    assert fetched.encode() == repository.get_manifest("multi").content


def test_regctl_imports_layouts_in_archives(store, repository, tmp_path):
    store.export(tmp_path / "out.tar", ["library/app:multi"])
    run("regctl", "image", "import", f"ocidir://{tmp_path}/copied:multi", tmp_path / "out.tar")
    assert names(tmp_path / "copied") == {"multi": repository.resolve("multi").digest}


def test_podman_loads_layouts_in_archives(store, repository, tmp_path, podman):
    store.export(tmp_path / "out.tar", ["library/app:amd64"])
    podman("load", "-i", tmp_path / "out.tar")
    (image,) = json.loads(podman("image", "ls", "--format", "json"))
    assert image["Digest"] == repository.resolve("amd64").digest


def test_podman_loads_docker_archives_as_the_images_of_their_configs(store, repository, tmp_path, podman):
    # Not compressed ones, which Debian's podman 4.3 does not even read where it wrote them itself.
    store.export(
        tmp_path / "out.tar",
        ["library/app:amd64=mine/app:new", "library/app:arm64=mine/app:other"],
        format="docker-archive",
    )
    podman("load", "-i", tmp_path / "out.tar")
    ids = {
        name: image["Id"] for image in json.loads(podman("image", "ls", "--format", "json")) for name in image["Names"]
    }
    expected = {
        f"localhost/mine/app:{tag}": repository.get_manifest(architecture).config.digest.encoded
        for tag, architecture in (("new", "amd64"), ("other", "arm64"))
    }
    assert ids == expected


def test_skopeo_reads_docker_archives(store, repository, tmp_path):
    store.export(
        tmp_path / "out.tar", ["library/app:multi=mine/app:v1"], format="docker-archive", platforms=["linux/arm64"]
    )
    reference = f"docker-archive:{tmp_path}/out.tar:mine/app:v1"
    config = run("skopeo", "inspect", "--raw", "--config", reference).encode()
    assert Digest.of(config) == repository.get_manifest("arm64").config.digest
    assert run("skopeo", "list-tags", f"docker-archive:{tmp_path}/out.tar").count("mine/app:v1") == 1
    run("skopeo", "--insecure-policy", "copy", reference, f"dir:{tmp_path}/copied")
    layers = json.loads((tmp_path / "copied" / "manifest.json").read_bytes())["layers"]
    for layer, diff_id in zip(layers, json.loads(config)["rootfs"]["diff_ids"], strict=True):
        content = (tmp_path / "copied" / Digest.parse(layer["digest"]).encoded).read_bytes()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == diff_id


def test_crane_finds_docker_archives_valid(store, tmp_path):
    store.export(tmp_path / "out.tar", ["library/app:amd64"], format="docker-archive")
    run("crane", "validate", "--tarball", tmp_path / "out.tar")
