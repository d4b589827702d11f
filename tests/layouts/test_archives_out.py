"""Layouts as archives: where they go, what stands in them in which order, and what is left of a failure."""

import contextlib
import errno
import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import threading

import pytest
from archived import zstd
from handmade import contents, verified
from images import Image, artifact, described, document, image, index, push
from processes import python, run_python
from state import pool, unchanged

from ocistore import ArchiveInvalidError, CorruptError, Digest, LayoutInvalidError, StorageError, Store, StoreFullError
from ocistore.archives.compression import compression_of
from ocistore.oci import mediatypes

pytestmark = pytest.mark.every_pool

INNER = index([image("deep"), image("deeper")])
IMAGES = [image("one", layers=3), image("two"), index([image("arm"), INNER]), artifact()]


@pytest.fixture
def filled(store):
    with store.transaction() as transaction:
        for number, pushed in enumerate(IMAGES):
            push(transaction.repository("app"), pushed, f"v{number}")
            push(transaction.repository(f"tools/{number}"), pushed, "latest")
    return store


def members(archive):
    """Names and bytes of the files in an archive, in their order."""
    with tarfile.open(fileobj=io.BytesIO(archive if isinstance(archive, bytes) else archive.read_bytes())) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def unpacked(archive, directory):
    """What other tools make of an archive."""
    directory.mkdir()
    subprocess.run(["tar", "xf", archive, "-C", directory], check=True)
    return directory


def exported(store, *arguments, **options):
    """An archive, in memory."""
    stream = io.BytesIO()
    store.export(stream, *arguments, **options)
    return stream.getvalue()


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_an_archive_is_the_layout_in_a_tar(filled, tmp_path):
    with unchanged(filled.root):
        report = filled.export(tmp_path / "out.tar")
    filled.export(tmp_path / "layout")
    assert contents(unpacked(tmp_path / "out.tar", tmp_path / "there")) == contents(tmp_path / "layout")
    assert verified(tmp_path / "there") == pool(filled.root)
    assert (report.format, report.destination) == ("oci-archive", tmp_path / "out.tar")
    assert report.written_bytes == report.bytes == sum(map(len, pool(filled.root).values()))


def test_who_reads_the_stream_knows_of_every_member_what_it_is_when_it_comes(filled):
    expected = {}
    for name, content in members(exported(filled)).items():
        if name == "oci-layout":
            assert not expected
        elif name == "index.json":
            expected = {entry["digest"]: entry["mediaType"] for entry in json.loads(content)["manifests"]}
            seen = []
        else:
            digest = ":".join(name.split("/")[1:])
            seen.append("manifest" in expected[digest] or "index" in expected[digest])
            if seen[-1]:
                parsed = json.loads(content)
                below = [*parsed.get("manifests", []), *parsed.get("layers", []), parsed.get("config", {})]
                expected |= {child["digest"]: child["mediaType"] for child in below if child}
    assert seen == sorted(seen, reverse=True)  # no manifest comes behind a blob
    assert expected.keys() == pool(filled.root).keys()


def test_stores_filled_in_different_order_give_identical_archives(filled, tmp_path, empty_store):
    other = Store.open(tmp_path / "other")
    with other:
        for number, pushed in reversed(list(enumerate(IMAGES))):
            push(other.repository(f"tools/{number}"), pushed, "latest")
            push(other.repository("app"), pushed, f"v{number}")
        for compression in ("none", "gzip", "zstd"):
            first = exported(filled, compression=compression)
            assert first == exported(other, list(reversed(list(other.repositories()))), compression=compression)


