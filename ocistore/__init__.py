"""ocistore: an embeddable, transactional, content-addressed store for OCI images and artifacts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocistore.changes import ANY
    from ocistore.errors import (
        ArchiveInvalidError,
        ArtifactInvalidError,
        BlobNotFoundError,
        CollectionRefusedError,
        CorruptError,
        DigestMismatchError,
        FileNotInImageError,
        InvalidDigestError,
        InvalidNameError,
        LayoutInvalidError,
        LeaseExpiredError,
        ManifestBlobUnknownError,
        ManifestInvalidError,
        ManifestNotFoundError,
        OCIStoreError,
        PlatformNotFoundError,
        ReadOnlyStoreError,
        RebuildRefusedError,
        ReferencedError,
        RepositoryNotFoundError,
        SchemaTooNewError,
        SchemaTooOldError,
        SizeMismatchError,
        StorageError,
        StoreBusyError,
        StoreClosedError,
        StoreFullError,
        StoreNotFoundError,
        TagConflictError,
        UncertainCommitError,
        UnsupportedFilesystemError,
        UploadNotFoundError,
        UploadRangeError,
    )
    from ocistore.lease import Lease
    from ocistore.oci.descriptor import Descriptor, Platform
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest
    from ocistore.repository import Repository, TagEvent
    from ocistore.store import Store, Usage
    from ocistore.transaction import Transaction
    from ocistore.upload import Upload, UploadInfo

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "ArchiveInvalidError",
    "ArtifactInvalidError",
    "BlobNotFoundError",
    "CollectionRefusedError",
    "CorruptError",
    "Descriptor",
    "Digest",
    "DigestMismatchError",
    "FileNotInImageError",
    "InvalidDigestError",
    "InvalidNameError",
    "LayoutInvalidError",
    "Lease",
    "LeaseExpiredError",
    "Manifest",
    "ManifestBlobUnknownError",
    "ManifestInvalidError",
    "ManifestNotFoundError",
    "OCIStoreError",
    "Platform",
    "PlatformNotFoundError",
    "ReadOnlyStoreError",
    "RebuildRefusedError",
    "ReferencedError",
    "Repository",
    "RepositoryNotFoundError",
    "SchemaTooNewError",
    "SchemaTooOldError",
    "SizeMismatchError",
    "StorageError",
    "Store",
    "StoreBusyError",
    "StoreClosedError",
    "StoreFullError",
    "StoreNotFoundError",
    "TagConflictError",
    "TagEvent",
    "Transaction",
    "UncertainCommitError",
    "UnsupportedFilesystemError",
    "Upload",
    "UploadInfo",
    "UploadNotFoundError",
    "UploadRangeError",
    "Usage",
]

_HOMES = {
    "ANY": "ocistore.changes",
    "ArchiveInvalidError": "ocistore.errors",
    "ArtifactInvalidError": "ocistore.errors",
    "BlobNotFoundError": "ocistore.errors",
    "CollectionRefusedError": "ocistore.errors",
    "CorruptError": "ocistore.errors",
    "DigestMismatchError": "ocistore.errors",
    "FileNotInImageError": "ocistore.errors",
    "InvalidDigestError": "ocistore.errors",
    "InvalidNameError": "ocistore.errors",
    "LayoutInvalidError": "ocistore.errors",
    "LeaseExpiredError": "ocistore.errors",
    "ManifestBlobUnknownError": "ocistore.errors",
    "ManifestInvalidError": "ocistore.errors",
    "ManifestNotFoundError": "ocistore.errors",
    "OCIStoreError": "ocistore.errors",
    "PlatformNotFoundError": "ocistore.errors",
    "ReadOnlyStoreError": "ocistore.errors",
    "RebuildRefusedError": "ocistore.errors",
    "ReferencedError": "ocistore.errors",
    "RepositoryNotFoundError": "ocistore.errors",
    "SchemaTooNewError": "ocistore.errors",
    "SchemaTooOldError": "ocistore.errors",
    "SizeMismatchError": "ocistore.errors",
    "StorageError": "ocistore.errors",
    "StoreBusyError": "ocistore.errors",
    "StoreClosedError": "ocistore.errors",
    "StoreFullError": "ocistore.errors",
    "StoreNotFoundError": "ocistore.errors",
    "TagConflictError": "ocistore.errors",
    "UncertainCommitError": "ocistore.errors",
    "UnsupportedFilesystemError": "ocistore.errors",
    "UploadNotFoundError": "ocistore.errors",
    "UploadRangeError": "ocistore.errors",
    "Lease": "ocistore.lease",
    "Descriptor": "ocistore.oci.descriptor",
    "Platform": "ocistore.oci.descriptor",
    "Digest": "ocistore.oci.digest",
    "Manifest": "ocistore.oci.manifest",
    "Repository": "ocistore.repository",
    "TagEvent": "ocistore.repository",
    "Store": "ocistore.store",
    "Usage": "ocistore.store",
    "Transaction": "ocistore.transaction",
    "Upload": "ocistore.upload",
    "UploadInfo": "ocistore.upload",
}
"""The module of each name. It is loaded when somebody asks for the name: the command line shows its help without a
catalog, and a program that reads a reference needs no store."""


def __getattr__(name: str) -> object:
    """Load what has the name (PEP 562), and keep it here."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found


def __dir__() -> list[str]:
    """List what is loaded and what is not."""
    return sorted({*globals(), *__all__})
