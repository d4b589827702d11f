"""An import from an archive: of an OCI layout, of Docker's form, or of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.errors import ArchiveInvalidError
from ocistore.layouts.directory import BLOBS, INDEX_JSON, OCI_LAYOUT, NotPlainError
from ocistore.layouts.imports.docker import MANIFEST_JSON, REPOSITORIES, ConvertedSource, converted
from ocistore.layouts.imports.united import united
from ocistore.layouts.index import LAYOUT_FILE

if TYPE_CHECKING:
    from ocistore.layouts.imports.archive import ArchiveFile
    from ocistore.layouts.imports.members import Members
    from ocistore.layouts.imports.source import Source, SourceFile
    from ocistore.layouts.imports.stream import ArchiveStream
    from ocistore.layouts.index import Damaged
    from ocistore.oci.digest import Digest


def source_of(archive: ArchiveFile | ArchiveStream) -> Source:
    """Return the layout that is in an archive.

    Raises:
        ArchiveInvalidError: there is none.
        LayoutInvalidError: it is one of Docker's, and what describes its images cannot be read.
        OSError: it could not be read.
    """
    layout = _LayoutArchive(archive)
    if is_layout(archive.members):
        return layout
    if INDEX_JSON not in archive.members:
        index, images = converted(archive.members)
        return ConvertedSource(layout, {OCI_LAYOUT: LAYOUT_FILE, INDEX_JSON: index}, images)
    found = united(archive.members)
    if found is None:  # and the reader of index.json will say why
        return layout
    index, images = found
    files = {INDEX_JSON: index} if OCI_LAYOUT in archive.members else {OCI_LAYOUT: LAYOUT_FILE, INDEX_JSON: index}
    return ConvertedSource(layout, files, images)


def is_layout(members: Members) -> bool:
    """Whether an archive has a layout in it, and nothing that Docker would read.

    Raises:
        ArchiveInvalidError: it has neither.
    """
    if MANIFEST_JSON in members:
        return False
    if OCI_LAYOUT in members or INDEX_JSON in members:
        return True
    reason = f"it has no {OCI_LAYOUT}, as archives of layouts have, and no {MANIFEST_JSON}, as Docker's have"
    if REPOSITORIES in members:
        reason = f"it is of the form that Docker wrote before version 1.10: it has no {MANIFEST_JSON}"
    elif (inner := _inner(members)) is not None:
        reason = f"what it should have at its top is in {inner!r:.300}: pack what is in there (tar -C {inner[:300]} .)"
    raise ArchiveInvalidError(members.name, reason=reason)


def _inner(members: Members) -> str | None:
    """Return the directory of an archive in which is what should be at its top; None where that is nowhere."""
    found = members.directory_of(OCI_LAYOUT)
    if found is None:
        found = members.directory_of(MANIFEST_JSON)
        if found is not None and "/" in found:  # deeper down, it is anybody's
            return None
    return found


class _LayoutArchive:
    """A layout in an archive. Links to other members are followed: what makes archives may link what is equal."""

    has_files = False
    left_out: tuple[str, ...] = ()
    damaged: tuple[Damaged, ...] = ()

    def __init__(self, archive: ArchiveFile | ArchiveStream) -> None:
        self.name = archive.members.name
        self.streamed = archive.streamed
        self._members = archive.members
        self.changed = archive.changed
        self.close = archive.close

    def read(self, name: str, *, maximum: int) -> bytes:
        file = self._members.followed(name)
        if file.size() > maximum:
            raise NotPlainError(f"it is larger than {maximum} bytes")
        return file.read(file.size())

    def blob(self, digest: Digest) -> SourceFile:
        return self._members.followed(f"{BLOBS}/{digest.algorithm}/{digest.encoded}")
