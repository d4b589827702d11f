"""The output of commands: text, JSON and progress bars."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO

    from ocistore import Progress

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEPS: Final = 500
"""How often a bar is drawn from beginning to end at most: drawing costs more than a small blob."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def example(*lines: str) -> str:
    """Return the end of a command's help: an example."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def _encodable(text: str) -> str:
    """Return the text with characters that standard output cannot encode, as in an ASCII locale, as escapes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def printable(text: str) -> str:
    r"""Return ``text`` with what could move the cursor, break the line or mislead as escapes, as in ``\x1b``.

    Annotations, titles and file names are not trusted, and a terminal obeys what is printed on it.
    """
    if text.isprintable():
        return _encodable(text)
    return _encodable(
        "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
            for character in text
        )
    )


def readable_size(size: int) -> str:
    """Return a number of bytes with a unit: ``1.5 MiB``."""
    if size < 1024:
        return f"{size} B"
    power = 1
    # What would be rounded to 1024.0 belongs to the next unit.
    while size >= 1023.95 * 1024**power and power < len(_UNITS):
        power += 1
    return f"{size / 1024**power:.1f} {_UNITS[power - 1]}"


def standard_input() -> BinaryIO:
    """Return standard input, for bytes.

    Raises:
        OSError: it is closed.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Return standard output, for bytes.

    Raises:
        OSError: it is closed.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
    return sys.stdout.buffer


def occupy_standard_descriptors() -> None:
    """Let nothing that is opened later be standard input, output or error, where the command was started without one.

    Otherwise a file of the store would have that number, and a write to standard error, such as the interpreter's
    when it dies, would go into it. ``sys.stdin`` and ``sys.stdout`` stay None, which shows that they are
    closed; standard error only has to accept what is written.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stderr is None:
        _silence_standard_error()


def _silence_standard_error() -> None:
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives


def print_line(text: str, *, err: bool = False) -> None:
    """Print one line, with escapes where needed; with ``err``, on standard error."""
    _echo(printable(text), err=err)


def print_json(document: object, *, err: bool = False) -> None:
    """Print one JSON document; with ``err``, on standard error."""
    _echo(json.dumps(document, indent=2), err=err)


def _echo(text: str, *, err: bool) -> None:
    try:
        click.echo(text, err=err)
    except OSError:
        if not err:
            raise
        # A failure to print a message or an error must not change what a command does or its exit code.
        _silence_standard_error()


def print_json_lines(items: Iterable[object]) -> None:
    """Print an array of any length, one item on a line, in constant memory."""
    opening = "["
    for item in items:
        click.echo(f"{opening}\n{json.dumps(item)}", nl=False)
        opening = ","
    click.echo("[]" if opening == "[" else "\n]")


def print_fields(fields: Mapping[str, str | None], *, indent: str = "") -> None:
    """Print names and values in two columns; values that are None are left out."""
    shown = {printable(name): value for name, value in fields.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print_line(f"{indent}{name.ljust(width)}  {value}")


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress | None]:
    """Yield a callable that shows progress on standard error; None if that is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    bar: click._termui_impl.ProgressBar[int] | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        with contextlib.suppress(OSError):  # a terminal that is gone must not end the work
            if bar is None:
                bar = click.progressbar(length=total, label=label, file=sys.stderr)
                bar.__enter__()
            bar.length = total
            if done >= total or (done - bar.pos) * _STEPS >= total:
                bar.update(done - bar.pos)

    try:
        yield progress
    finally:
        if bar is not None:
            with contextlib.suppress(OSError):
                bar.render_finish()
