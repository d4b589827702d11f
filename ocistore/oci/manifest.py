"""Manifests: the exact bytes, everything that is checked of them before they are stored, and what they refer to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, cast

from ocistore.argumenttypes import checks_types
from ocistore.errors import DigestMismatchError, ManifestInvalidError
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.building import image_document, index_document
from ocistore.oci.descriptor import Descriptor, json_annotations, json_object
from ocistore.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from ocistore.oci.building import Describable

MAXIMUM_MANIFEST_SIZE: Final = 4 * 1024 * 1024
"""Bytes. The distribution specification, "Pushing Manifests", asks registries to take at least that much."""
MAXIMUM_DESCRIPTORS: Final = 10_000
"""Each becomes a row in the one transaction that stores the manifest, and nobody else writes meanwhile."""

HELD_PARSED: Final = 8_192
"""Edges of the manifests that are held as they were parsed, of any number that are stored together: some 6 MiB. What
is beyond is parsed again when it is stored, which takes a fifth of the time of an import of small images."""

ATTESTED: Final = "vnd.docker.reference.digest"
"""The annotation by which BuildKit's attestations, whose platform is unknown, name the manifest they are about."""
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[!-~]+", re.ASCII)
"""RFC 3986, section 3, as far as it says where something is: a scheme, which is no drive's letter, and more."""

Role: TypeAlias = Literal["config", "layer", "manifest", "subject"]

_KEYS: Final = frozenset(
    {
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
    }
)
_SCHEMA1: Final = frozenset({mediatypes.DOCKER_SCHEMA1, mediatypes.DOCKER_SCHEMA1_SIGNED})


class Edge(NamedTuple):
    """One thing a manifest refers to. ``required``: the manifest is only stored where its repository holds that.

    A ``manifest`` is held as a manifest, a ``config`` or ``layer`` as a blob. A child of an index whose media type is
    no manifest's is a blob, too, and so a ``layer``.
    """

    role: Role
    descriptor: Descriptor
    required: bool


def kind_of(child: Descriptor) -> str:
    """Return what a child of an index is, as far as the index says: ``image for linux/arm64``, ``index``.

    For messages.
    """
    if ATTESTED in child.annotations:
        return f"attestation of {child.annotations[ATTESTED]:.140}"
    if not mediatypes.is_known_manifest(child.media_type):
        return f"content of type {child.media_type}"
    if child.stated_platform is not None:
        return f"image for {child.platform}"
    return "index" if mediatypes.is_index_type(child.media_type) else "manifest"


