"""Upload sessions: chunks, offsets, resuming in other processes, one writer, commits that fail, cancelling."""

import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from images import described, document
from processes import python, run_python
from state import files, pool, rows, staged, strays, unchanged

from ocistore import (
    BlobNotFoundError,
    Descriptor,
    Digest,
    DigestMismatchError,
    InvalidDigestError,
    RepositoryNotFoundError,
    Store,
    StoreBusyError,
    StoreClosedError,
    StoreFullError,
    UploadNotFoundError,
    UploadRangeError,
)
from ocistore.blobs import uploads

pytestmark = pytest.mark.every_pool

HELLO = b"hello world"
MEBIBYTE = 1 << 20

SETUP = """
import sys
from ocistore import Store, Digest
store = Store.open(sys.argv[1])
repository = store.repository("library/app")
"""


@pytest.fixture
def upload(repository):
    with repository.start_upload() as started:
        yield started


def read(repository, digest):
    with repository.open_blob(digest) as reader:
        return reader.read()


def session_file(store, id_):
    return store.root / "uploads" / id_


# --- chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake3"])
def test_a_blob_uploaded_in_chunks_is_served_whole(repository, algorithm):
    content = bytes(range(251)) * 9_000
    with repository.start_upload(algorithm=algorithm) as upload:
        offset = 0
        for length in (0, 1, 70_000, 3, MEBIBYTE, len(content)):
            chunk = content[offset : offset + length]
            assert upload.write(chunk, offset=offset) == offset + len(chunk)
            offset = upload.offset
        assert offset == len(content)
        digest = Digest.of(content, algorithm)
        assert upload.commit(digest) == Descriptor("application/octet-stream", digest, len(content))
    assert read(repository, digest) == content


def test_an_upload_of_nothing_is_the_empty_blob(repository, upload):
    assert upload.commit(Digest.of(b"")).size == 0
    assert read(repository, Digest.of(b"")) == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_chunk_is_any_kind_of_bytes(repository, upload, kind):
    upload.write(kind(HELLO))
    upload.commit(Digest.of(HELLO))
    assert read(repository, Digest.of(HELLO)) == HELLO


def test_a_chunk_of_text_is_a_type_error_and_changes_nothing(store, upload):
    upload.write(HELLO)
    with unchanged(store.root), pytest.raises(TypeError):
        upload.write("text")
    assert upload.offset == len(HELLO)


@pytest.mark.parametrize("given", [0, 10, 12, -1, 2**63])
def test_a_chunk_out_of_order_is_refused_and_told_where_the_upload_stands(store, repository, upload, given):
    upload.write(HELLO)
    with unchanged(store.root), pytest.raises(UploadRangeError) as caught:
        upload.write(b"more", offset=given)
    assert (caught.value.offset, caught.value.given) == (len(HELLO), given)
    upload.write(b"!", offset=caught.value.offset)
    upload.commit(Digest.of(HELLO + b"!"))


@pytest.mark.needs_files
def test_a_session_makes_one_blob_file_and_leaves_nothing_else(store, repository, upload):
    upload.write(HELLO)
    digest = upload.commit(Digest.of(HELLO)).digest
    assert pool(store.root) == {digest: HELLO}
    status = (store.root / "blobs" / digest.algorithm / digest.encoded).stat()
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o444, 1)
    assert os.listdir(store.root / "uploads") == []
    assert rows(store.root)["uploads"] == []


def test_an_upload_of_what_the_store_has_already_changes_no_file(store, repository, upload):
    store.repository("other").put_blob(HELLO)
    before = pool(store.root)
    upload.write(HELLO)
    upload.commit(Digest.of(HELLO))
    assert pool(store.root) == before
    assert read(repository, Digest.of(HELLO)) == HELLO
    assert strays(store.root) == []


def test_nobody_sees_the_bytes_before_the_commit(store, repository, upload):
    upload.write(HELLO)
    with pytest.raises(BlobNotFoundError):
        repository.stat_blob(Digest.of(HELLO))
    assert pool(store.root) == {}


def test_an_uploaded_blob_can_be_part_of_a_manifest(repository, upload):
    upload.write(b"{}")
    upload.commit(Digest.of(b"{}"))
    manifest = document({"schemaVersion": 2, "config": described(b"{}"), "layers": []})
    assert repository.put_manifest(manifest).size == len(manifest)


