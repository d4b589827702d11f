import errno
import io
import os
import resource
import signal
import stat
import textwrap
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from processes import PATIENCE, run_python
from state import descriptors
from zygote import zygote

from ocistore import Store, threads
from ocistore.blobs import output
from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.errors import CorruptError, ReadOnlyStoreError, SizeMismatchError, StorageError, StoreFullError
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


def push(pool, content, **options):
    staged = pool.stage(content, **options)
    pool.publish([staged])
    pool.discard([staged])
    return staged.digest


def created(pool):
    made = pool.uploads.create()
    pool.uploads.keep(made)
    return made.name


def staged_in(paths):
    return os.listdir(paths.uploads)


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_create_makes_private_directories_and_their_parents(tmp_path):
    paths = StorePaths(tmp_path / "deep" / "down" / "store")
    pool = FilePool(paths)
    pool.create()
    for directory in (paths.root, paths.blobs, paths.uploads, paths.trash, paths.quarantine):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert staged_in(paths) == []
    pool.close()


def test_create_keeps_what_is_there(pool):
    digest = push(pool, b"kept")
    pool.create()
    assert pool.size(digest) == 4


def test_create_is_safe_at_once(paths):
    def create(_):
        pool = FilePool(paths)
        pool.create()
        digest = push(pool, b"from everybody")
        pool.close()
        return digest

    with ThreadPoolExecutor(12) as executor:
        digests = set(executor.map(create, range(48)))
    assert len(digests) == 1
    assert staged_in(paths) == []


def test_create_refuses_a_file_in_place_of_a_directory(paths):
    paths.root.mkdir()
    paths.uploads.write_bytes(b"")
    with pytest.raises(CorruptError):
        FilePool(paths).create()


def test_the_root_may_be_a_symbolic_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    pool = FilePool(StorePaths(tmp_path / "link"))
    pool.create()
    digest = push(pool, b"content")
    assert (tmp_path / "real/blobs/sha256" / digest.encoded).read_bytes() == b"content"
    pool.close()


def test_the_pool_works_again_after_it_was_closed(pool):
    digest = push(pool, b"before")
    pool.close()
    assert pool.read(digest, 6) == b"before"


def test_close_gives_back_every_descriptor(paths):
    before = descriptors()
    pool = FilePool(paths)
    pool.create()
    push(pool, b"content")
    pool.stage(b"never discarded")
    pool.uploads.open(created(pool), "sha256").close()
    assert len(os.listdir("/proc/self/fd")) > len(before)
    pool.close()
    assert descriptors() == before


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o777])
def test_a_blob_is_read_only_whatever_the_umask(pool, paths, umask):
    previous = os.umask(umask)
    try:
        digest = push(pool, b"content")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(paths.blob(digest).stat().st_mode) == 0o444


def test_a_damaged_file_is_replaced(pool, paths):
    digest = push(pool, b"good")
    paths.blob(digest).unlink()
    paths.blob(digest).write_bytes(b"evil")
    assert push(pool, b"good") == digest
    assert paths.blob(digest).read_bytes() == b"good"
    assert paths.blob(digest).stat().st_nlink == 1
    assert staged_in(paths) == []


def test_a_symbolic_link_in_place_of_a_blob_is_not_followed_and_is_replaced(pool, paths, tmp_path):
    digest = push(pool, b"good")
    paths.blob(digest).unlink()
    (tmp_path / "outside").write_bytes(b"good")
    paths.blob(digest).symlink_to(tmp_path / "outside")
    assert pool.size(digest) is None
    for read in (pool.open, pool.read):
        with pytest.raises(CorruptError):
            read(digest, 4)
    push(pool, b"good")
    assert not paths.blob(digest).is_symlink()
    assert (tmp_path / "outside").stat().st_nlink == 1
    assert pool.read(digest, 4) == b"good"


def test_a_directory_in_place_of_a_blob_is_named_and_left_alone(pool, paths):
    digest = push(pool, b"good")
    paths.blob(digest).unlink()
    paths.blob(digest).mkdir()
    assert pool.size(digest) is None
    for read in (pool.open, pool.read):
        with pytest.raises(CorruptError):
            read(digest, 4)
    staged = pool.stage(b"good")
    with pytest.raises(CorruptError) as caught:
        pool.publish([staged])
    assert digest.encoded in caught.value.what
    assert not pool.holds(staged)
    pool.discard([staged])
    assert staged_in(paths) == []
    assert paths.blob(digest).is_dir()


