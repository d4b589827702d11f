"""What a scrub found, and how fast and how long it may look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ocistore.oci.jsonvalue import JSONValue

Level: TypeAlias = Literal["quick", "default", "deep"]
"""How closely a scrub looks: at sizes; at all bytes; or also at what the catalog says of manifests."""

LISTED: Final = 1000
"""How many items each list of a report names at most."""


@dataclass(frozen=True)
class Damage(JSONValue):
    """Something that is not as it should be."""

    digest: str
    problem: str
    repaired: bool
    quarantined: str | None = None
    """The name in ``quarantine/`` of what was there."""
    repositories: tuple[str, ...] = ()
    """The repositories that serve it: the first hundred."""
    tags: tuple[str, ...] = ()
    """The tags that lead to it, as REPO:TAG: the first hundred."""


@dataclass
class ScrubReport(JSONValue):
    """What a scrub looked at and found."""

    level: Level
    complete: bool = True
    """Whether it came to the end, and was not cut short."""
    blobs: int = 0
    bytes: int = 0
    damaged: int = 0
    repaired: int = 0
    damages: list[Damage] = field(default_factory=list)
    """The first thousand."""
    unreadable: int = 0
    """Files that could not be read now, which says nothing about their bytes: they are left where they are."""
    unread: list[Damage] = field(default_factory=list)
    """The first thousand of these."""
    rows: list[str] = field(default_factory=list)
    """What is wrong with the catalog itself; collections are held off then. A rebuild makes it right."""
    corrected: list[str] = field(default_factory=list)
    """What the catalog said of manifests that is not what their bytes say, and was put right."""
    orphans: int = 0
    """Good files without a row that were left where they are, because nothing was to be repaired."""
    trashed: int = 0
    """Files without a row that were removed."""
    adopted: int = 0
    """Files without a row that a repository was given."""
    unusable: list[str] = field(default_factory=list)
    """Archives to heal from that turned out to be damaged when something was needed from them, and how."""

    @property
    def exit_code(self) -> int:
        """Return 0 where all is well, 1 where everything that was not is repaired, 2 where damage is left.

        3 where none is left that is known, but something could not be read.
        """
        if self.rows or self.damaged > self.repaired:
            return 2
        if self.unreadable:
            return 3
        return 1 if self.damaged or self.corrected else 0
