import contextlib
import os
import shutil
import sqlite3
import threading
import time
import weakref
from functools import partial

import pytest
from images import image, push
from invariants import check
from processes import python, run_python
from state import rows

from ocistore import (
    CorruptError,
    ReadOnlyStoreError,
    StorageError,
    Store,
    StoreBusyError,
    StoreClosedError,
    StoreFullError,
)
from ocistore.blobs.paths import StorePaths
from ocistore.catalog import transactions
from ocistore.catalog.access import Access
from ocistore.catalog.connection import Result
from ocistore.catalog.database import Database
from ocistore.catalog.sqlite import MINIMUM_SQLITE, SQLiteCatalog, translated
from ocistore.catalog.written import Statement

VALUE = Statement("value", {"sqlite": "SELECT value FROM counter"})
ADD = Statement("add", {"sqlite": "UPDATE counter SET value = value + 1"})
MORE = Statement("more", {"sqlite": "INSERT INTO counter VALUES (0)"})


def open_catalog(root, **options):
    paths = StorePaths(root)
    options = {"read_only": False, **options}
    return contextlib.closing(SQLiteCatalog(root, database=paths.catalog, lock=paths.write_lock, **options))


@pytest.fixture
def root(tmp_path, empty_store):
    """The directory of a closed store with one more table, which counts from 0."""
    root = shutil.copytree(empty_store, tmp_path / "store")
    connection = sqlite3.connect(root / "catalog.db")
    connection.execute("CREATE TABLE counter (value)")
    connection.execute("INSERT INTO counter VALUES (0)")
    connection.commit()
    connection.close()
    return root


@pytest.fixture
def catalog(root):
    with open_catalog(root) as opened:
        yield opened


def pragmas(connection):
    names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "busy_timeout", "query_only")
    return {name: connection.command(f"PRAGMA {name}").scalar() for name in names}


def value(catalog):
    with catalog.read() as connection:
        return connection.execute(VALUE).scalar()


# --- connections ------------------------------------------------------------------------------------------------------

DURABLE = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL
    "foreign_keys": 1,
    "trusted_schema": 0,
    "busy_timeout": 30_000,
    "query_only": 0,
}


@pytest.mark.parametrize("handle", ["read", "snapshot", "write"])
def test_every_connection_is_durable_and_holds_foreign_keys(catalog, handle):
    with contextlib.ExitStack() as stack:
        for _ in range(1 if handle == "write" else 20):  # more than are kept
            connection = stack.enter_context(getattr(catalog, handle)())
            assert pragmas(connection) == DURABLE
    with getattr(catalog, handle)() as connection:
        assert pragmas(connection) == DURABLE


def test_a_connection_opened_after_a_failed_one_is_no_different(catalog):
    with pytest.raises(ZeroDivisionError), catalog.write():
        _ = 1 / 0
    with catalog.write() as connection:
        assert pragmas(connection) == DURABLE


def test_read_only_connections_cannot_write(root):
    with open_catalog(root, read_only=True) as catalog:
        with pytest.raises(ReadOnlyStoreError), catalog.write():
            pytest.fail("a write transaction of a store that is read only")
        for handle in (catalog.read, catalog.snapshot):
            with pytest.raises(ReadOnlyStoreError), handle() as connection:
                connection.execute(ADD)
        assert value(catalog) == 0


def test_foreign_keys_are_off_while_the_schema_changes_and_on_again_afterwards(catalog):
    with catalog.locked(), catalog.migrating() as (connection, _):
        assert pragmas(connection)["foreign_keys"] == 0
    with catalog.write() as connection:
        assert pragmas(connection) == DURABLE


def test_a_schema_change_that_raises_is_rolled_back(catalog):
    with catalog.locked(), pytest.raises(ZeroDivisionError), catalog.migrating() as (connection, alchemy):
        connection.execute(ADD)
        alchemy.exec_driver_sql("CREATE TABLE half (x)")
        _ = 1 / 0
    assert value(catalog) == 0
    assert "half" not in rows(catalog.root)


def test_idle_connections_do_not_pile_up(catalog):
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(catalog.read())
        most = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) < most - 30


# --- transactions -----------------------------------------------------------------------------------------------------


def test_a_write_is_seen_when_it_has_ended_and_not_before(catalog):
    with catalog.write() as connection:
        connection.execute(ADD)
        assert value(catalog) == 0
    assert value(catalog) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_write_that_raises_changes_nothing_and_the_next_one_works(catalog, error):
    with pytest.raises(error), catalog.write() as connection:
        connection.execute(ADD)
        raise error
    with catalog.write() as connection:
        connection.execute(ADD)
    assert value(catalog) == 1


