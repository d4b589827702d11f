"""Whether the database is whole: what SQLite finds wrong, and where rows contradict each other or the documents.

Most of it reads all rows: seconds for millions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, bindparam, func, literal, literal_column, or_, select, true, update

from ocistore.catalog import tables
from ocistore.catalog.expressions import present
from ocistore.catalog.staged import is_seen, target
from ocistore.errors import CorruptError, StorageError
from ocistore.oci.mediatypes import NONDISTRIBUTABLE

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from ocistore.catalog.connection import Connection


_UNREAD: Final = re.compile(r"unable to get the page\. error code=(\d+)|failed to get page")
"""What SQLite says of a page that it could not read, with the number of its error (src/btree.c)."""
_CANNOT_READ: Final = frozenset({7, 10})
"""SQLITE_NOMEM and SQLITE_IOERR, the lowest eight bits of such a number (sqlite.org/rescode.html)."""


_t = tables.blobs
_edges = tables.edges
_own_edges = tables.repository_edges
_manifests = tables.manifests
_repositories = tables.repositories
_tags = tables.tags
_blob_members = tables.repository_blobs
_manifest_members = tables.repository_manifests
_child_members = _manifest_members.alias("child")

_subject = _t.alias("subject")
_described = (
    select(
        _manifests.c.media_type,
        _manifests.c.artifact_type,
        _manifests.c.config_media_type,
        _manifests.c.annotations,
        _manifests.c.platform,
        _subject.c.digest,
    )
    .join_from(_manifests, _subject, _subject.c.id == _manifests.c.subject_id, isouter=True)
    .where(_manifests.c.blob_id == bindparam("blob"))
)
_correct = (
    update(_manifests)
    .where(_manifests.c.blob_id == bindparam("blob"))
    .values(
        media_type=bindparam("said_media_type"),
        artifact_type=bindparam("said_artifact_type"),
        config_media_type=bindparam("said_config_media_type"),
        annotations=bindparam("said_annotations"),
        platform=bindparam("said_platform"),
    )
)
_children = (
    select(_edges.c.role, _t.c.digest, _edges.c.size, _edges.c.media_type)
    .join_from(_edges, _t, _t.c.id == _edges.c.child_id)
    .where(_edges.c.parent_id == bindparam("blob"))
    .order_by(_edges.c.position)
)
# Each repository's own edges and those of its manifests, either of which may have too many.
_wanted_edges = select(
    _manifest_members.c.repository_id, _edges.c.child_id, _edges.c.parent_id, _edges.c.role
).join_from(_manifest_members, _edges, _edges.c.parent_id == _manifest_members.c.manifest_id)
_found_edges = select(_own_edges.c.repository_id, _own_edges.c.child_id, _own_edges.c.parent_id, _own_edges.c.role)
_missing_edges = select(func.count()).select_from(_wanted_edges.except_(_found_edges).subquery())
_excess_edges = select(func.count()).select_from(_found_edges.except_(_wanted_edges).subquery())
_served_without_bytes = select(
    select(func.count())
    .select_from(_blob_members)
    .join(_t, _t.c.id == _blob_members.c.blob_id)
    .where(_t.c.state != literal("live"))
    .scalar_subquery()
    + select(func.count())
    .select_from(_manifest_members)
    .join(_t, _t.c.id == _manifest_members.c.manifest_id)
    .where(_t.c.state != literal("live"))
    .scalar_subquery()
).where(true())


# What a repository may lack: whatever an incomplete manifest refers to, subjects, and foreign layers.
_lacking = select(func.count()).select_from(_manifest_members).join(
    _repositories, _repositories.c.id == _manifest_members.c.repository_id
).join(
    _edges, _edges.c.parent_id == _manifest_members.c.manifest_id
).where(
    _repositories.c.name.is_not(None),  # those that were deleted are emptied step by step
    is_seen(_manifest_members),  # what was removed by a large change goes likewise
    _manifest_members.c.incomplete.is_(None),
    or_(
        and_(
            _edges.c.role == literal("manifest"),
            ~present(
                _child_members.c.repository_id == _manifest_members.c.repository_id,
                _child_members.c.manifest_id == _edges.c.child_id,
                is_seen(_child_members),
            ),
        ),
        and_(
            _edges.c.role.in_([literal("config"), literal("layer")]),
            _edges.c.media_type.not_in([literal(media_type) for media_type in sorted(NONDISTRIBUTABLE)]),
            ~present(
                _blob_members.c.repository_id == _manifest_members.c.repository_id,
                _blob_members.c.blob_id == _edges.c.child_id,
                is_seen(_blob_members),
            ),
        ),
    ),
)
_NAMING: Final = (_repositories, _t, _manifest_members, _tags)
"""What says which manifest is called what, in which repository."""
_one: ColumnElement[int] = literal_column("1")
_dangling = (
    select(_one)
    .where(
        or_(
            ~present(_repositories.c.id == _tags.c.repository_id),
            ~present(_t.c.id == target(_tags)),
        )
    )
    .limit(_one),
    select(_one)
    .where(
        or_(
            ~present(_repositories.c.id == _manifest_members.c.repository_id),
            ~present(_t.c.id == _manifest_members.c.manifest_id),
        )
    )
    .limit(_one),
)


def problems(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong, in its own words, or else the rows that break a foreign key.

    Where something is wrong it is asked again: SQLite calls a read that failed damage, too (SQLITE_IOERR_CORRUPTFS).

    Raises:
        StorageError: some of it cannot be read now, which does not mean that it is damaged.
    """
    found = _problems(connection) and _problems(connection)
    for problem in found:
        for unread in _UNREAD.finditer(problem):
            if unread[1] is None or int(unread[1]) & 0xFF in _CANNOT_READ:
                raise StorageError("the catalog", errno=None, reason=f"a part of it cannot be read: {problem}")
    return found


