"""What docker save of version 29 writes with containerd's image store: a sparse index, and manifest.json beside it."""

import hashlib
import io
import json

import pytest
from archived import config_of, member, members_of, tarred
from click.testing import CliRunner
from handmade import IMAGE_NAME, REF_NAME, Layout
from images import Image, described, document
from invariants import check

from ocistore import Digest, LayoutInvalidError, PlatformNotFoundError, Store
from ocistore.cli.commands import ocistore
from ocistore.oci import mediatypes

LAYER = tarred([member("hello", b"hello")])
NAME = "docker.io/library/hello-world:latest"


def built(architecture, layers=(LAYER,)):
    """An image for a platform."""
    config = config_of(layers, architecture=architecture)
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(config, mediatypes.OCI_CONFIG),
        "layers": [described(layer, mediatypes.OCI_LAYER) for layer in layers],
    }
    return Image(document(body), (config, *layers))


def attestation(about):
    """What BuildKit adds about an image: in-toto statements as the layers of something like an image."""
    config = config_of([f"about {about.digest}".encode()], architecture="unknown", os="unknown")
    statement = document({"subject": str(about.digest)})
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(config, mediatypes.OCI_CONFIG),
        "layers": [described(statement, "application/vnd.in-toto+json")],
    }
    return Image(document(body), (config, statement))


AMD, ARM = built("amd64"), built("arm64")
ABOUT_AMD, ABOUT_ARM = attestation(AMD), attestation(ARM)


def of(child, os, architecture, **annotations):
    platform = {"architecture": architecture, "os": os}
    more = {"annotations": annotations} if annotations else {}
    return described(child.manifest, child.media_type, platform=platform, **more)


def about(child, image):
    return of(
        child,
        "unknown",
        "unknown",
        **{"vnd.docker.reference.digest": str(image.digest), "vnd.docker.reference.type": "attestation-manifest"},
    )


INDEX = Image(
    document(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_INDEX,
            "manifests": [
                of(AMD, "linux", "amd64"),
                about(ABOUT_AMD, AMD),
                of(ARM, "linux", "arm64"),
                about(ABOUT_ARM, ARM),
            ],
        }
    ),
    media_type=mediatypes.OCI_INDEX,
)


def blob(content):
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def saved(tmp_path):
    """An archive of what is there of the index, and of the one image that manifest.json can describe."""

    def make(*there, image=AMD):
        layout = Layout(tmp_path / "layout")
        for each in there:
            layout.put(each)
        layout.add(INDEX)
        layout.entries[-1]["annotations"] = {IMAGE_NAME: NAME, REF_NAME: "latest"}
        listed = [{"Config": blob(image.config), "RepoTags": ["hello-world:latest"], "Layers": [blob(LAYER)]}]
        members = [*members_of(layout.write()), member("manifest.json", document(listed))]
        (tmp_path / "saved.tar").write_bytes(tarred(members))
        return tmp_path / "saved.tar"

    return make


def children(store, repository="docker.io/library/hello-world"):
    return [child.digest for child in store.repository(repository).get_manifest("latest").manifests]


def test_the_plain_import_keeps_the_index_and_says_what_is_absent(store, saved):
    report = store.import_(saved(AMD))
    assert report.tags == ("docker.io/library/hello-world:latest",)
    assert report.absent == {
        ABOUT_AMD.digest: f"attestation of {AMD.digest} in {NAME}",
        ARM.digest: f"image for linux/arm64 in {NAME}",
        ABOUT_ARM.digest: f"attestation of {ARM.digest} in {NAME}",
    }
    assert store.repository("docker.io/library/hello-world").resolve("latest").digest == INDEX.digest
    assert check(store, hashes=True) == []


def test_choosing_the_platform_that_is_there_leaves_out_its_absent_attestation(store, saved):
    report = store.import_(saved(AMD), platforms=["linux/amd64"])
    assert children(store) == [AMD.digest]
    assert report.absent == {ABOUT_AMD.digest: f"attestation of {AMD.digest} in {NAME}"}
    assert check(store, hashes=True) == []


def test_an_attestation_that_is_there_stays(store, saved):
    store.import_(saved(AMD, ABOUT_AMD), platforms=["linux/amd64"])
    assert children(store) == [AMD.digest, ABOUT_AMD.digest]


def test_another_platform_is_an_error_that_says_which_would_do(store, saved):
    with pytest.raises(PlatformNotFoundError, match=r"image for linux/arm64.*--platform linux/amd64 would do"):
        store.import_(saved(AMD), platforms=["linux/arm64"])
    result = CliRunner().invoke(
        ocistore, ["--store", str(store.root), "import", str(saved(AMD)), "--platform", "linux/arm64"]
    )
    assert (result.exit_code, result.stdout) == (45, "")


def test_an_index_of_which_no_image_is_there_is_refused(store, saved):
    with pytest.raises(LayoutInvalidError, match="is missing"):
        store.import_(saved(ABOUT_AMD))


def test_it_goes_out_to_docker_again_and_on_to_another_store(store, saved, tmp_path):
    store.import_(saved(AMD))
    store.export(tmp_path / "out.tar", format="docker-archive")
    store.export(tmp_path / "layout.tar")
    with Store.open(tmp_path / "other") as other:
        assert other.import_(tmp_path / "layout.tar").absent.keys() == {ARM.digest, ABOUT_AMD.digest, ABOUT_ARM.digest}
        other.import_(io.BytesIO((tmp_path / "out.tar").read_bytes()), "docker")
        manifest = other.repository("docker").get_manifest("latest")
        assert manifest.config.digest == Digest.of(AMD.config)
    assert json.loads(AMD.config)["architecture"] == "amd64"
