"""Debian's own OCI clients: what they write is taken in, and what goes out they read, byte for byte."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sysconfig

import pytest
from handmade import REF_NAME, listed, names, verified
from images import document
from required import require
from state import files, pool, unchanged

from ocistore import Digest, Store
from ocistore.oci import mediatypes

pytestmark = pytest.mark.clients

LAYERS = 3
SMALL = 300 << 10
"""Bytes of the tree in the plain run."""
LARGE = 200 << 20
PATIENCE = 900
"""Seconds until a client is taken for stuck; compressing the large tree takes it a minute on a slow machine."""

ARCHITECTURES = ("amd64", "arm64")


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def skopeo(verb, *arguments):
    return run("skopeo", "--insecure-policy", verb, *arguments)


def umoci(verb, *arguments):
    return run("umoci", verb, *arguments)


def rootless():
    return [] if os.geteuid() == 0 else ["--rootless"]


def unpack(layout, name, bundle):
    """The tree that umoci makes of an image."""
    umoci("unpack", *rootless(), "--image", f"{layout}:{name}", bundle)
    return bundle / "rootfs"


@pytest.fixture(scope="module", autouse=True)
def _clients():
    require("skopeo", "umoci", install="apt-get install skopeo umoci")


# --- real content -----------------------------------------------------------------------------------------------------


def gather(destination, size):
    """Copies of this machine's own files, links among them, until there are ``size`` bytes; the same every time."""
    total, largest = 0, size // 8
    for source in (sysconfig.get_path("stdlib"), "/usr/share", "/usr/lib"):
        for directory, directories, there in os.walk(source):
            directories.sort()
            for name in sorted(there):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and not 0 < status.st_size <= largest:
                    continue
                part = destination / f"part{total * LAYERS // size}" / os.path.relpath(directory, "/")
                part.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, part / name, follow_symlinks=False)
                total += status.st_size
                if total >= size:
                    return
    raise AssertionError(f"this machine has only {total} bytes of files")


def build(layout, name, tree, architecture):
    """An image of a tree, one layer for each of its parts."""
    reference = f"{layout}:{name}"
    umoci("new", "--image", reference)
    umoci("config", "--image", reference, "--architecture", architecture, "--os", "linux")
    for part in sorted(tree.iterdir()):
        umoci("insert", *rootless(), "--image", reference, part, f"/{part.name}")


def join(layout, name, images):
    """An index of these images, written into the layout by hand."""
    entries = listed(layout)
    by_name = {entry["annotations"][REF_NAME]: entry for entry in entries}
    body = document(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_INDEX,
            "manifests": [
                {
                    **{key: by_name[image][key] for key in ("mediaType", "digest", "size")},
                    "platform": {"os": "linux", "architecture": image},
                }
                for image in images
            ],
        }
    )
    digest = Digest.of(body)
    (layout / "blobs" / "sha256" / digest.encoded).write_bytes(body)
    entry = {"mediaType": mediatypes.OCI_INDEX, "digest": digest, "size": len(body), "annotations": {REF_NAME: name}}
    (layout / "index.json").write_bytes(document({"schemaVersion": 2, "manifests": [*entries, entry]}))


def listing(tree):
    """Everything in a tree: kind and permissions, and the bytes of files or the target of links."""
    found = {}
    for directory, directories, there in os.walk(tree):
        for name in (*directories, *there):
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            content = ""
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                content = hash_of(path)
            found[os.path.relpath(path, tree)] = (mode, content)
    return found


def hash_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(layout):
    """The names of the blobs in a layout, each with the hash of its bytes."""
    return {path.name: hash_of(path) for path in layout.glob("blobs/sha256/*")}


