"""The plan of an import: what of a layout is to be imported, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocistore.changes import SetTag
    from ocistore.errors import PlatformNotFoundError
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest


@dataclass
class ImportPlan:
    """What of a layout is to be imported, and what is wrong with it."""

    manifests: dict[str, dict[Digest, Manifest]] = field(default_factory=dict)
    """The manifests by repository, children before parents."""
    blobs: dict[str, dict[Digest, int]] = field(default_factory=dict)
    """The blobs by repository, with their sizes."""
    tagged: dict[str, dict[str, SetTag]] = field(default_factory=dict)
    """The tags by repository and name. None of the repositories is without one."""
    untagged: dict[str, None] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    replaced: dict[Digest, Digest] = field(default_factory=dict)
    """Indexes that lost platforms, with those that are imported in their place."""
    other_platforms: dict[str, PlatformNotFoundError] = field(default_factory=dict)
    """Names of which nothing is of the wanted platforms, none of them asked for by itself."""
    referrers_left: int = 0
    """How many manifests are left out that are about something which is imported."""
    said: dict[tuple[str, Digest], str | None] = field(default_factory=dict)
    """What the layout says besides of what is imported without a tag, by repository and digest."""
    absent: dict[str, dict[str, str]] = field(default_factory=dict)
    """By repository, what imported indexes list and the layout lacks, each with what it is."""
    missing: dict[Digest, None] = field(default_factory=dict)
    """What must be there and is not."""
    problems: dict[str, None] = field(default_factory=dict)
    """What is wrong, in order, each once."""

    def problem(self, text: str) -> None:
        """Note what is wrong, once even if noted again."""
        self.problems[text] = None

    @property
    def tags(self) -> list[SetTag]:
        """Of all repositories."""
        return [tag for named in self.tagged.values() for tag in named.values()]

    def manifest_sizes(self) -> dict[Digest, int]:
        """Return the bytes of every manifest."""
        return {d: manifest.descriptor.size for held in self.manifests.values() for d, manifest in held.items()}

    def blob_sizes(self) -> dict[Digest, int]:
        """Return the bytes of every blob that is no manifest, or is one and a layer of another, too."""
        return {digest: size for held in self.blobs.values() for digest, size in held.items()}

    def lacks(self, digest: Digest, what: str) -> None:
        """Note that something is missing, and what that is; of many things that lack it, the first."""
        if digest not in self.missing:
            self.missing[digest] = None
            self.problem(f"{digest} is missing: {what}")
