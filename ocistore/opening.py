"""Opening a store: what may be one, making one, and bringing its schema up to date."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore import logs
from ocistore.blobs.ballast import OPENING, available
from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.blobs.permissions import PRIVATE
from ocistore.blobs.supportedfilesystems import refuse_network_filesystem
from ocistore.catalog.migrate import new_catalog, revision, upgrade
from ocistore.catalog.schema import SCHEMA_REVISION
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.clock import milliseconds
from ocistore.core import Core
from ocistore.errors import (
    CorruptError,
    ReadOnlyStoreError,
    SchemaTooNewError,
    SchemaTooOldError,
    StorageError,
    StoreFullError,
    StoreNotFoundError,
)
from ocistore.files.content import write_all
from ocistore.files.durability import sync_path
from ocistore.files.making import make_directories, make_file
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from typing import NoReturn

    from ocistore.blobs.ballast import Ballast
    from ocistore.blobs.pool import Pool

_HALF_MADE: Final = frozenset(
    {"write.lock", "catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db.new"}
    | {"blobs", "uploads", "trash", "quarantine", "pool"}
)
"""What may be in a directory whose creation as a store was interrupted."""

_MAXIMUM_IDENTITY: Final = 4096
"""Bytes of the identity of a pool: as long as a path or an address can be."""

OF_THE_VOLUME: Final = frozenset({"lost+found"})
"""What is in an empty filesystem as mkfs makes it."""


def open_core(
    root: str | os.PathLike[str],
    *,
    create: bool,
    read_only: bool,
    any_filesystem: bool = False,
    pool: Pool | None = None,
) -> Core:
    """Open a store; see :meth:`ocistore.Store.open`.

    After a crash while a store is made, opening its directory completes it.
    """
    paths = StorePaths.at(root)
    if read_only:
        return _open_read_only(paths, pool, any_filesystem=any_filesystem)
    found = _found(paths)
    if found is None and not create:
        raise StoreNotFoundError(paths.root, reason="there is no catalog.db")
    refuse_network_filesystem(paths.root, any_filesystem=any_filesystem)
    if found is not None:
        _refuse_read_only(paths)
        _refuse_second_name(paths, found)
        _refuse_other_pool(paths, pool)
    else:
        _make_root(paths)
    make_lock(paths)
    catalog = SQLiteCatalog(paths.root, database=paths.catalog, lock=paths.write_lock, read_only=False)
    files, used = _pools(paths, pool, read_only=False)
    try:
        if found is None:
            _make_store(paths, catalog, files, used)
        schema = _revision(catalog, used.ballast)
        if schema is None and not create:
            _refuse_empty(paths)
        if schema is not None and schema > SCHEMA_REVISION:
            raise SchemaTooNewError(paths.root, found=schema, known=SCHEMA_REVISION)
        made_again = _make_usable(paths, catalog, files, used, schema, is_new=found is None)
    except BaseException:
        _close_refused(catalog, files)
        raise
    core = Core(paths, catalog, used, is_given=files is None)
    core.made_again = made_again
    if schema is not None and schema != SCHEMA_REVISION:
        text = f"upgraded the schema from {schema} to {SCHEMA_REVISION}"
        logs.info("schema-upgraded", text, paths.root, before=schema, after=SCHEMA_REVISION)
    if made_again:
        text = f"made missing directories again: {', '.join(map(str, made_again))}"
        logs.warning("directories-made-again", text, paths.root, directories=made_again)
    return core


def _pools(paths: StorePaths, pool: Pool | None, *, read_only: bool) -> tuple[FilePool | None, Pool]:
    """Return the pool in the store's own directory, where it is the one in use; and the one in use."""
    if pool is not None:
        return None, pool
    files = FilePool(paths, read_only=read_only)
    return files, files


def _make_usable(
    paths: StorePaths,
    catalog: SQLiteCatalog,
    files: FilePool | None,
    pool: Pool,
    schema: str | None,
    *,
    is_new: bool,
) -> tuple[Path, ...]:
    """Bring the schema and the pool of files up to date; return the directories that were made again."""
    made_again: tuple[Path, ...] = ()
    if schema != SCHEMA_REVISION:
        if files is not None and not is_new:  # what is new has its directories
            files.create()
        refuse = partial(_refuse_blobs, paths) if files is not None else partial(_refuse_content, paths, pool)
        upgrade(catalog, now=catalog.now(), before_creation=refuse)
    elif files is not None:
        made_again = _make_lost(paths, files)
    if files is not None:
        files.ballast.make()
        files.hold()
    return made_again


