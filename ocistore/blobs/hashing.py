"""Hashing what lies in a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ocistore.oci.digest import Digest, hasher

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK: Final = 1024 * 1024
"""Bytes read at once."""


def digest_of(descriptor: int, algorithm: str, *, told: Callable[[int], object] = lambda _: None) -> tuple[Digest, int]:
    """The digest and the number of the bytes of an open file, from where it stands to its end.

    Args:
        descriptor: of the file.
        algorithm: to hash with.
        told: called with the number of bytes of each piece.

    Raises:
        OSError: it could not be read.
    """
    state = hasher(algorithm)
    total = 0
    buffer = memoryview(bytearray(_BLOCK))
    while count := os.readv(descriptor, [buffer]):
        state.update(buffer[:count])
        total += count
        told(count)
    return Digest.of_hasher(state, algorithm), total
