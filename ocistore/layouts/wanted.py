"""What of a layout is wanted, and what it is to be called: names, selectors, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocistore.errors import InvalidNameError, ManifestNotFoundError
from ocistore.layouts.index import name_of
from ocistore.oci.platforms import parse_platform
from ocistore.oci.reference import repository_name
from ocistore.oci.selection import selectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocistore.oci.descriptor import Descriptor, Platform
    from ocistore.oci.selection import Selector


@dataclass(frozen=True)
class Wanted:
    """What an import was asked for."""

    repository: str | None = None
    """Where everything goes, if that was said."""
    selectors: tuple[Selector, ...] = ()
    """None of them means everything."""
    platforms: tuple[Platform, ...] = ()
    """None of them means all."""
    referrers: bool = True

    @classmethod
    def parse(
        cls,
        repository: str | None,
        *,
        references: Iterable[str] | None,
        platforms: Iterable[str],
        referrers: bool,
    ) -> Wanted:
        """Read what was asked for.

        Raises:
            InvalidNameError, InvalidDigestError: the part that is wrong, and why.
            TypeError: one text in the place of many.
        """
        given = None if repository is None else repository_name(repository)
        chosen = tuple(selectors(references or ()))
        for selector in chosen:
            if given is not None and selector.new_repository not in (None, given):
                reason = f"it is to go into {selector.new_repository}, and everything into {given}"
                raise InvalidNameError(selector.text, kind="reference", reason=reason)
        if isinstance(platforms, str):
            raise TypeError("platforms must be a list of platforms, not one text")
        return cls(given, chosen, tuple(parse_platform(platform) for platform in platforms), referrers)

    @property
    def everything(self) -> bool:
        """Whether nothing is to be left out."""
        return not self.selectors and not self.platforms and self.referrers


@dataclass(frozen=True)
class Chosen:
    """One entry of a layout that is to come in, with the name that it gets."""

    descriptor: Descriptor
    repository: str
    tag: str | None
    given: str
    """What the layout calls it, for messages."""
    by_digest: bool = False
    """Whether it was asked for by its digest."""
    among_many: bool = True
    """Its name was not given: a pattern, a repository or everything was."""

    @property
    def name(self) -> str:
        """REPO:TAG, or REPO@DIGEST."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.descriptor.digest}"


@dataclass
class Selection:
    """Entries that are to come in, and those that are not."""

    chosen: list[Chosen] = field(default_factory=list)
    left: list[Descriptor] = field(default_factory=list)


def select(entries: Sequence[Descriptor], wanted: Wanted, *, source: str) -> Selection:
    """Give each entry its name, as docs/layouts.md says, and choose.

    Args:
        entries: what the layout lists.
        wanted: what was asked for. A selector means what an entry would be called if no repository were given, and
            where it names none, in any repository.
        source: what messages call the layout.

    Raises:
        InvalidNameError: an entry that is chosen names no repository, and none was given.
        ManifestNotFoundError: a selector means nothing.
    """
    names = [name_of(entry) for entry in entries]
    repositories = {name.repository for name in names if name.repository is not None}
    sole = repositories.copy().pop() if len(repositories) == 1 else None
    selection = Selection()
    unused = dict.fromkeys(wanted.selectors)
    for entry, name in zip(entries, names, strict=True):
        own = name.repository or sole
        if not wanted.selectors:
            repository = wanted.repository or own
            if repository is None:
                reason = f"{source} names no repository for {entry.digest}; say which one to import into"
                raise InvalidNameError(name.given or entry.digest, kind="repository", reason=reason)
            selection.chosen.append(Chosen(entry, repository, name.tag, name.given))
            continue
        matching = [
            selector
            for selector in wanted.selectors
            if selector.matches(own or wanted.repository or selector.repository, name.tag, entry.digest)
        ]
        for selector in matching:
            unused.pop(selector, None)
            repository, tag = selector.renamed(wanted.repository or own or selector.repository, name.tag)
            by_digest = selector.digest is not None
            among_many = selector.selects_many
            selection.chosen.append(Chosen(entry, repository, tag, name.given, by_digest, among_many))
        if not matching:
            selection.left.append(entry)
    for selector in unused:
        meant = selector.digest or selector.tag or "*"
        raise ManifestNotFoundError(meant, repository=selector.repository, where=source)
    return selection
