"""Making a catalog again: from the bytes of the pool, and the names that are kept outside of the catalog."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sqlite3
from datetime import timedelta

import pytest
from earlier import to_revision
from images import APP, artifact, described, document, image, index, push
from invariants import check
from processes import python, run_python
from state import catalog, pool, rows, strays, unchanged
from tracing import failing, require_strace

from ocistore import (
    CollectionRefusedError,
    CorruptError,
    Digest,
    RebuildRefusedError,
    StorageError,
    Store,
    StoreFullError,
    StoreNotFoundError,
)
from ocistore.catalog import holds
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.oci import mediatypes
from ocistore.upkeep import refsfile
from ocistore.upkeep.rebuild import LOST_AND_FOUND, rebuild

NOW = timedelta(0)
ALL = index([APP, image("other")])


@pytest.fixture
def filled(store):
    """The directory of a closed store with a fresh snapshot, and what it holds."""
    push(store.repository("library/app"), ALL, "v1", "latest")
    push(store.repository("library/app"), artifact(subject=APP))
    push(store.repository("other"), image("other"), "1.0")
    store.repository("other").put_blob(b"loose")
    refsfile.refresh(store._core.catalog, store._core.paths, older_than=NOW)
    store.close()
    return store.root


def lose(root):
    for suffix in ("", "-wal", "-shm"):
        (root / f"catalog.db{suffix}").unlink(missing_ok=True)


def names(root):
    with Store.open(root, read_only=True) as store:
        return {
            f"{name}:{tag}": store.repository(name).resolve(tag).digest
            for name in store.repositories()
            for tag in store.repository(name).tags()
        }


def elsewhere(how, root):
    """Do it in another process."""
    code = {
        "rebuild": "from ocistore.upkeep.rebuild import rebuild; rebuild(sys.argv[1], force=True)",
        "open and close": "from ocistore import Store; Store.open(sys.argv[1]).close()",
        "push and die": """
