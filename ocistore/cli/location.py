"""Which store a command works on, and how it is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import ocistore
from ocistore.cli.paths import GivenPath

if TYPE_CHECKING:
    from ocistore import Store

STORE_VARIABLE: Final = "OCISTORE_STORE"
PAST_CACHE_VARIABLE: Final = "OCISTORE_PAST_PAGE_CACHE"
"""Set to 0, large blobs are written through the page cache."""

ANY_FILESYSTEM_VARIABLE: Final = "OCISTORE_ANY_FILESYSTEM"
"""Set to 1, it accepts a filesystem in user space whose backing storage is not known."""


@dataclass(frozen=True)
class Location:
    """The directory that ``--store`` or the environment names, if any."""

    given: Path | None

    @property
    def root(self) -> Path:
        """The directory.

        Raises:
            click.UsageError: none was given.
        """
        if self.given is None or not os.fspath(self.given):
            raise click.UsageError(f"no store: give --store DIR, or set {STORE_VARIABLE}")
        return self.given

    def reading(self) -> Store:
        """Open the store for reading only: works on read-only media, and never changes anything."""
        return ocistore.Store.open(self.root, create=False, read_only=True, any_filesystem=_any_filesystem())

    def changing(self) -> Store:
        """Open the store, which must exist."""
        return _as_wished(ocistore.Store.open(self.root, create=False, any_filesystem=_any_filesystem()))

    def creating(self) -> Store:
        """Open the store; create it where there is none."""
        return _as_wished(ocistore.Store.open(self.root, any_filesystem=_any_filesystem()))


def _any_filesystem() -> bool:
    return os.environ.get(ANY_FILESYSTEM_VARIABLE) == "1"


def _as_wished(store: Store) -> Store:
    store.past_page_cache = os.environ.get(PAST_CACHE_VARIABLE) != "0"
    return store


pass_location = click.make_pass_decorator(Location)


def _set_location(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:  # noqa: ARG001
    if value is not None:
        context.obj = Location(value)
        context.find_root().params["store"] = value  # where completion looks


def take_store_after(command: click.Command) -> click.Command:
    """Let a command, and those in it, take ``--store`` after their names too; their help does not repeat it."""
    if not any(parameter.name == "store" for parameter in command.params):
        command.params.append(
            click.Option(
                ["--store"],
                type=GivenPath(file_okay=False, path_type=Path),
                expose_value=False,
                hidden=True,
                callback=_set_location,
                is_eager=True,  # before arguments are completed from it
            )
        )
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        take_store_after(each)
    return command
