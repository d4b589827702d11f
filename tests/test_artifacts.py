"""Packing files as artifacts, and writing them back."""

import contextlib
import json
import os
import tracemalloc

import pytest
from images import described, document, image, index, push
from processes import run_python
from state import unchanged

from ocistore import (
    ArtifactInvalidError,
    BlobNotFoundError,
    CorruptError,
    Digest,
    InvalidNameError,
    ManifestInvalidError,
    ManifestNotFoundError,
    RepositoryNotFoundError,
)
from ocistore.artifacts import TITLE, pull_files, push_files
from ocistore.oci import mediatypes


@pytest.fixture
def files(tmp_path):
    """Two files, in a directory of their own."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "note.txt").write_bytes(b"a note")
    (directory / "empty").write_bytes(b"")
    return [directory / "note.txt", directory / "empty"]


@pytest.fixture
def titled(repository):
    """A function that puts an artifact with these titles (None for no title), and gives the reference of it."""

    def put(*titles, contents=None, annotations=None):
        layers = []
        for number, title in enumerate(titles):
            content = contents[number] if contents else f"content {number}".encode()
            repository.put_blob(content)
            marked = {} if title is None else {TITLE: title}
            layers.append(described(content, annotations={**marked, **(annotations or {})}))
        repository.put_blob(b"{}")
        manifest = document(
            {
                "schemaVersion": 2,
                "mediaType": mediatypes.OCI_MANIFEST,
                "config": described(b"{}", mediatypes.OCI_EMPTY),
                "layers": layers,
            }
        )
        repository.put_manifest(manifest, tags=["titled"])
        return f"{repository.name}:titled"

    return put


def entries(directory):
    """Every path below it, and what it is."""
    found = {}
    for path in directory.rglob("*"):
        kind = "link" if path.is_symlink() else "directory" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(directory))] = kind
    return found


# --- push -------------------------------------------------------------------------------------------------------------


def test_push_writes_the_manifest_that_the_specification_describes(store, files):
    pushed = push_files(store, "notes:v1", files, annotations={"b": "2", "a": "1"})

    manifest = store.repository("notes").get_manifest("v1")
    assert manifest.descriptor == pushed
    assert json.loads(manifest.content) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.unknown.artifact.v1",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": str(Digest.of(b"{}")),
            "size": 2,
            "data": "e30=",
        },
        "layers": [
            described(b"a note", annotations={TITLE: "note.txt"}),
            described(b"", annotations={TITLE: "empty"}),
        ],
        "annotations": {"a": "1", "b": "2"},
    }


def test_the_same_files_give_the_same_digest_whenever_they_were_written(store, files, tmp_path):
    first = push_files(store, "notes:v1", files, annotations={"b": "2", "a": "1"})
    other = tmp_path / "other"
    other.mkdir()
    copies = [other / file.name for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(file.read_bytes())
        os.utime(copy, (1, 1))
        copy.chmod(0o700)

    assert push_files(store, "elsewhere:v2", copies, annotations={"a": "1", "b": "2"}) == first


def test_without_a_tag_the_artifact_is_known_by_its_digest_only(store, files):
    pushed = push_files(store, "notes", files)

    assert list(store.repository("notes").tags()) == []
    assert store.repository("notes").resolve(pushed.digest).digest == pushed.digest


def test_an_artifact_can_be_about_another_one(store, files):
    about = push_files(store, "notes:v1", files)
    pushed = push_files(store, "notes", files[:1], artifact_type="application/spdx+json", subject="notes:v1")

    (referrer,) = store.repository("notes").referrers(about.digest)
    assert referrer.digest == pushed.digest
    assert referrer.artifact_type == "application/spdx+json"


def test_media_types_are_given_by_title(store, files):
    push_files(store, "notes:v1", files, media_types={"note.txt": "text/plain"})

    layers = store.repository("notes").get_manifest("v1").layers
    assert [layer.media_type for layer in layers] == ["text/plain", "application/octet-stream"]


def test_a_symbolic_link_stands_for_its_file_under_its_own_name(store, files, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(files[0])

    push_files(store, "notes:v1", [link])

    (layer,) = store.repository("notes").get_manifest("v1").layers
    assert (layer.digest, layer.annotations[TITLE]) == (Digest.of(b"a note"), "link")


def test_push_refuses_what_is_no_plain_file_and_says_what_it_is(store, files, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, kind in ((fifo, "FIFO"), ("/dev/null", "device")):
        with unchanged(store.root), pytest.raises(ArtifactInvalidError, match=kind) as caught:
            push_files(store, "notes:v1", [*files, path])
        assert caught.value.name == str(path)


def test_a_file_that_becomes_a_fifo_while_others_are_read_is_refused_and_not_waited_for(store, files):
    def swap(done, total):
        files[1].unlink()
        os.mkfifo(files[1])

    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="FIFO"):
        push_files(store, "notes:v1", files, progress=swap)


def test_push_refuses_two_files_of_one_name(store, files, tmp_path):
    other = tmp_path / "note.txt"
    other.write_bytes(b"another")

    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="same base name"):
        push_files(store, "notes:v1", [*files, other])


@pytest.mark.parametrize("name", [b"line\nbreak", b"not utf-8 \xff"])
def test_push_refuses_names_that_no_title_can_be(store, tmp_path, name):
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb"):
        pass

    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="a title must"):
        push_files(store, "notes:v1", [os.fsdecode(path)])


def test_push_refuses_to_pack_nothing(store):
    with unchanged(store.root), pytest.raises(ArtifactInvalidError, match="at least one"):
        push_files(store, "notes:v1", [])


def test_push_of_a_missing_file_raises_what_the_system_said(store, files, tmp_path):
    with unchanged(store.root), pytest.raises(FileNotFoundError):
        push_files(store, "notes:v1", [*files, tmp_path / "missing"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reference": f"notes@{Digest.of(b'')}"}, InvalidNameError),
        ({"reference": "Notes:v1"}, InvalidNameError),
        ({"artifact_type": "no type"}, ManifestInvalidError),
        ({"media_types": {"note.txt": "no type"}}, ManifestInvalidError),
        ({"media_types": {"other.txt": "text/plain"}}, ArtifactInvalidError),
        ({"annotations": {"half": "\ud800"}}, ManifestInvalidError),
        ({"subject": "notes"}, InvalidNameError),
        ({"subject": "other:v1"}, ArtifactInvalidError),
        ({"subject": "notes:missing"}, RepositoryNotFoundError),
    ],
)
def test_push_refuses_bad_arguments_and_changes_nothing(store, files, arguments, error):
    with unchanged(store.root), pytest.raises(error):
        push_files(store, arguments.pop("reference", "notes:v1"), files, **arguments)


def test_push_needs_its_subject_to_be_there(store, files):
    push_files(store, "notes:v1", files)

    with unchanged(store.root), pytest.raises(ManifestNotFoundError):
        push_files(store, "notes", files, subject="notes:v2")


def test_push_tells_of_the_bytes_read(store, tmp_path):
    sizes = [3_000_000, 2_000_000]
    for size in sizes:
        (tmp_path / str(size)).write_bytes(bytes(size))
    told = []

    push_files(store, "notes:v1", [tmp_path / str(size) for size in sizes], progress=lambda *now: told.append(now))

    assert told == sorted(told)
    assert told[-1] == (5_000_000, 5_000_000)
    assert {total for _, total in told} == {5_000_000}


def test_large_files_need_little_memory_in_and_out(store, tmp_path):
    size = 48 * 1024 * 1024
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        push_files(store, "notes:v1", [large])
        pull_files(store, "notes:v1", tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 3
    assert (tmp_path / "out" / "large").stat().st_size == size


# --- pull -------------------------------------------------------------------------------------------------------------


def test_pull_writes_what_push_packed(store, files, tmp_path):
    pushed = push_files(store, "notes:v1", files)

    for reference in ("notes:v1", f"notes@{pushed.digest}", f"notes:gone@{pushed.digest}"):
        directory = tmp_path / reference.replace(":", "-") / "new"
        report = pull_files(store, reference, directory)

        assert report.digest == pushed.digest
        assert report.files == (directory / "note.txt", directory / "empty")
        assert entries(directory) == {"note.txt": b"a note", "empty": b""}


def test_pull_makes_the_directories_in_titles(store, titled, tmp_path):
    reference = titled("a/b/c", "a/d", "e")

    report = pull_files(store, reference, tmp_path / "out")

    assert [str(path.relative_to(tmp_path)) for path in report.files] == ["out/a/b/c", "out/a/d", "out/e"]
    assert entries(tmp_path / "out") == {
        "a": "directory",
        "a/b": "directory",
        "a/b/c": b"content 0",
        "a/d": b"content 1",
        "e": b"content 2",
    }


def test_pull_replaces_files_and_keeps_what_is_not_its_own(store, titled, tmp_path):
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "b").write_bytes(b"old")
    (out / "a" / "other").write_bytes(b"other")
    os.link(out / "a" / "b", tmp_path / "old")

    pull_files(store, titled("a/b"), out)

    assert entries(out) == {"a": "directory", "a/b": b"content 0", "a/other": b"other"}
    assert (tmp_path / "old").read_bytes() == b"old", "the file was written into, not replaced"


def test_a_title_may_be_as_deep_as_it_says(store, titled, tmp_path):
    title = "x/" * 64 + "x"

    pull_files(store, titled(title), tmp_path / "out")

    assert (tmp_path / "out" / title).read_bytes() == b"content 0"


def test_an_absolute_title_is_called_so(store, titled, tmp_path):
    with pytest.raises(ArtifactInvalidError, match="must be a relative path"):
        pull_files(store, titled(f"{tmp_path}/escaped"), tmp_path / "out")

    assert not (tmp_path / "escaped").exists()


def test_pull_reports_layers_without_a_title(store, titled, tmp_path):
    report = pull_files(store, titled("a", None), tmp_path / "out")

    assert [layer.digest for layer in report.skipped] == [Digest.of(b"content 1")]
    assert entries(tmp_path / "out") == {"a": b"content 0"}


@pytest.mark.parametrize(
    "titles",
    [
        ["/etc/passwd"],
        ["../escaped"],
        ["a/../../escaped"],
        ["a/.."],
        [".."],
        ["."],
        ["./a"],
        [""],
        ["a//b"],
        ["a/"],
        ["a\0b"],
        ["a\nb"],
        ["\x1b[2J"],
        ["x" * 256],
        ["\N{LATIN SMALL LETTER E WITH ACUTE}" * 128],
        ["x/" * 65 + "x"],
        [("x" * 250 + "/") * 17 + "x"],
        ["a", "a"],
        ["a", "a/b"],
        ["a/b/c", "a/b"],
    ],
)
def test_hostile_titles_are_refused_before_anything_is_written(store, titled, tmp_path, titles):
    reference = titled("fine", *titles)
    out = tmp_path / "out"

    with unchanged(store.root), pytest.raises(ArtifactInvalidError) as caught:
        pull_files(store, reference, out)

    assert caught.value.name in titles
    assert not out.exists()
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("title", ["a\\b", "..\\c", "...", " ", "-rf", "~", "x" * 255, "é" * 127])
def test_strange_but_harmless_titles_are_written_as_they_are(store, titled, tmp_path, title):
    pull_files(store, titled(title), tmp_path / "out")

    assert entries(tmp_path / "out") == {title: b"content 0"}


@pytest.mark.parametrize("title", ["link/escaped", "directory/link/escaped", "link", "file/below", "fifo", "directory"])
def test_pull_goes_through_no_link_and_replaces_only_plain_files(store, titled, tmp_path, title):
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (out / "directory").mkdir(parents=True)
    (out / "file").write_bytes(b"mine")
    (out / "link").symlink_to(outside)
    (out / "directory" / "link").symlink_to(outside)
    os.mkfifo(out / "fifo")
    before = sorted(out.rglob("*"))

    with pytest.raises(ArtifactInvalidError, match="in the destination") as caught:
        pull_files(store, titled("fine", title), out)

    assert caught.value.name == title
    assert sorted(out.rglob("*")) == before
    assert entries(outside) == {}


def test_a_link_put_in_the_way_while_a_pull_runs_is_not_followed(store, titled, tmp_path):
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()

    def swap(done, total):
        if not (out / "b").is_symlink():
            (out / "b").symlink_to(outside)

    with pytest.raises(OSError, match="b/file"):
        pull_files(store, titled("a", "b/file"), out, progress=swap)

    assert entries(outside) == {}
    assert entries(out) == {"b": "link"}


def test_the_destination_itself_may_be_a_link(store, titled, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")

    pull_files(store, titled("a"), tmp_path / "out")

    assert entries(tmp_path / "real") == {"a": b"content 0"}


def test_a_destination_that_is_a_file_is_left_alone(store, titled, tmp_path):
    (tmp_path / "out").write_bytes(b"mine")

    with pytest.raises(NotADirectoryError):
        pull_files(store, titled("a"), tmp_path / "out")

    assert (tmp_path / "out").read_bytes() == b"mine"


def test_damaged_bytes_take_no_name_and_leave_no_trace(store, titled, tmp_path):
    reference = titled("new/a", "b", contents=[b"first", b"second"])
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_bytes(b"old")
    blob = store.root / "blobs" / "sha256" / Digest.of(b"second").encoded
    blob.chmod(0o600)
    blob.write_bytes(b"sec0nd")

    with pytest.raises(CorruptError):
        pull_files(store, reference, out)

    assert entries(out) == {"b": b"old"}


def test_a_blob_that_is_gone_is_noticed_before_anything_is_written(store, titled, tmp_path):
    reference = titled("a", "b", contents=[b"first", b"second"])
    (store.root / "blobs" / "sha256" / Digest.of(b"second").encoded).unlink()

    with pytest.raises(BlobNotFoundError):
        pull_files(store, reference, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_pull_of_an_index_says_that_it_has_no_files(store, repository, tmp_path):
    push(repository, index([image()]), "many")

    with pytest.raises(ArtifactInvalidError, match="is an index"):
        pull_files(store, f"{repository.name}:many", tmp_path / "out")


def test_pull_of_an_image_says_that_nothing_has_a_title(store, repository, tmp_path):
    push(repository, image(), "image")

    with pytest.raises(ArtifactInvalidError, match="title"):
        pull_files(store, f"{repository.name}:image", tmp_path / "out")


def test_pull_needs_a_tag_or_a_digest(store, files, tmp_path):
    push_files(store, "notes:v1", files)

    with pytest.raises(InvalidNameError, match="give REPO:TAG or REPO@DIGEST"):
        pull_files(store, "notes", tmp_path / "out")


def test_pull_tells_of_the_bytes_written(store, titled, tmp_path):
    reference = titled("a", "b", contents=[bytes(1_500_000), b"short"])
    told = []

    pull_files(store, reference, tmp_path / "out", progress=lambda *now: told.append(now))

    assert told == sorted(told)
    assert told[-1] == (1_500_005, 1_500_005)


def test_a_pull_that_dies_leaves_old_files_whole(store, titled, tmp_path):
    reference = titled("a", "b", contents=[b"first", b"second"])
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_bytes(b"old")

    with contextlib.suppress(AssertionError):
        run_python(
            """
