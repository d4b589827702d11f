import compileall
import contextlib
import inspect
import os
import re
import shutil
import signal
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import tracing
from alembic import command
from alembic.script import ScriptDirectory
from earlier import to_revision
from images import artifact, image, index, push
from invariants import check
from processes import python, run_python
from sqlalchemy import create_engine, event
from state import catalog, rows

import ocistore
from ocistore import CorruptError, SchemaTooNewError, SchemaTooOldError, Store, StoreBusyError, StoreNotFoundError
from ocistore.catalog import address, tables
from ocistore.catalog.migrate import SchemaDifference, alembic_config, differences
from ocistore.catalog.schema import APPLICATION_ID, SCHEMA_REVISION

NOW = timedelta(0)

# For each revision, one row in every table as that revision made them: what an upgrade from there has to keep.
_FIRST = """
        INSERT INTO store VALUES (1, 1, 1, 100);
        INSERT INTO repositories VALUES (1, 'app', 100);
        INSERT INTO blobs VALUES (1, 'sha256:m', 10, 'live', 1, NULL, NULL), (2, 'sha256:c', 2, 'live', 1, NULL, 5);
        INSERT INTO repository_blobs VALUES (1, 2, 100, NULL);
        INSERT INTO manifests VALUES (1, 'application/vnd.oci.image.manifest.v1+json', 'a/b', 'c/d', NULL, '{}', NULL);
        INSERT INTO edges VALUES (1, 0, 'config', 2, 2, 'c/d');
        INSERT INTO repository_manifests VALUES (1, 1, 100, NULL);
        INSERT INTO repository_edges VALUES (1, 2, 1, 'config');
        INSERT INTO tags VALUES (1, 'latest', 1, 100);
        INSERT INTO tag_events VALUES (1, 'app', 'latest', NULL, 'sha256:m', 100, 'somebody');
        INSERT INTO uploads VALUES ('00000000000000000000000000000000', 1, 'sha256', 0, 100, 100, 200);
        INSERT INTO leases VALUES ('lease', 'why not', 100, 200);
        INSERT INTO lease_blobs VALUES ('lease', 1, 1);
"""
_SECOND = (
    _FIRST.replace("(1, 1, 1, 100);", "(1, 1, 1, 100, '0123', NULL);", 1)
    + "INSERT INTO collection_holds VALUES (1, 'restored', 100, NULL);"
)
_THIRD = _SECOND.replace("'sha256', 0, 100, 100, 200)", "'sha256', 0, 100, 100, 200, 'boot/7')", 1)
_FOURTH = (
    _THIRD
    + """
        INSERT INTO repositories VALUES (2, NULL, 100);
        INSERT INTO deleted_repositories VALUES (2, 'gone', 100, 'somebody', NULL);
    """
)
_FIFTH = _FOURTH.replace("_manifests VALUES (1, 1, 100, NULL)", "_manifests VALUES (1, 1, 100, NULL, 1)", 1)
_SIXTH = _FIFTH.replace("100, NULL, 1)", "100, NULL, 1, NULL)", 1).replace("'latest', 1, 100", "'latest', 1, 100, NULL")
_SEVENTH = (
    _SIXTH.replace("100, 'somebody');", "100, 'somebody', 7);", 1)
    + """
        INSERT INTO batches VALUES (7, 200);
        INSERT INTO repositories VALUES (3, NULL, 100);
        INSERT INTO staged_repositories VALUES (3, 7, 'soon');
    """
)
_EIGHTH = (
    _SEVENTH.replace("_blobs VALUES (1, 2, 100, NULL)", "_blobs VALUES (1, 2, 100, NULL, 7)")
    .replace("100, NULL, 1, NULL)", "100, NULL, 1, NULL, 7)", 1)
    .replace("'latest', 1, 100, NULL", "'latest', 1, 100, NULL, 7, NULL, 1, NULL", 1)
    .replace("batches VALUES (7, 200)", "batches VALUES (7, 200, 1)", 1)
)
# As a downgrade makes what revision 0010 has dropped.
_NINTH = (
    _EIGHTH.replace("_blobs VALUES (1, 2, 100, NULL, 7)", "_blobs VALUES (1, 2, 0, NULL, 7, 1)")
    .replace("100, NULL, 1, NULL, 7)", "100, NULL, 1, NULL, 7, 1)", 1)
    .replace("100, NULL, 7, NULL, 1, NULL", "100, NULL, 7, NULL, 1, NULL, 1", 1)
)
_TENTH = (
    _NINTH.replace("store VALUES (1, 1, ", "store VALUES (1, ", 1)
    .replace("'live', 1, ", "'live', ")
    .replace("_blobs VALUES (1, 2, 0, ", "_blobs VALUES (1, 2, ")
)
ROWS = {
    "0001": _FIRST,
    "0002": _SECOND,
    "0003": _THIRD,
    "0004": _FOURTH,
    "0005": _FIFTH,
    "0006": _SIXTH,
    "0007": _SEVENTH,
    "0008": _EIGHTH,
    "0009": _NINTH,
    "0010": _TENTH,
    "0011": _TENTH,
}