def test_a_repository_exists_from_its_first_upload(store, repository, upload):
    assert list(store.repositories()) == ["library/app"]
    assert list(repository.tags()) == []


# --- the session ------------------------------------------------------------------------------------------------------


def test_open_sessions_are_listed_with_what_has_arrived(repository):
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with repository.start_upload() as first, repository.start_upload(algorithm="sha512") as second:
        second.write(HELLO)
        listed = {entry.id: entry for entry in repository.uploads()}
        assert listed.keys() == {first.id, second.id}
        assert (listed[first.id].algorithm, listed[first.id].offset) == ("sha256", 0)
        assert (listed[second.id].algorithm, listed[second.id].offset) == ("sha512", len(HELLO))
        assert before <= listed[first.id].started <= datetime.now(UTC)
        assert listed[first.id].expires == listed[first.id].touched + timedelta(days=7)


def test_a_session_that_has_ended_is_not_listed(repository):
    with repository.start_upload() as committed, repository.start_upload() as cancelled:
        committed.commit(Digest.of(b""))
        cancelled.cancel()
        assert list(repository.uploads()) == []


def test_sessions_of_another_repository_are_not_listed(store, repository, upload):
    with store.repository("other").start_upload() as other:
        assert [entry.id for entry in repository.uploads()] == [upload.id]
        other.cancel()


def test_leaving_the_context_keeps_the_session_and_its_bytes(repository):
    class UnrelatedError(Exception):
        pass

    with pytest.raises(UnrelatedError), repository.start_upload() as upload:
        upload.write(HELLO)
        raise UnrelatedError
    with repository.upload(upload.id) as resumed:
        assert resumed.offset == len(HELLO)
        resumed.commit(Digest.of(HELLO))
    assert read(repository, Digest.of(HELLO)) == HELLO


def test_closing_starts_the_time_to_expiry_again(repository, upload):
    (before,) = repository.uploads()
    upload.write(HELLO)
    upload.close()
    (after,) = repository.uploads()
    assert after.started == before.started
    assert after.touched >= before.touched
    assert after.expires >= before.expires


@pytest.mark.parametrize(
    "use",
    [
        lambda upload: upload.write(b"x"),
        lambda upload: upload.commit(Digest.of(HELLO)),
        lambda upload: upload.offset,
    ],
    ids=["write", "commit", "offset"],
)
@pytest.mark.parametrize(
    "end",
    [lambda upload: upload.close(), lambda upload: upload.cancel(), lambda upload: upload.commit(Digest.of(HELLO))],
    ids=["closed", "cancelled", "committed"],
)
def test_a_session_object_cannot_be_used_after_its_end(store, upload, use, end):
    upload.write(HELLO)
    end(upload)
    with unchanged(store.root), pytest.raises(StoreClosedError, match=upload.id):
        use(upload)


def test_closing_and_cancelling_again_do_nothing(store, upload):
    upload.write(HELLO)
    upload.cancel()
    with unchanged(store.root):
        upload.cancel()
        upload.close()
        upload.close()


# --- finding it -------------------------------------------------------------------------------------------------------


def test_a_session_of_another_repository_is_not_found(store, upload):
    other = store.repository("other")
    other.put_blob(b"")
    upload.close()
    with unchanged(store.root), pytest.raises(UploadNotFoundError) as caught:
        other.upload(upload.id)
    assert (caught.value.upload, caught.value.repository) == (upload.id, "other")


HOSTILE = [
    "",
    "../x",
    "A" * 32,
    "0" * 31,
    "0" * 33,
    "0" * 32,
    "0" * 31 + "\n",
    "../" * 10 + "00",
    "g" * 32,
    "é" * 32,
    "\x00" * 32,
    "0" * 10_000,
    "../catalog.db",
    "\ud800" * 32,
    "",
]


@pytest.mark.parametrize("id_", HOSTILE, ids=lambda id_: repr(id_)[:40])
def test_an_id_of_no_session_is_not_found_whatever_it_looks_like(store, repository, upload, id_):
    with unchanged(store.root), pytest.raises(UploadNotFoundError) as caught:
        repository.upload(id_)
    assert caught.value.repository == "library/app"


def test_the_name_of_staged_bytes_is_not_a_session(store, repository):
    repository.put_blob(HELLO)
    staged = store._core.pool.stage(HELLO)
    with pytest.raises(UploadNotFoundError):
        repository.upload(staged.name)
    store._core.pool.discard([staged])


