"""However long a process stands still, and wherever: nothing acknowledged is lost, and no backup lacks a file."""

import pytest
from stalls import SCENES, Stage
from wrong_ways import IN_A_STALL

DECIDING = {"before the lock", "after a look at the clock", "after the lock"}
"""Steps between what a process knows and what it does."""
IN_SHORT = ["backup", "copy", "push", "lease", "gc"]
"""What a plain run tries."""
CAUGHT_AT = {"before the lock", "after a look at the clock"}


def _some(steps, number):
    """So many of the deciding steps, evenly spread."""
    deciding = [at for at, name in enumerate(steps) if name in DECIDING]
    return deciding[:: max(1, len(deciding) // number)]


@pytest.mark.parametrize("name", IN_SHORT)
def test_standing_still_somewhere_loses_nothing(name, tmp_path, empty_store):
    stage = Stage(SCENES[name], tmp_path, empty_store)
    steps, found = stage.play()
    assert found == []
    assert [words for at in _some(steps, 2) for words in stage.play(at)[1]] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_standing_still_anywhere_loses_nothing(name, tmp_path, empty_store, record_property):
    stage = Stage(SCENES[name], tmp_path, empty_store)
    steps, _ = stage.play()
    record_property("steps", len(steps))
    assert [words for at in range(len(steps)) for words in stage.play(at)[1]] == []


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, ways in IN_A_STALL.items() for wrong in ways])
def test_a_stall_catches_each_wrong_way(name, wrong, tmp_path, empty_store):
    stage = Stage(SCENES[name], tmp_path, empty_store)
    steps, _ = stage.play(wrong=wrong)
    assert any(stage.play(at, wrong)[1] for at, step in enumerate(steps) if step in CAUGHT_AT)
