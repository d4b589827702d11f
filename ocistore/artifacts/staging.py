"""A directory that is staged where nobody else can reach it, and takes its place as a whole."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ocistore import ArtifactInvalidError
from ocistore.artifacts.kinds import kind_of_file, mode_of
from ocistore.filedescriptors import owned
from ocistore.files.stagedtree import BELOW, TREE, StagedDirectory, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator


class StagedTree(StagedDirectory):
    """A directory being filled beside the place that it will take."""

    def __init__(self, directory: int, name: str, temporary: str) -> None:
        """Begin one that will be ``name`` in the open ``directory``, under a ``temporary`` name there."""
        self._name = name
        super().__init__(directory, temporary)

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
            room = owned(os.open, self.temporary, BELOW, dir_fd=directory)
            os.rename(TREE, self._name, src_dir_fd=room, dst_dir_fd=directory)
        for _, staged, existing, names in self._meetings(directory):
            for name in names:
                theirs = mode_of(name, existing)
                if theirs is None or not stat.S_ISDIR(theirs):
                    os.rename(name, name, src_dir_fd=staged, dst_dir_fd=existing)
            os.fsync(existing)
        self.remove_all(directory)

    def remove_all(self, directory: int) -> None:
        """Remove what is left of it, and its temporary directory."""
        remove_tree(self.temporary, directory)

    def _meetings(self, directory: int) -> Iterator[tuple[str, int, int, list[str]]]:
        room = owned(os.open, self.temporary, BELOW, dir_fd=directory)
        if mode_of(TREE, room) is not None and mode_of(self._name, directory) is not None:
            yield from _meetings(room, directory, self._name, self._name)


def _meetings(room: int, directory: int, name: str, path: str) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield each place where a staged directory meets an existing one.

    Each is a path, both directories, open, and the names in the staged one.

    Recurses as deep as the directory is, which is not deep: see :data:`ocistore.artifacts.titles.MAXIMUM_DIRECTORIES`.
    """
    staged = owned(os.open, TREE if path == name else name, BELOW, dir_fd=room)
    existing = owned(os.open, name, BELOW, dir_fd=directory)
    names = os.listdir(staged)
    yield path, staged, existing, names
    for below in names:
        ours, theirs = mode_of(below, staged), mode_of(below, existing)
        if ours is not None and theirs is not None and stat.S_ISDIR(ours) and stat.S_ISDIR(theirs):
            yield from _meetings(staged, existing, below, f"{path}/{below}")
