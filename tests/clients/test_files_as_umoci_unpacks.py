"""The files that we see in an image are those that umoci makes of it, whatever layers do to each other."""

import os
import stat
import subprocess
import tarfile

import pytest
from handmade import Layout
from layered import archive, layered, member, put, random_layers, remade
from required import require

from ocistore import ArchiveInvalidError
from ocistore.images import list_files, open_file

pytestmark = pytest.mark.clients

PATIENCE = 120
"""Seconds until a client is taken for stuck."""


@pytest.fixture(scope="module", autouse=True)
def _umoci():
    require("umoci", install="apt-get install umoci")


def unpacked(layout, name, destination):
    """What umoci makes of an image, by path; None where it cannot."""
    command = ["umoci", "raw", "unpack", "--rootless", "--image", f"{layout}:{name}", destination]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        assert "unpack layer" in done.stderr
        return None
    found = {}
    for directory, directories, files in os.walk(destination):
        for each in (*directories, *files):
            path = os.path.join(directory, each)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                what = ("symlink", os.readlink(path))
            elif stat.S_ISDIR(mode):
                what = ("directory", "")
            else:
                with open(path, "rb") as file:
                    what = ("file", file.read())
            found[os.path.relpath(path, destination)] = what
    return found


def seen(store, reference):
    """What we see in it; None where we cannot."""
    found = {}
    try:
        for file in list_files(store, reference):
            if file.kind in ("symlink", "directory"):
                found[file.path] = (file.kind, file.target)
                continue
            with open_file(store, reference, file.path) as content:
                found[file.path] = ("file", content.read())
    except ArchiveInvalidError:
        return None
    return found


@pytest.mark.parametrize("bare", [False, True])
def test_what_we_see_is_what_umoci_unpacks(store, repository, tmp_path, bare):
    refused = hidden = 0
    for seed in range(12):
        layers = random_layers(seed, bare=bare)
        image = layered(*layers)
        put(repository, image, "v1")
        layout = Layout(tmp_path / f"layout{seed}").add(image, "v1").write()
        theirs = unpacked(layout, "v1", tmp_path / f"unpacked{seed}")
        assert seen(store, "library/app:v1") == theirs, seed
        refused += theirs is None
        hidden += sum(layer.count(b".wh.") for layer in layers)
    assert refused < 12
    assert hidden > 12


def pax(records):
    return member("x", records, kind=tarfile.XHDTYPE)


ODD = {
    "nothing": b"",
    "no-end": member("a", b"c"),
    "no-padding": member("a", b"c")[:513],
    "half-an-end": member("a", b"c") + bytes(512),
    "garbage-behind": archive(member("a", b"c")) + b"garbage",
    "another-behind": archive(member("a", b"c")) + archive(member("b")),
    "another-behind-half-an-end": archive(member("a", b"c"))[:-512] + archive(member("b")),
    "cut-short": member("a", b"c" * 600)[:-400],
    "sized-symlink": archive(remade(member("a", kind=tarfile.SYMTYPE, target="b"), at124=b"00000000005"), member("b")),
    "sized-directory": archive(remade(member("a", kind=tarfile.DIRTYPE), at124=b"00000000005"), member("b")),
    "times-of-gnu": archive(remade(member("a"), at257=b"ustar  \0", at345=b"14277301234\0" * 2), member("b")),
    "prefix-of-old-go": archive(remade(member("a"), at257=b"ustar  \0", at345=b"dir/sub"), member("b")),
    "version-7": archive(remade(member("a"), at257=bytes(8), at345=b"noise"), member("b")),
    "empty-attribute": archive(pax(b"8 path=\n8 size=\n"), member("a", b"c")),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_archives_are_read_as_umoci_reads_them(store, repository, tmp_path, name):
    image = layered(ODD[name])
    put(repository, image, "v1")
    layout = Layout(tmp_path / "layout").add(image, "v1").write()
    assert seen(store, "library/app:v1") == unpacked(layout, "v1", tmp_path / "unpacked")
