"""Exports by hard link of so many blobs that a second thread helps."""

import errno
import os
import signal
import threading
import time
from _thread import get_ident

import pytest
from handmade import verified
from images import image, push
from state import descriptors, pool

from ocistore import CorruptError, Digest, StorageError, threads
from ocistore.filedescriptors import owned
from ocistore.layouts.exports import layoutfiles
from ocistore.layouts.exports.layoutfiles import link_together

MANY = image("many", layers=600)
BLOBS = [(str(Digest.of(layer)), len(layer)) for layer in MANY.layers]


@pytest.fixture
def filled(store):
    with store.transaction() as transaction:
        push(transaction.repository("app"), MANY, "v1")
    return store


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def opened(filled, tmp_path):
    """Where to link from and to: the pool's directory and an empty one."""
    (tmp_path / "linked").mkdir()
    directories = (filled.root / "blobs" / "sha256", tmp_path / "linked")
    return {"sha256": tuple(owned(os.open, directory, os.O_RDONLY) for directory in directories)}


MAIN = get_ident()


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(threads, "_PATIENCE", 5)


@pytest.fixture
def interrupted(monkeypatch):
    """Interrupt whoever waits for two threads, which are about to make their first link and go on a little later."""
    go, reached, link, linked = threading.Event(), threading.Barrier(2, timeout=10), os.link, []

    def late(*arguments, **more):
        assert get_ident() != MAIN
        if not go.is_set():
            if reached.wait() == 0:
                signal.pthread_kill(MAIN, signal.SIGINT)
                threading.Timer(0.2, go.set).start()
            go.wait()
        link(*arguments, **more)
        linked.append(arguments)

    with monkeypatch.context() as patched:
        patched.setattr(layoutfiles.os, "link", late)
        yield linked
    go.set()


def test_every_blob_is_a_link_and_told_of_once(filled, destination):
    told, before = [], descriptors()
    report = filled.export(destination, mode="link", progress=lambda done, total: told.append((done, total)))
    assert verified(destination) == pool(filled.root)
    assert {file.stat().st_nlink for file in destination.glob("blobs/*/*")} == {2}
    assert told[-1] == (report.bytes, report.bytes)
    assert told == sorted(set(told))
    assert (report.written_bytes, report.present_bytes) == (report.bytes, 0)
    assert descriptors() == before


@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
def test_what_cannot_simply_be_linked_is_dealt_with_in_either_half(filled, destination, place):
    digests = sorted(digest for digest, _ in BLOBS)
    present, damaged = digests[place], digests[place or 1]
    name = destination / "blobs" / present.replace(":", "/")
    name.parent.mkdir(parents=True)
    name.write_bytes(b"cut short")
    filled.export(destination, mode="link")
    assert verified(destination) == pool(filled.root)
    filled._core.paths.blob(Digest(damaged)).unlink()
    with pytest.raises(CorruptError, match=damaged):
        filled.export(destination.with_name("other"), mode="link")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK])
def test_where_links_are_refused_copying_is_named_as_the_remedy(filled, destination, monkeypatch, number):
    def refused(*arguments, **more):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(layoutfiles.os, "link", refused)
        with pytest.raises(StorageError, match="copy instead") as caught:
            filled.export(destination, mode="link")
    assert caught.value.errno == number
    filled.export(destination, mode="copy")


def test_where_no_thread_can_be_had_the_links_are_made_all_the_same(filled, destination, monkeypatch):
    before = descriptors()

    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refused)
    filled.export(destination, mode="link")
    assert verified(destination) == pool(filled.root)
    assert descriptors() == before


def test_an_interrupt_while_linking_ends_the_threads(filled, destination, interrupted):
    before = len(os.listdir("/proc/self/task"))
    with pytest.raises(KeyboardInterrupt):
        filled.export(destination, mode="link")
    assert len(interrupted) == 2
    end = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > before + 1 and time.monotonic() < end:  # a timer may be left
        time.sleep(0.001)
    assert len(os.listdir("/proc/self/task")) <= before + 1


def test_an_export_that_was_interrupted_can_be_made_again(filled, destination):
    (destination / "blobs" / "sha256").mkdir(parents=True)
    for digest, _ in BLOBS[:300]:
        os.link(filled.root / "blobs" / digest.replace(":", "/"), destination / "blobs" / digest.replace(":", "/"))
    filled.export(destination, mode="link")
    assert verified(destination) == pool(filled.root)


def test_no_thread_links_into_a_directory_that_took_the_number_of_its_own(opened, interrupted, tmp_path):
    numbers = {int(descriptor) for descriptor in opened["sha256"]}
    with pytest.raises(KeyboardInterrupt):
        link_together(opened, BLOBS)
    opened.clear()
    assert not [number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")]
    assert len(os.listdir(tmp_path / "linked")) == len(interrupted)