@contextlib.contextmanager
def database():
    """A database in memory, with transactions as the catalog has them."""
    engine = create_engine("sqlite://", connect_args={"isolation_level": None})
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def contents(connection):
    names = connection.exec_driver_sql(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('alembic_version', 'sqlite_sequence')"
    ).scalars()
    return {name: connection.exec_driver_sql(f"SELECT * FROM {name}").fetchall() for name in names.all()}


def schema(connection):
    found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name <> 'alembic_version'").fetchall()
    return {(kind, name): " ".join((sql or "").split()) for kind, name, sql in found if name[:7] != "sqlite_"}


def versions(connection):
    """Which revision it says, and how the table that says it was made."""
    made = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'alembic_version'").fetchone()[0]
    return " ".join(made.split()), connection.execute("SELECT * FROM alembic_version").fetchall()


class AsOurs:
    """A connection of SQLAlchemy's, as the catalog's own ones are."""

    def __init__(self, connection):
        self._driver = connection.connection.driver_connection

    def execute(self, statement):
        return self._driver.execute(statement.texts["sqlite"])


def scripts():
    return ScriptDirectory.from_config(alembic_config())


def edit(root, *statements):
    connection = sqlite3.connect(root / "catalog.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.fixture
def root(tmp_path, empty_store):
    """The directory of a closed store."""
    return shutil.copytree(empty_store, tmp_path / "store")


# --- one schema, said three times -------------------------------------------------------------------------------------


def test_migrations_make_the_schema_that_the_tables_declare():
    declared = create_engine("sqlite://")
    with declared.begin() as connection:
        tables.metadata.create_all(connection)
        wanted = schema(connection.connection.driver_connection)
    declared.dispose()
    with database() as connection:
        command.upgrade(alembic_config(connection), "head")
        assert schema(connection.connection.driver_connection) == wanted
    assert len(wanted) > len(tables.metadata.tables)  # indexes are among them


def test_a_new_store_has_what_the_migrations_make_of_an_empty_database(root):
    with catalog(root) as connection, database() as migrated:
        command.upgrade(alembic_config(migrated), "head")
        found = migrated.connection.driver_connection
        for rows in (schema, versions):
            assert rows(connection) == rows(found)


def test_every_table_is_strict_and_narrow_ones_have_no_rowid(root):
    with catalog(root) as connection:
        options = {
            name: (bool(strict), bool(narrow))
            for _, name, kind, _, narrow, strict in connection.execute("PRAGMA table_list")
            if kind == "table" and name not in {"alembic_version", "sqlite_schema", "sqlite_temp_schema"}
        }
    declared = {
        name: (True, not table.dialect_options["sqlite"]["with_rowid"])
        for name, table in tables.metadata.tables.items()
    }
    assert options == declared
    assert options["tags"] == (True, True)


def test_differences_between_the_schema_and_the_tables_are_named(root):
    with Store.open(root) as store, store._core.catalog.snapshot() as connection:
        assert differences(connection) == []
    edit(
        root,
        "DROP INDEX ix_leases_expires",
        "CREATE TABLE more (x)",
        "DROP INDEX ix_uploads_expires",
        "CREATE INDEX ix_uploads_expires ON uploads (started)",
    )
    with Store.open(root) as store, store._core.catalog.snapshot() as connection:
        assert differences(connection) == [
            SchemaDifference("ix_leases_expires", "missing"),
            SchemaDifference("ix_uploads_expires", "different"),
            SchemaDifference("more", "unexpected"),
        ]


def test_the_words_about_the_schema_name_every_table():
    words = set(re.findall(r"\w+", inspect.getdoc(tables)))
    assert set(tables.metadata.tables) <= words


def test_the_revision_the_code_works_with_is_the_newest_and_none_is_left_out():
    assert scripts().get_heads() == [SCHEMA_REVISION]
    found = sorted(script.revision for script in scripts().walk_revisions())
    assert found == [f"{number:04}" for number in range(1, len(found) + 1)]


def test_every_revision_has_rows_to_be_tested_with():
    files = Path(scripts().versions).glob("*.py")
    assert sorted(ROWS) == sorted(path.name[:4] for path in files)


# --- each revision, with rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", sorted(ROWS))
def test_an_upgrade_keeps_the_rows_of_every_table(revision):
    with database() as connection:
        config = alembic_config(connection)
        command.upgrade(config, revision)
        connection.connection.driver_connection.executescript("BEGIN;" + ROWS[revision])
        before = contents(connection)
        assert all(before.values()), "a table without a row"
        command.upgrade(config, "head")
        after = contents(connection)
        assert {name: len(found) for name, found in before.items()} == {name: len(after[name]) for name in before}
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
        assert differences(AsOurs(connection)) == []


@pytest.mark.parametrize("revision", sorted(ROWS))
def test_a_downgrade_undoes_the_upgrade(revision):
    with database() as connection:
        config = alembic_config(connection)
        before = scripts().get_revision(revision).down_revision
        if before is not None:
            command.upgrade(config, before)
            connection.connection.driver_connection.executescript("BEGIN;" + ROWS[before])
        had = contents(connection), schema(connection.connection.driver_connection)
        command.upgrade(config, revision)
        assert (contents(connection), schema(connection.connection.driver_connection)) != had
        command.downgrade(config, before or "base")
        assert (contents(connection), schema(connection.connection.driver_connection)) == had


def test_a_new_store_says_what_and_since_when_it_is(tmp_path):
    with Store.open(tmp_path / "store") as store:
        made = (tmp_path / "store").stat().st_ctime
    with catalog(store.root) as connection:
        [[epoch, created]] = connection.execute("SELECT epoch, created FROM store")
        assert epoch == 1
        assert created / 1000 == pytest.approx(made, abs=60)
        assert connection.execute("PRAGMA application_id").fetchall() == [(APPLICATION_ID,)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA_REVISION,)]


