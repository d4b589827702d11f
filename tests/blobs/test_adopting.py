"""Bytes of another file taken into a pool without copying them: by reflink, or as the very same file."""

import contextlib
import errno
import mmap
import os
import shutil
import stat
import threading
import time

import pytest
from state import descriptors

from ocistore.blobs import ingester
from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.errors import DigestMismatchError, ReadOnlyStoreError, SizeMismatchError, StorageError
from ocistore.oci.digest import Digest

CONTENT = bytes(range(256)) * 4096 + b"and a little more"
DIGEST = Digest.of(CONTENT)
MODES = ["auto", "copy", "link"]


@pytest.fixture
def paths(tmp_path):
    return StorePaths(tmp_path / "store")


@pytest.fixture
def pool(paths):
    pool = FilePool(paths)
    pool.create()
    yield pool
    pool.close()


@contextlib.contextmanager
def opened(file):
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    file.chmod(0o640)
    return file


def adopted(pool, file, **options):
    with opened(file) as descriptor:
        staged = pool.adopt(descriptor, **{"digest": DIGEST, "size": len(CONTENT)} | options)
    pool.publish([staged])
    pool.discard([staged])
    return staged


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_adopted_file_becomes_a_blob(pool, paths, file, mode, algorithm):
    told = []
    digest = Digest.of(CONTENT, algorithm)
    staged = adopted(pool, file, digest=digest, mode=mode, progress=told.append)
    assert (staged.digest, staged.size, sum(told)) == (digest, len(CONTENT), len(CONTENT))
    blob = paths.blob(digest)
    assert blob.read_bytes() == CONTENT
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert blob.samefile(file) == (mode == "link")
    assert os.listdir(paths.uploads) == []


@pytest.mark.parametrize("mode", MODES)
def test_it_does_not_matter_where_the_file_stood(pool, paths, file, mode):
    with opened(file) as descriptor:
        os.lseek(descriptor, 1000, os.SEEK_SET)
        staged = pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode=mode)
    assert (staged.digest, staged.size) == (DIGEST, len(CONTENT))
    pool.discard([staged])


@pytest.mark.parametrize("mode", MODES)
def test_other_bytes_are_refused_and_the_file_stays_as_it_was(pool, paths, file, mode):
    with opened(file) as descriptor:
        with pytest.raises(DigestMismatchError):
            pool.adopt(descriptor, digest=Digest.of(b"other"), size=len(CONTENT), mode=mode)
        with pytest.raises(SizeMismatchError):
            pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT) + 1, mode=mode)
    assert os.listdir(paths.uploads) == []
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_nlink) == (0o640, 1)


@pytest.mark.parametrize("mode", MODES)
def test_what_the_teller_raises_leaves_nothing_behind(pool, paths, file, mode):
    def interrupted(count):
        raise KeyboardInterrupt

    with opened(file) as descriptor, pytest.raises(KeyboardInterrupt):
        pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode=mode, progress=interrupted)
    assert os.listdir(paths.uploads) == []
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_nlink) == (0o640, 1)


@pytest.mark.parametrize("change", ["written to", "longer"])
def test_a_file_that_is_written_to_while_it_is_linked_is_refused(pool, paths, file, change):
    writer = os.open(file, os.O_WRONLY)

    def written(count):
        # The first byte, which was read: what is hashed stays right, and only the file's time tells.
        os.pwrite(writer, b"X", 0 if change == "written to" else len(CONTENT))

    os.utime(file, ns=(0, 0))
    with opened(file) as descriptor, pytest.raises(StorageError, match="written to while it was read"):
        pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link", path="layout/blob", progress=written)
    os.close(writer)
    assert os.listdir(paths.uploads) == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_refusal_leaves_the_mode_that_another_store_gave_a_file_it_linked(pool, paths, file, tmp_path):
    def linked(count):
        if not (tmp_path / "other").exists():
            os.link(file, tmp_path / "other")
            file.chmod(0o444)

    with opened(file) as descriptor, pytest.raises(DigestMismatchError):
        pool.adopt(descriptor, digest=Digest.of(b"other"), size=len(CONTENT), mode="link", progress=linked)
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_a_file_of_somebody_else_is_not_linked(pool, file):
    os.chown(file, 12345, 12345)
    with opened(file) as descriptor, pytest.raises(StorageError, match="somebody else") as caught:
        pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link", path="layout/blob")
    assert (caught.value.path, caught.value.errno) == ("layout/blob", errno.EPERM)


def test_what_cannot_be_linked_across_filesystems_is_refused_or_copied(small_disk, file):
    pool = FilePool(StorePaths(small_disk.root / "store"))
    pool.create()
    with opened(file) as descriptor, pytest.raises(StorageError, match="another filesystem") as caught:
        pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link")
    assert caught.value.errno == errno.EXDEV
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    adopted(pool, file, mode="auto")
    assert pool.read(DIGEST, len(CONTENT)) == CONTENT
    pool.close()


