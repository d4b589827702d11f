"""export and copy from the command line: what is said where, archives on standard output, and readers going away."""

import io
import json
import os
import sqlite3
import tarfile
import threading

import pytest
import separate
from click.testing import CliRunner
from images import artifact, image, index, push
from state import state

from ocistore import Store
from ocistore.cli.commands import ocistore


@pytest.fixture
def filled(store):
    push(store.repository("app"), image("one"), "1.0", "1.1")
    push(store.repository("app"), index([image("arm"), image("amd", architecture="amd64")]), "multi")
    push(store.repository("app"), artifact("sbom", subject=image("one")))
    return store


def names_in(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entries = json.loads(tar.extractfile("index.json").read())["manifests"]
    return [entry["annotations"]["io.containerd.image.name"] for entry in entries]


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_an_archive_on_standard_output_has_standard_output_to_itself(filled, name):
    done = separate.run("--store", filled.root, "export", "app:1.*=mirror", name)
    assert done.returncode == 0
    (about,) = [name for name in names_in(done.stdout) if "@" in name]
    assert sorted(names_in(done.stdout)) == ["mirror:1.0", "mirror:1.1", about]
    assert done.stderr.startswith(f"mirror:1.0\nmirror:1.1\n{about}\nmanifests: 2, blobs: 4, ".encode())
    done = separate.run("--store", filled.root, "export", "app:1.0", name, "--no-referrers", "--json")
    assert json.loads(done.stderr)["destination"] is None
    assert names_in(done.stdout) == ["app:1.0"]


def test_a_reader_that_has_seen_enough_ends_it_quietly(filled):
    readable, writable = os.pipe()
    os.close(readable)
    with os.fdopen(writable, "wb") as pipe:
        done = separate.run("--store", filled.root, "export", "-", stdout=pipe)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_named_pipe_whose_reader_went_away_is_an_error(run, filled, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    large = filled.repository("zoo").put_blob(bytes(3 << 20))
    body = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": large.digest, "size": large.size},
        "layers": [],
    }
    filled.repository("zoo").put_manifest(json.dumps(body).encode(), tags=["v1"])

    def read_a_little():
        with open(tmp_path / "pipe", "rb", buffering=0) as pipe:
            pipe.read(1)

    reading = threading.Thread(target=read_a_little)
    reading.start()
    result = run.try_("export", "zoo", tmp_path / "pipe")
    reading.join()
    assert result.exit_code == 37
    assert result.stderr == f"Error: {tmp_path}/pipe: Broken pipe\n"


def test_a_terminal_gets_no_archive(filled):
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "wb") as terminal:
        done = separate.run("--store", filled.root, "export", "-", stdout=terminal)
    assert done.returncode == 2
    assert b"nothing for a terminal" in done.stderr


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(run, filled, tmp_path):
    result = run.try_("export", "app:1.0", tmp_path / "out.tar", "--dry-run")
    assert result.exit_code == 0
    assert "to be written: " in result.stderr
    assert json.loads(run("export", tmp_path / "out", "--dry-run", "--json"))["dryRun"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_stayed_behind_and_what_was_narrowed_is_said(run, filled, tmp_path):
    push(filled.repository("app"), image("s390x", architecture="s390x"), "big-iron")
    result = run.try_("export", "app", tmp_path / "out", "--platform", "linux/arm64")
    multi = index([image("arm"), image("amd", architecture="amd64")]).digest
    assert "left out, because it is not of these platforms: app:big-iron\n" in result.stderr
    assert f"only some platforms of {multi}: it is sha256:" in result.stderr
    result = run.try_("export", "app:1.0", tmp_path / "out", "--platform", "linux/s390x")
    assert result.exit_code == 45
    assert result.stderr == "Error: app:1.0 is not for linux/s390x: there are linux/arm64\n"


def test_a_base_leaves_blobs_out(run, filled, tmp_path):
    run("export", "app:1.0", tmp_path / "base.tar", "--no-referrers")
    result = run.try_("export", "app:1.*", tmp_path / "out", "--no-referrers", "--base", tmp_path / "base.tar")
    assert "left out: 2 blobs, " in result.stderr
    assert [path.name for path in (tmp_path / "out" / "blobs" / "sha256").iterdir()] == [image("one").digest.encoded]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "dir", "-"],
        ["--format", "dir", "--compression", "gzip", "x"],
        ["--mode", "link", "x.tar"],
        ["--format", "docker-archive", "--referrers", "x.tar"],
        ["--base", "absent", "x.tar"],
        ["--in-place", "--dry-run"],
        ["--in-place", "--platform", "linux/arm64"],
        ["app:*=b"],
        ["app:1.0=b"],
    ],
)
def test_what_does_not_go_together_is_misuse(run, filled, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run.try_("export", *arguments)
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


# --- copy -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy():
    """``ocistore copy``, without a store of its own."""

    def copied(*arguments):
        return CliRunner(catch_exceptions=False).invoke(ocistore, ["copy", *map(str, arguments)], prog_name="ocistore")

    return copied


def test_copy_makes_the_destination_and_prints_names_and_a_summary(copy, filled, tmp_path):
    result = copy(filled.root, tmp_path / "new", "app:1.*=mirror/app")
    assert result.exit_code == 0
    sbom = artifact("sbom", subject=image("one")).digest
    assert result.stdout == f"mirror/app:1.0\nmirror/app:1.1\nmirror/app@{sbom}\n"
    assert "manifests: 2, blobs: 4, " in result.stderr
    again = json.loads(copy(filled.root, tmp_path / "new", "app:1.0=mirror/app", "--no-referrers", "--json").stdout)
    assert (again["names"], again["copiedBytes"], again["destination"]) == (["mirror/app:1.0"], 0, f"{tmp_path}/new")


def test_copy_says_which_tags_moved(copy, filled, tmp_path):
    with Store.open(tmp_path / "new") as new:
        push(new.repository("app"), image("old"), "1.0")
    assert "moved; it pointed at something else: app:1.0\n" in copy(filled.root, tmp_path / "new").stderr


def test_copy_refuses_what_makes_no_sense(copy, filled, tmp_path):
    before = state(filled.root)
    result = copy(filled.root, filled.root)
    assert (result.exit_code, "the same store" in result.stderr) == (2, True)
    assert copy(filled.root, filled.root / "blobs" / "new").exit_code == 2
    assert copy(tmp_path / "absent", tmp_path / "new").exit_code == 32
    assert copy(filled.root, tmp_path / "new", "app:absent").exit_code == 16
    assert copy(filled.root).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert state(filled.root) == before


def test_copy_from_an_older_schema_says_what_to_do_and_upgrades_nothing(copy, filled, tmp_path):
    filled.close()
    with sqlite3.connect(filled.root / "catalog.db") as connection:
        (current,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    result = copy(filled.root, tmp_path / "new")
    assert (result.exit_code, "ocistore db upgrade" in result.stderr) == (33, True)
    assert not (tmp_path / "new").exists()
    with sqlite3.connect(filled.root / "catalog.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        connection.execute("UPDATE alembic_version SET version_num = ?", [current])
    connection.close()


def test_copy_from_a_store_that_may_only_be_read(copy, small_disk, tmp_path, empty_store):
    with Store.open(small_disk.root / "store") as store:
        push(store.repository("app"), image("one"), "1.0")
    small_disk.remount_read_only()
    assert copy(small_disk.root / "store", tmp_path / "new").stdout == "app:1.0\n"
    with Store.open(tmp_path / "new") as new:
        assert new.repository("app").resolve("1.0").digest == image("one").digest


def test_a_dry_run_of_copy_makes_nothing(copy, filled, tmp_path):
    result = copy(filled.root, tmp_path / "new", "--dry-run")
    assert "to be copied: " in result.stderr
    assert not (tmp_path / "new").exists()
