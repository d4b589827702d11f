"""Fixtures that all tests share."""

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import traceback

import pytest
import zygote
from required import missing, require
from state import POOLS, catalog, strays

from ocistore import Store
from ocistore.blobs import ballast
from ocistore.testing.memory import MemoryPool

pytest_plugins = ["ocistore.testing.fixtures"]

MEMORY = "/dev/shm"
ROOM = 4 << 30
"""Bytes that the tests may take at once there: images of 200 MiB in several forms, for each worker."""


def _lie_in_memory():
    """Let what the tests write lie in memory where there is room for it, unless a place is named.

    Two thirds of the time would go by in waiting for a disk, although nothing is cut off from its power: that has
    filesystems of its own (tests/proof). ``TMPDIR=/var/tmp`` has everything on a disk.
    """
    if "TMPDIR" in os.environ or not os.path.isdir(MEMORY):
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def pytest_configure():
    _lie_in_memory()
    gc.disable()  # until all tests are found, of which none goes away again
    # A shell ignores it for what it starts with &, and Python and every child take that over.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers():
    """Start more workers than there are cores: they wait a fifth of the time, for locks and for other processes."""
    cores = len(os.sched_getaffinity(0))
    return cores + (cores + 1) // 2


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Let each worker begin with other files, so that not all of them compile each file, at the same time."""
    report = yield
    options = getattr(collector.config, "workerinput", None)
    if options is not None and isinstance(collector, pytest.Dir):
        # Two from both ends, two from the middle, and so on.
        number, workers = int(options["workerid"].removeprefix("gw")), options["workercount"]
        first = len(report.result) * (number // 2) // ((workers + 1) // 2)
        found = [*report.result[first:], *report.result[:first]]
        report.result = found[::-1] if number % 2 else found
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Put the tests into the one order that all workers have to agree on."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.parts)


def pytest_collection_finish():
    """Leave the tests themselves out of every garbage collection from now on: that is a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    zygote.close()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    """End a forked child that comes back out of its test.

    It would go on as a second worker, with whatever that test made wrong in it, and who waits for it waits for ever.
    """
    mine = os.getpid()
    try:
        return (yield)
    finally:
        if os.getpid() != mine:
            with contextlib.suppress(BaseException):
                traceback.print_exc()
            os._exit(1)


def pytest_runtest_teardown(item):
    """Let errors that are parameters go: they keep what they were raised through, and the descriptors that it has."""
    for value in item.callspec.params.values() if hasattr(item, "callspec") else ():
        if isinstance(value, BaseException):
            value.__traceback__ = value.__context__ = None


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """The directory of a closed store that nothing was ever put into. Copying it costs a third of making one."""
    root = tmp_path_factory.mktemp("empty") / "store"
    Store.open(root).close()
    (root / "reserved").unlink()  # 8 MiB that every copy would have to copy; opening one makes it again
    return root


def pytest_generate_tests(metafunc):
    """Run the tests of a module that says so with each pool; but for those of its tests that need files."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "every_pool" in marks and "needs_files" not in marks and "pool_kind" in metafunc.fixturenames:
        metafunc.parametrize("pool_kind", ["files", "memory"], indirect=True)


@pytest.fixture
def pool_kind(request):
    """Where the blobs of ``store`` are."""
    return getattr(request, "param", "files")


@pytest.fixture(scope="session")
def empty_store_in_memory(tmp_path_factory):
    """Likewise, of a store whose blobs are in memory."""
    root = tmp_path_factory.mktemp("empty") / "store"
    Store.open(root, pool=MemoryPool()).close()
    return root


@pytest.fixture
def store_root(pool_kind, tmp_path, request):
    """The directory of an empty store; whoever opens that directory gets the store's own pool."""
    root = tmp_path / "store"
    if pool_kind == "memory":
        shutil.copytree(request.getfixturevalue("empty_store_in_memory"), root)
        pool = MemoryPool()
        (root / "pool").write_text(pool.identity)
        opened = Store.open
        with pytest.MonkeyPatch.context() as patched:  # of its own: a test may undo what it patched itself
            patched.setitem(POOLS, root, pool)
            patched.setattr(Store, "open", lambda root, **options: opened(root, pool=POOLS.get(root), **options))
            yield root
        return
    shutil.copytree(request.getfixturevalue("empty_store"), root)
    # Its ballast has the size that it should have, and reserves nothing: no disk gets full under it.
    with open(root / "reserved", "wb") as file:
        file.write(b"%20d" % ballast.SIZE)
        file.truncate(ballast.SIZE)
    yield root


@pytest.fixture
def store(store_root):
    """An open store. Whatever a test does, it must leave no broken reference and nothing staged."""
    root = store_root
    with Store.open(root) as opened:
        yield opened
    with catalog(root) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        assert strays(root, connection) == []


@pytest.fixture
def repository(store):
    return store.repository("library/app")


@pytest.fixture
def command():
    """How the command line is started as a process of its own."""
    return [sys.executable, "-W", "error", "-m", "ocistore"]


class SmallDisk:
    """A filesystem that is quickly full."""

    def __init__(self, root):
        self.root = root

    @contextlib.contextmanager
    def full(self, filler="filler", *, leaving=0):
        """Not a byte is free inside the block as it begins, or only so many."""
        filler = self.root / filler
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(filler, filler.stat().st_size - leaving)
        try:
            yield
        finally:
            filler.unlink()

    def remount_read_only(self):
        subprocess.run(["mount", "-o", "remount,ro", self.root], check=True)


@pytest.fixture
def small_disk(tmp_path, request):
    """A filesystem of 8 MiB, or so many as the test is given."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if os.geteuid() != 0:
        missing("mounting a small filesystem needs root")
    size = getattr(request, "param", 8)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", directory]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        missing(f"a small filesystem cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(directory)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def reflinking(tmp_path):
    """An XFS on a loop device, whose files can share bytes; yields its directory."""
    if os.geteuid() != 0:
        missing("mounting a filesystem needs root")
    require("mkfs.xfs", "mount", install="apt-get install xfsprogs mount")
    disk, directory = tmp_path / "disk", tmp_path / "xfs"
    directory.mkdir()
    with disk.open("wb") as file:
        file.truncate(320 << 20)  # the least that mkfs.xfs takes is 300 MiB; almost all of it stays a hole
    for command in (["mkfs.xfs", "-q", "-m", "reflink=1", disk], ["mount", "-o", "loop", disk, directory]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            missing(f"{command[0]} failed here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
