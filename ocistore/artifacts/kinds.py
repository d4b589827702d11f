"""What kinds of files there are, in words for messages."""

from __future__ import annotations

import os
import stat
from typing import Final

from ocistore.refusals import pass_on_theirs

_KINDS: Final = {
    stat.S_IFREG: "a plain file",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def kind_of_file(mode: int) -> str:
    """Return what a file of that mode is, for messages: ``a FIFO``."""
    return _KINDS.get(stat.S_IFMT(mode), "something unknown")


def mode_of(name: str, directory: int) -> int | None:
    """Return the mode of what has that name in an open directory, of a symbolic link itself; None where nothing has."""
    try:
        return os.lstat(name, dir_fd=directory).st_mode
    except FileNotFoundError as error:
        pass_on_theirs(error)
        return None