import os
from images import image, push
from ocistore import Store
store = Store.open(sys.argv[1])
push(store.repository("late"), image("late"), "v1", "v2")
os._exit(0)
""",
    }[how]
    run_python(f"import sys\n{code}", root)


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "bits flipped": lambda path: path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes())),
    "a symlink": lambda path: (path.rename(path.with_name("elsewhere")), path.symlink_to("elsewhere")),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_catalog_is_said_to_be_lost_and_a_rebuild_brings_everything_back(filled, damage):
    before, content = names(filled), pool(filled)
    DAMAGES[damage](filled / "catalog.db")
    with pytest.raises(CorruptError, match="catalog"):
        Store.open(filled).repository("library/app").get_manifest("v1")
    report = rebuild(filled)
    (filled / "elsewhere").unlink(missing_ok=True)
    if (filled / "elsewhere").exists():
        (filled / "elsewhere").unlink()
    assert names(filled) == before
    assert pool(filled) == content
    assert check(filled, hashes=True) == []
    assert (report.names_from, report.tags, report.missing, report.quarantined) == ("catalog.snapshot", 3, [], [])
    assert (report.damaged is None) == (damage == "deleted")
    with Store.open(filled) as store:
        assert store.repository("library/app").get_manifest("v1").content == ALL.manifest
        [referrer] = store.repository("library/app").referrers(APP.digest)
        assert referrer.digest == artifact(subject=APP).digest
        assert store.repository(LOST_AND_FOUND).stat_blob(Digest.of(b"loose")).size == 5


def said_of_manifests(root):
    """All columns of what was parsed from content, by digest."""
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection:
        return [
            sorted(connection.execute(query), key=repr)
            for query in (
                """SELECT b.digest, m.media_type, m.artifact_type, m.config_media_type, s.digest, m.annotations,
                   m.platform FROM manifests m JOIN blobs b ON b.id = m.blob_id
                   LEFT JOIN blobs s ON s.id = m.subject_id""",
                """SELECT p.digest, e.position, e.role, c.digest, e.size, e.media_type
                   FROM edges e JOIN blobs p ON p.id = e.parent_id JOIN blobs c ON c.id = e.child_id""",
            )
        ]


def test_what_was_parsed_from_content_is_in_a_rebuilt_catalog_as_it_was(filled):
    with Store.open(filled) as store:
        repository = store.repository("all")
        push(repository, image("windows", os="windows", architecture="amd64", **{"os.version": "10.0.17763.1"}), "w")
        push(repository, image("arm", architecture="arm", variant="v6", annotations={"a": "\u00e9"}), "arm")
        push(repository, image("docker", docker=True), "docker")
        push(repository, artifact("typed", artifact_type=None, config_type="application/vnd.example+json"), "typed")
    before = said_of_manifests(filled)
    assert sum(platform is not None for *_, platform in before[0]) == 5
    lose(filled)
    rebuild(filled)
    assert said_of_manifests(filled) == before
    with Store.open(filled) as store:
        assert store.scrub(level="deep").exit_code == 0


def test_without_any_names_everything_is_found_under_its_digest(filled):
    lose(filled)
    (filled / "catalog.snapshot").unlink()
    report = rebuild(filled)
    assert (report.names_from, report.tags, report.repositories) == (None, 0, 1)
    with Store.open(filled) as store:
        lost = store.repository(LOST_AND_FOUND)
        assert lost.get_manifest(ALL.digest).content == ALL.manifest
        assert {each.digest for each in lost.manifests()} == {
            ALL.digest, APP.digest, image("other").digest, artifact(subject=APP).digest,
        }  # fmt: skip
        assert check(store, hashes=True) == []


def test_the_newer_of_an_export_in_place_and_the_snapshot_gives_the_names(filled):
    with Store.open(filled) as store:
        store.repository("other").tag("2.0", image("other").digest)
        store.export_in_place()
    before = names(filled)
    later = (filled / "catalog.snapshot").stat().st_mtime + 60
    os.utime(filled / "index.json", (later, later))
    lose(filled)
    assert rebuild(filled).names_from == "index.json"
    assert names(filled) == before
    lose(filled)
    os.utime(filled / "index.json", (1, 1))
    assert rebuild(filled).names_from == "catalog.snapshot"
    assert "other:2.0" not in names(filled)


def sealed(*lines):
    """A snapshot with the right hash, whatever it says."""
    content = b"".join(line + b"\n" for line in lines)
    return content + b'{"sha256": "%s"}\n' % hashlib.sha256(content).hexdigest().encode()


FIRST = b'{"version":1,"taken":1,"events":1}'
DAMAGED = {
    "cut": lambda content: content[:-80],
    "changed": lambda content: content.replace(b"latest", b"oldest"),
    "not ours": lambda content: b"[]\n",
    "deep": lambda content: b"[" * 4000,
    "deep behind": lambda content: sealed(FIRST, b"[" * 4000),
    "no time": lambda content: sealed(b'{"version":1}'),
    "no name": lambda content: sealed(FIRST, b"[1]"),
    "no entry": lambda content: sealed(FIRST, b'["app","v1","%s","","[]"]' % APP.digest.encode()),
    "no annotations": lambda content: sealed(
        FIRST, b'["app","v1","%s","","{\\"annotations\\":[]}"]' % APP.digest.encode()
    ),
    "two entries": lambda content: sealed(FIRST, b'["app","v1","%s","","{}","{}"]' % APP.digest.encode()),
    "no text": lambda content: sealed(FIRST, b'["app",{},"sha256:0"]'),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_snapshot_is_not_believed(filled, damage):
    path = filled / "catalog.snapshot"
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    lose(filled)
    assert rebuild(filled).names_from is None
    assert check(filled, hashes=True) == []


def test_damaged_blobs_are_moved_aside_and_heal_when_they_are_pushed_again(filled):
    layer = Digest.of(APP.layers[0])
    path = filled / "blobs" / "sha256" / layer.encoded
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))
    (filled / "blobs" / "sha256" / "not a digest").write_bytes(b"x")
    lose(filled)
    report = rebuild(filled)
    assert report.missing == [layer]
    assert len(report.quarantined) == 2
    assert sorted(os.listdir(filled / "quarantine")) == sorted(report.quarantined)
    with Store.open(filled) as store:
        repository = store.repository("library/app")
        with pytest.raises(CorruptError):
            repository.open_blob(layer)
        push(repository, APP)
        with repository.open_blob(layer) as blob:
            assert blob.read() == APP.layers[0]
        assert check(store, hashes=True) == []


def test_what_cannot_be_read_now_is_kept_and_reported(filled, monkeypatch):
    lose(filled)
    layer, readv, fail = Digest.of(APP.layers[0]), os.readv, [True]

    def reading(descriptor, buffers):
        if fail[0] and os.readlink(f"/proc/self/fd/{descriptor}").endswith(layer.encoded):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return readv(descriptor, buffers)

    monkeypatch.setattr(os, "readv", reading)
    report = rebuild(filled)
    assert (report.unreadable, report.missing, report.quarantined) == ([layer], [], [])
    fail[0] = False
    assert check(filled, hashes=True) == []
    with Store.open(filled) as store:
        assert store.scrub().exit_code == 0


@pytest.mark.parametrize("times", [1, 2])
def test_a_read_that_fails_for_a_while_costs_a_rebuild_nothing(filled, monkeypatch, times):
    before = names(filled)
    lose(filled)
    fail, read = {}, os.read

    def reading(descriptor, count):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.startswith(f"{filled}/blobs/") and fail.setdefault(name, times):
            fail[name] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", reading)
    report = rebuild(filled)
    assert fail
    assert not any(fail.values())
    assert (report.unreadable, report.missing, report.lost_tags) == ([], [], [])
    assert check(filled, hashes=True) == []
    assert names(filled) == before


@pytest.mark.parametrize("unread", ["manifest", "config"])
def test_what_a_rebuild_cannot_read_is_reported(filled, monkeypatch, unread):
    lose(filled)
    target = image("other")
    digest = target.digest if unread == "manifest" else Digest.of(target.config)
    read = os.read

    def reading(descriptor, count):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(digest.encoded):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", reading)
    report = rebuild(filled)
    assert report.unreadable == [digest]
    assert report.lost_tags == (["other:1.0"] if unread == "manifest" else [])


def test_a_tag_whose_manifest_is_gone_is_reported(filled):
    (filled / "blobs" / "sha256" / image("other").digest.encoded).unlink()
    lose(filled)
    assert rebuild(filled).lost_tags == ["other:1.0"]


def test_a_manifest_that_an_index_needs_is_reported_when_it_is_gone(filled):
    (filled / "blobs" / "sha256" / APP.digest.encoded).unlink()
    lose(filled)
    report = rebuild(filled)
    assert (report.missing, report.lost_tags) == ([APP.digest], [])
    with Store.open(filled) as store:
        push(store.repository("library/app"), APP)
        assert check(store, hashes=True) == []


def test_nothing_is_collected_until_a_person_confirms(filled):
    lose(filled)
    rebuild(filled)
    with Store.open(filled) as store, pytest.raises(CollectionRefusedError, match="rebuilt"):
        store.gc(grace=NOW, keep_untagged=NOW)


def test_a_good_catalog_is_not_rebuilt_unless_forced(filled):
    with unchanged(filled), pytest.raises(RebuildRefusedError, match="good"):
        rebuild(filled)
    before = names(filled)
    assert rebuild(filled, force=True).damaged is not None
    assert names(filled) == before


def test_a_catalog_that_a_process_has_open_is_not_rebuilt(filled):
    code = """
