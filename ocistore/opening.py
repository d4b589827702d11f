"""Opening a store: what may be one, making one, and bringing its schema up to date."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.blobs import mounts
from ocistore.blobs.durability import sync_path
from ocistore.blobs.filesystem import FilesystemPool
from ocistore.blobs.oserrors import Translating
from ocistore.blobs.paths import StorePaths
from ocistore.blobs.permissions import PRIVATE, make_directory, make_file
from ocistore.blobs.reserve import OPENING, available
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
    UnsupportedFilesystemError,
)
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from typing import NoReturn

    from ocistore.blobs.reserve import Reserve

_NETWORK_FILESYSTEMS: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB2",
    0xFF534D42: "CIFS",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x564C: "NCP",
    0x73757245: "Coda",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x19830326: "BeeGFS",
    0x20030528: "OrangeFS",
    0xAAD7AAEA: "PanFS",
    0x61636673: "StoreNext",
    0xBEEFDEAD: "StoreNext",
    0x013111A8: "IBRIX",
    0x786F4256: "a shared folder of VirtualBox",
    0xBACBACBC: "a shared folder of VMware",
    0x7C7C6673: "a shared folder of Parallels",
}
"""The magic numbers of statfs(2), for filesystems on which neither SQLite's WAL nor flock works between machines.

From linux/magic.h and coreutils (stat.c, human_fstype)."""

ALLOWING: Final = "open it with any_filesystem=True"
"""What a program does to have a store where nothing says what is behind the filesystem."""

_HALF_MADE: Final = frozenset(
    {"write.lock", "catalog.db", "catalog.db-wal", "catalog.db-shm", "blobs", "uploads", "trash", "quarantine"}
)
"""What may lie in a directory whose creation as a store was interrupted."""

OF_THE_VOLUME: Final = frozenset({"lost+found"})
"""What lies in an empty filesystem as mkfs makes it."""


def open_core(root: str | os.PathLike[str], *, create: bool, read_only: bool, any_filesystem: bool = False) -> Core:
    """Open a store; see :meth:`ocistore.Store.open`.

    A crash while a store is made leaves a directory that opening makes a store of.
    """
    paths = StorePaths.at(root)
    if read_only:
        return _open_read_only(paths, any_filesystem=any_filesystem)
    found = _found(paths)
    if found is None and not create:
        raise StoreNotFoundError(paths.root, reason="there is no catalog.db")
    _refuse_network_filesystem(paths.root, any_filesystem=any_filesystem)
    if found is not None:
        _refuse_read_only(paths)
        _refuse_second_name(paths, found)
    else:
        _make_root(paths)
    make_lock(paths)
    catalog = SQLiteCatalog(paths.root, database=paths.catalog, lock=paths.write_lock, read_only=False)
    pool = FilesystemPool(paths)
    made_again: tuple[Path, ...] = ()
    try:
        if found is None:
            _make_store(paths, catalog, pool)
        schema = _revision(catalog, pool.reserve)
        if schema is None and not create:
            _refuse_empty(paths)
        if schema is not None and schema > SCHEMA_REVISION:
            raise SchemaTooNewError(paths.root, found=schema, known=SCHEMA_REVISION)
        if schema != SCHEMA_REVISION:
            if found is not None:  # or it was just made
                pool.create()
            upgrade(catalog, now=milliseconds(), before_creation=partial(_refuse_blobs, paths))
        else:
            made_again = _make_lost(paths, pool)
        pool.reserve.make()
    except BaseException:
        pool.close()
        catalog.close()
        if pool.reserve.gave:
            pool.reserve.restore()
        raise
    pool.hold()
    core = Core(paths, catalog, pool)
    core.made_again = made_again
    return core


def _make_lost(paths: StorePaths, pool: FilesystemPool) -> tuple[Path, ...]:
    lost = lost_directories(paths)
    if lost:
        try:
            pool.create()
        except StoreFullError:
            if lost != [paths.quarantine]:  # which is made when it is needed: its inode may just have been
                raise
    return tuple(lost)


def lost_directories(paths: StorePaths) -> list[Path]:
    """The directories of a store that are not there: copies by git, rsync or to an object store leave empty ones out.

    Opening makes them again.

    Raises:
        StorageError: the file system refused to say.
    """
    with Translating(str(paths.root), root=paths.root):
        return [path for path in (paths.blobs, paths.uploads, paths.trash, paths.quarantine) if not path.exists()]


def _revision(catalog: SQLiteCatalog, reserve: Reserve) -> str | None:
    """The schema's revision: the first question to the database, for which SQLite makes files beside it.

    Even a store that is only read needs room for these, and so may need some of what is reserved.
    """
    memory = catalog.shared_memory
    # SQLite would write into holes, and not come back to say that there is no room.
    risky = memory.is_at_risk and not memory.is_there() and available(catalog.root) < OPENING
    if risky and not reserve.let_open():
        raise StoreFullError(str(catalog.root))
    try:
        return revision(catalog)
    except (StorageError, StoreFullError):
        if not reserve.let_open():
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
    """What the catalog is, be it an empty one; None where there is none.

    Raises:
        StoreNotFoundError: something else lies there.
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
    if not (paths.catalog.exists() and paths.catalog.stat().st_size):
        _refuse_blobs(paths)


