"""A layout whose manifests carry some of what they refer to (image specification, "Descriptor", ``data``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.layouts.directory import NotPlainError
from ocistore.layouts.imports.source import InMemory, SourceOver
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.layouts.imports.source import Source, SourceFile
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest


class EmbeddedSource(SourceOver):
    """A source, and after it the content that was offered by descriptors which carry it."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._content: dict[Digest, InMemory] = {}
        """What the source lacks."""

    def offer(self, descriptors: Iterable[Descriptor]) -> None:
        """Keep the content that descriptors carry, if they do and the source lacks it."""
        for descriptor in descriptors:
            if descriptor.data is None or descriptor.digest in self._content:
                continue
            try:
                self._source.blob(descriptor.digest).size()
            except FileNotFoundError as error:
                pass_on_theirs(error)
                self._content[descriptor.digest] = InMemory(descriptor.data)
            except (OSError, NotPlainError) as error:
                pass_on_theirs(error)  # what is there and cannot be read is no reason to look elsewhere

    def offered(self, descriptors: list[Descriptor]) -> list[Descriptor]:
        """Return the descriptors, whose content was kept as :meth:`offer` does."""
        self.offer(descriptors)
        return descriptors

    def blob(self, digest: Digest) -> SourceFile:
        """Return what was offered, or is in the source."""
        return self._content.get(digest) or super().blob(digest)
