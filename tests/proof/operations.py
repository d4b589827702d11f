"""What is done to a store while it is killed, cut off or refused: operations of a few steps, each acknowledged.

A step that returned was acknowledged. From then on ``seen`` must hold, whatever happens to the process afterwards; and
all steps can be taken again from the start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from earlier import to_revision
from handmade import Layout
from images import artifact, image, index, push
from invariants import check
from state import pool, rows

from ocistore import (
    BlobNotFoundError,
    CorruptError,
    Digest,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    StorageError,
    Store,
)
from ocistore.artifacts import push_files
from ocistore.upkeep import rebuild, refsfile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GONE = (BlobNotFoundError, ManifestNotFoundError, RepositoryNotFoundError)
NOW = timedelta(0)

KEPT = image("kept", layers=2)
"""In every store before, and never touched: nothing that happens may cost it."""
BASE = index([image("base"), image("other base")])
MORE = [image(f"more {number}") for number in range(3)]
BIG = bytes(range(256)) * 256


@dataclass(frozen=True)
class Step:
    do: Callable[[Store], object]
    seen: Callable[[Store], bool]


@dataclass(frozen=True)
class Operation:
    steps: tuple[Step, ...]
    prepare: Callable[[Path], object] = field(default=lambda root: None)
    """Done to the closed store, or to the directory beside it, before."""
    open: Callable[[Path], Store] = Store.open
    look: Callable[[Path], Store] | None = None
    """Opens the store that was left, before anything is done again; None where ``open`` does."""
    there: Callable[[Store], bool] = lambda store: True
    """Whether what was acknowledged before the operation began can be read, beside ``KEPT``."""
    keeps: bool = True
    """Whether ``KEPT`` is there from the beginning."""
    damaged: tuple[str, ...] = ()
    """The digests of what is damaged until all steps are done."""


def fill(root: Path) -> None:
    """What every operation finds."""
    with Store.open(root) as store:
        push(store.repository("kept"), KEPT, "v1")
        push(store.repository("app"), BASE, "base", "old", "older")
        for number, pushed in enumerate(MORE):
            push(store.repository("app"), pushed, f"m{number}")
        store.repository("loose").put_blob(b"loose")
        store.repository("loose").put_blob(b"looser")
        push(store.repository("doomed"), image("doomed"), "v1")
    (root / "reserved").unlink()
    os.truncate(os.open(root / "reserved", os.O_CREAT | os.O_WRONLY, 0o600), 4096)


def kept(store: Store) -> bool:
    """Whether what was there before, and nobody touched, can be read."""
    repository = store.repository("kept")
    found = repository.get_manifest("v1").content == KEPT.manifest
    for blob in KEPT.blobs:
        with repository.open_blob(Digest.of(blob)) as reader:
            found = found and reader.read() == blob
    return found


def _tagged(store: Store, name: str, tag: str) -> Digest | None:
    try:
        return store.repository(name).resolve(tag).digest
    except GONE:
        return None


def _pushed(name: str, pushed: object, tag: str) -> Step:
    return Step(
        lambda store: push(store.repository(name), pushed, tag),
        lambda store: store.repository(name).get_manifest(tag).content == pushed.manifest,
    )


def _retagged(name: str, tag: str, digest: Digest) -> Step:
    return Step(
        lambda store: store.repository(name).tag(tag, digest),
        lambda store: _tagged(store, name, tag) == digest,
    )


def _quiet(do: Callable[[Store], object]) -> Callable[[Store], object]:
    def done(store: Store) -> None:
        with contextlib.suppress(*GONE):
            do(store)

    return done


def _blob(store: Store, name: str, content: bytes) -> bool:
    try:
        with store.repository(name).open_blob(Digest.of(content)) as reader:
            return reader.read() == content
    except GONE:
        return False


def _manifest(store: Store, name: str, digest: Digest) -> bool:
    try:
        return bool(store.repository(name).get_manifest(str(digest)))
    except GONE:
        return False


def _transaction(store: Store) -> None:
    with store.transaction() as transaction:
        push(transaction.repository("app"), image("in one"), "one")
        push(transaction.repository("new"), artifact(subject=MORE[0]), "note")
        transaction.repository("app").tag("old", MORE[1].digest)
        if _tagged(store, "app", "m2"):
            transaction.repository("app").untag("m2")


def _many(store: Store) -> None:
    with store.transaction() as transaction:
        for number in range(10):
            transaction.repository("many").put_blob(b"many %d" % number)
        push(transaction.repository("many"), image("many", layers=3), "v1")


def _spilling(root: Path) -> Store:
    """Writes with a cache of ten pages, so that SQLite writes into the WAL before it commits."""
    store = Store.open(root)
    with store._core.catalog.write() as connection:
        connection.command("PRAGMA cache_size = 10")
    return store


MANY = {name: [f"{name}-{number:03}-{'n' * 100}" for number in range(100)] for name in ("new", "gone")}


def _tag_many(store: Store, name: str) -> None:
    with store.transaction() as transaction:
        for tag in MANY[name]:
            transaction.repository("app").tag(tag, BASE.digest)


def _untag_many(store: Store) -> None:
    with store.transaction() as transaction:
        for tag in set(store.repository("app").tags()).intersection(MANY["gone"]):
            transaction.repository("app").untag(tag)


def _with_many_tags(root: Path) -> None:
    with Store.open(root) as store:
        _tag_many(store, "gone")


def _leased(store: Store) -> None:
    with store.lease(ttl=timedelta(hours=1), reason="slow") as lease:
        store.repository("app").put_blob(b"leased")
        lease.keep("loose", Digest.of(b"looser"))
        lease.renew()
        store.repository("app").stat_blob(Digest.of(b"leased"))
        _collect(store)


def _models(root: Path) -> None:
    """Two versions of a directory, of which one file differs."""
    for version in (1, 2):
        top = root.parent / f"v{version}" / "model"
        (top / "weights").mkdir(parents=True)
        (top / "empty").mkdir()
        (top / "config.json").write_bytes(b"version %d" % version)
        (top / "weights" / "1.bin").write_bytes(BIG)
        (top / "weights" / "2.bin").write_bytes(BIG[1:])


def _model(store: Store, version: int) -> None:
    top = store.root.parent / f"v{version}" / "model"
    try:
        push_files(store, f"models:{version}", [top])
    except OSError as error:
        if not str(error.filename).startswith(str(top)):
            raise
        # A file of the caller's, which cannot be read; and it says which.
        raise StorageError(str(error.filename), errno=error.errno, reason=str(error.strerror)) from error


def _modelled(version: int) -> Step:
    def seen(store: Store) -> bool:
        with contextlib.suppress(*GONE):
            for layer in store.repository("models").get_manifest(str(version)).layers:
                with store.repository("models").open_blob(layer.digest, verify=True) as blob:
                    blob.read()
            return Digest.of(b"version %d" % version) in {
                layer.digest for layer in store.repository("models").get_manifest(str(version)).layers
            }
        return False

    return Step(lambda store: _model(store, version), seen)


def _upload(store: Store) -> None:
    with store.repository("app").start_upload() as upload:
        upload.write(BIG[:1000])
        upload.write(BIG[1000:])
        upload.commit(Digest.of(BIG))


def _cancelled(store: Store) -> None:
    with store.repository("app").start_upload() as upload:
        upload.write(b"for nothing")
        upload.cancel()


def _empty(root: Path) -> None:
    shutil.rmtree(root)


def _garbage(root: Path) -> None:
    with Store.open(root) as store:
        store.delete_repository("doomed")
        store.delete_repository("loose")
        store.repository("app").untag("base")
        store.repository("app").delete_manifest(BASE.digest)
        store.repository("app").delete_manifest(MORE[0].digest)


def _collect(store: Store) -> None:
    store.gc(grace=NOW, keep_untagged=NOW, force=True)


def _collected(store: Store) -> bool:
    found = rows(store.root)["blobs"]
    alive = [part for pushed in (KEPT, MORE[1], MORE[2]) for part in (pushed.manifest, *pushed.blobs)]
    wanted = {str(Digest.of(part)) for part in alive}
    return {row[1] for row in found} == wanted == set(pool(store.root)) and not os.listdir(store.root / "trash")


def _layout(root: Path) -> None:
    layout = Layout(root.parent / "layout")
    for number, pushed in enumerate((image("laid"), index([image("arm"), image("amd")]))):
        layout.add(pushed, f"v{number}")
    layout.write()


def _exported(store: Store, directory: Path) -> bool:
    return (directory / "index.json").is_file() and (directory / "blobs" / "sha256" / KEPT.digest.encoded).is_file()


def _backed_up(store: Store) -> bool:
    with Store.open(store.root.parent / "backup", create=False) as backup:
        return kept(backup) and not check(backup.root, hashes=True, idle=False)


def _damage(root: Path) -> None:
    """One file with other bytes, one that is gone, one that no row names; and a layout that has all that is good."""
    with Store.open(root) as store:
        store.export(root.parent / "good")
        for content, there in ((MORE[0].config, bytes(len(MORE[0].config))), (MORE[1].config, None), (b"new", b"new")):
            path = store._core.paths.blob(Digest.of(content))
            path.unlink(missing_ok=True)
            if there is not None:
                path.write_bytes(there)
                path.chmod(0o444)


def _scrub(store: Store) -> None:
    store.scrub(heal_from=[store.root.parent / "good"])


def _look_again(store: Store) -> None:
    """Everything is good now but what could not be healed, and nothing else may be called damaged."""
    expected = {str(Digest.of(each.config)) for each in MORE[:2]}
    for damage in store.scrub(level="deep").damages:
        if damage.digest not in expected:
            raise CorruptError(f"the good blob {damage.digest}", reason=damage.problem)


def _scrubbed(store: Store) -> bool:
    return store.scrub(level="deep").exit_code == 0 and bool(os.listdir(store.root / "quarantine"))


def _lose_catalog(root: Path) -> None:
    with Store.open(root) as store:
        refsfile.refresh(store._core.catalog, store._core.paths, older_than=NOW)
    (root / "catalog.db").unlink()


def _rebuilt(root: Path) -> Store:
    size = 0
    with contextlib.suppress(OSError):  # it is lost; or this look is what fails, and rebuild looks for itself
        size = os.stat(root / "catalog.db").st_size
    if not size:
        rebuild.rebuild(root)
    return Store.open(root)


def _push_and_die(root: Path) -> None:
    """Leave everything that was pushed last in the WAL: in a process that ends as by ``kill -9``."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            store = Store.open(root)
            push(store.repository("app"), image("late"), "late")
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert os.stat(root / "catalog.db-wal").st_size


