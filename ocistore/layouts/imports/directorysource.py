"""An import from a layout directory, which may be an unpacked archive of Docker's that describes its images twice."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ocistore.blobs import hashing
from ocistore.blobs.adoption import adopt
from ocistore.blobs.paths import CATALOG
from ocistore.errors import LayoutInvalidError, ManifestInvalidError, SizeMismatchError
from ocistore.files.content import read_at_once
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, LayoutDirectory, NotPlainError
from ocistore.layouts.imports.docker import MANIFEST_JSON, MAXIMUM_MANIFEST_JSON_SIZE, ConvertedSource
from ocistore.layouts.imports.members import Members, digest_in
from ocistore.layouts.imports.source import SMALL, InMemory, SourceFile
from ocistore.layouts.imports.united import united
from ocistore.layouts.index import MAXIMUM_INDEX_SIZE
from ocistore.oci import strictjson
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.layouts.imports.source import Source
    from ocistore.layouts.index import Damaged
    from ocistore.oci.digest import Digest
    from ocistore.progress import Tally


class DirectorySource:
    """A layout directory, read in place."""

    streamed = False
    has_files = True
    left_out: tuple[str, ...] = ()
    damaged: tuple[Damaged, ...] = ()
    index_file = INDEX_JSON
    """What describes it."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: there is no directory.
        """
        self.name = str(path)
        self._layout = self._open_layout(path)
        self._opened = self._version()
        """Of what describes it, looked at before it is read: whatever changes it later changes this."""

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return a file of the top level."""
        return self._layout.read(name, maximum=maximum)

    def blob(self, digest: Digest) -> SourceFile:
        """Return the file of a blob, whether or not it exists."""
        return BlobFile(self._layout, digest)

    def changed(self) -> str:
        """Return how index.json was changed since it was opened; empty where it was not."""
        return "" if self._version() == self._opened else f"{self.index_file} was changed while the layout was read"

    def names(self) -> set[str]:
        """Return the names in the directory."""
        return set(os.listdir(self._layout.descriptor))

    def close(self) -> None:
        """Close the directory."""
        self._layout.close()

    def _open_layout(self, path: Path) -> LayoutDirectory:
        return LayoutDirectory(path)

    def _version(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self.index_file, dir_fd=self._layout.descriptor, follow_symlinks=False)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class BlobFile(SourceFile):
    """The file of a blob in a directory, opened whenever it is read."""

    def __init__(self, layout: LayoutDirectory, digest: Digest) -> None:
        self._layout = layout
        self._digest = digest

    def size(self) -> int:
        """Return its size in bytes."""
        return self._layout.blob_size(self._digest)

    def read(self, size: int) -> bytes:
        """Return its beginning."""
        return read_at_once(self._layout.open_blob(self._digest), size)[:size]

    def digest(self) -> Digest:
        """Return the digest that is its name."""
        return self._digest

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Hash it, and compare."""
        file = self._layout.open_blob(self._digest)
        hashing.verify(int(file), digest, size, progress=tally.add)
        actual = os.fstat(file).st_size
        if actual != size:
            raise SizeMismatchError(expected=size, actual=actual)

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:
        """Stage it, by copy, reflink or link."""
        file = self._layout.open_blob(self._digest)
        if size <= SMALL and mode != "link":
            return pool.stage(read_at_once(file, size), digest=digest, size=size)
        path = str(self._layout.blob_path(self._digest))
        return adopt(pool, int(file), digest=digest, size=size, mode=mode, path=path, progress=tally.add)


def unpacked(path: Path) -> Source:
    """Return the layout in a directory, which ``docker save`` may have written, and somebody unpacked.

    See :mod:`ocistore.layouts.imports.united`. Only what is where blobs are is read of what manifest.json names: that
    is where Docker puts it all in archives that have an index.json, too.

    Raises:
        LayoutInvalidError: what manifest.json says cannot be read; or it is something else that is known.
        OSError: there is no directory, or something in it cannot be read.
    """
    source = DirectorySource(path)
    try:
        files = _Files(source)
        _refuse_others(path, source, files)
        found = united(files) if files.are_dockers() else None
        if found is None:  # and the reader of index.json will say why
            return source
        index, images = found
        return ConvertedSource(source, {INDEX_JSON: index}, images)
    except BaseException:
        source.close()
        raise


def _refuse_others(path: Path, source: DirectorySource, files: _Files) -> None:
    """Say what a directory is, where that is known and no layout."""
    names = source.names()
    if CATALOG in names and names.isdisjoint({OCI_LAYOUT, INDEX_JSON}):
        raise LayoutInvalidError(path, problems=("it is a store: copy from it (ocistore copy)",))
    if MANIFEST_JSON not in names or not names.isdisjoint({OCI_LAYOUT, INDEX_JSON}):
        return
    problem = "it is an unpacked archive of Docker's: import the archive, or pack it again (tar -C DIRECTORY -c .)"
    if not files.are_dockers():
        problem = f"there is no {OCI_LAYOUT}, but a {MANIFEST_JSON} that is none of Docker's"
    raise LayoutInvalidError(path, problems=(problem,))


class _Files(Members):
    """The files of such a directory, looked up when they are asked for."""

    def __init__(self, source: DirectorySource) -> None:
        super().__init__(source.name)
        self._source = source

    def are_dockers(self) -> bool:
        """Whether there is a manifest.json that is a list; others have files of that name, too."""
        try:
            content = self._source.read(MANIFEST_JSON, maximum=MAXIMUM_MANIFEST_JSON_SIZE)
            return isinstance(strictjson.loads(content, maximum=MAXIMUM_MANIFEST_JSON_SIZE), list)
        except (FileNotFoundError, NotPlainError, ManifestInvalidError) as error:
            pass_on_theirs(error)
            return False

    def followed(self, name: str) -> SourceFile:
        """Return a blob by its digest, or a file of the top level, which is read."""
        digest = digest_in(name)
        if digest is not None:
            found = self._source.blob(digest)
            found.size()  # raises where there is none
            return found
        if "/" in name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return InMemory(self._source.read(name, maximum=MAXIMUM_INDEX_SIZE))
