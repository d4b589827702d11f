"""Which schema this version of ocistore works with. Apart from Alembic, which is imported only to change one."""

from __future__ import annotations

from typing import Final

SCHEMA_REVISION: Final = "0009"
"""The newest revision under ``migrations/versions``; a test holds them equal. Revisions are numbered without gaps."""

LAYOUT_VERSION: Final = 1
"""Of the tree on disk."""

APPLICATION_ID: Final = 0x0C15_704E
"""SQLite's ``application_id`` of a catalog, by which a database that is none of ours is recognised and left alone."""
