"""The directories of the pool: made durably, once, and then held open.

Work inside them goes through held descriptors: the kernel walks one name instead of a path, and nobody can slip a
symbolic link into the middle of that path. Whoever works with one keeps it open, also where the pool is closed
meanwhile.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING, Final

from ocistore.blobs.permissions import PRIVATE, inherit
from ocistore.errors import CorruptError, UnsupportedFilesystemError
from ocistore.filedescriptors import owned
from ocistore.files.durability import sync_path
from ocistore.files.making import make_directories, make_directory
from ocistore.forks import let_go_in_children
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, is_refusal, pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.blobs.paths import StorePaths
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.oci.digest import Digest

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_DIRECTORY: Final = frozenset({errno.ENOTDIR, errno.ELOOP})
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class Directories:
    """The directories of one store that the pool works in, each opened when it is first needed."""

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths
        self._held: dict[Path, FileDescriptor] = {}
        # Those that are open already, for the paths that must be quick: a lookup by Path takes as long as a stat.
        self._algorithms: dict[str, FileDescriptor] = {}
        """Of ``blobs/<alg>``."""
        self._uploads: FileDescriptor | None = None
        self._durable: set[str] = set()
        self._holds_root = False
        let_go_in_children(self)

    def create(self) -> None:
        """Make the tree and make it durable; what exists already is kept. Any number may do it at once.

        Its modes are those of :mod:`ocistore.blobs.permissions`.

        Raises:
            UnsupportedFilesystemError: the filesystem has no hard links, by which blobs are published.
            CorruptError: something that is not a directory is in the place of one.
            StoreFullError, ReadOnlyStoreError, StorageError: a directory could not be made.
        """
        paths = self._paths
        root = paths.root
        with Translating(str(root), root=root):
            make_directories(root, mode=PRIVATE.directory)
            for directory in (paths.uploads, paths.trash, paths.quarantine):
                make_directory(directory, paths.permissions.directory)
            # The blobs directory comes last: where it exists, somebody has already tried this filesystem.
            if not paths.blobs.is_dir():
                self._try_hard_links()
                make_directory(paths.blobs, paths.permissions.directory)
            # A name is durable when the directory it stands in was synced.
            for directory in (root, root.parent):
                with Ignoring(PermissionError):  # a directory that may be written and searched but not read
                    sync_path(directory)

    def _try_hard_links(self) -> None:
        uploads = self.uploads()
        first, second = secrets.token_hex(16), secrets.token_hex(16)
        try:
            owned(os.open, first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=uploads)
            try:
                os.link(first, second, src_dir_fd=uploads, dst_dir_fd=uploads)
            except OSError as error:
                if error.errno in _NO_HARD_LINKS and is_refusal(error):
                    raise UnsupportedFilesystemError(
                        self._paths.root,
                        filesystem="a filesystem without hard links",
                        reason="blobs are given their names by linking",
                    ) from error
                raise
        finally:
            for name in (first, second):
                with Ignoring():
                    os.unlink(name, dir_fd=uploads)

    def uploads(self) -> FileDescriptor:
        """Return a descriptor of ``uploads/``."""
        descriptor = self._uploads
        if descriptor is None:
            descriptor = self._uploads = self._open(self._paths.uploads)
        return descriptor

    def trash(self) -> FileDescriptor:
        """Return a descriptor of ``trash/``."""
        return self._open(self._paths.trash)

    def quarantine(self) -> FileDescriptor:
        """Return a descriptor of ``quarantine/``, made again where its inode was needed to open a full store."""
        with Ignoring(FileNotFoundError):
            descriptor = self._open(self._paths.quarantine)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            self._held.pop(self._paths.quarantine, None)
        make_directory(self._paths.quarantine, self._paths.permissions.directory)
        os.fsync(self._open(self._paths.root))
        return self._open(self._paths.quarantine)

    def algorithm(self, algorithm: str) -> FileDescriptor:
        """Return a descriptor of ``blobs/<alg>``, for reading.

        Raises:
            FileNotFoundError: nothing of that algorithm was ever stored.
            CorruptError: it is a symbolic link, or no directory.
        """
        descriptor = self._algorithms.get(algorithm)
        if descriptor is None:
            self._open(self._paths.blobs)  # a link in the middle of the path is refused too
            descriptor = self._algorithms[algorithm] = self._open(self._paths.algorithm(algorithm))
        return descriptor

    def find(self, digest: Digest) -> os.stat_result | None:
        """Return what has the name of a blob, a link or anything else; None where nothing does.

        Raises:
            CorruptError: ``blobs/<alg>`` is a symbolic link, or no directory.
            OSError: the file system refused to say.
        """
        try:
            return os.stat(digest.encoded, dir_fd=self.algorithm(digest.algorithm), follow_symlinks=False)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return None

    def algorithm_for_writing(self, algorithm: str) -> FileDescriptor:
        """Return a descriptor of ``blobs/<alg>``, which is made, durably, where it is missing.

        Raises:
            CorruptError: it is a symbolic link, or no directory.
        """
        if algorithm not in self._durable:
            blobs = self._open(self._paths.blobs)  # refuses a link before anything is created in its target
            name = self._paths.algorithm(algorithm).name  # which refuses an unknown one
            if make_directory(name, PRIVATE.directory, dir_fd=blobs):
                inherit(name, blobs)
            # Whoever made these names may have died, or may not have come so far yet, before they were durable.
            os.fsync(blobs)
            os.fsync(self._open(self._paths.root))
            self._durable.add(algorithm)
        return self.algorithm(algorithm)

    def _open(self, directory: Path) -> FileDescriptor:
        descriptor = self._held.get(directory)
        if descriptor is None:
            # Two threads may both open it; then one of the two is closed at once.
            opened = self._opened(directory)
            descriptor = self._held.setdefault(directory, opened)
        return descriptor

    def is_gone(self) -> bool:
        """Whether the root that is held was removed, and not only moved."""
        root = self._held.get(self._paths.root)
        return root is not None and os.fstat(root).st_nlink == 0

    def hold(self) -> None:
        """Open the root: what is opened below it later is of that directory, wherever it is moved.

        Raises:
            OSError: it cannot be opened.
        """
        self._open(self._paths.root)
        self._holds_root = True

    def _opened(self, directory: Path) -> FileDescriptor:
        try:
            if directory == self._paths.root:
                return owned(os.open, directory, _DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
            root = self._open(self._paths.root) if self._holds_root else self._held.get(self._paths.root)
            if root is None:
                return owned(os.open, directory, _DIRECTORY_FLAGS)
            return owned(os.open, directory.relative_to(self._paths.root), _DIRECTORY_FLAGS, dir_fd=root)
        except OSError as error:
            pass_on_theirs(error)
            if error.errno in _NOT_A_DIRECTORY:
                raise CorruptError(
                    str(directory), reason="it is not a directory (symbolic links are refused)"
                ) from error
            raise

    def close(self) -> None:
        """Let go of what is held: each is closed when nobody works with it. What is needed then is opened again."""
        self._holds_root = False
        self.let_go_in_child()

    def let_go_in_child(self) -> None:
        """Let go of what is held, and open it again when it is needed."""
        self._algorithms.clear()
        self._uploads = None
        self._held.clear()
