"""completion: the script with which a shell completes."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import ShellComplete, get_completion_class

from ocistore.cli.completion import offer_completion
from ocistore.cli.printing import example
from ocistore.cli.program import COMPLETING_VARIABLE


@click.command(
    epilog=example(
        'eval "$(ocistore completion bash)"      # in ~/.bashrc',
        'eval "$(ocistore completion zsh)"       # in ~/.zshrc',
        "ocistore completion fish | source       # in ~/.config/fish/config.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands and references in a shell.

    Repositories and tags are completed from the store that --store on the line or OCISTORE_STORE names.
    """
    offer_completion()
    found = get_completion_class(shell)
    if found is None:  # never: the choices are those that click has
        raise click.UsageError(f"no completion for {shell}")
    # Not found.source(): for bash that runs bash, which need not be on this machine.
    click.echo(ShellComplete.source(found(context.find_root().command, {}, "ocistore", COMPLETING_VARIABLE)), nl=False)


COMMANDS: Final = (completion,)
