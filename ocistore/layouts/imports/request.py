"""What of a layout is wanted, and what it is to be called: names, selectors, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from ocistore.errors import InvalidNameError, ManifestNotFoundError
from ocistore.layouts.index import name_in, name_of
from ocistore.oci.digest import digest_or_none
from ocistore.oci.platforms import fitting, parse_platforms
from ocistore.oci.reference import DEFAULT_HOST, DEFAULT_NAMESPACE, repository_name, split_host, tag_name
from ocistore.oci.selector import selectors

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from ocistore.layouts.index import Damaged, Name, Unusable
    from ocistore.oci.descriptor import Descriptor, Platform
    from ocistore.oci.selector import Selector

NAMED_AT_MOST: Final = 5
"""How many things a message names."""


@dataclass(frozen=True)
class ImportRequest:
    """What an import was asked for."""

    repository: str | None = None
    """Where everything is imported, if that was given."""
    tag: str | None = None
    """What it is to be called there, which is one thing then."""
    selectors: tuple[Selector, ...] = ()
    """The selectors; an empty list means everything."""
    platforms: tuple[Platform, ...] = ()
    """The platforms; an empty list means all."""
    referrers: bool = True

    @classmethod
    def parse(
        cls,
        repository: str | None,
        *,
        references: Iterable[str] | None,
        platforms: Iterable[str],
        referrers: bool,
    ) -> ImportRequest:
        """Read what was asked for; ``repository`` is REPO or REPO:TAG.

        Raises:
            InvalidNameError, InvalidDigestError: the part that is wrong, and why.
            TypeError: one text in the place of many.
        """
        given, tag = (None, None) if repository is None else _destination(repository)
        chosen = tuple(selectors(references or (), hosts=True))
        for selector in chosen:
            if given is not None and selector.new_repository not in (None, given):
                reason = f"it is to go into {selector.new_repository}, and everything into {given}"
                raise InvalidNameError(selector.text, kind="reference", reason=reason, unclear=True)
            if tag is not None and selector.new_tag not in (None, tag):
                reason = f"it is to be called {selector.new_tag}, and what comes in {tag}"
                raise InvalidNameError(selector.text, kind="reference", reason=reason, unclear=True)
        return cls(given, tag, chosen, tuple(parse_platforms(platforms)), referrers)

    @property
    def destination(self) -> str:
        """REPO:TAG, where one thing is to be called that."""
        return f"{self.repository}:{self.tag}"

    @property
    def everything(self) -> bool:
        """Whether nothing is to be left out, and everything keeps its own tag."""
        return not self.selectors and not self.platforms and self.referrers and self.tag is None


def _destination(text: str) -> tuple[str, str | None]:
    if not isinstance(text, str):
        raise InvalidNameError(text, kind="repository", reason="it is not text")
    if "@" in text:
        reason = "give REPO or REPO:TAG; the digest of what comes in is its own"
        raise InvalidNameError(text, kind="reference", reason=reason)
    repository, colon, tag = split_host(text)[1].partition(":")
    return repository_name(repository), tag_name(tag) if colon else None


@dataclass(frozen=True, slots=True)
class Chosen:
    """One entry of a layout that is to be imported, with the name that it gets."""

    descriptor: Descriptor
    repository: str
    tag: str | None
    own: Name
    """What the layout calls it."""
    by_digest: bool = False
    """Whether it was asked for by its digest."""
    among_many: bool = True
    """Its name was not given: a pattern, a repository or everything was."""

    @property
    def name(self) -> str:
        """REPO:TAG, or REPO@DIGEST."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.descriptor.digest}"


@dataclass
class ChosenEntries:
    """Entries that are to be imported, and those that are not."""

    chosen: list[Chosen] = field(default_factory=list)
    left: list[Descriptor] = field(default_factory=list)
    """Those that are imported only as what is about something else."""
    nameless: list[Descriptor] = field(default_factory=list)
    """Those of them that have to: everything is wanted, and they name no repository to be imported into."""
    unusable: list[Unusable] = field(default_factory=list)
    """Those that nothing but what was asked for means, and of which nothing can be read."""
    damaged: list[Damaged] = field(default_factory=list)
    """Those that were asked for, or may have been, and are wrong in themselves."""