# --- stores that are not ours to use ----------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_store_is_refused_and_left_alone(root, read_only):
    edit(root, "UPDATE alembic_version SET version_num = '0999'")
    before = rows(root)
    with pytest.raises(SchemaTooNewError, match="install a newer ocistore") as caught:
        Store.open(root, read_only=read_only)
    assert (caught.value.root, caught.value.found, caught.value.known) == (root, "0999", SCHEMA_REVISION)
    assert rows(root) == before


def test_an_older_store_cannot_be_opened_read_only(root):
    edit(root, "UPDATE alembic_version SET version_num = '0000'")
    before = rows(root)
    with pytest.raises(SchemaTooOldError, match="ocistore db upgrade") as caught:
        Store.open(root, read_only=True)
    assert (caught.value.root, caught.value.found, caught.value.needed) == (root, "0000", SCHEMA_REVISION)
    assert rows(root) == before


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM alembic_version", "0 revisions"),
        ("DROP TABLE alembic_version", "no table alembic_version"),
        ("INSERT INTO alembic_version VALUES ('0000')", "2 revisions"),
        ("UPDATE alembic_version SET version_num = '0000'", "0000"),
    ],
)
def test_a_store_without_a_revision_of_ours_is_damaged(root, statement, reason):
    edit(root, statement)
    before = rows(root)
    with pytest.raises(CorruptError, match=reason):
        Store.open(root)
    assert rows(root) == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7"])
