"""Bytes of another file taken into the pool without copying them: by reflink, or as the very same file.

Either way they are hashed where they then lie, so that what was hashed is what the pool has.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ocistore.errors import StorageError
from ocistore.filedescriptors import owned
from ocistore.refusals import Ignoring, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocistore.filedescriptors import FileDescriptor

TransferMode: TypeAlias = Literal["auto", "copy", "link"]
"""How bytes of a file get into the pool, and those of a blob into a file.

``auto`` shares them by reflink where the filesystem can, else copies; ``copy`` always copies; ``link`` makes hard
links, which costs nothing and needs the same filesystem. What is linked is one file, 0444 once it is published, and
nobody may write to it afterwards, on either side.

A file is not linked into the pool where somebody has it open for writing, or where it may be written to by another
name. What cannot be known: who may write all the same, as root may; and, on a filesystem without leases (fcntl(2)), who
has it open."""

_READABLE: Final = 0o444
_WRITABLE: Final = 0o222

_REFUSED: Final = {
    errno.EXDEV: "it lies on another filesystem than the store, where hard links do not reach; copy instead",
    errno.EPERM: "it may not be linked: it belongs to somebody else, or the filesystem has no hard links; copy instead",
    errno.EMLINK: "it has as many names as a file can have; copy instead",
}

_OPEN_FOR_WRITING: Final = (
    "somebody has it open for writing, so that it may be written to while it was read, or later; copy instead"
)


@contextlib.contextmanager
def linked(descriptor: int, directory: int, name: str, *, path: str) -> Iterator[FileDescriptor]:
    """Give the open file another name, and open it anew for a block that looks at its bytes.

    Nobody has it open for writing while the block runs. Afterwards its mode lacks what lets it be written to, and has
    nothing that it had not; until then it is as it was, and where this raises, it is so again. The name is the
    caller's to remove.

    Args:
        descriptor: of the file.
        directory: where the name is to be.
        name: the name, which must be free.
        path: what messages call the file.

    Raises:
        StorageError: it cannot be linked there, or was or can be written to; ``reason`` says which.
        OSError: the operating system refused something else.
    """
    before = os.fstat(descriptor)
    if before.st_uid != os.geteuid():  # its owner could write to it afterwards, whatever its mode
        raise StorageError(path, errno=errno.EPERM, reason=_REFUSED[errno.EPERM])
    if before.st_nlink > 1 and before.st_mode & _WRITABLE:
        raise StorageError(path, errno=None, reason="it has other names, by which it may be written to; copy instead")
    try:
        # By its descriptor and not by its name, which may lead to another file by now.
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _REFUSED or not is_refusal(error):
            raise
        raise StorageError(path, errno=error.errno, reason=_REFUSED[error.errno]) from error
    # Opened anew: that one is the caller's, and this one the block's, if all is well.
    own = owned(os.open, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        with _without_writers(int(own), path=path) as still_without:
            seen = os.fstat(own)
            yield own
            os.fchmod(own, stat.S_IMODE(before.st_mode) & _READABLE)
            now = os.fstat(own)
            if (now.st_size, now.st_mtime_ns) != (seen.st_size, seen.st_mtime_ns) or not still_without():
                raise StorageError(path, errno=None, reason="it was written to while it was read")
    except BaseException:
        with Ignoring():
            restore_mode(own, before)
        del own
        raise


def restore_mode(descriptor: int, before: os.stat_result) -> None:
    """Give a file that was linked its mode back, unless somebody else linked it meanwhile, who relies on the new one.

    Raises:
        OSError: it could not be done.
    """
    now = os.fstat(descriptor)
    narrowed = stat.S_IMODE(before.st_mode) & _READABLE
    # Its own name here may be gone by now, or not yet.
    if now.st_nlink <= before.st_nlink + 1 and stat.S_IMODE(now.st_mode) in {narrowed, _READABLE}:
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


@contextlib.contextmanager
def _without_writers(descriptor: int, *, path: str) -> Iterator[Callable[[], bool]]:
    """Return a block in which nobody has the file open for writing, and what says whether somebody wants to.

    By a lease of the kernel's: whoever opens the file for writing waits for it to end. Where the filesystem has none,
    nobody can be asked.

    Raises:
        StorageError: somebody has it open for writing.
    """
    # The signal by which the kernel tells us that somebody waits would end the process if it were SIGIO.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    leased = True
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if not is_refusal(error):
            raise
        if error.errno == errno.EAGAIN:
            raise StorageError(path, errno=error.errno, reason=_OPEN_FOR_WRITING) from error
        leased = False
    try:
        yield lambda: not leased or fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    finally:
        if leased:
            with Ignoring():
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
