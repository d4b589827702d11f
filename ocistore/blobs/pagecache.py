"""Which page cache holds what was written and not yet synced: that of one boot of the kernel and one mount.

Bytes that a process wrote outlive it, for any process that reads them through the same cache. They do not outlive a
power cut, a crash of the kernel, or a disk that was pulled out: then the filesystem is mounted anew, files may have any
length, and what nobody synced may read as zeros.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import struct
from functools import cache
from typing import TYPE_CHECKING, Final

from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
"""A random number that the kernel makes when it starts (random(4))."""

_STATX_MNT_ID_UNIQUE: Final = 0x4000
"""An id that no other mount of this boot had or will have (statx(2), Linux 6.8)."""
_AT_EMPTY_PATH: Final = 0x1000
_STATX_SIZE: Final = 256
_MASK_AT, _MOUNT_AT = 0, 144
"""Bytes into ``struct statx``."""


def page_cache(descriptor: int) -> str:
    """Return the name of the page cache of an open file: the same as long as unsynced bytes of its disk are kept.

    The mount is part of it where the kernel can tell one mount from the next. Two mounts of one filesystem, as in two
    containers, share a cache and have two names here: then what is durable is believed, and the rest is sent again.

    Raises:
        OSError: the kernel refused to say.
    """
    return f"{_boot()}/{_mount(descriptor)}"


@cache
def _boot() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            found = file.read().strip()
    except FileNotFoundError as error:
        pass_on_theirs(error)
        found = ""
    # Without /proc nobody but this process, and what it forks, can know that the kernel is still the same.
    return found if re.fullmatch(r"[0-9a-f-]{36}", found) else secrets.token_hex(16)


def _mount(descriptor: int) -> int:
    """Return the unique id of the mount; 0 where the kernel has none to give."""
    function = _statx()
    if function is None:
        return 0
    found = ctypes.create_string_buffer(_STATX_SIZE)
    if function(descriptor, b"", _AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, found) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    (mask,) = struct.unpack_from("=I", found, _MASK_AT)
    (mount,) = struct.unpack_from("=Q", found, _MOUNT_AT)
    return mount if mask & _STATX_MNT_ID_UNIQUE else 0


@cache
def _statx() -> Callable[..., int] | None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    if function is not None:  # glibc has it since 2.28, musl since 1.2.5
        function.argtypes = (  # type: ignore[attr-defined] # a foreign function
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_char_p,
        )
        function.restype = ctypes.c_int  # type: ignore[attr-defined]
    return function
