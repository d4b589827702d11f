"""Closed stores as earlier versions left them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from sqlalchemy import create_engine, event

from ocistore.catalog.migrate import alembic_config

if TYPE_CHECKING:
    from pathlib import Path


def to_revision(root: Path, revision: str) -> None:
    """Take the schema of a closed store back to that revision."""
    engine = create_engine(f"sqlite:///{root}/catalog.db", connect_args={"isolation_level": None})
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), revision)
    engine.dispose()
