import contextlib
import copy
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from images import image, push
from invariants import check
from processes import python, run_python, run_to_end
from required import missing
from state import descriptors, files, rows, unchanged

import ocistore
from ocistore import (
    BlobNotFoundError,
    CorruptError,
    Digest,
    InvalidNameError,
    ReadOnlyStoreError,
    StorageError,
    Store,
    StoreBusyError,
    StoreClosedError,
    StoreNotFoundError,
    UnsupportedFilesystemError,
    opening,
    rebuild,
)
from ocistore.blobs import supportedfilesystems

TREE = {"blobs", "catalog.db", "quarantine", "reserved", "trash", "uploads", "write.lock"}
HELLO = b"hello"


@pytest.fixture
def root(tmp_path, empty_store):
    """The directory of a closed store with one image and one loose blob in it."""
    root = shutil.copytree(empty_store, tmp_path / "store")
    with Store.open(root) as store:
        push(store.repository("app"), image(), "v1")
        store.repository("app").put_blob(HELLO)
    return root


def reads(store):
    """Whether what the fixture put in can be read."""
    repository = store.repository("app")
    assert repository.get_manifest("v1").content == image().manifest
    with repository.open_blob(ocistore.Digest.of(HELLO)) as reader:
        assert reader.read() == HELLO
    return True


