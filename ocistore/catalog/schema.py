"""Which schema this version of ocistore works with. Apart from the tables, which nobody needs to open a store."""

from __future__ import annotations

from typing import Final

SCHEMA_REVISION: Final = "0011"
"""The newest revision under ``migrations/versions``; a test holds them equal. Revisions are numbered without gaps."""

APPLICATION_ID: Final = 0x0C15_704E
"""SQLite's ``application_id`` of a catalog, by which a database that is none of ours is recognised and left alone."""