@pytest.mark.needs_files
def test_a_session_whose_file_is_gone_is_not_found(store, repository, upload):
    upload.close()
    session_file(store, upload.id).unlink()
    with pytest.raises(UploadNotFoundError):
        repository.upload(upload.id)


@pytest.mark.needs_files
@pytest.mark.parametrize("put_there", ["nothing", "a directory", "a link"])
def test_a_session_whose_file_is_gone_is_not_listed_and_can_be_cancelled(store, repository, upload, put_there):
    upload.write(HELLO)
    upload.close()
    path = session_file(store, upload.id)
    path.unlink()
    if put_there == "a directory":
        path.mkdir()
    elif put_there == "a link":
        path.symlink_to("/dev/null")
    with repository.start_upload() as other:
        assert [entry.id for entry in repository.uploads()] == [other.id]
        with pytest.raises(UploadNotFoundError):
            repository.stat_upload(upload.id)
        repository.cancel_upload(upload.id)
        assert [row[0] for row in rows(store.root)["uploads"]] == [other.id]
    with unchanged(store.root), pytest.raises(UploadNotFoundError):
        repository.cancel_upload(upload.id)
    if put_there == "a directory":  # which is nobody's to delete
        path.rmdir()


def test_a_session_is_cancelled_by_its_id(store, repository, upload):
    upload.write(HELLO)
    with unchanged(store.root), pytest.raises(StoreBusyError):
        repository.cancel_upload(upload.id)
    upload.close()
    assert repository.stat_upload(upload.id).offset == len(HELLO)
    with unchanged(store.root), pytest.raises(UploadNotFoundError):
        store.repository("other").cancel_upload(upload.id)
    repository.cancel_upload(upload.id)
    assert rows(store.root)["uploads"] == []
    assert not session_file(store, upload.id).exists()


def test_asking_a_repository_that_does_not_exist_for_its_sessions_says_so(store, repository):
    with unchanged(store.root), pytest.raises(RepositoryNotFoundError) as caught:
        repository.uploads()
    assert caught.value.name == "library/app"


@pytest.mark.parametrize("use", ["write", "commit", "write and commit"])
def test_a_session_ends_with_its_repository_and_leaves_nothing(store, upload, use):
    upload.write(HELLO)
    store.delete_repository("library/app")
    with unchanged(store.root), pytest.raises(UploadNotFoundError) as caught:
        if use.startswith("write"):
            upload.write(HELLO)
        upload.commit(Digest.of(HELLO))
    assert (caught.value.upload, caught.value.repository) == (upload.id, "library/app")
    with unchanged(store.root):
        upload.close()
    assert staged(store.root) == []


# --- one writer -------------------------------------------------------------------------------------------------------


def test_a_session_that_is_open_in_this_process_is_busy(store, repository, upload):
    with unchanged(store.root), pytest.raises(StoreBusyError, match=upload.id) as caught:
        repository.upload(upload.id)
    assert caught.value.waited < 1
    upload.close()
    with repository.upload(upload.id) as resumed:
        assert resumed.offset == 0


@pytest.mark.needs_files
def test_a_session_that_is_open_in_another_process_is_busy_until_that_closes_it(store, repository, upload):
    upload.close()
    code = SETUP + "upload = repository.upload(sys.argv[2]); print('open'); input(); upload.close(); "
    code += "print('closed'); input()"
    with python(code, store.root, upload.id) as child:
        assert child.says() == "open"
        with pytest.raises(StoreBusyError):
            repository.upload(upload.id)
        child.tell()
        assert child.says() == "closed"
        with repository.upload(upload.id) as resumed:
            resumed.write(HELLO)


@pytest.mark.needs_files
def test_a_session_resumes_in_another_process_and_back(store, repository, upload):
    upload.write(b"one ")
    upload.close()
    code = SETUP + "u = repository.upload(sys.argv[2]); print(u.offset); u.write(b'two ', offset=4); u.close()"
    assert run_python(code, store.root, upload.id) == "4\n"
    with repository.upload(upload.id) as resumed:
        assert resumed.write(b"three", offset=8) == 13
        resumed.commit(Digest.of(b"one two three"))
    assert read(repository, Digest.of(b"one two three")) == b"one two three"


