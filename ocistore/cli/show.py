"""show: what a reference stands for, printed as a tree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from ocistore import (
    BlobNotFoundError,
    CorruptError,
    ImageConfig,
    ManifestInvalidError,
    ManifestNotFoundError,
    Platform,
    Reference,
)
from ocistore.artifacts import TITLE, referrers_of
from ocistore.cli.choice import platform_option
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_fields, print_json, print_line, readable_size
from ocistore.cli.referrers import print_referrers
from ocistore.images import choose_image, read_config
from ocistore.oci import mediatypes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocistore import Descriptor, Digest, Manifest, Repository

_DEEPEST: Final = 32
"""Levels that are shown by indentation."""


@dataclass(frozen=True)
class _Shown:
    """A manifest, its repository and its tags."""

    repository: Repository
    manifest: Manifest
    tags: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        manifest = self.manifest
        return {
            "repository": self.repository.name,
            "digest": manifest.descriptor.digest,
            "mediaType": manifest.media_type,
            "size": manifest.descriptor.size,
            "artifactType": manifest.artifact_type,
            "annotations": dict(manifest.annotations),
            "config": None if manifest.config is None else manifest.config.to_json(),
            "layers": [layer.to_json() for layer in manifest.layers],
            "manifests": [child.to_json() for child in manifest.manifests],
            "subject": None if manifest.subject is None else manifest.subject.to_json(),
            "absent": self._absent(),
            "tags": list(self.tags),
            "referrers": [each.to_json() for each in self.repository.referrers(manifest.descriptor.digest)],
        }

    def _absent(self) -> list[str]:
        """Return what it refers to and the repository does not hold; subjects are not checked."""
        return [
            edge.descriptor.digest
            for edge in self.manifest.edges()
            if edge.role != "subject" and not _is_held(self.repository, edge.role, edge.descriptor)
        ]

    def print_text(self) -> None:
        manifest = self.manifest
        print_fields(
            {
                "repository": self.repository.name,
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
        _Tree(self.repository).print(manifest)


def _is_held(repository: Repository, role: str, descriptor: Descriptor) -> bool:
    """Whether the repository holds something that a manifest refers to, damaged or not."""
    try:
        if role == "manifest":
            repository.resolve(descriptor.digest)
        else:
            repository.stat_blob(descriptor.digest)
    except (BlobNotFoundError, ManifestNotFoundError):
        return False
    return True


class _Tree:
    """Prints what a manifest consists of. An index may be in several others; its content is printed once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._seen: set[Digest] = set()
        self._referrers: set[Digest] = set()
        """The referrers already printed, each once."""

    def print(self, manifest: Manifest) -> None:
        # A stack and no recursion: indexes may be nested to any depth.
        waiting = [self._parts(manifest, 0)]
        while waiting:
            child = next(waiting[-1], None)
            if child is None:
                waiting.pop()
            else:
                waiting.append(self._parts(*child))

    def _parts(self, manifest: Manifest, depth: int) -> Iterator[tuple[Manifest, int]]:
        """Print what a manifest consists of; yield the child manifests to be printed within it, with their depths."""
        self._seen.add(manifest.descriptor.digest)
        indent = "  " * min(depth, _DEEPEST)
        if manifest.config is not None:
            self._print_config(manifest, manifest.config, indent)
        if manifest.layers:
            click.echo(f"{indent}layers:")
            self._print_layers(manifest.layers, f"{indent}  ")
        if manifest.manifests:
            click.echo(f"{indent}manifests:")
        for child in manifest.manifests:
            found, note = self._child(child)
            kind = child.artifact_type or child.media_type
            platform = "" if child.stated_platform is None else str(child.platform)
            words = [platform, child.digest, readable_size(child.size)]
            print_line(f"{indent}  {'  '.join(filter(None, [*words, kind, note]))}")
            if found is not None:
                yield found, depth + 2
        referrers = referrers_of(self._repository, manifest.descriptor.digest, seen=self._referrers)
        if referrers:
            click.echo(f"{indent}referrers:")
            print_referrers(referrers, indent=indent)

    def _child(self, child: Descriptor) -> tuple[Manifest | None, str]:
        """Return the child manifest, if it is to be printed, and a note on it."""
        if not mediatypes.is_known_manifest(child.media_type):
            return None, self._note(child)
        try:
            found = self._repository.get_manifest(child.digest)
        except ManifestNotFoundError:
            return None, "(not in the store)"
        except CorruptError:
            return None, "(damaged)"
        return (None, "(as above)") if child.digest in self._seen else (found, "")

    def _print_config(self, manifest: Manifest, config: Descriptor, indent: str) -> None:
        line = f"{indent}config  {config.digest}  {readable_size(config.size)}  {config.media_type}"
        if not mediatypes.is_image_config(config.media_type):
            print_line(f"{line}  {self._note(config)}".rstrip())
            return
        try:
            fields, labels = _described(ImageConfig.parse(read_config(self._repository, manifest)))
        except BlobNotFoundError:
            print_line(f"{line}  (not in the store)")
        except CorruptError:
            print_line(f"{line}  (damaged)")
        except ManifestInvalidError as error:
            print_line(f"{line}  (not readable: {error.path or 'config'}: {error.reason})")
        else:
            print_line(line)
            print_fields(fields, indent=f"{indent}  ")
            if labels:
                click.echo(f"{indent}  labels:")
                print_fields(labels, indent=f"{indent}    ")

    def _print_layers(self, layers: Sequence[Descriptor], indent: str) -> None:
        number_width = len(str(len(layers)))
        size_width = max(len(readable_size(layer.size)) for layer in layers)
        for number, layer in enumerate(layers, start=1):
            size = readable_size(layer.size).rjust(size_width)
            words = [layer.media_type, layer.annotations.get(TITLE, ""), self._note(layer)]
            what = "  ".join(filter(None, words))
            print_line(f"{indent}{str(number).rjust(number_width)}  {layer.digest}  {size}  {what}")

    def _note(self, blob: Descriptor) -> str:
        try:
            self._repository.stat_blob(blob.digest)
        except BlobNotFoundError:
            return "(not in the store)"
        return ""


