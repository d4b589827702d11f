"""ocistore: an embeddable, transactional, content-addressed store for OCI images and artifacts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocistore.archives.compression import Compression
    from ocistore.blobs.paths import is_store
    from ocistore.blobs.reader import BlobReader
    from ocistore.blobs.sharing import TransferMode
    from ocistore.catalog.migrate import SchemaDifference
    from ocistore.catalog.schema import SCHEMA_REVISION
    from ocistore.changes import ANY, Missing
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
    from ocistore.layouts.copying import CopyReport
    from ocistore.layouts.exporting import ExportReport
    from ocistore.layouts.exports.formats import ExportFormat
    from ocistore.layouts.importing import ImportReport
    from ocistore.layouts.imports.detection import ImportSource
    from ocistore.lease import Lease
    from ocistore.oci.config import ImageConfig
    from ocistore.oci.descriptor import Descriptor, Platform
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Index, Manifest
    from ocistore.oci.reference import Reference
    from ocistore.oci.selector import Selector
    from ocistore.progress import Progress
    from ocistore.repository import Repository, RepositoryWriter, TagEvent
    from ocistore.store import Store, Usage, check_import, rebuild
    from ocistore.transaction import Transaction
    from ocistore.upkeep.backup import BackupReport
    from ocistore.upkeep.check import CheckReport
    from ocistore.upkeep.compaction import CompactReport
    from ocistore.upkeep.explanation import Explanation, RepositoryExplanation
    from ocistore.upkeep.gc import GCCandidate, GCReport
    from ocistore.upkeep.history import HistoryReport
    from ocistore.upkeep.rebuild import RebuildReport
    from ocistore.upkeep.scrubreport import Damage, Level, ScrubReport
    from ocistore.upload import Upload, UploadInfo

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "SCHEMA_REVISION",
    "ArchiveInvalidError",
    "ArtifactInvalidError",
    "BackupReport",
    "BlobNotFoundError",
    "BlobReader",
    "CheckReport",
    "CollectionRefusedError",
    "CompactReport",
    "Compression",
    "CopyReport",
    "CorruptError",
    "Damage",
    "Descriptor",
    "Digest",
    "DigestMismatchError",
    "Explanation",
    "ExportFormat",
    "ExportReport",
    "FileNotInImageError",
    "GCCandidate",
    "GCReport",
    "HistoryReport",
    "ImageConfig",
    "ImportReport",
    "ImportSource",
    "Index",
    "InvalidDigestError",
    "InvalidNameError",
    "LayoutInvalidError",
    "Lease",
    "LeaseExpiredError",
    "Level",
    "Manifest",
    "ManifestBlobUnknownError",
    "ManifestInvalidError",
    "ManifestNotFoundError",
    "Missing",
    "OCIStoreError",
    "Platform",
    "PlatformNotFoundError",
    "Progress",
    "ReadOnlyStoreError",
    "RebuildRefusedError",
    "RebuildReport",
    "Reference",
    "ReferencedError",
    "Repository",
    "RepositoryExplanation",
    "RepositoryNotFoundError",
    "RepositoryWriter",
    "SchemaDifference",
    "SchemaTooNewError",
    "SchemaTooOldError",
    "ScrubReport",
    "Selector",
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
    "TransferMode",
    "UncertainCommitError",
    "UnsupportedFilesystemError",
    "Upload",
    "UploadInfo",
    "UploadNotFoundError",
    "UploadRangeError",
    "Usage",
    "check_import",
    "is_store",
    "rebuild",
]

_HOMES = {
    "Compression": "ocistore.archives.compression",
    "is_store": "ocistore.blobs.paths",
    "BlobReader": "ocistore.blobs.reader",
    "TransferMode": "ocistore.blobs.sharing",
    "SchemaDifference": "ocistore.catalog.migrate",
    "SCHEMA_REVISION": "ocistore.catalog.schema",
    "ANY": "ocistore.changes",
    "Missing": "ocistore.changes",
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
    "CopyReport": "ocistore.layouts.copying",
    "ExportReport": "ocistore.layouts.exporting",
    "ExportFormat": "ocistore.layouts.exports.formats",
    "ImportReport": "ocistore.layouts.importing",
    "ImportSource": "ocistore.layouts.imports.detection",
    "Progress": "ocistore.progress",
    "Lease": "ocistore.lease",
    "ImageConfig": "ocistore.oci.config",
    "Descriptor": "ocistore.oci.descriptor",
    "Platform": "ocistore.oci.descriptor",
    "Digest": "ocistore.oci.digest",
    "Index": "ocistore.oci.manifest",
    "Manifest": "ocistore.oci.manifest",
    "Reference": "ocistore.oci.reference",
    "Selector": "ocistore.oci.selector",
    "Repository": "ocistore.repository",
    "RepositoryWriter": "ocistore.repository",
    "TagEvent": "ocistore.repository",
    "Store": "ocistore.store",
    "Usage": "ocistore.store",
    "check_import": "ocistore.store",
    "rebuild": "ocistore.store",
    "Transaction": "ocistore.transaction",
    "BackupReport": "ocistore.upkeep.backup",
    "CheckReport": "ocistore.upkeep.check",
    "GCCandidate": "ocistore.upkeep.gc",
    "GCReport": "ocistore.upkeep.gc",
    "CompactReport": "ocistore.upkeep.compaction",
    "Explanation": "ocistore.upkeep.explanation",
    "RepositoryExplanation": "ocistore.upkeep.explanation",
    "Damage": "ocistore.upkeep.scrubreport",
    "Level": "ocistore.upkeep.scrubreport",
    "ScrubReport": "ocistore.upkeep.scrubreport",
    "HistoryReport": "ocistore.upkeep.history",
    "RebuildReport": "ocistore.upkeep.rebuild",
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