@pytest.mark.needs_files
def test_kill_9_of_the_writer_loses_nothing_that_was_written(store, repository):
    code = (
        SETUP
        + """
upload = repository.start_upload()
print(upload.id)
for number in range(50):
    upload.write(bytes([number]) * 10_000)
print(upload.offset)
input()
"""
    )
    with python(code, store.root) as child:
        id_, offset = child.says(), int(child.says())
        child.kill()
    content = b"".join(bytes([number]) * 10_000 for number in range(50))
    assert offset == len(content)
    with repository.upload(id_) as resumed:
        assert resumed.offset == offset
        resumed.commit(Digest.of(content))
    assert read(repository, Digest.of(content)) == content


# --- after a restart --------------------------------------------------------------------------------------------------


@pytest.fixture
def restarted(monkeypatch):
    """Let the machine start again, or its disk be mounted anew."""

    def restart(word):
        monkeypatch.setattr(uploads, "page_cache", lambda descriptor: word)

    return restart


def torn(store, id_, length):
    """What a power cut may leave of a file that was written to and not synced."""
    with open(session_file(store, id_), "r+b") as file:
        file.seek(length)
        size = os.fstat(file.fileno()).st_size
        file.write(bytes(size - length))


@pytest.mark.needs_files
def test_after_a_restart_a_session_goes_on_from_what_was_durable(store, repository, upload, restarted):
    upload.write(HELLO)
    upload.close()
    code = SETUP + "u = repository.upload(sys.argv[2]); u.write(b' and more'); print(u.offset); input()"
    with python(code, store.root, upload.id) as child:
        assert int(child.says()) == len(HELLO) + 9
        child.kill()
    torn(store, upload.id, len(HELLO))
    restarted("another boot")
    assert [entry.offset for entry in repository.uploads()] == [len(HELLO)]
    assert repository.stat_upload(upload.id).offset == len(HELLO)
    with repository.upload(upload.id) as resumed:
        assert resumed.offset == len(HELLO) == session_file(store, upload.id).stat().st_size
        resumed.write(b"!", offset=len(HELLO))
        resumed.commit(Digest.of(HELLO + b"!"))
    assert read(repository, Digest.of(HELLO + b"!")) == HELLO + b"!"


@pytest.mark.needs_files
def test_a_session_that_was_never_closed_begins_again_after_a_restart(store, repository, restarted):
    code = SETUP + "u = repository.start_upload(); u.write(b'x' * 10000); print(u.id); input()"
    with python(code, store.root) as child:
        id_ = child.says()
        child.kill()
    restarted("another boot")
    with repository.upload(id_) as resumed:
        assert resumed.offset == 0


@pytest.mark.needs_files
def test_what_is_written_after_a_restart_is_kept_until_the_next_one(store, repository, upload, restarted):
    upload.write(HELLO)
    upload.close()
    restarted("second boot")
    resumed = repository.upload(upload.id)
    resumed.write(b" and more")
    resumed._file.close()  # as when the process dies
    assert repository.stat_upload(upload.id).offset == len(HELLO) + 9
    with repository.upload(upload.id) as again:
        assert again.offset == len(HELLO) + 9
        again._file.close()
        again._file = None
    restarted("third boot")
    with repository.upload(upload.id) as last:
        assert last.offset == len(HELLO)


@pytest.mark.needs_files
def test_a_file_that_is_shorter_than_what_was_durable_is_taken_as_it_is(store, repository, upload, restarted):
    upload.write(HELLO)
    upload.close()
    os.truncate(session_file(store, upload.id), 3)
    restarted("another boot")
    assert repository.stat_upload(upload.id).offset == 3
    with repository.upload(upload.id) as resumed:
        assert resumed.offset == 3


def test_resuming_on_the_same_boot_writes_no_row(store, repository, upload):
    upload.write(HELLO)
    upload.close()
    before = rows(store.root)
    with repository.upload(upload.id) as resumed:
        assert rows(store.root) == before
        resumed._file.close()
        resumed._file = None


# --- committing -------------------------------------------------------------------------------------------------------


def test_a_wrong_digest_keeps_the_session_and_its_bytes(store, repository, upload):
    upload.write(HELLO)
    announced = Digest.of(b"something else")
    with unchanged(store.root), pytest.raises(DigestMismatchError) as caught:
        upload.commit(announced)
    assert (caught.value.expected, caught.value.actual) == (announced, Digest.of(HELLO))
    upload.write(b"!", offset=len(HELLO))
    upload.commit(Digest.of(HELLO + b"!"))
    assert read(repository, Digest.of(HELLO + b"!")) == HELLO + b"!"


