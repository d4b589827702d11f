"""Committing changes: bytes first, durably and outside every lock; then rows in one transaction (see blobs/pool.py)."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from ocistore.applier import Applier
from ocistore.catalog import blobs, epoch, identity
from ocistore.changes import (
    Change,
    DeleteBlob,
    DeleteManifest,
    DeleteRepository,
    EndUpload,
    PutBlob,
    PutManifest,
    RemoveTag,
    concerned,
)
from ocistore.errors import (
    CorruptError,
    ManifestInvalidError,
    OCIStoreError,
    StoreBusyError,
    StoreClosedError,
    StoreFullError,
    UncertainCommitError,
)
from ocistore.oci.config import ImageConfig, readable_config
from ocistore.oci.descriptor import MAXIMUM_PLATFORM_LENGTH
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocistore.blobs.pool import Ingester, Pool, Provider, StagedBlob
    from ocistore.catalog.connection import Connection
    from ocistore.catalog.contract import Catalog
    from ocistore.leasescope import HeldLease
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest

ATTEMPTS: Final = 100
"""How often a commit publishes its bytes. A second time is needed when a collection condemned the same content and
removes it just then; each further time needs another such collection in the same milliseconds."""

_WITHDRAWN_AT_ONCE: Final = 500
"""How many names are removed in one transaction: some 10 ms."""


_R = TypeVar("_R")

STAGED: Final = (PutBlob, PutManifest)
"""What brings bytes. A tuple and not a union, which takes three times as long to ask for."""

REMOVALS: Final = (DeleteBlob, DeleteManifest, RemoveTag, EndUpload, DeleteRepository)


def commit(
    catalog: Catalog, pool: Pool, changes: Sequence[Change], *, actor: str, leases: Sequence[HeldLease] = ()
) -> Applier:
    """Apply all changes in one transaction, or none of them. When it returns, they survive a power cut.

    What is staged stays staged, whatever happens: it belongs to the caller. ``leases`` keep what
    is stored; they are looked at in the transaction, because they may end while bytes are written.

    Returns:
        What was applied, with what it leaves to be done: rows of deleted repositories, files of their sessions.

    Raises:
        UncertainCommitError: the disk failed in the commit itself: all of the list happened, or none of it.
        OCIStoreError: a change was refused, or the store could not be written. Nothing of the list is visible.
    """
    if all(isinstance(change, REMOVALS) for change in changes):
        return on_a_full_disk(catalog, pool, partial(_apply, catalog, pool, changes, actor))
    staged = {change.blob.digest: change for change in changes if isinstance(change, STAGED)}
    unpublished = not_in_pool(catalog, pool, staged)
    published: set[Digest] = set()
    platforms: dict[str, dict[str, object]] = {}
    try:
        for _ in range(ATTEMPTS):
            published.update(change.blob.digest for change in unpublished)
            pool.publish([change.blob for change in unpublished])
            read_platforms(pool, changes, platforms)
            with catalog.write(repositories=concerned(changes)) as connection:
                unpublished = gone(connection, pool, staged, published)
                if not unpublished:
                    read_platforms(pool, changes, platforms)
                    identity.become_store(connection)
                    application = Applier(connection, pool, catalog.now(), actor, platforms, leases)
                    application.apply(changes)
            if not unpublished:
                return application
        raise StoreBusyError("the pool", waited=0.0, reason="garbage collection keeps removing the content; try again")
    except BaseException as error:
        give_up(catalog, pool, [staged[digest].blob for digest in published], error)
        raise


def on_a_full_disk(catalog: Catalog, pool: Pool, work: Callable[[], _R]) -> _R:
    """Do work that frees space; where there is no room even for that, with the ballast.

    What takes many transactions may fill the WAL with that, too. Then the WAL is moved into the database, for which
    some of the ballast is kept, and written from its beginning again: each time gets further, or is the last one.

    Args:
        catalog: of the store.
        pool: of the store; its ballast is released meanwhile.
        work: transactions of which each is whole, so that it may begin again.

    Raises:
        StoreFullError: there is no room with it either.
    """
    try:
        return work()
    except StoreFullError:
        ballast = pool.ballast
        if ballast is None or not ballast.give_up():
            raise
    try:
        reached = -1
        while True:
            try:
                return work()
            except StoreFullError:
                with catalog.read() as connection:
                    found = epoch.find(connection).epoch
                if not ballast.give_up() and found == reached:
                    raise
                if catalog.file is not None:
                    with contextlib.suppress(StoreFullError):
                        catalog.file.reuse_wal()
                if found != reached:
                    ballast.keep_some()
                reached = found
    finally:
        ballast.take_back()


def _apply(catalog: Catalog, pool: Provider, changes: Sequence[Change], actor: str) -> Applier:
    with catalog.write(repositories=concerned(changes)) as connection:
        identity.become_store(connection)
        application = Applier(connection, pool, catalog.now(), actor, {})
        application.apply(changes)
    return application


def give_up(catalog: Catalog, pool: Ingester, published: Sequence[StagedBlob], error: BaseException) -> None:
    """Remove the names of what a commit published before it failed with ``error``, if no row stands for them.

    This works also after the catalog is closed. Where it cannot be done (another writer is stuck, the disk is broken,
    or nobody knows whether the commit happened), they are left as after a crash: nobody is served them, and a
    collection finds them.
    """
    withdrawn = not published
    try:
        # A commit that failed may yet have happened, when recovery finds it whole in the WAL: then its rows need their
        # files. And what is stuck in a lock, ours or SQLite's, is not waited for once more, nor is anybody after an
        # interrupt.
        if not isinstance(error, (UncertainCommitError, StoreBusyError)):
            wait = isinstance(error, Exception)
            with contextlib.suppress(OCIStoreError):
                try:
                    _withdraw(catalog, pool, published, wait=wait)
                except StoreClosedError:
                    with contextlib.closing(catalog.again()) as opened:
                        _withdraw(opened, pool, published, wait=wait)
                withdrawn = True
    finally:
        if not withdrawn:
            pool.leave(published)


def _withdraw(catalog: Catalog, pool: Ingester, published: Sequence[StagedBlob], *, wait: bool) -> None:
    """Withdraw names under the lock, so that no row can come to rely on one."""
    for begin in range(0, len(published), _WITHDRAWN_AT_ONCE):
        some = published[begin : begin + _WITHDRAWN_AT_ONCE]
        with catalog.write(wait=wait) as connection:
            live = blobs.live_sizes(connection, [blob.digest for blob in some])
            for blob in some:
                if blob.digest not in live:
                    pool.withdraw(blob)


_Staged = PutBlob | PutManifest


def not_in_pool(catalog: Catalog, pool: Provider, staged: Mapping[Digest, _Staged]) -> list[_Staged]:
    """Return what has to be published: everything but live blobs whose files are as they should be."""
    # Files first: most content is new, and then there is nothing to ask the catalog. And directories before files: that
    # a new store has none takes as long to find out, for each blob, as writing it.
    stored = set(filter(pool.has_algorithm, {digest.algorithm for digest in staged}))
    good = [digest for digest, change in staged.items() if digest.algorithm in stored and _looks_right(pool, change)]
    live: Mapping[str, int] = {}
    if good:
        with catalog.read() as connection:
            live = blobs.live_sizes(connection, good)
    return [change for digest, change in staged.items() if digest not in live]


def _looks_right(pool: Provider, change: _Staged) -> bool:
    size = change.blob.size
    if isinstance(change, PutBlob):
        return pool.has(change.blob.digest, size)
    # Manifests are small, so their bytes are compared: pushing one again heals it even where its size is right.
    try:
        digest = change.blob.digest
        return pool.has(digest, size) and pool.read(digest, size) == change.manifest.content
    except (FileNotFoundError, CorruptError) as error:
        pass_on_theirs(error)
        return False


def gone(connection: Connection, pool: Pool, staged: Mapping[Digest, _Staged], published: set[Digest]) -> list[_Staged]:
    """Return what does not exist under its name in this transaction, because a collection came in between."""
    relied_on = [digest for digest in staged if digest not in published]
    live = blobs.live_sizes(connection, relied_on) if relied_on else {}
    return [
        change
        for digest, change in staged.items()
        if not (pool.holds(change.blob) if digest in published else digest in live and pool.has(digest, live[digest]))
    ]


def read_platforms(pool: Provider, changes: Sequence[Change], platforms: dict[str, dict[str, object]]) -> None:
    """Find out what the configs of image manifests among the changes say the images run on.

    Called before the transaction, and again in it: a config that a collection had removed when the first look was made
    may have been pushed again since by somebody else, and the transaction would then rely on it. What was read once is
    not read again, so that in the transaction next to nothing is left to read.

    Args:
        pool: which holds the configs.
        changes: all that are made.
        platforms: what is known, by the digest of the manifest: empty for a config that says nothing. Those of configs
            that exist are added.

    Raises:
        StorageError: a config could not be read.
    """
    for change in changes:
        if isinstance(change, PutManifest) and change.manifest.descriptor.digest not in platforms:
            platform = platform_of(pool, change.manifest)
            if platform is not None:
                platforms[change.manifest.descriptor.digest] = platform


def platform_of(pool: Provider, manifest: Manifest) -> dict[str, object] | None:
    """Return what the config of a manifest says the image runs on.

    It is empty where the config says nothing, and None where the config does not exist.

    A config that is damaged says nothing: it is checked elsewhere.

    Raises:
        StorageError: it could not be read.
    """
    config = readable_config(manifest)
    if config is None:
        return {}
    try:
        return platform_in(pool.read(config.digest, config.size))
    except FileNotFoundError as error:
        pass_on_theirs(error)
        return None
    except CorruptError as error:
        pass_on_theirs(error)
        return {}


def platform_in(config: bytes) -> dict[str, object]:
    """Return what is noted of the platform that an image's config says; empty where it says none, or is no config."""
    try:
        platform = ImageConfig.parse(config).platform
    except ManifestInvalidError:
        return {}
    return {} if platform is None or len(str(platform)) > MAXIMUM_PLATFORM_LENGTH else platform.to_json()