def select(
    entries: Sequence[Descriptor],
    wanted: ImportRequest,
    *,
    source: str,
    unusable: Sequence[Unusable] = (),
    damaged: Sequence[Damaged] = (),
) -> ChosenEntries:
    """Give each entry its name, as docs/layouts.md says, and choose.

    Args:
        entries: what the layout lists.
        wanted: what was asked for. A selector means what an entry would be called if no repository were given, and
            where it names none, in any repository. A name alone is a repository where there is one of that name, and
            else the tag of what names no repository. Where there is nothing of a name, it is read as Docker reads it.
        source: what messages call the layout.
        unusable: what else it lists.
        damaged: what else it lists that is wrong in itself. Without selectors all of it is wanted that may be of a
            wanted platform; with some, what they mean. Where one means nothing else, it may mean what has a name that
            cannot be read.

    Raises:
        InvalidNameError: an entry that was asked for names no repository, and none was given; or a selector gives one
            tag to several.
        ManifestNotFoundError: a selector means nothing.
    """
    names = [name_of(entry) for entry in entries]
    repositories = {name.repository for name in names if name.repository is not None}
    sole = repositories.copy().pop() if len(repositories) == 1 else None
    selection = ChosenEntries()
    unusables = [(each, name_in(each.annotations)) for each in unusable]
    damages = [(each, name_in(each.annotations)) for each in damaged]
    every = [*names, *(name for _, name in (*unusables, *damages))]
    bare = _bare(wanted.selectors, every)
    wanted = replace(wanted, selectors=_spelled_out(wanted, bare, every, sole))
    unused = dict.fromkeys(wanted.selectors)
    many = dict.fromkeys(each for each in wanted.selectors if each.selects_many and each not in bare)
    for selector in many:
        if selector.new_tag is not None:
            raise selector.one_tag_for_several()

    def means(selector: Selector, name: Name, digest: str) -> bool:
        return _means(selector, name, digest, own=name.repository or sole, wanted=wanted, bare=bare)

    for entry, name in zip(entries, names, strict=True):
        matching = [selector for selector in wanted.selectors if means(selector, name, entry.digest)]
        for selector in matching:
            unused.pop(selector, None)
            into = wanted.repository or name.repository or sole or (None if selector in bare else selector.repository)
            if selector.new_repository is None and into is None:
                raise nameless(entry, source=source)
            repository, tag = selector.renamed(into or "", name.tag)
            by_digest = selector.digest is not None
            selection.chosen.append(Chosen(entry, repository, tag, name, by_digest, selector in many))
        if not wanted.selectors:
            _select_all(selection, entry, name, wanted.repository or name.repository or sole)
        elif not matching:
            selection.left.append(entry)
    for each, name in damages:
        meant_by = [selector for selector in wanted.selectors if means(selector, name, each.digest)]
        if _is_asked_for(each, meant_by, many, wanted):
            selection.damaged.append(each)
        for selector in () if each.unknown else meant_by:
            unused.pop(selector, None)
    for selector in unused:
        refused = [each for each, name in unusables if means(selector, name, each.digest)]
        hidden = [each for each, name in damages if not each.is_named or means(selector, name, each.digest)]
        if not refused and not hidden:
            meant = selector.digest or selector.tag or "*"
            # A name alone may be that of a tag, a digest alone looks like a tag, and a host is part of neither.
            called = selector.text.partition("=")[0]
            is_unclear = selector.host is not None or meant == "*" or digest_or_none(called) is not None
            there = dict.fromkeys(name.given for name in every if name.given)
            raise ManifestNotFoundError(
                meant,
                repository=selector.repository,
                where=source,
                called=called if is_unclear else "",
                names=tuple(islice(there, NAMED_AT_MOST + 1)),
            )
        selection.unusable += refused
        selection.damaged += hidden
    return selection


