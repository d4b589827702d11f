"""A layout that leaves out what its destination has: what it lacks is looked for in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.blobs.adoption import adopt
from ocistore.catalog import blobs
from ocistore.layouts.imports.source import SourceFile, SourceOver
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.core import Core
    from ocistore.layouts.imports.source import Source
    from ocistore.oci.digest import Digest
    from ocistore.progress import Tally


class StoreBackedSource(SourceOver):
    """A source, and after it the blobs of a store, whichever repository holds them.

    Of those that come from the store nothing is staged: that each is live, with its size, is seen once more in the
    transaction that lets another repository serve it.
    """

    def __init__(self, source: Source, core: Core) -> None:
        super().__init__(source)
        self.completed: dict[Digest, int] = {}
        """What the source lacks and the store has, with its size."""
        self._core = core

    def blob(self, digest: Digest) -> SourceFile:
        """Return what is in the source, or in the store."""
        if digest not in self.completed:
            try:
                found = super().blob(digest)
                found.size()
            except FileNotFoundError as error:
                pass_on_theirs(error)
                with self._core.catalog.read() as connection:
                    size = blobs.live_sizes(connection, [digest]).get(digest)
                if size is None or not self._core.pool.has(digest, size):
                    raise
                self.completed[digest] = size
            else:
                return found
        return _StoredBlob(self._core.pool, digest, self.completed[digest])


class _StoredBlob(SourceFile):
    """A blob that the store has."""

    def __init__(self, pool: Pool, digest: Digest, size: int) -> None:
        self._pool = pool
        self._digest = digest
        self._size = size

    def size(self) -> int:
        return self._size

    def read(self, size: int) -> bytes:
        with self._pool.open(self._digest, self._size) as reader:
            return reader.read(size)

    def digest(self) -> Digest:
        return self._digest

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:  # noqa: ARG002 - it was verified when it came
        self.require_size(size)

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:  # noqa: ARG002 - see below
        """Stage it anew, whatever the mode: that is asked for where a collection removed some."""
        with pool.open(digest, size) as reader:
            return adopt(pool, reader, digest=digest, size=size, progress=tally.add)


def completes(core: Core, missing: dict[Digest, None]) -> bool:
    """Whether the store has all of that."""
    with core.catalog.read() as connection:
        live = blobs.live_sizes(connection, missing)
    return bool(missing) and all(digest in live for digest in missing)
