"""What we unpack of an image is what umoci unpacks, modes, times and hard links included, but for what the docs say."""

import os
import stat
import subprocess
import tarfile
import time

import pytest
from handmade import Layout
from layered import OPAQUE, archive, directory, hardlink, layered, member, put, random_layers, symlink
from required import require

from ocistore import ArchiveInvalidError
from ocistore.images import unpack

pytestmark = pytest.mark.clients

PATIENCE = 120
"""Seconds until a client is taken for stuck."""
NOW = "the time at which it was unpacked"
BEGAN = time.time() - 1  # filesystems note times by the kernel's clock, which lags by some milliseconds


@pytest.fixture(scope="module", autouse=True)
def _umoci():
    require("umoci", install="apt-get install umoci")


def tree(top):
    """Everything in a directory and itself: kind, mode, time, content, and which names are one file."""
    found, names = {}, {}
    for above, directories, files in os.walk(top):
        for name in (*directories, *files, "."):
            path = os.path.join(above, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            attributes = [
                each for each in os.listxattr(path, follow_symlinks=False) if each != "user.rootlesscontainers"
            ]
            # umoci dates what no layer describes at the time at which it unpacks.
            at = NOW if status.st_mtime > BEGAN else int(status.st_mtime)
            where = os.path.normpath(os.path.relpath(path, top))
            found[where] = [stat.filemode(status.st_mode), at, content, sorted(attributes), ""]
            if not stat.S_ISDIR(status.st_mode):
                names.setdefault(status.st_ino, []).append(where)
    for same in names.values():
        for name in same:
            found[name][-1] = min(same)
    return found


def both(store, repository, image, place):
    """What umoci makes of an image and what we make of it; None of who refuses it."""
    put(repository, image, "v1")
    layout = Layout(place / "layout").add(image, "v1").write()
    command = ["umoci", "raw", "unpack", "--rootless", "--image", f"{layout}:v1", place / "theirs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0 or "unpack layer" in done.stderr
    try:
        report = unpack(store, f"{repository.name}:v1", place / "ours")
    except ArchiveInvalidError:
        assert not (place / "ours").exists()
        return (None if done.returncode else tree(place / "theirs")), None, None
    return (None if done.returncode else tree(place / "theirs")), tree(place / "ours"), report


def undated(theirs, ours):
    """Ours, with umoci's time of directories that it has dated itself: of those without an entry, and those around."""
    for path, said in theirs.items():
        if said[1] == NOW and path in ours:
            assert said[0].startswith("d")
            ours[path][1] = NOW
    return ours


@pytest.mark.parametrize("bare", [False, True])
def test_whatever_layers_do_to_each_other(store, repository, tmp_path, bare):
    refused = 0
    for seed in range(12, 36):
        place = tmp_path / str(seed)
        place.mkdir()
        theirs, ours, _ = both(store, repository, layered(*random_layers(seed, bare=bare)), place)
        if theirs is None:
            refused += 1
            assert ours is None, seed
        else:
            assert undated(theirs, ours) == theirs, seed
    assert refused < 24


def distribution():
    """Layers as those of a distribution, and of what is built upon it."""
    top = [member("./", kind=tarfile.DIRTYPE, mode=0o755, mtime=1_700_000_001)]
    for number, name in enumerate(("etc", "usr", "usr/bin", "usr/lib", "usr/share", "dev", "var", "var/lib", "home")):
        top.append(member(name, kind=tarfile.DIRTYPE, mode=0o755, mtime=1_600_000_000 + number))
    base = archive(
        *top,
        member("proc", kind=tarfile.DIRTYPE, mode=0o555, mtime=1_500_000_000),
        member("root", kind=tarfile.DIRTYPE, mode=0o700),
        member("tmp", kind=tarfile.DIRTYPE, mode=0o1777),
        member("var/mail", kind=tarfile.DIRTYPE, mode=0o2775),
        symlink("bin", "usr/bin"),
        symlink("lib", "usr/lib"),
        symlink("etc/mtab", "/proc/mounts"),
        symlink("var/run", "/run"),
        member("usr/bin/perl", b"\x7fELF" * 9000, mode=0o755, mtime=1_650_000_000),
        hardlink("usr/bin/perl5.36", "usr/bin/perl"),
        member("etc/shadow", b"root:*", mode=0o640),
        member("etc/locked", b"x", mode=0),
        member("usr/share/caf\u00e9", b"latin"),
        member("usr/share/" + "long" * 40 + "/" + "name" * 30, b"long"),
        member("var/lib/pipe", kind=tarfile.FIFOTYPE, mode=0o600),
        member("var/lib/cache", kind=tarfile.DIRTYPE, mode=0o755),
        member("var/lib/cache/old", b"old"),
        member("var/lib/lists", kind=tarfile.DIRTYPE, mode=0o755),
        member("var/lib/lists/a", b"a"),
        member("var/lib/lists/b/c", b"c"),
    )
    update = archive(
        member("etc", kind=tarfile.DIRTYPE, mode=0o755, mtime=1_650_000_000),
        member("etc/.wh.locked"),
        member("etc/shadow", b"root:!", mode=0o600),
        member("bin/tool", b"#!/bin/sh\n", mode=0o755),
        member("var/lib/lists", kind=tarfile.DIRTYPE, mode=0o711),
        member(f"var/lib/lists/{OPAQUE}"),
        member("var/lib/lists/new", b"new"),
        member("var/lib/.wh.cache"),
        member("usr/bin/perl", b"patched", mode=0o755),
        hardlink("usr/bin/python", "usr/bin/perl5.36"),
    )
    program = archive(
        directory("app"),
        member("app/main", b"main", mode=0o755),
        symlink("home", "/srv"),
        member("srv", kind=tarfile.DIRTYPE, mode=0o700),
        member("var/lib/cache", b"a file now"),
    )
    return [base, update, program]


def test_an_image_like_that_of_a_distribution(store, repository, tmp_path):
    theirs, ours, report = both(store, repository, layered(*distribution()), tmp_path)
    assert theirs is not None
    assert undated(theirs, ours) == theirs
    assert report.left_out == ()
    assert sum(said[0].startswith("p") for said in ours.values()) == 1


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_what_tar_packs_of_this_machine(store, repository, tmp_path, form):
    packed = [
        "tar",
        "-C",
        os.path.dirname(os.__file__),
        f"--format={form}",
        "-c",
        "json",
        "email",
        "importlib",
        "os.py",
    ]
    first = subprocess.run(packed, capture_output=True, check=True).stdout
    second = archive(directory("json"), member(f"json/{OPAQUE}"), member("json/new"), member("email/.wh.mime"))
    theirs, ours, _ = both(store, repository, layered(first, second), tmp_path)
    assert len(ours) > 100
    assert undated(theirs, ours) == theirs


def test_where_we_differ_and_say_so(store, repository, tmp_path):
    layer = archive(
        member("dev/null", kind=tarfile.CHRTYPE),
        member("su", b"run", mode=0o4755),
        member("wall", b"run", mode=0o2755),
        member("d", kind=tarfile.DIRTYPE, mode=0o755),
    )
    theirs, ours, report = both(store, repository, layered(layer), tmp_path)
    # umoci makes an empty file in the place of a device, and files that run as whoever unpacked them.
    assert theirs.pop("dev/null")[2] == b""
    assert [theirs[name][0] for name in ("su", "wall")] == ["-rwsr-xr-x", "-rwxr-sr-x"]
    assert [ours[name][0] for name in ("su", "wall")] == ["-rwxr-xr-x", "-rwxr-xr-x"]
    assert [each.path for each in report.left_out] == ["dev/null", "su", "wall"]
    for name in ("su", "wall"):
        theirs[name][0] = ours[name][0]
    assert undated(theirs, ours) == theirs
