"""Every error that ocistore raises: one class per thing that can be wrong, with fields that say what was wrong.

Each class has ``code``, the error code of the distribution specification (section "Error Codes") or, where that has
none, the word registries use, and ``exit_code``, what the command line exits with. Codes are part of the public
contract: they never change and are never used again.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TOLD_AT_MOST: Final = 5
"""How many of the existing names a message lists."""


def _rebuild(cls: type[OCIStoreError], args: tuple[Any, ...], fields: dict[str, Any]) -> OCIStoreError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(fields)
    return error


class OCIStoreError(Exception):
    """The base class of every error that ocistore raises.

    Apart from ``TypeError`` and ``ValueError`` for arguments that make no sense, and from what is the caller's own: a
    file that a blob is to be read from and that cannot be opened or read is an ``OSError``; and what a source, a file
    object, a progress callable or a signal handler of the caller's raises is raised unchanged.
    """

    code: ClassVar[str] = "UNKNOWN"
    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the fields when the error crosses a process boundary."""
        return _rebuild, (type(self), self.args, self.__dict__)


# --- names and digests ------------------------------------------------------------------------------------------------


class InvalidNameError(OCIStoreError):
    """A repository name, a tag or a reference is outside the grammar, or does not say which thing is meant."""

    code = "NAME_INVALID"
    exit_code = 10

    def __init__(self, name: object, *, kind: str, reason: str, unclear: bool = False) -> None:
        """Say what is wrong with a name.

        Args:
            name: as it was given.
            kind: what it was meant to be: ``repository``, ``tag`` or ``reference``.
            reason: what is wrong.
            unclear: it is within the grammar, and does not say enough here.
        """
        self.name = name
        self.kind = kind
        self.reason = reason
        super().__init__(f"{name!r:.300}{':' if unclear else f' is not a valid {kind}:'} {reason}")


class InvalidDigestError(OCIStoreError):
    """A text is no digest, or one of an algorithm that this store cannot check."""

    code = "DIGEST_INVALID"
    exit_code = 12

    def __init__(self, digest: object, *, reason: str) -> None:
        self.digest = digest
        self.reason = reason
        super().__init__(f"{digest!r:.200} is not a digest this store accepts: {reason}")


class DigestMismatchError(OCIStoreError):
    """The bytes are not those of the digest that came with them."""

    code = "DIGEST_INVALID"
    exit_code = 13

    def __init__(self, *, expected: str, actual: str, subject: str = "content") -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"{subject} has digest {actual}, not {expected}")


class SizeMismatchError(OCIStoreError):
    """The number of bytes is not the one declared. ``actual`` is a lower bound where reading stopped early."""

    code = "SIZE_INVALID"
    exit_code = 14

    def __init__(self, *, expected: int, actual: int, subject: str = "content") -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"{subject} has {actual} bytes, not {expected}")


# --- what is not there ------------------------------------------------------------------------------------------------


class RepositoryNotFoundError(OCIStoreError):
    """There is no repository of that name. One exists from its first blob, upload or manifest until it is deleted."""

    code = "NAME_UNKNOWN"
    exit_code = 11

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no repository {name!r} in this store")


class BlobNotFoundError(OCIStoreError):
    """The repository does not hold that blob, even if others do; without a repository, none in the store does.

    ``urls`` say where else it may be; ``meanwhile``, that it was there when the call began, and was collected since.
    """

    code = "BLOB_UNKNOWN"
    exit_code = 15

    def __init__(
        self, digest: str, *, repository: str | None, urls: Sequence[str] = (), meanwhile: bool = False
    ) -> None:
        self.digest = digest
        self.repository = repository
        self.urls = tuple(urls)
        self.meanwhile = meanwhile
        if meanwhile:
            super().__init__(f"blob {digest} was deleted and collected while it was to be read")
            return
        elsewhere = f"; it is a foreign layer, of {', '.join(self.urls):.300}" if urls else ""
        holder = "the store" if repository is None else f"repository {repository!r}"
        super().__init__(f"{holder} holds no blob {digest}{elsewhere}")