import os, sys
from ocistore import Store
from ocistore.artifacts import pull_files
with Store.open(sys.argv[1]) as store:
    pull_files(store, sys.argv[2], sys.argv[3], progress=lambda done, total: done == total and os._exit(9))
""",
            store.root,
            reference,
            out,
        )

    left = entries(out)
    assert left.pop("a") == b"old"
    assert left, "it had not begun"
    assert all(name.startswith(".ocistore-") for name in left)


def test_files_are_durable_before_they_take_their_names_and_the_names_after(store, titled, tmp_path, monkeypatch):
    reference = titled("a", "d/b")
    happened = []

    def fsync(descriptor, *, real=os.fsync):
        happened.append(("sync", os.fstat(descriptor).st_ino))
        real(descriptor)

    def rename(source, target, *, real=os.rename, **directories):
        inode = os.stat(source, dir_fd=directories["src_dir_fd"]).st_ino
        happened.append(("rename", inode))
        real(source, target, **directories)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    out = tmp_path / "out"
    pull_files(store, reference, out)

    for name in ("a", "d/b"):
        file, directory = (out / name).stat().st_ino, (out / name).parent.stat().st_ino
        assert happened.index(("sync", file)) < happened.index(("rename", file))
        assert ("sync", directory) in happened[happened.index(("rename", file)) :]
    assert happened.count(("sync", tmp_path.stat().st_ino)) == 1, "the new directory's own name"
    assert ("sync", out.stat().st_ino) in happened[: happened.index(("rename", (out / "a").stat().st_ino))], "d's name"


def test_a_full_disk_leaves_no_trace_and_names_the_file(store, titled, small_disk):
    reference = titled("new/small", "new/large", contents=[b"small", bytes(12 * 1024 * 1024)])
    out = small_disk.root / "out"
    out.mkdir()

    with pytest.raises(OSError, match=r"No space left on device.*new/large"):
        pull_files(store, reference, out)

    assert entries(out) == {}


@pytest.mark.parametrize("where", ["", "blobs", "uploads", "new"])
def test_files_are_not_written_into_a_store(store, tmp_path, where):
    file = tmp_path / "catalog.db"
    file.write_bytes(b"not a catalog")
    push_files(store, "app:v1", [file])
    with unchanged(store.root), pytest.raises(ArtifactInvalidError):
        pull_files(store, "app:v1", store.root / where)
