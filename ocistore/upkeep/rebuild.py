"""Making a catalog again, from the bytes of the pool and from what is known outside of it.

The pool has every manifest, and so every edge. Which repository has a manifest, and what its tags are, comes from the
newer of two files: ``catalog.snapshot``, which collections and backups write, and the ``index.json`` of an export in
place. What neither names is put into the repository ``lost-and-found``, under its digest, so that nothing is lost.

The new catalog is made beside the old one and takes its place last (:mod:`ocistore.upkeep.replacing`); the old one is
kept. Killed at any moment, the store is as good or as damaged as before, or rebuilt. The names of the old catalog are
taken first, where nothing is wrong with them. Collections are held off until a person has looked.

It is written in small transactions, so that its WAL stays small: a rebuild takes the room of the new catalog and some
5 MB. On a full disk it uses the ballast.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ocistore.blobs.filepool import FilePool
from ocistore.blobs.paths import StorePaths
from ocistore.catalog import blobs, check, epoch, graph, holds, manifests, repositories, tags
from ocistore.catalog import rebuild as rebuild_rows
from ocistore.catalog.lock import WriteLock
from ocistore.catalog.migrate import upgrade
from ocistore.catalog.refs import Ref
from ocistore.catalog.sqlite import SQLiteCatalog
from ocistore.clock import milliseconds
from ocistore.commit import platform_in
from ocistore.errors import (
    CorruptError,
    InvalidDigestError,
    InvalidNameError,
    ManifestInvalidError,
    RebuildRefusedError,
    StoreFullError,
    StoreNotFoundError,
)
from ocistore.files.making import make_file
from ocistore.layouts.directory import INDEX_JSON, LayoutDirectory, NotPlainError
from ocistore.layouts.index import MAXIMUM_INDEX_SIZE, name_of, read_index, said_besides
from ocistore.oci import mediatypes
from ocistore.oci.config import readable_config
from ocistore.oci.digest import Digest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oci.manifest import MAXIMUM_MANIFEST_SIZE, Manifest, check_manifest
from ocistore.oci.reference import repository_name, tag_name
from ocistore.oserrors import Translating
from ocistore.refusals import Ignoring, pass_on_theirs, theirs
from ocistore.upkeep import refsfile
from ocistore.upkeep.reading import UnreadableError, content, hashed
from ocistore.upkeep.replacing import (
    Healthy,
    healthy,
    keep_names,
    keep_readable_names,
    put_in_place,
    refuse_in_use,
    remove_beside_rebuilt,
    remove_rebuilt,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ocistore.blobs.hashing import Count
    from ocistore.blobs.pool import PublishedFile
    from ocistore.catalog.connection import Connection
    from ocistore.progress import Progress

LOST_AND_FOUND: Final = "lost-and-found"

REBUILT: Final = "the catalog was rebuilt, and nobody has confirmed that it is complete"

_BATCH: Final = 500
_ROWS: Final = 2000
"""Edges, about, that are written in one transaction, which takes 100 bytes of the WAL for each, or a page."""
_NAMES: Final = 50
"""How many names are followed at once to what they refer to, which is held in memory."""
_LISTED: Final = 1000
_ACTOR: Final = "rebuild"

_LOCK_TIMEOUT: Final = 30.0


@dataclass
class RebuildReport(JSONValue):
    """What a rebuild found. Lists end at a thousand; the counts do not."""

    blobs: int = 0
    manifests: int = 0
    repositories: int = 0
    tags: int = 0
    names_from: str | None = None
    """The file that said what is called what; None where there was none."""
    quarantined: list[str] = field(default_factory=list)
    """Names in quarantine/ of what was in the pool and is not what its name says."""
    missing: list[str] = field(default_factory=list)
    """Digests that a manifest needs and the pool has not: pushing them again heals them."""
    absent: list[str] = field(default_factory=list)
    """Digests that a manifest refers to and the pool has not, and without which the manifest was accepted, as the names
    say: they are as absent as they were."""
    unreadable: list[str] = field(default_factory=list)
    """Digests of what is in the pool and could not be read now: kept, and looked at again by the next scrub. A
    manifest among them is not known for one; when it can be read, rebuild once more."""
    lost_tags: list[str] = field(default_factory=list)
    """REPO:TAG of which the manifest is gone."""
    found_manifests: int = 0
    """How many manifests are in lost-and-found."""
    found_blobs: int = 0
    """How many blobs are in lost-and-found, its manifests included."""
    damaged: str | None = None
    """What the old catalog is called now; None where there was none."""


def rebuild(root: str | os.PathLike[str], *, force: bool = False, progress: Progress | None = None) -> RebuildReport:
    """Make the catalog of a store again. Reads and hashes every blob.

    Args:
        root: the store's directory, in which nobody may work meanwhile.
        force: also where the catalog is good.
        progress: called with the bytes hashed, and all there are.

    Raises:
        StoreNotFoundError: there are no blobs: it is no store.
        RebuildRefusedError: the catalog is good, whatever its schema, or a process has it open, perhaps this one.
        StoreBusyError: somebody writes.
        OCIStoreError: something could not be read or written; the old catalog is as it was.
    """
    paths = StorePaths.at(root, spare=len(".rebuilt"))
    with Translating(str(paths.root), root=paths.root):
        if paths.pool.exists():
            raise RebuildRefusedError(paths.root, reason="its blobs are not in its own directory")
        is_store = paths.blobs.is_dir()
    if not is_store:
        raise StoreNotFoundError(paths.root, reason="there are no blobs")
    pool = FilePool(paths)
    lock = WriteLock(os.fspath(paths.write_lock), timeout=_LOCK_TIMEOUT)
    try:
        _refuse(paths, force=force)
        with Translating(str(paths.root), root=paths.root), lock.held():
            # Again: somebody may have rebuilt it, or opened it, while this waited.
            found = _refuse(paths, force=force)
            pool.create()
            return _run(_Rebuild(paths, pool, lock, progress, old=found), pool)
    finally:
        lock.close()
        pool.close()


def _run(rebuild: _Rebuild, pool: FilePool) -> RebuildReport:
    """Rebuild; on a full disk with the ballast, which is enough for the catalog of a small store."""
    try:
        while True:
            try:
                return rebuild.run()
            except StoreFullError as error:
                full = StoreFullError(error.path, reason=error.reason)
            # Only here, because an error that is being handled keeps files open, and so their room.
            if not pool.ballast.give_up():
                raise full
    finally:
        pool.ballast.take_back()


def _refuse(paths: StorePaths, *, force: bool) -> Healthy | None:
    refuse_in_use(paths)
    found = healthy(paths)
    if found is not None and found.is_whole and not force:
        raise RebuildRefusedError(paths.root, reason=f"{found.words}; --force rebuilds it all the same")
    return found


class _Rebuild:
    """Runs one rebuild, under the write lock."""

    def __init__(
        self,
        paths: StorePaths,
        pool: FilePool,
        lock: WriteLock,
        progress: Progress | None,
        *,
        old: Healthy | None,
    ) -> None:
        self._paths = paths
        self._pool = pool
        self._lock = lock
        self._progress = None if progress is None else theirs(progress)
        self._old = old
        self._now = milliseconds()
        self._report = RebuildReport()
        self._incomplete: frozenset[str] = frozenset()
        self._unread: list[str] = []

    def run(self) -> RebuildReport:
        """Rebuild. It may be called again, and begins anew."""
        remove_rebuilt(self._paths)  # of a rebuild that was killed
        self._report = RebuildReport()
        try:
            self._run()
        finally:
            remove_rebuilt(self._paths)
        return self._report

    def _run(self) -> None:
        with Translating(str(self._paths.rebuilt), root=self._paths.root):
            make_file(self._paths.rebuilt, os.O_WRONLY | os.O_EXCL, self._paths.permissions.file)
        private = self._paths.root / f"{self._paths.rebuilt.name}-lock"
        seen = epoch.noted(self._lock.descriptor)
        if self._old is None:
            keep_readable_names(self._paths, seen=seen)
        elif self._old.has_names:
            keep_names(self._paths, private, seen=seen)
        self._incomplete = self._known_incomplete()
        catalog = SQLiteCatalog(self._paths.root, database=self._paths.rebuilt, lock=private, read_only=False)
        try:
            upgrade(catalog, now=self._now)
            self._hash_pool(catalog)
            with catalog.write() as connection:
                lost = repositories.ensure(connection, LOST_AND_FOUND, now=self._now)
            self._read_manifests(catalog, lost)
            self._name(catalog, lost)
            mark = self._finish(catalog, lost)
            catalog.settle()
        finally:
            catalog.close()
        self._put_in_place(private)
        epoch.note(self._lock.descriptor, mark)

    # --- bytes --------------------------------------------------------------------------------------------------------

    def _hash_pool(self, catalog: SQLiteCatalog) -> None:
        sweeper = self._pool.sweeper
        total = sum(file.size for file in sweeper.files()) if self._progress is not None else 0
        done = 0

        def count_up(count: int) -> None:
            nonlocal done
            done += count
            if self._progress is not None:
                self._progress(done, max(total, done))

        batch: list[tuple[str, int]] = []
        for file in sweeper.files():
            size = None if file.digest is None else self._good_size(file, file.digest, count_up)
            if file.digest is None or size is None:
                name = sweeper.quarantine(file)
                if name is not None and len(self._report.quarantined) < _LISTED:
                    self._report.quarantined.append(name)
                continue
            batch.append((file.digest, size))
            self._report.blobs += 1
            if len(batch) == _BATCH:
                self._write_live(catalog, batch)
                batch = []
        self._write_live(catalog, batch)

    def _good_size(self, file: PublishedFile, digest: Digest, progress: Count) -> int | None:
        """Return the number of bytes, where they are those of the digest, or cannot be read, so that nobody knows."""
        try:
            found, size = hashed(self._pool, digest, None, progress=progress)
        except (FileNotFoundError, CorruptError) as error:
            pass_on_theirs(error)
            return None
        except UnreadableError:
            self._unread.append(digest)
            self._note_unreadable(digest)
            return file.size
        return size if found == digest else None

    def _note_unreadable(self, digest: str) -> None:
        if digest not in self._report.unreadable and len(self._report.unreadable) < _LISTED:
            self._report.unreadable.append(digest)

    def _write_live(self, catalog: SQLiteCatalog, batch: list[tuple[str, int]]) -> None:
        with catalog.write() as connection:
            rebuild_rows.live(connection, batch, now=self._now)
            rebuild_rows.forget_verified(connection, self._unread)
        self._unread = []

    # --- manifests ----------------------------------------------------------------------------------------------------

    def _read_manifests(self, catalog: SQLiteCatalog, lost: int) -> None:
        after = 0
        while True:
            with catalog.read() as connection:
                page = rebuild_rows.small_blobs(connection, after=after, maximum=MAXIMUM_MANIFEST_SIZE, limit=_BATCH)
            if not page:
                return
            after = page[-1][0]
            found = (manifest for _, digest, size in page if (manifest := self._manifest(digest, size)) is not None)
            for manifests_ in _parts(found):
                with catalog.write() as connection:
                    for manifest in manifests_:
                        self._put(connection, lost, manifest)
                self._report.manifests += len(manifests_)

    def _manifest(self, digest: str, size: int) -> Manifest | None:
        try:
            found = content(self._pool, Digest.parse(digest), size)
        except (FileNotFoundError, CorruptError) as error:
            pass_on_theirs(error)
            return None  # a row that stands for what is missing
        except UnreadableError:
            self._note_unreadable(Digest.parse(digest))
            return None
        if not found.lstrip(b" \t\r\n").startswith(b"{"):
            return None
        try:
            return check_manifest(found, digest=Digest.parse(digest))
        except ManifestInvalidError:
            return None

    def _put(self, connection: Connection, lost: int, manifest: Manifest) -> None:
        edges = {edge.descriptor.digest: edge for edge in manifest.edges()}
        wanted = [manifest.descriptor.digest, *edges]
        known = manifests.children(connection, lost, wanted)
        absent = [digest for digest in edges if digest not in known]
        if absent:
            blobs.name(connection, [(digest, edges[digest].descriptor.size) for digest in absent])
        needed = [
            digest for digest, edge in edges.items() if edge.required and not (digest in known and known[digest].live)
        ]
        # What a manifest was accepted without stays absent, as an index that lacks some of its children has it.
        accepted = manifest.descriptor.digest in self._incomplete
        listed = self._report.absent if accepted else self._report.missing
        listed.extend([digest for digest in needed if digest not in listed][: _LISTED - len(listed)])
        # A blob that is needed and gone still has a live row: nobody is served it, and pushing it again heals
        # it. A manifest has none, because nobody knows what it refers to; nor has what an index lists, which it may
        # have lacked from the beginning.
        is_index = mediatypes.is_index_type(manifest.media_type)
        heals = not (is_index or accepted)
        gone = [digest for digest in needed if heals and edges[digest].role in {"config", "layer"}]
        if gone:
            blobs.publish(connection, [(digest, edges[digest].descriptor.size) for digest in gone])
        known = manifests.children(connection, lost, wanted)
        new = manifests.NewManifest(manifest, self._platform(manifest))
        manifests.put(connection, lost, [new], known, now=self._now)

    def _platform(self, manifest: Manifest) -> dict[str, object]:
        config = readable_config(manifest)
        if config is None:
            return {}
        try:
            return platform_in(content(self._pool, config.digest, config.size))
        except (FileNotFoundError, CorruptError) as error:
            pass_on_theirs(error)
            return {}
        except UnreadableError:
            self._note_unreadable(config.digest)
            return {}  # a deep scrub notes it when the config can be read

    # --- names --------------------------------------------------------------------------------------------------------

    def _name(self, catalog: SQLiteCatalog, lost: int) -> None:
        for names_from, names in self._sources():
            groups = _grouped(names)
            while True:
                try:
                    group = next(groups, None)
                except (CorruptError, FileNotFoundError, ManifestInvalidError, NotPlainError) as error:
                    pass_on_theirs(error)
                    break  # nothing was placed: both are verified as a whole before they give anything
                if group is None:
                    self._report.names_from = names_from
                    return
                # What this raises is about the catalog that is made, and not about where the names are from.
                self._place(catalog, lost, *group)

    def _sources(self) -> list[tuple[str, Iterator[Ref]]]:
        """Return the sources that may know the names, the newest first."""
        header = refsfile.header(self._paths)
        found = []
        if header is not None:
            found.append((header.taken, self._paths.refs_file.name, refsfile.read(self._paths)))
        with Ignoring(FileNotFoundError):
            changed = self._paths.index_json.lstat().st_mtime_ns // 1_000_000
            found.append((changed, self._paths.index_json.name, self._in_place()))
        return [(name, names) for _, name, names in sorted(found, key=lambda source: source[0], reverse=True)]

    def _in_place(self) -> Iterator[Ref]:
        with LayoutDirectory(self._paths.root) as layout:
            entries = read_index(layout.read(INDEX_JSON, maximum=MAXIMUM_INDEX_SIZE)).entries
        for entry in entries:
            called = name_of(entry)
            if called.repository is not None:
                yield Ref(0, called.repository, called.tag, entry.digest, entry=said_besides(entry))

    def _known_incomplete(self) -> frozenset[str]:
        """Return the manifests that lacked something when they were pushed, as far as the last refs file knows."""
        try:
            return frozenset(name.digest for name in refsfile.read(self._paths) if name.incomplete)
        except (CorruptError, FileNotFoundError) as error:
            pass_on_theirs(error)
            return frozenset()

    def _place(self, catalog: SQLiteCatalog, lost: int, repository: str, names: list[Ref]) -> None:
        with catalog.write() as connection:
            here = repositories.ensure(connection, repository, now=self._now)
        for begin in range(0, len(names), _NAMES):
            some = {name.digest for name in names[begin : begin + _NAMES]}
            with catalog.read() as connection:
                reached = graph.walk(connection, lost, some, referrers=False)
            there = [node.digest for node in reached if node.media_type is not None]
            while there:
                with catalog.write() as connection:
                    fitting = rebuild_rows.fitting(connection, there, rows=_ROWS)
                    rebuild_rows.serve_manifests(connection, here, there[:fitting], now=self._now)
                there = there[fitting:]
        with catalog.write() as connection:
            self._tag(connection, here, repository, names)

    def _tag(self, connection: Connection, here: int, repository: str, names: list[Ref]) -> None:
        known = manifests.children(connection, here, {name.digest for name in names})
        moves = []
        for name in names:
            child = known.get(name.digest)
            if child is not None and child.manifest_here:
                if name.tag is not None:
                    moves.append(tags.Move(name.tag, child.id, name.digest, name.entry))
                elif name.entry is not None:
                    rebuild_rows.say(connection, here, child.id, name.entry)
            elif name.tag is not None and len(self._report.lost_tags) < _LISTED:
                self._report.lost_tags.append(f"{repository}:{name.tag}")
        tags.move(connection, here, repository, moves, now=self._now, actor=_ACTOR)
        self._report.tags += len(moves)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, catalog: SQLiteCatalog, lost: int) -> epoch.Mark:
        with catalog.read() as connection:
            names = repositories.page(connection, prefix="", after="", limit=-1)
            everybody = {repositories.find(connection, name) or 0 for name in names}
        for key in self._pages(catalog, lost):
            with catalog.write() as connection:
                rebuild_rows.leave_to_others(connection, lost, key)
        for repository in everybody:
            for key in self._pages(catalog, repository):
                with catalog.write() as connection:
                    rebuild_rows.serve_blobs(connection, repository, key, now=self._now)
        self._keep_loose(catalog, lost)
        with catalog.read() as connection:
            problems = check.problems(connection)
        if problems:
            raise CorruptError("the rebuilt catalog", reason="; ".join(problems[:10]))
        with catalog.write() as connection:
            self._report.found_manifests, self._report.found_blobs = rebuild_rows.count_of(connection, lost)
            if not self._report.found_manifests + self._report.found_blobs:
                repositories.remove(connection, lost, LOST_AND_FOUND, now=self._now, actor=_ACTOR)
                repositories.empty_whole(connection, lost, now=self._now)
                names.remove(LOST_AND_FOUND)
            self._report.repositories = len(names)
            holds.place(connection, REBUILT, now=self._now)
            return epoch.succeed(connection, self._lock.descriptor)

    def _pages(self, catalog: SQLiteCatalog, repository: int) -> Iterator[list[int]]:
        """Yield the manifests of a repository in pages, each for one transaction."""
        after = 0
        while True:
            with catalog.read() as connection:
                page = rebuild_rows.manifests_of(connection, repository, after=after, rows=_ROWS)
            if not page:
                return
            yield page
            after = page[-1]

    def _keep_loose(self, catalog: SQLiteCatalog, lost: int) -> None:
        after = 0
        while True:
            with catalog.read() as connection:
                page = [row[0] for row in blobs.page_of_live(connection, after=after, limit=_ROWS)]
            if not page:
                return
            with catalog.write() as connection:
                rebuild_rows.keep_loose(connection, lost, page, now=self._now)
            after = page[-1]

    def _put_in_place(self, private_lock: Path) -> None:
        paths = self._paths
        settled = settle(paths, private_lock)
        remove_beside_rebuilt(paths)
        with Translating(str(paths.catalog), root=paths.root):
            self._report.damaged = put_in_place(paths, paths.damaged(self._now), settled=settled)


def _parts(manifests_: Iterable[Manifest]) -> Iterator[list[Manifest]]:
    """Yield manifests in pages, each for one transaction."""
    part: list[Manifest] = []
    rows = 0
    for manifest in manifests_:
        part.append(manifest)
        rows += 1 + manifest.edge_count
        if rows >= _ROWS:
            yield part
            part, rows = [], 0
    if part:
        yield part


def _grouped(names: Iterable[Ref]) -> Iterator[tuple[str, list[Ref]]]:
    """Yield names in pages, each of one repository; those that no store can have are left out."""
    repository = ""
    group: list[Ref] = []
    for name in names:
        try:
            Digest.parse(name.digest)
            repository_name(name.repository)
            if name.tag is not None:
                tag_name(name.tag)
        except (InvalidNameError, InvalidDigestError):
            continue
        if group and (name.repository != repository or len(group) == _BATCH):
            yield repository, group
            group = []
        repository = name.repository
        group.append(name)
    if group:
        yield repository, group
