"""Opening what an import reads from: its form is known by its content, never by its name."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from ocistore.archives.compression import MAGIC_SIZE, Decompressed, compression_of
from ocistore.archives.tar import TarReader
from ocistore.arguments import absolute_path
from ocistore.catalog import blobs
from ocistore.errors import ArchiveInvalidError, LayoutInvalidError, StorageError
from ocistore.layouts.imports.archive import ArchiveFile
from ocistore.layouts.imports.archivesource import is_layout, source_of
from ocistore.layouts.imports.directorysource import unpacked
from ocistore.layouts.imports.planning import listed
from ocistore.layouts.imports.skopeodirectory import SkopeoDirectory, is_skopeo_directory
from ocistore.layouts.imports.stream import ArchiveStream
from ocistore.progress import Tally
from ocistore.refusals import Ignoring, pass_on_theirs, theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocistore.archives.tar import Readable
    from ocistore.blobs.sharing import TransferMode
    from ocistore.core import Core
    from ocistore.layouts.imports.source import Source
    from ocistore.oci.digest import Digest
    from ocistore.progress import Progress

ImportSource: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""A directory, a file or a pipe by its path, or an open binary file, read from its position."""

_BUFFER: Final = 1024 * 1024
"""Bytes that are decompressed at once, from which headers are then taken."""
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY

