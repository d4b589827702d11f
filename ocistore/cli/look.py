"""repos, tags, show and cat: looking."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from ocistore.cli.completion import complete_reference, complete_repository
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import (
    example,
    json_option,
    print_fields,
    print_json,
    print_json_lines,
    print_line,
    readable_size,
)
from ocistore.cli.tagged import tags_of
from ocistore.errors import ManifestNotFoundError
from ocistore.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from ocistore.oci.descriptor import Descriptor
    from ocistore.oci.digest import Digest
    from ocistore.oci.manifest import Manifest
    from ocistore.repository import Repository

_BLOCK: Final = 1024 * 1024
"""Bytes read, hashed and written at a time."""

_TITLE: Final = "org.opencontainers.image.title"


def _paged(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--limit", metavar="N", type=click.IntRange(min=0), help="How many at most."),
        click.option("--after", metavar="NAME", default="", help="Begin behind this name, which need not exist."),
        click.option("--prefix", metavar="TEXT", default="", help="Only names that start with it."),
    ):
        command = option(command)
    return command


@click.command(epilog=example("ocistore repos --prefix library/"))
@_paged
@json_option
@pass_location
def repos(location: Location, *, prefix: str, after: str, limit: int | None, as_json: bool) -> None:
    """List the repositories, in byte order."""
    with location.reading() as store:
        _print_names(store.repositories(prefix=prefix, after=after, limit=limit), as_json=as_json)


@click.command(epilog=example("ocistore tags library/alpine --prefix 3. --limit 10"))
@click.argument("repo", shell_complete=complete_repository)
@_paged
@json_option
@pass_location
def tags(location: Location, repo: str, *, prefix: str, after: str, limit: int | None, as_json: bool) -> None:
    """List the tags of a repository, in byte order."""
    with location.reading() as store:
        _print_names(store.repository(repo).tags(prefix=prefix, after=after, limit=limit), as_json=as_json)


def _print_names(names: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json_lines(names)
    else:
        for name in names:
            click.echo(name)


@dataclass(frozen=True)
class _Shown:
    """A manifest and what of the store surrounds it."""

    repository: str
    manifest: Manifest
    tags: Sequence[str]
    referrers: Sequence[Descriptor]

    def to_json(self) -> dict[str, Any]:
        manifest = self.manifest
        return {
            "repository": self.repository,
            "digest": manifest.descriptor.digest,
            "mediaType": manifest.media_type,
            "size": manifest.descriptor.size,
            "artifactType": manifest.artifact_type,
            "annotations": dict(manifest.annotations),
            "config": None if manifest.config is None else manifest.config.to_json(),
            "layers": [layer.to_json() for layer in manifest.layers],
            "manifests": [child.to_json() for child in manifest.manifests],
            "subject": None if manifest.subject is None else manifest.subject.to_json(),
            "tags": list(self.tags),
            "referrers": [referrer.to_json() for referrer in self.referrers],
        }

    def print_text(self) -> None:
        manifest = self.manifest
        print_fields(
            {
                "repository": self.repository,
                "digest": manifest.descriptor.digest,
                "media type": manifest.media_type,
                "artifact type": manifest.artifact_type,
                "size": readable_size(manifest.descriptor.size),
                "content": readable_size(sum(layer.size for layer in manifest.layers)) if manifest.layers else None,
                "tags": ", ".join(self.tags) or None,
                "subject": None if manifest.subject is None else manifest.subject.digest,
            }
        )
        if manifest.annotations:
            click.echo("annotations:")
            print_fields(dict(sorted(manifest.annotations.items())), indent="  ")
        _print_descriptors("config", [] if manifest.config is None else [manifest.config])
        _print_descriptors("layers", manifest.layers)
        _print_descriptors("manifests", manifest.manifests)
        _print_descriptors("referrers", self.referrers)


def _print_descriptors(heading: str, descriptors: Sequence[Descriptor]) -> None:
    if not descriptors:
        return
    click.echo(f"{heading}:")
    width = max(len(readable_size(descriptor.size)) for descriptor in descriptors)
    for descriptor in descriptors:
        what = "" if descriptor.platform is None else str(descriptor.platform)
        what = descriptor.annotations.get(_TITLE, what)
        kind = descriptor.artifact_type or descriptor.media_type
        print_line(f"  {descriptor.digest}  {readable_size(descriptor.size).rjust(width)}  {kind}  {what}".rstrip())


@click.command(epilog=example("ocistore show library/alpine:3"))
@click.argument("ref", shell_complete=complete_reference)
@json_option
@pass_location
def show(location: Location, ref: str, *, as_json: bool) -> None:
    """Say what a reference stands for.

    \b
    --json prints one object with these keys:
      repository
      digest, mediaType, size (bytes), artifactType, annotations
      config, layers, manifests, subject   descriptors as in the manifest
      tags                                 that point at it
      referrers                            descriptors of what is about it
    """  # noqa: D301  (click takes a real \b, not its spelling)
    reference = Reference.parse(ref)
    with location.reading() as store:
        repository = store.repository(reference.repository)
        manifest = repository.get_manifest(reference.target)
        digest = manifest.descriptor.digest
        shown = _Shown(
            repository.name, manifest, tags_of(store, repository.name, digest), repository.referrers(digest)
        )
    if as_json:
        print_json(shown.to_json())
    else:
        shown.print_text()


@click.command(
    epilog=example("ocistore cat library/alpine:3", "ocistore cat library/alpine@sha256:9824c27679d3... > layer.tar.gz")
)
@click.argument("ref", shell_complete=complete_reference)
@pass_location
def cat(location: Location, ref: str) -> None:
    """Print the exact bytes of a manifest or blob.

    A tag stands for its manifest, a digest for the manifest or blob of the repository. The bytes are verified on the
    way: if they turn out to be damaged, the exit code says so at the end.
    """
    reference = Reference.parse(ref)
    with location.reading() as store:
        repository = store.repository(reference.repository)
        try:
            content = repository.get_manifest(reference.target).content
        except ManifestNotFoundError:
            if reference.digest is None:
                raise
            _print_blob(repository, reference.digest)
        else:
            click.echo(content, nl=False)


def _print_blob(repository: Repository, digest: Digest) -> None:
    output = sys.stdout.buffer
    with repository.open_blob(digest, verify=True) as blob:
        while chunk := blob.read(_BLOCK):
            output.write(chunk)
        output.flush()


COMMANDS: Final = (repos, tags, show, cat)
