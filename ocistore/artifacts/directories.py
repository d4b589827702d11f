"""Packing a directory as one layer: a tar archive in gzip, made while it is read, the same for the same tree.

The form is that of ``oras``, which unpacks it: each member's name begins with the title. Beside the names and contents
only what is reproducible is kept: whether a file is executable, and where symbolic links lead. Entries come in byte
order of their names, directory by directory; hard links become files of their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ocistore import ArtifactInvalidError, Digest
from ocistore.archives.compression import Compressor
from ocistore.archives.links import LinkError, Place, resolve
from ocistore.archives.names import MAXIMUM_PATH, name_from_disk
from ocistore.archives.tarwriting import TarWriter
from ocistore.artifacts.kinds import kind_of_file
from ocistore.artifacts.titles import MAXIMUM_DIRECTORIES, TOO_DEEP
from ocistore.filedescriptors import owned
from ocistore.oci.digest import hasher
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ocistore.filedescriptors import FileDescriptor
    from ocistore.progress import Tally

_BLOCK: Final = 1024 * 1024
"""Bytes read, hashed and compressed at a time."""

_TOP: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""The directory itself may be named through a symbolic link: it is the caller's own."""
_BELOW: Final = _TOP | os.O_NOFOLLOW
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""What the system says where something was replaced since it was looked at."""


@dataclass(frozen=True, slots=True)
class _PackedEntry:
    """Something in a directory."""

    path: str
    """Its path in the packed directory; empty for the directory itself."""
    status: os.stat_result
    directory: int
    """The directory that it is in, open while the entry is in use."""
    name: str = "."
    target: str = ""
    """What a symbolic link leads to."""


def directory_size(path: str, *, refused: tuple[int, int] | None = None) -> int:
    """Return the bytes of all files in a directory, after checking that everything in it can be packed.

    Args:
        path: of the directory.
        refused: device and inode of a directory that must not be in it.

    Raises:
        ArtifactInvalidError: something in it cannot be packed; the error names it and says why.
        OSError: something cannot be read.
    """
    with contextlib.closing(_entries(path, refused)) as entries:
        return sum(entry.status.st_size for entry in entries if stat.S_ISREG(entry.status.st_mode))


class PackedDirectory:
    """A directory as an archive. Its chunks may be read once; then its digest is known."""

    def __init__(self, path: str, title: str, tally: Tally, *, refused: tuple[int, int] | None = None) -> None:
        """Pack ``path`` under ``title``; what is read is counted. ``refused`` as in :func:`directory_size`."""
        self._path = path
        self._title = title
        self._tally = tally
        self._refused = refused
        self._state = hasher("sha256")
        self._out: list[bytes] = []
        self._compressor = Compressor(self._out.append, "gzip")

    @property
    def content_digest(self) -> Digest:
        """Of the archive before it was compressed, once all chunks were read."""
        return Digest.of_hasher(self._state, "sha256")

    def chunks(self) -> Iterator[bytes]:
        """Yield the compressed archive, in constant memory.

        Raises:
            ArtifactInvalidError: something in the directory cannot be packed, or changed meanwhile.
            OSError: something cannot be read.
        """
        writer = TarWriter(self._write)
        with contextlib.closing(_entries(self._path, self._refused)) as entries:
            for entry in entries:
                name = f"{self._title}/{name_from_disk(entry.path)}" if entry.path else self._title
                mode = entry.status.st_mode
                if stat.S_ISDIR(mode):
                    writer.directory(name)
                elif stat.S_ISLNK(mode):
                    writer.symlink(name, name_from_disk(entry.target))
                else:
                    executable = mode & stat.S_IXUSR
                    writer.begin_file(name, entry.status.st_size, mode=0o755 if executable else 0o644)
                    yield from self._content(entry)
                    writer.end_file()
                yield from self._taken()
        # oras compares the digest of what it reads of the archive, and it reads no more than the end itself.
        writer.finish(whole_records=False)
        self._compressor.finish()
        yield from self._taken()

    def _write(self, data: bytes) -> None:
        self._state.update(data)
        self._compressor.write(data)

    def _taken(self) -> Iterator[bytes]:
        yield from self._out
        self._out.clear()

    def _content(self, entry: _PackedEntry) -> Iterator[bytes]:
        """Yield exactly the bytes that the header promised: with more or fewer the archive would be damaged."""
        with _looking_at(self._path, entry.path):
            descriptor = owned(os.open, entry.name, _FILE, dir_fd=entry.directory)
        before = os.fstat(descriptor)
        if _version(before) != _version(entry.status):
            raise _changed(self._path, entry.path)
        left = before.st_size
        while left and (block := os.read(descriptor, min(left, _BLOCK))):
            left -= len(block)
            self._write(block)
            self._tally.add(len(block))
            yield from self._taken()
        if left or os.read(descriptor, 1) or _version(os.fstat(descriptor)) != _version(before):
            raise _changed(self._path, entry.path)


def _version(status: os.stat_result) -> tuple[int, ...]:
    """Return values of which one changes where a file was written to or replaced."""
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns


def _changed(path: str, inside: str) -> ArtifactInvalidError:
    return ArtifactInvalidError(os.path.join(path, inside), reason="it changed while it was packed")


@contextlib.contextmanager
def _looking_at(path: str, inside: str) -> Iterator[None]:
    """Let an error of the system name the whole path, and be one of ocistore's where something is gone that existed."""
    try:
        yield
    except OSError as error:
        pass_on_theirs(error)
        if error.errno in _GONE:
            raise _changed(path, inside) from error
        raise OSError(error.errno, error.strerror, os.path.join(path, inside)) from error


