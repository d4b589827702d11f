"""Scrub: damage is found, moved aside and healed; files that no row knows go."""

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import tarfile
import time
from datetime import timedelta

import pytest
from archived import COMPRESSIONS, config_of, docker_members, tarred
from images import APP, artifact, image, index, push
from invariants import check
from processes import python
from state import files, pool, rows, unchanged
from tracing import failing, require_strace

from ocistore import (
    ArchiveInvalidError,
    CollectionRefusedError,
    CorruptError,
    Digest,
    LayoutInvalidError,
    ReadOnlyStoreError,
    RepositoryNotFoundError,
    Store,
)
from ocistore.blobs.filepool import FilePool
from ocistore.catalog import holds

LAYER = Digest.of(APP.layers[0])
ALL = index([APP, image("other")])


@pytest.fixture
def filled(store):
    push(store.repository("library/app"), ALL, "v1", "latest")
    push(store.repository("library/app"), artifact(subject=APP))
    push(store.repository("mirror"), APP, "x")
    store.repository("mirror").put_blob(b"loose", algorithm="sha512")
    return store


def path_of(store, digest):
    return store.root / "blobs" / digest.algorithm / digest.encoded


def overwrite(path, content):
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(0o444)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    overwrite(path, bytes(content))


DAMAGES = {
    "gone": os.unlink,
    "truncated": lambda path: overwrite(path, path.read_bytes()[:-1]),
    "empty": lambda path: overwrite(path, b""),
    "longer": lambda path: overwrite(path, path.read_bytes() + b"x"),
    "zeroed": lambda path: overwrite(path, bytes(path.stat().st_size)),
    "one bit": flip,
    "a symlink": lambda path: (path.rename(path.with_name("f" * 64)), path.symlink_to("f" * 64)),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a fifo": lambda path: (path.unlink(), os.mkfifo(path)),
}
SAME_SIZE = {"zeroed", "one bit"}


@pytest.mark.parametrize("level", ["quick", "default", "deep"])
def test_a_store_without_damage_is_clean_at_every_level(filled, level):
    report = filled.scrub(level=level)
    assert (report.exit_code, report.complete, report.damages, report.rows) == (0, True, [], [])
    assert report.blobs == len(pool(filled.root))
    assert report.bytes == (0 if level == "quick" else sum(map(len, pool(filled.root).values())))
    assert check(filled, hashes=True) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_moved_aside_named_and_heals_when_it_is_pushed_again(filled, damage):
    DAMAGES[damage](path_of(filled, LAYER))
    report = filled.scrub()
    [found] = [each for each in report.damages if each.digest == LAYER]
    assert (report.exit_code, found.repaired) == (2, False)
    assert found.repositories == ("library/app", "mirror")
    assert found.tags == ("library/app:latest", "library/app:v1", "mirror:x")
    assert not path_of(filled, LAYER).exists()
    assert (found.quarantined is None) == (damage == "gone")
    assert found.quarantined in {None, *os.listdir(filled.root / "quarantine")}
    with pytest.raises(CorruptError):
        filled.repository("mirror").open_blob(LAYER)
    assert filled.scrub().exit_code == 2  # it is still not here
    filled.repository("mirror").put_blob(APP.layers[0])
    assert filled.scrub().exit_code == 0
    assert check(filled, hashes=True) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_quick_scrub_sees_everything_but_wrong_bytes_of_the_right_size(filled, damage):
    DAMAGES[damage](path_of(filled, LAYER))
    found = [each.digest for each in filled.scrub(level="quick").damages]
    assert found == ([] if damage in SAME_SIZE else [LAYER])
    filled.scrub()
    filled.repository("mirror").put_blob(APP.layers[0])


def test_without_repair_it_only_reports(filled):
    flip(path_of(filled, LAYER))
    with Store.open(filled.root, read_only=True) as reader, unchanged(filled.root):
        report = reader.scrub(repair=False, level="deep")
        assert (report.exit_code, report.damaged, report.repaired) == (2, 1, 0)
        with pytest.raises(ReadOnlyStoreError):
            reader.scrub()
    filled.scrub()
    filled.repository("mirror").put_blob(APP.layers[0])


