"""Listing the files of an image or artifact, and reading one of them, without extracting anything."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Final

from ocistore import ArchiveInvalidError, ArtifactInvalidError, Descriptor, FileNotInImageError
from ocistore.archives.links import LinkError
from ocistore.argumenttypes import checks_types
from ocistore.artifacts import EXECUTABLE, TITLE, is_packed_directory
from ocistore.images.choosing import find_image
from ocistore.images.layer import (
    check_type,
    content_at,
    has_titles,
    layer_at,
    layer_name,
    members,
    open_layer,
    require_layer,
    stacked_layers,
)
from ocistore.images.stackedlayers import Content, FileTree, ImageFile, as_file, names_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ocistore import Manifest, Repository, Store

_BUFFER: Final = 128 * 1024
"""Bytes."""
_FILE_MODE: Final = 0o644
_EXECUTABLE_MODE: Final = 0o755
"""That of an artifact's file, which has none."""


@checks_types
def list_files(
    store: Store,
    reference: str,
    path: str = "",
    *,
    platform: str | None = None,
    layer: int | str | Descriptor | None = None,
) -> Iterator[ImageFile]:
    """Yield the files that an image has when its layers are stacked, or those of one layer, or those of an artifact.

    Those of an artifact without titles are in its layers that are archives, such as a chart's; its others are left out.

    Of an image, parents come before children, in byte order; all layers are read, and the names are held in memory
    (about 500 bytes for each), before the first is given. Of one layer, they come in the order of its archive, with the
    marks that hide what is below it, in constant memory. Every byte that is read is verified.

    Args:
        store: where it is.
        reference: REPO:TAG or REPO@DIGEST; with both, the digest decides.
        path: only what is at that path and below. On the way to it, symbolic links are followed; at its end, where it
            ends with a slash. In one layer, none is followed.
        platform: which image of an index: OS/ARCHITECTURE[/VARIANT]. Without it the only one, or that for this machine.
        layer: only this one: its number, from 1 for the lowest, or its digest or descriptor.

    Raises:
        FileNotInImageError: there is nothing at that path.
        PlatformNotFoundError: an index has no image, or several, that could be meant.
        ArchiveInvalidError: a layer is encrypted, of an unknown type, damaged, or a decompression bomb.
        BlobNotFoundError: a layer is not in the store, as foreign ones may be.
        CorruptError: a layer is damaged.
        InvalidNameError, InvalidDigestError, RepositoryNotFoundError, ManifestNotFoundError: the reference or the
            layer means nothing.
    """
    repository, manifest = find_image(store, reference, platform)
    if layer is not None:
        wanted = layer.digest if isinstance(layer, Descriptor) else str(layer)
        return _listed_layer(repository, layer_at(manifest, wanted), path, reference)
    tree = _tree(repository, manifest, reference)
    return tree.walk(_top(tree, path, reference))


@checks_types
def open_file(store: Store, reference: str, path: str, *, platform: str | None = None) -> ImageFileReader:
    """Open one file of an image or artifact as a binary file; to be closed, or used with ``with``.

    The topmost layer that has the file decides, and what layers hide does not exist. Links are followed inside the
    image: an absolute one begins at its top. All layers are read and verified first, then the one again up to the file.

    Args:
        store: where it is.
        reference: as for :func:`list_files`.
        path: from the top; with or without a slash at its beginning.
        platform: as for :func:`list_files`.

    Raises:
        FileNotInImageError: there is no such file, or it is a directory, a device or a sparse file, or a link that
            leads nowhere or in a ring.

    And all that :func:`list_files` raises.
    """
    repository, manifest = find_image(store, reference, platform)
    tree = _tree(repository, manifest, reference)
    try:
        found = tree.find(path)
    except LinkError as error:
        raise FileNotInImageError(reference, path=path, reason=str(error)) from error
    if found is None:
        raise FileNotInImageError(reference, path=path)
    if found.content is None:
        what = "a hard link to no file" if found.kind == "hardlink" else f"a {found.kind}"
        why = "whose holes are not filled in here" if found.kind == "sparse file" else "which has no content to be read"
        raise FileNotInImageError(reference, path=path, reason=f"it is {what}, {why}")
    return ImageFileReader(repository, found, found.content)


class ImageFileReader(io.BufferedReader):
    """The bytes of one file: a binary file, read-only, from beginning to end."""

    def __init__(self, repository: Repository, file: ImageFile, content: Content) -> None:
        """Read what :func:`open_file` has found; others call that."""
        super().__init__(_Content(repository, content), _BUFFER)
        self.file = file
        """What the image says about it."""


class _Content(io.RawIOBase):
    def __init__(self, repository: Repository, content: Content) -> None:
        self._layer = content.layer
        self._left = content.size
        self._held = contextlib.ExitStack()
        self._source: BinaryIO
        if content.offset is None:
            self._source = self._held.enter_context(open_layer(repository, content.layer, verify=True))
        else:
            self._source = self._held.enter_context(content_at(repository, content.layer, content.offset))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - Buffer has a name from Python 3.12 on
        view = memoryview(buffer).cast("B")
        # After the last byte of a layer that is a file, its digest is compared.
        data = self._source.read(min(len(view), self._left))
        if not data and min(len(view), self._left):
            raise ArchiveInvalidError(layer_name(self._layer), reason="it is cut short")
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._held.close()
        super().close()


# --- what is meant ----------------------------------------------------------------------------------------------------


def _top(tree: FileTree, path: str, reference: str) -> str:
    if not path.strip("/."):
        return ""
    try:
        found = tree.find(path, last=path.endswith("/"))
    except LinkError as error:
        raise FileNotInImageError(reference, path=path, reason=str(error)) from error
    if found is None:
        raise FileNotInImageError(reference, path=path)
    return found.path


# --- reading layers ---------------------------------------------------------------------------------------------------


def _tree(repository: Repository, manifest: Manifest, reference: str) -> FileTree:
    tree = FileTree()
    if has_titles(manifest):
        _add_titled(tree, repository, manifest, reference)
        return tree
    for layer in stacked_layers(repository, manifest):
        tree.begin_layer(layer)
        for member in members(repository, layer):
            tree.add(member)
    return tree


def _add_titled(tree: FileTree, repository: Repository, manifest: Manifest, reference: str) -> None:
    for layer in manifest.layers:
        title = layer.annotations.get(TITLE)
        if title is None:
            continue
        tree.begin_layer(layer)
        if is_packed_directory(layer):
            for member in members(repository, layer):
                tree.add(member, marks=False)
            continue
        path = "/".join(names_in(title, layer=layer))
        if not path:
            raise ArtifactInvalidError(reference, reason=f"{title!r:.300} is no title of a file")
        content = Content(layer, None, layer.size)
        mode = _EXECUTABLE_MODE if layer.annotations.get(EXECUTABLE) == "true" else _FILE_MODE
        tree.add_file(ImageFile(path, "file", layer.size, mode, 0, 0, 0, "", layer, content))


def _listed_layer(repository: Repository, layer: Descriptor, path: str, reference: str) -> Iterator[ImageFile]:
    check_type(repository, layer)
    require_layer(repository, layer)
    wanted = [name for name in path.split("/") if name not in ("", ".")]
    found = False
    for member in members(repository, layer):
        names = names_in(member.name, layer=layer)
        if names[: len(wanted)] == wanted and names:
            found = True
            yield as_file(member, "/".join(names), layer)
    if wanted and not found:
        raise FileNotInImageError(reference, path=path)
