"""Layouts that lie, leave things out or lead elsewhere: everything that is wrong is named, and nothing changes."""

import json
import os
import shutil
import socket
import time

import pytest
from handmade import REF_NAME, VERSION, Layout
from images import Image, described, document, image, index, push
from state import files, pool, unchanged

from ocistore import (
    Digest,
    InvalidNameError,
    LayoutInvalidError,
    ReadOnlyStoreError,
    Store,
    StoreFullError,
)
from ocistore.layouts.importing import import_layout
from ocistore.oci import mediatypes

APP = image("app", layers=2)
ROOT = index([APP, image("second")])
CONFIG, LAYER, LAYER_2 = map(Digest.of, APP.blobs)
ELSEWHERE = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A store with a part of what the layouts hold, which no test may change."""
    with Store.open(tmp_path_factory.mktemp("hostile") / "store") as store:
        push(store.repository("app"), image("second"), "v1")
        yield store


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "layout")


def blob_file(layout, digest):
    return layout.path / "blobs" / digest.replace(":", "/")


def refused(store, layout, repository="app"):
    """The problems of a layout that must be refused and change nothing."""
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(layout.path, repository)
    assert caught.value.layout == layout.path
    assert str(layout.path) in str(caught.value)
    return caught.value.problems


# --- the two files at the top -----------------------------------------------------------------------------------------

VERSIONS = {
    "missing": (None, "there is no oci-layout"),
    "empty": (b"", "oci-layout: .*not JSON"),
    "no JSON": (b"1.0.0", "oci-layout: "),
    "another version": (b'{"imageLayoutVersion":"2.0.0"}', "imageLayoutVersion is '2.0.0', not '1.0.0'"),
    "no version": (b"{}", "imageLayoutVersion is None"),
    "a number": (b'{"imageLayoutVersion":1.0}', "imageLayoutVersion is 1.0"),
    "a list": (b"[]", "imageLayoutVersion is None"),
    "a mark": (b"\xef\xbb\xbf" + VERSION, "byte order mark"),
    "two versions": (b'{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}', "stands twice"),
    "huge": (VERSION + b" " * (64 * 1024), "larger than 65536 bytes"),
}


@pytest.mark.parametrize(("version", "problem"), VERSIONS.values(), ids=VERSIONS.keys())
def test_what_does_not_say_it_is_a_layout_is_refused(stocked, layout, version, problem):
    layout.add(APP, "v1").write(version=version)
    with pytest.raises(LayoutInvalidError, match=problem), unchanged(stocked.root):
        stocked.import_(layout.path, "app")


GOOD = Layout(None).entry(APP, {REF_NAME: "v1"}).entries[0]


def listing(*entries, **more):
    return document({"schemaVersion": 2, "manifests": list(entries), **more})


INDEXES = {
    "empty": (b"", "not JSON"),
    "truncated": (listing(GOOD)[:-20], "not JSON"),
    "a mark": (b"\xef\xbb\xbf" + listing(GOOD), "byte order mark"),
    "UTF-16": (listing(GOOD).decode().encode("utf-16"), "byte order mark"),
    "no UTF-8": (b'{"schemaVersion":2,"manifests":[],"x":"\xff"}', "not UTF-8"),
    "NaN": (b'{"schemaVersion":2,"manifests":[],"x":NaN}', "NaN"),
    "bomb": (b"[" * 100_000, "nested deeper"),
    "equal keys": (b'{"schemaVersion":2,"manifests":[],"manifests":[]}', "stands twice"),
    "a list": (b"[]", "not a JSON object"),
    "version 1": (document({"schemaVersion": 1, "manifests": []}), "schemaVersion is 1"),
    "version true": (document({"schemaVersion": True, "manifests": []}), "schemaVersion is True"),
    "version 2.0": (b'{"schemaVersion":2.0,"manifests":[]}', "schemaVersion is 2.0"),
    "no version": (document({"manifests": []}), "schemaVersion is None"),
    "no manifests": (document({"schemaVersion": 2}), "manifests: it must be a list"),
    "manifests in an object": (document({"schemaVersion": 2, "manifests": {}}), "manifests: it must be a list"),
    "with layers": (listing(GOOD, layers=[]), "layers: an index has no such property"),
    "with a config": (listing(GOOD, config=GOOD), "config: an index has no such property"),
    "of an image's type": (listing(GOOD, mediaType=mediatypes.OCI_MANIFEST), "mediaType: it is not"),
    "text as an entry": (listing("v1"), r"manifests\[0\]: 'v1' is not an object"),
    "no digest": (listing(GOOD, {"mediaType": mediatypes.OCI_MANIFEST, "size": 2}), r"manifests\[1\]: .* needs digest"),
    "no size": (listing({key: GOOD[key] for key in GOOD if key != "size"}), r"manifests\[0\]: .* needs size"),
    "negative size": (listing({**GOOD, "size": -1}), r"manifests\[0\].size"),
    "size in words": (listing({**GOOD, "size": "192"}), r"manifests\[0\].size"),
    "unknown algorithm, and a wrong size": (listing({**GOOD, "digest": "md5:" + "0" * 32, "size": -1}), "size"),
    "climbing digest": (listing({**GOOD, "digest": "sha256:../../../../etc/passwd"}), "not a digest"),
    "climbing algorithm": (listing({**GOOD, "digest": "../..:" + "0" * 64}), "not a digest"),
    "upper-case digest": (listing({**GOOD, "digest": GOOD["digest"].upper()}), "not a digest"),
    "digest with a newline": (listing({**GOOD, "digest": GOOD["digest"] + "\n"}), "not a digest"),
    "short digest": (listing({**GOOD, "digest": GOOD["digest"][:-1]}), "64 hexadecimal digits"),
    "number as annotation": (listing({**GOOD, "annotations": {REF_NAME: 1}}), r"annotations: .* is not text"),
    "list as annotations": (listing({**GOOD, "annotations": ["v1"]}), "annotations: .* is not an object"),
    "a number as a media type": (listing({**GOOD, "mediaType": 1}), "is not a media type"),
    "no media type, and annotations in a list": (listing({**GOOD, "mediaType": "x", "annotations": []}), "annotations"),
}


@pytest.mark.parametrize(("content", "problem"), INDEXES.values(), ids=INDEXES.keys())
def test_an_index_that_is_none_is_refused(stocked, layout, content, problem):
    layout.put(APP)
    layout.write(content)
    with pytest.raises(LayoutInvalidError, match=f"index.json: .*{problem}"), unchanged(stocked.root):
        stocked.import_(layout.path, "app")


def test_a_layout_without_an_index_is_refused(stocked, layout):
    layout.add(APP, "v1").write()
    (layout.path / "index.json").unlink()
    assert refused(stocked, layout) == ("there is no index.json",)


def test_all_that_is_missing_at_the_top_is_named_at_once(stocked, layout):
    layout.path.mkdir()
    assert refused(stocked, layout) == ("there is no oci-layout", "there is no index.json")


def test_what_is_not_there_is_refused(stocked, layout):
    assert refused(stocked, layout) == ("there is no such file or directory",)


def test_what_lies_below_a_file_is_refused(stocked, tmp_path):
    (tmp_path / "layout").write_bytes(b"")
    assert refused(stocked, Layout(tmp_path / "layout" / "below")) == ("what it is said to lie in is no directory",)


@pytest.mark.parametrize("kind", ["a device", "a socket"])
def test_what_is_neither_a_directory_nor_a_file_nor_a_pipe_is_refused(stocked, layout, kind):
    as_device(layout.path, None) if kind == "a device" else as_socket(layout.path, None)
    assert refused(stocked, layout) == ("it is neither a directory, nor a file, nor a pipe",)


def test_a_layout_larger_than_memory_is_not_read(stocked, layout):
    layout.add(APP, "v1").write()
    with (layout.path / "index.json").open("r+b") as file:
        file.truncate(1 << 40)  # a hole
    with (layout.path / "oci-layout").open("r+b") as file:
        file.truncate(1 << 40)
    began = time.process_time()
    assert [problem.split(":")[0] for problem in refused(stocked, layout)] == ["oci-layout", "index.json"]
    assert time.process_time() - began < 5


# --- blobs ------------------------------------------------------------------------------------------------------------


def test_everything_that_is_missing_or_wrong_is_named_at_once(stocked, layout):
    layout.add(ROOT, "v1").entry(image("absent"), {REF_NAME: "v2"}).write()
    blob_file(layout, CONFIG).unlink()
    blob_file(layout, LAYER).write_bytes(b"L" * len(APP.layers[0]))
    blob_file(layout, LAYER_2).write_bytes(b"longer than it was")
    blob_file(layout, Digest.of(image("second").config)).unlink()
    second = image("second").layers[0]
    blob_file(layout, Digest.of(second)).write_bytes(second[:-1] + b"?")
    problems = refused(stocked, layout)
    assert sorted(problems) == sorted(
        [
            f"{CONFIG} is missing: config of the manifest in app:v1",
            f"{LAYER}: content has digest {Digest.of(b'L' * len(APP.layers[0]))}, not {LAYER}",
            f"{LAYER_2} has 18 bytes, not {len(APP.layers[1])}",
            f"{Digest.of(image('second').config)} is missing: config of the manifest in app:v1",
            f"{Digest.of(second)}: content has digest {Digest.of(second[:-1] + b'?')}, not {Digest.of(second)}",
            f"{image('absent').digest} is missing: app:v2",
        ]
    )


def test_a_problem_of_many_manifests_is_named_once(stocked, layout):
    for number in range(5):
        layout.add(index([APP], annotations={"number": str(number)}), f"v{number}")
    layout.write()
    blob_file(layout, LAYER).unlink()
    assert refused(stocked, layout) == (f"{LAYER} is missing: layer of the manifest in app:v0",)


def replaced(layout, digest, make):
    file = blob_file(layout, digest)
    file.rename(layout.path.parent / "moved")
    make(file, layout.path.parent / "moved")


def as_link(file, original):
    file.symlink_to(original)


def as_dangling_link(file, _):
    file.symlink_to("nowhere")


def as_directory(file, _):
    file.mkdir()


def as_fifo(file, _):
    os.mkfifo(file)


def as_socket(file, _):
    here = os.getcwd()
    os.chdir(file.parent)  # a socket's path may have 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(file.name)
    finally:
        os.chdir(here)


def as_device(file, _):
    try:
        os.mknod(file, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("making a device needs root")


KINDS = [as_link, as_dangling_link, as_directory, as_fifo, as_socket, as_device]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__.replace("_", " "))
@pytest.mark.parametrize("digest", [ROOT.digest, APP.digest, CONFIG, LAYER], ids=["root", "child", "config", "layer"])
def test_only_plain_files_are_blobs(stocked, layout, make, digest):
    layout.add(ROOT, "v1").write()
    replaced(layout, digest, make)
    (problem,) = refused(stocked, layout)
    assert problem.startswith(f"{digest}: ")


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__.replace("_", " "))
@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_only_plain_files_stand_at_the_top(stocked, layout, make, name):
    layout.add(ROOT, "v1").write()
    (layout.path / name).rename(layout.path / "moved")
    make(layout.path / name, "moved")
    (problem,) = refused(stocked, layout)
    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize("directory", ["blobs", "blobs/sha256"])
@pytest.mark.parametrize("kind", ["symbolic link", "file", "missing"])
def test_only_plain_directories_hold_blobs(stocked, layout, directory, kind):
    layout.add(APP, "v1").write()
    (layout.path / directory).rename(layout.path / "elsewhere")
    if kind == "symbolic link":
        (layout.path / directory).symlink_to(layout.path / "elsewhere")
    if kind == "file":
        (layout.path / directory).write_bytes(b"")
    (problem,) = refused(stocked, layout)
    assert problem.startswith(APP.digest)


def test_a_layout_may_be_named_through_a_symbolic_link(store, layout, tmp_path):
    layout.add(APP, "v1").write()
    (tmp_path / "link").symlink_to(layout.path)
    assert store.import_(tmp_path / "link", "app").tags == ("app:v1",)


# --- descriptors that lie ---------------------------------------------------------------------------------------------


def with_layer(**changes):
    body = json.loads(APP.manifest)
    body["layers"][1].update(changes)
    return Image(document(body), APP.blobs)


def with_child(**changes):
    body = json.loads(ROOT.manifest)
    body["manifests"][0].update(changes)
    return Image(document(body), media_type=ROOT.media_type, children=ROOT.children)


SIZE = len(APP.layers[1])
CHILD_SIZE = len(APP.manifest)
LIES = {
    "a layer that is smaller": (with_layer(size=SIZE + 1), f"{LAYER_2} has {SIZE} bytes, not {SIZE + 1}"),
    "a layer that is larger": (with_layer(size=SIZE - 1), f"{LAYER_2} has {SIZE} bytes, not {SIZE - 1}"),
    "a layer of nothing": (with_layer(size=0), f"{LAYER_2} has {SIZE} bytes, not 0"),
    "a layer of 8 EiB": (with_layer(size=2**63 - 1), f"{LAYER_2} has {SIZE} bytes, not {2**63 - 1}"),
    "a layer elsewhere": (with_layer(digest=ELSEWHERE), f"{ELSEWHERE} is missing"),
    "a layer of no algorithm": (with_layer(digest="0" * 64), "not a digest"),
    "a layer that climbs": (with_layer(digest="sha256:../../../oci-layout"), "not a digest"),
    "a child that is smaller": (with_child(size=CHILD_SIZE + 1), f"has {CHILD_SIZE} bytes, not {CHILD_SIZE + 1}"),
    "a child that is larger": (with_child(size=CHILD_SIZE - 1), f"has {CHILD_SIZE} bytes, not {CHILD_SIZE - 1}"),
    "a child that is a blob": (with_child(digest=CONFIG, size=len(APP.config)), f"{CONFIG}: invalid manifest"),
    "a child of another type": (with_child(mediaType=mediatypes.OCI_INDEX), f"{APP.digest}: invalid manifest"),
    "a child of Docker's type": (with_child(mediaType=mediatypes.DOCKER_MANIFEST), f"{APP.digest}: invalid manifest"),
    "a child of an unknown type that is smaller": (
        with_child(mediaType="application/octet-stream", size=CHILD_SIZE + 1),
        f"{APP.digest} has {CHILD_SIZE} bytes, not {CHILD_SIZE + 1}",
    ),
    "layers in an index": (
        Image(document({**json.loads(ROOT.manifest), "layers": []}), (), ROOT.media_type),
        "layers: a manifest of type",
    ),
    "no manifest at all": (Image(b"no manifest"), "not JSON"),
    "too large a manifest": (
        Image(document({**json.loads(APP.manifest), "annotations": {"a": "b" * (4 << 20)}}), APP.blobs),
        "at most 4194304 are allowed",
    ),
    "two manifests' worth of keys": (Image(APP.manifest[:-1] + b',"layers":[]}', APP.blobs), "stands twice"),
}


@pytest.mark.parametrize(("graph", "problem"), LIES.values(), ids=LIES.keys())
def test_a_manifest_that_lies_is_refused(stocked, layout, graph, problem):
    layout.put(APP)
    layout.add(graph, "v1").write()
    (found,) = refused(stocked, layout)
    assert problem in found


ENTRY_LIES = {
    "size": ({"size": 5}, f"{APP.digest} has {CHILD_SIZE} bytes, not 5"),
    "type": ({"mediaType": mediatypes.DOCKER_MANIFEST}, mediatypes.DOCKER_MANIFEST),
}


@pytest.mark.parametrize(("changes", "problem"), ENTRY_LIES.values(), ids=ENTRY_LIES.keys())
@pytest.mark.parametrize("position", ["alone", "before a good one", "after a good one"])
def test_an_entry_that_lies_is_refused_also_beside_one_that_does_not(stocked, layout, changes, problem, position):
    layout.put(APP)
    if position == "after a good one":
        layout.entry(APP, {REF_NAME: "good"})
    layout.entry(APP, {REF_NAME: "v1"}, **changes)
    if position == "before a good one":
        layout.entry(APP, {REF_NAME: "good"})
    layout.write()
    assert any(problem in found for found in refused(stocked, layout))


def test_two_manifests_that_disagree_on_a_layer_are_refused(stocked, layout):
    layout.add(APP, "v1").add(with_layer(size=SIZE + 1), "v2").write()
    assert refused(stocked, layout) == (f"{LAYER_2} has {SIZE} bytes, not {SIZE + 1}",)


@pytest.mark.parametrize("kind", [mediatypes.OCI_LAYER, "application/vnd.example.unknown+json"])
def test_entries_of_types_that_are_no_manifests_are_left_out_and_reported(store, layout, kind):
    layout.entry(image("absent"), {REF_NAME: "other:v2"}, mediaType=kind)
    layout.add(APP, "app:v1").add(image("second"), "v2").write()
    report = store.import_(layout.path)
    assert report.skipped == (f"{image('absent').digest} ({kind})",)
    assert (report.tags, report.untagged) == (("app:v1", "app:v2"), ())
    assert report.manifests == 2


def test_a_layout_without_any_manifest_that_is_known_brings_in_nothing(store, layout):
    layout.add(APP, "v1", mediaType="application/vnd.example.unknown").write()
    report = store.import_(layout.path, "app")
    assert (len(report.skipped), report.tags, report.manifests) == (1, (), 0)
    assert list(store.repositories()) == []


# --- shapes that cost -------------------------------------------------------------------------------------------------


def test_an_index_nested_deep_is_taken_in(store, layout, tmp_path):
    graph = image("innermost")
    for level in range(50):
        graph = index([graph], annotations={"level": str(level)})
    report = store.import_(layout.add(graph, "v1").write(), "app")
    assert report.manifests == 51
    assert store.export(tmp_path / "out").manifests == 51


@pytest.mark.parametrize("times", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_child_many_times_is_read_once(store, layout, tmp_path, times):
    graph = index([APP] * times)
    report = store.import_(layout.add(graph, "v1").write(), "app")
    assert (report.manifests, report.blobs) == (2, 3)
    assert store.export(tmp_path / "out").manifests == 2


@pytest.mark.parametrize("innermost", ["there", "missing"])
def test_a_graph_with_more_paths_than_atoms_is_walked_node_by_node(store, layout, tmp_path, innermost):
    left = right = APP
    for level in range(40):
        left, right = (
            Image(
                document(
                    {
                        "schemaVersion": 2,
                        "mediaType": mediatypes.OCI_INDEX,
                        "manifests": [described(child.manifest, child.media_type) for child in (left, right)],
                        "annotations": {"name": f"{side} {level}"},
                    }
                ),
                media_type=mediatypes.OCI_INDEX,
            )
            for side in ("left", "right")
        )
        layout.put(left)
        layout.put(right)
    layout.put(APP)
    layout.entry(left, {REF_NAME: "left"}).entry(right, {REF_NAME: "right"}).write()
    began = time.process_time()
    if innermost == "missing":
        blob_file(layout, APP.digest).unlink()
        assert refused(store, layout) == (f"{APP.digest} is missing: manifest of the index in app:left",)
    else:
        assert store.import_(layout.path, "app").manifests == 81
        assert store.export(tmp_path / "out").manifests == 81
    assert time.process_time() - began < 10


def test_many_entries_of_one_damaged_manifest_read_it_once(stocked, layout):
    damaged = Image(b"[" * (4 << 20))
    layout.put(damaged)
    (entry,) = layout.entry(damaged).entries
    layout.entries = [{**entry, "annotations": {REF_NAME: f"v{number}"}} for number in range(3000)]
    layout.write()
    began = time.process_time()
    assert len(refused(stocked, layout)) == 1
    assert time.process_time() - began < 3  # seconds; to hash it 3000 times takes 8


def test_no_more_manifests_are_read_than_memory_is_meant_to_hold(store, layout):
    for number in range(5):
        layout.add(image(number), f"v{number}")
    layout.add(image(0), "again")  # is there already, and counts once
    layout.write()
    size = sum(len(image(number).manifest) for number in range(5))
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        import_layout(store._core, layout.path, "app", maximum_manifests_size=size - 1)
    assert caught.value.problems == (f"the layout's manifests have more than {size - 1} bytes",)
    assert import_layout(store._core, layout.path, "app", maximum_manifests_size=size).manifests == 5


# --- layouts that change meanwhile, stores that cannot take it --------------------------------------------------------

LARGE = bytes(range(256)) * 1024  # beyond what is read at once


@pytest.mark.parametrize("content", [b"x", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("change", ["other bytes", "more", "fewer", "gone", "a link"])
def test_a_blob_that_changes_while_others_are_read_is_noticed(store, layout, content, change):
    names = [Digest.of(content + bytes([number])) for number in range(2)]
    blobs = [content + bytes([number]) for number in range(2)]
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(blobs[0]),
        "layers": [described(blobs[1])],
    }
    layout.add(Image(document(body), tuple(blobs)), "v1").write()
    file = blob_file(layout, names[1])

    changes = []

    def changed(done, total):
        changes.append(done)
        if len(changes) > 1:
            return
        if change == "other bytes":
            file.write_bytes(bytes(len(blobs[1])))
        elif change == "more":
            file.write_bytes(blobs[1] + b"more")
        elif change == "fewer":
            file.write_bytes(blobs[1][:-1])
        else:
            file.rename(layout.path / "moved")
            if change == "a link":
                file.symlink_to(layout.path / "moved")

    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(layout.path, "app", progress=changed)
    (problem,) = caught.value.problems
    assert problem.startswith(names[1])


def test_what_the_progress_raises_ends_the_import_without_a_trace(store, layout):
    layout.add(APP, "v1").write()

    def interrupted(done, total):
        if done > len(APP.config):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), unchanged(store.root):
        store.import_(layout.path, "app", progress=interrupted)


@pytest.mark.parametrize("held", [False, True], ids=["staged", "verified"])
def test_an_error_of_the_progress_is_not_taken_for_one_of_the_layout(store, layout, held):
    large = b"x" * 100_000
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(large),
        "layers": [],
    }
    layout.add(Image(document(body), (large,)), "v1").write()
    if held:
        store.import_(layout.path, "app")

    def broken(done, total):
        raise FileNotFoundError("of the caller's own")

    with pytest.raises(FileNotFoundError, match="of the caller's own"), unchanged(store.root):
        store.import_(layout.path, "app", progress=broken)


def test_what_the_store_has_is_read_in_the_layout_all_the_same(store, layout):
    layout.add(APP, "v1").write()
    store.import_(layout.path, "app")
    blob_file(layout, LAYER).write_bytes(b"L" * len(APP.layers[0]))
    assert refused(store, layout) == (
        f"{LAYER}: content has digest {Digest.of(b'L' * len(APP.layers[0]))}, not {LAYER}",
    )


def test_a_name_that_no_repository_is_known_for_is_an_error_that_says_what_to_do(stocked, layout):
    layout.add(APP, "v1").write()
    with pytest.raises(InvalidNameError) as caught, unchanged(stocked.root):
        stocked.import_(layout.path)
    assert caught.value.name == "v1"
    assert "say which one to import into" in str(caught.value)


def test_a_read_only_store_takes_nothing_in(stocked, layout):
    layout.add(APP, "v1").write()
    with (
        Store.open(stocked.root, read_only=True) as store,
        pytest.raises(ReadOnlyStoreError),
        unchanged(stocked.root),
    ):
        store.import_(layout.path, "app")


def test_a_store_on_a_full_disk_stays_as_it_was_and_takes_it_in_later(small_disk, layout, empty_store):
    root = small_disk.root / "store"
    shutil.copytree(empty_store, root)
    layout.add(image("large", filler="x" * (1 << 20)), "v1").write()
    with Store.open(root) as store:
        before = files(root)
        with small_disk.full(), pytest.raises(StoreFullError):
            store.import_(layout.path, "app")
        assert list(store.repositories()) == []
        assert files(root) == before
        store.import_(layout.path, "app")
        assert len(pool(root)) == 3
