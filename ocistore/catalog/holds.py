"""Statements about holds: reasons why gc may not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, literal_column, or_, select, update

from ocistore.catalog import tables

if TYPE_CHECKING:
    from collections.abc import Collection

    from ocistore.catalog.connection import Connection

_t = tables.collection_holds

_place = insert(_t).returning(_t.c.id)
_in_force = (
    select(_t.c.id, _t.c.reason).where(or_(_t.c.expires.is_(None), _t.c.expires > bindparam("now"))).order_by(_t.c.id)
)
_waiting = select(_t.c.reason).where(_t.c.expires.is_(None)).limit(literal_column("1"))
_temporary = select(_t.c.id).where(_t.c.expires.is_not(None)).order_by(_t.c.id)
_renew = (
    update(_t)
    .where(_t.c.id == bindparam("hold"), _t.c.expires > bindparam("now"))
    .values(expires=bindparam("until"))
)
_lift = delete(_t).where(_t.c.id == bindparam("hold"))
_confirm = delete(_t).where(_t.c.expires.is_(None)).returning(_t.c.reason)
_clear_temporary = delete(_t).where(_t.c.expires.is_not(None))
_forget = delete(_t).where(_t.c.expires <= bindparam("now"))


def place(connection: Connection, reason: str, *, now: int, expires: int | None = None) -> int:
    """Hold collections off, for ``reason``, until :func:`lift`, ``expires``, or a person confirms. Returns its id."""
    hold: int = connection.execute(_place, {"reason": reason, "since": now, "expires": expires}).scalar()
    return hold


def in_force(connection: Connection, *, now: int, without: Collection[int] = ()) -> list[str]:
    """Return why gc may not run now; empty where it may. Not by the holds ``without``."""
    return [reason for hold, reason in connection.execute(_in_force, {"now": now}) if hold not in without]


def waiting(connection: Connection) -> bool:
    """Whether a hold waits for a person."""
    return connection.execute(_waiting).first() is not None


def temporary(connection: Connection) -> list[int]:
    """Return the holds that somebody keeps while at work, whether or not they have run out."""
    return connection.execute(_temporary).scalars()


def renew(connection: Connection, hold: int, *, now: int, expires: int) -> bool:
    """Let a hold last until ``expires``. False where it was ended by somebody, or has run out."""
    return connection.execute(_renew, {"hold": hold, "now": now, "until": expires}).rowcount == 1


def lift(connection: Connection, hold: int) -> None:
    """End a hold. Does nothing where it has ended."""
    connection.execute(_lift, {"hold": hold})


def confirm(connection: Connection) -> list[str]:
    """End every hold that waits for a person. Returns their reasons."""
    return connection.execute(_confirm).scalars()


def forget_expired(connection: Connection, *, now: int) -> None:
    """Remove the rows of holds that have run out, left by whoever died holding them."""
    connection.execute(_forget, {"now": now})


def clear_temporary(connection: Connection) -> None:
    """End every hold that would run out by itself: in a copy, nobody is left who needs it."""
    connection.execute(_clear_temporary)