def privileged(*command):
    """Run a command that only root can, or skip the test where there is no root."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        missing(f"{command[0]} does not work here: {done.stderr.strip()}")


# --- where there is nothing yet ---------------------------------------------------------------------------------------


def test_a_store_is_made_with_everything_it_needs_and_nothing_else(tmp_path):
    with Store.open(tmp_path / "store") as store:
        assert store.root == tmp_path / "store"
        assert list(store.repositories()) == []
    assert set(os.listdir(tmp_path / "store")) == TREE
    assert check(store) == []


def test_missing_parents_are_made(tmp_path):
    with Store.open(tmp_path / "a" / "b" / "c") as store:
        store.repository("app").put_blob(HELLO)
    assert check(tmp_path / "a" / "b" / "c") == []


def test_an_empty_directory_becomes_a_store(tmp_path):
    Store.open(tmp_path).close()
    assert set(os.listdir(tmp_path)) == TREE


def test_only_the_owner_can_look_into_a_new_store(tmp_path):
    previous = os.umask(0)
    try:
        with Store.open(tmp_path / "store") as store:
            start = store.repository("app").start_upload()
            start.close()
    finally:
        os.umask(previous)
    for name, (mode, _) in files(tmp_path / "store").items():
        assert mode & 0o077 == 0, name
    assert (tmp_path / "store" / "catalog.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("present", [None, [], ["write.lock", "uploads"], ["catalog.db"]])
@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}, {"create": False, "read_only": True}])
def test_nothing_is_made_where_nothing_may_be_made(tmp_path, present, options):
    root = tmp_path / "store"
    if present is not None:
        root.mkdir()
        for name in present:
            (root / name).touch()
    before = files(tmp_path)
    with pytest.raises(StoreNotFoundError) as caught:
        Store.open(root, **options)
    assert caught.value.root == root
    assert files(tmp_path) == before


@pytest.mark.parametrize("present", [["write.lock"], ["write.lock", "uploads", "trash"], ["catalog.db", "write.lock"]])
def test_what_an_interrupted_creation_left_becomes_a_store(tmp_path, present):
    for name in present:
        if name in {"uploads", "trash"}:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).touch()
    with Store.open(tmp_path) as store:
        push(store.repository("app"), image(), "v1")
    assert check(tmp_path) == []


# --- where there is something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda root: root.write_bytes(b"mine"), "it is a file"),
        (os.mkfifo, "it is a file"),
        (lambda root: root.symlink_to("/dev/null"), "it is a file"),
        (lambda root: (root.mkdir(), (root / "letter.txt").touch()), "not empty"),
        (lambda root: (root.mkdir(), (root / "write.lock").touch(), (root / "x").touch()), "not empty"),
        (lambda root: (root.mkdir(), (root / "oci-layout").touch(), (root / "index.json").touch()), "an OCI layout"),
    ],
)
def test_what_is_no_store_is_left_alone(tmp_path, make, reason, read_only):
    root = tmp_path / "store"
    make(root)
    before = files(tmp_path)
    with pytest.raises(StoreNotFoundError, match=reason) as caught:
        Store.open(root, read_only=read_only)
    assert caught.value.root == root
    assert files(tmp_path) == before


def test_a_root_below_a_file_is_no_store(tmp_path):
    (tmp_path / "file").touch()
    for read_only in (False, True):
        with pytest.raises(StoreNotFoundError, match="its parent is a file"):
            Store.open(tmp_path / "file" / "store", read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_catalog_that_is_no_plain_file_is_not_followed(tmp_path, root, read_only):
    os.rename(root / "catalog.db", tmp_path / "elsewhere")
    (root / "catalog.db").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(CorruptError, match="not a plain file"):
        Store.open(root, read_only=read_only)
    assert (tmp_path / "elsewhere").read_bytes() == before


@pytest.mark.parametrize("name", ["blobs", "uploads"])
def test_a_directory_of_the_store_that_is_a_link_is_not_followed(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "store"
    root.mkdir()
    (root / "write.lock").touch()
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptError, match=name), Store.open(root) as store:
        store.repository("app").put_blob(HELLO)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_name_too_long_for_the_filesystem_is_the_systems_error(tmp_path):
    with pytest.raises(StorageError) as caught:
        Store.open(tmp_path / ("x" * 300))
    assert caught.value.errno == 36


@pytest.mark.parametrize("below", ["", "not/there/yet"])
def test_a_network_filesystem_is_refused_before_anything_is_made(small_disk, monkeypatch, below):
    tmpfs = 0x01021994  # which is at hand
    monkeypatch.setitem(supportedfilesystems._NETWORK_FILESYSTEMS, tmpfs, "a test's idea of one")
    with pytest.raises(UnsupportedFilesystemError, match="a test's idea of one") as caught:
        Store.open(small_disk.root / below)
    assert (caught.value.root, caught.value.filesystem) == (small_disk.root / below, "a test's idea of one")
    assert os.listdir(small_disk.root) == []


# --- names of the directory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["with space", "a?mode=memory", "100%", "a%20b", "#1", "a;b&c", "naïve-Größe-店", "quote'\"", ":memory:", "~"],
)
def test_any_directory_can_hold_a_store(tmp_path, name):
    with Store.open(tmp_path / name) as store:
        push(store.repository("app"), image(), "v1")
    with Store.open(tmp_path / name, read_only=True) as store:
        assert store.repository("app").get_manifest("v1").content == image().manifest
    assert os.listdir(tmp_path) == [name]
    assert check(tmp_path / name) == []


def test_a_directory_whose_name_is_no_text_can_hold_a_store(tmp_path):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    with Store.open(root) as store:
        store.repository("app").put_blob(HELLO)
    assert check(root) == []


def test_a_directory_with_a_catalog_is_a_store(tmp_path, root):
    with unchanged(root):
        assert ocistore.is_store(root)
        assert ocistore.is_store(str(root))
    (tmp_path / "file").touch()
    assert not any(map(ocistore.is_store, (tmp_path, tmp_path / "file", tmp_path / "nothing")))
    (root / "catalog.db").write_bytes(b"damaged")
    assert ocistore.is_store(root)


def test_a_directory_that_cannot_be_looked_into_is_neither_a_store_nor_none(tmp_path):
    with pytest.raises(StorageError):
        ocistore.is_store(tmp_path / ("x" * 300))
    with pytest.raises(InvalidNameError, match="it is empty"):
        ocistore.is_store("")


def test_a_relative_root_is_where_it_was_when_the_store_was_opened(tmp_path, root, monkeypatch):
    monkeypatch.chdir(root.parent)
    with Store.open(root.name) as store:
        monkeypatch.chdir("/")
        assert reads(store)
        threads = [threading.Thread(target=store.repository("app").put_blob, args=(b"%d" % n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        push(store.repository("new"), image(), "v1")
    assert store.root == root
    assert list(tmp_path.iterdir()) == [root]
    assert check(root) == []


def test_a_link_to_the_directory_is_as_good_as_the_directory(tmp_path, root):
    (tmp_path / "link").symlink_to(root)
    with Store.open(tmp_path / "link") as store, Store.open(root) as same:
        store.repository("app").tag("v2", same.repository("app").resolve("v1").digest)
        assert same.repository("app").resolve("v2") == store.repository("app").resolve("v1")


# --- many at once -----------------------------------------------------------------------------------------------------

OPENERS = """
import os, sys, time, traceback
from ocistore import Store
rounds, count = int(sys.argv[2]), int(sys.argv[3])
for turn in range(rounds):
    start = time.monotonic() + 0.1
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                while time.monotonic() < start:
                    time.sleep(0.0005)
                with Store.open(f"{sys.argv[1]}/{turn}") as store:
                    store.repository(f"app{number}").put_blob(b"%d" % number)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert codes == [0] * count, codes