def _close_refused(catalog: SQLiteCatalog, files: FilePool | None) -> None:
    """Close what was opened of a store that cannot be opened. A pool that the caller gave is left to the caller."""
    if files is not None:
        files.close()
    catalog.close()
    if files is not None and files.ballast.gave:
        files.ballast.restore()


def _refuse_other_pool(paths: StorePaths, pool: Pool | None) -> None:
    """Stop where a store was made with another pool than it is opened with: it would serve nothing, and lose all.

    Raises:
        StorageError: it was; or the file system refused to say.
    """
    noted = _noted_pool(paths)
    given = None if pool is None else pool.identity
    if noted == given:
        return
    where = "in its own directory" if noted is None else f"in the pool {noted}"
    asked = f"with the pool {given}" if given else "without a pool"
    raise StorageError(str(paths.root), errno=None, reason=f"its blobs are {where}, and it is opened {asked}")


def _noted_pool(paths: StorePaths) -> str | None:
    """Return the identity of the pool with which a store was made, or begun; None for one in its own directory.

    Raises:
        CorruptError: the note is not one that :func:`_note_pool` writes whole.
        StorageError: it could not be read.
    """
    with Translating(str(paths.pool), root=paths.root):
        try:
            with open(paths.pool, "rb") as file:
                noted = file.read(_MAXIMUM_IDENTITY + 1)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return None
    try:
        if len(noted) <= _MAXIMUM_IDENTITY:
            return noted.decode() or None  # it is empty where its writer was killed: nothing was made with it
    except UnicodeDecodeError:
        pass
    raise CorruptError(str(paths.pool), reason="it does not name a pool")


def _refuse_content(paths: StorePaths, pool: Pool) -> None:
    """Stop where a store is made for content that exists: it is another store's, or one whose catalog was lost.

    Raises:
        CorruptError: there is some.
    """
    if next(pool.sweeper.files(), None) is not None:
        reason = f"it is new, and the pool {pool.identity} has content; make a store with an empty pool"
        raise CorruptError(str(paths.catalog), reason=reason)


def _make_lost(paths: StorePaths, pool: FilePool) -> tuple[Path, ...]:
    lost = lost_directories(paths)
    if lost:
        try:
            pool.create()
        except StoreFullError:
            if lost != [paths.quarantine]:  # which is made when it is needed: its inode may just have been
                raise
    return tuple(lost)


def lost_directories(paths: StorePaths) -> list[Path]:
    """Return the directories of a store that do not exist: copies by git, rsync or to an object store omit empty ones.

    Opening makes them again.

    Raises:
        StorageError: the file system refused to say.
    """
    with Translating(str(paths.root), root=paths.root):
        return [path for path in (paths.blobs, paths.uploads, paths.trash, paths.quarantine) if not path.exists()]


def _revision(catalog: SQLiteCatalog, ballast: Ballast | None) -> str | None:
    """Return the schema's revision: the first question to the database, for which SQLite makes files beside it.

    Even a store that is only read needs room for these, and so may need some of the ballast.
    """
    memory = catalog.shared_memory
    # SQLite would write into holes, and not come back to say that there is no room.
    risky = memory.is_at_risk and not memory.is_there() and available(catalog.root) < OPENING
    if risky and not (ballast is not None and ballast.let_open()):
        raise StoreFullError(str(catalog.root))
    try:
        return revision(catalog)
    except (StorageError, StoreFullError):
        if ballast is None or not ballast.let_open():
            _refuse_long(catalog.root)
            raise
        return revision(catalog)


def _refuse_long(root: Path) -> None:
    """Say why SQLite opens nothing, where the path is short and what its symbolic links lead to is too long."""
    real = Path(os.path.realpath(root))
    if real != root:
        StorePaths.at(real)


def _refuse_read_only(paths: StorePaths) -> None:
    # SQLite opens what it may not write all the same, and says nothing of it until something is to be written.
    for path in (paths.root, paths.catalog):
        if not os.access(path, os.W_OK, effective_ids=True):
            raise ReadOnlyStoreError(paths.root, reason=f"{path} may not be written; open it read-only")


