"""Interrupts at any instruction leak no descriptor, no staged file and no use, and leave no lock taken."""

import json
import os

import pytest
from interrupts import OPERATIONS
from processes import run_python

LONG = int(os.environ.get("OCISTORE_INTERRUPTS", "10000"))
"""Interrupts of the long form, over all operations."""

PATIENCE = 3600.0

RUN = """
import interrupts, sys
interrupts.main(*sys.argv[1:])
"""

WRONG = {
    "a turn that is gone keeps the lock": """
from ocistore.catalog import lock
lock._LockFile.lost = lock._LockFile._clean_up = lambda self: None
""",
    "what a push published stays, whatever becomes of the push": """
from ocistore import commit
commit.give_up = lambda catalog, pool, published, error: None
""",
    "a use that is gone goes on": """
from ocistore.catalog import database
database.Database._lost = lambda self, reference: database_keeps.append(reference)
database_keeps = []
database.Database.busy = lambda self, *, besides=None: bool(self._users)
""",
}


def _interrupted(tmp_path, names, count, seed=1, *, wrong=""):
    said = run_python(wrong + RUN, tmp_path, ",".join(names), count, seed, patience=PATIENCE)
    return json.loads(said.splitlines()[-1])


def _wrong(found):
    return [
        words
        for name, each in found.items()
        for words in (
            *each["wrong"],
            *(f"{name}: still open after close: {path}" for path in each["open"]),
            *([f"{name}: {each['staged']} staged files are left"] if each["staged"] else []),
        )
    ]


def test_interrupts_leave_nothing_behind(tmp_path):
    found = _interrupted(tmp_path, OPERATIONS, 12, seed=os.getpid())
    assert _wrong(found) == []
    assert sum(each["interrupts"] for each in found.values()) >= 12 * len(OPERATIONS)


@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slow) if "lock" in way else way for way in WRONG])
def test_interrupts_catch_what_is_not_given_back(tmp_path, way):
    found = _interrupted(tmp_path, ["put" if "push" in way else "commit"], 400, wrong=WRONG[way])
    assert _wrong(found) != []


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_ten_thousand_interrupts_leave_nothing_behind(tmp_path, name, record_property):
    found = _interrupted(tmp_path, [name], LONG // len(OPERATIONS))
    record_property("interrupts", found[name]["interrupts"])
    assert _wrong(found) == []
