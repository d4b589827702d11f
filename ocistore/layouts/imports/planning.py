"""Making the plan of an import: index.json and manifests are read, and no blob.

Everything that is wanted is walked from the entries down; and then, where not all entries are wanted anyway, from what
was reached to what refers to it, until nothing more is found.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from ocistore.changes import SetTag
from ocistore.errors import ManifestInvalidError, PlatformNotFoundError
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, NotPlainError
from ocistore.layouts.imports.conventions import index_of_platforms, with_own_names
from ocistore.layouts.imports.manifests import Manifests, UnusableError
from ocistore.layouts.imports.plan import ImportPlan
from ocistore.layouts.imports.request import NAMED_AT_MOST, Chosen, called, nameless, select
from ocistore.layouts.imports.wholeness import Wholeness, absent_children, whole_platforms
from ocistore.layouts.index import (
    MAXIMUM_INDEX_SIZE,
    MAXIMUM_LAYOUT_FILE_SIZE,
    Listing,
    Unusable,
    check_layout_file,
    name_of,
    read_index,
    said_besides,
    saying,
)
from ocistore.oci import mediatypes
from ocistore.oci.digest import is_any_digest
from ocistore.oci.manifest import HELD_PARSED
from ocistore.oci.platforms import Narrowed, narrow
from ocistore.oci.referrertags import is_about, is_list_tag, tags_about
from ocistore.refusals import pass_on_theirs

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator

    from ocistore.layouts.imports.embedded import EmbeddedSource
    from ocistore.layouts.imports.request import ChosenEntries, ImportRequest
    from ocistore.layouts.imports.source import Source
    from ocistore.layouts.index import Damaged, Name
    from ocistore.oci.descriptor import Descriptor, Platform
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest


def survey(
    source: EmbeddedSource, wanted: ImportRequest, *, maximum_manifest_size: int, maximum_manifests_size: int
) -> ImportPlan:
    """Read the index and all manifests that are wanted, and check that the blobs exist with their sizes.

    Args:
        source: where from.
        wanted: what was asked for.
        maximum_manifest_size: bytes of one manifest.
        maximum_manifests_size: bytes of all of them together.

    Raises:
        InvalidNameError: an entry names no repository and none was given.
        ManifestNotFoundError: something that was asked for does not exist.
        PlatformNotFoundError: what was asked for by its name is of other platforms; or everything is.
        All else is in ``problems`` of what is returned.
    """
    contents = ImportPlan()
    entries, unusable, damaged, problems = listed(source)
    entries = with_own_names(source.offered(entries))
    contents.skipped += source.left_out
    if problems:  # and then what was asked for may be in it or not
        contents.problems.update(dict.fromkeys(problems))
        return contents
    # An unknown media type must be no error (image specification, image-layout, "index.json").
    others = [entry for entry in entries if not _is_manifest(entry)]
    contents.skipped += [f"{entry.digest} ({entry.media_type})" for entry in others]
    contents.unusable += map(str, unusable)
    unusable += [Unusable(entry.digest, f"{entry.media_type} is no manifest", entry.annotations) for entry in others]
    known = [entry for entry in entries if _is_manifest(entry)]
    selection = select(known, wanted, source=source.name, unusable=unusable, damaged=damaged)
    _note_refused(selection, damaged, contents)
    manifests = Manifests(source, contents, maximum_size=maximum_manifest_size, maximum_sizes=maximum_manifests_size)
    wholeness = Wholeness(source, manifests)
    walk = _Walk(contents, manifests, wholeness, note_names=bool(wanted.platforms))
    chosen = selection.chosen
    if not wanted.everything:
        chosen, referrers = _parted(chosen, wanted, manifests)
        selection.left += referrers
    # What is looked at is not held any longer: there may be 100,000 entries.
    chosen, count = [*chosen], len(entries)
    del entries, others, known
    selection.chosen.clear()
    narrowed: dict[Descriptor, Narrowed | None] = {}

    def left(entry: Chosen) -> Narrowed | None:
        if not wanted.platforms:
            return _narrowed(entry, wanted, contents, manifests, wholeness)
        # Many names of one thing: what costs time is done once.
        alike = replace(entry.descriptor, annotations={})
        if alike not in narrowed:
            narrowed[alike] = _narrowed(entry, wanted, contents, manifests, wholeness)
        return narrowed[alike]

    if wanted.tag is not None:
        if not chosen:
            contents.problem(f"there is nothing in it to be called {wanted.destination}{_save_refused(contents)}")
        whole = None
        if not (wanted.selectors or wanted.platforms or damaged or unusable) and len(chosen) == count:
            whole = _whole_index(source, chosen, manifests, maximum_manifest_size)
        fit = [entry for entry in chosen if (found := left(entry)) is None or found.descriptor is not None]
        chosen = [*(called(whole or fit, wanted, source=source.name) or chosen)]
    asked = [entry for entry in chosen if wanted.platforms and not entry.among_many]
    for entry in _each(chosen):
        descriptor = _left(entry, found := left(entry), wanted, contents, manifests)
        walk.lost(entry.repository, found.replaced if found else ())
        if descriptor is not None and walk.is_readable(descriptor, asked=not entry.among_many):
            walk.take(entry, descriptor)
    if not (wanted.everything or contents.tagged or contents.untagged):
        walk.nothing_read()
    _check_platforms(asked, walk.named, wanted, contents, source=source.name)
    if selection.left:
        walk.referrers(selection.left, take=wanted.referrers)
    _check_nameless(selection.nameless, walk, wanted, manifests, source=source.name)
    return contents


class ListedEntries(NamedTuple):
    """What index.json lists, or what is wrong with the two files at the top; never both."""

    entries: list[Descriptor]
    unusable: list[Unusable]
    damaged: list[Damaged]
    problems: list[str]


def listed(source: Source) -> ListedEntries:
    """Read the two files at the top."""
    listing = Listing([], [], [], {})
    problems: list[str] = []
    for file, maximum in ((OCI_LAYOUT, MAXIMUM_LAYOUT_FILE_SIZE), (INDEX_JSON, MAXIMUM_INDEX_SIZE)):
        try:
            content = source.read(file, maximum=maximum)
            if file == OCI_LAYOUT:
                check_layout_file(content)
            else:
                listing = read_index(content, keep_damaged=True)
        except FileNotFoundError as error:
            pass_on_theirs(error)
            problems.append(f"there is no {file}")
        except (NotPlainError, ManifestInvalidError) as error:
            problems.append(f"{file}: {error}")
        except OSError as error:
            pass_on_theirs(error)
            problems.append(f"{file}: {error.strerror}")
    if problems:
        return ListedEntries([], [], [], problems)
    return ListedEntries(listing.entries, listing.unusable, [*listing.damaged, *source.damaged], [])


def _note_refused(selection: ChosenEntries, damaged: list[Damaged], contents: ImportPlan) -> None:
    """Note as wrong what was asked for and cannot be imported; leave out what is damaged and was not asked for."""
    for refused in selection.unusable:
        contents.problem(_unread(str(refused)))
    asked = set(map(id, selection.damaged))
    for each in damaged:
        if id(each) in asked:
            contents.problems.update(dict.fromkeys(each.problems))
        else:
            contents.unusable.append(str(each))


def _each(entries: list[Chosen]) -> Iterator[Chosen]:
    """Yield each of them; what was yielded is not held any more."""
    entries.reverse()
    while entries:
        yield entries.pop()


def _is_manifest(descriptor: Descriptor) -> bool:
    return mediatypes.is_known_manifest(descriptor.media_type)


def _whole_index(source: Source, chosen: list[Chosen], manifests: Manifests, maximum: int) -> list[Chosen]:
    """Return the index that index.json is, instead of all that it lists; none where it is no index, or gives names."""
    if any(entry.own.given for entry in chosen) or len({entry.descriptor.digest for entry in chosen}) < 2:
        return []
    index = index_of_platforms(source, [entry.descriptor for entry in chosen], maximum=maximum)
    if index is None:
        return []
    manifests.made[index.descriptor.digest] = index
    return [replace(chosen[0], descriptor=index.descriptor)]


def _parted(chosen: list[Chosen], wanted: ImportRequest, manifests: Manifests) -> tuple[list[Chosen], list[Descriptor]]:
    """Divide what is chosen: what was chosen for itself; and what is there only because it refers to something."""
    own: list[Chosen] = []
    referrers: list[Descriptor] = []
    for entry in chosen:
        if wanted.tag is not None and entry.own.tag is not None and is_about(entry.own.tag):
            referrers.append(entry.descriptor)
            continue
        if entry.tag is not None or entry.by_digest:
            own.append(entry)
            continue
        if manifests.subject(entry.descriptor) is None:
            own.append(entry)
        elif wanted.referrers and not _is_about_what_is_there(entry.descriptor, manifests):
            own.append(entry)  # what it refers to is elsewhere, and cannot bring it along
        else:
            referrers.append(entry.descriptor)
    return own, referrers


def _is_about_what_is_there(descriptor: Descriptor, manifests: Manifests) -> bool:
    """Whether an entry is about something that the layout has."""
    subject = manifests.subject(descriptor)
    return subject is not None and manifests.there(subject)


def _narrowed(
    entry: Chosen, wanted: ImportRequest, contents: ImportPlan, manifests: Manifests, wholeness: Wholeness
) -> Narrowed | None:
    """Return what is left of something in the index; None where it is missing or damaged, which is noted."""
    descriptor = entry.descriptor
    try:
        narrowed = narrow(
            descriptor,
            wanted.platforms,
            fetch=manifests.needed,
            platform_of=manifests.platform,
            here=wholeness.here,
        )
    except UnusableError:
        if manifests.is_absent(descriptor.digest):
            contents.lacks(descriptor.digest, entry.name)
        return Narrowed(descriptor) if descriptor.digest in manifests.unknown else None
    except ManifestInvalidError as error:
        contents.problem(f"{descriptor.digest}: {error}")
        return None
    manifests.made.update(narrowed.made)
    return narrowed


def _left(
    entry: Chosen, narrowed: Narrowed | None, wanted: ImportRequest, contents: ImportPlan, manifests: Manifests
) -> Descriptor | None:
    """Return what an entry means now; None where that is nothing, which is noted."""
    if narrowed is None:
        return None
    if narrowed.descriptor is None:
        before = contents.other_platforms.get(entry.name)
        contents.other_platforms[entry.name] = PlatformNotFoundError(
            entry.name,
            wanted=tuple(map(str, wanted.platforms)),
            available=tuple(dict.fromkeys((*(before.available if before else ()), *narrowed.available))),
            absent={**(before.absent if before else {}), **narrowed.absent},
        )
        return None
    if narrowed.descriptor.digest != entry.descriptor.digest:
        contents.replaced[entry.descriptor.digest] = narrowed.descriptor.digest
    for digest, kind in narrowed.absent.items():
        contents.absent.setdefault(entry.repository, {}).setdefault(digest, manifests.of(digest, kind, entry.name))
    return narrowed.descriptor


def _check_platforms(
    asked: list[Chosen], named: set[str], wanted: ImportRequest, contents: ImportPlan, *, source: str
) -> None:
    """Check that there is an image of a wanted platform for each name that was asked for, and for one at all."""
    # One name may be that of several images, each for another platform.
    for name in named:
        contents.other_platforms.pop(name, None)
    for entry in asked:
        if entry.name in contents.other_platforms:
            raise contents.other_platforms[entry.name]
    if wanted.platforms and not (contents.tagged or contents.untagged or contents.problems):
        reason = f"there is nothing in it{_save_refused(contents)}"
        nothing = PlatformNotFoundError(source, wanted=tuple(map(str, wanted.platforms)), available=(), reason=reason)
        raise next(iter(contents.other_platforms.values()), nothing)


def _save_refused(contents: ImportPlan) -> str:
    """Return what exists and cannot be imported, for the end of a sentence that says there is nothing."""
    left_out = [*contents.skipped, *contents.unusable]
    some = "; ".join(left_out[:NAMED_AT_MOST])
    return f" but for what cannot come in: {some}" if left_out else ""


def _check_nameless(
    entries: Iterable[Descriptor], walk: _Walk, wanted: ImportRequest, manifests: Manifests, *, source: str
) -> None:
    """Check that for each entry that names no repository it is known where it goes, or that it is left out."""
    for descriptor in entries:
        is_known = walk.is_about_something(descriptor) or walk.came_in(descriptor)
        # What is about something of another platform is left out with that.
        if not (is_known or (wanted.platforms and _is_about_what_is_there(descriptor, manifests))):
            raise nameless(descriptor, source=source)


def _why_no_tag(given: str, descriptor: Descriptor) -> str:
    """Return why an entry of that name has no tag, in brackets; empty where it is as it should be."""
    name, at, digest = given.partition("@")
    if not given or descriptor.digest in {digest, given}:
        return ""
    if not at:
        return f" ({given!r:.200} is not a tag)"
    if not is_any_digest(digest):
        return f" ({given!r:.200} is no name: {digest!r:.100} is no digest)"
    return f" ({name!r:.200} was {digest:.200}, of another manifest)"


def _unread(text: str) -> str:
    return f"it was asked for, and cannot be read: {text}"


@dataclass
class _Referrers:
    """What a layout lists that is about something."""

    by_subject: dict[Digest, list[Descriptor]] = field(default_factory=dict)
    by_tag: dict[str, list[tuple[Name, Descriptor]]] = field(default_factory=dict)

    def about(self, subject: Digest, sources: Container[str | None]) -> Iterator[tuple[Name | None, Descriptor]]:
        """Yield what is about a manifest.

        What is about it by its subject has no name; what is about it by its tag in one of these sources has that.
        """
        for descriptor in self.by_subject.get(subject, ()):
            yield None, descriptor
        for tag in tags_about(subject) if self.by_tag else ():
            yield from (pair for pair in self.by_tag.get(tag, ()) if pair[0].repository in sources)


class _Walk:
    """Walks down from the entries, and then up to what refers to what was reached."""

    def __init__(self, contents: ImportPlan, manifests: Manifests, wholeness: Wholeness, *, note_names: bool) -> None:
        self._contents = contents
        self._note_names = note_names
        self._manifests = manifests
        self._wholeness = wholeness
        self._called: dict[SetTag, tuple[str, str | None]] = {}
        """What the layout calls what has a tag, and its host; where that is the tag and no host, it is left out."""
        self._visited: dict[str, set[Digest]] = {}
        """By repository, the manifests that were walked, also without success."""
        self._sources: dict[str, set[str | None]] = {}
        """The repositories that the layout names for what went into one of the store's."""
        self._about: set[Digest] = set()
        """What is about something that was reached, or about an index in whose place another is imported."""
        self._lost: dict[str, set[Digest]] = {}
        """By repository, the indexes that are not imported, because others that lost platforms are."""
        self.named: set[str] = set()
        """What was chosen and is imported, as REPO:TAG or REPO@DIGEST, where names were to be noted."""
        self._parsed = 0
        """Edges of the manifests that were kept as they were parsed."""
        self._unread: list[str] = []
        """What was chosen, and nothing could be read of."""

    def is_readable(self, root: Descriptor, *, asked: bool) -> bool:
        """Whether one entry can be imported, or reported as damaged; where nothing can be read of it, that is noted.

        Args:
            root: the entry.
            asked: it was asked for by its own name, so that an import without it is refused.
        """
        lacks = self._wholeness.lacks(root)
        unknown = self._manifests.unknown
        if not lacks or any(lack.digest not in unknown for lack in lacks):
            return True
        found = lacks[0].digest
        reason = unknown[found] if found == root.digest else f"{found}: {unknown[found]}"
        text = str(Unusable(root.digest, reason, root.annotations))
        if text not in self._contents.unusable:
            self._contents.unusable.append(text)
        self._unread.append(text)
        if asked:
            self._contents.problem(_unread(text))
        return False

    def nothing_read(self) -> None:
        """Note that something was asked for and nothing is imported, because of what could not be read."""
        for text in self._unread:
            self._contents.problem(_unread(text))

    def name(self, entry: Chosen, descriptor: Descriptor) -> None:
        """Give what an entry means its name."""
        contents, repository = self._contents, entry.repository
        if self._note_names:
            self.named.add(entry.name)
        self._sources.setdefault(repository, set()).add(entry.own.repository)
        given = entry.own.given
        if entry.tag is None:
            reason = _why_no_tag(given, entry.descriptor)
            contents.untagged[f"{repository}@{descriptor.digest}{reason}"] = None
            contents.said.setdefault((repository, descriptor.digest), said_besides(entry.descriptor))
            return
        besides = said_besides(entry.descriptor)
        new = SetTag(repository, entry.tag, descriptor.digest, entry=besides)
        tag = contents.tagged.setdefault(repository, {}).setdefault(entry.tag, new)
        if tag is new and (given != entry.tag or entry.own.host is not None):
            self._called[tag] = given, entry.own.host
        if tag.digest == descriptor.digest:
            return
        problem = f"{entry.name} is the name of two entries: {tag.digest} and {descriptor.digest}"
        platforms = [self._platform_of(tag), self._platform(descriptor)]
        if all(platforms) and platforms[0] != platforms[1]:
            problem += f", for {platforms[0]} and {platforms[1]}: choose one of these (--platform)"
        before, host = self._called.get(tag, (tag.name, None))
        if before and given and before != given:
            hosts = " by two hosts" if host != entry.own.host else ""
            named = f"{before!a:.200} and {given!a:.200}{hosts}"
            problem += f", which are called {named}: choose one of them (--ref NAME[@DIGEST])"
        contents.problem(problem)

    def _platform_of(self, tag: SetTag) -> Platform | None:
        """Return what the image is for that has a tag."""
        known = self._contents.manifests[tag.repository].get(tag.digest)
        return None if known is None else self._platform(saying(known.descriptor, tag.entry))

    def _platform(self, descriptor: Descriptor) -> Platform | None:
        """Return what an image is for, for messages."""
        if descriptor.stated_platform is not None or not mediatypes.is_manifest_type(descriptor.media_type):
            return descriptor.stated_platform
        with contextlib.suppress(UnusableError):
            return self._manifests.platform(descriptor)
        return None

    def take(self, entry: Chosen, root: Descriptor) -> None:
        """Take in what an entry means, with everything below it, under its name."""
        self.graph(entry.repository, root, entry.name)
        if entry.tag is None and not entry.by_digest and self._manifests.subject(root) is not None:
            self._say_what_would_do(root, entry.name)
        self.name(entry, root)

    def _say_what_would_do(self, root: Descriptor, name: str) -> None:
        """Say of what is about something that it can be left out, where a part of it is missing."""
        if self._wholeness.lacks(root):
            self._contents.problem(f"{name} is about something that comes in, and can be left out (--no-referrers)")

    def graph(self, repository: str, root: Descriptor, name: str) -> list[Digest]:
        """Return everything below one entry, without recursion: a manifest is added after all its children.

        Children that an index may lack are left out, and noted as absent. Where something is missing that may not be,
        all else is added, so that whatever is wrong with it is found as well.

        Returns:
            The digests of the manifests that were added.
        """
        contents = self._contents
        held = contents.manifests.setdefault(repository, {})
        contents.blobs.setdefault(repository, {})
        visited = self._visited.setdefault(repository, set())
        lacks = self._wholeness.lacks(root)
        for lack in lacks:
            if lack.digest in self._manifests.unknown:
                contents.problem(f"{lack.digest} cannot be read: {self._manifests.of(lack.digest, lack.kind, name)}")
            else:
                contents.lacks(lack.digest, self._manifests.of(lack.digest, lack.kind, name))
        if lacks and (index := self._manifests.get(root)) is not None:
            platforms = whole_platforms(index, self._wholeness)
            if platforms:
                contents.problem(f"{name} is whole for {', '.join(platforms)}: choose that (--platform)")
        added: list[Digest] = []
        pending: list[tuple[Descriptor, Manifest | None]] = [(root, None)]
        while pending:
            descriptor, manifest = pending.pop()
            if manifest is not None:
                held[manifest.descriptor.digest] = self._as_held(manifest)
                added.append(manifest.descriptor.digest)
                continue
            manifest = self._manifests.get(descriptor)
            if manifest is None or descriptor.digest in visited:
                continue
            visited.add(descriptor.digest)
            pending.append((descriptor, manifest))
            absent = {} if lacks else absent_children(manifest, self._wholeness)
            for digest, kind in absent.items():
                known = contents.absent.setdefault(repository, {})
                known.setdefault(digest, self._manifests.of(digest, kind, name))
            for edge in manifest.edges():
                if edge.role == "manifest" and edge.descriptor.digest not in absent:
                    pending.append((edge.descriptor, None))
                elif edge.role in {"config", "layer"}:
                    self._blob(repository, edge.descriptor)
        return added

    def _as_held(self, manifest: Manifest) -> Manifest:
        """Return a manifest that was walked, as it is kept.

        There may be 100,000 of them, and an image's are soon parsed again.
        """
        if not mediatypes.is_index_type(manifest.media_type):
            self._parsed += manifest.edge_count
            if self._parsed > HELD_PARSED:
                manifest.forget_parts()
        return manifest

    def _blob(self, repository: str, descriptor: Descriptor) -> None:
        contents, digest = self._contents, descriptor.digest
        known = contents.blobs[repository].get(digest)
        try:
            size = self._wholeness.size(digest) if known is None else known
        except FileNotFoundError as error:
            pass_on_theirs(error)
            return  # it need not be there, or was noted
        except NotPlainError as error:
            contents.problem(f"{digest}: {error}")
            return
        except OSError as error:
            pass_on_theirs(error)
            contents.problem(f"{digest}: {error.strerror}")
            return
        if size != descriptor.size:
            contents.problem(f"{digest} has {size} bytes, not {descriptor.size}")
        else:
            contents.blobs[repository][digest] = size

    def lost(self, repository: str, replaced: Collection[Digest]) -> None:
        """Note indexes in whose place others that lost platforms are imported: what is about them is left out."""
        if replaced:
            self._lost.setdefault(repository, set()).update(replaced)

    def referrers(self, left: list[Descriptor], *, take: bool) -> None:
        """Take in those of the remaining entries that are about what was reached, to any depth; or only count them."""
        known = _Referrers()
        for descriptor in left:
            name = name_of(descriptor)
            if name.tag and is_about(name.tag) and not is_list_tag(name.tag):
                known.by_tag.setdefault(name.tag, []).append((name, descriptor))
        for descriptor in self._listing_referrers(left):
            subject = self._manifests.subject(descriptor)
            if subject is not None:
                known.by_subject.setdefault(subject, []).append(descriptor)
        for repository, held in self._contents.manifests.items():
            self._follow(repository, held, known, take=take)
        for repository, digests in self._lost.items():
            self._follow(repository, digests, known, take=False)
        self._note_unread(left)
        taken = {digest for held in self._contents.manifests.values() for digest in held}
        self._contents.referrers_left = len(self._about - taken)

    def _follow(self, repository: str, subjects: Iterable[Digest], known: _Referrers, *, take: bool) -> None:
        """Take in what is about these manifests, and what is about that; or only note that it is left out."""
        held = self._contents.manifests.setdefault(repository, {})
        sources = self._sources.get(repository, set()) | {None}
        left_out: set[Digest] = set()
        pending = [(digest, take) for digest in subjects]
        while pending:
            subject, may_come = pending.pop()
            for name, descriptor in known.about(subject, sources):
                self._about.add(descriptor.digest)
                if name is None and descriptor.digest in held:
                    continue
                if may_come and self.is_readable(descriptor, asked=False):
                    pending += [(digest, True) for digest in self._referrer(repository, descriptor, name)]
                elif descriptor.digest not in left_out:
                    left_out.add(descriptor.digest)
                    pending.append((descriptor.digest, False))

    def _referrer(self, repository: str, root: Descriptor, own: Name | None) -> list[Digest]:
        """Return everything below something that was not asked for, and is about what was; as :meth:`graph`.

        Args:
            repository: where that is imported.
            root: what is about it.
            own: the name by which it is; None where it is by its subject.
        """
        name = f"{repository}@{root.digest}" if own is None else f"{repository}:{own.tag}"
        added = self.graph(repository, root, name)
        self._say_what_would_do(root, name)
        if own is None:
            self._contents.untagged[name] = None
            self._contents.said[repository, root.digest] = said_besides(root)
        else:
            self.name(Chosen(root, repository, own.tag, own), root)
        return added

    def _note_unread(self, left: list[Descriptor]) -> None:
        """Note what has no name and cannot be read: nobody knows whether it is about something that is imported."""
        for descriptor in {each.digest: each for each in left}.values():
            reason = self._manifests.unread.get(descriptor.digest)
            if reason is not None and not name_of(descriptor).given and descriptor.digest not in self._about:
                self._contents.unusable.append(str(Unusable(descriptor.digest, reason, descriptor.annotations)))

    def is_about_something(self, descriptor: Descriptor) -> bool:
        """Whether an entry is about something that was reached."""
        return descriptor.digest in self._about

    def came_in(self, descriptor: Descriptor) -> bool:
        """Whether what an entry means was imported by another entry."""
        return any(descriptor.digest in held for held in self._contents.manifests.values())

    def _listing_referrers(self, left: list[Descriptor]) -> list[Descriptor]:
        """Return these entries, and what is in those of them that do nothing but list referrers."""
        found: dict[Digest, Descriptor] = {}
        for descriptor in left:
            found.setdefault(descriptor.digest, descriptor)
        lists: set[Digest] = set()
        for descriptor in left:
            tag = name_of(descriptor).tag
            if tag and is_list_tag(tag) and mediatypes.is_index_type(descriptor.media_type):
                if descriptor.digest in lists:
                    continue
                lists.add(descriptor.digest)
                for child in self._manifests.children(descriptor):
                    found.setdefault(child.digest, child)
        return list(found.values())
