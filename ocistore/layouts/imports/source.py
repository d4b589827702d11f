"""What an import reads from, whatever its form: a few small files by name, and blobs by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ocistore.blobs.pool import Pool, StagedBlob
    from ocistore.blobs.sharing import TransferMode
    from ocistore.layouts.index import Damaged
    from ocistore.oci.digest import Digest
    from ocistore.progress import Tally

SMALL: Final = 64 * 1024
"""Bytes. What is not larger is read at once and staged from memory, which saves half of the system calls."""


class Source(Protocol):
    """An OCI layout, or what is read as one, that is open.

    Where a blob or a file does not exist, methods raise ``FileNotFoundError``; where it is something else than a plain
    file, :class:`ocistore.layouts.directory.NotPlainError`; where it cannot be read, ``OSError``.
    """

    name: str
    """What messages call it."""
    streamed: bool
    """Whether all of it was read, and reported as progress, when it was opened, so that nothing can be read again."""
    left_out: tuple[str, ...]
    """What something in it describes, and its index does not list; each a line for a report."""
    damaged: tuple[Damaged, ...]
    """What something in it describes, and its index does not list because it is wrong in itself."""

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return a file of the top level: ``oci-layout`` or ``index.json``.

        Refuse one larger than ``maximum`` bytes.
        """
        ...

    def size(self, digest: Digest) -> int:
        """Return the size of the content under a digest, in bytes; none of it was read."""
        ...

    def content(self, digest: Digest, size: int) -> bytes:
        """Return ``size`` bytes of the content under a digest, or all where there are fewer; unverified."""
        ...

    def verify(self, digest: Digest, size: int, tally: Tally) -> None:
        """Read a blob and compare it with its digest.

        Raises:
            DigestMismatchError, SizeMismatchError: it is not that.
        """
        ...

    def stage(self, pool: Pool, digest: Digest, size: int, mode: TransferMode, tally: Tally) -> StagedBlob:
        """Stage a blob, verified.

        Raises:
            DigestMismatchError, SizeMismatchError: it is not that; nothing stays staged.
            StoreFullError, StorageError: it could not be written, or not be linked where ``mode`` asks for that.
            StoreBusyError: the store had it, so that it was not written, and has it no longer.
        """
        ...

    def changed(self) -> str:
        """Return what was changed since it was opened, as far as can be seen; empty where nothing was."""
        ...

    def close(self) -> None:
        """Close what is open, and discard what was staged. Calling it again does nothing."""
        ...
