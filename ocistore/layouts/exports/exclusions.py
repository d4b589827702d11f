"""What a destination has already: the blobs of layouts, archives and stores from which it was filled before.

For carrying updates to where there is no network: what is there need not be carried again. Names and sizes are looked
at, no bytes: of an archive the table of its members, of a store its catalog.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.archives.layers import decompressed
from ocistore.archives.tar import TarReader
from ocistore.arguments import absolute_path
from ocistore.blobs.paths import is_store
from ocistore.catalog import blobs
from ocistore.errors import ArchiveInvalidError, LayoutInvalidError, ManifestInvalidError
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, LayoutDirectory, NotPlainError
from ocistore.layouts.imports.docker import MANIFEST_JSON
from ocistore.layouts.imports.members import digest_in
from ocistore.layouts.index import MAXIMUM_LAYOUT_FILE_SIZE, check_layout_file
from ocistore.oci.digest import Digest
from ocistore.opening import open_core
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DOCKER_MEMBER: Final = re.compile(r"([0-9a-f]{64})\.(?:json|tar)", re.ASCII)
"""Configs and layers of a Docker archive as podman, skopeo and this project write them: named by their sha256."""
_TOP: Final = frozenset({OCI_LAYOUT, INDEX_JSON, MANIFEST_JSON})
"""One of these is in every archive of images."""


def held(bases: Iterable[str | os.PathLike[str]], wanted: Mapping[str, int]) -> frozenset[str]:
    """Return which blobs one of the bases holds, with their sizes.

    Args:
        bases: layout directories, archives of images (compressed or not), and stores.
        wanted: digests with sizes in bytes; others are not looked for.

    Raises:
        LayoutInvalidError, ArchiveInvalidError: one of them is nothing of the kind, or damaged.
        StorageError: it could not be read. Also what opening a store raises.
    """
    found: set[str] = set()
    for base in bases:
        path = Path(absolute_path(base))
        left = {digest: size for digest, size in wanted.items() if digest not in found}
        with Translating(str(path)):
            is_directory = path.is_dir()
        if not is_directory:
            found |= _in_archive(path, left)
        elif is_store(path):
            found |= _in_store(path, left)
        else:
            found |= _in_layout(path, left)
    return frozenset(found)


def _in_store(root: Path, wanted: Mapping[str, int]) -> set[str]:
    with open_core(root, create=False, read_only=True) as core, core.catalog.read() as connection:
        live = blobs.live_sizes(connection, wanted)
        return {
            digest
            for digest, size in live.items()
            if wanted[digest] == size and core.pool.size(Digest.parse(digest)) == size
        }


def _in_layout(path: Path, wanted: Mapping[str, int]) -> set[str]:
    found = set()
    with Translating(str(path)), LayoutDirectory(path) as layout:
        try:
            check_layout_file(layout.read(OCI_LAYOUT, maximum=MAXIMUM_LAYOUT_FILE_SIZE))
        except FileNotFoundError as error:
            pass_on_theirs(error)
            raise LayoutInvalidError(path, problems=("it is neither an OCI layout nor a store",)) from error
        except (NotPlainError, ManifestInvalidError) as error:
            raise LayoutInvalidError(path, problems=(f"{OCI_LAYOUT}: {error}",)) from error
        for text, size in wanted.items():
            digest = Digest.parse(text)
            with Ignoring(FileNotFoundError, NotPlainError):
                directory = layout.algorithm(digest.algorithm)
                status = os.stat(digest.encoded, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_size == size:
                    found.add(text)
    return found


def _in_archive(path: Path, wanted: Mapping[str, int]) -> set[str]:
    found: set[str] = set()
    recognised = False
    with Translating(str(path)), open(path, "rb") as file:
        source = decompressed(file, name=str(path))
        seek = file if source is file and file.seekable() else None
        for member in TarReader(source, name=str(path), seek=seek):
            if member.kind != "file":
                continue
            name = member.name.removeprefix("./")
            recognised = recognised or name in _TOP
            digest = digest_in(name) or _digest_in_docker(name)
            if digest is not None and wanted.get(digest) == member.size:
                found.add(digest)
    if not recognised:
        raise ArchiveInvalidError(str(path), reason=f"it has none of {', '.join(sorted(_TOP))}: it holds no images")
    return found


def _digest_in_docker(name: str) -> Digest | None:
    match = _DOCKER_MEMBER.fullmatch(name)
    return None if match is None else Digest(f"sha256:{match[1]}")
