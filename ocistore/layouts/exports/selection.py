"""Choosing what is exported: by name, by platform, with what refers to it; and what it is to be called there.

Everything is read in one snapshot, so what is chosen was the store at one moment. The names that were asked for become
groups, one for each repository and what that is called outside: content belongs to repositories, and a repository may
be exported under several names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from ocistore.catalog import graph, manifests, repositories, tags
from ocistore.commit import platform_of
from ocistore.errors import (
    CorruptError,
    InvalidNameError,
    ManifestNotFoundError,
    PlatformNotFoundError,
    RepositoryNotFoundError,
    TagConflictError,
)
from ocistore.layouts.exports.referrers import all_about, left_out, list_index, listed, reach
from ocistore.layouts.index import Entry, saying
from ocistore.layouts.vanished import gone_is_damage
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import Platform
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import Manifest, manifest_descriptor
from ocistore.oci.platforms import narrow, parse_platforms
from ocistore.oci.referrertags import is_about, list_tag
from ocistore.oci.selector import selectors
from ocistore.paging import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ocistore.blobs.pool import Provider
    from ocistore.catalog.connection import Connection
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.selector import Selector

_ASKED_AT_ONCE: Final = 2000
"""How many tags are looked up in one statement, whose rows are held together."""


@dataclass(frozen=True)
class Group:
    """What is exported of one repository, under the name of one repository."""

    source: str
    """The repository in the store."""
    repository: str
    """What it is called outside."""
    entries: tuple[Entry, ...]
    """The entries, under their new names."""
    nodes: tuple[graph.Node, ...]
    """Everything of the store below the entries, in byte order of digests."""
    made: tuple[Manifest, ...]
    """Indexes that are not in the store: with only the wanted platforms in them, or lists of referrers; children
    first."""
    roots: frozenset[str]
    """What was asked for, and what is about it by its tag: digests of manifests of the store, those of indexes that
    were narrowed among them."""


@dataclass(frozen=True)
class Selection:
    """What an export writes, or a copy copies."""

    groups: tuple[Group, ...]
    replaced: dict[str, str]
    """Digests of indexes that lost platforms, with those of the indexes that are exported in their place."""
    other_platforms: tuple[str, ...]
    """Names that are left out: they were not asked for one by one, and there is nothing of the wanted platforms."""
    referrers_left: int
    """How many manifests are left out that are about something which is exported, or about an index that is narrowed;
    and that were named among others and are about something by their tags, where only images are exported."""
    left_out: dict[str, str]
    """Digests of what fits the wanted platforms, and is listed by an index that is exported narrowed, and is not here;
    each with what it is."""

    @cached_property
    def nodes(self) -> dict[str, graph.Node]:
        """Everything of the store that is exported, each once, by digest."""
        nodes: dict[str, graph.Node] = {}
        for group in self.groups:
            for node in group.nodes:
                if node.digest not in self.made and (node.digest not in nodes or not nodes[node.digest].here):
                    nodes[node.digest] = node
        return nodes

    @cached_property
    def made(self) -> dict[Digest, Manifest]:
        """The indexes that are not in the store, each once."""
        return {manifest.descriptor.digest: manifest for group in self.groups for manifest in group.made}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of everything that is exported and exists, made indexes included, by digest."""
        sizes = {digest: node.size for digest, node in self.nodes.items() if node.here}
        return sizes | {digest: manifest.descriptor.size for digest, manifest in self.made.items()}

    @property
    def manifest_count(self) -> int:
        """How many of these are manifests."""
        return len(self.made) + sum(node.here and node.media_type is not None for node in self.nodes.values())

    @property
    def entries(self) -> list[Entry]:
        """Of all groups."""
        return [entry for group in self.groups for entry in group.entries]

    @property
    def names(self) -> tuple[str, ...]:
        """REPO:TAG and REPO@DIGEST, as they are called outside, in byte order."""
        return tuple(sorted({entry.image_name for entry in self.entries}))

    @property
    def absent(self) -> tuple[str, ...]:
        """Digests that something which is exported refers to, and its repository does not hold."""
        return tuple(sorted(self.left_out.keys() | {node.digest for node in self.nodes.values() if not node.here}))


