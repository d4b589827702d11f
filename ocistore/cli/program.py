"""The one place where an error becomes a line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from ocistore import OCIStoreError
from ocistore.cli.location import ANY_FILESYSTEM_VARIABLE
from ocistore.cli.printing import occupy_standard_descriptors, print_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED: Final = 1
_MISUSED: Final = 2
_ALLOWING: Final = "open it with any_filesystem=True"
"""What an error tells a program to do."""
_INTERRUPTED: Final = 130
"""What a shell makes of a command that ended by SIGINT: 128 and the number of the signal."""


class Program(click.Group):
    """A group of commands whose errors take one line each.

    The exit codes: 0; 1 where the operating system refused something of the user's own files; 2 where the command was
    not understood; the ``exit_code`` of the error's class (see :mod:`ocistore.errors`); 130 where it was interrupted.
    """

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
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except OCIStoreError as error:
            # What a program does is not what a person types.
            _fail(str(error).replace(_ALLOWING, f"set {ANY_FILESYSTEM_VARIABLE}=1"), error.exit_code)
        except click.UsageError as error:
            hint = "" if error.ctx is None else f" (see: {error.ctx.command_path} --help)"
            _fail(f"{error.format_message()}{hint}", _MISUSED)
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


def _fail(message: str, exit_code: int) -> NoReturn:
    print_line(f"Error: {message}", err=True)
    sys.exit(exit_code)
