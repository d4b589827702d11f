"""Backup: a copy of a store that is in use, which opens as a store."""

import contextlib
import errno
import io
import os
import shutil
import sqlite3
import threading
import time
from datetime import timedelta

import pytest
from click.testing import CliRunner
from earlier import to_revision
from images import APP, artifact, image, index, push
from invariants import check
from processes import python, run_command
from state import pool, rows, state

from ocistore import (
    CollectionRefusedError,
    Digest,
    StorageError,
    Store,
    StoreBusyError,
    StoreFullError,
    StoreNotFoundError,
    rebuild,
)
from ocistore.blobs import reader
from ocistore.blobs.paths import StorePaths
from ocistore.catalog.schema import APPLICATION_ID
from ocistore.cli.commands import ocistore
from ocistore.layouts.exports import layoutfiles
from ocistore.upkeep.hold import gc_held

NOW = timedelta(0)
HOUR = timedelta(hours=1)


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "backup"


@pytest.fixture
def filled(store):
    push(store.repository("library/app"), index([APP, image("other")]), "v1")
    push(store.repository("library/app"), artifact(subject=APP))
    store.repository("other").put_blob(b"loose")
    store.repository("other").put_blob(b"long", algorithm="sha512")
    return store


def without_upkeep(root):
    found = rows(root)
    return {name: found[name] for name in found if name not in {"collection_holds", "leases", "lease_blobs", "uploads"}}


@pytest.mark.parametrize("mode", ["auto", "copy", "link"])
def test_a_backup_has_everything_and_opens_as_a_store(filled, destination, mode):
    report = filled.backup(destination, mode=mode)
    assert (report.blobs, report.missing, report.removed) == (len(pool(filled.root)), (), 0)
    assert without_upkeep(destination) == without_upkeep(filled.root)
    assert pool(destination) == pool(filled.root)
    assert check(destination, hashes=True) == []
    with Store.open(destination, create=False) as copy:
        assert copy.repository("library/app").get_manifest("v1").content == index([APP, image("other")]).manifest
        push(copy.repository("new"), image("new"), "v1")
        assert copy.gc(grace=NOW).blobs == 2
    assert check(destination, hashes=True) == []
    assert check(filled, hashes=True) == []


def test_a_linked_backup_shares_its_files(filled, destination):
    filled.backup(destination, mode="link")
    name = Digest.of(APP.manifest).encoded
    assert (destination / "blobs/sha256" / name).stat().st_ino == (filled.root / "blobs/sha256" / name).stat().st_ino


def test_a_second_backup_copies_what_is_new_and_removes_what_is_gone(filled, destination):
    filled.backup(destination)
    kept = (destination / "blobs" / "sha256" / APP.digest.encoded).stat().st_ino
    push(filled.repository("library/app"), image("new"), "v2")
    filled.repository("other").delete_blob(Digest.of(b"loose"))
    filled.gc(grace=NOW)
    report = filled.backup(destination)
    assert report.removed == 2  # and what was loose, too
    assert (destination / "blobs" / "sha256" / APP.digest.encoded).stat().st_ino == kept
    assert pool(destination) == pool(filled.root)
    assert without_upkeep(destination) == without_upkeep(filled.root)
    assert check(destination, hashes=True) == []


def test_what_belongs_to_processes_is_not_in_a_backup(filled, destination):
    filled.repository("other").start_upload().close()
    with filled.lease(ttl=HOUR) as lease:
        filled.repository("other").put_blob(b"leased")
        lease.keep("library/app", APP.digest)
        filled.backup(destination)
    found = rows(destination)
    assert (found["uploads"], found["leases"], found["lease_blobs"], found["collection_holds"]) == ([], [], [], [])
    assert check(destination, hashes=True) == []


