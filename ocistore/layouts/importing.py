"""Taking in an OCI layout directory: everything verified, everything that is wrong named, one commit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ocistore.catalog import blobs
from ocistore.changes import LinkBlob, PutBlob, PutManifest, SetTag
from ocistore.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    InvalidNameError,
    LayoutInvalidError,
    ManifestInvalidError,
    SizeMismatchError,
    StorageError,
)
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, LayoutDirectory, NotPlainError
from ocistore.layouts.index import (
    MAXIMUM_INDEX_SIZE,
    MAXIMUM_LAYOUT_FILE_SIZE,
    Name,
    check_layout_file,
    name_of,
    read_index,
)
from ocistore.oci import mediatypes
from ocistore.oci.digest import Digest, hasher
from ocistore.oci.manifest import check_manifest
from ocistore.oci.reference import repository_name

if TYPE_CHECKING:
    from ocistore.blobs.pool import StagedBlob
    from ocistore.changes import Change
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.manifest import Manifest
    from ocistore.store import Store

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then with the bytes done and the bytes in all."""

_SMALL: Final = 64 * 1024
"""Bytes. What is not larger is read at once and staged from memory, which saves half of the system calls."""

_BLOCK: Final = 1024 * 1024

MAXIMUM_MANIFESTS_SIZE: Final = 256 * 1024 * 1024
"""Bytes of all manifests of one layout together. They are in memory until the commit, so there has to be an end; a
manifest of an image has some 2 KiB, so this is about a hundred thousand images."""


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


@dataclass
class _Contents:
    """What is in a layout, and what is wrong with it."""

    maximum_manifest_size: int
    """Bytes."""
    maximum_manifests_size: int
    """Bytes, of all manifests together."""
    manifests_size: int = 0
    """Bytes of the manifests that were read."""
    manifests: dict[str, dict[Digest, Manifest]] = field(default_factory=dict)
    """By repository, children before parents."""
    blobs: dict[str, dict[Digest, int]] = field(default_factory=dict)
    """By repository, with their sizes."""
    tags: dict[tuple[str, str], SetTag] = field(default_factory=dict)
    """By repository and name."""
    visited: dict[str, set[Digest]] = field(default_factory=dict)
    """By repository, the manifests that were read, be it in vain."""
    untagged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: dict[str, None] = field(default_factory=dict)
    """In order, each once."""

    def problem(self, text: str) -> None:
        self.problems[text] = None


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
        contents = _survey(layout, given, _Contents(store.maximum_manifest_size, maximum_manifests_size))
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
        _, problems = _entries(layout)
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


# --- what is there ----------------------------------------------------------------------------------------------------


def _survey(layout: LayoutDirectory, given: str | None, contents: _Contents) -> _Contents:
    """Read the index and all manifests, and look whether the blobs are there with their sizes. Reads no blob."""
    entries, problems = _entries(layout)
    contents.problems.update(dict.fromkeys(problems))
    # An unknown media type must be no error (image specification, image-layout, "index.json").
    contents.skipped += [f"{entry.digest} ({entry.media_type})" for entry in entries if not _is_manifest(entry)]
    entries = [entry for entry in entries if _is_manifest(entry)]
    names = [name_of(entry) for entry in entries]
    repositories = {name.repository for name in names if name.repository is not None}
    for entry, name in zip(entries, names, strict=True):
        repository = given or name.repository or (repositories.copy().pop() if len(repositories) == 1 else None)
        if repository is None:
            raise InvalidNameError(
                name.given or entry.digest,
                kind="repository",
                reason=f"{layout.path} names no repository for {entry.digest}; say which one to import into",
            )
        held = contents.manifests.setdefault(repository, {})
        contents.blobs.setdefault(repository, {})
        contents.visited.setdefault(repository, set())
        _survey_graph(layout, contents, repository, entry, held)
        _survey_name(contents, repository, entry, name)
    return contents


