"""The names that clients write are those in the table of docs/layouts.md, row by row, and come in as it says."""

import itertools
import json
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from handmade import IMAGE_NAME, REF_NAME, Layout
from images import Image, described, document
from programs import Containerd, Registry, run
from required import require

from ocistore import Digest, InvalidNameError, Store
from ocistore.oci import mediatypes

pytestmark = pytest.mark.clients

DOCUMENT = Path(__file__).parents[2] / "docs" / "layouts.md"
CODE = re.compile(r"`([^`]+)`")


def documented():
    lines = DOCUMENT.read_text().split("\n")
    begin = lines.index(next(line for line in lines if line.startswith("| written by |")))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[begin + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A directory with an image to copy from: ``src:v1``."""
    directory = tmp_path_factory.mktemp("names")
    with tarfile.open(directory / "layer.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    layer = (directory / "layer.tar").read_bytes()
    config = document(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]},
            "history": [{"created_by": "a test"}],
        }
    )
    manifest = document(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": described(config, mediatypes.OCI_CONFIG),
            "layers": [described(layer, mediatypes.OCI_LAYER)],
        }
    )
    Layout(directory / "src").add(Image(manifest, (config, layer)), "v1").write()
    return directory


@pytest.fixture(scope="module")
def registry(here):
    """A registry that has the image as ``app:v1``."""
    require("crane")
    served = Registry(here)
    try:
        command = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        run(*command, f"oci:{here}/src:v1", f"docker://{served.address}/app:v1", inside=here)
        yield served
    finally:
        served.close()


@pytest.fixture(scope="module")
def storage(here):
    """What podman and buildah are told, so that they keep what they have to themselves; the image in it is app:v1."""
    require("podman", "buildah")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    # They refuse a runroot of more than 50 characters, which pytest's directories have when it runs on several cores.
    with tempfile.TemporaryDirectory(prefix="run-") as running:
        options = ["--root", here / "storage", "--runroot", running, "--storage-driver", "vfs"]
        run("podman", *options, "pull", "-q", f"oci:{here}/src:v1", inside=here)
        (pulled,) = run("podman", *options, "images", "-q", inside=here).split()
        run("podman", *options, "tag", pulled, "app:v1", inside=here)
        yield options
        run("podman", *options, "rmi", "-a", "-f", inside=here)


@pytest.fixture(scope="module")
def containerd(here):
    require("containerd", "ctr")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (here / "c").mkdir()
    served = Containerd(here / "c")
    yield served
    served.close()


def written(row, request, here, path):
    """Run the command of a row; ``path`` is where DIR and FILE are."""
    words = CODE.search(row[0])[1].split()
    client = words[0]
    require(client)
    source = {"skopeo": f"oci:{here}/src:v1", "regctl": f"ocidir://{here}/src:v1", "oras": f"{here}/src:v1"}.get(client)
    address = request.getfixturevalue("registry").address if "HOST:PORT" in row[0] else ""
    words = [re.sub(r"\b(DIR|FILE)\b", str(path), word).replace("HOST:PORT", address) for word in words]
    if client == "oras" and words[1] == "push":
        (here / "note.txt").write_text("a note")
        words[words.index("…")] = "note.txt"
        words = [*words, "--disable-path-validation"]
        return _inside(words, here)
    if "…" in words:
        words[words.index("…")] = source
    if client == "skopeo":
        words[1:1] = ["--insecure-policy"]
    elif client in {"podman", "buildah"}:
        words[1:1] = request.getfixturevalue("storage")
    elif client == "oras":
        words[2:2] = ["--from-oci-layout"]
    elif client == "crane":
        words[2:2] = ["--insecure"]
    elif client == "regctl" and address:
        run("regctl", "registry", "set", "--tls", "disabled", address, inside=here)
    elif client == "ctr":
        served = request.getfixturevalue("containerd")
        words[1:1] = ["-a", served.address]
        command = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{here}/src:v1"]
        run(*command, f"docker-archive:{here}/for-ctr.tar:app:v1", inside=here)
        run("ctr", "-a", served.address, "image", "import", "--no-unpack", here / "for-ctr.tar", inside=here)
    return run(*words, inside=here)


def _inside(words, here):
    before = os.getcwd()
    os.chdir(here)
    try:
        return run(*words, inside=here)
    finally:
        os.chdir(before)


def found(path):
    """The ref.name, and containerd's name or the RepoTags, that stand in what was written."""
    if path.is_dir():
        listed = json.loads((path / "index.json").read_bytes())
    else:
        with tarfile.open(path) as tar:
            names = tar.getnames()
            listed = json.load(tar.extractfile("index.json" if "index.json" in names else "manifest.json"))
    if isinstance(listed, list):
        return [], [tag for image in listed for tag in image["RepoTags"]]
    (annotations,) = [entry.get("annotations") or {} for entry in listed["manifests"]]
    return [[annotations[name]] if name in annotations else [] for name in (REF_NAME, IMAGE_NAME)]


@pytest.mark.parametrize("row", documented(), ids=lambda row: row[0].replace("`", ""))
def test_a_client_writes_the_names_that_the_document_says(request, here, tmp_path, empty_store, row):
    path = tmp_path / "out"
    written(row, request, here, path)
    address = request.getfixturevalue("registry").address if "HOST:PORT" in row[0] else ""
    named = [[name.replace("HOST:PORT", address) for name in CODE.findall(cell)] for cell in row[1:3]]
    assert [sorted(names) for names in found(path)] == named
    with Store.open(shutil.copytree(empty_store, tmp_path / "store")) as store:
        for outcome, given in zip(row[3:], (None, "mine"), strict=True):
            if outcome.startswith("error"):
                with pytest.raises(InvalidNameError):
                    store.import_(path, given)
                continue
            report = store.import_(path, given)
            where = named[1] if outcome == "both" else CODE.findall(outcome)
            assert list(report.tags) == ([] if "without a tag" in outcome else where)
            assert report.manifests == 1