import sys
from ocistore import Store
store = Store.open(sys.argv[1])
list(store.repositories())
print("open")
sys.stdin.readline()
"""
    with python(code, filled) as child:
        assert child.says() == "open"
        with pytest.raises(RebuildRefusedError, match="has it open"):
            rebuild(filled, force=True)
    rebuild(filled, force=True)


def test_a_catalog_that_this_process_has_open_is_not_rebuilt_and_stays_locked(filled):
    with Store.open(filled) as store:
        push(store.repository("late"), image("late"), "v1")
        with pytest.raises(RebuildRefusedError, match="this process has it open"):
            rebuild(filled, force=True)
        # Were its locks dropped, another process that closes the store would take the WAL away from under this one.
        elsewhere("open and close", filled)
        push(store.repository("late"), image("later"), "v2")
        elsewhere("open and close", filled)
        assert "late:v2" in names(filled)
    assert rebuild(filled, force=True).tags == 5
    assert check(filled, hashes=True) == []


def test_a_catalog_that_is_opened_by_another_path_is_seen_to_be_open(filled, tmp_path):
    (tmp_path / "linked").symlink_to(filled)
    with Store.open(tmp_path / "linked") as store:
        list(store.repositories())
        with pytest.raises(RebuildRefusedError, match="this process"):
            rebuild(filled, force=True)
        (filled / "catalog.db").rename(filled / "elsewhere")  # as it stays open
        with pytest.raises(RebuildRefusedError, match="this process"):
            rebuild(filled)
        (filled / "elsewhere").rename(filled / "catalog.db")


def of_schema(root, version):
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))


def of_another_application(root):
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection:
        connection.execute("PRAGMA application_id = 7")


GOOD = {
    "newer": (lambda root: of_schema(root, "9999"), "schema 9999, newer than"),
    "older": (lambda root: to_revision(root, "0001"), "schema 0001, which the next opening"),
    "foreign": (of_another_application, "another application"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_database_of_any_schema_is_not_replaced_unless_forced(filled, kind):
    change, words = GOOD[kind]
    before = names(filled)
    change(filled)
    with unchanged(filled), pytest.raises(RebuildRefusedError, match=words):
        rebuild(filled)
    report = rebuild(filled, force=True)
    assert (filled / report.damaged).is_file()
    assert names(filled) == before


@pytest.mark.parametrize(
    ("change", "usable", "latest"),
    [
        ("DROP TABLE tags", False, False),
        ("ALTER TABLE tags RENAME COLUMN name TO changed", False, False),
        ("DROP TABLE repository_manifests", False, False),
        ("DROP TABLE collection_holds", False, True),
        ("ALTER TABLE store RENAME COLUMN epoch TO changed", False, True),
        ("ALTER TABLE tags ADD COLUMN mine TEXT", True, True),
        ("CREATE TRIGGER mine AFTER UPDATE ON store BEGIN SELECT RAISE(ABORT, 'no'); END", True, True),
    ],
)
def test_a_catalog_whose_schema_was_changed_by_hand_is_rebuilt_with_the_names_that_can_be_read(
    filled, change, usable, latest
):
    with Store.open(filled) as store:
        push(store.repository("later"), image("later"), "v1")
    before = names(filled)
    with contextlib.closing(sqlite3.connect(filled / "catalog.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(change)
    if usable:
        with pytest.raises(RebuildRefusedError):
            rebuild(filled)
    else:
        with pytest.raises(CorruptError, match="ocistore rebuild"), Store.open(filled) as store:
            store.gc()
            push(store.repository("latest"), image("latest"), "v1")
    rebuild(filled, force=usable)
    if not latest:
        del before["later:v1"]
    assert names(filled) == before
    with Store.open(filled) as store:
        for name in strays(filled):
            (filled / "uploads" / name).unlink()
    assert check(filled, hashes=True) == []


def statement(text):
    def change(root):
        with contextlib.closing(sqlite3.connect(root / "catalog.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute(text)

    return change


def overwritten(table):
    """The first page of a table becomes something else."""

    def change(root):
        with contextlib.closing(sqlite3.connect(root / "catalog.db")) as connection:
            [(page,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
            [(size,)] = connection.execute("PRAGMA page_size")
        with open(root / "catalog.db", "r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xa5" * size)

    return change


@pytest.mark.parametrize(
    ("damage", "latest"),
    [
        (statement("DROP TABLE tag_events"), True),
        (statement("DROP TABLE alembic_version"), True),
        (statement("DELETE FROM alembic_version"), True),
        (statement("DELETE FROM manifests"), True),
        (statement("DELETE FROM store"), True),
        (overwritten("tag_events"), True),
        (overwritten("edges"), True),
        (overwritten("uploads"), True),
        (statement("DELETE FROM blobs"), False),
        (statement("DELETE FROM repositories"), False),
        (overwritten("tags"), False),
        (overwritten("blobs"), False),
        (overwritten("sqlite_autoindex_blobs_1"), False),
    ],
)
def test_of_a_damaged_catalog_the_names_are_taken_where_nothing_is_wrong_with_them(filled, damage, latest):
    with Store.open(filled) as store:
        push(store.repository("later"), image("later"), "v1")
    before = names(filled)
    damage(filled)
    rebuild(filled)
    if not latest:
        del before["later:v1"]
    assert names(filled) == before
    assert check(filled, hashes=True) == []


def test_the_names_of_a_damaged_catalog_that_lost_its_last_commits_are_not_taken(filled):
    earlier = (filled / "catalog.db").read_bytes()
    with Store.open(filled) as store:
        push(store.repository("later"), image("later"), "v1")
        refsfile.refresh(store._core.catalog, store._core.paths, older_than=NOW)
    before = names(filled)
    (filled / "catalog.db").write_bytes(earlier)
    overwritten("tag_events")(filled)
    rebuild(filled)
    assert names(filled) == before


@pytest.mark.parametrize("change", ["DROP TABLE tags", "ALTER TABLE tags ADD COLUMN entry TEXT"])
def test_a_catalog_of_an_older_schema_that_was_changed_by_hand_is_said_to_be_damaged_and_rebuilt(filled, change):
    before = names(filled)
    to_revision(filled, "0001")
    with contextlib.closing(sqlite3.connect(filled / "catalog.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(change)
    with pytest.raises(CorruptError, match="ocistore rebuild"):
        Store.open(filled)
    rebuild(filled, force=True)
    assert names(filled) == before
    assert check(filled, hashes=True) == []


def test_a_catalog_of_the_first_schema_keeps_all_names_in_a_forced_rebuild(filled):
    with Store.open(filled) as store:
        push(store.repository("late"), image("late"), "v1")
    to_revision(filled, "0001")
    rebuild(filled, force=True)
    assert "late:v1" in names(filled)


def test_a_catalog_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(filled, tmp_path):
    require_strace()
    with unchanged(filled):
        for number in range(1, 6):
            code = failing(refused_rebuild, filled, at=("pread64", number), error="EIO")
            assert code == 0


def refused_rebuild(root):
    with pytest.raises((StorageError, RebuildRefusedError)):
        rebuild(root)


def test_a_forced_rebuild_keeps_every_name_of_a_good_catalog(filled):
    elsewhere("push and die", filled)  # all of it is in the WAL
    rebuild(filled, force=True)
    assert {"late:v1", "late:v2"} <= names(filled).keys()
    assert check(filled, hashes=True) == []


def test_a_rebuild_without_space_leaves_nothing_behind(filled, monkeypatch):
    def full(*_, **__):
        raise StoreFullError("catalog.db.rebuilt")

    monkeypatch.setattr("ocistore.upkeep.rebuild.rebuild_rows.serve_blobs", full)
    before = sorted(os.listdir(filled)), rows(filled)
    with pytest.raises(StoreFullError):
        rebuild(filled, force=True)
    assert (sorted(os.listdir(filled)), rows(filled)) == before


def test_what_is_no_store_is_not_rebuilt(tmp_path):
    with pytest.raises(StoreNotFoundError):
        rebuild(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_rebuild_that_was_broken_off_changes_nothing_and_is_done_again(filled, monkeypatch):
    before = names(filled)
    lose(filled)

    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ocistore.upkeep.rebuild._Rebuild._put_in_place", broken)
        with pytest.raises(KeyboardInterrupt):
            rebuild(filled)
    with pytest.raises(CorruptError):
        Store.open(filled)
    rebuild(filled)
    assert names(filled) == before
    assert check(filled, hashes=True) == []


def test_an_old_wal_is_not_taken_for_the_new_catalogs(filled):
    copy = shutil.copytree(filled, filled.with_name("copy"))
    with Store.open(copy) as store:
        push(store.repository("third"), image("third"), "v1")
        wal = (copy / "catalog.db-wal").read_bytes()
    before = names(filled)
    (filled / "catalog.db").write_bytes(b"damaged")
    (filled / "catalog.db-wal").write_bytes(wal)
    rebuild(filled)
    assert names(filled) == before
    connection = sqlite3.connect(filled / "catalog.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


# --- the snapshot -----------------------------------------------------------------------------------------------------


def test_a_collection_takes_a_snapshot_where_tags_changed_and_not_otherwise(store, repository, monkeypatch):
    push(repository, APP, "v1")
    push(repository, image("gone"))
    store.gc(grace=NOW, keep_untagged=NOW)
    assert [(name.tag, name.digest) for name in refsfile.read(store._core.paths)] == [("v1", APP.digest)]
    first = (store.root / "catalog.snapshot").stat().st_ino
    assert not refsfile.refresh(store._core.catalog, store._core.paths, older_than=NOW)
    repository.tag("v2", APP.digest)
    assert not refsfile.refresh(store._core.catalog, store._core.paths)
    assert refsfile.refresh(store._core.catalog, store._core.paths, older_than=NOW)
    assert (store.root / "catalog.snapshot").stat().st_ino != first
    assert {name.tag for name in refsfile.read(store._core.paths)} == {"v1", "v2"}


def test_a_snapshot_names_untagged_manifests_too(store, repository, monkeypatch):
    monkeypatch.setattr(refsfile, "_PAGE", 2)
    for number in range(5):
        push(repository, image(number), *([f"v{number}"] if number % 2 else []))
    push(store.repository("b"), image(1), "x")
    assert refsfile.refresh(store._core.catalog, store._core.paths)
    found = [(name.repository, name.tag, name.digest) for name in refsfile.read(store._core.paths)]
    assert sorted(found, key=repr) == sorted(
        [(repository.name, f"v{number}" if number % 2 else None, image(number).digest) for number in range(5)]
        + [("b", "x", image(1).digest)],
        key=repr,
    )


def test_two_rebuilds_at_once_make_one_catalog(filled):
    lose(filled)
    code = """
