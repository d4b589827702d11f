"""The file that a reader of a blob holds."""

from __future__ import annotations

import io
import os
import stat
from typing import Final

from ocistore.errors import CorruptError

READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""How a file of the pool is opened: a symbolic link is refused, and a FIFO planted in its place cannot block."""


class BlobReader(io.BufferedReader):
    """The bytes of one blob: a seekable binary file, read-only, that knows its size.

    What it reads stays readable after the blob was deleted and collected: an open file keeps its bytes. One reader may
    be used by one thread at a time; ``os.pread(reader.fileno(), ...)`` may be used by any number.
    """

    def __init__(self, descriptor: int, *, name: str) -> None:
        """Take over ``descriptor``, which is closed with the reader, and also where this raises.

        Raises:
            CorruptError: it is not of a plain file; ``name`` says what should have been one.
        """
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise CorruptError(name, reason="it is not a plain file")
        super().__init__(io.FileIO(descriptor, "rb"))
        self.size = status.st_size
        """The number of bytes."""
