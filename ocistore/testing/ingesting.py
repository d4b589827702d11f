# ruff: noqa: D102 - the names of the tests say what they test
"""What every pool promises of content on its way in: staged from any source, published, held, withdrawn, discarded."""

from __future__ import annotations

import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from ocistore.errors import DigestMismatchError, InvalidDigestError, SizeMismatchError, StorageError
from ocistore.oci.digest import Digest
from ocistore.testing.suite import PoolSuite, content_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ocistore.pools import Pool, Source, StagedBlob

_SIZES: Final = {
    "empty": 0,
    "one byte": 1,
    "a page and one": 4097,
    "one byte less than 64 KiB": 65535,
    "64 KiB": 65536,
    "one byte less than 1 MiB": (1 << 20) - 1,
    "1 MiB": 1 << 20,
    "1 MiB and 64 KiB": (1 << 20) + (1 << 16),
    "11 MiB and three": 11 * (1 << 20) + 3,
}
"""Around the sizes at which pools like to change their way: pages, small buffers, big buffers, rings of buffers."""


class _OnlyRead:
    """A file object that has ``read`` and nothing else, and gives less than it is asked for."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size if size < 2 else size - size // 3)


class _RawFile(io.RawIOBase):
    """A raw file whose reads are short."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        return self._file.readinto(view[: max(1, len(view) // 3)])


def _tiny_chunks(content: bytes) -> Iterator[bytes]:
    head = content[:5000]
    yield b""
    for byte in head:
        yield bytes([byte])
    yield b""
    yield content[5000:]
    yield b""


def _bytearrays(content: bytes) -> Iterator[bytes]:
    """Yield one buffer again and again, as a careful reader of sockets would."""
    buffer = bytearray()
    for start in range(0, len(content), 70_000):
        buffer[:] = content[start : start + 70_000]
        yield buffer  # type: ignore[misc] # what callers do, whatever the annotation says


def _every_second(content: bytes) -> memoryview:
    doubled = bytearray(2 * len(content))
    doubled[::2] = content
    return memoryview(doubled)[::2]


def _path(content: bytes, directory: Path) -> Path:
    path = directory / "source"
    path.write_bytes(content)
    return path


_SOURCES: Final[dict[str, Callable[[bytes, Path], Source]]] = {
    "bytes": lambda content, _: content,
    "bytearray": lambda content, _: bytearray(content),
    "memoryview": lambda content, _: memoryview(b"x" + content)[1:],
    "memoryview of strides": lambda content, _: _every_second(content),
    "path": _path,
    "path as text": lambda content, directory: str(_path(content, directory)),
    "buffered file": lambda content, _: io.BytesIO(content),
    "raw file": lambda content, _: io.BufferedReader(_RawFile(content)),
    "raw file with short reads": lambda content, _: _RawFile(content),
    "object with read": lambda content, _: _OnlyRead(content),  # type: ignore[dict-item, return-value]
    "list of chunks": lambda content, _: [content[:7], content[7:]],
    "iterator of tiny chunks": lambda content, _: _tiny_chunks(content),
    "iterator of bytearrays": lambda content, _: _bytearrays(content),
}


class _SourceFailedError(Exception):
    pass


def _failing(content: bytes) -> Iterator[bytes]:
    yield content
    raise _SourceFailedError


