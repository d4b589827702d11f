"""An import from what skopeo and podman call ``dir``: one image as files in one directory, without an index.json.

The manifest is ``manifest.json``, those in an index ``DIGITS.manifest.json``, and everything else is called by the
digits of its digest; with the algorithm and a dash before them where that is not sha256. A file ``version`` says that
it is of this form. It has no names.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from ocistore.errors import LayoutInvalidError, ManifestInvalidError
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, LayoutDirectory, NotPlainError, open_plain, plain_size
from ocistore.layouts.imports.directorysource import DirectorySource
from ocistore.layouts.imports.docker import MANIFEST_JSON
from ocistore.layouts.index import LAYOUT_FILE, index_bytes
from ocistore.oci.descriptor import Descriptor
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE, check_manifest
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from pathlib import Path

    from ocistore.filedescriptors import FileDescriptor

_VERSION: Final = "version"
_VERSION_BEGINS: Final = b"Directory Transport Version: 1."
_MAXIMUM_VERSION_SIZE: Final = 4096
_SIGNATURE: Final = "signature-"
"""How the names of files begin with signatures of a kind that is no content of OCI's: OpenPGP, over a name."""


def is_skopeo_directory(path: Path) -> bool:
    """Whether a directory is of that form, and no layout.

    Raises:
        OSError: there is no directory, or it could not be read.
    """
    with LayoutDirectory(path) as directory:
        try:
            version = directory.read(_VERSION, maximum=_MAXIMUM_VERSION_SIZE)
        except (FileNotFoundError, NotPlainError) as error:
            pass_on_theirs(error)
            return False
        names = set(os.listdir(directory.descriptor))
        return version.startswith(_VERSION_BEGINS) and MANIFEST_JSON in names and not names & {OCI_LAYOUT, INDEX_JSON}


class SkopeoDirectory(DirectorySource):
    """A directory of skopeo's form ``dir``, read in place."""

    index_file = MANIFEST_JSON

    def __init__(self, path: Path) -> None:
        """Open it, and read its manifest.

        Raises:
            LayoutInvalidError: its manifest is malformed.
            OSError: something could not be read.
        """
        super().__init__(path)
        try:
            self._index = self._index_of_one(path)
            signatures = sorted(name for name in self.names() if name.startswith(_SIGNATURE))
        except BaseException:
            self.close()
            raise
        self.left_out = tuple(f"{name!r:.200} (a signature that is no content of OCI's)" for name in signatures)

    def read(self, name: str, *, maximum: int) -> bytes:
        """Return what a file of the top level would be."""
        if name == OCI_LAYOUT:
            return LAYOUT_FILE
        return self._index if name == INDEX_JSON else super().read(name, maximum=maximum)

    def _open_layout(self, path: Path) -> LayoutDirectory:
        return _Flat(path)

    def _index_of_one(self, path: Path) -> bytes:
        try:
            content = self._layout.read(MANIFEST_JSON, maximum=MAXIMUM_MANIFEST_SIZE)
            manifest = check_manifest(content)
        except (ManifestInvalidError, NotPlainError) as error:
            raise LayoutInvalidError(path, problems=(f"{MANIFEST_JSON}: {error}",)) from error
        own = manifest.descriptor
        return bytes(index_bytes([Descriptor(own.media_type, own.digest, own.size)]))


class _Flat(LayoutDirectory):
    """A directory in which all blobs are."""

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of the file of a blob."""
        return self.path / self._name(digest)

    def open_blob(self, digest: Digest) -> FileDescriptor:
        """Return a descriptor of the file of a blob; raises as that of a layout."""
        return open_plain(self._name(digest), self.descriptor)

    def blob_size(self, digest: Digest) -> int:
        """Return the bytes in the file of a blob; raises as that of a layout."""
        return plain_size(self._name(digest), self.descriptor)

    def _name(self, digest: Digest) -> str:
        """Return the name that the file of a blob or manifest has; that of a blob where there is none."""
        name = digest.encoded if digest.algorithm == "sha256" else f"{digest.algorithm}-{digest.encoded}"
        for found in (name, f"{name}.{MANIFEST_JSON}"):
            try:
                os.stat(found, dir_fd=self.descriptor, follow_symlinks=False)
            except OSError as error:
                pass_on_theirs(error)
                if error.errno != errno.ENOENT:
                    raise
            else:
                return found
        if digest.algorithm != "sha256":
            return name
        try:
            content = self.read(MANIFEST_JSON, maximum=MAXIMUM_MANIFEST_SIZE)
        except (FileNotFoundError, NotPlainError) as error:
            pass_on_theirs(error)
            return name
        return MANIFEST_JSON if Digest.of(content) == digest else name
