"""The members of an archive as a table of names: checked as they come, with links that lead nowhere else.

Whatever is in an archive came from outside. Nothing is extracted, so no name can lead out of the archive here; but what
other tools would refuse, or write somewhere else, is refused here too, so that an archive means the same to all.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ocistore.errors import ArchiveInvalidError
from ocistore.layouts.directory import BLOBS, NotPlainError
from ocistore.oci.digest import Digest, digest_or_none

if TYPE_CHECKING:
    from ocistore.archives.tar import Kind, Member
    from ocistore.layouts.imports.source import SourceFile

MAXIMUM_MEMBERS: Final = 500_000
"""The table is in memory, at some 300 bytes a member. An image has five or ten, so this is about 50,000 images."""
MAXIMUM_OTHERS: Final = 20_000
"""Members that are no file or are not called like a blob, ``blobs/ALGORITHM/DIGITS``, so that their names may be long.
Docker's archives have three for each layer; layouts have two in all."""
MAXIMUM_NAME_LENGTH: Final = 512
"""Characters of a name, and of what a link leads to. The longest that any tool writes, of a sha512 digest, has 141."""
_MAXIMUM_DEPTH: Final = 32
"""Names on one path. Each is looked at for each member; layouts have three, and what they are packed in a few more."""
_MAXIMUM_LINKS: Final = 40
"""Links that lead to links, as in Linux (path_resolution(7))."""

_BLOB: Final = re.compile(rf"{BLOBS}/[a-z0-9]{{1,16}}/[0-9a-f]{{32,128}}", re.ASCII)

_TWICE: Final = "the archive has two members of that name"

