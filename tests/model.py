"""A store as a few dictionaries: what the real one is compared with. It raises the real errors, with their fields."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ocistore import (
    ANY,
    BlobNotFoundError,
    Digest,
    DigestMismatchError,
    ManifestBlobUnknownError,
    ManifestNotFoundError,
    OCIStoreError,
    ReferencedError,
    RepositoryNotFoundError,
    SizeMismatchError,
    TagConflictError,
    UploadNotFoundError,
)
from ocistore.oci.manifest import check_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from images import Image

    from ocistore.repository import RepositoryWriter


@dataclass(frozen=True)
class Operation:
    """One call of a method that a repository and a repository in a transaction share."""

    method: str
    repository: str
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def run(self, repository: RepositoryWriter) -> Any:
        return getattr(repository, self.method)(*self.arguments, **dict(self.options))


class Event(NamedTuple):
    repository: str
    tag: str
    old: str | None
    new: str | None


@dataclass
class Contents:
    """One repository."""

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Model:
    """A whole store, to be copied before a transaction and replaced by the copy after it."""

    repositories: dict[str, Contents] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    leases: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """What each keeps, by repository and digest."""
    live: dict[str, int] = field(default_factory=dict)
    """Every digest that was committed since the last collection, or that one left, with its size."""

    # Changes, one method for each method of a repository, and with its name.

    def run(self, operation: Operation) -> Any:
        """Apply an operation wholly, or raise and change nothing."""
        changed = copy.deepcopy(self)
        result = getattr(changed, operation.method)(
            operation.repository, *operation.arguments, **dict(operation.options)
        )
        self.__dict__ = changed.__dict__
        self._forget()
        return result

    def put_blob(
        self,
        name: str,
        content: bytes,
        *,
        digest: str | None = None,
        size: int | None = None,
        algorithm: str = "sha256",
    ) -> tuple[str, int]:
        actual = Digest.of(content, digest.partition(":")[0] if digest else algorithm)
        if size is not None and size != len(content):
            raise SizeMismatchError(expected=size, actual=len(content))
        if digest is not None and digest != actual:
            raise DigestMismatchError(expected=digest, actual=actual)
        self._ensure(name).blobs.add(actual)
        self.live[actual] = len(content)
        return actual, len(content)

    def mount_blob(self, name: str, digest: str, source: str) -> tuple[str, int]:
        found = self.stat_blob(source, digest)
        self._ensure(name).blobs.add(digest)
        return found

    def delete_blob(self, name: str, digest: str) -> None:
        contents = self.find(name)
        referrers = self._referring(contents, digest, {"config", "layer"})
        if referrers:
            raise ReferencedError(digest, repository=name, referrers=referrers)
        if digest not in contents.blobs:
            raise BlobNotFoundError(digest, repository=name)
        contents.blobs.remove(digest)

    def put_manifest(
        self, name: str, content: bytes, *, tags: Sequence[str] = (), missing: str = "refuse"
    ) -> tuple[str, int]:
        contents = self._ensure(name)
        manifest = check_manifest(content)
        lacking = [
            edge.descriptor.digest
            for edge in manifest.edges()
            if edge.required
            and edge.descriptor.digest not in (contents.manifests if edge.role == "manifest" else contents.blobs)
        ]
        children = {child.digest for child in manifest.manifests}
        if missing == "all" or (missing == "children" and set(lacking) < children):
            lacking = []
        if lacking:
            raise ManifestBlobUnknownError(list(dict.fromkeys(lacking)), repository=name)
        digest = manifest.descriptor.digest
        contents.manifests.setdefault(digest, content)
        self.live[digest] = len(content)
        for tag in dict.fromkeys(tags):
            self.tag(name, tag, digest)
        return digest, len(content)

    def delete_manifest(self, name: str, digest: str) -> None:
        contents = self.find(name)
        if digest not in contents.manifests:
            raise ManifestNotFoundError(digest, repository=name)
        referrers = self._referring(contents, digest, {"manifest"})
        if referrers:
            raise ReferencedError(digest, repository=name, referrers=referrers)
        for tag in sorted(tag for tag, target in contents.tags.items() if target == digest):
            self.untag(name, tag)
        del contents.manifests[digest]

    def tag(self, name: str, tag: str, digest: str, *, expected: Any = ANY) -> None:
        contents = self.find(name)
        if digest not in contents.manifests:
            raise ManifestNotFoundError(digest, repository=name)
        found = contents.tags.get(tag)
        if expected is not ANY and expected != found:
            raise TagConflictError(tag, repository=name, expected=expected, actual=found)
        if found != digest:
            self.events.append(Event(name, tag, found, digest))
            contents.tags[tag] = digest

    def untag(self, name: str, tag: str) -> None:
        contents = self.find(name)
        if tag not in contents.tags:
            raise ManifestNotFoundError(tag, repository=name)
        self.events.append(Event(name, tag, contents.tags.pop(tag), None))

    def delete_repository(self, name: str) -> None:
        for tag in sorted(self.find(name).tags):
            self.untag(name, tag)
        del self.repositories[name]
        self._forget()

    def keep(self, name: str, lease: str, digest: str) -> None:
        contents = self.find(name)
        if digest not in contents.blobs and digest not in contents.manifests:
            raise ManifestNotFoundError(digest, repository=name)
        self.leases[lease].add((name, digest))

    def _forget(self) -> None:
        """A lease does not name what its repository does not serve any more."""
        served = {
            (name, digest)
            for name, contents in self.repositories.items()
            for digest in (*contents.blobs, *contents.manifests)
        }
        for kept in self.leases.values():
            kept.intersection_update(served)

    def collect(self) -> list[str]:
        """Keep what tags reach, by marking; returns the digests that go."""
        for name, contents in self.repositories.items():
            leased = {digest for kept in self.leases.values() for owner, digest in kept if owner == name}
            children = {}
            subjects: dict[str, list[str]] = {}
            parts = {}
            for digest, content in contents.manifests.items():
                edges = check_manifest(content).edges()
                children[digest] = [edge.descriptor.digest for edge in edges if edge.role == "manifest"]
                parts[digest] = {edge.descriptor.digest for edge in edges if edge.role in {"config", "layer"}}
                for edge in edges:
                    if edge.role == "subject":
                        subjects.setdefault(edge.descriptor.digest, []).append(digest)
            alive: set[str] = set()
            wanted = [*contents.tags.values(), *leased]
            while wanted:
                digest = wanted.pop()
                if digest in contents.manifests and digest not in alive:
                    alive.add(digest)
                    wanted += children[digest] + subjects.get(digest, [])
            contents.manifests = {digest: each for digest, each in contents.manifests.items() if digest in alive}
            contents.blobs &= leased.union(*(parts[digest] for digest in alive))
        kept = {digest for each in self.repositories.values() for digest in (*each.blobs, *each.manifests)}
        gone = sorted(set(self.live) - kept)
        self.live = {digest: size for digest, size in self.live.items() if digest in kept}
        return gone

    # Upload sessions.

    def start_upload(self, name: str, upload: str) -> None:
        self._ensure(name).uploads[upload] = b""

    def write_upload(self, name: str, upload: str, chunk: bytes) -> int:
        self.find_upload(name, upload)
        self.repositories[name].uploads[upload] += chunk
        return len(self.repositories[name].uploads[upload])

    def commit_upload(self, name: str, upload: str, digest: str) -> tuple[str, int]:
        content = self.find_upload(name, upload)
        actual = Digest.of(content, digest.partition(":")[0])
        if actual != digest:
            raise DigestMismatchError(expected=digest, actual=actual, subject=f"upload {upload}")
        del self.repositories[name].uploads[upload]
        return self.put_blob(name, content, digest=digest)

    def cancel_upload(self, name: str, upload: str) -> None:
        self.find_upload(name, upload)
        del self.repositories[name].uploads[upload]

    def find_upload(self, name: str, upload: str) -> bytes:
        try:
            return self.repositories[name].uploads[upload]
        except KeyError:
            raise UploadNotFoundError(upload, repository=name) from None

    # Looking.

    def find(self, name: str) -> Contents:
        if name not in self.repositories:
            raise RepositoryNotFoundError(name)
        return self.repositories[name]

    def stat_blob(self, name: str, digest: str) -> tuple[str, int]:
        if digest not in self.find(name).blobs:
            raise BlobNotFoundError(digest, repository=name)
        return digest, self.live[digest]

    def resolve(self, name: str, reference: str) -> str:
        contents = self.find(name)
        digest = contents.tags.get(reference, reference)
        if digest not in contents.manifests:
            raise ManifestNotFoundError(reference, repository=name)
        return digest

    def referrers(self, name: str, digest: str) -> list[str]:
        return self._referring(self.find(name), digest, {"subject"})

    def history(self, name: str, tag: str | None = None) -> list[Event]:
        """Newest first."""
        self.find(name)
        return [event for event in reversed(self.events) if event[:2] == (name, tag or event.tag)]

    def _ensure(self, name: str) -> Contents:
        return self.repositories.setdefault(name, Contents())

    def _referring(self, contents: Contents, digest: str, roles: set[str]) -> list[str]:
        return sorted(
            parent
            for parent, content in contents.manifests.items()
            if any(edge.role in roles and edge.descriptor.digest == digest for edge in check_manifest(content).edges())
        )


def transact(model: Model, operations: Iterable[Operation]) -> set[type[OCIStoreError]]:
    """Apply all operations or none. Returns the kinds of errors that the transaction may answer with.

    A mount looks at what is committed, and what was put or mounted before it, as soon as it is asked for, and bytes are
    checked as they come; everything else is found out at the end. Of several operations that fail there, any may be the
    one that is named: those of one kind are applied together.
    """
    changed, errors = copy.deepcopy(model), set()
    pending: set[tuple[str, str]] = set()
    for operation in operations:
        try:
            if operation.method == "mount_blob":
                digest, source = operation.arguments
                if (source, digest) not in pending:
                    model.stat_blob(source, digest)
                pending.add((operation.repository, digest))
            elif operation.method == "put_blob":
                pending.add((operation.repository, Model().run(operation)[0]))
        except OCIStoreError as error:
            return {type(error)}
    for operation in operations:
        try:
            changed.run(operation)
        except OCIStoreError as error:
            errors.add(type(error))
    if not errors:
        model.__dict__ = changed.__dict__
    return errors


def everything_of(image: Image) -> list[Operation]:
    """What pushes an image into the repository that is filled in later, from the leaves up."""
    found = [operation for child in image.children for operation in everything_of(child)]
    found += [Operation("put_blob", "", (blob,)) for blob in image.blobs]
    return [*found, Operation("put_manifest", "", (image.manifest,))]
