"""Writing a tar archive as a stream, so that the same members give the same bytes: no times, no owners."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final

from ocistore.archives.tar import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

_RECORD: Final = 20 * BLOCK
"""Bytes that an archive is padded to a multiple of, as tar itself does: some readers ask for whole records."""
_NAME: Final = 100
"""Bytes of a name in a header of the first form."""
_MAXIMUM_SIZE: Final = 0o77777777777
_SIZE: Final = slice(124, 135)
_CHECKSUM: Final = slice(148, 154)
"""Where size and checksum are in a header, as octal digits (IEEE 1003.1, pax, "ustar Interchange Format")."""


class TarWriter:
    """Writes members, one after another, to a function that takes bytes.

    The content of a file is written by the caller, between :meth:`begin_file` and :meth:`end_file`: what is sent by
    the kernel never comes by here.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Write to ``write``, which takes all bytes it is given, or raises."""
        self._write = write
        self._position = 0
        self._padding = 0
        self._templates: dict[tuple[bytes, int], bytes] = {}

    def directory(self, name: str, *, mode: int = 0o755) -> None:
        """Write a directory."""
        self._write_header(name + "/", kind=tarfile.DIRTYPE, mode=mode)

    def symlink(self, name: str, target: str) -> None:
        """Write a symbolic link."""
        self._write_header(name, kind=tarfile.SYMTYPE, mode=0o777, target=target)

    def file(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file whose content is at hand, in one piece with its header."""
        header = self._header(name, kind=tarfile.REGTYPE, mode=mode, size=len(content))
        padding = bytes(-len(content) % BLOCK)
        self._write(header + content + padding)
        self._position += len(header) + len(content) + len(padding)

    def begin_file(self, name: str, size: int, *, mode: int = 0o644) -> None:
        """Begin a file, whose ``size`` bytes the caller writes next."""
        self._write_header(name, kind=tarfile.REGTYPE, mode=mode, size=size)
        self._position += size
        self._padding = -size % BLOCK

    def end_file(self) -> None:
        """End a file, all of whose bytes were written."""
        if self._padding:
            self._write(bytes(self._padding))
            self._position += self._padding
            self._padding = 0

    def finish(self, *, whole_records: bool = True) -> None:
        """Write the end of the archive. Without ``whole_records`` it is no longer than it must be."""
        end = 2 * BLOCK
        if whole_records:
            end += -(self._position + end) % _RECORD
        self._write(bytes(end))

    def _write_header(self, name: str, *, kind: bytes, mode: int, size: int = 0, target: str = "") -> None:
        header = self._header(name, kind=kind, mode=mode, size=size, target=target)
        self._write(header)
        self._position += len(header)

    def _header(self, name: str, *, kind: bytes, mode: int, size: int, target: str = "") -> bytes:
        # A plain ustar header where that can say it all, and a pax header before it where not.
        if len(name) <= _NAME and name.isascii() and size <= _MAXIMUM_SIZE and not target:
            return self._filled(name.encode("ascii"), kind, mode, size)
        return _block(name, kind, mode, size, target)

    def _filled(self, name: bytes, kind: bytes, mode: int, size: int) -> bytes:
        """Return a header like the last one of its kind except for name and size.

        A tenth of the work of making a new one.
        """
        template = self._templates.get((kind, mode))
        if template is None:
            template = self._templates[kind, mode] = _block("", kind, mode, 0, "")
        digits = b"%011o" % size
        block = bytearray(template)
        block[:_NAME] = name.ljust(_NAME, b"\0")  # in a directory's template there is a slash
        block[_SIZE] = digits
        before = sum(template[:_NAME]) + sum(template[_SIZE])
        checksum = int(template[_CHECKSUM], 8) - before + sum(name) + sum(digits)
        block[_CHECKSUM] = b"%06o" % checksum
        return bytes(block)


def _block(name: str, kind: bytes, mode: int, size: int, target: str) -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.size, header.linkname = kind, mode, size, target
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
