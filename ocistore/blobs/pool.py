"""The contract of a pool: where the bytes of blobs live, each content once, found by its digest.

A pool knows bytes and nothing else: no repositories, no rows. The life of a blob in it:

    stage     P0  the bytes are kept apart and hashed as they stream; nobody finds them by their digest
    publish   P1  their data becomes durable, then they are found by their digest, then that becomes durable
    holds     P2  asked inside the write transaction that makes the row live: are they still found?
    withdraw      where that transaction is refused: they are found no more
    discard       after all that: what was staged is given up; what was published stays
    trash         a collection: they are found no more, and their room is given back by ``delete_trashed``

Publishing and holding are two steps because a collection may take the content away in between: its row was condemned
before ours became live. Then ``holds`` answers False, the transaction is rolled back and ``publish`` is called again,
which copies nothing, because the staged bytes are kept until ``discard``.

A crash at any moment leaves either staged bytes, which are swept by age, or published content without a row, which the
next push of the same content replaces and which a collection otherwise sweeps. It never leaves content that is found
and not durable.

The contract comes in roles, of which a caller asks for the smallest that it needs: :class:`Provider` gives published
bytes, :class:`Ingester` takes new ones, :class:`Uploads` keeps those that arrive in pieces, :class:`Sweeper` lists and
removes. :class:`Pool` has all of them. What only some pools can do is an attribute of the pool, and None where it
cannot: :class:`SharesFiles`, :class:`LocalFiles` and the ballast. To look at that attribute is the whole question.

All methods are safe to call from any number of threads, and from as many processes as the pool is shared by. Content is
named by the digest and the size that its row gave. Where a method can fail because the pool's medium does, it raises
:class:`StorageError`, or :class:`StoreFullError` and :class:`ReadOnlyStoreError` where it writes; what it says of other
errors comes in addition to these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias

from ocistore.blobs.hashing import no_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from ocistore.blobs.ballast import Ballast
    from ocistore.blobs.hashing import Count
    from ocistore.blobs.reader import BlobReader
    from ocistore.blobs.sharing import TransferMode
    from ocistore.filedescriptors import FileDescriptor
    from ocistore.oci.digest import Digest, Hasher

Source: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO | Iterable[bytes]
"""What a blob can be read from: the bytes themselves, a path (``str`` or ``os.PathLike``), a binary file object, read
from where it stands to its end, or an iterable of bytes."""

# --- values -----------------------------------------------------------------------------------------------------------


class StagedBlob(Protocol):
    """Verified bytes that are kept apart until they are published and discarded."""

    @property
    def digest(self) -> Digest:
        """The digest of the bytes, computed by the pool and never taken on trust."""
        ...

    @property
    def size(self) -> int:
        """Their number."""
        ...


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """Something that a listing of the pool finds among what is published, blob or not."""

    algorithm: str
    name: str
    digest: Digest | None
    """What it claims to be; None where its name is no digest, or it cannot be a blob."""
    size: int
    identity: int
    """What tells it from another one that has its name later."""
    changed: int
    """When it last got or lost a name, or was written, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class UnpublishedFile:
    """What is beside the published content: staged, of an upload session, in the trash or in quarantine."""

    name: str
    size: int
    changed: int
    """When it last got or lost a name, or was written, in milliseconds since the epoch."""
    identity: int
    """That of the :class:`PublishedFile` that has the same bytes, where it was published too."""
    may_be_published: bool
    """Whether the same bytes may be published, so that removing it need not give room back."""


@dataclass(frozen=True, slots=True)
class HashState:
    """How far the bytes of an upload session were hashed, for whoever opens it next in the same process."""

    identity: int
    offset: int
    algorithm: str
    hasher: Hasher


# --- roles ------------------------------------------------------------------------------------------------------------


