"""An import from an archive: of an OCI layout, or of Docker's form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from ocistore.errors import ArchiveInvalidError, LayoutInvalidError, SizeMismatchError
from ocistore.layouts.directory import BLOBS, INDEX_JSON, OCI_LAYOUT, NotPlainError
from ocistore.layouts.imports.docker import MANIFEST_JSON, converted
from ocistore.layouts.index import LAYOUT_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocistore.blobs.filesystem import FilesystemPool
    from ocistore.blobs.pool import StagedBlob
    from ocistore.blobs.sharing import Sharing
    from ocistore.layouts.imports.archive import Archive
    from ocistore.layouts.imports.members import Entry
    from ocistore.layouts.imports.source import Source
    from ocistore.layouts.progress import Tally
    from ocistore.oci.digest import Digest

P = TypeVar("P")


def source_of(archive: Archive[P]) -> Source:
    """The layout that an archive has in it.

    Raises:
        ArchiveInvalidError: there is none.
        LayoutInvalidError: it is one of Docker's, and something in it is missing or wrong; ``problems`` names it all.
        OSError: it could not be read.
    """
    return _LayoutArchive(archive) if is_layout(archive) else _DockerArchive(archive)


def is_layout(archive: Archive[P]) -> bool:
    """Whether an archive has a layout in it, and is not one of Docker's alone.

    Raises:
        ArchiveInvalidError: it is neither.
    """
    if OCI_LAYOUT in archive.members or INDEX_JSON in archive.members:
        return True
    if MANIFEST_JSON in archive.members:
        return False
    reason = f"it has no {OCI_LAYOUT}, as archives of layouts have, and no {MANIFEST_JSON}, as Docker's have"
    raise ArchiveInvalidError(archive.name, reason=reason)


class _ArchiveSource(Generic[P]):
    """What both forms have in common: how the bytes of a blob are read, once it is known which member they are."""

    def __init__(self, archive: Archive[P]) -> None:
        self.name = archive.name
        self.streamed = archive.streamed
        self._archive = archive

    def _entry(self, digest: Digest) -> Entry[P]:
        raise NotImplementedError

    def size(self, digest: Digest) -> int:
        return self._entry(digest).size

    def content(self, digest: Digest, size: int) -> bytes:
        return self._archive.read(self._entry(digest), size)

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        self._archive.verify(self._sized(digest, size), digest, tally)

    def stage(self, pool: FilesystemPool, digest: Digest, size: int, mode: Sharing, tally: Tally) -> StagedBlob:  # noqa: ARG002 - a part of a file cannot be shared
        return self._archive.stage(pool, self._sized(digest, size), digest, tally)

    def changed(self) -> str:
        return self._archive.changed()

    def close(self) -> None:
        self._archive.close()

    def _sized(self, digest: Digest, size: int) -> Entry[P]:
        entry = self._entry(digest)
        if entry.size != size:
            raise SizeMismatchError(expected=size, actual=entry.size)
        return entry


class _LayoutArchive(_ArchiveSource[P]):
    """A layout in an archive. Links are refused, as in a directory."""

    def read(self, name: str, *, maximum: int) -> bytes:
        entry = self._archive.members.plain(name)
        if entry.size > maximum:
            raise NotPlainError(f"it is larger than {maximum} bytes")
        return self._archive.read(entry, entry.size)

    def _entry(self, digest: Digest) -> Entry[P]:
        return self._archive.members.plain(f"{BLOBS}/{digest.algorithm}/{digest.encoded}")


class _DockerArchive(_ArchiveSource[P]):
    """One of Docker's archives, of which only the manifests are not in it."""

    def __init__(self, archive: Archive[P]) -> None:
        super().__init__(archive)
        found = converted(archive)
        if found.problems:
            raise LayoutInvalidError(Path(archive.name), problems=list(found.problems))
        self._files: Mapping[str, bytes] = {OCI_LAYOUT: LAYOUT_FILE, INDEX_JSON: found.index}
        self._manifests = found.manifests
        self._blobs = found.blobs

    def read(self, name: str, *, maximum: int) -> bytes:
        content = self._files[name]
        if len(content) > maximum:
            raise NotPlainError(f"it would be larger than {maximum} bytes")
        return content

    def size(self, digest: Digest) -> int:
        return len(self._manifests[digest]) if digest in self._manifests else super().size(digest)

    def content(self, digest: Digest, size: int) -> bytes:
        if digest in self._manifests:
            return self._manifests[digest][:size]
        return super().content(digest, size)

    def _entry(self, digest: Digest) -> Entry[P]:
        try:
            return self._blobs[digest]
        except KeyError:
            raise FileNotFoundError(digest) from None
