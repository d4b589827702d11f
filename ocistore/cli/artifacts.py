"""push, pull, attach and discover: files as artifacts, and their referrers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ocistore import InvalidNameError, Manifest, Reference, artifacts
from ocistore.archives.names import name_from_disk
from ocistore.artifacts import (
    OCTET_STREAM,
    TITLE,
    UNKNOWN_ARTIFACT,
    attach_files,
    check_files,
    pull_files,
    push_files,
    title_components,
)
from ocistore.cli.choice import mode_option
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.packing import Packing, packing_options
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import (
    example,
    json_option,
    print_json,
    print_json_lines,
    print_line,
    progress_bar,
    readable_size,
    standard_input,
)
from ocistore.cli.referrers import print_referrers

if TYPE_CHECKING:
    from ocistore import Descriptor, Store, TransferMode


def _pairs(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Parse ``NAME=VALUE``, given any number of times, each name once."""
    found: dict[str, str] = {}
    for text in map(name_from_disk, given):
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not of the form {parameter.metavar}", context, parameter)
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice", context, parameter)
        found[name] = value
    return found


_artifact_type = click.option("--artifact-type", metavar="TYPE", help="The type of the artifact, a media type.")
_annotations = click.option(
    "--annotation",
    "annotations",
    metavar="K=V",
    multiple=True,
    callback=_pairs,
    help="An annotation of the artifact; may be repeated.",
)
_media_types = click.option(
    "--media-type",
    "media_types",
    metavar="NAME=TYPE",
    multiple=True,
    callback=_pairs,
    help="The media type of one of the files; may be repeated.  [default: application/octet-stream]",
)


def _print_pushed(ref: str, descriptor: Descriptor, *, as_json: bool) -> None:
    if as_json:
        reference = Reference.parse(ref)
        print_json({"repository": reference.repository, "tag": reference.tag, **descriptor.to_json()})
    else:
        print_line(descriptor.digest)


