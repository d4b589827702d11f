"""The contract of a pool: where the bytes of blobs live, each content once, found by its digest.

A pool knows bytes and nothing else: no repositories, no rows. The life of a blob in it:

    stage     P0  the bytes are written aside and hashed as they stream; nobody else sees them
    publish   P1  their data becomes durable, then they take their name, then the name becomes durable
    holds     P2  asked inside the write transaction that makes the row live: does the name still stand for the bytes?
    withdraw      where that transaction is refused: the name is taken away again
    discard       after all that: what was staged aside is given up

Publishing and holding are two steps because a collection may take the name away in between: its row was condemned
before ours became live. Then ``holds`` answers False, the transaction is rolled back and ``publish`` is called again,
which costs a link and not a copy, because the staged bytes stay aside until ``discard``.

A crash at any moment leaves either bytes aside, which are swept by age, or a published file without a row, which the
next push of the same content replaces and which a collection otherwise sweeps. It never leaves a name whose bytes are
not durable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocistore.oci.digest import Digest

Source: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO | Iterable[bytes]
"""What a blob can be read from: the bytes themselves, a path (``str`` or ``os.PathLike``), a binary file object, read
from where it stands to its end, or an iterable of bytes."""


class StagedBlob(Protocol):
    """Bytes that lie aside, hashed and counted, until they are published and discarded."""

    @property
    def digest(self) -> Digest:
        """The digest of the bytes, computed here and never taken on trust."""
        ...

    @property
    def size(self) -> int:
        """Their number."""
        ...


class Pool(Protocol):
    """Bytes by digest. All methods are safe to call from any number of threads and processes at once."""

    def stage(
        self,
        source: Source,
        *,
        digest: Digest | None = None,
        size: int | None = None,
        algorithm: str = "sha256",
    ) -> StagedBlob:
        """Write the bytes of ``source`` aside, hashing them as they stream, in constant memory (P0).

        Args:
            source: where the bytes come from; read once, to its end, or to one byte more than ``size``.
            digest: what the bytes must hash to; its algorithm is then used.
            size: how many bytes there must be.
            algorithm: what to hash with where no digest is given.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those; nothing is left behind.
            StoreFullError, StorageError: they could not be written; nothing is left behind.
        """
        ...

    def publish(self, staged: Sequence[StagedBlob]) -> None:
        """Make the data of all of them durable, give each its name, and make the names durable (P1).

        Replaces whatever lay under a name: what is staged was verified, what lay there was not. Calling it again with
        the same blobs is safe. When it returns, every one survives a power cut under its digest until a collection
        removes it.
        """
        ...

    def holds(self, blob: StagedBlob) -> bool:
        """Whether the name of ``blob`` stands, durably, for bytes of its size (P2). A stat, where nothing raced."""
        ...

    def withdraw(self, blob: StagedBlob) -> None:
        """Take the name of ``blob`` away again, if it still stands for the staged bytes, not for another publisher's.

        For a transaction that was refused after :meth:`publish`. Only where nothing can come to rely on the name
        meanwhile: inside a write transaction that sees no live row of the digest. Need not survive a power cut.
        """
        ...

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Give up what was staged aside. Published bytes stay. Calling it again does nothing."""
        ...

    def size(self, digest: Digest) -> int | None:
        """The number of bytes under that digest; None where there are none, or no plain file."""
        ...

    def open(self, digest: Digest, *, verify: bool = False) -> BinaryIO:
        """The bytes under that digest, for reading.

        Args:
            digest: whose bytes.
            verify: hash them as they are read: whoever reads all of them gets an error in place of the last ones, if
                they are not the right ones.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: what lies there is not a plain file; and later, reading to the end of wrong bytes.
        """
        ...
