"""What the operating system refuses is ours to say; what anybody else raises in the middle of it is theirs."""

import errno
import io
import os
import signal
import time

import pytest
from images import image, push
from instructions import PACKAGE, Interrupted, where_a_signal_comes
from state import descriptors

from ocistore import CorruptError, StorageError, Store
from ocistore.blobs import provider
from ocistore.blobs.filepool import FilePool
from ocistore.blobs.hashing import no_count
from ocistore.blobs.paths import StorePaths
from ocistore.oci.digest import Digest
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, theirs
from ocistore.upkeep import reading

THEIRS = [TimeoutError("too slow"), OSError(errno.EIO, "theirs"), FileNotFoundError(errno.ENOENT, "theirs"), OSError()]


@pytest.fixture
def pool(tmp_path):
    pool = FilePool(StorePaths(tmp_path / "store"))
    pool.create()
    yield pool
    pool.close()


class Handler:
    """Raises, however it is written down."""

    def __init__(self, error):
        self.error = error

    def method(self, number, frame):
        raise self.error

    def __call__(self, *given):
        raise self.error


def function(error):
    def handler(number, frame=None):
        deeper(number)

    def deeper(number):
        raise error

    return handler


HANDLERS = {"function": function, "method": lambda error: Handler(error).method, "object": Handler}


@pytest.fixture
def on_signal():
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("error", THEIRS, ids=repr)
@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.parametrize("block", [Translating("somewhere"), Ignoring()], ids=["translating", "ignoring"])
def test_what_a_signal_handler_raises_goes_through(on_signal, block, kind, error):
    on_signal(HANDLERS[kind](error))
    with pytest.raises(type(error)) as caught, block:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(1)
    assert caught.value is error


def test_what_the_operating_system_refuses_is_translated_also_in_a_signal_handler(on_signal, tmp_path):
    def handler(number, frame):
        with Translating(str(tmp_path)):
            os.mkdir(tmp_path)

    on_signal(handler)
    with pytest.raises(StorageError) as caught:
        signal.raise_signal(signal.SIGUSR1)
    assert caught.value.errno == errno.EEXIST


@pytest.mark.parametrize("error", THEIRS, ids=repr)
def test_what_a_source_raises_is_raised_unchanged(pool, error):
    def chunks():
        yield b"x" * 3_000_000
        raise error

    class File:
        def read(self, size):
            raise error

    for source in (chunks(), File()):
        with pytest.raises(type(error)) as caught:
            pool.stage(source)
        assert caught.value is error
    assert os.listdir(pool._paths.uploads) == []


@pytest.mark.parametrize("error", THEIRS, ids=repr)
@pytest.mark.parametrize("mode", ["auto", "copy", "link"])
def test_what_the_teller_of_an_adopted_file_raises_is_raised_unchanged(pool, tmp_path, mode, error):
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)

    def told(count):
        raise error

    with open(tmp_path / "file", "rb") as file, pytest.raises(type(error)) as caught, Translating("somewhere"):
        digest = Digest.of(b"x" * 3_000_000)
        pool.adopt(file.fileno(), digest=digest, size=3_000_000, mode=mode, progress=theirs(told))
    assert caught.value is error


@pytest.fixture
def filled(tmp_path):
    with Store.open(tmp_path / "filled") as store:
        push(store.repository("app"), image("one", layers=3), "v1")
        store.repository("app").put_blob(b"x" * 3_000_000)
        yield store


def _raising(error):
    def function(*_):
        raise error

    return function


class _Sink(io.RawIOBase):
    def __init__(self, error):
        self.write = _raising(error)

    def writable(self):
        return True


@pytest.mark.parametrize("error", [TimeoutError("too slow"), OSError(errno.ENOSPC, "theirs")], ids=repr)
@pytest.mark.parametrize(
    "use",
    [
        lambda store, to, error: store.export(to / "layout", progress=_raising(error)),
        lambda store, to, error: store.export(to / "layout", mode="link", progress=_raising(error)),
        lambda store, to, error: store.export(to / "layout.tar", progress=_raising(error)),
        lambda store, to, error: store.export(_Sink(error)),
        lambda store, to, error: store.backup(to / "backup", progress=_raising(error)),
        lambda store, to, error: store.scrub(level="deep", progress=_raising(error)),
        lambda store, to, error: store.import_(to / "there", "other", progress=_raising(error)),
        lambda store, to, error: store.import_(to / "there", "other", mode="copy", progress=_raising(error)),
        lambda store, to, error: store.import_(to / "there.tar", "other", progress=_raising(error)),
        lambda store, to, error: store.import_(type("", (), {"read": _raising(error)})(), "other"),
    ],
)
def test_what_the_caller_brings_raises_its_own_errors(filled, tmp_path, use, error):
    filled.export(tmp_path / "there")
    filled.export(tmp_path / "there.tar")
    with pytest.raises(type(error)) as caught:
        use(filled, tmp_path, error)
    assert caught.value is error
    assert os.listdir(filled.root / "uploads") == []


def _work(store):
    """One of everything, but for what waits."""
    repository = store.repository("app")
    digest = repository.put_blob(os.urandom(2_000_000)).digest
    with repository.open_blob(digest) as reader:
        reader.read()
    with store.transaction() as transaction:
        transaction.repository("app").put_blob(os.urandom(10))
        transaction.repository("app").put_blob(iter([b"a", os.urandom(100_000)]))
    with repository.start_upload() as upload:
        upload.write(os.urandom(1000))
        upload.commit(upload._file.digest("sha256"))
    with repository.start_upload() as upload:
        upload.write(b"for nothing")
        upload.cancel()


