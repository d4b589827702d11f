"""What a catalog is, whatever database keeps it: transactions over the tables, and a clock.

What is committed is durable when :meth:`Writer.write` ends, and is seen by every read that begins afterwards, in any
process. Writes happen one after another where they concern the same repository, or any repository where they do not
say which. Statements say what they do in a form that each database has its own text for; see ``expressions.py``.

What only a catalog that is one file can do (copying it, settling its WAL, noting how far it has come) is a role apart,
:class:`CatalogFile`, which :attr:`Catalog.file` is where there is one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ocistore.catalog.connection import DisturbedError
from ocistore.catalog.lock import rest
from ocistore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ocistore.catalog.connection import Connection
    from ocistore.catalog.epoch import Mark

_Found = TypeVar("_Found")

_SNAPSHOTS: Final = 10
"""How many are taken for one read, each of which lasts milliseconds: something that drops the locks of this process
must have come between, beside others who commit, each time."""


class Reader(Protocol):
    """Reading what is committed."""

    def read(self) -> AbstractContextManager[Connection]:
        """Return a block with a connection for one SELECT. Two statements in it may see two states.

        Raises:
            StoreClosedError: the catalog is closed.
            StoreBusyError: this process may not use it, or it was disturbed over and over.
            CorruptError, StorageError: it could not be read.
        """
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Return a block in which every statement sees the same state: that of its beginning.

        Be short: the database keeps what others replace meanwhile. Raises as :meth:`read`.
        """
        ...


def in_snapshot(catalog: Reader, read: Callable[[Connection], _Found]) -> _Found:
    """Return what ``read`` finds in one state of the catalog.

    Where that state was lost, it is called again with another one: it changes nothing, and keeps nothing.
    """
    for _ in range(_SNAPSHOTS - 1):
        try:
            with catalog.snapshot() as connection:
                return read(connection)
        except DisturbedError:
            continue
    with catalog.snapshot() as connection:
        return read(connection)


class Writer(Reader, Protocol):
    """Changing it, too."""

    def write(
        self, *, wait: bool = True, repositories: Collection[str] | None = None
    ) -> AbstractContextManager[Connection]:
        """Return a block that is a write transaction.

        It is committed, durably and whole, when the block ends, and rolled back when the block raises. No user code,
        no hashing and no fsync of data belongs inside: other writers wait meanwhile.

        Args:
            wait: for other writers. Without it, their being there is an error at once.
            repositories: the names of all repositories that it reads or writes, where they are known before. Whoever
                has one lock for all of them may ignore it. None: it may concern any, and happens alone.

        Raises:
            ReadOnlyStoreError: the catalog is read-only.
            StoreClosedError: it is closed.
            StoreBusyError: others held what it needs for too long.
            StoreFullError: there was no room for the commit. Nothing of it is visible.
            UncertainCommitError: the commit itself failed. Whether it happened is not known before the next write.
        """
        ...


def in_small_transactions(
    catalog: Writer, step: Callable[[Connection], bool], *, repositories: Collection[str] | None = None
) -> None:
    """Write step by step, because others wait in each transaction, until a step returns that nothing is left.

    ``repositories`` are those of each transaction, as :meth:`Writer.write` takes them.
    """
    done = False
    while not done:
        with catalog.write(repositories=repositories) as connection:
            began = time.monotonic()
            done = step(connection)
        if not done:
            rest(began)


class Catalog(Writer, Protocol):
    """A catalog that one store has open. Any number of threads may use it; after a fork, child and parent may."""

    @property
    def root(self) -> Path:
        """The store's directory, for messages."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether every write is refused."""
        ...

    @property
    def file(self) -> CatalogFile | None:
        """What can be done with it as one file; None where it is none."""
        ...

    def now(self) -> int:
        """Return the time that every instant in the catalog is of, in milliseconds since the Unix epoch."""
        ...

    def again(self) -> Catalog:
        """Return the same catalog once more, for what has to be done whether or not this is closed. Close it itself."""
        ...

    @property
    def moved(self) -> bool:
        """Whether the store is somewhere else by now, or gone."""
        ...

    def refuse_moved(self) -> None:
        """Stop where the store is not where it was opened, so that nothing of it is taken for damaged.

        Raises:
            StoreNotFoundError: it was moved, replaced or removed.
        """
        ...

    def refuse_inherited(self) -> None:
        """Stop in a child that may not use what its parent had open.

        Raises:
            StoreBusyError: this process is one.
        """
        ...

    def close(self, *, wait: bool = True) -> None:
        """Close it. Does nothing where it is closed. Blocks that are under way end as if it were open.

        Args:
            wait: for other writers, if anything has to be cleaned up that only one may do at a time.
        """
        ...


class CatalogFile(Protocol):
    """What only a catalog can do that is one file."""

    def copy_to(self, destination: Path) -> None:
        """Write the catalog, as it is at this instant, into a file that is empty. Others read and write meanwhile.

        Raises:
            OCIStoreError: it could not be read or written.
        """
        ...

    def settle(self) -> None:
        """Bring all that is committed into the file itself, durably, so that it can be used without others beside it.

        Raises:
            OCIStoreError: it could not be written, or somebody reads.
        """
        ...

    def reuse_wal(self) -> None:
        """Give room back that what is beside the file takes, as far as nobody reads it. Waits for nobody.

        Raises:
            OCIStoreError: it could not be written, which changes nothing.
        """
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Return a block that holds the write lock without a transaction. Raises as :meth:`Writer.write`."""
        ...

    def note_epoch(self) -> None:
        """Find out whether the file is an older copy, as every write does; a hold is placed where it is.

        Raises:
            OCIStoreError: as :meth:`Writer.write`.
        """
        ...

    def stands(self) -> bool:
        """Whether what is open of it has its names still; if not, the next write opens what has them.

        Raises:
            StoreNotFoundError, CorruptError: the store's directory, or the file in it, was moved, replaced or removed.
            StorageError: it could not be found out.
        """
        ...

    def noted_epoch(self) -> Mark:
        """Return how far which catalog has come, as the lock's file says.

        Raises:
            StorageError: it could not be read.
        """
        ...

    def note_successor(self, mark: Mark) -> None:
        """Note that a catalog which has come so far takes the place of this one. Under :meth:`locked` only.

        Call it before that catalog takes that place: whoever is killed in between leaves a note that is too low, never
        ahead.

        Raises:
            StorageError: it could not be written.
        """
        ...


def one_file(catalog: Catalog) -> CatalogFile:
    """Return the catalog as one file, for what cannot be done with another.

    Raises:
        StorageError: it is not one file.
    """
    if catalog.file is None:
        raise StorageError(str(catalog.root), errno=None, reason="its catalog is not one file")
    return catalog.file
