"""How SQLite finds rows: each statement goes straight to those that it is about, whatever else the tables hold.

Held on the SQLite that Python has, on the oldest and on the newest one that can be had as a wheel; in an empty store,
in one with one large repository, in one with very many, and with and without statistics (``ANALYZE``), which change
what the planner chooses.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
import shutil
import sqlite3
import sys
from datetime import timedelta

import pytest
from crowded import crowd, digest, image_id
from images import artifact, image, index, push
from required import missing

from ocistore import Store
from ocistore.catalog import blobs, deletions, graph, leases, losses, manifests, reachability, relations, tags
from ocistore.catalog.connection import Connection
from ocistore.catalog.written import Statement, texts_in

FEW = r"store|collection_holds|deleted_repositories|batches|staged_repositories|alembic_version|sqlite_master"
"""Tables of few rows, whatever a store holds. Of deleted repositories there are those that are being emptied."""

MADE = r"up|reached|below|anon_\d+|CONSTANT ROW|[\w.]+ VIRTUAL TABLE INDEX \d+:.*"
"""What a statement makes of its parameters, or of what it has found."""

WIDE = (
    rf"SCAN (?!(?:{FEW}|{MADE})(?: |$))",
    r"SEARCH .*\(repository_id=\?\)(?: EXISTS| LEFT-JOIN)?$",
    r"SEARCH (?!blobs|manifests|edges|tags|uploads|subject|leases)\w+ .*\((?:blob|manifest)_id=\?\)",
    rf"BLOOM FILTER ON (?!(?:{MADE})(?: |$))",
    r"SEARCH .*AUTOMATIC",
)
"""Lines of a plan that read rows of others, or all."""

SORTED = r"USE TEMP B-TREE FOR ORDER BY"
"""What must not be in the plan of a page: all rows behind it would be sorted first."""

ALLOWED = {
    "blobs.BYTES_OF_LIVE": "for the progress of a backup",
    "events.COUNT": "for the report of who forgets some",
    "leases.EVERY": "ends all leases, in a copy",
    "repositories.LAST_TAG": "counts the tags of a repository that is deleted",
    "repositories.SOME_BLOBS": "these empty a repository, a limited number of rows at a time",
    "repositories.SOME_EDGES": "likewise",
    "repositories.SOME_LEASED": "likewise",
    "repositories.SOME_MANIFESTS": "likewise",
    "repositories.SOME_TAGS": "likewise",
    "repositories.SOME_UPLOADS": "likewise",
    "manifests.REFERRERS": "all referrers of a subject are put in order for a page of them",
    "manifests.REFERRERS_OF_TYPE": "likewise",
    "tags.ALL": "all tags of a repository",
    # Who serves a blob, up to a limit that is given, or whether anybody does.
    "gc.DUE_BLOBS": "whether anybody serves it",
    "relations.BLOB": "whether anybody serves it",
    "relations.SERVERS": "up to a limit",
    "repositories.FEW_HOLDERS": "up to a limit",
    "blobs.ID_OF": "whether anybody serves it",
    "manifests.ID_OF": "whether anybody serves it",
    "losses.IDLE": "the newest one who serves it",
    "losses.ITSELF": "whether anybody serves it, and the newest one who does",
    "losses.BLOBS_OF": "the newest one who serves it",
}
MODULES_ABOUT_ALL = {"conformance", "check", "rebuild", "scrub", "usage"}
"""They look at everything, and say so."""


# --- engines ----------------------------------------------------------------------------------------------------------


class Rows:
    """What a cursor of apsw gives, as Python's own module has it."""

    def __init__(self, cursor):
        self._cursor = cursor
        self.rowcount = -1

    def fetchall(self):
        return list(self._cursor)


class Cursor:
    """A cursor of Python's own module, over a connection of apsw."""

    def __init__(self, connection):
        self._connection = connection
        self._rows = None
        self.rowcount = -1

    def execute(self, sql, parameters=()):
        self._rows = self._connection.execute(sql, parameters)
        return self

    def fetchall(self):
        return self._rows.fetchall()

    def close(self):
        self._rows = None


class Apsw:
    """A connection of apsw, as Python's own module has it."""

    ProgrammingError = sqlite3.ProgrammingError

    def __init__(self, path):
        import apsw

        self._connection = apsw.Connection(str(path))

    def execute(self, sql, parameters=()):
        return Rows(self._connection.execute(sql, parameters))

    def cursor(self):
        return Cursor(self)

    def set_progress_handler(self, handler, steps):
        self._connection.set_progress_handler(handler, steps)

    def close(self):
        self._connection.close()


def _oldest(path):
    return importlib.import_module("pysqlite3").connect(path)


ENGINES = {"Python's": sqlite3.connect, "oldest": _oldest, "newest": Apsw}
if sys.version_info >= (3, 12):
    del ENGINES["oldest"]  # there are no wheels of it any more


