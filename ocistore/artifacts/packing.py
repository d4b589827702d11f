"""Packing files and directories as an artifact, and attaching artifacts to what they are about.

An artifact is an image manifest with the empty config and one layer for each file, which carries the file's name in the
annotation ``org.opencontainers.image.title`` (image specification, image manifest, "Guidelines for Artifact Usage").
That is also what ``oras`` writes and reads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ocistore import ArtifactInvalidError, BlobNotFoundError, Descriptor, InvalidNameError, Manifest, Reference
from ocistore.argumenttypes import checks_types
from ocistore.artifacts.earlier import EarlierFiles
from ocistore.artifacts.layers import Layers, PackingOptions
from ocistore.oci import mediatypes
from ocistore.oserrors import Translating
from ocistore.progress import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocistore import Compression, Progress, Store
    from ocistore.artifacts.layers import LayerForm
    from ocistore.artifacts.walking import Dereference

UNKNOWN_ARTIFACT: Final = "application/vnd.unknown.artifact.v1"
"""The artifact type of what was pushed without one. With the empty config there must be one; ``oras`` says the same."""


@checks_types
def push_files(
    store: Store,
    reference: str,
    files: Sequence[str | os.PathLike[str]],
    *,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
    subject: str | None = None,
    media_types: Mapping[str, str] | None = None,
    layer: LayerForm = "file",
    compression: Compression = "gzip",
    dereference: Dereference = False,
    contents: bool = False,
    progress: Progress | None = None,
) -> Descriptor:
    """Pack files and directories as an artifact, in one commit.

    Atomic and idempotent. The same files in the same order give the same digest: no times and owners are kept, and of
    modes only, in directories, whether a file is executable. Files that a version pushed before has too are hashed, and
    not written again. Large files are hashed and copied by all cores.

    Args:
        store: where to.
        reference: REPO:TAG, or REPO for an artifact that is known by its digest only.
        files: plain files and directories, or symbolic links to such; each is titled with its base name. What is in a
            directory is titled with that name and its path inside: ``model/weights/1.bin``.
        artifact_type: what kind of artifact it is, as a media type.
        annotations: of the manifest.
        subject: a reference into the same repository: what the artifact says something about.
        media_types: types of layers by their titles; ``application/octet-stream`` for all other files, and for archives
            that of a layer of an image.
        layer: what a directory becomes. With ``file``, each file in it is a layer, which can be read from any offset
            and is stored once for all versions that have it; up to 9,998 files, fewer where their names are long. With
            ``tar``, the directory is one layer, an archive of up to 1,000,000 files. Memory use is constant except
            for the names in the directories on one path and, with ``file``, the manifest.
        compression: of archives: ``gzip``, ``zstd`` or ``none``. ``oras`` unpacks those in gzip.
        dereference: whether symbolic links in directories are followed: True follows all, wherever they lead;
            ``"inside"`` refuses those that lead out of the directory. Otherwise links are refused with ``file``, and
            packed as links with ``tar``, where they must lead to places inside.
        contents: title what is in a directory with its path inside alone, without the directory's name.
        progress: called with the bytes read and the bytes in all.

    Returns:
        The descriptor of the manifest.

    Raises:
        ArtifactInvalidError: there are no files, or too many in a directory; two have the same title; one cannot be
            packed, has a name that no title can be, or changed meanwhile; or the subject is not of the same repository.
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
        PackingOptions(layer, compression, dereference, contents),
        artifact_type=artifact_type or UNKNOWN_ARTIFACT,
        annotations=annotations,
        subject=about,
        media_types=media_types or {},
        progress=progress,
    )


@checks_types
def attach_files(
    store: Store,
    reference: str,
    files: Sequence[str | os.PathLike[str]] = (),
    *,
    artifact_type: str,
    annotations: Mapping[str, str] | None = None,
    media_types: Mapping[str, str] | None = None,
    layer: LayerForm = "file",
    compression: Compression = "gzip",
    dereference: Dereference = False,
    contents: bool = False,
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
        layer: likewise.
        compression: likewise.
        dereference: likewise.
        contents: likewise.
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
        PackingOptions(layer, compression, dereference, contents),
        artifact_type=artifact_type,
        annotations=annotations,
        subject=about,
        media_types=media_types or {},
        progress=progress,
    )


@checks_types
def check_files(
    files: Sequence[str | os.PathLike[str]],
    *,
    layer: LayerForm = "file",
    compression: Compression = "gzip",
    dereference: Dereference = False,
    contents: bool = False,
) -> None:
    """Refuse what cannot be packed, as far as that can be seen before a store is opened.

    Args:
        files: as for :func:`push_files`.
        layer: likewise.
        compression: likewise.
        dereference: likewise.
        contents: likewise.

    Raises:
        ArtifactInvalidError: there are too many files, two have the same title, one has a name that no title can be, or
            cannot be packed.
        OSError: there is no such file, or it cannot be looked at.
    """
    Layers(files, PackingOptions(layer, compression, dereference, contents))


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
    options: PackingOptions,
    *,
    artifact_type: str,
    annotations: Mapping[str, str] | None,
    subject: Descriptor | None,
    media_types: Mapping[str, str],
    progress: Progress | None,
) -> Descriptor:
    mediatypes.media_type(artifact_type, path="artifactType")  # before anything is read
    with Translating(str(store.root), root=store.root):
        root = os.stat(store.root)
    layers = Layers(files, options, media_types=media_types, refused=(root.st_dev, root.st_ino))
    tally = Tally(layers.size, progress)
    earlier = EarlierFiles(store.repository(target.repository), tag=target.tag)

    def put(earlier: EarlierFiles | None) -> Descriptor:
        with store.transaction() as transaction:
            repository = transaction.repository(target.repository)
            manifest = Manifest.build(
                layers=layers.put(repository, tally, earlier=earlier),
                artifact_type=artifact_type,
                subject=subject,
                annotations=annotations,
            )
            return repository.put_manifest(manifest, tags=() if target.tag is None else (target.tag,))

    try:
        return put(earlier)
    except BlobNotFoundError:  # a collection removed meanwhile what was there and so was not written
        return put(None)
