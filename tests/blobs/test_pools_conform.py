"""Both pools pass the conformance suite, and pools that are wrong in one place fail it."""

import io
import os

import pytest

from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.blobs.reader import BlobReader
from ocistore.errors import StorageError
from ocistore.testing.contents import MemoryBlob, MemoryContent
from ocistore.testing.memory import MemoryPool, _Sweeper
from ocistore.testing.memoryuploads import MemoryUpload, MemoryUploads
from ocistore.testing.pools import PoolTests


class TestFilePool(PoolTests):
    @pytest.fixture
    def pool(self, tmp_path):
        pool = FilePool(StorePaths(tmp_path / "store"))
        pool.create()
        yield pool
        pool.close()

    def damage(self, pool, digest, content):
        os.chmod(pool.path(digest), 0o600)
        pool.path(digest).write_bytes(content)


class TestMemoryPool(PoolTests):
    @pytest.fixture
    def pool(self):
        return MemoryPool()

    def damage(self, pool, digest, content):
        pool._published[digest] = MemoryContent(content)


# --- pools that are wrong ---------------------------------------------------------------------------------------------


class Trusting(MemoryPool):
    def stage(self, source, *, digest=None, size=None, algorithm="sha256"):
        staged = super().stage(source, size=size, algorithm=digest.algorithm if digest else algorithm)
        staged.digest = digest or staged.digest
        return staged


class CountsNothing(MemoryPool):
    def stage(self, source, *, size=None, **options):
        return super().stage(source, **options)


class ShowsWhatIsStaged(MemoryPool):
    def _stage(self, blob):
        self._published[blob.digest] = blob.content
        return super()._stage(blob)


class KeepsWhatWasThere(MemoryPool):
    def publish(self, staged):
        super().publish([blob for blob in staged if blob.digest not in self._published])


class PublishesOneOnly(MemoryPool):
    def publish(self, staged):
        super().publish(staged[:1])


class PublishesWhatWasDiscarded(MemoryPool):
    def publish(self, staged):
        super().publish([blob for blob in staged if blob.content is not None])


class AlwaysHolds(MemoryPool):
    def holds(self, blob):
        return True


class WithdrawsByDigest(MemoryPool):
    def withdraw(self, blob):
        self._published.pop(blob.digest, None)


class WithdrawsNothing(MemoryPool):
    def withdraw(self, blob):
        pass


class DiscardsOnce(MemoryPool):
    def discard(self, staged):
        for blob in staged:
            del self._staged[blob.name]
            blob.content = None


class DiscardsWhatIsPublished(MemoryPool):
    def discard(self, staged):
        staged = list(staged)
        for blob in staged:
            self._published.pop(blob.digest, None)
        super().discard(staged)


class DiscardsNothing(MemoryPool):
    def discard(self, staged):
        pass


class LeavesNothing(MemoryPool):
    def leave(self, staged):
        pass


class LeavesEverything(MemoryPool):
    def leave(self, staged):
        for blob in staged:
            self._left[blob.name] = MemoryBlob(blob.digest, blob.content)


class LooksAtNoSize(MemoryPool):
    def has(self, digest, size):
        return self.size(digest) is not None


class OpensAnySize(MemoryPool):
    def open(self, digest, size, *, verify=False):
        found = self.size(digest)
        return super().open(digest, size if found is None else found, verify=verify)


class ReadsAnySize(MemoryPool):
    def read(self, digest, size):
        return self._content(digest, None)


class NeverVerifies(MemoryPool):
    def open(self, digest, size, *, verify=False):
        return super().open(digest, size)


class BelievesDigests(MemoryPool):
    def hash(self, digest, *, fresh=False, progress=len):
        _, size = super().hash(digest, progress=progress)
        return digest, size


class CountsTwice(MemoryPool):
    def hash(self, digest, *, fresh=False, progress=len):
        return super().hash(digest, progress=lambda count: (progress(count), progress(count)))


