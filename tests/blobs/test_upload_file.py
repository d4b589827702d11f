import errno
import os
import stat

import pytest
from processes import python

from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.errors import (
    CorruptError,
    DigestMismatchError,
    InvalidDigestError,
    InvalidNameError,
    StorageError,
    StoreBusyError,
)
from ocistore.oci.digest import Digest


@pytest.fixture
def paths(tmp_path):
    return StorePaths(tmp_path / "store")


@pytest.fixture
def pool(paths):
    pool = FilePool(paths)
    pool.create()
    yield pool
    pool.close()


def created(pool):
    made = pool.uploads.create()
    pool.uploads.keep(made)
    return made.name


@pytest.fixture
def name(pool):
    return created(pool)


def bytes_read_by(action):
    """How many bytes this process read from files while ``action`` ran."""

    def counted():
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    before = counted()
    baseline = counted() - before
    before = counted()
    action()
    return counted() - before - baseline


def test_a_new_session_is_empty_and_private(pool, paths, name):
    assert pool.uploads.size(name) == 0
    assert stat.S_IMODE(paths.upload(name).stat().st_mode) == 0o600
    with pool.uploads.open(name, "sha256") as upload:
        assert (upload.name, upload.offset) == (name, 0)
        assert upload.digest("sha256") == Digest.of(b"")


@pytest.mark.parametrize("looks", [0, 1])
def test_where_its_file_cannot_be_looked_at_a_session_says_so_and_goes_on(pool, name, monkeypatch, looks):
    found = []

    def failing(descriptor):
        found.append(descriptor)
        if len(found) == looks + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.stat(descriptor)

    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"bytes")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", failing)
            with pytest.raises(StorageError):
                upload.stage(Digest.of(b"bytes"))
        pool.discard([upload.stage(Digest.of(b"bytes"))])


def test_chunks_become_a_blob(pool, paths, name):
    chunks = [b"one", bytearray(b"two"), memoryview(b"xthree")[1:], b"", os.urandom(3_000_000)]
    content = b"".join(chunks)
    with pool.uploads.open(name, "sha256") as upload:
        offsets = [upload.append(chunk) for chunk in chunks]
        assert offsets == [3, 6, 11, 11, len(content)]
        assert upload.offset == pool.uploads.size(name) == len(content)
        staged = upload.stage(Digest.of(content))
        assert (staged.digest, staged.size) == (Digest.of(content), len(content))
        pool.publish([staged])
        assert pool.holds(staged)
        pool.discard([staged])
    assert pool.read(staged.digest, staged.size) == content
    assert stat.S_IMODE(paths.blob(staged.digest).stat().st_mode) == 0o444
    assert os.listdir(paths.uploads) == []


def test_what_was_hashed_as_it_came_is_not_read_again(pool, name):
    content = os.urandom(2_000_000)
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(content)
        assert bytes_read_by(lambda: upload.stage(Digest.of(content))) < 10_000
        assert bytes_read_by(lambda: upload.digest("sha512")) >= 2_000_000


def test_a_session_goes_on_in_the_same_process_without_reading_its_bytes(pool, name):
    first, second = os.urandom(1_000_000), os.urandom(1000)
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(first)
    state = upload.state
    with pool.uploads.open(name, "sha256", state=state) as upload:
        assert upload.append(second) == 1_001_000
        found = []
        assert bytes_read_by(lambda: found.append(upload.digest("sha256"))) < 10_000
        assert found == [Digest.of(first + second)]


def test_a_state_from_before_another_wrote_is_caught_up_with(pool, name):
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"mine")
    state = upload.state
    with pool.uploads.open(name, "sha256") as other:
        other.append(b"others")
    with pool.uploads.open(name, "sha256", state=state) as upload:
        upload.append(b"mine again")
        assert upload.digest("sha256") == Digest.of(b"mineothersmine again")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_session_opened_elsewhere_reads_its_bytes_once(pool, name, algorithm):
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"first")
    with pool.uploads.open(name, algorithm) as upload:
        upload.append(b"second")
        assert upload.digest(algorithm) == Digest.of(b"firstsecond", algorithm)
        upload.append(b"third")
        assert upload.digest(algorithm) == Digest.of(b"firstsecondthird", algorithm)


def test_the_state_of_another_session_or_algorithm_is_not_believed(pool, name):
    with pool.uploads.open(created(pool), "sha256") as other:
        other.append(b"other")
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"these")
    for algorithm, state in (("sha256", other.state), ("sha512", upload.state)):
        with pool.uploads.open(name, algorithm, state=state) as upload:
            assert upload.digest(algorithm) == Digest.of(b"these", algorithm)


