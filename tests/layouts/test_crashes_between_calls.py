"""Kill an export, an import and an export in place between any two system calls: the old layout or the new one."""

import contextlib
import os
import shutil

import pytest
from archived import members_of, tarred
from handmade import IMAGE_NAME, Layout, contents, listed, names, tree, verified
from images import artifact, image, index, push
from processes import python
from state import catalog, pool
from tracing import calls, killed, require_strace

from ocistore import Store

# Loaded here, and not in each process that is killed: what Python opens to load them differs from one to the next.
from ocistore.layouts import exporting, importing  # noqa: F401

POINTS = 10
"""At how many system calls each command is killed in a plain run; the slow tests do it at every single one."""

OLD, NEW = [image("one"), artifact("note")], [image("two", layers=2), index([image("arm"), image("amd")])]


def export(root, destination, mode):
    with Store.open(root) as store:
        store.export(destination, mode=mode)


def export_in_place(root):
    with Store.open(root) as store:
        store.export_in_place()


def import_app(root, source, form):
    with Store.open(root) as store:
        if form == "stream":
            with open(source, "rb") as stream:
                store.import_(stream, "app")
        else:
            store.import_(source, "app", mode="link" if form == "links" else "auto")


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
    """A store, closed, with a layout of its first state and content that came since."""
    root = tmp_path / "store"
    shutil.copytree(empty_store, root)
    with Store.open(root) as store:
        for number, pushed in enumerate(OLD):
            push(store.repository("app"), pushed, f"v{number}")
        store.export(tmp_path / "old")
        for number, pushed in enumerate(NEW, len(OLD)):
            push(store.repository("app"), pushed, f"v{number}")
        push(store.repository("app"), NEW[0], "v0")
        store.export(tmp_path / "new")
    return root


def fresh(source, path):
    """A copy of a directory, made of links where nothing is ever written to."""
    shutil.rmtree(path, ignore_errors=True)
    return shutil.copytree(source, path)


@EACH
@pytest.mark.parametrize("mode", ["auto", "link"])
def test_a_killed_export_leaves_the_old_layout_or_the_new_one(filled, tmp_path, mode, all_of_them):
    old, new = names(tmp_path / "old"), names(tmp_path / "new")
    destination = fresh(tmp_path / "old", tmp_path / "out")
    points = calls(export, filled, destination, mode, log=tmp_path / "log")
    seen = set()
    for call in sample(points, all_of_them):
        fresh(tmp_path / "old", destination)
        assert killed(export, filled, destination, mode, at=call)
        seen.add("old" if names(destination) == old else "new")
        assert names(destination) in (old, new)
        verified(destination)
        with Store.open(filled) as store:
            store.export(destination, mode=mode)
        # Blobs of the old layout stay, as in every export into a layout.
        assert names(destination) == new, call
        assert verified(destination) == verified(tmp_path / "new"), call
        assert not [name for name in os.listdir(destination) if name.startswith(".")]
    assert seen == {"old", "new"} or not all_of_them


@EACH
def test_a_killed_first_export_leaves_nothing_that_the_next_one_refuses(filled, tmp_path, all_of_them):
    destination = tmp_path / "out"
    points = calls(export, filled, destination, "auto", log=tmp_path / "log")
    for call in sample(points, all_of_them):
        shutil.rmtree(destination, ignore_errors=True)
        assert killed(export, filled, destination, "auto", at=call)
        if (destination / "index.json").exists():
            verified(destination)
        with Store.open(filled) as store:
            store.export(destination)
        assert contents(destination) == contents(tmp_path / "new"), call


@EACH
def test_a_killed_export_in_place_leaves_the_old_index_or_the_new_one_and_a_store(filled, tmp_path, all_of_them):
    old, new = names(tmp_path / "old"), names(tmp_path / "new")
    root = fresh(filled, tmp_path / "root")
    for name in ("oci-layout", "index.json"):
        shutil.copyfile(tmp_path / "old" / name, filled / name)
    points = calls(export_in_place, root, log=tmp_path / "log")
    for call in sample(points, all_of_them):
        fresh(filled, root)
        assert killed(export_in_place, root, at=call)
        assert names(root) in (old, new)
        verified(root)
        with Store.open(root) as store:
            store.export_in_place()
            assert store.repository("app").resolve("v0").digest == NEW[0].digest
        assert names(root) == new
        assert not [name for name in os.listdir(root) if name.startswith(".")]


