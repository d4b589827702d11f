"""Bringing a catalog to the schema this version works with.

A new one gets it from the tables as they are declared, and written down (see ``written.py``), in a hundredth of the
time that all migrations take. An older one is led to it by the migrations; tests hold that both ways end in the same
schema.

Alembic is imported only when there is something to migrate. It keeps module-wide state and is not thread-safe, so a
lock of this process is held around it, inside the write lock of the store, which keeps other processes out.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ocistore.catalog import identity, space
from ocistore.catalog.connection import DIALECT, Connection
from ocistore.catalog.schema import APPLICATION_ID, SCHEMA_REVISION
from ocistore.catalog.written import Statements, schema
from ocistore.errors import CorruptError, SchemaTooNewError, StorageError, StoreBusyError, StoreNotFoundError
from ocistore.forks import ForkSafeLock
from ocistore.oci.jsonvalue import JSONValue
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alembic.config import Config
    from sqlalchemy import Connection as AlchemyConnection

    from ocistore.catalog.sqlite import SQLiteCatalog

_sql = Statements("migrate")

_alembic_lock = ForkSafeLock()


_JOURNAL: Final = slice(18, 20)
_WAL: Final = b"\2\2"
"""Where the file says that it has a WAL, which what is in memory has not (section 1.3.3 of SQLite's file format)."""

_ATTEMPTS: Final = 10
"""How often the revision is read where something in this process drops the locks of the catalog meanwhile."""


def revision(catalog: SQLiteCatalog) -> str | None:
    """Return the revision of the catalog's schema, or None for a database that is still empty.

    Raises:
        StoreNotFoundError: it is a database, but of another application.
        CorruptError: it is no database at all.
        StoreBusyError: this process may not use it.
    """
    left = _ATTEMPTS
    while True:
        try:
            with catalog.snapshot() as connection:
                return _revision(connection, root=catalog.root)
        except StoreBusyError as error:
            left -= 1
            if error.waited or not left:
                raise


def _revision(connection: Connection, *, root: Path) -> str | None:
    application = connection.command("PRAGMA application_id").scalar()
    if application == 0 and not connection.execute(_sql.SELECT_SCHEMA).first():
        return None
    if application != APPLICATION_ID:
        raise StoreNotFoundError(root, reason="its catalog.db belongs to another application")
    if connection.execute(_sql.SELECT_VERSIONED).first() is None:
        raise CorruptError("the catalog", reason="it has no table alembic_version")
    found = connection.execute(_sql.SELECT_VERSION).scalars()
    if len(found) != 1:
        raise CorruptError("the catalog", reason=f"it names {len(found)} revisions")
    return str(found[0])


def new_catalog(*, now: int) -> bytes:
    """Return the whole file of a new catalog; nothing, for :func:`upgrade` to fill, where this SQLite cannot tell.

    Args:
        now: milliseconds since the epoch, written as the time of creation.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as driver:
        serialize = getattr(driver, "serialize", None)  # which SQLite can be built without
        if serialize is None:
            return b""
        with contextlib.closing(Connection(driver, lambda error: error)) as connection:
            connection.command(f"PRAGMA auto_vacuum = {space.INCREMENTAL}")
            connection.command("BEGIN")
            _create(connection, now=now)
            connection.command("COMMIT")
            content = bytearray(serialize())
    content[_JOURNAL] = _WAL
    return bytes(content)


def upgrade(catalog: SQLiteCatalog, *, now: int, before_creation: Callable[[], None] = lambda: None) -> str | None:
    """Bring the schema to :data:`SCHEMA_REVISION`, in one transaction; all of it or, after a crash, nothing.

    Safe when any number of processes and threads do it at once: whoever comes second finds it done.

    Args:
        catalog: whose database exists, if only as an empty file.
        now: milliseconds since the epoch, written as the time of creation.
        before_creation: called where the database is empty, under the lock; what it raises prevents the creation.

    Returns:
        The revision it had before.

    Raises:
        SchemaTooNewError: a newer ocistore wrote it; nothing was changed.
        CorruptError: its revision is none of ours, or rows break a foreign key after the upgrade; nothing was changed.
        StorageError: the migrations, which are files of this package, could not be read.
    """
    with catalog.locked():
        # Looked at without a transaction that writes: where the kernel refused to end one, the next could not begin.
        before = revision(catalog)
        if before is None:
            with catalog.making() as connection:
                before_creation()
                _create(connection, now=now)
        if before is None or before == SCHEMA_REVISION:
            return before
        if before > SCHEMA_REVISION:
            raise SchemaTooNewError(catalog.root, found=before, known=SCHEMA_REVISION)
        return _upgrade(catalog, found=before)


def _upgrade(catalog: SQLiteCatalog, *, found: str) -> str:
    with _alembic_lock, catalog.migrating() as (connection, alchemy):
        _migrate(alchemy, found=found)
        broken = list(connection.command("PRAGMA foreign_key_check"))[:10]
        if broken:
            raise CorruptError("the catalog", reason=f"foreign keys do not hold after the upgrade: {broken}")
        return found


def _create(connection: Connection, *, now: int) -> None:
    for statement in schema(DIALECT):
        connection.command(statement)
    connection.execute(_sql.INSERT_VERSION, {"revision": SCHEMA_REVISION})
    connection.command(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(_sql.INSERT_STORE, {"now": now, "who": identity.fresh()})


def _migrate(connection: AlchemyConnection, *, found: str) -> None:
    from alembic import command  # noqa: PLC0415  (half a second that an up-to-date store never pays)
    from alembic.util import CommandError  # noqa: PLC0415

    try:
        command.upgrade(alembic_config(connection), SCHEMA_REVISION)
    except OSError as error:
        pass_on_theirs(error)
        raise StorageError(str(migrations_directory()), errno=error.errno, reason=str(error)) from error
    except CommandError as error:
        if f"'{SCHEMA_REVISION}'" in str(error):  # our own: Alembic passes over a directory that it cannot read
            raise StorageError(str(migrations_directory()), errno=None, reason=str(error)) from error
        raise CorruptError("the catalog", reason=f"no way leads from its revision {found}: {error}") from error


def alembic_config(connection: AlchemyConnection | None = None) -> Config:
    """Return Alembic's configuration: where the migrations are, and the connection they run on."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection} if connection is not None else {})
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def migrations_directory() -> Path:
    """Return it: inside the package in a wheel; at the top level in a checkout and an editable install."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


@dataclass(frozen=True)
class SchemaDifference(JSONValue):
    """One object of the database that is not as the tables declare it."""

    name: str
    kind: str
    """``missing``, ``unexpected`` or ``different``."""


def differences(connection: Connection) -> list[SchemaDifference]:
    """Return what of the schema is not, statement by statement, what :mod:`ocistore.catalog.tables` declares."""
    with contextlib.closing(sqlite3.connect(":memory:")) as declared:
        for statement in schema(DIALECT):
            declared.execute(statement)
        wanted = _statements(declared.execute(_sql.SELECT_SCHEMA.texts[DIALECT]))
    found = _statements(connection.execute(_sql.SELECT_SCHEMA))
    return [
        SchemaDifference(name, "missing" if name not in found else "unexpected" if name not in wanted else "different")
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]


def _statements(rows: Iterable[tuple[Any, ...]]) -> dict[str, str]:
    return {name: " ".join((sql or "").split()) for _, name, sql in rows}
