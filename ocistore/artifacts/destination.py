"""A directory that files are written into under titles that come from strangers."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from ocistore import ArtifactInvalidError
from ocistore.artifacts.kinds import kind_of_file, mode_of
from ocistore.artifacts.staging import StagedTree
from ocistore.filedescriptors import owned
from ocistore.files.cloning import clone
from ocistore.files.content import write_all
from ocistore.files.durability import start_writeback, sync_filesystem, syncfs_reports_errors
from ocistore.files.making import create_file, make_directories, temporary_name
from ocistore.files.stagedtree import remove_tree
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE: Final = _DIRECTORY | os.O_NOFOLLOW
"""Below the directory that the caller named, no symbolic link is followed: another user may have put it there."""


_CANNOT_LINK: Final = {
    errno.EXDEV: "the store lies on another filesystem, from where hard links do not reach; copy it instead",
    errno.EPERM: "it may not be linked: the store is somebody else's, or the filesystem has no hard links; copy it "
    "instead",
    errno.EMLINK: "it has as many names as a file can have; copy it instead",
    errno.ENOENT: "it was removed from the store meanwhile, as after its deletion",
}


_WRITEBACK: Final = 8 * 1024 * 1024
"""Bytes. How much is written before the disk is told to begin with it, so that the sync at the end finds little to do:
as where the pool writes."""


class NewFile:
    """A file that is being written."""

    def __init__(self, descriptor: int, naming: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        """Write to an open file; ``naming`` lets errors of the system name it."""
        self._descriptor = descriptor
        self._naming = naming
        self._unwritten = 0

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: not all of them could be written.
        """
        with self._naming():
            write_all(self._descriptor, chunk)
        self._unwritten += len(chunk)
        if self._unwritten >= _WRITEBACK:
            start_writeback(self._descriptor)
            self._unwritten = 0

    def clone(self, source: int) -> bool:
        """Share the bytes of another open file, before anything was written. Return whether the filesystem can.

        Raises:
            OSError: it can, and failed.
        """
        with self._naming():
            return clone(source, self._descriptor)


