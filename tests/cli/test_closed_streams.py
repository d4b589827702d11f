"""Commands without standard output or error, or with ones that take nothing, do their work and end as they should."""

import os
import subprocess
import sys

import pytest
import separate
from images import APP, push
from invariants import check
from processes import PATIENCE
from state import pool

from ocistore import Store

SHELL = {
    "no error": ("2>&-", {2}),
    "no output": (">&-", {1}),
    "neither": ("<&- >&- 2>&-", {0, 1, 2}),
    "a full error": ("2>/dev/full", set()),
}
"""What a shell is told, and which descriptors are closed by it."""
COMMANDS = [
    (0, "push", "note:v1", "FILE"),
    (0, "pull", "note:v1", "-o", "pulled"),
    (0, "export", "library/app:v1", "layout"),
    (0, "import", "layout", "imported"),
    (0, "backup", "backup"),
    (0, "tags", "library/app"),
    (0, "untag", "imported:v1"),
    (0, "gc", "--grace", "0s", "--keep-untagged", "0s"),
    (0, "scrub", "--level", "deep"),
    (0, "rebuild", "--force"),
    (0, "gc", "--confirm"),
    (0, "usage"),
    (11, "show", "nothing:v1"),
    (2, "nonsense"),
    (2, "rm", "library/app"),
]
"""Each with how it ends."""


def anew(streams, words):
    """The command as a shell starts it."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {SHELL[streams][0]}', "sh", sys.executable, "-W", "error", "-m", "ocistore", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )


def forked(streams, words):
    """The same in a process that has its modules already."""
    with open("/dev/full", "wb") as full:
        return separate.run(*words, closed=SHELL[streams][1], stderr=full if streams == "a full error" else None)


@pytest.mark.parametrize(
    ("start", "streams"),
    [
        (forked, "neither"),
        pytest.param(forked, "no error", marks=pytest.mark.slow),
        *(pytest.param(anew, streams, marks=pytest.mark.slow) for streams in SHELL),
    ],
)
def test_every_command_does_its_work_whichever_streams_there_are(store, tmp_path, monkeypatch, start, streams):
    push(store.repository("library/app"), APP, "v1")
    store.close()
    (tmp_path / "FILE").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)
    for expected, *arguments in COMMANDS:
        done = start(streams, ["--store", store.root, *arguments])
        assert (done.returncode, b"Traceback" in (done.stderr or b"")) == (expected, False), (arguments, done.stderr)
    assert (tmp_path / "pulled" / "FILE").read_bytes() == b"content"
    assert (tmp_path / "layout" / "index.json").is_file()
    with Store.open(store.root) as again, Store.open(tmp_path / "backup") as copy:
        assert list(again.repositories()) == ["library/app", "note"]
        assert list(copy.repositories()) == ["imported", "library/app", "note"]
    assert check(store.root, hashes=True) == []
    assert len(pool(store.root)) == 6


def test_no_file_of_a_store_becomes_standard_error(store):
    # What is written to descriptor 2, by whatever crashes, must not come to lie in the catalog.
    code = """
import os, sys
from ocistore.cli.printing import occupy_standard_descriptors
occupy_standard_descriptors()
from ocistore import Store
first = os.open(sys.argv[1], os.O_RDONLY)  # SQLite looks after itself
store = Store.open(sys.argv[1])
os._exit((first < 3) + sum(os.path.realpath(f"/proc/self/fd/{each}") != "/dev/null" for each in range(3)))
"""
    with open(os.devnull, "r+b") as null:
        process = separate.begin(store.root, stdout=null, stderr=null, closed=range(3), code=code)
    assert process.wait(PATIENCE) == 0