def _late(store: Store) -> bool:
    return _tagged(store, "app", "late") == image("late").digest and _tagged(store, "app", "older") == BASE.digest


def _rebuilt_by_force(root: Path) -> Store:
    rebuild.rebuild(root, force=True)
    return Store.open(root)


OPERATIONS = {
    "create": Operation((_pushed("kept", KEPT, "v1"),), prepare=_empty, keeps=False),
    "push": Operation(
        (
            _pushed("app", image("one"), "one"),
            _pushed("app", index([image("two"), image("three", layers=2)]), "two"),
            _pushed("fresh/repository", artifact(subject=BASE), "note"),
            _pushed("app", KEPT, "again"),
            Step(
                lambda store: store.repository("app").put_blob(BIG, algorithm="sha512"),
                lambda store: bool(store.repository("app").stat_blob(Digest.of(BIG, "sha512"))),
            ),
        )
    ),
    "transaction": Operation(
        (
            Step(
                _transaction,
                lambda store: (_tagged(store, "app", "old"), _tagged(store, "app", "m2")) == (MORE[1].digest, None),
            ),
            Step(_many, lambda store: _tagged(store, "many", "v1") == image("many", layers=3).digest),
        )
    ),
    "push directory": Operation((_modelled(1), _modelled(2)), prepare=_models),
    "retag": Operation(
        (
            _retagged("app", "old", MORE[0].digest),
            _retagged("app", "older", MORE[1].digest),
            _retagged("app", "new", MORE[2].digest),
            Step(
                lambda store: store.repository("elsewhere").mount_blob(Digest.of(MORE[0].config), "app"),
                lambda store: _blob(store, "elsewhere", MORE[0].config),
            ),
        )
    ),
    "delete": Operation(
        (
            Step(
                _quiet(lambda store: store.repository("app").untag("old")),
                lambda store: _tagged(store, "app", "old") is None,
            ),
            Step(
                _quiet(lambda store: store.repository("app").delete_manifest(MORE[0].digest)),
                lambda store: not _manifest(store, "app", MORE[0].digest),
            ),
            Step(
                _quiet(lambda store: store.repository("loose").delete_blob(Digest.of(b"loose"))),
                lambda store: not _blob(store, "loose", b"loose"),
            ),
            Step(
                _quiet(lambda store: store.delete_repository("doomed")),
                lambda store: "doomed" not in list(store.repositories()),
            ),
        )
    ),
    "spill": Operation(
        (
            Step(
                lambda store: _tag_many(store, "new"),
                lambda store: set(MANY["new"]) <= set(store.repository("app").tags()),
            ),
            Step(_untag_many, lambda store: not set(MANY["gone"]).intersection(store.repository("app").tags())),
        ),
        prepare=_with_many_tags,
        open=_spilling,
    ),
    "lease": Operation(
        (
            Step(
                _leased,
                lambda store: _blob(store, "app", b"leased") and _blob(store, "loose", b"looser"),
            ),
        )
    ),
    "upload": Operation(
        (
            Step(_upload, lambda store: _blob(store, "app", BIG)),
            Step(_cancelled, lambda store: True),
        )
    ),
    "gc": Operation((Step(_collect, _collected),), prepare=_garbage),
    "import": Operation(
        (
            Step(
                lambda store: store.import_(store.root.parent / "layout", "imported"),
                lambda store: _tagged(store, "imported", "v0") == image("laid").digest,
            ),
        ),
        prepare=_layout,
    ),
    "export": Operation(
        (
            Step(
                lambda store: store.export(store.root.parent / "exported"),
                lambda store: _exported(store, store.root.parent / "exported"),
            ),
            Step(lambda store: store.export_in_place(), lambda store: _exported(store, store.root)),
        )
    ),
    "backup": Operation((Step(lambda store: store.backup(store.root.parent / "backup"), _backed_up),)),
    "scrub": Operation(
        (Step(_scrub, _scrubbed), Step(_look_again, _scrubbed)),
        prepare=_damage,
        damaged=(str(Digest.of(MORE[0].config)), str(Digest.of(MORE[1].config))),
    ),
    "migrate": Operation((_pushed("app", image("one"), "one"),), prepare=lambda root: to_revision(root, "0001")),
    "rebuild": Operation((_pushed("app", image("one"), "one"),), prepare=_lose_catalog, open=_rebuilt),
    "rebuild by force": Operation(
        (_pushed("app", image("one"), "one"),),
        prepare=_push_and_die,
        open=_rebuilt_by_force,
        look=Store.open,
        there=_late,
    ),
}
"""By what it is called. Each begins with what :func:`fill` made."""
