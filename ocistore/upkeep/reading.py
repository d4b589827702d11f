"""Reading a blob to see whether its bytes are good: what cannot be read just now is not damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from ocistore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocistore.blobs.hashing import Count
    from ocistore.blobs.pool import Provider
    from ocistore.oci.digest import Digest

_Found = TypeVar("_Found")

_READS: Final = 3
"""How often a blob is looked at or read before it is said to be unreadable, each time by a new descriptor. It fails
for want of memory or descriptors, by a path to a disk that comes back, or by a sector that can be read again."""


class UnreadableError(Exception):
    """Bytes could not be read, which says nothing about what they are."""


def tried(look: Callable[[], _Found]) -> _Found:
    """Return what ``look`` finds out about a blob, without reading all of it; it is called again where that failed.

    Raises:
        UnreadableError: no attempt succeeded.
        Exception: whatever else ``look`` raises.
    """
    reason = ""
    for _ in range(_READS):
        try:
            return look()
        except StorageError as error:
            reason = error.reason
    raise UnreadableError(reason)


def content(pool: Provider, digest: Digest, size: int) -> bytes:
    """Return all ``size`` bytes of small content under a digest, not hashed again.

    Raises:
        FileNotFoundError: nothing is there.
        CorruptError: there are fewer or more bytes, or what is there is no plain file.
        UnreadableError: no attempt could read them.
    """
    return tried(lambda: pool.read(digest, size))


def hashed(pool: Provider, digest: Digest, size: int | None, *, progress: Count) -> tuple[Digest, int]:
    """Return the digest and the number of the bytes that are stored under a digest.

    Where they are others than they should be, they are read once more, past what the kernel has cached of them; so
    what is returned was read twice in full if it is wrong.

    Args:
        pool: where they are.
        digest: under which.
        size: how many there should be; None where that is not known.
        progress: called with the number of bytes of each piece that is read.

    Raises:
        FileNotFoundError: nothing is there.
        CorruptError: what is there is no plain file.
        UnreadableError: no attempt could read them.
    """
    found: tuple[Digest, int] | None = None
    reason = ""
    for _ in range(_READS):
        try:
            again = pool.hash(digest, fresh=found is not None, progress=progress)
        except FileNotFoundError:
            raise
        except StorageError as error:
            reason = error.reason
            continue
        if again[0] == digest and size in (None, again[1]):
            return again
        if found is not None:
            return again
        found = again
    raise UnreadableError(reason or "it could not be read a second time")
