"""Taking in an OCI layout directory: everything verified, everything that is wrong named, one commit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.catalog import blobs
from ocistore.changes import LinkBlob, PutBlob, PutManifest
from ocistore.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    LayoutInvalidError,
    SizeMismatchError,
    StorageError,
)
from ocistore.layouts.directory import LayoutDirectory, NotPlainError, read_at_once
from ocistore.layouts.progress import CountedFile, Tally
from ocistore.layouts.survey import MAXIMUM_MANIFESTS_SIZE, Contents, listed, survey
from ocistore.oci.digest import Digest, hasher
from ocistore.oci.reference import repository_name

if TYPE_CHECKING:
    from ocistore.blobs.pool import StagedBlob
    from ocistore.changes import Change
    from ocistore.layouts.progress import Progress
    from ocistore.store import Store

_SMALL: Final = 64 * 1024
"""Bytes. What is not larger is read at once and staged from memory, which saves half of the system calls."""

_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True)
class ImportReport:
    """What an import brought in."""

    source: Path
    tags: tuple[str, ...]
    """As REPO:TAG, in byte order."""
    untagged: tuple[str, ...]
    """Entries of the layout that got no tag, as REPO@DIGEST, with their name where it cannot be a tag."""
    skipped: tuple[str, ...]
    """Entries that were left out because their media type is no manifest's that we know, as "DIGEST (MEDIA TYPE)"."""
    manifests: int
    blobs: int
    """Manifests not included."""
    bytes: int
    """Of blobs and manifests, each counted once."""


def import_directory(
    store: Store,
    source: str | os.PathLike[str],
    repository: str | None = None,
    *,
    progress: Progress | None = None,
    maximum_manifests_size: int = MAXIMUM_MANIFESTS_SIZE,
) -> ImportReport:
    """Take in every entry of a layout with all it is made of, in one commit.

    Every byte is hashed. Content that the store holds already is verified and not written again. Tags that exist are
    moved. Entries of media types that are no manifest's are left out, and reported. How names become repositories and
    tags is said in :mod:`ocistore.layouts.index`.

    Args:
        store: where to.
        source: the layout's directory.
        repository: where everything goes, whatever the layout's names say. Needed where they name no repository.
        progress: told of the bytes read.
        maximum_manifests_size: bytes that all manifests may have together; a manifest of two repositories counts twice.

    Raises:
        LayoutInvalidError: it is no layout, damaged, or has too many manifests; ``problems`` names everything that is
            missing or wrong.
        InvalidNameError: an entry names no repository and none was given, or ``repository`` is no name of one.
        StoreFullError, StorageError, StoreBusyError, ReadOnlyStoreError: it could not be stored.

    Whatever is raised, and after a crash, the store is as it was.
    """
    given = None if repository is None else repository_name(repository)
    store.require_writable()
    path = Path(os.path.abspath(source))
    with _opened(path) as layout:
        contents = survey(layout, given, Contents(store.maximum_manifest_size, maximum_manifests_size))
        try:
            _take_in(store, layout, contents, progress, reuse=True)
        except BlobNotFoundError:
            # A collection took something that was found in the store a moment ago: bring it along then.
            _take_in(store, layout, contents, progress, reuse=False)
        if contents.problems:
            raise LayoutInvalidError(path, problems=list(contents.problems))
    sizes = {
        digest: manifest.descriptor.size for held in contents.manifests.values() for digest, manifest in held.items()
    }
    count = len(sizes)
    for held in contents.blobs.values():
        sizes.update(held)
    return ImportReport(
        source=path,
        tags=tuple(sorted({f"{tag.repository}:{tag.name}" for tag in contents.tags.values()})),
        untagged=tuple(contents.untagged),
        skipped=tuple(contents.skipped),
        manifests=count,
        blobs=len(sizes) - count,
        bytes=sum(sizes.values()),
    )


def check_layout(source: str | os.PathLike[str], repository: str | None = None) -> None:
    """Look whether there is a layout, for who has no store yet: its two files at the top are read, and no blob.

    Raises:
        LayoutInvalidError: there is none.
        InvalidNameError: ``repository`` is no name of one.
        StorageError: the directory cannot be opened.
    """
    if repository is not None:
        repository_name(repository)
    path = Path(os.path.abspath(source))
    with _opened(path) as layout:
        _, problems = listed(layout)
    if problems:
        raise LayoutInvalidError(path, problems=problems)