"""


@pytest.mark.parametrize("rounds", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_processes_that_open_one_new_directory_at_once_all_succeed(tmp_path, rounds):
    run_python(OPENERS, tmp_path, rounds, 16)
    for turn in range(rounds):
        with Store.open(tmp_path / str(turn), create=False) as store:
            assert list(store.repositories()) == sorted(f"app{number}" for number in range(16))
        assert check(store) == []


@pytest.mark.parametrize("below", ["", "not/there/yet"])
def test_threads_that_open_one_new_directory_at_once_all_succeed(tmp_path, below):
    barrier = threading.Barrier(16)
    errors = []

    def work(number):
        barrier.wait()
        try:
            with Store.open(tmp_path / below) as store:
                store.repository(f"app{number}").put_blob(b"%d" % number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(rows(tmp_path / below)["repositories"]) == 16
    assert check(tmp_path / below) == []


# --- read-only --------------------------------------------------------------------------------------------------------


def test_read_only_nothing_can_be_changed(root):
    before = rows(root), files(root)
    digest = image().digest
    with Store.open(root, read_only=True) as store:
        assert store.read_only
        assert reads(store)
        repository = store.repository("app")
        calls = [
            lambda: repository.put_blob(b"new"),
            lambda: repository.mount_blob(ocistore.Digest.of(HELLO), "app"),
            lambda: repository.delete_blob(ocistore.Digest.of(HELLO)),
            lambda: repository.put_manifest(image().manifest, tags=["v2"]),
            lambda: repository.delete_manifest(digest),
            lambda: repository.tag("v2", digest),
            lambda: repository.untag("v1"),
            repository.start_upload,
            lambda: repository.upload("0" * 32),
            lambda: store.delete_repository("app"),
            store.transaction,
            store.export_in_place,
        ]
        for call in calls:
            with pytest.raises(ReadOnlyStoreError) as caught:
                call()
            assert caught.value.root == root
    assert (rows(root), files(root)) == before


def test_read_only_beside_a_writer_sees_what_is_committed(root):
    with Store.open(root) as writer, Store.open(root, read_only=True) as reader:
        assert reads(reader)
        push(writer.repository("app"), image("second"), "v2")
        assert reader.repository("app").get_manifest("v2").content == image("second").manifest
        with writer.transaction() as transaction:
            push(transaction.repository("more"), image("third"), "v3")
            assert list(reader.repositories()) == ["app"]
        assert list(reader.repositories()) == ["app", "more"]
        writer.close()
        assert reads(reader)


def test_a_writer_can_come_after_a_reader(root):
    with Store.open(root, read_only=True) as reader:
        assert reads(reader)
        with Store.open(root) as writer:
            push(writer.repository("app"), image("second"), "v2")
        assert list(reader.repository("app").tags()) == ["v1", "v2"]


def test_read_only_media_can_be_read_and_nothing_else(small_disk, root):
    copy = shutil.copytree(root, small_disk.root / "store", ignore=shutil.ignore_patterns("reserved"))
    small_disk.remount_read_only()
    with Store.open(copy, read_only=True) as store:
        assert reads(store)
        assert store.usage().tags == 1
        assert store.repository("app").stat_blob(ocistore.Digest.of(HELLO)).size == len(HELLO)
    with pytest.raises(ReadOnlyStoreError, match="may not be written; open it read-only") as caught:
        Store.open(copy)
    assert caught.value.root == copy
    with pytest.raises(ReadOnlyStoreError):
        Store.open(small_disk.root / "new")
    assert set(os.listdir(copy)) == TREE - {"reserved"}


def test_read_only_media_made_while_a_store_was_open_lose_nothing(small_disk, root):
    """What was committed last is in the WAL, which was never moved into the database."""
    code = """