class Provider(Protocol):
    """Gives published bytes. Changes nothing."""

    def has_algorithm(self, algorithm: str) -> bool:
        """Whether anything of that algorithm may be published: False saves asking for each digest.

        Raises:
            CorruptError: what should hold such content is something else.
        """
        ...

    def size(self, digest: Digest) -> int | None:
        """Return the number of bytes that are found by that digest; None where there are none, or no content.

        Raises:
            CorruptError: what should hold such content is something else.
        """
        ...

    def has(self, digest: Digest, size: int) -> bool:
        """Whether that many bytes are found by that digest. They are not read.

        Raises:
            CorruptError: what should hold such content is something else.
        """
        ...

    def open(self, digest: Digest, size: int, *, verify: bool = False) -> BlobReader:
        """Return a seekable reader of the bytes, which it keeps whatever happens to the content afterwards.

        Args:
            digest: whose bytes.
            size: how many they are.
            verify: hash them as they are read: whoever reads all of them gets an error in place of the last ones, if
                they are not the right ones.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: there are fewer or more; what is found is no content; and later, with ``verify``, they are
                not the right ones.
        """
        ...

    def read(self, digest: Digest, size: int) -> bytes:
        """Return all the bytes, not hashed again: of what is small, such as a manifest.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: there are fewer or more, or what is found is no content.
        """
        ...

    def hash(self, digest: Digest, *, fresh: bool = False, progress: Count = no_count) -> tuple[Digest, int]:
        """Return what the bytes hash to and their number, to see whether they are what they should be.

        Args:
            digest: by which they are found, and whose algorithm they are hashed with.
            fresh: read them from the medium, and not from a cache, as far as that can be asked for.
            progress: called with the number of bytes of each piece.

        Raises:
            FileNotFoundError: there are none.
            CorruptError: what is found is no content.
            StorageError: they cannot be read now, which says nothing about what they are.
        """
        ...


class Ingester(Protocol):
    """Takes new bytes. What it staged belongs to the caller, in this process, until it is discarded."""

    def stage(
        self,
        source: Source,
        *,
        digest: Digest | None = None,
        size: int | None = None,
        algorithm: str = "sha256",
    ) -> StagedBlob:
        """Keep the bytes of ``source`` apart, hashing them as they stream (P0), in constant memory where they need it.

        Leaves them staged: not durable, found by nobody. Each call stages them once more. What reading ``source``
        raises is raised unchanged; whatever is raised, nothing is left staged.

        Args:
            source: where the bytes come from; read once, to its end, or to one byte more than ``size``.
            digest: what the bytes must hash to; its algorithm is then used.
            size: how many bytes there must be.
            algorithm: what to hash with where no digest is given.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those that were announced.
            InvalidDigestError: ``algorithm`` is not one this process can compute; nothing was read.
            TypeError: ``source`` is nothing a blob can be read from, or gave something other than bytes.
        """
        ...

    def publish(self, staged: Sequence[StagedBlob]) -> None:
        """Make the bytes of all of them durable, let them be found by their digests, and make that durable (P1).

        Idempotent; not atomic: where it raises, some may be found. Replaces what was found by a digest before: what is
        staged was verified, what was there was not. When it returns, all of them survive a power cut until they are
        withdrawn or trashed; they stay staged.

        Raises:
            CorruptError: what is in the place of one of them is not for the pool to replace.
            StorageError: likewise, where bytes may be lost: then these are staged no more, and must be staged again.
        """
        ...

    def holds(self, blob: StagedBlob) -> bool:
        """Whether bytes of its size are found by the digest of ``blob``, durably (P2). Cheap, where nothing raced."""
        ...

    def withdraw(self, blob: StagedBlob) -> None:
        """Let what ``blob`` published be found no more; another publisher's bytes of the same digest stay.

        Idempotent. It need not survive a power cut. For a transaction that was refused after :meth:`publish`, and only
        where nothing can come to rely on the content meanwhile: inside a write transaction that sees no live row of the
        digest. ``blob`` stays staged, and may be published again.
        """
        ...

    def discard(self, staged: Iterable[StagedBlob]) -> None:
        """Give up what was staged. Published bytes stay. Idempotent.

        Raises nothing because of the medium: the transaction it follows is over, and a sweep by age gets what is left.
        """
        ...

    def leave(self, staged: Iterable[StagedBlob]) -> None:
        """Leave what was published to a collection, where nobody can say now whether a row stands for it.

        It stays listed as staged also when it is discarded; a day later a collection finds it by that, and takes it out
        of the pool if there is no row. What is not published is not left. Raises nothing, as :meth:`discard`.
        """
        ...

    def open_staged(self, blob: StagedBlob) -> BlobReader:
        """Return a reader of the bytes of what is staged.

        Raises:
            StorageError: it was discarded.
        """
        ...


class NewUpload(Protocol):
    """The bytes of an upload session that begins: they go with this object, until :meth:`Uploads.keep`."""

    @property
    def name(self) -> str:
        """The session's name: 32 hexadecimal digits."""
        ...


