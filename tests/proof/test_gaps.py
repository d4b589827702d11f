"""Before every system call of a process its locks are dropped, and another one closes, pushes or moves the WAL: nothing
acknowledged is lost, and nothing torn is read."""

import os

import pytest
from gaps import DEEDS, EVERYWHERE, NOWHERE, WORKS, Stage, at, dropped_until, require_ptrace

from ocistore.catalog import connection, guard
from ocistore.catalog.database import Database

ONCE = [name for name in DEEDS if name != "opens and closes"]
AGAIN = [name for name, deed in DEEDS.items() if deed.again]
EVERY = "OCISTORE_GAPS" in os.environ
"""Whether every deed is done at every stop of every work, which takes an hour. Else the deeds take turns at them."""
PAIRS = 50 if EVERY else 12
"""Pairs of stops that are tried for each work and deed: locks are dropped at one, and the deed follows at a later."""


@pytest.fixture
def stage(tmp_path, empty_store):
    require_ptrace()
    return Stage(tmp_path, empty_store)


def _wrong(stage, work, deed, plans, **more):
    return [f"{what}: {words}" for what, plan in plans for words in stage.play(work, deed, plan, **more).wrong]


def _some(stops, number):
    return range(stops // (2 * number), stops, max(1, stops // number))


@pytest.mark.parametrize(
    ("work", "deed"),
    [(work, ONCE[number % len(ONCE)]) for number, work in enumerate(WORKS)]
    + [("read", "moves all tags and the WAL"), ("snapshot", "moves all tags and the WAL")],
)
def test_locks_that_are_dropped_somewhere_cost_nothing(stage, work, deed):
    quiet = stage.play(work, deed, NOWHERE)
    assert quiet.wrong == []
    # Another place for each deed.
    place = quiet.stops * (2 * ONCE.index(deed) + 1) // (2 * len(ONCE))
    played = stage.play(work, deed, dropped_until(place))
    assert played.wrong == []
    assert played.acts == 1


@pytest.mark.slow
@pytest.mark.parametrize("deed", ONCE)
@pytest.mark.parametrize("work", WORKS)
def test_locks_that_are_dropped_anywhere_cost_nothing(stage, work, deed, record_property):
    stops = stage.play(work, deed, NOWHERE).stops
    pairs = [(first, second) for second in range(stops) for first in range(second)]
    pairs = pairs[:: 1 + len(pairs) // PAIRS]
    record_property("stops", stops)
    record_property("pairs", len(pairs))
    turn = range(stops) if EVERY else range(ONCE.index(deed), stops, len(ONCE))
    plans = [(f"until {stop}", dropped_until(stop)) for stop in turn]
    plans += [(f"at {pair}", at(*pair)) for pair in pairs]
    assert _wrong(stage, work, deed, plans) == []


@pytest.mark.slow
@pytest.mark.parametrize("deed", AGAIN)
@pytest.mark.parametrize("work", WORKS)
def test_locks_that_are_dropped_everywhere_cost_nothing(stage, work, deed, record_property):
    played = stage.play(work, deed, EVERYWHERE)
    record_property("acts", played.acts)
    assert played.wrong == []
    assert played.acts > 10


def sqlite_has_its_own_locks_alone():
    """Whoever closes last, by its own account, deletes the WAL; and nobody looks whether it is there."""
    guard._lock = lambda *arguments, **more: None
    Database.stands = lambda self, address: True


def nobody_locks_what_sqlite_does_not():
    """That the WAL in use has its name is seen before a commit, and not that it is deleted meanwhile."""
    guard._lock = lambda *arguments, **more: None


def a_read_believes_what_it_reads():
    """A later page is read beside an earlier one."""
    connection.is_undisturbed = lambda before, after, **more: True


@pytest.mark.parametrize(
    ("work", "deed", "wrong_way", "number"),
    [
        ("push", "reads by sqlite3", sqlite_has_its_own_locks_alone, 3),
        ("push", "reads by sqlite3", nobody_locks_what_sqlite_does_not, None),
        ("snapshot", "moves all tags and the WAL", a_read_believes_what_it_reads, None),
    ],
)
def test_dropped_locks_catch_each_wrong_way(stage, work, deed, wrong_way, number):
    stops = stage.play(work, deed, NOWHERE).stops
    places = range(stops * 9 // 10, -1, -1) if number is None else _some(stops, number)
    assert any(stage.play(work, deed, dropped_until(stop), wrong_way=wrong_way).wrong for stop in places)