def test_nothing_in_an_archive_says_who_wrote_it_when(filled, tmp_path):
    filled.export(tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.mode == (0o755 if member.isdir() else 0o644)
    assert (tmp_path / "out.tar").stat().st_size % 10240 == 0


def test_blobs_larger_than_what_is_gathered_are_sent_whole(store, tmp_path):
    repository = store.repository("app")
    sizes = [0, 1, 511, 512, 128 * 1024, 128 * 1024 + 1, 3_000_001]
    layers = [os.urandom(size) for size in sizes]
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(b"{}"),
        "layers": [described(layer) for layer in layers],
    }
    push(repository, Image(document(body), (b"{}", *layers)), "v1")
    for name in ("plain.tar", "gzip.tgz", "zstd.tar.zst"):
        store.export(tmp_path / name)
    plain = (tmp_path / "plain.tar").read_bytes()
    assert exported(store) == plain  # to an object without a descriptor
    assert gzip.decompress((tmp_path / "gzip.tgz").read_bytes()) == plain
    assert zstd.decompress((tmp_path / "zstd.tar.zst").read_bytes()) == plain
    if shutil.which("zstd") or "OCISTORE_REQUIRE_ALL" in os.environ:  # the program that others use, where it is there
        done = subprocess.run(["zstd", "-dc", tmp_path / "zstd.tar.zst"], capture_output=True)
        assert done.stdout == plain
    assert set(layers) <= set(members(plain).values())


def test_an_empty_selection_is_an_empty_layout(filled, tmp_path):
    report = filled.export(tmp_path / "out.tar", [])
    assert (report.names, report.bytes) == ((), 0)
    assert json.loads(members(tmp_path / "out.tar")["index.json"])["manifests"] == []


def test_indexes_three_hundred_deep_go_out_and_come_back(store, tmp_path):
    nested = image("innermost")
    for _ in range(300):
        nested = index([nested])
    chain = [nested]
    while chain[-1].children:
        chain += chain[-1].children
    with store.transaction() as transaction:
        repository = transaction.repository("app")
        for each in reversed(chain):
            for blob in each.blobs:
                repository.put_blob(blob)
            repository.put_manifest(each.manifest)
        repository.tag("deep", nested.digest)
    assert store.export(tmp_path / "out.tar").manifests == 301
    assert verified(unpacked(tmp_path / "out.tar", tmp_path / "there")) == pool(store.root)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_tags_go_out_in_one_archive(store, tmp_path, count):
    with store.transaction() as transaction:
        repository = transaction.repository("app")
        push(repository, image("one"))
        for number in range(count):
            repository.tag(f"v{number}", image("one").digest)
    assert len(store.export(tmp_path / "out.tar").names) == count
    assert len(json.loads(members(tmp_path / "out.tar")["index.json"])["manifests"]) == count


# --- which form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "compression"),
    [("a.tar", "none"), ("a.tar.gz", "gzip"), ("a.tgz", "gzip"), ("a.tar.zst", "zstd"), ("A.TAR.GZ", "gzip")],
)
def test_the_suffix_says_that_it_is_an_archive_and_how_it_is_compressed(filled, tmp_path, name, compression):
    assert filled.export(tmp_path / name).form == "oci-archive"
    assert compression_of((tmp_path / name).read_bytes()[:4]) == compression


@pytest.mark.parametrize("name", ["a.tar.xz", "a.TAR.BZ2", "a.zip", "a.tar.zstd"])
def test_a_name_as_of_an_archive_that_is_not_written_makes_no_directory(filled, tmp_path, name):
    with pytest.raises(ValueError, match="no archive is written as"):
        filled.export(tmp_path / name)
    assert not (tmp_path / name).exists()
    assert filled.export(tmp_path / name, format="dir").form == "dir"
    assert filled.export(tmp_path / name).form == "dir"  # a directory that is there


def test_what_is_asked_for_weighs_more_than_the_suffix(filled, tmp_path):
    assert filled.export(tmp_path / "a.tar", format="dir").form == "dir"
    assert (tmp_path / "a.tar" / "index.json").exists()
    filled.export(tmp_path / "b.tar.gz", compression="none")
    assert tarfile.is_tarfile(tmp_path / "b.tar.gz")
    assert compression_of((tmp_path / "b.tar.gz").read_bytes()[:4]) == "none"
    filled.export(tmp_path / "c", format="oci-archive")
    assert "index.json" in members(tmp_path / "c")


