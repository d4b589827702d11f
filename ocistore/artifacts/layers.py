"""The layers that files and directories become: found and checked first, stored then, large files by all cores."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from ocistore import ArtifactInvalidError, Compression, Descriptor, Digest
from ocistore.archives.compression import stored_gzip
from ocistore.archives.names import name_from_disk
from ocistore.archives.tarwriting import TarWriter
from ocistore.arguments import check_choice
from ocistore.artifacts.directories import PackedDirectory
from ocistore.artifacts.kinds import kind_of_file
from ocistore.artifacts.titles import CONTENT_DIGEST, EXECUTABLE, TITLE, UNPACK, title_components
from ocistore.artifacts.unpacking import MAXIMUM_UNPACKED
from ocistore.artifacts.walking import changed, entries, looking_at, version
from ocistore.filedescriptors import owned
from ocistore.files.content import CountedFile
from ocistore.oci import mediatypes
from ocistore.oci.manifest import MAXIMUM_DESCRIPTORS, MAXIMUM_MANIFEST_SIZE
from ocistore.oci.mediatypes import OCTET_STREAM
from ocistore.threads import WORTH_A_THREAD, Ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from ocistore import RepositoryWriter
    from ocistore.artifacts.earlier import EarlierFiles
    from ocistore.artifacts.walking import Dereference, Links, PackedEntry
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.progress import Tally

LayerForm: TypeAlias = Literal["file", "tar"]
"""What a directory becomes: one layer for each ``file`` in it, or one layer that is a ``tar`` archive of it."""

_ARCHIVE_TYPES: Final[Mapping[str, str]] = {
    "none": mediatypes.OCI_LAYER,
    "gzip": mediatypes.OCI_LAYER_GZIP,
    "zstd": mediatypes.OCI_LAYER_ZSTD,
}

_ROOM_FOR_THE_REST: Final = 64 * 1024
"""Bytes of a manifest that its layers do not take: its annotations, its subject."""

# A path may be a symbolic link: it is the caller's own. Not blocking, so that a FIFO is refused and not waited for.
_SOURCE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class PackingOptions:
    """How files and directories become layers; see :func:`ocistore.artifacts.push_files`."""

    layer: LayerForm = "file"
    compression: Compression = "gzip"
    dereference: Dereference = False
    contents: bool = False

    def __post_init__(self) -> None:
        """Refuse what is none of these.

        Raises:
            ValueError: one of them is something else, or two exclude each other.
        """
        check_choice(self.layer, "layer", get_args(LayerForm))
        check_choice(self.compression, "compression", tuple(_ARCHIVE_TYPES))
        if self.dereference not in (True, False, "inside"):
            raise ValueError(f"dereference must be a bool or 'inside', not {self.dereference!r}")
        if self.contents and self.layer == "tar":
            raise ValueError("contents=True is for one layer per file: an archive needs a title, which is a name")

    @property
    def links(self) -> Links:
        """What becomes of symbolic links."""
        if self.dereference:
            return "inside" if self.dereference == "inside" else "follow"
        return "keep" if self.layer == "tar" else "refuse"


@dataclass(frozen=True, slots=True)
class _Item:
    """One layer to be."""

    title: str
    path: str
    """For messages, and to open it by where it is no entry."""
    size: int
    """Bytes to be read, as far as is known before."""
    entry: PackedEntry | None = None
    """What was found in a directory."""
    is_directory: bool = False
    """Whether it becomes an archive: of a directory, or of an empty one."""

    @property
    def annotations(self) -> dict[str, str]:
        found = {TITLE: self.title}
        if not self.is_directory and self.entry is not None and self.entry.status.st_mode & stat.S_IXUSR:
            found[EXECUTABLE] = "true"
        return found

    def open(self) -> tuple[FileDescriptor, Callable[[], None]]:
        """Open the file, and give what raises afterwards where it was written to meanwhile."""
        if self.entry is not None:
            entry, opened = self.entry, self.entry.open()
            return opened, lambda: entry.refuse_changed(opened)
        descriptor = owned(os.open, self.path, _SOURCE)
        with looking_at(self.path):
            before = os.fstat(descriptor)
        _require_plain(self.path, before.st_mode)  # it may have become something else meanwhile

        def refuse_changed() -> None:
            with looking_at(self.path):
                now = os.fstat(descriptor)
            if version(now) != version(before):
                raise changed(self.path)

        return descriptor, refuse_changed


class _NamedFile(CountedFile):
    """A counted file whose errors say which it is."""

    def __init__(self, descriptor: int, progress: Callable[[int], object], location: str) -> None:
        super().__init__(descriptor, progress)
        self._location = location

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override] # as its base
        with looking_at(self._location):
            return super().readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with looking_at(self._location):
            return super().seek(offset, whence)

    def tell(self) -> int:
        with looking_at(self._location):
            return super().tell()

    def seekable(self) -> bool:
        return True  # a plain file


class Layers:
    """What files and directories become, in order. Everything that can be seen beforehand was checked."""

    def __init__(
        self,
        files: Sequence[str | os.PathLike[str]],
        options: PackingOptions,
        *,
        media_types: Mapping[str, str] | None = None,
        refused: tuple[int, int] | None = None,
    ) -> None:
        """Look for the files, and read none.

        Args:
            files: plain files and directories.
            options: how.
            media_types: types of layers by their titles.
            refused: device and inode of a directory that must not be in them.

        Raises:
            ArtifactInvalidError: two have the same title, one cannot be packed or has a name that no title can be, or
                there are more than a manifest can list.
            ManifestInvalidError: one of the types is no media type.
            OSError: something cannot be looked at.
        """
        self._options = options
        self._refused = refused
        self._media_types = media_types or {}
        self._sources = _sources(files, contents=options.contents)
        self._titles: set[str] = set()
        self.size = 0
        """Bytes to be read, as far as is known before."""
        self._plan()
        for title, kind in self._media_types.items():
            if title not in self._titles:
                raise ArtifactInvalidError(title, reason="a media type was given for it, but there is no such file")
            mediatypes.media_type(kind, path=f"the media type of {title!r:.100}")

    def put(self, repository: RepositoryWriter, tally: Tally, *, earlier: EarlierFiles | None) -> list[Descriptor]:
        """Store all of them, and return their descriptors.

        Args:
            repository: where to; of a transaction, whose end makes them durable.
            tally: what is read is counted.
            earlier: what need not be written again, as far as can be guessed.

        Raises:
            ArtifactInvalidError: something changed since it was looked at.
            OSError: something cannot be read.
        """

        def put(item: _Item) -> Descriptor:
            if item.title not in self._titles:
                raise changed(item.path)
            if item.is_directory:
                return self._put_archive(repository, item, tally)
            return self._put_file(repository, item, tally, earlier)

        with (
            contextlib.closing(self._items()) as items,
            Ahead(put, items, beside=_is_large, counter=tally.counter) as ahead,
        ):
            found = [descriptor() for _, descriptor in ahead]
        if len(found) != len(self._titles):
            raise changed(self._sources[0][1].path)
        return found

    # --- looking ------------------------------------------------------------------------------------------------------

    def _items(self) -> Generator[_Item]:
        """Yield all of them, in order. What is in a directory is found again each time."""
        for title, source in self._sources:
            if not source.is_directory:
                yield _Item(title, source.path, source.size)
            elif self._options.layer == "tar":
                yield _Item(title, source.path, 0, is_directory=True)
            else:
                yield from self._items_in(title, source.path)

    def _items_in(self, title: str, path: str) -> Generator[_Item]:
        with contextlib.closing(entries(path, links=self._options.links, refused=self._refused)) as found:
            for entry in found:
                names = [name_from_disk(entry.path)] if entry.path else []
                if not self._options.contents:
                    names.insert(0, title)
                if entry.is_empty and names:
                    yield _Item("/".join(names), entry.location, 0, entry, is_directory=True)
                elif not stat.S_ISDIR(entry.status.st_mode):
                    yield _Item("/".join(names), entry.location, entry.status.st_size, entry)

    def _plan(self) -> None:
        above: dict[str, str] = {}
        files: set[str] = set()
        room = MAXIMUM_MANIFEST_SIZE - _ROOM_FOR_THE_REST
        for item in self._items():
            title = item.title
            components = _checked_title(item)
            if title in self._titles:
                raise ArtifactInvalidError(item.path, reason=f"something else has the same title, {title!r:.300}")
            room -= len(json.dumps(self._described(item, _ANY, item.size).to_json())) if item.entry else 0
            self._titles.add(title)
            if item.entry is not None and (room < 0 or len(self._titles) > MAXIMUM_DESCRIPTORS - 2):
                raise _too_many(item.entry.top)
            if not item.is_directory:
                files.add(title)
            above.update(("/".join(components[:depth]), title) for depth in range(1, len(components)))
            archived = self._size_of_archive(item) if item.is_directory and item.entry is None else 0
            self.size += item.size + archived
        for title in files & above.keys():
            raise ArtifactInvalidError(title, reason=f"it would be a file, and a directory in {above[title]!r:.300}")

    def _size_of_archive(self, item: _Item) -> int:
        """Return the bytes of all files that go into it, after checking that everything in it can be packed."""
        size = 0
        with contextlib.closing(entries(item.path, links=self._options.links, refused=self._refused)) as found:
            for count, entry in enumerate(found):
                if count >= MAXIMUM_UNPACKED:
                    reason = f"there is more in it than the {MAXIMUM_UNPACKED} files that are unpacked again"
                    raise ArtifactInvalidError(item.path, reason=reason)
                size += entry.status.st_size if stat.S_ISREG(entry.status.st_mode) else 0
        return size

    # --- storing ------------------------------------------------------------------------------------------------------

    def _put_file(
        self, repository: RepositoryWriter, item: _Item, tally: Tally, earlier: EarlierFiles | None
    ) -> Descriptor:
        descriptor, refuse_changed = item.open()
        with looking_at(item.path):
            size = left = os.fstat(descriptor).st_size
            reuse = earlier is not None and earlier.has_probably(descriptor, size)

        def count(read: int) -> None:
            nonlocal left
            new = min(read, left) if reuse else read  # it may be read twice
            left -= new
            tally.add(new)

        with _NamedFile(int(descriptor), count, item.path) as file:
            blob = repository.put_blob(file, reuse=reuse)
        refuse_changed()
        return self._described(item, blob.digest, blob.size)

    def _put_archive(self, repository: RepositoryWriter, item: _Item, tally: Tally) -> Descriptor:
        if item.entry is not None:
            archive = _archive_of_nothing(item.title)
            blob = repository.put_blob(stored_gzip(archive))
            content = Digest.of(archive)
        else:
            packed = PackedDirectory(
                item.path,
                item.title,
                tally,
                links=self._options.links,
                compression=self._options.compression,
                refused=self._refused,
            )
            blob = repository.put_blob(packed.chunks())
            content = packed.content_digest
        return self._described(item, blob.digest, blob.size, content=content)

    def _described(self, item: _Item, digest: Digest, size: int, *, content: Digest | None = None) -> Descriptor:
        """Return the descriptor of a layer; ``content`` is what an archive has before compression."""
        # oras takes the type of a tar archive, which a container runtime would try to unpack. Readers find the files by
        # their titles, whatever the types.
        kind, annotations = OCTET_STREAM, item.annotations
        if item.is_directory:
            kind = _ARCHIVE_TYPES["gzip" if item.entry is not None else self._options.compression]
            annotations = {CONTENT_DIGEST: str(content or _ANY), UNPACK: "true", **annotations}
        return Descriptor(self._media_types.get(item.title, kind), digest, size, annotations)


_ANY: Final = Digest.of(b"")
"""In the place of a digest that is not known yet, and as long."""


def _is_large(item: _Item) -> bool:
    """Whether storing it is worth a thread. An archive has one that hashes beside who compresses."""
    return item.size >= WORTH_A_THREAD


def _checked_title(item: _Item) -> list[str]:
    try:
        return title_components(item.title)
    except ArtifactInvalidError as error:
        if item.entry is None:
            raise
        reason = (
            f"{error.reason}, so that no layer can be called so: pack the directory as one archive, in which it can "
            "be (layer='tar', --tar)"
        )
        raise ArtifactInvalidError(item.path, reason=reason) from error


def _too_many(path: str) -> ArtifactInvalidError:
    reason = (
        f"there are more files in it than a manifest can list, which are {MAXIMUM_DESCRIPTORS - 2}, or "
        f"{MAXIMUM_MANIFEST_SIZE >> 20} MiB of their names and digests: pack it as one archive (layer='tar', --tar)"
    )
    return ArtifactInvalidError(path, reason=reason)


def _archive_of_nothing(title: str) -> bytes:
    """Return the archive of an empty directory."""
    out: list[bytes] = []
    writer = TarWriter(out.append)
    writer.directory(title)
    writer.finish(whole_records=False)
    return b"".join(out)


# --- what was given ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """A file or directory that the caller named."""

    path: str
    size: int
    """Bytes; 0 of a directory, which is looked through later."""
    is_directory: bool


def _sources(files: Sequence[str | os.PathLike[str]], *, contents: bool) -> list[tuple[str, _Given]]:
    """Return what is to be packed, each with its base name, which becomes a title."""
    found: list[tuple[str, _Given]] = []
    titled: dict[str, str] = {}
    for file in files:
        path = os.fspath(file)
        status = os.stat(path)
        is_directory = stat.S_ISDIR(status.st_mode)
        if not is_directory:
            _require_plain(path, status.st_mode)
        # The last name of "here/" and of "." is that of the directory.
        title = name_from_disk(os.path.basename(os.path.abspath(path) if is_directory else path))
        if not (is_directory and contents):
            title_components(title)
            if title in titled:
                raise ArtifactInvalidError(path, reason=f"{titled[title]!r:.300} has the same base name")
            titled[title] = path
        found.append((title, _Given(path, 0 if is_directory else status.st_size, is_directory)))
    return found


def _require_plain(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ArtifactInvalidError(path, reason=f"it is {kind_of_file(mode)}, not a plain file or directory")