def _select_all(selection: ChosenEntries, entry: Descriptor, name: Name, repository: str | None) -> None:
    """Add an entry to a selection of everything."""
    if repository is None:
        selection.left.append(entry)
        selection.nameless.append(entry)
    else:
        selection.chosen.append(Chosen(entry, repository, name.tag, name))


def _is_asked_for(
    damaged: Damaged, meant_by: Sequence[Selector], many: Container[Selector], wanted: ImportRequest
) -> bool:
    """Whether an import without something that is damaged is not what was asked for.

    Args:
        damaged: that.
        meant_by: the selectors that mean it.
        many: those that mean several things.
        wanted: what was asked for.
    """
    if any(selector not in many for selector in meant_by):
        return True
    if damaged.unknown or (wanted.selectors and not meant_by):
        return False
    platform = damaged.platform
    if not wanted.platforms or platform is None or not platform.is_stated:
        return True
    return any(fitting([(platform, platform)], each) for each in wanted.platforms)


def _means(
    selector: Selector, name: Name, digest: str, *, own: str | None, wanted: ImportRequest, bare: Container[Selector]
) -> bool:
    """Whether a selector means the entry of that name, in the repository that is its own, as far as one is known."""
    if selector in bare:
        is_called = name.repository is None and name.tag == selector.repository
        return is_called and selector.digest in (None, digest)
    repository = own or wanted.repository or selector.repository
    return selector.matches(repository, name.tag, digest, host=name.host)


def _spelled_out(
    wanted: ImportRequest, bare: Container[Selector], names: Iterable[Name], sole: str | None
) -> tuple[Selector, ...]:
    """Return the selectors, with the whole names that Docker takes theirs for where there is nothing but these.

    Args:
        wanted: what was asked for.
        bare: those that are a tag.
        names: of all there is.
        sole: the only repository that is named.
    """
    known = {name.repository for name in names}
    if None in known and sole is None and wanted.repository is None:
        return wanted.selectors  # what is in no repository is meant by any name
    known.add(wanted.repository)
    return tuple(each if each in bare else _whole(each, known) for each in wanted.selectors)


def _whole(selector: Selector, known: Container[str | None]) -> Selector:
    if selector.repository in known:
        return selector
    name = selector.repository.removeprefix(f"{DEFAULT_HOST}/")
    whole = f"{DEFAULT_HOST}/{name}" if "/" in name else f"{DEFAULT_HOST}/{DEFAULT_NAMESPACE}/{name}"
    return replace(selector, repository=whole) if whole in known else selector


def _bare(chosen: Iterable[Selector], names: Sequence[Name]) -> set[Selector]:
    """Return those that are a name alone, perhaps with a digest, of something which names no repository."""
    repositories = {name.repository for name in names}
    tags = {name.tag for name in names if name.repository is None}
    return {
        selector
        for selector in chosen
        if selector.tag is None and selector.repository not in repositories and selector.repository in tags
    }


def nameless(entry: Descriptor, *, source: str) -> InvalidNameError:
    """Return the error of an entry that names no repository, where none was given."""
    reason = f"{source} names no repository for {entry.digest}; say which one to import into"
    return InvalidNameError(name_of(entry).given or entry.digest, kind="repository", reason=reason, unclear=True)


def called(chosen: Sequence[Chosen], wanted: ImportRequest, *, source: str) -> list[Chosen]:
    """Return what was chosen, under the one tag that it is to have.

    Raises:
        InvalidNameError: it is several things.
    """
    names = {each.descriptor.digest: each.own.given or each.name for each in chosen}
    if len(names) > 1:
        some = ", ".join(sorted(names.values())[:NAMED_AT_MOST])
        advice = "choose one of them (--ref NAME[@DIGEST])"
        reason = f"{source} has {len(names)} things to be called that ({some}); {advice}"
        raise InvalidNameError(wanted.destination, kind="reference", reason=reason, unclear=True)
    return [replace(each, tag=wanted.tag) for each in chosen[:1]]