def test_a_broken_constraint_is_no_error_of_the_store_and_changes_nothing(catalog):
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"), catalog.write() as connection:
        connection.execute(ADD)
        connection.command("INSERT INTO repository_blobs (repository_id, blob_id) VALUES (7, 7)")
    assert value(catalog) == 0


def test_a_snapshot_sees_one_state(catalog):
    with catalog.snapshot() as connection:
        before = connection.execute(VALUE).scalar()
        with catalog.write() as writer:
            writer.execute(ADD)
        assert connection.execute(VALUE).scalar() == before
    assert value(catalog) == before + 1


def test_no_update_of_threads_that_write_at_once_is_lost(catalog):
    errors = []

    def work():
        try:
            for _ in range(10):
                with catalog.write() as connection:
                    [[found]] = connection.execute(VALUE)
                    connection.command(f"UPDATE counter SET value = {found + 1}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert value(catalog) == 80


def test_a_failed_read_costs_its_connection_only(catalog):
    with pytest.raises(sqlite3.OperationalError, match="syntax error"), catalog.read() as connection:
        connection.command("SELECT FROM")
    with pytest.raises(CorruptError, match="no such table"), catalog.read() as connection:
        connection.command("SELECT * FROM absent")
    assert value(catalog) == 0


# --- closing and forking ----------------------------------------------------------------------------------------------


def test_the_last_to_close_leaves_one_file(root):
    with open_catalog(root) as first, open_catalog(root) as second:
        assert value(second) == 0
        with first.write() as connection:
            connection.execute(ADD)
        first.close()
        assert (root / "catalog.db-wal").stat().st_size > 0
        assert value(second) == 1
    assert not (root / "catalog.db-wal").exists()
    assert rows(root)["counter"] == [(1,)]


@pytest.mark.parametrize("close", ["close", "close_at_exit"])
@pytest.mark.parametrize("begin", [transactions.Read, partial(transactions.Write, wait=True)], ids=["read", "write"])
def test_who_begins_while_connections_are_closed_waits_and_is_given_none_of_them(catalog, monkeypatch, begin, close):
    with catalog.write() as connection:
        connection.execute(ADD)
    began, raised, threads, database = threading.Event(), [], [], catalog._access.database()

    def work():
        try:
            with begin(catalog._access) as connection:  # past what asks whether the catalog is closed
                began.set()
                connection.execute(ADD if isinstance(begin, partial) else VALUE)
        except StoreClosedError as error:
            raised.append(error)

    shut = Database.shut

    def beside_a_thread(self, **settle):
        if not threads:
            threads.append(threading.Thread(target=work))
            threads[0].start()
            assert not began.wait(0.1)
        shut(self, **settle)

    with monkeypatch.context() as patched:
        patched.setattr(Database, "shut", beside_a_thread)
        patched.setattr(Database, "_turn_to_settle", lambda *_, **__: None)  # as where the lock is not to be had
        patched.setattr(Access, "refuse_closed", lambda _: None)
        if close == "close":
            database.leave(weakref.ref(catalog._access), wait=False)
        else:
            database.close_at_exit()
        threads[0].join()
    assert len(raised) == (close == "close")
    assert began.is_set() == (close != "close")


def test_closing_waits_for_the_writer_of_another_process(root):
    code = """
import sys, time
from pathlib import Path
from ocistore.blobs.paths import StorePaths
from ocistore.catalog.sqlite import SQLiteCatalog
paths = StorePaths(Path(sys.argv[1]))
catalog = SQLiteCatalog(paths.root, database=paths.catalog, lock=paths.write_lock, read_only=False)
with catalog.write() as connection:
    connection.command("UPDATE counter SET value = 5")
    print("writing")
    sys.stdin.readline()
    time.sleep(0.1)
print("written")
sys.stdin.readline()
"""
    with open_catalog(root) as ours:
        assert value(ours) == 0
        with python(code, root) as writer:
            assert writer.says() == "writing"
            writer.tell()
            ours.close()
            assert rows(root)["counter"] == [(5,)]
            assert writer.says() == "written"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(catalog):
    with catalog.write() as connection:
        connection.execute(ADD)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with catalog.write() as connection:
                connection.execute(ADD)
            catalog.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert value(catalog) == 2
    with catalog.write() as connection:
        connection.execute(ADD)
    assert value(catalog) == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_another_threads_transaction_hurts_neither(catalog):
    writing = threading.Event()

    def work():
        with catalog.write() as connection:
            connection.execute(ADD)
            writing.set()
            time.sleep(0.2)
            connection.execute(ADD)

    thread = threading.Thread(target=work)
    thread.start()
    writing.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with catalog.write() as connection:
                connection.execute(ADD)
            assert value(catalog) in {1, 3}
            catalog.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert value(catalog) == 3


# --- errors -----------------------------------------------------------------------------------------------------------


def failure(root, *statements, path="catalog.db", uri=""):
    with pytest.raises(sqlite3.Error) as caught:
        connection = sqlite3.connect(f"file:{root / path}{uri}", timeout=0, isolation_level=None, uri=True)
        try:
            for statement in statements:
                connection.execute(statement)
        finally:
            connection.close()
    return translated(caught.value, database=root / path, root=root)


def test_what_sqlite_says_becomes_an_error_of_ours(root):
    with contextlib.closing(sqlite3.connect(root / "catalog.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        busy = failure(root, "BEGIN IMMEDIATE")
    assert type(busy) is StoreBusyError
    assert type(failure(root, "DELETE FROM store", uri="?mode=ro")) is ReadOnlyStoreError
    assert type(failure(root, "SELECT 1 FROM store", path="gone/catalog.db")) is StorageError
    assert type(failure(root, "PRAGMA max_page_count = 1", *FILL)) is StoreFullError
    (root / "junk").write_bytes(b"x" * 5000)
    assert type(failure(root, "SELECT 1 FROM store", path="junk")) is CorruptError
    assert failure(root, "SELECT 1 FROM nothing") is None
    assert failure(root, "INSERT INTO tags (repository_id, name, manifest_id, updated) VALUES (1, NULL, 1, 1)") is None


FILL = ("CREATE TABLE fill (x)", "INSERT INTO fill VALUES (zeroblob(100000))")


def test_a_full_disk_is_said_to_be_one_and_costs_nothing_else(small_disk, empty_store):
    root = shutil.copytree(empty_store, small_disk.root / "store")
    with open_catalog(root) as catalog:
        with catalog.write() as connection:
            connection.command("CREATE TABLE counter (value)")
            connection.execute(MORE)
        with small_disk.full():
            with pytest.raises(StoreFullError) as caught, catalog.write() as connection:
                connection.command("UPDATE counter SET value = zeroblob(100000)")
            assert caught.value.path == str(root / "catalog.db")
            assert value(catalog) == 0
        with catalog.write() as connection:
            connection.execute(ADD)
        assert value(catalog) == 1


def test_a_store_that_did_not_fit_is_made_by_the_next_open(small_disk):
    reserve = small_disk.root / "reserve"
    reserve.write_bytes(bytes(48 * 1024))  # enough to begin, and not for the schema
    with small_disk.full():
        reserve.unlink()
        with pytest.raises(StoreFullError):
            Store.open(small_disk.root / "store")
    with Store.open(small_disk.root / "store") as store:
        push(store.repository("app"), image(), "v1")
    assert check(store) == []


def test_sqlite_of_this_age_is_asked_for_and_no_older(monkeypatch, root):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 9))
    with pytest.raises(StorageError, match=r"older than 3\.37\.0"):
        open_catalog(root)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", MINIMUM_SQLITE)
    with open_catalog(root) as catalog:
        assert value(catalog) == 0


def test_a_catalog_that_is_never_closed_says_nothing_at_exit(root):
    code = """
import sys
from pathlib import Path
from ocistore.blobs.paths import StorePaths
from ocistore.catalog.sqlite import SQLiteCatalog
paths = StorePaths(Path(sys.argv[1]))
catalog = SQLiteCatalog(paths.root, database=paths.catalog, lock=paths.write_lock, read_only=False)
with catalog.write() as connection:
    connection.command("UPDATE counter SET value = 5")
"""
    run_python(code, root)
    assert rows(root)["counter"] == [(5,)]


@pytest.mark.parametrize("block", ["read", "snapshot", "write"])
def test_a_statement_that_is_interrupted_before_its_rows_are_fetched_keeps_no_transaction(store, monkeypatch, block):
    def interrupt(self, cursor):
        raise KeyboardInterrupt

    push(store.repository("app"), image("first"), "v1")
    catalog = store._core.catalog
    with (
        monkeypatch.context() as patched,
        pytest.raises(KeyboardInterrupt) as caught,  # which keeps the frames
        getattr(catalog, block)() as connection,
    ):
        patched.setattr(Result, "__init__", interrupt)
        connection.command("SELECT * FROM tags")
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        assert other.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0  # nobody reads either
    assert caught.value is not None
