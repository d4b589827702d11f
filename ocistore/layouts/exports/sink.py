"""Where the bytes of an archive are written: to a file that takes its name when it is whole, or to a pipe as they come.

Small pieces are gathered; large blobs that are not compressed are copied from file to file, or into a pipe, by the
kernel.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import select
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from ocistore.archives.compression import Compressor
from ocistore.errors import ArchiveInvalidError, CorruptError, StorageError
from ocistore.filedescriptors import owned
from ocistore.files.content import write_all
from ocistore.files.making import TEMPORARY, make_directories
from ocistore.files.plantedlinks import followed, open_file_at, planted
from ocistore.layouts.vanished import gone_is_damage
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, pass_on_theirs, theirs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.archives.compression import Compression
    from ocistore.blobs.pool import Provider
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.oci.digest import Digest
    from ocistore.progress import Tally

Target: TypeAlias = Path | BinaryIO
"""A path, or a binary file object that is open for writing and stays the caller's."""

_GATHERED: Final = 256 * 1024
"""Bytes of small pieces that are written at once."""
SMALL: Final = 128 * 1024
"""Bytes. A blob of this size at most is read at once and gathered with what is around it, which saves half of the
system calls."""
_BLOCK: Final = 1024 * 1024
_SENT_AT_ONCE: Final = 16 * 1024 * 1024
_PIPE: Final = 1024 * 1024
"""Bytes that a pipe may hold, the most that everybody is allowed; it holds 64 KiB unless it is asked for more."""
_CANNOT_SEND: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESPIPE})

_LEFTOVER: Final = re.compile(re.escape(TEMPORARY) + "archive-[0-9a-f]{16}", re.ASCII)


class ArchiveSink:
    """Takes the bytes of an archive in order.

    What the operating system refuses is an error of ocistore's that names the target; what a file object of the
    caller's raises is raised unchanged.
    """

    def __init__(self, target: int | BinaryIO, *, name: str, compression: Compression, tally: Tally) -> None:
        """Write to an open file, or to what has ``write``; ``name`` is what messages call it.

        Raises:
            ArchiveInvalidError: the package that zstd needs is not installed.
        """
        self._descriptor = target if isinstance(target, int) else _descriptor(target)
        self._file = None if isinstance(target, int) else target
        self._name = name
        self._tally = tally
        self._gathered = bytearray()
        self._sends = compression == "none" and self._descriptor is not None
        self._compressor = None if compression == "none" else Compressor(self._write, compression)
        if self._descriptor is not None and stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            with Ignoring():
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE)

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        self._gathered += data
        if len(self._gathered) >= _GATHERED:
            self._flush()

    def read(self, pool: Provider, digest: Digest, size: int) -> bytes:
        """Return all bytes of a small blob, which are counted as written.

        Raises:
            CorruptError: it is gone, or has another size.
        """
        try:
            with gone_is_damage(digest):
                content = pool.read(digest, size)
        except CorruptError as error:
            raise CorruptError(f"blob {digest}", reason=error.reason, gone=error.gone) from error
        self._tally.add(size)
        return content

    def send(self, pool: Provider, digest: Digest, size: int) -> None:
        """Take all bytes of a blob.

        Raises:
            CorruptError: it is gone, or has another size.
        """
        if size <= SMALL:
            self.write(self.read(pool, digest, size))
            return
        with gone_is_damage(digest):
            source = pool.open(digest, size)
        with source:
            self._flush()
            descriptor = source.descriptor
            position = self._sent(descriptor, size) if self._sends and descriptor is not None else 0
            while position < size:
                with Translating(f"blob {digest}"):
                    count = min(_BLOCK, size - position)
                    data = source.read(count) if descriptor is None else os.pread(descriptor, count, position)
                if not data:
                    raise CorruptError(f"blob {digest}", reason=f"its file ends after {position} of {size} bytes")
                self._compressed(data)
                position += len(data)
                self._tally.add(len(data))

    def finish(self) -> None:
        """End the archive: everything was written, and a compressed stream ends here."""
        self._flush()
        if self._compressor is not None:
            self._compressor.finish()
        if self._file is not None:
            with Translating(self._name):
                theirs(self._file.flush)()

    def _sent(self, source: int, size: int) -> int:
        """Send bytes by the kernel, and return how many it sent.

        Fewer where it cannot, or where the source ends early.
        """
        assert self._descriptor is not None
        position = 0
        with Translating(self._name):
            while position < size:
                try:
                    count = os.sendfile(self._descriptor, source, position, min(_SENT_AT_ONCE, size - position))
                except BlockingIOError as error:
                    pass_on_theirs(error)
                    _wait_for_room(self._descriptor)
                    continue
                except OSError as error:
                    pass_on_theirs(error)
                    # A file that is open for appending, and on some filesystems any file.
                    if error.errno not in _CANNOT_SEND or position:
                        raise
                    self._sends = False
                    break
                if count == 0:
                    break
                position += count
                self._tally.add(count)
        return position

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        if gathered:
            self._compressed(bytes(gathered))

    def _compressed(self, data: bytes) -> None:
        if self._compressor is None:
            self._write(data)
        else:
            self._compressor.write(data)

    def _write(self, data: bytes) -> None:
        with Translating(self._name):
            if self._descriptor is None:
                assert self._file is not None
                _write_to(self._file, data)
                return
            # Somebody else's end of the pipe may have been made not to block.
            write_all(self._descriptor, data, wait=_wait_for_room)


