"""Interrupts at any instruction leak no descriptor, no staged file and no use, and leave no lock taken."""

import contextlib
import dis
import json
import os
import signal
import time

import pytest
from instructions import UNSAFE, is_looked_for_signals
from interrupts import OPERATIONS
from processes import run_python

LONG = int(os.environ.get("OCISTORE_INTERRUPTS", "10000"))
"""Interrupts of the long form, over all operations."""

SEED = int(os.environ.get("OCISTORE_SEED", "1"))
PATIENCE = 3600.0

RUN = """
import interrupts, sys
interrupts.main(*sys.argv[1:])
"""

FIRST = """
import interrupts
interrupts.ENOUGH = 1
"""

WRONG = {
    "a turn that is gone keeps the lock": """
from ocistore.catalog import lock
lock._LockFile.clean_up = lambda self: None
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


def _interrupted(tmp_path, names, count, *, how="trace", wrong=""):
    said = run_python(wrong + RUN, tmp_path, ",".join(names), count, SEED, how, patience=PATIENCE)
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


@pytest.mark.parametrize("how", ["trace", "signal"])
def test_interrupts_leave_nothing_behind(tmp_path, how):
    found = _interrupted(tmp_path, OPERATIONS, 5, how=how)
    assert _wrong(found) == []
    assert sum(each["interrupts"] for each in found.values()) >= 5 * len(OPERATIONS)


@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slow) if "lock" in way else way for way in WRONG])
def test_interrupts_catch_what_is_not_given_back(tmp_path, way):
    name, how = ("put", "trace") if "push" in way else ("commit", "transactions")
    found = _interrupted(tmp_path, [name], 50 if how == "trace" else 400, how=how, wrong=f"{FIRST}{WRONG[way]}")
    assert _wrong(found) != []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["trace", "signal"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_ten_thousand_interrupts_leave_nothing_behind(tmp_path, name, how, record_property):
    found = _interrupted(tmp_path, [name], -(-LONG // len(OPERATIONS)), how=how)
    record_property("interrupts", found[name]["interrupts"])
    assert _wrong(found) == []


class _Left:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return len([]) == 1


@contextlib.contextmanager
def _left():
    try:
        yield 1
    finally:
        len([])


def _of_all_kinds(number):
    with _Left() as one, _left(), contextlib.suppress(KeyError):
        for each in range(number):
            sum(each for each in (1, 2))
            {}[f"{one}"]
    while number:
        number -= 1
        try:
            raise ValueError(number)
        except ValueError as error:
            with contextlib.suppress(TypeError):
                max(*str(error))
        finally:
            max(abs(number), len([_Left()]))


def test_signals_come_where_a_raise_is_covered():
    """What :class:`instructions.Interrupted` relies on, tried on this interpreter."""
    seen = set()

    def note(number, frame):
        if frame.f_code.co_filename == __file__:
            seen.add(dis.opname[frame.f_code.co_code[frame.f_lasti]])

    previous = signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, 0.00005, 0.00005)
    try:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            _of_all_kinds(3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    calls = {name for name in seen if "CALL" in name}
    assert calls
    assert "RESUME" in seen
    assert {name for name in seen - calls if name in UNSAFE} == set()
    inside = {"FORMAT_VALUE", "FORMAT_SIMPLE", "CONVERT_VALUE"}  # in C, which looks when it makes a repr
    assert {name for name in seen if not is_looked_for_signals(name)} <= inside
