"""Reading blobs of the store once more before they are exported: are they what their digests say?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.errors import CorruptError
from ocistore.layouts.vanished import gone_is_damage
from ocistore.oci.digest import Digest
from ocistore.threads import WORTH_A_THREAD, Ahead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocistore.blobs.pool import Provider
    from ocistore.progress import Tally


def verify_all(pool: Provider, sizes: Mapping[str, int], tally: Tally) -> None:
    """Hash blobs, given as digests and sizes; large ones by several threads.

    What is wrong is read again, past what the kernel has cached of it, before it is called so.

    Raises:
        CorruptError: the first that is missing, or has other bytes.
        StorageError: one cannot be read now, which says nothing about its bytes.
    """

    def verify(blob: tuple[str, int]) -> None:
        digest, size = Digest(blob[0]), blob[1]
        with gone_is_damage(digest):
            found = pool.hash(digest, progress=tally.add)
            if found != (digest, size):
                found = pool.hash(digest, fresh=True)
        if found[1] != size:
            raise CorruptError(f"blob {digest}", reason=f"its file has {found[1]} bytes, not {size}")
        if found[0] != digest:
            raise CorruptError(f"blob {digest}", reason="its bytes are not those of its digest")

    with Ahead(verify, sizes.items(), beside=_is_large, counter=tally.counter) as ahead:
        for _, verified in ahead:
            verified()


def _is_large(blob: tuple[str, int]) -> bool:
    return blob[1] >= WORTH_A_THREAD