def test_a_directory_that_exists_gets_a_layout_whatever_its_name(filled, tmp_path):
    (tmp_path / "a.tar").mkdir()
    assert filled.export(tmp_path / "a.tar").form == "dir"
    with pytest.raises(ArchiveInvalidError, match="it is a directory"):
        filled.export(tmp_path / "a.tar", format="oci-archive")
    assert verified(tmp_path / "a.tar") == pool(filled.root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "zip"}, "form must be dir, oci-archive or docker-archive"),
        ({"format": "oci-archive", "compression": "xz"}, "compression must be"),
        ({"format": "dir", "compression": "gzip"}, "a directory and compression do not go together"),
        ({"format": "oci-archive", "mode": "link"}, "an archive and mode link"),
        ({"format": "docker-archive", "referrers": True}, "docker-archive and referrers"),
        ({"format": "docker-archive", "base": ["."]}, "docker-archive and a base"),
    ],
)
def test_what_does_not_go_together_is_refused(filled, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        filled.export(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_directory_is_nothing_for_a_file_object_and_an_archive_nothing_for_a_terminal(filled):
    with pytest.raises(ValueError, match="a directory and a file object"):
        filled.export(io.BytesIO(), format="dir")
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "wb") as terminal, pytest.raises(ValueError, match="terminal"):
        filled.export(terminal)


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_an_archive_that_is_there_is_replaced_not_added_to(filled, tmp_path):
    out = tmp_path / "out.tar"
    filled.export(out, ["tools/0"])
    before = out.stat().st_ino
    filled.export(out, ["app:v1"])
    assert out.stat().st_ino != before
    names = [
        entry["annotations"]["io.containerd.image.name"]
        for entry in json.loads(members(out)["index.json"])["manifests"]
    ]
    assert names == ["app:v1"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(filled, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "out.tar").symlink_to("deep/real.tar")
    filled.export(tmp_path / "out.tar")
    filled.export(tmp_path / "out.tar")
    assert (tmp_path / "out.tar").is_symlink()
    assert members(tmp_path / "deep" / "real.tar") == members(exported(filled))


def test_missing_directories_on_the_way_are_made(filled, tmp_path):
    filled.export(tmp_path / "a" / "b" / "out.tar")
    assert members(tmp_path / "a" / "b" / "out.tar") == members(exported(filled))


def test_a_named_pipe_is_written_to_and_stays_one(filled, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    filled.export(tmp_path / "pipe")
    reader.join()
    assert read == [exported(filled)]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "{tmp_path}/link"])
@pytest.mark.parametrize("kind", ["pipe", "file", "file that is added to"])
def test_a_path_to_an_open_file_writes_to_that_file(filled, tmp_path, name, kind):
    expected = exported(filled, ["app:v0"])
    if kind == "pipe":
        readable, writable = os.pipe()
    else:
        (tmp_path / "file").write_bytes(b"before")
        writable = os.open(tmp_path / "file", os.O_WRONLY | (os.O_APPEND if kind != "file" else 0))
        os.lseek(writable, 6, os.SEEK_SET)
        readable = os.open(tmp_path / "file", os.O_RDONLY)
        os.lseek(readable, 6, os.SEEK_SET)
    (tmp_path / "link").symlink_to(f"/dev/fd/{writable}")
    with open(readable, "rb") as reader:
        filled.export(name.format(writable, tmp_path=tmp_path), ["app:v0"])
        os.close(writable)
        assert reader.read() == expected


def test_a_path_to_a_file_that_is_not_open_or_to_a_terminal_is_refused(filled):
    with pytest.raises(StorageError) as caught:
        filled.export("/dev/fd/999", ["app:v0"], format="oci-archive")
    assert caught.value.errno in {errno.ENOENT, errno.EBADF}
    master, slave = os.openpty()
    try:
        with pytest.raises(ValueError, match="terminal"):
            filled.export(f"/dev/fd/{slave}", ["app:v0"])
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
def test_file_objects_get_the_same_bytes_behind_what_was_written(filled, tmp_path, mode):
    (tmp_path / "file").write_bytes(b"before")
    with open(tmp_path / "file", mode) as file:
        file.seek(0, os.SEEK_END)
        file.write(b"and")
        filled.export(file)
        file.write(b"after")
    expected = (b"" if mode == "wb" else b"before") + b"and" + exported(filled) + b"after"
    assert (tmp_path / "file").read_bytes() == expected


def test_a_file_object_that_compresses_compresses(filled, tmp_path):
    with gzip.open(tmp_path / "out.gz", "wb") as file:
        filled.export(file)
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == exported(filled)


def test_a_pipe_that_does_not_block_gets_all_of_it(store):
    push(
        store.repository("app"),
        Image(
            document(
                {
                    "schemaVersion": 2,
                    "mediaType": mediatypes.OCI_MANIFEST,
                    "config": described(b"{}"),
                    "layers": [described(bytes(4_000_000))],
                }
            ),
            (b"{}", bytes(4_000_000)),
        ),
        "v1",
    )
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    read = []
    with os.fdopen(readable, "rb") as ours:
        reader = threading.Thread(target=lambda: read.append(ours.read()))
        reader.start()
        with os.fdopen(writable, "wb", buffering=0) as theirs:
            store.export(theirs)
        reader.join()
    assert read == [exported(store)]


@pytest.mark.parametrize("place", ["out.tar", "blobs/out.tar", "catalog.db", "uploads/deep/out.tar"])
def test_nothing_is_written_into_a_store(filled, place):
    with pytest.raises(LayoutInvalidError, match="store"), unchanged(filled.root):
        filled.export(filled.root / place, format="oci-archive")


def test_a_link_into_a_store_is_followed_and_refused(filled, tmp_path):
    (tmp_path / "out.tar").symlink_to(filled.root / "catalog.db")
    with pytest.raises(LayoutInvalidError, match="it lies in the store"), unchanged(filled.root):
        filled.export(tmp_path / "out.tar")


def test_a_parent_that_is_a_file_is_an_error_of_ours(filled, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for dry_run in (True, False):
        with pytest.raises(StorageError):
            filled.export(tmp_path / "file" / "out.tar", dry_run=dry_run)


# --- failures ---------------------------------------------------------------------------------------------------------


def damaged(store, how):
    file = store.root / "blobs" / "sha256" / Digest.of(image("two").layers[0]).encoded
    if how == "gone":
        file.unlink()
    else:
        file.chmod(0o644)
        file.write_bytes(b"cut")


@pytest.mark.needs_files
@pytest.mark.parametrize("how", ["gone", "cut short"])
def test_damage_in_the_store_is_named_and_no_archive_takes_the_name(filled, tmp_path, how):
    filled.export(tmp_path / "old.tar", ["app:v0"])
    before = (tmp_path / "old.tar").read_bytes()
    damaged(filled, how)
    for name in ("old.tar", "new.tar"):
        with pytest.raises(CorruptError, match=Digest.of(image("two").layers[0])):
            filled.export(tmp_path / name)
    assert (tmp_path / "old.tar").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"old.tar", "store"}


@pytest.mark.needs_files
def test_damage_in_a_large_blob_is_named_too(store, tmp_path):
    layer = bytes(1_000_000)
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(b"{}"),
        "layers": [described(layer)],
    }
    push(store.repository("app"), Image(document(body), (b"{}", layer)), "v1")
    file = store.root / "blobs" / "sha256" / Digest.of(layer).encoded
    file.chmod(0o644)
    os.truncate(file, 999_999)
    with pytest.raises(CorruptError, match="999999 bytes, not 1000000"):
        store.export(tmp_path / "out.tar")
    file.unlink()
    with pytest.raises(CorruptError, match="its file is gone"):
        exported(store)
    assert not (tmp_path / "out.tar").exists()


