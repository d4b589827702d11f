"""What keeps a manifest in its repository, and what has to leave before it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from ocistore.catalog.parameters import bound
from ocistore.catalog.written import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.catalog.connection import Connection

_sql = Statements("reachability")

_REMEMBERED: Final = 2000
"""Alive manifests of a repository, and as many dead ones; about 100 bytes each."""
_CLIMBED: Final = 1000
"""How much above a manifest is noted of what was found of that, for who asks about many in one state."""


class Known:
    """What was found of the manifests of a repository, as long as one state is seen, so that nothing is climbed twice.

    In a chain of referrers each manifest stands below all before it; without this it would be climbed once for each:
    four thousand of them took minutes, and a batch kept a push waiting for two seconds. So what was found of one is
    noted of what is above it, too: those that were pushed last may be asked about first. Of what was found the newest
    is remembered, so that memory stays constant.
    """

    def __init__(self, *, climbed: int = _CLIMBED) -> None:
        """Note of ``climbed`` manifests above one what was found of that."""
        self.climbed = climbed
        self.waiting: set[int] = set()
        """Dead, and below something that has to leave before them."""
        self._alive: OrderedDict[int, None] = OrderedDict()
        self._dead: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._alive) + len(self._dead)

    def find(self, manifest_id: int) -> bool | None:
        """Whether it is alive, if that is remembered."""
        return True if manifest_id in self._alive else False if manifest_id in self._dead else None

    def note(self, manifest_id: int, *, alive: bool) -> bool:
        """Remember it. Returns ``alive``."""
        found = self._alive if alive else self._dead
        if len(found) >= _REMEMBERED:
            found.popitem(last=False)
        found[manifest_id] = None
        return alive


def alive(
    connection: Connection,
    repository_id: int,
    manifest_id: int,
    *,
    now: int,
    before: int,
    known: Known | None = None,
    leases_end: bool = False,
) -> bool:
    """Whether the repository keeps a manifest.

    A tag, a lease that has not run out by ``now``, or being untagged only since later than ``before`` keeps it; or one
    of these keeps, however far up, an index around it or its subject. With ``leases_end``, as it is once every lease
    that has run out was ended, which makes what it alone kept untagged since now.
    """
    known = Known() if known is None else known
    remembered = known.find(manifest_id)
    if remembered is not None:
        return remembered
    parameters: dict[str, object] = {"repository": repository_id, "manifest": manifest_id, "now": now, "before": before}
    directly = _directly(connection, repository_id, manifest_id)
    found = {above: known.find(above) for above in directly}
    if True in found.values():
        return known.note(manifest_id, alive=True)
    dead = [above for above, alive_ in found.items() if alive_ is False]
    statement = _sql.ALIVE_ONCE_LEASES_END if leases_end else _sql.ALIVE
    keeper = connection.execute(statement, {**parameters, "dead": bound(dead)}).scalar()
    if keeper is None:
        _note_dead(connection, repository_id, directly, known)
    elif keeper != manifest_id:
        _note_alive(connection, repository_id, directly, keeper, known)
    return known.note(manifest_id, alive=keeper is not None)


def _note_alive(connection: Connection, repository_id: int, directly: list[int], keeper: int, known: Known) -> None:
    """Note that what leads from a manifest to its keeper is alive, as far as nothing else can.

    Args:
        connection: of the same state.
        repository_id: of the manifest.
        directly: what is directly above it.
        keeper: what keeps it, and is not itself.
        known: what is noted.
    """
    for _ in range(known.climbed):
        possible = [above for above in directly if known.find(above) is not False]
        if len(possible) != 1 or known.find(possible[0]):
            return
        known.note(possible[0], alive=True)
        if possible[0] == keeper:
            return
        directly = _directly(connection, repository_id, possible[0])


def _note_dead(connection: Connection, repository_id: int, directly: list[int], known: Known) -> None:
    """Note that all that is above a dead manifest is dead, too: else it would keep it."""
    unknown = list(directly)
    for _ in range(known.climbed):
        if not unknown:
            return
        above = unknown.pop()
        if known.find(above) is None:
            known.note(above, alive=False)
            unknown += _directly(connection, repository_id, above)


def _directly(connection: Connection, repository_id: int, manifest_id: int) -> list[int]:
    """Return what is directly above a manifest: the indexes around it, and its subject."""
    return connection.execute(_sql.DIRECTLY_ABOVE, {"repository": repository_id, "manifest": manifest_id}).scalars()


def removable(connection: Connection, repository_id: int, manifest_id: int, *, known: Known | None = None) -> list[int]:
    """Return what has to leave a repository together with a dead manifest; nothing if others have to leave before it.

    An index never stays without its children, nor a subject without its referrers: somebody may tag it yet. So what is
    above a manifest leaves first, which queues the manifest again. Manifests that are above each
    other in a ring leave together.
    """
    known = Known() if known is None else known
    parameters = {"repository": repository_id, "manifest": manifest_id}
    directly = _directly(connection, repository_id, manifest_id)
    if not directly:
        return [manifest_id]
    if not known.waiting.isdisjoint(directly):
        known.waiting.add(manifest_id)
        return []
    above = list(connection.execute(_sql.ABOVE, parameters))
    if len(above) > 1 and not all(held for _, held in above):
        known.waiting.add(manifest_id)
        _wait_above(connection, repository_id, directly, known)
        return []
    return [key for key, _ in above]


def _wait_above(connection: Connection, repository_id: int, directly: list[int], known: Known) -> None:
    """Note of what alone is above something that waits that it waits, too, as far as something is above it."""
    for _ in range(known.climbed):
        if len(directly) != 1 or directly[0] in known.waiting:
            return
        higher = _directly(connection, repository_id, directly[0])
        if not higher:
            return
        known.waiting.add(directly[0])
        directly = higher


def queued_last(connection: Connection, repository_id: int, manifest_ids: Iterable[int]) -> int:
    """Return since when the last of these manifests has not been needed; 0 where none is queued."""
    parameters = {"repository": repository_id, "these": bound(manifest_ids)}
    found: int = connection.execute(_sql.QUEUED_LAST, parameters).scalar()
    return found


def queued_again(connection: Connection, repository_id: int, manifest_id: int) -> int:
    """Return since when a manifest that waits for others will be due: since the first of them, if it left the queue."""
    found = queued_last(connection, repository_id, [manifest_id])
    if not found:
        directly = _directly(connection, repository_id, manifest_id)
        found = connection.execute(_sql.QUEUED_FIRST, {"repository": repository_id, "these": bound(directly)}).scalar()
    return found