def _refuse_blobs(paths: StorePaths) -> None:
    """A store that is half made has no blobs: where there are some, a catalog was lost, and a new one would lose all.

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
        missing = []
        directory = paths.root
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for directory in reversed(missing):
            if directory == paths.root:
                make_directory(directory, PRIVATE.directory)
            else:
                os.makedirs(directory, exist_ok=True)
            sync_path(directory.parent)


def make_lock(paths: StorePaths) -> None:
    """Make the file of the write lock where it is not there: whoever takes the lock makes a private one."""
    if paths.permissions != PRIVATE and not paths.write_lock.exists():
        with Translating(str(paths.write_lock), root=paths.root):
            make_file(paths.write_lock, os.O_RDWR | os.O_NOFOLLOW, paths.permissions.file)


def _make_store(paths: StorePaths, catalog: SQLiteCatalog, pool: FilesystemPool) -> None:
    """Make everything. The catalog's file comes last: where it is, the rest is."""
    with catalog.locked():
        pool.create()
        with Translating(str(paths.catalog), root=paths.root):
            # Never opened where it exists: closing it would drop the locks that SQLite holds on it in this process.
            if not paths.catalog.exists():
                _refuse_blobs(paths)
                _make_catalog(paths)
            sync_path(paths.root)


def _make_catalog(paths: StorePaths) -> None:
    """Write a new catalog and give it its name: six syncs fewer than where SQLite makes it, and whole or not there."""
    if os.path.lexists(paths.catalog):  # a link to nothing
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(paths.catalog))
    content = new_catalog(now=milliseconds())
    temporary = paths.upload(secrets.token_hex(16))  # there gc finds it, where this process is killed
    try:
        with open(temporary, "xb") as file:
            os.fchmod(file.fileno(), paths.permissions.file)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, paths.catalog)
    except BaseException:
        with Ignoring():
            os.unlink(temporary)
        raise


def _refuse_network_filesystem(root: Path, *, any_filesystem: bool = False) -> None:
    import ctypes  # noqa: PLC0415  (only opening needs it)

    directory = root
    with Translating(str(root), root=root):
        while not directory.exists():  # what is made there will lie where its parent does
            directory = directory.parent
    buffer = (ctypes.c_long * 32)()  # struct statfs begins with f_type, a long, and is shorter than this
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(directory), buffer) != 0:
        return  # the next call on the directory says why
    magic = buffer[0] & 0xFFFFFFFF
    name = _NETWORK_FILESYSTEMS.get(magic)
    if magic == mounts.FUSE:
        with Translating(str(root), root=root):
            name = _refused_fuse(root, mounts.behind(directory), any_filesystem=any_filesystem)
    if name is not None:
        raise UnsupportedFilesystemError(
            root, filesystem=name, reason="a store needs a local filesystem, where locks and shared memory work"
        )


def _refused_fuse(root: Path, behind: mounts.Behind, *, any_filesystem: bool) -> str | None:
    """The name of a filesystem in user space that is another machine's; None where a store may lie on it.

    Raises:
        UnsupportedFilesystemError: nothing says what it is.
    """
    if behind.is_remote:
        return f"{behind} (FUSE)"
    if not behind.is_local and not any_filesystem:
        raise UnsupportedFilesystemError(
            root,
            filesystem=f"{behind or 'a filesystem'} (FUSE)",
            reason=f"what is behind it is not known; where it is a disk of this machine, {ALLOWING}",
        )
    return None


def _open_read_only(paths: StorePaths, *, any_filesystem: bool) -> Core:
    if _found(paths) is None:
        raise StoreNotFoundError(paths.root, reason="there is no catalog.db")
    _refuse_network_filesystem(paths.root, any_filesystem=any_filesystem)
    beside = all(os.access(path, os.W_OK, effective_ids=True) for path in (paths.root, paths.catalog))
    catalog = SQLiteCatalog(
        paths.root, database=paths.catalog, lock=paths.write_lock, read_only=True, may_write_beside=beside
    )
    pool = FilesystemPool(paths, read_only=True)
    try:
        try:
            found = _revision(catalog, pool.reserve) if beside else revision(catalog)
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
        catalog.close()
        if pool.reserve.gave:
            pool.reserve.restore()
        raise
    pool.hold()
    return Core(paths, catalog, pool)


def _refuse_revision(root: Path, found: str) -> NoReturn:
    if found > SCHEMA_REVISION:
        raise SchemaTooNewError(root, found=found, known=SCHEMA_REVISION)
    raise SchemaTooOldError(root, found=found, needed=SCHEMA_REVISION)
