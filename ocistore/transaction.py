"""Transactions: changes in any number of repositories that appear in one commit, or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ocistore.argumenttypes import checks_types
from ocistore.changes import LinkBlob, MountBlob, PutBlob
from ocistore.errors import StoreClosedError
from ocistore.forks import ForkSafeLock
from ocistore.repository import Repository, RepositoryWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from ocistore.blobs.pool import StagedBlob
    from ocistore.changes import Change
    from ocistore.core import Core
    from ocistore.oci.digest import Digest


@checks_types
class Transaction:
    """The changes made inside ``with store.transaction()``, by any number of threads.

    Bytes are staged as they come, without any lock, however long they take. Operations are checked as far as
    that needs no store, kept, and run in their order in one write transaction when the block ends. An expectation that
    no longer holds by then, such as that of a tag, raises an error at the end of the block; then, and when the block
    raises, nothing is changed. A change made after the end is refused with ``StoreClosedError``. Reads go through
    :meth:`Store.repository` and see what is committed, not what is still pending.
    """

    def __init__(self, core: Core) -> None:
        """Begin without changes; others call :meth:`Store.transaction`."""
        self._core = core
        self._pool = core.pool
        self._process = os.getpid()
        self._changes: list[Change] = []
        self._staged: list[StagedBlob] = []
        self._sizes: dict[tuple[str, Digest], int] = {}
        """The sizes of the blobs that repositories will serve, by repository and digest."""
        self._ended = False
        self._adding = ForkSafeLock()

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process != os.getpid():
            return  # a forked child leaves the block too: the transaction is its parent's
        with self._adding:
            self._require_open()
            self._ended = True
        try:
            if kind is None and self._changes:
                self._core.require_writable()  # once more: before anything is published into a store that was moved
                self._core.commit(self._changes)
        finally:
            self._pool.discard(self._staged)

    def repository(self, name: str) -> RepositoryWriter:
        """Return a repository whose changes become part of this transaction.

        Raises:
            InvalidNameError: no repository can have that name.
        """
        self._require_open()
        return RepositoryTransaction(self._core, name, self)

    def _require_open(self) -> None:
        if self._ended or self._process != os.getpid():
            raise StoreClosedError("the transaction")

    def _add(self, changes: Sequence[Change], staged: Sequence[StagedBlob]) -> None:
        for change in changes:
            if isinstance(change, PutBlob):
                self._sizes[change.repository, change.blob.digest] = change.blob.size
            elif isinstance(change, LinkBlob):
                self._sizes[change.repository, change.digest] = change.size
            elif isinstance(change, MountBlob):
                self._sizes[change.repository, change.digest] = self._size(change.source, change.digest)
        with self._adding:
            self._require_open()
            self._staged.extend(staged)
            self._changes.extend(changes)

    def _size(self, repository: str, digest: Digest) -> int:
        pending = self._sizes.get((repository, digest))
        if pending is not None:
            return pending
        return Repository(self._core, repository).stat_blob(digest, renew=False).size


class RepositoryTransaction(RepositoryWriter):
    """The changes of one repository inside a transaction."""

    def __init__(self, core: Core, name: str, transaction: Transaction) -> None:
        """Collect changes for a transaction; others call :meth:`Transaction.repository`."""
        super().__init__(core, name)
        self._transaction = transaction

    def _require_writable(self) -> None:
        self._transaction._require_open()  # the rest was asked when it began, and is when it ends

    def _submit(self, changes: Sequence[Change], staged: Sequence[StagedBlob] = ()) -> None:
        try:
            self._transaction._add(changes, staged)
        except BaseException:
            self._transaction._pool.discard(staged)
            raise

    def _link(self, digest: Digest, size: int) -> bool:
        self._submit([LinkBlob(self.name, digest, size)])
        return True

    def _size_in(self, repository: str, digest: Digest) -> int:
        return self._transaction._size(repository, digest)
