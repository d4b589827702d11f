# ruff: noqa: D102 - the names of the tests say what they test
"""What every pool promises of published content: it is found by its digest and size, whole and seekable."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from ocistore.errors import CorruptError, DigestMismatchError, SizeMismatchError
from ocistore.oci.digest import Digest
from ocistore.testing.suite import PoolSuite, content_of

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.pools import Pool

_ABSENT = Digest.of(b"absent")


def published(pool: Pool, content: bytes, algorithm: str = "sha256") -> Digest:
    """Publish some bytes and return their digest."""
    staged = pool.stage(content, algorithm=algorithm)
    pool.publish([staged])
    pool.discard([staged])
    return staged.digest


class ProviderTests(PoolSuite):
    """The role :class:`ocistore.pools.Provider`, and what shares files."""

    def test_what_is_absent_is_not_found(self, pool: Pool) -> None:
        for _ in range(2):
            assert pool.size(_ABSENT) is None
            assert not pool.has(_ABSENT, 6)
            for use in (pool.open, pool.read):
                with pytest.raises(FileNotFoundError):
                    use(_ABSENT, 6)
            with pytest.raises(FileNotFoundError):
                pool.hash(_ABSENT)
            published(pool, b"something, so that the pool is not empty")

    def test_content_is_had_with_its_size_only(self, pool: Pool) -> None:
        digest = published(pool, b"seven b")
        assert [pool.has(digest, size) for size in (6, 7, 8)] == [False, True, False]

    @pytest.mark.parametrize("size", [0, 6, 8, 70_000])
    def test_another_size_than_the_rows_is_damage(self, pool: Pool, size: int) -> None:
        digest = published(pool, b"seven b")
        for use in (pool.open, pool.read):
            with pytest.raises(CorruptError):
                use(digest, size)

    def test_an_algorithm_is_there_once_something_of_it_was_published(self, pool: Pool) -> None:
        published(pool, b"content", "sha512")
        assert pool.has_algorithm("sha512")

    @pytest.mark.parametrize("size", [0, 5, 65536, 3_000_000])
    def test_all_is_read_at_once(self, pool: Pool, size: int) -> None:
        content = content_of(size)
        assert pool.read(published(pool, content), size) == content

    @pytest.mark.parametrize("verify", [False, True])
    def test_the_reader_seeks(self, pool: Pool, verify: bool) -> None:  # noqa: FBT001 - of pytest
        content = content_of(300_000)
        with pool.open(published(pool, content), len(content), verify=verify) as reader:
            assert reader.size == len(content)
            assert reader.seekable()
            assert reader.seek(-10, io.SEEK_END) == 299_990
            assert reader.read() == content[-10:]
            reader.seek(100_000)
            buffer = bytearray(5)
            assert reader.readinto(buffer) == 5
            assert buffer == content[100_000:100_005]
            assert reader.tell() == 100_005
            reader.seek(0)
            assert reader.read() == content

    def test_a_reader_has_a_descriptor_or_says_that_it_has_none(self, pool: Pool) -> None:
        content = content_of(10_000)
        with pool.open(published(pool, content), len(content)) as reader:
            if reader.descriptor is None:
                with pytest.raises(io.UnsupportedOperation):
                    reader.fileno()
            else:
                assert reader.descriptor == reader.fileno()
                assert os.pread(reader.fileno(), 20_000, 0) == content

    @pytest.mark.parametrize("size", [0, 100_000, 3_000_000])
    @pytest.mark.parametrize("fresh", [False, True])
    def test_hashing_counts_every_byte(self, pool: Pool, size: int, fresh: bool) -> None:  # noqa: FBT001 - of pytest
        counted: list[int] = []
        digest = published(pool, content_of(size))
        assert pool.hash(digest, fresh=fresh, progress=counted.append) == (digest, size)
        assert sum(counted) == size

    def test_hashing_sees_damage(self, pool: Pool) -> None:
        digest = published(pool, b"whole")
        self.damage(pool, digest, b"whale")
        assert pool.hash(digest) == (Digest.of(b"whale"), 5)

    def test_a_verifying_reader_keeps_the_last_bytes_of_damaged_content(self, pool: Pool) -> None:
        content = content_of(300_000)
        digest = published(pool, content)
        self.damage(pool, digest, content[:-1] + bytes([content[-1] ^ 1]))
        with pool.open(digest, len(content), verify=True) as reader, pytest.raises(CorruptError):
            list(iter(lambda: reader.read(100_000), b""))
        with pool.open(digest, len(content)) as reader:
            assert len(reader.read()) == len(content)

    # --- what only some can do ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("mode", ["auto", "copy", "link"])
    def test_an_open_file_is_adopted_if_the_pool_shares_files(self, pool: Pool, tmp_path: Path, mode: str) -> None:
        if pool.sharing is None:
            pytest.skip("this pool shares no files")
        content = content_of(200_000)
        (tmp_path / "file").write_bytes(content)
        counted: list[int] = []
        descriptor = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            adopt = pool.sharing.adopt
            staged = adopt(descriptor, digest=Digest.of(content), size=len(content), mode=mode, progress=counted.append)  # type: ignore[arg-type]
            with pytest.raises(SizeMismatchError):
                adopt(descriptor, digest=staged.digest, size=7)
            with pytest.raises(DigestMismatchError):
                adopt(descriptor, digest=Digest.of(b"other"), size=len(content))
        finally:
            os.close(descriptor)
        assert sum(counted) == len(content)
        pool.publish([staged])
        pool.discard([staged])
        assert pool.read(staged.digest, len(content)) == content
        self.nothing_is_staged(pool)

    def test_a_blob_is_linked_if_the_pool_shares_files(self, pool: Pool, tmp_path: Path) -> None:
        if pool.sharing is None:
            pytest.skip("this pool shares no files")
        digest = published(pool, b"linked")
        directory = os.open(tmp_path, os.O_RDONLY)
        try:
            pool.sharing.link(digest, 6, directory, "name")
            with pytest.raises(FileExistsError):
                pool.sharing.link(digest, 6, directory, "name")
            for wrong in (digest, _ABSENT):
                with pytest.raises(CorruptError):
                    pool.sharing.link(wrong, 7, directory, "other")
        finally:
            os.close(directory)
        assert (tmp_path / "name").read_bytes() == b"linked"
        assert os.stat(digest.encoded, dir_fd=pool.sharing.directory("sha256")).st_size == 6

    def test_a_blob_is_a_file_of_its_own_if_the_pool_keeps_such(self, pool: Pool) -> None:
        if pool.local is None:
            pytest.skip("this pool keeps no files")
        digest = published(pool, b"in a file")
        assert pool.local.path(digest).read_bytes() == b"in a file"
        assert not pool.local.path(_ABSENT).exists()
