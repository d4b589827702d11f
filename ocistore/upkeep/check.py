"""Checking that the catalog is as it should be, and that the directories beside it exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocistore.catalog.check import problems
from ocistore.catalog.migrate import SchemaDifference, differences
from ocistore.oci.jsonvalue import JSONValue
from ocistore.opening import lost_directories

if TYPE_CHECKING:
    from ocistore.core import Core


@dataclass(frozen=True)
class CheckReport(JSONValue):
    """What is wrong with a catalog; everything is empty where nothing is."""

    differences: tuple[SchemaDifference, ...]
    """Statements of the schema that are missing, or other than they should be."""
    problems: tuple[str, ...]
    """Damaged pages and broken foreign keys, in SQLite's words."""
    missing: tuple[str, ...]
    """Directories that are not there; opening the store for writing makes them again."""

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.differences or self.problems or self.missing)


def check(core: Core) -> CheckReport:
    """Compare the catalog with what it should be; see :meth:`ocistore.Store.check`."""
    # Not in one transaction: where pages are damaged, its end would raise what is to be reported.
    with core.catalog.read() as connection:
        different = differences(connection)
    with core.catalog.read() as connection:
        damage = problems(connection)
    missing = tuple(path.name for path in lost_directories(core.paths)) if core.pool.local is not None else ()
    return CheckReport(tuple(different), tuple(damage), missing)
