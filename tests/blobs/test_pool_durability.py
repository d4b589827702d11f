"""In which order the pool talks to the disk, as the kernel sees it, and what a failed sync means."""

import contextlib
import errno
import os
import re
import shutil
import sys
import textwrap

import pytest
import tracing

from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.files.durability import syncfs_reports_errors
from ocistore.oci.digest import Digest

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None and not os.environ.get("OCISTORE_REQUIRE_ALL"), reason="needs strace"
)

CALLS = "fsync,syncfs,linkat,pwrite64,unlinkat,mkdir,mkdirat"

PUSH = """
    import pathlib, sys
    from ocistore.blobs.filepool import FilePool
    from ocistore.blobs.paths import StorePaths
    from ocistore.errors import OCIStoreError
    pool = FilePool(StorePaths(pathlib.Path(sys.argv[1])))
    staged = [pool.stage(b"%d" % number) for number in range(int(sys.argv[2]))]
    try:
        pool.publish(staged)
        print([pool.holds(blob) for blob in staged].count(True))
    except OCIStoreError as error:
        print(type(error).__name__, error.errno)
        try:
            pool.publish(staged)
            print("published after a failed sync")
        except OCIStoreError as again:
            print(type(again).__name__)
    pool.discard(staged)
"""


@pytest.fixture
def paths(tmp_path):
    paths = StorePaths(tmp_path / "store")
    pool = FilePool(paths)
    pool.create()
    pool.close()
    return paths


def traced(paths, script, *arguments, options=()):
    """What the script printed in a process of its own, and its system calls, one a line."""
    log, printed = paths.root.parent / "trace", paths.root.parent / "printed"
    words = ["script", *map(str, (paths.root, *arguments))]
    options = ["-y", "-o", log, *options]
    assert tracing.traced(_run, textwrap.dedent(script), words, printed, options=options, calls=CALLS) == 0
    calls = [line for line in log.read_text().split("\n") if str(paths.root) in line]
    return printed.read_text().split("\n")[:-1], calls


def _run(script, words, printed):
    sys.argv = words
    with open(printed, "w") as out, contextlib.redirect_stdout(out):
        exec(script, {"__name__": "__main__"})


def positions(calls, pattern):
    return [number for number, line in enumerate(calls) if re.search(pattern, line)]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_each_file_is_durable_before_it_has_a_name_and_the_name_before_publish_returns(paths, count):
    printed, calls = traced(paths, PUSH, count)
    assert printed == [str(count)]
    data = positions(calls, r"fsync\(.*/uploads/[0-9a-f]{32}>\) *= 0")
    links = positions(calls, r'linkat\(.*/blobs/sha256>, "[0-9a-f]{64}", 0\) *= 0')
    names = positions(calls, r"fsync\(.*/blobs/sha256>\) *= 0")
    discarded = positions(calls, r"unlinkat\(.*/uploads>")
    assert (len(data), len(links), len(names), len(discarded)) == (count, count, 1, count)
    assert max(data) < min(links) <= max(links) < names[0] < min(discarded)


@pytest.mark.skipif(not syncfs_reports_errors(), reason="an old kernel, on which every file is synced by itself")
def test_many_files_are_made_durable_at_once_before_any_has_a_name(paths):
    printed, calls = traced(paths, PUSH, 100)
    assert printed == ["100"]
    synced = positions(calls, r"syncfs\(.*\) *= 0")
    links = positions(calls, r"linkat\(.*/blobs/sha256>.*= 0")
    names = positions(calls, r"fsync\(.*/blobs/sha256>\) *= 0")
    writes = positions(calls, r"pwrite64\(")
    assert (len(synced), len(links), len(names)) == (1, 100, 1)
    assert max(writes) < synced[0] < min(links) <= max(links) < names[0]
    assert positions(calls, r"fsync\(.*/uploads/") == []


def test_the_directory_of_an_algorithm_is_durable_before_its_first_blob_is_published(paths):
    _, calls = traced(paths, PUSH, 1)
    made = positions(calls, r"mkdirat\(.*/blobs>, \"sha256\"")
    assert len(made) == 1
    assert made[0] < min(positions(calls, r"fsync\(.*/blobs>\) *= 0"))
    assert max(positions(calls, r"fsync\(.*/blobs>\) *= 0")) < min(positions(calls, r"linkat\(.*/blobs/sha256>"))


@pytest.mark.parametrize(("call", "count"), [("fsync", 1), ("fsync", 3), ("syncfs", 100)])
def test_a_failed_sync_publishes_nothing_and_is_not_tried_again(paths, call, count):
    printed, calls = traced(paths, PUSH, count, options=["-e", f"inject={call}:error=EIO:when=1"])
    assert printed == [f"StorageError {errno.EIO}", "StorageError"]
    assert positions(calls, r"linkat\(.*/blobs/sha256>.*= 0") == []
    assert os.listdir(paths.uploads) == []
    assert not paths.algorithm("sha256").exists() or os.listdir(paths.algorithm("sha256")) == []


def test_a_failed_sync_of_a_directory_is_an_error_and_can_be_tried_again(paths):
    pool = FilePool(paths)
    pool.publish([pool.stage(b"0")])  # so that the directories are durable, and the syncs are data, blobs, root, names
    pool.close()
    printed, _ = traced(paths, PUSH, 1, options=["-e", "inject=fsync:error=EIO:when=4"])
    assert printed == [f"StorageError {errno.EIO}", "published after a failed sync"]


