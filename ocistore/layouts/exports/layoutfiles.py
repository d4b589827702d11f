"""Bytes of the store as files of a layout: by link, reflink or copy."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from ocistore.errors import CorruptError, LayoutInvalidError, StorageError
from ocistore.filedescriptors import owned
from ocistore.files.cloning import clone
from ocistore.files.content import write_all
from ocistore.files.durability import sync_filesystem, syncfs_reports_errors
from ocistore.files.making import new_file, temporary_name
from ocistore.layouts.directory import BLOBS, LayoutDirectory, NotPlainError
from ocistore.layouts.vanished import gone_is_damage
from ocistore.oci.digest import Digest
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, is_refusal, pass_on_theirs
from ocistore.threads import Ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from ocistore.blobs.reader import BlobReader
    from ocistore.blobs.sharing import TransferMode
    from ocistore.core import Core
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.oci.manifest import Manifest
    from ocistore.progress import Tally

_CANNOT_LINK: Final = {
    errno.EXDEV: "it lies on another filesystem than the store, where hard links do not reach; copy instead",
    errno.EPERM: "blobs that belong to somebody else may not be linked, nor any where there are no links; copy instead",
    errno.EMLINK: "a blob has as many names as a file can have; copy instead",
}

_READ_BLOCK: Final = 1024 * 1024
"""Bytes read at once from a blob that is in no file."""

_COPY_BLOCK: Final = 16 * 1024 * 1024
"""Bytes given to one sendfile(2): a system call costs nothing beside them, and progress is called ten times a second
for a disk that writes 160 MB in one."""

_SMALL: Final = 64 * 1024
"""Bytes. A blob of this size at most is copied by way of memory, which takes half of the system calls."""

_SYNCED_ONE_BY_ONE: Final = 16
"""How many copied files are synced each; more of them, with one sync of the filesystem."""

_SYNCED_ALONE: Final = 4 * 1024 * 1024
"""Bytes. A copy of this size is synced while it is open, so that the data to be written does not pile up."""

_LINKED_TOGETHER: Final = 2000
"""How many blobs are linked before the progress is called."""

_NAMED_TOGETHER: Final = 10_000
"""How many copies get their names at once."""


_LINKED_ALONE: Final = 200
"""How many blobs are linked sooner than a second thread helps."""

_Blob: TypeAlias = tuple[str, int]
"""A digest and a size."""

_Directories: TypeAlias = "Mapping[str, tuple[FileDescriptor, FileDescriptor]]"
"""Of each algorithm, descriptors of the directories to link from and to."""


class BlobWriter:
    """Gives blobs of the store names in a layout: by link, reflink or copy; durable after :meth:`finish`.

    Copies have temporary names until their bytes are durable: an export after a crash takes what has a blob's name
    and size to be that blob.
    """

    def __init__(
        self,
        core: Core,
        layout: LayoutDirectory,
        mode: TransferMode,
        tally: Tally,
        *,
        permissions: int | None = None,
    ) -> None:
        """Write into a layout; ``permissions`` are those of copies, where the ones of a new file will not do."""
        self._core = core
        self._sharing = core.pool.sharing
        if mode == "link" and self._sharing is None:
            reason = "the blobs of the store are no files that could be linked; copy instead"
            raise StorageError(str(layout.path), errno=None, reason=reason)
        self._tally = tally
        self._layout = layout
        self._mode = mode
        self._permissions = permissions
        self._reflink = mode == "auto"
        self._directories: dict[str, FileDescriptor] = {}
        self._linking: dict[str, tuple[FileDescriptor, FileDescriptor]] = {}
        """Of each algorithm: where to link from, and where to."""
        self._copied: list[tuple[str, int, str]] = []
        """Temporary name; directory and name that it is to have."""
        self._reached = 0
        self.present_bytes = 0
        """Bytes of blobs that were there already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for temporary, _directory, _name in self._copied:
            with Ignoring():
                os.unlink(temporary, dir_fd=self._layout.descriptor)

    def write_all(self, blobs: Iterable[tuple[str, int]]) -> None:
        """Write blobs, given as digests and sizes, or find them there."""
        for digest, size in self._not_linked(blobs) if self._mode == "link" else blobs:
            self.write(Digest(digest), size)
            self._reached += size
            self._tally.reach(self._reached)

    def _not_linked(self, blobs: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        pending = iter(blobs)
        while batch := list(islice(pending, _LINKED_TOGETHER)):
            left = self._link_all(batch)
            self._reached += sum(size for _, size in batch) - sum(size for _, size in left)
            self._tally.reach(self._reached)
            yield from left

    def _link_all(self, blobs: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Link what can be linked at once, at little more than the cost of the link.

        Return the rest, for :meth:`write`.
        """
        self._know_directories(blobs)
        return link_together(self._linking, blobs)

    def _know_directories(self, blobs: list[tuple[str, int]]) -> None:
        for algorithm in {digest.partition(":")[0] for digest, _ in blobs} - self._linking.keys():
            with Ignoring():  # which each of the blobs will say with its own name
                assert self._sharing is not None
                self._linking[algorithm] = self._sharing.directory(algorithm), self._directory(algorithm)

    def write(self, digest: Digest, size: int) -> None:
        """Write one blob, or find it there."""
        directory = self._directory(digest.algorithm)
        name = digest.encoded
        with Translating(partial(self._layout.blob_path, digest)):
            if self._mode == "link":
                self._link(digest, size, directory, name)
            elif is_there(directory, name, size):
                self.present_bytes += size
            else:
                self._copy(digest, size, directory, name)

    def write_made(self, manifest: Manifest) -> None:
        """Write a manifest that the store need not hold, or find it there."""
        digest, size = manifest.descriptor.digest, manifest.descriptor.size
        directory = self._directory(digest.algorithm)
        with Translating(partial(self._layout.blob_path, digest)):
            if is_there(directory, digest.encoded, size):
                self.present_bytes += size
            else:
                with self._new_file(directory, digest.encoded) as target:
                    write_all(target, manifest.content)
        self._reached += size
        self._tally.reach(self._reached)

    def finish(self) -> None:
        """Make everything durable."""
        self._name_copies()
        with Translating(str(self._layout.path)):
            self._layout.sync()

    def _directory(self, algorithm: str) -> FileDescriptor:
        found = self._directories.get(algorithm)
        if found is None:
            try:
                with Translating(str(self._layout.path / BLOBS / algorithm)):
                    found = self._directories[algorithm] = self._layout.make_algorithm(algorithm)
            except NotPlainError as error:
                raise LayoutInvalidError(self._layout.path, problems=(str(error),)) from error
        return found

    def _link(self, digest: Digest, size: int, directory: int, name: str) -> None:
        assert self._sharing is not None
        try:
            self._sharing.link(digest, size, directory, name)
        except FileExistsError as error:
            pass_on_theirs(error)
            if is_there(directory, name, size):
                self.present_bytes += size
            else:
                self._link_over(digest, size, directory, name)
        except OSError as error:
            pass_on_theirs(error)
            if error.errno not in _CANNOT_LINK:
                raise
            raise StorageError(str(self._layout.path), errno=error.errno, reason=_CANNOT_LINK[error.errno]) from error

    def _link_over(self, digest: Digest, size: int, directory: int, name: str) -> None:
        temporary, top = temporary_name(), self._layout.descriptor
        assert self._sharing is not None
        self._sharing.link(digest, size, top, temporary)
        try:
            os.rename(temporary, name, src_dir_fd=top, dst_dir_fd=directory)
        except BaseException:
            with Ignoring():
                os.unlink(temporary, dir_fd=top)
            raise

    def _copy(self, digest: Digest, size: int, directory: int, name: str) -> None:
        with contextlib.ExitStack() as stack:
            try:
                with gone_is_damage(digest):
                    if size <= _SMALL and not self._reflink:
                        source, content = None, self._core.pool.read(digest, size)
                    else:
                        source, content = stack.enter_context(self._core.pool.open(digest, size)), b""
            except CorruptError as error:
                raise CorruptError(f"blob {digest}", reason=error.reason, gone=error.gone) from error
            target = stack.enter_context(self._new_file(directory, name))
            if source is None:
                write_all(target, content)
            elif source.descriptor is None:
                self._copy_read(source, target)
            elif not self._cloned(source.descriptor, target):
                self._copy_open(source, target, size)
            if size >= _SYNCED_ALONE:
                os.fsync(target)
        if len(self._copied) >= _NAMED_TOGETHER:
            self._name_copies()

    def _copy_read(self, source: BlobReader, target: int) -> None:
        while block := source.read(_READ_BLOCK):
            write_all(target, block)
            self._tally.add(len(block))

    def _copy_open(self, source: BlobReader, target: int, size: int) -> None:
        try:
            _copy_bytes(source.fileno(), target, size, self._tally)
        except OSError as error:
            if error.errno == errno.EIO and is_refusal(error):
                # Of which of the two files? Reading says it, if it was that.
                source.seek(0)
                while source.read(_COPY_BLOCK):
                    pass
            raise

    @contextlib.contextmanager
    def _new_file(self, directory: int, name: str) -> Iterator[int]:
        """Make a file that gets its name when its bytes are durable."""
        temporary, target = new_file(self._layout.descriptor)
        self._copied.append((temporary, directory, name))
        try:
            yield int(target)  # which keeps nothing open
            if self._permissions is not None:
                os.fchmod(target, self._permissions)
        except BaseException:
            # Else it would get the name with the others, where somebody continues without this blob.
            self._copied.remove((temporary, directory, name))
            with Ignoring():
                os.unlink(temporary, dir_fd=self._layout.descriptor)
            raise
        finally:
            del target

    def _cloned(self, source: int, target: int) -> bool:
        if not self._reflink:
            return False
        self._reflink = clone(source, target)
        return self._reflink

    def _name_copies(self) -> None:
        with Translating(str(self._layout.path)):
            if len(self._copied) > _SYNCED_ONE_BY_ONE and syncfs_reports_errors():
                sync_filesystem(self._layout.descriptor)
            else:
                for temporary, _, _ in self._copied:
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.fsync(owned(os.open, temporary, flags, dir_fd=self._layout.descriptor))
            while self._copied:
                temporary, directory, name = self._copied[-1]
                os.rename(temporary, name, src_dir_fd=self._layout.descriptor, dst_dir_fd=directory)
                self._copied.pop()


def is_there(directory: int, name: str, size: int) -> bool:
    """Whether a plain file of that size has the name."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError as error:
        pass_on_theirs(error)
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def _copy_bytes(source: int, target: int, size: int, tally: Tally) -> None:
    position = 0
    while position < size:
        # Not copy_file_range(2): it refuses two filesystems, and on one that can it shares what is to be a copy.
        count = os.sendfile(target, source, position, min(_COPY_BLOCK, size - position))
        if count == 0:
            raise OSError(errno.EIO, "the source ended early")
        position += count
        tally.add(count)


# --- hard links -------------------------------------------------------------------------------------------------------


def link_each(
    directories: _Directories, blobs: Sequence[_Blob], *, check: Callable[[], object] = lambda: None
) -> list[_Blob]:
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


def link_together(directories: _Directories, blobs: Sequence[_Blob]) -> list[_Blob]:
    """Link each by two threads, where there are many: nearly all of the time is the kernel's, which works for both."""
    own = dict(directories)  # what a thread works with stays open for as long, even if others have let go of it
    if len(blobs) <= _LINKED_ALONE:
        return link_each(own, blobs)
    half = (len(blobs) + 1) // 2
    with Ahead(lambda some: link_each(own, some, check=ahead.check), (blobs[:half], blobs[half:])) as ahead:
        return [blob for _, left in ahead for blob in left()]
