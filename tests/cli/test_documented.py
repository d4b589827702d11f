"""docs/command-line.md shows what each command's --help says. With OCISTORE_UPDATE_DOCS=1 it is brought up to date."""

import os
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ocistore import OCIStoreError
from ocistore.cli.commands import ocistore
from ocistore.layouts.copying import CopyReport
from ocistore.layouts.exporting import ExportReport
from ocistore.layouts.importing import ImportReport
from ocistore.oci.jsonvalue import json_fields

DOCUMENT = Path(__file__).parents[2] / "docs" / "command-line.md"


def commands(command=ocistore, path=("ocistore",)):
    """Every command and group, by what one types."""
    found = {" ".join(path): command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= commands(command.get_command(context, name), (*path, name))
    return found


def help_of(name):
    """What the command prints, on a terminal of 80 columns."""
    arguments = [*name.split()[1:], "--help"]
    result = CliRunner(catch_exceptions=False).invoke(
        ocistore, arguments, prog_name="ocistore", env={"COLUMNS": "80"}, terminal_width=80
    )
    return result.stdout


def block(name):
    return f"```console\n$ {name} --help\n{help_of(name)}```\n"


@pytest.mark.parametrize("name", commands())
def test_the_help_of_every_command_is_in_the_document(name):
    if os.environ.get("OCISTORE_UPDATE_DOCS"):
        text = DOCUMENT.read_text()
        shown = re.compile(rf"```console\n\$ {re.escape(name)} --help\n.*?```\n", re.DOTALL)
        updated, count = shown.subn(lambda _: block(name), text)
        assert count <= 1
        DOCUMENT.write_text(updated if count else f"{text}\n### {name}\n\n{block(name)}")
    assert block(name) in DOCUMENT.read_text(), "run: OCISTORE_UPDATE_DOCS=1 pytest tests/cli/test_documented.py"


def test_the_document_shows_no_command_that_is_gone():
    assert set(re.findall(r"^\$ (ocistore.*) --help$", DOCUMENT.read_text(), re.MULTILINE)) == set(commands())


@pytest.mark.parametrize("name", commands())
def test_no_help_shows_the_mark_that_keeps_its_lines_apart(name):
    assert "\\b" not in help_of(name)
    assert "\b" not in help_of(name)


@pytest.mark.parametrize("name", commands())
def test_the_help_of_every_command_shows_an_example_of_it(name):
    _, found, example = help_of(name).partition("Example:\n")
    assert found
    words = "".join(f".* {word}\\b" for word in name.split()[1:])
    assert re.search(rf"^ *ocistore\b{words}", example, re.MULTILINE)


@pytest.mark.parametrize("name", commands())
def test_every_command_that_prints_data_can_print_json(name):
    command = commands()[name]
    silent = {"ocistore completion", "ocistore init", "ocistore tag", "ocistore untag", "ocistore uploads cancel"}
    silent.add("ocistore leases end")
    raw = {"ocistore cat"}
    has_option = any("--json" in option.opts for option in command.params)
    assert has_option == (not isinstance(command, click.Group) and name not in silent | raw)


@pytest.mark.parametrize(
    ("command", "report"), [("import", ImportReport), ("export", ExportReport), ("copy", CopyReport)]
)
def test_the_keys_of_what_goes_in_and_out_are_in_the_document(command, report):
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([a-z, ]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    keys = [key.strip("`") for names, commands in rows if command in commands.split(", ") for key in names.split(", ")]
    assert sorted(keys) == sorted(field.key for field in json_fields(report))


def test_every_exit_code_is_in_the_document():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == sorted((str(error.exit_code), error.__name__) for error in OCIStoreError.__subclasses__())