def connect(engine, path):
    try:
        return ENGINES[engine](path)
    except ImportError as error:
        missing(f"the {engine} SQLite is not installed: {error}")


# --- plans ------------------------------------------------------------------------------------------------------------


def statements():
    """All statements of the catalog, as they are written down."""
    return [pytest.param(text, name, id=name) for name, text in texts_in("sqlite").items()]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, empty_store):
    """Databases, by what they are."""
    directory = tmp_path_factory.mktemp("shapes")
    found = {"empty": directory / "empty.db"}
    shutil.copy(empty_store / "catalog.db", found["empty"])
    for name, repositories in (("one repository", 1), ("many repositories", 300)):
        found[name] = directory / f"{name}.db"
        shutil.copy(found["empty"], found[name])
        crowd(found[name], 3000, repositories=repositories)
        with_statistics = found[f"{name}, with statistics"] = directory / f"{name}.analyzed.db"
        shutil.copy(found[name], with_statistics)
        with contextlib.closing(sqlite3.connect(with_statistics)) as connection:
            connection.execute("ANALYZE")
    return found


@pytest.fixture(scope="module")
def connections(shapes):
    with contextlib.ExitStack() as stack:
        yield {
            (engine, shape): stack.enter_context(contextlib.closing(connect(engine, path)))
            for engine in ENGINES
            for shape, path in shapes.items()
        }


def wide_lines(connection, sql):
    """What a plan reads beyond what the statement is about."""
    sql = re.sub(r":\w+", "?", sql)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?")).fetchall()]
    wrong = [*WIDE, SORTED] if " LIMIT " in sql else WIDE
    return [line for line in plan if any(re.match(each, line) for each in wrong)]


@pytest.mark.parametrize(("sql", "name"), statements())
def test_a_statement_reads_no_rows_but_those_it_is_about(connections, sql, name):
    if name.partition(".")[0] in MODULES_ABOUT_ALL:
        return
    wide = {key: wide_lines(connection, sql) for key, connection in connections.items()}
    wide = {key: lines for key, lines in wide.items() if lines}
    assert bool(wide) == (name.partition("[")[0] in ALLOWED), wide


def test_what_is_allowed_exists():
    assert set(ALLOWED) <= {name.partition("[")[0] for name in texts_in("sqlite")}


@pytest.mark.parametrize("walk", ["WALK", "WALK_WITH_REFERRERS"])
def test_an_order_that_is_not_pinned_is_caught(connections, walk):
    sql = texts_in("sqlite")[f"graph.{walk}"]
    free = sql.replace("CROSS JOIN", "JOIN")
    assert free != sql
    assert any(wide_lines(connection, free) for connection in connections.values())


def test_no_statement_is_run_that_is_not_written_down(store, repository, tmp_path, monkeypatch):
    executed = set()
    execute = Connection.execute

    def recorded(connection, statement, *parameters):
        executed.add((statement.name, statement.texts["sqlite"]))
        return execute(connection, statement, *parameters)

    monkeypatch.setattr(Connection, "execute", recorded)
    pushed = push(repository, index([image("a"), image("b")]), "v1", "v2")
    push(repository, artifact("note", subject=image("a")))
    with store.lease(ttl=timedelta(hours=1)) as lease:
        lease.keep(repository.name, pushed.digest)
    for each in (repository.tags, repository.manifests, repository.history, repository.uploads, store.repositories):
        list(each())
    list(repository.referrers(image("a").digest))
    store.export(tmp_path / "layout")
    store.import_(tmp_path / "layout", "imported")
    store.backup(tmp_path / "backup")
    store.delete_repository("imported")
    repository.delete_manifest(pushed.digest)
    store.scrub(level="deep")
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0), dry_run=True)
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True)
    assert len(executed) > 60
    assert executed <= texts_in("sqlite").items()


# --- steps ------------------------------------------------------------------------------------------------------------

REPOSITORY = 1
IMAGE = 7


AN_INDEX = Statement(
    "an index",
    {"sqlite": "SELECT blob_id FROM manifests WHERE media_type = 'application/vnd.oci.image.index.v1+json' LIMIT 1"},
)


