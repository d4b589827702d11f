"""The catalog that a rebuild replaces: whether it may, what is still known from it, and how another takes its place.

A catalog is two files, ``catalog.db`` and ``catalog.db-wal``, and no call renames both. With the last commits still in
the WAL, the one without the other is an older store; and the WAL of one database beside another is taken for its own.
So a catalog that SQLite can work with is made one file first, by moving its WAL into it; then a single rename puts the
new one in its place, and at every moment the name stands for the whole of the old one or of the new one. Of a catalog
that SQLite cannot work with the name is removed first: until the new one has it, the store does not open at all.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocistore.catalog import check, epoch, holds
from ocistore.catalog.contract import one_file
from ocistore.catalog.migrate import revision, upgrade
from ocistore.catalog.schema import SCHEMA_REVISION
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.catalog.users import user_of
from ocistore.errors import (
    CorruptError,
    RebuildRefusedError,
    StorageError,
    StoreBusyError,
    StoreNotFoundError,
)
from ocistore.files.durability import sync_path
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, pass_on_theirs
from ocistore.upkeep import refsfile

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.blobs.paths import StorePaths
    from ocistore.core import Core

_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite finds beside a database, and takes for what belongs to it."""

_LOCK = "-lock"
"""What a rebuild has beside the catalog that it makes, where a store has ``write.lock``."""


@dataclass(frozen=True)
class Healthy:
    """A catalog in which SQLite finds nothing wrong."""

    words: str
    """What it is."""
    has_names: bool
    """Its names can be read, once it has the schema of this version."""
    is_whole: bool = True
    """It has all tables that this version needs, as far as that is known."""


def refuse_in_use(paths: StorePaths) -> None:
    """Stop where a process has the catalog open: it would continue to work in a file that has lost its name.

    Raises:
        RebuildRefusedError: one has.
        StorageError: it could not be found out.
    """
    with Translating(f"{paths.catalog}-shm", root=paths.root):
        user = user_of(paths.catalog)
    if user == os.getpid():
        raise RebuildRefusedError(paths.root, reason="this process has it open; close the store first")
    if user is not None:
        raise RebuildRefusedError(paths.root, reason=f"{_process(user)} has it open; end it first")


def _process(user: int) -> str:
    return f"process {user}" if user > 0 else "another process"


def healthy(paths: StorePaths) -> Healthy | None:
    """Return what is known of a catalog in which nothing is wrong; None where it is lost or damaged.

    Raises:
        OCIStoreError: it cannot be read now, which does not mean that it is damaged.
    """
    # Once more, by another connection: SQLite calls damaged what could not be read, too.
    return _looked_at(paths) or _looked_at(paths)


def _looked_at(paths: StorePaths) -> Healthy | None:
    if not _can_be_opened(paths):
        return None
    catalog = SQLiteCatalog(paths.root, database=paths.catalog, lock=paths.write_lock, read_only=True)
    try:
        with catalog.snapshot() as connection:
            if check.problems(connection):
                return None
        found = revision(catalog)
        with catalog.read() as connection:
            whole = found != SCHEMA_REVISION or check.has_all_columns(connection)
            if found == SCHEMA_REVISION and whole:
                epoch.find(connection)  # without which no store opens for writing
        return _described(found, whole=whole)
    except CorruptError:
        return None
    except StoreNotFoundError:
        return Healthy("it is a good database of another application", has_names=False)
    finally:
        catalog.close()


def _can_be_opened(paths: StorePaths) -> bool:
    """Whether there is a file that may be a database, and nothing beside it that SQLite refuses, such as a link."""
    with Translating(str(paths.catalog), root=paths.root):
        try:
            status = os.lstat(paths.catalog)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            return False
        for suffix in _BESIDE:
            with Ignoring(FileNotFoundError):
                if not stat.S_ISREG(os.lstat(f"{paths.catalog}{suffix}").st_mode):
                    return False
    return True


def _described(found: str | None, *, whole: bool) -> Healthy | None:
    if found is None:
        return None  # nothing is in it
    if found == SCHEMA_REVISION:
        return Healthy("it is good", has_names=True, is_whole=whole)
    if found < SCHEMA_REVISION:
        words = f"it is good, of schema {found}, which the next opening of the store brings to {SCHEMA_REVISION}"
        return Healthy(words, has_names=True)
    words = f"it is good, of schema {found}, newer than {SCHEMA_REVISION} which this ocistore knows"
    return Healthy(words, has_names=False)


def keep_names(paths: StorePaths, private_lock: Path, *, seen: epoch.Mark) -> None:
    """Write the names of a healthy catalog to ``catalog.snapshot``, where a rebuild finds them.

    Not those of an older catalog that was restored, or of one that lost its WAL: the last refs file may know more.

    An older schema is brought up to date for that, as opening the store would; where it cannot be, or the names cannot
    be read, as where it has been changed by hand, those of the last refs file have to do.

    Args:
        paths: of the store, whose write lock the caller holds.
        private_lock: the file of a lock that nobody else takes.
        seen: how far the store's catalog has come, as the write lock's file says.

    Raises:
        OCIStoreError: they could not be read or written; the refs file is as it was.
    """
    try:
        _keep_names(paths, private_lock, seen)
    except CorruptError:
        # It was whole a moment ago. SQLite calls a read that failed damage, too (SQLITE_IOERR_CORRUPTFS): asked again.
        with contextlib.suppress(CorruptError):
            _keep_names(paths, private_lock, seen)


def _keep_names(paths: StorePaths, private_lock: Path, seen: epoch.Mark) -> None:
    catalog = _privately(paths, private_lock)
    try:
        if revision(catalog) != SCHEMA_REVISION:
            seen = seen._replace(identity="")  # the first schema had none
        upgrade(catalog, now=catalog.now())
        if _may_be_the_latest(catalog, seen):
            refsfile.take(catalog, paths)
    finally:
        catalog.close()


