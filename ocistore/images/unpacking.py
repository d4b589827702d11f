"""Unpacking an image: the files that its layers make, written to a directory without any privileges.

Layers are read once each, from the lowest up, and applied in that order. The tree of names in memory
(:mod:`ocistore.images.stackedlayers`) decides what each member means, links followed inside the image; the directory
(:mod:`ocistore.images.rootdirectory`) does the same on the disk, where no link is ever followed.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore import ArchiveInvalidError, ArtifactInvalidError, Digest, ImageConfig, ManifestInvalidError, is_store
from ocistore.argumenttypes import checks_types
from ocistore.images.choosing import find_image
from ocistore.images.config import read_config
from ocistore.images.layer import has_titles, layer_name, open_archive, stacked_layers
from ocistore.images.rootdirectory import RootDirectory
from ocistore.images.stackedlayers import FileTree, names_in
from ocistore.oci import mediatypes
from ocistore.oci.jsonvalue import JSONValue
from ocistore.progress import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocistore import BlobReader, Descriptor, Manifest, Progress, Repository, Store
    from ocistore.archives.tar import Member, TarReader
    from ocistore.images.rootdirectory import NewRootFile
    from ocistore.images.stackedlayers import Content, ImageFile

_BLOCK: Final = 1024 * 1024
"""Bytes written at a time."""
_PERMISSIONS: Final = 0o7777
_SAFE: Final = 0o1777
"""What of a mode is kept of what is no directory."""
_RISKY: Final = {0o4000: "setuid bit", 0o2000: "setgid bit"}
"""What is not."""
_ANYBODYS: Final = "user."
"""How extended attributes are called that anybody may set (xattr(7)), and that mean nothing to the kernel."""


@dataclass(frozen=True, slots=True)
class LeftOut(JSONValue):
    """Something that an image has, and the unpacked files have not."""

    path: str
    """The file, from the top of the image."""
    what: str
    """A ``character device``, ``block device`` or ``sparse file``, which is not there at all; or what a file that is
    there has not: ``setuid bit``, ``setgid bit``, ``extended attribute NAME``."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class UnpackReport(JSONValue):
    """What :func:`unpack` has written."""

    digest: Digest
    """That of the image's manifest."""
    files: int
    """Plain files."""
    hardlinks: int
    """Further names of plain files."""
    symlinks: int
    directories: int
    """The directory itself not counted."""
    fifos: int
    bytes: int
    """The content of all plain files."""
    left_out: tuple[LeftOut, ...]
    """What is missing, in the order of paths."""


