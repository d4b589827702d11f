"""The history as a whole: which events are old, and forgetting them. One tag's are in tags.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_sql = Statements("events")


class Old(NamedTuple):
    """An event that is old enough to be forgotten."""

    id: int
    forgettable: bool
    """It is not among the last ones of its tag, nor the newest of the store."""


def old(connection: Connection, *, before: int, keep_last: int, after: int, limit: int) -> list[Old]:
    """Return up to ``limit`` events after the id ``after`` that are older than ``before``, in their order."""
    parameters = {"before": before, "keep_last": keep_last, "after": after, "limit": limit}
    return [Old(key, bool(forgettable)) for key, forgettable in connection.execute(_sql.OLD, parameters)]


def forget(connection: Connection, ids: Iterable[int]) -> None:
    """Forget these events."""
    connection.execute(_sql.FORGET, {"ids": bound(ids)})


def count(connection: Connection) -> int:
    """Return how many events there are. Reads all of them."""
    found: int = connection.execute(_sql.COUNT).scalar()
    return found
