"""Pushing, deleting and collecting at once, with and without kill -9: nothing referenced is lost, nothing leaks."""

import pytest
from races import Race
from wrong_ways import WITHOUT_KILLS, WRONG_WAYS, _slow_to_commit, the_row_goes_before_the_file

EACH = pytest.mark.parametrize("kill", [False, True], ids=["undisturbed", "with kills"])


def _ran(outcome, record_property):
    for name in ("pushes", "collections", "checks", "kills", "nameless"):
        record_property(name, getattr(outcome, name))
    assert outcome.wrong == []
    assert outcome.pushes > 0
    assert outcome.collections > 0


@EACH
def test_nothing_is_lost_or_leaked_in_a_short_race(tmp_path, kill, record_property):
    _ran(Race(tmp_path / "store").run(1.2, kill=kill), record_property)


@pytest.mark.slow
@pytest.mark.parametrize("slowly", [None, _slow_to_commit], ids=["at speed", "slow to commit"])
@EACH
def test_nothing_is_lost_or_leaked_in_a_long_race(tmp_path, kill, slowly, record_property):
    _ran(Race(tmp_path / "store", wrong=slowly).run(60 if slowly is None else 15, kill=kill), record_property)


def test_the_race_catches_the_simplest_wrong_way(tmp_path):
    outcome = Race(tmp_path / "store", wrong=the_row_goes_before_the_file).run(50, until_wrong=True)
    assert outcome.violations


@pytest.mark.slow
@pytest.mark.parametrize("way", WRONG_WAYS)
def test_the_race_catches_each_wrong_way(tmp_path, way, record_property):
    outcome = Race(tmp_path / "store", wrong=way).run(100, kill=way not in WITHOUT_KILLS, until_wrong=True)
    assert outcome.violations
    record_property("checks until it was seen", outcome.checks)
