"""An import from a layout directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ocistore.blobs import hashing
from ocistore.errors import SizeMismatchError
from ocistore.layouts.directory import INDEX_JSON, LayoutDirectory, read_at_once
from ocistore.layouts.imports.source import SMALL

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.blobs.filesystem import FilesystemPool
    from ocistore.blobs.pool import StagedBlob
    from ocistore.blobs.sharing import Sharing
    from ocistore.layouts.progress import Tally
    from ocistore.oci.digest import Digest


class DirectorySource:
    """A layout directory, read in place."""

    streamed = False
    left_out: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: there is no directory.
        """
        self.name = str(path)
        self._layout = LayoutDirectory(path)
        self._index = self._version()
        """Of index.json, looked at before it is read: whatever changes it later changes this."""

    def read(self, name: str, *, maximum: int) -> bytes:
        """A file of the top level."""
        return self._layout.read(name, maximum=maximum)

    def size(self, digest: Digest) -> int:
        """The size of the file of a blob."""
        return self._layout.blob_size(digest)

    def content(self, digest: Digest, size: int) -> bytes:
        """The beginning of the file of a blob."""
        file = self._layout.open_blob(digest)
        try:
            return read_at_once(file, size)[:size]
        finally:
            os.close(file)

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Hash the file of a blob."""
        file = self._layout.open_blob(digest)
        try:
            hashing.verify(file, digest, size, told=tally.add)
            actual = os.fstat(file).st_size
        finally:
            os.close(file)
        if actual != size:
            raise SizeMismatchError(expected=size, actual=actual)

    def stage(self, pool: FilesystemPool, digest: Digest, size: int, mode: Sharing, tally: Tally) -> StagedBlob:
        """Copy, share or link the file of a blob."""
        file = self._layout.open_blob(digest)
        try:
            if size <= SMALL and mode != "link":
                return pool.stage(read_at_once(file, size), digest=digest, size=size)
            path = str(self._layout.blob_path(digest))
            return pool.adopt(file, digest=digest, size=size, mode=mode, path=path, told=tally.add)
        finally:
            os.close(file)

    def changed(self) -> str:
        """Whether index.json is another one than it was."""
        return "" if self._version() == self._index else f"{INDEX_JSON} was changed while the layout was read"

    def close(self) -> None:
        """Close the directory."""
        self._layout.close()

    def _version(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(INDEX_JSON, dir_fd=self._layout.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