import sys
from ocistore import Store
store = Store.open(sys.argv[1])
store.repository("app").tag("v2", store.repository("app").resolve("v1").digest)
print("tagged")
sys.stdin.readline()
"""
    copy = shutil.copytree(root, small_disk.root / "store", ignore=shutil.ignore_patterns("reserved"))
    with python(code, copy) as child:
        assert child.says() == "tagged"
        child.kill()
    small_disk.remount_read_only()
    with Store.open(copy, read_only=True) as store:
        assert list(store.repository("app").tags()) == ["v1", "v2"]


def test_read_only_media_whose_wal_cannot_be_read_are_refused_and_not_read_without_it(small_disk, root):
    copy = shutil.copytree(root, small_disk.root / "store", ignore=shutil.ignore_patterns("reserved"))
    with Store.open(copy) as store:
        store.repository("app").untag("v1")
        wal = (copy / "catalog.db-wal").read_bytes()
    shutil.copyfile(root / "catalog.db", copy / "catalog.db")
    (copy / "catalog.db-wal").write_bytes(wal)
    small_disk.remount_read_only()
    with contextlib.suppress(ReadOnlyStoreError, StorageError), Store.open(copy, read_only=True) as store:
        assert list(store.repository("app").tags()) == []


AS_NOBODY = """
import os, sys
import ocistore
from ocistore import OCIStoreError, Store
os.setgid(65534)
os.setuid(65534)
try:
    with Store.open(sys.argv[1], read_only=sys.argv[2] == "read") as store:
        print(list(store.repository("app").tags()), flush=True)
        store.repository("app").put_blob(b"new")
except OCIStoreError as error:
    print(type(error).__name__)
"""


def test_who_may_not_write_may_read_while_another_has_it_open(root):
    privileged("setpriv", "--reuid", "65534", "true")
    # Not where pytest keeps things: that is for its owner only, and is made so again by each pytest that starts.
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        shared = shutil.copytree(root, Path(top) / "store")
        with Store.open(shared) as store:
            push(store.repository("app"), image("second"), "v2")
            subprocess.run(["chmod", "-R", "a+rX", shared], check=True)
            assert run_python(AS_NOBODY, shared, "read").splitlines() == ["['v1', 'v2']", "ReadOnlyStoreError"]
            assert run_python(AS_NOBODY, shared, "write").splitlines() == ["ReadOnlyStoreError"]
        assert run_python(AS_NOBODY, shared, "write").splitlines() == ["ReadOnlyStoreError"]
        assert check(shared, hashes=True) == []


# --- closing ----------------------------------------------------------------------------------------------------------


def test_closing_twice_is_closing_once(root):
    store = Store.open(root)
    store.close()
    store.close()
    with Store.open(root) as store:
        store.close()
    assert "(closed)" in repr(store)


def test_a_closed_store_can_do_nothing(root):
    store = Store.open(root)
    repository = store.repository("app")
    upload = repository.start_upload()
    transaction = store.transaction()
    digest = image().digest
    store.close()
    calls = [
        lambda: list(store.repositories()),
        lambda: store.delete_repository("app"),
        store.usage,
        store.transaction,
        lambda: store.export(root.parent / "layout"),
        store.export_in_place,
        lambda: transaction.repository("app").put_blob(b"x"),
        lambda: repository.put_blob(b"x"),
        lambda: repository.open_blob(ocistore.Digest.of(HELLO)),
        lambda: repository.stat_blob(ocistore.Digest.of(HELLO)),
        lambda: repository.mount_blob(ocistore.Digest.of(HELLO), "app"),
        lambda: repository.delete_blob(ocistore.Digest.of(HELLO)),
        repository.start_upload,
        lambda: repository.upload(upload.id),
        lambda: list(repository.uploads()),
        lambda: upload.commit(ocistore.Digest.of(b"")),
        lambda: repository.put_manifest(image().manifest),
        lambda: repository.get_manifest("v1"),
        lambda: repository.resolve("v1"),
        lambda: repository.delete_manifest(digest),
        lambda: list(repository.manifests()),
        lambda: repository.referrers(digest),
        lambda: repository.tag("v1", digest),
        lambda: repository.untag("v1"),
        lambda: list(repository.tags()),
        lambda: list(repository.history()),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(StoreClosedError):
            call()
            pytest.fail(f"call {number} was answered")
    assert not (root / "catalog.db-wal").exists()


def test_a_store_of_one_directory_can_be_opened_many_times_in_one_process(root):
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(Store.open(root)) for _ in range(10)]
        for number, store in enumerate(stores):
            store.repository("app").tag(f"t{number}", image().digest)
        for store in stores:
            assert len(list(store.repository("app").tags())) == 11
            store.close()
    assert not (root / "catalog.db-wal").exists()


def test_opening_and_closing_leaks_no_descriptors(root):
    Store.open(root).close()
    before = descriptors()
    for _ in range(3):
        with Store.open(root) as store:
            assert reads(store)
            store.repository("app").put_blob(b"more")
            with pytest.raises(BlobNotFoundError):
                store.repository("app").stat_blob(ocistore.Digest.of(b"none"))
        with Store.open(root, read_only=True) as store:
            assert reads(store)
    for name in ("nowhere", "file"):
        (root.parent / "file").touch()
        with pytest.raises(StoreNotFoundError):
            Store.open(root.parent / name, create=False)
    assert descriptors() == before


UNCLOSED = """
import sys
from ocistore import Store
store = Store.open(sys.argv[1])
store.repository("app").put_blob(b"new")
store.repository("app").untag("v1")
reader = Store.open(sys.argv[1], read_only=True)
assert list(reader.repository("app").tags()) == []
"""


@pytest.mark.parametrize("end", ["", "del store", "sys.exit()", "raise SystemExit"])
def test_a_store_that_was_not_closed_is_closed_at_exit(root, end):
    if end:
        done = run_to_end(UNCLOSED + end, root)
    else:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", UNCLOSED, root],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if end != "del store":  # then a reader was last, which cannot move the WAL into the database
        assert not (root / "catalog.db-wal").exists()
    with Store.open(root) as store:
        assert list(store.repository("app").tags()) == []
    assert check(root, hashes=True) == []


def test_a_store_killed_while_open_is_whole_when_it_is_opened_again(root):
    with python(UNCLOSED + "print('ready'); sys.stdin.readline()", root) as child:
        assert child.says() == "ready"
        child.kill()
    assert (root / "catalog.db-wal").stat().st_size > 0
    with Store.open(root) as store:
        assert list(store.repository("app").tags()) == []
        assert store.repository("app").stat_blob(ocistore.Digest.of(b"new")).size == 3
    assert check(root, hashes=True) == []


def test_opening_costs_the_same_however_much_the_store_holds(root):
    """Counted in steps of SQLite's virtual machine, which no other work on the machine disturbs."""

    def steps():
        counted = 0

        def count():
            nonlocal counted
            counted += 1

        connect = sqlite3.connect

        def counting(*args, **options):
            connection = connect(*args, **options)
            connection.set_progress_handler(count, 1)
            return connection

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", counting)
            Store.open(root).close()
        return counted

    few = steps()
    with Store.open(root) as store, store.transaction() as transaction:
        for number in range(500):
            push(transaction.repository(f"r{number % 50}"), image(number, layers=0), f"t{number}")
    assert 0 < steps() <= few


