"""Writing to an open file of the pool, at a place in it, and past the page cache where that helps."""

from __future__ import annotations

import errno
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Final

from ocistore.files.durability import start_writeback
from ocistore.oserrors import Translating
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK: Final = 1024 * 1024
"""Bytes. From this size on a piece of a blob is written past the page cache, where the kernel can (on ext4, XFS and
btrfs) and can be trusted. It goes to the disk at once and its memory is used again for the next piece. One GiB took
0.5 s of processor time this way and 0.3 to 3.5 s the usual way, depending on whether the kernel had that much warm
memory at hand; and a big blob does not push everybody else's pages out."""

_TRUSTED: Final = (6, 16)
"""The first Linux whose writing past the cache is trusted. It came with 6.14; then it was found to use memory that was
free already, 6.15 switched it off ("Disable FOP_DONTCACHE for now due to bugs"), and 6.16 has it back, mended. It was
tried here on 6.18. Durability does not depend on it: a sync follows in any case."""

_WRITEBACK: Final = 8 * 1024 * 1024
"""Bytes. Where that is not done, how much is written before it is told to start bringing it to the disk, so that the
disk works beside the hash and the sync at the end finds little left to do."""

_RWF_DONTCACHE: Final = 0x80
"""Linux's flag for that, which Python 3.11 has no name for (pwritev2(2))."""

_UNKNOWN_FLAG: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class Output:
    """Writes to an open file, which others open and close."""

    def __init__(self, descriptor: int, *, path: str | Callable[[], Path], root: Path, past_cache: bool = True) -> None:
        """Write to an open file, with ``past_cache`` big pieces past the page cache, if the kernel can be trusted."""
        self._descriptor = descriptor
        self._path = path
        self._root = root
        self._past_cache = past_cache and kernel_is_trusted()
        self._unwritten = 0

    def write(self, data: memoryview, position: int) -> None:
        """Write all of ``data`` at ``position``.

        Raises:
            StoreFullError, ReadOnlyStoreError, StorageError: not all of it could be written; some of it may have been.
        """
        with Translating(self._path, root=self._root):
            while (written := self._write_some(data, position)) < len(data):
                data = data[written:]
                position += written

    def _write_some(self, data: memoryview, position: int) -> int:
        if len(data) < BLOCK:
            return os.pwrite(self._descriptor, data, position)
        if self._past_cache:
            try:
                return os.pwritev(self._descriptor, (data,), position, _RWF_DONTCACHE)
            except NotImplementedError:
                self._past_cache = False
            except OSError as error:
                pass_on_theirs(error)
                if error.errno not in _UNKNOWN_FLAG:
                    raise
                self._past_cache = False
        written = os.pwrite(self._descriptor, data, position)
        self._unwritten += written
        if self._unwritten >= _WRITEBACK:
            start_writeback(self._descriptor)
            self._unwritten = 0
        return written


@cache
def kernel_is_trusted() -> bool:
    """Whether the kernel is one that writes past its page cache without known faults."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= _TRUSTED
