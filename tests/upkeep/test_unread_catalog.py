"""A catalog that cannot be read now is not damaged: it is looked at again, or that is said, and nothing replaces it."""

import pytest
from images import image, push

from ocistore import RebuildRefusedError, StorageError, Store, rebuild
from ocistore.catalog import check
from ocistore.catalog.connection import Connection
from ocistore.errors import CorruptError

MALFORMED = CorruptError("the catalog", reason="database disk image is malformed")


def answer_first(monkeypatch, *answers):
    """Let SQLite answer this to the first checks; afterwards what it finds."""
    left, command = list(answers), Connection.command

    def asked(connection, sql):
        if sql != "PRAGMA integrity_check" or not left:
            return command(connection, sql)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return command(connection, f"SELECT '{answer}'")

    monkeypatch.setattr(Connection, "command", asked)


@pytest.fixture
def filled(store):
    push(store.repository("app"), image("one"), "v1")
    store.close()
    return store.root


@pytest.mark.parametrize("answer", ["Page 3: unable to get the page. error code=266", "row 1 missing", MALFORMED])
def test_what_is_said_once_is_not_believed(filled, monkeypatch, answer):
    answer_first(monkeypatch, answer)
    with pytest.raises(RebuildRefusedError):
        rebuild(filled)
    answer_first(monkeypatch, answer)
    with Store.open(filled) as store:
        assert store.scrub(level="deep").exit_code == 0


@pytest.mark.parametrize(
    "answer",
    [
        "Page 3: unable to get the page. error code=266",
        "Page 3: unable to get the page. error code=8458",
        "Page 3: unable to get the page. error code=7",
        "failed to get page 17",
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_takes_its_place(filled, monkeypatch, answer):
    before = (filled / "catalog.db").read_bytes()
    answer_first(monkeypatch, *[answer] * 4)
    with pytest.raises(StorageError, match="cannot be read"):
        rebuild(filled)
    assert (filled / "catalog.db").read_bytes() == before
    answer_first(monkeypatch, *[answer] * 4)
    with Store.open(filled) as store, pytest.raises(StorageError, match="cannot be read"):
        store.scrub(level="deep")
    with Store.open(filled) as store:
        store.gc()  # which waits for nobody to look


def test_what_is_damaged_is_found_twice(filled, monkeypatch):
    with Store.open(filled) as store, store._core.catalog.read() as connection:
        assert check.problems(connection) == []
        answer_first(monkeypatch, *["Page 3: unable to get the page. error code=11"] * 2)
        assert check.problems(connection) == ["Page 3: unable to get the page. error code=11"]
        answer_first(monkeypatch, *[MALFORMED] * 2)
        assert check.problems(connection) == [str(MALFORMED)]