@pytest.fixture(
    scope="module",
    params=[pytest.param(SMALL, id="small"), pytest.param(LARGE, id="200 MiB", marks=pytest.mark.slow)],
)
def built(request, tmp_path_factory):
    """A layout that umoci made of a tree in several layers, once per platform, with an index of both; and the tree."""
    directory = tmp_path_factory.mktemp("built")
    tree, layout = directory / "tree", directory / "layout"
    gather(tree, request.param)
    umoci("init", "--layout", layout)
    for architecture in ARCHITECTURES:
        build(layout, architecture, tree, architecture)
    join(layout, "multi", ARCHITECTURES)
    assert len(list(tree.iterdir())) == LAYERS
    yield layout, tree
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def imported(built, tmp_path_factory):
    """A store with that layout, also exported, and exported in place."""
    layout, _ = built
    directory = tmp_path_factory.mktemp("imported")
    with Store.open(directory / "store") as store:
        store.import_(layout, "library/app")
        store.export(directory / "out")
        store.export_in_place()
        yield store, directory / "out"
    shutil.rmtree(directory)


@pytest.fixture(params=["export", "in place"])
def readable(request, imported):
    """A layout that ocistore wrote: an export, and the root of the store itself."""
    store, out = imported
    return out if request.param == "export" else store.root


@pytest.fixture
def repository(imported):
    return imported[0].repository("library/app")


# --- in ---------------------------------------------------------------------------------------------------------------


def test_what_umoci_built_is_in_the_store(built, repository):
    layout, _ = built
    assert list(repository.tags()) == sorted([*ARCHITECTURES, "multi"])
    assert {tag: repository.resolve(tag).digest for tag in repository.tags()} == names(layout)
    multi = repository.get_manifest("multi")
    assert [str(child.platform) for child in multi.manifests] == ["linux/amd64", "linux/arm64"]
    for child in multi.manifests:
        assert len(repository.get_manifest(child.digest).layers) == LAYERS


def test_every_blob_comes_out_with_the_bytes_it_went_in_with(built, imported):
    layout, _ = built
    store, out = imported
    # umoci leaves what each of its steps replaced: the store took only what the names lead to.
    reachable = {digest.removeprefix("sha256:") for digest in verified(layout)}
    expected = {name: found for name, found in hashes(layout).items() if name in reachable}
    assert hashes(out) == hashes(store.root) == expected == {name: name for name in expected}


def test_what_skopeo_copies_out_of_a_layout_comes_back_in(imported, tmp_path):
    store, out = imported
    for tag in ARCHITECTURES:
        skopeo("copy", f"oci:{out}:{tag}", f"oci:{tmp_path}/copied:{tag}")
    with Store.open(tmp_path / "store") as other:
        report = other.import_(tmp_path / "copied", "library/app")
        assert report.tags == tuple(f"library/app:{tag}" for tag in ARCHITECTURES)
        for tag in ARCHITECTURES:
            there, back = (each.repository("library/app").get_manifest(tag) for each in (store, other))
            assert [layer.digest for layer in back.layers] == [layer.digest for layer in there.layers]
            assert back.config.digest == there.config.digest


def test_an_image_that_skopeo_names_nothing_comes_in_untagged(imported, tmp_path):
    _, out = imported
    skopeo("copy", f"oci:{out}:amd64", f"oci:{tmp_path}/copied")
    with Store.open(tmp_path / "store") as other:
        report = other.import_(tmp_path / "copied", "app")
        (entry,) = listed(tmp_path / "copied")
        assert (report.tags, report.untagged) == ((), (f"app@{entry['digest']}",))


# --- out --------------------------------------------------------------------------------------------------------------


def test_umoci_lists_the_names(readable):
    assert sorted(umoci("ls", "--layout", readable).split()) == sorted([*ARCHITECTURES, "multi"])


@pytest.mark.parametrize("tag", ARCHITECTURES)
def test_skopeo_inspects_an_image(readable, repository, tag):
    reference = f"oci:{readable}:{tag}"
    manifest = repository.get_manifest(tag)
    found = json.loads(skopeo("inspect", reference))
    assert found["Digest"] == manifest.descriptor.digest
    assert found["Architecture"] == tag
    assert found["Layers"] == [layer.digest for layer in manifest.layers]
    assert skopeo("inspect", "--raw", reference).encode() == manifest.content
    with repository.open_blob(manifest.config.digest) as config:
        assert skopeo("inspect", "--raw", "--config", reference).encode() == config.read()


