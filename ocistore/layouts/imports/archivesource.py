"""An import from an archive: of an OCI layout, of Docker's form, or of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from ocistore.errors import ArchiveInvalidError, LayoutInvalidError, SizeMismatchError
from ocistore.layouts.directory import BLOBS, INDEX_JSON, OCI_LAYOUT, NotPlainError
from ocistore.layouts.imports.docker import MANIFEST_JSON, REPOSITORIES, Converted, converted
from ocistore.layouts.imports.united import united
from ocistore.layouts.index import LAYOUT_FILE

if TYPE_CHECKING:
    from ocistore.blobs.pool import Ingester, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.layouts.imports.archive import Archive
    from ocistore.layouts.imports.members import ArchiveEntry
    from ocistore.layouts.imports.source import Source
    from ocistore.layouts.index import Damaged
    from ocistore.layouts.progress import Tally
    from ocistore.oci.digest import Digest

P = TypeVar("P")


def source_of(archive: Archive[P]) -> Source:
    """Return the layout that is in an archive.

    Raises:
        ArchiveInvalidError: there is none.
        LayoutInvalidError: it is one of Docker's, and what describes its images cannot be read.
        OSError: it could not be read.
    """
    if is_layout(archive):
        return _LayoutArchive(archive)
    return _UnitedArchive(archive) if INDEX_JSON in archive.members else _DockerArchive(archive)


def is_layout(archive: Archive[P]) -> bool:
    """Whether an archive has a layout in it, and nothing that Docker would read.

    Raises:
        ArchiveInvalidError: it has neither.
    """
    if MANIFEST_JSON in archive.members:
        return False
    if OCI_LAYOUT in archive.members or INDEX_JSON in archive.members:
        return True
    reason = f"it has no {OCI_LAYOUT}, as archives of layouts have, and no {MANIFEST_JSON}, as Docker's have"
    if REPOSITORIES in archive.members:
        reason = f"it is of the form that Docker wrote before version 1.10: it has no {MANIFEST_JSON}"
    elif (inner := _inner(archive)) is not None:
        reason = f"what it should have at its top is in {inner!r:.300}: pack what is in there (tar -C {inner[:300]} .)"
    raise ArchiveInvalidError(archive.name, reason=reason)


def _inner(archive: Archive[P]) -> str | None:
    """Return the directory of an archive in which is what should be at its top; None where that is nowhere."""
    found = archive.members.directory_of(OCI_LAYOUT)
    if found is None:
        found = archive.members.directory_of(MANIFEST_JSON)
        if found is not None and "/" in found:  # deeper down, it is anybody's
            return None
    return found


class _ArchiveSource(Generic[P]):
    """What both forms have in common: how the bytes of a blob are read, once it is known which member they are."""

    def __init__(self, archive: Archive[P]) -> None:
        self.name = archive.name
        self.streamed = archive.streamed
        self.left_out: tuple[str, ...] = ()
        self.damaged: tuple[Damaged, ...] = ()
        self._archive = archive

    def _entry(self, digest: Digest) -> ArchiveEntry[P]:
        raise NotImplementedError

    def size(self, digest: Digest) -> int:
        return self._entry(digest).size

    def content(self, digest: Digest, size: int) -> bytes:
        return self._archive.read(self._entry(digest), size)

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        self._archive.verify(self._sized(digest, size), digest, tally)

    def stage(self, pool: Ingester, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:  # noqa: ARG002 - a part of a file cannot be shared
        return self._archive.stage(pool, self._sized(digest, size), digest, tally)

    def changed(self) -> str:
        return self._archive.changed()

    def close(self) -> None:
        self._archive.close()

    def _sized(self, digest: Digest, size: int) -> ArchiveEntry[P]:
        entry = self._entry(digest)
        if entry.size != size:
            raise SizeMismatchError(expected=size, actual=entry.size)
        return entry


class _LayoutArchive(_ArchiveSource[P]):
    """A layout in an archive. Links to other members are followed: what makes archives may link what is equal."""

    def read(self, name: str, *, maximum: int) -> bytes:
        entry = self._archive.members.followed(name)
        if entry.size > maximum:
            raise NotPlainError(f"it is larger than {maximum} bytes")
        return self._archive.read(entry, entry.size)

    def _entry(self, digest: Digest) -> ArchiveEntry[P]:
        return self._archive.members.followed(f"{BLOBS}/{digest.algorithm}/{digest.encoded}")


class _ConvertedArchive(_LayoutArchive[P]):
    """An archive with images of Docker's, of which only the manifests are not in it."""

    def __init__(self, archive: Archive[P]) -> None:
        super().__init__(archive)
        self._files: dict[str, bytes] = {}
        """What the files of the top level would be, where they are others than in the archive."""
        self._converted: Converted[P] = Converted()

    def read(self, name: str, *, maximum: int) -> bytes:
        if name not in self._files:
            return super().read(name, maximum=maximum)
        content = self._files[name]
        if len(content) > maximum:
            raise NotPlainError(f"it would be larger than {maximum} bytes")
        return content

    def size(self, digest: Digest) -> int:
        made = self._converted.manifests.get(digest)
        return super().size(digest) if made is None else len(made)

    def content(self, digest: Digest, size: int) -> bytes:
        made = self._converted.manifests.get(digest)
        return super().content(digest, size) if made is None else made[:size]

    def _entry(self, digest: Digest) -> ArchiveEntry[P]:
        found = self._converted.blobs.get(digest)
        return super()._entry(digest) if found is None else found

    def _take(self, index: bytes, converted: Converted[P]) -> None:
        if converted.problems:
            raise LayoutInvalidError(Path(self.name), problems=tuple(converted.problems))
        self._files = {OCI_LAYOUT: LAYOUT_FILE, INDEX_JSON: index}
        self._converted = converted
        self.left_out, self.damaged = tuple(converted.left_out), tuple(converted.damaged)


class _DockerArchive(_ConvertedArchive[P]):
    """One of Docker's archives."""

    def __init__(self, archive: Archive[P]) -> None:
        super().__init__(archive)
        self._take(*converted(archive))


class _UnitedArchive(_ConvertedArchive[P]):
    """One of Docker's archives with a layout in it, as Docker writes it from version 25 on."""

    def __init__(self, archive: Archive[P]) -> None:
        super().__init__(archive)
        found = united(archive)
        if found is None:  # and the reader of index.json will say why
            return
        self._take(*found)
        if OCI_LAYOUT in archive.members:
            del self._files[OCI_LAYOUT]