@dataclass(frozen=True, slots=True)
class _Named:
    """One manifest that was asked for."""

    repository: str
    tag: str | None
    digest: str
    new_repository: str
    new_tag: str | None
    among_many: bool
    """Its name was not given: a pattern or a repository was."""

    @property
    def name(self) -> str:
        return f"{self.repository}@{self.digest}" if self.tag is None else f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class _Root:
    """What represents a manifest that was asked for."""

    descriptor: Descriptor | None
    """None where it is the manifest itself, about which the walk will say everything."""
    below: frozenset[str]
    """Where the walk through the store begins."""
    made: tuple[Manifest, ...] = ()
    lost: frozenset[str] = frozenset()
    """Indexes of the store in whose place some of these are exported."""


_ITSELF: Final = _Root(None, frozenset())
"""For every manifest that is exported as it is, and begins the walk itself."""


def choose(
    connection: Connection,
    pool: Provider,
    references: Iterable[str] | None,
    *,
    referrers: bool = True,
    referrers_lists: bool = False,
    images_only: bool = False,
    platforms: Sequence[str] = (),
) -> Selection:
    """Find what the references mean, with everything below it.

    Args:
        connection: of a snapshot.
        pool: where the bytes of indexes are read, if only some platforms are wanted.
        references: see :class:`ocistore.Selector`; None for every tag there is.
        referrers: also what is about something chosen, by its subject or by its tag, to any depth.
        referrers_lists: add, for each manifest with referrers, an index that lists them under the tag that the
            distribution specification has for it.
        images_only: leave out what was not asked for by its own name and is about something else by its tag.
        platforms: which to keep, each OS/ARCHITECTURE[/VARIANT]; none means all.

    Raises:
        RepositoryNotFoundError, ManifestNotFoundError, InvalidNameError, InvalidDigestError: a reference, a pattern or
            the name of a repository means nothing, or two things would get one name.
        TagConflictError: REPO:TAG@DIGEST, and the tag points elsewhere.
        PlatformNotFoundError: what was asked for by its name is of other platforms, or everything is.
        CorruptError: the catalog says something that is not so.
    """
    wanted = parse_platforms(platforms)
    chosen = None if references is None else selectors(references)
    choosing = _Choosing(connection, pool, wanted, [str(platform) for platform in wanted])
    for named in _named(connection, chosen):
        if images_only and named.among_many and named.tag is not None and is_about(named.tag):
            choosing.leave(named.digest)
            continue
        choosing.add(named)
    return choosing.finish(referrers=referrers, referrers_lists=referrers_lists)