@click.command(
    epilog=example(
        "ocistore push models/bert:1 weights.bin config.json",
        "ocistore push models/bert:2 ./bert --contents --dereference --tag latest --tag stable",
        "pg_dump app | ocistore push backups/app:monday - --title app.sql",
        "ocistore push data/images:1 ./images --tar --compression none",
        "ocistore push models/bert sbom.json --artifact-type application/spdx+json --subject models/bert:1",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=GivenPath(path_type=Path))
@_artifact_type
@_annotations
@_media_types
@click.option(
    "--subject",
    metavar="REF",
    shell_complete=complete_reference,
    help="The manifest, in the same repository, that the artifact refers to.",
)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Another tag for it; may be repeated.")
@click.option("--title", metavar="NAME", help="The name of what comes from standard input, where FILE is -.")
@packing_options
@json_option
@pass_location
def push(
    location: Location,
    ref: str,
    files: tuple[Path, ...],
    *,
    artifact_type: str | None,
    annotations: dict[str, str],
    media_types: dict[str, str],
    subject: str | None,
    tags: tuple[str, ...],
    title: str | None,
    packing: Packing,
    as_json: bool,
) -> None:
    """Pack files as an artifact, tag it, and print its digest.

    The title of each file is its base name. Each file in a directory becomes a layer of its own, with its path from the
    directory's name on as title: stored as it is, readable from any offset, and shared between versions. A directory
    has up to 9,998 files; with --tar, a million.

    Symbolic links in directories are refused, unless --dereference follows them; with --tar those that stay inside are
    kept. Files that a version pushed before has too are not written again. The same files give the same digest. Without
    a tag in REF the artifact has only its digest. With - as FILE, standard input is pushed, under the name that --title
    gives. Creates the store if there is none.
    """
    # Checked before a store is created: a typing error should leave none. A subject can only be in an existing one.
    reference = Reference.parse(ref)
    for name in tags:
        Reference(reference.repository, name)
    opened = location.creating if subject is None else location.changing
    if files == (Path("-"),):
        if title is None:
            raise click.UsageError("standard input has no name: give --title NAME")
        title_components(title)
        if reference.digest is not None:
            reason = "the digest of what is pushed follows from its content"
            raise InvalidNameError(ref, kind="reference", reason=reason)
        with opened() as store:
            descriptor = _push_stream(
                store,
                reference,
                title,
                artifact_type=artifact_type,
                annotations=annotations,
                media_type=media_types.get(title, OCTET_STREAM),
                subject=subject,
                tags=tags,
            )
        _print_pushed(ref, descriptor, as_json=as_json)
        return
    if Path("-") in files:
        raise click.UsageError("standard input, -, is pushed alone; for a file of that name, give its whole path")
    if title is not None:
        raise click.UsageError("--title is for standard input: give - as FILE")
    check_files(files, **packing)
    with opened() as store, progress_bar("push") as progress:
        descriptor = push_files(
            store,
            ref,
            files,
            artifact_type=artifact_type,
            annotations=annotations,
            subject=subject,
            media_types=media_types,
            tags=tags,
            progress=progress,
            **packing,
        )
    _print_pushed(ref, descriptor, as_json=as_json)


def _push_stream(
    store: Store,
    reference: Reference,
    title: str,
    *,
    artifact_type: str | None,
    annotations: dict[str, str],
    media_type: str,
    subject: str | None,
    tags: tuple[str, ...],
) -> Descriptor:
    """Push standard input, whose length is not known before it ends, as an artifact of one file."""
    about = None
    if subject is not None:
        named = Reference.parse(subject)
        if named.repository != reference.repository:
            raise click.UsageError(f"--subject must be in the same repository, {reference.repository}")
        about = store.resolve(subject)
    with store.transaction() as transaction:
        repository = transaction.repository(reference.repository)
        layer = repository.put_blob(standard_input())
        manifest = Manifest.build(
            layers=[replace(layer, media_type=media_type, annotations={TITLE: title})],
            artifact_type=artifact_type or UNKNOWN_ARTIFACT,
            subject=about,
            annotations=annotations or None,
        )
        return repository.put_manifest(manifest, tags=[*([] if reference.tag is None else [reference.tag]), *tags])


@click.command(
    epilog=example(
        "ocistore attach library/alpine:3 sbom.json --artifact-type application/spdx+json",
        "ocistore attach library/alpine:3 --artifact-type application/vnd.example.review --annotation approved=yes",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.argument("files", metavar="[FILE...]", nargs=-1, type=GivenPath(path_type=Path))
@click.option("--artifact-type", metavar="TYPE", required=True, help="The type of the artifact, a media type.")
@_annotations
@_media_types
@packing_options
@json_option
@pass_location
def attach(
    location: Location,
    ref: str,
    files: tuple[Path, ...],
    *,
    artifact_type: str,
    annotations: dict[str, str],
    media_types: dict[str, str],
    packing: Packing,
    as_json: bool,
) -> None:
    """Attach files to REF as a referrer, and print its digest.

    Packs files (a signature, an SBOM) as an artifact with REF as its subject and without a tag. discover finds it, and
    garbage collection keeps it as long as its subject. Without files, it has only annotations.
    """
    with location.changing() as store, progress_bar("attach") as progress:
        descriptor = attach_files(
            store,
            ref,
            files,
            artifact_type=artifact_type,
            annotations=annotations,
            media_types=media_types,
            progress=progress,
            **packing,
        )
    _print_pushed(Reference.parse(ref).repository, descriptor, as_json=as_json)


@click.command(
    epilog=example(
        "ocistore discover library/alpine:3",
        "ocistore discover library/alpine:3 --artifact-type application/spdx+json",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.option("--artifact-type", metavar="TYPE", help="Only referrers of this type, and their referrers of this type.")
@click.option("--annotations", "with_annotations", is_flag=True, help="Print annotations too.")
@json_option
@pass_location
def discover(location: Location, ref: str, *, artifact_type: str | None, with_annotations: bool, as_json: bool) -> None:
    """List the referrers of REF, such as signatures and SBOMs.

    Referrers of referrers are listed too, to any depth.

    \b
    --json prints an array of objects, each after its subject, with these keys:
      mediaType, digest, size (bytes), annotations, artifactType   of the referrer
      subject                                                      the digest it refers to
      depth                                                        1 for a referrer of REF itself
    """  # noqa: D301  (click takes a real \b, not its spelling)
    with location.reading() as store:
        tree = artifacts.discover(store, ref, artifact_type=artifact_type)
    if as_json:
        print_json_lines(
            {**referrer.descriptor.to_json(), "subject": referrer.subject, "depth": referrer.depth}
            for referrer in tree.referrers
        )
        return
    print_line(tree.root.digest)
    print_referrers(tree.referrers, with_annotations=with_annotations)


@click.command(
    epilog=example("ocistore pull models/bert:1 -o bert", "ocistore pull models/bert:1 -o /srv/bert --mode link")
)
@click.argument("ref", shell_complete=complete_reference)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=GivenPath(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Write to this directory; it is created if needed.",
)
@click.option("--keep-packed", is_flag=True, help="Write packed directories as archives.")
@mode_option("hard links to the store, which are read-only and must never be written to.")
@json_option
@pass_location
def pull(location: Location, ref: str, output: Path, *, keep_packed: bool, mode: TransferMode, as_json: bool) -> None:
    """Write the files of an artifact to a directory.

    Each file is named by its title. All content is verified before any file appears. Directories are unpacked; archives
    that lead outside are refused. Files that exist are replaced. Prints the paths.
    """
    with location.reading() as store, progress_bar("pull") as progress:
        report = pull_files(store, ref, output, keep_packed=keep_packed, mode=mode, progress=progress)
    if as_json:
        print_json(report.to_json())
        return
    for file in report.files:
        print_line(str(file))
    for layer in report.skipped:
        size = readable_size(layer.size)
        print_line(f"skipped a layer without a title: {layer.digest} ({size}, {layer.media_type})", err=True)


COMMANDS: Final = (push, pull, attach, discover)
