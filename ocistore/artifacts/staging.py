"""A directory that is staged where nobody else can reach it, and takes its place as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import TYPE_CHECKING, Final

from ocistore import ArtifactInvalidError
from ocistore.artifacts.kinds import kind_of_file, mode_of
from ocistore.filedescriptors import owned
from ocistore.files.durability import sync_filesystem, syncfs_reports_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.filedescriptors import FileDescriptor

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TREE: Final = "tree"
"""What the directory is called inside the one that keeps others out while it is filled."""


class StagedTree:
    """A directory being filled. Paths in it are relative, without ``.`` and ``..``; parents come before children.

    It is in a directory of a temporary name, which only its owner may enter, beside the place it will take.
    """

    def __init__(self, directory: int, name: str, temporary: str) -> None:
        """Begin one that will be ``name`` in the open ``directory``, under a ``temporary`` name there."""
        self._name = name
        self._temporary = temporary
        os.mkdir(self._temporary, 0o700, dir_fd=directory)
        self._room = owned(os.open, self._temporary, _DIRECTORY, dir_fd=directory)
        self._parent_path = ""
        self._parent: FileDescriptor | None = None
        """What is in one directory mostly comes together: the last one stays open."""

    def close(self) -> None:
        """Give back what is open. Nothing can be added then."""
        self._parent = None
        del self._room

    def make_top(self, mode: int) -> None:
        """Make the directory itself, before anything in it."""
        os.mkdir(_TREE, mode, dir_fd=self._room)

    def make_directory(self, path: str, mode: int) -> None:
        """Make a directory in it; the umask applies to modes, as it does wherever files are made."""
        os.mkdir(os.path.basename(path), mode, dir_fd=self._above(path))

    @contextlib.contextmanager
    def create_file(self, path: str, mode: int) -> Iterator[int]:
        """Create a file and give a descriptor to write it with, which is open until the block ends."""
        descriptor = owned(os.open, os.path.basename(path), _NEW_FILE, mode, dir_fd=self._above(path))
        try:
            yield int(descriptor)
        finally:
            del descriptor

    def link(self, path: str, existing: str) -> None:
        """Make another name for a file that was created."""
        source = self._above(existing)
        os.link(
            os.path.basename(existing),
            os.path.basename(path),
            src_dir_fd=source,
            dst_dir_fd=self._above(path),
            follow_symlinks=False,
        )

    def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link, after everything else: nothing is ever made through one."""
        os.symlink(target, os.path.basename(path), dir_fd=self._above(path))

    def sync(self) -> None:
        """Make all of it durable."""
        if syncfs_reports_errors():
            sync_filesystem(self._room)
            return
        for _, _, files, directory in os.fwalk(_TREE, dir_fd=self._room):  # never reached by a link
            for name in files:
                if stat.S_ISREG(os.lstat(name, dir_fd=directory).st_mode):
                    _sync(name, directory)
            os.fsync(directory)

    def refuse_obstacles(self, directory: int) -> None:
        """Check that all of it could take its place in ``directory``.

        Raises:
            ArtifactInvalidError: something there is of another kind than what would replace it.
        """
        for path, staged, existing, names in self._meetings(directory):
            for name in names:
                ours, theirs = mode_of(name, staged), mode_of(name, existing)
                if ours is not None and theirs is not None and stat.S_IFMT(ours) != stat.S_IFMT(theirs):
                    reason = f"it would replace {kind_of_file(theirs)} in the destination"
                    raise ArtifactInvalidError(f"{path}/{name}", reason=reason)

    def publish(self, directory: int) -> None:
        """Take the place in ``directory``: at once where there is nothing, and else file by file."""
        if mode_of(self._name, directory) is None:
            room = owned(os.open, self._temporary, _DIRECTORY, dir_fd=directory)
            os.rename(_TREE, self._name, src_dir_fd=room, dst_dir_fd=directory)
        for _, staged, existing, names in self._meetings(directory):
            for name in names:
                theirs = mode_of(name, existing)
                if theirs is None or not stat.S_ISDIR(theirs):
                    os.rename(name, name, src_dir_fd=staged, dst_dir_fd=existing)
            os.fsync(existing)
        self.remove(directory)

    def remove(self, directory: int) -> None:
        """Remove what is left of it, and its temporary directory."""
        shutil.rmtree(self._temporary, dir_fd=directory)

    def _meetings(self, directory: int) -> Iterator[tuple[str, int, int, list[str]]]:
        room = owned(os.open, self._temporary, _DIRECTORY, dir_fd=directory)
        if mode_of(_TREE, room) is not None and mode_of(self._name, directory) is not None:
            yield from _meetings(room, directory, self._name, self._name)

    def _above(self, path: str) -> FileDescriptor:
        """Return the open directory that ``path`` is in."""
        above = os.path.dirname(path)
        if self._parent is None or above != self._parent_path:
            descriptor = owned(os.open, _TREE, _DIRECTORY, dir_fd=self._room)
            for name in above.split("/") if above else ():
                descriptor = owned(os.open, name, _DIRECTORY, dir_fd=descriptor)
            self._parent, self._parent_path = descriptor, above
        return self._parent


def _sync(name: str, directory: int) -> None:
    os.fsync(owned(os.open, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))


def _meetings(room: int, directory: int, name: str, path: str) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield each place where a staged directory meets an existing one.

    Each is a path, both directories, open, and the names in the staged one.

    Recurses as deep as the directory is, which is not deep: see :data:`ocistore.artifacts.titles.MAXIMUM_DIRECTORIES`.
    """
    staged = owned(os.open, _TREE if path == name else name, _DIRECTORY, dir_fd=room)
    existing = owned(os.open, name, _DIRECTORY, dir_fd=directory)
    names = os.listdir(staged)
    yield path, staged, existing, names
    for below in names:
        ours, theirs = mode_of(below, staged), mode_of(below, existing)
        if ours is not None and theirs is not None and stat.S_ISDIR(ours) and stat.S_ISDIR(theirs):
            yield from _meetings(staged, existing, below, f"{path}/{below}")