def _write_to(file: BinaryIO, data: bytes) -> None:
    """Write all of it to an object of the caller's. A raw stream may take less than all, and is given the rest again.

    Raises:
        OSError: it takes nothing.
    """
    write = theirs(file.write)
    left = data
    while left:
        written: int | None = write(left)
        if written is None and isinstance(file, io.RawIOBase):
            raise BlockingIOError(errno.EAGAIN, "it is in non-blocking mode, and takes no more at the moment")
        if written is None:  # many objects do not say
            return
        if not 0 < written <= len(left):
            raise OSError(errno.EIO, f"it took {written} of {len(left)} bytes")
        left = left[written:]


def _descriptor(file: BinaryIO) -> int | None:
    """Return the descriptor to which writing is the same as writing to the file object, and cheaper.

    It is None where no such descriptor exists.

    Many have a ``fileno`` that is not what they are: a file that compresses has that of its compressed file.
    """
    raw = file.raw if isinstance(file, io.BufferedWriter) else file
    if not isinstance(raw, io.FileIO):
        return None
    file.flush()
    return raw.fileno()


def _wait_for_room(descriptor: int) -> None:
    waiting = select.poll()  # select.select() knows no descriptors above 1,023
    waiting.register(descriptor, select.POLLOUT)
    waiting.poll()


# --- a file under its name --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(target: Target, *, name: str, compression: Compression, tally: Tally) -> Iterator[ArchiveSink]:
    """Open an outlet to a path or a file object.

    What is no plain file, such as a pipe, or is open in this process, such as ``/dev/stdout``, is written to directly.
    A file is written beside the path, synced, and only takes the name when the block ends: after a crash, or an error,
    there is the old file or none. Durable then.

    Raises:
        ArchiveInvalidError: the path is a directory.
        StorageError, StoreFullError: it could not be written.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(target, Path):
            with Translating(name):
                path = followed(target)  # a symbolic link stays, and what it leads to is replaced
            _refuse_directory(path, name)
            where = _opened_stream(path, name) if is_stream(path) else _named_when_whole(path, name=name)
            outlet = ArchiveSink(stack.enter_context(where), name=name, compression=compression, tally=tally)
        else:
            outlet = ArchiveSink(target, name=name, compression=compression, tally=tally)
        yield outlet
        outlet.finish()


def _refuse_directory(path: Path, name: str) -> None:
    with Translating(name):
        is_directory = path.is_dir()
    if is_directory:
        raise ArchiveInvalidError(name, reason="it is a directory, which no archive replaces")


@contextlib.contextmanager
def _opened_stream(path: Path, name: str) -> Iterator[int]:
    number = open_file_at(path)
    with Translating(name):
        if number is None:
            descriptor = owned(os.open, path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW)
        else:
            descriptor = owned(os.dup, number)  # and continues at its position
    try:
        if number is None and planted(os.fstat(descriptor), os.stat(path.parent)):
            reason = "it is a pipe that somebody else made in a directory where everybody may write"
            raise StorageError(name, errno=errno.EACCES, reason=reason)
        yield int(descriptor)
    finally:
        del descriptor


def is_stream(path: Path) -> bool:
    """Whether what is there is written to, and not replaced: a pipe, a device, a file that is open here already."""
    try:
        mode = os.stat(path).st_mode
        return not stat.S_ISDIR(mode) and (not stat.S_ISREG(mode) or open_file_at(followed(path)) is not None)
    except OSError as error:
        pass_on_theirs(error)
        return False


def is_terminal(path: Path) -> bool:
    """Whether a path means an open file of this process that is a terminal."""
    try:
        number = open_file_at(followed(path))
    except OSError as error:
        pass_on_theirs(error)
        return False
    return number is not None and os.isatty(number)


@contextlib.contextmanager
def _named_when_whole(path: Path, *, name: str) -> Iterator[int]:
    with Translating(name):
        make_directories(path.parent)
        directory = owned(os.open, path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _clear_leftovers(directory)
        temporary, descriptor = _new_file(directory)
    try:
        yield int(descriptor)  # which keeps nothing open
        with Translating(name):
            os.fsync(descriptor)
            os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
    except BaseException:
        with Ignoring():
            os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        del descriptor, directory


def _new_file(directory: int) -> tuple[str, FileDescriptor]:
    """Make a file of a temporary name, locked as long as it is open: so others know that somebody is at work."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        name = f"{TEMPORARY}archive-{secrets.token_hex(8)}"
        descriptor = owned(os.open, name, flags, 0o644, dir_fd=directory)
        with Ignoring(BlockingIOError):  # somebody clears away what looks left over, in the moment between two calls
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return name, descriptor


def _clear_leftovers(directory: int) -> None:
    """Remove the archives of exports that were killed, which nobody holds locked any more."""
    for name in os.listdir(directory):
        if _LEFTOVER.fullmatch(name) is None:
            continue
        with Ignoring():
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = owned(os.open, name, flags, dir_fd=directory)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=directory)


def require_room(path: Path, name: str) -> None:
    """Look whether an archive may be written at a path, without touching anything.

    Raises:
        ArchiveInvalidError: there is a directory.
        StorageError: the parent is a file.
    """
    with Translating(name):
        real = followed(path)
        parent = next(each for each in real.parents if each.exists())
        is_below_a_file = not parent.is_dir()
    _refuse_directory(real, name)
    if is_below_a_file:
        raise StorageError(name, errno=errno.ENOTDIR, reason=f"{parent} is a file")
