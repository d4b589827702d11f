"""The index.json of a layout: reading it, writing it, and how repositories and tags become names in it.

A layout has names; a store has repositories with tags. Each named entry that ocistore writes has two annotations:

    io.containerd.image.name            REPO:TAG, always: what containerd names the image
    org.opencontainers.image.ref.name   TAG for the repository that had a new layout to itself, else REPO:TAG:
                                        what skopeo and umoci take after the colon, as in oci:DIR:NAME

A name that was written once stays: what a second repository adds to a layout is named REPO:TAG, the first keeps TAG.

An entry without a tag, such as a referrer, has only ``io.containerd.image.name``, with REPO@DIGEST.

Reading an entry, the repository is the one that the caller gives; otherwise the one in ``io.containerd.image.name``;
otherwise the one in a ref.name of the form REPO:TAG; and otherwise the one that all other entries name. The tag is the
one in ref.name, whether TAG or REPO:TAG, and otherwise the one in ``io.containerd.image.name``. The name of an image
that has neither a tag nor a digest means the tag ``latest``, as in Docker; a ref.name is one if it has a slash. A host
with a port cannot be part of a repository's name and is left out.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ocistore.errors import InvalidNameError, ManifestInvalidError
from ocistore.layouts.directory import INDEX_JSON
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import Descriptor, Platform
from ocistore.oci.digest import Digest, digest_or_none, is_any_digest, is_of_other_algorithm
from ocistore.oci.reference import DEFAULT_TAG, repository_name, split_host, tag_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

REF_NAME: Final = "org.opencontainers.image.ref.name"
IMAGE_NAME: Final = "io.containerd.image.name"

MAXIMUM_INDEX_SIZE: Final = 256 * 1024 * 1024
"""Bytes of an index.json: about half a million tags. It is read into memory, so there has to be an end."""

MAXIMUM_INDEX_VALUES: Final = 8_000_000
"""Commas and opening brackets in it. An entry has about a dozen, in 500 bytes; but in three bytes can be a list, which
takes sixty in memory."""

MAXIMUM_DAMAGED: Final = 1000
"""Entries that are wrong in themselves, each of which is kept with what is wrong with it: one can have two bytes."""

MAXIMUM_LAYOUT_FILE_SIZE: Final = 64 * 1024
"""Bytes of an oci-layout file; real ones have 30."""

_WRITTEN: Final = frozenset({"schemaVersion", "mediaType", "manifests"})

_KNOWN: Final = {
    "digest": "sha256:" + "0" * 64,
    "mediaType": "application/octet-stream",
    "artifactType": None,
    "data": None,
}
"""What replaces what is not known of an entry, while the rest of it is looked at."""

LAYOUT_FILE: Final = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest that a layout is to name."""

    repository: str
    tag: str | None
    descriptor: Descriptor

    @property
    def image_name(self) -> str:
        """REPO:TAG, or REPO@DIGEST for an entry without a tag."""
        return f"{self.repository}@{self.descriptor.digest}" if self.tag is None else f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Name:
    """What an entry of a layout is called, as far as it says."""

    repository: str | None
    tag: str | None
    given: str
    """The annotation, for messages; empty where there is none."""
    host: str | None = None
    """A host with a port before the repository, which is no part of its name."""


def check_layout_file(content: bytes) -> None:
    """Check that it says that this is a layout of a version we read (image-layout, "oci-layout file").

    Raises:
        ManifestInvalidError: it does not.
    """
    document = strictjson.loads(content, maximum=MAXIMUM_LAYOUT_FILE_SIZE)
    version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
    if version != "1.0.0":
        raise ManifestInvalidError(f"imageLayoutVersion is {version!r:.100}, not '1.0.0'", path="imageLayoutVersion")


@dataclass(frozen=True)
class Unusable:
    """An entry of which nothing can be read here: its algorithm or its media type is unknown, or malformed."""

    digest: str
    reason: str
    annotations: Mapping[str, str]
    document: Mapping[str, Any] = field(default_factory=dict)
    """The entry as written; empty where that does not matter."""

    def __str__(self) -> str:
        """Return a line for reports: its digest, its name, and what is wrong with it."""
        given = name_in(self.annotations).given
        called = f"{given!r:.200}: " if given else ""
        return f"{self.digest} ({called}{self.reason})"


@dataclass(frozen=True)
class Damaged:
    """Something that is listed, and wrong in itself. What was asked for by another name does not suffer from it."""

    problems: tuple[str, ...]
    digest: str = ""
    """The digest as the entry writes it; empty where that is not known."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Those that are text, for its name."""
    is_named: bool = True
    """Whether its name, or that it has none, is known."""
    platform: Platform | None = None
    """What it is for, where that is known."""
    unknown: bool = False
    """Nothing can be read of it here, which is no damage: it is an obstacle only where it was asked for."""

    def __str__(self) -> str:
        """Return a line for reports: its digest, its name, and what is wrong with it."""
        given = name_in(self.annotations).given
        called = f"{given!r:.200}: " if given else ""
        return f"{self.digest or 'an entry'} ({called}{'; '.join(self.problems)})"


