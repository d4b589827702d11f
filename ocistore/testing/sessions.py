# ruff: noqa: D102 - the names of the tests say what they test
"""What every pool promises of upload sessions: one writer at a time, and bytes that outlive a failed commit."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ocistore.errors import (
    DigestMismatchError,
    InvalidDigestError,
    InvalidNameError,
    StorageError,
    StoreBusyError,
    StoreClosedError,
)
from ocistore.oci.digest import Digest
from ocistore.testing.suite import PoolSuite, content_of

if TYPE_CHECKING:
    from ocistore.pools import Pool


def begun(pool: Pool) -> str:
    """Begin a session, keep it and return its name."""
    made = pool.uploads.create()
    pool.uploads.keep(made)
    return made.name


class UploadsTests(PoolSuite):
    """The role :class:`ocistore.pools.Uploads`."""

    def test_a_new_session_is_empty(self, pool: Pool) -> None:
        name = begun(pool)
        assert len(name) == 32
        assert set(name) <= set("0123456789abcdef")
        assert pool.uploads.size(name) == 0
        with pool.uploads.open(name, "sha256") as upload:
            assert (upload.name, upload.offset) == (name, 0)
            assert upload.digest("sha512") == Digest.of(b"", "sha512")

    def test_a_session_that_nobody_kept_goes_with_its_object(self, pool: Pool) -> None:
        made = pool.uploads.create()
        name = made.name
        assert pool.uploads.size(name) == 0
        del made
        gc.collect()
        begun(pool)  # what is lost goes at the latest when the pool is used next
        with pytest.raises(FileNotFoundError):
            pool.uploads.size(name)

    def test_chunks_come_one_after_the_other(self, pool: Pool) -> None:
        name, content = begun(pool), content_of(2_500_000)
        with pool.uploads.open(name, "sha256") as upload:
            assert upload.append(content[:10]) == 10
            assert upload.append(bytearray(content[10:1_500_000])) == 1_500_000
            assert upload.append(b"") == 1_500_000
            assert upload.append(memoryview(content)[1_500_000:]) == len(content)
            assert upload.offset == pool.uploads.size(name) == len(content)
            assert upload.digest("sha256") == Digest.of(content)
            assert upload.digest("sha512") == Digest.of(content, "sha512")
            upload.sync()

    @pytest.mark.parametrize("remembered", [False, True])
    def test_a_session_continues_where_it_was_closed(self, pool: Pool, remembered: bool) -> None:  # noqa: FBT001 - of pytest
        name = begun(pool)
        upload = pool.uploads.open(name, "sha256")
        upload.append(b"one ")
        upload.close()
        upload.close()
        with pool.uploads.open(name, "sha256", state=upload.state if remembered else None) as again:
            assert again.offset == 4
            again.append(b"two")
            assert again.digest("sha256") == Digest.of(b"one two")

    def test_the_state_of_another_session_is_ignored(self, pool: Pool) -> None:
        one, other = begun(pool), begun(pool)
        with pool.uploads.open(one, "sha256") as upload:
            upload.append(b"first")
            state = upload.state
        with pool.uploads.open(other, "sha256", state=state) as upload:
            upload.append(b"other bytes")
            assert upload.digest("sha256") == Digest.of(b"other bytes")
        with pool.uploads.open(one, "sha512", state=state) as upload:
            assert upload.digest("sha512") == Digest.of(b"first", "sha512")

    def test_a_session_is_cut(self, pool: Pool) -> None:
        with pool.uploads.open(begun(pool), "sha256") as upload:
            upload.append(b"kept and torn")
            upload.truncate(4)
            assert upload.offset == 4
            assert upload.append(b"!") == 5
            assert upload.digest("sha256") == Digest.of(b"kept!")
            for wrong in (-1, 6):
                with pytest.raises(ValueError, match="cannot cut"):
                    upload.truncate(wrong)

    def test_a_session_becomes_a_blob(self, pool: Pool) -> None:
        name = begun(pool)
        upload = pool.uploads.open(name, "sha256")
        upload.append(b"all of it")
        staged = upload.stage(Digest.of(b"all of it"))
        assert (staged.digest, staged.size) == (Digest.of(b"all of it"), 9)
        assert pool.size(staged.digest) is None
        pool.publish([staged])
        assert pool.holds(staged)
        pool.discard([staged])
        upload.close()
        assert pool.read(staged.digest, 9) == b"all of it"
        with pytest.raises(FileNotFoundError):
            pool.uploads.open(name, "sha256")
        self.nothing_is_staged(pool)

    def test_another_digest_keeps_the_session(self, pool: Pool) -> None:
        with pool.uploads.open(begun(pool), "sha256") as upload:
            upload.append(b"half")
            with pytest.raises(DigestMismatchError) as caught:
                upload.stage(Digest.of(b"half and half"))
            assert caught.value.actual == Digest.of(b"half")
            upload.append(b" and half")
            assert upload.stage(Digest.of(b"half and half")).size == 13

    @pytest.mark.parametrize("withdrawn", [False, True])
    def test_a_session_continues_after_a_failed_commit(self, pool: Pool, withdrawn: bool) -> None:  # noqa: FBT001 - of pytest
        name = begun(pool)
        with pool.uploads.open(name, "sha256") as upload:
            upload.append(b"begun")
            staged = upload.stage(Digest.of(b"begun"))
            pool.publish([staged])
            if withdrawn:
                pool.withdraw(staged)
        with pool.uploads.open(name, "sha256") as upload:
            assert upload.append(b" and ended") == 15
            assert upload.digest("sha256") == Digest.of(b"begun and ended")
        assert pool.size(staged.digest) == (None if withdrawn else 5)
        if not withdrawn:
            assert pool.read(staged.digest, 5) == b"begun"

    def test_somebody_else_waits_for_the_session_to_be_closed(self, pool: Pool) -> None:
        name = begun(pool)
        with pool.uploads.open(name, "sha256") as upload:
            upload.append(b"mine")
            with pytest.raises(StoreBusyError):
                pool.uploads.open(name, "sha256")
            assert pool.uploads.size(name) == 4
        pool.uploads.open(name, "sha256").close()

    def test_one_of_many_threads_gets_the_session(self, pool: Pool) -> None:
        name, together = begun(pool), threading.Barrier(8)

        def race(_: int) -> object:
            together.wait()
            try:
                return pool.uploads.open(name, "sha256")
            except StoreBusyError:
                return None

        with ThreadPoolExecutor(8) as executor:
            opened = list(executor.map(race, range(8)))
        assert sum(upload is not None for upload in opened) == 1

    def test_a_removed_session_is_gone_also_for_who_has_it_open(self, pool: Pool) -> None:
        name = begun(pool)
        with pool.uploads.open(name, "sha256") as upload:
            upload.append(b"for nothing")
            pool.uploads.remove(name)
            pool.uploads.remove(name)
            with pytest.raises(StorageError):
                upload.append(b"more")
        for use in (pool.uploads.size, lambda name: pool.uploads.open(name, "sha256")):
            with pytest.raises(FileNotFoundError):
                use(name)
        self.nothing_is_staged(pool)

    def test_a_closed_session_takes_nothing(self, pool: Pool) -> None:
        upload = pool.uploads.open(begun(pool), "sha256")
        upload.close()
        with pytest.raises(StoreClosedError):
            upload.append(b"late")

    @pytest.mark.parametrize("name", ["", "x" * 32, "0" * 31, "../" + "0" * 29, "0" * 33])
    def test_what_is_no_name_is_refused(self, pool: Pool, name: str) -> None:
        for use in (pool.uploads.size, pool.uploads.remove, lambda name: pool.uploads.open(name, "sha256")):
            with pytest.raises(InvalidNameError):
                use(name)

    def test_an_unknown_algorithm_is_refused(self, pool: Pool) -> None:
        name = begun(pool)
        with pytest.raises(InvalidDigestError):
            pool.uploads.open(name, "md5")
        with pool.uploads.open(name, "sha256") as upload, pytest.raises(InvalidDigestError):
            upload.digest("md5")

    def test_what_keeps_unsynced_bytes_has_one_name_for_now(self, pool: Pool) -> None:
        assert pool.uploads.page_cache() == pool.uploads.page_cache() != ""
