"""The config of an image: its exact bytes, and what people want to know of it (image specification, config)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ocistore import CorruptError, ManifestInvalidError, Platform
from ocistore.oci import mediatypes, strictjson
from ocistore.oci.descriptor import json_annotations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocistore import Manifest, Repository

MAXIMUM_CONFIG_SIZE: Final = 8 * 1024 * 1024
"""Bytes. Histories of hundreds of steps make configs of some hundred KiB."""


@dataclass(frozen=True)
class ConfigSummary:
    """What the config of an image says about running it. What it does not say is None or empty."""

    platform: Platform
    created: str | None
    """When the image was created, as the config writes it: RFC 3339, section 5.6."""
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[str, ...]
    """The environment, each ``NAME=VALUE``."""
    working_directory: str | None
    user: str | None
    labels: Mapping[str, str]


def read_config(repository: Repository, manifest: Manifest) -> bytes:
    """Return the exact bytes of the config of an image.

    Raises:
        ManifestInvalidError: it is an index or an artifact, which has no such config, or the config is too large.
        BlobNotFoundError: the repository does not hold it.
        CorruptError: its bytes are damaged.
    """
    config = manifest.config
    if config is None or not mediatypes.is_image_config(config.media_type):
        what = "an index" if config is None else f"an artifact, whose config is {config.media_type}"
        raise ManifestInvalidError(f"{manifest.descriptor.digest} is {what}: it has no config of an image")
    if config.size > MAXIMUM_CONFIG_SIZE:
        raise ManifestInvalidError(f"it has {config.size} bytes, at most {MAXIMUM_CONFIG_SIZE} are read", path="config")
    with repository.open_blob(config.digest, verify=True) as blob:
        if blob.size != config.size:
            raise CorruptError(f"blob {config.digest}", reason=f"it has {blob.size} bytes, not {config.size}")
        return blob.read()


def parse_config(content: bytes) -> dict[str, Any]:
    """Return the config as parsed JSON.

    Raises:
        ManifestInvalidError: it is no config.
    """
    try:
        document = strictjson.loads(content, maximum=MAXIMUM_CONFIG_SIZE)
    except ManifestInvalidError as error:
        raise ManifestInvalidError(error.reason, path="config") from error
    if not isinstance(document, dict):
        raise ManifestInvalidError("it is not an object", path="config")
    return document


def summary_of(content: bytes) -> ConfigSummary:
    """Return a summary of a config: what people want to know of it.

    Raises:
        ManifestInvalidError: it is no config, or something in it has the wrong type.
    """
    document = parse_config(content)
    inner = document.get("config")
    if inner is not None and not isinstance(inner, dict):
        raise ManifestInvalidError("it is not an object", path="config.config")
    execution = inner or {}
    labels = execution.get("Labels")
    return ConfigSummary(
        platform=Platform(
            _text(document, "architecture") or "unknown",
            _text(document, "os") or "unknown",
            os_version=_text(document, "os.version") or "",
            os_features=_texts(document, "os.features"),
            variant=_text(document, "variant") or "",
        ),
        created=_text(document, "created"),
        entrypoint=_texts(execution, "Entrypoint"),
        command=_texts(execution, "Cmd"),
        environment=_texts(execution, "Env"),
        working_directory=_text(execution, "WorkingDir"),
        user=_text(execution, "User"),
        labels={} if labels is None else json_annotations(labels, path="config.Labels"),
    )


def platform_of(repository: Repository, manifest: Manifest) -> Platform | None:
    """Return what an image runs on, by its config; None for an artifact, and where the config does not say.

    Raises:
        ManifestInvalidError: the config is malformed.
        BlobNotFoundError, CorruptError: it cannot be read.
    """
    if manifest.config is None or not mediatypes.is_image_config(manifest.config.media_type):
        return None
    found = summary_of(read_config(repository, manifest)).platform
    return None if "unknown" in (found.os, found.architecture) else found


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise ManifestInvalidError(f"{value!r:.100} is not text", path=f"config.{key}")
    return value or None


def _texts(document: dict[str, Any], key: str) -> tuple[str, ...]:
    value = document.get(key)
    if value is None:
        return ()
    # Old builders wrote a command as one text, for a shell.
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ManifestInvalidError(f"{value!r:.100} is not a list of texts", path=f"config.{key}")
    return tuple(items)
