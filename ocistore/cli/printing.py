"""The output of commands: text, JSON and progress bars."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO, TextIO

    from ocistore import Progress

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SETTLED: Final = 0.5
"""Seconds after which a rate is shown."""
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


def with_colour(stream: TextIO | None) -> bool:
    """Whether colours are wanted there: as the environment says, else on a terminal.

    NO_COLOR, and CLICOLOR=0, switch them off; FORCE_COLOR and CLICOLOR_FORCE on, except where NO_COLOR is set.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    if os.environ.get("CLICOLOR") == "0" or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()


def print_error(message: str) -> None:
    """Print an error on standard error, as one line that begins with a red word."""
    colour = with_colour(sys.stderr)
    word = click.style("Error:", fg="red", bold=True) if colour else "Error:"
    _echo(f"{word} {printable(message)}", err=True, colour=colour)


def print_json(document: object, *, err: bool = False) -> None:
    """Print one JSON document; with ``err``, on standard error."""
    _echo(json.dumps(document, indent=2), err=err)


def _echo(text: str, *, err: bool, colour: bool = False) -> None:
    try:
        click.echo(text, err=err, color=colour or None)
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


def progress_words(done: int, total: int, moved: int, seconds: float) -> str:
    """Return what stands beside a bar: ``1.2 GiB of 2.0 GiB, 310.0 MiB/s, 0:00:03 left``."""
    words = f"{readable_size(done)} of {readable_size(total)}"
    if seconds < _SETTLED or moved <= 0:
        return words
    words += f", {readable_size(int(moved / seconds))}/s"
    left = int((total - done) * seconds / moved)
    return words if done >= total else f"{words}, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress | None]:
    """Yield a callable that shows progress on standard error; None if that is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    bar: click._termui_impl.ProgressBar[str] | None = None
    began, begun_at = 0.0, 0

    def progress(done: int, total: int) -> None:
        nonlocal bar, began, begun_at
        with contextlib.suppress(OSError):  # a terminal that is gone must not end the work
            if bar is None:
                began, begun_at = time.monotonic(), done
                bar = click.progressbar(
                    length=total, label=label, file=sys.stderr, show_eta=False, item_show_func=lambda text: text
                )
                bar.__enter__()
            bar.length = total
            if done >= total or (done - bar.pos) * _STEPS >= total:
                words = progress_words(done, total, done - begun_at, time.monotonic() - began)
                bar.update(done - bar.pos, words)

    try:
        yield progress
    finally:
        if bar is not None:
            with contextlib.suppress(OSError):
                bar.render_finish()
