"""Reading and changing blobs, and which repository may serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog import leases
from ocistore.catalog.parameters import NOBODY, OWN, bound, total
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.catalog.connection import Connection

_sql = Statements("blobs")


class HeldBlob(NamedTuple):
    """A blob as a repository holds it."""

    size: int
    unreferenced_since: int | None
    """Since when no manifest of the repository refers to it, as far as it is known; None where one does."""


MAXIMUM_NAMED: Final = 1000
"""How many are named where something may not be deleted: a hundred thousand took 0.4 s, under the lock."""


def live_sizes(connection: Connection, digests: Iterable[str]) -> dict[str, int]:
    """Return of these digests those that are live, with their sizes."""
    rows = connection.execute(_sql.LIVE, {"digests": bound(digests)})
    return dict(rows)


def page_of_live(connection: Connection, *, after: int, limit: int) -> list[tuple[int, str, int]]:
    """Return up to ``limit`` live blobs after the id ``after``, as id, digest and size."""
    return list(connection.execute(_sql.PAGE_OF_LIVE, {"after": after, "limit": limit}))


def bytes_of_live(connection: Connection) -> int:
    """Return the bytes of all live blobs. Reads every row."""
    [row] = connection.execute(_sql.BYTES_OF_LIVE)
    return total(iter(row))


def publish(connection: Connection, rows: Iterable[tuple[str, int]]) -> None:
    """Make blobs live, given as digest and size. Their files must be published, and held in this transaction."""
    connection.execute(_sql.PUBLISH, {"rows": bound(rows)})


def name(connection: Connection, rows: Iterable[tuple[str, int]]) -> None:
    """Make a row for each digest that has none: content that is referred to but not here."""
    connection.execute(_sql.NAME, {"rows": bound(rows)})


def add_memberships(
    connection: Connection, repository_id: int, digests: Sequence[str], *, now: int, batch: int | None = None
) -> None:
    """Let the repository serve these live blobs. Where nothing there refers to one yet, its grace starts again.

    Those that it does not serve yet are seen by others once ``batch`` is revealed, if that is given.
    """
    parameters = {"repository_id": repository_id, "digests": bound(digests), "now": now, "batch": batch}
    connection.execute(_sql.ADD_MEMBERSHIPS, parameters)


def held(connection: Connection, repository: str, digest: str) -> HeldBlob | None:
    """Return the blob as the repository holds it, or None where it does not or the blob is not live."""
    row = connection.execute(_sql.MEMBERSHIP, {"repository": repository, "digest": digest}).first()
    return None if row is None else HeldBlob(*row)


def key(connection: Connection, repository_id: int, digest: str) -> int | None:
    """Return the key of a blob in the order of :func:`page`; None where the repository has none of that digest.

    One that no repository has any more, and no gc has taken yet, has its key still: a listing may be continued
    after it. What other repositories have is never revealed.
    """
    found: int | None = connection.execute(_sql.ID_OF, {"digest": digest, "repository_id": repository_id}).scalar()
    return found


def page(connection: Connection, repository_id: int, *, after: int, limit: int) -> list[tuple[int, str, int]]:
    """Return up to ``limit`` blobs of the repository after the key ``after``, as key, digest and size."""
    return list(connection.execute(_sql.PAGE, {"repository_id": repository_id, "after": after, "limit": limit}))


def touch(connection: Connection, repository_id: int, digest: str, *, now: int) -> None:
    """Start the grace of a membership again."""
    connection.execute(_sql.TOUCH, {"this_repository": repository_id, "digest": digest, "now": now})


def remove_membership(connection: Connection, repository_id: int, digest: str, *, now: int) -> bool:
    """Take the blob from the repository and queue it for gc. False where it was not there."""
    gone = connection.execute(_sql.REMOVE_MEMBERSHIP, {"this_repository": repository_id, "digest": digest}).scalars()
    if gone:
        leases.forget(connection, [(repository_id, blob_id) for blob_id in gone])
        connection.execute(_sql.QUEUE, {"this_digest": digest, "now": now})
    return bool(gone)


def referrers(
    connection: Connection, repository_id: int, digest: str, *, roles: Sequence[str], batch: int | None = None
) -> list[str]:
    """Return the manifests of the repository that refer to the digest in one of these roles, in byte order.

    Of more than a thousand, only so many. As who wrote ``batch`` sees it, if that is given.
    """
    parameters = {
        "repository_id": repository_id, "digest": digest, "roles": bound(roles), OWN: batch or NOBODY
    }  # fmt: skip
    return sorted(set(connection.execute(_sql.REFERRERS, parameters).scalars()))


def with_rows(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Return of these digests those whose bytes a row stands for, live or condemned."""
    return set(connection.execute(_sql.WITH_ROWS, {"digests": bound(digests)}).scalars())
