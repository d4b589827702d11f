"""Making files and directories: durably, with exact modes, or under a temporary name first."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from ocistore.filedescriptors import owned
from ocistore.files.durability import sync_path
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.filedescriptors import FileDescriptor

TEMPORARY: Final = ".ocistore-"
"""How the names of files begin that are still being written."""


def make_directories(path: Path, *, mode: int | None = None) -> None:
    """Make a directory and those above it that are missing, durably; harmless where it exists.

    Args:
        path: of the directory. A file in its place is left alone: opening the directory will say that.
        mode: exactly that of the directory, where it is made; that of those above it is what the umask leaves.

    Raises:
        OSError: one of them could not be made, or not be made durable.
    """
    if path.is_dir():
        return
    make_directories(path.parent)
    if mode is not None:
        make_directory(path, mode)
    else:
        with Ignoring(FileExistsError):  # somebody was faster
            os.mkdir(path)
    sync_path(path.parent)


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


def temporary_name() -> str:
    """Return a name that nobody uses, and by which files abandoned in a crash are known."""
    return f"{TEMPORARY}{secrets.token_hex(8)}"


def new_file(directory: int) -> tuple[str, FileDescriptor]:
    """Make a file of a temporary name in an open directory, and open it for writing."""
    name = temporary_name()
    return name, create_file(name, directory)


def create_file(name: str, directory: int, *, mode: int = 0o644) -> FileDescriptor:
    """Make a file of a name that nobody has in an open directory, and open it for writing; the umask applies.

    Raises:
        OSError: it could not be made, or the name is taken.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return owned(os.open, name, flags, mode, dir_fd=directory)
