"""Everything at once: nothing referenced is lost, every manifest is whole, and a tag that all move is one register."""

import os
import time

import pytest
from everything import Done, Everything, not_linearizable

from ocistore.repository import Repository

SECONDS = float(os.environ.get("OCISTORE_EVERYTHING_SECONDS", "120"))
"""How long the long form runs; docs/proofs.md has the figures of twenty minutes."""


def _ran(outcome, record_property):
    for name in ("operations", "writes", "kills", "stops", "checks"):
        record_property(name, getattr(outcome, name))
    assert outcome.wrong == []
    assert outcome.writes > 0


def test_everything_at_once_for_a_moment(tmp_path, record_property):
    _ran(Everything(tmp_path / "store").run(2.5), record_property)


@pytest.mark.slow
def test_everything_at_once(tmp_path, record_property):
    outcome = Everything(tmp_path / "store").run(SECONDS)
    _ran(outcome, record_property)
    print(f"\neverything at once for {SECONDS:.0f} s: {outcome}")  # noqa: T201


def a_tag_is_moved_whatever_it_points_at():
    """A compare-and-swap that does not compare loses what others wrote in between."""
    tag = Repository.tag

    def moving(self, name, digest, **_):
        time.sleep(0.01)
        tag(self, name, digest)

    Repository.tag = moving


def a_tag_is_read_from_memory():
    """A resolve that remembers finds what has been replaced."""
    remembered, resolve = {}, Repository.resolve

    def remembering(self, reference):
        if reference != "r":
            return resolve(self, reference)
        if len(remembered) % 5 == 0:
            remembered[len(remembered)] = resolve(self, reference)
        else:
            remembered[len(remembered)] = remembered[len(remembered) - 1]
        return remembered[len(remembered) - 1]

    Repository.resolve = remembering


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong_way", "seen"),
    [(a_tag_is_read_from_memory, "had ended"), (a_tag_is_moved_whatever_it_points_at, "written over something else")],
)
def test_a_tag_that_is_no_register_is_caught(tmp_path, wrong_way, seen):
    outcome = Everything(tmp_path / "store", wrong_way=wrong_way).run(60, until_wrong=True)
    assert any(seen in words for words in outcome.wrong)


# --- the checker itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "order", "good"),
    [
        ([Done(0, 1, "read", "a"), Done(2, 3, "write", "b"), Done(4, 5, "read", "b")], ["a", "b"], True),
        ([Done(0, 1, "write", "b"), Done(2, 3, "read", "a")], ["a", "b"], False),
        ([Done(0, 3, "write", "b"), Done(1, 2, "read", "a")], ["a", "b"], True),  # at once: before it
        ([Done(0, 3, "write", "b"), Done(1, 2, "read", "b"), Done(4, 5, "read", "a")], ["a", "b"], False),
        ([Done(0, 1, "read", "b"), Done(2, 3, "write", "b")], ["a", "b"], False),
        ([Done(0, None, "write", "b"), Done(2, 3, "read", "b"), Done(4, 5, "read", "b")], ["a", "b"], True),
        ([Done(0, 1, "write", "c")], ["a", "b"], False),  # acknowledged, and lost
        ([Done(0, None, "write", "c")], ["a", "b"], True),  # nobody was told
    ],
)
def test_the_checker_knows_a_register(done, order, good):
    assert (not_linearizable(done, order) == []) is good