_OTHERS: Final = {b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress", b"LZIP": "lzip"}
"""How files begin that people may take for archives we read."""
_LONGEST: Final = max(MAGIC_SIZE, *map(len, _OTHERS))

_MAXIMUM_BEGINNING: Final = 16 * 1024 * 1024
"""Bytes that are read, and kept to be read again, to find the first header of an archive that comes as a stream. What
decompresses to nothing, or describes no member, can continue for ever."""


def source_name(source: ImportSource) -> str:
    """Return what messages call it."""
    if isinstance(source, str | os.PathLike):
        return absolute_path(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "the stream"


@contextlib.contextmanager
def opened(
    source: ImportSource,
    core: Core,
    progress: Progress | None,
    *,
    mode: TransferMode = "auto",
    held: Callable[[Digest, int], bool] | None = None,
) -> Iterator[Source]:
    """Open a layout, whatever its form, for a block.

    Args:
        source: where it is.
        core: where it is to be imported into: of what can be read but once, whatever may be needed is staged there,
            until the block ends.
        progress: called with the bytes of that.
        mode: how its bytes are to get there.
        held: of what can be read but once, whether a blob of that digest and size need not be staged; None where that
            is what the store holds.

    Raises:
        LayoutInvalidError, ArchiveInvalidError: there is none; or it is an archive that is damaged or hostile.
        StorageError: ``mode`` is ``link``, and there is an archive: no part of a file can be linked.
        StorageError: it could not be opened or read.
        TypeError: ``source`` is nothing that can be read.
    """
    name = source_name(source)
    tally = Tally(_size(source), progress)
    with contextlib.ExitStack() as stack:
        try:
            stream = partial(_stream, core=core, tally=tally, name=name, held=held or partial(_holds, core))
            found = _open(source, name, stack, stream)
        except OSError as error:
            pass_on_theirs(error)
            raise _unreadable(error, name) from error
        stack.callback(found.close)
        if mode == "link" and not found.has_files:
            raise StorageError(name, errno=None, reason="no part of an archive can be linked; copy instead")
        yield found


def _open(source: ImportSource, name: str, stack: contextlib.ExitStack, stream: Callable[[Readable], Source]) -> Source:
    if not isinstance(source, str | os.PathLike):
        return stream(_Theirs(source))
    path = Path(name)
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        return _directory(path)
    file = stack.enter_context(_opened_file(path))
    if stat.S_ISFIFO(mode):
        return stream(file)
    first = os.pread(file.fileno(), _LONGEST, 0)
    if compression_of(first) == "none":
        _refuse_others(first, name)
        return _archive(file, name)
    return stream(file)


def _directory(path: Path) -> Source:
    return SkopeoDirectory(path) if is_skopeo_directory(path) else unpacked(path)


def _archive(file: BinaryIO, name: str) -> Source:
    archive = ArchiveFile(os.dup(file.fileno()), name=name)
    try:
        return source_of(archive)
    except BaseException:
        archive.close()
        raise


def _stream(file: Readable, *, core: Core, tally: Tally, name: str, held: Callable[[Digest, int], bool]) -> Source:
    core.require_writable()
    stream = _decompressed(_Counted(file, tally), name)
    archive = ArchiveStream(stream, core.pool, name=name, held=held)
    try:
        return source_of(archive)
    except BaseException:
        archive.close()
        raise


def _holds(core: Core, digest: Digest, size: int) -> bool:
    if core.pool.size(digest) != size:  # most content is new, and then there is nothing to ask the catalog
        return False
    with core.catalog.read() as connection:
        return blobs.live_sizes(connection, [digest]).get(digest) == size


# --- before there is a store ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def checked(source: ImportSource) -> Iterator[ImportSource]:
    """Look whether there may be a layout, before there is a store; give what to import then, in the block.

    A directory and an archive that can be read in place are looked at as far as what they list. Of what can be read
    only once only the beginning is, which is given again later: then what is to be imported is not ``source`` itself.

    Raises:
        LayoutInvalidError, ArchiveInvalidError: there is none.
        StorageError: it could not be opened or read.
        TypeError: ``source`` is nothing that can be read.
    """
    name = source_name(source)
    with contextlib.ExitStack() as stack:
        try:
            found = _check(source, name, stack)
        except OSError as error:
            pass_on_theirs(error)
            raise _unreadable(error, name) from error
        yield found


def _check(source: ImportSource, name: str, stack: contextlib.ExitStack) -> ImportSource:
    if not isinstance(source, str | os.PathLike):
        return _begun(_Theirs(source), name)
    path = Path(name)
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        _look(_directory(path))
        return source
    file = _opened_file(path)
    if stat.S_ISFIFO(mode):  # which cannot be opened a second time
        return _begun(stack.enter_context(file), name)
    with file:
        first = os.pread(file.fileno(), _LONGEST, 0)
        if compression_of(first) == "none":
            _refuse_others(first, name)
            _look_into(ArchiveFile(os.dup(file.fileno()), name=name))
        else:
            _begun(file, name)
    return source


def _look_into(archive: ArchiveFile) -> None:
    """Look at what an archive lists, where that costs nothing: for one of Docker's, layers may have to be hashed."""
    try:
        if is_layout(archive.members):
            _look(source_of(archive))
    finally:
        archive.close()


def _look(source: Source) -> None:
    """Look at what a source lists, and raise if anything is wrong with that."""
    try:
        problems = listed(source).problems
    finally:
        source.close()
    if problems:
        raise LayoutInvalidError(Path(source.name), problems=tuple(problems))


def _begun(file: Readable, name: str) -> BinaryIO:
    """Look at the first header of an archive that comes as a stream; return the stream, from its beginning again."""
    replayed = _Replayed(file, name)
    if next(iter(TarReader(_decompressed(replayed, name), name=name)), None) is None:
        raise ArchiveInvalidError(name, reason="the archive is empty")
    replayed.rewind()
    return replayed  # type: ignore[return-value] # all that is asked of it is to be read


# --- files ------------------------------------------------------------------------------------------------------------


def _size(source: ImportSource) -> int:
    """Return the size of a file to be read, in bytes; 0 where that cannot be known."""
    if isinstance(source, str | os.PathLike):
        with Ignoring():
            status = os.stat(source)
            return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0


def _mode(path: Path) -> int:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        pass_on_theirs(error)
        raise LayoutInvalidError(path, problems=("there is no such file or directory",)) from error
    except NotADirectoryError as error:
        pass_on_theirs(error)
        raise LayoutInvalidError(path, problems=("what it is said to lie in is no directory",)) from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise LayoutInvalidError(path, problems=("it is neither a directory, nor a file, nor a pipe",))
    return mode


def _opened_file(path: Path) -> BinaryIO:
    return io.BufferedReader(io.FileIO(os.open(path, _FLAGS)), _BUFFER)


def _decompressed(file: Readable, name: str) -> Readable:
    """Return the bytes that a stream decompresses to, or has."""
    replayed = _Replayed(file, name)
    first = b""
    while len(first) < _LONGEST and (more := replayed.read(_LONGEST - len(first))):
        first += more
    replayed.rewind()
    compression = compression_of(first)
    if compression == "none":
        _refuse_others(first, name)
        return replayed
    # Headers are small: to decompress 512 bytes at a time would cost more than all the rest.
    return io.BufferedReader(Decompressed(replayed, compression, name=name), _BUFFER)  # type: ignore[arg-type]


def _refuse_others(first: bytes, name: str) -> None:
    for beginning, form in _OTHERS.items():
        if first.startswith(beginning):
            reason = f"it is in the form of {form}, which is not read: gzip, zstd, xz and bzip2 are"
            raise ArchiveInvalidError(name, reason=reason)


def _unreadable(error: OSError, name: str) -> StorageError:
    return StorageError(name, errno=error.errno, reason=error.strerror or str(error))


class _Theirs:
    """A file object of the caller's, whose errors stay what they are."""

    def __init__(self, file: Readable) -> None:
        self.read = theirs(file.read)


class _Replayed:
    """A stream whose beginning can be read twice. Its bytes are kept until :meth:`rewind`."""

    def __init__(self, file: Readable, name: str) -> None:
        self.name = name
        self._file = file
        self._recorded = bytearray()
        self._recording = True

    def read(self, size: int, /) -> bytes:
        if self._recorded and not self._recording:
            data = bytes(self._recorded[:size])
            del self._recorded[:size]
            return data
        data = self._file.read(size)
        if data is None:
            raise BlockingIOError(errno.EAGAIN, "it is in non-blocking mode, and has no more to give at the moment")
        if not isinstance(data, bytes):
            raise TypeError(f"{self.name} gave {type(data).__qualname__} and not bytes: open it in binary mode")
        if self._recording:
            self._recorded += data
            if len(self._recorded) > _MAXIMUM_BEGINNING:
                reason = f"there is no member in its first {_MAXIMUM_BEGINNING} bytes"
                raise ArchiveInvalidError(self.name, reason=reason)
        return data

    def rewind(self) -> None:
        """Begin again, for the second and last time."""
        self._recording = False


class _Counted:
    """A stream that reports how much of it was read."""

    def __init__(self, file: Readable, tally: Tally) -> None:
        self._file = file
        self._tally = tally

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        if data:
            self._tally.add(len(data))
        return data