class OpenUpload(Protocol):
    """The bytes of one upload session, which this caller alone has until it is closed, or its process dies.

    Used by one thread at a time. Keep it open until what it staged was discarded or the commit failed: nobody else can
    write to bytes that are being published.
    """

    name: str
    """The session's name."""

    def __enter__(self) -> Self:
        """Return this object."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close it."""
        ...

    @property
    def offset(self) -> int:
        """How many bytes there are."""
        ...

    @property
    def state(self) -> HashState:
        """What lets :meth:`Uploads.open` continue without reading the bytes again. May be asked for after closing."""
        ...

    def append(self, chunk: bytes | bytearray | memoryview) -> int:
        """Write ``chunk`` after what is there and return the new offset: all of it or, where this raises, nothing.

        It outlives this process at once, as far as the pool does, and a power cut after :meth:`sync`.
        """
        ...

    def sync(self) -> None:
        """Make all bytes durable. Idempotent.

        Raises:
            StorageError: likewise; then the bytes cannot be trusted any more and the session is gone.
        """
        ...

    def truncate(self, offset: int) -> None:
        """Remove the bytes after ``offset``: those that a power cut may have torn, because nobody synced them.

        Raises:
            ValueError: there are fewer bytes than that.
        """
        ...

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of all bytes. Only those that were hashed with another algorithm are read again.

        Raises:
            InvalidDigestError: this process cannot compute that algorithm.
        """
        ...

    def stage(self, digest: Digest) -> StagedBlob:
        """Return the session's bytes as something to publish, durable, if they are those of ``digest``.

        To discard what this returns is to end the session: do it after the commit, and not where the commit failed.
        Writing after that failure changes nothing that was published.

        Raises:
            DigestMismatchError: they are not; the session keeps its bytes and can continue.
        """
        ...

    def close(self) -> None:
        """Let others have the session, which keeps its bytes. Idempotent."""
        ...


class Uploads(Protocol):
    """Keeps the bytes of upload sessions: one writer at a time, and bytes that outlive a failed commit."""

    def create(self) -> NewUpload:
        """Begin an empty session, durably. It is removed with what this returns, until it is kept."""
        ...

    def keep(self, upload: NewUpload) -> None:
        """Leave a session to whoever knows its name: its row was committed."""
        ...

    def open(self, name: str, algorithm: str, *, state: HashState | None = None) -> OpenUpload:
        """Return the bytes of a session, for this caller alone.

        Args:
            name: of the session.
            algorithm: what to hash the bytes with as they come.
            state: what a former :class:`OpenUpload` of this session left in ``state``, so that its bytes are not read
                again; ignored where it is not of the same bytes.

        Raises:
            FileNotFoundError: there is no such session.
            StoreBusyError: somebody else has it open.
            InvalidNameError, InvalidDigestError: the name or the algorithm is none.
            CorruptError: what has its name is something else.
        """
        ...

    def size(self, name: str) -> int:
        """Return the number of bytes of a session, also while somebody has it open.

        Raises:
            FileNotFoundError: there is no such session.
            InvalidNameError: the name is none.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove the bytes of a session. Idempotent. What was published of them stays.

        Raises:
            InvalidNameError: the name is none.
        """
        ...

    def page_cache(self) -> str:
        """Return a name for what keeps the bytes that were appended and not synced.

        As long as the answer is the same, every session has the bytes that were appended to it; after it changed, only
        those that were synced are sure to be right.
        """
        ...


class Sweeper(Protocol):
    """Lists what is in the pool, and takes content out of it. Each move is atomic; a crash may undo it."""

    def files(self) -> Iterator[PublishedFile]:
        """List everything that is published, in no order, in constant memory.

        What comes or goes meanwhile may be given or not.

        Raises:
            CorruptError: what should hold content is something else.
        """
        ...

    def find(self, digest: Digest) -> PublishedFile | None:
        """Return what is found by a digest, content or not; None where nothing is.

        Raises:
            CorruptError: what should hold content is something else.
        """
        ...

    def staged(self) -> Iterator[UnpublishedFile]:
        """List upload sessions, what is staged, and what was staged by processes that died."""
        ...

    def find_staged(self, name: str) -> UnpublishedFile | None:
        """Return what :meth:`staged` would list under that name; None where there is nothing."""
        ...

    def alone(self, name: str) -> AbstractContextManager[bool]:
        """Return a block in which nobody can open that session; it is given False where somebody has it open."""
        ...

    def published(self, file: UnpublishedFile) -> Digest | None:
        """Return the digest by which the bytes of something staged are found too; None where they are not."""
        ...

    def trash(self, digest: Digest) -> UnpublishedFile | None:
        """Let content be found no more. Return what :meth:`trashed` lists then; None where there is no content.

        Idempotent. Readers that have it open keep its bytes. Only where nothing can come to rely on it meanwhile:
        inside a write transaction that sees no live row.
        """
        ...

    def trashed(self) -> Iterator[UnpublishedFile]:
        """List what was trashed and not deleted."""
        ...

    def quarantine(self, file: PublishedFile) -> str | None:
        """Let something be found no more and keep it, durably, for a person to look at. Return its name there.

        None where it is not found any more, or something else is by now: then nothing is changed.
        """
        ...

    def quarantined(self) -> Iterator[UnpublishedFile]:
        """List what is in quarantine: named by its algorithm, a hyphen, its name, a full stop and a random number."""
        ...

    def open_quarantined(self, name: str) -> BinaryIO:
        """Return a reader of something in quarantine.

        Raises:
            StorageError: it is not there, or cannot be read.
        """
        ...

    def delete(self, file: PublishedFile) -> bool:
        """Remove content at once, where nobody works with the pool: of a backup. False where it is gone, or none."""
        ...

    def delete_staged(self, name: str) -> bool:
        """Remove something staged. False where somebody else did."""
        ...

    def delete_trashed(self, name: str) -> bool:
        """Remove something trashed, and give its room back. False where somebody else did."""
        ...

    def delete_quarantined(self, name: str) -> bool:
        """Remove something from quarantine, whose bytes are published again. False where somebody else did."""
        ...


# --- what only some can do --------------------------------------------------------------------------------------------


class SharesFiles(Protocol):
    """Takes and gives files of this machine without copying their bytes."""

    def adopt(
        self,
        descriptor: int,
        *,
        digest: Digest,
        size: int,
        mode: TransferMode = "auto",
        path: str = "the file",
        progress: Count = no_count,
    ) -> StagedBlob:
        """Stage the bytes of an open plain file, shared where ``mode`` allows it; they are hashed in any case.

        Args:
            descriptor: of the file, open for reading. All of it is read, and where it stands afterwards is not said.
            digest: what its bytes must hash to.
            size: how many there must be.
            mode: see :data:`ocistore.TransferMode`.
            path: what messages call the file.
            progress: called with the number of bytes of each piece that was read.

        Raises:
            DigestMismatchError, SizeMismatchError: the bytes are not those; nothing is left staged.
            StorageError: with ``link``, the file cannot be linked, or was written to while it was read. Nothing is left
                staged, and the file is as it was.
            OSError: the file could not be read.
        """
        ...

    def link(self, digest: Digest, size: int, directory: int, name: str) -> None:
        """Give the file of a blob another name, ``name`` in the open ``directory``; durable once that was synced.

        Raises:
            FileExistsError: the name is taken.
            CorruptError: there is no plain file of ``size`` bytes.
            OSError: it cannot be linked there, as on another filesystem.
        """
        ...

    def directory(self, algorithm: str) -> FileDescriptor:
        """Return a descriptor of the directory of an algorithm, for who links many blobs by the rest of their digests.

        Raises:
            FileNotFoundError: nothing of that algorithm was ever stored.
            CorruptError: it is not a directory.
        """
        ...


class LocalFiles(Protocol):
    """Keeps each blob as a file of its own, which others may read in place."""

    past_cache: bool
    """Whether big blobs may be written past the kernel's page cache."""

    def path(self, digest: Digest) -> Path:
        """Return the path of the file of a blob, there or not. Nobody may write to it."""
        ...