@EACH
@pytest.mark.parametrize(
    "form", ["directory", *(pytest.param(form, marks=pytest.mark.slow) for form in ("archive", "stream", "links"))]
)
def test_a_killed_import_brings_all_or_nothing(empty_store, tmp_path, form, all_of_them):
    layout = Layout(tmp_path / "layout")
    for number, pushed in enumerate(NEW):
        layout.add(pushed, f"v{number}")
    directory = source = layout.write()
    if form in {"archive", "stream"}:
        source = tmp_path / "archive"
        source.write_bytes(tarred(members_of(directory)))
    look = contents if form == "links" else tree  # which may have made files 0444, and no more
    before, expected = look(directory), {f"v{number}": pushed.digest for number, pushed in enumerate(NEW)}
    root = fresh(empty_store, tmp_path / "store")
    untouched = shutil.copytree(directory, tmp_path / "untouched")
    points = calls(import_app, root, source, form, log=tmp_path / "log")
    seen = set()
    for call in sample(points, all_of_them):
        fresh(empty_store, root)
        if form == "links":  # files that are 0444 already, and have other names, take fewer calls
            fresh(untouched, directory)
        assert killed(import_app, root, source, form, at=call)
        with Store.open(root) as store:
            there = list(store.repositories())
            seen.add(len(there))
            assert there in ([], ["app"])
            if there:
                assert {tag: store.repository(there[0]).resolve(tag).digest for tag in expected} == expected
                store.export_in_place()
                verified(root)
            store.import_(source, "app")
            assert {tag: store.repository("app").resolve(tag).digest for tag in expected} == expected
        assert pool(root) == verified(directory)
        with catalog(root) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert look(directory) == before
    assert seen == {0, 1} or not all_of_them


# --- several at once --------------------------------------------------------------------------------------------------

EXPORT_ONE_BY_ONE = """
import sys
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    print("ready")
    input()
    for number in range(int(sys.argv[4])):
        store.export(sys.argv[2], [f"{sys.argv[3]}:v{number}"])
"""

IMPORT_TWICE = """
import sys
from ocistore import Store
with Store.open(sys.argv[1]) as store:
    print("ready")
    input()
    store.import_(sys.argv[2], sys.argv[3])
    store.import_(sys.argv[2], "shared/" + sys.argv[3])
"""


def at_once(code, *arguments_of_each):
    """Run the code in one process for each list of arguments, all at the same time."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(python(code, *arguments)) for arguments in arguments_of_each]
        for child in children:
            assert child.says() == "ready"
        for child in children:
            child.tell()
        for child in children:
            child.finish()


def test_processes_that_export_into_one_directory_lose_no_name(tmp_path, empty_store):
    root, repositories, count = fresh(empty_store, tmp_path / "store"), ["one", "two", "three"], 20
    with Store.open(root) as store, store.transaction() as transaction:
        for name in repositories:
            for number in range(count):
                push(transaction.repository(name), image(number), f"v{number}")
    at_once(EXPORT_ONE_BY_ONE, *([root, tmp_path / "out", name, count] for name in repositories))
    exported = {entry["annotations"][IMAGE_NAME]: entry["digest"] for entry in listed(tmp_path / "out")}
    assert exported == {f"{name}:v{number}": image(number).digest for name in repositories for number in range(count)}
    assert len(names(tmp_path / "out")) == len(exported)
    assert verified(tmp_path / "out") == pool(root)


def test_four_imports_at_once_lose_no_tag(tmp_path, empty_store):
    root, count = fresh(empty_store, tmp_path / "store"), 5
    layouts = []
    for name in ("a", "b", "c", "d"):
        layouts.append(Layout(tmp_path / name))
        for number in range(count):
            layouts[-1].add(image(f"{name if number else 'shared'} {number}"), f"v{number}")
        layouts[-1].write()
    at_once(IMPORT_TWICE, *([root, layout.path, layout.path.name] for layout in layouts))
    with Store.open(root) as store:
        assert list(store.repositories()) == sorted(
            name for layout in layouts for name in (layout.path.name, f"shared/{layout.path.name}")
        )
        for layout in layouts:
            for name in (layout.path.name, f"shared/{layout.path.name}"):
                tags = {tag: store.repository(name).resolve(tag).digest for tag in store.repository(name).tags()}
                assert tags == names(layout.path)
