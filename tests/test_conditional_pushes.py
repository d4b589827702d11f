"""Pushing a manifest only where its tags are as expected, and being told how far a blob is."""

import io

import pytest
from images import note, push

from ocistore import ANY, Digest, ManifestNotFoundError, TagConflictError
from ocistore.blobs.sources import AT_HAND

pytestmark = pytest.mark.every_pool

OLD, NEW, THIRD = note("old"), note("new"), note("third")
LARGE = bytes(range(256)) * (AT_HAND // 64)


# --- tags as expected -------------------------------------------------------------------------------------------------


def test_a_manifest_is_pushed_where_its_tags_are_as_expected(repository):
    old = push(repository, OLD, "v1", "latest")
    repository.put_manifest(NEW.manifest, tags=["v1", "latest"], expected=old)
    assert repository.resolve("latest").digest == NEW.digest
    repository.put_manifest(THIRD.manifest, tags=["v2"], expected=None)
    repository.put_manifest(OLD.manifest, tags=["v2"], expected=ANY)
    assert repository.resolve("v2").digest == OLD.digest


@pytest.mark.parametrize("expected", [None, THIRD.digest])
def test_nothing_is_stored_where_one_of_the_tags_is_not_as_expected(repository, expected):
    push(repository, OLD, "v1")
    with pytest.raises(TagConflictError) as caught:
        repository.put_manifest(NEW.manifest, tags=["v1"], expected=expected)
    assert caught.value.actual == OLD.digest
    with pytest.raises(ManifestNotFoundError):
        repository.resolve(NEW.digest)
    assert list(repository.tags()) == ["v1"]


def test_all_tags_have_to_be_as_expected(repository):
    push(repository, OLD, "v1")
    with pytest.raises(TagConflictError):
        repository.put_manifest(NEW.manifest, tags=["v1", "v2"], expected=OLD.digest)
    assert repository.resolve("v1").digest == OLD.digest


def test_an_expectation_without_tags_is_refused(repository):
    with pytest.raises(ValueError, match="there are no tags"):
        repository.put_manifest(NEW.manifest, expected=None)
    assert not repository.exists()


def test_an_expectation_holds_at_the_end_of_a_transaction(store, repository):
    push(repository, OLD, "v1")
    with pytest.raises(TagConflictError), store.transaction() as transaction:
        transaction.repository(repository.name).put_manifest(NEW.manifest, tags=["v1"], expected=OLD.digest)
        push(repository, THIRD, "v1")
    assert repository.resolve("v1").digest == THIRD.digest


# --- progress ---------------------------------------------------------------------------------------------------------


def path_of(directory):
    path = directory / "source"
    path.write_bytes(LARGE)
    return path


def from_the_middle(_):
    file = io.BytesIO(b"before" + LARGE)
    file.seek(6)
    return file


SOURCES = {
    "bytes": lambda _: LARGE,
    "path": path_of,
    "file": lambda directory: open(path_of(directory), "rb"),  # noqa: SIM115
    "from the middle": from_the_middle,
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("reuse", [False, True])
def test_whoever_waits_is_told_how_much_was_read(repository, tmp_path, source, reuse):
    told = []
    given = SOURCES[source](tmp_path)
    blob = repository.put_blob(given, reuse=reuse, progress=lambda done, total: told.append((done, total)))
    assert blob.digest == Digest.of(LARGE)
    assert repository.open_blob(blob).read() == LARGE
    assert len(told) > 1
    assert told == sorted(set(told))
    assert {total for _, total in told} == {len(LARGE)}
    assert told[-1][0] == len(LARGE)
    if hasattr(given, "close"):
        given.close()


def test_a_source_of_unknown_length_is_told_as_far_as_it_was_read(repository):
    told = []
    blob = repository.put_blob(iter([b"one", b"two"]), progress=lambda *numbers: told.append(numbers))
    assert blob.digest == Digest.of(b"onetwo")
    assert told == [(6, 6)]
    told.clear()
    repository.put_blob(iter([b"three"]), size=5, progress=lambda *numbers: told.append(numbers))
    assert told == [(5, 5)]


def test_a_blob_that_is_reused_is_told_once(repository):
    repository.put_blob(LARGE)
    told = []
    repository.put_blob(LARGE, reuse=True, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (len(LARGE), len(LARGE))
    assert told == sorted(set(told))


class _Ends:
    """A file that must not be read after its end."""

    def __init__(self):
        self._left = [b"one", b""]

    def read(self, size):
        return self._left.pop(0)


def test_a_source_is_not_read_after_its_end_when_it_is_counted(repository):
    blob = repository.put_blob(_Ends(), progress=lambda *_: None)
    assert blob.digest == Digest.of(b"one")


def test_who_is_told_may_stop_it(repository):
    def stop(done, total):
        raise KeyError(done)

    with pytest.raises(KeyError):
        repository.put_blob(LARGE, progress=stop)
    assert not repository.exists()


def test_the_errors_of_a_source_are_its_own_when_it_is_counted(repository, tmp_path):
    def chunks():
        yield b"one"
        raise PermissionError("mine")

    with pytest.raises(PermissionError, match="mine"):
        repository.put_blob(chunks(), progress=lambda *_: None)
    with pytest.raises(FileNotFoundError):
        repository.put_blob(tmp_path / "nothing", progress=lambda *_: None)
