"""What the tests of the command line share."""

from dataclasses import dataclass

import pytest
from click.testing import CliRunner, Result

from ocistore.cli.commands import ocistore


@dataclass(frozen=True)
class CommandLine:
    """Runs commands in this process on one store."""

    root: object

    def try_(self, *arguments, stdin=None) -> Result:
        """The result, whatever it is. What is not caught by the command line is raised here."""
        arguments = ["--store", str(self.root), *map(str, arguments)]
        return CliRunner(catch_exceptions=False).invoke(ocistore, arguments, input=stdin, prog_name="ocistore")

    def __call__(self, *arguments, stdin=None) -> str:
        """What a command that succeeds prints."""
        result = self.try_(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout


@pytest.fixture
def run(store):
    """The command line, on the store of the test."""
    return CommandLine(store.root)
