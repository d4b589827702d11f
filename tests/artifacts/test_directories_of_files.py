"""Directories as one layer for each file: what is kept, followed, refused and not written twice."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import stat
import tracemalloc
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import run_python
from state import unchanged

from ocistore import ArchiveInvalidError, ArtifactInvalidError, CorruptError, Digest, Manifest, Store
from ocistore.artifacts import EXECUTABLE, TITLE, attach_files, check_files, destination, layers, pull_files, push_files
from ocistore.artifacts.titles import UNPACK
from ocistore.blobs.ingester import FileIngester
from ocistore.images import list_files, open_file

MIB = 1024 * 1024


def write(path, content=b"content", *, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def seen(top):
    """Every path below a directory, with what it is; links are followed."""
    found = {}
    for directory, directories, files in os.walk(top):
        for name in directories:
            found[os.path.relpath(os.path.join(directory, name), top)] = "directory"
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                executable = bool(os.stat(path).st_mode & stat.S_IXUSR)
                found[os.path.relpath(path, top)] = (executable, file.read())
    return found


def titles(store, reference):
    repository, _, version = reference.partition(":")
    return [layer.annotations[TITLE] for layer in store.repository(repository).get_manifest(version).layers]


@pytest.fixture
def model(tmp_path):
    top = tmp_path / "bert"
    write(top / "config.json", b"{}")
    write(top / "weights" / "b.bin", os.urandom(3 * MIB))
    write(top / "weights" / "a.bin", os.urandom(MIB))
    write(top / "bin" / "run.sh", b"#!/bin/sh\n", mode=0o755)
    write(top / "empty.txt", b"")
    (top / "logs" / "old").mkdir(parents=True)
    return top


@pytest.fixture
def staged(monkeypatch):
    """The sizes of what was written into the pool."""
    sizes = []
    stage = FileIngester.stage

    def counted(*given, **named):
        blob = stage(*given, **named)
        sizes.append(blob.size)
        return blob

    monkeypatch.setattr(FileIngester, "stage", counted)
    return sizes


# --- what is written --------------------------------------------------------------------------------------------------


def test_each_file_is_a_layer_with_its_path_as_title(store, model):
    push_files(store, "models/bert:1", [model])

    manifest = store.repository("models/bert").get_manifest("1")
    described = {layer.annotations[TITLE]: layer for layer in manifest.layers}
    assert list(described) == [
        "bert/bin/run.sh",
        "bert/config.json",
        "bert/empty.txt",
        "bert/logs/old",
        "bert/weights/a.bin",
        "bert/weights/b.bin",
    ]
    for title, layer in described.items():
        if title == "bert/logs/old":
            continue
        assert layer.media_type == "application/octet-stream"
        assert layer.digest == Digest.of((model.parent / title).read_bytes())
    assert described["bert/bin/run.sh"].annotations == {TITLE: "bert/bin/run.sh", EXECUTABLE: "true"}
    assert described["bert/config.json"].annotations == {TITLE: "bert/config.json"}
    assert described["bert/logs/old"].annotations[UNPACK] == "true"


def test_a_listing_says_what_may_be_executed(store, model):
    push_files(store, "models/bert:1", [model])
    modes = {file.path: file.mode for file in list_files(store, "models/bert:1")}
    assert modes["bert/bin/run.sh"] == 0o755
    assert modes["bert/config.json"] == 0o644


def test_a_range_of_a_file_is_read_from_its_layer(store, model):
    push_files(store, "models/bert:1", [model])
    repository = store.repository("models/bert")
    layer = repository.get_manifest("1").layers[-1]
    with repository.open_blob(layer.digest) as blob:
        blob.seek(1_000_000)
        assert blob.read(100) == (model / "weights" / "b.bin").read_bytes()[1_000_000:1_000_100]


def test_the_contents_of_a_directory_are_titled_without_its_name(store, model, tmp_path):
    push_files(store, "models/bert:1", [model, write(tmp_path / "note")], contents=True)
    assert titles(store, "models/bert:1")[0] == "bin/run.sh"
    assert titles(store, "models/bert:1")[-1] == "note"
    other = write(tmp_path / "other" / "bert" / "more").parent
    push_files(store, "models/bert:2", [model, other], contents=True)
    assert titles(store, "models/bert:2")[-1] == "more"


@pytest.mark.parametrize("contents", [True, False])
@pytest.mark.parametrize("mode", ["auto", "copy", "link"])
def test_what_was_pushed_is_pulled_as_the_same_tree(store, model, tmp_path, contents, mode):
    push_files(store, "models/bert:1", [model], contents=contents)
    report = pull_files(store, "models/bert:1", tmp_path / "out", mode=mode)

    assert seen(tmp_path / "out" if contents else tmp_path / "out" / "bert") == seen(model)
    assert len(report.files) == 6
    # and once more, over what is there
    pull_files(store, "models/bert:1", tmp_path / "out", mode=mode)
    assert seen(tmp_path / "out" if contents else tmp_path / "out" / "bert") == seen(model)
    assert {file.path for file in list_files(store, "models/bert:1") if file.kind == "file"} >= {
        "config.json" if contents else "bert/config.json"
    }


def test_the_same_files_give_the_same_digest(store, model, tmp_path):
    first = push_files(store, "models/bert:1", [model])
    os.utime(model / "config.json", (1, 1))
    (model / "config.json").chmod(0o600)
    assert push_files(store, "models/bert:2", [model]) == first
    (model / "config.json").chmod(0o700)
    assert push_files(store, "models/bert:2", [model]) != first


def test_types_are_given_by_title(store, model):
    push_files(store, "models/bert:1", [model], media_types={"bert/config.json": "application/json"})
    assert store.repository("models/bert").get_manifest("1").layers[1].media_type == "application/json"
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="no such file"):
        push_files(store, "models/bert:1", [model], media_types={"config.json": "application/json"})


def test_progress_grows_to_the_bytes_of_all_files(store, model):
    told = []
    for _ in range(2):
        push_files(store, "models/bert:1", [model], progress=lambda done, total: told.append((done, total)))
        assert told == sorted(told)
        assert told[-1] == (4 * MIB + 12, 4 * MIB + 12)
        told.clear()


def test_a_directory_may_be_attached(store, model):
    push_files(store, "models/bert:1", [model])
    attached = attach_files(store, "models/bert:1", [model / "bin"], artifact_type="text/review")
    assert titles(store, f"models/bert:{attached.digest}") == ["bin/run.sh"]


# --- what is not written twice ----------------------------------------------------------------------------------------


def test_only_the_bytes_of_a_changed_file_are_written_again(store, model, staged):
    push_files(store, "models/bert:1", [model])
    used = sum(file.stat().st_size for file in (store.root / "blobs" / "sha256").iterdir())
    staged.clear()
    weights = bytearray((model / "weights" / "a.bin").read_bytes())
    weights[0] ^= 1
    (model / "weights" / "a.bin").write_bytes(weights)

    pushed = push_files(store, "models/bert:2", [model])

    assert [size for size in staged if size >= MIB] == [MIB]
    added = sum(file.stat().st_size for file in (store.root / "blobs" / "sha256").iterdir()) - used
    assert added == MIB + pushed.size
    with store.repository("models/bert").open_blob(Digest.of(bytes(weights)), verify=True) as blob:
        assert blob.read() == weights


def test_a_file_that_only_looks_the_same_is_written(store, tmp_path, staged):
    content = bytearray(2 * MIB)
    file = write(tmp_path / "m" / "weights", content)
    push_files(store, "models/a:1", [tmp_path / "m"])
    staged.clear()
    content[100_000] = 1  # where nobody looks
    file.write_bytes(content)
    push_files(store, "models/a:2", [tmp_path / "m"])
    assert 2 * MIB in staged
    with store.repository("models/a").open_blob(Digest.of(bytes(content)), verify=True) as blob:
        assert blob.read() == content


def test_what_a_collection_removes_meanwhile_is_written_after_all(store, model, monkeypatch):
    push_files(store, "models/bert:1", [model])
    tried = []
    put = layers.Layers.put

    def put_and_collect(*given, **named):
        found = put(*given, **named)
        tried.append(named["earlier"])
        if len(tried) == 1:  # when all was found there, and before the commit
            repository = store.repository("models/bert")
            repository.delete_manifest(repository.resolve("1").digest)
            store.gc(grace=timedelta(0), keep_untagged=timedelta(0))
        return found

    monkeypatch.setattr(layers.Layers, "put", put_and_collect)
    push_files(store, "models/bert:2", [model])
    assert len(tried) == 2
    assert tried[1] is None
    for layer in store.repository("models/bert").get_manifest("2").layers:
        with store.repository("models/bert").open_blob(layer.digest, verify=True) as blob:
            blob.read()


# --- links ------------------------------------------------------------------------------------------------------------


def test_links_are_refused_and_the_message_says_what_to_do(store, model):
    (model / "link").symlink_to("config.json")
    for call in (lambda: push_files(store, "models/bert:1", [model]), lambda: check_files([model])):
        with unchanged(store.root), pytest.raises(ArtifactInvalidError, match=r"--dereference.*--tar") as caught:
            call()
        assert caught.value.name == f"{model}/link"


@pytest.mark.parametrize("layer", ["file", "tar"])
@pytest.mark.parametrize("dereference", [True, "inside"])
def test_links_are_followed_where_asked(store, model, tmp_path, layer, dereference):
    (model / "link").symlink_to("weights/a.bin")
    (model / "linked").symlink_to("bin", target_is_directory=True)
    expected = seen(model) | {f"linked/{name}": what for name, what in seen(model / "bin").items()}
    push_files(store, "models/bert:1", [model], layer=layer, dereference=dereference)
    pull_files(store, "models/bert:1", tmp_path / "out")
    assert seen(tmp_path / "out" / "bert") == expected
    assert not (tmp_path / "out" / "bert" / "link").is_symlink()


def test_a_snapshot_of_the_hub_is_pushed_as_files(store, tmp_path):
    write(tmp_path / "hub" / "blobs" / "9e1d", b"weights")
    snapshot = tmp_path / "hub" / "snapshots" / "4f2a"
    (snapshot / "sub").mkdir(parents=True)
    (snapshot / "sub" / "model.bin").symlink_to("../../../blobs/9e1d")

    push_files(store, "models/a:1", [snapshot], contents=True, dereference=True)
    with open_file(store, "models/a:1", "sub/model.bin") as file:
        assert file.read() == b"weights"
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match=r"leads out of the directory, to .*9e1d"):
        push_files(store, "models/a:2", [snapshot], contents=True, dereference="inside")


def inside_but_spelled_outside(top):
    (top / "link").symlink_to(top / "config.json")


def to_the_directory_itself(top):
    (top / "link").symlink_to(".", target_is_directory=True)


def to_one_above(top):
    (top / "logs" / "up").symlink_to("../..", target_is_directory=True)


def two_that_lead_to_each_other(top):
    (top / "logs" / "a").symlink_to("../bin", target_is_directory=True)
    (top / "bin" / "b").symlink_to("../logs", target_is_directory=True)


def ring(top):
    (top / "x").symlink_to("y")
    (top / "y").symlink_to("x")


def dangling(top):
    (top / "link").symlink_to("nothing")


def device(top):
    (top / "link").symlink_to("/dev/null")


def beside(top):
    write(top.parent / "bert-secret" / "key")
    (top / "link").symlink_to("../bert-secret/key")


@pytest.mark.parametrize("layer", ["file", "tar"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (inside_but_spelled_outside, (None, None)),
        (to_the_directory_itself, ("that it lies in", "that it lies in")),
        (to_one_above, ("that it lies in", "out of the directory")),
        (two_that_lead_to_each_other, ("that it lies in", "that it lies in")),
        (ring, ("in a ring", "in a ring")),
        (dangling, ("not there", "not there")),
        (device, ("it is a device", "it is a device")),
        (beside, (None, "out of the directory")),
    ],
)
def test_where_links_may_lead(store, model, make, said, layer):
    """Said is why each is refused, where all are followed and where those are that stay inside."""
    make(model)
    for dereference, why in zip((True, "inside"), said, strict=True):
        refused = contextlib.nullcontext() if why is None else pytest.raises(ArtifactInvalidError, match=why)
        with refused:
            push_files(store, "models/bert:1", [model], layer=layer, dereference=dereference)


def test_the_store_is_not_packed_through_a_link(store, model):
    (model / "link").symlink_to(store.root, target_is_directory=True)
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="it is the store"):
        push_files(store, "models/bert:1", [model], dereference=True)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"new\nline", b"not utf-8 \xff", b"\x1b[2J"])
def test_names_that_no_title_can_be_are_refused_and_an_archive_takes_them(store, tmp_path, name):
    top = tmp_path / "d"
    top.mkdir()
    with open(os.path.join(os.fsencode(top), name), "wb") as file:
        file.write(b"strange")
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="--tar"):
        push_files(store, "d:1", [top])
    push_files(store, "d:1", [top], layer="tar")
    pull_files(store, "d:1", tmp_path / "out")
    assert os.listdir(os.fsencode(tmp_path / "out" / "d")) == [name]


def test_more_files_than_a_manifest_can_list_are_refused_before_any_is_read(store, tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "MAXIMUM_DESCRIPTORS", 12)
    top = tmp_path / "d"
    for number in range(10):
        write(top / str(number))
    push_files(store, "d:1", [top])
    write(top / "one more")
    monkeypatch.setattr(os, "read", None)
    with (
        unchanged(store.root),
        pytest.raises(ArtifactInvalidError, match=r"more files .* which are 10.*--tar") as caught,
    ):
        push_files(store, "d:1", [top])
    assert caught.value.name == str(top)
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="more files"):
        push_files(store, "d:1", sorted(top.iterdir()))


def test_longer_names_than_a_manifest_has_room_for_are_refused(store, tmp_path):
    top = tmp_path / "d" / ("x" * 250) / ("y" * 250)
    top.mkdir(parents=True)
    for number in range(6000):
        (top / f"{'z' * 200}{number}").touch()
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="--tar"):
        push_files(store, "d:1", [tmp_path / "d"])


def test_the_limit_said_is_the_limit(store, tmp_path):
    top = tmp_path / "d"
    top.mkdir()
    for number in range(9_998):
        (top / f"{number}").touch()
    push_files(store, "d:1", [top])
    (top / "one more").touch()
    with pytest.raises(ArtifactInvalidError, match="9998"):
        push_files(store, "d:1", [top])


def test_a_file_and_a_directory_of_one_title_are_refused(store, tmp_path):
    write(tmp_path / "a" / "x")
    write(tmp_path / "b" / "x" / "y")
    write(tmp_path / "c" / "x")
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="and a directory in 'x/y'"):
        push_files(store, "d:1", [tmp_path / "a", tmp_path / "b"], contents=True)
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="same title"):
        push_files(store, "d:1", [tmp_path / "a", tmp_path / "c"], contents=True)


def test_nothing_is_refused(store, tmp_path):
    (tmp_path / "d").mkdir()
    push_files(store, "d:1", [tmp_path / "d"])
    pull_files(store, "d:1", tmp_path / "out")
    assert seen(tmp_path / "out") == {"d": "directory"}


@pytest.mark.parametrize(
    "options",
    [{"layer": "zip"}, {"compression": "xz"}, {"dereference": "all"}, {"layer": "tar", "contents": True}],
    ids=str,
)
def test_options_that_are_none_are_refused(store, model, options):
    with unchanged(store.root), pytest.raises(ValueError, match=next(iter(options))):
        push_files(store, "d:1", [model], **options)
    with pytest.raises(ValueError, match="mode"):
        pull_files(store, "d:1", "out", mode="reflink")


def test_what_is_no_file_is_refused(store, model):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(model / "s"))
        with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="a socket"):
            push_files(store, "d:1", [model])


def grown(model):
    with open(model / "weights" / "b.bin", "ab") as file:
        file.write(b"more")


def added(model):
    write(model / "weights" / "c.bin")


def removed(model):
    (model / "weights" / "b.bin").unlink()


@pytest.mark.parametrize("change", [grown, added, removed])
def test_a_directory_that_changes_before_it_is_read_is_one_clear_error(store, model, change, monkeypatch):
    put = layers.Layers.put
    monkeypatch.setattr(layers.Layers, "put", lambda *given, **named: change(model) or put(*given, **named))
    if change is grown:  # what it is when it is read, it must stay
        push_files(store, "d:1", [model])
        return
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="it changed while it was packed"):
        push_files(store, "d:1", [model])


def test_a_file_that_grows_while_it_is_read_is_one_clear_error(store, model, monkeypatch):
    opened = layers._Item.open

    def open_and_grow(self):
        found = opened(self)
        if self.title.endswith("b.bin"):
            grown(model)
        return found

    monkeypatch.setattr(layers._Item, "open", open_and_grow)
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="it changed while it was packed"):
        push_files(store, "d:1", [model])


def test_a_file_that_cannot_be_read_is_named(store):
    with unchanged(store.root), pytest.raises(OSError, match="/proc/self/mem") as caught:
        push_files(store, "d:1", ["/proc/self/mem"])  # a plain file, of which the first byte cannot be read
    assert caught.value.filename == "/proc/self/mem"


# --- pulling ----------------------------------------------------------------------------------------------------------


def test_links_share_the_file_of_the_store_and_are_read_only(store, model, tmp_path):
    push_files(store, "models/bert:1", [model])
    for _ in range(2):  # the second replaces each by itself
        pull_files(store, "models/bert:1", tmp_path / "out", mode="link")
    out = tmp_path / "out" / "bert"
    digest = Digest.of((model / "weights" / "b.bin").read_bytes())
    linked, blob = (out / "weights" / "b.bin").stat(), (store.root / "blobs" / "sha256" / digest.encoded).stat()
    assert linked.st_ino == blob.st_ino
    assert stat.S_IMODE(linked.st_mode) == 0o444
    assert stat.S_IMODE((out / "bin" / "run.sh").stat().st_mode) & 0o700 == 0o700
    assert not [name for name in seen(tmp_path / "out") if ".ocistore-" in name]


def test_a_link_is_replaced_by_a_copy_and_the_store_stays_whole(store, model, tmp_path):
    push_files(store, "models/bert:1", [model])
    pull_files(store, "models/bert:1", tmp_path / "out", mode="link")
    pull_files(store, "models/bert:1", tmp_path / "out", mode="copy")
    (tmp_path / "out" / "bert" / "config.json").write_bytes(b"mine")
    assert store.scrub().damaged == 0
    with open_file(store, "models/bert:1", "bert/config.json") as file:
        assert file.read() == b"{}"


def test_damaged_bytes_are_not_linked(store, model, tmp_path):
    push_files(store, "models/bert:1", [model])
    digest = Digest.of((model / "weights" / "b.bin").read_bytes())
    path = store.root / "blobs" / "sha256" / digest.encoded
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.write(b"damage")
    for mode in ("auto", "copy", "link"):
        with pytest.raises(CorruptError, match="not those of its digest"):
            pull_files(store, "models/bert:1", tmp_path / "out", mode=mode)
        assert seen(tmp_path / "out") == {}


def test_another_filesystem_is_said_to_be_the_reason(store, model, small_disk):
    push_files(store, "models/bert:1", [model])
    with pytest.raises(ArtifactInvalidError, match="another filesystem"):
        pull_files(store, "models/bert:1", small_disk.root / "out", mode="link")
    assert seen(small_disk.root / "out") == {}
    pull_files(store, "models/bert:1", small_disk.root / "out")
    assert seen(small_disk.root / "out" / "bert") == seen(model)


def test_titles_that_differ_in_case_are_two_files(store, tmp_path):
    write(tmp_path / "d" / "README")
    write(tmp_path / "d" / "readme" / "Readme", b"other")
    push_files(store, "d:1", [tmp_path / "d"])
    pull_files(store, "d:1", tmp_path / "out")
    assert seen(tmp_path / "out" / "d") == seen(tmp_path / "d")


def test_shared_bytes_are_verified_too_and_not_written(reflinking, tmp_path, monkeypatch):
    write(tmp_path / "bert" / "weights", os.urandom(20 * MIB))
    monkeypatch.setattr(destination.NewFile, "write", None)
    with Store.open(reflinking / "store") as store:
        push_files(store, "models/bert:1", [tmp_path / "bert"])
        before = shutil.disk_usage(reflinking).used
        pull_files(store, "models/bert:1", reflinking / "out")
        assert shutil.disk_usage(reflinking).used - before < 5 * MIB
        assert seen(reflinking / "out" / "bert") == seen(tmp_path / "bert")

        [path] = [each for each in (store.root / "blobs" / "sha256").iterdir() if each.stat().st_size == 20 * MIB]
        path.chmod(0o644)
        path.write_bytes(bytes(20 * MIB))
        with pytest.raises(CorruptError):
            pull_files(store, "models/bert:1", reflinking / "other")
        assert seen(reflinking / "other") == {}


def test_many_files_are_synced_together_before_any_has_its_name(store, tmp_path, monkeypatch):
    for number in range(20):
        write(tmp_path / "d" / str(number))
    push_files(store, "d:1", [tmp_path / "d"])
    happened = []
    synced, renamed = destination.sync_filesystem, os.rename
    monkeypatch.setattr(destination, "sync_filesystem", lambda d: happened.append("sync") or synced(d))
    monkeypatch.setattr(os, "rename", lambda *a, **k: happened.append("rename") or renamed(*a, **k))
    pull_files(store, "d:1", tmp_path / "out")
    assert happened == ["sync", *["rename"] * 20]


# --- any tree ---------------------------------------------------------------------------------------------------------

NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\x7f"), min_size=1, max_size=12
).filter(lambda name: name not in {".", ".."})
TREES = st.recursive(
    st.tuples(st.booleans(), st.binary(max_size=40)),
    lambda below: st.dictionaries(NAMES, below, max_size=4),
    max_leaves=20,
).filter(lambda tree: isinstance(tree, dict))


def make(top, tree):
    top.mkdir(parents=True)
    for name, what in tree.items():
        if isinstance(what, dict):
            make(top / name, what)
        else:
            write(top / name, what[1], mode=0o755 if what[0] else 0o644)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(tree=TREES, options=st.sampled_from([{}, {"layer": "tar"}, {"layer": "tar", "compression": "none"}]))
def test_any_tree_is_pulled_as_it_was_pushed(store, tmp_path_factory, tree, options):
    work = tmp_path_factory.mktemp("any")
    make(work / "top", tree)
    pushed = push_files(store, "any:1", [work / "top"], **options)
    pull_files(store, "any:1", work / "out")
    assert seen(work / "out" / "top") == seen(work / "top")
    assert push_files(store, "any:2", [work / "out" / "top"], **options) == pushed, "the same tree, the same digest"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(depth=st.integers(1, 70), content=st.binary(max_size=3))
def test_a_tree_may_be_as_deep_as_titles(store, tmp_path_factory, depth, content):
    work = tmp_path_factory.mktemp("deep")
    path = write(work / "top" / os.path.join(*["d"] * depth), content)
    if depth > 64:
        with pytest.raises(ArtifactInvalidError, match="64 directories"):
            push_files(store, "deep:1", [work / "top"])
        return
    push_files(store, "deep:1", [work / "top"])
    pull_files(store, "deep:1", work / "out")
    assert (work / "out" / path.relative_to(work)).read_bytes() == content


HOSTILE = st.lists(
    st.sampled_from(["..", ".", "", "a", "A", "b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\x1b", "\\", "~", "store"]),
    min_size=1,
    max_size=4,
).map("/".join)
ANNOTATED = st.lists(
    st.tuples(HOSTILE, st.dictionaries(st.sampled_from([UNPACK, EXECUTABLE]), st.sampled_from(["true", "x"]))),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=ANNOTATED, mode=st.sampled_from(["auto", "copy", "link"]), keep=st.booleans())
def test_whatever_a_manifest_says_nothing_is_written_outside(store, tmp_path_factory, layers, mode, keep):
    work = tmp_path_factory.mktemp("hostile")
    repository = store.repository("hostile")
    described = [
        dataclasses.replace(repository.put_blob(b"%d" % number), annotations={TITLE: title, **more})
        for number, (title, more) in enumerate(layers)
    ]
    pushed = repository.put_manifest(Manifest.build(layers=described, artifact_type="a/b"))
    reference = f"hostile@{pushed.digest}"
    try:
        report = pull_files(store, reference, work / "out", mode=mode, keep_packed=keep)
    except (ArtifactInvalidError, ArchiveInvalidError):
        assert not (work / "out").exists() or os.listdir(work / "out") == []
    else:
        assert {path.relative_to(work / "out").as_posix() for path in report.files} == {title for title, _ in layers}
        for number, (title, _) in enumerate(layers):
            assert (work / "out" / title).read_bytes() == b"%d" % number
    assert os.listdir(work) in ([], ["out"])


# --- archives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_an_archive_is_compressed_as_asked(store, model, tmp_path, compression):
    (model / "link").symlink_to("config.json")
    push_files(store, "models/bert:1", [model], layer="tar", compression=compression)
    [layer] = store.repository("models/bert").get_manifest("1").layers
    suffix = "" if compression == "none" else f"+{compression}"
    assert layer.media_type == f"application/vnd.oci.image.layer.v1.tar{suffix}"
    pull_files(store, "models/bert:1", tmp_path / "out")
    assert seen(tmp_path / "out" / "bert") == seen(model)
    assert os.readlink(tmp_path / "out" / "bert" / "link") == "config.json"
    with open_file(store, "models/bert:1", "bert/config.json") as file:
        assert file.read() == b"{}"


def test_more_files_than_are_unpacked_are_not_packed(store, model, monkeypatch):
    monkeypatch.setattr(layers, "MAXIMUM_UNPACKED", 5)
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="5 files that are unpacked"):
        push_files(store, "d:1", [model], layer="tar")


def test_an_empty_directory_is_the_same_bytes_whatever_compresses(store, tmp_path):
    (tmp_path / "d" / "empty").mkdir(parents=True)
    push_files(store, "d:1", [tmp_path / "d"])
    content = store.repository("d").get_manifest("1").content
    [layer] = json.loads(content)["layers"]
    assert layer["digest"] == "sha256:34898967a47868cb7a40f3594cd0f75e8e34cbcc91d9c04d28b30b4be02cc322"


def test_memory_stays_small_with_many_files(store, tmp_path):
    top = tmp_path / "many"
    for number in range(3000):
        write(top / str(number % 30) / str(number), str(number).encode())
    tracemalloc.start()
    try:
        push_files(store, "many:1", [top])
        _, peak = tracemalloc.get_traced_memory()
        pull_files(store, "many:1", tmp_path / "out")
    finally:
        tracemalloc.stop()
    assert peak < 24 * MIB
    assert len(seen(tmp_path / "out" / "many")) == 3030


MANY = """
import resource, sys
from pathlib import Path

from ocistore import Store
from ocistore.artifacts import pull_files, push_files

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

work = Path(sys.argv[1])
with Store.open(work / "store") as store:
    push_files(store, "few:1", [work / "few"], layer="tar", compression="none")
    pull_files(store, "few:1", work / "out")
    before = peak()
    push_files(store, "many:1", [work / "many"], layer="tar", compression="none")
    pushed = peak()
    pull_files(store, "many:1", work / "out")
    print(pushed - before, peak() - pushed)
"""


@pytest.mark.slow
def test_several_hundred_thousand_files_are_one_archive_in_little_memory(tmp_path):
    write(tmp_path / "few" / "file", b"few")
    for number in range(250_000):
        directory = tmp_path / "many" / f"{number // 1000}"
        if number % 1000 == 0:
            directory.mkdir(parents=True)
        with open(directory / f"{number:06}.jpg", "wb") as file:
            file.write(b"%d" % number)

    pushed, pulled = map(int, run_python(MANY, tmp_path, patience=300).split())

    assert pushed < 32, "MiB"
    assert pulled < 96, "MiB: the names, and what they are"
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "out" / "many")) == 250_000
    assert (tmp_path / "out" / "many" / "249" / "249999.jpg").read_bytes() == b"249999"
