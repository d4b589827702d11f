"""Tags with what they point at, in the order that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from ocistore.arguments import check_choice
from ocistore.catalog import graph, tags
from ocistore.catalog.contract import in_snapshot
from ocistore.clock import instant
from ocistore.oci.digest import Digest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.paging import check_text, pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.catalog.connection import Connection
    from ocistore.core import Core

TagOrder: TypeAlias = Literal["name", "updated"]
"""In which order tags are listed: by name, in byte order, or by when they were last moved."""

_BEYOND: Final = "\x7f"
"""After every tag, in byte order."""


@dataclass(frozen=True)
class TagInfo(JSONValue):
    """A tag, with what it points at."""

    name: str
    digest: Digest
    media_type: str
    size: int
    """Bytes of the manifest or index itself."""
    updated: datetime
    """When it was last made or moved to something else."""
    actor: str | None
    """Who did that; None where the history was pruned since, or lost with a catalog."""
    total_size: int | None = None
    """Bytes of all that it stands for here: manifests, configs and layers of all platforms, each content once and as it
    is stored, without referrers. None where that was not asked for."""


def tag_infos(
    core: Core,
    repository_id: int,
    repository: str,
    *,
    sort: TagOrder,
    newest_first: bool,
    prefix: str,
    after: TagInfo | str | None,
    limit: int | None,
    total_size: bool,
) -> Iterator[TagInfo]:
    """See :meth:`ocistore.Repository.list_tags`."""
    check_choice(sort, "sort", get_args(TagOrder))
    check_text(prefix, kind="prefix")
    order: tags.Order = "name" if sort == "name" else "newest" if newest_first else "oldest"
    start = (2**63 - 1, _BEYOND) if order == "newest" else (-(2**63), "")
    if isinstance(after, TagInfo):
        start = (round(after.updated.timestamp() * 1000), after.name)
    elif after and sort != "name":
        raise ValueError("in the order of time, after must be a TagInfo: a name does not say when")
    elif after:
        start = (0, check_text(after, kind="tag"))

    def page(last: tuple[int, str], count: int) -> list[tuple[tuple[int, str], TagInfo]]:
        def found(connection: Connection) -> list[tuple[tuple[int, str], TagInfo]]:
            rows = tags.listing(connection, repository_id, repository, order, prefix=prefix, after=last, limit=count)
            sizes = _total_sizes(connection, repository_id, rows) if total_size else {}
            return [((row.updated, row.name), _info(row, sizes)) for row in rows]

        if total_size:
            return in_snapshot(core.catalog, found)
        with core.catalog.read() as connection:
            return found(connection)

    return pages(page, start, limit)


def _total_sizes(connection: Connection, repository_id: int, rows: list[tags.Listed]) -> dict[str, int]:
    return {
        digest: sum(node.size for node in graph.walk(connection, repository_id, [digest], referrers=False) if node.here)
        for digest in {row.digest for row in rows}
    }


def _info(row: tags.Listed, sizes: dict[str, int]) -> TagInfo:
    digest = Digest.parse(row.digest)
    updated = instant(row.updated)
    return TagInfo(row.name, digest, row.media_type, row.size, updated, row.actor, sizes.get(row.digest))
