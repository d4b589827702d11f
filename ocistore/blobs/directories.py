"""The directories of the pool: made durably, once, and then held open.

Work inside them goes through held descriptors: the kernel walks one name instead of a path, and nobody can slip a
symbolic link into the middle of that path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING, Final

from ocistore.blobs.durability import sync_path
from ocistore.blobs.oserrors import Translating
from ocistore.errors import CorruptError, UnsupportedFilesystemError
from ocistore.forks import ThreadLock

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.blobs.paths import StorePaths

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE: Final = 0o700
_NOT_A_DIRECTORY: Final = frozenset({errno.ENOTDIR, errno.ELOOP})
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


class Directories:
    """The directories of one store that the pool works in, each opened when it is first needed."""

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths
        self._opening = ThreadLock()
        self._held: dict[Path, int] = {}
        self.algorithms: dict[str, int] = {}
        """Descriptors of ``blobs/<alg>`` that are open already, for the paths that must be quick."""
        self._durable: set[str] = set()

    def create(self) -> None:
        """Make the tree, mode 0700, and make it durable; what exists already is kept. Any number may do it at once.

        Raises:
            UnsupportedFilesystemError: the filesystem has no hard links, by which blobs are published.
            CorruptError: something that is not a directory lies in the place of one.
            StoreFullError, ReadOnlyStoreError, StorageError: a directory could not be made.
        """
        paths = self._paths
        root = paths.root
        with Translating(str(root), root=root):
            missing = [ancestor for ancestor in root.parents if not ancestor.exists()]
            root.parent.mkdir(parents=True, exist_ok=True)
            for directory in (root, paths.uploads, paths.trash, paths.quarantine):
                _make(directory)
            # The blobs directory comes last: where it exists, somebody has already tried this filesystem.
            if not paths.blobs.is_dir():
                self._try_hard_links()
                _make(paths.blobs)
            # A name is durable when the directory it stands in was synced.
            for directory in (root, root.parent, *(ancestor.parent for ancestor in missing)):
                with contextlib.suppress(PermissionError):  # a directory that may be written and searched but not read
                    sync_path(directory)

    def _try_hard_links(self) -> None:
        uploads = self.uploads()
        first, second = secrets.token_hex(16), secrets.token_hex(16)
        os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=uploads))
        try:
            os.link(first, second, src_dir_fd=uploads, dst_dir_fd=uploads)
            os.unlink(second, dir_fd=uploads)
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                raise UnsupportedFilesystemError(
                    self._paths.root,
                    filesystem="a filesystem without hard links",
                    reason="blobs are given their names by linking",
                ) from error
            raise
        finally:
            os.unlink(first, dir_fd=uploads)

    def uploads(self) -> int:
        """A descriptor of ``uploads/``."""
        return self._open(self._paths.uploads)

    def trash(self) -> int:
        """A descriptor of ``trash/``."""
        return self._open(self._paths.trash)

    def quarantine(self) -> int:
        """A descriptor of ``quarantine/``."""
        return self._open(self._paths.quarantine)

    def algorithm(self, algorithm: str) -> int:
        """A descriptor of ``blobs/<alg>``, for reading.

        Raises:
            FileNotFoundError: nothing of that algorithm was ever stored.
            CorruptError: it is a symbolic link, or no directory.
        """
        descriptor = self.algorithms.get(algorithm)
        if descriptor is None:
            self._open(self._paths.blobs)  # a link in the middle of the path is refused too
            descriptor = self.algorithms[algorithm] = self._open(self._paths.algorithm(algorithm))
        return descriptor

    def algorithm_for_writing(self, algorithm: str) -> int:
        """A descriptor of ``blobs/<alg>``, which is made, durably, where it is missing.

        Raises:
            CorruptError: it is a symbolic link, or no directory.
        """
        if algorithm not in self._durable:
            blobs = self._open(self._paths.blobs)  # refuses a link before anything is made behind it
            _make(self._paths.algorithm(algorithm))
            # Whoever made these names may have died, or may not have come so far yet, before they were durable.
            os.fsync(blobs)
            os.fsync(self._open(self._paths.root))
            self._durable.add(algorithm)
        return self.algorithm(algorithm)

    def _open(self, directory: Path) -> int:
        descriptor = self._held.get(directory)
        if descriptor is not None:
            return descriptor
        with self._opening:
            if directory not in self._held:
                self._held[directory] = _opened(directory, refuse_links=directory != self._paths.root)
            return self._held[directory]

    def close(self) -> None:
        """Close what is held; what is needed afterwards is opened again."""
        with self._opening:
            held = list(self._held.values())
            self.algorithms.clear()
            self._held.clear()
        for descriptor in held:
            os.close(descriptor)


def _make(directory: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, _PRIVATE)


def _opened(directory: Path, *, refuse_links: bool) -> int:
    try:
        return os.open(directory, _DIRECTORY_FLAGS if refuse_links else _DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in _NOT_A_DIRECTORY:
            raise CorruptError(str(directory), reason="it is not a directory (symbolic links are refused)") from error
        raise
