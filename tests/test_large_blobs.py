"""What is done about large blobs by several threads: the same, in the same order, with the same reports, as by one."""

import contextlib
import errno
import gc
import os
import random
import signal
import threading
import time
from _thread import get_ident
from datetime import timedelta

import pytest
from archived import members_of, tarred
from handmade import Layout
from images import Image, described, document, push
from state import pool, strays

from ocistore import LayoutInvalidError, StorageError, Store, threads
from ocistore.blobs import hashing, ingester
from ocistore.oci import mediatypes
from ocistore.threads import WORTH_A_THREAD
from ocistore.upkeep import scrub

MAIN = get_ident()
RANDOM = random.Random(7)
LAYERS = tuple(RANDOM.randbytes(WORTH_A_THREAD + 1000 * number) for number in range(8))
SMALL = b"a small one"
BODY = {
    "schemaVersion": 2,
    "mediaType": mediatypes.OCI_MANIFEST,
    "config": described(b"{}"),
    "layers": [described(layer) for layer in (*LAYERS[:4], SMALL, *LAYERS[4:])],
}
LARGE = Image(document(BODY), (b"{}", *LAYERS, SMALL))
BYTES = sum(map(len, LARGE.blobs))
FORMS = ["copy", "auto", "link", "archive"]


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """Three cores, whatever the machine has."""
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(threads, "_PATIENCE", 5)
    yield
    assert not threads._busy


@pytest.fixture
def hashers(monkeypatch):
    """Which threads hash large blobs, and what each does first; it takes long enough for the others to begin."""
    seen, meanwhile = [], [lambda: time.sleep(0.005)]

    class Seen:
        def __init__(self, state):
            self.state = state

        def update(self, data):
            if len(data) >= WORTH_A_THREAD // 2:
                seen.append(get_ident())
                meanwhile[0]()
            self.state.update(data)

        def __getattr__(self, name):
            return getattr(self.state, name)

    plain = hashing.hasher

    def hasher(algorithm):
        return Seen(plain(algorithm))

    monkeypatch.setattr(hashing, "hasher", hasher)
    monkeypatch.setattr(ingester, "hasher", hasher)
    return seen, meanwhile


@pytest.fixture
def source(tmp_path):
    return Layout(tmp_path / "layout").add(LARGE, "v1").write()


def imported(store, source, form, tmp_path, **more):
    if form != "archive":
        return store.import_(source, "app", mode=form, **more)
    return store.import_(in_archive(source, tmp_path), "app", **more)


def in_archive(source, tmp_path):
    path = tmp_path / "layout.tar"
    path.write_bytes(tarred(members_of(source)))
    return path


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(content))


def file_of(root, layer):
    return root / "blobs" / described(layer)["digest"].replace(":", "/")


