"""What the logger ``ocistore`` says to whoever operates a store, and that it is silent for all others."""

import logging
import shutil
import threading
import time
from pathlib import Path
from typing import get_args

import pytest
from images import APP, push
from processes import run_python

import ocistore
from ocistore import CollectionRefusedError, Digest, Store, logs


class Keeping(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def records(monkeypatch):
    logger, keeping = logging.getLogger("ocistore"), Keeping()
    before = logger.level
    monkeypatch.setattr(logger, "handlers", [keeping])
    logger.setLevel(logging.INFO)
    yield keeping.records
    logger.setLevel(before)


def only(records, event):
    [record] = [record for record in records if getattr(record, "event", "") == event]
    assert record.name == "ocistore"
    assert record.getMessage().startswith(f"{record.store}: ")
    return record


def test_a_garbage_collection_says_what_it_removed(store, records):
    store.gc(dry_run=True)
    assert records == []
    report = store.gc()
    record = only(records, "gc")
    assert (record.levelname, record.store, record.report) == ("INFO", str(store.root), report)
    assert "removed 0 blobs of 0 bytes" in record.getMessage()


def test_a_scrub_warns_of_damage(store, records):
    push(store.repository("a"), APP, "v1")
    store.scrub()
    assert only(records, "scrub").levelname == "INFO"
    records.clear()
    (store.root / "blobs" / "sha256" / Digest.of(APP.config).encoded).unlink()
    report = store.scrub()
    record = only(records, "scrub")
    assert (record.levelname, record.report) == ("WARNING", report)
    assert "found 1 of" in record.getMessage()


def test_a_backup_warns_of_what_it_lacks(store, tmp_path, records):
    push(store.repository("a"), APP, "v1")
    store.backup(tmp_path / "copy")
    assert only(records, "backup").levelname == "INFO"
    records.clear()
    (store.root / "blobs" / "sha256" / Digest.of(APP.config).encoded).unlink()
    store.backup(tmp_path / "other")
    record = only(records, "backup")
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith("and lacks 1")


def test_a_rebuild_is_a_warning(store, records):
    push(store.repository("a"), APP, "v1")
    store.close()
    ocistore.rebuild(store.root, force=True)
    record = only(records, "rebuild")
    assert (record.levelname, record.report.tags) == ("WARNING", 1)


def test_a_restored_catalog_is_a_warning_with_the_reason(store, tmp_path, records):
    push(store.repository("a"), APP, "v1")
    store.close()
    shutil.copy(store.root / "catalog.db", tmp_path / "earlier.db")
    with Store.open(store.root) as again:
        push(again.repository("b"), APP, "v1")
    shutil.copy(tmp_path / "earlier.db", store.root / "catalog.db")
    assert not [record for record in records if record.event == "hold"]
    with Store.open(store.root) as again:
        with pytest.raises(CollectionRefusedError) as caught:
            again.gc()
        again.repository("a").put_blob(b"x")
    record = only(records, "hold")
    assert record.levelname == "WARNING"
    assert record.reason in caught.value.reasons


def test_directories_that_were_made_again_are_a_warning(store, records):
    store.close()
    (store.root / "trash").rmdir()
    with Store.open(store.root):
        pass
    record = only(records, "directories-made-again")
    assert (record.levelname, record.directories) == ("WARNING", (store.root / "trash",))


def test_whoever_waited_long_for_the_lock_says_so_afterwards(store, records, monkeypatch):
    monkeypatch.setattr(logs, "LONG_WAIT", 0.05)
    entered = threading.Event()

    def hold():
        with store._core.catalog.write():
            entered.set()
            time.sleep(0.3)

    holding = threading.Thread(target=hold)
    holding.start()
    entered.wait()
    store.repository("a").put_blob(b"x")
    holding.join()
    record = only(records, "lock-waited")
    assert record.levelname == "WARNING"
    assert record.seconds >= 0.05
    assert record.store == str(store.root)


def test_nothing_is_printed_where_nobody_configured_logging(tmp_path):
    code = """
import logging, sys, shutil, ocistore
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    store.gc()
(store.root / "trash").rmdir()
Store.open(sys.argv[1]).close()
print(logging.getLogger("ocistore").handlers)
"""
    printed = run_python(code, tmp_path / "store", fresh=True)
    assert printed == "[<NullHandler (NOTSET)>]\n"


def test_logging_is_not_loaded_for_those_who_do_not_use_it(tmp_path):
    code = """
import sys
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    store.gc()
print("logging" in sys.modules)
"""
    assert run_python(code, tmp_path / "store", fresh=True) == "False\n"


def test_every_event_is_in_the_document():
    text = (Path(__file__).parents[1] / "docs" / "operating.md").read_text()
    assert [event for event in get_args(logs.Event) if f"| `{event}` |" not in text] == []
