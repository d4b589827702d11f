"""Packing plain files and directories as an artifact, and attaching artifacts to what they are about.

An artifact is an image manifest with the empty config and one layer for each file, which carries the file's name in the
annotation ``org.opencontainers.image.title`` (image specification, image manifest, "Guidelines for Artifact Usage").
That is also what ``oras`` writes and reads.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore import ArtifactInvalidError, Descriptor, InvalidNameError, Manifest, Reference
from ocistore.archives.names import name_from_disk
from ocistore.artifacts.directories import PackedDirectory, directory_size
from ocistore.artifacts.kinds import kind_of_file
from ocistore.artifacts.titles import CONTENT_DIGEST, TITLE, UNPACK, title_components
from ocistore.filedescriptors import owned
from ocistore.files.content import CountedFile
from ocistore.oci import mediatypes
from ocistore.oci.mediatypes import OCTET_STREAM
from ocistore.progress import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocistore import Progress, RepositoryWriter, Store

UNKNOWN_ARTIFACT: Final = "application/vnd.unknown.artifact.v1"
"""The artifact type of what was pushed without one. With the empty config there must be one; ``oras`` says the same."""

# A path may be a symbolic link: it is the caller's own. Not blocking, so that a FIFO is refused and not waited for.
_SOURCE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class _Source(NamedTuple):
    """A file or directory that is to be packed."""

    path: str
    size: int
    """Bytes to be read, as far as is known before."""
    is_directory: bool


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
    """Pack files and directories as an artifact, in one commit.

    Atomic and idempotent. The same files in the same order give the same digest: no times and owners are kept, and of
    modes only, in directories, whether a file is executable.

    Args:
        store: where to.
        reference: REPO:TAG, or REPO for an artifact that is known by its digest only.
        files: plain files and directories, or symbolic links to such; each is titled with its base name. Directories
            become archives. Memory use is constant except for the names in the directories on one path.
        artifact_type: what kind of artifact it is, as a media type.
        annotations: of the manifest.
        subject: a reference into the same repository: what the artifact says something about.
        media_types: types of files by their titles; ``application/octet-stream`` for all others, and that of a layer
            in gzip for directories.
        progress: called with the bytes read and the bytes in all.

    Returns:
        The descriptor of the manifest.

    Raises:
        ArtifactInvalidError: there are no files, two have the same base name, one cannot be packed, has a name that
            no title can be, or changed meanwhile, or the subject is not of the same repository.
        InvalidNameError, InvalidDigestError: one of the references is malformed, or ``reference`` has a digest in it.
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
    if not files:
        raise ArtifactInvalidError("artifact", reason="it needs at least one file")
    about = None if subject is None else _subject(store, target.repository, subject)
    return _pack(
        store,
        target,
        files,
        artifact_type=artifact_type or UNKNOWN_ARTIFACT,
        annotations=annotations,
        subject=about,
        media_types=media_types or {},
        progress=progress,
    )


