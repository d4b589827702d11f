"""Writing a tar archive as a stream, so that the same members give the same bytes: no times, no owners."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final

from ocistore.archives.tar import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

_RECORD: Final = 20 * BLOCK
"""Bytes that an archive is padded to a multiple of, as tar itself does: some readers ask for whole records."""


class TarWriter:
    """Members, one after another, to a function that takes bytes.

    The content of a file is written by the caller, between :meth:`begin_file` and :meth:`end_file`: what is sent by
    the kernel never comes by here.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """``write`` takes all bytes it is given, or raises."""
        self._write = write
        self._position = 0
        self._padding = 0

    def directory(self, name: str, *, mode: int = 0o755) -> None:
        """A directory."""
        self._header(name + "/", kind=tarfile.DIRTYPE, mode=mode)

    def symlink(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._header(name, kind=tarfile.SYMTYPE, mode=0o777, target=target)

    def file(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        """A file whose content is at hand."""
        self.begin_file(name, len(content), mode=mode)
        self._write(content)
        self.end_file()

    def begin_file(self, name: str, size: int, *, mode: int = 0o644) -> None:
        """A file, whose ``size`` bytes the caller writes now."""
        self._header(name, kind=tarfile.REGTYPE, mode=mode, size=size)
        self._position += size
        self._padding = -size % BLOCK

    def end_file(self) -> None:
        """All of its bytes were written."""
        if self._padding:
            self._write(bytes(self._padding))
            self._position += self._padding
            self._padding = 0

    def finish(self, *, whole_records: bool = True) -> None:
        """The end of the archive. Without ``whole_records`` it is no longer than it must be."""
        end = 2 * BLOCK
        if whole_records:
            end += -(self._position + end) % _RECORD
        self._write(bytes(end))

    def _header(self, name: str, *, kind: bytes, mode: int, size: int = 0, target: str = "") -> None:
        header = tarfile.TarInfo(name)
        header.type, header.mode, header.size, header.linkname = kind, mode, size, target
        # A plain ustar header where that can say it all, and a pax header before it where not.
        block = header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        self._write(block)
        self._position += len(block)