# --- what a copy lost -------------------------------------------------------------------------------------------------


def test_who_only_reads_does_without_the_empty_directories_that_a_copy_left_out(tmp_path, root):
    copied = shutil.copytree(root, tmp_path / "copied")
    for name in ("uploads", "trash", "quarantine"):
        (copied / name).rmdir()
    with Store.open(copied, read_only=True) as store:
        assert (store.gc(dry_run=True).blobs, store.gc(dry_run=True).abandoned) == (0, 0)
        assert store.scrub(repair=False, level="deep").damages == []
        assert store.export(tmp_path / "exported").manifests == 1
    assert not (copied / "uploads").exists()


@pytest.mark.parametrize("lost", [["trash"], ["uploads", "trash", "quarantine"], ["blobs", "uploads"]])
def test_empty_directories_that_a_copy_left_out_are_made_again(tmp_path, empty_store, lost):
    root = shutil.copytree(empty_store, tmp_path / "store")
    for name in lost:
        (root / name).rmdir()
    before = files(root)
    with Store.open(root, read_only=True) as store:
        assert list(store.repositories()) == []
    assert files(root) == before
    with Store.open(root) as store:
        push(store.repository("app"), image(), "v1")
        store.repository("app").start_upload().cancel()
        store.repository("app").untag("v1")
        store.gc(grace=timedelta(0), keep_untagged=timedelta(0))
        store.scrub()
    assert check(root, hashes=True) == []


# --- paths that are no use --------------------------------------------------------------------------------------------


def of_length(top, length):
    """A path of so many bytes below another one."""
    path = str(top)
    while len(path) < length - 101:
        path += "/" + "d" * 100
    return Path(path + "/" + "d" * (length - len(path) - 1))


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("", "it is empty"),
        (Path("a\0b"), "NUL"),
        ("a\ud800b", "cannot be written in"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        Store.open,
        lambda root: Store.open(root, read_only=True),
        rebuild,
    ],
)
def test_a_path_that_no_directory_can_have_is_one_sentence(tmp_path, monkeypatch, root, reason, use):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidNameError, match=reason) as caught:
        use(root)
    assert caught.value.kind == "path of a store"
    assert os.listdir(tmp_path) == []


