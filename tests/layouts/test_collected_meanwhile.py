"""What is deleted and collected while it is read out is said to be that, and not to be damaged."""

import shutil
from datetime import timedelta

import pytest
from images import image, index, push

from ocistore import BlobNotFoundError, CorruptError, Digest, Store
from ocistore.layouts import copying, exporting
from ocistore.layouts.exports import selection

NOW = timedelta(0)
BOTH = index([image("arm", platform="linux/arm64"), image("amd", platform="linux/amd64")])


def collect(root):
    with Store.open(root) as other:
        other.delete_repository("app")
        other.gc(grace=NOW, keep_untagged=NOW, force=True)


def first(monkeypatch, module, name, do):
    """Do that when the module is about to call what it knows under that name."""
    called = getattr(module, name)

    def late(*arguments, **options):
        do()
        return called(*arguments, **options)

    monkeypatch.setattr(module, name, late)


def refused(call):
    with pytest.raises(BlobNotFoundError, match="was deleted and collected while it was to be read") as caught:
        call()
    assert caught.value.meanwhile


@pytest.mark.parametrize(
    "options",
    [
        {"format": "dir", "mode": "copy"},
        {"format": "dir", "mode": "link"},
        {"format": "oci-archive"},
        {"format": "docker-archive"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_in_an_export(store, tmp_path, monkeypatch, options):
    push(store.repository("app"), image("one", layers=3), "v1")
    name = "docker_archive" if options["format"] == "docker-archive" else "held"
    first(monkeypatch, exporting, name, lambda: collect(store.root))
    refused(lambda: store.export(tmp_path / "out", ["app"], **options))


def test_in_an_export_of_one_platform(store, tmp_path, monkeypatch):
    push(store.repository("app"), BOTH, "v1")
    first(monkeypatch, selection._Choosing, "_fetch", lambda: collect(store.root))
    refused(lambda: store.export(tmp_path / "out", ["app"], platforms=["linux/amd64"]))


def test_in_a_copy_of_what_may_not_be_kept(store, tmp_path, monkeypatch):
    push(store.repository("app"), image("one", layers=3), "v1")
    first(monkeypatch, copying, "_opened", lambda: collect(store.root))
    with Store.open(store.root, read_only=True) as source:
        refused(lambda: source.copy_to(tmp_path / "other", ["app"]))
    with Store.open(tmp_path / "other") as other:
        assert list(other.repositories()) == []


@pytest.mark.parametrize("form", ["dir", "oci-archive", "docker-archive"])
def test_what_is_gone_and_should_be_there_is_damage(store, tmp_path, form):
    pushed = image("one", layers=3)
    push(store.repository("app"), pushed, "v1")
    store._core.paths.blob(Digest.of(pushed.config)).unlink()
    with pytest.raises(CorruptError, match="its file is gone"):
        store.export(tmp_path / "out", ["app"], format=form)


def test_what_came_back_meanwhile_is_not_damage(store, tmp_path, monkeypatch):
    pushed = image("one", layers=3)
    push(store.repository("app"), pushed, "v1")
    path = store._core.paths.blob(Digest.of(pushed.layers[0]))
    shutil.move(path, tmp_path / "away")
    refuse_moved = type(store._core.catalog).refuse_moved

    def back(catalog):
        if not path.exists():
            shutil.move(tmp_path / "away", path)
        return refuse_moved(catalog)

    monkeypatch.setattr(type(store._core.catalog), "refuse_moved", back)
    refused(lambda: store.export(tmp_path / "out", ["app"]))
