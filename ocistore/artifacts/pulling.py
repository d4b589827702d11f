"""Writing the files and directories of an artifact back under their titles."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from ocistore import ArtifactInvalidError, CorruptError, Descriptor, Digest, Reference, TransferMode, is_store
from ocistore.archives.names import name_on_disk
from ocistore.arguments import absolute_path, check_choice
from ocistore.argumenttypes import checks_types
from ocistore.artifacts.destination import ArtifactDestination
from ocistore.artifacts.titles import TITLE, is_executable, is_packed_directory, layers_by_title
from ocistore.artifacts.unpacking import unpack
from ocistore.files.plantedlinks import refuse_planted
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oserrors import Translating
from ocistore.progress import Tally
from ocistore.threads import WORTH_A_THREAD, Ahead

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ocistore import BlobReader, Progress, Repository, Store

_BLOCK: Final = 1024 * 1024
"""Bytes read, hashed and written at a time."""
_SYNCED_ONE_BY_ONE: Final = 8
"""Up to how many files are synced one by one; more of them with the whole filesystem. As measured for the pool."""
_BUFFER: Final = 128 * 1024
"""Bytes read of a layer that is read in smaller pieces."""


@dataclass(frozen=True)
class PullReport(JSONValue):
    """What :func:`pull_files` wrote."""

    digest: Digest
    """The digest of the manifest."""
    files: tuple[Path, ...]
    """The files written, in the order of the layers; a directory that was unpacked represents all that is in it."""
    skipped: tuple[Descriptor, ...]
    """Layers without a title: nothing says what their files are called."""


@checks_types
def pull_files(
    store: Store,
    reference: str,
    directory: str | os.PathLike[str],
    *,
    keep_packed: bool = False,
    mode: TransferMode = "auto",
    progress: Progress | None = None,
) -> PullReport:
    """Write the files of an artifact under their titles, which may name subdirectories.

    Idempotent. Everything is checked before anything is written, and every byte verified before the first file takes
    its name; large files are read, hashed and written by all cores. Files that exist are replaced, each at once;
    directories that exist keep what else is in them. Titles, and names in archives, come from strangers: none leads out
    of the directory, and none through a symbolic link inside it.

    Args:
        store: where from.
        reference: REPO:TAG or REPO@DIGEST; with both, the digest decides.
        directory: made if it does not exist. It may be a symbolic link: it is the caller's own.
        keep_packed: write a directory as the archive that it was packed as, and do not unpack it.
        mode: how files get their bytes. ``auto``: shared with the store by reflink where the filesystem can, which
            nobody notices who writes to them; otherwise copied. ``copy``: always copied. ``link``: hard links to the
            store's own files, which takes no room and needs the same filesystem; these are read-only (0444), and must
            never be written to: that would damage the store. Files that may be executed, and what is in archives, are
            never links.
        progress: called with the bytes read and the bytes in all.

    Raises:
        ArtifactInvalidError: it is an index, nothing in it has a title, a title cannot be a file's name here,
            something of another kind is in the way, the directory is a store or is in one, with ``link`` a file
            cannot be linked to there, or the archive of a directory has something in it that would be or lead outside,
            or is none of file, directory and link.
        ArchiveInvalidError: the archive of a directory is damaged, or a decompression bomb.
        DigestMismatchError: the archive of a directory is another than its annotation says.
        InvalidNameError, InvalidDigestError: the reference is malformed, or has neither tag nor digest.
        RepositoryNotFoundError, ManifestNotFoundError, BlobNotFoundError: there is no such artifact, or a file of it is
            not in the store.
        CorruptError: a blob is damaged. No file has taken its name.
        StorageError: the system refused to read a blob; or the directory is a link that somebody else planted.
        OSError: the directory, or a file in it, cannot be written; the error names which.

    When it returns, the files survive a power cut. A crash, or an error, leaves each file as it was or as it should be;
    a crash also some that begin with ``.ocistore-``.
    """
    check_choice(mode, "mode", get_args(TransferMode))
    wanted = Reference.parse(reference)
    repository = store.repository(wanted.repository)
    manifest = repository.get_manifest(wanted.target)
    titled = layers_by_title(reference, manifest, keep_packed=keep_packed)
    for layer in titled.values():
        repository.stat_blob(layer.digest)  # before anything is written
    root = Path(absolute_path(directory))
    refuse_planted(root)
    _refuse_store(store, root)
    tally = Tally(sum(layer.size for layer in titled.values()), progress)
    unpacked = {title for title, layer in titled.items() if is_packed_directory(layer) and not keep_packed}
    with ArtifactDestination(root, many=len(titled) > _SYNCED_ONE_BY_ONE) as destination:
        for title in titled:
            destination.refuse_obstacle(name_on_disk(title), is_directory=title in unpacked)

        def write(item: tuple[str, Descriptor]) -> None:
            title, layer = item
            with _opened(repository, layer, store, tally) as (file, blob):
                if title in unpacked:
                    with destination.create_directory(name_on_disk(title)) as tree:
                        unpack(file, title, layer, tree)
                elif mode == "link" and not is_executable(layer):
                    _link(destination, title, file, blob)
                else:
                    _copy(destination, title, file, blob, executable=is_executable(layer), share=mode != "copy")

        with Ahead(write, titled.items(), beside=_is_large, counter=tally.counter) as ahead:
            for _, written in ahead:
                written()
        destination.publish()
    return PullReport(
        manifest.descriptor.digest,
        tuple(root / name_on_disk(title) for title in titled),
        tuple(layer for layer in manifest.layers if TITLE not in layer.annotations),
    )


def _is_large(item: tuple[str, Descriptor]) -> bool:
    """Whether it is worth a thread."""
    _, layer = item
    return layer.size >= WORTH_A_THREAD


def _link(destination: ArtifactDestination, title: str, file: io.BufferedReader[Any], blob: BlobReader) -> None:
    """Let the file of a blob have another name, after all of it was read and verified."""
    if blob.descriptor is None:
        raise ArtifactInvalidError(title, reason="the blobs of the store are no files to link to; copy it instead")
    while file.read(_BLOCK):
        pass
    destination.link(name_on_disk(title), blob.descriptor)


def _copy(
    destination: ArtifactDestination,
    title: str,
    file: io.BufferedReader[Any],
    blob: BlobReader,
    *,
    executable: bool,
    share: bool,
) -> None:
    """Make a file with the bytes of a blob, shared or copied, all of which are read and verified."""
    with destination.create(name_on_disk(title), executable=executable) as new:
        shared = share and blob.descriptor is not None and new.clone(blob.descriptor)
        while chunk := file.read(_BLOCK):
            if not shared:
                new.write(chunk)


def _refuse_store(store: Store, directory: Path) -> None:
    """Refuse a directory that is in a store: a title such as ``catalog.db`` must not replace one of its files."""
    with Translating(str(directory)):
        real = Path(os.path.realpath(directory))
        is_inside = Path(os.path.realpath(store.root)) in (real, *real.parents)
    if is_inside or is_store(real):
        raise ArtifactInvalidError(str(directory), reason="it is a store or lies in one; write the files elsewhere")


@contextlib.contextmanager
def _opened(
    repository: Repository, layer: Descriptor, store: Store, tally: Tally
) -> Iterator[tuple[io.BufferedReader[Any], BlobReader]]:
    """Give the bytes of a layer, which come to an end only where they were the right ones, and where they come from.

    They are counted.
    """
    with repository.open_blob(layer.digest, verify=True) as blob:
        if blob.size != layer.size:
            raise CorruptError(f"blob {layer.digest}", reason=f"it has {blob.size} bytes, not {layer.size}")
        with io.BufferedReader(_LayerFile(blob, layer, store, tally), _BUFFER) as file:
            yield file, blob


class _LayerFile(io.RawIOBase):
    """Distinguishes errors about the store's files from errors about the files that are written."""

    def __init__(self, blob: BlobReader, layer: Descriptor, store: Store, tally: Tally) -> None:
        self._blob = blob
        self._translating = Translating(f"blob {layer.digest}", root=store.root)
        self._tally = tally

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - Buffer has a name from Python 3.12 on
        with self._translating:
            count = self._blob.readinto(buffer)
        self._tally.add(count)
        return count
