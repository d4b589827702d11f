"""A layout whose manifests carry some of what they refer to (image specification, "Descriptor", ``data``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.errors import SizeMismatchError
from ocistore.layouts.directory import NotPlainError
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.layouts.imports.source import Source
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest
    from ocistore.progress import Tally


class EmbeddedSource:
    """A source, and after it the content that was offered by descriptors which carry it.

    A descriptor is read only where its content is what its digest and size say, so that nothing is hashed again here.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.streamed = source.streamed
        self.left_out = source.left_out
        self.damaged = source.damaged
        self._source = source
        self._content: dict[Digest, bytes] = {}
        """What the source lacks."""

    def offer(self, descriptors: Iterable[Descriptor]) -> None:
        """Keep the content that descriptors carry, if they do and the source lacks it."""
        for descriptor in descriptors:
            if descriptor.data is None or descriptor.digest in self._content:
                continue
            try:
                self._source.size(descriptor.digest)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                self._content[descriptor.digest] = descriptor.data
            except (OSError, NotPlainError) as error:
                pass_on_theirs(error)  # what is there and cannot be read is no reason to look elsewhere

    def offered(self, descriptors: list[Descriptor]) -> list[Descriptor]:
        """Return the descriptors, whose content was kept as :meth:`offer` does."""
        self.offer(descriptors)
        return descriptors

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return a file of the source."""
        return self._source.read(name, maximum=maximum)

    def size(self, digest: Digest) -> int:
        """Return the size of what was offered, or is in the source."""
        found = self._content.get(digest)
        return self._source.size(digest) if found is None else len(found)

    def content(self, digest: Digest, size: int) -> bytes:
        """Return the beginning of it."""
        found = self._content.get(digest)
        return self._source.content(digest, size) if found is None else found[:size]

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Hash a blob of the source."""
        found = self._content.get(digest)
        if found is None:
            self._source.verify(digest, size, tally)
        elif len(found) != size:
            raise SizeMismatchError(expected=size, actual=len(found))

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:
        """Stage it; what was offered is written, whatever the mode."""
        found = self._content.get(digest)
        if found is None:
            return self._source.stage(pool, digest, size, mode, tally)
        return pool.stage(found, digest=digest, size=size)

    def changed(self) -> str:
        """Return what was changed in the source."""
        return self._source.changed()

    def close(self) -> None:
        """Close the source."""
        self._source.close()