# --- healing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sources(filled, tmp_path, empty_store):
    """Good bytes in a layout, archives of every compression and another store; and bad ones."""
    for name in ("layout", "plain.tar", "packed.tar.gz", "packed.tar.zst"):
        filled.export(tmp_path / name, ["library/app"])
    shutil.copytree(empty_store, tmp_path / "other")
    with Store.open(tmp_path / "other") as other:
        push(other.repository("a"), APP, "v1")
    shutil.copytree(tmp_path / "layout", tmp_path / "lying")
    overwrite(tmp_path / "lying" / "blobs" / "sha256" / LAYER.encoded, b"x" * len(APP.layers[0]))
    return tmp_path


@pytest.mark.parametrize("source", ["layout", "plain.tar", "packed.tar.gz", "packed.tar.zst", "other"])
def test_damage_is_healed_from_whatever_has_the_bytes(filled, sources, source):
    flip(path_of(filled, LAYER))
    report = filled.scrub(heal_from=[sources / "lying", sources / source])
    assert (report.exit_code, report.damaged, report.repaired) == (1, 1, 1)
    with filled.repository("mirror").open_blob(LAYER) as blob:
        assert blob.read() == APP.layers[0]
    assert filled.scrub().exit_code == 0
    assert os.listdir(filled.root / "uploads") == []
    assert check(filled, hashes=True) == []


def test_an_archive_is_read_when_something_is_needed_and_then_said_to_be_unusable(filled, sources):
    archive = sources / "packed.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-100])
    report = filled.scrub(heal_from=[archive])
    assert (report.exit_code, report.unusable) == (0, [])
    flip(path_of(filled, LAYER))
    flip(path_of(filled, Digest.of(APP.config)))
    report = filled.scrub(heal_from=[archive, sources / "plain.tar"])
    assert (report.damaged, report.repaired) == (2, 2)
    assert [problem.partition(": ")[0] for problem in report.unusable] == [str(archive)]


@pytest.mark.parametrize("compression", ["plain", "zstd"])
def test_an_archive_of_dockers_heals_configs_and_layers(store, tmp_path, compression):
    layers = [b"one" * 1000, b"two" * 100_000]
    content = COMPRESSIONS[compression](tarred(docker_members({"app:v1": layers})))
    (tmp_path / "docker").write_bytes(content)
    store.import_(tmp_path / "docker")
    for damaged in (config_of(layers), *layers):
        flip(path_of(store, Digest.of(damaged)))
    report = store.scrub(heal_from=[tmp_path / "docker"])
    assert (report.damaged, report.repaired) == (3, 3)
    assert check(store, hashes=True) == []


def test_bytes_that_are_wrong_in_the_source_too_heal_nothing(filled, sources):
    flip(path_of(filled, LAYER))
    assert filled.scrub(heal_from=[sources / "lying"]).exit_code == 2
    assert not path_of(filled, LAYER).exists()
    filled.repository("mirror").put_blob(APP.layers[0])


