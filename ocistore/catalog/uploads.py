"""Reading and changing upload sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_sql = Statements("uploads")


class Session(NamedTuple):
    """An open upload session."""

    id: str
    algorithm: str
    offset: int
    started: int
    touched: int
    expires: int
    page_cache: str | None
    """Which page cache the bytes after ``offset`` were written to; see :mod:`ocistore.blobs.pagecache`."""


def start(connection: Connection, repository_id: int, session: Session) -> None:
    """Store a new session."""
    connection.execute(_sql.INSERT, {"repository_id": repository_id, **session._asdict()})


def find(connection: Connection, repository: str, upload: str) -> Session | None:
    """Return the session, if it is one of this repository."""
    row = connection.execute(_sql.FIND, {"repository": repository, "upload": upload}).first()
    return None if row is None else Session(*row)


def page(connection: Connection, repository_id: int, *, after: str, limit: int) -> list[Session]:
    """Return up to ``limit`` sessions after the id ``after``."""
    parameters = {"in_repository": repository_id, "after": after, "limit": limit}
    return [Session(*row) for row in connection.execute(_sql.PAGE, parameters)]


def touch(connection: Connection, upload: str, *, offset: int, now: int, page_cache: str) -> bool:
    """Note how many bytes are durable and where more are written, and start the time to its expiry again.

    That is as long as it was before: the session's own.

    False where the session has ended.
    """
    parameters = {"upload": upload, "now_at": offset, "now": now, "written_to": page_cache}
    return connection.execute(_sql.TOUCH, parameters).rowcount == 1


def remove(connection: Connection, upload: str) -> bool:
    """End the session. False where it had ended already."""
    return connection.execute(_sql.DELETE, {"upload": upload}).rowcount == 1


def expired(connection: Connection, *, now: int, after: tuple[int, str], limit: int) -> list[tuple[int, str, str]]:
    """Return up to ``limit`` sessions after ``after`` that have run out: (expires, id, algorithm)."""
    parameters = {"now": now, "after": after[0], "after_id": after[1], "limit": limit}
    return list(connection.execute(_sql.EXPIRED, parameters))


def remove_expired(connection: Connection, upload: str, *, now: int) -> bool:
    """End a session if it is expired. False where it has ended, or was touched meanwhile."""
    return connection.execute(_sql.REMOVE_EXPIRED, {"upload": upload, "now": now}).rowcount == 1


def known(connection: Connection, names: Iterable[str]) -> set[str]:
    """Return of these names those that are ids of sessions."""
    return set(connection.execute(_sql.KNOWN, {"names": bound(names)}).scalars())


def clear(connection: Connection) -> None:
    """End all sessions: in a copy, their bytes are not there."""
    connection.execute(_sql.CLEAR)
