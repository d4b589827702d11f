"""The directory that an image is unpacked into: filled out of everybody's reach, it takes its place at the end."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.archives.names import name_on_disk
from ocistore.filedescriptors import owned
from ocistore.files.content import write_all
from ocistore.files.durability import sync_filesystem
from ocistore.files.making import temporary_name
from ocistore.files.stagedtree import BELOW, TREE, StagedDirectory, remove_tree
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from ocistore.filedescriptors import FileDescriptor

_TOP: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""The directory itself may be named through a symbolic link: it is the caller's own."""
_OWNERS: Final = 0o700
"""The mode of every directory until all is made: without it, nothing could be made or removed in some."""
_TOP_MODE: Final = 0o755
"""That of the directory itself where the image does not say one."""
_SECONDS: Final = 1 << 33
"""The times that are set reach so far, before and after 1970: to 2242, which is farther than most filesystems."""
_CANNOT_KEEP: Final = frozenset({errno.EOPNOTSUPP, errno.E2BIG, errno.ENOSPC, errno.ERANGE, errno.EPERM, errno.EINVAL})
"""What filesystems say of extended attributes that they do not take. Some have 4 KiB for all of a file."""


class NewRootFile:
    """A file that is being written."""

    def __init__(self, descriptor: int, naming: _Naming) -> None:
        """Write to an open file; ``naming`` lets errors of the system name it."""
        self._descriptor = descriptor
        self._naming = naming

    def write(self, block: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: not all of them could be written.
        """
        with self._naming:
            write_all(self._descriptor, block)

    def set(self, name: str, value: bytes) -> bool:
        """Set an extended attribute. Return whether the filesystem takes it.

        Raises:
            OSError: it does, and failed.
        """
        with self._naming:
            return _set(self._descriptor, name, value)


class RootDirectory:
    """A context manager: where it is left before everything was published, nothing of it stays.

    Paths are those of an image, relative, without ``.`` and ``..``; parents come before children.
    """

    def __init__(self, destination: str | os.PathLike[str]) -> None:
        """Begin one that will be ``destination``, which does not exist or is empty.

        Raises:
            OSError: it is not empty (ENOTEMPTY), or no directory; or nothing can be made there.
        """
        self._path = Path(os.path.abspath(destination))
        self._named = os.fspath(destination)
        try:
            self._home = owned(os.open, destination, _TOP)
            self._is_new = False
        except FileNotFoundError as error:
            pass_on_theirs(error)
            if os.path.lexists(destination):
                raise FileExistsError(errno.EEXIST, "it is a symbolic link that leads nowhere", self._named) from error
            self._home = owned(os.open, self._path.parent, _TOP)
            self._is_new = True
        if not self._is_new and os.listdir(self._home):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), self._named)
        self._moved: list[str] = []
        """What was staged and has taken its name."""
        self._complete = False
        self._staged = StagedDirectory(self._home, temporary_name())

    def __enter__(self) -> Self:
        try:
            self._staged.make_top(_OWNERS)
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self._complete:
            self._clean()

    def _clean(self) -> None:
        for name in (*self._moved, self._staged.temporary):
            with Ignoring():
                remove_tree(name, self._home)

    # --- making -------------------------------------------------------------------------------------------------------

    def make_directory(self, path: str) -> None:
        """Make a directory that only its owner may enter, until the end."""
        with self._naming(path):
            self._staged.make_directory(name_on_disk(path), _OWNERS)

    def make_symlink(self, path: str, target: str, mtime: int) -> None:
        """Make a symbolic link that leads wherever it does."""
        with self._naming(path):
            on_disk = name_on_disk(path)
            self._staged.symlink(on_disk, name_on_disk(target))
            name, above = os.path.basename(on_disk), self._staged.above(on_disk)
            os.utime(name, ns=_times(mtime), dir_fd=above, follow_symlinks=False)

    def make_fifo(self, path: str, mode: int, mtime: int) -> None:
        """Make a named pipe."""
        with self._naming(path):
            on_disk = name_on_disk(path)
            name, above = os.path.basename(on_disk), self._staged.above(on_disk)
            os.mkfifo(name, 0o600, dir_fd=above)
            os.chmod(name, mode, dir_fd=above)  # nobody else can have replaced it: see the class of what is staged
            os.utime(name, ns=_times(mtime), dir_fd=above, follow_symlinks=False)

    @contextlib.contextmanager
    def create_file(self, path: str, mode: int, mtime: int) -> Iterator[NewRootFile]:
        """Create a file that is written inside the block. At its end it has that mode and time."""
        naming = self._naming(path)
        with contextlib.ExitStack() as stack:
            with naming:
                descriptor = stack.enter_context(self._staged.create_file(name_on_disk(path), 0o600))
            yield NewRootFile(descriptor, naming)
            with naming:
                os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=_times(mtime))

    def link(self, path: str, existing: str) -> bool:
        """Make another name for a file. Return whether there is such a file."""
        with self._naming(path):
            try:
                self._staged.link(name_on_disk(path), name_on_disk(existing))
            except FileNotFoundError as error:
                pass_on_theirs(error)
                return False
        return True

    def remove(self, path: str, *, is_directory: bool) -> None:
        """Remove what was made, of a directory after everything in it."""
        with self._naming(path):
            self._staged.remove(name_on_disk(path), is_directory=is_directory)

    def set_attribute(self, path: str, name: str, value: bytes) -> bool:
        """Set an extended attribute of a directory. Return whether the filesystem takes it.

        Raises:
            OSError: it does, and failed.
        """
        with self._naming(path):
            return _set(self._staged.open_directory(name_on_disk(path)), name, value)

    def clear_attributes(self, path: str) -> None:
        """Remove the extended attributes of a directory that could be set."""
        with self._naming(path):
            descriptor = self._staged.open_directory(name_on_disk(path))
            names: list[str] = []
            with Ignoring():  # a filesystem without any says so
                names = os.listxattr(descriptor)
            for name in names:
                if name.startswith("user."):
                    os.removexattr(descriptor, name)

    # --- the end ------------------------------------------------------------------------------------------------------

    def publish(self, directories: Sequence[tuple[str, int, int]], top: tuple[int, int] | None) -> None:
        """Give directories their modes and times, make all of it durable, and let it take its place.

        Args:
            directories: each with its path, mode and time, parents before children.
            top: mode and time of the directory itself, if the image says them.

        Raises:
            OSError: something of that failed.
        """
        # A directory moves into another one only while its owner may write to it: those at the top come last.
        outer = [entry for entry in directories if "/" not in entry[0]]
        for path, mode, mtime in reversed(directories):
            if "/" in path:
                with self._naming(path):
                    _describe(self._staged.open_directory(name_on_disk(path)), mode, mtime)
        self._staged.sync()
        home = self._move_whole() if self._is_new else self._move_in()
        for path, mode, mtime in outer:
            with self._naming(path):
                _describe(owned(os.open, name_on_disk(path), BELOW, dir_fd=home), mode, mtime)
        with self._naming(""):
            if self._is_new:
                mode, mtime = top or (_TOP_MODE, 0)
                _describe(home, mode, mtime)
            sync_filesystem(home)
        self._complete = True

    def _move_whole(self) -> FileDescriptor:
        tree = self._staged.open_directory("")
        with self._naming(""):
            os.rename(TREE, self._path.name, src_dir_fd=self._staged.room, dst_dir_fd=self._home)
        self._moved.append(self._path.name)
        self._staged.close()
        os.rmdir(self._staged.temporary, dir_fd=self._home)
        os.fsync(self._home)
        return tree

    def _move_in(self) -> FileDescriptor:
        tree = self._staged.open_directory("")
        for name in os.listdir(tree):
            with self._naming(name):
                os.rename(name, name, src_dir_fd=tree, dst_dir_fd=self._home)
            self._moved.append(name)
        del tree
        self._staged.close()
        remove_tree(self._staged.temporary, self._home)
        return self._home

    def _naming(self, path: str) -> _Naming:
        return _Naming(lambda: os.path.join(self._named, name_on_disk(path)) if path else self._named)


class _Naming:
    """Lets an error of the system name the whole path, and not a part of it."""

    __slots__ = ("_name",)

    def __init__(self, name: Callable[[], str]) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            pass_on_theirs(error)
            raise OSError(error.errno, error.strerror, self._name()) from error


def _describe(descriptor: int, mode: int, mtime: int) -> None:
    os.utime(descriptor, ns=_times(mtime))
    os.fchmod(descriptor, mode)


def _times(mtime: int) -> tuple[int, int]:
    """Return both times of a file, in nanoseconds, as far as they can be set."""
    time = max(-_SECONDS, min(mtime, _SECONDS)) * 1_000_000_000
    return time, time


def _set(descriptor: int, name: str, value: bytes) -> bool:
    try:
        os.setxattr(descriptor, name, value)
    except OSError as error:
        pass_on_theirs(error)
        if error.errno not in _CANNOT_KEEP:
            raise
        return False
    return True
