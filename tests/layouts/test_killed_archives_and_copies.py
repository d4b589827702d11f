"""Kill an export to an archive and a copy between any two system calls: the old state or the new one."""

import os
import shutil
import tarfile

import pytest
from images import artifact, image, index, push
from state import catalog, pool
from tracing import calls, failing, killed, require_strace

from ocistore import Store

POINTS = 8
"""At how many system calls each command is killed in a plain run; the slow tests do it at every single one."""

GRAPHS = [image("two", layers=2), index([image("arm"), image("amd")]), artifact("note")]


def export(root, destination):
    with Store.open(root, read_only=True) as store:
        store.export(destination)


def copy_all(source, destination):
    with Store.open(source, read_only=True) as store:
        store.copy_to(destination)


@pytest.fixture(autouse=True)
def _strace():
    require_strace()


def sample(points, all_of_them):
    """All of them, or some, the last one among them."""
    assert len(points) > POINTS
    return points if all_of_them else [points[(len(points) - 1) * number // (POINTS - 1)] for number in range(POINTS)]


EACH = pytest.mark.parametrize(
    "all_of_them",
    [pytest.param(False, id="at some calls"), pytest.param(True, id="at every call", marks=pytest.mark.slow)],
)


@pytest.fixture
def filled(tmp_path, empty_store):
    """A store, closed."""
    root = tmp_path / "store"
    shutil.copytree(empty_store, root)
    with Store.open(root) as store, store.transaction() as transaction:
        for number, pushed in enumerate(GRAPHS):
            push(transaction.repository("app"), pushed, f"v{number}")
        large = transaction.repository("app").put_blob(bytes(1 << 20))
        assert large.size == 1 << 20
    return root


@EACH
def test_a_killed_export_leaves_the_old_archive_or_the_new_one(filled, tmp_path, all_of_them):
    place = tmp_path / "there"
    place.mkdir()
    out = place / "out.tar"
    export(filled, tmp_path / "new.tar")
    new = (tmp_path / "new.tar").read_bytes()
    points = calls(export, filled, out, log=tmp_path / "log")
    seen = set()
    for call in sample(points, all_of_them):
        out.write_bytes(b"the old one")
        assert killed(export, filled, out, at=call)
        assert out.read_bytes() in (b"the old one", new), call
        seen.add(out.read_bytes() == new)
        export(filled, out)
        assert out.read_bytes() == new
        assert os.listdir(place) == ["out.tar"], call
    assert seen == {False, True} or not all_of_them
    with tarfile.open(out) as tar:
        assert "index.json" in tar.getnames()


@EACH
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_an_export_of_which_any_call_fails_leaves_the_old_archive_or_the_new_one(filled, tmp_path, all_of_them, error):
    place = tmp_path / "there"
    place.mkdir()
    out = place / "out.tar"
    export(filled, tmp_path / "new.tar")
    new = (tmp_path / "new.tar").read_bytes()
    points = [call for call in calls(export, filled, out, log=tmp_path / "log") if call[0] != "unlinkat"]
    for call in sample(points, all_of_them) if len(points) > POINTS else points:
        out.write_bytes(b"the old one")
        status = failing(export, filled, out, at=call, error=error)
        assert status in {0, 1}
        assert out.read_bytes() == new if status == 0 else out.read_bytes() in (b"the old one", new), call
        assert os.listdir(place) == ["out.tar"], call


@EACH
def test_a_killed_copy_brings_all_or_nothing(filled, empty_store, tmp_path, all_of_them):
    expected = {f"v{number}": graph.digest for number, graph in enumerate(GRAPHS)}
    root = tmp_path / "other"
    shutil.copytree(empty_store, root)
    points = calls(copy_all, filled, root, log=tmp_path / "log")
    seen = set()
    for call in sample(points, all_of_them):
        shutil.rmtree(root)
        shutil.copytree(empty_store, root)
        assert killed(copy_all, filled, root, at=call)
        with Store.open(root) as store:
            there = list(store.repositories())
            seen.add(len(there))
            assert there in ([], ["app"])
            if there:
                assert {tag: store.repository("app").resolve(tag).digest for tag in expected} == expected
        copy_all(filled, root)
        with Store.open(root) as store:
            assert {tag: store.repository("app").resolve(tag).digest for tag in expected} == expected
        assert set(pool(root).values()) <= set(pool(filled).values())
        with catalog(root) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert seen == {0, 1} or not all_of_them