def test_the_longest_path_that_sqlite_takes_holds_a_store_and_a_longer_one_is_refused(tmp_path):
    root = of_length(tmp_path, 493)
    with Store.open(root) as store:
        push(store.repository("app"), image(), "v1")
    assert check(root) == []
    with pytest.raises(StorageError, match="494 bytes are more than the 493") as caught:
        Store.open(of_length(tmp_path, 494))
    assert caught.value.errno == 36
    assert not of_length(tmp_path, 494).exists()


def test_a_backup_is_refused_where_its_catalog_would_have_too_long_a_name(tmp_path, store):
    store.backup(of_length(tmp_path, 482))
    for length in (483, 493, 600):
        with pytest.raises(StorageError, match="482"):
            store.backup(of_length(tmp_path, length))
        assert not of_length(tmp_path, length).exists()


def test_a_link_to_too_long_a_path_is_refused(tmp_path):
    os.makedirs(of_length(tmp_path, 520))
    (tmp_path / "short").symlink_to(of_length(tmp_path, 520))
    with pytest.raises(StorageError, match="520 bytes are more"):
        Store.open(tmp_path / "short")


def test_a_relative_path_below_a_directory_that_is_gone_is_refused(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StorageError, match="working directory"):
        Store.open("store")


def test_links_in_a_ring_are_the_systems_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StorageError):
        Store.open(tmp_path / "a")


def test_the_root_of_a_volume_can_be_a_store_and_a_backup(tmp_path, store):
    store.repository("app").put_blob(HELLO)
    for name in ("volume", "other"):
        (tmp_path / name / "lost+found").mkdir(parents=True)
    with Store.open(tmp_path / "volume") as own:
        own.repository("app").put_blob(HELLO)
    store.backup(tmp_path / "other")
    store.backup(tmp_path / "other")
    with Store.open(tmp_path / "other", read_only=True) as backup:
        assert list(backup.repositories()) == ["app"]
    assert {"lost+found", "catalog.db"} <= set(os.listdir(tmp_path / "volume"))


ONE_AFTER_THE_OTHER = """
import sys
from ocistore.cli import main
root, *commands = sys.argv[1:]
for command in commands:
    sys.argv = ["ocistore", "--store", root, *command.split()]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


def test_names_that_are_not_ascii_work_where_the_locale_is(tmp_path):
    """As in cron, in containers and under ``env -i``, before Python helps itself with UTF-8."""
    root = tmp_path / "naïve-店"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, **ascii_only, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    (tmp_path / "plain.txt").write_text("x")

    commands = ("init", "push app:v1 plain.txt", "show app:v1", "repos", "gc", "db check")
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, root, *commands], capture_output=True, env=environment, cwd=tmp_path
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    with Store.open(root, read_only=True) as store:
        assert list(store.repositories()) == ["app"]
    code = f"from ocistore import Store\nStore.open({str(root)!a})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "InvalidNameError" in done.stderr
    assert "use a UTF-8 locale" in done.stderr


# --- filesystems in user space ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("fuse.sshfs", "needs a local filesystem"),
        ("fuse.rclone", "needs a local filesystem"),
        ("virtiofs", "needs a local filesystem"),
        ("fuse.glusterfs", "needs a local filesystem"),
        ("fuse.whatever", "any_filesystem=True"),
        ("fuse", "any_filesystem=True"),
        ("fuseblk", None),
        ("fuse.fuse-overlayfs", None),
    ],
)
def test_a_filesystem_in_user_space_is_asked_what_is_behind_it(small_disk, monkeypatch, kind, refused):
    device = os.stat(small_disk.root).st_dev
    mounts = small_disk.root.parent / "mountinfo"
    mounts.write_text(
        f"1 2 0:99999 / /elsewhere rw - ext4 /dev/x rw\n"
        f"3 2 {os.major(device)}:{os.minor(device)} / {small_disk.root} rw,nosuid shared:7 - {kind} host:/x rw\n"
    )
    monkeypatch.setattr("ocistore.blobs.mounts.FUSE", 0x01021994)  # tmpfs, which is at hand
    monkeypatch.setattr("ocistore.blobs.mounts.MOUNTS", str(mounts))
    if refused is None:
        Store.open(small_disk.root / "store").close()
        return
    with pytest.raises(UnsupportedFilesystemError, match=refused):
        Store.open(small_disk.root / "store")
    assert os.listdir(small_disk.root) == []
    if "any" in refused:
        Store.open(small_disk.root / "store", any_filesystem=True).close()
        Store.open(small_disk.root / "store", any_filesystem=True, read_only=True).close()
    else:
        with pytest.raises(UnsupportedFilesystemError):
            Store.open(small_disk.root / "store", any_filesystem=True)


# --- who may not write, in every state of a store ---------------------------------------------------------------------

READS_AS_NOBODY = """
import os, sys
from ocistore import OCIStoreError, Store
from ocistore.layouts import exporting  # Python's own files may not be everybody's to read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
store = None
for line in sys.stdin:
    try:
        if line.strip() == "open":
            store = Store.open(sys.argv[1], read_only=True)
        if line.strip() == "close":
            store.close()
        if line.strip() == "write":
            store.repository("app").put_blob(b"no")
        if line.strip() == "fork" and os.fork():
            os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
        repository = store.repository("app")
        print(*(f"{tag}={len(repository.get_manifest(tag).content)}" for tag in repository.tags()), flush=True)
    except OCIStoreError as error:
        print(type(error).__name__, error, flush=True)
