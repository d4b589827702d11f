"""Core: what an open store is made of. Everything below the façade takes one; it knows nothing of its users."""

from __future__ import annotations

import functools
import os
import pwd
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from ocistore.changes import DeleteManifest
from ocistore.commit import commit
from ocistore.errors import CorruptError, InvalidNameError, ReadOnlyStoreError, StorageError, StoreClosedError
from ocistore.forks import ForkSafeLock
from ocistore.largechanges import commit_large, is_large
from ocistore.largedeletions import empty_deleted, remove_files, thin_out
from ocistore.leasescope import held
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE
from ocistore.paging import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from typing import NoReturn, Self

    from ocistore.blobs.paths import StorePaths
    from ocistore.blobs.pool import HashState, Pool, StagedBlob
    from ocistore.catalog.contract import Catalog
    from ocistore.changes import Change

_P = ParamSpec("_P")
_R = TypeVar("_R")

_MAXIMUM_ACTOR: Final = 1024
"""Characters. Every change of a tag keeps a copy."""

_REMEMBERED_UPLOADS: Final = 256
"""For how many closed upload sessions the state of hashing is kept: resuming those does not read their bytes again."""


class HashStates:
    """How far the bytes of closed upload sessions were hashed, for the sessions closed last. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = ForkSafeLock()
        self._states: OrderedDict[str, HashState] = OrderedDict()

    def put(self, upload: str, state: HashState) -> None:
        """Keep the state of a session, and forget the oldest where there are too many."""
        with self._mutex:
            self._states[upload] = state
            while len(self._states) > _REMEMBERED_UPLOADS:
                self._states.popitem(last=False)

    def pop(self, upload: str) -> HashState | None:
        """Return the state that is kept for a session, and forget it: it has one owner at a time."""
        with self._mutex:
            return self._states.pop(upload, None)


class Core:
    """An open store: its catalog, its pool, its paths, its limits. Thread-safe. A context manager that closes it.

    Attributes:
        root: the store's directory, absolute.
        paths: every path in it.
        maximum_manifest_size: bytes that a manifest which is brought in may have.
        hash_states: of upload sessions that were closed here.
        next_look_at_refs: when a garbage collection that finds nothing looks again whether the refs file is old
            (seconds of the monotonic clock).
        made_again: directories that were missing and were made again when the store was opened.
    """

    def __init__(self, paths: StorePaths, catalog: Catalog, pool: Pool, *, is_given: bool) -> None:
        """Hold what :func:`ocistore.opening.open_core` has opened; others call that.

        A pool that ``is_given`` is its caller's, who closes it.
        """
        self.root: Path = paths.root
        self.paths = paths
        self.maximum_manifest_size = MAXIMUM_MANIFEST_SIZE
        self.hash_states = HashStates()
        self.next_look_at_refs = 0.0
        self.made_again: tuple[Path, ...] = ()
        self._actor = _login_name()
        self._catalog = catalog
        self._pool = pool
        self._own_pool = None if is_given else pool
        self._closed = False
        self._dropped = weakref.finalize(self, _drop, catalog, self._own_pool)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or sent to another process, with all that holds it: repositories, sessions, leases.

        Raises:
            TypeError: always.
        """
        reason = "what belongs to an open Store is neither copied nor pickled: open its root again, in that process"
        raise TypeError(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; see :meth:`ocistore.Store.close`. Idempotent."""
        self._closed = True
        try:
            self._catalog.close()
        finally:
            if self._own_pool is not None:
                self._own_pool.close()
        ballast = self._pool.ballast
        if ballast is not None and (ballast.gave or not self._catalog.read_only) and not self._catalog.moved:
            ballast.restore()
        self._dropped.detach()

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    @property
    def catalog(self) -> Catalog:
        """The rows."""
        if self._closed:
            raise StoreClosedError(f"the store {self.root}")
        return self._catalog

    @property
    def pool(self) -> Pool:
        """The bytes."""
        if self._closed:
            raise StoreClosedError(f"the store {self.root}")
        return self._pool

    @property
    def past_page_cache(self) -> bool:
        """Whether big blobs are written past the kernel's page cache, where that can be trusted; also when closed."""
        return self._pool.local is not None and self._pool.local.past_cache

    @past_page_cache.setter
    def past_page_cache(self, value: bool) -> None:
        if self._pool.local is not None:
            self._pool.local.past_cache = value

    @property
    def read_only(self) -> bool:
        """Whether changes are refused; also when closed."""
        return self._catalog.read_only

    @property
    def actor(self) -> str:
        """The name that the history of tags has for changes.

        Raises:
            InvalidNameError: on setting it: it is no text, or too long.
        """
        return self._actor

    @actor.setter
    def actor(self, actor: str) -> None:
        if len(check_text(actor, kind="actor")) > _MAXIMUM_ACTOR:
            reason = f"it has {len(actor)} characters, at most {_MAXIMUM_ACTOR} are allowed"
            raise InvalidNameError(actor, kind="actor", reason=reason)
        self._actor = actor

    def require_writable(self) -> None:
        """Refuse a change before any work is done for it.

        Raises:
            ReadOnlyStoreError: the store was opened read-only.
            StoreClosedError: it is closed.
            StoreNotFoundError: its directory was moved, replaced or removed.
            StoreBusyError: this process was forked while the store was in use.
        """
        if self.catalog.read_only:
            raise ReadOnlyStoreError(self.root)
        self.catalog.refuse_inherited()
        self.catalog.refuse_moved()

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply changes in one transaction, or none of them; see :func:`ocistore.commit.commit`.

        Large lists are written in parts and revealed in one transaction; what a deletion leaves is removed afterwards.
        """
        if self.catalog.read_only:  # whether it was moved is asked under the write lock
            raise ReadOnlyStoreError(self.root)
        if len(changes) == 1 and isinstance(changes[0], DeleteManifest):
            changes = [thin_out(self.catalog, self.pool, changes[0], actor=self.actor)]
        how = commit_large if is_large(self.catalog, changes) else commit
        catalog, pool = self.catalog, self.pool  # once: a store closed after the commit does not make it an error
        done = how(catalog, pool, changes, actor=self.actor, leases=held(self))
        remove_files(pool.uploads, done.sessions)
        empty_deleted(catalog, pool, done.deleted)

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Remove what was staged, also when closed. Idempotent."""
        self._pool.discard(staged)


def check_if_moved(work: Callable[Concatenate[Core, _P], _R]) -> Callable[Concatenate[Core, _P], _R]:
    """Do work on a store; where its directory was moved, replaced or removed, say that, and call nothing damaged.

    Single reads and every write look for themselves; this is for what reads much. Raises StoreNotFoundError.
    """

    @functools.wraps(work)
    def called(core: Core, /, *arguments: _P.args, **keywords: _P.kwargs) -> _R:
        try:
            return work(core, *arguments, **keywords)
        except (CorruptError, StorageError):
            core.catalog.refuse_moved()
            raise

    return called


def _drop(catalog: Catalog, pool: Pool | None) -> None:
    """Close what was not closed. It may be called in the middle of anything, and so waits for nobody."""
    try:
        catalog.close(wait=False)
    finally:
        if pool is not None:
            pool.close()


def _login_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name.encode(errors="replace").decode()  # it may have bytes that are no text
    except KeyError:  # as in many containers
        return f"uid {uid}"
