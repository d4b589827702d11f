# ruff: noqa: D102 - the names of the tests say what they test
"""What every pool promises of content on its way out: listed, trashed, in quarantine, and gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ocistore.errors import StorageError, StoreBusyError
from ocistore.oci.digest import Digest
from ocistore.testing.reading import published
from ocistore.testing.sessions import begun
from ocistore.testing.suite import PoolSuite, content_of

if TYPE_CHECKING:
    from ocistore.pools import Pool


class SweeperTests(PoolSuite):
    """The role :class:`ocistore.pools.Sweeper`."""

    def test_what_is_published_is_listed_and_what_is_staged_is_not(self, pool: Pool) -> None:
        contents = [content_of(size) for size in (0, 1, 70_000)]
        digests = {published(pool, content, "sha512"): len(content) for content in contents}
        staged = pool.stage(b"staged")
        listed = {file.digest: file for file in pool.sweeper.files()}
        assert {digest: file.size for digest, file in listed.items()} == digests
        for digest, file in listed.items():
            assert (file.algorithm, file.name) == (digest.algorithm, digest.encoded)  # type: ignore[union-attr]
            assert abs(file.changed - time.time() * 1000) < 60_000
            assert pool.sweeper.find(digest) == file  # type: ignore[arg-type]
        assert pool.sweeper.find(staged.digest) is None
        pool.discard([staged])

    def test_what_is_trashed_is_found_no_more_and_then_deleted(self, pool: Pool) -> None:
        digest = published(pool, b"condemned")
        moved = pool.sweeper.trash(digest)
        assert pool.sweeper.trash(digest) is None
        assert not pool.has(digest, 9)
        assert list(pool.sweeper.files()) == []
        (trashed,) = pool.sweeper.trashed()
        assert moved is not None
        assert (moved.name, moved.size) == (trashed.name, trashed.size) == (trashed.name, 9)
        assert [pool.sweeper.delete_trashed(trashed.name) for _ in range(2)] == [True, False]
        assert list(pool.sweeper.trashed()) == []

    def test_content_that_comes_again_is_not_in_the_way_of_what_was_trashed(self, pool: Pool) -> None:
        for _ in range(2):
            pool.sweeper.trash(published(pool, b"again"))
        digest = published(pool, b"again")
        assert [file.size for file in pool.sweeper.trashed()] == [5, 5]
        for file in list(pool.sweeper.trashed()):
            pool.sweeper.delete_trashed(file.name)
        assert pool.read(digest, 5) == b"again"

    def test_what_is_in_quarantine_is_found_no_more_and_kept(self, pool: Pool) -> None:
        digest = published(pool, b"suspect")
        file = pool.sweeper.find(digest)
        assert file is not None
        name = pool.sweeper.quarantine(file)
        assert name is not None
        assert name.partition(".")[0] == f"sha256-{digest.encoded}"
        assert pool.size(digest) is None
        (kept,) = pool.sweeper.quarantined()
        assert (kept.name, kept.size) == (name, 7)
        with pool.sweeper.open_quarantined(name) as reader:
            assert reader.read() == b"suspect"
        assert pool.sweeper.quarantine(file) is None
        assert [pool.sweeper.delete_quarantined(name) for _ in range(2)] == [True, False]
        assert list(pool.sweeper.quarantined()) == []
        with pytest.raises(StorageError):
            pool.sweeper.open_quarantined(name)

    def test_what_came_since_it_was_looked_at_is_not_put_in_quarantine(self, pool: Pool) -> None:
        digest = published(pool, b"healed")
        file = pool.sweeper.find(digest)
        assert file is not None
        keeping = pool.stage(b"healed")  # while something else has the first one's identity, nothing can get it again
        pool.publish([keeping])
        assert pool.sweeper.find(digest) != file
        assert pool.sweeper.quarantine(file) is None
        assert pool.read(digest, 6) == b"healed"
        pool.discard([keeping])

    def test_content_is_deleted_at_once(self, pool: Pool) -> None:
        digest = published(pool, b"of a backup")
        file = pool.sweeper.find(digest)
        assert file is not None
        assert [pool.sweeper.delete(file) for _ in range(2)] == [True, False]
        assert pool.size(digest) is None
        assert list(pool.sweeper.trashed()) == []

    def test_what_is_staged_is_listed_with_whether_it_is_published(self, pool: Pool) -> None:
        staged = pool.stage(b"on its way")
        (listed,) = pool.sweeper.staged()
        assert (listed.size, listed.may_be_published, pool.sweeper.published(listed)) == (10, False, None)
        assert pool.sweeper.find_staged(listed.name) == listed
        pool.publish([staged])
        (listed,) = pool.sweeper.staged()
        assert (listed.size, listed.may_be_published) == (10, True)
        assert pool.sweeper.published(listed) == staged.digest
        pool.withdraw(staged)
        (listed,) = pool.sweeper.staged()
        assert pool.sweeper.published(listed) is None
        pool.discard([staged])
        self.nothing_is_staged(pool)
        assert pool.sweeper.find_staged(listed.name) is None

    def test_what_is_staged_and_abandoned_is_deleted(self, pool: Pool) -> None:
        staged, name = pool.stage(b"abandoned"), begun(pool)
        assert {file.size for file in pool.sweeper.staged()} == {9, 0}
        for file in list(pool.sweeper.staged()):
            assert [pool.sweeper.delete_staged(file.name) for _ in range(2)] == [True, False]
        with pytest.raises(StorageError):
            pool.publish([staged])
        with pytest.raises(FileNotFoundError):
            pool.uploads.size(name)

    def test_a_session_is_listed_with_its_bytes(self, pool: Pool) -> None:
        name = begun(pool)
        with pool.uploads.open(name, "sha256") as upload:
            upload.append(b"some bytes")
            (listed,) = pool.sweeper.staged()
            assert (listed.name, listed.size, listed.may_be_published) == (name, 10, False)
            pool.publish([upload.stage(Digest.of(b"some bytes"))])
            found = pool.sweeper.find_staged(name)
            assert found is not None
            assert found.may_be_published
            assert pool.sweeper.published(found) == Digest.of(b"some bytes")

    def test_a_session_is_kept_from_others_while_it_is_looked_at(self, pool: Pool) -> None:
        name = begun(pool)
        with pool.sweeper.alone(name) as alone:
            assert alone
            with pytest.raises(StoreBusyError):
                pool.uploads.open(name, "sha256")
        with pool.uploads.open(name, "sha256"), pool.sweeper.alone(name) as alone:
            assert not alone
        with pool.sweeper.alone("0" * 32) as alone:
            assert alone
