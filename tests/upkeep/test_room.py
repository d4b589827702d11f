"""What upkeep needs of room: no directory for temporary files, and on a disk no more than it says."""

import contextlib
import os
import re
import shutil
import sqlite3
from datetime import timedelta

import pytest
from click.testing import CliRunner
from images import APP, image, push
from invariants import check
from state import unchanged
from tracing import require_strace, traced

from ocistore import Store, StoreFullError, rebuild
from ocistore.cli.commands import ocistore

NOW = timedelta(0)


def lengthen(root, number):
    """Give a closed store a history of so many events, 200 bytes each."""
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection, connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO tag_events"
            " (repository, tag, old_digest, new_digest, at, actor) SELECT 'old', 't' || i, ?, NULL, 1, 'x' FROM n",
            (number, str(APP.digest)),
        )


# --- no directory for temporary files ---------------------------------------------------------------------------------


def compact(root):
    with Store.open(root) as store:
        store.compact()


def delete(root):
    with Store.open(root) as store:
        store.delete_repository("a")
        store.gc(grace=NOW, keep_untagged=NOW)


def make_again(root):
    (root / "catalog.db").unlink()
    rebuild(root)


def make_good_again(root):
    rebuild(root, force=True)


def scrub(root):
    with Store.open(root) as store:
        store.scrub(level="deep")


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_store):
    """The directory of a closed store with a hundred images, and a catalog of three megabytes."""
    root = shutil.copytree(empty_store, tmp_path_factory.mktemp("filled") / "store")
    with Store.open(root) as store, store.transaction() as transaction:
        for number in range(100):
            push(transaction.repository("a"), image(number), f"v{number}")
    lengthen(root, 30_000)
    return root


@pytest.mark.parametrize("work", [compact, delete, make_again, make_good_again, scrub])
def test_nothing_needs_a_directory_for_temporary_files(filled, tmp_path, work):
    require_strace()
    root = shutil.copytree(filled, tmp_path / "store")

    def without():
        os.environ["TMPDIR"] = os.environ["SQLITE_TMPDIR"] = str(tmp_path / "missing")
        work(root)

    log = tmp_path / "log"
    assert traced(without, options=("-o", log), calls="openat,open,creat,memfd_create,mkdir,mkdirat") == 0
    elsewhere = [
        line
        for line in log.read_text().split("\n")
        if re.search(r"O_CREAT|O_TMPFILE|memfd|mkdir|missing|etilqs", line)
        and "EEXIST" not in line
        and not re.search(rf'"({re.escape(str(root))}|[0-9a-f]{{32}}|__pycache__|[^"]*\.pyc)', line)
    ]
    assert elsewhere == []


# --- compacting -------------------------------------------------------------------------------------------------------


def test_a_catalog_that_is_larger_than_its_wal_grows_is_compacted(store):
    store.close()
    lengthen(store.root, 60_000)
    with Store.open(store.root) as opened:
        before = (store.root / "catalog.db").stat().st_size
        assert before > 6 * 1024**2
        opened.prune_history(keep_last=0)
        assert opened.compact().bytes_after < before / 10


def test_compacting_says_that_there_is_no_room_before_it_changes_anything(store, small_disk):
    store.close()
    root = small_disk.root / "store"
    with Store.open(root) as opened:
        push(opened.repository("a"), APP, "v1")
    lengthen(root, 12_000)
    with small_disk.full(leaving=1024**2), Store.open(root) as opened:
        free = r"takes \d,\d{3},\d{3} bytes, and [0-9,]+ are free"
        with unchanged(root), pytest.raises(StoreFullError, match=free):
            opened.compact()
        result = CliRunner().invoke(ocistore, ["--store", str(root), "db", "compact"])
        assert (result.exit_code, "to write the catalog anew takes" in result.stderr) == (36, True)
    with Store.open(root) as opened:
        opened.compact()
        assert check(opened, hashes=True, pruned=True) == []