class ManifestNotFoundError(OCIStoreError):
    """There is no manifest of that tag or digest, or no tag matches; with ``where``, in a layout that is not a store.

    ``called`` is what was asked for, where that says more, such as a host; ``names`` are those that exist, of which the
    first are listed.
    """

    code = "MANIFEST_UNKNOWN"
    exit_code = 16

    def __init__(
        self, reference: str, *, repository: str, where: str = "", called: str = "", names: Sequence[str] = ()
    ) -> None:
        self.reference = reference
        self.repository = repository
        self.where = where
        missing = "tag that matches" if any(wild in reference for wild in "*?[") else "manifest"
        text = f"repository {repository!r} has no {missing} {reference!r}"
        if called:
            text = f"nothing in it is called {called!r:.300}"
        if names:
            some = ", ".join(f"{name!a:.200}" for name in names[:_TOLD_AT_MOST])
            text += f"; there is {some}{', ...' if len(names) > _TOLD_AT_MOST else ''}"
        super().__init__(f"{where}: {text}" if where else text)


class UploadNotFoundError(OCIStoreError):
    """The repository has no open upload session of that id."""

    code = "BLOB_UPLOAD_UNKNOWN"
    exit_code = 17

    def __init__(self, upload: str, *, repository: str) -> None:
        self.upload = upload
        self.repository = repository
        super().__init__(f"repository {repository!r} has no open upload {upload!r:.100}")


# --- what is refused --------------------------------------------------------------------------------------------------


class ManifestInvalidError(OCIStoreError):
    """The bytes are not a manifest this store accepts. ``path`` says where in the document, as ``layers[2].size``.

    ``unknown``: they may be one to others, because it refers to something by a digest of an algorithm that is not known
    here, or by a text that is no media type.
    """

    code = "MANIFEST_INVALID"
    exit_code = 18

    def __init__(self, reason: str, *, path: str = "", unknown: bool = False) -> None:
        self.reason = reason
        self.path = path
        self.unknown = unknown
        super().__init__(f"invalid manifest: {path + ': ' if path else ''}{reason}")


class ManifestBlobUnknownError(OCIStoreError):
    """A manifest refers to content that its repository does not hold. ``missing`` lists every such digest, in order."""

    code = "MANIFEST_BLOB_UNKNOWN"
    exit_code = 19

    def __init__(self, missing: Sequence[str], *, repository: str, kinds: Sequence[str] = ()) -> None:
        """Name what is missing; ``kinds`` says of each what it is, such as ``layer`` or ``image for linux/arm64``."""
        self.missing = tuple(missing)
        self.repository = repository
        self.kinds = tuple(kinds)
        words = [f"{digest} ({kind})" for digest, kind in zip(self.missing, self.kinds, strict=False)] or self.missing
        super().__init__(
            f"repository {repository!r} lacks {len(self.missing)} of the manifest's blobs: "
            + ", ".join(words[:20])
            + (" ..." if len(self.missing) > 20 else "")
        )


class UploadRangeError(OCIStoreError):
    """A chunk does not start at the end of the upload. ``offset`` is that end, in bytes."""

    code = "BLOB_UPLOAD_INVALID"
    exit_code = 20

    def __init__(self, *, offset: int, given: int) -> None:
        self.offset = offset
        self.given = given
        super().__init__(f"the upload stands at offset {offset}, the chunk starts at {given}")


class ReferencedError(OCIStoreError):
    """Manifests of the repository refer to what was to be deleted. ``referrers`` lists the digests of 1,000 at most."""

    code = "DENIED"
    exit_code = 21

    def __init__(self, digest: str, *, repository: str, referrers: Sequence[str]) -> None:
        self.digest = digest
        self.repository = repository
        self.referrers = tuple(referrers)
        super().__init__(
            f"{digest} is in use in repository {repository!r} by: "
            + ", ".join(self.referrers[:20])
            + (" ..." if len(self.referrers) > 20 else "")
        )


class TagConflictError(OCIStoreError):
    """A tag is not as expected (compare and swap). ``expected`` and ``actual`` are digests, or None for no tag."""

    code = "DENIED"
    exit_code = 22

    def __init__(self, name: str, *, repository: str, expected: str | None, actual: str | None) -> None:
        self.name = name
        self.repository = repository
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"tag {name!r} of repository {repository!r} is {_or_absent(actual)}, expected {_or_absent(expected)}"
        )


def _or_absent(digest: str | None) -> str:
    return "absent" if digest is None else f"at {digest}"


