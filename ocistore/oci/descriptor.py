"""Descriptors: what a manifest says about each piece of content it refers to."""

from __future__ import annotations

import base64
import enum
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ocistore.argumenttypes import checks_types
from ocistore.errors import InvalidDigestError, InvalidNameError, ManifestInvalidError
from ocistore.oci.digest import Digest, is_of_other_algorithm
from ocistore.oci.mediatypes import OCTET_STREAM
from ocistore.oci.mediatypes import media_type as checked_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAXIMUM_SIZE: Final = 2**63 - 1
"""Bytes. The image specification declares ``size`` an int64."""

_PART: Final = r"[a-z0-9._-]+"
_PLATFORM: Final = re.compile(
    rf"(?P<os>{_PART})(\((?P<version>[a-z0-9._-]*)(?P<features>(\+{_PART})*)\))?/(?P<architecture>{_PART})"
    rf"(/(?P<variant>{_PART}))?(:(?P<last>{_PART}))?",
    re.ASCII,
)
MAXIMUM_PLATFORM_LENGTH: Final = 500
"""Characters of a platform as people write it; real ones have twenty. A longer one cannot be asked for."""

ARCHITECTURES: Final = {
    "aarch64": ("arm64", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
"""Architectures as machines call them, and as images do (Go's GOARCH, which the image specification asks for)."""

_OPTIONAL: Final = ("annotations", "platform", "artifactType", "urls", "data")
_DESCRIPTOR_KEYS: Final = frozenset({"mediaType", "digest", "size", *_OPTIONAL})
_PLATFORM_KEYS: Final = frozenset({"architecture", "os", "os.version", "os.features", "variant"})


class Unchanged(enum.Enum):
    """The type of what stands for an argument that was not given, where None says something."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on (image specification, image index, ``platform``)."""

    architecture: str
    os: str
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    variant: str = ""

    def __str__(self) -> str:
        """Return what people write: ``linux/arm64/v8``; with a version or features ``windows(10.0.17763.1)/amd64``.

        The second as containerd writes it. It is what :meth:`parse` reads.
        """
        more = self.os_version + "".join(f"+{feature}" for feature in self.os_features)
        os = f"{self.os}({more})" if more else self.os
        return f"{os}/{self.architecture}" + (f"/{self.variant}" if self.variant else "")

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read what people type: ``OS/ARCHITECTURE[/VARIANT]``, such as ``linux/arm64``.

        A version of the operating system, and features of it, are given as containerd does,
        ``windows(10.0.17763)/amd64`` and ``linux(+feature)/amd64``; the version also as crane does,
        ``windows/amd64:10.0.17763``. Architectures as machines call them (``x86_64``) are those of images.

        Raises:
            InvalidNameError: it is nothing of the kind.
        """
        is_text = isinstance(text, str) and len(text) <= MAXIMUM_PLATFORM_LENGTH
        match = _PLATFORM.fullmatch(text.lower()) if is_text else None
        if match is None or (match["version"] and match["last"]):
            raise InvalidNameError(text, kind="platform", reason="it must be OS/ARCHITECTURE[/VARIANT], as linux/arm64")
        architecture, variant = ARCHITECTURES.get(match["architecture"], (match["architecture"], ""))
        return cls(
            architecture,
            match["os"],
            os_version=match["version"] or match["last"] or "",
            os_features=tuple((match["features"] or "").split("+")[1:]),
            variant=match["variant"] or variant,
        )

    @classmethod
    def from_json(cls, value: object, *, path: str = "") -> Platform:
        """Read it from parsed JSON; ``path`` is where it stood, for errors.

        Raises:
            ManifestInvalidError: a property is missing or has the wrong type.
        """
        members = json_object(value, _PLATFORM_KEYS, path=path)
        inside = f"{path}." if path else ""
        if "architecture" not in members or "os" not in members:
            raise ManifestInvalidError("a platform needs architecture and os", path=path)
        version, features, variant = (members.get(key) for key in ("os.version", "os.features", "variant"))
        return cls(
            architecture=_text(members["architecture"], path=f"{inside}architecture"),
            os=_text(members["os"], path=f"{inside}os"),
            os_version="" if version is None else _text(version, path=f"{inside}os.version"),
            os_features=() if features is None else _texts(features, path=f"{inside}os.features"),
            variant="" if variant is None else _text(variant, path=f"{inside}variant"),
        )

    @property
    def is_stated(self) -> bool:
        """Whether it says what an image runs on. Tools write empty strings where they do not know."""
        return bool(self.architecture and self.os)

    def to_json(self) -> dict[str, Any]:
        """Return it as the specification spells it, without what is empty."""
        document: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            document["os.version"] = self.os_version
        if self.os_features:
            document["os.features"] = list(self.os_features)
        if self.variant:
            document["variant"] = self.variant
        return document


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Type, digest and size of a piece of content (image specification, "Content Descriptors"). ``size`` is in bytes.

    ``annotations`` counts for equality but not for the hash; nobody may change it.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    artifact_type: str | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = None

    @classmethod
    @checks_types
    def of(
        cls,
        content: bytes | bytearray | memoryview,
        media_type: str = OCTET_STREAM,
        *,
        algorithm: str = "sha256",
        embed: bool = False,
    ) -> Descriptor:
        """Return the descriptor of those bytes.

        Args:
            content: what is described.
            media_type: of the content.
            algorithm: of the digest.
            embed: put the bytes into it, as ``data`` (image specification, "Embedded Content").

        Raises:
            InvalidDigestError: there is no such algorithm here.
            ManifestInvalidError: that is no media type.
            TypeError: the content is no bytes.
        """
        data = bytes(content)
        return cls(checked_type(media_type), Digest.of(data, algorithm), len(data), data=data if embed else None)

    @checks_types
    def replace(
        self,
        *,
        media_type: str | Unchanged = UNCHANGED,
        annotations: Mapping[str, str] | Unchanged | None = UNCHANGED,
        platform: Platform | str | Unchanged | None = UNCHANGED,
        artifact_type: str | Unchanged | None = UNCHANGED,
        urls: Iterable[str] | Unchanged = UNCHANGED,
        data: bytes | Unchanged | None = UNCHANGED,
    ) -> Descriptor:
        """Return a descriptor of the same content that says something else of it.

        What is not given stays; None leaves it out.

        Args:
            media_type: of the content.
            annotations: all there are to be.
            platform: what an image runs on, also as text: ``linux/arm64``.
            artifact_type: of a manifest.
            urls: where else the content is.
            data: the content.

        Raises:
            ManifestInvalidError: something is wrong with what was given; ``path`` says with what.
            InvalidNameError: the platform is none.
            TypeError: an argument has a type that it cannot have.
        """
        changed: dict[str, Any] = {"media_type": media_type, "artifact_type": artifact_type, "data": data}
        changed["annotations"] = annotations if annotations is UNCHANGED else dict(annotations or {})
        changed["platform"] = Platform.parse(platform) if isinstance(platform, str) else platform
        changed["urls"] = urls if isinstance(urls, Unchanged) else tuple(urls)
        made = replace(self, **{key: value for key, value in changed.items() if value is not UNCHANGED})
        type(self).from_json(made.to_json())  # the same checks as for one that is read
        return made

    @classmethod
    def from_json(cls, value: object, *, path: str = "") -> Descriptor:
        """Read it from parsed JSON; ``path`` is where it stood, as ``layers[2]``, for errors.

        An optional property that is null, or empty, counts as absent, as it does for the clients written in Go: so do
        ``"artifactType": ""``, and the ``"platform": {}`` that .NET's SDK writes. Unknown properties are ignored, as
        the specification asks.

        Raises:
            ManifestInvalidError: something is missing or wrong; its path names the property.
        """
        members = json_object(value, _DESCRIPTOR_KEYS, path=path)
        inside = f"{path}." if path else ""
        try:
            kind, text, size = members["mediaType"], members["digest"], members["size"]
        except KeyError as error:
            missing = error.args[0]
            unknown = missing == "mediaType"
            raise ManifestInvalidError(f"a descriptor needs {missing}", path=path, unknown=unknown) from None
        # Not isinstance: True is an int, and no size.
        if type(size) is not int or not 0 <= size <= MAXIMUM_SIZE:
            raise ManifestInvalidError(
                f"{size!r:.100} is not a size: a whole number from 0 to {MAXIMUM_SIZE}", path=f"{inside}size"
            )
        try:
            digest = Digest.parse(text)
        except InvalidDigestError as error:
            unknown = is_of_other_algorithm(text)
            raise ManifestInvalidError(str(error), path=f"{inside}digest", unknown=unknown) from error
        annotations, platform, artifact_type, urls, data = map(members.get, _OPTIONAL)
        return cls(
            checked_type(kind, path=f"{inside}mediaType"),
            digest,
            size,
            {} if annotations is None else json_annotations(annotations, path=f"{inside}annotations"),
            None if platform in (None, {}) else Platform.from_json(platform, path=f"{inside}platform"),
            None if artifact_type in (None, "") else checked_type(artifact_type, path=f"{inside}artifactType"),
            () if urls is None else _texts(urls, path=f"{inside}urls"),
            None if data is None or (data == "" and size) else _embedded(data, digest, size, path=f"{inside}data"),
        )

    @property
    def stated_platform(self) -> Platform | None:
        """The platform; None where there is none, and where it does not say what an image runs on."""
        return self.platform if self.platform is not None and self.platform.is_stated else None

    def to_json(self) -> dict[str, Any]:
        """Return it as the specification spells it, always in the same order, without what is empty."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.data is not None:
            document["data"] = base64.b64encode(self.data).decode("ascii")
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        return document


def digest_of(value: str | Descriptor, *, argument: str) -> Digest:
    """Return the digest that is given as text, or by a descriptor. Every public method that takes one asks this.

    Args:
        value: what the caller gave.
        argument: the name of the argument, for the error.

    Raises:
        InvalidDigestError: it is text, and no digest of an algorithm that this process can compute.
        TypeError: it is of another type.
    """
    if isinstance(value, str):
        return Digest.parse(value)
    if not isinstance(value, Descriptor):
        raise TypeError(f"{argument} must be a digest or a Descriptor, not {type(value).__name__}")
    return Digest.parse(value.digest)


def json_object(value: object, known: frozenset[str], *, path: str) -> dict[str, Any]:
    """Return ``value`` where it is an object without keys that look like one of ``known`` and are not.

    Clients written in Go read ``Digest`` and ``DIGEST`` as ``digest``: with such a key they would see another document
    than the one that was checked here.

    Raises:
        ManifestInvalidError: it is not.
    """
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"{value!r:.100} is not an object", path=path)
    if not value.keys() <= known:
        folded = {key.casefold() for key in known}
        for key in value.keys() - known:
            if key.casefold() in folded:
                raise ManifestInvalidError(f"{key!r:.100} differs only in case from a known key", path=path)
    return value


def json_annotations(value: object, *, path: str) -> dict[str, str]:
    """Return ``value`` where it is a map of text to text (image specification, "Annotations").

    Raises:
        ManifestInvalidError: it is not.
    """
    if not isinstance(value, dict):
        raise ManifestInvalidError(f"{value!r:.100} is not an object", path=path)
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ManifestInvalidError(f"the value of {key!r:.100} is not text", path=path)
    return value


def _text(value: object, *, path: str) -> str:
    if not isinstance(value, str):
        raise ManifestInvalidError(f"{value!r:.100} is not text", path=path)
    return value


def _texts(value: object, *, path: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ManifestInvalidError(f"{value!r:.100} is not a list", path=path)
    return tuple(_text(item, path=f"{path}[{position}]") for position, item in enumerate(value))


def _embedded(value: object, digest: Digest, size: int, *, path: str) -> bytes:
    """Return the bytes in the descriptor itself, checked against it (image specification, "Embedded Content")."""
    text = _text(value, path=path)
    try:
        content = base64.b64decode(text)
    except ValueError as error:
        raise ManifestInvalidError("it is not base64", path=path) from error
    # Decoders skip stray characters, bits and padding, each in its own way: only the canonical spelling means the same
    # to all.
    if base64.b64encode(content).decode("ascii") != text:
        raise ManifestInvalidError("it is not base64 in its canonical form", path=path)
    if len(content) != size:
        raise ManifestInvalidError(f"it has {len(content)} bytes, the descriptor says {size}", path=path)
    if (actual := Digest.of(content, digest.algorithm)) != digest:
        raise ManifestInvalidError(f"it has digest {actual}, the descriptor says {digest}", path=path)
    return content
