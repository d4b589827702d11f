"""What a blob can be read from, made alike: something that fills buffers until it ends."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ocistore.filedescriptors import owned
from ocistore.refusals import mark_theirs, theirs

if TYPE_CHECKING:
    from typing import BinaryIO

    from ocistore.blobs.hashing import Count
    from ocistore.blobs.pool import Source
    from ocistore.filedescriptors import FileDescriptor

Fill: TypeAlias = Callable[[memoryview], int]
"""Fills a buffer and returns how many bytes it got: fewer than it has room for only at the end of the source, after
which it is not called again."""

AT_HAND: Final = 1024 * 1024
"""Bytes. Up to this size, bytes in memory are hashed and written one after the other: one MiB takes 0.7 ms to hash, and
a thread beside it would save half of that and cost most of what it saves."""

# A path may be a symbolic link, as everywhere on a command line; not blocking, so that a FIFO is refused and not waited
# for.
_SOURCE_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@contextlib.contextmanager
def open_source(source: Source) -> Iterator[bytes | Fill]:
    """Give what is in ``source``, where it is small and at hand, or else a function that reads it from where it stands.

    A path is opened and closed again, a file stays open. What reading raises is raised by that function, unchanged.

    Raises:
        TypeError: ``source`` is none of the kinds that a blob can be read from.
        OSError: it is a path, and no plain file can be opened there.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        # A copy of what can change: the bytes hashed must be the bytes written.
        yield bytes(source) if memoryview(source).nbytes <= AT_HAND else _Chunks(iter((source,))).fill
    elif isinstance(source, str | os.PathLike):
        descriptor = _opened_plain_file(source)
        yield _Descriptor(descriptor).fill
    elif isinstance(source, io.RawIOBase | io.BufferedIOBase):
        yield _FileInto(source).fill
    elif callable(getattr(source, "read", None)):
        yield _FileSource(source).fill  # type: ignore[arg-type] # it was just looked at
    elif isinstance(source, Iterable):
        yield _Chunks(iter(source)).fill
    else:
        raise TypeError(f"a blob is read from bytes, a path, a binary file or chunks of bytes, not {_kind(source)}")


@contextlib.contextmanager
def rewound(source: Source) -> Iterator[None]:
    """Let a source be read twice: where it is a file, it is where it was when the block ends.

    Raises:
        TypeError: it can be read only once.
    """
    if isinstance(source, bytes | bytearray | memoryview | str | os.PathLike):
        yield
        return
    seekable = getattr(source, "seekable", None)
    if seekable is None or not theirs(seekable)():
        raise TypeError(f"only bytes, a path or a seekable file can be read twice, not {_kind(source)}")
    file: BinaryIO = source  # type: ignore[assignment] # what is seekable is a file
    start = theirs(file.tell)()
    yield
    theirs(file.seek)(start)


@contextlib.contextmanager
def counted(source: Source, count: Count | None) -> Iterator[Source]:
    """Give something that is read like ``source``, whose bytes are counted as they are read; itself without ``count``.

    Raises as :func:`open_source`.
    """
    if count is None:
        yield source
        return
    with open_source(source) as readable:
        if isinstance(readable, bytes):
            count(len(readable))
            yield readable
        else:
            yield _CountedFill(readable, count)


def length_of(source: Source) -> int | None:
    """Return how many bytes a source is going to give, where that can be known before."""
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).nbytes
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    seekable = getattr(source, "seekable", None)
    if seekable is None or not theirs(seekable)():
        return None
    file: BinaryIO = source  # type: ignore[assignment] # what is seekable is a file
    start = theirs(file.tell)()
    end = theirs(file.seek)(0, os.SEEK_END)
    theirs(file.seek)(start)
    return end - start


class _CountedFill(io.RawIOBase):
    """A file of what a function fills buffers with."""

    def __init__(self, fill: Fill, count: Count) -> None:
        self._fill = fill
        self._count = count
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever gives its bytes to be written to
        view = memoryview(buffer).cast("B")
        filled = 0 if self._ended else self._fill(view)
        self._ended = filled < len(view)
        if filled:
            self._count(filled)
        return filled


def _opened_plain_file(path: str | os.PathLike[str]) -> FileDescriptor:
    descriptor = owned(os.open, path, _SOURCE_FLAGS)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "not a plain file; to read a pipe or a device, open it first", os.fspath(path))


class _Descriptor:
    """A plain file that we opened."""

    def __init__(self, descriptor: FileDescriptor) -> None:
        self._descriptor = descriptor

    def fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            count = os.readv(self._descriptor, (view[filled:],))
            if count == 0:
                break
            filled += count
        return filled


class _FileInto:
    """A file object of a class whose contract includes ``readinto``: no chunk is allocated per read."""

    def __init__(self, file: io.RawIOBase | io.BufferedIOBase) -> None:
        self._file = file
        self._readinto = theirs(file.readinto)

    def fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            count = self._readinto(view[filled:])
            if count is None:
                raise BlockingIOError(errno.EAGAIN, "a file to read a blob from must not be in non-blocking mode")
            if count == 0:
                break
            if not 0 < count <= len(view) - filled:
                raise ValueError(f"readinto() of {_kind(self._file)} returned {count} for {len(view) - filled} bytes")
            filled += count
        return filled


class _FileSource:
    """Any other file object: all that is known of it is ``read``."""

    def __init__(self, file: _Readable) -> None:
        self._file = file
        self._read = theirs(file.read)

    def fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            wanted = len(view) - filled
            chunk = self._read(wanted)
            data = _as_bytes(chunk, "read() of a file must return bytes: open it in binary mode; it returned")
            if len(data) == 0:
                break
            if len(data) > wanted:
                raise ValueError(f"read({wanted}) of {_kind(self._file)} returned {len(data)} bytes")
            view[filled : filled + len(data)] = data
            filled += len(data)
        return filled


_NOTHING: Final = memoryview(b"")


class _Chunks:
    """An iterator of chunks of any length, tiny ones too; empty ones do not end it."""

    def __init__(self, chunks: Iterator[object]) -> None:
        self._chunks = chunks
        self._rest = _NOTHING

    def fill(self, view: memoryview) -> int:
        filled = 0
        room = len(view)
        rest = self._rest
        while True:
            length = len(rest)
            if length >= room - filled:
                split = room - filled
                view[filled:] = rest[:split]
                self._rest = rest[split:]
                return room
            if length:
                view[filled : filled + length] = rest
                filled += length
            # Let go of the last chunk: a source may use its buffer again, and resize it, to make the next one.
            rest = self._rest = _NOTHING
            try:
                chunk = next(self._chunks)
            except StopIteration:
                return filled
            except OSError as error:
                mark_theirs(error)
                raise
            rest = _as_bytes(chunk, "a blob is made of bytes; the source gave")


def _as_bytes(chunk: object, complaint: str) -> memoryview:
    try:
        view = memoryview(chunk)  # type: ignore[arg-type] # this is the check
    except TypeError:
        raise TypeError(f"{complaint} {_kind(chunk)}") from None
    if view.format == "B" and view.ndim == 1 and view.c_contiguous:
        return view
    return memoryview(view.tobytes())


def _kind(thing: object) -> str:
    return "None" if thing is None else type(thing).__qualname__


if TYPE_CHECKING:
    from typing import Protocol

    class _Readable(Protocol):
        def read(self, size: int, /) -> object: ...
