"""Taking in an OCI layout, whatever its form: everything verified, everything that is wrong named, one commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocistore.catalog import blobs
from ocistore.changes import LinkBlob, PutBlob, PutManifest
from ocistore.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    LayoutInvalidError,
    SizeMismatchError,
    StoreBusyError,
)
from ocistore.layouts.directory import NotPlainError
from ocistore.layouts.progress import Tally
from ocistore.layouts.recognition import opened, source_name
from ocistore.layouts.survey import MAXIMUM_MANIFESTS_SIZE, Contents, survey
from ocistore.oci.reference import repository_name

if TYPE_CHECKING:
    from ocistore.blobs.pool import StagedBlob
    from ocistore.blobs.sharing import Sharing
    from ocistore.changes import Change
    from ocistore.layouts.progress import Progress
    from ocistore.layouts.recognition import ImportSource
    from ocistore.layouts.source import Source
    from ocistore.oci.digest import Digest
    from ocistore.store import Store


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


def import_layout(
    store: Store,
    source: ImportSource,
    repository: str | None = None,
    *,
    mode: Sharing = "auto",
    progress: Progress | None = None,
    maximum_manifests_size: int = MAXIMUM_MANIFESTS_SIZE,
) -> ImportReport:
    """Take in every entry of a layout with all it is made of, in one commit.

    Every byte is hashed. Content that the store holds already is verified and not written again. Tags that exist are
    moved. Entries of media types that are no manifest's are left out, and reported. How names become repositories and
    tags is said in :mod:`ocistore.layouts.index`.

    Args:
        store: where to.
        source: a directory, an archive of a layout or one of Docker's, plain or compressed with gzip or zstd, or a pipe
            that gives one, by its path; or an open binary file that does. What it is, its content says.
        repository: where everything goes, whatever the layout's names say. Needed where they name no repository.
        mode: how the bytes of a directory get into the store; see :data:`ocistore.blobs.sharing.Sharing`. Those of
            archives are copied.
        progress: told of the bytes read.
        maximum_manifests_size: bytes that all manifests may have together; a manifest of two repositories counts twice.

    Raises:
        LayoutInvalidError: it is no layout, damaged, or has too many manifests; ``problems`` names everything that is
            missing or wrong.
        ArchiveInvalidError: it is an archive that is damaged or hostile, or of nothing that is read.
        InvalidNameError: an entry names no repository and none was given, or ``repository`` is no name of one.
        StoreFullError, StorageError, StoreBusyError, ReadOnlyStoreError: it could not be read or stored.

    Whatever is raised, and after a crash, the store is as it was.
    """
    if mode not in ("auto", "copy", "link"):
        raise ValueError(f"mode must be auto, copy or link, not {mode!r}")
    given = None if repository is None else repository_name(repository)
    store.require_writable()
    path = Path(source_name(source))
    with opened(source, store, progress) as found:
        contents = survey(found, given, Contents(store.maximum_manifest_size, maximum_manifests_size))
        # What came as a stream was told of as it came.
        told = None if found.streamed else progress
        try:
            _take_in(store, found, contents, mode, told, reuse=True)
        except BlobNotFoundError as error:
            # A collection took something that was found in the store a moment ago: bring it along then.
            if found.streamed:
                raise StoreBusyError(f"{error.digest}, which a collection took away,", waited=0.0) from error
            _take_in(store, found, contents, mode, told, reuse=False)
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


# --- taking it in -----------------------------------------------------------------------------------------------------


def _take_in(
    store: Store, source: Source, contents: Contents, mode: Sharing, progress: Progress | None, *, reuse: bool
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
                    source.verify(digest, size, tally)
                else:
                    staged[digest] = source.stage(store.pool, digest, size, mode, tally)
            except (NotPlainError, DigestMismatchError, SizeMismatchError) as error:
                contents.problem(f"{digest}: {error}")
            except OSError as error:  # from the layout: those of the store are translated
                if error is tally.raised:
                    raise
                missing = isinstance(error, FileNotFoundError)
                contents.problem(f"{digest} is missing" if missing else f"{digest}: {error.strerror}")
            done += size
            tally.reach(done)
        if changed := source.changed():
            contents.problem(changed)
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


def _changes(contents: Contents, staged: dict[Digest, StagedBlob]) -> list[Change]:
    changes: list[Change] = []
    for repository, held in contents.blobs.items():
        for digest, size in held.items():
            blob = staged.get(digest)
            changes.append(LinkBlob(repository, digest, size) if blob is None else PutBlob(repository, blob))
    for repository, manifests in contents.manifests.items():
        changes.extend(PutManifest(repository, manifest, staged[digest]) for digest, manifest in manifests.items())
    return [*changes, *contents.tags.values()]
