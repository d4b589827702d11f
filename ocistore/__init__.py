"""ocistore: an embeddable, transactional, content-addressed store for OCI images and artifacts."""

from ocistore.changes import ANY
from ocistore.errors import (
    ArtifactInvalidError,
    BlobNotFoundError,
    CollectionRefusedError,
    CorruptError,
    DigestMismatchError,
    InvalidDigestError,
    InvalidNameError,
    LayoutInvalidError,
    LeaseExpiredError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    ManifestNotFoundError,
    OCIStoreError,
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
    "ArtifactInvalidError",
    "BlobNotFoundError",
    "CollectionRefusedError",
    "CorruptError",
    "Descriptor",
    "Digest",
    "DigestMismatchError",
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