def test_a_fifo_in_place_of_a_blob_blocks_nobody(pool, paths):
    digest = push(pool, b"good")
    paths.blob(digest).unlink()
    os.mkfifo(paths.blob(digest))
    for read in (pool.open, pool.read):
        with pytest.raises(CorruptError):
            read(digest, 4)
    push(pool, b"good")
    assert pool.read(digest, 4) == b"good"


def test_an_algorithm_directory_that_is_a_symbolic_link_is_refused(pool, paths, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    paths.algorithm("sha256").symlink_to(tmp_path / "elsewhere")
    staged = pool.stage(b"content")
    for use in (
        lambda: pool.publish([staged]),
        lambda: pool.holds(staged),
        lambda: pool.size(staged.digest),
        lambda: pool.open(staged.digest, staged.size),
        lambda: pool.read(staged.digest, 7),
    ):
        with pytest.raises(CorruptError):
            use()
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("size", [0, 6, 8, 1000])
def test_a_blob_of_another_size_is_not_read(pool, size):
    digest = push(pool, b"content")
    with pytest.raises(CorruptError):
        pool.read(digest, size)
    assert pool.read(digest, 7) == b"content"


def test_a_name_that_stands_for_another_size_is_not_held(pool, paths):
    staged = pool.stage(b"content")
    pool.publish([staged])
    paths.blob(staged.digest).unlink()
    paths.blob(staged.digest).write_bytes(b"short")
    assert not pool.holds(staged)


def test_a_reader_knows_its_size_and_has_a_file_number(pool):
    content = os.urandom(100_000)
    with pool.open(push(pool, content), len(content)) as reader:
        assert reader.size == 100_000
        assert os.pread(reader.fileno(), 10, 500) == content[500:510]
        assert not os.get_inheritable(reader.fileno())


def test_what_is_absent_is_not_found(pool):
    digest = Digest.of(b"absent")
    for read in (pool.open, pool.read):
        with pytest.raises(FileNotFoundError):
            read(digest, 6)
        push(pool, b"something, so that the directory is there")
        with pytest.raises(FileNotFoundError):
            read(digest, 6)


def test_a_path_may_be_a_symbolic_link(pool, tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert push(pool, tmp_path / "link") == Digest.of(b"content")


def test_a_fifo_as_a_path_is_refused_and_not_waited_for(pool, paths, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a plain file"):
        pool.stage(tmp_path / "fifo")
    assert staged_in(paths) == []


def test_a_source_that_changes_while_it_is_read_gives_what_its_digest_says(pool, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(32 << 20))
    stop = threading.Event()

    def scribble():
        with open(source, "r+b", buffering=0) as file:
            while not stop.is_set():
                file.seek(int.from_bytes(os.urandom(3), "big"))
                file.write(os.urandom(100))
                file.truncate((16 << 20) + int.from_bytes(os.urandom(3), "big"))

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        digest = push(pool, source)
    finally:
        stop.set()
        thread.join()
    with pool.open(digest, pool.size(digest)) as reader:
        assert Digest.of(reader.read()) == digest


@pytest.mark.parametrize("size", [10, 65535, 65536, 100_000, 3_000_000])
def test_no_more_than_one_byte_too_many_is_taken_from_a_file(pool, size):
    file = io.BytesIO(bytes(9_000_000))
    with pytest.raises(SizeMismatchError):
        pool.stage(file, size=size)
    assert file.tell() == size + 1


def test_a_file_that_lies_about_what_it_read_is_caught(pool, paths):
    class Liar(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            return len(buffer) + 1

    with pytest.raises(ValueError, match="readinto"):
        pool.stage(Liar())
    assert staged_in(paths) == []


def test_a_file_in_non_blocking_mode_without_data_is_an_error(pool, paths):
    read, write = os.pipe()
    os.set_blocking(read, False)
    with open(read, "rb", buffering=0) as file, pytest.raises(BlockingIOError):
        pool.stage(file)
    os.close(write)
    assert staged_in(paths) == []


def test_another_pools_staged_blob_is_refused(pool):
    with pytest.raises(TypeError):
        pool.publish([object()])


# --- read-only --------------------------------------------------------------------------------------------------------


def test_a_read_only_pool_reads_and_changes_nothing(pool, paths):
    digest = push(pool, b"content")
    name = created(pool)
    reading = FilePool(paths, read_only=True)
    assert reading.read(digest, 7) == b"content"
    for change in (
        reading.create,
        lambda: reading.stage(b"more"),
        lambda: reading.publish([]),
        reading.uploads.create,
        lambda: reading.uploads.open(name, "sha256"),
        lambda: reading.uploads.remove(name),
    ):
        with pytest.raises(ReadOnlyStoreError):
            change()
    assert staged_in(paths) == [name]
    reading.close()


# --- when the system refuses ------------------------------------------------------------------------------------------


def test_no_more_descriptors_is_a_storage_error_and_leaves_nothing(pool, paths):
    push(pool, b"so that every directory is open")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, descriptors())) + 9, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(StorageError) as caught:
            pool.stage(b"content")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert caught.value.errno == errno.EMFILE
    assert staged_in(paths) == []


def test_a_thousand_staged_blobs_do_not_need_a_thousand_descriptors(pool, paths):
    before = len(descriptors())
    staged = [pool.stage(b"%d" % number) for number in range(1000)]
    assert len(os.listdir("/proc/self/fd")) <= before + 100
    pool.publish(staged)
    assert len(os.listdir("/proc/self/fd")) <= before + 10
    assert all(pool.holds(blob) for blob in staged)
    pool.discard(staged)
    assert staged_in(paths) == []


def in_child(script, *arguments):
    """What the script printed in a process of its own, which says nothing else."""
    readable, writable = os.pipe()  # which takes what is written whatever the size is that a file may have
    with open(readable) as reader, open(os.devnull) as null:
        with open(writable, "w") as writer:
            process = zygote().run(
                textwrap.dedent(script),
                [str(each) for each in arguments],
                streams=(null.fileno(), writer.fileno(), writer.fileno()),
                environment=dict(os.environ),
            )
        try:
            printed = reader.read()
            assert process.wait(PATIENCE) == 0, printed
        finally:
            process.kill()
        return printed


@pytest.mark.parametrize("limit", [0, 1000, 3_000_000])
def test_a_write_that_is_refused_midway_leaves_nothing(paths, pool, limit):
    printed = in_child(
        """
        import os, pathlib, resource, signal, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        from ocistore.errors import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
        pool = FilePool(StorePaths(pathlib.Path(sys.argv[1])))
        for source in (b"x" * 900_000 + b"y" * int(sys.argv[2]), [b"x" * 4_000_000]):
            try:
                pool.stage(source)
            except StorageError as error:
                print(error.errno)
        """,
        paths.root,
        limit,
    )
    assert printed.split() == [str(errno.EFBIG)] * 2
    assert staged_in(paths) == []


def test_a_full_disk_is_its_own_error_and_leaves_nothing(small_disk):
    paths = StorePaths(small_disk.root / "store")
    pool = FilePool(paths)
    pool.create()
    for source in (b"x" * 10_000_000, iter([b"x" * 100_000] * 100)):
        with pytest.raises(StoreFullError):
            pool.stage(source)
    assert staged_in(paths) == []
    digest = push(pool, b"a small one still fits")
    assert pool.size(digest) == 22
    pool.close()


def test_a_chunk_that_finds_the_disk_full_is_not_part_of_the_upload(small_disk):
    pool = FilePool(StorePaths(small_disk.root / "store"))
    pool.create()
    with pool.uploads.open(created(pool), "sha256") as upload:
        assert upload.append(b"first") == 5
        with pytest.raises(StoreFullError):
            upload.append(b"x" * 10_000_000)
        assert upload.offset == pool.uploads.size(upload.name) == 5
        assert upload.append(b"second") == 11
        assert upload.digest("sha256") == Digest.of(b"firstsecond")
    pool.close()


def test_a_filesystem_mounted_read_only_is_a_read_only_store(small_disk):
    pool = FilePool(StorePaths(small_disk.root / "store"))
    pool.create()
    small_disk.remount_read_only()
    with pytest.raises(ReadOnlyStoreError):
        pool.stage(b"content")
    pool.close()


def test_an_interrupt_leaves_no_file_and_no_thread(pool, paths):
    def endless():
        last = time.monotonic() + 20
        while time.monotonic() < last:  # an interrupt that never comes is to fail the test, and not to fill the disk
            yield bytes(1 << 20)

    before = len(os.listdir("/proc/self/task"))
    main = threading.get_ident()
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        pool.stage(endless())
    assert staged_in(paths) == []
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/task")) <= before  # one of an earlier test may have ended meanwhile


def test_a_big_blob_takes_constant_memory(paths, pool):
    printed = in_child(
        """
        import pathlib, resource, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        pool = FilePool(StorePaths(pathlib.Path(sys.argv[1])))
        pool.publish([pool.stage(iter([b"warm up"]))])
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before = peak()
        pool.publish([pool.stage(bytes(300_000) for _ in range(128 * 1024 * 1024 // 300_000))])
        print(peak() - before)
        """,
        paths.root,
    )
    assert int(printed) <= 32


def test_a_hash_that_falls_behind_is_waited_for(paths, pool):
    printed = in_child(
        """
        import os, pathlib, resource, sys, time
        from ocistore.blobs.ingest import ingest
        from ocistore.blobs.output import Output
        from ocistore.blobs.sources import open_source

        class Slow:
            total = 0
            def update(self, data):
                time.sleep(0.005)
                self.total += len(data)
            def hexdigest(self):
                return ""

        root = pathlib.Path(sys.argv[1])
        path = root / "uploads" / "file"
        output = Output(os.open(path, os.O_WRONLY | os.O_CREAT), path=lambda: path, root=root)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        slow = Slow()
        with open_source(bytes(1 << 20) for _ in range(100)) as source:
            assert ingest(source, output, slow, size=None) == slow.total == 100 << 20
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
        """,
        paths.root,
    )
    assert int(printed) <= 32


# --- without a thread of its own --------------------------------------------------------------------------------------


def test_a_big_blob_is_stored_where_no_thread_can_be_had(pool, monkeypatch):
    calls = []

    def refused(*arguments):
        calls.append(arguments)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    content = os.urandom(9_000_000)
    staged = pool.stage(iter([content]))
    pool.publish([staged])
    assert (staged.digest, pool.read(staged.digest, staged.size)) == (Digest.of(content), content)
    assert len(calls) == 1
    pool.discard([staged])


def test_a_big_blob_is_hashed_in_order_by_a_thread_that_begins_late(pool, monkeypatch):
    start = threads.start_new_thread

    def late(function, arguments):
        return start(lambda: (time.sleep(0.02), function(*arguments)), ())

    monkeypatch.setattr(threads, "start_new_thread", late)
    content = os.urandom(20_000_000)
    staged = pool.stage(iter([content]))
    assert staged.digest == Digest.of(content)
    pool.discard([staged])


def test_a_big_blob_is_stored_while_the_interpreter_ends(paths):
    code = """
import atexit, os, pathlib, sys, threading
from ocistore import Store
from ocistore.blobs import ingest, output
from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
pool = FilePool(StorePaths(pathlib.Path(sys.argv[1])))
pool.create()
def put(fill):
    staged = pool.stage(fill * 9_000_000)
    pool.publish([staged])
    pool.discard([staged])
atexit.register(put, b"a")
threading.Thread(target=lambda: (threading.main_thread().join(), put(b"b"))).start()
"""
    assert run_python(code, paths.root) == ""
    assert len(os.listdir(paths.algorithm("sha256"))) == 2


# --- past the page cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "allowed", "expected"),
    [
        ("6.18.1", True, True),
        ("6.16.0", True, True),
        ("7.0-rc1", True, True),
        ("6.15.2", True, False),
        ("6.18.1", False, False),
        ("5.10", True, False),
        ("no number", True, False),
    ],
)
def test_big_blobs_are_written_past_the_cache_only_where_that_is_trusted(pool, monkeypatch, release, allowed, expected):
    flags = []

    def pwritev(descriptor, pieces, position, given=0):
        flags.append(given)
        return os.pwrite(descriptor, pieces[0], position)

    monkeypatch.setattr(os, "uname", lambda: types.SimpleNamespace(release=release))
    monkeypatch.setattr(os, "pwritev", pwritev)
    output.kernel_is_trusted.cache_clear()
    pool.past_cache = allowed
    content = os.urandom(3_000_000)
    staged = pool.stage(iter([content]))
    output.kernel_is_trusted.cache_clear()
    assert any(flags) == expected
    with pool.open_staged(staged) as reader:
        assert reader.read() == content
    pool.discard([staged])


def test_writing_past_the_cache_can_be_switched_off(tmp_path):
    with Store.open(tmp_path / "store") as store:
        assert store.past_page_cache
        store.past_page_cache = False
        assert not store._core.pool.past_cache