@checks_types
def unpack(
    store: Store,
    reference: str,
    directory: str | os.PathLike[str],
    *,
    platform: str | None = None,
    maximum_size: int | None = None,
    progress: Progress | None = None,
) -> UnpackReport:
    """Write the files of an image to a directory, as ``umoci unpack --rootless`` does; no privileges are needed.

    Everything belongs to whoever calls this. Permissions are exactly those in the image, except for setuid bits, and
    setgid bits of files: a file of a stranger must not run as somebody else. Modification times are kept, in whole
    seconds; symbolic links as they are, wherever they lead; hard links, FIFOs; and extended attributes in ``user.``.
    Devices, sparse files and other extended attributes are left out and reported.

    Nothing outside of ``directory`` is read or written, whatever the image says: no link on the way is followed.
    Everything is staged under a temporary name first. Where ``directory`` does not exist, it appears as a whole; where
    it exists, it keeps its mode, and what was staged in it takes its names at the end. If this raises, what it made is
    removed; a process that is killed leaves a directory ``.ocistore-*``, inside or beside.

    The names of files are held in memory, about 500 bytes for each; not their content. Every byte is verified: against
    the digest of the layer, and decompressed against the one in the config.

    Args:
        store: where the image is.
        reference: REPO:TAG or REPO@DIGEST; with both, the digest decides. An artifact whose layers are archives, such
            as a chart, is unpacked likewise.
        directory: does not exist, or is empty.
        platform: which image of an index: OS/ARCHITECTURE[/VARIANT]. Without it the only one, or that for this machine.
        maximum_size: bytes that may be written, those that a higher layer replaces included. Without it, a layer may
            decompress to 200 times its size, and 256 MiB.
        progress: called with the bytes of layers read and the bytes in all.

    Raises:
        ArtifactInvalidError: it is an artifact whose files have titles, which :func:`ocistore.artifacts.pull_files`
            writes; or ``directory`` is a store, or lies in one.
        ArchiveInvalidError: a layer is encrypted, of an unknown type, damaged, or a decompression bomb; a member leads
            upwards, or is a hard link to nothing; or more than ``maximum_size`` bytes would be written.
        DigestMismatchError: a layer is another than the config says.
        ManifestInvalidError: the config is malformed, or says of another number of layers.
        BlobNotFoundError: a layer is not in the store, as foreign ones may be.
        CorruptError: a layer is damaged.
        PlatformNotFoundError: an index has no image, or several, that could be meant.
        InvalidNameError, InvalidDigestError, RepositoryNotFoundError, ManifestNotFoundError: the reference means
            nothing.
        OSError: ``directory`` is not empty, or no directory, or something could not be written.

    When it returns, what was written survives a power cut. Not idempotent: a second call is refused, because the
    directory is not empty then.
    """
    real = Path(os.path.realpath(directory))
    if any(map(is_store, (real, *real.parents))):
        raise ArtifactInvalidError(os.fspath(directory), reason="it is a store or lies in one; unpack elsewhere")
    repository, manifest = find_image(store, reference, platform)
    if has_titles(manifest):
        raise ArtifactInvalidError(reference, reason="it is an artifact, whose files have titles: pull it")
    layers = stacked_layers(repository, manifest)
    diff_ids = _diff_ids(repository, manifest, layers)
    tally = Tally(sum(layer.size for layer in layers), progress)
    with RootDirectory(directory) as root:
        writer = _Writer(root, tally, maximum_size)
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            writer.apply(repository, layer, diff_id)
        return writer.finish(manifest.descriptor.digest)


def _diff_ids(repository: Repository, manifest: Manifest, layers: Sequence[Descriptor]) -> Sequence[Digest | None]:
    """Return the digest that each layer must have before compression; None of an artifact, which says none."""
    if manifest.config is None or not mediatypes.is_image_config(manifest.config.media_type):
        return [None] * len(layers)
    found = ImageConfig.parse(read_config(repository, manifest), name="config").diff_ids
    if len(found) != len(layers):
        reason = f"there are {len(found)}, and the image has {len(layers)} layers"
        raise ManifestInvalidError(reason, path="config: rootfs.diff_ids")
    return found


