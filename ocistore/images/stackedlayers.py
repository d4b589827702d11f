"""The file system that the layers of an image make: stacked, with whiteouts, links and hard links, from names only.

No content is read and nothing is extracted. Held in memory is an entry for each file that can be seen, about 500 bytes.
What layers mean is said in the image specification, "Image Layer Filesystem".
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ocistore import ArchiveInvalidError, Descriptor
from ocistore.archives.links import MAXIMUM_TARGET, LinkError, Place, resolve
from ocistore.archives.names import MAXIMUM_NAMES_SIZE, MAXIMUM_PATH, name_bytes
from ocistore.archives.tar import Kind
from ocistore.images.layer import layer_name
from ocistore.oci.jsonvalue import JSONValue, read_fields

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ocistore.archives.tar import Member

MAXIMUM_FILES: Final = 2_000_000
"""How many files one image may have. Large ones have some hundred thousand."""
_MAXIMUM_NAMES: Final = 512
"""Names in one path. Each costs a step whenever the path is followed."""
_MAXIMUM_FOLLOWED: Final = 100_000
"""Directories of which is remembered where they are. Marks name any number of directories that are not there."""

_WHITEOUT: Final = ".wh."
"""How the names begin of what hides something in lower layers."""
_OPAQUE: Final = ".wh..wh..opq"
"""What hides all that lower layers have in its directory."""
_RESERVED: Final = ".wh..wh."
"""How the names of all other marks of aufs begin, which mean nothing here."""


class Content(NamedTuple):
    """Where the bytes of a file are."""

    layer: Descriptor
    offset: int | None
    """The offset in the decompressed archive, in bytes; None where the layer is the file."""
    size: int


@dataclass(frozen=True, slots=True)
class ImageFile(JSONValue):
    """A file, directory or link in an image or artifact."""

    path: str
    """The path from the top, without a slash at its beginning. Bytes that are no UTF-8 are escaped as in
    ``os.fsdecode``."""
    kind: Kind
    size: int
    """Bytes of content; 0 for all but files and hard links. Of a sparse file, those that are stored."""
    mode: int
    """Permissions, without the kind."""
    mtime: int
    """Seconds since the Unix epoch."""
    uid: int
    gid: int
    target: str
    """What a link leads to. That of a hard link is a path from the top."""
    layer: Descriptor
    """The one it is in."""
    content: Content | None = field(default=None, repr=False)
    """Where the bytes of a file, or of a hard link to one, are. Not part of the public contract."""

    def to_json(self) -> dict[str, Any]:
        """Return it in parsed JSON: its fields, but not where its bytes are.

        The mode is four octal digits; ``mtime`` a time in ISO 8601, or the number of seconds where no calendar has it.
        """
        document = JSONValue.to_json(self)
        del document["content"]
        document["mode"] = f"{self.mode:04o}"
        with contextlib.suppress(OverflowError, ValueError):
            at = datetime.fromtimestamp(0, UTC) + timedelta(seconds=self.mtime)
            document["mtime"] = at.isoformat().replace("+00:00", "Z")
        return document

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, path: str = "") -> Self:
        """Make it of parsed JSON, as :meth:`to_json` returns it.

        Raises:
            ValueError, ManifestInvalidError: something is missing, unknown or of a wrong type.
        """
        known = dict(value) if isinstance(value, Mapping) else value
        if isinstance(known, dict):
            try:
                known["mode"] = int(known["mode"], 8)
                if isinstance(known["mtime"], str):
                    known["mtime"] = int(datetime.fromisoformat(known["mtime"]).timestamp())
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path and f'{path}: '}a file needs a mode and an mtime: {error}") from error
        made: Self = read_fields(cls, known, path)
        return made


def names_in(path: str, *, layer: Descriptor) -> list[str]:
    """Return the names that the path of a member, or a title, is made of; none for the top itself.

    Raises:
        ArchiveInvalidError: it leads upwards, or is longer than any path can be.
    """
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            # As text, as all tools do: what leads to a directory that is a link leads out of that by its name.
            if not names:
                raise ArchiveInvalidError(layer_name(layer), reason="its name leads upwards", member=path)
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    if len(names) > _MAXIMUM_NAMES or len(name_bytes(path)) > MAXIMUM_PATH:
        reason = f"its name has more than {MAXIMUM_PATH} bytes, or more than {_MAXIMUM_NAMES} parts"
        raise ArchiveInvalidError(layer_name(layer), reason=reason, member=path)
    return names


def as_file(member: Member, path: str, layer: Descriptor, content: Content | None = None) -> ImageFile:
    """Return a member of an archive as a file of that path."""
    return ImageFile(
        path,
        member.kind,
        member.size if content is None else content.size,
        member.mode,
        member.mtime,
        member.uid,
        member.gid,
        member.target,
        layer,
        content,
    )


class TreeObserver(Protocol):
    """What follows each step with which a tree of files changes, such as one that does the same on a disk."""

    def made(self, file: ImageFile, member: Member | None, *, linked: str | None) -> None:
        """Follow that something is there that was not; its parent is a directory.

        Args:
            file: it.
            member: what says so; None of a directory that is there because something is in it.
            linked: of a hard link, the path of what it is another name for; empty where that is nothing.
        """
        ...

    def changed(self, file: ImageFile, member: Member | None) -> None:
        """Follow that a directory is described anew; what is in it stays."""
        ...

    def removed(self, file: ImageFile) -> None:
        """Follow that something is gone. Nothing was left in it."""
        ...


class FileTree:
    """The files that can be seen when the layers added so far are stacked, the first of them lowest."""

    def __init__(self, observer: TreeObserver | None = None) -> None:
        """Begin without files; ``observer`` is called after each change."""
        self._observer = observer
        self._files: dict[str, ImageFile] = {}
        self._below: dict[str, set[str]] = {"": set()}
        """The paths directly in each directory."""
        self._layer: Descriptor | None = None
        self._own: set[str] = set()
        """What the current layer has brought, which its own marks do not hide."""
        self._cleared: set[str] = set()
        """Directories that the current layer has hidden already, as it sees them."""
        self._names_size = 0
        """Characters of all names, and of what links lead to."""
        self._followed: dict[str, str] = {}
        """Where directories are, links followed; until something changes that might lead elsewhere."""

    def begin_layer(self, layer: Descriptor) -> None:
        """Begin a layer: what is added from now on belongs to it."""
        self._layer = layer
        self._own.clear()
        self._cleared.clear()

    def add(self, member: Member, *, marks: bool = True) -> None:
        """Add the next member of the layer; with ``marks``, some names mean that something below is hidden.

        Raises:
            ArchiveInvalidError: its name leads upwards or nowhere, or there are too many files.
        """
        layer = self._current()
        names = names_in(member.name, layer=layer)
        if not names:
            return
        if len(name_bytes(member.target)) > MAXIMUM_TARGET:
            reason = f"it leads to a path of more than {MAXIMUM_TARGET} bytes"
            raise ArchiveInvalidError(layer_name(layer), reason=reason, member=member.name)
        name = names.pop()
        parent = self._resolved("/".join(names), member.name)
        if marks and name.startswith(_WHITEOUT):
            self._hide(parent, name, member.name)
            return
        self._make_above(parent, member)
        path = f"{parent}/{name}" if parent else name
        if member.kind == "hardlink":
            self._link(member, path)
            return
        content = Content(layer, member.offset, member.size) if member.kind == "file" else None
        self._put(as_file(member, path, layer, content), member)

    def add_file(self, file: ImageFile) -> None:
        """Add a file that is no member of an archive."""
        above, _, _ = file.path.rpartition("/")
        self._make_directories(above, file.path)
        self._put(file)

    def find(self, path: str, *, last: bool = True) -> ImageFile | None:
        """Return what a path leads to, links followed as in a root file system; None where there is nothing.

        Args:
            path: from the top, with or without a slash at its beginning.
            last: whether the last name is followed too.

        Raises:
            LinkError: it leads in a ring.
        """
        return self._files.get(resolve(path, self._look, last=last))

    def walk(self, top: str = "") -> Iterator[ImageFile]:
        """Yield what is at that path and below, parents before children, in byte order in each directory."""
        waiting = [top]
        while waiting:
            path = waiting.pop()
            if path:
                yield self._files[path]
            waiting += sorted(self._below.get(path, ()), key=name_bytes, reverse=True)

    # --- changing it --------------------------------------------------------------------------------------------------

    def _current(self) -> Descriptor:
        assert self._layer is not None  # begin_layer comes first
        return self._layer

    def _look(self, path: str) -> Place | None:
        found = self._files.get(path)
        if found is None:
            return None
        if found.kind == "symlink":
            return Place("symlink", found.target)
        return Place("directory" if found.kind == "directory" else "other")

    def _resolved(self, directory: str, name: str) -> str:
        """Return where a directory of the archive is: one on the way may be a link, in a lower layer or in this one."""
        found = self._followed.get(directory)
        if found is None:
            if len(self._followed) >= _MAXIMUM_FOLLOWED:
                self._followed.clear()
            try:
                found = self._followed[directory] = resolve(directory, self._look)
            except LinkError as error:
                raise ArchiveInvalidError(layer_name(self._current()), reason=str(error), member=name) from error
        return found

    def _make_above(self, parent: str, member: Member) -> None:
        found = self._files.get(parent)
        if not parent or (found is not None and found.kind == "directory"):
            return
        self._make_directories(parent, member.name)

    def _make_directories(self, directory: str, name: str) -> None:
        """Make the directories that something is in and that are no members themselves."""
        names = directory.split("/") if directory else []
        for end in range(1, len(names) + 1):
            path = "/".join(names[:end])
            found = self._files.get(path)
            if found is None:
                self._put(ImageFile(path, "directory", 0, 0o755, 0, 0, 0, "", self._current()))
            elif found.kind != "directory":
                reason = f"it lies in {path!r:.300}, which is no directory"
                raise ArchiveInvalidError(layer_name(self._current()), reason=reason, member=name)

    def _put(self, file: ImageFile, member: Member | None = None, *, linked: str | None = None) -> None:
        path = file.path
        existing = self._files.get(path)
        if existing is not None and not (existing.kind == file.kind == "directory"):
            self._remove(path)
            existing = None
        if len(self._files) >= MAXIMUM_FILES:
            raise ArchiveInvalidError(layer_name(file.layer), reason=f"the image has more than {MAXIMUM_FILES} files")
        self._names_size += _names_size(file) - (0 if existing is None else _names_size(existing))
        if self._names_size > MAXIMUM_NAMES_SIZE:
            reason = f"the names of the image's files have more than {MAXIMUM_NAMES_SIZE} characters"
            raise ArchiveInvalidError(layer_name(file.layer), reason=reason)
        self._files[path] = file
        self._own.add(path)
        above, _, _ = path.rpartition("/")
        self._below[above].add(path)
        if file.kind == "directory":
            self._below.setdefault(path, set())
        elif file.kind == "symlink":
            self._followed.clear()
        if self._observer is None:
            return
        if existing is not None:
            self._observer.changed(file, member)
        else:
            self._observer.made(file, member, linked=linked)

    def _remove(self, path: str) -> None:
        """Remove what is at that path, and below."""
        above, _, _ = path.rpartition("/")
        self._below[above].discard(path)
        waiting = [path]
        for each in waiting:  # which grows: parents before children
            waiting += self._below.pop(each, ())
        for each in reversed(waiting):
            gone = self._files.pop(each)
            self._names_size -= _names_size(gone)
            self._own.discard(each)
            if self._observer is not None:
                self._observer.removed(gone)
        self._followed.clear()

    def _hide(self, parent: str, name: str, member: str) -> None:
        if name == _OPAQUE:
            self._clear(parent)
            return
        if name.startswith(_RESERVED):
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise ArchiveInvalidError(layer_name(self._current()), reason="a mark that hides nothing", member=member)
        path = f"{parent}/{hidden}" if parent else hidden
        if path in self._files:
            self._clear(path)
            if path not in self._own and not self._below.get(path):
                self._remove(path)

    def _clear(self, directory: str) -> None:
        """Remove what lower layers have in a directory, and leave what the current one has."""
        if directory in self._cleared or directory not in self._below:
            return
        below = [directory]
        for path in below:  # which grows: parents before children
            below += [child for child in self._below[path] if child in self._below and child not in self._cleared]
        self._cleared.update(below)
        for path in reversed(below):
            for child in list(self._below[path]):
                if child not in self._own and not self._below.get(child):
                    self._remove(child)

    def _link(self, member: Member, path: str) -> None:
        """Add a hard link: another name for what has the name that it leads to, a file or a symbolic link.

        A link to a file says so, and has its content; a link to something else is as that is.
        """
        layer = self._current()
        linked = ""
        with contextlib.suppress(LinkError):
            linked = resolve(member.target, self._look, last=False)
        found = self._files.get(linked)
        if found is not None and linked == path:
            return
        if found is None or found.kind in ("file", "hardlink", "directory"):
            file = as_file(member, path, layer, None if found is None else found.content)
        else:
            file = replace(found, path=path, layer=layer)
        self._put(file, member, linked="" if found is None else linked)


def _names_size(file: ImageFile) -> int:
    return len(file.path) + len(file.target)
