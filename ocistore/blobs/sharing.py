"""Bytes of another file taken into the pool without copying them: by reflink, or as the very same file.

Either way they are hashed where they then lie, so that what was hashed is what the pool has.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import stat
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ocistore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Sharing: TypeAlias = Literal["auto", "copy", "link"]
"""How bytes of a file get into the pool: ``auto`` shares them by reflink where the filesystem can, else copies;
``copy`` always copies; ``link`` makes the file itself a file of the pool, which costs nothing, needs the same
filesystem, and makes it 0444: nobody may write to it afterwards."""

_FICLONE: Final = 0x40049409
"""ioctl_ficlone(2): share the bytes of another file, copied when either is written to."""
_CANNOT_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS})

_LINKED_MODE: Final = 0o444
_REFUSED: Final = {
    errno.EXDEV: "it lies on another filesystem than the store, where hard links do not reach; copy instead",
    errno.EPERM: "it may not be linked: it belongs to somebody else, or the filesystem has no hard links; copy instead",
    errno.EMLINK: "it has as many names as a file can have; copy instead",
}


def clone(source: int, target: int) -> bool:
    """Make the empty file ``target`` share the bytes that ``source`` has now; False where the filesystem cannot.

    Raises:
        OSError: it can, and failed.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
        return False
    return True


@contextlib.contextmanager
def linked(descriptor: int, directory: int, name: str, *, path: str) -> Iterator[int]:
    """Give the open file another name, and 0444, and open it anew for a block that looks at its bytes.

    Afterwards the descriptor that the block was given is the caller's. When the block raises, or the file was written
    to meanwhile, the name is gone again and the mode as it was.

    Args:
        descriptor: of the file.
        directory: where the name is to be.
        name: the name, which must be free.
        path: what messages call the file.

    Raises:
        StorageError: it cannot be linked there, or was written to; ``reason`` says which.
        OSError: the operating system refused something else.
    """
    before = os.fstat(descriptor)
    if before.st_uid != os.geteuid():  # its owner could write to it afterwards, whatever its mode
        raise StorageError(path, errno=errno.EPERM, reason=_REFUSED[errno.EPERM])
    try:
        # By its descriptor and not by its name, which may lead to another file by now.
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise StorageError(path, errno=error.errno, reason=_REFUSED[error.errno]) from error
    try:
        os.fchmod(descriptor, _LINKED_MODE)
        seen = os.fstat(descriptor)
        # Opened anew: that one is the caller's, and this one the block's, if all is well.
        own = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            yield own
            now = os.fstat(own)
            if (now.st_size, now.st_mtime_ns) != (seen.st_size, seen.st_mtime_ns):
                raise StorageError(path, errno=None, reason="it was written to while it was read")
        except BaseException:
            os.close(own)
            raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
            if os.fstat(descriptor).st_nlink <= before.st_nlink:  # unless another store has it by now
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        raise


class ToldFile(io.FileIO):
    """An open file that tells how much of it was read. The descriptor stays the caller's, who closes it."""

    def __init__(self, descriptor: int, told: Callable[[int], object]) -> None:
        super().__init__(descriptor, closefd=False)
        self._told = told

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override] # what our own pool reads into
        """Fill the buffer as far as one read does, and tell how many bytes that were."""
        count = super().readinto(buffer)
        if count:
            self._told(count)
        return count
