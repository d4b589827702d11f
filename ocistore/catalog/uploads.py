"""Statements about upload sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, tuple_, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import array, bound, in_order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_t = tables.uploads
_repositories = tables.repositories


class Session(NamedTuple):
    """An open upload session."""

    id: str
    algorithm: str
    offset: int
    started: int
    touched: int
    expires: int
    page_cache: str | None
    """Which page cache the bytes behind ``offset`` were written to; see :mod:`ocistore.blobs.pagecache`."""


_columns = (_t.c.id, _t.c.algorithm, _t.c.offset, _t.c.started, _t.c.touched, _t.c.expires, _t.c.page_cache)
_insert = insert(_t)
_find = (
    select(*_columns)
    .select_from(in_order(_t, (_repositories, _repositories.c.id == _t.c.repository_id)))
    .where(_repositories.c.name == bindparam("repository"), _t.c.id == bindparam("upload"))
)
_page = (
    select(*_columns)
    .where(_t.c.repository_id == bindparam("in_repository"), _t.c.id > bindparam("after"))
    .order_by(_t.c.id)
    .limit(bindparam("limit"))
)
_touch = (
    update(_t)
    .where(_t.c.id == bindparam("upload"))
    .values(
        offset=bindparam("now_at"),
        touched=bindparam("now"),
        expires=bindparam("until"),
        page_cache=bindparam("written_to"),
    )
)
_expired = (
    select(_t.c.expires, _t.c.id, _t.c.algorithm)
    .where(
        _t.c.expires <= bindparam("now"),
        tuple_(_t.c.expires, _t.c.id) > tuple_(bindparam("after"), bindparam("after_id")),
    )
    .order_by(_t.c.expires, _t.c.id)
    .limit(bindparam("limit"))
)
_remove_expired = delete(_t).where(_t.c.id == bindparam("upload"), _t.c.expires <= bindparam("now"))
_clear = delete(_t)
_names = array("names")
_known = select(_t.c.id).where(_t.c.id.in_(select(_names.c.value)))
_delete = delete(_t).where(_t.c.id == bindparam("upload"))


def start(connection: Connection, repository_id: int, session: Session) -> None:
    """Store a new session."""
    connection.execute(_insert, {"repository_id": repository_id, **session._asdict()})


def find(connection: Connection, repository: str, upload: str) -> Session | None:
    """Return the session, if it is one of this repository."""
    row = connection.execute(_find, {"repository": repository, "upload": upload}).first()
    return None if row is None else Session(*row)


def page(connection: Connection, repository_id: int, *, after: str, limit: int) -> list[Session]:
    """Return up to ``limit`` sessions behind the id ``after``."""
    parameters = {"in_repository": repository_id, "after": after, "limit": limit}
    return [Session(*row) for row in connection.execute(_page, parameters)]


def touch(connection: Connection, upload: str, *, offset: int, now: int, expires: int, page_cache: str) -> bool:
    """Note how many bytes are durable and where more are written, and start the time to its expiry again.

    False where the session has ended.
    """
    parameters = {"upload": upload, "now_at": offset, "now": now, "until": expires, "written_to": page_cache}
    return connection.execute(_touch, parameters).rowcount == 1


def remove(connection: Connection, upload: str) -> bool:
    """End the session. False where it had ended already."""
    return connection.execute(_delete, {"upload": upload}).rowcount == 1


def expired(connection: Connection, *, now: int, after: tuple[int, str], limit: int) -> list[tuple[int, str, str]]:
    """Return up to ``limit`` sessions after ``after`` that have run out: (expires, id, algorithm)."""
    parameters = {"now": now, "after": after[0], "after_id": after[1], "limit": limit}
    return list(connection.execute(_expired, parameters))


def remove_expired(connection: Connection, upload: str, *, now: int) -> bool:
    """End a session if it is expired. False where it has ended, or was touched meanwhile."""
    return connection.execute(_remove_expired, {"upload": upload, "now": now}).rowcount == 1


def known(connection: Connection, names: Iterable[str]) -> set[str]:
    """Return of these names those that are ids of sessions."""
    return set(connection.execute(_known, {"names": bound(names)}).scalars())


def clear(connection: Connection) -> None:
    """End all sessions: in a copy, their bytes are not there."""
    connection.execute(_clear)
