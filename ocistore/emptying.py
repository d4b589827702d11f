"""Emptying deleted repositories, in small transactions, because a repository may have any number of rows.

A repository is deleted by one row, in one commit; nobody sees what it held from then on. Its rows are removed
afterwards, by the same call or, where that was killed, by the next collection.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

from ocistore.blobs.pool import may_grow
from ocistore.catalog import repositories
from ocistore.catalog.lock import rest
from ocistore.clock import milliseconds
from ocistore.commit import on_a_full_disk
from ocistore.errors import OCIStoreError, StorageError, StoreFullError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.blobs.pool import Pool, Uploads
    from ocistore.catalog.contract import Catalog


def empty_deleted(catalog: Catalog, pool: Pool, repository_ids: Iterable[int]) -> None:
    """Delete all rows of these repositories, which are deleted already.

    Nothing is raised where the store cannot be written: the deletion has happened, and the next collection completes
    it.
    """
    for repository_id in repository_ids:
        with contextlib.suppress(OCIStoreError):
            on_a_full_disk(catalog, pool, partial(_empty, catalog, pool, repository_id))


def _empty(catalog: Catalog, pool: Pool, repository_id: int) -> None:
    done = False
    while not done:
        with catalog.write() as connection:
            began = time.monotonic()
            emptied = repositories.deleted(connection, repository_id)
            if emptied is None:
                return
            done, sessions, waits = repositories.empty(
                connection,
                emptied,
                now=milliseconds(),
                limit=repositories.EMPTIED_AT_ONCE,
                may_grow=partial(may_grow, pool),
            )
        remove_files(pool.uploads, sessions)
        if waits:
            raise StoreFullError(str(catalog.root))
        if not done:
            rest(began)


def remove_files(uploads: Uploads, sessions: Iterable[str]) -> None:
    """Remove the files of upload sessions whose rows are gone; those that cannot be removed are swept by age."""
    for session in sessions:
        with contextlib.suppress(StorageError):
            uploads.remove(session)
