"""What a catalog keeps for ever unless it is told otherwise, and giving back what it does not need any more."""

import contextlib
import json
import os
import shutil
import sqlite3
from datetime import timedelta

import pytest
from click.testing import CliRunner
from images import APP, image, push
from invariants import check
from state import catalog, rows, unchanged

from ocistore import ReadOnlyStoreError, Store
from ocistore.catalog import database
from ocistore.cli.commands import ocistore
from ocistore.upkeep import compaction, history

ZERO = timedelta(0)
LONG = timedelta(days=30)


def told(repository, tag=None):
    return [event.id for event in repository.history(tag)]


def pragma(root, name):
    with catalog(root) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.fixture
def moved(repository):
    """Two tags, of which one moved ten times and one never; and one that is gone."""
    push(repository, APP, "still", "gone")
    repository.untag("gone")
    for number in range(10):
        push(repository, image(number), "moving")
    return repository


def age(root, *ids):
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection, connection:
        for number in ids:
            connection.execute("UPDATE tag_events SET at = 1 WHERE id = ?", (number,))


# --- history ----------------------------------------------------------------------------------------------------------


def test_the_last_events_of_each_tag_are_kept(store, moved):
    before = told(moved, "moving")
    report = store.prune_history(keep_last=3)
    assert (report.events, report.kept, report.dry_run) == (7, 6, False)
    assert told(moved, "moving") == before[:3]
    assert len(told(moved, "still")) == 1
    assert len(told(moved, "gone")) == 2
    assert check(store, pruned=True) == []


def test_young_events_are_kept(store, moved):
    age(store.root, *told(moved)[4:])
    assert store.prune_history(keep_for=LONG).events == 9
    assert len(told(moved)) == 4


def test_an_event_goes_only_when_neither_keeps_it(store, moved):
    age(store.root, *told(moved)[4:])
    assert store.prune_history(keep_for=LONG, keep_last=6).events == 4
    assert len(told(moved, "moving")) == 6
    assert len(told(moved, "still")) == 1


def test_the_newest_event_of_the_store_stays_so_that_no_number_is_used_twice(store, moved):
    newest = told(moved)[0]
    assert store.prune_history(keep_last=0).kept == 1
    assert told(moved) == [newest]
    moved.untag("still")
    assert told(moved)[0] > newest
    assert check(store, pruned=True) == []


def test_nothing_is_forgotten_by_itself(store, moved):
    before = told(moved)
    store.gc(grace=ZERO, keep_untagged=ZERO)
    assert told(moved) == before


def test_a_dry_run_says_what_a_real_one_does_and_changes_nothing(store, moved):
    with unchanged(store.root):
        expected = store.prune_history(keep_last=2, dry_run=True)
    done = store.prune_history(keep_last=2)
    assert (expected.events, expected.kept) == (done.events, done.kept)


def test_history_is_forgotten_in_small_transactions(store, moved, monkeypatch):
    monkeypatch.setattr(history, "_PAGE", 3)
    before = told(moved)
    assert store.prune_history(keep_last=1).events == len(before) - 3
    assert len(told(moved)) == 3


@pytest.mark.parametrize("bad", [{}, {"keep_last": -1}, {"keep_for": timedelta(-1)}])
def test_what_is_to_be_kept_has_to_be_said(store, bad):
    with unchanged(store.root), pytest.raises(ValueError, match=r"kept|must not be negative"):
        store.prune_history(**bad)


def test_a_store_that_is_read_only_forgets_nothing(store, moved):
    with Store.open(store.root, read_only=True) as reading:
        assert reading.prune_history(keep_last=1, dry_run=True).events > 0
        for call in (lambda: reading.prune_history(keep_last=1), reading.compact):
            with pytest.raises(ReadOnlyStoreError):
                call()


def test_the_commands_do_it(store, moved):
    def run(*arguments):
        return CliRunner(catch_exceptions=False).invoke(ocistore, ["--store", str(store.root), "db", *arguments])

    assert run("prune-history").exit_code == 2
    assert json.loads(run("prune-history", "--keep-last", "1", "--dry-run", "--json").stdout)["events"] == 10
    assert "10 events" in run("prune-history", "--keep-last", "1", "--keep-for", "0").stdout
    assert json.loads(run("compact", "--json").stdout).keys() == {"bytesBefore", "bytesAfter"}
    assert "->" in run("compact").stdout


# --- size -------------------------------------------------------------------------------------------------------------


def grow(store, number):
    """Rows that a collection takes again."""
    with store.transaction() as transaction:
        for i in range(number):
            push(transaction.repository("large"), image(i))


def test_a_new_catalog_can_give_space_back(store):
    assert pragma(store.root, "auto_vacuum") == 2


def test_a_collection_gives_free_pages_back(store, monkeypatch):
    monkeypatch.setattr(compaction, "_WORTH", 10)
    monkeypatch.setattr(compaction, "_AT_ONCE", 10)
    grow(store, 300)
    before = pragma(store.root, "page_count")
    store.delete_repository("large")
    assert store.gc(grace=ZERO, keep_untagged=ZERO).blobs > 600
    assert pragma(store.root, "page_count") < before * 0.6
    assert pragma(store.root, "freelist_count") <= max(10, pragma(store.root, "page_count") / 4)
    assert check(store, hashes=True) == []


def test_few_free_pages_are_left_for_the_next_push(store):
    grow(store, 100)
    before = pragma(store.root, "page_count")
    store.delete_repository("large")
    store.gc(grace=ZERO, keep_untagged=ZERO)
    assert before <= pragma(store.root, "page_count") <= before + 2  # which listed the condemned blobs


def test_no_row_stays_when_everything_is_deleted_and_collected_but_the_history(store):
    grow(store, 20)
    push(store.repository("a"), APP, "v1")
    store.repository("a").start_upload().close()
    for name in list(store.repositories()):
        store.delete_repository(name)
    for _ in range(2):
        store.gc(grace=ZERO, keep_untagged=ZERO)
    left = {name: len(found) for name, found in rows(store.root).items() if found}
    assert left == {"alembic_version": 1, "store": 1, "tag_events": 2}


def older(root):
    """As a version made it that did not think of that."""
    with contextlib.closing(sqlite3.connect(root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    assert pragma(root, "auto_vacuum") == 0


def test_compacting_gives_everything_back_and_converts_an_older_catalog(tmp_path, empty_store):
    root = shutil.copytree(empty_store, tmp_path / "store")
    older(root)
    with Store.open(root) as store:
        grow(store, 200)
        push(store.repository("a"), APP, "v1")
        store.delete_repository("large")
        store.gc(grace=ZERO, keep_untagged=ZERO)
        before = rows(root)
        report = store.compact()
        assert rows(root) == before
        assert report.bytes_after < report.bytes_before / 2
        assert os.stat(root / "catalog.db").st_size == report.bytes_after
        assert (pragma(root, "auto_vacuum"), pragma(root, "freelist_count")) == (2, 0)
        push(store.repository("a"), image("after"), "v2")
        assert check(store, hashes=True) == []


def test_compacting_goes_on_beside_a_reader(store, monkeypatch):
    grow(store, 50)
    store.close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.5)
    with Store.open(store.root) as opened, opened._core.catalog.snapshot() as connection:
        before = connection.command("SELECT count(*) FROM blobs").scalar()
        opened.compact()
        assert connection.command("SELECT count(*) FROM blobs").scalar() == before
    assert check(store) == []
