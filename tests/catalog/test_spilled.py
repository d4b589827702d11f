"""Transactions larger than SQLite's cache, which write before they commit: what fails there is what is said."""

import contextlib
import shutil

import pytest
from images import image, push
from invariants import check
from state import rows

from ocistore import OCIStoreError, Store, StoreFullError
from ocistore.catalog import address

LARGE = "INSERT INTO history (x) VALUES (zeroblob(2000000))"


@pytest.fixture
def spilling(monkeypatch):
    """Connections whose cache is ten pages."""
    connect = address.Address.connect

    def small(self):
        connection = connect(self)
        connection.command("PRAGMA cache_size = 10")
        return connection

    monkeypatch.setattr(address.Address, "connect", small)


@pytest.fixture
def full(small_disk, empty_store, spilling):
    """An open store on a disk that is filled by the block of ``small_disk.full()``."""
    root = shutil.copytree(empty_store, small_disk.root / "store")
    with Store.open(root) as store:
        with store._core.catalog.write() as connection:
            connection.command("CREATE TABLE history (x)")
        yield store


def test_a_full_disk_is_said_to_be_one_where_sqlite_has_rolled_back_by_itself(full, small_disk):
    with small_disk.full():
        with pytest.raises(StoreFullError), full._core.catalog.write() as connection:
            connection.command("UPDATE store SET epoch = epoch + 1")
            connection.command(LARGE)
        assert connection.lost is not None  # what SQLite had rolled back before we could
        with full._core.catalog.read() as connection:
            assert connection.command("SELECT count(*) FROM history").scalar() == 0
    push(full.repository("app"), image("after"), "after")
    assert check(full) == []


def test_nothing_is_committed_after_sqlite_has_rolled_back_by_itself(full, small_disk):
    with small_disk.full(), pytest.raises(OCIStoreError), full._core.catalog.write() as connection:
        with contextlib.suppress(StoreFullError):
            connection.command(LARGE)
        with contextlib.suppress(OCIStoreError):
            connection.command("INSERT INTO history (x) VALUES (1)")
    assert rows(full.root)["history"] == []


def test_a_deletion_that_spills_on_a_full_disk_uses_the_reserve(full, small_disk):
    repository = full.repository("app")
    for number in range(20):
        push(repository, image(number), f"t{number}")
    with small_disk.full():
        full.delete_repository("app")
    assert check(full) == []