class _Choosing:
    def __init__(
        self, connection: Connection, pool: Provider, wanted: Sequence[Platform], wanted_texts: list[str]
    ) -> None:
        self._connection = connection
        self._pool = pool
        self._wanted = wanted
        self._wanted_texts = wanted_texts
        self._roots: dict[tuple[str, str], _Root | PlatformNotFoundError] = {}
        """By repository and digest: many tags point at one manifest."""
        self._groups: dict[tuple[str, str], dict[str, _Named]] = {}
        """By repository and its new name; then by new tag, which is that of one digest, or else by ``@`` and digest."""
        self._taken: dict[str, dict[str, _Named]] = {}
        """By new repository and new tag."""
        self._other: dict[str, PlatformNotFoundError] = {}
        self._left: set[str] = set()
        """Digests of what is about something that is exported, and is itself left out."""
        self._absent: dict[str, str] = {}
        """Digests of what fits the wanted platforms and is not here, each with what it is."""

    def leave(self, digest: str) -> None:
        """Count what is about something, and is left out whether or not that is exported."""
        self._left.add(digest)

    def add(self, named: _Named) -> None:
        """Take it in, unless it is of another platform."""
        root = self._root_of(named)
        if isinstance(root, PlatformNotFoundError):
            if not named.among_many:
                raise PlatformNotFoundError(
                    named.name, wanted=root.wanted, available=root.available, absent=root.absent
                )
            self._other[named.name] = root
            return
        if named.new_tag is not None:
            other = self._taken.setdefault(named.new_repository, {}).setdefault(named.new_tag, named)
            if other.digest != named.digest:
                raise InvalidNameError(
                    f"{named.new_repository}:{named.new_tag}",
                    kind="reference",
                    reason=f"it would be the name of two things: {other.name} and {named.name}",
                    unclear=True,
                )
        group = self._groups.setdefault((named.repository, named.new_repository), {})
        group[f"@{named.digest}" if named.new_tag is None else named.new_tag] = named

    def _root_of(self, named: _Named) -> _Root | PlatformNotFoundError:
        if not self._wanted:
            return _ITSELF
        key = named.repository, named.digest
        if key not in self._roots:
            self._roots[key] = self._root(named)
        return self._roots[key]

    def finish(self, *, referrers: bool, referrers_lists: bool) -> Selection:
        """Return everything that was added, with what is below it, and about it."""
        if self._other and not self._groups:
            raise next(iter(self._other.values()))
        replaced = {
            digest: str(root.descriptor.digest)
            for (_, digest), root in self._roots.items()
            if isinstance(root, _Root) and root.descriptor is not None and root.descriptor.digest != digest
        }
        groups = []
        for source, repository in list(self._groups):
            named = list(self._groups.pop((source, repository)).values())
            groups.append(self._group(source, repository, named, referrers=referrers))
        if referrers_lists:
            groups = self._with_lists(groups)
        return Selection(
            tuple(groups),
            dict(sorted(replaced.items())),
            tuple(sorted(self._other)),
            len(self._left),
            self._absent,
        )

    def _group(self, source: str, repository: str, named: list[_Named], *, referrers: bool) -> Group:
        repository_id = repository_key(self._connection, source)
        roots = {each.digest: self._root_of(each) for each in named}
        found = dict.fromkeys(root for root in roots.values() if isinstance(root, _Root) and root is not _ITSELF)
        below = {digest for digest, root in roots.items() if root is _ITSELF}
        below.update(digest for root in found for digest in root.below)
        tagged: dict[str, str] = {}
        if referrers:
            reached = reach(self._connection, repository_id, below)
            nodes, tagged = reached.nodes, self._untaken(source, repository, reached.tagged)
        else:
            nodes = graph.walk(self._connection, repository_id, below, referrers=False)
            self._left |= left_out(self._connection, repository_id, below, {node.digest for node in nodes})
        by_digest = {node.digest: node for node in nodes}
        # Of an index that lost platforms another is exported: what is about the first would not fit it.
        for digest in {digest for root in found for digest in root.lost}:
            self._left |= all_about(self._connection, repository_id, digest) - by_digest.keys()
        entries = []
        names = [*(each.tag for each in named if each.tag is not None), *tagged]
        said = {
            name: target.entry
            for some in (names[begin : begin + _ASKED_AT_ONCE] for begin in range(0, len(names), _ASKED_AT_ONCE))
            for name, target in tags.targets(self._connection, repository_id, some).items()
            if target.entry is not None
        }
        del names
        untagged = manifests.entries(self._connection, repository_id, by_digest)
        for each in named:
            root = roots[each.digest]
            assert isinstance(root, _Root)
            descriptor = root.descriptor or _descriptor(by_digest[each.digest])
            besides = untagged.get(each.digest) if each.tag is None else said.get(each.tag)
            entries.append(Entry(repository, each.new_tag, saying(descriptor, besides)))
        entries += [
            Entry(repository, tag, saying(_descriptor(by_digest[digest]), said.get(tag)))
            for tag, digest in tagged.items()
        ]
        if referrers and any(node.refers for node in nodes):
            # What refers upwards is reachable from no entry: it needs one of its own. Its own children do not.
            below.update(tagged.values())
            without = {node.digest for node in graph.walk(self._connection, repository_id, below, referrers=False)}
            entries += [
                Entry(repository, None, saying(_descriptor(node), untagged.get(node.digest)))
                for node in nodes
                if node.refers and node.media_type is not None and node.digest not in without
            ]
        made = {manifest.descriptor.digest: manifest for root in found for manifest in root.made}
        return Group(
            source,
            repository,
            tuple(entries),
            tuple(nodes),
            tuple(made.values()),
            frozenset(roots.keys() | set(tagged.values())),
        )

    # --- what is about it ---------------------------------------------------------------------------------------------

    def _untaken(self, source: str, repository: str, tagged: dict[str, str]) -> dict[str, str]:
        """Return what is about something by its tag and was not chosen anyway.

        Names that others have are not taken.
        """
        free = {}
        for tag, digest in tagged.items():
            named = _Named(source, tag, digest, repository, tag, among_many=True)
            other = self._taken.setdefault(repository, {}).setdefault(tag, named)
            if other is named:
                free[tag] = digest
            elif other.digest != digest:
                self._left.add(digest)
        return free

    def _with_lists(self, groups: list[Group]) -> list[Group]:
        """Add a list of the referrers of each manifest that has some, in the first group that has it."""
        listing: dict[str, dict[str, dict[str, Descriptor]]] = {}
        for group in groups:
            of_repository = listing.setdefault(group.repository, {})
            for subject, referrers in self._listed(group).items():
                of_repository.setdefault(subject, {}).update(referrers)
        return [self._with_own_lists(group, listing[group.repository]) for group in groups]

    def _listed(self, group: Group) -> dict[str, dict[str, Descriptor]]:
        if not any(node.refers for node in group.nodes):
            return {}
        return listed(self._connection, repository_key(self._connection, group.source), group.nodes)

    def _with_own_lists(self, group: Group, listing: dict[str, dict[str, Descriptor]]) -> Group:
        entries = {entry.tag: entry for entry in group.entries if entry.tag is not None}
        untagged = [entry for entry in group.entries if entry.tag is None]
        made = {manifest.descriptor.digest: manifest for manifest in group.made}
        own = {node.digest for node in group.nodes}
        for subject in sorted(listing.keys() & own):
            referrers = listing.pop(subject)
            tag = list_tag(Digest(subject))
            before = entries.get(tag)
            if before is not None and mediatypes.is_index_type(before.descriptor.media_type):
                there = {str(child.digest): child for child in self._fetch(before.descriptor).manifests}
                if there.keys() >= referrers.keys():
                    continue
                referrers = there | referrers
            elif before is not None:
                self._left.update(referrers)  # the tag names something else
                continue
            index = list_index(referrers)
            made[index.descriptor.digest] = index
            entries[tag] = Entry(group.repository, tag, index.descriptor)
        return replace(group, entries=(*entries.values(), *untagged), made=tuple(made.values()))

    # --- platforms ----------------------------------------------------------------------------------------------------

    def _root(self, named: _Named) -> _Root | PlatformNotFoundError:
        stored = manifests.by_digest(self._connection, named.repository, named.digest)
        if stored is None:
            raise CorruptError(f"manifest {named.digest}", reason=f"{named.repository} has a tag of it and not itself")
        own = stored.descriptor
        narrowed = narrow(
            own,
            self._wanted,
            fetch=self._fetch,
            platform_of=self._platform_of,
            here=partial(self._here, repository_key(self._connection, named.repository)),
        )
        if narrowed.descriptor is None:
            return PlatformNotFoundError(
                named.name,
                wanted=tuple(self._wanted_texts),
                available=tuple(narrowed.available),
                absent=narrowed.absent,
            )
        for digest, kind in narrowed.absent.items():
            self._absent.setdefault(digest, f"{kind} in {named.name}")
        if narrowed.descriptor.digest == own.digest:
            return _Root(own, frozenset([own.digest]))
        # Indexes that were narrowed on the way may have been left out above: only what the new root leads to is
        # exported.
        made: dict[Digest, Manifest] = {}
        below: set[str] = set()
        pending = [narrowed.descriptor.digest]
        while pending:
            digest = pending.pop()
            if digest in made:
                continue
            if digest in narrowed.made:
                made[digest] = narrowed.made[digest]
                pending += [child.digest for child in made[digest].manifests]
            else:
                below.add(digest)
        children_first = tuple(manifest for digest, manifest in narrowed.made.items() if digest in made)
        return _Root(narrowed.descriptor, frozenset(below), children_first, frozenset(narrowed.replaced))

    def _here(self, repository_id: int, child: Descriptor) -> bool:
        """Whether the repository holds a child of an index; what others hold is not its business."""
        found = manifests.children(self._connection, repository_id, [child.digest]).get(child.digest)
        if found is None or not found.live:
            return False
        return found.manifest_here if mediatypes.is_known_manifest(child.media_type) else found.blob_here

    def _fetch(self, descriptor: Descriptor) -> Manifest:
        digest = descriptor.digest
        with gone_is_damage(digest, noun="manifest"):
            content = self._pool.read(digest, descriptor.size)
        # What is made of it would be good by its own digest, whatever had become of this one.
        if Digest.of(content, digest.algorithm) != digest:
            raise CorruptError(f"manifest {digest}", reason="its bytes are not those of its digest")
        return Manifest(descriptor, content)

    def _platform_of(self, descriptor: Descriptor) -> Platform | None:
        found = manifests.platform(self._connection, descriptor.digest)
        if not found:  # its config may have come after it
            found = platform_of(self._pool, self._fetch(descriptor))
        return None if not found else Platform.from_json(found, path="platform")