def _opened(path: Path) -> LayoutDirectory:
    try:
        return LayoutDirectory(path)
    except FileNotFoundError as error:
        raise LayoutInvalidError(path, problems=["there is no such directory"]) from error
    except NotADirectoryError as error:
        raise LayoutInvalidError(path, problems=["it is not a directory"]) from error
    except OSError as error:
        raise StorageError(str(path), errno=error.errno, reason=error.strerror or str(error)) from error


# --- taking it in -----------------------------------------------------------------------------------------------------


def _take_in(
    store: Store, layout: LayoutDirectory, contents: Contents, progress: Progress | None, *, reuse: bool
) -> None:
    """Stage what the store lacks, verify what it has, and commit; where that finds problems, nothing is committed."""
    sizes = {digest: size for held in contents.blobs.values() for digest, size in held.items()}
    present = _present(store, sizes) if reuse else set()
    done, tally = 0, Tally(sum(sizes.values()), progress)
    staged: dict[Digest, StagedBlob] = {}
    try:
        for digest, size in sizes.items():
            try:
                # Where something is wrong nothing is taken in, but whatever else is wrong is still looked for.
                if digest in present or contents.problems:
                    _verify(layout, digest, size, tally)
                else:
                    staged[digest] = _stage(store, layout, digest, size, tally)
            except (NotPlainError, DigestMismatchError, SizeMismatchError) as error:
                contents.problem(f"{digest}: {error}")
            except OSError as error:  # from the layout: those of the store are translated
                if error is tally.raised:
                    raise
                missing = isinstance(error, FileNotFoundError)
                contents.problem(f"{digest} is missing" if missing else f"{digest}: {error.strerror}")
            done += size
            tally.reach(done)
        if contents.problems:
            return
        manifests = {digest: manifest for held in contents.manifests.values() for digest, manifest in held.items()}
        for digest, manifest in manifests.items():
            if digest in staged:  # its bytes are a layer, too
                continue
            staged[digest] = store.pool.stage(manifest.content, digest=digest, size=manifest.descriptor.size)
        store.commit(_changes(contents, staged))
    finally:
        store.pool.discard(staged.values())


def _present(store: Store, sizes: dict[Digest, int]) -> set[Digest]:
    with store.catalog.read() as connection:
        live = blobs.live_sizes(connection, sizes)
    return {digest for digest, size in sizes.items() if live.get(digest) == size and store.pool.size(digest) == size}


def _stage(store: Store, layout: LayoutDirectory, digest: Digest, size: int, tally: Tally) -> StagedBlob:
    file = layout.open_blob(digest)
    try:
        if size <= _SMALL:
            return store.pool.stage(read_at_once(file, size), digest=digest, size=size)
        with CountedFile(file, tally) as source:
            return store.pool.stage(source, digest=digest, size=size)
    finally:
        os.close(file)


def _verify(layout: LayoutDirectory, digest: Digest, size: int, tally: Tally) -> None:
    state = hasher(digest.algorithm)
    file = layout.open_blob(digest)
    try:
        read = 0
        buffer = memoryview(bytearray(min(_BLOCK, size + 1)))
        while read <= size and (count := os.readv(file, [buffer])):
            state.update(buffer[:count])
            read += count
            tally.add(count)
    finally:
        os.close(file)
    if read != size:
        raise SizeMismatchError(expected=size, actual=read)
    found = Digest.of_hasher(state, digest.algorithm)
    if found != digest:
        raise DigestMismatchError(expected=digest, actual=found)


def _changes(contents: Contents, staged: dict[Digest, StagedBlob]) -> list[Change]:
    changes: list[Change] = []
    for repository, held in contents.blobs.items():
        for digest, size in held.items():
            blob = staged.get(digest)
            changes.append(LinkBlob(repository, digest, size) if blob is None else PutBlob(repository, blob))
    for repository, manifests in contents.manifests.items():
        changes.extend(PutManifest(repository, manifest, staged[digest]) for digest, manifest in manifests.items())
    return [*changes, *contents.tags.values()]
