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

from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path


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
