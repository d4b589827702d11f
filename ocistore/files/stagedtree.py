"""A tree of files that is filled where nobody else can reach it, without following any link on the way."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from ocistore.filedescriptors import owned
from ocistore.files.durability import sync_filesystem, syncfs_reports_errors
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.filedescriptors import FileDescriptor

BELOW: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
"""How a directory is opened that might have been replaced by a link."""
TREE: Final = "tree"
"""What the tree is called inside the directory that keeps others out while it is filled."""
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StagedDirectory:
    """A directory being filled. Paths in it are relative, without ``.`` and ``..``; parents come before children.

    It is in a directory of a temporary name, which only its owner may enter.
    """

    def __init__(self, directory: int, temporary: str) -> None:
        """Begin one in the open ``directory``, under a ``temporary`` name there."""
        self.temporary = temporary
        os.mkdir(self.temporary, 0o700, dir_fd=directory)
        self._room = owned(os.open, self.temporary, BELOW, dir_fd=directory)
        self._parent_path = ""
        self._parent: FileDescriptor | None = None
        """What is in one directory mostly comes together: the last one stays open."""

    def close(self) -> None:
        """Give back what is open. Nothing can be added then."""
        self._parent = None
        del self._room

    @property
    def room(self) -> int:
        """The open directory that it is in, under the name :data:`TREE`."""
        return self._room

    def make_top(self, mode: int) -> None:
        """Make the directory itself, before anything in it."""
        os.mkdir(TREE, mode, dir_fd=self._room)

    def make_directory(self, path: str, mode: int) -> None:
        """Make a directory in it; the umask applies to modes, as it does wherever files are made."""
        os.mkdir(os.path.basename(path), mode, dir_fd=self.above(path))

    @contextlib.contextmanager
    def create_file(self, path: str, mode: int) -> Iterator[int]:
        """Create a file and give a descriptor to write it with, which is open until the block ends."""
        descriptor = owned(os.open, os.path.basename(path), _NEW_FILE, mode, dir_fd=self.above(path))
        try:
            yield int(descriptor)
        finally:
            del descriptor

    def link(self, path: str, existing: str) -> None:
        """Make another name for a file, or a symbolic link, that was made."""
        source = self.above(existing)
        os.link(
            os.path.basename(existing),
            os.path.basename(path),
            src_dir_fd=source,
            dst_dir_fd=self.above(path),
            follow_symlinks=False,
        )

    def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link. Nothing is ever made through one."""
        os.symlink(target, os.path.basename(path), dir_fd=self.above(path))

    def remove(self, path: str, *, is_directory: bool = False) -> None:
        """Remove what was made, a directory only when nothing is in it."""
        if not is_directory:
            os.unlink(os.path.basename(path), dir_fd=self.above(path))
            return
        os.rmdir(os.path.basename(path), dir_fd=self.above(path))
        self._parent = None  # which may be that directory

    def open_directory(self, path: str) -> FileDescriptor:
        """Open a directory in it; with an empty path, the directory itself."""
        if not path:
            return owned(os.open, TREE, BELOW, dir_fd=self._room)
        return owned(os.open, os.path.basename(path), BELOW, dir_fd=self.above(path))

    def above(self, path: str) -> FileDescriptor:
        """Return the open directory that ``path`` is in, to which no link leads."""
        above = os.path.dirname(path)
        if self._parent is None or above != self._parent_path:
            descriptor = self.open_directory("")
            for name in above.split("/") if above else ():
                descriptor = owned(os.open, name, BELOW, dir_fd=descriptor)
            self._parent, self._parent_path = descriptor, above
        return self._parent

    def sync(self) -> None:
        """Make all of it durable."""
        if syncfs_reports_errors():
            sync_filesystem(self._room)
            return
        for _, _, files, directory in os.fwalk(TREE, dir_fd=self._room):  # never reached by a link
            for name in files:
                if stat.S_ISREG(os.lstat(name, dir_fd=directory).st_mode):
                    os.fsync(owned(os.open, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
            os.fsync(directory)


def remove_tree(name: str, directory: int) -> None:
    """Remove what has that name in an open directory, and everything in it, however deep and whatever its modes are.

    Raises:
        OSError: something could not be removed; the rest is left, too.
    """
    levels = [(owned(os.dup, directory), "", [name])]
    while levels:
        here, own, names = levels[-1]
        if not names:
            levels.pop()
            if levels:
                os.rmdir(own, dir_fd=levels[-1][0])
            continue
        below = names.pop()
        try:
            os.unlink(below, dir_fd=here)
            continue
        except (IsADirectoryError, PermissionError) as error:
            pass_on_theirs(error)
            if not stat.S_ISDIR(os.lstat(below, dir_fd=here).st_mode):
                raise
        os.chmod(below, 0o700, dir_fd=here)
        opened = owned(os.open, below, BELOW, dir_fd=here)
        levels.append((opened, below, os.listdir(opened)))
