"""The one place where an error becomes a line on standard error and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import click

from ocistore import OCIStoreError
from ocistore.cli.location import ANY_FILESYSTEM_VARIABLE, take_store_after
from ocistore.cli.printing import occupy_standard_descriptors, print_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FAILED: Final = 1
_MISUSED: Final = 2
OTHER_WORDS: Final = {
    "build": "push",
    "delete": "rm",
    "du": "usage",
    "fsck": "scrub",
    "history": "log",
    "images": "tags",
    "inspect": "show",
    "list": "repos",
    "load": "import",
    "ls": "repos",
    "manifest": "show",
    "mv": "cp",
    "promote": "cp",
    "prune": "gc",
    "referrers": "discover",
    "remove": "rm",
    "repositories": "repos",
    "rmi": "rm",
    "save": "export",
    "sync": "copy",
    "verify": "scrub",
}
"""What other programs call a command, or what is nearest to it here."""
COMPLETING_VARIABLE: Final = "_OCISTORE_COMPLETE"
"""The variable with which a shell asks click for completions."""
_ALLOWING: Final = "open it with any_filesystem=True"
"""What an error tells a program to do."""
_INTERRUPTED: Final = 130
"""What a shell makes of a command that ended by SIGINT: 128 and the number of the signal."""


class ListedCommand(NamedTuple):
    """A command that is loaded when it is run, and listed without being loaded."""

    module: str
    """The module in this package whose ``COMMANDS`` contain it."""
    text: str
    """The first sentence of its help."""


class Program(click.Group):
    """A group of commands that are loaded one by one, and whose errors take one line each.

    The exit codes: 0; 1 where the operating system refused something of the user's own files; 2 where the command was
    not understood; the ``exit_code`` of the error's class (see :mod:`ocistore.errors`); 130 where it was interrupted.
    """

    def __init__(self, *, listed: Mapping[str, ListedCommand] = MappingProxyType({}), **options: Any) -> None:  # noqa: ANN401
        """Take the commands by their names; a placeholder with their help stands for them until they are loaded."""
        super().__init__(commands=[click.Command(name, help=each.text) for name, each in listed.items()], **options)
        self._listed = listed

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, after importing the module that has it; None where there is no such command."""
        listed = self._listed.get(cmd_name)
        if listed is None:
            return super().get_command(ctx, cmd_name)  # one that was added
        commands: tuple[click.Command, ...] = importlib.import_module(f"ocistore.cli.{listed.module}").COMMANDS
        return take_store_after(next(command for command in commands if command.name == cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; where there is none, say which one is likely meant."""
        name = args[0]
        if name.startswith("-") or ctx.resilient_parsing or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        other = OTHER_WORDS.get(name)
        import difflib  # noqa: PLC0415 - for this alone

        near = [other] if other is not None else difflib.get_close_matches(name, self.commands)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise click.UsageError(f"No such command {name!r}.{meant}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, and load none of them."""
        click.Group(commands=self.commands).format_commands(ctx, formatter)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  (click's own signature)
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Run a command; in standalone mode, report what it raises and exit."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        occupy_standard_descriptors()
        if COMPLETING_VARIABLE in os.environ:
            from ocistore.cli.completion import offer_completion  # noqa: PLC0415  (only a shell asks for it)

            offer_completion()
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except OCIStoreError as error:
            # What a program does is not what a person types.
            _fail(str(error).replace(_ALLOWING, f"set {ANY_FILESYSTEM_VARIABLE}=1"), error.exit_code)
        except click.UsageError as error:
            _fail(f"{error.format_message()}{_hint(error)}", _MISUSED)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except click.Abort:
            sys.exit(_INTERRUPTED)
        except OSError as error:
            # A broken pipe does not come so far: click ends quietly then.
            _drop_output()
            place = "" if error.filename is None else f"{error.filename}: "
            _fail(f"{place}{error.strerror or error}", _FAILED)
        sys.exit(result if isinstance(result, int) else 0)


def _drop_output() -> None:
    """Discard what standard output does not accept: the interpreter would try again at its end, and exit with 120."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _hint(error: click.UsageError) -> str:
    """Return how the command is called, where its arguments were wrong, and where its help is."""
    if error.ctx is None:
        return ""
    context, command = error.ctx, error.ctx.command
    of_arguments = isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument)
    too_many = error.message.startswith("Got unexpected extra argument")  # click has no class for it
    if not isinstance(command, click.Group) and (of_arguments or too_many):
        arguments = [piece for each in command.get_params(context) for piece in each.get_usage_pieces(context)]
        dot = "" if error.format_message().endswith(".") else "."
        return f"{dot} Usage: {' '.join([context.command_path, *arguments])} (see: {context.command_path} --help)"
    return f" (see: {context.command_path} --help)"


def _fail(message: str, exit_code: int) -> NoReturn:
    print_error(message)
    sys.exit(exit_code)
