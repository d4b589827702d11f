"""The commands, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ocistore import __version__
from ocistore.cli.location import STORE_VARIABLE, Location
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import example
from ocistore.cli.program import ListedCommand, Program

COMMANDS: Final = {
    "attach": ListedCommand("artifacts", "Attach files to REF as a referrer, and print its digest."),
    "backup": ListedCommand("backup", "Copy the store while it is in use."),
    "cat": ListedCommand("files", "Print the exact bytes of a manifest, a blob, or a file in an image."),
    "completion": ListedCommand("shells", "Print a script that completes commands and references in a shell."),
    "copy": ListedCommand("copying", "Copy references from one store to another, in one commit."),
    "cp": ListedCommand("promoting", "Copy a reference to another repository of the store, without moving bytes."),
    "db": ListedCommand("db", "Maintain the catalog: its schema, its history, its size."),
    "discover": ListedCommand("artifacts", "List the referrers of REF, such as signatures and SBOMs."),
    "export": ListedCommand("exporting", "Write references as an OCI layout or an archive."),
    "gc": ListedCommand("gc", "Collect garbage: remove content that no tag, index, subject or lease keeps."),
    "import": ListedCommand("importing", "Import an OCI layout or a Docker archive, all of it or nothing."),
    "init": ListedCommand("change", "Create an empty store, and print its path."),
    "leases": ListedCommand("leases", "List and end leases, which keep content from garbage collection."),
    "log": ListedCommand("log", "Show the history of a tag, of a repository or of all, newest first."),
    "ls-files": ListedCommand("files", "List the files of an image or artifact, at PATH and below."),
    "pull": ListedCommand("artifacts", "Write the files of an artifact to a directory."),
    "push": ListedCommand("artifacts", "Pack files as an artifact, tag it, and print its digest."),
    "rebuild": ListedCommand("backup", "Rebuild the catalog when catalog.db is lost or damaged."),
    "repos": ListedCommand("look", "List the repositories, in byte order."),
    "rm": ListedCommand("change", "Delete manifests, blobs or repositories."),
    "scrub": ListedCommand("scrub", "Check the integrity of the store, and repair damage."),
    "show": ListedCommand("show", "Show what references stand for, as trees."),
    "tag": ListedCommand("change", "Point a tag at what a reference stands for."),
    "tags": ListedCommand("look", "List the tags of a repository."),
    "unpack": ListedCommand("images", "Write the files of an image to a directory, without privileges."),
    "untag": ListedCommand("change", "Remove tags, all of them or none."),
    "uploads": ListedCommand("upkeep", "List and cancel upload sessions."),
    "usage": ListedCommand("upkeep", "Count what the store holds."),
}
"""Every command, with its module and the first sentence of its help; a test compares the two sentences. A command loads
only the module that it runs, and help loads none."""


@click.group(
    cls=Program,
    listed=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    help="The store's directory; may also be given after the command.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def ocistore(context: click.Context, store: Path | None) -> None:
    """Keep OCI images and artifacts in a directory.

    A reference, REF, is REPO[:TAG][@DIGEST]. Where it has both a tag and a digest, the digest
    decides.
    """
    context.obj = Location(store)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
