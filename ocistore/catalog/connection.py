"""A connection to the database that runs prebuilt Core statements at the cost of the driver.

Statements are built with SQLAlchemy Core and compiled once each; what is executed is the compiled text, on the driver.
That leaves out what the catalog has no use for, because its columns are TEXT and INTEGER only: result processing,
execution events, and a transaction begun for every SELECT. A lookup costs 5 µs more than bare sqlite3 and not 20, and a
push runs a dozen statements.
"""

from __future__ import annotations

import os
import sqlite3
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ocistore.forks import make_immortal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy.sql import Executable

_dialect = SQLiteDialect_pysqlite(paramstyle="named")
_NONE: Mapping[str, Any] = MappingProxyType({})
_compiled: dict[Executable, tuple[str, dict[str, Any]]] = {}


class Result:
    """What a statement gave: all its rows, as tuples. Nothing stays open that would hold on to a state of the store."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._rows: list[tuple[Any, ...]] = cursor.fetchall()
        self.rowcount = cursor.rowcount
        """How many rows were inserted, updated or deleted."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)

    def first(self) -> tuple[Any, ...] | None:
        """The first row, or None."""
        return self._rows[0] if self._rows else None

    def scalar(self) -> Any:  # noqa: ANN401 - what a column holds is for the statement's module to say
        """The first column of the first row, or None where there is no row."""
        return self._rows[0][0] if self._rows else None

    def scalars(self) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self._rows]


class Connection:
    """One connection of SQLite, with the errors of ocistore."""

    __slots__ = ("__weakref__", "_process", "_translated", "driver", "lost", "open", "writing")

    def __init__(self, driver: sqlite3.Connection, translated: Callable[[sqlite3.Error], BaseException]) -> None:
        """``translated`` gives the error to raise for one of the driver's."""
        self.driver: sqlite3.Connection = driver
        self._translated = translated
        self._process = os.getpid()
        self.open = True
        """Whether it was not closed."""
        self.writing = False
        """Whether a write transaction was begun that has neither been committed nor rolled back here."""
        self.lost: BaseException | None = None
        """Why SQLite rolled the transaction back by itself, if it did. Nothing more can be written then."""

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | list[dict[str, Any]] = _NONE) -> Result:
        """Run a statement that a module keeps; given a list of parameters, once for each.

        A statement must always be given the same names of parameters: it is compiled for the first ones.

        Raises:
            OCIStoreError: the database could not do it.
            sqlite3.Error: a mistake of ours, such as a broken constraint.
        """
        compiled = _compiled.get(statement)
        if compiled is None:
            compiled = _compiled[statement] = _compile(statement, parameters)
        sql, defaults = compiled
        try:
            if isinstance(parameters, list):
                each = [defaults | row for row in parameters] if defaults else parameters
                return Result(self.driver.executemany(sql, each))
            return Result(self.driver.execute(sql, {**defaults, **parameters}))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def command(self, sql: str) -> Result:
        """Run what has no parameters and is no statement of Core: BEGIN, PRAGMA."""
        try:
            return Result(self.driver.execute(sql))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> BaseException:
        if self.writing and not self.driver.in_transaction:
            # SQLite has rolled back by itself. What was executed after it would be committed statement by statement.
            self.writing = False
            self.lost = self._translated(error)
            self.driver.execute("PRAGMA query_only = ON")
            return self.lost
        return self._translated(error)

    def roll_back(self) -> None:
        """End the transaction; SQLite may have done so already, where the disk is full or fails."""
        if self.driver.in_transaction:
            self.command("ROLLBACK")

    def close(self) -> None:
        """Close it; what was not committed is rolled back. A child does nothing to what it inherited."""
        if self._process != os.getpid():
            make_immortal(self.driver)
        else:
            self.driver.close()
        self.open = False

    def __del__(self) -> None:
        if self.open:
            self.close()


def _compile(statement: Executable, parameters: Mapping[str, Any] | list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    names = parameters[0] if isinstance(parameters, list) else parameters
    compiled: Any = statement.compile(dialect=_dialect, column_keys=list(names))  # type: ignore[attr-defined]
    defaults = {name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required}
    return str(compiled), {name: value for name, value in defaults.items() if name not in names}