def _described(config: ImageConfig) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return what is printed of a config, and its labels."""
    count = len(config.environment)
    fields = {
        "platform": "unknown" if config.platform is None else str(config.platform),
        "created": config.created,
        "entrypoint": json.dumps(config.entrypoint) if config.entrypoint else None,
        "command": json.dumps(config.command) if config.command else None,
        "environment": f"{count} variable{'s' * (count > 1)}" if count else None,
        "directory": config.working_directory,
        "user": config.user,
    }
    return fields, dict(sorted(config.labels.items()))


@click.command(
    epilog=example(
        "ocistore show library/alpine:3",
        "ocistore show library/alpine:3 --platform linux/arm64 --config",
    )
)
@click.argument("refs", metavar="REF...", nargs=-1, required=True, shell_complete=complete_reference)
@click.option("--config", "only_config", is_flag=True, help="Print the image config; with --json, its exact bytes.")
@platform_option
@json_option
@pass_location
def show(location: Location, refs: tuple[str, ...], *, only_config: bool, platform: str | None, as_json: bool) -> None:
    """Show what references stand for, as trees.

    Shows every image of an index; with --platform, the one that fits.

    \b
    --json prints one object, or for several references an array of them, with these keys:
      repository
      digest, mediaType, size (bytes), artifactType, annotations
      config, layers, manifests, subject   descriptors as in the manifest
      absent                               digests of those that are not in the store
      tags                                 those that point at it
      referrers                            descriptors of its signatures, SBOMs and other referrers
    """  # noqa: D301  (click takes a real \b, not its spelling)
    references = [Reference.parse(ref) for ref in refs]
    asked = None if platform is None else Platform.parse(platform)
    if only_config and len(references) > 1:
        raise click.UsageError("--config is for one reference")
    with location.reading() as store:
        if only_config:
            _print_config(store.repository(references[0].repository), references[0], asked, as_json=as_json)
            return
        found = [_found(store.repository(each.repository), each, asked) for each in references]
        if as_json:
            documents = [shown.to_json() for shown in found]
            print_json(documents[0] if len(documents) == 1 else documents)
            return
        for number, shown in enumerate(found):
            if number:
                click.echo()
            shown.print_text()


def _found(repository: Repository, reference: Reference, asked: Platform | None) -> _Shown:
    if asked is None:
        manifest = repository.get_manifest(reference.target)
    else:
        manifest = choose_image(repository, reference, asked)
    return _Shown(repository, manifest, repository.tags_of(manifest.descriptor.digest))


def _print_config(repository: Repository, reference: Reference, asked: Platform | None, *, as_json: bool) -> None:
    content = read_config(repository, choose_image(repository, reference, asked))
    if as_json:
        click.echo(content, nl=False)
    else:
        print_json(ImageConfig.parse(content, name="config").document)


COMMANDS: Final = (show,)