def test_while_it_is_copied_nothing_is_collected_and_pushes_go_on(filled, destination):
    seen = []

    def progress(done, total):
        push(filled.repository("meanwhile"), image(done), f"v{done}")
        with pytest.raises(CollectionRefusedError, match="backup") as caught:
            filled.gc(grace=NOW, keep_untagged=NOW)
        seen.append((done, total, caught.value.reasons))

    filled.backup(destination, mode="copy", progress=progress)
    assert seen[-1][0] == seen[-1][1]
    assert check(destination, hashes=True) == []
    with Store.open(destination) as copy:
        assert "meanwhile" not in list(copy.repositories())
    assert filled.gc(grace=NOW).complete


def test_writers_and_a_collector_beside_many_backups_lose_nothing(filled, destination):
    stop = threading.Event()
    failures = []

    def work(number):
        step = 0
        while not stop.is_set():
            name = f"{number}-{step % 3}"
            try:
                push(filled.repository("busy"), image(name), name)
                if step % 2:
                    filled.repository("busy").untag(name)
                filled.gc(grace=HOUR, keep_untagged=NOW)
            except CollectionRefusedError:
                pass
            except Exception as error:
                failures.append(error)
                return
            step += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert filled.backup(destination, mode="link").missing == ()
            assert check(destination, hashes=True) == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert check(filled, hashes=True) == []


STUCK = """
import sys, time
from ocistore import Store
store = Store.open(sys.argv[1])
def stuck(done, total):
    print("copying", flush=True)
    sys.stdin.readline()
store.backup(sys.argv[2], mode="copy", progress=stuck)
print("done", flush=True)
"""


@pytest.mark.parametrize("then", ["gc", "force", "confirm", "backup", "dry run"])
def test_the_hold_of_a_backup_that_died_is_ended_by_whoever_comes_next(filled, destination, then):
    with python(STUCK, filled.root, destination) as child:
        assert child.says() == "copying"
        for refused in (False, True):
            with pytest.raises(CollectionRefusedError, match="wait until it is done, or end that process"):
                filled.gc(force=refused)
        assert filled.gc(dry_run=True).refused == ("a backup is being copied",)
        child.kill()
    if then == "dry run":
        assert filled.gc(dry_run=True).refused == ()
    elif then == "backup":
        filled.backup(destination)
    else:
        options = {"gc": [], "force": ["--force"], "confirm": ["--confirm"]}[then]
        assert run_command("--store", filled.root, "gc", *options).returncode == 0
    assert rows(filled.root)["collection_holds"] == [] or then == "dry run"
    filled.gc()
    if then != "backup":
        for create in (False, True):
            with pytest.raises(StoreNotFoundError, match="not finished"):
                Store.open(destination, create=create)
        filled.backup(destination)  # the same directory: it is completed
    assert check(destination, hashes=True) == []
    assert sorted(name for name in os.listdir(destination) if name.startswith(".ocistore-")) == []


def test_a_hold_that_runs_out_while_the_lock_is_waited_for_is_not_renewed(filled, destination, monkeypatch):
    monkeypatch.setattr("ocistore.upkeep.hold._HOLD", 300)  # milliseconds
    held = threading.Event()

    def stand_in_the_way():
        with filled._core.catalog.write():
            held.set()
            time.sleep(0.6)  # a collection in here would have acted

    with gc_held(filled._core, StorePaths(destination)) as hold:
        hold.confirm()
        thread = threading.Thread(target=stand_in_the_way)
        thread.start()
        assert held.wait(10)
        with pytest.raises(StorageError, match="run it again"):
            hold.confirm()
        thread.join()


def test_a_backup_that_stands_still_is_not_taken_for_dead(filled, destination):
    with python(STUCK, filled.root, destination) as child:
        assert child.says() == "copying"
        child.stop()
        with pytest.raises(CollectionRefusedError, match="being copied"):
            filled.gc(force=True)
        child.go_on()
        while child.tell() is None and child.says() != "done":
            pass
    assert filled.gc().complete
    assert check(destination, hashes=True) == []


def test_a_backup_that_fails_leaves_the_earlier_one(filled, destination, monkeypatch):
    filled.backup(destination)
    before = rows(destination), pool(destination)
    push(filled.repository("new"), image("new"), "v1")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layoutfiles, "write_all", full)
    with pytest.raises(StoreFullError):
        filled.backup(destination, mode="copy")
    after = rows(destination), pool(destination)
    assert after[0] == before[0]
    assert set(before[1]) <= set(after[1])
    assert not rows(filled.root)["collection_holds"]


