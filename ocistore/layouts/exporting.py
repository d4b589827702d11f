"""Writing references as a plain OCI layout: into a directory, or in place, where the store's own root becomes one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocistore.blobs.durability import sync_path
from ocistore.blobs.oserrors import Translating
from ocistore.catalog import graph, manifests, repositories, tags
from ocistore.errors import (
    CorruptError,
    InvalidNameError,
    LayoutInvalidError,
    ManifestInvalidError,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    StorageError,
    TagConflictError,
)
from ocistore.layouts.directory import BLOBS, INDEX_JSON, OCI_LAYOUT, TEMPORARY, LayoutDirectory, NotPlainError
from ocistore.layouts.index import (
    LAYOUT_FILE,
    MAXIMUM_INDEX_SIZE,
    MAXIMUM_LAYOUT_FILE_SIZE,
    Entry,
    check_layout_file,
    index_bytes,
    merged,
    read_index,
)
from ocistore.layouts.progress import Tally
from ocistore.layouts.writing import BlobWriter, ExportMode
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import manifest_descriptor
from ocistore.oci.reference import Reference
from ocistore.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocistore.catalog.connection import Connection
    from ocistore.layouts.progress import Progress
    from ocistore.oci.descriptor import Descriptor
    from ocistore.store import Store


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, or found there already."""

    destination: Path
    names: tuple[str, ...]
    """The exported tags as REPO:TAG, and untagged manifests as REPO@DIGEST; in byte order."""
    manifests: int
    blobs: int
    """Manifests not included."""
    bytes: int
    """Of blobs and manifests, each counted once."""
    absent: tuple[str, ...]
    """Digests that exported manifests refer to and the store does not hold: foreign layers."""


@dataclass(frozen=True)
class _Selection:
    entries: list[Entry]
    nodes: dict[str, graph.Node]
    """By digest."""


