"""A store whose directory is moved, replaced or removed while it is open: nothing good is called damaged."""

import os
import shutil
from datetime import timedelta

import pytest
from images import image, push
from invariants import check
from state import files

from ocistore import Digest, Store, StoreNotFoundError

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
        with store.catalog.read(), pytest.raises(StoreNotFoundError, match="moved"), store.catalog.read():
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