class ArtifactDestination:
    """A directory, and what is written beside its place in it and takes its name at the end, together with the rest.

    A context manager. Where it is left before everything was published, the rest leaves no traces. Titles are relative
    paths without ``.`` and ``..``, as :mod:`ocistore.artifacts.titles` checks them.
    """

    def __init__(self, root: Path, *, many: bool = False) -> None:
        """Open the directory, which is made durably if it does not exist, and may itself be a symbolic link.

        Args:
            root: its path.
            many: whether so many files are written that they are made durable together, at the end.

        Raises:
            OSError: there is none, and none can be made.
        """
        self._root = root
        self._pending: dict[str, str] = {}
        """The temporary name in the same directory, by title."""
        self._trees: dict[str, StagedTree] = {}
        """The directories that are being unpacked, by title."""
        self._rooms: dict[str, str] = {}
        """Where they are unpacked: temporary names in the same directory, by title."""
        self._made: list[str] = []
        """Directories, outer before inner."""
        self._linked: set[str] = set()
        """The titles of those among them that are hard links to something else."""
        self._complete = False
        make_directories(root)
        self._descriptor = owned(os.open, root, _DIRECTORY)
        self._device = os.fstat(self._descriptor).st_dev
        self._together = many and syncfs_reports_errors()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._complete:
            self._clean()
        del self._descriptor

    def _clean(self) -> None:
        for title, room in self._rooms.items():
            with Ignoring(), self._directory(title) as directory:
                remove_tree(room, directory)
        for title, temporary in self._pending.items():
            with Ignoring(), self._directory(title) as directory:
                os.unlink(temporary, dir_fd=directory)
        for path in reversed(self._made):
            with Ignoring(), self._directory(path) as directory:
                os.rmdir(os.path.basename(path), dir_fd=directory)

    def refuse_obstacle(self, title: str, *, is_directory: bool = False) -> None:
        """Check that on the way there are directories or nothing, and in its place nothing, or something of its kind.

        Raises:
            ArtifactInvalidError: there is something else.
            OSError: one of the directories cannot be looked into.
        """
        *above, name = title.split("/")
        with self._naming(title):
            directory = self._descriptor
            for component in above:
                mode = mode_of(component, directory)
                if mode is None:
                    return
                if not stat.S_ISDIR(mode):
                    reason = f"{component!r:.300} is {kind_of_file(mode)} in the destination, not a directory"
                    raise ArtifactInvalidError(title, reason=reason)
                directory = owned(os.open, component, _INSIDE, dir_fd=directory)
            mode = mode_of(name, directory)
            wanted = stat.S_ISDIR if is_directory else stat.S_ISREG
            if mode is not None and not wanted(mode):
                raise ArtifactInvalidError(title, reason=f"it would replace {kind_of_file(mode)} in the destination")

    @contextlib.contextmanager
    def create(self, title: str, *, executable: bool = False) -> Iterator[NewFile]:
        """Create a file of that title, to be written in the block.

        Its bytes are durable when the block ends, or where there are many files, before any of them has its name.
        """
        with self._naming(title), self._directory(title, make=True) as directory:
            self._pending[title] = temporary_name()  # noted before it is made: no interrupt leaves it
            mode = 0o755 if executable else 0o644
            descriptor = create_file(self._pending[title], directory, mode=mode)
        try:
            yield NewFile(int(descriptor), lambda: self._naming(title))  # a number, which keeps nothing open
            with self._naming(title):
                if not self._together or os.fstat(descriptor).st_dev != self._device:
                    os.fsync(descriptor)
        finally:
            del descriptor

    def link(self, title: str, descriptor: int) -> None:
        """Give an open file another name, which is that of the title in the end.

        Raises:
            ArtifactInvalidError: it cannot be linked here; the reason says why.
            OSError: the system refused something else.
        """
        with self._naming(title), self._directory(title, make=True) as directory:
            self._linked.add(title)
            temporary = self._pending[title] = temporary_name()
            try:
                # By its descriptor and not by its name, which it may not have any more.
                os.link(f"/proc/self/fd/{descriptor}", temporary, dst_dir_fd=directory, follow_symlinks=True)
            except OSError as error:
                pass_on_theirs(error)
                if error.errno not in _CANNOT_LINK:
                    raise
                raise ArtifactInvalidError(title, reason=_CANNOT_LINK[error.errno]) from error

    @contextlib.contextmanager
    def create_directory(self, title: str) -> Iterator[StagedTree]:
        """Create a directory of that title, to be filled in the block; what is in it is durable when the block ends."""
        with self._naming(title), self._directory(title, make=True) as directory:
            self._rooms[title] = temporary_name()
            tree = self._trees[title] = StagedTree(directory, os.path.basename(title), self._rooms[title])
        try:
            yield tree
            with self._naming(title):
                tree.sync()
        finally:
            tree.close()

    def publish(self) -> None:
        """Give everything its name, durably.

        Raises:
            ArtifactInvalidError: in a directory that is there already, something is in the way of another kind than
                what would replace it. Nothing was changed.
            OSError: something could not be renamed. What was before it has its name.
        """
        if self._together:
            with self._naming(""):
                sync_filesystem(self._descriptor)
        for title, tree in self._trees.items():
            with self._naming(title), self._directory(title) as directory:
                tree.refuse_obstacles(directory)
        changed = {os.path.dirname(title): title for title in self._pending}
        for title, temporary in list(self._pending.items()):
            with self._naming(title), self._directory(title) as directory:
                os.rename(temporary, os.path.basename(title), src_dir_fd=directory, dst_dir_fd=directory)
                if title in self._linked:
                    # Where that is another name of the same file already, rename() does nothing and leaves both.
                    with Ignoring(FileNotFoundError):
                        os.unlink(temporary, dir_fd=directory)
            del self._pending[title]
        for title, tree in list(self._trees.items()):
            changed[os.path.dirname(title)] = title
            with self._naming(title), self._directory(title) as directory:
                tree.publish(directory)
            del self._trees[title]
        self._complete = True
        for title in changed.values():
            with self._naming(title), self._directory(title) as directory:
                os.fsync(directory)

    @contextlib.contextmanager
    def _directory(self, path: str, *, make: bool = False) -> Iterator[int]:
        """Give a descriptor of the directory that ``path`` is in, reached without following a link."""
        directory = self._descriptor
        components = path.split("/")[:-1]
        for depth, component in enumerate(components, start=1):
            if make:
                with Ignoring(FileExistsError):
                    os.mkdir(component, dir_fd=directory)
                    self._made.append("/".join(components[:depth]))
                    os.fsync(directory)
            directory = owned(os.open, component, _INSIDE, dir_fd=directory)
        yield directory

    @contextlib.contextmanager
    def _naming(self, title: str) -> Iterator[None]:
        """Let an error of the system name the file that it is about, and not a part of its path."""
        try:
            yield
        except OSError as error:
            pass_on_theirs(error)
            raise OSError(error.errno, error.strerror, str(self._root / title)) from error
