"""The deletions of gc: removing what nothing keeps, and taking out of the queues what something keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.catalog import leases
from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.gc import Membership

_sql = Statements("deletions")


def keep_manifest_memberships(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of manifests that something keeps out of the queue."""
    connection.execute(_sql.KEEP_MANIFEST_MEMBERSHIPS, {"rows": bound(row[:2] for row in memberships)})


def put_behind(connection: Connection, memberships: Iterable[Membership], *, before: int) -> None:
    """Put manifests that left the queue back into it, after the last of the indexes around them that are due.

    Otherwise each of these indexes would queue them anew, in vain but for the last: of 9,000
    manifests that 20 indexes share, that took a minute.
    """
    connection.execute(_sql.PUT_BEHIND, {"rows": bound(row[:2] for row in memberships), "before": before})


def keep_blob_memberships(connection: Connection, memberships: Iterable[Membership]) -> None:
    """Take memberships of blobs that something needs out of the queue."""
    connection.execute(_sql.KEEP_BLOB_MEMBERSHIPS, {"rows": bound(row[:2] for row in memberships)})


def remove_blob_memberships(connection: Connection, memberships: Sequence[Membership]) -> None:
    """Take blobs from repositories, and queue each for gc: due since its membership was."""
    if not memberships:
        return
    connection.execute(_sql.REMOVE_BLOB_MEMBERSHIPS, {"rows": bound(row[:2] for row in memberships)})
    leases.forget(connection, (row[:2] for row in memberships))
    connection.execute(_sql.QUEUE_BLOBS, [{"blob": row.blob_id, "since": row.since} for row in memberships])


def keep_blobs(connection: Connection, ids: Iterable[int]) -> None:
    """Take blobs out of the queue."""
    connection.execute(_sql.KEEP_BLOBS, {"ids": bound(ids)})


def condemn(connection: Connection, ids: Iterable[int]) -> None:
    """Let nobody rely on these blobs any more, from the commit of this transaction on."""
    connection.execute(_sql.CONDEMN, {"ids": bound(ids)})


def reap(connection: Connection, ids: Sequence[int]) -> None:
    """Delete condemned blobs, whose files are gone, with what is known of them as manifests.

    A row that a manifest still names, as a sparse index does, stays, without bytes; rows without bytes that only these
    manifests named go with them.
    """
    parameters = {"ids": bound(ids)}
    absent = connection.execute(_sql.ABSENT_CHILDREN, parameters).scalars()
    for statement in (_sql.DELETE_MANIFESTS, _sql.EMPTY, _sql.DELETE_EMPTY):
        connection.execute(statement, parameters)
    connection.execute(_sql.DELETE_ABSENT, {"ids": bound(absent)})
