"""A filesystem that drops what was not synced, in Python: it is told of every call that the store makes.

It knows three things of each file: its bytes by now, its bytes when it was last synced, and which names were durable in
which directory. From any moment on it can be asked what a power cut would leave: names and bytes that were synced stay,
everything else may or may not; ``aftermaths`` gives the two ends, nothing else kept and everything kept, and for each
single change of a name the world in which that one alone arrived.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Name = tuple[str, str]
"""A directory and a name in it, relative to the store."""


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


_Change = tuple[str, Name, _File | None]
"""A directory, a name in it, and the file that it stands for from then on; None where it is removed."""


class UnsyncedDisk:
    """What would be left of the pool's files."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._files: dict[int, _File] = {}
        self._names: dict[Name, _File] = {}
        self._durable: dict[Name, _File] = {}
        self._pending: list[_Change] = []
        self.calls = 0

    # --- what happens -------------------------------------------------------------------------------------------------

    def _name(self, path: Any, directory: int | None) -> Name | None:
        text = os.fspath(path)
        if directory is not None:
            text = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), text)
        parent = os.path.realpath(os.path.dirname(text)).partition(self._root + "/")[2]
        name = os.path.basename(text)
        return (parent, name) if parent.split("/")[0] in {"blobs", "uploads", "trash", "quarantine"} else None

    def created(self, path: Any, descriptor: int, directory: int | None) -> None:
        name = self._name(path, directory)
        if name is not None:
            inode = os.fstat(descriptor).st_ino
            self._files[inode] = _File()
            self._named(name, self._files[inode])

    def written(self, descriptor: int, data: bytes, position: int) -> None:
        file = self._files.get(os.fstat(descriptor).st_ino)
        if file is not None:
            self.calls += 1
            file.content[position : position + len(data)] = data

    def linked(self, source: Name | None, target: Name | None) -> None:
        if source is not None and target is not None and source in self._names:
            self._named(target, self._names[source])

    def renamed(self, source: Name | None, target: Name | None) -> None:
        if source is not None and target is not None and source in self._names:
            self._named(target, self._names[source])
            self._named(source, None)

    def removed(self, name: Name | None) -> None:
        if name is not None and name in self._names:
            self._named(name, None)

    def _named(self, name: Name, file: _File | None) -> None:
        self.calls += 1
        self._names = _after(self._names, [(name[0], name, file)])
        self._pending.append((name[0], name, file))

    def synced(self, descriptor: int) -> None:
        """One file, or the names of one directory."""
        self.calls += 1
        found = os.readlink(f"/proc/self/fd/{descriptor}")
        file = self._files.get(os.fstat(descriptor).st_ino)
        if file is not None:
            file.synced = bytes(file.content)
        elif found.startswith(self._root):
            directory = os.path.relpath(found, self._root)
            self._settle([change for change in self._pending if change[0] == directory])
            self._pending = [change for change in self._pending if change[0] != directory]

    def all_synced(self) -> None:
        self.calls += 1
        for file in self._files.values():
            file.synced = bytes(file.content)
        self._settle(self._pending)
        self._pending = []

    def _settle(self, changes: list[_Change]) -> None:
        self._durable = _after(self._durable, changes)

    # --- what a power cut leaves --------------------------------------------------------------------------------------

    def aftermaths(self) -> Iterator[dict[str, bytes]]:
        """What may lie in the pool after a power cut now: the bytes by digest, in every world that is looked at."""
        yield self._pool(self._durable)
        for change in self._pending:
            yield self._pool(_after(self._durable, [change]))
        yield self._pool(_after(self._durable, self._pending))

    def _pool(self, names: dict[Name, _File]) -> dict[str, bytes]:
        return {
            f"{directory.removeprefix('blobs/')}:{name}": file.synced
            for (directory, name), file in names.items()
            if directory.startswith("blobs/")
        }


def _after(names: dict[Name, _File], changes: list[_Change]) -> dict[Name, _File]:
    found = dict(names)
    for _, name, file in changes:
        if file is None:
            found.pop(name, None)
        else:
            found[name] = file
    return found


class RecordingOS:
    """The module ``os`` as the pool uses it, telling a disk of what it does."""

    def __init__(self, disk: UnsyncedDisk, after_each: Callable[[], None], *, deaf_to: Callable[[int], bool]) -> None:
        """``deaf_to`` says which syncs, by descriptor, are forgotten: to see whether that is noticed."""
        self._disk = disk
        self._after_each = after_each
        self._deaf_to = deaf_to

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_CREAT:
            self._disk.created(path, descriptor, dir_fd)
            self._after_each()
        return descriptor

    def pwrite(self, descriptor: int, data: Any, position: int) -> int:
        written = os.pwrite(descriptor, data, position)
        self._disk.written(descriptor, bytes(data)[:written], position)
        self._after_each()
        return written

    def pwritev(self, descriptor: int, pieces: Any, position: int, flags: int = 0) -> int:
        raise NotImplementedError

    def write(self, descriptor: int, data: Any) -> int:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        written = os.write(descriptor, data)
        self._disk.written(descriptor, bytes(data)[:written], position)
        self._after_each()
        return written

    def link(self, source: Any, target: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None, **more: Any) -> None:
        os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **more)
        self._disk.linked(self._disk._name(source, src_dir_fd), self._disk._name(target, dst_dir_fd))
        self._after_each()

    def rename(self, source: Any, target: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None) -> None:
        os.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._disk.renamed(self._disk._name(source, src_dir_fd), self._disk._name(target, dst_dir_fd))
        self._after_each()

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        os.unlink(path, dir_fd=dir_fd)
        self._disk.removed(self._disk._name(path, dir_fd))
        self._after_each()

    def fsync(self, descriptor: int) -> None:
        self._after_each()  # of what came before, which may be a commit
        os.fsync(descriptor)
        if not self._deaf_to(descriptor):
            self._disk.synced(descriptor)
        self._after_each()

    def sync_filesystem(self, descriptor: int) -> None:
        self._after_each()
        self._disk.all_synced()
        self._after_each()
