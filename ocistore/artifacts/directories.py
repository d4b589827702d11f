"""Packing a directory as one layer: a tar archive, made while it is read, the same for the same tree.

The form is that of ``oras``, which unpacks it where it is compressed with gzip: each member's name begins with the
title. Beside the names and contents only what is reproducible is kept: whether a file is executable, and where symbolic
links lead. Entries come in byte order of their names, directory by directory; hard links become files of their own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from ocistore import Digest
from ocistore.archives.compression import Compressor
from ocistore.archives.names import name_from_disk
from ocistore.archives.tarwriting import TarWriter
from ocistore.artifacts.walking import changed, entries, looking_at
from ocistore.oci.digest import hasher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore import Compression
    from ocistore.artifacts.walking import Links, PackedEntry
    from ocistore.progress import Tally

_BLOCK: Final = 1024 * 1024
"""Bytes read, hashed and compressed at a time."""


class PackedDirectory:
    """A directory as an archive. Its chunks may be read once; then its digest is known."""

    def __init__(
        self,
        path: str,
        title: str,
        tally: Tally,
        *,
        links: Links,
        compression: Compression,
        refused: tuple[int, int] | None = None,
    ) -> None:
        """Pack ``path`` under ``title``; what is read is counted. ``links`` and ``refused`` are those of a walk."""
        self._path = path
        self._title = title
        self._tally = tally
        self._links: Links = links
        self._refused = refused
        self._state = hasher("sha256")
        self._out: list[bytes] = []
        self._compressor = None if compression == "none" else Compressor(self._out.append, compression)

    @property
    def content_digest(self) -> Digest:
        """Of the archive before it was compressed, once all chunks were read."""
        return Digest.of_hasher(self._state, "sha256")

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive, compressed or not, in constant memory.

        Raises:
            ArtifactInvalidError: something in the directory cannot be packed, or changed meanwhile.
            OSError: something cannot be read.
        """
        writer = TarWriter(self._write)
        with contextlib.closing(entries(self._path, links=self._links, refused=self._refused)) as found:
            for entry in found:
                name = f"{self._title}/{name_from_disk(entry.path)}" if entry.path else self._title
                mode = entry.status.st_mode
                if stat.S_ISDIR(mode):
                    writer.directory(name)
                elif stat.S_ISLNK(mode):
                    writer.symlink(name, name_from_disk(entry.target))
                else:
                    executable = mode & stat.S_IXUSR
                    writer.begin_file(name, entry.status.st_size, mode=0o755 if executable else 0o644)
                    yield from self._content(entry)
                    writer.end_file()
                yield from self._taken()
        # oras compares the digest of what it reads of the archive, and it reads no more than the end itself.
        writer.finish(whole_records=False)
        if self._compressor is not None:
            self._compressor.finish()
        yield from self._taken()

    def _write(self, data: bytes) -> None:
        self._state.update(data)
        if self._compressor is None:
            self._out.append(data)
        else:
            self._compressor.write(data)

    def _taken(self) -> Iterator[bytes]:
        yield from self._out
        self._out.clear()

    def _content(self, entry: PackedEntry) -> Iterator[bytes]:
        """Yield exactly the bytes that the header promised: with more or fewer the archive would be damaged."""
        descriptor = entry.open()
        left = entry.status.st_size
        while left and (block := _read(entry, descriptor, min(left, _BLOCK))):
            left -= len(block)
            self._write(block)
            self._tally.add(len(block))
            yield from self._taken()
        if left or _read(entry, descriptor, 1):
            raise changed(entry.location)
        entry.refuse_changed(descriptor)


def _read(entry: PackedEntry, descriptor: int, size: int) -> bytes:
    with looking_at(entry.location):
        return os.read(descriptor, size)
