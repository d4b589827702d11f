"""Manual pages, written from the help of the commands when a wheel is built (.hatch/manpages.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


def pages(program: click.Group, version: str) -> Iterator[tuple[str, str]]:
    """Yield the name, as ``ocistore-db-check``, and the text of the page of each command."""
    waiting: list[tuple[click.Command, click.Context]] = [(program, click.Context(program, info_name="ocistore"))]
    while waiting:
        command, context = waiting.pop(0)
        # As with the real program, -h is an option of every command.
        context.help_option_names = ["-h", "--help"]
        yield context.command_path.replace(" ", "-"), page(command, context, version)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                if child is not None:
                    waiting.append((child, click.Context(child, parent=context, info_name=name)))


def page(command: click.Command, context: click.Context, version: str) -> str:
    """Return one manual page, in roff."""
    name = context.command_path.replace(" ", "-")
    short = command.get_short_help_str(10_000).rstrip(".")
    lines = [
        f'.TH "{name.upper()}" "1" "" "ocistore {version}" "OCISTORE"',
        ".SH NAME",
        f"{_escaped(name)} \\- {_escaped(short)}",
        ".SH SYNOPSIS",
        f"\\fB{_escaped(context.command_path)}\\fR {_escaped(' '.join(command.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION",
        *_text(command.help or ""),
    ]
    options = [each.get_help_record(context) for each in command.get_params(context) if isinstance(each, click.Option)]
    lines.append(".SH OPTIONS")
    for record in filter(None, options):
        lines += [".TP", f"\\fB{_escaped(record[0])}\\fR", _escaped(record[1])]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                page_name = f"{name}-{child}"
                lines += [".TP", f"\\fB{_escaped(page_name)}\\fR(1)", _escaped(found.get_short_help_str(10_000))]
    if command.epilog:
        example = command.epilog.replace("\b\nExample:\n", "")
        lines += [".SH EXAMPLE", ".nf", *map(_escaped, example.splitlines()), ".fi"]
    if context.parent is not None:
        lines += [".SH SEE ALSO", f"\\fB{_escaped(context.parent.command_path.replace(' ', '-'))}\\fR(1)"]
    return "\n".join(lines) + "\n"


def _text(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help; those that begin with a mark are printed line by line, as click does."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        lines = [_escaped(line) for line in paragraph.splitlines() if line.strip("\b ")]
        if paragraph.lstrip().startswith("\b") or paragraph.startswith("\b"):
            yield from [".nf", *lines, ".fi"]
        else:
            yield from (line.strip() for line in lines)


def _escaped(text: str) -> str:
    """Return text that roff prints as it is."""
    text = text.replace("\b", "").replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
