"""How much SQLite works: steps of its virtual machine, which are the same on a busy machine and an idle one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ocistore.catalog.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAIN = 10
"""Steps that are counted at once; a statement that takes fewer counts as none."""


@dataclass
class Steps:
    """What was counted."""

    steps: int = 0
    statements: int = 0


@contextlib.contextmanager
def counted_steps() -> Iterator[Steps]:
    """Count what the statements of all stores take inside the block."""
    counted = Steps()
    execute = Connection.execute

    def more() -> int:
        counted.steps += GRAIN
        return 0

    def counting(connection, statement, *parameters):
        counted.statements += 1
        connection.driver.set_progress_handler(more, GRAIN)
        try:
            return execute(connection, statement, *parameters)
        finally:
            connection.driver.set_progress_handler(None, GRAIN)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Connection, "execute", counting)
        yield counted