class _Writer:
    """Applies layers to a directory: what changes in the tree of names changes there."""

    def __init__(self, root: RootDirectory, tally: Tally, maximum_size: int | None) -> None:
        self._root = root
        self._tally = tally
        self._room = maximum_size
        """Bytes that may still be written."""
        self._maximum_size = maximum_size
        self._tree = FileTree(self)
        self._before = 0
        """Bytes of the layers that are done."""
        self._archive: TarReader
        self._blob: BlobReader
        self._top: Member | None = None
        """What says how the directory itself is."""
        self._left_out: dict[str, list[LeftOut]] = {}
        self._absent: set[str] = set()
        """What the tree has and the disk has not, because it was left out."""

    def apply(self, repository: Repository, layer: Descriptor, diff_id: Digest | None) -> None:
        """Apply a layer to what those below it have made.

        Raises:
            ArchiveInvalidError, DigestMismatchError, CorruptError, OSError: as :func:`unpack`.
        """
        self._tree.begin_layer(layer)
        with open_archive(repository, layer, diff_id=diff_id) as (archive, blob):
            self._archive, self._blob = archive, blob
            for member in archive:
                if member.kind == "directory" and not names_in(member.name, layer=layer):
                    self._top = member
                self._tree.add(member)
                self._count()
        self._before += layer.size
        self._tally.reach(self._before)

    def _count(self) -> None:
        self._tally.reach(self._before + self._blob.tell())

    def finish(self, digest: Digest) -> UnpackReport:
        """Give directories their modes and times, let everything take its name, and say what there is."""
        counts: Counter[str] = Counter()
        contents: Counter[Content] = Counter()
        directories = []
        for file in self._tree.walk():
            if file.content is not None:
                contents[file.content] += 1
            elif file.path not in self._absent:
                counts[file.kind] += 1
            if file.kind == "directory":
                directories.append((file.path, file.mode & _PERMISSIONS, file.mtime))
        top = None if self._top is None else (self._top.mode & _PERMISSIONS, self._top.mtime)
        self._root.publish(directories, top)
        return UnpackReport(
            digest=digest,
            files=len(contents),
            hardlinks=contents.total() - len(contents),
            symlinks=counts["symlink"],
            directories=counts["directory"],
            fifos=counts["fifo"],
            bytes=sum(content.size for content in contents),
            left_out=tuple(each for path in sorted(self._left_out) for each in self._left_out[path]),
        )

    # --- what happens in the tree -------------------------------------------------------------------------------------

    def made(self, file: ImageFile, member: Member | None, *, linked: str | None) -> None:
        """Make on the disk what has come to be in the tree."""
        if linked is not None:
            self._make_link(file, linked)
        elif file.kind == "directory":
            self._root.make_directory(file.path)
            self._set_attributes(file, member)
        elif file.kind == "symlink":
            self._root.make_symlink(file.path, file.target, file.mtime)
        elif file.kind == "file":
            self._make_file(file, member)
        elif file.kind == "fifo":
            self._root.make_fifo(file.path, file.mode & _SAFE, file.mtime)
        elif file.kind == "sparse file":
            self._leave_out(file.path, file.kind, "its holes are not filled in here", absent=True)
        else:
            self._leave_out(file.path, file.kind, "to make one takes privileges", absent=True)

    def changed(self, file: ImageFile, member: Member | None) -> None:
        """Describe a directory anew. Its mode and time are set at the end."""
        self._left_out.pop(file.path, None)
        self._root.clear_attributes(file.path)
        self._set_attributes(file, member)

    def removed(self, file: ImageFile) -> None:
        """Remove on the disk what is gone from the tree."""
        self._left_out.pop(file.path, None)
        if file.path in self._absent:
            self._absent.remove(file.path)
        else:
            self._root.remove(file.path, is_directory=file.kind == "directory")

    # --- files --------------------------------------------------------------------------------------------------------

    def _make_file(self, file: ImageFile, member: Member | None) -> None:
        if self._room is not None:
            self._room -= file.size
            if self._room < 0:
                raise _error(file, f"more than {self._maximum_size} bytes would be written")
        with self._root.create_file(file.path, file.mode & _SAFE, file.mtime) as new:
            while block := self._archive.read(_BLOCK):
                new.write(block)
                self._count()
            self._set_attributes(file, member, new)
        for bit, what in _RISKY.items():
            if file.mode & bit:
                self._leave_out(file.path, what, "a file of a stranger must not run as somebody else")

    def _make_link(self, file: ImageFile, linked: str) -> None:
        if linked in self._absent:
            reason = f"it is another name for {linked!r:.300}, which is left out"
            self._leave_out(file.path, file.kind, reason, absent=True)
        elif (file.kind == "hardlink" and file.content is None) or not self._root.link(file.path, linked):
            raise _error(file, f"it is a hard link to {file.target!r:.300}, which is no file before it")

    def _set_attributes(self, file: ImageFile, member: Member | None, new: NewRootFile | None = None) -> None:
        for name, value in () if member is None else member.xattrs:
            what = f"extended attribute {name}"
            if not name.startswith(_ANYBODYS):
                self._leave_out(file.path, what, "only those in user. are kept")
            elif not (self._root.set_attribute(file.path, name, value) if new is None else new.set(name, value)):
                self._leave_out(file.path, what, "the filesystem does not take it")

    def _leave_out(self, path: str, what: str, reason: str, *, absent: bool = False) -> None:
        self._left_out.setdefault(path, []).append(LeftOut(path, what, reason))
        if absent:
            self._absent.add(path)


def _error(file: ImageFile, reason: str) -> ArchiveInvalidError:
    return ArchiveInvalidError(layer_name(file.layer), reason=reason, member=file.path)
