"""Repository: the blobs, manifests and tags of one name."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, get_args

from ocistore.arguments import check_choice, check_duration, whole_number
from ocistore.argumenttypes import checks_types
from ocistore.blobs.ingest import digest_of_source
from ocistore.blobs.sources import counted, length_of, rewound
from ocistore.catalog import blobs, manifests, repositories, tags
from ocistore.catalog.contract import in_snapshot
from ocistore.changes import (
    ANY,
    AnyValue,
    DeleteBlob,
    DeleteManifest,
    LinkBlob,
    Missing,
    MountBlob,
    PutBlob,
    PutManifest,
    RemoveTag,
    SetTag,
)
from ocistore.clock import instant
from ocistore.errors import (
    BlobNotFoundError,
    CorruptError,
    DigestMismatchError,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    SizeMismatchError,
    StorageError,
)
from ocistore.leasescope import held
from ocistore.oci import mediatypes
from ocistore.oci.config import ImageConfig
from ocistore.oci.descriptor import Descriptor, digest_of
from ocistore.oci.digest import Digest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oci.manifest import Manifest, check_manifest
from ocistore.oci.reference import repository_name, tag_name, tag_or_digest
from ocistore.paging import check_text, pages
from ocistore.progress import Tally
from ocistore.promotion import promotion
from ocistore.refusals import pass_on_theirs
from ocistore.taglisting import tag_infos
from ocistore.upload import UPLOAD_LIFETIME, Upload, cancel_session, sessions, stat_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import timedelta
    from pathlib import Path

    from ocistore.blobs.hashing import Count
    from ocistore.blobs.pool import Source, StagedBlob
    from ocistore.blobs.reader import BlobReader
    from ocistore.catalog.blobs import HeldBlob
    from ocistore.catalog.connection import Connection
    from ocistore.changes import Change
    from ocistore.core import Core
    from ocistore.leasescope import HeldLease
    from ocistore.progress import Progress
    from ocistore.taglisting import TagInfo, TagOrder
    from ocistore.upload import UploadInfo

_RENEW_AFTER: Final = 30 * 60 * 1000
"""Milliseconds. Asking for a blob that nothing refers to yet starts its grace again, at most this often: half the hour
that a collection leaves it by default, so that a client that asks before pushing a manifest still finds it."""

_LOOKUPS: Final = 3
"""How often a read looks a manifest up again whose file a garbage collection removed after the first look."""


@dataclass(frozen=True)
class TagEvent(JSONValue):
    """One change of a tag. ``id`` grows with every event of the store and orders them; the clock does not."""

    id: int
    tag: str
    old: Digest | None
    """The digest that it pointed at before; None when it did not exist."""
    new: Digest | None
    """The digest that it points at since then; None when it was removed."""
    at: datetime
    actor: str


@checks_types
class RepositoryWriter(abc.ABC):
    """The methods that change a repository: at once on a :class:`Repository`, or together in a transaction."""

    name: str

    def __init__(self, core: Core, name: str) -> None:
        """Hold where changes are made; others call :meth:`Store.repository` or :meth:`Transaction.repository`."""
        self._core = core
        self.name = repository_name(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {self._core.root}>"

    @abc.abstractmethod
    def _require_writable(self) -> None:
        """Refuse a change before any work is done for it."""

    def _stage(
        self, source: Source, *, digest: Digest | None, size: int | None, algorithm: str = "sha256"
    ) -> StagedBlob:
        self._require_writable()
        try:
            return self._core.pool.stage(source, digest=digest, size=size, algorithm=algorithm)
        except StorageError:
            self._core.catalog.refuse_moved()
            raise

    @abc.abstractmethod
    def _submit(self, changes: Sequence[Change], staged: Sequence[StagedBlob] = ()) -> None:
        """Commit the changes, now or later. Takes over what is staged, also where it raises."""

    def put_blob(
        self,
        source: Source | ImageConfig,
        *,
        digest: str | Descriptor | None = None,
        size: int | None = None,
        algorithm: str = "sha256",
        media_type: str | None = None,
        reuse: bool = False,
        progress: Progress | None = None,
    ) -> Descriptor:
        """Store a blob and let this repository serve it.

        Idempotent: the content may exist already. Atomic. Memory use is constant. The source is always read, to its
        end: nobody gets a blob by naming its digest.

        Args:
            source: bytes, a path, a binary file object (read from its position), an iterable of bytes, or the config of
                an image.
            digest: what the bytes must hash to. Without it they are hashed with ``algorithm``.
            size: how many bytes there must be; None for any number.
            algorithm: ``sha256``, ``sha512``, or ``blake3`` where its package is installed.
            media_type: what the descriptor says they are. The store does not keep it: only the manifests that refer to
                a blob do. Without it, ``application/octet-stream``, or the type of an image's config.
            reuse: for what the store probably has already: hash the source first, and write nothing where the store
                has a blob of that digest, which is then not made whole if its file is damaged. Otherwise the source is
                read a second time, so it must be bytes, a path or a seekable file.
            progress: called with the bytes read and the bytes in all; of a source that does not say how long it is,
                those read so far. Of one that is read twice, the first reading is told. What it raises ends the call.

        Returns:
            Its descriptor, to build a manifest with.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those; nothing was stored.
            InvalidDigestError: no such digest or algorithm.
            ManifestInvalidError: that is no media type.
            BlobNotFoundError: only from the end of a transaction: a garbage collection removed a blob meanwhile that
                ``reuse`` had found. Put it again, without ``reuse``.
            StoreFullError, StorageError, StoreBusyError, ReadOnlyStoreError: nothing was stored.

        When it returns outside a transaction, the blob survives a power cut. Until a manifest of this repository refers
        to it, a garbage collection may remove it once its grace is over.
        """
        expected = None if digest is None else digest_of(digest, argument="digest")
        kind = mediatypes.OCI_CONFIG if isinstance(source, ImageConfig) else mediatypes.OCTET_STREAM
        if media_type is not None:
            kind = mediatypes.media_type(media_type)
        if isinstance(source, ImageConfig):
            source = source.content
        wanted = _size(size)
        count: Count | None = None
        if progress is not None:
            total = length_of(source) if wanted is None else wanted
            count = Tally(total or 0, progress).add
        if reuse:
            found = self._reused(source, digest=expected, size=wanted, algorithm=algorithm, count=count)
            if found is not None:
                return Descriptor(kind, *found)
            count = None
        with counted(source, count) as read:
            staged = self._stage(read, digest=expected, size=wanted, algorithm=algorithm)
        self._submit([PutBlob(self.name, staged)], [staged])
        return Descriptor(kind, staged.digest, staged.size)

    def _reused(
        self, source: Source, *, digest: Digest | None, size: int | None, algorithm: str, count: Count | None
    ) -> tuple[Digest, int] | None:
        """Let this repository serve a blob that the store has, after all bytes of the source were read and hashed.

        None where the store does not have it; then a file is where it was.
        """
        self._require_writable()
        with rewound(source), counted(source, count) as read:
            found, length = digest_of_source(read, algorithm if digest is None else digest.algorithm, size=size)
        if digest is not None and found != digest:
            raise DigestMismatchError(expected=digest, actual=found)
        with self._core.catalog.read() as connection:
            live = blobs.live_sizes(connection, [found])
        if live.get(found) != length or not self._core.pool.has(found, length):
            return None
        return (found, length) if self._link(found, length) else None

    @abc.abstractmethod
    def _link(self, digest: Digest, size: int) -> bool:
        """Serve a blob of the store, now or later. Return False where the store does not have it any more."""

    def mount_blob(self, digest: str | Descriptor, from_repository: str) -> Descriptor:
        """Let this repository serve a blob that another one serves, without moving bytes.

        Idempotent, atomic, and outside a transaction durable when it returns.

        Returns:
            Its descriptor.

        Raises:
            RepositoryNotFoundError, BlobNotFoundError: the other repository does not exist, or does not serve the blob:
                what a third one serves does not count.
        """
        wanted = digest_of(digest, argument="digest")
        source = repository_name(from_repository)
        size = self._size_in(source, wanted)
        self._submit([MountBlob(self.name, wanted, source)])
        return Descriptor(mediatypes.OCTET_STREAM, wanted, size)

    def _size_in(self, repository: str, digest: Digest) -> int:
        """Return the size of a blob as a repository serves it now, before these changes are committed."""
        return Repository(self._core, repository).stat_blob(digest, renew=False).size

    def delete_blob(self, digest: str | Descriptor) -> None:
        """Remove a blob from this repository. A later garbage collection frees its bytes, if nothing else needs them.

        Atomic, and outside a transaction durable when it returns; doing it again raises BlobNotFoundError.

        Raises:
            BlobNotFoundError: this repository does not serve it.
            ReferencedError: a manifest of this repository refers to it.
        """
        self._submit([DeleteBlob(self.name, digest_of(digest, argument="digest"))])

    def put_manifest(
        self,
        content: bytes | Manifest,
        *,
        media_type: str | None = None,
        digest: str | Descriptor | None = None,
        tags: Iterable[str] = (),
        expected: str | Descriptor | AnyValue | None = ANY,
        missing: Missing = "refuse",
    ) -> Descriptor:
        """Store a manifest or index, exactly these bytes, and point tags at it, all in one commit.

        Idempotent and atomic. What it refers to must be in this repository: config, layers and children; not its
        subject, and not foreign layers. What an index lists under a media type that is no manifest's must be here as a
        blob.

        Args:
            content: the manifest: its bytes, or a value such as :meth:`Manifest.build` and :meth:`Index.build` make.
                With a value, blobs that its descriptors have in themselves (``data``), such as the empty config, are
                stored too; with bytes they must be here.
            media_type: its media type; otherwise the one it states itself.
            digest: what the bytes must hash to, with any supported algorithm.
            tags: the tags to point at it, whatever they point at now.
            expected: compare and swap: the digest that every one of these tags must point at, or None where none of
                them may exist. Otherwise nothing is stored at all.
            missing: what may be absent: nothing, with ``refuse``; some of an index's ``children``, as in an index that
                was pulled for one platform; or ``all``. Absent content is kept by the manifest once it is pushed.

        Returns:
            Its descriptor.

        Raises:
            ManifestInvalidError: it is not a manifest this store accepts; ``path`` says where.
            ManifestBlobUnknownError: content it refers to is not here; ``missing`` lists all of it.
            DigestMismatchError: the bytes are not those of ``digest``.
            InvalidNameError: one of the tags is no tag.
            TagConflictError: a tag is not as expected.
            ValueError: ``expected`` is given, and no tags are.

        When it returns outside a transaction, the manifest and its tags survive a power cut.
        """
        check_choice(missing, "missing", get_args(Missing))
        names = list(dict.fromkeys(tag_name(tag) for tag in tags))
        if expected is not ANY and not names:
            raise ValueError("expected says what tags must point at, and there are no tags")
        wanted = _expected(expected)
        known = None if digest is None else digest_of(digest, argument="digest")
        is_value = isinstance(content, Manifest)
        if isinstance(content, Manifest):
            media_type = content.media_type if media_type is None else media_type
            known = content.descriptor.digest if known is None else known
            content = content.content
        manifest = check_manifest(
            content, media_type=media_type, digest=known, maximum=self._core.maximum_manifest_size
        )
        own = manifest.descriptor
        embedded = manifest.embedded_blobs() if is_value else {}
        staged: list[StagedBlob] = []
        try:
            for found, data in {**embedded, own.digest: manifest.content}.items():
                staged.append(self._stage(data, digest=found, size=len(data)))
        except BaseException:
            self._core.discard(staged)
            raise
        changes: list[Change] = [PutBlob(self.name, blob) for blob in staged[:-1]]
        changes.append(PutManifest(self.name, manifest, staged[-1], missing))
        self._submit([*changes, *(SetTag(self.name, tag, own.digest, wanted) for tag in names)], staged)
        return own

    def copy_from(
        self,
        source: Repository,
        reference: str | Descriptor,
        *,
        tags: Iterable[str] = (),
        referrers: bool = True,
    ) -> Descriptor:
        """Let this repository serve what another one of the same store serves, without moving bytes: promote it.

        The whole graph comes along: of an index all manifests that the source has, their configs and layers, and what
        is about any of them. No blob is read or written. All of it appears in one commit, with the tags.
        Idempotent and atomic; outside a transaction durable when it returns. What is copied is what the source has when
        this is called, also in a transaction.

        Args:
            source: the repository to copy from.
            reference: a tag or digest there.
            tags: the tags to point at it here, whatever they point at now: also the tag that ``reference`` is, if it is
                to be one here.
            referrers: also signatures, SBOMs and attestations, to any depth: what has a copied manifest as its subject,
                and what has a tag made of its digest, as cosign's ``sha256-HEX.sig``, under that tag.

        Returns:
            Its descriptor.

        Raises:
            RepositoryNotFoundError, ManifestNotFoundError: the source has none.
            BlobNotFoundError: the file of a blob is damaged: putting it again heals it.
            InvalidNameError: one of the tags is no tag.
            ValueError: the source is in another store; :meth:`Store.copy_to` copies between two.
        """
        names = list(dict.fromkeys(tag_name(tag) for tag in tags))
        if source._core.root != self._core.root:
            raise ValueError(
                f"{source.name} is in another store, {source._core.root}: use Store.copy_to to copy from there"
            )
        left = _LOOKUPS
        while True:
            wanted = promotion(self._core.catalog, source.name, self.name, reference, names=names, referrers=referrers)
            left -= 1
            try:
                self._submit(wanted.changes)
            except (BlobNotFoundError, ManifestNotFoundError):  # perhaps it was deleted since it was looked at
                if not left:
                    raise
            else:
                return wanted.descriptor

    def delete_manifest(self, digest: str | Descriptor) -> None:
        """Remove a manifest from this repository, with the tags that point at it.

        Durable when it returns outside a transaction; doing it again raises ManifestNotFoundError. Atomic, except that
        outside a transaction, of more than 1,000 tags all but the last 1,000 are removed in commits of their own, and
        the manifest after them; after a crash, deleting it again completes that.

        Raises:
            ManifestNotFoundError: this repository does not hold it.
            ReferencedError: an index of this repository refers to it.
        """
        self._submit([DeleteManifest(self.name, digest_of(digest, argument="digest"))])

    def tag(self, name: str, digest: str | Descriptor, *, expected: str | Descriptor | AnyValue | None = ANY) -> None:
        """Point a tag at a manifest of this repository. What it pointed at before stays, under its digest.

        Atomic, outside a transaction durable when it returns, and without ``expected`` idempotent.

        Args:
            name: the tag.
            digest: of a manifest or index.
            expected: compare and swap: the digest that the tag must point at, or None where it must not exist.

        Raises:
            ManifestNotFoundError: this repository does not hold that manifest.
            TagConflictError: the tag is not as expected.
        """
        target = digest_of(digest, argument="digest")
        self._submit([SetTag(self.name, tag_name(name), target, _expected(expected))])

    def untag(self, name: str) -> None:
        """Remove a tag. The manifest stays, under its digest and its other tags, until it may be garbage-collected.

        Atomic, and outside a transaction durable when it returns; doing it again raises ManifestNotFoundError.

        Raises:
            ManifestNotFoundError: there is no such tag.
        """
        self._submit([RemoveTag(self.name, tag_name(name))])


@checks_types
class Repository(RepositoryWriter):
    """A repository of a store. Cheap to make, safe to share between threads; it need not exist yet.

    Equal to another one of the same name in the same store, also where that was opened twice.
    """

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Repository) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Path, str]:
        return self._core.root, self.name

    def _require_writable(self) -> None:
        self._core.require_writable()

    def _submit(self, changes: Sequence[Change], staged: Sequence[StagedBlob] = ()) -> None:
        try:
            self._core.commit(changes)
        finally:
            self._core.discard(staged)

    def _link(self, digest: Digest, size: int) -> bool:
        try:
            self._submit([LinkBlob(self.name, digest, size)])
        except BlobNotFoundError:  # a collection was faster
            return False
        return True

    def exists(self) -> bool:
        """Whether there is such a repository: from its first blob, upload or manifest until it is deleted."""
        with self._core.catalog.read() as connection:
            return repositories.find(connection, self.name) is not None

    # Blobs.

    def has_blob(self, digest: str | Descriptor) -> bool:
        """Whether this repository serves a blob, with a file of the right size. Changes nothing.

        Ask before pushing a manifest with :meth:`stat_blob`, which also keeps the blob until then.
        """
        wanted = digest_of(digest, argument="digest")
        with self._core.catalog.read() as connection:
            found = blobs.held(connection, self.name, wanted)
        return found is not None and self._core.pool.has(wanted, found.size)

    def blobs(self, *, after: str | Descriptor = "", limit: int | None = None) -> Iterator[Descriptor]:
        """Yield the blobs of this repository in the order in which the store first saw them.

        They are what was pushed or mounted as a blob: configs and layers, whether or not a manifest refers to them, and
        no manifests. Their media type is ``application/octet-stream``: only manifests say another one.

        Args:
            after: begin after this digest, the last one of the page before: a blob of this repository.
            limit: how many at most; None for all.

        Raises:
            RepositoryNotFoundError: there is no such repository.
            BlobNotFoundError: the repository has no blob ``after``, whatever others have. One that was deleted is known
                until it is collected.
        """
        repository_id = self._id()
        start = self._place_after(after, repository_id, blobs.key, BlobNotFoundError)

        def page(last: int, count: int) -> list[tuple[int, Descriptor]]:
            with self._core.catalog.read() as connection:
                rows = blobs.page(connection, repository_id, after=last, limit=count)
            return [(key, Descriptor(mediatypes.OCTET_STREAM, Digest.parse(found), size)) for key, found, size in rows]

        return pages(page, start, limit)

    def blob_path(self, digest: str | Descriptor) -> Path | None:
        """Return the path of a blob's file, to read in place: for ``mmap``, ``sendfile`` or another program.

        None where the store's pool keeps no files. Nobody may write to the file, whose mode is 0444: other repositories
        and other links share its bytes. The path stays until a garbage collection removes the blob, which it does not
        do while a manifest or a lease keeps it; what is open or mapped by then can be read to its end.

        Raises:
            RepositoryNotFoundError, BlobNotFoundError: this repository does not serve it, or its file is damaged.
        """
        wanted = digest_of(digest, argument="digest")
        self.stat_blob(wanted, renew=False)
        local = self._core.pool.local
        return None if local is None else local.path(wanted)

    def blob_url(self, digest: str | Descriptor, *, expires: timedelta) -> str | None:
        """Return an address from which whoever has it can fetch a blob without this process, for a while.

        None where the store's pool gives none, as that of files does not: serve the bytes yourself then.

        Args:
            digest: of the blob.
            expires: for how long the address is good.

        Raises:
            RepositoryNotFoundError, BlobNotFoundError: this repository does not serve it.
            ValueError: ``expires`` is not positive.
        """
        wanted = digest_of(digest, argument="digest")
        check_duration(expires, "expires", positive=True)
        size = self.stat_blob(wanted, renew=False).size
        addresses = self._core.pool.addresses
        return None if addresses is None else addresses.url(wanted, size, expires=expires)

    def stat_blob(self, digest: str | Descriptor, *, renew: bool = True) -> Descriptor:
        """Return the descriptor of a blob of this repository: its size, and media type ``application/octet-stream``.

        Where no manifest refers to the blob yet, its grace starts again, so that it still exists when one does; that
        is a write, at most once in half an hour. A lease that the caller works under keeps it from then on: a write for
        what it does not keep yet. Idempotent, atomic, and durable when it returns.

        Args:
            digest: of the blob.
            renew: whether that is written; without it nothing is.

        Raises:
            BlobNotFoundError: this repository does not serve it, or its file is damaged; pushing it again heals it.
            StoreBusyError, StoreFullError, StorageError: that could not be written.
            LeaseExpiredError: the caller works under a lease that has run out.
        """
        wanted = digest_of(digest, argument="digest")
        found = self._row(wanted)
        if not self._core.pool.has(wanted, found.size):
            raise BlobNotFoundError(wanted, repository=self.name)
        if not renew:
            return Descriptor(mediatypes.OCTET_STREAM, wanted, found.size)
        idle = (
            found.unreferenced_since is not None
            and found.unreferenced_since + _RENEW_AFTER < self._core.catalog.now()
            and not self._core.read_only
        )
        lacking = self._lacking(wanted)
        if idle or lacking:
            with self._core.catalog.write(repositories={self.name}) as connection:
                repository_id = repositories.find(connection, self.name)
                if repository_id is not None:
                    now = self._core.catalog.now()
                    blobs.touch(connection, repository_id, wanted, now=now)
                    for lease in lacking:
                        lease.keep_all(connection, repository_id, [wanted], now=now)
        return Descriptor(mediatypes.OCTET_STREAM, wanted, found.size)

    def _lacking(self, digest: Digest) -> list[HeldLease]:
        """Return the leases of the running work that do not keep a blob of this repository yet."""
        leases = held(self._core)
        if not leases:
            return []
        with self._core.catalog.read() as connection:
            now = self._core.catalog.now()
            return [lease for lease in leases if lease.lacks(connection, self.name, digest, now=now)]

    def open_blob(self, digest: str | Descriptor, *, verify: bool = False) -> BlobReader:
        """Open a blob of this repository as a seekable binary file; to be closed, or used with ``with``.

        What is open can be read to its end, even if it is deleted and collected meanwhile.

        Args:
            digest: of the blob.
            verify: hash the bytes as they are read. Reading all of them raises an error in place of the last ones,
                if they are damaged; what is read through ``fileno()`` is not hashed. Without it only the
                size is compared, and :meth:`Store.scrub` finds damaged bytes.

        Raises:
            BlobNotFoundError: this repository does not serve it.
            CorruptError: its file is gone or has another size; with ``verify``, also while reading, its bytes are
                wrong.
        """
        wanted = digest_of(digest, argument="digest")
        for _ in range(_LOOKUPS):
            held = self._row(wanted)
            try:
                reader = self._core.pool.open(wanted, held.size, verify=verify)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                continue
            return reader
        self._core.catalog.refuse_moved()
        raise CorruptError(f"blob {wanted}", reason="its file is gone")

    def _row(self, digest: Digest) -> HeldBlob:
        with self._core.catalog.read() as connection:
            held = blobs.held(connection, self.name, digest)
        if held is None:
            self._id()
            raise BlobNotFoundError(digest, repository=self.name)
        return held

    # Upload sessions.

    def start_upload(self, *, algorithm: str = "sha256", ttl: timedelta = UPLOAD_LIFETIME) -> Upload:
        """Begin an upload session: a blob that arrives in pieces, perhaps over several processes' lives.

        Atomic, and durable when it returns. Not idempotent: each call begins another session.

        A session ends ``ttl`` after it was last opened or closed, unless a writer has it open: then a garbage
        collection removes it with its bytes.

        Args:
            algorithm: hashes the bytes as they come. Any digest may be committed; one of this algorithm
                costs no second reading.
            ttl: how long it lives when nobody works with it; seven days, if not given.

        Raises:
            InvalidDigestError: the algorithm is not known here.
            ValueError: ``ttl`` is not positive, or more than a hundred years.
            ReadOnlyStoreError, StoreBusyError, StoreFullError, StorageError: there is no session.
        """
        return Upload.start(self._core, self.name, algorithm=algorithm, ttl=ttl)

    def upload(self, id: str) -> Upload:  # noqa: A002  (the name is part of the public contract)
        """Resume an upload session of this repository, in any process. One writer at a time.

        Its ``offset`` says where it continues: after all that was written, or, after a restart of the machine, after
        what was durable.

        Raises:
            UploadNotFoundError: there is none of that id here.
            StoreBusyError: another writer has it open.
        """
        return Upload.resume(self._core, self.name, id)

    def uploads(self) -> Iterator[UploadInfo]:
        """Yield the open upload sessions of this repository that can be resumed, by id.

        Raises:
            RepositoryNotFoundError: there is no such repository.
        """
        return sessions(self._core, self._id())

    def stat_upload(self, id: str) -> UploadInfo:  # noqa: A002
        """Return what :meth:`uploads` says of one session, whether or not a writer has it open.

        Raises:
            UploadNotFoundError: there is none of that id here.
        """
        return stat_session(self._core, self.name, id)

    def cancel_upload(self, id: str) -> None:  # noqa: A002
        """End an upload session of this repository, also one whose file is gone, and discard its bytes.

        Atomic, and durable when it returns; doing it again raises UploadNotFoundError.

        Raises:
            UploadNotFoundError: there is none of that id here.
            StoreBusyError: a writer has it open.
        """
        cancel_session(self._core, self.name, id)

    # Manifests.

    def resolve(self, reference: str | Descriptor) -> Descriptor:
        """Return the descriptor of the manifest that a tag or digest of this repository names.

        Raises:
            RepositoryNotFoundError, ManifestNotFoundError: there is none.
        """
        return self._lookup(reference).descriptor

    def get_manifest(self, reference: str | Descriptor) -> Manifest:
        """Return the manifest that a tag or digest names.

        It has exactly the bytes that were put, verified against their digest.

        Raises:
            RepositoryNotFoundError, ManifestNotFoundError: there is none.
            CorruptError: its file is gone or damaged. Putting the same manifest again heals it.
        """
        for _ in range(_LOOKUPS):
            descriptor = self._lookup(reference).descriptor
            digest = descriptor.digest
            try:
                content = self._core.pool.read(digest, descriptor.size)
            except FileNotFoundError as error:
                pass_on_theirs(error)
                continue
            if Digest.of(content, digest.algorithm) != digest:
                raise CorruptError(f"manifest {digest}", reason="its bytes are not those of its digest")
            return Manifest(descriptor, content)
        self._core.catalog.refuse_moved()
        raise CorruptError(f"manifest {descriptor.digest}", reason="its file is gone")

    def _lookup(self, reference: str | Descriptor) -> manifests.Stored:
        checked = tag_or_digest(reference, argument="reference")
        find = manifests.by_digest if isinstance(checked, Digest) else manifests.by_tag
        with self._core.catalog.read() as connection:
            stored = find(connection, self.name, checked)
        if stored is None:
            self._id()
            raise ManifestNotFoundError(checked, repository=self.name)
        return stored

    def manifests(self, *, after: str | Descriptor = "", limit: int | None = None) -> Iterator[Descriptor]:
        """Yield the manifests and indexes here, tagged or not, in the order in which the store first saw them.

        Args:
            after: begin after this digest, the last one of the page before: a manifest of this repository.
            limit: how many at most; None for all.

        Raises:
            RepositoryNotFoundError: there is no such repository.
            ManifestNotFoundError: the repository has no manifest ``after``, whatever others have. One that was deleted
                is known until it is collected.
        """
        repository_id = self._id()
        start = self._place_after(after, repository_id, manifests.key, ManifestNotFoundError)

        def page(last: int, count: int) -> list[tuple[int, Descriptor]]:
            with self._core.catalog.read() as connection:
                listed = manifests.page(connection, repository_id, after=last, limit=count)
            return [(entry.key, entry.stored.descriptor) for entry in listed]

        return pages(page, start, limit)

    def referrers(
        self,
        digest: str | Descriptor,
        *,
        artifact_type: str | None = None,
        after: str | Descriptor = "",
        limit: int | None = None,
    ) -> list[Descriptor]:
        """Return the manifests of this repository whose subject is ``digest``, in byte order of their digests.

        The list has their artifact types and annotations (distribution specification, "Listing Referrers"). It is empty
        where there are none, or no such manifest.

        Args:
            digest: of the subject, which need not be here.
            artifact_type: only those of this type.
            after: begin after this digest, the last one of the page before. It need not be here any more.
            limit: how many at most; None for all.

        Raises:
            RepositoryNotFoundError: there is no such repository.
        """
        wanted = digest_of(digest, argument="digest")
        last_seen = digest_of(after, argument="after") if after else ""
        most = None if limit is None else whole_number(limit, "limit")
        if artifact_type is not None:
            check_text(artifact_type, kind="artifact type")
        repository_id = self._id()
        with self._core.catalog.read() as connection:
            return manifests.referrers(
                connection, repository_id, wanted, artifact_type=artifact_type, after=last_seen, limit=most
            )

    # Tags.

    def tags(self, *, prefix: str = "", after: str = "", limit: int | None = None) -> Iterator[str]:
        """Yield the tags of this repository in byte order.

        Args:
            prefix: only those that start with it.
            after: begin after this tag, which need not exist.
            limit: how many at most; None for all.

        Raises:
            RepositoryNotFoundError: there is no such repository.
        """
        check_text(prefix, kind="prefix")
        check_text(after, kind="tag")
        repository_id = self._id()

        def page(last: str, count: int) -> list[tuple[str, str]]:
            with self._core.catalog.read() as connection:
                names = tags.page(connection, repository_id, prefix=prefix, after=last, limit=count)
            return [(name, name) for name in names]

        return pages(page, after, limit)

    def list_tags(
        self,
        *,
        sort: TagOrder = "name",
        newest_first: bool = True,
        prefix: str = "",
        after: TagInfo | str | None = None,
        limit: int | None = None,
        total_size: bool = False,
    ) -> Iterator[TagInfo]:
        """Yield the tags of this repository with what they point at, by name or by date.

        The first ones cost the same however many tags there are. Each page is read on its own: a tag that is moved
        meanwhile may be seen once more, or not.

        Args:
            sort: ``name``, in byte order, or ``updated``, by when each was last made or moved.
            newest_first: with ``updated``, begin with the newest one; otherwise with the oldest.
            prefix: only those that start with it.
            after: begin after this tag, the last one of the page before; by name, also after a name. It need not exist
                any more.
            limit: how many at most; None for all.
            total_size: also add up the bytes of all that each tag stands for. That reads about a row of the catalog
                for each layer.

        Raises:
            RepositoryNotFoundError: there is no such repository.
            ValueError: ``sort`` is neither, or ``after`` is a name and the order is that of time.
        """
        return tag_infos(
            self._core,
            self._id(),
            self.name,
            sort=sort,
            newest_first=newest_first,
            prefix=prefix,
            after=after,
            limit=limit,
            total_size=total_size,
        )

    def tags_of(self, digest: str | Descriptor) -> list[str]:
        """Return the tags of this repository that point at a manifest, in byte order; none where it is not here.

        Raises:
            RepositoryNotFoundError: there is no such repository.
        """
        wanted = digest_of(digest, argument="digest")
        repository_id = self._id()

        def found(connection: Connection) -> list[str]:
            manifest_id = manifests.key(connection, repository_id, wanted)
            return [] if manifest_id is None else sorted(tags.of_manifest(connection, repository_id, manifest_id))

        return in_snapshot(self._core.catalog, found)

    def history(self, tag: str | None = None, *, limit: int | None = None) -> Iterator[TagEvent]:
        """Yield the changes of the tags of this repository, or of one of them, newest first.

        Raises:
            RepositoryNotFoundError: there is no such repository.
        """
        wanted = None if tag is None else tag_name(tag)
        self._id()

        def page(last: int, count: int) -> list[tuple[int, TagEvent]]:
            with self._core.catalog.read() as connection:
                rows = tags.history(connection, self.name, tag=wanted, before=last, limit=count)
            return [(row.id, _event(row)) for row in rows]

        return pages(page, 2**63 - 1, limit)

    def _place_after(
        self,
        after: str | Descriptor,
        repository_id: int,
        key: Callable[[Connection, int, str], int | None],
        missing: type[BlobNotFoundError | ManifestNotFoundError],
    ) -> int:
        """Return the key after which a listing begins, of which all are above 0."""
        if not after:
            return 0
        last_seen = digest_of(after, argument="after")
        with self._core.catalog.read() as connection:
            known = key(connection, repository_id, last_seen)
        if known is None:
            raise missing(last_seen, repository=self.name)
        return known

    def _id(self) -> int:
        with self._core.catalog.read() as connection:
            found = repositories.find(connection, self.name)
        if found is None:
            raise RepositoryNotFoundError(self.name)
        return found


def _event(row: tags.Event) -> TagEvent:
    old = None if row.old_digest is None else Digest.parse(row.old_digest)
    new = None if row.new_digest is None else Digest.parse(row.new_digest)
    return TagEvent(row.id, row.tag, old, new, instant(row.at), row.actor)


def _expected(given: str | Descriptor | AnyValue | None) -> Digest | AnyValue | None:
    return given if given is None or isinstance(given, AnyValue) else digest_of(given, argument="expected")


def _size(size: int | None) -> int | None:
    """Return a size as the caller declared it; None where it cannot be one."""
    if size is not None and size < 0:
        raise SizeMismatchError(expected=size, actual=0)
    return size
