"""What an error message says to do about it is done, and helps: each remedy that a message names, in its situation."""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import CommandLine
from earlier import to_revision
from images import APP, image, index, push
from invariants import check
from layered import archive, layered, member, put
from processes import python, run_python

from ocistore import Digest, Store
from ocistore.catalog.schema import SCHEMA_REVISION
from ocistore.upkeep import preflight, refsfile

ZERO = timedelta(0)
LAYER = Digest.of(APP.layers[0])
SIGNATURE = Digest.of(b"signature")


@dataclass
class Scene:
    """A closed store with something in it, and room beside it."""

    root: Path
    beside: Path
    child: object = None
    kept: dict = field(default_factory=dict)

    @property
    def database(self):
        return self.root / "catalog.db"

    def lose(self):
        for suffix in ("", "-wal", "-shm"):
            (self.root / f"catalog.db{suffix}").unlink(missing_ok=True)

    def sql(self, statement):
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement)

    def run(self, *arguments, root=None):
        """The exit code of a command, and all that it prints."""
        arguments = [str(each).format(beside=self.beside, root=self.root) for each in arguments]
        result = CommandLine(root or self.root).try_(*arguments)
        return result.exit_code, result.output


@pytest.fixture
def scene(store, tmp_path):
    push(store.repository("library/app"), index([APP, image("other")]), "v1")
    push(store.repository("library/app"), image("two"), "both", "too")
    store.repository("loose").put_blob(b"loose")
    refsfile.refresh(store._core.catalog, store._core.paths, older_than=ZERO)
    store.close()
    (tmp_path / "beside").mkdir()
    return Scene(store.root, tmp_path / "beside")


@dataclass(frozen=True)
class Case:
    """A situation, a command that fails in it, what that says, what is done then, and commands that work after it."""

    make: Callable[[Scene], object]
    fails: tuple
    exit_code: int
    says: str
    remedy: tuple = ()
    """Commands, each with its exit code if that is not 0; or functions."""
    works: tuple | None = None
    """None: that which failed."""
    exit_after: int = 0


def put_older_catalog_back(scene):
    shutil.copy(scene.database, scene.beside / "catalog.db")
    with Store.open(scene.root) as store:
        push(store.repository("library/app"), image("later"), "later")
    shutil.copy(scene.beside / "catalog.db", scene.database)


def put_backup_catalog(scene):
    assert scene.run("backup", scene.beside / "copy")[0] == 0
    shutil.copy(scene.beside / "copy" / "catalog.db", scene.database)


def contradict(scene):
    scene.sql("DELETE FROM repository_edges WHERE role = 'layer'")
    assert scene.run("scrub", "--level", "deep")[0] == 2


def delete_much(scene):
    with Store.open(scene.root) as store:
        for name in ("library/app", "loose"):
            store.delete_repository(name)
    preflight._GUARDED_BLOBS = 1


BACKUP = """
import sys
from ocistore import Store
def stuck(done, total):
    print("copying", flush=True)
    sys.stdin.readline()
Store.open(sys.argv[1]).backup(sys.argv[2], mode="copy", progress=stuck)
"""
OPEN = """
import sys
from ocistore import Store
store = Store.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""


def run_child(code, *arguments):
    def make(scene):
        scene.kept["child"] = manager = python(code, scene.root, *(scene.beside / name for name in arguments))
        scene.child = manager.__enter__()
        scene.child.says()

    return make


def end_child(scene):
    scene.child.kill()
    with contextlib.suppress(AssertionError):
        scene.kept["child"].__exit__(None, None, None)


def make_newer(scene):
    scene.sql("UPDATE alembic_version SET version_num = '9999'")


def damage_pages(scene):
    content = bytearray(scene.database.read_bytes())
    content[4096 * 3 : 4096 * 20] = bytes(4096 * 17)
    scene.database.write_bytes(content)


def damage_blob(scene):
    path = scene.root / "blobs" / "sha256" / LAYER.encoded
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))


def push_again(scene):
    with Store.open(scene.root) as store:
        push(store.repository("library/app"), APP)


def leave_unfinished_backup(scene):
    run_child(BACKUP, "copy")(scene)
    end_child(scene)


def lose_directories(scene):
    for name in ("uploads", "trash", "quarantine"):
        (scene.root / name).rmdir()


def export_without_a_layer(scene):
    assert scene.run("export", "library/app:both", scene.beside / "layout")[0] == 0
    (scene.beside / "layout" / "blobs" / "sha256" / Digest.of(image("two").layers[0]).encoded).unlink()


def export_with_one_platform_whole(scene):
    one, two = image("one", architecture="amd64"), image("half", architecture="arm64")
    content = json.loads(index([one, two]).manifest)
    for entry, name in zip(content["manifests"], ("amd64", "arm64"), strict=True):
        entry["platform"] = {"os": "linux", "architecture": name}
    with Store.open(scene.root) as store:
        for each in (one, two):
            push(store.repository("multi"), each)
        store.repository("multi").put_manifest(json.dumps(content).encode(), tags=["v1"])
    assert scene.run("export", "multi:v1", scene.beside / "layout")[0] == 0
    (scene.beside / "layout" / "blobs" / "sha256" / Digest.of(two.layers[0]).encoded).unlink()


def export_archive(scene):
    assert scene.run("export", "library/app:both", scene.beside / "a.tar")[0] == 0


def export_layout(scene):
    assert scene.run("export", "library/app:both", scene.beside / "layout")[0] == 0


def link_blobs_elsewhere(scene):
    export_layout(scene)
    for number, path in enumerate((scene.beside / "layout" / "blobs" / "sha256").iterdir()):
        os.link(path, scene.beside / f"second{number}")


def untagged(scene):
    with Store.open(scene.root) as store:
        push(store.repository("untagged"), image("two"))


DIE = """
import os, sys
from images import image, push
from ocistore import Store
store = Store.open(sys.argv[1])
for number in range(5):
    push(store.repository("late"), image(number), f"v{number}")
