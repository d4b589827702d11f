"""A command loads what it runs, and the help of the whole program loads no command and no store."""

import importlib
import pkgutil

import click
import pytest
from click.testing import CliRunner
from processes import run_python

import ocistore.cli
from ocistore.cli.commands import COMMANDS
from ocistore.cli.commands import ocistore as program

LOADED = """
import sys
from ocistore.cli.commands import ocistore
try:
    ocistore.main(sys.argv[1:], prog_name="ocistore")
except SystemExit:
    pass
print(*sorted(name for name in sys.modules if name.startswith("ocistore") or "." not in name), file=sys.stderr)
"""


def loaded(*arguments):
    """Every module of ocistore, and every package of others, that a command loads."""
    *_, last = run_python(f"import sys; sys.stderr = sys.stdout\n{LOADED}", *arguments, fresh=True).splitlines()
    return set(last.split())


def commands_of_modules():
    found = {}
    for module in pkgutil.iter_modules(ocistore.cli.__path__):
        for command in getattr(importlib.import_module(f"ocistore.cli.{module.name}"), "COMMANDS", ()):
            if isinstance(command, click.Command):
                found[command.name] = (module.name, command)
    return found


def test_the_table_has_every_command_of_every_module():
    assert {name: module for name, (module, _) in commands_of_modules().items()} == {
        name: each.module for name, each in COMMANDS.items()
    }


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_table_says_of_each_command_what_its_own_help_says(name):
    _, command = commands_of_modules()[name]
    assert COMMANDS[name].text == command.get_short_help_str(10_000), "copy it to COMMANDS in ocistore/cli/commands.py"
    assert not command.hidden


def test_help_lists_the_commands_as_click_lists_those_that_are_loaded():
    whole = click.Group("ocistore", commands=[command for _, command in commands_of_modules().values()])
    formatter = click.HelpFormatter(width=80)
    whole.format_commands(click.Context(whole), formatter)
    shown = CliRunner().invoke(program, ["--help"], terminal_width=80).stdout
    assert formatter.getvalue() in shown


def test_help_loads_no_command_and_no_store():
    found = loaded("--help")
    assert "ocistore.cli.program" in found
    assert found & {f"ocistore.cli.{each.module}" for each in COMMANDS.values()} == set()
    assert found & {"ocistore.store", "ocistore.catalog", "ocistore.blobs", "sqlalchemy", "sqlite3"} == set()


def test_a_command_loads_its_own_module_only(empty_store):
    found = loaded("--store", str(empty_store), "tags", "app")
    assert "ocistore.store" in found
    assert found & {f"ocistore.cli.{each.module}" for each in COMMANDS.values()} == {"ocistore.cli.look"}
    assert found & {"ocistore.layouts", "ocistore.upkeep", "ocistore.artifacts", "ocistore.images"} == set()


def test_a_command_that_is_misspelt_is_answered_with_the_one_that_is_meant():
    result = CliRunner().invoke(program, ["tagz"])
    assert result.exit_code == 2
    assert "tagz" in result.stderr
    assert "tags" in result.stderr
