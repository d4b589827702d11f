"""Filesystems that run out of what others never do: blocks smaller than a page, few inodes."""

import contextlib
import faulthandler
import os
import signal
import subprocess
from datetime import timedelta

import pytest
from images import image, push
from invariants import check
from required import missing, require

from ocistore import OCIStoreError, Store, StoreFullError
from ocistore.blobs import ballast
from ocistore.catalog import sharedmemory

NOW = timedelta(0)


class Small:
    """A small ext4 in a file, and a store on it."""

    def __init__(self, directory):
        self.directory = directory
        self.root = directory / "store"

    def fill(self, leaving=0):
        """Leave so many bytes, rounded to blocks."""
        with open(self.directory / "filler", "ab", buffering=0) as file:
            for size in (65536, 1024, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        os.truncate(self.directory / "filler", max(0, (self.directory / "filler").stat().st_size - leaving))

    def use_up_inodes(self):
        for number in range(100_000):
            try:
                (self.directory / f"inode{number}").touch()
            except OSError:
                return

    def free(self):
        for path in (self.directory / "filler", *self.directory.glob("inode*")):
            path.unlink(missing_ok=True)


@pytest.fixture
def small(tmp_path, request):
    if os.geteuid() != 0:
        missing("mounting a filesystem needs root")
    require("mkfs.ext4", install="apt-get install e2fsprogs")
    image_, mounted = tmp_path / "image", tmp_path / "disk"
    mounted.mkdir()
    with open(image_, "wb") as file:
        file.truncate(24 * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", *request.param, image_], check=True)
    done = subprocess.run(["mount", "-o", "loop", image_, mounted], capture_output=True, text=True)
    if done.returncode:
        missing(f"a filesystem in a file cannot be mounted here: {done.stderr.strip()}")
    try:
        yield Small(mounted)
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


small_blocks = pytest.mark.parametrize(
    "small", [["-b", "1024"], pytest.param(["-b", "2048"], marks=pytest.mark.slow)], indirect=True
)
few_inodes = pytest.mark.parametrize("small", [["-N", "64"]], indirect=True)


def forked(work, *arguments):
    """How a child that does the work ends: 0, or minus the number of a signal."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            work(*arguments)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def use_before(root, small, leaving):
    """Open a store on a disk that fills up before it is written to, whatever is refused then."""
    with contextlib.suppress(OCIStoreError), Store.open(root) as store:
        assert list(store.repository("a").tags())
        small.fill(leaving)
        _write(store)


def use_after(root, small, leaving):
    """The same on a disk that is full already."""
    small.fill(leaving)
    with contextlib.suppress(OCIStoreError), Store.open(root) as store:
        _write(store)


def _write(store):
    for number in range(3):
        with contextlib.suppress(OCIStoreError):
            store.repository("a").tag(f"t{number}", image("kept").digest)
        with contextlib.suppress(OCIStoreError):
            store.repository("a").untag(f"t{number}")
    with contextlib.suppress(OCIStoreError):
        store.gc(grace=NOW)


def ends(small):
    """How processes end that work with so many KiB left on the disk, with and without ballast."""
    found = []
    for work in (use_before, use_after):
        for leaving in range(0, 96, 8):
            if leaving % 16:
                (small.root / "reserved").unlink(missing_ok=True)
            found.append(forked(work, small.root, small, leaving * 1024))
            small.free()
    return found


def prepared(small):
    with Store.open(small.root) as store:
        push(store.repository("a"), image("kept"), "v1")
    return small.root


@small_blocks
def test_a_full_disk_of_small_blocks_kills_nobody(small):
    root = prepared(small)
    assert set(ends(small)) == {0}
    with Store.open(root) as store:
        assert store.repository("a").get_manifest("v1").content == image("kept").manifest
    assert check(root, hashes=True, idle=False) == []


@small_blocks
def test_the_shared_memory_has_all_its_blocks_before_anything_is_written(small):
    with Store.open(small.root) as store:
        store.repository("a").put_blob(b"x")
        status = os.stat(small.root / "catalog.db-shm")
        assert status.st_blocks * 512 >= status.st_size >= 16 * sharedmemory.REGION


@small_blocks
def test_a_store_that_leaves_holes_is_killed(small, monkeypatch):
    """The way that is wrong: this harness would see it."""
    prepared(small)
    monkeypatch.setattr(sharedmemory.SharedMemory, "is_at_risk", False)
    assert -signal.SIGBUS in ends(small)


@few_inodes
def test_a_closed_store_opens_where_no_inode_is_left_and_can_be_emptied(small):
    root = prepared(small)
    for _ in range(3):
        small.use_up_inodes()
        with Store.open(root, read_only=True) as store:
            assert list(store.repository("a").tags()) == ["v1"]
        small.use_up_inodes()
        with Store.open(root) as store:
            assert store.repository("a").get_manifest("v1").content == image("kept").manifest
            with pytest.raises(StoreFullError):
                store.repository("a").put_blob(b"another")
            store.repository("a").tag("v2", image("kept").digest)
            store.repository("a").untag("v2")
            store.gc(grace=NOW)
        assert (root / "quarantine").is_dir()
        assert (root / "reserved").stat().st_size > 0
    small.use_up_inodes()
    with Store.open(root) as store:
        store.repository("a").untag("v1")
        assert store.gc(grace=NOW, keep_untagged=NOW).blobs == 3
        store.repository("a").put_blob(b"another")
    small.free()  # looking needs inodes, too
    assert check(root, hashes=True, idle=False) == []


@few_inodes
def test_a_store_that_keeps_no_inodes_does_not_open(small, monkeypatch):
    """The way that is wrong: this harness would see it."""
    root = prepared(small)
    monkeypatch.setattr(ballast, "_out_of_inodes", lambda _: False)
    small.use_up_inodes()
    with pytest.raises(OCIStoreError), Store.open(root):
        pass
