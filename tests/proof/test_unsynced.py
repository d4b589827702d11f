"""After a power cut at any moment of any operation, every live row has its file, whole: on a disk that drops the rest.

A commit of the catalog is one durable event here; that SQLite makes it one is shown by real power cuts.
"""

import hashlib
import os
import stat
from datetime import timedelta

import pytest
from images import artifact, image, index, push
from state import catalog
from unsynced import RecordingOS, UnsyncedDisk

from ocistore import Digest, Store
from ocistore.blobs import directories, durability, filesystem, output, removal, session

NOW = timedelta(0)
MODULES = (filesystem, durability, output, removal, directories, session)


def _push(store):
    push(store.repository("app"), image("one", layers=2), "v1")
    push(store.repository("app"), index([image("one", layers=2), image("two")]), "all")
    store.repository("app").put_blob(b"a" * 3_000_000, algorithm="sha512")


def _one_transaction(store):
    with store.transaction() as transaction:
        for number in range(12):
            transaction.repository("app").put_blob(b"%d" % number)
        push(transaction.repository("other"), artifact(subject=image("one")), "note")


def _upload(store):
    with store.repository("app").start_upload() as upload:
        upload.write(b"half ")
        upload.write(b"and half")
        upload.commit(Digest.of(b"half and half"))


def _push_collect_and_push_again(store):
    for _ in range(2):
        push(store.repository("app"), image("again", layers=2), "v1")
        store.repository("app").delete_manifest(image("again", layers=2).digest)
        store.gc(grace=NOW, keep_untagged=NOW, force=True)
    push(store.repository("app"), image("again", layers=2), "v1")


OPERATIONS = [_push, _one_transaction, _upload, _push_collect_and_push_again]


def _lost(store, operation, monkeypatch, *, deaf_to=lambda descriptor: False):
    """What a power cut after some call of the operation would cost, in words, and how many moments were looked at."""
    disk, found, worlds = UnsyncedDisk(str(store.root)), set(), 0

    def look():
        nonlocal worlds
        with catalog(store.root) as connection:
            live = dict(connection.execute("SELECT digest, size FROM blobs WHERE state = 'live'"))
        for pool in disk.aftermaths():
            worlds += 1
            for digest in live:
                algorithm = digest.partition(":")[0]
                content = pool.get(digest)
                if content is None:
                    found.add(f"{digest} is live and has no file")
                elif f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" != digest:
                    found.add(f"{digest} is live and has other bytes")

    recording = RecordingOS(disk, look, deaf_to=deaf_to)
    with monkeypatch.context() as patched:
        for module in MODULES:
            patched.setattr(module, "os", recording)
        patched.setattr(filesystem, "sync_filesystem", recording.sync_filesystem)
        operation(store)
    look()
    assert disk.calls > 10
    return found, worlds


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_power_cut_after_any_call_costs_no_live_blob(store, operation, monkeypatch, record_property):
    found, worlds = _lost(store, operation, monkeypatch)
    record_property("worlds", worlds)
    assert found == set()


def _is_directory(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


@pytest.mark.parametrize(
    ("forgotten", "words"),
    [(_is_directory, "has no file"), (lambda descriptor: not _is_directory(descriptor), "has other bytes")],
    ids=["of directories", "of files"],
)
def test_a_forgotten_sync_is_seen(store, forgotten, words, monkeypatch):
    found, _ = _lost(store, _push, monkeypatch, deaf_to=forgotten)
    assert any(words in line for line in found)


def test_a_sync_after_the_commit_is_seen_too_late(store, monkeypatch):
    make_durable, commit = filesystem.FilesystemPool._make_durable, Store.commit

    def late(self, changes):
        commit(self, changes)
        make_durable(self.pool, [change.blob for change in changes if hasattr(change, "blob")])

    monkeypatch.setattr(filesystem.FilesystemPool, "_make_durable", lambda pool, files: None)
    monkeypatch.setattr(Store, "commit", late)
    found, _ = _lost(store, _push, monkeypatch)
    assert any("has other bytes" in line for line in found)
