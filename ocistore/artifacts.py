"""Artifacts: packing plain files as one, and writing its files back under their titles.

An artifact is an image manifest with the empty config and one layer for each file, which carries the file's name in the
annotation ``org.opencontainers.image.title`` (image specification, image manifest, "Guidelines for Artifact Usage").
That is also what ``oras`` writes and reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ocistore.blobs.oserrors import Translating
from ocistore.destination import Destination, kind_of_file
from ocistore.errors import ArtifactInvalidError, CorruptError, InvalidNameError
from ocistore.layouts.progress import CountedFile, Tally
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import Descriptor
from ocistore.oci.digest import Digest
from ocistore.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocistore.blobs.reader import BlobReader
    from ocistore.layouts.progress import Progress
    from ocistore.oci.manifest import Manifest
    from ocistore.store import Store

TITLE: Final = "org.opencontainers.image.title"
"""The annotation of a layer that names its file (image specification, "Pre-Defined Annotation Keys")."""

UNKNOWN_ARTIFACT: Final = "application/vnd.unknown.artifact.v1"
"""The artifact type of what was pushed without one. With the empty config there must be one; ``oras`` says the same."""

OCTET_STREAM: Final = "application/octet-stream"
"""The type of a file nobody gave one. Where ``oras`` takes that of a tar archive, which a container runtime would try
to unpack, this says what is known: nothing. Readers find the files by their titles, whatever the types."""

_EMPTY: Final = b"{}"
_PACKED_DIRECTORY: Final = "io.deis.oras.content.unpack"
"""The annotation by which ``oras`` marks a layer that is a whole directory, as an archive."""

_MAXIMUM_COMPONENT: Final = 255
"""Bytes. What Linux filesystems take as one name."""
_MAXIMUM_TITLE: Final = 4095
"""Bytes. The longest path that can be spelled in one call; no file of a longer title could be opened by it."""
_MAXIMUM_DEPTH: Final = 64
"""Directories above a file. Some hundreds of them make a tree that tools which recurse cannot remove any more."""

_BLOCK: Final = 1024 * 1024
"""Bytes read, hashed and written at a time."""

# A path may be a symbolic link: it is the caller's own. Not blocking, so that a FIFO is refused and not waited for.
_SOURCE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

@dataclass(frozen=True)
class PullReport:
    """What was written."""

    digest: Digest
    """Of the manifest."""
    files: tuple[Path, ...]
    """In the order of the layers."""
    skipped: tuple[Descriptor, ...]
    """Layers without a title: nothing says what their files are called."""


def push_files(
    store: Store,
    reference: str,
    files: Sequence[str | os.PathLike[str]],
    *,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
    subject: str | None = None,
    media_types: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Descriptor:
    """Pack files as an artifact, in one commit.

    The same files in the same order give the same digest: no times, owners or modes are kept.

    Args:
        store: where to.
        reference: REPO:TAG, or REPO for an artifact that is known by its digest only.
        files: plain files, or symbolic links to such; each is titled with its base name. Memory use is constant.
        artifact_type: what kind of artifact it is, as a media type.
        annotations: of the manifest.
        subject: a reference into the same repository: what the artifact says something about.
        media_types: types of files by their titles; ``application/octet-stream`` for all others.
        progress: told of the bytes read.

    Returns:
        The descriptor of the manifest.

    Raises:
        ArtifactInvalidError: there are no files, two have the same base name, one is no plain file or has a name that
            no title can be, or the subject is not of the same repository.
        InvalidNameError, InvalidDigestError: one of the references is none, or ``reference`` has a digest in it.
        RepositoryNotFoundError, ManifestNotFoundError: there is no such subject.
        ManifestInvalidError: one of the types is no media type, or there are too many files for one manifest.
        OSError: a file cannot be read.
        StoreFullError, StorageError, StoreBusyError, ReadOnlyStoreError: it could not be stored.

    When it returns, the artifact survives a power cut; whatever is raised, the store is as it was.
    """
    target = Reference.parse(reference)
    if target.digest is not None:
        reason = "the digest of what is pushed follows from its content"
        raise InvalidNameError(reference, kind="reference", reason=reason)
    kinds = dict(media_types or {})
    titled = files_by_title(files)
    for title in kinds:
        if title not in titled:
            raise ArtifactInvalidError(title, reason="a media type was given for it, but there is no such file")
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "artifactType": mediatypes.media_type(artifact_type or UNKNOWN_ARTIFACT, path="artifactType"),
        "config": Descriptor(mediatypes.OCI_EMPTY, Digest.of(_EMPTY), len(_EMPTY), data=_EMPTY).to_json(),
    }
    for title, kind in kinds.items():
        mediatypes.media_type(kind, path=f"the media type of {title!r:.100}")
    about = None if subject is None else _subject(store, target.repository, subject)
    tally = Tally(sum(size for _, size in titled.values()), progress)
    with store.transaction() as transaction:
        repository = transaction.repository(target.repository)
        repository.put_blob(_EMPTY)
        layers = []
        for title, (path, _) in titled.items():
            with _plain_file(path, tally) as file:
                blob = repository.put_blob(file)
            kind = kinds.get(title, OCTET_STREAM)
            layers.append(Descriptor(kind, blob.digest, blob.size, {TITLE: title}).to_json())
        document["layers"] = layers
        if about is not None:
            document["subject"] = about.to_json()
        if annotations:
            document["annotations"] = dict(sorted(annotations.items()))
        return repository.put_manifest(
            json.dumps(document, separators=(",", ":")).encode("ascii"),
            tags=() if target.tag is None else (target.tag,),
        )


def _refuse_store(store: Store, directory: Path) -> None:
    """A title such as ``catalog.db`` must not replace a file of a store."""
    real = Path(os.path.realpath(directory))
    catalog = store.paths.catalog.name
    if Path(os.path.realpath(store.root)) in (real, *real.parents) or (real / catalog).exists():
        raise ArtifactInvalidError(str(directory), reason="it is a store or lies in one; write the files elsewhere")


def pull_files(
    store: Store, reference: str, directory: str | os.PathLike[str], *, progress: Progress | None = None
) -> PullReport:
    """Write the files of an artifact under their titles, which may name subdirectories.

    Everything is checked before anything is written, and every byte verified before the first file takes its name.
    Files that exist are replaced, each at once. Titles come from strangers: none leads out of the directory, and none
    through a symbolic link inside it.

    Args:
        store: where from.
        reference: REPO:TAG or REPO@DIGEST; with both, the digest decides.
        directory: made if need be. It may be a symbolic link: it is the caller's own.
        progress: told of the bytes written.

    Raises:
        ArtifactInvalidError: it is an index, nothing in it has a title, a title cannot be a file's name here,
            something that is not a plain file is in its way, or the directory is a store or lies in one.
        InvalidNameError, InvalidDigestError: the reference is none, or has neither tag nor digest.
        RepositoryNotFoundError, ManifestNotFoundError, BlobNotFoundError: there is no such artifact, or a file of it is
            not in the store.
        CorruptError: a blob is damaged. No file has taken its name.
        StorageError: the system refused to read a blob.
        OSError: the directory, or a file in it, cannot be written; the error names which.

    When it returns, the files survive a power cut. A crash, or an error, leaves each file as it was or as it should be;
    a crash also some that begin with ``.ocistore-``.
    """
    wanted = Reference.parse(reference)
    repository = store.repository(wanted.repository)
    manifest = repository.get_manifest(wanted.target)
    titled = _titles(reference, manifest)
    for layer in titled.values():
        repository.stat_blob(layer.digest)  # before anything is written
    root = Path(os.path.abspath(directory))
    _refuse_store(store, root)
    tally = Tally(sum(layer.size for layer in titled.values()), progress)
    with Destination(root) as destination:
        for title in titled:
            destination.refuse_obstacle(title)
        for title, layer in titled.items():
            with repository.open_blob(layer.digest, verify=True) as blob, destination.create(title) as write:
                for chunk in _chunks(blob, layer, store=store):
                    write(chunk)
                    tally.add(len(chunk))
        destination.publish()
    return PullReport(
        manifest.descriptor.digest,
        tuple(root / title for title in titled),
        tuple(layer for layer in manifest.layers if TITLE not in layer.annotations),
    )


# --- packing ----------------------------------------------------------------------------------------------------------


def files_by_title(files: Sequence[str | os.PathLike[str]]) -> dict[str, tuple[str, int]]:
    """Path and present size in bytes of each file by its title, in order: what can be seen before a store is opened.

    Raises:
        ArtifactInvalidError: there are no files, two have the same base name, one is no plain file or has a name that
            no title can be.
        OSError: there is no such file, or it cannot be looked at.
    """
    titled: dict[str, tuple[str, int]] = {}
    for file in files:
        path = os.fspath(file)
        status = os.stat(path)
        _refuse_kind(path, status.st_mode)
        title = os.path.basename(path)
        _components(title)
        if title in titled:
            raise ArtifactInvalidError(path, reason=f"{titled[title][0]!r:.300} has the same base name")
        titled[title] = (path, status.st_size)
    if not titled:
        raise ArtifactInvalidError("artifact", reason="it needs at least one file")
    return titled


def _refuse_kind(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        reason = "it is a directory, and this version packs only files: make an archive of it first"
        raise ArtifactInvalidError(path, reason=reason)
    if not stat.S_ISREG(mode):
        raise ArtifactInvalidError(path, reason=f"it is {kind_of_file(mode)}, not a plain file")


def _subject(store: Store, repository: str, subject: str) -> Descriptor:
    reference = Reference.parse(subject)
    if reference.repository != repository:
        raise ArtifactInvalidError(subject, reason=f"a subject must be in the same repository, {repository}")
    found = store.repository(repository).resolve(reference.target)
    return Descriptor(found.media_type, found.digest, found.size)


@contextlib.contextmanager
def _plain_file(path: str, tally: Tally) -> Iterator[CountedFile]:
    descriptor = os.open(path, _SOURCE)
    try:
        _refuse_kind(path, os.fstat(descriptor).st_mode)  # it may have become something else meanwhile
        with CountedFile(descriptor, tally) as file:
            yield file
    finally:
        os.close(descriptor)


# --- titles -----------------------------------------------------------------------------------------------------------


def _titles(reference: str, manifest: Manifest) -> dict[str, Descriptor]:
    """The layers that are files, by title, after everything that can be wrong with the titles was seen."""
    if mediatypes.is_index_type(manifest.media_type):
        raise ArtifactInvalidError(
            reference, reason="it is an index, which has no files: pull one of its manifests by its digest"
        )
    titled: dict[str, Descriptor] = {}
    directories: dict[str, str] = {}
    for layer in manifest.layers:
        title = layer.annotations.get(TITLE)
        if title is None:
            continue
        components = _components(title)
        if layer.annotations.get(_PACKED_DIRECTORY) == "true":
            raise ArtifactInvalidError(
                title, reason=f"it is a directory, packed as an archive, which this version does not unpack; "
                f"the archive is blob {layer.digest}"
            )
        if title in titled:
            raise ArtifactInvalidError(title, reason="two files have this title")
        titled[title] = layer
        for depth in range(1, len(components)):
            directories.setdefault("/".join(components[:depth]), title)
    for title in titled:
        if title in directories:
            reason = f"it would be a file, and a directory in {directories[title]!r:.300}"
            raise ArtifactInvalidError(title, reason=reason)
    if not titled:
        raise ArtifactInvalidError(reference, reason=f"none of its layers has a title ({TITLE}), so there are no files")
    return titled


def _components(title: str) -> list[str]:
    """The names on the way to a file, the last of them its own.

    Refused is whatever is no relative path in its one plain spelling. A backslash is an ordinary character here.
    """
    if not title:
        raise ArtifactInvalidError(title, reason="a title must not be empty")
    try:
        encoded = title.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArtifactInvalidError(title, reason="a title must be UTF-8") from error
    if len(encoded) > _MAXIMUM_TITLE:
        raise ArtifactInvalidError(title, reason=f"a title has at most {_MAXIMUM_TITLE} bytes, this has {len(encoded)}")
    if any(byte < 0x20 or byte == 0x7F for byte in encoded):
        raise ArtifactInvalidError(title, reason="a title must not hold control characters")
    if title.startswith("/"):
        raise ArtifactInvalidError(title, reason="a title must be a relative path")
    components = title.split("/")
    if len(components) > _MAXIMUM_DEPTH + 1:
        raise ArtifactInvalidError(title, reason=f"a title leads through at most {_MAXIMUM_DEPTH} directories")
    for component in components:
        if component in ("", ".", ".."):
            raise ArtifactInvalidError(title, reason=f"{component!r} in a title is no name of a file or directory")
        if len(component.encode("utf-8")) > _MAXIMUM_COMPONENT:
            raise ArtifactInvalidError(title, reason=f"a file's name has at most {_MAXIMUM_COMPONENT} bytes")
    return components


# --- unpacking --------------------------------------------------------------------------------------------------------


def _chunks(blob: BlobReader, layer: Descriptor, *, store: Store) -> Iterator[bytes]:
    """The bytes of a blob, which come to an end only where they were the right ones."""
    if blob.size != layer.size:
        raise CorruptError(f"blob {layer.digest}", reason=f"it has {blob.size} bytes, not {layer.size}")
    while True:
        with Translating(f"blob {layer.digest}", root=store.root):
            chunk = blob.read(_BLOCK)
        if not chunk:
            return
        yield chunk
