"""Thousands of hard links from the pool into a layout, at little more than what the kernel takes for them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, TypeAlias

from ocistore.refusals import pass_on_theirs
from ocistore.threads import Ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocistore.filedescriptors import FileDescriptor

Blob: TypeAlias = tuple[str, int]
"""A digest and a size."""

Directories: TypeAlias = "Mapping[str, tuple[FileDescriptor, FileDescriptor]]"
"""Of each algorithm, descriptors of the directories to link from and to."""

_LINKED_ALONE: Final = 200
"""How many blobs are linked sooner than a second thread helps."""


def link_each(
    directories: Directories, blobs: Sequence[Blob], *, check: Callable[[], object] = lambda: None
) -> list[Blob]:
    """Link each of which the pool has a plain file of that size, and the layout nothing; return the others.

    What is the matter with these is to be asked about one by one. ``check`` is called before each, and may raise.
    """
    left = []
    for blob in blobs:
        check()
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


def link_together(directories: Directories, blobs: Sequence[Blob]) -> list[Blob]:
    """Link each by two threads, where there are many: nearly all of the time is the kernel's, which works for both."""
    own = dict(directories)  # what a thread works with stays open for as long, even if others have let go of it
    if len(blobs) <= _LINKED_ALONE:
        return link_each(own, blobs)
    half = (len(blobs) + 1) // 2
    with Ahead(lambda some: link_each(own, some, check=ahead.check), (blobs[:half], blobs[half:])) as ahead:
        return [blob for _, left in ahead for blob in left()]
