"""Every error that ocistore raises: one class per thing that can be wrong, with fields that say what was wrong.

Each class has ``code``, the error code of the distribution specification (section "Error Codes") or, where that has
none, the word registries use, and ``exit_code``, what the command line exits with. Codes are part of the public
contract: they never change and are never used again.

The annotations of a class are its fields and the arguments of its constructor. ``args`` has the values of all of them,
in order and in a form that JSON has too, so ``type(error)(*error.args)`` is the same error: it survives ``pickle`` and
``copy``, and the workers of concurrent.futures, multiprocessing and Celery.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LISTED_NAMES: Final = 5
"""How many of the existing names a message lists."""

_LISTED: Final = 20
"""How many of other things a message lists; the field has all of them."""


@dataclass_transform(eq_default=False, field_specifiers=(field,))
class OCIStoreError(Exception):
    """The base class of every error that ocistore raises.

    Apart from ``TypeError`` and ``ValueError`` for arguments that make no sense, and from what is the caller's own: a
    file that a blob is to be read from and that cannot be opened or read is an ``OSError``; and what a source, a file
    object, a progress callable or a signal handler of the caller's raises is raised unchanged.
    """

    code: ClassVar[str] = "UNKNOWN"
    exit_code: ClassVar[int] = 1
    _message: ClassVar[str] = ""
    """What ``str`` says of it: ``str.format`` fills the fields in. A class may define ``__str__`` instead."""

    def __init_subclass__(cls) -> None:
        """Make a data class of each error of this module; those of others may have any constructor."""
        if cls.__module__ == __name__:
            dataclass(eq=False, repr=False, match_args=False)(cls)

    def __post_init__(self) -> None:
        """Take lists as tuples and texts as paths, as they come back from JSON; and note the values as ``args``."""
        arguments: list[object] = []
        for each in fields(self):  # type: ignore[arg-type]  # each subclass is a data class
            value = getattr(self, each.name)
            kind = str(each.type)  # annotations are not evaluated here
            if kind.startswith("tuple["):
                value = tuple(value)
            elif kind == "Path":
                value = Path(value)
            setattr(self, each.name, value)
            arguments.append(str(value) if isinstance(value, Path) else value)
        self.args = tuple(arguments)

    def __str__(self) -> str:
        return self._message.format_map(vars(self)) or super().__str__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:_LISTED]) + (" ..." if len(words) > _LISTED else "")


# --- names and digests ------------------------------------------------------------------------------------------------


class InvalidNameError(OCIStoreError):
    """A repository name, a tag or a reference is outside the grammar, or does not say which thing is meant."""

    code = "NAME_INVALID"
    exit_code = 10
    name: object
    """As it was given."""
    kind: str
    """What it was meant to be: ``repository``, ``tag`` or ``reference``."""
    reason: str
    unclear: bool = False
    """It is within the grammar, and does not say enough here."""

    def __str__(self) -> str:
        return f"{self.name!r:.300}{':' if self.unclear else f' is not a valid {self.kind}:'} {self.reason}"


class InvalidDigestError(OCIStoreError):
    """A text is no digest, or one of an algorithm that this store cannot check."""

    code = "DIGEST_INVALID"
    exit_code = 12
    _message = "{digest!r:.200} is not a digest this store accepts: {reason}"
    digest: object
    reason: str


class DigestMismatchError(OCIStoreError):
    """The bytes are not those of the digest that came with them."""

    code = "DIGEST_INVALID"
    exit_code = 13
    _message = "{subject} has digest {actual}, not {expected}"
    expected: str
    actual: str
    subject: str = "content"


class SizeMismatchError(OCIStoreError):
    """The number of bytes is not the one declared. ``actual`` is a lower bound where reading stopped early."""

    code = "SIZE_INVALID"
    exit_code = 14
    _message = "{subject} has {actual} bytes, not {expected}"
    expected: int
    actual: int
    subject: str = "content"


# --- what is not there ------------------------------------------------------------------------------------------------


class RepositoryNotFoundError(OCIStoreError):
    """There is no repository of that name. One exists from its first blob, upload or manifest until it is deleted."""

    code = "NAME_UNKNOWN"
    exit_code = 11
    _message = "there is no repository {name!r} in this store"
    name: str


class BlobNotFoundError(OCIStoreError):
    """The repository does not hold that blob, even if others do; without a repository, none in the store does.

    ``urls`` say where else it may be; ``meanwhile``, that it was there when the call began, and was collected since.
    """

    code = "BLOB_UNKNOWN"
    exit_code = 15
    digest: str
    repository: str | None
    urls: tuple[str, ...] = ()
    meanwhile: bool = False

    def __str__(self) -> str:
        if self.meanwhile:
            return f"blob {self.digest} was deleted and collected while it was to be read"
        elsewhere = f"; it is a foreign layer, of {', '.join(self.urls):.300}" if self.urls else ""
        holder = "the store" if self.repository is None else f"repository {self.repository!r}"
        return f"{holder} holds no blob {self.digest}{elsewhere}"


class ManifestNotFoundError(OCIStoreError):
    """There is no manifest of that tag or digest, or no tag matches; with ``where``, in a layout that is not a store.

    ``called`` is what was asked for, where that says more, such as a host; ``names`` are those that exist, of which the
    first are listed.
    """

    code = "MANIFEST_UNKNOWN"
    exit_code = 16
    reference: str
    repository: str
    where: str = ""
    called: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        missing = "tag that matches" if any(wild in self.reference for wild in "*?[") else "manifest"
        text = f"repository {self.repository!r} has no {missing} {self.reference!r}"
        if self.called:
            text = f"nothing in it is called {self.called!r:.300}"
        if self.names:
            some = ", ".join(f"{name!a:.200}" for name in self.names[:_LISTED_NAMES])
            text += f"; there is {some}{', ...' if len(self.names) > _LISTED_NAMES else ''}"
        return f"{self.where}: {text}" if self.where else text


class UploadNotFoundError(OCIStoreError):
    """The repository has no open upload session of that id."""

    code = "BLOB_UPLOAD_UNKNOWN"
    exit_code = 17
    _message = "repository {repository!r} has no open upload {upload!r:.100}"
    upload: str
    repository: str


# --- what is refused --------------------------------------------------------------------------------------------------


class ManifestInvalidError(OCIStoreError):
    """The bytes are not a manifest this store accepts. ``path`` says where in the document, as ``layers[2].size``.

    ``unknown``: they may be one to others, because it refers to something by a digest of an algorithm that is not known
    here, or by a text that is no media type.
    """

    code = "MANIFEST_INVALID"
    exit_code = 18
    reason: str
    path: str = ""
    unknown: bool = False

    def __str__(self) -> str:
        return f"invalid manifest: {self.path + ': ' if self.path else ''}{self.reason}"


class ManifestBlobUnknownError(OCIStoreError):
    """A manifest refers to content that its repository does not hold. ``missing`` lists every such digest, in order."""

    code = "MANIFEST_BLOB_UNKNOWN"
    exit_code = 19
    missing: tuple[str, ...]
    repository: str
    kinds: tuple[str, ...] = ()
    """What each of them is, such as ``layer`` or ``image for linux/arm64``."""

    def __str__(self) -> str:
        kinds = zip(self.missing, self.kinds, strict=False)
        words = [f"{digest} ({kind})" for digest, kind in kinds] or self.missing
        return f"repository {self.repository!r} lacks {len(self.missing)} of the manifest's blobs: {_listed(words)}"


class UploadRangeError(OCIStoreError):
    """A chunk does not start at the end of the upload. ``offset`` is that end, in bytes."""

    code = "BLOB_UPLOAD_INVALID"
    exit_code = 20
    _message = "the upload stands at offset {offset}, the chunk starts at {given}"
    offset: int
    given: int


class ReferencedError(OCIStoreError):
    """Manifests of the repository refer to what was to be deleted. ``referrers`` lists the digests of 1,000 at most."""

    code = "DENIED"
    exit_code = 21
    digest: str
    repository: str
    referrers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.digest} is in use in repository {self.repository!r} by: {_listed(self.referrers)}"


class TagConflictError(OCIStoreError):
    """A tag is not as expected (compare and swap). ``expected`` and ``actual`` are digests, or None for no tag."""

    code = "DENIED"
    exit_code = 22
    name: str
    repository: str
    expected: str | None
    actual: str | None

    def __str__(self) -> str:
        is_, expected = ("absent" if tag is None else f"at {tag}" for tag in (self.actual, self.expected))
        return f"tag {self.name!r} of repository {self.repository!r} is {is_}, expected {expected}"


class LayoutInvalidError(OCIStoreError):
    """A source is no OCI layout that this store reads, or is damaged. ``problems`` lists everything that is wrong."""

    code = "MANIFEST_INVALID"
    exit_code = 23
    layout: Path
    problems: tuple[str, ...]

    def __str__(self) -> str:
        more = f"; and {len(self.problems) - _LISTED} more" if len(self.problems) > _LISTED else ""
        return f"{self.layout} is not an OCI layout that can be used: {'; '.join(self.problems[:_LISTED])}{more}"


class ArtifactInvalidError(OCIStoreError):
    """Files cannot be packed as an artifact, or the files of an artifact cannot be written under their titles."""

    code = "UNSUPPORTED"
    exit_code = 24
    _message = "{name!r:.300}: {reason}"
    name: str
    reason: str


class ArchiveInvalidError(OCIStoreError):
    """A tar archive or a compressed stream is damaged, hostile, or of a kind that this installation cannot read."""

    code = "UNSUPPORTED"
    exit_code = 44
    archive: str
    reason: str
    member: str = ""

    def __str__(self) -> str:
        return f"{self.archive:.300}: {f'{self.member!r:.300}: ' if self.member else ''}{self.reason}"


class PlatformNotFoundError(OCIStoreError):
    """An image exists for none of the platforms that were asked for, or, where one is needed, for several."""

    code = "MANIFEST_UNKNOWN"
    exit_code = 45
    reference: str
    wanted: tuple[str, ...]
    """The platforms that were asked for."""
    available: tuple[str, ...]
    """Those of what is there."""
    fitting: tuple[str, ...] = ()
    """Which fit, where more than one do."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """By digest, what would fit and does not exist."""
    reason: str = ""
    """Why nothing is there, where that is known."""

    def __str__(self) -> str:
        wanted, available = " or ".join(self.wanted), self.available[:_LISTED]
        if self.fitting:
            return f"{self.reference} has several images for {wanted}: say which of {', '.join(self.fitting[:_LISTED])}"
        if self.absent:
            absent = list(self.absent.items())[:_LISTED]
            missing = ", ".join(f"{digest} is missing ({kind})" for digest, kind in absent)
            others = f"; --platform {' or '.join(available)} would do" if available else ""
            return f"{self.reference} is not here for {wanted}: {missing}{others}"
        there = f"there are {', '.join(available)}" if available else self.reason or "it says none"
        return f"{self.reference} is not for {wanted}: {there}"


class FileNotInImageError(OCIStoreError):
    """An image has no file of that name, or one whose content is not in its layers."""

    code = "BLOB_UNKNOWN"
    exit_code = 46
    _message = "{path!r:.300} in {reference}: {reason}"
    reference: str
    path: str
    reason: str = "there is no such file"


# --- the store itself -------------------------------------------------------------------------------------------------


class StoreBusyError(OCIStoreError):
    """Somebody else held what this needed for ``waited`` seconds. Nothing changed; trying again is safe.

    Or something else made it unusable (this thread held it itself or inherited it in a fork, garbage collection removed
    it meanwhile): then ``reason`` says what, and what to do.
    """

    code = "UNAVAILABLE"
    exit_code = 30
    what: str
    waited: float
    reason: str | None = None

    def __str__(self) -> str:
        if self.reason is not None:
            return f"{self.what} cannot be used now: {self.reason}"
        return f"{self.what} is in use by another writer (waited {self.waited:.1f} s)"


class ReadOnlyStoreError(OCIStoreError):
    """The store was opened read-only, or is where this process may not write."""

    code = "UNSUPPORTED"
    exit_code = 31
    _message = "the store {root} cannot be changed: {reason}"
    root: Path
    reason: str = "it was opened read-only"


class StoreNotFoundError(OCIStoreError):
    """There is no store at that path, and none may be made there."""

    code = "UNAVAILABLE"
    exit_code = 32
    _message = "{root} is not a store: {reason}"
    root: Path
    reason: str


class SchemaTooOldError(OCIStoreError):
    """The catalog needs an upgrade that this way of opening does not do (read-only)."""

    code = "UNSUPPORTED"
    exit_code = 33
    _message = (
        "the store {root} has schema {found}, older than {needed}: open it for writing once, "
        "or run: ocistore db upgrade"
    )
    root: Path
    found: str
    needed: str


class SchemaTooNewError(OCIStoreError):
    """The catalog was written by a newer ocistore than this one."""

    code = "UNSUPPORTED"
    exit_code = 34
    _message = (
        "the store {root} has schema {found}, newer than {known} which this ocistore knows: install a newer ocistore"
    )
    root: Path
    found: str
    known: str


class CorruptError(OCIStoreError):
    """What the store holds is damaged. It is never served as good; pushing the same content again heals a blob.

    ``gone`` is the digest of the blob, where what is wrong is that its file does not exist.
    """

    code = "UNAVAILABLE"
    exit_code = 35
    _message = "{what} is damaged: {reason}"
    what: str
    reason: str
    gone: str | None = None


class StoreFullError(OCIStoreError):
    """The disk, or a quota on it, is full. Nothing changed."""

    code = "UNAVAILABLE"
    exit_code = 36
    path: str
    reason: str = ""

    def __str__(self) -> str:
        return f"no space left on the device that holds {self.path}{self.reason and ': '}{self.reason}"


class UncertainCommitError(OCIStoreError):
    """The disk failed in the middle of a commit: whether it happened is not known. Look, or do the same again.

    ``__cause__`` says what failed. Everything but a compare and swap may be repeated: it then changes nothing twice.
    """

    code = "UNAVAILABLE"
    exit_code = 40
    _message = "the store {root} could not finish a commit: look whether it happened, or repeat it"
    root: Path


class CollectionRefusedError(OCIStoreError):
    """A garbage collection would not be safe, or would remove more than anybody is likely to want; nothing changed."""

    code = "DENIED"
    exit_code = 41
    root: Path
    reasons: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        return f"garbage collection of the store {self.root} is refused: {'; '.join(self.reasons)} ({self.remedy})"


class RebuildRefusedError(OCIStoreError):
    """The catalog is good, or in use: nothing was rebuilt, and nothing changed."""

    code = "DENIED"
    exit_code = 43
    _message = "the catalog of {root} was not rebuilt: {reason}"
    root: Path
    reason: str


class LeaseExpiredError(OCIStoreError):
    """A lease has ended or run out, so that it keeps nothing any more. Nothing was changed."""

    code = "DENIED"
    exit_code = 42
    _message = "the lease {lease} has ended or run out: what is pushed now would not be kept"
    lease: str


class StorageError(OCIStoreError):
    """The operating system refused an operation on a file; ``errno`` and ``__cause__`` say which and why."""

    code = "UNAVAILABLE"
    exit_code = 37
    _message = "{path}: {reason}"
    path: str
    errno: int | None
    reason: str


class UnsupportedFilesystemError(OCIStoreError):
    """The store's promises cannot be kept on that filesystem: a network filesystem, or one without hard links."""

    code = "UNSUPPORTED"
    exit_code = 38
    _message = "{root} lies on {filesystem}: {reason}"
    root: Path
    filesystem: str
    reason: str


class StoreClosedError(OCIStoreError, ValueError):
    """A store, transaction or upload was used after it was closed or had ended. Nothing was changed."""

    code = "UNAVAILABLE"
    exit_code = 39
    _message = "{what} is closed"
    what: str
