"""Who may read and write what a store is made of.

A store is private: directories have mode 0700 and files 0600, whatever the umask is. A store is shared by a group where
its root is a directory with the setgid bit that the group may write (``chgrp team DIR; chmod 2770 DIR`` before the
store is made): then directories have the mode of the root, and files what of it is no search permission, so that every
member may do everything. Blobs are never writable; in a shared store as in a private one it is the directories that say
who comes to them.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.filedescriptors import owned
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.filedescriptors import FileDescriptor


class Permissions(NamedTuple):
    """The modes of what is made in one store."""

    directory: int
    file: int


PRIVATE: Final = Permissions(0o700, 0o600)

_SHARED: Final = stat.S_ISGID | stat.S_IWGRP
_NO_SEARCH: Final = 0o666


def of_root(root: Path) -> Permissions:
    """Return the modes of what is made in the store at ``root``; private where there is no such directory yet."""
    try:
        mode = stat.S_IMODE(os.stat(root).st_mode)
    except OSError as error:
        pass_on_theirs(error)
        return PRIVATE
    if mode & _SHARED != _SHARED:
        return PRIVATE
    return Permissions(mode & ~stat.S_ISVTX, mode & _NO_SEARCH)


def make_directory(path: str | os.PathLike[str], mode: int, *, dir_fd: int | None = None) -> bool:
    """Make a directory of exactly that mode, there or below ``dir_fd``. False where something has the name already.

    Raises:
        OSError: it could not be made.
    """
    try:
        os.mkdir(path, mode & 0o777, dir_fd=dir_fd)
    except FileExistsError as error:
        pass_on_theirs(error)
        return False
    # The umask may have taken bits away; one that the parent gave, as setgid, stays.
    made = stat.S_IMODE(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    if made | stat.S_ISGID != mode | stat.S_ISGID or mode & stat.S_ISGID > made & stat.S_ISGID:
        os.chmod(path, mode | made & stat.S_ISGID, dir_fd=dir_fd)
    return True


def make_file(path: str | os.PathLike[str], flags: int, mode: int) -> FileDescriptor:
    """Open a file, which is made with exactly that mode where there is none.

    Raises:
        OSError: it could not be opened or made.
    """
    descriptor = owned(os.open, path, flags | os.O_CREAT | os.O_CLOEXEC, mode)
    status = os.fstat(descriptor)
    if stat.S_IMODE(status.st_mode) != mode and status.st_size == 0:
        with Ignoring(PermissionError):  # somebody else's, and as they made it
            os.fchmod(descriptor, mode)
    return descriptor


def inherit(directory: str, parent: int) -> None:
    """Give a new directory the owner, group and mode of its parent, which is open, as far as this process may."""
    ours, theirs = os.stat(directory, dir_fd=parent, follow_symlinks=False), os.fstat(parent)
    if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid):
        try:
            os.chown(directory, theirs.st_uid, theirs.st_gid, dir_fd=parent, follow_symlinks=False)
        except PermissionError as error:
            pass_on_theirs(error)
            with Ignoring(PermissionError):
                os.chown(directory, -1, theirs.st_gid, dir_fd=parent, follow_symlinks=False)
    # Whatever it is: chown takes bits away.
    with Ignoring(PermissionError):
        os.chmod(directory, stat.S_IMODE(theirs.st_mode), dir_fd=parent)