"""

HOLDS_IT = """
import sys
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    print("open", flush=True)
    for line in sys.stdin:
        if line.strip() == "close":
            break
        app = store.repository("app")
        for tag in line.split():
            app.tag(tag, app.resolve("v1").digest)
        print("tagged", flush=True)
print("closed", flush=True)
"""


@pytest.fixture
def readable(root):
    privileged("setpriv", "--reuid", "65534", "true")
    # Not where pytest keeps things: that is for its owner only, and is made so again by each pytest that starts.
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        shared = shutil.copytree(root, Path(top) / "store")
        subprocess.run(["chmod", "-R", "a+rX", shared], check=True)
        yield shared


def tags(child):
    return [word.partition("=")[0] for word in child.says().split()]


def test_who_may_not_write_reads_whoever_opens_writes_and_closes(readable):
    with python(READS_AS_NOBODY, readable) as reader:
        before = files(readable)
        reader.tell("open")
        assert tags(reader) == ["v1"]  # closed, nobody has it open
        assert files(readable) == before
        for number in range(2):
            with python(HOLDS_IT, readable) as writer:
                assert writer.says() == "open"
                reader.tell("read")
                expected = ["v1", *(f"t{other}{letter}" for other in range(number) for letter in "ab")]
                assert tags(reader) == sorted(expected)
                writer.tell(f"t{number}a t{number}b")
                assert writer.says() == "tagged"
                reader.tell("read")
                assert tags(reader) == sorted([*expected, f"t{number}a", f"t{number}b"])
                writer.tell("close")
                assert writer.says() == "closed"
            reader.tell("read")
            assert tags(reader) == sorted([*expected, f"t{number}a", f"t{number}b"])
        reader.tell("write")
        assert reader.says().startswith("ReadOnlyStoreError")
    assert check(readable, hashes=True) == []


@pytest.mark.parametrize("written", [False, True])
def test_who_may_not_write_reads_in_a_child_that_is_forked_meanwhile(readable, written):
    with python(READS_AS_NOBODY, readable) as reader, contextlib.ExitStack() as others:
        reader.tell("open")
        assert tags(reader) == ["v1"]
        if written:
            writer = others.enter_context(python(HOLDS_IT, readable))
            assert writer.says() == "open"
        reader.tell("fork")
        assert tags(reader) == ["v1"]
        reader.tell("close")
        assert reader.says().startswith("StoreClosedError")


def test_who_may_not_write_reads_what_a_killed_writer_left(readable):
    with python(HOLDS_IT, readable) as writer, python(READS_AS_NOBODY, readable) as reader:
        assert writer.says() == "open"
        writer.tell("t1")
        assert writer.says() == "tagged"
        writer.kill()
        reader.tell("open")
        assert tags(reader) == ["t1", "v1"]
        (readable / "catalog.db-shm").unlink()  # as in a copy of the directory, made with it
    with python(READS_AS_NOBODY, readable) as reader:
        reader.tell("open")
        assert reader.says().startswith(("t1=", "ReadOnlyStoreError"))


def test_a_read_only_mount_of_a_store_that_others_write_is_read_as_it_is(tmp_path, root):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    privileged("mount", "--bind", str(root), str(mounted))
    try:
        privileged("mount", "-o", "remount,bind,ro", str(mounted))
        with Store.open(mounted, read_only=True) as reader:
            assert list(reader.repository("app").tags()) == ["v1"]
            for number in range(3):
                with Store.open(root) as store:
                    store.repository("app").tag(f"t{number}", image().digest)
                    assert len(list(reader.repository("app").tags())) == 2 + number
                assert len(list(reader.repository("app").tags())) == 2 + number
            with pytest.raises(ReadOnlyStoreError):
                Store.open(mounted)
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


def test_what_changed_while_it_was_read_without_locks_is_read_again(tmp_path, root):
    def change(how):
        with Store.open(root) as store:
            how(store.repository("app"))

    mounted = tmp_path / "mounted"
    mounted.mkdir()
    privileged("mount", "--bind", str(root), str(mounted))
    try:
        privileged("mount", "-o", "remount,bind,ro", str(mounted))
        with Store.open(mounted, read_only=True) as reader:
            with pytest.raises(StoreBusyError, match="changed while it was read"), reader._core.catalog.snapshot():
                change(lambda app: app.tag("v2", image().digest))
            with pytest.raises(StoreBusyError, match="changed while it was read"), reader._core.catalog.read():
                change(lambda app: app.untag("v2"))
                raise CorruptError("what was read half before and half afterwards", reason="as it looks")
            assert list(reader.repository("app").tags()) == ["v1"]
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


def test_a_catalog_that_a_copy_by_hard_links_shares_is_not_written(tmp_path, store):
    store.repository("app").put_blob(HELLO)
    store.close()
    linked = tmp_path / "linked"
    subprocess.run(["cp", "-al", store.root, linked], check=True)
    for root in (store.root, linked):
        with pytest.raises(StorageError, match="it has 2 names"), unchanged(root):
            Store.open(root)
        with Store.open(root, read_only=True) as opened:
            assert opened.repository("app").stat_blob(Digest.of(HELLO)).size == len(HELLO)
    subprocess.run(["cp", "-a", linked, tmp_path / "own"], check=True)
    shutil.rmtree(linked)
    for root in (store.root, tmp_path / "own"):
        with Store.open(root) as opened:
            opened.repository("app").put_blob(b"and more")
            assert check(root) == []


def test_the_other_name_that_a_killed_rebuild_gave_a_catalog_does_no_harm(store):
    store.close()
    os.link(store.root / "catalog.db", store.root / "catalog.db.damaged-1")
    Store.open(store.root).close()


def test_an_open_store_is_neither_copied_nor_pickled(store):
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="open its root again"):
            act(store)


HIDDEN = """
import os, sys
from ocistore import StorageError, Store
from ocistore.layouts import exporting, importing
from ocistore.upkeep import backup, scrub
from ocistore import rebuild
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
own, hidden = sys.argv[1] + "/own", sys.argv[1] + "/hidden/"
with Store.open(own) as store:
    for act in (
        lambda: Store.open(hidden + "store"),
        lambda: Store.open(hidden + "store", read_only=True),
        lambda: rebuild(hidden + "store"),
        lambda: store.import_(hidden + "layout"),
        lambda: store.export(hidden + "new", dry_run=True),
        lambda: store.export(hidden + "new.tar"),
        lambda: store.backup(hidden + "copy"),
        lambda: store.scrub(heal_from=[hidden + "store"]),
        lambda: store.copy_to(hidden + "new", dry_run=True),
        lambda: store.copy_to(hidden + "new"),
    ):
        try:
            act()
        except StorageError as error:
            print(error.reason)
"""


def test_what_lies_where_one_may_not_look_is_one_sentence_whatever_is_done_with_it(root):
    privileged("setpriv", "--reuid", "65534", "true")
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o777)
        (Path(top) / "hidden").mkdir(mode=0o700)
        shutil.copytree(root, Path(top) / "hidden" / "store")
        assert run_python(HIDDEN, top).splitlines() == ["Permission denied"] * 10


def test_a_store_that_another_process_finishes_between_two_looks_is_not_lost(tmp_path, empty_store, monkeypatch):
    root = tmp_path / "store"
    shutil.copytree(empty_store, root)
    (root / "catalog.db").rename(tmp_path / "catalog.db")
    refuse_blobs = opening._refuse_blobs

    def finished(paths):
        monkeypatch.setattr(opening, "_refuse_blobs", refuse_blobs)
        (tmp_path / "catalog.db").rename(root / "catalog.db")
        with Store.open(root) as other:
            other.repository("app").put_blob(b"content")
        refuse_blobs(paths)

    monkeypatch.setattr(opening, "_refuse_blobs", finished)
    with Store.open(root) as store:
        assert list(store.repositories()) == ["app"]