class _Fields(NamedTuple):
    media_type: str
    artifact_type: str | None
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: dict[str, str]
    edges: tuple[Edge, ...]
    """Made once: whoever stores a manifest asks for them half a dozen times."""


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Manifest:
    """A manifest as it was given, byte for byte. Its content is parsed when one of its parts is first asked for.

    The descriptor says what ``resolve`` says, and so has no annotations; ``as_referrer`` has.

    Raises:
        ManifestInvalidError: from any of the parts, where the content is not what ``check_manifest`` let pass.
    """

    __slots__ = ("_counted", "_held", "_parsed", "descriptor")  # there may be 100,000 of them

    descriptor: Descriptor
    _held: bytes | Callable[[Descriptor], bytes]
    _parsed: _Fields | None
    _counted: int | None

    def __new__(cls, descriptor: Descriptor, content: bytes, *, parts: _Fields | None = None) -> Self:  # noqa: ARG004
        """Make an :class:`Index` where the descriptor is that of one, whoever asks."""
        made = object.__new__(Index if mediatypes.is_index_type(descriptor.media_type) else cls)
        return cast("Self", made)

    def __init__(self, descriptor: Descriptor, content: bytes, *, parts: _Fields | None = None) -> None:
        """Hold ``content``, which must be what the descriptor says, and ``parts``, what is in it, if already parsed."""
        for name, value in (("descriptor", descriptor), ("_held", content), ("_parsed", parts), ("_counted", None)):
            object.__setattr__(self, name, value)

    @classmethod
    @checks_types
    def build(
        cls,
        *,
        config: Describable | None = None,
        layers: Iterable[Describable] = (),
        artifact_type: str | None = None,
        subject: Describable | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Make the manifest of an image or an artifact; :meth:`Repository.put_manifest` stores it.

        What it refers to is given by descriptors, such as :meth:`Repository.put_blob` returns, or by what has one, such
        as another manifest. Equal parts make equal bytes, and so the same digest: UTF-8 without spaces, keys in the
        order of the specification, annotations in that of their keys.

        Args:
            config: of an image. Without one it is an artifact, with the empty config, which the manifest itself has in
                it (image specification, image manifest, "Guidelines for Artifact Usage").
            layers: of an image, the lowest first; or the files of an artifact.
            artifact_type: what kind of artifact it is, as a media type; required where there is no config.
            subject: the manifest that this one says something about, as a signature does.
            annotations: of the manifest.

        Raises:
            ManifestInvalidError: it would not be a manifest; ``path`` says where. The checks are those that a manifest
                from outside has to pass.
            TypeError: an argument is of another type.
        """
        document = image_document(
            config=config, layers=layers, artifact_type=artifact_type, subject=subject, annotations=annotations
        )
        return check_manifest(strictjson.dumps(document))

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, path: str = "") -> Self:
        """Make a manifest of a document in parsed JSON; ``path`` is where it stood, for errors.

        Its bytes are that document without spaces, keys in the order that they have; so its digest is that of a
        manifest in other bytes only where those had been written in the same way, as :meth:`build` does.

        Raises:
            ManifestInvalidError: it is not a manifest, or not one of this class.
        """
        if not isinstance(value, Mapping):
            raise ManifestInvalidError(f"{value!r:.100} is not an object", path=path)
        try:
            found = check_manifest(strictjson.dumps(dict(value)))
            if not isinstance(found, cls):
                raise ManifestInvalidError(f"a manifest of type {found.media_type} is no index", path="mediaType")
        except ManifestInvalidError as error:
            inside = ".".join(filter(None, (path, error.path)))
            raise ManifestInvalidError(error.reason, path=inside, unknown=error.unknown) from error
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the document, in parsed JSON: everything that its bytes say. Changing it changes nothing here."""
        content = self.content
        document: dict[str, Any] = strictjson.loads(content, maximum=len(content))
        return document

    def __eq__(self, other: object) -> bool:
        return self.descriptor == other.descriptor if isinstance(other, Manifest) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.descriptor)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(descriptor={self.descriptor!r})"

    def __reduce__(self) -> tuple[type[Manifest], tuple[Descriptor, bytes]]:
        """Pickle what it is made of."""
        return Manifest, (self.descriptor, self.content)

    @property
    def content(self) -> bytes:
        """Its bytes."""
        return self._held if isinstance(self._held, bytes) else self._held(self.descriptor)

    def described(self, descriptor: Descriptor) -> Manifest:
        """Return the same manifest with an equal descriptor, such as one that shares what is in it with others."""
        return Manifest(descriptor, self.content, parts=self._parsed)

    def put_aside(self, read: Callable[[Descriptor], bytes]) -> None:
        """Hold neither the bytes, which ``read`` gives when they are asked for, nor what was parsed of them.

        ``read`` is called with the descriptor, so that one function can be that of 100,000 manifests.
        """
        self.forget_parts()
        object.__setattr__(self, "_held", read)

    def take_back(self) -> None:
        """Hold the bytes again, because they are not going to be found elsewhere any more."""
        object.__setattr__(self, "_held", self.content)

    @property
    def media_type(self) -> str:
        """Its own type, also where the content leaves it out."""
        return self.descriptor.media_type

    @property
    def artifact_type(self) -> str | None:
        """``artifactType``; for an image manifest without one, the type of its config.

        That is the rule of the distribution specification, "Listing Referrers".
        """
        return self._parts.artifact_type

    @property
    def config(self) -> Descriptor | None:
        """What an image manifest configures its layers with; None in an index."""
        return self._parts.config

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers, or files, of an image manifest; empty in an index."""
        return self._parts.layers

    @property
    def manifests(self) -> tuple[Descriptor, ...]:
        """The manifests in an index; empty in an image manifest."""
        return self._parts.manifests

    @property
    def subject(self) -> Descriptor | None:
        """The manifest this one says something about, which need not exist."""
        return self._parts.subject

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations of the manifest itself; nobody may change them."""
        return self._parts.annotations

    def edges(self) -> tuple[Edge, ...]:
        """Return everything it refers to: config, layers, manifests, subject, each in the order of the document.

        Required are all but the subject, and layers of a non-distributable type that say in ``urls`` where they are:
        what is no URL says nothing. An index may list children of any media type (image specification, image index,
        ``manifests``): those that are no manifests for this store are blobs.
        """
        return self._parts.edges

    def embedded_blobs(self) -> dict[Digest, bytes]:
        """Return the blobs that it refers to and has in itself, in the ``data`` of their descriptors."""
        return {
            edge.descriptor.digest: edge.descriptor.data
            for edge in self.edges()
            if edge.role in {"config", "layer"} and edge.descriptor.data is not None
        }

    def as_referrer(self) -> Descriptor:
        """Return its descriptor as a list of referrers shows it: with its artifact type and all its annotations.

        Distribution specification, "Listing Referrers".
        """
        own = self.descriptor
        return Descriptor(own.media_type, own.digest, own.size, self.annotations, artifact_type=self.artifact_type)

    @property
    def edge_count(self) -> int:
        """How many things it refers to, as :meth:`edges` gives them; still known when parts were forgotten."""
        count = self._counted
        if count is None:
            count = len(self._parts.edges)
            object.__setattr__(self, "_counted", count)
        return count

    def forget_parts(self) -> None:
        """Keep the bytes only, which are parsed again when a part is asked for: parts take several times as much."""
        self.edge_count  # noqa: B018 - so that it is known
        object.__setattr__(self, "_parsed", None)

    @property
    def _parts(self) -> _Fields:
        parts = self._parsed
        if parts is not None:
            return parts
        # The limit on bytes was for strangers; what is stored may have been let in under a higher one.
        content = self.content
        document = strictjson.loads(content, maximum=len(content))
        parts = _parts(document, given=self.descriptor.media_type)
        object.__setattr__(self, "_parsed", parts)
        return parts


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Index(Manifest):
    """A manifest of manifests: an image for several platforms, or any other list. ``manifests`` has them."""

    __slots__ = ()

    @classmethod
    @checks_types
    def build(  # type: ignore[override]  # an index is read as a manifest, and made of other things
        cls,
        *,
        manifests: Iterable[Describable] = (),
        artifact_type: str | None = None,
        subject: Describable | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Index:
        """Make an index; :meth:`Repository.put_manifest` stores it, after the manifests in it.

        Args:
            manifests: manifests, indexes or descriptors of such. What each runs on is what its descriptor says:
                ``image.descriptor.replace(platform="linux/arm64")``.
            artifact_type: what kind of artifact it is, as a media type.
            subject: the manifest that this one says something about.
            annotations: of the index.

        Raises:
            ManifestInvalidError, TypeError: as :meth:`Manifest.build`, which says how the bytes are written, too.
        """
        document = index_document(
            manifests=manifests, artifact_type=artifact_type, subject=subject, annotations=annotations
        )
        found = check_manifest(strictjson.dumps(document))
        assert isinstance(found, Index)  # by its media type
        return found


def _has_url(layer: Descriptor) -> bool:
    return any(_URL.fullmatch(url) for url in layer.urls)


def manifest_descriptor(media_type: str, digest: Digest, size: int, *, artifact_type: str | None) -> Descriptor:
    """Return the descriptor of a manifest.

    Only that of an artifact says a type: that it is an image, its media type says.

    Args:
        media_type: of the manifest.
        digest: of its bytes.
        size: their number.
        artifact_type: by the rule of :attr:`Manifest.artifact_type`, which names the config's type for images too.
    """
    return Descriptor(
        media_type, digest, size, artifact_type=None if mediatypes.is_image_config(artifact_type) else artifact_type
    )


def check_manifest(
    content: bytes,
    *,
    media_type: str | None = None,
    digest: Digest | None = None,
    maximum: int = MAXIMUM_MANIFEST_SIZE,
) -> Manifest:
    """Check everything that can be known about a manifest without a store: what is returned may be stored as it is.

    Args:
        content: the manifest, which is kept exactly as given.
        media_type: what it was said to be; the content must say the same, or leave it open and be an OCI manifest.
        digest: what it must hash to. Without one, its digest is sha256.
        maximum: how many bytes it may have.

    Raises:
        DigestMismatchError: these are not the bytes of ``digest``.
        InvalidDigestError: ``digest`` is not a digest.
        ManifestInvalidError: anything else; its ``path`` says where in the document.
    """
    if not isinstance(content, bytes):
        raise ManifestInvalidError(f"{type(content).__name__} is not bytes")
    if len(content) > maximum:  # before hashing all of them
        raise ManifestInvalidError(f"it has {len(content)} bytes, at most {maximum} are allowed")
    expected = None if digest is None else Digest.parse(digest)
    actual = Digest.of(content, "sha256" if expected is None else expected.algorithm)
    if expected is not None and actual != expected:
        raise DigestMismatchError(expected=expected, actual=actual, subject="the manifest")
    if expected is not None:
        actual = expected  # one object for many that are equal: an import holds 100,000 of them
    parts = _parts(strictjson.loads(content, maximum=maximum), given=media_type)
    own = manifest_descriptor(parts.media_type, actual, len(content), artifact_type=parts.artifact_type)
    return Manifest(own, content, parts=parts)


def _parts(document: object, *, given: str | None) -> _Fields:
    members = json_object(document, _KEYS, path="")
    version = members.get("schemaVersion")
    if type(version) is not int or version != 2:  # True and 2.0 compare like numbers, but are not the number 2
        raise ManifestInvalidError(f"{version!r:.100} is not 2, the only version there is now", path="schemaVersion")
    media_type = _media_type(members, given=given)
    artifact_type = members.get("artifactType")
    # Go's writers may say "" for none, and its readers take that for none.
    artifact_type = None if artifact_type in (None, "") else mediatypes.media_type(artifact_type, path="artifactType")
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    if mediatypes.is_index_type(media_type):
        _refuse(members, ("config", "layers"), media_type=media_type)
        manifests = _descriptors(members, "manifests")
    else:
        _refuse(members, ("manifests",), media_type=media_type)
        if "config" not in members:
            raise ManifestInvalidError("an image manifest needs config")
        config = Descriptor.from_json(members["config"], path="config")
        layers = _descriptors(members, "layers")
        artifact_type = artifact_type or config.media_type
    given_subject, annotations = members.get("subject"), members.get("annotations")
    subject = None if given_subject is None else Descriptor.from_json(given_subject, path="subject")
    return _Fields(
        media_type,
        artifact_type,
        config,
        layers,
        manifests,
        subject,
        {} if annotations is None else json_annotations(annotations, path="annotations"),
        tuple(_edges(config, layers, manifests, subject)),
    )


def _edges(
    config: Descriptor | None, layers: Iterable[Descriptor], manifests: Iterable[Descriptor], subject: Descriptor | None
) -> Iterator[Edge]:
    if config is not None:
        yield Edge("config", config, required=True)
    for layer in layers:
        is_foreign = mediatypes.is_nondistributable(layer.media_type) and _has_url(layer)
        yield Edge("layer", layer, required=not is_foreign)
    for child in manifests:
        kind: Role = "manifest" if mediatypes.is_known_manifest(child.media_type) else "layer"
        yield Edge(kind, child, required=True)
    if subject is not None:
        yield Edge("subject", subject, required=False)


def _media_type(members: dict[str, Any], *, given: str | None) -> str:
    """Return the type of the manifest.

    It is what the manifest says, or was said to be, or, where neither says, what it looks like.
    """
    said = members.get("mediaType")
    said = None if said in (None, "") else mediatypes.media_type(said)
    if given is not None:
        given = mediatypes.media_type(given, path="")
    if said is not None and given is not None and said != given:
        raise ManifestInvalidError(f"it says {said}, but came as {given}", path="mediaType")
    found = said or given or _inferred(members)
    if found in _SCHEMA1:
        raise ManifestInvalidError(
            f"{found} is the first version of Docker's manifests, which is no longer in use", path="mediaType"
        )
    if not mediatypes.is_known_manifest(found):
        raise ManifestInvalidError(f"{found} is not a type of manifest", path="mediaType")
    if said is None and found not in (mediatypes.OCI_MANIFEST, mediatypes.OCI_INDEX):
        raise ManifestInvalidError(f"a manifest of type {found} must say so itself", path="mediaType")
    return found


def _inferred(members: dict[str, Any]) -> str:
    if "manifests" in members:
        return mediatypes.OCI_INDEX
    if "config" in members or "layers" in members:
        return mediatypes.OCI_MANIFEST
    raise ManifestInvalidError("it has neither mediaType nor config, layers or manifests")


def _refuse(members: dict[str, Any], keys: tuple[str, ...], *, media_type: str) -> None:
    """Refuse keys of the other kind of manifest: clients disagree on which kind such a document is (CVE-2021-41190)."""
    for key in keys:
        if key in members:
            raise ManifestInvalidError(f"a manifest of type {media_type} has no {key}", path=key)


def _descriptors(members: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    """Return the list under a required key. Null is an empty one: clients written in Go write and read it so."""
    if key not in members:
        raise ManifestInvalidError("it is missing", path=key)
    items = [] if members[key] is None else members[key]
    if not isinstance(items, list):
        raise ManifestInvalidError(f"{items!r:.100} is not a list", path=key)
    count = len(items) + ("config" in members) + ("subject" in members)
    if count > MAXIMUM_DESCRIPTORS:
        raise ManifestInvalidError(
            f"the manifest refers to {count} things, at most {MAXIMUM_DESCRIPTORS} are allowed", path=key
        )
    return tuple(Descriptor.from_json(item, path=f"{key}[{position}]") for position, item in enumerate(items))
