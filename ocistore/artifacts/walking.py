"""Walking through a directory that is to be packed: in byte order, by open directories, with one rule for links.

What is found is looked at, then opened below the directory it was found in, and refused where it is another by then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ocistore import ArtifactInvalidError
from ocistore.archives.links import LinkError, Place, resolve
from ocistore.archives.names import MAXIMUM_PATH
from ocistore.artifacts.kinds import kind_of_file
from ocistore.artifacts.titles import MAXIMUM_DIRECTORIES, TOO_DEEP
from ocistore.filedescriptors import owned
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ocistore.filedescriptors import FileDescriptor

Dereference: TypeAlias = bool | Literal["inside"]
"""Whether symbolic links are followed when a directory is packed: ``True`` follows all of them, wherever they lead;
``inside`` those that lead to something in the same directory, and refuses the others."""

Links: TypeAlias = Literal["keep", "refuse", "inside", "follow"]
"""What becomes of a symbolic link: it is packed as one, or refused, or followed where it leads inside, or anywhere."""

_TOP: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
"""The directory itself may be named through a symbolic link: it is the caller's own."""
_BELOW: Final = _TOP | os.O_NOFOLLOW
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_LOOK: Final = os.O_PATH | os.O_CLOEXEC
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""What the system says where something was replaced since it was looked at."""


@dataclass(frozen=True, slots=True)
class PackedEntry:
    """Something in a directory."""

    top: str
    """The path of the directory that is walked through."""
    path: str
    """Its path in that directory; empty for the directory itself."""
    status: os.stat_result
    """What it is; where a symbolic link was followed, what that leads to."""
    directory: int
    """The directory that it is in, open while the entry is in use."""
    name: str = "."
    target: str = ""
    """What a symbolic link leads to that was not followed."""
    followed: bool = False
    """Whether it is a symbolic link that was followed."""
    is_empty: bool = False
    """Whether it is a directory without anything in it."""

    @property
    def location(self) -> str:
        """Its path, for messages."""
        return os.path.join(self.top, self.path)

    def open(self) -> FileDescriptor:
        """Open a plain file for reading, if it still is the one that was looked at.

        Raises:
            ArtifactInvalidError: it changed.
            OSError: it cannot be opened.
        """
        flags = _FILE if self.followed else _FILE | os.O_NOFOLLOW
        with looking_at(self.location):
            descriptor = owned(os.open, self.name, flags, dir_fd=self.directory)
        self.refuse_changed(descriptor)
        return descriptor

    def refuse_changed(self, descriptor: int) -> None:
        """Refuse a file that is no longer what was looked at.

        Raises:
            ArtifactInvalidError: it was written to or replaced.
        """
        with looking_at(self.location):
            now = os.fstat(descriptor)
        if version(now) != version(self.status):
            raise changed(self.location)


def version(status: os.stat_result) -> tuple[int, ...]:
    """Return values of which one changes where a file was written to or replaced."""
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode), status.st_size, status.st_mtime_ns


def changed(location: str) -> ArtifactInvalidError:
    """Return the error that says so of a file or directory."""
    return ArtifactInvalidError(location, reason="it changed while it was packed")


@contextlib.contextmanager
def looking_at(location: str) -> Iterator[None]:
    """Let an error of the system name the whole path, and be one of ocistore's where something is gone that existed."""
    try:
        yield
    except OSError as error:
        pass_on_theirs(error)
        if error.errno in _GONE:
            raise changed(location) from error
        raise OSError(error.errno, error.strerror, location) from error


def entries(path: str, *, links: Links, refused: tuple[int, int] | None = None) -> Generator[PackedEntry]:
    """Yield a directory and everything in it, parents before children, names in byte order.

    Held are, for each level, one open directory and the names in it.

    Args:
        path: of the directory.
        links: what becomes of symbolic links.
        refused: device and inode of a directory that must not be in it.

    Raises:
        ArtifactInvalidError: something in it cannot be packed, or changed meanwhile; the error names it and says why.
        OSError: something cannot be read.
    """
    levels: list[_Level] = []
    try:
        top = _opened(path, None)
        levels.append(_Level("", path, top))
        _refuse(path, "", levels[0].status, refused)
        with looking_at(path):
            inside = _real_path(top) if links == "inside" else ""
        yield PackedEntry(path, "", levels[0].status, top, is_empty=not levels[0].names)
        while levels:
            level = levels[-1]
            if not level.names:
                level.refuse_changed()
                levels.pop()
                continue
            entry = _looked_at(path, level, level.names.pop(), links)
            _check(path, entry.path, entry.status, depth=len(levels), refused=refused)
            if entry.target:
                _check_link(path, entry.path, top)
            if entry.followed and inside:
                _check_inside(entry, inside)
            if not stat.S_ISDIR(entry.status.st_mode):
                yield entry
                continue
            if entry.followed:
                _check_loop(entry, levels)
            with looking_at(entry.location):
                opened = _opened(entry.name, level.descriptor, follow=entry.followed)
            below = _Level(entry.path, entry.location, opened)
            if version(below.status) != version(entry.status):
                raise changed(entry.location)
            levels.append(below)
            yield PackedEntry(path, entry.path, entry.status, level.descriptor, entry.name, is_empty=not below.names)
    finally:
        levels.clear()


