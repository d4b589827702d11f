"""Unpacking a layer that is a directory: whatever its archive says, nothing is made outside of that directory.

Nothing is made through a link, because links are made when everything else is there, and only those that lead to places
inside. Everything is staged (see :mod:`ocistore.artifacts.staging`), and only when all bytes were the right ones
does anything take its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ocistore import ArtifactInvalidError, Digest, DigestMismatchError, InvalidDigestError
from ocistore.archives.layers import HashedStream, decompressed, verified_to_its_end
from ocistore.archives.links import MAXIMUM_TARGET, LinkError, Place, resolve
from ocistore.archives.names import MAXIMUM_NAMES_SIZE, MAXIMUM_PATH, name_bytes, name_on_disk
from ocistore.archives.tar import TarReader
from ocistore.artifacts.titles import CONTENT_DIGEST, MAXIMUM_DIRECTORIES, TOO_DEEP
from ocistore.files.content import write_all

if TYPE_CHECKING:
    import io
    from typing import Any

    from ocistore import Descriptor
    from ocistore.archives.compression import Limits
    from ocistore.archives.tar import Member
    from ocistore.artifacts.staging import StagedTree

MAXIMUM_UNPACKED: Final = 1_000_000
"""Files, directories and links in one packed directory. Their names are held in memory, about 200 bytes for each."""

_BLOCK: Final = 1024 * 1024
"""Bytes written at a time."""

_OWNER_FILE: Final = 0o600
_OWNER_DIRECTORY: Final = 0o700
"""What the owner may do at least: without that nobody could replace or remove what was unpacked."""
_PERMISSIONS: Final = 0o777
"""What of a mode is kept: an archive of a stranger makes no file that runs as somebody else."""


def unpack(
    blob: io.BufferedReader[Any], title: str, layer: Descriptor, tree: StagedTree, *, limits: Limits | None = None
) -> None:
    """Fill a staged directory with what an archive has in it.

    Args:
        blob: the layer, which raises where its bytes turn out not to be those of its digest.
        title: of the layer, with which the name of each member begins.
        layer: its descriptor; where that says which digest the archive has before compression, it must have that.
        tree: where to.
        limits: how much may come out of a compressed archive.

    Raises:
        ArtifactInvalidError: a member would be, or lead, outside of the directory, or is what no directory of files
            has in it.
        ArchiveInvalidError: the archive is damaged, or more comes out of it than the limits allow.
        DigestMismatchError: the archive is another than the annotation says.
        CorruptError: the blob is damaged.
        OSError: something could not be made.
    """
    expected = _content_digest(title, layer)
    source = decompressed(blob, name=title, limits=limits)
    hashed = HashedStream(source, "sha256" if expected is None else expected.algorithm)
    reader = TarReader(hashed, name=title, is_layer=True)
    unpacked = _Unpacked(title, tree)
    with verified_to_its_end(blob, source):
        for member in reader:
            unpacked.add(member, reader)
    if expected is not None and hashed.digest != expected:
        raise DigestMismatchError(expected=expected, actual=hashed.digest, subject=f"the archive of {title!r:.300}")
    unpacked.make_links()


def _content_digest(title: str, layer: Descriptor) -> Digest | None:
    said = layer.annotations.get(CONTENT_DIGEST)
    try:
        return None if said is None else Digest.parse(said)
    except InvalidDigestError as error:
        raise ArtifactInvalidError(title, reason=f"the digest of its content: {error}") from error


class _Unpacked:
    """What was made so far, by its path inside the directory; the directory itself has the empty path."""

    def __init__(self, title: str, tree: StagedTree) -> None:
        self._title = title
        self._tree = tree
        self._places: dict[str, Place] = {}
        self._implied: set[str] = set()
        """Directories that had to be made for what is in them, and may still come themselves."""
        self._symlinks: list[str] = []
        self._names_size = 0

    def add(self, member: Member, reader: TarReader) -> None:
        """Make what the next member is, if it may be made."""
        path = self._inside(member.name)
        if path in self._places and not (member.kind == "directory" and path in self._implied):
            raise self._error(member.name, "two members have this name")
        self._count(path, member)
        if not path and member.kind != "directory":
            raise self._error(member.name, f"it is a {member.kind} in the place of the directory")
        if path in self._implied:
            self._implied.remove(path)
            return
        self._make_above(path, member.name)
        if member.kind == "directory":
            self._make_directory(path, member.mode & _PERMISSIONS | _OWNER_DIRECTORY)
        elif member.kind == "file":
            with self._tree.create_file(name_on_disk(path), member.mode & _PERMISSIONS | _OWNER_FILE) as descriptor:
                while block := reader.read(_BLOCK):
                    write_all(descriptor, block)
            self._places[path] = Place("other")
        elif member.kind == "hardlink":
            self._link(path, member)
        elif member.kind == "symlink":
            self._check_target(member)
            self._places[path] = Place("symlink", member.target)
            self._symlinks.append(path)
        else:
            raise self._error(member.name, f"it is a {member.kind}, which is not unpacked")

    def _link(self, path: str, member: Member) -> None:
        """Make a hard link. One to a symbolic link is another such link: those are made later."""
        existing = self._inside(member.target)
        found = self._places.get(existing)
        if found is None or found.kind == "directory":
            raise self._error(member.name, f"a hard link to {member.target!r:.300}, which is no file before it")
        if found.kind == "symlink":
            self._symlinks.append(path)
        else:
            self._tree.link(name_on_disk(path), name_on_disk(existing))
        self._places[path] = found

    def _count(self, path: str, member: Member) -> None:
        if len(self._places) >= MAXIMUM_UNPACKED:
            raise self._error(member.name, f"there are more than {MAXIMUM_UNPACKED} members")
        self._names_size += len(path) + len(member.target)
        if self._names_size > MAXIMUM_NAMES_SIZE:
            raise self._error(member.name, f"all names have more than {MAXIMUM_NAMES_SIZE} characters together")

    def make_links(self) -> None:
        """Make the symbolic links, now that everything is known that they could lead to."""
        if "" not in self._places:
            raise ArtifactInvalidError(self._title, reason="its archive is empty")
        for path in self._symlinks:
            try:
                resolve(path, self._places.get, confined=True)
            except LinkError as error:
                target = self._places[path].target
                raise self._error(f"{self._title}/{path}", f"a symbolic link to {target!r:.300}: {error}") from error
        for path in self._symlinks:
            self._tree.symlink(name_on_disk(path), name_on_disk(self._places[path].target))

    def _check_target(self, member: Member) -> None:
        if not 0 < len(name_bytes(member.target)) <= MAXIMUM_TARGET:
            raise self._error(member.name, f"a symbolic link to nothing, or to more than {MAXIMUM_TARGET} bytes")

    def _make_above(self, path: str, name: str) -> None:
        """Make the directories that a member is in, where they were not members themselves."""
        if not path:
            return
        above = [""]
        above += [path[:end] for end, character in enumerate(path) if character == "/"]
        for directory in above:
            found = self._places.get(directory)
            if found is None:
                self._make_directory(directory, 0o755)
                self._implied.add(directory)
            elif found.kind != "directory":
                raise self._error(name, f"it would lie in {directory!r:.300}, which is no directory")

    def _make_directory(self, path: str, mode: int) -> None:
        if path:
            self._tree.make_directory(name_on_disk(path), mode)
        else:
            self._tree.make_top(mode)
        self._places[path] = Place("directory")

    def _inside(self, name: str) -> str:
        """Return the path, inside the directory, of what has this name in the archive."""
        path = name.removeprefix("./")
        path = path.removesuffix("/")
        if path == self._title:
            return ""
        inside = path.removeprefix(f"{self._title}/")
        if inside == path:
            raise self._error(name, f"it lies outside of {self._title!r:.300}")
        names = inside.split("/")
        if any(each in ("", ".", "..") for each in names):
            raise self._error(name, "it is no path in its one plain spelling")
        if self._title.count("/") + 1 + len(names) > MAXIMUM_DIRECTORIES + 1 or len(name_bytes(path)) > MAXIMUM_PATH:
            raise self._error(name, TOO_DEEP)
        return inside

    def _error(self, name: str, reason: str) -> ArtifactInvalidError:
        return ArtifactInvalidError(name, reason=f"{reason} (in the archive of {self._title!r:.300})")
