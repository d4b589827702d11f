"""Holding garbage collection off while something is copied."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ocistore.catalog import holds
from ocistore.errors import StorageError
from ocistore.oserrors import Translating
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore.blobs.paths import StorePaths
    from ocistore.catalog.connection import Connection
    from ocistore.core import Core

HELD: Final = "a backup is being copied"

_HOLD: Final = timedelta(hours=1) // timedelta(milliseconds=1)
_RENEWED_EVERY: Final = 60.0
"""Seconds."""

_FIRST_BYTE: Final = 1 << 32
"""Of those that holds lock in the file of the write lock, which has a hundred bytes."""


class Hold:
    """Keeps garbage collection from acting for as long as its owner, still at work, renews it now and then.

    While it lasts, a lock on the byte of its own in the file of the write lock says that the process that placed it
    lives: the kernel frees it when that process ends, however it ends, and the next collection or backup then ends the
    hold.
    """

    def __init__(self, core: Core, target: StorePaths) -> None:
        self._catalog = core.catalog
        self._target = target
        self._renewed = time.monotonic()
        end_abandoned(core)
        with Translating(str(core.paths.write_lock), root=core.root):
            self._living = open(core.paths.write_lock, "r+b", buffering=0)  # noqa: SIM115 - until it is lifted
        try:
            with self._catalog.write() as connection:
                now = self._catalog.now()  # under the lock, which may have been waited for
                passed_over = []
                while not self._lives(holds_id := holds.place(connection, HELD, now=now, expires=now + _HOLD)):
                    passed_over.append(holds_id)  # of one that ran out, whose backup still lives
                self._id = holds_id
                for each in passed_over:
                    holds.lift(connection, each)
        except BaseException:
            self._living.close()
            raise

    def _lives(self, hold: int) -> bool:
        """Lock the byte of a hold. Return False where another one, which had the same id before, still has it."""
        with Translating(str(self._target.root)):
            try:
                fcntl.fcntl(self._living, fcntl.F_OFD_SETLK, _byte(hold))
            except BlockingIOError as error:
                pass_on_theirs(error)
                return False
        return True

    def renew(self) -> None:
        """Prolong it, if it is time to."""
        if time.monotonic() - self._renewed > _RENEWED_EVERY:
            self.confirm()

    def confirm(self) -> None:
        """Prolong it, and make sure that it was there all the time.

        Raises:
            StorageError: it had run out, as where the machine was asleep: what was to be copied may be collected.
        """
        with self._catalog.write() as connection:
            now = self._catalog.now()  # under the lock: one that was taken before may be from before it ran out
            kept = holds.renew(connection, self._id, now=now, expires=now + _HOLD)
        if not kept:
            reason = "the backup stood still for so long that collections were no longer held off; run it again"
            raise StorageError(str(self._target.root), errno=None, reason=reason)
        self._renewed = time.monotonic()

    def lift(self) -> None:
        """Let collections run again."""
        try:
            with self._catalog.write() as connection:
                holds.lift(connection, self._id)
        finally:
            self._living.close()


def end_abandoned(core: Core) -> None:
    """End the holds of processes that have died.

    Raises:
        OCIStoreError: the store could not be written.
    """
    with core.catalog.read() as connection:
        if not abandoned(core, connection):
            return
    with core.catalog.write() as connection:
        for hold in abandoned(core, connection):
            holds.lift(connection, hold)


def abandoned(core: Core, connection: Connection) -> list[int]:
    """Return the holds of processes that have died.

    Raises:
        StorageError: it could not be found out.
    """
    placed = holds.temporary(connection)
    if not placed:
        return []
    with Translating(str(core.paths.write_lock), root=core.root), open(core.paths.write_lock, "rb") as asking:
        return [hold for hold in placed if not _is_locked(asking.fileno(), hold)]


def _is_locked(descriptor: int, hold: int) -> bool:
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _byte(hold))
    kind: int = struct.unpack_from("h", answer)[0]
    return kind != fcntl.F_UNLCK


def _byte(hold: int) -> bytes:
    """Return a ``struct flock`` for the byte of a hold, after all that is ever written into the file."""
    return struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _FIRST_BYTE + hold, 1, 0)


@contextlib.contextmanager
def gc_held(core: Core, target: StorePaths) -> Iterator[Hold]:
    """Hold collections off until the block ends, however late, as long as it renews the hold."""
    hold = Hold(core, target)
    try:
        yield hold
    finally:
        hold.lift()