def _entries(layout: LayoutDirectory) -> tuple[list[Descriptor], list[str]]:
    """What index.json lists, and what is wrong with the two files at the top; never both."""
    entries: list[Descriptor] = []
    problems: list[str] = []
    for file, maximum in ((OCI_LAYOUT, MAXIMUM_LAYOUT_FILE_SIZE), (INDEX_JSON, MAXIMUM_INDEX_SIZE)):
        try:
            content = layout.read(file, maximum=maximum)
            if file == OCI_LAYOUT:
                check_layout_file(content)
            else:
                entries = read_index(content)
        except FileNotFoundError:
            problems.append(f"there is no {file}")
        except (NotPlainError, ManifestInvalidError) as error:
            problems.append(f"{file}: {error}")
        except OSError as error:
            problems.append(f"{file}: {error.strerror}")
    return ([], problems) if problems else (entries, [])


def _is_manifest(descriptor: Descriptor) -> bool:
    return mediatypes.is_manifest_type(descriptor.media_type) or mediatypes.is_index_type(descriptor.media_type)


def _survey_name(contents: _Contents, repository: str, entry: Descriptor, name: Name) -> None:
    if name.tag is not None:
        tag = contents.tags.setdefault((repository, name.tag), SetTag(repository, name.tag, entry.digest))
        if tag.digest != entry.digest:
            contents.problem(f"{repository}:{name.tag} is the name of two entries: {tag.digest} and {entry.digest}")
    else:
        reason = f" ({name.given!r:.200} is not a tag)" if name.given and "@" not in name.given else ""
        contents.untagged.append(f"{repository}@{entry.digest}{reason}")


def _survey_graph(
    layout: LayoutDirectory, contents: _Contents, repository: str, root: Descriptor, held: dict[Digest, Manifest]
) -> None:
    """Everything below one entry, without recursion: a manifest is added when all its children were."""
    pending: list[tuple[Descriptor, Manifest | None]] = [(root, None)]
    visited = contents.visited[repository]
    while pending:
        descriptor, manifest = pending.pop()
        if manifest is not None:
            held[manifest.descriptor.digest] = manifest
            continue
        if descriptor.digest in visited:
            _compare(contents, descriptor, held.get(descriptor.digest))
            continue
        visited.add(descriptor.digest)
        manifest = _read_manifest(layout, contents, descriptor)
        if manifest is None:
            continue
        pending.append((descriptor, manifest))
        for edge in manifest.edges():
            if edge.role == "manifest":
                pending.append((edge.descriptor, None))
            elif edge.role != "subject":
                _survey_blob(layout, contents, repository, edge.descriptor, required=edge.required)


def _compare(contents: _Contents, descriptor: Descriptor, manifest: Manifest | None) -> None:
    """Whether a manifest that was read before is what this descriptor says too."""
    if manifest is None:  # what is wrong with it was said
        return
    known = manifest.descriptor
    if descriptor.size != known.size:
        contents.problem(f"{known.digest} has {known.size} bytes, not {descriptor.size}")
    if descriptor.media_type != known.media_type:
        contents.problem(f"{known.digest} is of type {known.media_type}, not {descriptor.media_type}")


def _read_manifest(layout: LayoutDirectory, contents: _Contents, descriptor: Descriptor) -> Manifest | None:
    digest = descriptor.digest
    try:
        file = layout.open_blob(digest)
        try:
            size = os.fstat(file).st_size
            if size != descriptor.size:
                contents.problem(f"{digest} has {size} bytes, not {descriptor.size}")
                return None
            # One byte more than is allowed is enough to be refused, and a liar's gigabytes are not read.
            size = min(size, contents.maximum_manifest_size)
            if contents.manifests_size + size > contents.maximum_manifests_size:
                contents.problem(f"the layout's manifests have more than {contents.maximum_manifests_size} bytes")
                return None
            contents.manifests_size += size
            content = _read_all(file, size)
        finally:
            os.close(file)
        return check_manifest(
            content, media_type=descriptor.media_type, digest=digest, maximum=contents.maximum_manifest_size
        )
    except FileNotFoundError:
        contents.problem(f"{digest} is missing")
    except NotPlainError as error:
        contents.problem(f"{digest}: {error}")
    except (ManifestInvalidError, DigestMismatchError) as error:
        contents.problem(f"{digest}: {error}")
    except OSError as error:
        contents.problem(f"{digest}: {error.strerror}")
    return None


