"""What a store calls its manifests, all of it: for what has to outlive the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("refs")


MAXIMUM_ENTRY: Final = 4096
"""Characters of what is said of something besides; what is longer is left out, because a page of names is in memory."""


class Ref(NamedTuple):
    """A tag, or a manifest that has none, of one repository."""

    repository_id: int
    repository: str
    tag: str | None
    digest: str
    incomplete: bool = False
    """Something of the manifest was absent when it was put there, and that was accepted."""
    entry: str | None = None
    """What is said of it besides, as in the table of tags, up to :data:`MAXIMUM_ENTRY`."""


UNKNOWN: Final = -1
"""In the place of :func:`newest_event`."""


def newest_event(connection: Connection) -> int:
    """Return the id of the last change of a tag: where it is the same, so are all tags.

    :data:`UNKNOWN` while a large change is under way, because others happen after its own events and before it.
    """
    [(found, under_way)] = connection.execute(_sql.NEWEST_EVENT)
    return UNKNOWN if under_way else int(found)


def page_of_tags(connection: Connection, *, after: tuple[int, str], limit: int) -> list[Ref]:
    """Return up to ``limit`` tags of all repositories, after ``after``: (repository id, tag)."""
    return [
        Ref(row[0], row[1], row[2], row[3], incomplete=bool(row[4]), entry=row[5])
        for row in connection.execute(_sql.PAGE_OF_TAGS, {"repository": after[0], "after": after[1], "limit": limit})
    ]


def page_of_untagged(
    connection: Connection, *, after: tuple[int, int], limit: int
) -> tuple[list[Ref], tuple[int, int]]:
    """Return up to ``limit`` manifests without a tag, after ``after``, and where the next page begins."""
    rows = list(connection.execute(_sql.PAGE_OF_UNTAGGED, {"repository": after[0], "after": after[1], "limit": limit}))
    place = (rows[-1][0], rows[-1][2]) if rows else after
    return [Ref(row[0], row[1], None, row[3], incomplete=bool(row[4]), entry=row[5]) for row in rows], place
