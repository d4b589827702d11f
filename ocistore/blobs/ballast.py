"""The ballast: what is given up when the disk is full, so that a store can still be opened and emptied.

A commit that deletes needs room too, in the WAL, and so does opening. On a full disk there is none, and nothing could
ever be deleted. Of bytes a file is reserved, and of inodes, of which opening takes two, that file's own and that of
``quarantine/``, an empty directory that is made again when there is room.

What opening took comes back when the last process closes the store, and is then reserved again. Ballast that is
smaller than it should be, whatever made it so, grows at each opening as far as there is room.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from ocistore.filedescriptors import owned
from ocistore.files.making import make_directory, make_file
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from ocistore.blobs.paths import StorePaths

SIZE: Final = 8 * 1024**2
"""Bytes: enough for a thousand pages in the WAL, which is when it is moved into the database, and for that."""

_SHARE: Final = 64
"""Never more than this part of what is free: on a small disk the ballast is small too."""

_FOR_REMOVING: Final = SIZE * 5 // 8
"""Bytes of it that are only used to remove things: the WAL grows to 4 MiB before it is moved into the database, and
that may grow as much by it."""

_KEPT: Final = 4
"""One part of so many is kept at first: moving the WAL into the database may need as much as that grows by it."""

OPENING: Final = 64 * 1024
"""Bytes that opening takes: the shared memory of the catalog has 32 KiB, and its WAL begins."""

_LEAST: Final = 2 * OPENING
"""Bytes that are reserved on a disk that is nearly full too, where that is no more than half of what is free."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_INODES: Final = 2
"""How many opening takes: those of the catalog's WAL and of its shared memory."""


def available(directory: str | os.PathLike[str]) -> int:
    """Return how many bytes may still be written on the filesystem of a directory."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _out_of_inodes(directory: str) -> bool:
    status = os.statvfs(directory)
    return status.f_files > 0 and status.f_favail < _INODES  # some filesystems have no number of them


class Ballast:
    """The ballast of one store. Any number of processes may make it, and give it up, at once."""

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths
        self._path = os.fspath(paths.reserved)
        self._root = os.fspath(paths.root)
        self._owed = 0
        """Bytes that the file had, where opening needed all of it; one that was made shorter says so itself."""
        self._gave = False
        self._given_up = False

    def make(self) -> None:
        """Reserve space, as far as that is not done and there is room. What the filesystem refuses is left alone.

        Not durable, and need not be: the next opening, or collection, makes it again.
        """
        with Ignoring():
            self._grow(0)

    def _grow(self, least: int) -> None:
        """Make it as large as it should be, and at least ``least`` bytes, or a part of that where there is no room.

        Raises:
            OSError: the filesystem refused it.
        """
        try:
            status = os.lstat(self._path)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            have = 0
        else:
            if not stat.S_ISREG(status.st_mode):
                return  # somebody else's
            # A file of holes, as some copying makes of it, reserves nothing.
            have = status.st_size if status.st_blocks else 0
        if have >= SIZE:
            return
        free = available(self._root) + have
        size = max(least, min(SIZE, max(free // _SHARE, min(_LEAST, free // 2))))
        if size <= have:
            return
        descriptor = make_file(self._path, os.O_WRONLY | os.O_NOFOLLOW, self._paths.permissions.file)
        while not self._allocated(descriptor, size, have):
            size //= 2
            if size <= have:
                return
        os.pwrite(descriptor, b"%20d" % max(least, self._owed, size), 0)

    def _allocated(self, descriptor: int, size: int, have: int) -> bool:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            os.ftruncate(descriptor, have)  # without a byte it is an inode in ballast
            pass_on_theirs(error)
            if error.errno not in _FULL:
                raise
            return False
        return True

    def let_open(self) -> bool:
        """Give back as much as opening takes, and keep the rest for deleting. False where nothing was given.

        What was given is reserved again by :meth:`restore`.
        """
        try:
            if _out_of_inodes(self._root):
                given = self._give_inodes()
            else:
                given = available(self._root) <= SIZE and self._shrink()
        except OSError as error:
            pass_on_theirs(error)
            return False
        self._gave |= given
        return given

    def _shrink(self) -> bool:
        size = os.stat(self._path, follow_symlinks=False).st_size
        if size == 0:
            return False
        if size <= OPENING:
            os.unlink(self._path)
            self._owed = size
            return True
        self._truncate(size - OPENING)
        return True

    def _truncate(self, size: int) -> None:
        # Not opened with O_TRUNC: the size is another process's by now, perhaps.
        os.ftruncate(owned(os.open, self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), size)

    def _give_inodes(self) -> bool:
        given = 0
        with Ignoring():
            self._owed = max(self._owed, os.stat(self._path, follow_symlinks=False).st_size, 1)
            os.unlink(self._path)
            given += 1
        with Ignoring():
            os.rmdir(self._paths.quarantine)
            given += 1
        return given > 0

    def restore(self) -> None:
        """Reserve again what was given so that a process could open the store, and was freed by closing it.

        To be called after closing, by who may write, or gave something itself.
        """
        owed, self._owed, self._gave = self._owed, 0, False
        with Ignoring():
            if os.path.lexists(self._path) and os.stat(self._path, follow_symlinks=False).st_size >= SIZE:
                return
            make_directory(self._paths.quarantine, self._paths.permissions.directory)
        with Ignoring():
            self._grow(owed or self._noted())

    @property
    def gave(self) -> bool:
        """Whether something was given through this object, and not restored."""
        return self._gave

    def _noted(self) -> int:
        """Return how large it was when it was made, whatever was given of it since."""
        try:
            descriptor = owned(os.open, self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return 0
        noted = os.pread(descriptor, 20, 0).strip()
        return min(SIZE, int(noted)) if noted.isdigit() else 0

    def give_up(self) -> bool:
        """Give most of the space back to the filesystem, and with the next call the rest, until :meth:`take_back`.

        Returns:
            False where there is nothing to give.
        """
        try:
            size = os.stat(self._path, follow_symlinks=False).st_size
            self._owed = max(self._owed, size, self._noted())
            kept = self._owed // _KEPT
            if size > kept >= OPENING:
                self._truncate(kept)
            else:
                os.unlink(self._path)
        except OSError as error:
            pass_on_theirs(error)
            return False
        self._given_up = True
        return True

    def keep_some(self) -> None:
        """Reserve again what the first call of :meth:`give_up` left."""
        with Ignoring():
            self._grow(self._owed // _KEPT)

    def may_grow(self) -> bool:
        """Whether there is room for what frees nothing, such as history. Else the ballast would be used up for it."""
        return not self._given_up or available(self._root) >= _FOR_REMOVING

    def take_back(self) -> None:
        """Reserve what was given up again, as far as there is room; the rest is when the store is closed.

        Before somebody else fills the disk: what was removed first may have freed rows and no bytes, and then nothing
        more could be removed.
        """
        self._given_up = False
        with Ignoring():
            self._grow(self._owed)