@pytest.mark.parametrize("mode", ["auto", "copy"])
@pytest.mark.parametrize("content", [b"", b"longer than what was there" * 100], ids=["shorter", "longer"])
def test_a_blob_of_the_wrong_size_is_reported_and_not_copied(filled, destination, mode, content):
    damaged = min(pool(filled.root))
    path = filled._core.paths.blob(Digest(damaged))
    path.chmod(0o644)
    path.write_bytes(content)
    assert filled.backup(destination, mode=mode).missing == (damaged,)
    assert set(pool(destination)) == set(pool(filled.root)) - {damaged}


def test_a_blob_that_is_gone_is_reported_and_the_rest_is_copied(filled, destination):
    lost = Digest.of(APP.layers[0])
    (filled.root / "blobs" / "sha256" / lost.encoded).unlink()
    assert filled.backup(destination).missing == (lost,)
    assert set(pool(destination)) == set(pool(filled.root))
    push(filled.repository("library/app"), APP)


@pytest.fixture
def unreadable(monkeypatch):
    """Let no read of the files under this name succeed."""
    names = set()

    def failing(call, position):
        def called(*arguments):
            if os.path.basename(os.readlink(f"/proc/self/fd/{arguments[position]}")) in names:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*arguments)

        return called

    def readinto(self, buffer):
        with self._translating:
            return failing(lambda _: io.FileIO.readinto(self, buffer), 0)(self.fileno())

    monkeypatch.setattr(os, "sendfile", failing(os.sendfile, 1))
    monkeypatch.setattr(os, "readv", failing(os.readv, 0))
    monkeypatch.setattr(os, "read", failing(os.read, 0))
    monkeypatch.setattr(reader._BlobFile, "readinto", readinto)
    return names


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("how", [("auto", 10), ("copy", 10), ("copy", 100_000)], ids=str)
def test_a_blob_that_cannot_be_read_now_is_named_apart_and_the_rest_is_copied(
    filled, destination, unreadable, how, earlier
):
    mode, size = how
    digest = filled.repository("other").put_blob(b"x" * size).digest
    if earlier:
        filled.backup(destination)
    push(filled.repository("other"), image("later"), "later")
    unreadable.add(digest.encoded)
    report = filled.backup(destination, mode=mode)
    assert (report.missing, report.unreadable) == ((), () if earlier else (digest,))
    assert set(pool(destination)) == set(pool(filled.root)) - (set() if earlier else {digest})
    unreadable.clear()
    with Store.open(destination) as copy:
        assert copy.scrub(repair=False).damaged == (0 if earlier else 1)
    assert filled.backup(destination).unreadable == ()
    assert check(destination, hashes=True) == []


def test_the_command_says_what_could_not_be_read(filled, destination, unreadable):
    digest = filled.repository("other").put_blob(b"x" * 100_000).digest
    filled.close()
    unreadable.add(digest.encoded)
    result = CliRunner().invoke(ocistore, ["--store", str(filled.root), "backup", str(destination)])
    assert (result.exit_code, f"cannot be read now: {digest}\n" in result.output) == (2, True)
    assert "damaged" not in result.output


def test_an_export_says_which_file_could_not_be_read(filled, tmp_path, unreadable):
    repository = filled.repository("other")
    push(repository, image("large"), "v1")
    digest = Digest(repository.get_manifest("v1").layers[0].digest)
    unreadable.add(digest.encoded)
    with pytest.raises(StorageError) as caught:
        filled.export(tmp_path / "layout", mode="copy")
    assert caught.value.path == str(filled._core.paths.blob(digest))


