"""What the conformance tests of pools have in common: the pool, and a hook to look past it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ocistore.oci.digest import Digest
    from ocistore.pools import Pool


def content_of(size: int) -> bytes:
    """Return that many bytes in which no two blocks of any size are alike, the same ones each time."""
    return hashlib.shake_128(size.to_bytes(8, "big")).digest(size)


class PoolSuite:
    """What a subclass fills in, besides the fixture ``pool``."""

    def damage(self, pool: Pool, digest: Digest, content: bytes) -> None:  # noqa: ARG002 - for subclasses
        """Replace the published bytes of ``digest`` past the pool, as a broken disk would. Override it if you can."""
        pytest.skip("nothing can damage what is in this pool")

    def nothing_is_staged(self, pool: Pool) -> None:
        """Check that nothing is left of what was staged, nor of upload sessions."""
        assert list(pool.sweeper.staged()) == []