def _found(paths: StorePaths) -> os.stat_result | None:
    """Return the status of the catalog's file, which may be empty; None where there is none.

    Raises:
        StoreNotFoundError: something else is there.
    """
    try:
        status = os.stat(paths.root)
    except FileNotFoundError as error:
        pass_on_theirs(error)
        return None
    except NotADirectoryError as error:
        pass_on_theirs(error)
        raise StoreNotFoundError(paths.root, reason="its parent is a file") from error
    except OSError as error:
        pass_on_theirs(error)
        raise StorageError(str(paths.root), errno=error.errno, reason=error.strerror or str(error)) from error
    if not stat.S_ISDIR(status.st_mode):
        raise StoreNotFoundError(paths.root, reason="it is a file, not a directory")
    with Translating(str(paths.root), root=paths.root):
        try:
            status = os.lstat(paths.catalog)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            _refuse_foreign_directory(paths)
            return None
    if not stat.S_ISREG(status.st_mode):
        raise CorruptError(str(paths.catalog), reason="it is not a plain file (see: ocistore rebuild)")
    return status


def _refuse_second_name(paths: StorePaths, found: os.stat_result) -> None:
    """Stop where a copy by hard links (``cp -al``) has the same catalog: each would write what the other has not.

    Raises:
        StorageError: it has; or the file system refused to say.
    """
    if found.st_nlink == 1:
        return
    with Translating(str(paths.root), root=paths.root), os.scandir(paths.root) as entries:
        # A rebuild that was killed leaves another name here, which nothing opens.
        own = sum(entry.inode() == found.st_ino for entry in entries if entry.name.startswith(paths.catalog.name))
    names = 1 + found.st_nlink - own
    if names > 1:
        reason = (
            f"it has {names} names, as in a copy by hard links (cp -al), which would damage each other: remove the"
            " others, or copy the whole directory without links and use the copy"
        )
        raise StorageError(str(paths.catalog), errno=None, reason=reason)


def _refuse_foreign_directory(paths: StorePaths) -> None:
    present = set(os.listdir(paths.root)) - OF_THE_VOLUME
    if paths.write_lock.name in present:
        _refuse_lost_catalog(paths)
    if not present or (paths.write_lock.name in present and present <= _HALF_MADE):
        return
    if paths.catalog.name in present:  # somebody made it since this looked
        return
    if {"oci-layout", "index.json"} <= present:
        reason = "it is an OCI layout; make a store elsewhere and import it there"
    else:
        reason = "there is no catalog.db, and the directory is not empty"
    raise StoreNotFoundError(paths.root, reason=reason)


def _refuse_lost_catalog(paths: StorePaths) -> None:
    if paths.unfinished_backup.exists() and not paths.catalog.exists():
        raise StoreNotFoundError(paths.root, reason="a backup into it was not finished; run it again")
    if _is_catalog_lost(paths):
        try:
            _refuse_blobs(paths)
        except CorruptError:
            # A process that makes the store may have finished, and put a blob, between the two looks.
            if _is_catalog_lost(paths):
                raise


def _is_catalog_lost(paths: StorePaths) -> bool:
    return not (paths.catalog.exists() and paths.catalog.stat().st_size)


def _refuse_blobs(paths: StorePaths) -> None:
    """Refuse blobs in a store that is half made: a catalog was lost, and a new one would lose all.

    Raises:
        CorruptError: there are blobs.
    """
    with Translating(str(paths.blobs), root=paths.root):
        try:
            with os.scandir(paths.blobs) as entries:
                some = next(entries, None) is not None
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return
    if some:
        wal = f"{paths.catalog.name}-wal"
        with Translating(str(paths.catalog), root=paths.root):
            beside = os.path.lexists(paths.root / wal)
        # SQLite would take it for the copy's own, and make one of two states, which nothing could tell any more.
        put = f"remove {wal} and put a copy of it back" if beside else "put a copy of it back"
        reason = f"it is gone or empty, and there are blobs; {put}, or run: ocistore rebuild"
        raise CorruptError(str(paths.catalog), reason=reason)


def _refuse_empty(paths: StorePaths) -> NoReturn:
    _refuse_blobs(paths)
    raise StoreNotFoundError(
        paths.root, reason="its catalog.db is empty, because its making was interrupted (ocistore init completes it)"
    )