@pytest.mark.parametrize(
    "kind",
    [
        "inside",
        "around",
        "itself",
        "a file",
        "something else",
        "another store",
        "an empty catalog",
        "only a version",
    ],
)
def test_what_is_no_place_for_a_backup_is_refused_and_left_alone(filled, tmp_path, empty_store, kind):
    place = {
        "inside": filled.root / "blobs" / "backup",
        "around": filled.root.parent,
        "itself": filled.root,
    }.get(kind, tmp_path / "place")
    if kind == "a file":
        place.write_bytes(b"x")
    elif kind == "something else":
        place.mkdir()
        (place / "mine").write_bytes(b"x")
    elif kind == "an empty catalog":
        place.mkdir()
        (place / "catalog.db").touch()
    elif kind == "another store":
        shutil.copytree(empty_store, place)
    elif kind == "only a version":
        place.mkdir()
        with contextlib.closing(sqlite3.connect(place / "catalog.db", isolation_level=None)) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES ('0002')")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    with pytest.raises(StoreNotFoundError):
        filled.backup(place)
    if kind == "something else":
        assert os.listdir(place) == ["mine"]


def test_a_backup_from_before_a_schema_upgrade_is_brought_up_to_date(filled, destination):
    filled.backup(destination)
    to_revision(destination, "0002")  # the first schema with identities
    push(filled.repository("new"), image("new"), "v1")
    kept = (destination / "blobs" / "sha256" / APP.digest.encoded).stat().st_ino
    filled.backup(destination)
    assert (destination / "blobs" / "sha256" / APP.digest.encoded).stat().st_ino == kept
    assert without_upkeep(destination) == without_upkeep(filled.root)
    assert check(destination, hashes=True) == []


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_another_store_of_an_older_schema_is_no_backup(filled, tmp_path, empty_store, revision):
    place = shutil.copytree(empty_store, tmp_path / "place")
    to_revision(place, revision)
    with pytest.raises(StoreNotFoundError):
        filled.backup(place)