def _read_all(file: int, size: int) -> bytes:
    content = bytearray()
    while len(content) <= size and (chunk := os.read(file, size + 1 - len(content))):
        content += chunk
    return bytes(content)


def _survey_blob(
    layout: LayoutDirectory, contents: _Contents, repository: str, descriptor: Descriptor, *, required: bool
) -> None:
    known = contents.blobs[repository].get(descriptor.digest)
    if known is not None:
        if known != descriptor.size:
            contents.problem(f"{descriptor.digest} has {known} bytes, not {descriptor.size}")
        return
    try:
        file = layout.open_blob(descriptor.digest)
    except FileNotFoundError:
        if required:
            contents.problem(f"{descriptor.digest} is missing")
        return
    except NotPlainError as error:
        contents.problem(f"{descriptor.digest}: {error}")
        return
    except OSError as error:
        contents.problem(f"{descriptor.digest}: {error.strerror}")
        return
    try:
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    if size != descriptor.size:
        contents.problem(f"{descriptor.digest} has {size} bytes, not {descriptor.size}")
        return
    contents.blobs[repository][descriptor.digest] = size


# --- taking it in -----------------------------------------------------------------------------------------------------


def _take_in(
    store: Store, layout: LayoutDirectory, contents: _Contents, progress: Progress | None, *, reuse: bool
) -> None:
    """Stage what the store lacks, verify what it has, and commit; where that finds problems, nothing is committed."""
    sizes = {digest: size for held in contents.blobs.values() for digest, size in held.items()}
    present = _present(store, sizes) if reuse else set()
    total, done = sum(sizes.values()), 0
    staged: dict[Digest, StagedBlob] = {}
    try:
        for digest, size in sizes.items():
            try:
                # Where something is wrong nothing is taken in, but whatever else is wrong is still looked for.
                if digest in present or contents.problems:
                    _verify(layout, digest, size)
                else:
                    staged[digest] = _stage(store, layout, digest, size)
            except FileNotFoundError:
                contents.problem(f"{digest} is missing")
            except (NotPlainError, DigestMismatchError, SizeMismatchError) as error:
                contents.problem(f"{digest}: {error}")
            except OSError as error:  # from the layout: those of the store are translated
                contents.problem(f"{digest}: {error.strerror}")
            done += size
            if progress is not None:
                progress(done, total)
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


def _stage(store: Store, layout: LayoutDirectory, digest: Digest, size: int) -> StagedBlob:
    file = layout.open_blob(digest)
    try:
        if size <= _SMALL:
            return store.pool.stage(_read_all(file, size), digest=digest, size=size)
        with os.fdopen(file, "rb", buffering=0, closefd=False) as source:
            return store.pool.stage(source, digest=digest, size=size)
    finally:
        os.close(file)


def _verify(layout: LayoutDirectory, digest: Digest, size: int) -> None:
    state = hasher(digest.algorithm)
    file = layout.open_blob(digest)
    try:
        read = 0
        buffer = memoryview(bytearray(min(_BLOCK, size + 1)))
        while read <= size and (count := os.readv(file, [buffer])):
            state.update(buffer[:count])
            read += count
    finally:
        os.close(file)
    if read != size:
        raise SizeMismatchError(expected=size, actual=read)
    found = Digest.of_hasher(state, digest.algorithm)
    if found != digest:
        raise DigestMismatchError(expected=digest, actual=found)


def _changes(contents: _Contents, staged: dict[Digest, StagedBlob]) -> list[Change]:
    changes: list[Change] = []
    for repository, held in contents.blobs.items():
        for digest, size in held.items():
            blob = staged.get(digest)
            changes.append(LinkBlob(repository, digest, size) if blob is None else PutBlob(repository, blob))
    for repository, manifests in contents.manifests.items():
        changes.extend(PutManifest(repository, manifest, staged[digest]) for digest, manifest in manifests.items())
    return [*changes, *contents.tags.values()]