class _Level:
    """A directory that is being read: open, with the names in it that are still to come, the first of them last."""

    def __init__(self, path: str, descriptor: FileDescriptor) -> None:
        self.path = path
        self.descriptor = descriptor
        self.status = os.fstat(descriptor)
        self.names = sorted(os.listdir(descriptor), key=os.fsencode, reverse=True)

    def changed(self) -> bool:
        return _version(os.fstat(self.descriptor)) != _version(self.status)


def _entries(path: str, refused: tuple[int, int] | None) -> Generator[_PackedEntry]:
    """Yield the directory and everything in it, parents before children.

    Held are, for each level, one open directory and the names in it.
    """
    levels: list[_Level] = []
    try:
        top = _opened(path, None)
        levels.append(_Level("", top))
        _refuse(path, "", levels[0].status, refused)
        yield _PackedEntry("", levels[0].status, top)
        while levels:
            level = levels[-1]
            if not level.names:
                if level.changed():
                    raise _changed(path, level.path)
                levels.pop()
                continue
            name = level.names.pop()
            inside = f"{level.path}/{name}" if level.path else name
            with _looking_at(path, inside):
                status = os.lstat(name, dir_fd=level.descriptor)
                target = os.readlink(name, dir_fd=level.descriptor) if stat.S_ISLNK(status.st_mode) else ""
            _check(path, inside, status, depth=len(levels), refused=refused)
            if target:
                _check_link(path, inside, top)
            yield _PackedEntry(inside, status, level.descriptor, name, target)
            if stat.S_ISDIR(status.st_mode):
                with _looking_at(path, inside):
                    levels.append(_Level(inside, _opened(name, level.descriptor)))
                if _version(levels[-1].status) != _version(status):
                    raise _changed(path, inside)
    finally:
        levels.clear()


def _opened(name: str, parent: int | None) -> FileDescriptor:
    return owned(os.open, name, _TOP) if parent is None else owned(os.open, name, _BELOW, dir_fd=parent)


def _check(path: str, inside: str, status: os.stat_result, *, depth: int, refused: tuple[int, int] | None) -> None:
    mode = status.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise ArtifactInvalidError(
            os.path.join(path, inside), reason=f"it is {kind_of_file(mode)}, which cannot be packed"
        )
    if depth > MAXIMUM_DIRECTORIES or len(os.fsencode(inside)) > MAXIMUM_PATH:
        raise ArtifactInvalidError(os.path.join(path, inside), reason=TOO_DEEP)
    _refuse(path, inside, status, refused)


def _refuse(path: str, inside: str, status: os.stat_result, refused: tuple[int, int] | None) -> None:
    if (status.st_dev, status.st_ino) == refused:
        raise ArtifactInvalidError(os.path.join(path, inside), reason="it is the store that it would be packed into")


def _check_link(path: str, inside: str, top: int) -> None:
    """Refuse a link that leads out of the directory: where it is unpacked, it would lead to what its maker chose."""

    def look(name: str) -> Place | None:
        with Ignoring(FileNotFoundError, NotADirectoryError):
            mode = os.lstat(name, dir_fd=top).st_mode
            if stat.S_ISLNK(mode):
                return Place("symlink", os.readlink(name, dir_fd=top))
            return Place("directory" if stat.S_ISDIR(mode) else "other")
        return None

    try:
        with _looking_at(path, inside):
            resolve(inside, look, confined=True)
    except LinkError as error:
        raise ArtifactInvalidError(os.path.join(path, inside), reason=f"a symbolic link: {error}") from error