def _make_root(paths: StorePaths) -> None:
    with Translating(str(paths.root), root=paths.root):
        make_directories(paths.root, mode=PRIVATE.directory)


def make_lock(paths: StorePaths) -> None:
    """Make the file of the write lock where it does not exist: taking the lock makes a private one."""
    if paths.permissions != PRIVATE and not paths.write_lock.exists():
        with Translating(str(paths.write_lock), root=paths.root):
            make_file(paths.write_lock, os.O_RDWR | os.O_NOFOLLOW, paths.permissions.file)


def _make_store(paths: StorePaths, catalog: SQLiteCatalog, files: FilePool | None, pool: Pool) -> None:
    """Make everything. The catalog's file comes last: where it exists, the rest exists."""
    with catalog.locked():
        # Also of a store that somebody made meanwhile, that was begun, or whose catalog was lost.
        noted = _noted_pool(paths)
        with Translating(str(paths.catalog), root=paths.root):
            is_made = paths.catalog.exists()
        if noted is not None or is_made:
            _refuse_other_pool(paths, None if files is not None else pool)
        if files is None and not is_made:
            _refuse_content(paths, pool)
            _note_pool(paths, pool)
        if files is not None:
            files.create()
        with Translating(str(paths.catalog), root=paths.root):
            # Never opened where it exists: closing it would drop the locks that SQLite holds on it in this process.
            if not paths.catalog.exists():
                _refuse_blobs(paths)
                _make_catalog(paths)
            sync_path(paths.root)


def _note_pool(paths: StorePaths, pool: Pool) -> None:
    """Write down which pool has the blobs, durably with what is made next. A crash leaves it to be written again."""
    with Translating(str(paths.pool), root=paths.root):
        descriptor = make_file(paths.pool, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, paths.permissions.file)
        write_all(descriptor, pool.identity.encode())
        os.fsync(descriptor)


def _make_catalog(paths: StorePaths) -> None:
    """Write a new catalog and give it its name: six syncs fewer than where SQLite makes it, and whole or not there."""
    if os.path.lexists(paths.catalog):  # a link to nothing
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(paths.catalog))
    _remove_stale_wal(paths)
    descriptor = make_file(paths.new_catalog, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, paths.permissions.file)
    try:
        write_all(descriptor, new_catalog(now=milliseconds()))
        os.fsync(descriptor)
        os.rename(paths.new_catalog, paths.catalog)
    except BaseException:
        with Ignoring():
            os.unlink(paths.new_catalog)
        raise


def _remove_stale_wal(paths: StorePaths) -> None:
    """Remove what a lost catalog left, durably: beside a new catalog SQLite would take it for that one's WAL."""
    stale = [path for suffix in ("-wal", "-shm") if os.path.lexists(path := f"{paths.catalog}{suffix}")]
    for path in stale:
        os.unlink(path)
    if stale:
        sync_path(paths.root)


def _open_read_only(paths: StorePaths, pool: Pool | None, *, any_filesystem: bool) -> Core:
    if _found(paths) is None:
        raise StoreNotFoundError(paths.root, reason="there is no catalog.db")
    refuse_network_filesystem(paths.root, any_filesystem=any_filesystem)
    _refuse_other_pool(paths, pool)
    beside = all(os.access(path, os.W_OK, effective_ids=True) for path in (paths.root, paths.catalog))
    catalog = SQLiteCatalog(
        paths.root, database=paths.catalog, lock=paths.write_lock, read_only=True, may_write_beside=beside
    )
    files, used = _pools(paths, pool, read_only=True)
    try:
        try:
            found = _revision(catalog, used.ballast) if beside else revision(catalog)
        except StorageError as error:
            if beside:
                raise
            reason = "what was committed last cannot be read by who may not write: let who may open it once"
            raise ReadOnlyStoreError(paths.root, reason=reason) from error
        if found is None:
            _refuse_empty(paths)
        if found != SCHEMA_REVISION:
            _refuse_revision(paths.root, found)
    except BaseException:
        _close_refused(catalog, files)
        raise
    if files is not None:
        files.hold()
    return Core(paths, catalog, used, is_given=files is None)


def _refuse_revision(root: Path, found: str) -> NoReturn:
    if found > SCHEMA_REVISION:
        raise SchemaTooNewError(root, found=found, known=SCHEMA_REVISION)
    raise SchemaTooOldError(root, found=found, needed=SCHEMA_REVISION)
