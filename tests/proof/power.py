"""Power cuts: a filesystem in a file, shut down under a working process, unsynced data dropped, and mounted again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from typing import TYPE_CHECKING

from required import missing, require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
"""Neither data nor journal are written out: what was not synced is gone, as when the power is."""

SIZES = {"ext4": 64, "xfs": 320}
"""MiB; mkfs.xfs makes none smaller than 300."""


class Disk:
    """A mounted filesystem whose power can be cut."""

    def __init__(self, image: Path, directory: Path) -> None:
        self._image = image
        self.directory = directory

    def mount(self) -> None:
        done = subprocess.run(["mount", "-o", "loop", self._image, self.directory], capture_output=True, text=True)
        if done.returncode:
            missing(f"a filesystem in a file cannot be mounted here: {done.stderr.strip()}")

    def unmount(self) -> None:
        subprocess.run(["umount", self.directory], check=True)

    def cut(self) -> None:
        """Cut the power; whatever works on it is refused from now on."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _FS_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def disk(kind: str, directory: Path) -> Iterator[Disk]:
    """A new filesystem of that kind."""
    if os.geteuid() != 0:
        missing("cutting the power needs root")
    require(f"mkfs.{kind}")
    image, mounted = directory / "image", directory / "disk"
    mounted.mkdir()
    with open(image, "wb") as file:
        file.truncate(SIZES[kind] * 1024**2)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    made = Disk(image, mounted)
    made.mount()
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)