class IngesterTests(PoolSuite):
    """The role :class:`ocistore.pools.Ingester`, with as much of the others as it takes to look at it."""

    # --- in and out ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", _SIZES.values(), ids=_SIZES)
    @pytest.mark.parametrize("kind", _SOURCES)
    def test_what_was_staged_from_any_source_is_read_back(
        self, pool: Pool, tmp_path: Path, kind: str, size: int
    ) -> None:
        content = content_of(size)
        staged = pool.stage(_SOURCES[kind](content, tmp_path))
        assert (staged.digest, staged.size) == (f"sha256:{hashlib.sha256(content).hexdigest()}", size)
        pool.publish([staged])
        assert pool.holds(staged)
        pool.discard([staged])
        assert pool.size(staged.digest) == size
        with pool.open(staged.digest, staged.size) as reader:
            assert reader.read() == content
        self.nothing_is_staged(pool)

    def test_a_file_is_read_from_where_it_stands(self, pool: Pool) -> None:
        file = io.BytesIO(b"headbody")
        file.seek(4)
        assert pool.stage(file).digest == Digest.of(b"body")
        assert not file.closed

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_the_digest_is_of_the_algorithm_asked_for(self, pool: Pool, algorithm: str) -> None:
        staged = pool.stage(b"content", algorithm=algorithm)
        assert staged.digest == Digest.of(b"content", algorithm)
        pool.publish([staged])
        assert pool.size(staged.digest) == 7

    def test_a_digest_given_decides_the_algorithm(self, pool: Pool) -> None:
        wanted = Digest.of(b"content", "sha512")
        assert pool.stage(b"content", digest=wanted).digest == wanted

    def test_content_is_kept_per_algorithm(self, pool: Pool) -> None:
        pool.publish([pool.stage(b"content")])
        assert pool.size(Digest.of(b"content", "sha512")) is None

    # --- what is refused ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [10, 100_000, 5_000_000])
    @pytest.mark.parametrize("kind", ["bytes", "path", "buffered file", "list of chunks"])
    def test_bytes_of_another_digest_leave_nothing(self, pool: Pool, tmp_path: Path, kind: str, size: int) -> None:
        content, wanted = content_of(size), Digest.of(b"something else")
        with pytest.raises(DigestMismatchError) as caught:
            pool.stage(_SOURCES[kind](content, tmp_path), digest=wanted)
        assert (caught.value.expected, caught.value.actual) == (wanted, Digest.of(content))
        assert pool.size(wanted) is None
        assert pool.size(Digest.of(content)) is None
        self.nothing_is_staged(pool)

    @pytest.mark.parametrize("size", [0, 10, 65536, 100_000, 5_000_000])
    @pytest.mark.parametrize("off_by", [-1, 1])
    @pytest.mark.parametrize("kind", ["bytes", "path", "buffered file", "list of chunks"])
    def test_another_number_of_bytes_leaves_nothing(
        self, pool: Pool, tmp_path: Path, kind: str, size: int, off_by: int
    ) -> None:
        content = content_of(size)
        with pytest.raises(SizeMismatchError) as caught:
            pool.stage(_SOURCES[kind](content, tmp_path), size=size + off_by)
        assert (caught.value.expected, caught.value.actual) == (size + off_by, size)
        self.nothing_is_staged(pool)

    @pytest.mark.parametrize("size", [0, 10, 65536, 100_000, (1 << 20) + (1 << 16), 5_000_000])
    @pytest.mark.parametrize("kind", ["bytes", "path", "buffered file", "list of chunks"])
    def test_the_right_size_and_digest_are_accepted(self, pool: Pool, tmp_path: Path, kind: str, size: int) -> None:
        content = content_of(size)
        staged = pool.stage(_SOURCES[kind](content, tmp_path), size=size, digest=Digest.of(content))
        assert staged.size == size

    def test_a_source_without_end_is_stopped_by_the_size(self, pool: Pool) -> None:
        chunks = iter(lambda: b"x" * 1000, None)
        with pytest.raises(SizeMismatchError):
            pool.stage(chunks, size=3_000_000)
        self.nothing_is_staged(pool)

    @pytest.mark.parametrize("size", [0, 10, 100_000, 20_000_000])
    def test_the_error_of_a_source_comes_through_and_leaves_nothing(self, pool: Pool, size: int) -> None:
        with pytest.raises(_SourceFailedError):
            pool.stage(_failing(content_of(size)))
        self.nothing_is_staged(pool)

    @pytest.mark.parametrize(
        "source",
        [None, 7, object(), ["text"], [None], [1, 2], (b"first", "second"), io.StringIO("text"), {"key": 1}],
        ids=lambda source: type(source).__name__,
    )
    def test_what_gives_no_bytes_is_a_type_error(self, pool: Pool, source: Source) -> None:
        with pytest.raises(TypeError):
            pool.stage(source)
        self.nothing_is_staged(pool)

    def test_an_unknown_algorithm_is_refused_before_anything_is_read(self, pool: Pool) -> None:
        source = iter([b"untouched"])
        with pytest.raises(InvalidDigestError):
            pool.stage(source, algorithm="md5")
        assert next(source) == b"untouched"
        self.nothing_is_staged(pool)

    def test_a_path_that_is_not_there_or_no_plain_file_is_an_os_error(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            pool.stage(tmp_path / "absent")
        with pytest.raises(IsADirectoryError):
            pool.stage(tmp_path)
        with pytest.raises(OSError, match="not a plain file"):
            pool.stage("/dev/null")
        self.nothing_is_staged(pool)

    # --- the life of a blob -------------------------------------------------------------------------------------------

    def test_nobody_sees_what_is_only_staged(self, pool: Pool) -> None:
        staged = pool.stage(b"hidden")
        assert pool.size(staged.digest) is None
        assert not pool.holds(staged)
        with pytest.raises(FileNotFoundError):
            pool.open(staged.digest, staged.size)

    def test_discarding_what_was_never_published_leaves_nothing(self, pool: Pool) -> None:
        staged = pool.stage(b"given up")
        pool.discard([staged])
        pool.discard([staged])
        assert pool.size(staged.digest) is None
        self.nothing_is_staged(pool)

    def test_publishing_again_changes_nothing(self, pool: Pool) -> None:
        staged = pool.stage(b"twice")
        pool.publish([staged])
        pool.publish([staged])
        assert pool.holds(staged)
        pool.discard([staged])
        pool.discard([staged])
        assert pool.size(staged.digest) == 5
        self.nothing_is_staged(pool)

    def test_publishing_nothing_is_allowed(self, pool: Pool) -> None:
        pool.publish([])
        pool.discard([])

    @pytest.mark.parametrize("count", [2, 12, 100])
    def test_many_are_published_at_once(self, pool: Pool, count: int) -> None:
        contents = [b"blob %d" % number for number in range(count)]
        staged = [pool.stage(content, algorithm=("sha256", "sha512")[i % 2]) for i, content in enumerate(contents)]
        pool.publish(staged)
        assert all(pool.holds(blob) for blob in staged)
        pool.discard(staged)
        for blob, content in zip(staged, contents, strict=True):
            with pool.open(blob.digest, blob.size) as reader:
                assert reader.read() == content
        self.nothing_is_staged(pool)

    def test_the_same_content_staged_twice_is_published_in_one_batch(self, pool: Pool) -> None:
        staged = [pool.stage(b"same"), pool.stage(b"same")]
        pool.publish(staged)
        assert all(pool.holds(blob) for blob in staged)
        pool.discard(staged)
        assert pool.size(staged[0].digest) == 4
        self.nothing_is_staged(pool)

    def test_two_publishers_of_one_content_both_hold_it(self, pool: Pool) -> None:
        first, second = pool.stage(b"shared"), pool.stage(b"shared")
        pool.publish([first])
        pool.publish([second])
        assert pool.holds(first)
        assert pool.holds(second)
        pool.discard([first])
        assert pool.holds(second)
        pool.discard([second])
        assert pool.size(first.digest) == 6
        self.nothing_is_staged(pool)

    def test_what_is_withdrawn_is_not_there_and_can_be_published_again(self, pool: Pool) -> None:
        staged = pool.stage(b"for nothing")
        pool.publish([staged])
        pool.withdraw(staged)
        pool.withdraw(staged)
        assert pool.size(staged.digest) is None
        assert not pool.holds(staged)
        pool.publish([staged])
        assert pool.holds(staged)
        pool.discard([staged])

    def test_withdrawing_leaves_the_bytes_of_another_publisher(self, pool: Pool) -> None:
        first, second = pool.stage(b"of two"), pool.stage(b"of two")
        pool.publish([first])
        pool.publish([second])
        pool.withdraw(first)
        assert pool.size(second.digest) == 6
        assert pool.holds(second)
        pool.discard([first, second])

    def test_a_name_that_was_taken_away_is_not_held_and_comes_back(self, pool: Pool) -> None:
        staged = pool.stage(b"raced")
        pool.publish([staged])
        pool.sweeper.trash(staged.digest)
        assert not pool.holds(staged)
        assert pool.size(staged.digest) is None
        pool.publish([staged])
        assert pool.holds(staged)
        pool.discard([staged])
        with pool.open(staged.digest, staged.size) as reader:
            assert reader.read() == b"raced"

    def test_what_is_published_replaces_what_was_damaged(self, pool: Pool) -> None:
        staged = pool.stage(b"whole")
        pool.publish([staged])
        pool.discard([staged])
        self.damage(pool, staged.digest, b"whale")
        again = pool.stage(b"whole")
        pool.publish([again])
        pool.discard([again])
        assert pool.read(staged.digest, 5) == b"whole"
        self.nothing_is_staged(pool)

    def test_what_is_staged_is_read(self, pool: Pool) -> None:
        content = content_of(200_000)
        staged = pool.stage(content)
        with pool.open_staged(staged) as reader:
            assert (reader.size, reader.read()) == (len(content), content)
        pool.discard([staged])
        with pytest.raises(StorageError):
            pool.open_staged(staged)

    def test_what_was_discarded_is_not_published(self, pool: Pool) -> None:
        staged = pool.stage(b"given up")
        pool.discard([staged])
        with pytest.raises(StorageError):
            pool.publish([staged])
        assert pool.size(staged.digest) is None

    def test_what_another_pool_staged_is_a_type_error(self, pool: Pool) -> None:
        class Foreign:
            digest, size = Digest.of(b"foreign"), 7

        for use in (pool.holds, pool.withdraw, pool.open_staged, lambda blob: pool.publish([blob])):
            with pytest.raises(TypeError):
                use(Foreign())

    def test_what_is_left_to_a_collection_is_listed_with_its_digest(self, pool: Pool) -> None:
        staged = pool.stage(b"uncertain")
        pool.publish([staged])
        pool.leave([staged])
        pool.discard([staged])
        (left,) = pool.sweeper.staged()
        assert left.may_be_published
        assert (left.size, pool.sweeper.published(left)) == (9, staged.digest)
        found = pool.sweeper.find(staged.digest)
        assert found is not None
        assert found.identity == left.identity
        assert pool.sweeper.delete_staged(left.name)
        assert pool.read(staged.digest, 9) == b"uncertain"
        self.nothing_is_staged(pool)

    def test_what_is_not_published_is_not_left(self, pool: Pool) -> None:
        staged, withdrawn = pool.stage(b"staged"), pool.stage(b"withdrawn")
        pool.publish([withdrawn])
        pool.withdraw(withdrawn)
        pool.leave([staged, withdrawn])
        pool.discard([staged, withdrawn])
        self.nothing_is_staged(pool)

    def test_a_reader_keeps_its_bytes_when_the_name_is_taken_away(self, pool: Pool) -> None:
        content = content_of(400_000)
        staged = pool.stage(content)
        pool.publish([staged])
        with pool.open(staged.digest, staged.size) as reader:
            pool.sweeper.trash(staged.digest)
            assert reader.read() == content

    # --- many at once -------------------------------------------------------------------------------------------------

    def test_threads_that_publish_the_same_content_all_hold_it(self, pool: Pool) -> None:
        threads = 8
        content = content_of(200_000)
        together = threading.Barrier(threads)

        def push(_: int) -> StagedBlob:
            staged = pool.stage(iter([content]))
            together.wait()
            pool.publish([staged])
            assert pool.holds(staged)
            return staged

        with ThreadPoolExecutor(threads) as executor:
            staged = list(executor.map(push, range(threads)))
        pool.discard(staged)
        with pool.open(staged[0].digest, staged[0].size) as reader:
            assert reader.read() == content
        self.nothing_is_staged(pool)

    def test_threads_that_publish_their_own_content_do_not_disturb_each_other(self, pool: Pool) -> None:
        def push(number: int) -> Iterable[StagedBlob]:
            staged = [pool.stage(b"thread %d blob %d" % (number, n), algorithm="sha512") for n in range(10)]
            pool.publish(staged)
            assert all(pool.holds(blob) for blob in staged)
            pool.discard(staged)
            return staged

        with ThreadPoolExecutor(8) as executor:
            everything = [blob for staged in executor.map(push, range(16)) for blob in staged]
        assert len({blob.digest for blob in everything}) == 160
        assert all(pool.size(blob.digest) == blob.size for blob in everything)
        self.nothing_is_staged(pool)
