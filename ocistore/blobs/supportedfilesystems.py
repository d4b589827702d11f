"""The filesystems that a store may be on: those of this machine, because WAL and flock do not work between machines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ocistore.blobs import mounts
from ocistore.errors import UnsupportedFilesystemError
from ocistore.oserrors import Translating

if TYPE_CHECKING:
    from pathlib import Path

_NETWORK_FILESYSTEMS: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB2",
    0xFF534D42: "CIFS",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x564C: "NCP",
    0x73757245: "Coda",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x19830326: "BeeGFS",
    0x20030528: "OrangeFS",
    0xAAD7AAEA: "PanFS",
    0x61636673: "StoreNext",
    0xBEEFDEAD: "StoreNext",
    0x013111A8: "IBRIX",
    0x786F4256: "a shared folder of VirtualBox",
    0xBACBACBC: "a shared folder of VMware",
    0x7C7C6673: "a shared folder of Parallels",
}
"""The magic numbers of statfs(2) for filesystems on which neither SQLite's WAL nor flock works between machines.

From linux/magic.h and coreutils (stat.c, human_fstype)."""

ALLOWING: Final = "open it with any_filesystem=True"
"""How a program opens a store where nothing says what is under the filesystem."""


def refuse_network_filesystem(root: Path, *, any_filesystem: bool = False) -> None:
    """Refuse a root on a network filesystem; one that does not exist is looked for at its nearest parent.

    Args:
        root: the directory of a store, or where it is to be made.
        any_filesystem: accept a filesystem in user space of which nothing says where it stores its bytes.

    Raises:
        UnsupportedFilesystemError: it is on one, or nothing says where its filesystem stores its bytes.
        StorageError: the filesystem refused to say.
    """
    import ctypes  # noqa: PLC0415  (only opening needs it)

    directory = root
    with Translating(str(root), root=root):
        while not directory.exists():  # what is made there will be where its parent is
            directory = directory.parent
    buffer = (ctypes.c_long * 32)()  # struct statfs begins with f_type, a long, and is shorter than this
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(directory), buffer) != 0:
        return  # the next call on the directory says why
    magic = buffer[0] & 0xFFFFFFFF
    name = _NETWORK_FILESYSTEMS.get(magic)
    if magic == mounts.FUSE:
        with Translating(str(root), root=root):
            name = _refused_fuse(root, mounts.backing_of(directory), any_filesystem=any_filesystem)
    if name is not None:
        raise UnsupportedFilesystemError(
            root, filesystem=name, reason="a store needs a local filesystem, where locks and shared memory work"
        )


def _refused_fuse(root: Path, backing: mounts.Backing, *, any_filesystem: bool) -> str | None:
    """Return the name of a filesystem in user space that is another machine's; None where a store may be on it.

    Raises:
        UnsupportedFilesystemError: nothing says what it is.
    """
    if backing.is_remote:
        return f"{backing} (FUSE)"
    if not backing.is_local and not any_filesystem:
        raise UnsupportedFilesystemError(
            root,
            filesystem=f"{backing or 'a filesystem'} (FUSE)",
            reason=f"where it stores its bytes is not known; if that is a disk of this machine, {ALLOWING}",
        )
    return None