def test_a_full_disk_leaves_the_archive_there_was_and_nothing_else(filled, small_disk):
    out = small_disk.root / "out.tar"
    filled.export(out, ["app:v1"])
    before = out.read_bytes()
    with small_disk.full():
        with pytest.raises(StoreFullError):
            filled.export(out)
        assert {path.name for path in small_disk.root.iterdir()} == {"out.tar", "filler"}
    assert out.read_bytes() == before
    filled.export(out)
    assert members(out) == members(exported(filled))


def test_a_reader_that_goes_away_is_a_clear_error(filled):
    readable, writable = os.pipe()
    os.close(readable)
    with os.fdopen(writable, "wb", buffering=0) as pipe, pytest.raises(StorageError, match="Broken pipe") as caught:
        filled.export(pipe)
    assert caught.value.errno == errno.EPIPE


class Stubborn(io.RawIOBase):
    """Takes half of what it is given, and says so."""

    def writable(self):
        return True

    def write(self, data):
        return len(data) // 2


def test_a_file_object_that_does_not_take_everything_is_an_error(filled):
    with pytest.raises(StorageError, match="it took"):
        filled.export(Stubborn())


class Raw(io.RawIOBase):
    """A raw stream, which takes as much as it likes of what it is given; where that is None, it is full."""

    def __init__(self, most):
        self.most, self.taken = most, bytearray()

    def writable(self):
        return True

    def write(self, data):
        if self.most is None:
            return None
        self.taken += data[: self.most]
        return min(len(data), self.most)


