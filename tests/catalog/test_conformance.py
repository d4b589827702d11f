"""The SQLite catalog passes the suite of catalogs, and the suite finds catalogs that are wrong."""

import contextlib
import inspect
import os
import sqlite3
import time

import pytest

from ocistore import StoreBusyError
from ocistore.blobs.paths import StorePaths
from ocistore.catalog.contract import one_file
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.errors import StorageError
from ocistore.testing.catalogs import CatalogTests


def new(root, kind=SQLiteCatalog, **options):
    paths = StorePaths(root)
    return kind(paths.root, database=paths.catalog, lock=paths.write_lock, **{"read_only": False, **options})


class TestSQLiteCatalog(CatalogTests):
    kind = SQLiteCatalog

    @pytest.fixture
    def catalog(self, store):
        with contextlib.closing(new(store.root, self.kind)) as catalog:
            yield catalog

    def opened(self, catalog, *, read_only=False):
        return new(catalog.root, self.kind, read_only=read_only)

    def names_in_copy(self, copy):
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM repositories ORDER BY name")]


# --- catalogs that are wrong ------------------------------------------------------------------------------------------


class ReadsTwoStates(SQLiteCatalog):
    def snapshot(self):
        return self.read()


class SnapshotsLate(SQLiteCatalog):
    @contextlib.contextmanager
    def snapshot(self):
        with self.read() as connection:
            connection.command("BEGIN")  # which chooses a state when something is read
            yield connection
            connection.command("COMMIT")


class CommitsEachStatement(SQLiteCatalog):
    @contextlib.contextmanager
    def write(self, **_):
        with super().write() as connection:
            execute = type(connection).execute

            class Eager:
                def execute(self, *arguments):
                    result = execute(connection, *arguments)
                    connection.command("COMMIT")
                    connection.command("BEGIN IMMEDIATE")
                    return result

            yield Eager()


class CommitsWhatRaised(SQLiteCatalog):
    @contextlib.contextmanager
    def write(self, **options):
        raised = None
        with super().write(**options) as connection:
            try:
                yield connection
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised


class WritesLate(SQLiteCatalog):
    """Reads what is committed, and writes when the block ends."""

    @contextlib.contextmanager
    def write(self, **options):
        kept = []
        with self.read() as reading:

            class Late:
                def execute(self, statement, parameters=None):
                    if statement.texts["sqlite"].startswith("SELECT"):
                        return reading.execute(statement, parameters or {})
                    return kept.append((statement, parameters or {}))

            yield Late()
        with super().write(**options) as connection:
            for each in kept:
                connection.execute(*each)


class AlwaysWaits(SQLiteCatalog):
    def write(self, *, wait=True, repositories=None):
        return super().write(repositories=repositories)


class ReadsUnderTheLock(SQLiteCatalog):
    @contextlib.contextmanager
    def read(self):
        with super().locked(), super().read() as connection:
            yield connection


class WritesWhenReadOnly(SQLiteCatalog):
    def __init__(self, root, *, read_only, **options):
        super().__init__(root, read_only=False, **options)
        self.read_only = read_only


class CountsSeconds(SQLiteCatalog):
    def now(self):
        return int(time.time())


class StaysOpen(SQLiteCatalog):
    def close(self, *, wait=True):
        pass


class RefusesChildren(SQLiteCatalog):
    owner = os.getpid()

    def read(self):
        if os.getpid() != self.owner:
            raise StoreBusyError("the catalog", waited=0.0)
        return super().read()


class CopiesWhatIsOnDisk(SQLiteCatalog):
    def copy_to(self, destination):
        destination.write_bytes((self.root / "catalog.db").read_bytes())


WRONG = {
    ReadsTwoStates: "a_snapshot_stays_as_it_was_when_it_began",
    SnapshotsLate: "a_snapshot_begins_when_its_block_does",
    CommitsEachStatement: "what_is_not_committed_is_read_by_nobody_else",
    CommitsWhatRaised: "a_block_that_raises_changes_nothing",
    WritesLate: "writes_of_the_same_repositories_happen_one_after_another",
    AlwaysWaits: "a_write_that_is_not_to_wait_does_not",
    ReadsUnderTheLock: "a_read_does_not_wait_for_a_write",
    WritesWhenReadOnly: "nothing_is_written_to_what_is_open_for_reading",
    CountsSeconds: "now_is_in_milliseconds_of_unix_time",
    StaysOpen: "what_is_closed_is_used_by_nobody",
    RefusesChildren: "a_child_and_its_parent_both_use_it",
    CopiesWhatIsOnDisk: "a_copy_has_what_was_committed_and_no_more",
}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_the_suite_finds_a_catalog_that_is_wrong(store, tmp_path, kind):
    suite = TestSQLiteCatalog()
    suite.kind = kind
    test = getattr(suite, f"test_{WRONG[kind]}")
    given = {"tmp_path": tmp_path, "named": None}
    more = {name: given[name] for name in inspect.signature(test).parameters if name in given}
    with contextlib.closing(new(store.root, kind)) as catalog, pytest.raises((AssertionError, pytest.fail.Exception)):
        test(catalog, **more)
    suite.kind = SQLiteCatalog  # and no other one
    with contextlib.closing(new(store.root)) as catalog:
        with catalog.write() as connection:
            connection.command("DELETE FROM repositories")
        test(catalog, **more)


# --- who asks ---------------------------------------------------------------------------------------------------------


def test_a_change_says_which_repositories_it_concerns(store, monkeypatch):
    told = []
    write = SQLiteCatalog.write

    def noting(self, *, wait=True, repositories=None):
        told.append(repositories)
        return write(self, wait=wait, repositories=repositories)

    monkeypatch.setattr(SQLiteCatalog, "write", noting)
    layer = store.repository("a").put_blob(b"layer").digest
    store.repository("b").mount_blob(layer, "a")
    with store.transaction() as transaction:
        transaction.repository("c").put_blob(b"other")
        transaction.repository("d").mount_blob(layer, "b")
    store.repository("e").start_upload().close()
    store.repository("d").delete_blob(layer)
    assert [set(each) for each in told[:4]] == [{"a"}, {"a", "b"}, {"b", "c", "d"}, {"e"}]
    assert told[-1] == {"d"}


class NoFile(SQLiteCatalog):
    file = None


def test_what_needs_one_file_says_so_where_there_is_none(store):
    with contextlib.closing(new(store.root, NoFile)) as catalog, pytest.raises(StorageError, match="not one file"):
        one_file(catalog)
    with contextlib.closing(new(store.root)) as catalog:
        assert one_file(catalog) is catalog