class LiesOfDescriptors(MemoryPool):
    def open(self, digest, size, *, verify=False):
        return BlobReader(io.FileIO(os.devnull), size, has_descriptor=True)


class WithUploads(MemoryPool):
    """A pool whose sessions are of another class."""

    def __init__(self, kind):
        super().__init__()
        self._uploads = kind(self._sessions, self._mutex, self._stage)


class TwoWriters(MemoryUploads):
    def open(self, name, algorithm, *, state=None):
        return MemoryUpload(self, name, self._session(name), algorithm, state)


class ForgetsWhoHasIt(MemoryUploads):
    def open(self, name, algorithm, *, state=None):
        upload = super().open(name, algorithm, state=state)
        upload.close = lambda: None
        return upload


class BelievesEveryState(MemoryUploads):
    def open(self, name, algorithm, *, state=None):
        upload = super().open(name, algorithm)
        if state is not None:
            upload._hasher, upload._hashed = state.hasher, state.offset
        return upload


class KeepsSessionsOfNobody(MemoryUploads):
    def create(self):
        made = super().create()
        self.keep(made)
        return made


class TakesAnyName(MemoryUploads):
    def _session(self, name):
        if name not in self._sessions:
            raise FileNotFoundError(name)
        return self._sessions[name]


class RemovesOnce(MemoryUploads):
    def remove(self, name):
        if name not in self._sessions:
            raise StorageError(name, errno=2, reason="gone")
        super().remove(name)


class KeepsSessionsOfBlobs(MemoryPool):
    def discard(self, staged):
        for blob in staged:
            blob.session = None
            super().discard([blob])


class WithSweeper(MemoryPool):
    def __init__(self, kind):
        super().__init__()
        self._sweeper = kind(self)


class DeletesInPlaceOfTrashing(_Sweeper):
    def trash(self, digest):
        found = super().trash(digest)
        self._pool._trash.clear()
        return found


class TrashesByDigest(_Sweeper):
    def trash(self, digest):
        content = self._pool._published.pop(digest, None)
        if content is None:
            return None
        self._pool._trash[str(digest)] = content
        return next(file for file in self.trashed() if file.name == str(digest))


class QuarantinesByDigest(_Sweeper):
    def quarantine(self, file):
        now = self.find(file.digest)
        return None if now is None else super().quarantine(now)


class KeepsInTheTrash(_Sweeper):
    def delete_trashed(self, name):
        return name in self._pool._trash


class ListsWhatIsStaged(_Sweeper):
    def files(self):
        yield from super().files()
        for blob in list(self._pool._staged.values()):
            self._pool._published.setdefault(blob.digest, blob.content)
            yield self.find(blob.digest)


class NeverPublished(_Sweeper):
    def published(self, file):
        return None


class AlwaysAlone(_Sweeper):
    def alone(self, name):
        return super().alone("0" * 32)


class ListsNoSessions(_Sweeper):
    def staged(self):
        return (file for file in super().staged() if file.name not in self._pool._sessions)