@pytest.mark.parametrize("compression", ["", "gz"])
def test_a_damaged_archive_is_refused_or_heals_nothing(store, repository, tmp_path, compression):
    push(repository, APP, "v1")
    (tmp_path / "large").write_bytes(os.urandom(50_000))
    store.export(tmp_path / "layout", ["library/app"])
    with tarfile.open(tmp_path / "archive", f"w:{compression}") as archive:
        archive.add(tmp_path / "large", arcname="large")
        archive.add(tmp_path / "layout", arcname=".")
    good = (tmp_path / "archive").read_bytes()
    flip(path_of(store, LAYER))
    for place in range(16, len(good) - 16, len(good) // 12):
        wrong = bytes(each ^ 255 for each in good[place:][:16])
        (tmp_path / "archive").write_bytes(good[:place] + wrong + good[place + 16 :])
        with contextlib.suppress(LayoutInvalidError, ArchiveInvalidError):
            store.scrub(heal_from=[tmp_path / "archive"])
    store.scrub()
    push(repository, APP)
    assert check(store, hashes=True) == []


def test_what_was_healed_while_it_was_looked_at_is_left_where_it_is(store, repository):
    push(repository, APP, "v1")
    flip(path_of(store, APP.digest))
    before = sum(map(len, APP.blobs))

    def as_its_bytes_were_read(done, total):
        if done > before:
            repository.put_manifest(APP.manifest)

    report = store.scrub(progress=as_its_bytes_were_read)
    assert (report.damaged, report.blobs) == (0, 3)
    assert os.listdir(store.root / "quarantine") == []
    assert check(store, hashes=True) == []


@pytest.mark.parametrize("source", ["nothing", "text", "empty", "pipe", "packed.7z"])
def test_what_cannot_heal_is_refused_before_anything_is_done(filled, tmp_path, source):
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "packed.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(1024))
    flip(path_of(filled, LAYER))
    with unchanged(filled.root), pytest.raises((LayoutInvalidError, ArchiveInvalidError)):
        filled.scrub(heal_from=[tmp_path / source])
    filled.scrub()
    filled.repository("mirror").put_blob(APP.layers[0])


# --- going on, parts, bounds ------------------------------------------------------------------------------------------


def verified(store):
    return {row[1]: row[5] for row in rows(store.root)["blobs"]}


def test_a_scrub_that_was_cut_short_is_gone_on_with(filled):
    report = filled.scrub(maximum_duration=timedelta(0))
    assert (report.complete, report.blobs) == (False, 0)
    first = next(iter(rows(filled.root)["blobs"]))[1]
    set_verified(filled, first, 5)
    seen = []
    filled.scrub(progress=lambda done, total: seen.append(done))
    assert all(at is not None and at > 5 for at in verified(filled).values())


def set_verified(store, digest, at):
    with contextlib.closing(sqlite3.connect(store.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE blobs SET verified_at = ? WHERE digest = ?", (at, digest))


def test_the_oldest_verified_is_looked_at_first(filled, monkeypatch):
    filled.scrub()
    order = sorted(pool(filled.root))
    for number, digest in enumerate(order):
        set_verified(filled, digest, 100 - number)
    looked = []
    problem = "ocistore.upkeep.scrub._Scrub._problem"
    monkeypatch.setattr(problem, lambda _self, digest, _size: looked.append(str(digest)))
    filled.scrub()
    assert looked == order[::-1]


def test_a_blob_is_looked_at_once_however_many_use_it(filled):
    report = filled.scrub()
    assert report.blobs == len(pool(filled.root)) < len(rows(filled.root)["repository_blobs"]) + 6


@pytest.mark.parametrize("parts", [1, 2, 3, 50])
def test_the_parts_together_are_everything_and_each_once(filled, parts):
    counts = [filled.scrub(subset=(number, parts)).blobs for number in range(1, parts + 1)]
    assert sum(counts) == len(pool(filled.root))
    assert None not in verified(filled).values()


def test_one_repository_is_what_it_serves(filled):
    push(filled.repository("apart"), image("apart"), "v1")
    assert filled.scrub(repository="apart").blobs == 3
    with pytest.raises(RepositoryNotFoundError):
        filled.scrub(repository="nobody")


@pytest.mark.parametrize(
    "wrong", [{"subset": (0, 1)}, {"subset": (3, 2)}, {"rate": 0}, {"level": "deeper"}, {"adopt": "../up"}]
)
def test_a_wrong_bound_is_refused(filled, wrong):
    with pytest.raises(Exception, match=r"subset|rate|level|valid repository"):
        filled.scrub(**wrong)


def test_a_rate_is_kept(filled):
    filled.repository("mirror").put_blob(bytes(20_000))
    started = time.monotonic()
    filled.scrub(rate=100_000)
    assert time.monotonic() - started >= 0.19


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE edges SET size = size + 1 WHERE role = 'layer'",
        "UPDATE edges SET media_type = 'a/b' WHERE role = 'config'",
        "DELETE FROM edges WHERE role = 'manifest' AND position = 1",
        "UPDATE manifests SET subject_id = NULL",
        "UPDATE manifests SET subject_id = 1 WHERE subject_id IS NULL",
        "DELETE FROM repository_edges WHERE role = 'layer'",
        "INSERT INTO repository_edges VALUES (1, 1, 1, 'layer')",
    ],
)
def test_a_deep_scrub_sees_rows_that_are_not_what_the_bytes_say_and_holds_collections_off(filled, statement, tmp_path):
    copy = shutil.copytree(filled.root, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(copy / "catalog.db", isolation_level=None)) as connection:
        connection.execute(statement)
    with Store.open(copy) as store:
        assert store.scrub().exit_code == 0
        report = store.scrub(level="deep")
        assert report.rows
        assert report.exit_code == 2
        store.scrub(level="deep")
        with pytest.raises(CollectionRefusedError, match="contradict") as caught:
            store.gc()
        assert len(caught.value.reasons) == 1


@pytest.mark.parametrize(
    "change",
    [
        "media_type = 'application/vnd.docker.distribution.manifest.v2+json'",
        "artifact_type = 'a/b'",
        "artifact_type = NULL",
        "config_media_type = 'a/b'",
        "config_media_type = NULL",
        'annotations = \'{"a":"b"}\'',
        "annotations = 'no JSON'",
        "platform = NULL",
        'platform = \'{"architecture":"amd64","os":"plan9"}\'',
    ],
)
def test_a_deep_scrub_puts_right_what_the_catalog_says_of_manifests(filled, change):
    before = rows(filled.root)["manifests"]
    with contextlib.closing(sqlite3.connect(filled.root / "catalog.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE manifests SET {change}")
    assert rows(filled.root)["manifests"] != before
    with unchanged(filled.root):
        report = filled.scrub(level="deep", repair=False)
        assert (bool(report.rows), report.corrected, report.exit_code) == (True, [], 2)
    report = filled.scrub(level="deep")
    assert (report.rows, bool(report.corrected), report.exit_code) == ([], True, 1)
    assert rows(filled.root)["manifests"] == before
    assert filled.scrub(level="deep").exit_code == 0
    filled.gc(grace=timedelta(0))


def test_a_platform_is_left_as_it_is_noted_where_the_config_is_gone_or_damaged(filled):
    before = rows(filled.root)["manifests"]
    flip(path_of(filled, Digest.of(APP.config)))
    path_of(filled, Digest.of(image("other").config)).unlink()
    report = filled.scrub(level="deep")
    assert (report.rows, report.corrected) == ([], [])
    assert rows(filled.root)["manifests"] == before


# --- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.fixture
def unreadable(monkeypatch):
    """Reads of files that end with one of these names fail, as on a disk with a bad sector."""
    names = set()
    readv = os.readv

    def reading(descriptor, buffers):
        if os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2] in names:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return readv(descriptor, buffers)

    monkeypatch.setattr(os, "readv", reading)
    return names


def test_a_read_that_fails_once_is_done_again_and_moves_nothing(filled):
    require_strace()
    assert failing(clean, filled.root, at=("readv", 3), error="EIO") == 0
    assert failing(clean, filled.root, at=("readv", 5), error="ENOMEM") == 0
    assert os.listdir(filled.root / "quarantine") == []


@pytest.mark.parametrize("nth", [1, 2])
def test_a_file_that_cannot_be_looked_at_once_is_looked_at_again(filled, monkeypatch, nth):
    overwrite(filled._core.paths.blob(LAYER), b"damaged")
    looked, seen = os.stat, []

    def refused(path, *arguments, **keywords):
        seen.extend([path] * (path == LAYER.encoded))
        if path == LAYER.encoded and len(seen) == nth:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return looked(path, *arguments, **keywords)

    monkeypatch.setattr(os, "stat", refused)
    report = filled.scrub()
    assert (report.damaged, report.unreadable) == (1, 0)
    assert [name.split(".")[0] for name in os.listdir(filled.root / "quarantine")] == [f"sha256-{LAYER.encoded}"]


def clean(root):
    with Store.open(root) as store:
        report = store.scrub()
    assert (report.exit_code, report.unreadable, report.damages) == (0, 0, [])


@pytest.mark.parametrize("level", ["default", "deep"])
def test_what_cannot_be_read_is_reported_apart_and_left_where_it_is(filled, unreadable, level):
    unreadable |= {LAYER.encoded, APP.digest.encoded}
    with unchanged_files(filled.root):
        report = filled.scrub(level=level)
    assert (report.damaged, report.unreadable, report.exit_code) == (0, 2, 3)
    [manifest] = [each for each in report.unread if each.digest == APP.digest]
    assert manifest.problem == "it cannot be read now: Input/output error"
    assert "mirror:x" in manifest.tags
    verified = {digest: verified for _, digest, *_, verified in rows(filled.root)["blobs"]}
    assert verified[str(LAYER)] is None
    unreadable.clear()
    assert filled.scrub(level=level).exit_code == 0


@contextlib.contextmanager
def unchanged_files(root):
    before = files(root)
    yield
    assert files(root) == before


def test_what_cannot_be_read_heals_from_a_source(filled, unreadable, tmp_path):
    filled.export(tmp_path / "layout")
    unreadable.add(LAYER.encoded)
    report = filled.scrub(heal_from=[tmp_path / "layout"])
    assert (report.damaged, report.repaired, report.unreadable, report.exit_code) == (1, 1, 0, 1)


def test_an_unreadable_file_without_a_row_is_left_where_it_is(filled, later, unreadable):
    path = plant(filled, b"no row")
    unreadable.add(path.name)
    report = filled.scrub()
    assert (report.unreadable, report.damaged, report.trashed, path.exists()) == (1, 0, 0, True)
    unreadable.clear()
    assert filled.scrub().trashed == 1


def test_wrong_bytes_of_one_read_are_read_again_before_they_are_believed(filled, monkeypatch):
    found = FilePool.hash
    lied = []

    def lying(pool, digest, **options):
        digest, size = found(pool, digest, **options)
        if digest == LAYER and not lied:
            lied.append(digest)
            return Digest.of(b"something else"), size
        return digest, size

    monkeypatch.setattr(FilePool, "hash", lying)
    assert filled.scrub().exit_code == 0
    assert lied == [LAYER]


@pytest.mark.parametrize("damage", ["gone", "truncated", "one bit", "a directory"])
@pytest.mark.parametrize("level", ["quick", "default"])
def test_a_good_copy_in_quarantine_comes_back_by_itself(filled, damage, level):
    path = path_of(filled, LAYER)
    good = path.read_bytes()
    for name, content in (("0" * 16, bytes(len(good))), ("1" * 16, b"short"), ("2" * 16, good)):
        (filled.root / "quarantine" / f"sha256-{LAYER.encoded}.{name}").write_bytes(content)
    (filled.root / "quarantine" / f"sha256-{LAYER.encoded}.link").symlink_to("/etc/passwd")
    DAMAGES[damage](path)
    report = filled.scrub(level=level)
    if level == "quick" and damage == "one bit":
        assert report.damaged == 0
        return
    assert (report.damaged, report.repaired, report.exit_code) == (1, 1, 1)
    assert path.read_bytes() == good
    assert not (filled.root / "quarantine" / f"sha256-{LAYER.encoded}.{'2' * 16}").exists()
    assert (filled.root / "quarantine" / f"sha256-{LAYER.encoded}.{'0' * 16}").exists()
    assert check(filled, hashes=True) == []


# --- files without rows -----------------------------------------------------------------------------------------------


@pytest.fixture
def later(monkeypatch):
    """For a scrub, everything is two hours old."""
    monkeypatch.setattr("ocistore.upkeep.orphans._ORPHAN_AGE", timedelta(seconds=-60))


def plant(store, content, name=None):
    path = store.root / "blobs" / "sha256" / (name or Digest.of(content).encoded)
    path.write_bytes(content)
    path.chmod(0o444)
    return path


def test_a_good_file_without_a_row_is_removed_once_it_is_old(filled, later):
    path = plant(filled, b"nobody knows me")
    report = filled.scrub()
    assert (report.trashed, report.exit_code) == (1, 0)
    assert not path.exists()
    assert os.listdir(filled.root / "trash") == []
    assert check(filled, hashes=True) == []


def test_files_without_a_row_are_removed_without_a_look_at_what_else_is_in_the_trash(filled, later, monkeypatch):
    for number in range(3):
        plant(filled, b"nobody knows %d" % number)
    (filled.root / "trash" / "of a collection").write_bytes(b"that another process works at")
    monkeypatch.setattr(filled._core.pool.sweeper, "trashed", None)
    assert filled.scrub().trashed == 3
    assert os.listdir(filled.root / "trash") == ["of a collection"]


def test_what_an_older_catalog_that_was_put_back_does_not_know_is_left_alone(filled, later):
    filled.close()
    older = (filled.root / "catalog.db").read_bytes()
    with Store.open(filled.root) as store:
        push(store.repository("new"), image("new"), "v1")
    newer = (filled.root / "catalog.db").read_bytes()
    (filled.root / "catalog.db").write_bytes(older)
    with Store.open(filled.root) as restored:
        assert restored.scrub().trashed == 0
    (filled.root / "catalog.db").write_bytes(newer)
    assert check(filled.root, hashes=True) == []
    (filled.root / "catalog.db").write_bytes(older)
    with Store.open(filled.root) as restored:
        with pytest.raises(CollectionRefusedError):
            restored.gc()
        with restored._core.catalog.write() as connection:
            holds.confirm(connection)
        assert restored.scrub().trashed == 3


def test_a_young_file_without_a_row_is_left_alone(filled):
    path = plant(filled, b"somebody is pushing me")
    assert filled.scrub().trashed == 0
    assert path.exists()


@pytest.mark.parametrize("bounds", [{"subset": (1, 3)}, {"maximum_duration": timedelta(seconds=1)}])
def test_a_scrub_that_never_comes_to_the_end_removes_files_without_rows(filled, later, monkeypatch, bounds):
    path = plant(filled, b"nobody knows me")
    monkeypatch.setattr("ocistore.upkeep.scrub._Scrub._look_at", lambda *_: time.sleep(1))
    assert filled.scrub(**bounds).trashed == 1
    assert not path.exists()


def test_however_many_files_there_are_time_is_left_for_blobs(filled, later, monkeypatch):
    listed = filled._core.pool.sweeper.files
    monkeypatch.setattr(filled._core.pool.sweeper, "files", lambda: time.sleep(0.6) or listed())
    report = filled.scrub(maximum_duration=timedelta(seconds=1))
    assert report.blobs > 0
    assert not report.complete


def test_without_repair_files_without_rows_are_named_and_left(filled, later):
    plant(filled, b"nobody knows me")
    plant(filled, b"not mine", "0" * 64)
    with unchanged(filled.root):
        report = filled.scrub(repair=False)
    assert (report.orphans, report.trashed, report.exit_code) == (1, 0, 2)
    assert [(each.digest, each.repaired) for each in report.damages] == [("sha256:" + "0" * 64, False)]
    filled.scrub()


def test_a_file_that_was_collected_since_it_was_listed_is_no_damage(filled, later, monkeypatch):
    path = plant(filled, b"nobody knows me")
    with_rows = "ocistore.catalog.blobs.with_rows"
    monkeypatch.setattr(with_rows, lambda *_: path.unlink() or set(map(Digest, pool(filled.root))))
    assert filled.scrub(repair=False).exit_code == 0


@pytest.mark.parametrize("name", ["odd", "A" * 64, "0" * 64, "x" * 255, "é" * 127, "-", "\udcff", "new\nline"])
def test_what_is_no_blob_is_moved_to_quarantine(filled, later, name):
    path = plant(filled, b"not mine", name)
    report = filled.scrub()
    assert report.exit_code == 1
    assert not path.exists()
    assert os.listdir(filled.root / "quarantine") == [report.damages[0].quarantined]
    json.dumps([damage.digest for damage in report.damages])
    assert check(filled, hashes=True) == []


def test_good_files_without_rows_can_be_adopted(filled, later):
    for content in (b"layer", *APP.blobs, image("new").manifest, *image("new").blobs, index([image("new")]).manifest):
        plant(filled, content) if not path_of(filled, Digest.of(content)).exists() else None
    orphan_index = index([image("never")])
    plant(filled, orphan_index.manifest)
    report = filled.scrub(adopt="found")
    assert (report.adopted, report.trashed, report.exit_code) == (6, 0, 0)
    found = filled.repository("found")
    assert {each.digest for each in found.manifests()} == {image("new").digest, index([image("new")]).digest}
    assert found.stat_blob(orphan_index.digest).size == len(orphan_index.manifest)
    assert check(filled, hashes=True) == []


def test_an_index_that_lacks_some_of_its_children_is_adopted_as_one(filled, later):
    push(filled.repository("found"), APP)
    inner = index([APP, image("never")])
    outer = index([inner, image("nowhere")])
    bare = image("bare")
    for content in (outer.manifest, inner.manifest, bare.manifest):
        plant(filled, content)
    assert filled.scrub(adopt="found").adopted == 3
    found = filled.repository("found")
    assert {each.digest for each in found.manifests()} == {APP.digest, inner.digest, outer.digest}
    assert found.stat_blob(bare.digest).size == len(bare.manifest)
    assert filled.scrub(level="deep").exit_code == 0
    push(found, image("never"))
    assert check(filled, hashes=True) == []


# --- beside others ----------------------------------------------------------------------------------------------------

BUSY = """
import sys, threading
sys.path[:0] = sys.argv[2:]
from datetime import timedelta
from images import image, push
from ocistore import Store
store = Store.open(sys.argv[1])
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set())).start()
print("ready", flush=True)
step = 0
while not stop.is_set():
    name = step % 5
    push(store.repository("busy"), image(name), f"v{name}")
    if step % 2:
        store.repository("busy").delete_manifest(image(name).digest)
    store.gc(grace=timedelta(0), keep_untagged=timedelta(0), force=True) if step % 3 == 0 else None
    step += 1
store.close()
"""


@pytest.mark.parametrize("claim", [{"size": 4}, {"mediaType": "application/vnd.oci.image.index.v1+json"}])
def test_a_manifest_that_lies_about_what_is_here_is_adopted_as_a_blob(filled, later, claim):
    push(filled.repository("found"), APP)
    lie = index([APP]).manifest
    document = json.loads(lie)
    document["manifests"][0] |= claim
    lie = json.dumps(document).encode()
    plant(filled, lie)
    assert filled.scrub(adopt="found").adopted == 1
    assert filled.repository("found").stat_blob(Digest.of(lie)).size == len(lie)
    assert check(filled, hashes=True) == []


@pytest.mark.parametrize("seconds", [1.0, pytest.param(20.0, marks=pytest.mark.slow)])
def test_beside_pushes_and_collections_a_scrub_finds_no_damage(filled, seconds, later):
    import images

    with python(BUSY, filled.root, os.path.dirname(images.__file__)) as child:
        assert child.says() == "ready"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            report = filled.scrub(level="deep")
            assert (report.damages, report.rows) == ([], [])
        child.tell()
        child.finish()
    assert check(filled, hashes=True) == []


def test_killed_in_the_middle_it_is_gone_on_with(filled):
    for number in range(20):
        filled.repository("more").put_blob(bytes([number]) * 1000)
    code = """
import sys
from ocistore import Store
Store.open(sys.argv[1]).scrub(rate=20_000, progress=lambda done, total: print(done, flush=True))
"""
    with python(code, filled.root) as child:
        while int(child.says()) < 5000:
            pass
        child.kill()
    assert filled.scrub().exit_code == 0
    assert check(filled, hashes=True) == []
