"""The bytes of open files: all of them written or read, although one call may take a part only; or counted."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable


def write_all(
    descriptor: int, data: bytes | bytearray | memoryview, *, wait: Callable[[int], object] | None = None
) -> None:
    """Write all of ``data`` where an open file stands: one call may take a part only.

    Args:
        descriptor: of the file.
        data: what to write.
        wait: called with the descriptor where it is in non-blocking mode and takes nothing now; then it is tried again.

    Raises:
        OSError: not all of it could be written; some of it may have been.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError as error:
            pass_on_theirs(error)
            if wait is None:
                raise
            wait(descriptor)


def read_at_once(file: int, size: int) -> bytes:
    """Return all bytes of a file that is said to have ``size``.

    Return one more where it has more, which is enough to be refused.
    """
    content = os.read(file, size + 1)
    while len(content) < size and (chunk := os.read(file, size + 1 - len(content))):
        content += chunk
    return content


class CountedFile(io.FileIO):
    """An open file that counts how much of it was read. The descriptor stays the caller's, who closes it."""

    def __init__(self, descriptor: int, progress: Callable[[int], object]) -> None:
        super().__init__(descriptor, closefd=False)
        self._progress = progress

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override] # what our own pool reads into
        """Fill the buffer as far as one read does, and count how many bytes that were."""
        count = super().readinto(buffer)
        if count:
            self._progress(count)
        return count
