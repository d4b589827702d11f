"""For those who write a pool, which keeps the blobs of a store: its contract, in roles, and parts to build one of.

A pool is given to :meth:`ocistore.Store.open`. :class:`Pool` says what is asked of it and when; the text of
:mod:`ocistore.blobs.pool` tells the life of a blob. The tests of :mod:`ocistore.testing.pools` try whether it holds,
and :class:`ocistore.testing.memory.MemoryPool` is one to read. It imports nothing but what is named here, and values.
"""

from ocistore.blobs.hashing import Count, no_count
from ocistore.blobs.ingest import Sink, ingest
from ocistore.blobs.paths import checked_upload_name
from ocistore.blobs.pool import (
    Addresses,
    HashState,
    Ingester,
    LocalFiles,
    NewUpload,
    OpenUpload,
    Pool,
    Provider,
    PublishedFile,
    SharesFiles,
    Source,
    StagedBlob,
    Sweeper,
    UnpublishedFile,
    Uploads,
)
from ocistore.blobs.reader import BlobReader
from ocistore.blobs.sources import open_source
from ocistore.oci.digest import Hasher, hasher

__all__ = [
    "Addresses",
    "BlobReader",
    "Count",
    "HashState",
    "Hasher",
    "Ingester",
    "LocalFiles",
    "NewUpload",
    "OpenUpload",
    "Pool",
    "Provider",
    "PublishedFile",
    "SharesFiles",
    "Sink",
    "Source",
    "StagedBlob",
    "Sweeper",
    "UnpublishedFile",
    "Uploads",
    "checked_upload_name",
    "hasher",
    "ingest",
    "no_count",
    "open_source",
]
