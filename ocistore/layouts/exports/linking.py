"""Thousands of hard links from the pool into a layout, at little more than what the kernel takes for them."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import TYPE_CHECKING, TypeAlias

from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocistore.filedescriptors import FileDescriptor

Blob: TypeAlias = tuple[str, int]
"""A digest and a size."""

Directories: TypeAlias = "Mapping[str, tuple[FileDescriptor, FileDescriptor]]"
"""Of each algorithm, descriptors of the directories to link from and to."""


def link_each(
    directories: Directories, blobs: Sequence[Blob], *, until: threading.Event | None = None
) -> list[Blob]:
    """Link each of which the pool has a plain file of that size, and the layout nothing; return the others.

    What is the matter with these is to be asked about one by one. ``until`` ends it early when it is set.
    """
    left = []
    for blob in blobs:
        if until is not None and until.is_set():
            break
        digest, size = blob
        algorithm, _, encoded = digest.partition(":")
        try:
            source, target = directories[algorithm]
            status = os.stat(encoded, dir_fd=source, follow_symlinks=False)
            if status.st_size == size and stat.S_ISREG(status.st_mode):
                os.link(encoded, encoded, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                continue
        except (KeyError, OSError) as error:
            pass_on_theirs(error)
        left.append(blob)
    return left


class LinkingBeside:
    """The same in a thread, which keeps open what it works with, also where an interrupt ends the wait for it."""

    def __init__(self, directories: Directories, blobs: list[Blob]) -> None:
        """Begin.

        Raises:
            RuntimeError: there are too many threads, or the interpreter ends.
        """
        self._blobs = blobs
        self._left = blobs
        self._until = threading.Event()
        self._own = dict(directories)
        """What the thread works with stays open as long as that, whoever else has let go of it."""
        self._thread = threading.Thread(target=self._run, name="ocistore-link")
        try:
            self._thread.start()
        except RuntimeError:
            self._own.clear()  # the thread and its work refer to each other
            raise

    def _run(self) -> None:
        self._left = link_each(self._own, self._blobs, until=self._until)
        self._own.clear()

    def finish(self) -> list[Blob]:
        """Wait for the end; what was not linked."""
        try:
            self._thread.join()
        except BaseException:
            self._until.set()
            raise
        return self._left

    def stop(self) -> None:
        """End it now."""
        self._until.set()
        self._thread.join()


def linking_beside(directories: Directories, blobs: list[Blob]) -> LinkingBeside | None:
    """Begin; None where that cannot be, as where the number of threads is limited: then it has to be done here."""
    with contextlib.suppress(RuntimeError):
        return LinkingBeside(directories, blobs)
    return None
