"""oras and ocistore take each other's artifacts: files, directories, and what is about what."""

import json
import os
import stat
import subprocess

import pytest
from required import require

from ocistore import Store
from ocistore.artifacts import attach_files, discover, pull_files, push_files
from ocistore.images import list_files, open_file

pytestmark = pytest.mark.clients

PATIENCE = 120
"""Seconds until a client is taken for stuck."""


@pytest.fixture(scope="module", autouse=True)
def _oras():
    require("oras")


def oras(*arguments, within=None):
    done = subprocess.run(
        ["oras", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=within
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def work(tmp_path):
    """A directory with a file and a tree in it, to be packed from inside."""
    top = tmp_path / "work" / "tree"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "a.txt").write_bytes(b"a text")
    os.link(top / "a.txt", top / "hard")
    (top / "zero").write_bytes(b"")
    (top / "sub" / "run").write_bytes(b"#!/bin/sh\n" + bytes(100_000))
    (top / "sub" / "run").chmod(0o755)
    (top / "sub" / ("long " * 30)).write_bytes(b"long")
    (top / "sub" / "caf\N{LATIN SMALL LETTER E WITH ACUTE}\n").write_bytes(b"strange")
    with open(os.fsencode(top) + b"/not utf-8 \xff", "wb"):
        pass
    (top / "link").symlink_to("sub/run")
    (top / "sub" / "up").symlink_to("../a.txt")
    (tmp_path / "work" / "note.txt").write_bytes(b"a note")
    return tmp_path / "work"


def seen(top):
    """Every path below a directory, with what it is."""
    found = {}
    for directory, directories, files in os.walk(os.fsencode(top)):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                what = ("link", os.readlink(path))
            elif stat.S_ISDIR(mode):
                what = ("directory", oct(mode))
            else:
                with open(path, "rb") as file:
                    what = ("file", oct(mode), file.read())
            found[os.path.relpath(path, os.fsencode(top))] = what
    return found


def test_oras_pulls_what_we_pushed(store, work, tmp_path):
    push_files(store, "app:v1", [work / "tree", work / "note.txt"], artifact_type="a/b", layer="tar")
    store.export(tmp_path / "layout", ["app"])

    oras("pull", "--oci-layout", f"{tmp_path}/layout:v1", "-o", tmp_path / "out")

    assert seen(tmp_path / "out") == seen(work)


def test_oras_pulls_a_directory_of_files(store, work, tmp_path):
    top = work / "model"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "sub" / "run").write_bytes(b"#!/bin/sh")
    (top / "sub" / "run").chmod(0o755)
    (top / "caf\N{LATIN SMALL LETTER E WITH ACUTE} weights.bin").write_bytes(bytes(100_000))
    (top / "zero").touch()
    push_files(store, "app:v1", [top])
    store.export(tmp_path / "layout", ["app"])

    oras("pull", "--oci-layout", f"{tmp_path}/layout:v1", "-o", tmp_path / "out")

    ours, theirs = seen(top), seen(tmp_path / "out" / "model")
    assert {path: (what[0], what[2:]) for path, what in theirs.items()} == {
        path: (what[0], what[2:]) for path, what in ours.items()
    }, "but for the modes of files"


def test_we_pull_what_oras_pushed(store, work, tmp_path):
    oras("push", "--oci-layout", f"{tmp_path}/layout:v1", "./tree", "note.txt:text/plain", within=work)
    store.import_(tmp_path / "layout", "app")

    report = pull_files(store, "app:v1", tmp_path / "out")

    assert seen(tmp_path / "out") == seen(work)
    assert report.skipped == ()
    with open_file(store, "app:v1", "tree/link") as file:
        assert file.read() == (work / "tree" / "link").read_bytes()
    assert len(list(list_files(store, "app:v1", "tree"))) == len(seen(work / "tree")) + 1


def test_both_write_the_same_manifest_but_for_times(store, work, tmp_path):
    arguments = ("--artifact-type", "a/b", "--annotation", "org.opencontainers.image.created=2000-01-01T00:00:00Z")
    oras("push", "--oci-layout", f"{tmp_path}/layout:v1", "note.txt:text/plain", *arguments, within=work)
    theirs = json.loads(oras("manifest", "fetch", "--oci-layout", f"{tmp_path}/layout:v1"))
    pushed = push_files(
        store,
        "app:v1",
        [work / "note.txt"],
        artifact_type="a/b",
        annotations={"org.opencontainers.image.created": "2000-01-01T00:00:00Z"},
        media_types={"note.txt": "text/plain"},
    )
    assert json.loads(store.repository("app").get_manifest(pushed.digest).content) == theirs

    oras("push", "--oci-layout", f"{tmp_path}/layout:v2", "./tree", *arguments, within=work)
    theirs = json.loads(oras("manifest", "fetch", "--oci-layout", f"{tmp_path}/layout:v2"))["layers"][0]
    pushed = push_files(store, "app:v2", [work / "tree"], layer="tar")
    ours = json.loads(store.repository("app").get_manifest(pushed.digest).content)["layers"][0]
    assert ours["mediaType"] == theirs["mediaType"]
    assert list(ours["annotations"]) == list(theirs["annotations"])


def test_what_either_attached_the_other_discovers(store, work, tmp_path):
    push_files(store, "app:v1", [work / "note.txt"])
    sbom = attach_files(store, "app:v1", [work / "tree"], artifact_type="sbom/sbom", layer="tar")
    attach_files(store, f"app@{sbom.digest}", artifact_type="review/review", annotations={"approved": "yes"})
    store.export(tmp_path / "layout", ["app"], referrers=True)

    found = json.loads(oras("discover", "--oci-layout", f"{tmp_path}/layout:v1", "--format", "json"))
    (theirs,) = found["referrers"]
    assert (theirs["digest"], theirs["artifactType"]) == (sbom.digest, "sbom/sbom")
    assert [each["artifactType"] for each in theirs["referrers"]] == ["review/review"]

    reference = f"{tmp_path}/layout@{sbom.digest}"
    oras("attach", "--oci-layout", reference, "note.txt", "--artifact-type", "note/note", within=work)
    oras("attach", "--oci-layout", reference, "--artifact-type", "none/none", "--annotation", "a=b", within=work)
    with Store.open(tmp_path / "other") as other:
        other.import_(tmp_path / "layout", "app")
        tree = discover(other, "app:v1").referrers
        assert {(each.descriptor.artifact_type, each.depth) for each in tree} == {
            ("sbom/sbom", 1),
            ("review/review", 2),
            ("note/note", 2),
            ("none/none", 2),
        }