QUESTIONS = {
    "walk of an image": lambda c: graph.walk(c, REPOSITORY, [digest(image_id(10))], referrers=True),
    "walk of an index": lambda c: graph.walk(c, REPOSITORY, [digest(c.index)], referrers=False),
    "by tag": lambda c: manifests.by_tag(c, "crowd/0", f"v{IMAGE}"),
    "by digest": lambda c: manifests.by_digest(c, "crowd/0", digest(image_id(IMAGE))),
    "a page of manifests": lambda c: manifests.page(c, REPOSITORY, after=100, limit=10),
    "referrers": lambda c: manifests.referrers(c, REPOSITORY, digest(image_id(10)), artifact_type=None),
    "children": lambda c: manifests.children(c, REPOSITORY, [digest(image_id(IMAGE)), digest(1)]),
    "a blob": lambda c: blobs.held(c, "crowd/0", digest(image_id(IMAGE) + 1)),
    "who refers to a blob": lambda c: blobs.referrers(
        c, REPOSITORY, digest(image_id(IMAGE) + 1), roles=("config", "layer")
    ),
    "alive": lambda c: reachability.alive(c, REPOSITORY, image_id(IMAGE), now=1, before=1),
    "why": lambda c: relations.holders(c, REPOSITORY, image_id(IMAGE), limit=10),
    "removable": lambda c: reachability.removable(c, REPOSITORY, image_id(IMAGE)),
    "relatives": lambda c: relations.relatives(c, REPOSITORY, image_id(10)),
    "what goes with it": lambda c: losses.blobs_of(c, REPOSITORY, image_id(IMAGE)),
    "a lease": lambda c: leases.standing(c, "no such lease", "crowd/0", digest(1)),
}


CHANGES = {
    "link": lambda c: blobs.add_memberships(c, REPOSITORY, [digest(image_id(IMAGE) + 1)], now=5),
    "move a tag": lambda c: tags.move(
        c, REPOSITORY, "crowd/0", [tags.Move("v3", image_id(IMAGE), digest(image_id(IMAGE)))], now=5, actor=""
    ),
    "untag": lambda c: tags.remove(c, REPOSITORY, "crowd/0", ["v3", f"v{IMAGE}"], now=5, actor=""),
    "unlink": lambda c: manifests.remove_membership(c, REPOSITORY, image_id(IMAGE), now=5),
    "condemn and reap": lambda c: (deletions.condemn(c, [image_id(IMAGE)]), deletions.reap(c, [image_id(IMAGE)])),
}
"""In the order in which they are done."""


def _steps(engine, path, questions):
    """What each costs on a copy of its own, in steps of SQLite's virtual machine."""
    counted = [0]

    def more():
        counted[0] += 1
        return 0

    taken = {}
    with contextlib.closing(connect(engine, path)) as driver:
        connection = Counting(driver)
        connection.index = connection.execute(AN_INDEX).scalar()
        driver.execute("PRAGMA foreign_keys = ON")
        driver.set_progress_handler(more, 1)
        for name, question in questions.items():
            question(connection)  # compiled, and its pages are read
            counted[0] = 0
            question(connection)
            taken[name] = counted[0]
    return taken


class Counting(Connection):
    """A connection that can be given more attributes."""

    def __init__(self, driver):
        super().__init__(driver, lambda error: error)


@functools.cache
def _sizes(slow):
    return (2000, 20_000) if slow else (300, 3000)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory, empty_store):
    """Databases by how many images there are in them, of which the tests take copies."""
    directory = tmp_path_factory.mktemp("crowded")

    @functools.cache
    def made(size):
        path = directory / f"{size}.db"
        shutil.copy(empty_store / "catalog.db", path)
        crowd(path, size)
        return path

    return made


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["short", "long"])
def stores(request, tmp_path, crowded):
    """Two databases, of which one has ten times as much."""
    return [shutil.copy(crowded(size), tmp_path / f"{size}.db") for size in _sizes(request.param)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("statistics", [False, True], ids=["", "with statistics"])
def test_a_question_costs_the_same_in_a_store_ten_times_as_large(stores, engine, statistics):
    if statistics:
        for path in stores:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("ANALYZE")
    small, large = (_steps(engine, path, QUESTIONS) for path in stores)
    assert min(small.values()) > 5
    assert {name: (small[name], large[name]) for name in small if large[name] > 1.3 * small[name] + 20} == {}


@pytest.mark.parametrize("engine", sorted(ENGINES.keys() - {"newest"}))
def test_a_change_costs_the_same_in_a_store_ten_times_as_large(stores, engine):
    taken = []
    for path in stores:
        counted = [0]

        def more(counted=counted):
            counted[0] += 1
            return 0

        with contextlib.closing(connect(engine, path)) as driver:
            connection = Connection(driver, lambda error: error)
            driver.execute("PRAGMA foreign_keys = ON")
            driver.set_progress_handler(more, 1)
            each = {}
            for name, change in CHANGES.items():
                counted[0] = 0
                change(connection)
                each[name] = counted[0]
            taken.append(each)
    small, large = taken
    assert min(small.values()) > 5
    assert {name: (small[name], large[name]) for name in small if large[name] > 1.3 * small[name] + 20} == {}


def test_a_crowded_catalog_is_one_of_a_store(tmp_path):
    with Store.open(tmp_path / "store"):
        pass
    crowd(tmp_path / "store" / "catalog.db", 100)
    with Store.open(tmp_path / "store") as store:
        repository = store.repository("crowd/0")
        assert repository.resolve("v3").digest == digest(image_id(3))
        assert len(list(repository.tags())) == 110
        assert [each.digest for each in repository.referrers(digest(image_id(10)))] == [digest(image_id(10) + 4)]
        assert store.usage().repositories == 51