@pytest.mark.needs_files
def test_after_a_wrong_digest_the_session_can_be_committed_in_another_process(store, repository, upload):
    upload.write(HELLO)
    with pytest.raises(DigestMismatchError):
        upload.commit(Digest.of(b"something else"))
    upload.close()
    code = SETUP + "repository.upload(sys.argv[2]).commit(sys.argv[3])"
    run_python(code, store.root, upload.id, Digest.of(HELLO))
    assert read(repository, Digest.of(HELLO)) == HELLO


@pytest.mark.parametrize("session", ["sha256", "sha512", "blake3"])
@pytest.mark.parametrize("committed", ["sha256", "sha512", "blake3"])
def test_any_algorithm_can_be_committed_whatever_the_session_hashed_with(repository, session, committed):
    digest = Digest.of(HELLO, committed)
    with repository.start_upload(algorithm=session) as upload:
        upload.write(HELLO[:3])
        upload.write(HELLO[3:])
        with pytest.raises(DigestMismatchError):
            upload.commit(Digest.of(b"x", committed))
        assert upload.commit(digest).digest == digest
    assert read(repository, digest) == HELLO


def test_an_unknown_algorithm_starts_no_session(store, repository):
    with unchanged(store.root), pytest.raises(InvalidDigestError) as caught:
        repository.start_upload(algorithm="md5")
    assert caught.value.digest == "md5"


def test_a_commit_that_fails_after_the_bytes_were_published_keeps_the_session(small_disk):
    with Store.open(small_disk.root / "store") as store:
        repository = store.repository("library/app")
        repository.put_blob(b"so that blobs/sha256 is there")
        with repository.start_upload() as upload:
            upload.write(HELLO)
            with small_disk.full(), pytest.raises(StoreFullError):
                upload.commit(Digest.of(HELLO))
            assert upload.offset == len(HELLO)
        assert Digest.of(HELLO) not in pool(store.root)  # the link was made, and withdrawn
        with pytest.raises(BlobNotFoundError):
            repository.stat_blob(Digest.of(HELLO))
        with repository.upload(upload.id) as resumed:
            resumed.write(b"!", offset=len(HELLO))
            resumed.commit(Digest.of(HELLO + b"!"))
        assert read(repository, Digest.of(HELLO + b"!")) == HELLO + b"!"
        assert Digest.of(HELLO) not in pool(store.root)


# How many bytes a process has read with any kind of read call: proc(5), /proc/pid/io, "rchar".
BYTES_READ = """
def bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])
"""


def bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def test_a_commit_does_not_read_the_bytes_again(repository, upload):
    chunk = bytes(range(256)) * 4096
    for _ in range(8):
        upload.write(chunk)
    digest = Digest.of(chunk * 8)
    before = bytes_read()
    upload.commit(digest)
    assert bytes_read() - before < MEBIBYTE


def test_a_commit_after_closing_and_resuming_in_the_same_process_reads_nothing_again(repository):
    chunk = bytes(range(256)) * 4096
    with repository.start_upload() as upload:
        upload.write(chunk * 4)
    digest = Digest.of(chunk * 8)
    before = bytes_read()
    with repository.upload(upload.id) as resumed:
        resumed.write(chunk * 4)
        resumed.commit(digest)
    assert bytes_read() - before < MEBIBYTE


@pytest.mark.needs_files
def test_a_commit_in_a_process_that_did_not_write_reads_the_bytes_once(store, repository, upload):
    chunk = bytes(range(256)) * 4096
    upload.write(chunk * 8)
    upload.close()
    code = SETUP + BYTES_READ + "before = bytes_read(); repository.upload(sys.argv[2]).commit(sys.argv[3]); "
    code += "print(bytes_read() - before)"
    count = int(run_python(code, store.root, upload.id, Digest.of(chunk * 8)))
    assert 8 * MEBIBYTE <= count < 9 * MEBIBYTE


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_cancelled_session_is_gone_with_its_bytes(store, repository, upload):
    before = files(store.root)
    with repository.start_upload() as cancelled:
        cancelled.write(HELLO)
        cancelled.cancel()
    assert files(store.root) == before
    with pytest.raises(UploadNotFoundError):
        repository.upload(cancelled.id)


def test_cancelling_one_session_leaves_the_others(repository, upload):
    upload.write(HELLO)
    with repository.start_upload() as other:
        other.cancel()
    upload.commit(Digest.of(HELLO))
    assert read(repository, Digest.of(HELLO)) == HELLO