def test_a_database_of_another_application_is_left_alone(tmp_path, statement, read_only):
    edit(tmp_path, statement)
    before = (tmp_path / "catalog.db").read_bytes()
    with pytest.raises(StoreNotFoundError, match="another application") as caught:
        Store.open(tmp_path, read_only=read_only)
    assert caught.value.root == tmp_path
    assert (tmp_path / "catalog.db").read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("content", [b"no database at all\n" * 1000, b"SQLite format 3\0" + bytes(1000)])
def test_what_is_no_database_is_damaged_and_left_alone(tmp_path, content, read_only):
    (tmp_path / "catalog.db").write_bytes(content)
    with pytest.raises(CorruptError, match="not a database"):
        Store.open(tmp_path, read_only=read_only)
    assert (tmp_path / "catalog.db").read_bytes() == content


# --- upgrades, by a version of ocistore that does not exist yet -------------------------------------------------------

NEXT = f"{int(SCHEMA_REVISION) + 1:04}"

GOOD = """
    op.add_column("repositories", sa.Column("title", sa.Text))
    op.execute("UPDATE repositories SET title = 'title of ' || name")
"""
FAILING = (
    GOOD
    + """
    op.create_table("half", sa.Column("x", sa.Integer))
    raise ZeroDivisionError("half way")
"""
)
UNFAITHFUL = (
    GOOD
    + """
    op.execute("DELETE FROM repositories")
"""
)
SLOW = "    time.sleep(0.5)\n" + GOOD

ELSEWHERE = """
import sys
for name in [each for each in sys.modules if each.partition(".")[0] == "ocistore"]:
    del sys.modules[name]  # of this version
sys.path.insert(0, sys.argv[1])
from ocistore import Store
"""
OPEN = f"""{ELSEWHERE}
with Store.open(sys.argv[2]) as store:
    print(list(store.repositories()))
"""


@pytest.fixture(scope="module")
def this_version(tmp_path_factory):
    """A copy of this version, compiled, so that not every process that imports a copy of it has to do that."""
    tree = tmp_path_factory.mktemp("version")
    ignored = shutil.ignore_patterns("__pycache__", "_migrations")
    shutil.copytree(Path(ocistore.__file__).parent, tree / "ocistore", ignore=ignored)
    shutil.copytree(scripts().dir, tree / "migrations", ignore=ignored)
    assert compileall.compile_dir(tree, quiet=1)
    return tree


@pytest.fixture
def newer(this_version, tmp_path):
    """Make a copy of this version with one more revision, which runs ``body``."""

    def make(body):
        tree = shutil.copytree(this_version, tmp_path / "newer")
        declared = tree / "ocistore" / "catalog" / "schema.py"
        text = declared.read_text()
        assert f'SCHEMA_REVISION: Final = "{SCHEMA_REVISION}"' in text
        declared.write_text(text.replace(f'"{SCHEMA_REVISION}"', f'"{NEXT}"'))
        (tree / "migrations" / "versions" / f"{NEXT}_next.py").write_text(
            f"import time\nimport sqlalchemy as sa\nfrom alembic import op\n"
            f'revision = "{NEXT}"\ndown_revision = "{SCHEMA_REVISION}"\ndef upgrade():\n{body}'
        )
        return tree

    return make


@pytest.fixture
def filled(root):
    with Store.open(root) as store, store.transaction() as transaction:
        for name in ("app", "more/app"):
            push(transaction.repository(name), index([image("a"), image("b")]), "v1")
            push(transaction.repository(name), artifact(subject=image("a")), "note")
    return root


def upgraded(root):
    """What the next version makes of these rows."""
    found = rows(root)
    found["alembic_version"] = [(NEXT,)]
    found["repositories"] = [(*row, f"title of {row[1]}") for row in found["repositories"]]
    return found


def test_opening_upgrades_and_keeps_every_row(filled, newer):
    expected = upgraded(filled)
    run_python(OPEN, newer(GOOD), filled)
    assert rows(filled) == expected
    with pytest.raises(SchemaTooNewError):
        Store.open(filled)