class Pool(Provider, Ingester, Protocol):
    """All roles in one. What is None by default is what only some pools have."""

    identity: str
    """What a store notes that is made with this pool, so that it is not opened with another one. Empty for the pool of
    files in the store's own directory."""

    @property
    def uploads(self) -> Uploads:
        """The bytes of upload sessions."""
        ...

    @property
    def sweeper(self) -> Sweeper:
        """What lists and removes."""
        ...

    @property
    def sharing(self) -> SharesFiles | None:
        """What shares bytes with files of this machine; None where that cannot be."""
        return None

    @property
    def local(self) -> LocalFiles | None:
        """Where the files of blobs are; None where there are none."""
        return None

    @property
    def ballast(self) -> Ballast | None:
        """What is given up when the disk is full; None where there is none."""
        return None

    def close(self) -> None:
        """Let go of what the process holds open. Idempotent. Content stays, and so does what is staged.

        What is called afterwards, in another thread or by whoever has something staged, works as before.
        """
        ...


def name_of(pool: Pool, digest: Digest) -> str:
    """Return what messages call a blob: the path of its file, where it has one."""
    return f"blob {digest}" if pool.local is None else str(pool.local.path(digest))


def may_grow(pool: Pool) -> bool:
    """Whether there is room for what frees nothing, such as history. Else the ballast would be used up for it."""
    return pool.ballast is None or pool.ballast.may_grow()
