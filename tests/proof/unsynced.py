"""A filesystem that drops what was not synced, in Python: it is told of every call that the store or an export makes.

It knows three things of each file: its bytes by now, its bytes when it was last synced, and which names were durable in
which directory. From any moment on it can be asked what a power cut would leave: names and bytes that were synced stay,
everything else may or may not; ``aftermaths`` gives the two ends, nothing else kept and everything kept, and for each
single change of a name the world in which that one alone arrived.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Name = tuple[str, str]
"""A directory and a name in it, relative to the root of what is watched."""


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


_Change = tuple[str, Name, _File | None]
"""A directory, a name in it, and the file that it stands for from then on; None where it is removed."""


def in_a_store(directory: str) -> bool:
    """Whether the pool's files lie there. Those of the catalog are SQLite's."""
    return directory.partition("/")[0] in {"blobs", "uploads", "trash", "quarantine"}


class UnsyncedDisk:
    """What would be left of the files below a directory."""

    def __init__(self, root: str, *, watches: Callable[[str], bool] = in_a_store) -> None:
        self._root = os.path.realpath(root)
        self._watches = watches
        self._files: dict[int, _File] = {}
        self._made: set[Name] = set()
        """Directories that were not there when this began."""
        self._names: dict[Name, _File] = {}
        self._durable: dict[Name, _File] = {}
        self._pending: list[_Change] = []
        self.calls = 0

    # --- what happens -------------------------------------------------------------------------------------------------

    def _name(self, path: Any, directory: int | None) -> Name | None:
        text = os.fspath(path)
        if directory is not None:
            text = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), text)
        parent = os.path.relpath(os.path.realpath(os.path.dirname(text)), self._root)
        return (parent, os.path.basename(text)) if not parent.startswith("..") and self._watches(parent) else None

    def made(self, path: Any, directory: int | None) -> None:
        name = self._name(path, directory)
        if name is not None:
            self._made.add(name)
            self._named(name, _File())

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

    def linked(self, source: Name | None, target: Name | None, *, content: bytes) -> None:
        """``content`` is that of a file from elsewhere, which was durable there."""
        if target is not None and source is None:
            self._named(target, _File(bytearray(content), content))
        elif target is not None and source in self._names:
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
        """What may be left by a power cut now: the bytes of each file by path, in every world that is looked at."""
        yield self._left(self._durable)
        for change in self._pending:
            yield self._left(_after(self._durable, [change]))
        yield self._left(_after(self._durable, self._pending))

    def _left(self, names: dict[Name, _File]) -> dict[str, bytes]:
        return {
            _below(directory, name): file.synced
            for (directory, name), file in names.items()
            if (directory, name) not in self._made and self._is_reached(directory, names)
        }

    def _is_reached(self, directory: str, names: dict[Name, _File]) -> bool:
        parent, place = ".", directory.split("/")
        for step in place:
            if (parent, step) in self._made and (parent, step) not in names:
                return False
            parent = _below(parent, step)
        return True


@functools.cache  # asked for all names in every world
def _below(directory: str, name: str) -> str:
    return os.path.normpath(os.path.join(directory, name))


def by_digest(left: dict[str, bytes], *, below: str = "") -> dict[str, bytes]:
    """Of the files that are left, those of the blobs of a store or layout, by digest."""
    start = f"{below}blobs/"
    return {path.removeprefix(start).replace("/", ":"): left[path] for path in left if path.startswith(start)}


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

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        os.mkdir(path, mode, dir_fd=dir_fd)
        self._disk.made(path, dir_fd)
        self._after_each()

    def sendfile(self, target: int, source: int, position: int, count: int) -> int:
        there = os.lseek(target, 0, os.SEEK_CUR)
        sent = os.sendfile(target, source, position, count)
        self._disk.written(target, os.pread(source, sent, position), there)
        self._after_each()
        return sent

    def link(self, source: Any, target: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None, **more: Any) -> None:
        os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **more)
        linked = os.open(target, os.O_RDONLY, dir_fd=dst_dir_fd)
        with open(linked, "rb") as file:
            content = file.read()
        source_name, target_name = self._disk._name(source, src_dir_fd), self._disk._name(target, dst_dir_fd)
        self._disk.linked(source_name, target_name, content=content)
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