def test_a_backup_of_a_newer_schema_is_left_alone_and_said_to_be_one(filled, destination):
    filled.backup(destination)
    with contextlib.closing(sqlite3.connect(destination / "catalog.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreNotFoundError, match="schema 9999, newer than"):
        filled.backup(destination)


def test_a_catalog_from_a_backup_that_is_put_back_is_noticed(filled, destination):
    filled.backup(destination)
    push(filled.repository("new"), image("new"), "v1")
    filled.close()
    shutil.copyfile(destination / "catalog.db", filled.root / "catalog.db")
    with Store.open(filled.root) as restored, pytest.raises(CollectionRefusedError, match="older copy"):
        restored.gc(grace=NOW)
    assert image("new").digest in pool(filled.root)


@pytest.mark.parametrize("made", [["uploads"], ["uploads", "trash", "quarantine", "blobs"]])
def test_a_first_backup_that_died_as_it_began_is_begun_again(store, tmp_path, made):
    for name in made:
        (tmp_path / "backup" / name).mkdir(parents=True)
    store.backup(tmp_path / "backup")
    with Store.open(tmp_path / "backup", create=False) as backup:
        assert list(backup.repositories()) == list(store.repositories())


def test_a_backup_whose_hold_ran_out_is_none_and_leaves_the_earlier_one(filled, destination, monkeypatch):
    filled.backup(destination, mode="copy")
    before = pool(destination)
    push(filled.repository("new"), image("new"), "v1")
    monkeypatch.setattr("ocistore.upkeep.hold._HOLD", 1)  # millisecond: as where the machine was asleep for an hour

    def while_it_stands_still(done, total):
        time.sleep(0.01)
        if "library/app" in filled.repositories():
            filled.delete_repository("library/app")
        filled.gc(grace=NOW, keep_untagged=NOW)

    with pytest.raises(StorageError, match="run it again"):
        filled.backup(destination, mode="copy", progress=while_it_stands_still)
    assert {name: pool(destination)[name] for name in before} == before
    with Store.open(destination, create=False) as earlier:
        assert earlier.repository("library/app").resolve("v1")
    monkeypatch.undo()
    assert filled.backup(destination).missing == ()
    assert check(destination, hashes=True) == []


def test_two_backups_at_once_into_one_directory_do_not_mix(filled, destination):
    refused = []

    def meanwhile(done, total):
        if not refused:
            with pytest.raises(StoreBusyError) as caught:
                filled.backup(destination)
            refused.append(caught.value)

    assert filled.backup(destination, mode="copy", progress=meanwhile).missing == ()
    assert str(destination) in refused[0].what
    assert check(destination, hashes=True) == []
    assert filled.backup(destination).removed == 0


def test_what_went_wrong_in_a_backup_is_found_by_a_scrub_of_it_and_copied_again(filled, destination):
    filled.backup(destination, mode="copy")
    file = destination / "blobs" / "sha256" / APP.digest.encoded
    content = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(bytes(len(content)))
    filled.backup(destination, mode="copy")
    assert file.read_bytes() == bytes(len(content))  # it has the right size
    with Store.open(destination) as backup:
        assert [damage.digest for damage in backup.scrub().damages] == [APP.digest]
    filled.backup(destination, mode="copy")
    assert file.read_bytes() == content
    assert check(destination, hashes=True) == []


# --- whose backup it is -----------------------------------------------------------------------------------------------


def is_left_alone(store, place):
    before = state(place)
    with pytest.raises(StoreNotFoundError):
        store.backup(place)
    assert state(place) == before


def test_a_backup_of_another_store_that_was_made_in_the_same_millisecond_is_left_alone(filled, tmp_path, monkeypatch):
    made = rows(filled.root)["store"][0][1]
    monkeypatch.setattr("ocistore.opening.milliseconds", lambda: made)
    with Store.open(tmp_path / "other") as other:
        push(other.repository("mine"), image("mine"), "v1")
        other.backup(tmp_path / "place")
    assert rows(tmp_path / "place")["store"] == rows(filled.root)["store"]
    is_left_alone(filled, tmp_path / "place")


def test_a_copy_of_the_store_is_no_backup_of_it_and_left_alone(filled, tmp_path):
    filled.close()
    shutil.copytree(filled.root, tmp_path / "copy")
    with Store.open(tmp_path / "copy") as copy:
        push(copy.repository("mine"), image("mine"), "v1")
    with Store.open(filled.root) as store:
        is_left_alone(store, tmp_path / "copy")


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_backup_that_was_written_to_is_a_store_of_its_own_and_left_alone(filled, destination, unfinished):
    filled.backup(destination)
    with Store.open(destination) as copy:
        copy.gc(grace=NOW)
        copy.scrub()
    filled.backup(destination)  # neither of these put anything into it
    with Store.open(destination) as copy:
        push(copy.repository("mine"), image("mine"), "v1")
    if unfinished:
        StorePaths(destination).unfinished_backup.touch()
    is_left_alone(filled, destination)


def test_what_is_pushed_into_a_backup_while_the_next_one_is_copied_stays(filled, destination):
    filled.backup(destination)
    pushed = []

    def meanwhile(done, total):
        if not pushed:
            with Store.open(destination) as copy:
                pushed.append(push(copy.repository("mine"), image("mine"), "v1"))

    with pytest.raises(StoreNotFoundError, match="written to"):
        filled.backup(destination, mode="copy", progress=meanwhile)
    with Store.open(destination) as copy:
        assert copy.repository("mine").resolve("v1").digest == pushed[0].digest
    assert check(destination, hashes=True) == []


def test_after_a_rebuild_the_earlier_backup_is_left_alone(filled, destination):
    filled.backup(destination)
    filled.close()
    (filled.root / "catalog.db").unlink()
    rebuild(filled.root)
    with Store.open(filled.root) as rebuilt:
        is_left_alone(rebuilt, destination)
        rebuilt.backup(destination.with_name("another"))


def test_a_backup_of_a_backup_can_be_brought_up_to_date(filled, destination, tmp_path):
    for tag in ("v1", "v2"):
        push(filled.repository("new"), image(tag), tag)
        filled.backup(destination)
        with Store.open(destination) as middle:
            middle.backup(tmp_path / "second")
    with Store.open(tmp_path / "second") as second:
        assert second.repository("new").resolve("v2")
