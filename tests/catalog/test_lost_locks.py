"""Whatever opens and closes a store's files in a process that uses them drops SQLite's locks, and costs nothing."""

import errno
import fcntl
import shutil
import struct

import pytest
from images import image, push
from invariants import check
from processes import python, run_python

from ocistore import Store
from ocistore.catalog import guard

ELSEWHERE = """
import sys
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    list(store.repositories())
"""

BARE = """
import sqlite3, sys
connection = sqlite3.connect(f"{sys.argv[1]}/catalog.db")
print(connection.execute("SELECT count(*) FROM tags").fetchall())
connection.close()
"""


def drop_locks(root):
    """What a backup by hand, or packing the directory, does to the locks of the process that does it."""
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        if (root / name).exists():
            (root / name).read_bytes()


@pytest.mark.parametrize("elsewhere", [ELSEWHERE, BARE], ids=["ours", "sqlite"])
def test_a_wal_is_not_taken_away_from_under_a_process_whose_locks_are_dropped(store, elsewhere):
    for number in range(4):
        push(store.repository("app"), image(f"{number}"), f"t{number}")
        before = (store.root / "catalog.db-wal").stat().st_ino
        drop_locks(store.root)
        run_python(elsewhere, store.root)
        assert (store.root / "catalog.db-wal").stat().st_ino == before
    names = [f"t{number}" for number in range(4)]
    assert list(store.repository("app").tags()) == names
    store.close()
    with Store.open(store.root) as opened:
        assert list(opened.repository("app").tags()) == names
        assert check(opened, hashes=True) == []


def test_without_locks_of_its_own_the_wal_is_seen_to_be_taken_away(store, monkeypatch):
    monkeypatch.setattr(guard, "_lock", lambda *arguments, **more: None)
    store.close()
    with Store.open(store.root) as opened:
        push(opened.repository("app"), image("first"), "tfirst")
        drop_locks(store.root)
        run_python(BARE, store.root)
        assert not (store.root / "catalog.db-wal").exists()
        push(opened.repository("app"), image("second"), "tsecond")  # which sees it, and opens what has the name
    with Store.open(store.root) as again:
        assert list(again.repository("app").tags()) == ["tfirst", "tsecond"]


def test_a_kernel_that_refuses_to_free_a_lock_does_not_fail_the_close(store, monkeypatch):
    push(store.repository("app"), image("first"), "tfirst")
    call, refused = fcntl.fcntl, []

    def refuse(descriptor, command, argument=0):
        if command == fcntl.F_OFD_SETLK and struct.unpack_from("h", argument)[0] == fcntl.F_UNLCK:
            refused.append(descriptor)
            raise OSError(errno.ENOLCK, "No locks available")
        return call(descriptor, command, argument)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "fcntl", refuse)
        store.close()
    assert refused
    run_python(ELSEWHERE, store.root)
    with Store.open(store.root) as again:
        assert list(again.repository("app").tags()) == ["tfirst"]


@pytest.mark.parametrize("names", [("catalog.db-wal",), ("catalog.db-shm",), ("catalog.db-wal", "catalog.db-shm")])
def test_a_push_after_files_beside_the_catalog_were_removed_is_kept(store, names):
    push(store.repository("app"), image("first"), "tfirst")
    for name in names:
        (store.root / name).unlink()
    push(store.repository("app"), image("second"), "tsecond")
    assert list(store.repository("app").tags()) == ["tfirst", "tsecond"]
    store.close()
    with Store.open(store.root) as opened:
        assert list(opened.repository("app").tags()) == ["tfirst", "tsecond"]
        assert check(opened, hashes=True) == []


def test_a_copy_of_the_directory_beside_a_writer_in_another_process_costs_neither_a_push(store, tmp_path):
    code = """
import shutil, sys
from images import image, push
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    for number in range(20):
        push(store.repository("there"), image(f"there {number}"), f"t{number:02}")
        print(number)
"""
    with python(code, store.root) as other:
        for number in range(20):
            push(store.repository("here"), image(f"here {number}"), f"t{number:02}")
            shutil.copytree(store.root, tmp_path / str(number), ignore=shutil.ignore_patterns("uploads", "trash"))
            assert other.says() == str(number)
        other.finish()
    names = [f"t{number:02}" for number in range(20)]
    assert [list(store.repository(name).tags()) for name in ("here", "there")] == [names, names]
    assert check(store, hashes=True) == []