def keep_readable_names(paths: StorePaths, *, seen: epoch.Mark) -> None:
    """Write the names of a damaged catalog to ``catalog.snapshot``, where nothing is wrong with what has the names.

    Where the rest of it is damaged, what it says is still newer than what the last collection wrote down.

    Args:
        paths: of the store, whose write lock the caller holds.
        seen: how far the store's catalog has come, as the write lock's file says.

    Raises:
        OCIStoreError: they could not be read now or written; the refs file is as it was.
    """
    if not _can_be_opened(paths):
        return
    catalog = SQLiteCatalog(paths.root, database=paths.catalog, lock=paths.write_lock, read_only=True)
    try:
        with catalog.snapshot() as connection:
            whole = check.refs_are_whole(connection)
        if whole and _may_be_the_latest(catalog, seen):
            refsfile.take(catalog, paths)
    except CorruptError:
        return
    finally:
        catalog.close()


def _may_be_the_latest(catalog: SQLiteCatalog, seen: epoch.Mark) -> bool:
    try:
        return _is_the_latest(catalog, seen)
    except CorruptError:
        return True  # where what would say so is gone, what can be read is better than what was noted


def _is_the_latest(catalog: SQLiteCatalog, seen: epoch.Mark) -> bool:
    with catalog.snapshot() as connection:
        found = epoch.find(connection)
        # A write since it was restored has brought its number up to date, and left a hold.
        put_back = {epoch.OLDER_CATALOG, epoch.OTHER_CATALOG}.intersection(
            holds.in_force(connection, now=catalog.now())
        )
    return not put_back and found.epoch >= seen.epoch and seen.identity in {"", found.identity}


def _privately(paths: StorePaths, private_lock: Path) -> SQLiteCatalog:
    """Open the catalog for writing, by one who holds the write lock of the store, which is not taken again."""
    return SQLiteCatalog(paths.root, database=paths.catalog, lock=private_lock, read_only=False, counts_epochs=False)


def settle(paths: StorePaths, private_lock: Path) -> bool:
    """Make the catalog one file, durably, if SQLite can work with it. Return False where it cannot, or there is none.

    Args:
        paths: of the store, whose write lock the caller holds.
        private_lock: the file of a lock that nobody else takes.

    Raises:
        RebuildRefusedError: somebody opened it just now.
        OCIStoreError: it could not be read or written. It is as it was.
    """
    if not _can_be_opened(paths):
        return False
    catalog = _privately(paths, private_lock)
    try:
        catalog.settle()
    except CorruptError:
        return False
    except StoreBusyError as error:
        raise RebuildRefusedError(paths.root, reason="somebody has it open") from error
    finally:
        catalog.close()
    refuse_in_use(paths)
    wal = paths.catalog.with_name(f"{paths.catalog.name}-wal")
    with Translating(str(wal), root=paths.root):
        if wal.is_file() and wal.stat().st_size:
            raise RebuildRefusedError(paths.root, reason="somebody has written to it just now")
        sync_path(paths.root)  # beside the new catalog, a WAL that comes back in a power cut would be taken for its own
    return True


def remove_rebuilt(paths: StorePaths) -> None:
    """Remove what a killed rebuild left. Under the write lock, which a rebuild holds all the time.

    Raises:
        StorageError: it could not be removed.
    """
    remove_beside_rebuilt(paths)
    with Translating(str(paths.rebuilt), root=paths.root):
        paths.rebuilt.unlink(missing_ok=True)


def remove_beside_rebuilt(paths: StorePaths) -> None:
    """Remove what a killed rebuild left beside the catalog that it made, and keep that catalog."""
    with Translating(str(paths.rebuilt), root=paths.root):
        for suffix in (*_BESIDE, _LOCK):
            paths.rebuilt.with_name(f"{paths.rebuilt.name}{suffix}").unlink(missing_ok=True)


def sweep_rebuilt(core: Core) -> None:
    """Remove it from a store that is open, if there is any; what cannot be removed stays for the next one who looks.

    Raises:
        StoreBusyError: others held the write lock for too long.
    """
    paths = core.paths
    rebuilt = str(paths.rebuilt)  # a Path for each would take longer than a collection that finds nothing
    if any(os.path.lexists(f"{rebuilt}{suffix}") for suffix in ("", *_BESIDE, _LOCK)):
        with one_file(core.catalog).locked(), contextlib.suppress(StorageError):
            remove_rebuilt(paths)


def put_in_place(paths: StorePaths, aside: Path, *, settled: bool) -> str | None:
    """Let the rebuilt catalog take the place of the one that there is, which is kept as ``aside``.

    Returns:
        What the old one is called now; None where there was none.

    Raises:
        OSError: it could not be done. What there is opens as the old catalog, or not at all and can be rebuilt.
    """
    kept = None
    sync_path(paths.rebuilt)
    if settled:
        _give_second_name(paths.catalog, aside)
        kept = aside.name
    else:
        with Ignoring(FileNotFoundError):
            os.rename(paths.catalog, aside)
            kept = aside.name
        sync_path(paths.root)
        for suffix in _BESIDE:
            with Ignoring(FileNotFoundError):
                os.rename(f"{paths.catalog}{suffix}", f"{aside}{suffix}")
        sync_path(paths.root)
    os.rename(paths.rebuilt, paths.catalog)
    sync_path(paths.root)
    return kept


def _give_second_name(catalog: Path, aside: Path) -> None:
    os.link(catalog, aside, follow_symlinks=False)
    sync_path(aside.parent)