def _problems(connection: Connection) -> list[str]:
    try:
        found = [str(text) for text in connection.command("PRAGMA integrity_check").scalars() if text != "ok"]
        rows = [] if found else list(connection.command("PRAGMA foreign_key_check"))
    except CorruptError as error:  # damage so bad that the check itself stumbles over it
        return [str(error)]
    return found + [f"row {row} of {table} refers to a row of {parent} that is gone" for table, row, parent, _ in rows]


def has_all_columns(connection: Connection) -> bool:
    """Whether every table and column is there that this version knows, whatever else there is."""
    try:
        for table in tables.metadata.sorted_tables:
            connection.execute(select(table).limit(literal_column("0")))
    except CorruptError:
        return False
    return True


def refs_are_whole(connection: Connection) -> bool:
    """Whether nothing is wrong with the tables that have the names, whatever is wrong with others. Reads all of them.

    Raises:
        StorageError: they could not be read now.
    """
    try:
        found = [connection.command(f"PRAGMA integrity_check({table.name})").scalars() for table in _NAMING]
        return all(each == ["ok"] for each in found) and not any(
            connection.execute(statement).first() for statement in _dangling
        )
    except CorruptError:
        return False


class Said(NamedTuple):
    """What a manifest says of itself, as its row has it: nothing that decides what is kept."""

    media_type: str
    artifact_type: str | None
    config_media_type: str | None
    annotations: str | None
    platform: str | None
    """JSON, like the annotations."""


class Described(NamedTuple):
    """What the rows say of a manifest."""

    said: Said
    subject: str | None
    edges: list[tuple[str, str, int, str]]
    """Role, digest, size and media type, in the order of the document."""


def described(connection: Connection, blob_id: int) -> Described | None:
    """Return what the rows say of a blob as a manifest; None where it is none."""
    row = connection.execute(_described, {"blob": blob_id}).first()
    if row is None:
        return None
    edges = [(role, digest, size, media_type) for role, digest, size, media_type in
             connection.execute(_children, {"blob": blob_id})]  # fmt: skip
    return Described(Said(*row[:5]), row[5], edges)


def correct(connection: Connection, blob_id: int, said: Said) -> None:
    """Note what a manifest says of itself. What it refers to stays as it is noted."""
    connection.execute(_correct, {"blob": blob_id, **{f"said_{key}": value for key, value in said._asdict().items()}})


def inconsistencies(connection: Connection) -> list[str]:
    """Return what rows contradict each other. Reads all of them."""
    found = []
    for statement, words in (
        (_missing_edges, "edges of manifests are missing from their repositories"),
        (_excess_edges, "edges of repositories belong to none of their manifests"),
        (_served_without_bytes, "blobs are served by repositories and not live"),
        (_lacking, "parts of manifests are not served by their repositories"),
    ):
        count = connection.execute(statement).scalar()
        if count:
            found.append(f"{count} {words}")
    return found
