"""The command line. Only this package uses environment variables, prompts, progress bars and exit codes."""

from __future__ import annotations

from ocistore.cli.commands import ocistore


def main() -> None:
    """Run the command line, and exit."""
    ocistore.main(prog_name="ocistore")