def test_a_failed_commit_keeps_the_bytes(pool, name):
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"content")
        with pytest.raises(DigestMismatchError) as caught:
            upload.stage(Digest.of(b"something else"))
        assert caught.value.actual == Digest.of(b"content")
        assert upload.append(b" goes on") == 15
    with pool.uploads.open(name, "sha256") as upload:
        assert upload.stage(Digest.of(b"content goes on")).size == 15


@pytest.mark.parametrize("reopened", [False, True])
def test_a_published_blob_does_not_change_when_the_session_goes_on(pool, paths, name, reopened):
    upload = pool.uploads.open(name, "sha256")
    upload.append(b"content")
    staged = upload.stage(Digest.of(b"content"))
    pool.publish([staged])  # and then the transaction failed
    if reopened:
        upload.close()
        upload = pool.uploads.open(name, "sha256", state=upload.state)
        assert upload.offset == 7
    assert upload.append(b" goes on") == 15
    assert paths.blob(staged.digest).read_bytes() == b"content"
    assert stat.S_IMODE(paths.blob(staged.digest).stat().st_mode) == 0o444
    assert stat.S_IMODE(paths.upload(name).stat().st_mode) == 0o600
    with pytest.raises(StoreBusyError):
        pool.uploads.open(name, "sha256")
    again = upload.stage(Digest.of(b"content goes on"))
    pool.publish([again])
    assert pool.holds(again)
    assert pool.holds(staged)
    pool.discard([again])
    upload.close()
    assert pool.read(again.digest, 15) == b"content goes on"
    assert os.listdir(paths.uploads) == []


def test_a_commit_is_tried_again_without_a_copy(pool, paths, name):
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"content")
        pool.publish([upload.stage(Digest.of(b"content"))])
        inode = paths.upload(name).stat().st_ino
    with pool.uploads.open(name, "sha256") as upload:
        staged = upload.stage(Digest.of(b"content"))
        pool.publish([staged])
        assert pool.holds(staged)
        assert paths.upload(name).stat().st_ino == inode


def test_truncating_drops_what_lies_behind(pool, name):
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"content torn")
        for offset in (-1, 13):
            with pytest.raises(ValueError, match="cannot cut"):
                upload.truncate(offset)
        upload.truncate(7)
        assert upload.offset == pool.uploads.size(name) == 7
        upload.append(b"!")
        assert upload.digest("sha256") == Digest.of(b"content!")


def test_one_writer_at_a_time_in_this_process(pool, name):
    with pool.uploads.open(name, "sha256"):
        with pytest.raises(StoreBusyError) as caught:
            pool.uploads.open(name, "sha256")
        assert name in caught.value.what
    pool.uploads.open(name, "sha256").close()


def test_one_writer_at_a_time_over_processes_until_the_other_dies(pool, paths, name):
    code = """
import pathlib, sys, time
from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
upload = FilePool(StorePaths(pathlib.Path(sys.argv[1]))).uploads.open(sys.argv[2], "sha256")
upload.append(b"theirs")
print("open", flush=True)
time.sleep(60)
"""
    with python(code, paths.root, name) as child:
        assert child.says() == "open"
        with pytest.raises(StoreBusyError):
            pool.uploads.open(name, "sha256")
        child.kill()
    with pool.uploads.open(name, "sha256") as upload:
        assert upload.offset == 6


def test_a_session_that_is_not_there_is_not_found(pool, name):
    pool.uploads.remove(name)
    pool.uploads.remove(name)
    with pytest.raises(FileNotFoundError):
        pool.uploads.open(name, "sha256")
    with pytest.raises(FileNotFoundError):
        pool.uploads.size(name)


def test_bad_names_and_algorithms_are_refused(pool, name):
    for use in (lambda bad: pool.uploads.open(bad, "sha256"), pool.uploads.remove, pool.uploads.size):
        with pytest.raises(InvalidNameError):
            use("../catalog.db")
    with pytest.raises(InvalidDigestError):
        pool.uploads.open(name, "md5")
    pool.uploads.open(name, "sha256").close()


def test_what_is_no_plain_file_is_refused(pool, paths, name, tmp_path):
    (tmp_path / "outside").write_bytes(b"outside")
    for plant in (
        lambda path: path.symlink_to(tmp_path / "outside"),
        lambda path: path.mkdir(),
        os.mkfifo,
    ):
        path = paths.upload(name)
        path.rmdir() if path.is_dir() else path.unlink()
        plant(path)
        with pytest.raises(CorruptError):
            pool.uploads.open(name, "sha256")


def test_closing_twice_is_harmless(pool, name):
    upload = pool.uploads.open(name, "sha256")
    upload.close()
    upload.close()
