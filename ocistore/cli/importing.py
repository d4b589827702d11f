"""import: what layouts and archives hold, into the store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ocistore.cli.completion import complete_repository
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import (
    example,
    json_option,
    print_json,
    print_line,
    printable,
    progress_bar,
    readable_size,
    standard_input,
)
from ocistore.layouts.recognition import checked
from ocistore.layouts.wanted import Wanted

if TYPE_CHECKING:
    from ocistore.blobs.sharing import Sharing
    from ocistore.layouts.recognition import ImportSource
    from ocistore.store import Store


@click.command(
    "import",
    epilog=example(
        "ocistore import ./layout",
        "ocistore import image.tar library/alpine",
        "ocistore import ./layout --ref 'library/alpine:3.*=mirror/alpine' --platform linux/arm64",
        "podman save library/alpine | ocistore import -",
    ),
)
@click.argument("source", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("repo", required=False, shell_complete=complete_repository)
@click.option(
    "--ref",
    "references",
    metavar="SELECTOR",
    multiple=True,
    help="Only this: REPO[:TAG|PATTERN][@DIGEST], by the names in SOURCE; with =REPO[:TAG], to be called that.",
)
@click.option(
    "--platform", "platforms", metavar="OS/ARCH[/VARIANT]", multiple=True, help="Only these platforms of an index."
)
@click.option("--no-referrers", is_flag=True, help="Without what refers to the rest and has no tag, as signatures.")
@click.option("--complete", is_flag=True, help="Take what SOURCE lacks from the store, if it has that.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "copy", "link"]),
    default="auto",
    show_default=True,
    help="How the bytes of a directory get in: shared where the filesystem can, copied, or as hard links; its files "
    "are the store's own then, and must never be written to.",
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, say what would come in, change nothing.")
@json_option
@pass_location
def import_(
    location: Location,
    source: Path,
    repo: str | None,
    *,
    references: tuple[str, ...],
    platforms: tuple[str, ...],
    no_referrers: bool,
    complete: bool,
    mode: Sharing,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take in an OCI layout or a Docker archive, whole or not at all.

    SOURCE is a layout's directory, or an archive of a layout or of Docker's, plain or compressed with gzip or zstd; -
    stands for standard input. Everything goes into REPO; without one, into the repositories that the names in it say.
    Makes the store where there is none.
    """
    Wanted.parse(repo, references=references, platforms=platforms, referrers=not no_referrers)
    given: ImportSource = standard_input() if str(source) == "-" else source
    # Before a store is made: a slip of the pen is to leave none behind.
    with checked(given) as found, _opened(location, dry_run=dry_run) as store, progress_bar("import") as progress:
        report = store.import_(
            found,
            repo,
            references=references or None,
            platforms=platforms,
            referrers=not no_referrers,
            complete=complete,
            mode=mode,
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        print_json(asdict(report) | {"source": str(report.source)})
        return
    for name in report.tags:
        print_line(name)
    for name in report.untagged:
        print_line(f"{name} (no tag)")
    for entry in report.skipped:
        click.echo(printable(f"skipped an entry that is no manifest: {entry}"), err=True)
    for name, before, after in report.narrowed:
        click.echo(printable(f"{name} is {after} without the other platforms, and was {before}"), err=True)
    new = f", of which {readable_size(report.new_bytes)} {'would be' if dry_run else 'are'} new"
    click.echo(_summary(report.manifests, report.blobs, report.bytes) + new, err=True)


def _opened(location: Location, *, dry_run: bool) -> Store:
    return location.changing() if dry_run else location.creating()


def _summary(manifests: int, blobs: int, size: int) -> str:
    return f"manifests: {manifests}, blobs: {blobs}, {readable_size(size)}"


COMMANDS: Final = (import_,)
