"""The epoch: how a store notices that another catalog was put in the place of its own.

An older copy knows nothing of what was pushed after it was made, so gc would take that for garbage. Every
write transaction that changes something increments a number in the catalog, and notes that number after its commit,
with the identity of the catalog, in the file of the write lock, which is no part of a copy of the catalog. So the note
is never ahead of its own catalog, whatever crashes: a note that is ahead has seen a later catalog than this one, and a
note of another identity has seen another one. Every write transaction compares the two before it does anything.

What is not noticed: a copy that lacks nothing but the last commit of a process that was killed before it noted it, and,
after a power cut, one that lacks only what was committed in the seconds before the cut, because notes are not synced.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from ocistore import logs
from ocistore.catalog import holds
from ocistore.catalog.written import Statements
from ocistore.clock import milliseconds
from ocistore.errors import CorruptError
from ocistore.filedescriptors import owned
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from ocistore.catalog.connection import Connection

_sql = Statements("epoch")

_NUMBER: Final = 20
"""Characters of the number in a note: the digits of any 64-bit integer, so that a longer one is never cut off."""

_LENGTH: Final = _NUMBER + 1 + 32
"""Characters of a note: the number, a space, and the identity."""

OLDER_CATALOG: Final = "an older copy of the catalog was restored: content pushed since would be collected as garbage"

OTHER_CATALOG: Final = (
    "the catalog was replaced by that of another store or of a backup: content that only the earlier one knew would be"
    " collected as garbage"
)


class Mark(NamedTuple):
    """How far which catalog has come."""

    epoch: int
    identity: str
    """Empty in a note that was written before notes had one."""


def compare(connection: Connection, lock: int, *, root: str) -> Mark:
    """Compare the catalog with the note, in a write transaction that holds the lock whose file is open as ``lock``.

    Where the file has seen a later catalog than this one, or another, a hold is placed in the same transaction: no
    collection may run until a person confirms. The message about it names the store by ``root``.

    Returns:
        How far the catalog has come before this transaction. Every change of it goes to :func:`increment`.

    Raises:
        CorruptError: the catalog does not say how far it has come.
    """
    found, backup_of = _find_all(connection)
    connection.is_backup = backup_of is not None  # asked here, because every push has to know
    written = os.pread(lock, _LENGTH, 0)
    if written == _text(found):  # nearly always
        return found
    seen = _understood(written)
    reason = contradiction(found, seen)
    if reason is None:
        return found
    mark = found._replace(epoch=max(found.epoch, seen.epoch))
    connection.execute(_sql.SET, {"number": mark.epoch})
    now = milliseconds()
    if reason not in holds.in_force(connection, now=now):
        holds.place(connection, reason, now=now)
        logs.warning("hold", f"no garbage collection until somebody confirms: {reason}", root, reason=reason)
    return mark


def contradiction(found: Mark, seen: Mark) -> str | None:
    """Return why the catalog cannot be the one of the note, which was read before it was; None where it can."""
    if seen.epoch > found.epoch:
        return OLDER_CATALOG
    return None if seen.identity in ("", found.identity) else OTHER_CATALOG


def increment(connection: Connection, mark: Mark) -> Mark:
    """Say in the catalog that it comes further with this transaction. Returns what to :func:`note` after its commit."""
    connection.execute(_sql.INCREMENT)
    return mark._replace(epoch=mark.epoch + 1)


def succeed(connection: Connection, lock: int) -> Mark:
    """Make a new catalog the successor of the one that the lock's file has seen. Returns what to :func:`note`."""
    mark = find(connection)._replace(epoch=noted(lock).epoch + 1)
    connection.execute(_sql.SET, {"number": mark.epoch})
    return mark


def find(connection: Connection) -> Mark:
    """Return how far the catalog says it has come.

    Raises:
        CorruptError: it does not say.
    """
    return _find_all(connection)[0]


def _find_all(connection: Connection) -> tuple[Mark, str | None]:
    row = connection.execute(_sql.FIND).first()
    if row is None:
        raise CorruptError("the catalog", reason="it does not say whose it is")
    number, identity, backup_of = row
    return Mark(number, identity), backup_of


def note(lock: int, mark: Mark) -> None:
    """Write down, in the lock's file, how far which catalog has come. Need not survive a power cut."""
    os.pwrite(lock, _text(mark), 0)


def noted_at(path: str) -> Mark:
    """Return what the lock's file of that path has seen, for who does not hold the lock; None if it may not be read.

    Raises:
        OSError: it could not be read.
    """
    try:
        lock = owned(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError) as error:
        pass_on_theirs(error)
        return Mark(0, "")
    return noted(lock)


def noted(lock: int) -> Mark:
    """Return what the lock's file has seen; an epoch of 0 where it has seen none, or cannot be understood."""
    return _understood(os.pread(lock, _LENGTH, 0))


def _text(mark: Mark) -> bytes:
    return b"%20d %b" % (mark.epoch, mark.identity.encode())


def _understood(written: bytes) -> Mark:
    number, _, identity = written.decode("ascii", "replace").strip().partition(" ")
    return Mark(int(number), identity) if number.isascii() and number.isdigit() else Mark(0, "")
