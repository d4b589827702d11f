"""The config of an image: its exact bytes, and what they say (image specification, "Image Configuration")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ocistore.argumenttypes import checks_types
from ocistore.errors import InvalidDigestError, ManifestInvalidError
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import Descriptor, Platform, json_annotations
from ocistore.oci.digest import Digest, is_of_other_algorithm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocistore.oci.manifest import Manifest

MAXIMUM_CONFIG_SIZE: Final = 4 * 1024 * 1024
"""Bytes. As much as podman and skopeo read (``MaxConfigBodySize`` in containers/image), and as a manifest may have.
Histories of hundreds of steps make configs of some hundred KiB."""

_PARTS: Final = (
    "platform",
    "created",
    "entrypoint",
    "command",
    "environment",
    "working_directory",
    "user",
    "labels",
)


@dataclass(frozen=True)
class ImageConfig:
    """The config of an image. What it does not say is None or empty.

    Each part is read when it is asked for: one that is malformed does not hide the others. Reading a part raises
    :class:`ocistore.ManifestInvalidError` where it has the wrong type; ``path`` of the error says where in the config.
    """

    content: bytes = field(repr=False)
    """The exact bytes."""
    document: Mapping[str, Any] = field(compare=False)
    """What they say, as parsed JSON. Nobody may change it."""
    name: str = field(default="", compare=False, repr=False)
    """What errors call it."""

    @classmethod
    def parse(cls, content: bytes, *, name: str = "") -> ImageConfig:
        """Read the bytes of a config.

        Args:
            content: as they are stored.
            name: what errors call it, in addition to the place in it.

        Raises:
            ManifestInvalidError: it is no JSON, or no object, or has more than 4 MiB.
        """
        try:
            document = strictjson.loads(content, maximum=MAXIMUM_CONFIG_SIZE)
        except ManifestInvalidError as error:
            raise ManifestInvalidError(error.reason, path=name) from error
        if not isinstance(document, dict):
            raise ManifestInvalidError("it is not an object", path=name)
        return cls(content, document, name)

    @classmethod
    @checks_types
    def build(
        cls,
        *,
        platform: Platform | str,
        diff_ids: Iterable[str] = (),
        entrypoint: Iterable[str] = (),
        command: Iterable[str] = (),
        environment: Mapping[str, str] | Iterable[str] = (),
        working_directory: str | None = None,
        user: str | None = None,
        labels: Mapping[str, str] | None = None,
        created: datetime | None = None,
    ) -> ImageConfig:
        """Make the config of an image; :meth:`Repository.put_blob` stores it.

        Equal parts make equal bytes, and so the same digest: UTF-8 without spaces, keys in the order of the
        specification, labels in that of their keys.

        Args:
            platform: what the image runs on, also as text: ``linux/arm64``.
            diff_ids: the digests of the layers before compression, the lowest first: as many as there are layers.
            entrypoint: what is run, before the arguments.
            command: the arguments that are used where none are given, or what is run.
            environment: values by name, or ``NAME=VALUE`` each.
            working_directory: in which it is run.
            user: as whom it is run: ``user:group``.
            labels: any texts.
            created: when the image was created; without it, the same image built again has the same digest.

        Raises:
            ManifestInvalidError: something has a type that the config cannot have; ``path`` says what.
            InvalidDigestError: a diff ID is no digest.
            InvalidNameError: the platform is none.
            TypeError: an argument has another type, such as one text in the place of a list.
            ValueError: something in the environment is not ``NAME=VALUE``, or a time has no time zone.
        """
        if isinstance(environment, Mapping):
            environment = [f"{name}={value}" for name, value in environment.items()]
        environment = list(environment)
        for setting in environment:
            if isinstance(setting, str) and setting.find("=") < 1:
                raise ValueError(f"{setting!r:.100} is not NAME=VALUE")
        runs_on = Platform.parse(platform) if isinstance(platform, str) else platform
        settings = {
            "User": user,
            "Env": environment,
            "Entrypoint": list(entrypoint),
            "Cmd": list(command),
            "WorkingDir": working_directory,
            "Labels": dict(sorted((labels or {}).items())),
        }
        document: dict[str, Any] = {} if created is None else {"created": _rfc_3339(created)}
        document |= runs_on.to_json()
        document["config"] = {key: value for key, value in settings.items() if value not in (None, [], {})}
        document["rootfs"] = {"type": "layers", "diff_ids": [str(Digest.parse(diff_id)) for diff_id in diff_ids]}
        return cls.from_json(document)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageConfig:
        """Make a config of a document in parsed JSON. Its bytes are that document without spaces, keys as they are.

        Raises:
            ManifestInvalidError: it is no object, or one of the parts that this class reads has the wrong type.
        """
        if not isinstance(value, Mapping):
            raise ManifestInvalidError(f"{value!r:.100} is not an object")
        made = cls.parse(strictjson.dumps(dict(value)))
        made.check()
        return made

    def check(self) -> None:
        """Check all parts that this class reads.

        Raises:
            ManifestInvalidError: one has the wrong type.
        """
        for part in _PARTS:
            getattr(self, part)
        if "rootfs" in self.document:
            self.diff_ids  # noqa: B018 - so that it is read

    def to_json(self) -> dict[str, Any]:
        """Return the document, in parsed JSON: everything that its bytes say. Changing it changes nothing here."""
        document: dict[str, Any] = strictjson.loads(self.content, maximum=len(self.content))
        return document

    @property
    def descriptor(self) -> Descriptor:
        """What a manifest refers to it with, once it is stored."""
        return Descriptor.of(self.content, mediatypes.OCI_CONFIG)

    @cached_property
    def platform(self) -> Platform | None:
        """What the image runs on; None where it does not say both an operating system and an architecture."""
        if not self.document.get("os") or not self.document.get("architecture"):
            self._text("os")
            self._text("architecture")
            return None
        try:
            return Platform.from_json(self.document, path="")
        except ManifestInvalidError as error:
            raise self._error(error.reason, error.path) from error

    @cached_property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The digests of the layers before compression, the lowest first.

        Raises:
            ManifestInvalidError: also where it has no ``rootfs``; ``unknown`` is set where one of them may be a digest
                to others.
        """
        rootfs = self._object("rootfs")
        if rootfs is None:
            raise self._error("there is no rootfs", "rootfs.diff_ids")
        digests = rootfs.get("diff_ids")
        if digests is None:  # as Go writes an empty list
            return ()
        if not isinstance(digests, list):
            raise self._error(f"{digests!r:.100} is not a list", "rootfs.diff_ids")
        try:
            return tuple(Digest.parse(digest) for digest in digests)
        except InvalidDigestError as error:
            unknown = any(map(is_of_other_algorithm, digests))
            raise self._error(str(error), "rootfs.diff_ids", unknown=unknown) from error

    @property
    def created(self) -> str | None:
        """When the image was created, as it is written there: RFC 3339, section 5.6."""
        return self._text("created")

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """What is run, before the arguments."""
        return self._texts("Entrypoint")

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments that are used where none are given, or what is run."""
        return self._texts("Cmd")

    @property
    def environment(self) -> tuple[str, ...]:
        """The environment, each ``NAME=VALUE``."""
        return self._texts("Env")

    @property
    def working_directory(self) -> str | None:
        """The directory in which it is run."""
        return self._text("WorkingDir", inside="config")

    @property
    def user(self) -> str | None:
        """As whom it is run, as ``user:group``."""
        return self._text("User", inside="config")

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels."""
        found = (self._object("config") or {}).get("Labels")
        if found is None:
            return {}
        try:
            return json_annotations(found, path="config.Labels")
        except ManifestInvalidError as error:
            raise self._error(error.reason, error.path) from error

    def _object(self, key: str) -> Mapping[str, Any] | None:
        value = self.document.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._error(f"{value!r:.100} is not an object", key)
        return value

    def _text(self, key: str, *, inside: str | None = None) -> str | None:
        value = (self.document if inside is None else self._object(inside) or {}).get(key)
        if value is not None and not isinstance(value, str):
            raise self._error(f"{value!r:.100} is not text", key if inside is None else f"{inside}.{key}")
        return value or None

    def _texts(self, key: str) -> tuple[str, ...]:
        value = (self._object("config") or {}).get(key)
        if value is None:
            return ()
        # Old builders wrote a command as one text, for a shell.
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self._error(f"{value!r:.100} is not a list of texts", f"config.{key}")
        return tuple(items)

    def _error(self, reason: str, path: str, *, unknown: bool = False) -> ManifestInvalidError:
        place = f"{self.name}: {path}" if self.name and path else self.name or path
        return ManifestInvalidError(reason, path=place, unknown=unknown)


def _rfc_3339(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("created must say its time zone, as in datetime.now(UTC)")
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def readable_config(manifest: Manifest) -> Descriptor | None:
    """Return the config of a manifest where it is that of an image, and small enough to be read; else None."""
    config = manifest.config
    if config is None or not mediatypes.is_image_config(config.media_type) or config.size > MAXIMUM_CONFIG_SIZE:
        return None
    return config