class LayoutInvalidError(OCIStoreError):
    """A source is no OCI layout that this store reads, or is damaged. ``problems`` lists everything that is wrong."""

    code = "MANIFEST_INVALID"
    exit_code = 23

    def __init__(self, layout: Path, *, problems: Sequence[str]) -> None:
        self.layout = layout
        self.problems = tuple(problems)
        super().__init__(
            f"{layout} is not an OCI layout that can be used: "
            + "; ".join(self.problems[:20])
            + (f"; and {len(self.problems) - 20} more" if len(self.problems) > 20 else "")
        )


class ArtifactInvalidError(OCIStoreError):
    """Files cannot be packed as an artifact, or the files of an artifact cannot be written under their titles."""

    code = "UNSUPPORTED"
    exit_code = 24

    def __init__(self, name: str, *, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"{name!r:.300}: {reason}")


class ArchiveInvalidError(OCIStoreError):
    """A tar archive or a compressed stream is damaged, hostile, or of a kind that this installation cannot read."""

    code = "UNSUPPORTED"
    exit_code = 44

    def __init__(self, archive: str, *, reason: str, member: str = "") -> None:
        self.archive = archive
        self.reason = reason
        self.member = member
        super().__init__(f"{archive:.300}: {f'{member!r:.300}: ' if member else ''}{reason}")


class PlatformNotFoundError(OCIStoreError):
    """An image exists for none of the platforms that were asked for, or, where one is needed, for several."""

    code = "MANIFEST_UNKNOWN"
    exit_code = 45

    def __init__(
        self,
        reference: str,
        *,
        wanted: Sequence[str],
        available: Sequence[str],
        fitting: Sequence[str] = (),
        absent: Mapping[str, str] = MappingProxyType({}),
        reason: str = "",
    ) -> None:
        """Say what is there instead.

        Args:
            reference: what was asked for.
            wanted: the platforms.
            available: those of what is there.
            fitting: which fit, where more than one do.
            absent: by digest, what would fit and does not exist.
            reason: why nothing is, where that is known.
        """
        self.reference = reference
        self.wanted = tuple(wanted)
        self.available = tuple(available)
        self.fitting = tuple(fitting)
        self.absent = dict(absent)
        if fitting:
            super().__init__(
                f"{reference} has several images for {' or '.join(self.wanted)}: say which of "
                f"{', '.join(self.fitting[:20])}"
            )
            return
        if absent:
            missing = ", ".join(f"{digest} is missing ({kind})" for digest, kind in list(self.absent.items())[:20])
            others = f"; --platform {' or '.join(self.available[:20])} would do" if available else ""
            super().__init__(f"{reference} is not here for {' or '.join(self.wanted)}: {missing}{others}")
            return
        there = f"there are {', '.join(self.available[:20])}" if available else reason or "it says none"
        super().__init__(f"{reference} is not for {' or '.join(self.wanted)}: {there}")


class FileNotInImageError(OCIStoreError):
    """An image has no file of that name, or one whose content is not in its layers."""

    code = "BLOB_UNKNOWN"
    exit_code = 46

    def __init__(self, reference: str, *, path: str, reason: str = "there is no such file") -> None:
        self.reference = reference
        self.path = path
        self.reason = reason
        super().__init__(f"{path!r:.300} in {reference}: {reason}")


# --- the store itself -------------------------------------------------------------------------------------------------


class StoreBusyError(OCIStoreError):
    """Somebody else held what this needed for ``waited`` seconds. Nothing changed; trying again is safe.

    Or something else made it unusable (this thread held it itself or inherited it in a fork, garbage collection removed
    it meanwhile): then ``reason`` says what, and what to do.
    """

    code = "UNAVAILABLE"
    exit_code = 30

    def __init__(self, what: str, *, waited: float, reason: str | None = None) -> None:
        self.what = what
        self.waited = waited
        self.reason = reason
        words = f"{what} is in use by another writer (waited {waited:.1f} s)"
        super().__init__(words if reason is None else f"{what} cannot be used now: {reason}")


class ReadOnlyStoreError(OCIStoreError):
    """The store was opened read-only, or is where this process may not write."""

    code = "UNSUPPORTED"
    exit_code = 31

    def __init__(self, root: Path, *, reason: str = "it was opened read-only") -> None:
        self.root = root
        self.reason = reason
        super().__init__(f"the store {root} cannot be changed: {reason}")


class StoreNotFoundError(OCIStoreError):
    """There is no store at that path, and none may be made there."""

    code = "UNAVAILABLE"
    exit_code = 32

    def __init__(self, root: Path, *, reason: str) -> None:
        self.root = root
        self.reason = reason
        super().__init__(f"{root} is not a store: {reason}")


