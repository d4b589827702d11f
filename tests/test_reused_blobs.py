"""What the store has already is recognised by its content, and not written again."""

import io
import os
from datetime import timedelta

import pytest
from state import unchanged

from ocistore import BlobNotFoundError, Digest, DigestMismatchError, SizeMismatchError
from ocistore.blobs.ingester import FileIngester

CONTENT = bytes(range(251)) * 40_001


@pytest.fixture
def staged(monkeypatch):
    """How often something was written into the pool."""
    calls = []
    stage = FileIngester.stage
    monkeypatch.setattr(FileIngester, "stage", lambda *given, **named: calls.append(given) or stage(*given, **named))
    return calls


def sources(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    yield CONTENT
    yield path
    yield io.BytesIO(CONTENT)
    with open(path, "rb") as file:
        yield file


def test_what_is_there_is_not_written_again(store, tmp_path, staged):
    repository = store.repository("models/a")
    put = repository.put_blob(CONTENT)
    assert len(staged) == 1

    for source in sources(tmp_path):
        assert repository.put_blob(source, reuse=True) == put
    assert len(staged) == 1
    repository.put_blob(CONTENT)
    assert len(staged) == 2, "without reuse it is"


def test_what_is_not_there_is_written(store, tmp_path):
    for number, source in enumerate(sources(tmp_path)):
        repository = store.repository(f"models/{number}")
        put = repository.put_blob(source, reuse=True, algorithm="sha512")
        assert put.digest == Digest.of(CONTENT, "sha512")
        with repository.open_blob(put.digest, verify=True) as blob:
            assert blob.read() == CONTENT


def test_another_repository_serves_it_too(store):
    store.repository("models/a").put_blob(CONTENT)
    with store.transaction() as transaction:
        put = transaction.repository("models/b").put_blob(CONTENT, reuse=True)
        # its size is known to what follows in the same transaction
        assert transaction.repository("models/c").mount_blob(put.digest, "models/b").size == len(CONTENT)
    for name in "bc":
        assert store.repository(f"models/{name}").stat_blob(put.digest).size == len(CONTENT)


def test_a_file_is_read_from_where_it_stands(store):
    repository = store.repository("models/a")
    file = io.BytesIO(b"before" + CONTENT)
    for _ in range(2):
        file.seek(6)
        assert repository.put_blob(file, reuse=True).digest == Digest.of(CONTENT)


def test_what_can_be_read_only_once_is_refused(store):
    with unchanged(store.root), pytest.raises(TypeError, match="read twice, not list"):
        store.repository("models/a").put_blob([CONTENT], reuse=True)
    reader, writer = os.pipe()
    os.close(writer)
    with open(reader, "rb") as file, unchanged(store.root), pytest.raises(TypeError, match="read twice"):
        store.repository("models/a").put_blob(file, reuse=True)


def test_digest_and_size_are_compared(store):
    repository = store.repository("models/a")
    repository.put_blob(CONTENT)
    with unchanged(store.root), pytest.raises(DigestMismatchError):
        repository.put_blob(CONTENT, digest=Digest.of(b"other"), reuse=True)
    with unchanged(store.root), pytest.raises(SizeMismatchError):
        repository.put_blob(CONTENT, size=1, reuse=True)


def test_what_a_collection_removes_meanwhile_is_an_error_of_the_transaction(store):
    repository = store.repository("models/a")
    repository.put_blob(CONTENT)
    with pytest.raises(BlobNotFoundError), store.transaction() as transaction:
        into = transaction.repository("models/b")
        into.put_blob(CONTENT, reuse=True)
        into.put_blob(b"other")
        store.gc(grace=timedelta(0))
    assert list(store.repositories()) == ["models/a"]
    # and outside of one it is written after all
    assert repository.put_blob(CONTENT, reuse=True).size == len(CONTENT)
    repository.stat_blob(Digest.of(CONTENT))


def test_a_file_that_is_gone_is_written_again(store):
    repository = store.repository("models/a")
    put = repository.put_blob(CONTENT)
    (store.root / "blobs" / "sha256" / put.digest.encoded).unlink()
    repository.put_blob(CONTENT, reuse=True)
    with repository.open_blob(put.digest, verify=True) as blob:
        assert blob.read() == CONTENT
