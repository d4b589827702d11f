"""Sharing the bytes of a file by reflink, where the filesystem can: on btrfs, XFS, bcachefs and others."""

from __future__ import annotations

import errno
import fcntl
from typing import Final

from ocistore.refusals import is_refusal

_FICLONE: Final = 0x40049409
"""ioctl_ficlone(2): share the bytes of another file, copied when either is written to."""
_CANNOT_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS})


def clone(source: int, target: int) -> bool:
    """Make the empty file ``target`` share the bytes that ``source`` has now; False where the filesystem cannot.

    Raises:
        OSError: it can, and failed.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT_CLONE or not is_refusal(error):
            raise
        return False
    return True