def test_publishing_again_makes_no_second_link_and_syncs_no_data_again(paths):
    script = PUSH.replace("pool.publish(staged)", "pool.publish(staged); pool.publish(staged)", 1)
    _, calls = traced(paths, script, 3)
    assert len(positions(calls, r"\blinkat\(.*= 0")) == 3
    assert len(positions(calls, r"fsync\(.*/uploads/")) == 3


@pytest.mark.skipif(not syncfs_reports_errors(), reason="an old kernel, on which every file is synced by itself")
def test_a_failed_sync_of_the_filesystem_fails_everybody_who_staged_before_it(paths):
    printed, _ = traced(
        paths,
        """
        import pathlib, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        from ocistore.errors import StorageError
        pool = FilePool(StorePaths(pathlib.Path(sys.argv[1])))
        before = [[pool.stage(b"%d %d" % (batch, number)) for number in range(20)] for batch in range(2)]
        for batch in before:
            try:
                pool.publish(batch)
            except StorageError:
                print("refused")
        after = [pool.stage(b"later %d" % number) for number in range(20)]
        pool.publish(after)
        print([pool.holds(blob) for blob in after].count(True))
        """,
        options=["-e", "inject=syncfs:error=EIO:when=1"],
    )
    assert printed == ["refused", "refused", "20"]


def test_a_filesystem_without_hard_links_is_refused_each_time(tmp_path):
    paths = StorePaths(tmp_path / "other")
    script = """
        import pathlib, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        from ocistore.errors import UnsupportedFilesystemError
        for _ in range(2):
            try:
                FilePool(StorePaths(pathlib.Path(sys.argv[1]))).create()
            except UnsupportedFilesystemError as error:
                print(error.root)
    """
    printed, _ = traced(paths, script, options=["-e", "inject=linkat:error=EPERM"])
    assert printed == [str(paths.root)] * 2
    assert os.listdir(paths.uploads) == []


def test_a_full_disk_found_at_the_sync_is_said_to_be_full(paths):
    script = PUSH.replace("print(type(error).__name__, error.errno)", "print(type(error).__name__)")
    printed, _ = traced(paths, script, 1, options=["-e", "inject=fsync:error=ENOSPC:when=1"])
    assert printed[0] == "StoreFullError"
    assert os.listdir(paths.uploads) == []


def test_an_upload_whose_sync_failed_is_given_up(paths):
    printed, _ = traced(
        paths,
        """
        import pathlib, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        from ocistore.errors import StorageError
        pool = FilePool(StorePaths(pathlib.Path(sys.argv[1])))
        made = pool.uploads.create()
        name = made.name
        upload = pool.uploads.open(name, "sha256")
        upload.append(b"content")
        try:
            upload.sync()
        except StorageError:
            upload.close()
        try:
            pool.uploads.open(name, "sha256")
        except FileNotFoundError:
            print("given up")
        """,
        options=["-e", "inject=fsync:error=EIO:when=3"],
    )
    assert printed == ["given up"]


def test_an_upload_is_durable_before_it_has_the_name_of_a_blob(paths):
    _, calls = traced(
        paths,
        """
        import pathlib, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        from ocistore.oci.digest import Digest
        pool = FilePool(StorePaths(pathlib.Path(sys.argv[1])))
        made = pool.uploads.create()
        with pool.uploads.open(made.name, "sha256") as upload:
            upload.append(b"content")
            pool.publish([upload.stage(Digest.of(b"content"))])
        """,
    )
    written = positions(calls, r"pwrite64\(")
    data = positions(calls, r"fsync\(.*/uploads/[0-9a-f]{32}>\) *= 0")
    links = positions(calls, r"linkat\(.*/blobs/sha256>.*= 0")
    assert (len(written), len(links)) == (1, 1)
    assert any(written[0] < synced < links[0] for synced in data)


def test_a_new_upload_is_durable_with_its_name(paths):
    _, calls = traced(
        paths,
        """
        import pathlib, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        FilePool(StorePaths(pathlib.Path(sys.argv[1]))).uploads.create()
        """,
    )
    data = positions(calls, r"fsync\(.*/uploads/[0-9a-f]{32}>\) *= 0")
    names = positions(calls, r"fsync\(.*/uploads>\) *= 0")
    assert (len(data), len(names)) == (1, 1)
    assert data < names


def test_a_name_given_by_somebody_else_is_made_durable_when_it_is_relied_on(paths):
    _, calls = traced(
        paths,
        """
        import os, pathlib, sys
        from ocistore.blobs.filepool import FilePool
        from ocistore.blobs.paths import StorePaths
        paths = StorePaths(pathlib.Path(sys.argv[1]))
        pool = FilePool(paths)
        ours, theirs = pool.stage(b"same"), pool.stage(b"same")
        pool.publish([ours])
        pool.publish([theirs])
        pool.uploads.create()
        assert pool.holds(theirs)
        pool.uploads.create()
        assert pool.holds(ours)
        """,
    )
    published, second_published = positions(calls, r"fsync\(.*/blobs/sha256>")[:2]
    marks = positions(calls, r"fsync\(.*/uploads>")
    assert second_published < marks[0]
    relied_on = positions(calls, r"fsync\(.*/blobs/sha256>")[2:]
    assert len(relied_on) == 1
    assert marks[1] < relied_on[0]
    assert published < second_published


def test_the_digest_of_what_was_published_survives_in_the_name(paths):
    traced(paths, PUSH, 1)
    digest = Digest.of(b"0")
    assert paths.blob(digest).read_bytes() == b"0"
