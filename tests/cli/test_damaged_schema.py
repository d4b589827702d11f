"""db, on catalogs that are not as they should be."""

import contextlib
import json
import sqlite3

import pytest

from ocistore.catalog.schema import SCHEMA_REVISION


@pytest.fixture
def altered(tmp_path, empty_store, run):
    """A function that runs SQL on the catalog of a store of its own, and gives a command line on that store."""

    def alter(sql):
        root = tmp_path / "altered"
        run("--store", root, "init")
        with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute("PRAGMA writable_schema = ON")
            connection.executescript(sql)
        return lambda *arguments: run.try_("--store", root, *arguments)

    return alter


def test_a_catalog_of_the_future_is_named_and_left_alone(altered):
    run = altered("UPDATE alembic_version SET version_num = '9999'")
    assert json.loads(run("db", "current", "--json").stdout) == {"current": "9999", "known": SCHEMA_REVISION}
    assert run("db", "upgrade").exit_code == 34
    assert run("repos").exit_code == 34
    assert run("db", "check").exit_code == 34


def test_an_old_catalog_is_named_and_not_upgraded_by_looking(altered):
    run = altered("UPDATE alembic_version SET version_num = '0000'")
    assert run("repos").exit_code == 33
    assert json.loads(run("db", "current", "--json").stdout)["current"] == "0000"


def test_db_check_finds_a_schema_that_is_not_ours(altered):
    run = altered("CREATE TABLE extra (x); ALTER TABLE tags RENAME COLUMN updated TO changed")
    result = run("db", "check")
    assert result.exit_code == 1
    assert "unexpected: extra" in result.stdout
    assert "different: tags" in result.stdout
    assert {"name": "extra", "kind": "unexpected"} in json.loads(run("db", "check", "--json").stdout)["differences"]


def test_db_check_finds_rows_that_refer_to_nothing(altered):
    run = altered("INSERT INTO tags (repository_id, name, manifest_id, updated) VALUES (77, 'x', 77, 1)")
    result = run("db", "check")
    assert result.exit_code == 1
    assert "of tags refers to a row of" in result.stdout


def test_db_check_finds_damaged_pages(tmp_path, run):
    root = tmp_path / "damaged"
    run("--store", root, "init")
    path = root / "catalog.db"
    content = bytearray(path.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tag_events'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content[(page - 1) * size : page * size] = bytes(range(256)) * (size // 256)
    path.write_bytes(content)

    result = run.try_("--store", root, "db", "check")
    assert result.exit_code == 1
    assert "damaged: " in result.stdout


def test_a_trigger_that_somebody_made_is_named_when_it_refuses_something(altered, tmp_path):
    run = altered("CREATE TRIGGER mine BEFORE INSERT ON tags BEGIN SELECT RAISE(ABORT, 'not here'); END")
    (tmp_path / "file").write_bytes(b"x")
    result = run("push", "app:v1", tmp_path / "file")
    assert result.exit_code == 35
    assert "not here, so its schema was changed by something else" in result.stderr
    assert "mine" in run("db", "check").stdout
