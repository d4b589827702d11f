"""Taking the bytes of an open file into any pool: shared where the pool can do that, else copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.blobs.hashing import no_count
from ocistore.errors import StorageError
from ocistore.files.content import CountedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.blobs.hashing import Count
    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.reader import BlobReader
    from ocistore.blobs.sharing import TransferMode
    from ocistore.oci.digest import Digest

_BLOCK = 1024 * 1024
"""Bytes read at once from a blob that is in no file."""


def adopt(
    pool: Pool,
    file: int | BlobReader,
    *,
    digest: Digest,
    size: int,
    mode: TransferMode = "auto",
    path: str = "the file",
    progress: Count = no_count,
) -> StagedBlob:
    """Stage the bytes of an open file, or of a blob of another pool, which need not be in a file.

    Args:
        pool: where to stage them.
        file: a descriptor, open for reading; or the reader of a blob, at its beginning.
        digest: what the bytes must hash to.
        size: how many there must be.
        mode: see :data:`ocistore.TransferMode`.
        path: what messages call the file.
        progress: called with the number of bytes of each piece that was read.

    Raises:
        DigestMismatchError, SizeMismatchError: the bytes are not those; nothing is left staged.
        StorageError: with ``link``, the file cannot be linked, or the pool or the blob is in no file of this machine.
            Also, and StoreFullError, ReadOnlyStoreError, where the bytes could not be written.
        OSError: the file could not be read.
    """
    descriptor = file if isinstance(file, int) else file.descriptor
    sharing = pool.sharing
    if descriptor is not None and sharing is not None:
        return sharing.adopt(descriptor, digest=digest, size=size, mode=mode, path=path, progress=progress)
    if mode == "link":
        raise StorageError(path, errno=None, reason="one of the two stores keeps no files to be linked; copy instead")
    if isinstance(file, int):
        with CountedFile(file, progress) as counted:
            return pool.stage(counted, digest=digest, size=size)
    return pool.stage(_counted(file, progress), digest=digest, size=size)


def _counted(reader: BlobReader, progress: Count) -> Iterator[bytes]:
    while block := reader.read(_BLOCK):
        yield block
        progress(len(block))
