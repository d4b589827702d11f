"""The file that a reader of a blob holds."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from ocistore.errors import CorruptError
from ocistore.oci.digest import Digest, hasher
from ocistore.oserrors import Translating
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.filedescriptors import FileDescriptor

READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""How a file of the pool is opened: a symbolic link is refused, and a FIFO planted in its place cannot block."""

_NO_SUCH_PLACE: Final = frozenset({errno.EINVAL, errno.EOVERFLOW})
"""Where nobody can seek in any file: the caller's mistake, raised as by every file of Python's."""

_READ_AT_ONCE: Final = 32 * 1024
_VERIFIED_AT_ONCE: Final = 128 * 1024
"""Bytes."""


class BlobReader(io.BufferedReader):
    """The bytes of one blob: a seekable binary file, read-only, that knows its size.

    What it reads stays readable after the blob was deleted and collected: an open file keeps its bytes. One reader may
    be used by one thread at a time; ``os.pread(reader.fileno(), ...)`` may be used by any number, and raises what the
    operating system says. Reading and seeking raise StorageError where the disk cannot be read now.
    """

    def __init__(
        self, raw: io.RawIOBase, size: int, *, digest: Digest | None = None, has_descriptor: bool = False
    ) -> None:
        """Read from ``raw``, which is closed with the reader.

        Args:
            raw: a seekable file of bytes, at its beginning.
            size: how many there are.
            digest: what they must hash to, if that is to be verified while they are read.
            has_descriptor: whether ``fileno()`` of ``raw`` is the number of a file of these bytes.
        """
        super().__init__(
            raw if digest is None else _VerifiedFile(raw, digest, size),
            _READ_AT_ONCE if digest is None else _VERIFIED_AT_ONCE,
        )
        self.size = size
        """The number of bytes."""
        self._has_descriptor = has_descriptor

    @property
    def descriptor(self) -> int | None:
        """What ``fileno()`` returns; None where the bytes are in no file of this machine, and it raises."""
        return self.fileno() if self._has_descriptor else None

    @classmethod
    def of_file(cls, descriptor: FileDescriptor, *, name: str, root: Path, digest: Digest | None = None) -> BlobReader:
        """Return a reader of an open file, which is closed with it, and also where this raises.

        Args:
            descriptor: of the file.
            name: what an error calls it.
            root: of the store.
            digest: as for the class.

        Raises:
            CorruptError: it is not a plain file; ``name`` says what should have been one.
            StorageError: the file system refused to say.
        """
        translating = Translating(name, root=root)
        with translating:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CorruptError(name, reason="it is not a plain file")
            file = _BlobFile(descriptor, translating)
        return cls(file, status.st_size, digest=digest, has_descriptor=True)


class _BlobFile(io.FileIO):
    """A file of the pool, whose errors are ours. It is open for as long as somebody has it."""

    def __init__(self, descriptor: FileDescriptor, translating: Translating) -> None:
        super().__init__(descriptor, "rb", closefd=False)
        self._owner: FileDescriptor | None = descriptor
        self._translating = translating

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - Buffer has a name from Python 3.12 on
        with self._translating:
            count = super().readinto(buffer)
        assert count is not None  # only what does not block gives None
        return count

    def readall(self) -> bytes:
        with self._translating:
            content = super().readall()
        assert content is not None
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            pass_on_theirs(error)
            if error.errno in _NO_SUCH_PLACE:
                raise
            with self._translating:
                raise

    def close(self) -> None:
        super().close()
        self._owner = None


class _VerifiedFile(io.RawIOBase):
    """A file that hashes what is read, and refuses to give the last bytes of wrong ones.

    Bytes may be read again; but once some are left out, by seeking over them, the rest is not verified until they are
    read after all.
    """

    def __init__(self, raw: io.RawIOBase, digest: Digest, size: int) -> None:
        self._raw = raw
        self._digest = digest
        self._size = size
        self._state = hasher(digest.algorithm)
        self._hashed = 0
        self._good = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def tell(self) -> int:
        return self._raw.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._raw.seek(offset, whence)

    def close(self) -> None:
        super().close()
        self._raw.close()

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - likewise
        place = self.tell()
        count = self._raw.readinto(buffer)
        assert count is not None
        self._see(place, memoryview(buffer)[:count])
        return count

    def readall(self) -> bytes:
        place = self.tell()
        content = self._raw.readall()
        assert content is not None
        self._see(place, memoryview(content))
        if content:
            self._see(place + len(content), memoryview(b""))
        return content

    def _see(self, place: int, read: memoryview) -> None:
        if place <= self._hashed < place + len(read):
            self._state.update(read[self._hashed - place :])
            self._hashed = place + len(read)
        whole = self._hashed == self._size
        if self._good or (not whole and (read or place >= self._size)):
            return
        if not whole or Digest.of_hasher(self._state, self._digest.algorithm) != self._digest:
            raise CorruptError(f"blob {self._digest}", reason="its bytes are not those of its digest")
        self._good = True
