"""What a destination has already: the blobs of layouts, archives and stores from which it was filled before.

For carrying updates to where there is no network: what is there need not be carried again. Names and sizes are looked
at, no bytes: of an archive the table of its members, of a store its catalog.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.archives.compression import MAGIC_SIZE, Decompressed, compression_of
from ocistore.archives.tar import TarReader
from ocistore.blobs.oserrors import Translating
from ocistore.catalog import blobs
from ocistore.errors import ArchiveInvalidError, LayoutInvalidError, ManifestInvalidError
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, LayoutDirectory, NotPlainError
from ocistore.layouts.index import MAXIMUM_LAYOUT_FILE_SIZE, check_layout_file
from ocistore.oci.digest import Digest
from ocistore.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_BUFFER: Final = 1024 * 1024
"""Bytes decompressed at once."""
_MEMBER: Final = re.compile(r"(?:\./)?blobs/([a-z0-9]+)/([0-9a-f]+)", re.ASCII)
_DOCKER_MEMBER: Final = re.compile(r"(?:\./)?([0-9a-f]{64})\.(?:json|tar)", re.ASCII)
"""Configs and layers of a Docker archive as podman, skopeo and this project write them: named by their sha256."""
_TOP: Final = frozenset({OCI_LAYOUT, INDEX_JSON, "manifest.json"})
"""One of these is in every archive of images."""


def held(bases: Iterable[str | os.PathLike[str]], wanted: Mapping[str, int]) -> frozenset[str]:
    """Which blobs one of the bases holds, with their sizes.

    Args:
        bases: layout directories, archives of images (compressed or not), and stores.
        wanted: digests with sizes in bytes; others are not looked for.

    Raises:
        LayoutInvalidError, ArchiveInvalidError: one of them is nothing of the kind, or damaged.
        StorageError: it could not be read. Also what opening a store raises.
    """
    found: set[str] = set()
    for base in bases:
        path = Path(os.path.abspath(base))
        left = {digest: size for digest, size in wanted.items() if digest not in found}
        if not path.is_dir():
            found |= _in_archive(path, left)
        elif (path / "catalog.db").exists():
            found |= _in_store(path, left)
        else:
            found |= _in_layout(path, left)
    return frozenset(found)


def _in_store(root: Path, wanted: Mapping[str, int]) -> set[str]:
    with Store.open(root, create=False, read_only=True) as store, store.catalog.read() as connection:
        live = blobs.live_sizes(connection, wanted)
        return {
            digest
            for digest, size in live.items()
            if wanted[digest] == size and store.pool.size(Digest.parse(digest)) == size
        }


def _in_layout(path: Path, wanted: Mapping[str, int]) -> set[str]:
    found = set()
    with Translating(str(path)), LayoutDirectory(path) as layout:
        try:
            check_layout_file(layout.read(OCI_LAYOUT, maximum=MAXIMUM_LAYOUT_FILE_SIZE))
        except FileNotFoundError as error:
            raise LayoutInvalidError(path, problems=["it is neither an OCI layout nor a store"]) from error
        except (NotPlainError, ManifestInvalidError) as error:
            raise LayoutInvalidError(path, problems=[f"{OCI_LAYOUT}: {error}"]) from error
        for text, size in wanted.items():
            digest = Digest.parse(text)
            with contextlib.suppress(FileNotFoundError, NotPlainError):
                directory = layout.algorithm(digest.algorithm)
                status = os.stat(digest.encoded, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_size == size:
                    found.add(text)
    return found


def _in_archive(path: Path, wanted: Mapping[str, int]) -> set[str]:
    found = set()
    recognised = False
    with Translating(str(path)), open(path, "rb") as file:
        compression = compression_of(file.peek(MAGIC_SIZE)[:MAGIC_SIZE])
        if compression == "none":
            reader = TarReader(file, name=str(path), seek=file if file.seekable() else None)
        else:
            # Headers are small: to decompress 512 bytes at a time would cost more than all the rest.
            stream = io.BufferedReader(Decompressed(file, compression, name=str(path)), _BUFFER)
            reader = TarReader(stream, name=str(path))
        for member in reader:
            if member.kind != "file":
                continue
            recognised = recognised or member.name.removeprefix("./") in _TOP
            digest = _digest(member.name)
            if digest is not None and wanted.get(digest) == member.size:
                found.add(digest)
    if not recognised:
        raise ArchiveInvalidError(str(path), reason=f"it has none of {', '.join(sorted(_TOP))}: it holds no images")
    return found


def _digest(name: str) -> str | None:
    if (match := _MEMBER.fullmatch(name)) is not None:
        return f"{match[1]}:{match[2]}"
    if (match := _DOCKER_MEMBER.fullmatch(name)) is not None:
        return f"sha256:{match[1]}"
    return None