def _named(connection: Connection, chosen: Sequence[Selector] | None) -> Iterator[_Named]:
    """Yield everything that was asked for; what was asked for twice comes twice."""
    if chosen is None:
        after = ""
        while names := repositories.page(connection, prefix="", after=after, limit=PAGE):
            for name in names:
                for tag, digest in tags.every(connection, repository_key(connection, name)):
                    yield _Named(name, tag, digest, name, tag, among_many=True)
            after = names[-1]
        return
    for selector in chosen:
        name = selector.repository
        if selector.selects_many:
            for tag, digest in _matching(connection, selector):
                yield _Named(name, tag, digest, *selector.renamed(name, tag), among_many=True)
        else:
            digest = _resolved(connection, selector)
            yield _Named(name, selector.tag, digest, *selector.renamed(name, selector.tag), among_many=False)


def _matching(connection: Connection, selector: Selector) -> list[tuple[str, str]]:
    """Return the tags, and what they point at."""
    every = tags.every(connection, repository_key(connection, selector.repository))
    matching = [(tag, digest) for tag, digest in every if selector.matches_tag(tag)]
    if not matching and selector.tag is not None:
        raise ManifestNotFoundError(selector.tag, repository=selector.repository)
    if not matching:
        reason = "the repository has no tags; give REPO@DIGEST for each manifest"
        raise InvalidNameError(selector.text, kind="reference", reason=reason, unclear=True)
    return matching


def _resolved(connection: Connection, selector: Selector) -> str:
    """Return the digest of the one manifest that is meant."""
    repository_key(connection, selector.repository)
    if selector.tag is not None:
        stored = manifests.by_tag(connection, selector.repository, selector.tag)
        if stored is not None and selector.digest is not None and stored.digest != selector.digest:
            raise TagConflictError(
                selector.tag, repository=selector.repository, expected=selector.digest, actual=stored.digest
            )
        missing = selector.tag
    else:
        missing = str(selector.digest)
        stored = manifests.by_digest(connection, selector.repository, missing)
    if stored is None:
        raise ManifestNotFoundError(missing, repository=selector.repository)
    return stored.digest


def repository_key(connection: Connection, name: str) -> int:
    """Return the key of a repository.

    Raises:
        RepositoryNotFoundError: there is none of that name.
    """
    found = repositories.find(connection, name)
    if found is None:
        raise RepositoryNotFoundError(name)
    return found


def _descriptor(node: graph.Node) -> Descriptor:
    if node.media_type is None:
        raise CorruptError(f"manifest {node.digest}", reason="a tag points at it and its repository does not hold it")
    return manifest_descriptor(node.media_type, Digest(node.digest), node.size, artifact_type=node.artifact_type)
