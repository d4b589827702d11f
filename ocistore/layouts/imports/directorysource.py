"""An import from a layout directory, which may be an unpacked archive of Docker's that describes its images twice."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from ocistore.blobs import hashing
from ocistore.blobs.adoption import adopt
from ocistore.errors import LayoutInvalidError, ManifestInvalidError, SizeMismatchError
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, LayoutDirectory, NotPlainError, read_at_once
from ocistore.layouts.imports.docker import MANIFEST_JSON, MAXIMUM_MANIFEST_JSON_SIZE
from ocistore.layouts.imports.members import ArchiveEntry, Members, digest_in
from ocistore.layouts.imports.source import SMALL
from ocistore.layouts.imports.united import united
from ocistore.layouts.index import MAXIMUM_INDEX_SIZE
from ocistore.oci import strictjson
from ocistore.oci.digest import Digest
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.layouts.index import Damaged
    from ocistore.layouts.progress import Tally

_CATALOG: Final = "catalog.db"
"""What a store has in its directory, and nothing else."""


class DirectorySource:
    """A layout directory, read in place."""

    streamed = False
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

    def size(self, digest: Digest) -> int:
        """Return the size of the file of a blob."""
        return self._layout.blob_size(digest)

    def content(self, digest: Digest, size: int) -> bytes:
        """Return the beginning of the file of a blob."""
        return read_at_once(self._layout.open_blob(digest), size)[:size]

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Hash the file of a blob."""
        file = self._layout.open_blob(digest)
        hashing.verify(int(file), digest, size, progress=tally.add)
        actual = os.fstat(file).st_size
        if actual != size:
            raise SizeMismatchError(expected=size, actual=actual)

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:
        """Stage the file of a blob, by copy, reflink or link."""
        file = self._layout.open_blob(digest)
        if size <= SMALL and mode != "link":
            return pool.stage(read_at_once(file, size), digest=digest, size=size)
        path = str(self._layout.blob_path(digest))
        return adopt(pool, int(file), digest=digest, size=size, mode=mode, path=path, progress=tally.add)

    def changed(self) -> str:
        """Return how index.json was changed since it was opened; empty where it was not."""
        return "" if self._version() == self._opened else f"{self.index_file} was changed while the layout was read"

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


class UnpackedSource(DirectorySource):
    """A directory that ``docker save`` wrote, and that was unpacked: see :mod:`ocistore.layouts.imports.united`.

    Only what is where blobs are is read of what manifest.json names: that is where Docker puts it all in archives that
    have an index.json, too.
    """

    def __init__(self, path: Path) -> None:
        """Open it, and read what describes it.

        Raises:
            LayoutInvalidError: what manifest.json says cannot be read; or it is something else that is known.
            OSError: there is no directory, or something in it cannot be read.
        """
        super().__init__(path)
        self._made: dict[Digest, bytes] = {}
        self._united: bytes | None = None
        """What index.json would be."""
        try:
            self._refuse_others(path)
            self._unite(path)
        except BaseException:
            self.close()
            raise

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return a file of the top level."""
        if name != INDEX_JSON or self._united is None:
            return super().read(name, maximum=maximum)
        if len(self._united) > maximum:
            raise NotPlainError(f"it would be larger than {maximum} bytes")
        return self._united

    def size(self, digest: Digest) -> int:
        """Return the size of the file of a blob, or of a manifest that was made."""
        made = self._made.get(digest)
        return super().size(digest) if made is None else len(made)

    def content(self, digest: Digest, size: int) -> bytes:
        """Return the beginning of the file of a blob, or of a manifest that was made."""
        made = self._made.get(digest)
        return super().content(digest, size) if made is None else made[:size]

    def _refuse_others(self, path: Path) -> None:
        """Say what the directory is, where that is known and no layout."""
        names = set(os.listdir(self._layout.descriptor))
        if _CATALOG in names and names.isdisjoint({OCI_LAYOUT, INDEX_JSON}):
            raise LayoutInvalidError(path, problems=("it is a store: copy from it (ocistore copy)",))
        if MANIFEST_JSON not in names or not names.isdisjoint({OCI_LAYOUT, INDEX_JSON}):
            return
        problem = "it is an unpacked archive of Docker's: import the archive, or pack it again (tar -C DIRECTORY -c .)"
        if not _Files(self).are_dockers():
            problem = f"there is no {OCI_LAYOUT}, but a {MANIFEST_JSON} that is none of Docker's"
        raise LayoutInvalidError(path, problems=(problem,))

    def _unite(self, path: Path) -> None:
        files = _Files(self)
        if not files.are_dockers():
            return
        found = united(files)
        if found is None:  # and the reader of index.json will say why
            return
        index, converted = found
        if converted.problems:
            raise LayoutInvalidError(path, problems=tuple(converted.problems))
        self._united, self._made = index, converted.manifests
        self.left_out, self.damaged = tuple(converted.left_out), tuple(converted.damaged)


class _Files(Members["Digest | bytes"]):
    """The files of such a directory, looked up when they are asked for."""

    def __init__(self, source: DirectorySource) -> None:
        super().__init__(source.name)
        self.name = source.name
        self.members: Members[Digest | bytes] = self
        self._source = source

    def are_dockers(self) -> bool:
        """Whether there is a manifest.json that is a list; others have files of that name, too."""
        try:
            content = self._source.read(MANIFEST_JSON, maximum=MAXIMUM_MANIFEST_JSON_SIZE)
            return isinstance(strictjson.loads(content, maximum=MAXIMUM_MANIFEST_JSON_SIZE), list)
        except (FileNotFoundError, NotPlainError, ManifestInvalidError) as error:
            pass_on_theirs(error)
            return False

    def followed(self, name: str) -> ArchiveEntry[Digest | bytes]:
        """Return a blob by its digest, or a file of the top level, which is read."""
        digest = digest_in(name)
        if digest is not None:
            return ArchiveEntry("file", self._source.size(digest), digest)
        if "/" in name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        content = self._source.read(name, maximum=MAXIMUM_INDEX_SIZE)
        return ArchiveEntry("file", len(content), content)

    def read(self, entry: ArchiveEntry[Digest | bytes], size: int) -> bytes:
        """Return the beginning of a file."""
        place = self._place(entry)
        return place[:size] if isinstance(place, bytes) else self._source.content(place, size)

    def digest(self, entry: ArchiveEntry[Digest | bytes]) -> Digest:
        """Return the digest in a file's name, which is verified when the file is staged."""
        place = self._place(entry)
        return Digest.of(place) if isinstance(place, bytes) else place

    @staticmethod
    def _place(entry: ArchiveEntry[Digest | bytes]) -> Digest | bytes:
        assert entry.place is not None  # every file has one
        return entry.place