def export_directory(
    store: Store,
    destination: str | os.PathLike[str],
    references: Iterable[str] | None = None,
    *,
    mode: ExportMode = "auto",
    referrers: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write references, each with its whole graph, as an OCI layout; into an existing one adds, and replaces names.

    The same content gives the same bytes. Sizes are checked; the bytes themselves are verified when content comes into
    the store and when it is scrubbed, and what is in the layout already is taken to be right where its size is.

    Args:
        store: where from; all of it as it is at one moment.
        destination: a directory that does not exist, is empty, or is an OCI layout.
        references: each REPO (all its tags), REPO:TAG, REPO@DIGEST or REPO:TAG@DIGEST; None for every tag there is.
        mode: see :data:`ExportMode`.
        referrers: also whatever has an exported manifest as its subject, to any depth.
        progress: told of the bytes written.

    Raises:
        RepositoryNotFoundError, ManifestNotFoundError, InvalidNameError, InvalidDigestError: a reference stands for
            nothing; so does the name of a repository without tags.
        TagConflictError: REPO:TAG@DIGEST, and the tag points elsewhere.
        LayoutInvalidError: the destination is something else than said above.
        CorruptError: a blob of the store is missing or has the wrong size.
        StoreFullError, StorageError: it could not be written.

    A crash, or any error, leaves a layout there was as it was, with perhaps some blobs more.
    """
    if mode not in ("auto", "copy", "link"):
        raise ValueError(f"mode must be auto, copy or link, not {mode!r}")
    if isinstance(references, str):  # which is an iterable of references too, one for each letter
        raise TypeError("references must be a list of references, not one text")
    path = Path(os.path.abspath(destination))
    if path == store.root or (path / store.paths.catalog.name).exists():
        raise LayoutInvalidError(path, problems=["it is a store; export it in place to make it a layout"])
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(store.root)):
        raise LayoutInvalidError(path, problems=["it lies in the store, whose directories are its own"])
    with store.catalog.snapshot() as connection:
        selection = _select(connection, references, referrers=referrers)
    with _writable_layout(path) as layout:
        existing = _existing_entries(layout)
        with Translating(str(path)):
            layout.clear_leftovers()
        _write_blobs(store, layout, selection.nodes, mode, progress)
        with Translating(str(path)):
            layout.replace(OCI_LAYOUT, LAYOUT_FILE)
            layout.replace(INDEX_JSON, index_bytes(merged(existing, selection.entries)))
    return _report(path, selection)


def export_in_place(store: Store) -> ExportReport:
    """Make the store's own root a plain OCI layout of all its tags: ``oci-layout`` and ``index.json`` are written.

    Other tools may then read the root, and must not write to it. The files show the store as it was: export again after
    changes. A crash leaves the old index or the new one.

    Raises:
        ReadOnlyStoreError, StoreFullError, StorageError: they could not be written.
    """
    store.require_writable()
    with _locked_directory(store.root) as layout:
        # Under the lock, so that of two exports at once the later state is written last.
        with store.catalog.snapshot() as connection:
            selection = _select(connection, None, referrers=False)
        with Translating(str(store.root), root=store.root):
            layout.clear_leftovers()
            layout.replace(OCI_LAYOUT, LAYOUT_FILE)
            names = merged(_entries_in_place(layout), selection.entries, keep=False)
            layout.replace(INDEX_JSON, index_bytes(names))
    return _report(store.root, selection)


def _report(path: Path, selection: _Selection) -> ExportReport:
    here = [node for node in selection.nodes.values() if node.here]
    return ExportReport(
        destination=path,
        names=tuple(sorted(entry.image_name for entry in selection.entries)),
        manifests=sum(node.media_type is not None for node in here),
        blobs=sum(node.media_type is None for node in here),
        bytes=sum(node.size for node in here),
        absent=tuple(sorted(node.digest for node in selection.nodes.values() if not node.here)),
    )


# --- what to write ----------------------------------------------------------------------------------------------------


def _select(connection: Connection, references: Iterable[str] | None, *, referrers: bool) -> _Selection:
    """The entries and everything below them, in the one state that the connection sees."""
    entries: dict[str, dict[str | None, set[str]]] = {}
    for repository, tag, digest in _named(connection, references):
        entries.setdefault(repository, {}).setdefault(tag, set()).add(digest)
    nodes: dict[str, graph.Node] = {}
    selected: list[Entry] = []
    for repository, by_tag in entries.items():
        repository_id = _repository_id(connection, repository)
        roots = {digest for digests in by_tag.values() for digest in digests}
        reached = {node.digest: node for node in graph.walk(connection, repository_id, roots, referrers=referrers)}
        selected += [
            Entry(repository, tag, _descriptor(reached[digest]))
            for tag, digests in by_tag.items()
            for digest in sorted(digests)
        ]
        if referrers:
            # What refers upwards is reachable from no entry: it needs one of its own. Its own children do not.
            below = {node.digest for node in graph.walk(connection, repository_id, roots, referrers=False)}
            selected += [
                Entry(repository, None, _descriptor(node))
                for node in reached.values()
                if node.refers and node.digest not in below
            ]
        for digest, node in reached.items():
            if digest not in nodes or not nodes[digest].here:
                nodes[digest] = node
    return _Selection(selected, nodes)


def _named(connection: Connection, references: Iterable[str] | None) -> Iterator[tuple[str, str | None, str]]:
    """Repository, tag and digest of everything the references name."""
    if references is None:
        after = ""
        while names := repositories.page(connection, prefix="", after=after, limit=PAGE):
            for name in names:
                for tag, digest in tags.every(connection, _repository_id(connection, name)):
                    yield name, tag, digest
            after = names[-1]
        return
    for text in references:
        reference = Reference.parse(text)
        if reference.tag is None and reference.digest is None:
            tagged = list(tags.every(connection, _repository_id(connection, reference.repository)))
            if not tagged:
                reason = "the repository has no tags; give REPO@DIGEST for each manifest to export"
                raise InvalidNameError(text, kind="reference", reason=reason)
            for tag, digest in tagged:
                yield reference.repository, tag, digest
            continue
        yield reference.repository, reference.tag, _resolved(connection, reference)


def _resolved(connection: Connection, reference: Reference) -> str:
    _repository_id(connection, reference.repository)
    if reference.tag is not None:
        stored = manifests.by_tag(connection, reference.repository, reference.tag)
        if stored is not None and reference.digest is not None and stored.digest != reference.digest:
            raise TagConflictError(
                reference.tag, repository=reference.repository, expected=reference.digest, actual=stored.digest
            )
        missing = reference.tag
    else:
        missing = str(reference.digest)
        stored = manifests.by_digest(connection, reference.repository, missing)
    if stored is None:
        raise ManifestNotFoundError(missing, repository=reference.repository)
    return stored.digest


def _repository_id(connection: Connection, name: str) -> int:
    found = repositories.find(connection, name)
    if found is None:
        raise RepositoryNotFoundError(name)
    return found


def _descriptor(node: graph.Node) -> Descriptor:
    if node.media_type is None:
        raise CorruptError(f"manifest {node.digest}", reason="a tag points at it and its repository does not hold it")
    return manifest_descriptor(node.media_type, Digest.parse(node.digest), node.size, artifact_type=node.artifact_type)


# --- writing it -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _writable_layout(path: Path) -> Iterator[LayoutDirectory]:
    with Translating(str(path)):
        created = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if created:
            sync_path(path.parent)
    with _locked_directory(path) as layout:
        yield layout


@contextlib.contextmanager
def _locked_directory(path: Path) -> Iterator[LayoutDirectory]:
    """The directory, locked against other exports of ours into it: two of them would lose each other's names."""
    try:
        layout = LayoutDirectory(path)
    except NotADirectoryError as error:
        raise LayoutInvalidError(path, problems=["it is not a directory"]) from error
    except OSError as error:
        raise StorageError(str(path), errno=error.errno, reason=error.strerror or str(error)) from error
    with layout:
        fcntl.flock(layout.descriptor, fcntl.LOCK_EX)
        try:
            yield layout
        finally:
            fcntl.flock(layout.descriptor, fcntl.LOCK_UN)  # a child forked meanwhile shares the description


def _existing_entries(layout: LayoutDirectory) -> list[Descriptor]:
    """What the layout in the destination lists; nothing where it is empty, or an export into it was cut short."""
    try:
        check_layout_file(layout.read(OCI_LAYOUT, maximum=MAXIMUM_LAYOUT_FILE_SIZE))
        return read_index(layout.read(INDEX_JSON, maximum=MAXIMUM_INDEX_SIZE))
    except FileNotFoundError:
        with Translating(str(layout.path)):
            others = {
                name
                for name in os.listdir(layout.descriptor)
                if name not in (OCI_LAYOUT, BLOBS) and not name.startswith(TEMPORARY)
            }
        if others:
            problem = "it is not empty and not an OCI layout"
            raise LayoutInvalidError(layout.path, problems=[problem]) from None
        return []
    except (NotPlainError, ManifestInvalidError) as error:
        raise LayoutInvalidError(layout.path, problems=[str(error)]) from error
    except OSError as error:
        raise StorageError(str(layout.path), errno=error.errno, reason=str(error)) from error


def _entries_in_place(layout: LayoutDirectory) -> list[Descriptor]:
    """What an earlier export in place listed, for its names; nothing where that cannot be read: it is replaced."""
    try:
        return read_index(layout.read(INDEX_JSON, maximum=MAXIMUM_INDEX_SIZE))
    except (FileNotFoundError, NotPlainError, ManifestInvalidError):
        return []


def _write_blobs(
    store: Store, layout: LayoutDirectory, nodes: dict[str, graph.Node], mode: ExportMode, progress: Progress | None
) -> None:
    """Every blob that is here under its name in the layout, durably."""
    here = [node for node in nodes.values() if node.here]
    done, tally = 0, Tally(sum(node.size for node in here), progress)
    with BlobWriter(store, layout, mode, tally) as writer:
        for node in here:
            writer.write(Digest.parse(node.digest), node.size)
            done += node.size
            tally.reach(done)
        writer.finish()
