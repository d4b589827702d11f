"""The manifests of a layout, each read and checked once; what is wrong with one is noted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ocistore.errors import DigestMismatchError, ManifestInvalidError
from ocistore.layouts.directory import NotPlainError
from ocistore.oci.config import ImageConfig, readable_config
from ocistore.oci.manifest import check_manifest
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from ocistore.layouts.imports.embedded import EmbeddedSource
    from ocistore.layouts.imports.plan import ImportPlan
    from ocistore.oci.descriptor import Descriptor, Platform
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest

MAXIMUM_MANIFESTS_SIZE: Final = 256 * 1024 * 1024
"""Bytes of all manifests of one layout together. They are in memory until the commit, so there has to be an end; a
manifest of an image has some 2 KiB, so this is about a hundred thousand images."""


class UnusableError(Exception):
    """A manifest that is needed is absent, or one for others (``unknown``), or is wrong, which was noted."""


class Manifests:
    """Manifests by their descriptors."""

    def __init__(self, source: EmbeddedSource, contents: ImportPlan, *, maximum_size: int, maximum_sizes: int) -> None:
        """Read from ``source``, and note in ``contents`` what is wrong; the maxima are of one, and of all together."""
        self._source = source
        self._contents = contents
        self._maximum_size = maximum_size
        self._left = self._maximum_sizes = maximum_sizes
        self._read: dict[Digest, Manifest | None] = {}
        self._subjects: dict[tuple[Digest, str, int], Digest | None] = {}
        """By digest, media type and size, of manifests that are not kept: an index may list one a million times."""
        self._absent: set[Digest] = set()
        self._types: dict[str | None, str | None] = {}
        """Artifact types, and ``_bare`` the annotations of descriptors: one object for 100,000 manifests."""
        self._bare: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        """Those that are correct, and readable only by software that knows other algorithms or kinds; and why."""
        self.unread: dict[Digest, str] = {}
        """Those that were looked into for what they are about, without success; and why."""
        self._platforms: dict[Digest, Platform | None] = {}
        """Platforms by the digests of configs, which images share."""
        self.made: dict[Digest, Manifest] = {}
        """Those that are not in the layout, but take the place of some that are."""

    def get(self, descriptor: Descriptor) -> Manifest | None:
        """Return the manifest.

        None where it is absent or ``unknown``, or something is wrong with it, which is noted.
        """
        digest = descriptor.digest
        if digest in self.made:
            return self.made[digest]
        if digest not in self._read:
            self._read[digest] = self._checked(descriptor)
            return self._read[digest]
        manifest = self._read[digest]
        if manifest is not None:  # of what is wrong with it, enough was said
            known = manifest.descriptor
            if descriptor.size != known.size:
                self._contents.problem(f"{digest} has {known.size} bytes, not {descriptor.size}")
            if descriptor.media_type != known.media_type:
                self._contents.problem(f"{digest} is of type {known.media_type}, not {descriptor.media_type}")
        return manifest

    def is_absent(self, digest: Digest) -> bool:
        """Whether a manifest that was asked for does not exist. The caller decides whether that is wrong."""
        return digest in self._absent

    def of(self, digest: str, kind: str, name: str) -> str:
        """Return what the thing of that name is, for messages; and, where nothing can be read of it, why."""
        said = f"{kind} in {name}" if kind else name
        return f"{said}; {self.unknown[digest]}" if digest in self.unknown else said

    def needed(self, descriptor: Descriptor) -> Manifest:
        """Return the manifest.

        Raises:
            UnusableError: it is absent or unknown, or something is wrong with it.
        """
        manifest = self.get(descriptor)
        if manifest is None:
            raise UnusableError
        return manifest

    def platform(self, descriptor: Descriptor) -> Platform | None:
        """Return the platform that an image's config says; None where it says nothing, or is no image's.

        Raises:
            UnusableError: something is wrong with the manifest.
        """
        config = readable_config(self.needed(descriptor))
        if config is None:
            return None
        if config.digest not in self._platforms:
            self._platforms[config.digest] = self._platform_in(config)
        return self._platforms[config.digest]

    def _platform_in(self, config: Descriptor) -> Platform | None:
        try:
            return ImageConfig.parse(self._source.blob(config.digest).read(config.size)).platform
        except (OSError, NotPlainError, ManifestInvalidError) as error:
            pass_on_theirs(error)
            return None  # what is wrong with it is found when it is imported

    def subject(self, descriptor: Descriptor) -> Digest | None:
        """Return the subject of a manifest; None where it has none, or damage: it may not be wanted at all."""
        key = descriptor.digest, descriptor.media_type, descriptor.size
        if key not in self._subjects:
            manifest = self._peeked(descriptor)
            self._subjects[key] = None if manifest is None or manifest.subject is None else manifest.subject.digest
        return self._subjects[key]

    def children(self, descriptor: Descriptor) -> tuple[Descriptor, ...]:
        """Return the manifests in an index; none where it is damaged."""
        manifest = self._peeked(descriptor)
        return () if manifest is None else manifest.manifests

    def there(self, digest: Digest) -> bool:
        """Whether the layout has something under that digest."""
        try:
            self._source.blob(digest).size()
        except (OSError, NotPlainError) as error:
            pass_on_theirs(error)
            return False
        return True

    def _peeked(self, descriptor: Descriptor) -> Manifest | None:
        """Return the manifest, which is not kept; None where something is wrong with it, which is not noted."""
        if descriptor.digest in self._read:
            return self._read[descriptor.digest]
        try:
            size = self._source.blob(descriptor.digest).size()
            if size == descriptor.size:
                return self._parsed(descriptor)
            reason = f"it has {size} bytes, not {descriptor.size}"
        except FileNotFoundError as error:
            pass_on_theirs(error)
            reason = "it is missing"
        except (OSError, NotPlainError, ManifestInvalidError, DigestMismatchError) as error:
            pass_on_theirs(error)
            reason = str(error)
        self.unread.setdefault(descriptor.digest, reason)
        return None

    def _checked(self, descriptor: Descriptor) -> Manifest | None:
        digest = descriptor.digest
        try:
            size = self._source.blob(digest).size()
            if size != descriptor.size:
                self._contents.problem(f"{digest} has {size} bytes, not {descriptor.size}")
                return None
            self._left -= min(size, self._maximum_size)
            if self._left < 0:
                self._contents.problem(f"the layout's manifests have more than {self._maximum_sizes} bytes")
                return None
            return self._parsed(descriptor)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            self._absent.add(digest)
        except (NotPlainError, ManifestInvalidError, DigestMismatchError) as error:
            if isinstance(error, ManifestInvalidError) and error.unknown:
                self.unknown[digest] = f"{error.path}: {error.reason}"
            else:
                self._contents.problem(f"{digest}: {error}")
        except OSError as error:
            pass_on_theirs(error)
            self._contents.problem(f"{digest}: {error.strerror}")
        return None

    def _parsed(self, descriptor: Descriptor) -> Manifest:
        # One byte more than is allowed is enough to be refused, and a liar's gigabytes are not read.
        content = self._source.blob(descriptor.digest).read(min(descriptor.size, self._maximum_size + 1))
        manifest = check_manifest(
            content, media_type=descriptor.media_type, digest=descriptor.digest, maximum=self._maximum_size
        )
        if b'"data"' in content:  # to list the edges of 100,000 manifests takes time
            self._source.offer(edge.descriptor for edge in manifest.edges())
        artifact_type = manifest.descriptor.artifact_type
        return manifest.described(
            replace(
                manifest.descriptor,
                annotations=self._bare,
                artifact_type=self._types.setdefault(artifact_type, artifact_type),
            )
        )