@contextlib.contextmanager
def interrupted_when(event):
    """A keyboard interrupt of the main thread soon after that happened."""

    def wait():
        event.wait(10)
        time.sleep(0.02)
        signal.pthread_kill(MAIN, signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
            event.set()
            time.sleep(5)
    finally:
        event.set()
        thread.join()


def open_files(root):
    """Blobs, staged files and archives there that are open."""
    gc.collect()
    links = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            links.append(os.readlink(f"/proc/self/fd/{number}"))
    kinds = ("/uploads/", "/sha256/", "layout.tar")
    return [link for link in links if link.startswith(str(root)) and any(kind in link for kind in kinds)]


def kernel_threads():
    return len(os.listdir("/proc/self/task"))


# --- imports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_an_import_has_large_blobs_hashed_by_threads(store, source, form, tmp_path, hashers):
    report = imported(store, source, form, tmp_path)
    assert pool(store.root) == {described(blob)["digest"]: blob for blob in (*LARGE.blobs, LARGE.manifest)}
    assert (report.bytes, report.new_bytes) == (BYTES + len(LARGE.manifest),) * 2
    assert MAIN not in hashers[0]
    assert len(set(hashers[0])) > 1
    assert strays(store.root) == []
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_import_of_what_the_store_has_verifies_it_by_threads(store, source, form, tmp_path, hashers):
    imported(store, source, form, tmp_path)
    hashers[0].clear()
    if form == "link":  # else it would be the store's own
        file_of(source, LAYERS[5]).unlink()
        file_of(source, LAYERS[5]).write_bytes(LAYERS[5])
    damage(file_of(source, LAYERS[5]))
    with pytest.raises(LayoutInvalidError) as caught:
        imported(store, source, form, tmp_path)
    assert [described(LAYERS[5])["digest"] in problem for problem in caught.value.problems] == [True]
    assert MAIN not in hashers[0]
    assert hashers[0]


@pytest.mark.parametrize("form", FORMS)
def test_everything_that_is_wrong_is_named_in_order_and_nothing_stays(store, source, form, tmp_path):
    for layer in (LAYERS[6], LAYERS[1]):
        damage(file_of(source, layer))
    file_of(source, LAYERS[3]).write_bytes(LAYERS[3] + b"x")
    with pytest.raises(LayoutInvalidError) as caught:
        imported(store, source, form, tmp_path)
    named = [LAYERS[3], LAYERS[1], LAYERS[6]]  # sizes are looked at first
    problems = caught.value.problems
    assert [described(layer)["digest"] in problem for layer, problem in zip(named, problems, strict=True)] == [True] * 3
    assert strays(store.root) == []
    assert pool(store.root) == {}


@pytest.mark.parametrize("form", FORMS)
def test_where_no_thread_can_be_had_an_import_is_made_all_the_same(store, source, form, tmp_path, monkeypatch):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    imported(store, source, form, tmp_path)
    assert len(pool(store.root)) == len(LARGE.blobs) + 1


@pytest.mark.parametrize("form", FORMS)
def test_progress_of_an_import_is_told_in_the_calling_thread_and_grows(store, source, form, tmp_path):
    told = []

    def progress(done, total):
        assert get_ident() == MAIN
        told.append((done, total))

    imported(store, source, form, tmp_path, progress=progress)
    assert told == sorted(set(told))
    assert told[-1] == (BYTES, BYTES)
    assert len(told) > len(LAYERS)


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_import_leaves_no_thread_and_nothing_staged(store, source, form, tmp_path, hashers):
    before, begun = kernel_threads(), threading.Event()

    def slowly():
        begun.set()
        time.sleep(0.05)

    hashers[1][0] = slowly
    with interrupted_when(begun):
        imported(store, source, form, tmp_path)
    assert not threads._busy
    store.repository("other").put_blob(b"sweeps what was lost")
    assert strays(store.root) == []
    assert open_files(tmp_path) == []
    end = time.monotonic() + 5
    while kernel_threads() > before and time.monotonic() < end:
        time.sleep(0.001)
    assert kernel_threads() <= before
    if form == "link":  # the files are as they were
        assert {os.stat(file_of(source, layer)).st_nlink for layer in LAYERS} == {1}
        assert all(os.access(file_of(source, layer), os.W_OK) for layer in LAYERS)
    hashers[1][0] = lambda: None
    imported(store, source, form, tmp_path)


def test_what_progress_raises_ends_an_import(store, source):
    class Enough(Exception):
        """What the caller raises."""

    def progress(done, _):
        if done > BYTES // 3:
            raise Enough

    with pytest.raises(Enough):
        store.import_(source, "app", mode="copy", progress=progress)
    assert strays(store.root) == []
    assert not threads._busy


# --- scrub ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(store):
    push(store.repository("app"), LARGE, "v1")
    return store


def test_a_scrub_has_large_blobs_hashed_by_threads(filled, hashers):
    report = filled.scrub()
    assert (report.exit_code, report.blobs, report.bytes) == (0, len(LARGE.blobs) + 1, BYTES + len(LARGE.manifest))
    assert MAIN not in hashers[0]
    assert len(set(hashers[0])) > 1


def test_damage_among_large_blobs_is_found_by_each_of_the_threads(filled):
    for layer in (LAYERS[0], LAYERS[5]):
        damage(file_of(filled.root, layer))
    file_of(filled.root, LAYERS[2]).unlink()
    report = filled.scrub()
    wrong = "its bytes are not those of its digest"
    assert [(damage.digest, damage.problem) for damage in report.damages] == [
        (described(LAYERS[0])["digest"], wrong),
        (described(LAYERS[2])["digest"], "its file is gone"),
        (described(LAYERS[5])["digest"], wrong),
    ]
    assert all(damage.tags == ("app:v1",) for damage in report.damages)
    assert len(os.listdir(filled.root / "quarantine")) == 2


def test_what_a_thread_cannot_read_is_not_damaged(filled, monkeypatch):
    plain = os.readv
    unreadable = os.stat(file_of(filled.root, LAYERS[4])).st_ino

    def refused(descriptor, buffers):
        if os.fstat(descriptor).st_ino == unreadable:
            assert get_ident() != MAIN
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(descriptor, buffers)

    monkeypatch.setattr(hashing.os, "readv", refused)
    report = filled.scrub()
    assert (report.exit_code, report.damaged, report.unreadable) == (3, 0, 1)
    assert [(each.digest, each.problem) for each in report.unread] == [
        (described(LAYERS[4])["digest"], "it cannot be read now: Input/output error")
    ]
    assert file_of(filled.root, LAYERS[4]).exists()


def test_progress_of_a_scrub_is_told_in_the_calling_thread_and_grows(filled):
    told = []

    def progress(done, total):
        assert get_ident() == MAIN
        told.append((done, total))

    report = filled.scrub(progress=progress)
    assert told == sorted(set(told))
    assert told[-1] == (report.bytes, report.bytes)


def test_with_a_rate_one_thread_reads_the_callers(filled, hashers):
    began = time.monotonic()
    report = filled.scrub(rate=40 << 20)
    assert time.monotonic() - began >= report.bytes / (40 << 20) * 0.9
    assert set(hashers[0]) == {MAIN}


def test_an_interrupted_scrub_leaves_no_thread_and_is_gone_on_with(filled, hashers):
    begun = threading.Event()

    def slowly():
        if len(hashers[0]) > 6:
            begun.set()
        time.sleep(0.02)

    hashers[1][0] = slowly
    with interrupted_when(begun):
        filled.scrub()
    assert not threads._busy
    assert open_files(filled.root) == []
    hashers[1][0] = lambda: None
    report = filled.scrub()
    assert report.exit_code == 0


def test_where_no_thread_can_be_had_a_scrub_is_made_all_the_same(filled, monkeypatch):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    damage(file_of(filled.root, LAYERS[0]))
    assert [each.digest for each in filled.scrub().damages] == [described(LAYERS[0])["digest"]]


def test_a_blob_that_was_replaced_since_a_thread_read_it_is_no_damage(filled, monkeypatch):
    """By a push of the same content, which heals it, after it was found to be damaged and before that is acted upon."""
    path = file_of(filled.root, LAYERS[1])
    damage(path)
    plain, healed = scrub.hashed, []

    def hashed(pool, digest, size, **more):
        found = plain(pool, digest, size, **more)
        if str(digest) == described(LAYERS[1])["digest"] and not healed:
            healed.append(get_ident())
            path.unlink()
            path.write_bytes(LAYERS[1])
        return found

    monkeypatch.setattr(scrub, "hashed", hashed)
    report = filled.scrub()
    assert healed
    assert MAIN not in healed
    assert (report.exit_code, report.damages) == (0, [])


# --- collections ------------------------------------------------------------------------------------------------------


def test_the_trash_is_emptied_by_a_thread_beside_the_next_batch(store, monkeypatch):
    for number in range(250):
        store.repository("app").put_blob(f"blob {number}".encode())
    plain, unlinking = os.unlink, []

    def unlink(name, **more):
        unlinking.append(get_ident())
        plain(name, **more)

    monkeypatch.setattr("ocistore.blobs.sweeper.os.unlink", unlink)
    report = store.gc(grace=timedelta(0))
    assert (report.blobs, report.complete) == (250, True)
    assert report.bytes == sum(len(f"blob {number}") for number in range(250))
    assert os.listdir(store.root / "trash") == []
    assert len(unlinking) == 250
    assert any(thread != MAIN for thread in unlinking)


def test_a_trash_that_cannot_be_emptied_is_an_error_and_the_next_collection_empties_it(store, monkeypatch):
    for number in range(250):
        store.repository("app").put_blob(f"blob {number}".encode())

    def unlink(name, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("ocistore.blobs.sweeper.os.unlink", unlink)
        with pytest.raises(StorageError, match="trash"):
            store.gc(grace=timedelta(0))
    assert not threads._busy
    assert os.listdir(store.root / "trash")
    store.gc(grace=timedelta(0))
    assert os.listdir(store.root / "trash") == []
    assert Store.open(store.root).scrub().exit_code == 0
