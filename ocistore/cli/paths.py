"""Paths on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import os


class GivenPath(click.Path):
    """A path that is not empty: an unset shell variable gives an empty one.

    As a ``Path`` it would be the working directory.
    """

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - as it is declared
        """Refuse an empty path."""
        if value == "":
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)
