"""A store whose directory is moved, replaced or removed while it is open: nothing good is called damaged."""

import os
import shutil
from datetime import timedelta

import pytest
from images import image, push
from invariants import check
from state import files

from ocistore import Digest, Store, StoreNotFoundError
from ocistore.catalog.access import Access

LAYER = image("ours").layers[0]

WRITES = {
    "put_blob": lambda store, _: store.repository("app").put_blob(b"new"),
    "tag": lambda store, _: store.repository("app").tag("v2", image("ours").digest),
    "upload": lambda store, _: store.repository("app").start_upload(),
    "gc": lambda store, _: store.gc(grace=timedelta(0)),
    "scrub": lambda store, _: store.scrub(),
    "backup": lambda store, top: store.backup(top / "backup"),
    "export_in_place": lambda store, _: store.export_in_place(),
}


@pytest.fixture
def place(tmp_path, empty_store):
    """Two closed stores, ``ours`` and ``theirs``."""
    for name in ("ours", "theirs"):
        with Store.open(shutil.copytree(empty_store, tmp_path / name)) as store:
            push(store.repository("app"), image(name), "v1")
    return tmp_path


def read(store):
    app = store.repository("app")
    assert app.get_manifest("v1").content == image("ours").manifest
    with app.open_blob(Digest.of(LAYER)) as reader:
        assert reader.read() == LAYER
    return True


def replace(place, by):
    os.rename(place / "ours", place / "moved")
    if by == "a store":
        os.rename(place / "theirs", place / "ours")
    if by == "a directory":
        (place / "ours").mkdir()


@pytest.mark.parametrize("by", ["nothing", "a store", "a directory"])
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_what_is_read_of_a_store_that_was_moved_is_still_its_own(place, by, used):
    with Store.open(place / "ours") as store:
        if used:
            read(store)
        replace(place, by)
        before = files(place)
        assert read(store)
        # A second connection would be opened by the path.
        with store._core.catalog.read(), pytest.raises(StoreNotFoundError, match="moved"), store._core.catalog.read():
            pass
        store.export(place / "out")
        shutil.rmtree(place / "out")
        assert files(place) == before
    assert check(place / "moved", hashes=True, idle=False) == []


@pytest.mark.parametrize("by", ["nothing", "a store", "a directory"])
def test_nothing_is_written_into_what_took_the_place_of_a_store(place, by):
    with Store.open(place / "ours") as store:
        replace(place, by)
        before = files(place)
        for write in WRITES.values():
            with pytest.raises(StoreNotFoundError, match="moved, replaced or removed") as caught:
                write(store, place)
            assert caught.value.root == place / "ours"
    assert files(place) == before
    with Store.open(place / "moved") as store:
        assert read(store)


def test_a_store_that_was_removed_is_said_to_be(place):
    with Store.open(place / "ours") as store:
        shutil.rmtree(place / "ours")
        with pytest.raises(StoreNotFoundError, match="removed"):
            read(store)
        with pytest.raises(StoreNotFoundError, match="removed"):
            store.repository("app").tag("v2", image("ours").digest)
    assert not (place / "ours").exists()


READS = {
    "export": lambda store, top: store.export(top / "out"),
    "export a tar": lambda store, top: store.export(top / "out.tar"),
    "export links": lambda store, top: store.export(top / "links", mode="link"),
    "look at every blob": lambda store, _: store.scrub(repair=False, level="deep"),
    "look at the sizes": lambda store, _: store.scrub(repair=False, level="quick"),
    "foresee": lambda store, _: store.gc(grace=timedelta(0), dry_run=True),
}


@pytest.mark.parametrize("what", READS)
def test_nothing_of_a_store_that_was_removed_is_called_damaged(place, what):
    with Store.open(place / "ours") as store:
        shutil.rmtree(place / "ours")
        with pytest.raises(StoreNotFoundError, match="moved, replaced or removed"):
            READS[what](store, place)


@pytest.mark.parametrize("by", ["nothing", "a store", "a directory"])
def test_what_is_reached_by_its_path_says_that_it_was_moved(place, by, monkeypatch):
    """As it is where nothing may be written beside the catalog: by another user, or in a snapshot."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: mode != os.W_OK and may(path, mode, **more))
    with Store.open(place / "ours", read_only=True) as store:
        assert read(store)
        replace(place, by)
        for look in (lambda store, _: read(store), lambda store, _: list(store.repositories()), *READS.values()):
            with pytest.raises(StoreNotFoundError, match="moved, replaced or removed"):
                look(store, place)


@pytest.mark.parametrize("by", ["nothing", "a store", "a directory"])
def test_a_transaction_in_a_store_that_is_moved_meanwhile_leaves_nothing_anywhere(place, by):
    with Store.open(place / "ours") as store:
        transaction = store.transaction()
        with pytest.raises(StoreNotFoundError, match="moved, replaced or removed"), transaction:
            transaction.repository("app").put_blob(b"before")
            replace(place, by)
            transaction.repository("app").put_blob(b"after")
            before = {name for name in files(place) if "/uploads/" not in name}
    assert set(files(place)) == before


def test_what_is_staged_for_a_store_that_was_removed_says_so(place):
    with Store.open(place / "ours") as store:
        transaction = store.transaction()
        with pytest.raises(StoreNotFoundError, match="removed"), transaction:
            shutil.rmtree(place / "ours")
            transaction.repository("app").put_blob(b"after")
    assert not (place / "ours").exists()


def test_a_store_that_is_moved_while_a_push_waits_for_the_lock_is_not_written(place, monkeypatch):
    with Store.open(place / "ours") as store:
        store.repository("app").put_blob(b"first")
        enter = Access.enter

        def moved_meanwhile(self, turn):
            enter(self, turn)
            if (place / "ours").exists():
                replace(place, "nothing")

        monkeypatch.setattr(Access, "enter", moved_meanwhile)
        with pytest.raises(StoreNotFoundError, match="moved"):
            store.repository("app").tag("v2", image("ours").digest)
        monkeypatch.undo()
    with Store.open(place / "moved") as store:
        assert list(store.repository("app").tags()) == ["v1"]


def test_a_push_asks_no_more_than_needed_where_its_store_is(place, monkeypatch):
    found, asked = Access._found, []
    monkeypatch.setattr(Access, "_found", lambda self: asked.append(True) or found(self))

    def times(call):
        asked.clear()
        call()
        return len(asked)

    with Store.open(place / "ours") as store:
        app = store.repository("app")
        app.put_blob(b"first")
        assert times(lambda: app.put_blob(b"second")) == 2  # before it is read, and before the lock
        assert times(lambda: app.tag("v2", image("ours").digest)) == 1

        def pushed():
            with store.transaction() as transaction:
                push(transaction.repository("app"), image("more", layers=4), "more")

        assert times(pushed) == 3  # when it begins and when it ends, and before the lock