os._exit(0)
"""


def lose_and_keep_wal(scene):
    shutil.copy(scene.database, scene.beside)
    run_python(DIE, scene.root)
    assert (scene.root / "catalog.db-wal").stat().st_size
    scene.database.unlink()


def put_copy_back(scene):
    (scene.root / "catalog.db-wal").unlink()
    shutil.copy(scene.beside / "catalog.db", scene.database)


def push_file(scene):
    (scene.beside / "f").write_text("x")
    assert scene.run("push", "files:1", scene.beside / "f")[0] == 0


def push_signature(scene):
    """An artifact of files without names, and an image whose config is no JSON."""
    empty = Digest.of(b"{}")
    content = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "application/json", "digest": SIGNATURE, "size": 9}],
    }  # fmt: skip
    unreadable = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": SIGNATURE, "size": 9}
    with Store.open(scene.root) as store:
        for name, document in (("sig", content), ("no-config", {**content, "config": unreadable, "layers": []})):
            store.repository(name).put_blob(b"{}")
            store.repository(name).put_blob(b"signature")
            store.repository(name).put_manifest(json.dumps(document).encode(), tags=["1"])


def push_image(scene):
    with Store.open(scene.root) as store:
        put(store.repository("image"), layered(archive(member("etc/os-release"))), "1")


def nothing(_):
    pass


CONFIRM = "look at the store, then: ocistore gc --confirm"
LOST = "put a copy of it back, or run: ocistore rebuild"
BOTH = f"library/app@{image('two').digest}"

CASES = {
    "an older catalog": Case(put_older_catalog_back, ("gc",), 41, CONFIRM, (("gc", "--confirm"),)),
    "a backup's catalog": Case(put_backup_catalog, ("gc",), 41, CONFIRM, (("gc", "--confirm"),)),
    "a dry run says so too": Case(
        put_older_catalog_back, ("gc",), 41, CONFIRM, (("gc", "--dry-run"), ("gc", "--confirm", "--force"))
    ),
    "rows that contradict": Case(
        contradict, ("gc",), 41, "ocistore rebuild --force makes anew", (("rebuild", "--force"), ("gc", "--confirm"))
    ),
    "rows that contradict, scrubbed": Case(
        contradict, ("scrub", "--level", "deep"), 2, "", (("rebuild", "--force"), ("gc", "--confirm"))
    ),
    "too much": Case(
        delete_much, ("gc", "--grace", "0s", "--keep-untagged", "0s"), 41, "if it is right, use --force",
        (("gc", "--dry-run", "--grace", "0s"), ("gc", "--force", "--grace", "0s", "--keep-untagged", "0s")),
    ),
    "a backup under way": Case(
        run_child(BACKUP, "copy"), ("gc",), 41, "wait until it is done, or end that process", (end_child,)
    ),
    "a lost catalog": Case(Scene.lose, ("tags", "library/app"), 35, LOST, (("rebuild",),)),
    "a lost catalog, of which there is a copy": Case(
        lambda scene: (shutil.copy(scene.database, scene.beside), scene.lose()), ("tags", "library/app"), 35, LOST,
        (lambda scene: shutil.copy(scene.beside / "catalog.db", scene.database), ("gc",)),
    ),
    "a lost catalog, of which there is a copy and a WAL": Case(
        lose_and_keep_wal, ("tags", "library/app"), 35, "remove catalog.db-wal and put a copy of it back",
        (put_copy_back, ("gc", (41,)), ("gc", "--confirm"), ("scrub", "--level", "deep")),
    ),
    "a lost catalog beside its WAL": Case(
        lose_and_keep_wal, ("tags", "library/app"), 35, "or run: ocistore rebuild", (("rebuild",), ("gc", "--confirm"))
    ),
    "an empty catalog": Case(
        lambda scene: (scene.lose(), scene.database.touch()), ("tag", "library/app:v1", "v2"), 35, LOST, (("rebuild",),)
    ),
    "a store whose making was interrupted": Case(
        lambda scene: (shutil.rmtree(scene.root), scene.run("init"), scene.lose(), scene.database.touch()),
        ("repos",), 32, "ocistore init completes it", (("init",),),
    ),
    "a link for a catalog": Case(
        lambda scene: (scene.database.rename(scene.beside / "x"), scene.database.symlink_to(scene.beside / "x")),
        ("tags", "library/app"), 35, "see: ocistore rebuild", (("rebuild",),),
    ),
    "damaged pages": Case(
        damage_pages, ("db", "check"), 1, "damaged", (("rebuild",), ("gc", "--confirm")),
    ),
    "a schema that somebody changed": Case(
        lambda scene: scene.sql("DROP TABLE tags"), ("tags", "library/app"), 35,
        "see: ocistore db check, ocistore rebuild", (("db", "check", (1,)), ("rebuild",), ("gc", "--confirm")),
    ),
    "a good catalog": Case(nothing, ("rebuild",), 43, "--force rebuilds it all the same", (), ("rebuild", "--force")),
    "a newer catalog": Case(
        make_newer, ("rebuild",), 43, "--force rebuilds it all the same", (("rebuild", "--force"),),
        ("tags", "library/app"),
    ),
    "in use": Case(run_child(OPEN), ("rebuild", "--force"), 43, "end it first", (end_child,)),
    "an older schema": Case(
        lambda scene: to_revision(scene.root, f"{int(SCHEMA_REVISION) - 1:04}"), ("tags", "library/app"), 33,
        "or run: ocistore db upgrade", (("db", "upgrade"),),
    ),
    "an older schema, written to": Case(
        lambda scene: to_revision(scene.root, f"{int(SCHEMA_REVISION) - 1:04}"), ("tags", "library/app"), 33,
        "open it for writing once", (("tag", "library/app:v1", "v2"),),
    ),
    "lost directories": Case(lose_directories, ("db", "check"), 1, "which ocistore init creates again", (("init",),)),
    "an unfinished backup": Case(
        leave_unfinished_backup, ("--store", "{beside}/copy", "tags", "library/app"), 32,
        "a backup into it was not finished; run it again", (("backup", "{beside}/copy"),),
    ),
    "bounds of a collection": Case(
        nothing, ("gc", "--grace", "0s", "--max-batches", "0"), 0, "the bounds were reached; run it again", (),
        ("gc", "--grace", "0s"),
    ),
    "bounds of a scrub": Case(
        nothing, ("scrub", "--max-duration", "0s"), 0, "the time was over; run it again", (), ("scrub",)
    ),
    "a damaged blob, pushed again": Case(
        damage_blob, ("scrub",), 2, "moved to quarantine/", (push_again,)
    ),
    "a damaged blob, healed": Case(
        lambda scene: (scene.run("backup", scene.beside / "copy"), damage_blob(scene)), ("scrub",), 2,
        "moved to quarantine/", (("scrub", "--heal-from", "{beside}/copy", (1,)),),
    ),
    "an incomplete layout": Case(
        export_without_a_layer, ("import", "{beside}/layout", "new"), 23,
        "the store has what is missing: import with complete (--complete)", (),
        ("import", "{beside}/layout", "new", "--complete"),
    ),
    "a layout that is whole for a platform": Case(
        export_with_one_platform_whole, ("--store", "{beside}/s", "import", "{beside}/layout"), 23,
        "is whole for linux/amd64: choose that (--platform)", (),
        ("--store", "{beside}/s", "import", "{beside}/layout", "--platform", "linux/amd64"),
    ),
    "no part of an archive can be linked": Case(
        export_archive, ("import", "{beside}/a.tar", "new", "--mode", "link"), 37, "copy instead", (),
        ("import", "{beside}/a.tar", "new", "--mode", "copy"),
    ),
    "files with other names": Case(
        link_blobs_elsewhere, ("--store", "{beside}/s", "import", "{beside}/layout", "new", "--mode", "link"), 37,
        "copy instead", (), ("--store", "{beside}/s", "import", "{beside}/layout", "new", "--mode", "copy"),
    ),
    "a repository without tags": Case(
        untagged, ("export", "untagged", "{beside}/layout"), 10, "give REPO@DIGEST for each manifest", (),
        ("export", f"untagged@{image('two').digest}", "{beside}/layout"),
    ),
    "untag by digest": Case(
        nothing, ("untag", BOTH), 10, "give REPO:TAG, the tag to remove", (), ("untag", "library/app:both")
    ),
    "import to a digest": Case(
        export_layout, ("import", "{beside}/layout", BOTH), 10, "give REPO or REPO:TAG", (),
        ("import", "{beside}/layout", "library/app:three"),
    ),
    "rm by tag and digest": Case(
        nothing, ("rm", f"library/app:both@{image('two').digest}"), 10, "give a tag or a digest", (),
        ("rm", BOTH, "--yes"),
    ),
    "in use by an index": Case(
        nothing, ("rm", f"library/app@{APP.digest}"), 21, str(index([APP, image("other")]).digest),
        (("rm", f"library/app@{index([APP, image('other')]).digest}"),),
    ),
    "a layout as a store": Case(
        export_layout, ("--store", "{beside}/layout", "tags", "library/app"), 32,
        "make a store elsewhere and import it there", (("--store", "{beside}/s", "init"),),
        ("--store", "{beside}/s", "import", "{beside}/layout"),
    ),
    "nothing kept of history": Case(
        nothing, ("db", "prune-history"), 2, "--keep-last, --keep-for or both", (),
        ("db", "prune-history", "--keep-last", "1"),
    ),
    "files in a store": Case(
        push_file, ("pull", "files:1", "-o", "{root}/files"), 24, "write the files elsewhere", (),
        ("pull", "files:1", "-o", "{beside}/files"),
    ),
    "a store as a layout": Case(
        nothing, ("--store", "{beside}/s", "import", "{root}"), 23, "it is a store: copy from it (ocistore copy)", (),
        ("copy", "{root}", "{beside}/s"),
    ),
    "an artifact without titles": Case(
        push_signature, ("ls-files", "sig:1"), 44, f"(ocistore cat sig@{SIGNATURE})", (), ("cat", f"sig@{SIGNATURE}")
    ),
    "a file of an artifact without titles": Case(
        push_signature, ("cat", "sig:1:/x"), 44, f"(ocistore cat sig@{SIGNATURE})", (), ("cat", f"sig@{SIGNATURE}")
    ),
    "an artifact without titles, pulled": Case(
        push_signature, ("pull", "sig:1", "-o", "{beside}/x"), 24, "(ocistore cat sig@DIGEST)", (("show", "sig:1"),),
        ("cat", f"sig@{SIGNATURE}"),
    ),
    "an image, pulled": Case(
        push_image, ("pull", "image:1", "-o", "{beside}/x"), 24, "it is an image, whose files are in its layers "
        "(ocistore ls-files, ocistore cat)", (), ("ls-files", "image:1"),
    ),
    "a config that is none": Case(
        push_signature, ("show", "no-config:1", "--config"), 18, "config: it is not JSON", (),
        ("show", "no-config:1", "--config", "--json"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_message_says_to_do_helps(scene, case, monkeypatch):
    monkeypatch.setattr(preflight, "_GUARDED_BLOBS", preflight._GUARDED_BLOBS)
    case.make(scene)
    code, output = scene.run(*case.fails)
    assert (code, case.says in output) == (case.exit_code, True), output
    for step in case.remedy:
        if callable(step):
            step(scene)
        else:
            expected = step[-1][0] if isinstance(step[-1], tuple) else 0
            code, output = scene.run(*(each for each in step if not isinstance(each, tuple)))
            assert code == expected, output
    code, output = scene.run(*(case.works or case.fails))
    assert code == case.exit_after, output
    assert check(scene.root, hashes=True) == []