class _Level:
    """A directory that is being read: open, with the names in it that are still to come, the first of them last."""

    def __init__(self, path: str, location: str, descriptor: FileDescriptor) -> None:
        self.path = path
        self._location = location
        self.descriptor = descriptor
        with looking_at(location):
            self.status = os.fstat(descriptor)
            self.names = sorted(os.listdir(descriptor), key=os.fsencode, reverse=True)

    def refuse_changed(self) -> None:
        with looking_at(self._location):
            now = os.fstat(self.descriptor)
        if version(now) != version(self.status):
            raise changed(self._location)


def _looked_at(path: str, level: _Level, name: str, links: Links) -> PackedEntry:
    """Return what has that name in an open directory."""
    inside = f"{level.path}/{name}" if level.path else name
    with looking_at(os.path.join(path, inside)):
        status = os.lstat(name, dir_fd=level.descriptor)
        if not stat.S_ISLNK(status.st_mode):
            return PackedEntry(path, inside, status, level.descriptor, name)
        target = os.readlink(name, dir_fd=level.descriptor)
    if links == "keep":
        return PackedEntry(path, inside, status, level.descriptor, name, target)
    location = os.path.join(path, inside)
    if links == "refuse":
        reason = (
            f"it is a symbolic link to {target!r:.300}, and a layer holds a file: pack what it leads to "
            "(dereference=True, --dereference), or the directory as one archive (layer='tar', --tar), which keeps links"
        )
        raise ArtifactInvalidError(location, reason=reason)
    try:
        status = os.stat(name, dir_fd=level.descriptor)
    except OSError as error:
        pass_on_theirs(error)
        said = {errno.ENOENT: "which is not there", errno.ENOTDIR: "which is not there", errno.ELOOP: "in a ring"}
        if error.errno not in said:
            raise OSError(error.errno, error.strerror, location) from error
        reason = f"it is a symbolic link to {target!r:.300}, {said[error.errno]}"
        raise ArtifactInvalidError(location, reason=reason) from error
    return PackedEntry(path, inside, status, level.descriptor, name, followed=True)


def _opened(name: str, parent: int | None, *, follow: bool = False) -> FileDescriptor:
    if parent is None:
        return owned(os.open, name, _TOP)
    return owned(os.open, name, _TOP if follow else _BELOW, dir_fd=parent)


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
        with looking_at(os.path.join(path, inside)):
            resolve(inside, look, confined=True)
    except LinkError as error:
        raise ArtifactInvalidError(os.path.join(path, inside), reason=f"a symbolic link: {error}") from error


def _check_inside(entry: PackedEntry, top: str) -> None:
    """Refuse a followed link that leads out of the directory whose real path is ``top``."""
    with looking_at(entry.location):
        real = _real_path(owned(os.open, entry.name, _LOOK, dir_fd=entry.directory))
    if not real.startswith(f"{top.rstrip('/')}/") and real != top:
        reason = (
            f"it is a symbolic link that leads out of the directory, to {real!r:.300}: "
            "follow those too (dereference=True, --dereference)"
        )
        raise ArtifactInvalidError(entry.location, reason=reason)


def _check_loop(entry: PackedEntry, levels: list[_Level]) -> None:
    """Refuse a followed link to a directory that it lies in: there would be no end."""
    if any(os.path.samestat(level.status, entry.status) for level in levels):
        raise ArtifactInvalidError(entry.location, reason="it is a symbolic link to a directory that it lies in")


def _real_path(descriptor: int) -> str:
    """Return the path that the kernel knows of an open file: no race with who renames or links."""
    return os.readlink(f"/proc/self/fd/{descriptor}")
