"""What is in a layout, and what is wrong with it: index.json and all manifests are read, and no blob."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ocistore.changes import SetTag
from ocistore.errors import DigestMismatchError, InvalidNameError, ManifestInvalidError
from ocistore.layouts.directory import INDEX_JSON, OCI_LAYOUT, NotPlainError
from ocistore.layouts.index import (
    MAXIMUM_INDEX_SIZE,
    MAXIMUM_LAYOUT_FILE_SIZE,
    check_layout_file,
    name_of,
    read_index,
)
from ocistore.oci import mediatypes
from ocistore.oci.manifest import check_manifest

if TYPE_CHECKING:
    from ocistore.layouts.index import Name
    from ocistore.layouts.source import Source
    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest

MAXIMUM_MANIFESTS_SIZE: Final = 256 * 1024 * 1024
"""Bytes of all manifests of one layout together. They are in memory until the commit, so there has to be an end; a
manifest of an image has some 2 KiB, so this is about a hundred thousand images."""


@dataclass
class Contents:
    """What is in a layout, and what is wrong with it."""

    maximum_manifest_size: int
    """Bytes."""
    maximum_manifests_size: int
    """Bytes, of all manifests together."""
    manifests_size: int = 0
    """Bytes of the manifests that were read."""
    manifests: dict[str, dict[Digest, Manifest]] = field(default_factory=dict)
    """By repository, children before parents."""
    blobs: dict[str, dict[Digest, int]] = field(default_factory=dict)
    """By repository, with their sizes."""
    tags: dict[tuple[str, str], SetTag] = field(default_factory=dict)
    """By repository and name."""
    visited: dict[str, set[Digest]] = field(default_factory=dict)
    """By repository, the manifests that were read, be it in vain."""
    untagged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: dict[str, None] = field(default_factory=dict)
    """In order, each once."""

    def problem(self, text: str) -> None:
        """Note what is wrong; said again, it stands there once."""
        self.problems[text] = None


def survey(source: Source, given: str | None, contents: Contents) -> Contents:
    """Read the index and all manifests, and look whether the blobs are there with their sizes.

    Raises:
        InvalidNameError: an entry names no repository and none was given. All else is in ``contents.problems``.
    """
    entries, problems = listed(source)
    contents.problems.update(dict.fromkeys(problems))
    # An unknown media type must be no error (image specification, image-layout, "index.json").
    contents.skipped += [f"{entry.digest} ({entry.media_type})" for entry in entries if not _is_manifest(entry)]
    entries = [entry for entry in entries if _is_manifest(entry)]
    names = [name_of(entry) for entry in entries]
    repositories = {name.repository for name in names if name.repository is not None}
    for entry, name in zip(entries, names, strict=True):
        repository = given or name.repository or (repositories.copy().pop() if len(repositories) == 1 else None)
        if repository is None:
            raise InvalidNameError(
                name.given or entry.digest,
                kind="repository",
                reason=f"{source.name} names no repository for {entry.digest}; say which one to import into",
            )
        held = contents.manifests.setdefault(repository, {})
        contents.blobs.setdefault(repository, {})
        contents.visited.setdefault(repository, set())
        _survey_graph(source, contents, repository, entry, held)
        _survey_name(contents, repository, entry, name)
    return contents


def listed(source: Source) -> tuple[list[Descriptor], list[str]]:
    """What index.json lists, and what is wrong with the two files at the top; never both."""
    entries: list[Descriptor] = []
    problems: list[str] = []
    for file, maximum in ((OCI_LAYOUT, MAXIMUM_LAYOUT_FILE_SIZE), (INDEX_JSON, MAXIMUM_INDEX_SIZE)):
        try:
            content = source.read(file, maximum=maximum)
            if file == OCI_LAYOUT:
                check_layout_file(content)
            else:
                entries = read_index(content)
        except FileNotFoundError:
            problems.append(f"there is no {file}")
        except (NotPlainError, ManifestInvalidError) as error:
            problems.append(f"{file}: {error}")
        except OSError as error:
            problems.append(f"{file}: {error.strerror}")
    return ([], problems) if problems else (entries, [])


def _is_manifest(descriptor: Descriptor) -> bool:
    return mediatypes.is_manifest_type(descriptor.media_type) or mediatypes.is_index_type(descriptor.media_type)


def _survey_name(contents: Contents, repository: str, entry: Descriptor, name: Name) -> None:
    if name.tag is not None:
        tag = contents.tags.setdefault((repository, name.tag), SetTag(repository, name.tag, entry.digest))
        if tag.digest != entry.digest:
            contents.problem(f"{repository}:{name.tag} is the name of two entries: {tag.digest} and {entry.digest}")
    else:
        reason = f" ({name.given!r:.200} is not a tag)" if name.given and "@" not in name.given else ""
        contents.untagged.append(f"{repository}@{entry.digest}{reason}")


def _survey_graph(
    source: Source, contents: Contents, repository: str, root: Descriptor, held: dict[Digest, Manifest]
) -> None:
    """Everything below one entry, without recursion: a manifest is added when all its children were."""
    pending: list[tuple[Descriptor, Manifest | None]] = [(root, None)]
    visited = contents.visited[repository]
    while pending:
        descriptor, manifest = pending.pop()
        if manifest is not None:
            held[manifest.descriptor.digest] = manifest
            continue
        if descriptor.digest in visited:
            _compare(contents, descriptor, held.get(descriptor.digest))
            continue
        visited.add(descriptor.digest)
        manifest = _read_manifest(source, contents, descriptor)
        if manifest is None:
            continue
        pending.append((descriptor, manifest))
        for edge in manifest.edges():
            if edge.role == "manifest":
                pending.append((edge.descriptor, None))
            elif edge.role != "subject":
                _survey_blob(source, contents, repository, edge.descriptor, required=edge.required)


def _compare(contents: Contents, descriptor: Descriptor, manifest: Manifest | None) -> None:
    """Whether a manifest that was read before is what this descriptor says too."""
    if manifest is None:  # what is wrong with it was said
        return
    known = manifest.descriptor
    if descriptor.size != known.size:
        contents.problem(f"{known.digest} has {known.size} bytes, not {descriptor.size}")
    if descriptor.media_type != known.media_type:
        contents.problem(f"{known.digest} is of type {known.media_type}, not {descriptor.media_type}")


def _read_manifest(source: Source, contents: Contents, descriptor: Descriptor) -> Manifest | None:
    digest = descriptor.digest
    try:
        size = source.size(digest)
        if size != descriptor.size:
            contents.problem(f"{digest} has {size} bytes, not {descriptor.size}")
            return None
        # One byte more than is allowed is enough to be refused, and a liar's gigabytes are not read.
        size = min(size, contents.maximum_manifest_size + 1)
        if contents.manifests_size + size > contents.maximum_manifests_size:
            contents.problem(f"the layout's manifests have more than {contents.maximum_manifests_size} bytes")
            return None
        contents.manifests_size += size
        return check_manifest(
            source.content(digest, size),
            media_type=descriptor.media_type,
            digest=digest,
            maximum=contents.maximum_manifest_size,
        )
    except FileNotFoundError:
        contents.problem(f"{digest} is missing")
    except NotPlainError as error:
        contents.problem(f"{digest}: {error}")
    except (ManifestInvalidError, DigestMismatchError) as error:
        contents.problem(f"{digest}: {error}")
    except OSError as error:
        contents.problem(f"{digest}: {error.strerror}")
    return None


def _survey_blob(
    source: Source, contents: Contents, repository: str, descriptor: Descriptor, *, required: bool
) -> None:
    known = contents.blobs[repository].get(descriptor.digest)
    if known is not None:
        if known != descriptor.size:
            contents.problem(f"{descriptor.digest} has {known} bytes, not {descriptor.size}")
        return
    try:
        size = source.size(descriptor.digest)
    except FileNotFoundError:
        if required:
            contents.problem(f"{descriptor.digest} is missing")
        return
    except NotPlainError as error:
        contents.problem(f"{descriptor.digest}: {error}")
        return
    except OSError as error:
        contents.problem(f"{descriptor.digest}: {error.strerror}")
        return
    if size != descriptor.size:
        contents.problem(f"{descriptor.digest} has {size} bytes, not {descriptor.size}")
        return
    contents.blobs[repository][descriptor.digest] = size
