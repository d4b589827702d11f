"""Killed at any system call that changes something, a store has all that it acknowledged, and goes on."""

import pytest
from operations import OPERATIONS
from rig import Bench
from tracing import calls, killed, require_strace
from wrong_ways import a_wal_goes_before_its_database, file_and_row_go_in_one_transaction

from ocistore.upkeep import rebuild
from ocistore.upkeep.gc import _Run

POINTS = 1
"""At how many calls each operation is killed in a plain run; the slow test does it at every single one."""

ENOUGH = 2000
"""Places in the long form, over all operations."""


@pytest.fixture(autouse=True)
def _strace():
    require_strace()


def _points(bench, log):
    bench.run()  # so that every module is loaded
    bench.fresh()
    return calls(bench.run, log=log)


def _killed_at(bench, point):
    bench.fresh()
    assert killed(bench.run, at=point), point
    return [f"killed at {point}: {words}" for words in bench.wrong()]


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_somewhere_nothing_acknowledged_is_lost(name, tmp_path, empty_store):
    bench = Bench(OPERATIONS[name], tmp_path, empty_store)
    bench.fresh()
    points = _points(bench, tmp_path / "log")
    assert len(points) > 10
    # A different place for each operation, so that all kinds of calls come into it.
    place = len(points) * (2 * list(OPERATIONS).index(name) + 1) // (2 * len(OPERATIONS))
    assert _killed_at(bench, points[place]) == []


def test_a_kill_catches_a_collector_that_does_both_in_one_transaction(tmp_path, empty_store, monkeypatch):
    bench = Bench(OPERATIONS["gc"], tmp_path, empty_store)
    bench.fresh()
    with monkeypatch.context() as patched:
        patched.setattr(_Run, "_condemn", _Run._condemn)
        file_and_row_go_in_one_transaction(dying=0)
        points = _points(bench, tmp_path / "log")
        second_file = [point for point in points if point[0].startswith("rename")][1]
        bench.fresh()
        assert killed(bench.run, at=second_file)
    assert any("file" in words for words in bench.wrong())


def test_a_kill_catches_a_rebuild_that_moves_the_wal_before_its_database(tmp_path, empty_store, monkeypatch):
    bench = Bench(OPERATIONS["rebuild by force"], tmp_path, empty_store)
    bench.fresh()
    with monkeypatch.context() as patched:
        for name in ("keep_names", "settle", "put_in_place"):
            patched.setattr(rebuild, name, getattr(rebuild, name))
        a_wal_goes_before_its_database()
        points = _points(bench, tmp_path / "log")
        for point in [point for point in points if point[0].startswith("rename")]:
            bench.fresh()
            assert killed(bench.run, at=point)
            found = bench.wrong()
            if any("acknowledged before is gone" in words or "RepositoryNotFoundError" in words for words in found):
                return
    pytest.fail("every kill left what was acknowledged")


@pytest.mark.slow
def test_there_are_enough_places_to_be_killed_at(tmp_path, empty_store, record_property):
    points = {}
    for name, operation in OPERATIONS.items():
        (tmp_path / name).mkdir()
        bench = Bench(operation, tmp_path / name, empty_store)
        bench.fresh()
        points[name] = len(_points(bench, tmp_path / "log"))
    record_property("points", points)
    assert sum(points.values()) >= ENOUGH, points


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_anywhere_nothing_acknowledged_is_lost(name, tmp_path, empty_store, record_property):
    bench = Bench(OPERATIONS[name], tmp_path, empty_store)
    bench.fresh()
    points = _points(bench, tmp_path / "log")
    record_property("points", len(points))
    assert [words for point in points for words in _killed_at(bench, point)] == []


@pytest.mark.slow
def test_killed_while_threads_empty_the_trash_nothing_acknowledged_is_lost(tmp_path, empty_store):
    bench = Bench(OPERATIONS["gc"], tmp_path, empty_store, cores=2)
    bench.fresh()
    points = _points(bench, tmp_path / "log")
    came_to_it = 0
    for point in points:
        bench.fresh()
        came_to_it += killed(bench.run, at=point)  # or the thread and its caller shared the work in another way
        assert bench.wrong() == [], point
    assert came_to_it > len(points) / 2
