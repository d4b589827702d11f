"""Exports by hard link of so many blobs that a second thread helps."""

import errno
import os
import threading

import pytest
from handmade import verified
from images import image, push
from state import descriptors, pool

from ocistore import CorruptError, Digest, StorageError
from ocistore.filedescriptors import owned
from ocistore.layouts.exports import linking
from ocistore.layouts.exports.linking import LinkingBeside

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


@pytest.fixture
def waiting(monkeypatch):
    """An event for which every link in a second thread waits, and one that says that the first one does."""
    go, reached, link = threading.Event(), threading.Event(), os.link

    def late(*arguments, **more):
        if threading.current_thread() is not threading.main_thread():
            reached.set()
            go.wait()
        link(*arguments, **more)

    monkeypatch.setattr(linking.os, "link", late)
    yield go, reached
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
        patched.setattr(linking.os, "link", refused)
        with pytest.raises(StorageError, match="copy instead") as caught:
            filled.export(destination, mode="link")
    assert caught.value.errno == number
    filled.export(destination, mode="copy")


def test_where_no_thread_can_be_had_the_links_are_made_all_the_same(filled, destination, monkeypatch):
    before = descriptors()

    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    filled.export(destination, mode="link")
    assert verified(destination) == pool(filled.root)
    assert descriptors() == before


def test_an_interrupt_while_linking_ends_both_threads(filled, destination, monkeypatch):
    before, link = threading.active_count(), os.link

    def interrupted(*arguments, **more):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        link(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(linking.os, "link", interrupted)
        with pytest.raises(KeyboardInterrupt):
            filled.export(destination, mode="link")
    assert threading.active_count() == before
    filled.export(destination, mode="link")
    assert verified(destination) == pool(filled.root)


def test_the_thread_never_links_into_a_directory_that_took_the_number_of_its_own(opened, waiting, tmp_path):
    numbers = {int(descriptor) for descriptor in opened["sha256"]}
    go, reached = waiting
    beside = LinkingBeside(opened, BLOBS)
    reached.wait()
    opened.clear()  # as an export does that was interrupted for the second time
    (tmp_path / "unrelated").mkdir()
    others = [os.open(tmp_path / "unrelated", os.O_RDONLY) for _ in range(8)]
    assert numbers.isdisjoint(others)
    go.set()
    assert beside.finish() == []
    assert not [number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")]
    for descriptor in others:
        os.close(descriptor)
    assert not os.listdir(tmp_path / "unrelated")
    assert len(os.listdir(tmp_path / "linked")) == len(BLOBS)


def test_stopped_it_makes_no_further_link(opened, waiting, tmp_path):
    go, reached = waiting
    beside = LinkingBeside(opened, BLOBS)
    reached.wait()
    threading.Timer(0.1, go.set).start()
    beside.stop()
    assert len(os.listdir(tmp_path / "linked")) == 1