class _Interrupt(Exception):
    pass


def created(pool):
    made = pool.uploads.create()
    pool.uploads.keep(made)
    return made.name


def _pool_work(pool):
    staged = [pool.stage(b"one"), pool.stage(iter([b"two"]))]
    pool.publish(staged)
    assert pool.holds(staged[0])
    pool.discard(staged)
    with pool.open(Digest.of(b"one"), 3) as reader:
        reader.read()
    pool.read(Digest.of(b"one"), 3)
    name = created(pool)
    with pool.uploads.open(name, "sha256") as upload:
        upload.append(b"three")
        pool.discard([upload.stage(Digest.of(b"three"))])
    pool.close()


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_an_interrupt_anywhere_in_the_pool_leaks_no_descriptor_and_no_file(pool, step):
    _pool_work(pool)
    before = len(descriptors())
    wrong, interrupted = [], 0
    for place in range(1, 100_000, step):
        try:
            with Interrupted(place, where_a_signal_comes, error=_Interrupt, below=os.path.join(PACKAGE, "blobs")):
                _pool_work(pool)
        except _Interrupt:
            interrupted += 1
        else:
            break
        pool._staging.sweep()
        pool.close()
        left = len(os.listdir(pool._paths.uploads))
        opened = len(os.listdir("/proc/self/fd")) - before
        # A session that was made is there for whoever knows its name, and its file is the only thing that may be left.
        if opened or left > 1:
            wrong.append((place, opened, left))
        for name in os.listdir(pool._paths.uploads):
            pool.uploads.remove(name)
    assert wrong == []
    assert interrupted > 300 / step


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_signals_in_the_middle_of_everything_come_out_as_they_were_raised(tmp_path, step):
    class Late(TimeoutError):
        pass

    def handler(number, frame):
        raise Late(errno.ETIMEDOUT, "late")

    before = signal.signal(signal.SIGALRM, handler)
    late = 0
    with Store.open(tmp_path / "store") as store:
        _work(store)
        opened = len(descriptors())
        try:
            for number in range(0, 150, step):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + number * 0.00005)
                    _work(store)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Late:
                    late += 1
        finally:
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, 0)
        _work(store)
        assert len(descriptors()) <= opened + 2
    assert late > 40 / step


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("read", [lambda r: r.read(), lambda r: r.read(10), lambda r: r.readinto(bytearray(9))])
def test_what_cannot_be_read_now_is_no_damage(pool, verify, read):
    staged = pool.stage(b"some bytes")
    pool.publish([staged])
    with pool.open(staged.digest, staged.size, verify=verify) as reader:
        null = os.open("/proc/self/mem", os.O_RDONLY)  # reading its first bytes is an EIO
        os.dup2(null, reader.fileno())
        os.close(null)
        with pytest.raises(StorageError) as caught:
            read(reader)
    assert caught.value.errno == errno.EIO
    assert not isinstance(caught.value, CorruptError)
    pool.discard([staged])


def test_seeking_where_nothing_is_is_the_mistake_of_the_caller(pool):
    staged = pool.stage(b"some bytes")
    pool.publish([staged])
    with pool.open(staged.digest, staged.size) as reader:
        with pytest.raises((OSError, ValueError)):
            reader.seek(-1)
        assert reader.read() == b"some bytes"
    pool.discard([staged])


@pytest.mark.parametrize("times", [2, 3])
def test_what_cannot_be_read_is_read_again_by_another_descriptor(pool, monkeypatch, times):
    staged = pool.stage(b"some bytes")
    pool.publish([staged])
    hashed, tried = provider.digest_of, []

    def unreadable(descriptor, algorithm, *, progress, reading):
        tried.append(descriptor)
        if len(tried) <= times:
            descriptor = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            return hashed(descriptor, algorithm, progress=progress, reading=reading)
        finally:
            if len(tried) <= times:
                os.close(descriptor)

    monkeypatch.setattr(provider, "digest_of", unreadable)
    if times == 2:
        assert reading.hashed(pool, staged.digest, staged.size, progress=no_count) == (staged.digest, staged.size)
    else:
        with pytest.raises(reading.UnreadableError, match="Input/output error"):
            reading.hashed(pool, staged.digest, staged.size, progress=no_count)
    assert len(tried) == 3
    pool.discard([staged])


@pytest.mark.parametrize("name", ["catalog.db", "blobs"])
def test_a_directory_that_cannot_be_looked_at_now_is_no_damage(tmp_path, monkeypatch, name):
    root = tmp_path / "store"
    Store.open(root).close()
    looked = os.stat

    def stat(path, **options):
        if isinstance(path, str | os.PathLike) and os.fspath(path) == str(root / name):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return looked(path, **options)

    store = Store.open(root) if name == "catalog.db" else None
    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(StorageError) as caught:
        Store.open(root) if store is None else store.repository("app").put_blob(b"x")
    assert caught.value.errno == errno.EIO
    monkeypatch.undo()
    with store or Store.open(root) as again:
        again.repository("app").put_blob(b"x")