WRONG = [
    (Trusting, "test_bytes_of_another_digest_leave_nothing", {"kind": "bytes", "size": 10}),
    (CountsNothing, "test_another_number_of_bytes_leaves_nothing", {"kind": "bytes", "size": 10, "off_by": 1}),
    (ShowsWhatIsStaged, "test_nobody_sees_what_is_only_staged", {}),
    (KeepsWhatWasThere, "test_what_is_published_replaces_what_was_damaged", {}),
    (PublishesOneOnly, "test_many_are_published_at_once", {"count": 2}),
    (PublishesWhatWasDiscarded, "test_what_was_discarded_is_not_published", {}),
    (AlwaysHolds, "test_a_name_that_was_taken_away_is_not_held_and_comes_back", {}),
    (WithdrawsByDigest, "test_withdrawing_leaves_the_bytes_of_another_publisher", {}),
    (WithdrawsNothing, "test_what_is_withdrawn_is_not_there_and_can_be_published_again", {}),
    (DiscardsOnce, "test_publishing_again_changes_nothing", {}),
    (DiscardsWhatIsPublished, "test_publishing_again_changes_nothing", {}),
    (DiscardsNothing, "test_publishing_again_changes_nothing", {}),
    (LeavesNothing, "test_what_is_left_to_a_collection_is_listed_with_its_digest", {}),
    (LeavesEverything, "test_what_is_not_published_is_not_left", {}),
    (LooksAtNoSize, "test_content_is_had_with_its_size_only", {}),
    (OpensAnySize, "test_another_size_than_the_rows_is_damage", {"size": 6}),
    (ReadsAnySize, "test_another_size_than_the_rows_is_damage", {"size": 6}),
    (NeverVerifies, "test_a_verifying_reader_keeps_the_last_bytes_of_damaged_content", {}),
    (BelievesDigests, "test_hashing_sees_damage", {}),
    (CountsTwice, "test_hashing_counts_every_byte", {"size": 100_000, "fresh": False}),
    (LiesOfDescriptors, "test_a_reader_has_a_descriptor_or_says_that_it_has_none", {}),
    (lambda: WithUploads(TwoWriters), "test_somebody_else_waits_for_the_session_to_be_closed", {}),
    (lambda: WithUploads(TwoWriters), "test_one_of_many_threads_gets_the_session", {}),
    (lambda: WithUploads(ForgetsWhoHasIt), "test_a_session_continues_where_it_was_closed", {"remembered": False}),
    (lambda: WithUploads(BelievesEveryState), "test_the_state_of_another_session_is_ignored", {}),
    (lambda: WithUploads(KeepsSessionsOfNobody), "test_a_session_that_nobody_kept_goes_with_its_object", {}),
    (lambda: WithUploads(TakesAnyName), "test_what_is_no_name_is_refused", {"name": ""}),
    (lambda: WithUploads(RemovesOnce), "test_a_removed_session_is_gone_also_for_who_has_it_open", {}),
    (KeepsSessionsOfBlobs, "test_a_session_becomes_a_blob", {}),
    (lambda: WithSweeper(DeletesInPlaceOfTrashing), "test_what_is_trashed_is_found_no_more_and_then_deleted", {}),
    (lambda: WithSweeper(TrashesByDigest), "test_content_that_comes_again_is_not_in_the_way_of_what_was_trashed", {}),
    (lambda: WithSweeper(QuarantinesByDigest), "test_what_came_since_it_was_looked_at_is_not_put_in_quarantine", {}),
    (lambda: WithSweeper(KeepsInTheTrash), "test_what_is_trashed_is_found_no_more_and_then_deleted", {}),
    (lambda: WithSweeper(ListsWhatIsStaged), "test_what_is_published_is_listed_and_what_is_staged_is_not", {}),
    (lambda: WithSweeper(NeverPublished), "test_what_is_staged_is_listed_with_whether_it_is_published", {}),
    (lambda: WithSweeper(AlwaysAlone), "test_a_session_is_kept_from_others_while_it_is_looked_at", {}),
    (lambda: WithSweeper(ListsNoSessions), "test_a_session_is_listed_with_its_bytes", {}),
]


@pytest.mark.parametrize(("make", "test", "parameters"), WRONG)
def test_a_pool_that_is_wrong_in_one_place_fails(make, test, parameters, tmp_path):
    def run(pool):
        suite = TestMemoryPool()
        method = getattr(suite, test)
        needed = {"tmp_path": tmp_path} if "tmp_path" in method.__code__.co_varnames else {}
        method(pool, **parameters, **needed)

    run(MemoryPool())
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        run(make())
    assert not isinstance(caught.value, (AttributeError, NameError)), "it is wrong in another way than it means to be"
