"""push and pull: files in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ocistore.artifacts import files_by_title, pull_files, push_files
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json, print_line, progress_bar, readable_size
from ocistore.oci.reference import Reference


def _pairs(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE``, any number of times, each name once."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not of the form {parameter.metavar}", context, parameter)
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice", context, parameter)
        found[name] = value
    return found


@click.command(
    epilog=example(
        "ocistore push models/bert:1 weights.bin config.json",
        "ocistore push models/bert sbom.json --artifact-type application/spdx+json --subject models/bert:1",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--artifact-type", metavar="TYPE", help="What kind of artifact it is, as a media type.")
@click.option(
    "--annotation",
    "annotations",
    metavar="K=V",
    multiple=True,
    callback=_pairs,
    help="An annotation of the artifact; may be repeated.",
)
@click.option(
    "--media-type",
    "media_types",
    metavar="NAME=TYPE",
    multiple=True,
    callback=_pairs,
    help="The media type of one of the files; may be repeated.  [default: application/octet-stream]",
)
@click.option(
    "--subject",
    metavar="REF",
    shell_complete=complete_reference,
    help="What in the same repository the artifact is about.",
)
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
    as_json: bool,
) -> None:
    """Pack files as an artifact, tag it, print its digest.

    Each file gets its base name as its title. The same files give the same digest. Without a tag in REF the artifact is
    known by its digest only. Directories are not packed. Makes the store where there is none.
    """
    # Before a store is made: a slip of the pen is to leave none behind. A subject can only be in one that is there.
    Reference.parse(ref)
    files_by_title(files)
    opened = location.creating if subject is None else location.changing
    with opened() as store, progress_bar("push") as progress:
        descriptor = push_files(
            store,
            ref,
            files,
            artifact_type=artifact_type,
            annotations=annotations,
            subject=subject,
            media_types=media_types,
            progress=progress,
        )
    if as_json:
        reference = Reference.parse(ref)
        print_json({"repository": reference.repository, "tag": reference.tag, **descriptor.to_json()})
    else:
        print_line(descriptor.digest)


@click.command(epilog=example("ocistore pull models/bert:1 -o bert"))
@click.argument("ref", shell_complete=complete_reference)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Where to; made if need be.",
)
@json_option
@pass_location
def pull(location: Location, ref: str, output: Path, *, as_json: bool) -> None:
    """Write an artifact's files back under their titles.

    Every byte is verified before a file takes its name. Files that exist are replaced. Prints the paths.
    """
    with location.reading() as store, progress_bar("pull") as progress:
        report = pull_files(store, ref, output, progress=progress)
    if as_json:
        print_json(
            {
                "digest": report.digest,
                "files": [str(file) for file in report.files],
                "skipped": [layer.to_json() for layer in report.skipped],
            }
        )
        return
    for file in report.files:
        print_line(str(file))
    for layer in report.skipped:
        size = readable_size(layer.size)
        click.echo(f"skipped a layer without a title: {layer.digest} ({size}, {layer.media_type})", err=True)


COMMANDS: Final = (push, pull)
