"""A store that is closed by another thread at any point of a call: it did all of it, or it says that it is closed."""

import contextlib
import os
import sys

import pytest
from images import image, push
from invariants import check

from ocistore import Store, StoreClosedError

ONE = image("one")


def _put_blob(store, tmp_path):
    store.repository("app").put_blob(b"content")


def _put_manifest(store, tmp_path):
    store.repository("app").put_manifest(ONE.manifest, tags=["one"])


def _import(store, tmp_path):
    store.import_(tmp_path / "layout", "app")


def _has(store, kind):
    repository = store.repository("app")
    if kind is _put_manifest:
        return list(repository.tags()) == ["one"]
    if kind is _import:
        return list(repository.tags()) == ["brought"]
    with contextlib.suppress(Exception):
        return bool(repository.stat_blob("sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"))
    return False


class _Closing:
    """Closes the store at that many-th entry of a function of ours, as another thread may."""

    def __init__(self, store, after):
        self.store = store
        self.left = after

    def __call__(self, frame, event, argument):
        if event == "call" and "/ocistore/" in frame.f_code.co_filename:
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self.store.close()


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [_put_blob, _put_manifest, _import], ids=lambda kind: kind.__name__[1:])
def test_a_call_in_a_store_that_is_closed_meanwhile_is_done_or_refused(tmp_path, kind, every):
    with Store.open(tmp_path / "source") as source:
        push(source.repository("app"), image("brought"), "brought")
        source.export(tmp_path / "layout", ["app:brought"])
    after = 1
    while True:
        root = tmp_path / f"store{after}"
        store = Store.open(root)
        for blob in ONE.blobs:
            store.repository("app").put_blob(blob)
        closing = _Closing(store, after)
        sys.settrace(closing)
        try:
            kind(store, tmp_path)
            done = True
        except StoreClosedError:
            done = False
        finally:
            sys.settrace(None)
        assert os.listdir(root / "uploads") == [], after
        store.close()
        with Store.open(root) as again:
            assert _has(again, kind) == done, after
            assert check(again, hashes=True) == []
        if closing.left > 0:
            return
        after += every * (11 if kind is not _import else 37)
