"""The commands, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ocistore import __version__
from ocistore.cli.location import STORE_VARIABLE, Location
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import example
from ocistore.cli.program import Listed, Program

COMMANDS: Final = {
    "attach": Listed("artifacts", "Pack files as an artifact about REF, and print its digest."),
    "backup": Listed("backup", "Copy the store while it is in use."),
    "cat": Listed("files", "Print the exact bytes of a manifest, a blob, or a file in an image."),
    "copy": Listed("copying", "Copy references from one store to another, in one commit."),
    "db": Listed("schema", "Look after the catalog: its schema, its history, its size."),
    "discover": Listed("artifacts", "Print what is about REF, what is about that, and so on."),
    "export": Listed("exporting", "Write references as an OCI layout or an archive."),
    "gc": Listed("collection", "Give back what nothing needs any more."),
    "import": Listed("importing", "Take in an OCI layout or a Docker archive, whole or not at all."),
    "init": Listed("change", "Make an empty store, and print its path."),
    "ls-files": Listed("files", "List the files of an image or artifact, at PATH and below."),
    "pull": Listed("artifacts", "Write an artifact's files back under their titles."),
    "push": Listed("artifacts", "Pack files as an artifact, tag it, print its digest."),
    "rebuild": Listed("backup", "Make the catalog again, when catalog.db is lost or damaged."),
    "repos": Listed("look", "List the repositories, in byte order."),
    "rm": Listed("change", "Delete a manifest, a blob or a repository."),
    "scrub": Listed("scrub", "Look for damage, and repair it."),
    "show": Listed("show", "Say what a reference stands for, as a tree."),
    "tag": Listed("change", "Point a tag at what a reference stands for."),
    "tags": Listed("look", "List the tags of a repository, in byte order."),
    "untag": Listed("change", "Remove a tag."),
    "uploads": Listed("upkeep", "Look at upload sessions, and end them."),
    "usage": Listed("upkeep", "Count what the store holds."),
}
"""Every command, with the module that has it and the first sentence of its help, to which a test holds each of them:
a command loads what it runs and nothing else, and help loads no command."""


@click.group(
    cls=Program,
    listed=COMMANDS,
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
