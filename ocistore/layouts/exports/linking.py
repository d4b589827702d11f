"""Thousands of hard links from the pool into a layout, at little more than what the kernel takes for them."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Blob: TypeAlias = tuple[str, int]
"""A digest and a size."""

Directories: TypeAlias = "Mapping[str, tuple[int, int]]"
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
        except (KeyError, OSError):
            pass
        left.append(blob)
    return left


class LinkingBeside:
    """The same in a thread, with descriptors of its own.

    Were they the caller's, an interrupt could end the wait for the thread: the caller would close them, and the thread
    link into whatever directory is opened next under their numbers.
    """

    def __init__(self, directories: Directories, blobs: list[Blob]) -> None:
        """Begin.

        Raises:
            OSError, RuntimeError: there are too many descriptors or threads, or the interpreter ends.
        """
        self._blobs = blobs
        self._left = blobs
        self._until = threading.Event()
        self._own: dict[str, tuple[int, int]] = {}
        self._thread = threading.Thread(target=self._run, name="ocistore-link")
        try:
            for algorithm, (source, target) in directories.items():
                own = os.dup(source)
                try:
                    self._own[algorithm] = own, os.dup(target)
                except OSError:
                    os.close(own)
                    raise
            self._thread.start()
        except (OSError, RuntimeError):  # and nothing else: an interrupt may come when the thread is running already
            self._close()
            raise

    def _run(self) -> None:
        try:
            self._left = link_each(self._own, self._blobs, until=self._until)
        finally:
            self._close()

    def _close(self) -> None:
        for pair in self._own.values():
            for descriptor in pair:
                os.close(descriptor)

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
    with contextlib.suppress(OSError, RuntimeError):
        return LinkingBeside(directories, blobs)
    return None
