"""What the pool of files knows of bytes that are staged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from ocistore.blobs.anchors import Anchor
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.oci.digest import Digest


@dataclass(slots=True, eq=False, weakref_slot=True)
class StagedFile:
    """A verified file at ``uploads/<name>``: the anchor by which its bytes can take their name again and again."""

    digest: Digest
    size: int
    name: str
    device: int
    inode: int
    descriptor: FileDescriptor | None = None
    """The file, still open, so that the sync sees every error there was; None where too many were open already."""
    durable: bool = False
    syncs_failed: int = 0
    """How many syncs of the whole filesystem had failed when the file was made."""
    linked: os.stat_result | None = None
    """Of a file that somebody brought, and that is to be the blob itself: what it was before."""
    left: bool = False
    """Whether its name in ``uploads/`` stays for a collection to find; see :meth:`FileIngester.leave`."""
    anchor: Anchor | None = None
    """What the file goes with, where it is nobody's but ours; a session's file is not."""

    def is_at(self, status: os.stat_result | None) -> bool:
        """Whether this very file, and no other of the same bytes, is what was looked at."""
        return status is not None and (status.st_ino, status.st_dev) == (self.inode, self.device)
