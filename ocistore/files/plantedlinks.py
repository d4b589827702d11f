"""Symbolic links at the end of a path that is written to: followed as the kernel would, so that nobody else plants one.

In a directory where everybody may write, such as ``/tmp``, anybody can make a link, or a pipe, of the name that
somebody else is about to write to. Linux follows such a link only for the user who made it, and where it is the
directory's owner's (``fs.protected_symlinks``, proc_sys_fs(5)); and opens such a pipe only then
(``fs.protected_fifos``). Both are about what the kernel follows itself, and not about a program that looks where a link
leads: so that is done here, whatever the settings.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from ocistore.filedescriptors import owned
from ocistore.oserrors import Translating
from ocistore.refusals import pass_on_theirs

_MAXIMUM_LINKS: Final = 40
"""As many as Linux follows (path_resolution(7))."""
_OPEN_FILES: Final = "/proc/self/fd"
"""Where Linux has a link for each open file of a process (proc_pid_fd(5)); ``/dev/stdout`` leads there."""
_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def refuse_planted(path: Path) -> None:
    """Refuse a path that ends with a link which somebody else made where everybody may write; touch nothing.

    Raises:
        StorageError: it is one.
    """
    with Translating(str(path)):
        followed(path)


def followed(path: Path) -> Path:
    """Return an absolute path with every symbolic link on it followed; nothing need be there.

    A link that means an open file is no path: what it says is for people, as ``pipe:[4711]``.

    Raises:
        OSError: a link was planted (EACCES), or leads in a ring (ELOOP); or a directory cannot be looked into.
    """
    for _ in range(_MAXIMUM_LINKS):
        # Links on the way are followed by the kernel for everybody: only those who may write there can replace a
        # directory.
        directory = os.path.realpath(path.parent)
        path = Path(directory, path.name)
        if open_file_at(path) is not None:
            return path
        try:
            link = owned(os.open, path, _LOOK)
        except (FileNotFoundError, NotADirectoryError) as error:
            pass_on_theirs(error)
            return path
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            return path
        if planted(status, os.stat(directory)):
            reason = "it is a symbolic link that somebody else made in a directory where everybody may write"
            raise PermissionError(errno.EACCES, reason)
        target = os.readlink("", dir_fd=link)  # of the very link that was looked at
        path = Path(directory, target)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def open_file_at(path: Path) -> int | None:
    """Return the descriptor of this process that a followed path means, open or not; None where it means none."""
    if not path.name.isdecimal() or os.path.realpath(_OPEN_FILES) != os.fspath(path.parent):
        return None
    return int(path.name)


def planted(status: os.stat_result, directory: os.stat_result) -> bool:
    """Whether something is neither ours nor the directory's owner's, in a directory where everybody may write."""
    shared = stat.S_ISVTX | stat.S_IWOTH
    return directory.st_mode & shared == shared and status.st_uid not in {os.geteuid(), directory.st_uid}