def test_a_raw_stream_is_given_the_rest_again_and_an_error_where_it_takes_nothing(filled):
    whole = io.BytesIO()
    filled.export(whole)
    raw = Raw(700)
    filled.export(raw)
    assert raw.taken == whole.getvalue()
    with pytest.raises(StorageError, match="non-blocking mode"):
        filled.export(Raw(None))


def test_what_progress_raises_ends_it_and_leaves_nothing(filled, tmp_path):
    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.export(tmp_path / "out.tar", progress=progress)
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


def test_progress_ends_with_all_bytes(filled, tmp_path):
    told = []
    report = filled.export(tmp_path / "out.tar", progress=lambda *step: told.append(step))
    assert told == sorted(told)
    assert told[-1] == (report.written_bytes, report.written_bytes)


# --- several, and killed ones -----------------------------------------------------------------------------------------

EXPORT = """
import sys
from ocistore import Store
with Store.open(sys.argv[1], read_only=True) as store:
    print("ready")
    input()
    for _ in range(10):
        store.export(sys.argv[2], [sys.argv[3]])
"""


@pytest.mark.needs_files
def test_of_two_exports_to_one_archive_one_is_there_whole(filled, tmp_path):
    out = tmp_path / "out.tar"
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(python(EXPORT, filled.root, out, f"tools/{number}")) for number in range(2)]
        for child in children:
            child.says()
        for child in children:
            child.tell()
        for child in children:
            child.finish()
    assert members(out) in [members(exported(filled, [f"tools/{number}"])) for number in range(2)]
    assert {path.name for path in tmp_path.iterdir()} == {"out.tar", "store"}


HANG = """
import sys, time
from ocistore import Store
def hang(done, total):
    print("writing")
    time.sleep(600)
with Store.open(sys.argv[1], read_only=True) as store:
    store.export(sys.argv[2], progress=hang)
"""


@pytest.mark.needs_files
def test_what_a_killed_export_left_is_cleared_by_the_next_and_what_a_living_one_writes_is_not(filled, tmp_path):
    out = tmp_path / "out.tar"

    def unfinished():
        return [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]

    with python(HANG, filled.root, out) as killed, python(HANG, filled.root, tmp_path / "other.tar") as living:
        assert killed.says() == living.says() == "writing"
        assert len(unfinished()) == 2
        killed.kill()
        filled.export(out)
        assert len(unfinished()) == 1
    filled.export(out)
    assert unfinished() == []


MEMORY = """
import resource, sys
from ocistore import Store
with Store.open(sys.argv[1], read_only=True) as store, open("/dev/null", "wb") as null:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for compression in ("none", "gzip", "zstd"):
        store.export(null, compression=compression)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.needs_files
@pytest.mark.parametrize("size", [64 << 20, pytest.param(200 << 20, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_blob(store, size):
    repository = store.repository("app")
    layer = repository.put_blob(bytes(1 << 20) for _ in range(size >> 20))
    config = repository.put_blob(b"{}")
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": {"mediaType": mediatypes.OCI_EMPTY, "digest": config.digest, "size": 2},
        "layers": [{"mediaType": mediatypes.OCI_LAYER, "digest": layer.digest, "size": size}],
    }
    repository.put_manifest(document(body), tags=["v1"])
    assert int(run_python(MEMORY, store.root)) < 32 * 1024  # KiB
