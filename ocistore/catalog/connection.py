"""A connection to the database that runs statements at the cost of the driver.

Statements are text, compiled beforehand (``written.py``), and executed on the driver. That leaves out what the catalog
has no use for, because its columns are TEXT and INTEGER only: result processing, execution events, and a transaction
begun for every SELECT. A lookup costs 5 µs more than bare sqlite3 and not 20, and a push runs a dozen statements.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ocistore.catalog.walindex import is_same_state, is_undisturbed
from ocistore.errors import OCIStoreError, StoreBusyError
from ocistore.forks import make_immortal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ocistore.catalog.written import Statement

_Read = TypeVar("_Read")

_ATTEMPTS: Final = 100
"""How often a read is made again; each time somebody must have dropped its locks, or committed and moved the WAL."""
_DISTURBED: Final = (
    "its locks were dropped during a read, by something in this process that opened and closed its files; try again"
)

DIALECT: Final = "sqlite"
_NONE: Final[dict[str, Any]] = {}


class DisturbedError(StoreBusyError):
    """The state that a snapshot read from was lost meanwhile; nothing was read. Another snapshot may be taken."""


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
        """Return the first row, or None."""
        return self._rows[0] if self._rows else None

    def scalar(self) -> Any:  # noqa: ANN401 - what a column holds is for the statement's module to say
        """Return the first column of the first row, or None where there is no row."""
        return self._rows[0][0] if self._rows else None

    def scalars(self) -> list[Any]:
        """Return the first column of every row."""
        return [row[0] for row in self._rows]


class Connection:
    """One connection of SQLite, with the errors of ocistore."""

    __slots__ = (
        "__weakref__", "_began", "_cursor", "_process", "_translated", "driver", "is_backup", "lost", "open", "watch",
        "writing",
    )  # fmt: skip

    def __init__(self, driver: sqlite3.Connection, translated: Callable[[sqlite3.Error], BaseException]) -> None:
        """Use an open connection; ``translated`` returns the error to raise for one of the driver's."""
        self.driver: sqlite3.Connection = driver
        # The only one, for close to end what it is in the middle of: with a statement that is not finished SQLite keeps
        # a closed connection open, and its transaction. An interrupt may leave one so, in a traceback.
        self._cursor = driver.cursor()
        self._translated = translated
        self._process = os.getpid()
        self.watch: Callable[[], bytes] | None = None
        """The shared memory as it is now, to tell that a read was undisturbed; None for writers,
        who have the write lock, and for what never changes."""
        self._began: bytes | None = None
        self.open = True
        """Whether it was not closed."""
        self.writing = False
        """Whether a write transaction was begun that has neither been committed nor rolled back here."""
        self.is_backup: bool | None = None
        """Whether the catalog was that of a backup when this write transaction began; None where nobody looked."""
        self.lost: BaseException | None = None
        """Why SQLite rolled the transaction back by itself, if it did. Nothing more can be written then."""

    def execute(self, statement: Statement, parameters: Mapping[str, Any] | list[dict[str, Any]] = _NONE) -> Result:
        """Run a statement; given a list of parameters, once for each.

        Raises:
            OCIStoreError: the database could not do it.
            sqlite3.Error: a mistake of ours, such as a broken constraint.
        """
        sql = statement.texts[DIALECT]
        try:
            if isinstance(parameters, list):
                return Result(self._cursor.executemany(sql, parameters))
            watch = self.watch
            if watch is None:
                return Result(self._cursor.execute(sql, parameters))
            before = self._began or watch()
            try:
                result = Result(self._cursor.execute(sql, parameters))
            except sqlite3.Error:  # what is torn may look damaged to SQLite
                if is_undisturbed(before, watch(), known=self._began is not None):
                    raise
            else:
                if is_undisturbed(before, watch(), known=self._began is not None):
                    return result
            return self.undisturbed(lambda: Result(self._cursor.execute(sql, parameters)))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def command(self, sql: str) -> Result:
        """Run what has no parameters and is not written down: BEGIN, PRAGMA."""
        try:
            if self.watch is not None:
                return self.undisturbed(lambda: Result(self._cursor.execute(sql)))
            return Result(self._cursor.execute(sql))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def begin_snapshot(self) -> None:
        """Let all statements until :meth:`end_snapshot` see one state."""
        self._plain("BEGIN")
        watch = self.watch
        if watch is None:
            return
        for _ in range(_ATTEMPTS):
            began = watch()
            try:
                self._plain("SELECT 1 FROM sqlite_schema LIMIT 1")  # only now SQLite chooses the state
            except (OCIStoreError, sqlite3.Error):  # what is torn may look damaged to SQLite
                if is_same_state(began, watch()):
                    raise
            else:
                self._began = began
                if is_same_state(began, watch()):
                    break
            if self.driver.in_transaction:
                self._plain("ROLLBACK")  # others commit
            self._plain("BEGIN")

    def end_snapshot(self) -> None:
        """Let the next statement see the state of its own time again."""
        self._plain("COMMIT")
        self._began = None

    def _plain(self, sql: str) -> None:
        try:
            self._cursor.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def undisturbed(self, read: Callable[[], _Read]) -> _Read:
        """Return what ``read`` does; call it again where its locks may have been dropped meanwhile (see ``walindex``).

        Raises:
            DisturbedError: it was disturbed in a snapshot, which cannot be taken again here, or over and over.
        """
        watch = self.watch
        if watch is None:
            return read()
        snapshot = self._began is not None
        for _ in range(1 if snapshot else _ATTEMPTS):
            before = self._began or watch()
            try:
                result = read()
            except sqlite3.Error:
                if is_undisturbed(before, watch(), known=snapshot):
                    raise
            else:
                if is_undisturbed(before, watch(), known=snapshot):
                    return result
        raise DisturbedError("the catalog", waited=0.0, reason=_DISTURBED)

    def _failed(self, error: sqlite3.Error) -> BaseException:
        if self.writing and not self.driver.in_transaction:
            # SQLite has rolled back by itself. What was executed after it would be committed statement by statement.
            self.writing = False
            self.lost = self._translated(error)
            self._cursor.execute("PRAGMA query_only = ON")
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
            make_immortal(self._cursor)
        else:
            with contextlib.suppress(self.driver.ProgrammingError):  # SQLAlchemy closed the driver
                self._cursor.close()
            self.driver.close()
        self.open = False

    def __del__(self) -> None:
        if getattr(self, "open", False):  # it may have been interrupted before it was anything
            self.close()