def test_a_store_of_revision_0009_keeps_its_content_and_collects_what_it_had_begun_to(root):
    kept, going = image("kept"), image("going", layers=2)
    with Store.open(root) as store:
        push(store.repository("app"), kept, "v1")
        push(store.repository("app"), artifact(subject=image("absent")), "about")  # whose subject is not here
        push(store.repository("app"), going)
        for _ in range(3):  # manifests, blobs, and condemning them
            store.gc(grace=NOW, keep_untagged=NOW, maximum_batches=1)
    to_revision(root, "0009")
    edit(root, "INSERT INTO blobs VALUES (99, 'sha256:00', 0, 'absent', 2, 1, NULL)")  # nothing names it any more
    before = rows(root)
    states = [(row[3], row[5]) for row in before["blobs"]]
    assert {each for each in states if each[0] != "live"} == {("condemned", 0), ("absent", 1), ("absent", None)}
    with Store.open(root) as store:
        after = rows(root)
        assert {row[1] for row in before["blobs"]} - {row[1] for row in after["blobs"]} == {"sha256:00"}
        same = before.keys() - {"alembic_version", "store", "blobs", "repository_blobs"}
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
        assert {row[4] for row in after["blobs"] if row[3] == "condemned"} == {None}
        report = store.gc(grace=NOW, keep_untagged=NOW)
        assert report.blobs == 4
        assert store.repository("app").get_manifest("v1").content == kept.manifest
    assert check(root, hashes=True) == []


def test_processes_that_upgrade_at_once_do_it_once(filled, newer):
    expected = upgraded(filled)
    tree = newer(SLOW)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(python(OPEN, tree, filled)) for _ in range(4)]
        assert [child.says() for child in children] == ["['app', 'more/app']"] * 4
        for child in children:
            child.finish()
    assert rows(filled) == expected


