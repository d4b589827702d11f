"""Holds: reasons why gc may not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Collection

    from ocistore.catalog.connection import Connection

_sql = Statements("holds")


def place(connection: Connection, reason: str, *, now: int, expires: int | None = None) -> int:
    """Hold collections off, for ``reason``, until :func:`lift`, ``expires``, or a person confirms. Returns its id."""
    hold: int = connection.execute(_sql.PLACE, {"reason": reason, "since": now, "expires": expires}).scalar()
    return hold


def in_force(connection: Connection, *, now: int, without: Collection[int] = ()) -> list[str]:
    """Return why gc may not run now; empty where it may. Not by the holds ``without``."""
    return [reason for hold, reason in connection.execute(_sql.IN_FORCE, {"now": now}) if hold not in without]


def waiting(connection: Connection) -> bool:
    """Whether a hold waits for a person."""
    return connection.execute(_sql.WAITING).first() is not None


def temporary(connection: Connection) -> list[int]:
    """Return the holds that somebody keeps while at work, whether or not they have run out."""
    return connection.execute(_sql.TEMPORARY).scalars()


def renew(connection: Connection, hold: int, *, now: int, expires: int) -> bool:
    """Let a hold last until ``expires``. False where it was ended by somebody, or has run out."""
    return connection.execute(_sql.RENEW, {"hold": hold, "now": now, "until": expires}).rowcount == 1


def lift(connection: Connection, hold: int) -> None:
    """End a hold. Does nothing where it has ended."""
    connection.execute(_sql.LIFT, {"hold": hold})


def confirm(connection: Connection) -> list[str]:
    """End every hold that waits for a person. Returns their reasons."""
    return connection.execute(_sql.CONFIRM).scalars()


def forget_expired(connection: Connection, *, now: int) -> None:
    """Remove the rows of holds that have run out, left by whoever died holding them."""
    connection.execute(_sql.FORGET, {"now": now})


def clear_temporary(connection: Connection) -> None:
    """End every hold that would run out by itself: in a copy, nobody is left who needs it."""
    connection.execute(_sql.CLEAR_TEMPORARY)
