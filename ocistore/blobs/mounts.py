"""What stores the bytes of a filesystem in user space (FUSE), which statfs(2) does not say."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

FUSE: Final = 0x65735546
"""The magic number that all of them have."""

MOUNTS: Final = "/proc/self/mountinfo"
"""The list of mounts (proc_pid_mountinfo(5))."""

_LOCAL: Final = frozenset(
    {
        "fuseblk",
        "fuse.apfs",
        "fuse.btrfs",
        "fuse.erofsfuse",
        "fuse.exfat",
        "fuse.exfat-fuse",
        "fuse.ext2",
        "fuse.ext3",
        "fuse.ext4",
        "fuse.fuse-ext2",
        "fuse.fuse-overlayfs",
        "fuse.fuse2fs",
        "fuse.hfsplus",
        "fuse.iso9660",
        "fuse.ntfs",
        "fuse.ntfs-3g",
        "fuse.overlayfs",
        "fuse.squashfuse",
        "fuse.xfs",
        "fuse.zfs",
        "fuse.zfs-fuse",
    }
)
"""Types of a mount that are on a block device, or in a container on the host's own filesystem."""

_REMOTE: Final = re.compile(
    r"virtiofs|fuse\.(?:"
    r"sshfs|s3fs|s3ql|goofys|geesefs|mount-s3|mountpoint-s3|rclone|gcsfuse|blobfuse2?|ossfs|cosfs|obsfs|juicefs|seaweedfs|weed"
    r"|glusterfs|ceph|ceph-fuse|cephfs|lizardfs|mfs|mfsmount|moosefs|saunafs|beegfs|orangefs|pvfs2-fuse|cvmfs2?|alluxio.*"
    r"|hdfs|fuse_dfs|davfs2?|curlftpfs|ftpfs|smbnetfs|fusesmb|nfs|fuse-nfs|afuse|onedriver|google-drive-ocamlfuse|gvfsd-fuse"
    r"|kio-fuse|ipfs|dropbox|osxfs|grpcfuse|vmhgfs-fuse|lima|9pfuse|httpfs2?|portal|xtreemfs|unfs|edenfs"
    r")",
    re.ASCII,
)

_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


class Backing(str):
    """The type of a mount, as ``fuse.sshfs``; empty where nothing says it."""

    __slots__ = ()

    @property
    def is_local(self) -> bool:
        """Whether it is known to store its bytes on this machine alone."""
        return self in _LOCAL

    @property
    def is_remote(self) -> bool:
        """Whether it is known to store its bytes on another machine."""
        return _REMOTE.fullmatch(self) is not None


def backing_of(directory: Path) -> Backing:
    """Return what the list of mounts says of the filesystem of a directory, which exists."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        with open(MOUNTS, "rb") as file:
            for line in file:
                fields, _, rest = line.partition(b" - ")
                if fields.split(b" ")[2:3] == [wanted]:
                    kind = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), rest.split(b" ")[0])
                    return Backing(kind.decode("ascii", "replace"))
    except OSError as error:
        pass_on_theirs(error)  # no /proc: then nothing says it
    return Backing()
