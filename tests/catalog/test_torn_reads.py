"""A read whose locks somebody dropped, and under which another process moves the WAL, sees one state or is refused."""

import contextlib
import sqlite3

import pytest
from images import image, push
from processes import python

from ocistore import Store, StoreBusyError
from ocistore.catalog import connection as connections
from ocistore.catalog import walindex
from ocistore.catalog.contract import in_snapshot
from ocistore.catalog.written import Statement

TOTAL = Statement("total", {"sqlite": "SELECT sum(value) FROM many"})
PAGES = 300

ELSEWHERE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("SELECT * FROM many").fetchone()
print("ready")
for line in sys.stdin:
    connection.execute("UPDATE many SET value = value + 1")
    checkpoint = connection.execute(f"PRAGMA wal_checkpoint({line.strip()})").fetchone()
    connection.execute("UPDATE many SET value = value + 1")  # into a WAL that began anew, if it could
    connection.execute(f"PRAGMA wal_checkpoint({line.strip()})")
    print("done")
"""


@pytest.fixture
def root(store):
    """A store with a table of many pages, each of whose rows has the same value in every state."""
    push(store.repository("app"), image("first"), "v1")
    root = store.root
    store.close()
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as bare:
        bare.execute("CREATE TABLE many (value INTEGER, filler TEXT)")
        bare.executemany("INSERT INTO many VALUES (0, ?)", [("x" * 3000,)] * PAGES)
        bare.commit()
    return root


class Elsewhere:
    """What moves the WAL under a read."""

    def __init__(self, root, child, mode):
        self.root, self.child, self.mode = root, child, mode
        self.left = 1

    def disturb(self):
        if self.left:
            self.left -= 1
            (self.root / "catalog.db-shm").read_bytes()  # drops the locks
            self.child.tell(self.mode)
            assert self.child.says() == "done"


@pytest.fixture(params=["PASSIVE", "RESTART"])
def elsewhere(root, request):
    with python(ELSEWHERE, root / "catalog.db") as child:
        assert child.says() == "ready"
        yield Elsewhere(root, child, request.param)


def disturbed_total(connection, elsewhere):
    """The sum over all rows, in the middle of which the locks are dropped and the WAL is moved."""
    steps = iter(range(10**9))
    connection.driver.set_progress_handler(lambda: elsewhere.disturb() if next(steps) == 3 else None, 100)
    try:
        return connection.execute(TOTAL).scalar()
    finally:
        connection.driver.set_progress_handler(None, 0)


def test_a_read_that_is_torn_is_made_again(root, elsewhere):
    with Store.open(root) as store, store._core.catalog.read() as connection:
        assert disturbed_total(connection, elsewhere) % PAGES == 0
        assert elsewhere.left == 0


def test_a_snapshot_that_is_torn_is_refused(root, elsewhere):
    with Store.open(root) as store:
        catalog = store._core.catalog
        with pytest.raises(StoreBusyError, match="its locks were dropped"), catalog.snapshot() as connection:
            disturbed_total(connection, elsewhere)
        with store._core.catalog.snapshot() as connection:
            assert connection.execute(TOTAL).scalar() == 2 * PAGES


def test_what_reads_in_a_snapshot_that_is_torn_reads_in_another_one(root, elsewhere):
    with Store.open(root) as store:
        totals = []

        def read(connection):
            totals.append(connection.execute(TOTAL).scalar())
            return totals[-1], disturbed_total(connection, elsewhere)

        assert in_snapshot(store._core.catalog, read) == (2 * PAGES, 2 * PAGES)
        assert totals == [0, 2 * PAGES]
        elsewhere.left = 1000
        with pytest.raises(StoreBusyError, match="its locks were dropped"):
            in_snapshot(store._core.catalog, read)


def test_without_looking_at_the_shared_memory_a_read_is_torn(root, elsewhere, monkeypatch):
    monkeypatch.setattr(connections, "is_undisturbed", lambda before, after, **more: True)
    with Store.open(root) as store, store._core.catalog.read() as connection:
        assert disturbed_total(connection, elsewhere) % PAGES != 0


@pytest.mark.parametrize("warm", [False, True], ids=["database", "wal"])
def test_commits_and_checkpoints_beside_a_snapshot_whose_locks_are_held_do_not_disturb_it(root, elsewhere, warm):
    with Store.open(root) as store:
        if warm:
            push(store.repository("app"), image("second"), "v2")
        with store._core.catalog.snapshot() as connection:
            for _ in range(3):
                elsewhere.child.tell("PASSIVE")
                assert elsewhere.child.says() == "done"
                assert connection.execute(TOTAL).scalar() == 0


def test_what_is_looked_at_is_the_shared_memory(root):
    with Store.open(root) as store, store._core.catalog.read() as connection:
        memory = connection.watch()
        assert memory == (root / "catalog.db-shm").read_bytes()[: walindex.SIZE]
        assert len(memory) == walindex.SIZE
        assert memory[:48] == memory[48:96]