import sys
from ocistore import RebuildRefusedError
from ocistore import rebuild
print("ready")
sys.stdin.readline()
try:
    rebuild(sys.argv[1])
    print("rebuilt")
except RebuildRefusedError:
    print("refused")
"""
    with python(code, filled) as first, python(code, filled) as second:
        assert first.says() == second.says() == "ready"
        first.tell()
        second.tell()
        assert sorted([first.says(), second.says()]) == ["rebuilt", "refused"]
    assert [name for name in os.listdir(filled) if "damaged" in name] == []
    assert check(filled, hashes=True) == []


def test_whoever_had_the_old_catalog_open_is_told_so_and_nothing_is_acknowledged_into_it(filled):
    # As where it was opened after a rebuild had looked whether anybody has it open.
    with Store.open(filled) as store:
        push(store.repository("late"), image("late"), "v1")
        for suffix in ("", "-wal", "-shm"):
            os.rename(filled / f"catalog.db{suffix}", filled / f"catalog.db.damaged-1{suffix}")
        with pytest.raises(CorruptError, match="open the store again"):
            push(store.repository("late"), image("later"), "v2")
        elsewhere("rebuild", filled)  # because here the store is open
        with pytest.raises(CorruptError, match="open the store again"):
            store.repository("late").untag("v1")
    with Store.open(filled) as again:
        push(again.repository("late"), image("later"), "v2")
        assert again.repository(LOST_AND_FOUND).get_manifest(image("late").digest).content == image("late").manifest
    for name in strays(filled):  # of what was published and could not be taken back, for a collection to find
        (filled / "uploads" / name).unlink()
    assert check(filled, hashes=True) == []


# --- what it takes ----------------------------------------------------------------------------------------------------


def everything(root):
    """What a catalog says, but for times, ids and the order in which content was seen."""
    with catalog(root) as connection:
        return [
            sorted(connection.execute(query), key=repr)
            for query in (
                "SELECT digest, size, state FROM blobs",
                """SELECT r.name, b.digest, m.incomplete FROM repository_manifests m
                   JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.manifest_id""",
                """SELECT r.name, b.digest FROM repository_blobs m
                   JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.blob_id""",
                """SELECT r.name, c.digest, p.digest, e.role FROM repository_edges e
                   JOIN repositories r ON r.id = e.repository_id
                   JOIN blobs c ON c.id = e.child_id JOIN blobs p ON p.id = e.parent_id""",
                """SELECT r.name, t.name, b.digest FROM tags t
                   JOIN repositories r ON r.id = t.repository_id JOIN blobs b ON b.id = t.manifest_id""",
            )
        ] + said_of_manifests(root)


@pytest.fixture
def many(filled):
    """The same, with many images in three repositories, of which some have the same."""
    with Store.open(filled) as store:
        for name, first in (("one", 0), ("two", 20), ("three", 30)):
            with store.transaction() as transaction:
                for number in range(first, first + 30):
                    push(transaction.repository(name), image(number, layers=3), f"v{number}")
                push(transaction.repository(name), index([image(n, layers=3) for n in range(first, first + 10)]), "all")
        store.repository("other").delete_blob(Digest.of(b"loose"))
        store.gc(grace=NOW)
        refsfile.refresh(store._core.catalog, store._core.paths, older_than=NOW)
    return filled


def test_no_transaction_of_a_rebuild_grows_with_the_store(many, monkeypatch):
    before = everything(many)
    lose(many)
    found = []
    write = SQLiteCatalog.write

    @contextlib.contextmanager
    def counted(self, **options):
        with write(self, **options) as connection:
            changes = connection.driver.total_changes
            yield connection
            found.append(connection.driver.total_changes - changes)

    monkeypatch.setattr(SQLiteCatalog, "write", counted)
    monkeypatch.setattr("ocistore.upkeep.rebuild._ROWS", 20)
    monkeypatch.setattr("ocistore.upkeep.rebuild._BATCH", 20)
    monkeypatch.setattr("ocistore.upkeep.rebuild._NAMES", 2)
    assert rebuild(many).tags == 96
    assert max(found) < 100
    assert sum(found) > 1500
    assert everything(many) == before
    assert check(many, hashes=True) == []


def test_a_rebuild_on_a_full_disk_takes_what_is_reserved(many, small_disk):
    before = everything(many)
    root = shutil.copytree(many, small_disk.root / "store", ignore=shutil.ignore_patterns("reserved"))
    lose(root)
    (root / "reserved").write_bytes(bytes(3 * 1024**2))
    with small_disk.full():
        assert rebuild(root).tags == 96
        assert 0 < (root / "reserved").stat().st_size < 3 * 1024**2
    assert everything(root) == before
    assert check(root, hashes=True) == []


def test_a_rebuild_without_room_changes_nothing_and_is_done_when_there_is_some(many, small_disk):
    root = shutil.copytree(many, small_disk.root / "store", ignore=shutil.ignore_patterns("reserved"))
    (root / "reserved").write_bytes(bytes(256 * 1024))
    before = everything(root)
    with small_disk.full():
        for force in (True, False):
            if not force:
                lose(root)
            with pytest.raises(StoreFullError):
                rebuild(root, force=force)
            assert not list(root.glob("*.rebuilt*"))
    rebuild(root)
    assert everything(root) == before


@pytest.mark.parametrize("sweep", ["gc", "scrub"])
def test_what_a_killed_rebuild_left_goes_with_the_next_upkeep(filled, sweep):
    left = [filled / f"catalog.db.rebuilt{suffix}" for suffix in ("", "-wal", "-shm", "-lock")]
    for path in left:
        path.write_bytes(b"x")
    with Store.open(filled) as store:
        store.scrub(repair=False)
        store.gc(dry_run=True)
        assert all(path.exists() for path in left)
        getattr(store, sweep)()
    assert not any(path.exists() for path in left)


# --- what was absent before -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [True, False])
def test_what_a_manifest_was_accepted_without_is_as_absent_after_a_rebuild(store, lost):
    repository = store.repository("app")
    bare, sparse = image("bare"), index([APP, image("never")])
    repository.put_manifest(bare.manifest, tags=["bare"], missing="all")
    push(repository, APP)
    repository.put_manifest(sparse.manifest, tags=["sparse"], missing="children")
    push(repository, image("whole"), "whole")
    refsfile.refresh(store._core.catalog, store._core.paths, older_than=NOW)
    store.close()
    before = everything(store.root)
    if lost:
        lose(store.root)
    layer = Digest.of(image("whole").layers[0])
    report = rebuild(store.root, force=not lost)
    assert (report.missing, sorted(report.absent)) == (
        [], sorted([*map(Digest.of, bare.blobs), image("never").digest])
    )  # fmt: skip
    assert everything(store.root) == before
    with Store.open(store.root) as opened:
        assert opened.scrub(level="deep").exit_code == 0
        push(opened.repository("app"), bare)
        assert check(opened, hashes=True) == []
    (store.root / "blobs" / "sha256" / layer.encoded).unlink()
    assert rebuild(store.root, force=True).missing == [layer]


# ----------------------------------------------------------------------------------------------------------------------


def test_a_size_that_a_manifest_lied_about_is_put_right_when_the_content_is_pushed(store):
    content = b"what was missing"
    lie = {**json.loads(artifact().manifest), "layers": [described(content, size=5)]}
    store.repository("app").put_blob(b"{}")
    store.repository("app").put_blob(document(lie))  # as a blob, which is not looked into
    store.close()
    lose(store.root)
    assert rebuild(store.root).missing == [Digest.of(content)]
    honest = {**lie, "layers": [described(content)]}
    with Store.open(store.root) as again:
        for blob in (b"{}", content):
            again.repository("app").put_blob(blob)
        again.repository("app").put_manifest(document(honest), tags=["v1"])
        assert again.repository("app").stat_blob(Digest.of(content)).size == len(content)
        assert again.scrub().damaged == 0
    assert [each for each in check(store.root, hashes=True) if "5 bytes" not in each] == []


def test_sizes_that_manifests_invent_are_added_up_however_large(store, tmp_path):
    huge = [described(bytes([number]), size=2**63 - 1) for number in range(5)]
    config = described(b"{}")
    content = document({"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": config, "layers": huge})
    store.repository("there").put_blob(b"{}")
    (store.root / "blobs" / "sha256" / Digest.of(content).encoded).write_bytes(content)
    store.close()
    lose(store.root)
    assert len(rebuild(store.root).missing) == 5
    with Store.open(store.root) as rebuilt:
        assert rebuilt.usage().blob_bytes == 5 * (2**63 - 1) + len(content) + 2
        rebuilt.backup(tmp_path / "backup", progress=lambda done, total: None)
        with rebuilt._core.catalog.write() as connection:
            holds.confirm(connection)
        assert rebuilt.scrub(progress=lambda done, total: None).damaged == 5
        name = next(iter(rebuilt.repositories()))
        rebuilt.delete_repository(name)
        with pytest.raises(CollectionRefusedError, match="more than half"):
            rebuilt.gc(grace=NOW, keep_untagged=NOW)
        assert rebuilt.gc(grace=NOW, keep_untagged=NOW, force=True).blobs == 7