class SchemaTooOldError(OCIStoreError):
    """The catalog needs an upgrade that this way of opening does not do (read-only)."""

    code = "UNSUPPORTED"
    exit_code = 33

    def __init__(self, root: Path, *, found: str, needed: str) -> None:
        self.root = root
        self.found = found
        self.needed = needed
        super().__init__(
            f"the store {root} has schema {found}, older than {needed}: open it for writing once, "
            "or run: ocistore db upgrade"
        )


class SchemaTooNewError(OCIStoreError):
    """The catalog was written by a newer ocistore than this one."""

    code = "UNSUPPORTED"
    exit_code = 34

    def __init__(self, root: Path, *, found: str, known: str) -> None:
        self.root = root
        self.found = found
        self.known = known
        super().__init__(
            f"the store {root} has schema {found}, newer than {known} which this ocistore knows: "
            "install a newer ocistore"
        )


class CorruptError(OCIStoreError):
    """What the store holds is damaged. It is never served as good; pushing the same content again heals a blob.

    ``gone`` is the digest of the blob, where what is wrong is that its file does not exist.
    """

    code = "UNAVAILABLE"
    exit_code = 35

    def __init__(self, what: str, *, reason: str, gone: str | None = None) -> None:
        self.what = what
        self.reason = reason
        self.gone = gone
        super().__init__(f"{what} is damaged: {reason}")


class StoreFullError(OCIStoreError):
    """The disk, or a quota on it, is full. Nothing changed."""

    code = "UNAVAILABLE"
    exit_code = 36

    def __init__(self, path: str, *, reason: str = "") -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"no space left on the device that holds {path}{reason and ': '}{reason}")


class UncertainCommitError(OCIStoreError):
    """The disk failed in the middle of a commit: whether it happened is not known. Look, or do the same again.

    ``__cause__`` says what failed. Everything but a compare and swap may be repeated: it then changes nothing twice.
    """

    code = "UNAVAILABLE"
    exit_code = 40

    def __init__(self, root: Path) -> None:
        self.root = root
        super().__init__(f"the store {root} could not finish a commit: look whether it happened, or repeat it")


class CollectionRefusedError(OCIStoreError):
    """A garbage collection would not be safe, or would remove more than anybody is likely to want; nothing changed."""

    code = "DENIED"
    exit_code = 41

    def __init__(self, root: Path, *, reasons: Sequence[str], remedy: str) -> None:
        self.root = root
        self.reasons = tuple(reasons)
        self.remedy = remedy
        super().__init__(f"garbage collection of the store {root} is refused: {'; '.join(self.reasons)} ({remedy})")


class RebuildRefusedError(OCIStoreError):
    """The catalog is good, or in use: nothing was rebuilt, and nothing changed."""

    code = "DENIED"
    exit_code = 43

    def __init__(self, root: Path, *, reason: str) -> None:
        self.root = root
        self.reason = reason
        super().__init__(f"the catalog of {root} was not rebuilt: {reason}")


class LeaseExpiredError(OCIStoreError):
    """A lease has ended or run out, so that it keeps nothing any more. Nothing was changed."""

    code = "DENIED"
    exit_code = 42

    def __init__(self, lease: str) -> None:
        self.lease = lease
        super().__init__(f"the lease {lease} has ended or run out: what is pushed now would not be kept")


class StorageError(OCIStoreError):
    """The operating system refused an operation on a file; ``errno`` and ``__cause__`` say which and why."""

    code = "UNAVAILABLE"
    exit_code = 37

    def __init__(self, path: str, *, errno: int | None, reason: str) -> None:
        self.path = path
        self.errno = errno
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class UnsupportedFilesystemError(OCIStoreError):
    """The store's promises cannot be kept on that filesystem: a network filesystem, or one without hard links."""

    code = "UNSUPPORTED"
    exit_code = 38

    def __init__(self, root: Path, *, filesystem: str, reason: str) -> None:
        self.root = root
        self.filesystem = filesystem
        self.reason = reason
        super().__init__(f"{root} lies on {filesystem}: {reason}")


class StoreClosedError(OCIStoreError, ValueError):
    """A store, transaction or upload was used after it was closed or had ended. Nothing was changed."""

    code = "UNAVAILABLE"
    exit_code = 39

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} is closed")