_ACCEPTED: Final = frozenset({"file", "directory", "symlink", "hardlink"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One member."""

    kind: Kind
    file: SourceFile | None = None
    """What a file is."""
    target: str = ""
    """Of a link: the name in the archive that it leads to."""


class Members:
    """Every member of one archive, by its name without ``./`` before it."""

    def __init__(self, archive: str) -> None:
        """Begin without members; ``archive`` is what messages call it."""
        self.name = archive
        self._entries: dict[str, _Entry] = {}
        self._others = 0
        self._twins: list[tuple[str, SourceFile]] = []
        """Files that come a second time, with the size they had the first time."""

    def accept(self, member: Member) -> str:
        """Return the name of a member that is to be added; empty for the directory that everything is in.

        Raises:
            ArchiveInvalidError: its name leads out of the archive, or is taken by something that is known to be
                another; it is a device, a FIFO or sparse; or there are too many.
        """
        if member.kind not in _ACCEPTED:
            raise self._error(member.name, f"it is a {member.kind}")
        name = self._within(member.name, member.name)
        known = self._entries.get(name)
        if known is not None and not (known.kind == member.kind == "directory") and not _may_be_twins(known, member):
            raise self._error(member.name, _TWICE)
        if len(self._entries) >= MAXIMUM_MEMBERS:
            raise self._error(member.name, f"the archive has more than {MAXIMUM_MEMBERS} members")
        if member.kind != "file" or _BLOB.fullmatch(name) is None:
            self._others += 1
            if self._others > MAXIMUM_OTHERS:
                raise self._error(member.name, f"the archive has more than {MAXIMUM_OTHERS} members that are no blobs")
        return name

    def add(self, name: str, member: Member, file: SourceFile | None) -> None:
        """Add one whose name was accepted, and ``file`` where it is one.

        Raises:
            ArchiveInvalidError: it is a link out of the archive, or too many members come a second time.
        """
        target = ""
        if member.kind == "symlink":
            if member.target.startswith("/"):
                raise self._error(member.name, f"it is a link out of the archive, to {member.target!r:.200}")
            target = self._within(posixpath.join(posixpath.dirname(name), member.target), member.name)
        elif member.kind == "hardlink":
            target = self._within(member.target, member.name)
        known = self._entries.get(name)
        if known is not None and known.file is not None and file is not None:
            self._twins.append((name, file))
            if len(self._twins) > MAXIMUM_OTHERS:
                raise self._error(member.name, f"more than {MAXIMUM_OTHERS} members of the archive come a second time")
        elif name:
            self._entries[name] = _Entry(member.kind, file, target)

    def check(self) -> None:
        """Check all members together: none is below a file or a link, and no links form a ring.

        And what comes twice is the same each time: some tools write a layer again for each image that has it.

        Raises:
            ArchiveInvalidError: one does, or some do, or it is not.
            OSError: the archive could not be read.
        """
        for name, twin in self._twins:
            first = self._entries[name].file
            if first is None or twin.digest() != first.digest():
                raise self._error(name, _TWICE)
        parents = {posixpath.dirname(name) for name in self._entries}
        while parents:
            for parent in parents:
                if parent in self._entries and self._entries[parent].kind != "directory":
                    raise self._error(parent, "it is no directory, and yet other members lie in it")
            parents = {posixpath.dirname(parent) for parent in parents if parent}
        for name, entry in self._entries.items():
            if entry.target:
                self._found(name)

    def directory_of(self, name: str) -> str | None:
        """Return the directory, not the top, in which a file of that name is; None where there is none."""
        found = (path for path, entry in self._entries.items() if entry.file is not None and path.endswith(f"/{name}"))
        return min((posixpath.dirname(path) for path in found), key=len, default=None)

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of that name, or a link that leads to one."""
        entry = self._found(name)
        return entry is not None and entry.file is not None

    def followed(self, name: str) -> SourceFile:
        """Return the file of that name, or the one that a link of that name leads to.

        Raises:
            FileNotFoundError: there is none.
            NotPlainError: it is something else.
            ArchiveInvalidError: the name, or a link, leads out of the archive or in a ring.
        """
        entry = self._found(self._within(name, name))
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if entry.file is None:
            raise NotPlainError(f"it is a {entry.kind}")
        return entry.file

    def _found(self, name: str) -> _Entry | None:
        """Return what a name leads to: no link, or None. Links may come before what they lead to, or after it."""
        sought = name
        for _ in range(_MAXIMUM_LINKS):
            entry = self._entries.get(sought) or self._linked_directory(sought)
            if entry is None or not entry.target:
                return entry
            sought = entry.target
        raise self._error(name, "it is a link that leads to links without end")

    def _linked_directory(self, name: str) -> _Entry | None:
        """Return a link to what a name means, where one of the directories on its way is a link."""
        end = name.find("/")
        while end >= 0:
            above = self._entries.get(name[:end])
            if above is not None and above.kind == "symlink":
                return _Entry("symlink", target=above.target + name[end:])
            end = name.find("/", end + 1)
        return None

    def _within(self, path: str, member: str) -> str:
        """Return the path without what means nothing in it; where it leads out of the archive, refuse ``member``."""
        if len(path) > MAXIMUM_NAME_LENGTH:
            raise self._error(member[:100], f"a name of {len(path)} characters, at most {MAXIMUM_NAME_LENGTH} are read")
        if path.startswith("/"):
            raise self._error(member, "its path is absolute")
        if path == member and ".." in path.split("/"):
            raise self._error(member, "its path leads upwards")
        name = posixpath.normpath(path) if path else "."
        if name.count("/") >= _MAXIMUM_DEPTH:
            raise self._error(member, f"a path of more than {_MAXIMUM_DEPTH} names")
        if name == ".." or name.startswith("../"):
            raise self._error(member, f"it leads out of the archive, to {path!r:.200}")
        return "" if name == "." else name

    def _error(self, member: str, reason: str) -> ArchiveInvalidError:
        return ArchiveInvalidError(self.name, member=member, reason=reason)


def _may_be_twins(known: _Entry, member: Member) -> bool:
    return known.file is not None and member.kind == "file" and known.file.size() == member.size


def digest_in(name: str) -> Digest | None:
    """Return the digest that a member's name says its bytes have; None where it is not named like a blob."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != BLOBS:
        return None
    return digest_or_none(f"{parts[1]}:{parts[2]}")