def test_threads_that_upgrade_different_stores_at_once_do_not_meet(filled, newer, tmp_path):
    expected = upgraded(filled)
    copies = [shutil.copytree(filled, tmp_path / str(number)) for number in range(8)]
    code = f"""{ELSEWHERE}
import threading
threads = [threading.Thread(target=lambda root=root: Store.open(root).close()) for root in sys.argv[2:]]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    run_python(code, newer(GOOD), *copies)
    assert [rows(copy) == expected for copy in copies] == [True] * 8


def test_a_migration_that_fails_half_way_leaves_nothing(filled, newer):
    with catalog(filled) as connection:
        before = rows(filled), schema(connection)
    with pytest.raises(AssertionError, match="ZeroDivisionError: half way"):
        run_python(OPEN, newer(FAILING), filled)
    with catalog(filled) as connection:
        assert (rows(filled), schema(connection)) == before
    with Store.open(filled) as store:
        assert store.repository("app").get_manifest("v1").content == index([image("a"), image("b")]).manifest
    assert check(filled, hashes=True) == []


def test_a_migration_that_breaks_references_is_rolled_back(filled, newer):
    before = rows(filled)
    with pytest.raises(AssertionError, match=r"CorruptError: .*foreign keys do not hold"):
        run_python(OPEN, newer(UNFAITHFUL), filled)
    assert rows(filled) == before


# --- killed on the way ------------------------------------------------------------------------------------------------

CHANGES = "fsync,fdatasync,pwrite64,mkdir,mkdirat,linkat,link,unlink,unlinkat,ftruncate,flock,rename,renameat,renameat2"
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None and not os.environ.get("OCISTORE_REQUIRE_ALL"), reason="needs strace"
)


def traced(tmp_path, code, *arguments, kill_at=None):
    """Run the code and return the names of the system calls that changed something, in their order.

    ``kill_at``: kill it at the start of this call, given as a name and which call of that name it is.
    """
    log = tmp_path / "calls"
    options = ["-o", log]
    if kill_at is not None:
        options += ["-e", f"inject={kill_at[0]}:signal=KILL:when={kill_at[1]}"]
    status = tracing.traced(_run, code, arguments, options=options, calls=CHANGES)
    assert status == (0 if kill_at is None else -signal.SIGKILL)
    made = re.findall(r"^[0-9]+ +(\w+)\(", log.read_text(), re.MULTILINE)
    return [name for name in made if name in CHANGES.split(",")]


def _run(code, arguments):
    sys.argv = ["code", *map(str, arguments)]
    exec(code, {"__name__": "__main__"})


def moments(calls, *, every):
    """Every call as ``traced`` wants to be told of it, or two of them."""
    found = [(name, calls[: position + 1].count(name)) for position, name in enumerate(calls)]
    return found if every else found[len(found) // 4 :: max(1, len(found) // 2)]


CREATE = """
import sys
from ocistore import Store
Store.open(sys.argv[1]).close()
"""


@needs_strace
def test_killed_while_a_store_is_made_the_next_open_makes_it(tmp_path):
    calls = traced(tmp_path, CREATE, tmp_path / "whole")
    assert {"mkdir", "fsync", "pwrite64", "flock"} <= set(calls)
    for moment in moments(calls, every=False):
        root = tmp_path / f"killed at {moment}"
        traced(tmp_path, CREATE, root, kill_at=moment)
        with Store.open(root) as store:
            push(store.repository("app"), image(), "v1")
            with store._core.catalog.snapshot() as connection:
                assert differences(connection) == []
        # Trying the filesystem leaves a file aside where it is killed, which is swept by age.
        assert check(root, hashes=True, idle=False) == [], moment


@needs_strace
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_while_a_store_is_upgraded_it_is_the_old_one_or_the_new_one(tmp_path, filled, newer, every):
    tree = newer(GOOD)
    old, new = rows(filled), upgraded(filled)
    calls = traced(tmp_path, OPEN, tree, shutil.copytree(filled, tmp_path / "whole"))
    assert {"pwrite64", "flock"} <= set(calls)
    for moment in moments(calls, every=every):
        root = shutil.copytree(filled, tmp_path / f"killed at {moment}")
        traced(tmp_path, OPEN, tree, root, kill_at=moment)
        assert rows(root) in (old, new), moment
        run_python(OPEN, tree, root)
        assert rows(root) == new, moment


def test_a_store_is_the_same_where_sqlite_cannot_say_what_is_in_memory(tmp_path, monkeypatch):
    with Store.open(tmp_path / "written"):
        pass
    monkeypatch.setattr("ocistore.opening.new_catalog", lambda *, now: b"")
    with Store.open(tmp_path / "made by SQLite"):
        pass
    found = []
    for name in ("written", "made by SQLite"):
        with contextlib.closing(sqlite3.connect(tmp_path / name / "catalog.db")) as connection:
            pragmas = ("auto_vacuum", "journal_mode", "page_size", "page_count", "encoding", "application_id")
            settings = [connection.execute(f"PRAGMA {pragma}").fetchone() for pragma in pragmas]
            found.append((schema(connection), versions(connection), settings))
    assert found[0] == found[1]
    assert ("wal",) in found[0][2]


def test_a_new_catalog_leaves_nothing_beside_it(tmp_path):
    with Store.open(tmp_path / "store"):
        pass
    assert list((tmp_path / "store" / "uploads").iterdir()) == []


def test_a_migration_that_another_writer_hinders_leaves_nothing_open_whoever_keeps_the_error(
    tmp_path, empty_store, monkeypatch
):
    shutil.copytree(empty_store, tmp_path / "store")
    catalog = tmp_path / "store" / "catalog.db"
    to_revision(catalog.parent, "0001")
    monkeypatch.setattr(address, "BUSY_TIMEOUT", 0.1)
    with contextlib.closing(sqlite3.connect(catalog, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError) as caught:
            Store.open(catalog.parent)
    # What is open of it keeps what SQLite has locked in this process, whether or not the kernel has freed it.
    opened = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if _is_link(number)]
    assert [path for path in opened if path.startswith(str(catalog))] == []
    Store.open(catalog.parent).close()
    assert caught.value.__cause__ is not None


def _is_link(number):
    return os.path.islink(f"/proc/self/fd/{number}")
