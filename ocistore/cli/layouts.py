"""import: OCI layouts in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from ocistore.cli.completion import complete_repository
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json, print_line, printable, progress_bar, readable_size
from ocistore.layouts.importing import check_layout


@click.command("import", epilog=example("ocistore import ./layout", "ocistore import ./layout library/alpine"))
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("repo", required=False, shell_complete=complete_repository)
@json_option
@pass_location
def import_(location: Location, source: Path, repo: str | None, *, as_json: bool) -> None:
    """Take in an OCI layout, whole or not at all.

    SOURCE is the layout's directory. Everything goes into REPO; without one, into the repositories that the layout's
    own names say. Makes the store where there is none.
    """
    check_layout(source, repo)  # before a store is made: a slip of the pen is to leave none behind
    with location.creating() as store, progress_bar("import") as progress:
        report = store.import_(source, repo, progress=progress)
    if as_json:
        print_json(asdict(report) | {"source": str(report.source)})
        return
    for name in report.tags:
        print_line(name)
    for name in report.untagged:
        print_line(f"{name} (no tag)")
    for entry in report.skipped:
        click.echo(printable(f"skipped an entry that is no manifest: {entry}"), err=True)
    click.echo(_summary(report.manifests, report.blobs, report.bytes), err=True)


def _summary(manifests: int, blobs: int, size: int) -> str:
    return f"manifests: {manifests}, blobs: {blobs}, {readable_size(size)}"


COMMANDS: Final = (import_,)
