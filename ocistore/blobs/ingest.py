"""Bytes on their way in: written and hashed in one pass, in constant memory, each byte read once.

The bytes that are hashed are the bytes that are written, out of the same buffer: a source that changes while it is read can
give a blob that nobody wanted, but never one that is not what its digest says.
"""

from __future__ import annotations

import ctypes
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final

from ocistore.errors import SizeMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocistore.blobs.sources import Fill
    from ocistore.oci.digest import Hasher

_SMALL: Final = 64 * 1024
"""Bytes. The first buffer: below malloc's threshold for mapping memory (128 KiB), so that a small blob costs no page faults."""

_BLOCK: Final = 1024 * 1024
"""Bytes. What is read, written and hashed at a time after that."""

_BLOCKS: Final = 8
"""How many blocks lie between the writer and the hashing thread: enough to ride out a stall of the disk of some milliseconds."""

_WRITEBACK: Final = 8 * 1024 * 1024
"""Bytes. How much is written before the kernel is told to start bringing it to the disk, so that the disk works beside the
hash and the sync at the end finds little left to do."""

_SYNC_FILE_RANGE_WRITE: Final = 2


def ingest(fill: Fill, write: Callable[[memoryview], None], descriptor: int, hasher: Hasher, *, size: int | None) -> int:
    """Write all that ``fill`` gives to the file ``descriptor``, hash it, and return how many bytes it was.

    ``write`` writes all of a buffer to that file, or raises. With a ``size``, no more than one byte more than that is taken.

    Raises:
        SizeMismatchError: there are fewer or more bytes than ``size``.
    """
    total = _copy(fill, write, descriptor, hasher, limit=None if size is None else size + 1)
    if size is not None and total != size:
        raise SizeMismatchError(expected=size, actual=total)
    return total


def _copy(
    fill: Fill, write: Callable[[memoryview], None], descriptor: int, hasher: Hasher, *, limit: int | None
) -> int:
    first = memoryview(bytearray(_SMALL if limit is None else min(_SMALL, limit)))
    total = fill(first)
    hasher.update(first[:total])
    write(first[:total])
    if total < len(first) or total == limit:
        return total
    return total + _copy_beside_hashing(
        fill, write, descriptor, hasher, offset=total, limit=None if limit is None else limit - total
    )


def _copy_beside_hashing(
    fill: Fill, write: Callable[[memoryview], None], descriptor: int, hasher: Hasher, *, offset: int, limit: int | None
) -> int:
    pending: deque[tuple[memoryview, Future[object]]] = deque()
    total = 0
    told = 0
    # Leaving the block waits for the thread, however it is left.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ocistore-hash") as thread:
        while limit is None or total < limit:
            if len(pending) < _BLOCKS:
                block = memoryview(bytearray(_BLOCK))
            else:
                block, hashed = pending.popleft()
                hashed.result()
            room = block if limit is None else block[: limit - total]
            count = fill(room)
            if count:
                pending.append((block, thread.submit(hasher.update, room[:count])))
                write(room[:count])
                total += count
            if count < len(room):
                break
            if total - told >= _WRITEBACK:
                start_writeback(descriptor, offset=offset + told, length=total - told)
                told = total
        for _, hashed in pending:
            hashed.result()
    return total


def start_writeback(descriptor: int, *, offset: int = 0, length: int = 0) -> None:
    """Ask the kernel to start writing those bytes to the disk; all from ``offset`` on where ``length`` is 0.

    A hint that promises nothing and whose failure means nothing: only the sync that follows says whether they arrived.
    """
    _sync_file_range()(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int]:
    function = ctypes.CDLL(None).sync_file_range
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function
