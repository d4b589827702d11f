"""What SQLite says, in errors of ocistore."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ocistore.errors import (
    CorruptError,
    OCIStoreError,
    ReadOnlyStoreError,
    StorageError,
    StoreBusyError,
    StoreFullError,
)

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

BUSY_TIMEOUT: Final = 30.0
"""Seconds a writer waits for other writers. Commits take milliseconds, a batch of gc no longer than a push, so
this is only reached when a writer is stopped (SIGSTOP, a debugger) or a disk hangs."""


_NOT_OUR_SCHEMA: Final = re.compile(
    r"no such (table|column|index)|duplicate column name|has no column named|has \d+ columns|already exists$"
    r"|because it is a view$"
)
"""What SQLite says of statements, each of which it can do in a schema as this version makes it."""


def translated(error: sqlite3.Error, *, database: Path, root: Path) -> OCIStoreError | None:
    """Return our error that says what SQLite said, or None where it is a mistake of ours (a constraint, bad SQL)."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusyError(f"the catalog {database}", waited=BUSY_TIMEOUT)
    if name.startswith("SQLITE_FULL") or name == "SQLITE_IOERR_SHMSIZE":  # that file grew by what the disk has not
        return StoreFullError(str(database))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptError(f"the catalog {database}", reason=str(error))
    if name.startswith("SQLITE_READONLY"):
        return ReadOnlyStoreError(root, reason=str(error))
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_PROTOCOL", "SQLITE_NOLFS")):
        return StorageError(str(database), errno=None, reason=f"{error} ({name})")
    # We have no triggers.
    if name == "SQLITE_CONSTRAINT_TRIGGER" or (name == "SQLITE_ERROR" and _NOT_OUR_SCHEMA.search(str(error))):
        reason = f"{error}, so its schema was changed by something else (see: ocistore db check, ocistore rebuild)"
        return CorruptError(f"the catalog {database}", reason=reason)
    return None
