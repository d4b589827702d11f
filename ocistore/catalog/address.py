"""How a connection to a database file is opened: its path, its settings, and the errors that say where it is."""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ocistore.catalog.connection import Connection
from ocistore.catalog.sqliteerrors import BUSY_TIMEOUT, translated
from ocistore.errors import CorruptError, StorageError
from ocistore.refusals import is_refusal

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST_WAL: Final = 8 * 1024**2
"""Bytes of which the WAL is not larger any more after it was moved into the database: twice those after which it is, so
that nothing is cut off and allocated again but after a transaction larger than any push."""

_ATTEMPTS: Final = 5
"""How often a file is opened that looks damaged, in case only its locks were dropped at that moment."""


class Address:
    """How a catalog reaches its database: the path that it was opened by, and what its errors say."""

    __slots__ = ("immutable", "path", "read_only", "root", "text")

    def __init__(self, path: Path, *, root: Path, read_only: bool, immutable: bool) -> None:
        self.path = path
        self.text = os.fspath(path)
        self.root = root
        self.read_only = read_only
        self.immutable = immutable

    def translated(self, error: sqlite3.Error) -> BaseException:
        """Return the error to raise for one of the driver's."""
        return translated(error, database=self.path, root=self.root) or error

    def failed(self, error: OSError) -> Exception:
        """Return the error to raise for one of the operating system's; the same, where it is somebody else's."""
        if not is_refusal(error):
            return error
        return StorageError(str(self.path), errno=error.errno, reason=error.strerror or str(error))

    def connect(self) -> Connection:
        """Return a new connection.

        Raises:
            OCIStoreError: the file cannot be opened.
        """
        left = _ATTEMPTS
        while True:
            try:
                return Connection(self._driver(), self.translated)
            except sqlite3.Error as error:
                raised = self.translated(error)
                left -= 1
                if not left or not isinstance(raised, CorruptError):
                    raise raised from error

    def _driver(self) -> sqlite3.Connection:
        mode = "immutable=1&mode=ro" if self.immutable else "mode=ro" if self.read_only else "mode=rw"
        options: dict[str, Any] = {}
        if sys.version_info >= (3, 12):
            options["autocommit"] = sqlite3.LEGACY_TRANSACTION_CONTROL
        connection: sqlite3.Connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self.path))}?{mode}",
            uri=True,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            **options,
        )
        try:
            for pragma in (
                "foreign_keys = ON",
                "trusted_schema = OFF",
                "synchronous = FULL",
                "temp_store = MEMORY",
                f"journal_size_limit = {_LARGEST_WAL}",
                "query_only = ON" if self.read_only else "query_only = OFF",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection
