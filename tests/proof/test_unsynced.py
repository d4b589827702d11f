"""After a power cut at any moment of any operation, every live row has its file, whole: on a disk that drops the rest.

Likewise everything that an exported index.json leads to.

A commit of the catalog is one durable event here; that SQLite makes it one is shown by real power cuts.
"""

import contextlib
import hashlib
import json
import os
import stat
from datetime import timedelta

import pytest
from images import Image, artifact, described, document, image, index, push
from state import catalog
from unsynced import RecordingOS, UnsyncedDisk, by_digest

from ocistore import Digest
from ocistore.blobs import (
    directories,
    ingester,
    output,
    permissions,
    provider,
    session,
    staging,
    sweeper,
    syncing,
    uploads,
)
from ocistore.core import Core
from ocistore.files import content as whole_content
from ocistore.files import durability, making
from ocistore.layouts import directory as layout_directory
from ocistore.layouts.directory import LayoutDirectory
from ocistore.layouts.exports import layoutfiles

NOW = timedelta(0)
MODULES = (
    *(durability, making, whole_content),
    *(ingester, provider, staging, syncing, uploads, output, sweeper, directories, session),
)


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


def _under_a_lease(store):
    with store.lease(ttl=timedelta(hours=1)):
        store.repository("app").put_blob(b"leased" * 1000)
        store.gc(grace=NOW, keep_untagged=NOW, force=True)
        push(store.repository("app"), image("leased"))
        store.gc(grace=NOW, keep_untagged=NOW, force=True)
    store.gc(grace=NOW, keep_untagged=NOW, force=True)


OPERATIONS = [_under_a_lease, _push, _one_transaction, _upload, _push_collect_and_push_again]


def _lost(store, operation, monkeypatch, *, deaf_to=lambda descriptor: False):
    """What a power cut after some call of the operation would cost, in words, and how many moments were looked at."""
    disk, found, worlds = UnsyncedDisk(str(store.root)), set(), 0

    def look():
        nonlocal worlds
        with catalog(store.root) as connection:
            live = dict(connection.execute("SELECT digest, size FROM blobs WHERE state = 'live'"))
        for pool in map(by_digest, disk.aftermaths()):
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
        patched.setattr(syncing, "sync_filesystem", recording.sync_filesystem)
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
    make_durable, commit = syncing.Syncer.make_durable, Core.commit

    def late(self, changes):
        commit(self, changes)
        make_durable(self.pool._syncer, [change.blob for change in changes if hasattr(change, "blob")])

    monkeypatch.setattr(syncing.Syncer, "make_durable", lambda syncer, files: None)
    monkeypatch.setattr(Core, "commit", late)
    found, _ = _lost(store, _push, monkeypatch)
    assert any("has other bytes" in line for line in found)


# --- exports ----------------------------------------------------------------------------------------------------------

LAYOUT = "made/too/layout/"
EXPORTING = (layout_directory, layoutfiles, durability, making, whole_content, permissions)


def _listed(left):
    """The digests in index.json; none where there is none, or it is cut short."""
    try:
        return [entry["digest"] for entry in json.loads(left[f"{LAYOUT}index.json"])["manifests"]]
    except (KeyError, ValueError):
        return []


def _problems(left):
    """What is wrong with a layout of which these files are left, in words."""
    if f"{LAYOUT}index.json" not in left:
        return
    pending = _listed(left)
    if not pending:
        yield "an index.json that is cut short"
    if left.get(f"{LAYOUT}oci-layout") != b'{"imageLayoutVersion":"1.0.0"}':
        yield "an index.json without an oci-layout"
    blobs = by_digest(left, below=LAYOUT)
    while pending:
        digest = pending.pop()
        content = blobs.get(digest)
        if content is None:
            yield "an index.json that leads to what is not there"
        elif f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            yield "a blob with other bytes"
        elif content.startswith(b"{"):
            manifest = json.loads(content)
            parts = (*manifest.get("manifests", ()), *manifest.get("layers", ()), manifest.get("config"))
            pending += [part["digest"] for part in parts if part]


def _wrong_exports(store, outside, mode, monkeypatch, *, deaf_to=lambda descriptor: False):
    """What may be found after a power cut in one of two exports into one layout; what is, when they have returned."""
    outside.mkdir()
    disk, found = UnsyncedDisk(str(outside), watches=lambda directory: True), set()

    def look():
        for left in disk.aftermaths():
            found.update(_problems(left))

    recording = RecordingOS(disk, look, deaf_to=deaf_to)
    with monkeypatch.context() as patched:
        for module in EXPORTING:
            patched.setattr(module, "os", recording)
        patched.setattr(layoutfiles, "sync_filesystem", recording.sync_filesystem)
        for number, references in enumerate((["app:all"], ["app:many", "app:v1"]), 1):
            store.export(outside / LAYOUT, references, mode=mode)
            if {len(_listed(left)) for left in disk.aftermaths()} != {2 * number - 1}:
                found.add("an export that returned and is not there")
    return found


@pytest.fixture
def exported(store):
    repository = store.repository("app")
    push(repository, image("one", layers=2), "v1")
    push(repository, index([image("one", layers=2), image("two")]), "all")
    many = image("many", layers=20)  # more than are synced one by one
    large = b"larger than what is copied by way of memory" * 5000
    manifest = json.loads(many.manifest)
    manifest["layers"].append(described(large))
    push(repository, Image(document(manifest), (*many.blobs, large)), "many")
    return store


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_a_power_cut_leaves_the_index_that_was_or_a_new_one_with_all_below(exported, mode, tmp_path, monkeypatch):
    assert _wrong_exports(exported, tmp_path / "outside", mode, monkeypatch) == set()


@pytest.mark.parametrize(
    ("forgotten", "words"),
    [
        (_is_directory, "an export that returned and is not there"),
        (lambda descriptor: not _is_directory(descriptor), "an index.json that is cut short"),
    ],
    ids=["of directories", "of files"],
)
def test_a_sync_that_an_export_forgets_is_seen(exported, forgotten, words, tmp_path, monkeypatch):
    assert words in _wrong_exports(exported, tmp_path / "outside", "copy", monkeypatch, deaf_to=forgotten)


def test_an_index_that_gets_its_name_too_early_is_seen(exported, tmp_path, monkeypatch):
    replacing = LayoutDirectory.replacing

    @contextlib.contextmanager
    def early(self, name, content):
        with replacing(self, name, content):
            pass
        yield

    monkeypatch.setattr(LayoutDirectory, "replacing", early)
    found = _wrong_exports(exported, tmp_path / "outside", "link", monkeypatch)
    assert "an index.json that leads to what is not there" in found
