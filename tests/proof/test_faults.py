"""Where any one system call fails, the error is one of ours, nothing is lost, and the store still works afterwards."""

import pytest
from operations import OPERATIONS
from rig import CLEAN, RAW, REFUSED, SLANDERED, STUCK, Bench
from tracing import CHANGING, READING, all_calls, failing, reads, require_strace

from ocistore import oserrors
from ocistore.catalog.transactions import Write
from ocistore.upkeep import reading
from ocistore.upkeep.scrub import _Scrub

ERRORS = {
    "openat": ("EIO", "ENOSPC", "EMFILE", "EROFS"),
    **dict.fromkeys(("write", "pwrite64", "pwritev2", "copy_file_range", "sendfile", "ftruncate"), ("EIO", "ENOSPC")),
    **dict.fromkeys(("fsync", "fdatasync", "syncfs"), ("EIO", "ENOSPC")),
    **dict.fromkeys(("rename", "renameat", "renameat2", "link", "linkat"), ("EIO", "ENOSPC", "EROFS")),
    **dict.fromkeys(("unlink", "unlinkat", "mkdir", "mkdirat", "fchmod"), ("EIO", "EROFS")),
}
"""By system call: what it fails with."""

READ_ERRORS = {
    **dict.fromkeys(("read", "pread64", "readv", "preadv", "preadv2", "lseek"), ("EIO", "ENOMEM")),
    **dict.fromkeys(("newfstatat", "fstat", "statx"), ("EIO", "ENOMEM", "EACCES")),
    "flock": ("ENOLCK", "EIO"),
    "fcntl": ("ENOLCK", "EIO"),
    "mmap": ("ENOMEM",),
    "getdents64": ("EIO",),
}

MOST = 140
"""Faults of each operation in the long form, spread over all of its calls."""

MOST_READS = 140
"""Likewise, of reads."""

IN_SHORT = ["push", "gc", "import", "export", "backup", "spill"]
"""The operations that a plain run tries, with one fault each."""

WORDS = {
    RAW: "an error that is not ours",
    STUCK: "the store does not work any more",
    SLANDERED: "what cannot be read now is called damaged",
}


@pytest.fixture(autouse=True)
def _strace():
    require_strace()


def _faults(bench, log):
    bench.fresh()
    bench.run()
    bench.fresh()
    # Each call fails once; the errors of its kind take turns.
    return [
        ((name, number), ERRORS[name][number % len(ERRORS[name])])
        for name, number, _ in all_calls(bench.run, log=log)
        if name in ERRORS
    ]


def _read_faults(bench, log):
    bench.fresh()
    bench.run()
    bench.fresh()
    return [
        ((name, number), READ_ERRORS[name][number % len(READ_ERRORS[name])])
        for name, number in reads(bench.run, log=log, below=bench.root.parent)
    ]


def _spread(faults, most):
    count = min(most, len(faults))
    return [faults[number * len(faults) // count] for number in range(count)]


def _found(bench, fault, *, calls=CHANGING):
    point, error = fault
    bench.fresh()
    status = failing(bench.run_refused, at=point, error=error, calls=calls)
    found = [] if status in {CLEAN, REFUSED} else [WORDS.get(status, f"it ended with {status}")]
    return [f"{error} from {point}: {words}" for words in (*found, *bench.wrong())]


@pytest.mark.parametrize("name", IN_SHORT)
def test_a_call_that_fails_costs_one_clear_error(name, tmp_path, empty_store):
    bench = Bench(OPERATIONS[name], tmp_path, empty_store)
    faults = _faults(bench, tmp_path / "log")
    place = len(faults) * (2 * IN_SHORT.index(name) + 1) // (2 * len(IN_SHORT))
    assert _found(bench, faults[place]) == []


def test_a_fault_catches_a_pool_that_lets_raw_errors_through(tmp_path, empty_store, monkeypatch):
    bench = Bench(OPERATIONS["push"], tmp_path, empty_store)
    fault = next(fault for fault in _faults(bench, tmp_path / "log") if fault[0][0].startswith("link"))
    monkeypatch.setattr(oserrors, "translated", lambda error, **_: error)
    assert any(WORDS[RAW] in words for words in _found(bench, fault))


def test_a_fault_catches_a_rollback_of_what_sqlite_has_rolled_back(tmp_path, empty_store, monkeypatch):
    bench = Bench(OPERATIONS["spill"], tmp_path, empty_store)
    writes = [fault for fault in _faults(bench, tmp_path / "log") if fault[0][0] == "pwrite64"]
    spilled = writes[len(writes) // 4 :: 4]
    monkeypatch.setattr(Write, "_roll_back", lambda self, connection: connection.command("ROLLBACK"))
    assert any(WORDS[RAW] in words for fault in spilled for words in _found(bench, fault))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_call_fails_costs_one_clear_error(name, tmp_path, empty_store, record_property):
    bench = Bench(OPERATIONS[name], tmp_path, empty_store)
    faults = _faults(bench, tmp_path / "log")
    faults = _spread(faults, MOST)
    record_property("faults", len(faults))
    assert [words for fault in faults for words in _found(bench, fault)] == []


@pytest.mark.parametrize("name", IN_SHORT)
def test_a_read_that_fails_costs_one_clear_error(name, tmp_path, empty_store):
    bench = Bench(OPERATIONS[name], tmp_path, empty_store)
    faults = _read_faults(bench, tmp_path / "log")
    place = len(faults) * (2 * IN_SHORT.index(name) + 1) // (2 * len(IN_SHORT))
    assert _found(bench, faults[place], calls=READING) == []


def test_a_read_that_fails_catches_a_scrub_that_takes_it_for_damage(tmp_path, empty_store, monkeypatch):
    bench = Bench(OPERATIONS["scrub"], tmp_path, empty_store)
    hashing = [fault for fault in _read_faults(bench, tmp_path / "log") if fault[0][0] == "readv"]
    monkeypatch.setattr(reading, "_READS", 1)
    monkeypatch.setattr(_Scrub, "_unreadable", _as_damage)
    assert any(WORDS[SLANDERED] in words for fault in hashing[-2::-3] for words in _found(bench, fault, calls=READING))


def _as_damage(scrub, candidate, digest, reason):
    scrub._damaged(candidate, digest, reason, scrub._pool.sweeper.find(digest))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_read_fails_costs_one_clear_error(name, tmp_path, empty_store, record_property):
    bench = Bench(OPERATIONS[name], tmp_path, empty_store)
    faults = _read_faults(bench, tmp_path / "log")
    faults = _spread(faults, MOST_READS)
    record_property("faults", len(faults))
    assert [words for fault in faults for words in _found(bench, fault, calls=READING)] == []
