"""Hashing what lies in a file."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from ocistore.blobs.pool import no_count
from ocistore.errors import DigestMismatchError, SizeMismatchError
from ocistore.oci.digest import Digest, hasher

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ocistore.blobs.pool import Count

_BLOCK: Final = 1024 * 1024
"""Bytes read at once."""


_AS_IT_IS: Final = nullcontext()


def digest_of(
    descriptor: int,
    algorithm: str,
    *,
    progress: Count = no_count,
    reading: AbstractContextManager[None] = _AS_IT_IS,
) -> tuple[Digest, int]:
    """Return the digest and the number of the bytes of an open file, from where it stands to its end.

    Args:
        descriptor: of the file.
        algorithm: to hash with.
        progress: called with the number of bytes of each piece.
        reading: a block that each read stands in, and nothing else: what becomes of an error.

    Raises:
        OSError: it could not be read.
    """
    state = hasher(algorithm)
    total = 0
    buffer = memoryview(bytearray(_BLOCK))
    while True:
        with reading:
            count = os.readv(descriptor, [buffer])
        if not count:
            break
        state.update(buffer[:count])
        total += count
        progress(count)
    return Digest.of_hasher(state, algorithm), total


def verify(
    descriptor: int,
    digest: Digest,
    size: int,
    *,
    offset: int = 0,
    progress: Count = no_count,
    reading: AbstractContextManager[None] = _AS_IT_IS,
) -> None:
    """Hash ``size`` bytes of an open file, from ``offset`` on, and compare them with a digest.

    Args:
        descriptor: of the file, in which nothing is moved.
        digest: what they must hash to.
        size: how many bytes there must be; what follows them is not looked at.
        offset: where they begin, in bytes.
        progress: called with the number of bytes of each piece.
        reading: a block that each read stands in, and nothing else: what becomes of an error.

    Raises:
        DigestMismatchError, SizeMismatchError: they are not those, or there are fewer.
        OSError: it could not be read.
    """
    state = hasher(digest.algorithm)
    buffer = memoryview(bytearray(min(_BLOCK, size)))
    done = 0
    while done < size:
        with reading:
            count = os.preadv(descriptor, [buffer[: size - done]], offset + done)
        if count == 0:
            raise SizeMismatchError(expected=size, actual=done)
        state.update(buffer[:count])
        done += count
        progress(count)
    found = Digest.of_hasher(state, digest.algorithm)
    if found != digest:
        raise DigestMismatchError(expected=digest, actual=found)