def test_skopeo_inspects_an_index_and_the_image_in_it(readable, repository):
    reference = f"oci:{readable}:multi"
    assert skopeo("inspect", "--raw", reference).encode() == repository.get_manifest("multi").content
    for architecture in ARCHITECTURES:
        found = json.loads(skopeo("--override-arch", architecture, "inspect", "--config", reference))
        assert found["architecture"] == architecture


def test_skopeo_copies_an_index_with_all_its_images_and_it_comes_back_the_same(readable, repository, tmp_path):
    skopeo("copy", "--all", "--preserve-digests", f"oci:{readable}:multi", f"oci:{tmp_path}/copied:multi")
    with Store.open(tmp_path / "store") as other:
        other.import_(tmp_path / "copied", "library/app")
        back = other.repository("library/app").get_manifest("multi")
        assert back.content == repository.get_manifest("multi").content
        other.export(tmp_path / "out")
    for layout in (tmp_path / "copied", tmp_path / "store", tmp_path / "out"):
        assert hashes(layout).items() <= hashes(readable).items()
    assert hashes(tmp_path / "out") == hashes(tmp_path / "store")


@pytest.mark.parametrize("tag", ARCHITECTURES)
def test_umoci_unpacks_the_tree_that_went_in(built, readable, tmp_path, tag):
    _, tree = built
    assert listing(unpack(readable, tag, tmp_path / "bundle")) == listing(tree)


def test_clients_change_nothing_in_a_store_that_they_read(built, imported, tmp_path):
    store, _ = imported
    before = files(store.root)
    with unchanged(store.root):
        umoci("ls", "--layout", store.root)
        umoci("stat", "--image", f"{store.root}:amd64")
        unpack(store.root, "amd64", tmp_path / "bundle")
        skopeo("inspect", f"oci:{store.root}:multi")
        skopeo("copy", "--all", f"oci:{store.root}:multi", f"oci:{tmp_path}/copied:multi")
    assert files(store.root) == before


def test_clients_find_images_of_several_repositories_by_their_whole_names(imported, tmp_path):
    _, out = imported
    with Store.open(tmp_path / "store") as store:
        for name in ("one", "group/two"):
            store.import_(out, name)
        store.export(tmp_path / "both", ["one:amd64", "group/two:arm64"], mode="link")
    assert umoci("ls", "--layout", tmp_path / "both").split() == ["group/two:arm64", "one:amd64"]
    for name, architecture in (("one:amd64", "amd64"), ("group/two:arm64", "arm64")):
        assert json.loads(skopeo("inspect", f"oci:{tmp_path}/both:{name}"))["Architecture"] == architecture
    assert listing(unpack(tmp_path / "both", "group/two:arm64", tmp_path / "bundle"))


def test_an_export_goes_into_a_layout_that_umoci_keeps_using(imported, tmp_path):
    store, _ = imported
    shared = tmp_path / "shared"
    umoci("init", "--layout", shared)
    umoci("new", "--image", f"{shared}:theirs")
    theirs = names(shared)["theirs"]
    store.export(shared, ["library/app:amd64"])
    assert names(shared).keys() == {"theirs", "amd64"}
    umoci("tag", "--image", f"{shared}:amd64", "renamed")
    umoci("gc", "--layout", shared)
    assert names(shared)["theirs"] == theirs
    assert names(shared)["renamed"] == names(shared)["amd64"]
    verified(shared)
    store.export(shared, ["library/app:arm64"])
    assert names(shared).keys() == {"theirs", "amd64", "renamed", "arm64"}
    with Store.open(tmp_path / "store") as other:
        assert len(other.import_(shared, "app").tags) == 4
        assert pool(other.root).keys() == verified(shared).keys()