class Listing(NamedTuple):
    """What an index.json lists, in its order."""

    entries: list[Descriptor]
    unusable: list[Unusable]
    damaged: list[Damaged]
    besides: Mapping[str, Any]
    """What else the document says, such as its annotations; for writing another one in its place."""


def read_index(content: bytes, *, keep_damaged: bool = False) -> Listing:
    """Return the entries of an index.json. ``"manifests": null`` is what umoci writes for a layout without entries.

    That one entry cannot be used is no reason to refuse the others; that one is damaged is, unless the caller looks at
    ``damaged`` (``keep_damaged``); so are more than :data:`MAXIMUM_DAMAGED` of them.

    Raises:
        ManifestInvalidError: it is not one; ``path`` says where.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MAXIMUM_INDEX_VALUES:
        raise ManifestInvalidError(f"it is made of more than {MAXIMUM_INDEX_VALUES} values")
    entries: _Entries | None = None

    def begin() -> Callable[[Any], None]:
        nonlocal entries
        entries = _Entries(keep_damaged=keep_damaged)
        return entries.add

    document = strictjson.loads_each(content, "manifests", begin, maximum=MAXIMUM_INDEX_SIZE)
    if not isinstance(document, dict):
        raise ManifestInvalidError("it is not a JSON object")
    version = document.get("schemaVersion")
    if version != 2 or isinstance(version, bool | float):
        raise ManifestInvalidError(f"schemaVersion is {version!r:.100}, not 2", path="schemaVersion")
    # Go's writers may say null or "", and some write down whatever index they have, which may be Docker's.
    if (document.get("mediaType") or mediatypes.OCI_INDEX) not in (mediatypes.OCI_INDEX, mediatypes.DOCKER_LIST):
        raise ManifestInvalidError(f"it is not {mediatypes.OCI_INDEX}", path="mediaType")
    for key in ("layers", "config"):
        if key in document:
            raise ManifestInvalidError("an index has no such property", path=key)
    manifests = document.get("manifests", "")
    if manifests is not None and not isinstance(manifests, list):
        raise ManifestInvalidError("it must be a list", path="manifests")
    listing = Listing([], [], [], {key: document[key] for key in document.keys() - _WRITTEN})
    if manifests is not None and entries is not None:
        if entries.error is not None:
            raise entries.error
        listing = Listing(entries.usable, entries.unusable, entries.damaged, listing.besides)
    return listing


class _Entries:
    """The entries of an index.json, as they are read: the document is not held beside them."""

    def __init__(self, *, keep_damaged: bool) -> None:
        self.usable: list[Descriptor] = []
        self.unusable: list[Unusable] = []
        self.damaged: list[Damaged] = []
        self.error: ManifestInvalidError | None = None
        """The error because of which all entries are refused."""
        self._count = 0
        self._keep_damaged = keep_damaged

    def add(self, value: object) -> None:
        """Take in the next one."""
        path = f"manifests[{self._count}]"
        self._count += 1
        if self.error is not None:
            return
        try:
            self.usable.append(Descriptor.from_json(value, path=path))
        except ManifestInvalidError as error:
            try:
                self.unusable.append(_unusable_entry(value, error, path=path))
            except ManifestInvalidError as damage:
                if self._keep_damaged and len(self.damaged) < MAXIMUM_DAMAGED:
                    self.damaged.append(_damaged(value, damage))
                else:
                    self.error = damage


def _unusable_entry(value: object, error: ManifestInvalidError, *, path: str) -> Unusable:
    """Return an entry that is no descriptor, where that is no damage; where it is, raise ``error`` or another one."""
    if not isinstance(value, dict) or (reason := _unusable(value)) is None:
        raise error
    known = Descriptor.from_json({**value, **_KNOWN}, path=path)  # is all the rest as it should be?
    return Unusable(str(value.get("digest")), reason, known.annotations, value)


def _damaged(value: object, error: ManifestInvalidError) -> Damaged:
    """Return what can be known of an entry that is damaged."""
    entry = value if isinstance(value, dict) else {}
    digest, annotations, platform = entry.get("digest"), entry.get("annotations"), entry.get("platform")
    text: dict[str, str] = {}
    is_named = isinstance(value, dict) and annotations is None
    if isinstance(annotations, dict):
        text = {key: name for key, name in annotations.items() if isinstance(name, str)}
        is_named = {IMAGE_NAME, REF_NAME} & annotations.keys() <= text.keys()
    found = None
    with contextlib.suppress(ManifestInvalidError):
        found = Platform.from_json(platform, path="platform")
    return Damaged(
        (f"{INDEX_JSON}: {error}",),
        digest if isinstance(digest, str) else "",
        text,
        is_named=is_named,
        platform=found,
    )


def _unusable(value: dict[str, Any]) -> str | None:
    """Return why nothing can be read of an entry, where that is no damage."""
    digest, media_type, artifact_type = map(value.get, ("digest", "mediaType", "artifactType"))
    if is_of_other_algorithm(digest):
        return "its digest is of an algorithm that is not known here"
    if not isinstance(digest, str) or digest_or_none(digest) is None:
        return None
    for kind, text in ((media_type, media_type), (artifact_type, artifact_type or media_type)):
        if kind is not None and not isinstance(kind, str):
            return None
        if not mediatypes.is_media_type(text):
            return f"{text!r:.100} is not a media type"
    return None


def name_of(descriptor: Descriptor) -> Name:
    """Return the name that the annotations of an entry give it."""
    return name_in(descriptor.annotations)


def name_in(annotations: Mapping[str, str]) -> Name:
    """Return the name that annotations of an entry give it."""
    ref_name = annotations.get(REF_NAME, "")
    image_name = annotations.get(IMAGE_NAME, "")
    given = ref_name or image_name
    host, repository, tag = _split(image_name)
    ref_host, ref_repository, ref_tag = _split(ref_name)
    if ref_repository is None and ref_tag is None:
        ref_tag = _valid_tag(ref_name)
    if repository is None:
        host, repository = ref_host, ref_repository
    tag = ref_tag or tag
    if tag is not None and repository is None and image_name:
        host, repository, _ = _untagged(image_name)
    elif tag is None and repository is None:
        # A ref.name without a slash would be a tag, if it were anything.
        host, repository, tag = _untagged(image_name or (ref_name if "/" in ref_name else ""))
    return Name(repository, tag, given, host)


def _split(name: str) -> tuple[str | None, str | None, str | None]:
    """Split REPO:TAG or REPO@DIGEST, perhaps after a host, into host, repository and tag; None for what it lacks."""
    name, at, digest = name.partition("@")
    if (at and not is_any_digest(digest)) or _is_digest(name):
        return None, None, None
    host, name = split_host(name)
    repository, colon, tag = name.rpartition(":")
    if not colon:
        return host, (_valid_repository(name) if at else None), None
    return host, _valid_repository(repository), _valid_tag(tag)


def _untagged(name: str) -> tuple[str | None, str | None, str | None]:
    """Split the name of an image without a tag, which means ``latest``; None for all where it is no such name."""
    host, rest = split_host(name)
    repository = None if _is_digest(name) else _valid_repository(rest)
    return (None, None, None) if repository is None else (host, repository, DEFAULT_TAG)


def _is_digest(name: str) -> bool:
    """Whether what something is called is a digest, as Kubernetes calls images in containerd, and no name."""
    return digest_or_none(name) is not None


def _valid_repository(name: str) -> str | None:
    try:
        return repository_name(name)
    except InvalidNameError:
        return None


def _valid_tag(name: str) -> str | None:
    try:
        return tag_name(name)
    except InvalidNameError:
        return None


def said_besides(descriptor: Descriptor) -> str | None:
    """Return what an entry says besides its name: its annotations and its platform, as JSON.

    None where that is nothing.

    Such as cosign's ``kind``, and the platform by which skopeo chooses. They are kept with the tag, and written again.
    """
    annotations = {key: text for key, text in descriptor.annotations.items() if key not in {IMAGE_NAME, REF_NAME}}
    document: dict[str, Any] = {}
    if annotations:
        document["annotations"] = annotations
    if descriptor.platform is not None:
        document["platform"] = descriptor.platform.to_json()
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) if document else None


def saying(descriptor: Descriptor, besides: str | None) -> Descriptor:
    """Return the descriptor with what was kept of the entry that it came from."""
    if besides is None:
        return descriptor
    document = json.loads(besides)
    platform = document.get("platform")
    return replace(
        descriptor,
        annotations={**descriptor.annotations, **document.get("annotations", {})},
        platform=None if platform is None else Platform.from_json(platform, path="platform"),
    )


class Names:
    """What an index.json is to list, in its order: each descriptor is made when it is asked for."""

    def __init__(self, entries: list[Entry | Descriptor], short: set[str]) -> None:
        """Describe ``entries``; those of repositories in ``short`` have their tag alone as ref.name."""
        self._short = short
        self._entries = sorted(entries, key=self._place)

    def __iter__(self) -> Iterator[Descriptor]:
        """Yield the descriptors as they are written."""
        for entry in self._entries:
            if isinstance(entry, Entry):
                yield _named(entry, short=entry.repository in self._short)
            else:
                yield entry

    @property
    def digests(self) -> Iterator[Digest]:
        """Yield the digests of all of them."""
        return (entry.descriptor.digest if isinstance(entry, Entry) else entry.digest for entry in self._entries)

    def _place(self, entry: Entry | Descriptor) -> tuple[str, str, str]:
        if isinstance(entry, Descriptor):
            return entry.annotations.get(REF_NAME, ""), entry.digest, entry.annotations.get(IMAGE_NAME, "")
        ref_name = _ref_name(entry, short=entry.repository in self._short)
        return ref_name or "", entry.descriptor.digest, entry.image_name


def merged(existing: Iterable[Descriptor], entries: Sequence[Entry], *, keep: bool = True) -> Names:
    """Return what an index.json lists when ``entries`` are written into one that listed ``existing``.

    An entry replaces what has its name; what else there was stays, unless ``keep`` is false. Which names are short is
    said above. The order is that of names, then digests, so that the same content gives the same bytes.
    """
    before: list[Entry] = []
    foreign: list[Descriptor] = []
    for descriptor in existing:
        mine = _written_by_us(descriptor)
        if mine is None:
            foreign.append(descriptor)
        else:
            before.append(mine)
    named = [entry for entry in before if entry.tag is not None]
    short = {entry.repository for entry in named if entry.descriptor.annotations.get(REF_NAME) == entry.tag}
    if not named and len({entry.repository for entry in entries}) == 1:
        short = {entry.repository for entry in entries}
    if not keep:
        before, foreign = [], []
    ours: dict[tuple[str, str] | str, Entry] = {}
    for entry in (*before, *entries):
        ours[(entry.repository, entry.tag) if entry.tag is not None else entry.image_name] = entry
    taken = {_ref_name(entry, short=entry.repository in short) for entry in ours.values()} - {None} if foreign else ()
    kept = [descriptor for descriptor in foreign if descriptor.annotations.get(REF_NAME) not in taken]
    return Names([*kept, *ours.values()], short)


def _written_by_us(descriptor: Descriptor) -> Entry | None:
    """Return the entry that we, or containerd, wrote as this descriptor; None for what only has a ref.name or none."""
    image_name = descriptor.annotations.get(IMAGE_NAME, "")
    _, repository, tag = _split(image_name)
    if repository is None or (tag is None and "@" not in image_name):
        return None
    entry = Entry(repository, tag, descriptor)
    ref_name = descriptor.annotations.get(REF_NAME)
    # After a host it is containerd's own: its name stays as it is. So does the name that somebody gave it since:
    # umoci's tag copies an entry with all its annotations and changes nothing but the ref.name.
    as_written = entry.image_name == image_name and (ref_name is None or ref_name in {tag, image_name})
    return entry if as_written else None


def _named(entry: Entry, *, short: bool) -> Descriptor:
    annotations = {
        key: value for key, value in entry.descriptor.annotations.items() if key not in {IMAGE_NAME, REF_NAME}
    }
    annotations[IMAGE_NAME] = entry.image_name
    ref_name = _ref_name(entry, short=short)
    if ref_name is not None:
        annotations[REF_NAME] = ref_name
    return replace(entry.descriptor, annotations=annotations)


def _ref_name(entry: Entry, *, short: bool) -> str | None:
    """Return the ref.name that an entry gets; None where it has no tag."""
    if entry.tag is None:
        return None
    return entry.tag if short else entry.image_name


def index_bytes(
    descriptors: Iterable[Descriptor], unusable: Sequence[Unusable] = (), besides: Mapping[str, Any] | None = None
) -> bytearray:
    """Return an index.json that lists descriptors, in their order; the same ones give the same bytes.

    What is unusable comes last, as it stood, unless something else has its name by now. ``besides`` is what else it
    says.
    """
    content = bytearray(_json({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": []})[:-2])
    # One at a time: as objects, all entries take ten times what they take as bytes.
    taken: set[str | None] = set()
    comma = b""
    for descriptor in descriptors:
        content += comma + _json(descriptor.to_json())
        comma = b","
        if unusable:
            taken.add(descriptor.annotations.get(REF_NAME))
    for each in unusable:
        name = each.annotations.get(REF_NAME)
        if name is None or name not in taken:
            content += comma + _json(each.document)
            comma = b","
    content += b"]"
    for key, value in sorted((besides or {}).items()):
        content += b"," + _json({key: value})[1:-1]
    content += b"}"
    return content


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
