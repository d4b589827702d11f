"""The commands, put together."""

from __future__ import annotations

from pathlib import Path

import click

from ocistore import __version__
from ocistore.cli import (
    artifacts,
    backup,
    change,
    collection,
    copying,
    exporting,
    files,
    importing,
    look,
    schema,
    scrub,
    show,
    upkeep,
)
from ocistore.cli.completion import offer_completion
from ocistore.cli.location import STORE_VARIABLE, Location
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import example
from ocistore.cli.program import Program


@click.group(
    cls=Program,
    invoke_without_command=True,
    epilog=example(
        "export OCISTORE_STORE=~/store",
        "ocistore push models/bert:1 weights.bin config.json",
        "ocistore pull models/bert:1 -o bert",
    ),
)
@click.option(
    "--store",
    envvar=STORE_VARIABLE,
    show_envvar=True,
    type=GivenPath(file_okay=False, path_type=Path),
    help="The store's directory.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def ocistore(context: click.Context, store: Path | None) -> None:
    """Keep OCI images and artifacts in a directory.

    A reference, REF, is REPO[:TAG][@DIGEST]. Where it has both a tag and a digest, looking goes by the digest.
    """
    context.obj = Location(store)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for group in (
    artifacts, importing, exporting, copying, look, show, files, change, collection, scrub, backup, upkeep, schema
):
    for command in group.COMMANDS:
        ocistore.add_command(command)
offer_completion()
