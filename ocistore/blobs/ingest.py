"""Bytes on their way in: written and hashed in one pass, in constant memory, each byte read once.

The bytes that are hashed are the bytes that are written, out of the same buffer: a source that changes while it is read
can give a blob that nobody wanted, but never one that is not what its digest says.
"""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from ocistore.blobs.output import BLOCK
from ocistore.errors import SizeMismatchError

if TYPE_CHECKING:
    from ocistore.blobs.sources import Fill
    from ocistore.oci.digest import Hasher

_SMALL: Final = 64 * 1024
"""Bytes. The first buffer: below malloc's threshold for mapping memory (128 KiB), so a small blob costs no page
faults."""

_BLOCKS: Final = 8
"""How many blocks may wait for the hash: enough to ride out a stall of the disk of some milliseconds."""


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: memoryview, position: int) -> None:
        """Write all of ``data`` at ``position``."""
        ...


def ingest(source: bytes | Fill, output: Sink, hasher: Hasher, *, size: int | None) -> int:
    """Write all of ``source`` to ``output``, hash it, and return how many bytes it was.

    With a ``size``, no more than one byte more than that is taken from a source that has to be read.

    Raises:
        SizeMismatchError: there are fewer or more bytes than ``size``.
        StoreFullError, ReadOnlyStoreError, StorageError: they could not be written.
    """
    if isinstance(source, bytes):
        total = len(source)
    else:
        total = _copy(source, output, hasher, limit=None if size is None else size + 1)
    if size is not None and total != size:
        raise SizeMismatchError(expected=size, actual=total)
    if isinstance(source, bytes):
        hasher.update(source)
        output.write(memoryview(source), 0)
    return total


def _copy(fill: Fill, output: Sink, hasher: Hasher, *, limit: int | None) -> int:
    first = memoryview(bytearray(_SMALL if limit is None else min(_SMALL, limit)))
    total = fill(first)
    hasher.update(first[:total])
    output.write(first[:total], 0)
    if total < len(first) or total == limit:
        return total
    return _copy_beside_hashing(fill, output, hasher, position=total, limit=limit)


def _copy_beside_hashing(fill: Fill, output: Sink, hasher: Hasher, *, position: int, limit: int | None) -> int:
    """Read and write here while a thread hashes: hashlib lets go of the interpreter meanwhile.

    Where no thread can be had, one after the other.
    """
    block = memoryview(bytearray(BLOCK))
    pending: deque[tuple[memoryview, Future[object]]] = deque()
    alone = False
    with contextlib.ExitStack() as stack:
        thread: ThreadPoolExecutor | None = None
        while limit is None or position < limit:
            room = block if limit is None else block[: limit - position]
            count = fill(room)
            data = room[:count]
            if count < len(room) and thread is None:  # the first block is the last: not worth a thread
                hasher.update(data)
                output.write(data, position)
                return position + count
            if thread is None:
                # However this is left, leaving waits for the thread.
                thread = stack.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="ocistore-hash"))
            if not alone:
                try:
                    pending.append((block, thread.submit(hasher.update, data)))
                except RuntimeError:  # there are no more threads to be had, or the interpreter is about to end
                    alone = True
                    for _, hashed in pending:
                        hashed.result()
                    pending.clear()
            if alone:
                hasher.update(data)
            output.write(data, position)
            position += count
            if count < len(room):
                break
            if alone:
                continue
            if len(pending) < _BLOCKS:
                block = memoryview(bytearray(BLOCK))
            else:
                block, hashed = pending.popleft()
                hashed.result()
        for _, hashed in pending:
            hashed.result()
    return position