def test_a_read_only_pool_adopts_nothing(paths, pool, file):
    read_only = FilePool(paths, read_only=True)
    with opened(file) as descriptor, pytest.raises(ReadOnlyStoreError):
        read_only.adopt(descriptor, digest=DIGEST, size=len(CONTENT))


def test_a_filesystem_that_can_shares_the_bytes(reflinking):
    pool = FilePool(StorePaths(reflinking / "store"))
    pool.create()
    file = reflinking / "file"
    with file.open("wb") as opened_file:
        opened_file.write(os.urandom(1 << 20) * 20)
        os.fsync(opened_file.fileno())
    digest = Digest.of(file.read_bytes())
    before = shutil.disk_usage(reflinking).used
    adopted(pool, file, digest=digest, size=20 << 20, mode="auto")
    os.sync()
    assert shutil.disk_usage(reflinking).used - before < 5 << 20
    file.write_bytes(b"written over")
    assert Digest.of(pool.read(digest, 20 << 20)) == digest
    with file.open("wb") as opened_file:
        opened_file.write(CONTENT)
    with opened(file) as descriptor, pytest.raises(DigestMismatchError):
        pool.adopt(descriptor, digest=Digest.of(b"other"), size=len(CONTENT))
    pool.close()


# --- by link: whose the file is until it is a blob --------------------------------------------------------------------


def mode_of(file):
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444, 0o400])
def test_the_mode_of_a_linked_file_is_never_wider_until_it_is_published(pool, paths, file, mode):
    file.chmod(mode)
    seen = []
    with opened(file) as descriptor:
        staged = pool.adopt(
            descriptor, digest=DIGEST, size=len(CONTENT), mode="link", progress=lambda count: seen.append(mode_of(file))
        )
    assert set(seen) == {mode}  # its bytes are verified first
    assert mode_of(file) == mode & 0o444
    pool.publish([staged])
    pool.discard([staged])
    assert mode_of(file) == 0o444


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
@pytest.mark.parametrize("withdrawn", [False, True])
def test_a_linked_file_that_becomes_no_blob_is_as_it_was(pool, paths, file, mode, withdrawn):
    file.chmod(mode)
    with opened(file) as descriptor:
        staged = pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link")
    if withdrawn:
        pool.publish([staged])
        pool.withdraw(staged)
    pool.discard([staged])
    assert (mode_of(file), file.stat().st_nlink) == (mode, 1)


def test_a_file_that_somebody_has_open_for_writing_is_not_linked(pool, paths, file):
    with open(file, "r+b"), opened(file) as descriptor:
        with pytest.raises(StorageError, match=r"open for writing.*copy instead") as caught:
            pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link", path="layout/blob")
        assert caught.value.path == "layout/blob"
        assert (mode_of(file), file.stat().st_nlink, os.listdir(paths.uploads)) == (0o640, 1, [])
        pool.discard([pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="auto")])


def test_a_file_that_somebody_has_mapped_for_writing_is_not_linked(pool, file):
    with open(file, "r+b") as writer:
        mapped = mmap.mmap(writer.fileno(), 0)
    with opened(file) as descriptor, pytest.raises(StorageError, match="open for writing"):
        pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link")
    mapped.close()


def test_whoever_wants_to_write_to_a_file_that_is_being_linked_is_seen(pool, paths, file):
    threads = []

    def write():
        with open(file, "r+b") as writer:  # waits until nobody verifies any more
            writer.write(b"X")

    def told(count):
        if not threads:
            threads.append(threading.Thread(target=write))
            threads[0].start()
            time.sleep(0.3)

    with opened(file) as descriptor, pytest.raises(StorageError, match="written to while it was read"):
        pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link", progress=told)
    threads[0].join()
    assert (mode_of(file), file.stat().st_nlink, os.listdir(paths.uploads)) == (0o640, 1, [])


def test_a_file_that_may_be_written_to_by_another_name_is_not_linked(pool, file, tmp_path):
    os.link(file, tmp_path / "other")
    with opened(file) as descriptor, pytest.raises(StorageError, match=r"other names.*copy instead"):
        pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="link")
    assert mode_of(file) == 0o640
    file.chmod(0o444)
    adopted(pool, file, mode="link")


@pytest.mark.parametrize("call", ["clone", "verify", "none"])
def test_a_clone_that_is_refused_closes_each_descriptor_once(pool, file, monkeypatch, call):
    def fails(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if call == "clone":
        monkeypatch.setattr(ingester, "clone", fails)
    elif call == "verify":
        monkeypatch.setattr(ingester, "clone", lambda *_: True)
        monkeypatch.setattr(ingester, "verify", fails)
    before = len(descriptors())
    with opened(file) as descriptor, contextlib.suppress(StorageError, OSError):
        pool.discard([pool.adopt(descriptor, digest=DIGEST, size=len(CONTENT), mode="auto")])
    assert len(descriptors()) <= before + 1  # uploads/
