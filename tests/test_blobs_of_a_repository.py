"""Blobs: put from every kind of source, read, mounted, deleted, found damaged; and the files they are."""

import io
import itertools
import os
import stat
import time
from datetime import timedelta

import pytest
from images import image, push
from processes import run_python
from state import catalog, files, pool, rows, state, strays, unchanged

from ocistore import (
    BlobNotFoundError,
    CorruptError,
    Descriptor,
    Digest,
    DigestMismatchError,
    ReferencedError,
    RepositoryNotFoundError,
    SizeMismatchError,
    Store,
)

pytestmark = pytest.mark.every_pool

HELLO = b"hello"
ALGORITHMS = ["sha256", "sha512", "blake3"]
# Nothing; less than the first buffer; more than the first buffer and the ring of blocks behind it, and no round number.
CONTENTS = {"empty": b"", "small": HELLO, "large": bytes(range(251)) * 40_001}


def read(repository, digest):
    with repository.open_blob(digest) as reader:
        return reader.read()


def blob_file(store, digest):
    return store.root / "blobs" / digest.algorithm / digest.encoded


def written(tmp_path, content):
    path = tmp_path / "source"
    path.write_bytes(content)
    return path


# --- sources ----------------------------------------------------------------------------------------------------------

SOURCES = {
    "bytes": lambda content, path: content,
    "bytearray": lambda content, path: bytearray(content),
    "memoryview": lambda content, path: memoryview(content),
    "path": lambda content, path: written(path, content),
    "text of a path": lambda content, path: str(written(path, content)),
    "file in memory": lambda content, path: io.BytesIO(content),
    "list of chunks": lambda content, path: [content[:1], b"", content[1:]],
    "generator": lambda content, path: (content[at : at + 70_000] for at in range(0, len(content), 70_000)),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_blob_comes_back_byte_for_byte_from_every_kind_of_source(store, repository, tmp_path, source, content):
    descriptor = repository.put_blob(source(content, tmp_path))
    assert descriptor == Descriptor("application/octet-stream", Digest.of(content), len(content))
    assert read(repository, descriptor.digest) == content
    assert pool(store.root) == {descriptor.digest: content}


def test_an_open_file_is_read_from_where_it_stands_and_stays_open(repository, tmp_path):
    with open(written(tmp_path, b"skipped" + HELLO), "rb") as file:
        file.seek(len(b"skipped"))
        assert repository.put_blob(file).digest == Digest.of(HELLO)
        assert not file.closed


def test_a_pipe_is_read_to_its_end(repository):
    reading, writing = os.pipe()
    os.write(writing, HELLO)
    os.close(writing)
    with open(reading, "rb") as file:
        assert repository.put_blob(file).digest == Digest.of(HELLO)


def test_what_a_source_raises_comes_out_unchanged_and_leaves_nothing(store, repository):
    class OutOfPaperError(Exception):
        pass

    def failing():
        yield b"x" * 100_000
        raise OutOfPaperError

    with unchanged(store.root), pytest.raises(OutOfPaperError):
        repository.put_blob(failing())


@pytest.mark.parametrize("source", [["text"], [None], io.StringIO("text"), 7, None], ids=lambda it: type(it).__name__)
def test_a_source_of_anything_but_bytes_is_a_type_error_and_leaves_nothing(store, repository, source):
    with unchanged(store.root), pytest.raises(TypeError):
        repository.put_blob(source)


@pytest.mark.parametrize(
    ("make", "error"),
    [(lambda path: path / "absent", FileNotFoundError), (lambda path: path, IsADirectoryError)],
    ids=["absent", "directory"],
)
def test_a_path_that_cannot_be_read_is_the_callers_own_error_and_leaves_nothing(
    store, repository, tmp_path, make, error
):
    with unchanged(store.root), pytest.raises(error):
        repository.put_blob(make(tmp_path))


def test_a_path_of_a_fifo_is_refused_and_not_waited_for(store, repository, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with unchanged(store.root), pytest.raises(OSError, match="not a plain file"):
        repository.put_blob(tmp_path / "fifo")


@pytest.mark.needs_files
def test_memory_does_not_grow_with_the_blob(store):
    grown = run_python(
        """
import resource, sys
from ocistore import Store
store = Store.open(sys.argv[1])
repository = store.repository("a")
repository.put_blob(b"x" * 2_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
repository.put_blob(bytes([at]) * (1 << 20) for at in range(96))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
store.close()
""",
        store.root,
    )
    assert int(grown) < 32 * 1024  # KiB; the blob has three times that


# --- digests and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.needs_files
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_blob_is_hashed_with_the_algorithm_that_was_asked_for(store, repository, algorithm):
    descriptor = repository.put_blob(HELLO, algorithm=algorithm)
    assert descriptor.digest == Digest.of(HELLO, algorithm)
    assert read(repository, descriptor.digest) == HELLO
    assert blob_file(store, descriptor.digest).read_bytes() == HELLO


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_blob_is_hashed_with_the_algorithm_of_the_digest_it_comes_with(repository, algorithm):
    digest = Digest.of(HELLO, algorithm)
    assert repository.put_blob(HELLO, digest=str(digest), size=5) == repository.stat_blob(digest)


def test_the_same_bytes_under_two_algorithms_are_two_blobs(store, repository):
    first, second = repository.put_blob(HELLO), repository.put_blob(HELLO, algorithm="sha512")
    assert pool(store.root) == {first.digest: HELLO, second.digest: HELLO}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bytes_of_another_digest_are_refused_and_leave_nothing(store, repository, algorithm, content):
    announced = Digest.of(b"something else", algorithm)
    with unchanged(store.root), pytest.raises(DigestMismatchError) as caught:
        repository.put_blob([content], digest=announced)
    assert caught.value.expected == announced
    assert caught.value.actual == Digest.of(content, algorithm)


@pytest.mark.parametrize(("size", "actual"), [(4, 5), (6, 5), (0, 1)])
def test_another_number_of_bytes_is_refused_and_leaves_nothing(store, repository, size, actual):
    with unchanged(store.root), pytest.raises(SizeMismatchError) as caught:
        repository.put_blob([HELLO], size=size)
    assert (caught.value.expected, caught.value.actual) == (size, actual)


def test_no_more_than_one_byte_too_many_is_taken_from_a_source(store, repository):
    taken = itertools.count()
    with unchanged(store.root), pytest.raises(SizeMismatchError):
        repository.put_blob((b"x" for _ in taken), size=10)
    assert next(taken) == 11


def test_a_negative_size_is_a_wrong_one(store, repository):
    with unchanged(store.root), pytest.raises(SizeMismatchError) as caught:
        repository.put_blob(b"", size=-1)
    assert caught.value.expected == -1


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.needs_files
def test_a_blob_is_one_read_only_file_and_nothing_else_is_left(store, repository):
    digest = repository.put_blob(HELLO).digest
    status = blob_file(store, digest).stat()
    assert stat.S_IMODE(status.st_mode) == 0o444
    assert status.st_nlink == 1
    assert list(pool(store.root)) == [digest]
    assert os.listdir(store.root / "uploads") == []


@pytest.mark.needs_files
def test_the_mode_of_a_blob_does_not_depend_on_the_umask(store, repository):
    before = os.umask(0o377)
    try:
        digest = repository.put_blob(HELLO).digest
    finally:
        os.umask(before)
    assert stat.S_IMODE(blob_file(store, digest).stat().st_mode) == 0o444


@pytest.mark.needs_files
def test_a_blob_put_again_stays_the_same_file_and_the_same_row(store, repository):
    digest = repository.put_blob(HELLO).digest
    before = blob_file(store, digest).stat()
    blobs = rows(store.root)["blobs"]
    assert repository.put_blob(HELLO).digest == digest
    after = blob_file(store, digest).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert rows(store.root)["blobs"] == blobs
    assert strays(store.root) == []


def test_two_repositories_share_the_bytes_of_a_blob(store):
    store.repository("a").put_blob(HELLO)
    store.repository("b").put_blob(HELLO)
    assert pool(store.root) == {Digest.of(HELLO): HELLO}
    assert store.usage().blobs == 1


def test_a_repository_exists_from_its_first_blob(store, repository):
    with pytest.raises(RepositoryNotFoundError):
        list(repository.tags())
    repository.put_blob(HELLO)
    assert list(repository.tags()) == []
    assert list(store.repositories()) == ["library/app"]


@pytest.mark.needs_files
def test_a_blob_is_there_in_another_process_when_put_returns(store, repository):
    digest = repository.put_blob(HELLO).digest
    code = "import sys; from ocistore import Store; s = Store.open(sys.argv[1], read_only=True); "
    code += "print(s.repository('library/app').open_blob(sys.argv[2]).read()); s.close()"
    assert run_python(code, store.root, digest) == f"{HELLO}\n"


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.needs_files
def test_a_reader_is_a_seekable_binary_file_that_knows_its_size(repository):
    digest = repository.put_blob(b"0123456789").digest
    with repository.open_blob(digest) as reader:
        assert reader.size == 10
        assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
        assert reader.read(3) == b"012"
        assert reader.seek(-2, io.SEEK_END) == 8
        assert reader.read() == b"89"
        assert reader.seek(4) == 4
        buffer = bytearray(3)
        assert reader.readinto(buffer) == 3
        assert (bytes(buffer), reader.tell()) == (b"456", 7)
        assert os.pread(reader.fileno(), 2, 1) == b"12"
    assert reader.closed


READINGS = {
    "at once": lambda reader: reader.read(),
    "piece by piece": lambda reader: b"".join(iter(lambda: reader.read(7001), b"")),
    "some of it twice": lambda reader: [reader.read(9000), reader.seek(0), reader.read()][-1],
    "the end first": lambda reader: [reader.seek(reader.size // 2), reader.read(), reader.seek(0), reader.read()][-1],
    "into a buffer": lambda reader: bytes(buffer) if reader.readinto(buffer := bytearray(reader.size)) else b"",
}


@pytest.mark.needs_files
@pytest.mark.parametrize("how", READINGS)
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_bytes_that_are_verified_are_the_right_ones_or_an_error(store, repository, how, size):
    content = os.urandom(size)
    digest = repository.put_blob(content).digest
    for _ in range(2):
        with repository.open_blob(digest, verify=True) as reader:
            assert READINGS[how](reader) == content
            assert reader.read() == b""
    if size:
        path = store._core.paths.blob(digest)
        path.chmod(0o644)
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with repository.open_blob(digest, verify=True) as reader, pytest.raises(CorruptError, match=str(digest)):
            READINGS[how](reader)


@pytest.mark.needs_files
def test_a_file_that_is_cut_short_while_it_is_read_is_noticed(store, repository):
    digest = repository.put_blob(os.urandom(300_000)).digest
    with repository.open_blob(digest, verify=True) as reader:
        reader.read(10)
        os.truncate(store._core.paths.blob(digest), 200_000)
        with pytest.raises(CorruptError, match=str(digest)):
            reader.read()


@pytest.mark.needs_files
def test_a_reader_goes_on_reading_what_was_deleted_meanwhile(store, repository):
    digest = repository.put_blob(HELLO).digest
    with repository.open_blob(digest) as reader:
        store.delete_repository("library/app")
        blob_file(store, digest).unlink()  # as a collection does
        assert reader.read() == HELLO


def test_stat_says_the_size(repository):
    digest = repository.put_blob(HELLO).digest
    assert repository.stat_blob(digest) == Descriptor("application/octet-stream", digest, 5)


ASK = {
    "stat": lambda repository, digest: repository.stat_blob(digest),
    "open": lambda repository, digest: repository.open_blob(digest),
    "delete": lambda repository, digest: repository.delete_blob(digest),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_what_only_another_repository_holds_is_not_found(store, repository, ask):
    repository.put_blob(b"something")
    digest = store.repository("other").put_blob(HELLO).digest
    with unchanged(store.root), pytest.raises(BlobNotFoundError) as caught:
        ask(repository, digest)
    assert (caught.value.digest, caught.value.repository) == (digest, "library/app")


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_asking_a_repository_that_does_not_exist_says_so_and_makes_none(store, repository, ask):
    with unchanged(store.root), pytest.raises(RepositoryNotFoundError) as caught:
        ask(repository, Digest.of(HELLO))
    assert caught.value.name == "library/app"


def test_a_manifest_is_not_a_blob_of_its_repository(repository):
    pushed = push(repository, image())
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(pushed.digest)


# --- grace ------------------------------------------------------------------------------------------------------------


def unreferenced_since(store):
    with catalog(store.root) as connection:
        return [when for (when,) in connection.execute("SELECT unreferenced_since FROM repository_blobs")]


def minutes_ago(minutes):
    return time.time_ns() // 1_000_000 - minutes * 60_000


def age(store, minutes):
    with store._core.catalog.write() as connection:
        connection.command(f"UPDATE repository_blobs SET unreferenced_since = {minutes_ago(minutes)}")


def test_stat_starts_the_grace_of_an_unreferenced_blob_again(store, repository):
    digest = repository.put_blob(HELLO).digest
    age(store, 31)
    repository.stat_blob(digest)
    assert unreferenced_since(store)[0] >= minutes_ago(1)


def test_stat_writes_nothing_while_the_grace_is_young(store, repository):
    digest = repository.put_blob(HELLO).digest
    age(store, 29)
    with unchanged(store.root):
        repository.stat_blob(digest)


def test_stat_without_renewing_writes_nothing(store, repository):
    digest = repository.put_blob(HELLO).digest
    age(store, 31)
    with store.lease(ttl=timedelta(hours=1)):
        age(store, 31)
        with unchanged(store.root):
            assert repository.stat_blob(digest, renew=False).size == 5
        repository.stat_blob(digest)
    assert unreferenced_since(store)[0] >= minutes_ago(1)


def test_stat_on_a_read_only_store_writes_nothing(store, repository):
    digest = repository.put_blob(HELLO).digest
    age(store, 31)
    with unchanged(store.root), Store.open(store.root, read_only=True) as reader:
        assert reader.repository("library/app").stat_blob(digest).size == 5


@pytest.mark.parametrize("put", ["again", "mounted"])
def test_putting_or_mounting_starts_the_grace_again(store, repository, put):
    digest = repository.put_blob(HELLO).digest
    age(store, 31)
    if put == "again":
        repository.put_blob(HELLO)
    else:
        repository.mount_blob(digest, repository.name)
    assert unreferenced_since(store)[0] >= minutes_ago(1)


# --- mounting ---------------------------------------------------------------------------------------------------------


def test_a_mounted_blob_is_served_without_its_bytes_moving(store, repository):
    digest = store.repository("source").put_blob(HELLO).digest
    before = files(store.root)
    assert repository.mount_blob(digest, "source") == Descriptor("application/octet-stream", digest, 5)
    assert read(repository, digest) == HELLO
    assert files(store.root) == before


def test_mounting_again_changes_nothing_that_is_served(store, repository):
    digest = store.repository("source").put_blob(HELLO).digest
    repository.mount_blob(digest, "source")
    repository.mount_blob(digest, "source")
    assert len(rows(store.root)["repository_blobs"]) == 2


def test_a_mounted_blob_outlives_its_source(store, repository):
    digest = store.repository("source").put_blob(HELLO).digest
    repository.mount_blob(digest, "source")
    store.delete_repository("source")
    assert read(repository, digest) == HELLO


def test_a_mount_from_a_repository_that_does_not_exist_is_refused(store, repository):
    repository.put_blob(HELLO)
    with unchanged(store.root), pytest.raises(RepositoryNotFoundError) as caught:
        repository.mount_blob(Digest.of(HELLO), "source")
    assert caught.value.name == "source"


def test_a_mount_of_what_only_a_third_repository_holds_is_refused(store, repository):
    store.repository("source").put_blob(b"something")
    digest = store.repository("third").put_blob(HELLO).digest
    with unchanged(store.root), pytest.raises(BlobNotFoundError) as caught:
        repository.mount_blob(digest, "source")
    assert (caught.value.digest, caught.value.repository) == (digest, "source")


@pytest.mark.needs_files
def test_a_mount_of_a_blob_whose_file_is_gone_is_refused(store, repository):
    digest = store.repository("source").put_blob(HELLO).digest
    blob_file(store, digest).unlink()
    with unchanged(store.root), pytest.raises(BlobNotFoundError):
        repository.mount_blob(digest, "source")


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_blob_is_not_served_and_not_deleted_twice(repository):
    digest = repository.put_blob(HELLO).digest
    repository.delete_blob(digest)
    with pytest.raises(BlobNotFoundError):
        repository.open_blob(digest)
    with pytest.raises(BlobNotFoundError):
        repository.delete_blob(digest)


@pytest.mark.parametrize("which", [0, 1], ids=["config", "layer"])
def test_a_blob_in_use_is_not_deleted_and_the_error_lists_all_that_use_it(store, repository, which):
    first = image(annotations={"n": "1"})
    second = image(annotations={"n": "2"})
    push(repository, first)
    push(repository, second)
    with unchanged(store.root), pytest.raises(ReferencedError) as caught:
        repository.delete_blob(Digest.of(first.blobs[which]))
    assert caught.value.referrers == tuple(sorted([first.digest, second.digest]))
    assert (caught.value.digest, caught.value.repository) == (Digest.of(first.blobs[which]), "library/app")


def test_a_blob_that_only_another_repositorys_manifest_uses_can_be_deleted(store, repository):
    used = image()
    push(store.repository("other"), used)
    repository.put_blob(used.config)
    repository.delete_blob(Digest.of(used.config))
    assert read(store.repository("other"), Digest.of(used.config)) == used.config


def test_a_blob_can_be_deleted_when_the_last_manifest_that_uses_it_is_gone(repository):
    used = image()
    push(repository, used)
    repository.delete_manifest(used.digest)
    repository.delete_blob(Digest.of(used.config))
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(Digest.of(used.config))


def test_shared_content_survives_a_delete_in_one_repository(store, repository):
    digest = repository.put_blob(HELLO).digest
    other = store.repository("other")
    other.put_blob(HELLO)
    repository.delete_blob(digest)
    assert read(other, digest) == HELLO


def test_a_deleted_blob_can_be_put_again(repository):
    digest = repository.put_blob(HELLO).digest
    repository.delete_blob(digest)
    repository.put_blob(HELLO)
    assert read(repository, digest) == HELLO


# --- damage -----------------------------------------------------------------------------------------------------------


def cut(path):
    os.chmod(path, 0o600)
    os.truncate(path, 4)


def grow(path):
    os.chmod(path, 0o600)
    with open(path, "ab") as file:
        file.write(b"!")


def replace_with_link(path):
    elsewhere = path.parent.parent.parent / "elsewhere"
    elsewhere.write_bytes(HELLO)
    path.unlink()
    path.symlink_to(elsewhere)


DAMAGE = {"missing": os.unlink, "truncated": cut, "grown": grow, "symbolic link": replace_with_link}


@pytest.mark.needs_files
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_blob_is_never_served(store, repository, damage):
    digest = repository.put_blob(HELLO).digest
    damage(blob_file(store, digest))
    with pytest.raises(CorruptError, match=digest.encoded):
        repository.open_blob(digest)
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(digest)


@pytest.mark.needs_files
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("by", ["library/app", "another"])
def test_pushing_the_content_again_heals_a_damaged_blob_wherever_it_is_served(store, repository, damage, by):
    digest = repository.put_blob(HELLO).digest
    damage(blob_file(store, digest))
    store.repository(by).put_blob(HELLO)
    assert read(repository, digest) == HELLO
    status = os.lstat(blob_file(store, digest))
    assert (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)) == (stat.S_IFREG, 0o444)


@pytest.mark.needs_files
def test_a_directory_in_the_place_of_a_blob_is_damage_that_pushing_does_not_hide(store, repository):
    digest = repository.put_blob(HELLO).digest
    blob_file(store, digest).unlink()
    blob_file(store, digest).mkdir()
    before = state(store.root)
    with pytest.raises(CorruptError):
        repository.put_blob(HELLO)
    with pytest.raises(CorruptError):
        repository.open_blob(digest)
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(digest)
    assert state(store.root) == before