def attach_files(
    store: Store,
    reference: str,
    files: Sequence[str | os.PathLike[str]] = (),
    *,
    artifact_type: str,
    annotations: Mapping[str, str] | None = None,
    media_types: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Descriptor:
    """Pack files as an artifact about another manifest, its subject, in one commit. It gets no tag.

    Atomic and idempotent: the same files about the same subject give the same digest.

    Args:
        store: where to.
        reference: REPO:TAG or REPO@DIGEST of the subject; with both, the digest decides.
        files: as for :func:`push_files`; there may be none where there are annotations, which then say it all.
        artifact_type: what kind of artifact it is, as a media type.
        annotations: of the manifest.
        media_types: as for :func:`push_files`.
        progress: called with the bytes read and the bytes in all.

    Returns:
        The descriptor of the manifest.

    Raises:
        ArtifactInvalidError: there are neither files nor annotations; and as :func:`push_files`.
        RepositoryNotFoundError, ManifestNotFoundError: there is no such subject.
        InvalidNameError, InvalidDigestError: the reference is malformed, or has neither tag nor digest.

    And all else that :func:`push_files` raises. When it returns, the artifact survives a power cut; whatever is raised,
    the store is as it was.
    """
    if not files and not annotations:
        raise ArtifactInvalidError("artifact", reason="it needs a file or an annotation")
    target = Reference.parse(reference)
    about = _subject(store, target.repository, reference)
    return _pack(
        store,
        Reference(target.repository),
        files,
        artifact_type=artifact_type,
        annotations=annotations,
        subject=about,
        media_types=media_types or {},
        progress=progress,
    )


def check_files(files: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse what cannot be packed, as far as that can be seen before a store is opened.

    Raises:
        ArtifactInvalidError: two have the same base name, one has a name that no title can be, or cannot be packed.
        OSError: there is no such file, or it cannot be looked at.
    """
    _sources(files)


# --- the manifest -----------------------------------------------------------------------------------------------------


def _subject(store: Store, repository: str, subject: str) -> Descriptor:
    reference = Reference.parse(subject)
    if reference.repository != repository:
        raise ArtifactInvalidError(subject, reason=f"a subject must be in the same repository, {repository}")
    found = store.repository(repository).resolve(reference.target)
    return Descriptor(found.media_type, found.digest, found.size)


def _pack(
    store: Store,
    target: Reference,
    files: Sequence[str | os.PathLike[str]],
    *,
    artifact_type: str,
    annotations: Mapping[str, str] | None,
    subject: Descriptor | None,
    media_types: Mapping[str, str],
    progress: Progress | None,
) -> Descriptor:
    mediatypes.media_type(artifact_type, path="artifactType")  # before anything is read
    root = os.stat(store.root)
    refused = (root.st_dev, root.st_ino)
    sources = _sources(files, refused=refused)
    for title, kind in media_types.items():
        if title not in sources:
            raise ArtifactInvalidError(title, reason="a media type was given for it, but there is no such file")
        mediatypes.media_type(kind, path=f"the media type of {title!r:.100}")
    tally = Tally(sum(source.size for source in sources.values()), progress)
    with store.transaction() as transaction:
        repository = transaction.repository(target.repository)
        layers = [
            _layer(repository, title, source, tally, media_type=media_types.get(title), refused=refused)
            for title, source in sources.items()
        ]
        manifest = Manifest.build(layers=layers, artifact_type=artifact_type, subject=subject, annotations=annotations)
        return repository.put_manifest(manifest, tags=() if target.tag is None else (target.tag,))


def _layer(
    repository: RepositoryWriter,
    title: str,
    source: _Source,
    tally: Tally,
    *,
    media_type: str | None,
    refused: tuple[int, int],
) -> Descriptor:
    if source.is_directory:
        packed = PackedDirectory(source.path, title, tally, refused=refused)
        blob = repository.put_blob(packed.chunks())
        annotations = {CONTENT_DIGEST: str(packed.content_digest), UNPACK: "true", TITLE: title}
        return Descriptor(media_type or mediatypes.OCI_LAYER_GZIP, blob.digest, blob.size, annotations)
    with _plain_file(source.path, tally) as file:
        blob = repository.put_blob(file)
    # oras takes the type of a tar archive, which a container runtime would try to unpack. Readers find the files by
    # their titles, whatever the types.
    return Descriptor(media_type or OCTET_STREAM, blob.digest, blob.size, {TITLE: title})


# --- what is packed ---------------------------------------------------------------------------------------------------


def _sources(files: Sequence[str | os.PathLike[str]], *, refused: tuple[int, int] | None = None) -> dict[str, _Source]:
    """Return what is to be packed, by title and in order.

    ``refused`` has device and inode of what must not be in it.
    """
    titled: dict[str, _Source] = {}
    for file in files:
        path = os.fspath(file)
        status = os.stat(path)
        is_directory = stat.S_ISDIR(status.st_mode)
        if not is_directory:
            _require_plain(path, status.st_mode)
        # The last name of "here/" and of "." is that of the directory.
        title = name_from_disk(os.path.basename(os.path.abspath(path) if is_directory else path))
        title_components(title)
        if title in titled:
            raise ArtifactInvalidError(path, reason=f"{titled[title].path!r:.300} has the same base name")
        size = directory_size(path, refused=refused) if is_directory else status.st_size
        titled[title] = _Source(path, size, is_directory)
    return titled


def _require_plain(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ArtifactInvalidError(path, reason=f"it is {kind_of_file(mode)}, not a plain file or directory")


@contextlib.contextmanager
def _plain_file(path: str, tally: Tally) -> Iterator[CountedFile]:
    descriptor = owned(os.open, path, _SOURCE)
    _require_plain(path, os.fstat(descriptor).st_mode)  # it may have become something else meanwhile
    with CountedFile(int(descriptor), tally.add) as file:
        yield file
