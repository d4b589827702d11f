"""repos and tags: lists of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ocistore.cli.completion import complete_repository
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def _paged(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Print at most this many."),
        click.option("--after", metavar="NAME", default="", help="Start after this name, which need not exist."),
        click.option("--prefix", metavar="TEXT", default="", help="Only names that start with this."),
    ):
        command = option(command)
    return command


@click.command(epilog=example("ocistore repos --prefix library/"))
@_paged
@json_option
@pass_location
def repos(location: Location, *, prefix: str, after: str, limit: int | None, as_json: bool) -> None:
    """List the repositories, in byte order."""
    with location.reading() as store:
        _print_names(store.repositories(prefix=prefix, after=after, limit=limit), as_json=as_json)


@click.command(epilog=example("ocistore tags library/alpine --prefix 3. --limit 10"))
@click.argument("repo", shell_complete=complete_repository)
@_paged
@json_option
@pass_location
def tags(location: Location, repo: str, *, prefix: str, after: str, limit: int | None, as_json: bool) -> None:
    """List the tags of a repository, in byte order."""
    with location.reading() as store:
        _print_names(store.repository(repo).tags(prefix=prefix, after=after, limit=limit), as_json=as_json)


def _print_names(names: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json_lines({"name": name} for name in names)
    else:
        for name in names:
            click.echo(name)


COMMANDS: Final = (repos, tags)
