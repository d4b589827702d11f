"""A layout that leaves out what its destination has: what it lacks is looked for in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.blobs.adoption import adopt
from ocistore.catalog import blobs
from ocistore.errors import SizeMismatchError
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.core import Core
    from ocistore.layouts.imports.source import Source
    from ocistore.oci.digest import Digest
    from ocistore.progress import Tally


class StoreBackedSource:
    """A source, and after it the blobs of a store, whichever repository holds them.

    Of those that come from the store nothing is staged: that each is live, with its size, is seen once more in the
    transaction that lets another repository serve it.
    """

    def __init__(self, source: Source, core: Core) -> None:
        self.name = source.name
        self.streamed = source.streamed
        self.left_out = source.left_out
        self.damaged = source.damaged
        self.completed: dict[Digest, int] = {}
        """What the source lacks and the store has, with its size."""
        self._source = source
        self._core = core

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return a file of the source."""
        return self._source.read(name, maximum=maximum)

    def size(self, digest: Digest) -> int:
        """Return the size in the source, or in the store."""
        try:
            return self._source.size(digest)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            with self._core.catalog.read() as connection:
                size = blobs.live_sizes(connection, [digest]).get(digest)
            if size is None or not self._core.pool.has(digest, size):
                raise
            self.completed[digest] = size
            return size

    def content(self, digest: Digest, size: int) -> bytes:
        """Return the beginning of a blob of the source, or of the store."""
        if digest not in self.completed:
            try:
                return self._source.content(digest, size)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                self.size(digest)
        with self._core.pool.open(digest, self.completed[digest]) as reader:
            return reader.read(size)

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Hash a blob of the source. What the store has was verified when it came."""
        if digest not in self.completed:
            self._source.verify(digest, size, tally)
        elif self.size(digest) != size:
            raise SizeMismatchError(expected=size, actual=self.size(digest))

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:
        """Stage a blob of the source, or the store's own anew: that is asked for where a collection removed some."""
        if digest not in self.completed:
            return self._source.stage(pool, digest, size, mode, tally)
        with pool.open(digest, size) as reader:
            return adopt(pool, reader, digest=digest, size=size, progress=tally.add)

    def changed(self) -> str:
        """Return what was changed in the source."""
        return self._source.changed()

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def completes(core: Core, missing: dict[Digest, None]) -> bool:
    """Whether the store has all of that."""
    with core.catalog.read() as connection:
        live = blobs.live_sizes(connection, missing)
    return bool(missing) and all(digest in live for digest in missing)
