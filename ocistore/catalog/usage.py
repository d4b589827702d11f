"""Counting what a store holds. Reads every row of what it counts: seconds for millions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.parameters import total
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("usage")


class Counts(NamedTuple):
    """Numbers of rows, and bytes as the rows say."""

    repositories: int
    tags: int
    manifests: int
    blobs: int
    blob_bytes: int
    uploads: int


def counts(connection: Connection) -> Counts:
    """Return everything counted, in one state of the store."""
    [(found_repositories, found_tags, found_manifests, found_blobs, found_uploads, *size)] = connection.execute(
        _sql.COUNTS
    )
    return Counts(found_repositories, found_tags, found_manifests, found_blobs, total(iter(size)), found_uploads)
