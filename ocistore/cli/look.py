"""repos and tags: lists, as tables for people and as names for scripts."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from ocistore import InvalidNameError, RepositoryNotFoundError
from ocistore.cli.completion import complete_repository
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json_lines, print_table, readable_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ocistore import Repository, Store, TagInfo, TagOrder

_NEWEST: Final = "updated"


def _listed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that both have."""
    for option in (
        click.option("-l", "--long", is_flag=True, help="Print the table in a pipe too."),
        click.option("-q", "--quiet", is_flag=True, help="Print names alone on a terminal too."),
        click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Print at most this many."),
        click.option("--after", metavar="NAME", default="", help="Start after this name, which need not exist."),
        click.option("--prefix", metavar="TEXT", default="", help="Only names that start with this."),
    ):
        command = option(command)
    return command


def _as_table(*, long: bool, quiet: bool, as_json: bool) -> bool:
    """Whether a table is to be printed, and not names."""
    if long and quiet:
        raise click.UsageError("give --long or --quiet, not both")
    return not as_json and not quiet and (long or (sys.stdout is not None and sys.stdout.isatty()))


@click.command(epilog=example("ocistore repos --prefix library/", "ocistore repos --long"))
@_listed
@json_option
@pass_location
def repos(
    location: Location, *, prefix: str, after: str, limit: int | None, quiet: bool, long: bool, as_json: bool
) -> None:
    """List the repositories, in byte order.

    On a terminal, prints a table: name, newest tag, when that was made or moved, and by whom. In a pipe, prints names
    alone, one on a line.
    """
    table = _as_table(long=long, quiet=quiet, as_json=as_json)
    with location.reading() as store:
        names = store.repositories(prefix=prefix, after=after, limit=limit)
        if not table:
            _print_names(names, as_json=as_json)
            return
        rows = ((name, *_newest(store, name)) for name in names)
        print_table(("REPOSITORY", "NEWEST TAG", "UPDATED", "BY"), rows)


def _newest(store: Store, name: str) -> tuple[str, str, str]:
    try:
        newest = next(store.repository(name).list_tags(sort=_NEWEST, limit=1), None)
    except RepositoryNotFoundError:  # deleted since it was listed
        newest = None
    return ("-", "-", "-") if newest is None else (newest.name, f"{newest.updated:%F %T}Z", newest.actor or "-")


@click.command(
    epilog=example(
        "ocistore tags library/alpine --prefix 3. --limit 10",
        "ocistore tags library/alpine --sort updated --limit 10",
    )
)
@click.argument("repo", shell_complete=complete_repository)
@_listed
@click.option(
    "--sort",
    type=click.Choice(["name", "updated", "size"]),
    default="name",
    show_default=True,
    help="name: in byte order. updated: newest first. size: largest first; looks at every tag.",
)
@json_option
@pass_location
def tags(
    location: Location,
    repo: str,
    *,
    prefix: str,
    after: str,
    limit: int | None,
    sort: str,
    quiet: bool,
    long: bool,
    as_json: bool,
) -> None:
    """List the tags of a repository.

    On a terminal, prints a table: name, digest, size of all that the tag stands for, when it was made or moved, and by
    whom. In a pipe, prints names alone, one on a line.

    \b
    --json prints an array of objects with these keys:
      name, digest, mediaType
      size         bytes of the manifest itself
      updated      when the tag was made or moved
      actor        who did that, or null
      totalSize    bytes of all that the tag stands for
    """  # noqa: D301  (click takes a real \b, not its spelling)
    table = _as_table(long=long, quiet=quiet, as_json=as_json)
    if after and sort != "name":
        raise click.UsageError("--after is for --sort name")
    _refuse_tag(repo)
    with location.reading() as store:
        repository = store.repository(repo)
        if sort == "name" and not table and not as_json:
            _print_names(repository.tags(prefix=prefix, after=after, limit=limit), as_json=False)
            return
        found = _tags(repository, sort, prefix=prefix, after=after, limit=limit, sized=table or as_json)
        if as_json:
            print_json_lines(tag.to_json() for tag in found)
        elif table:
            print_table(("TAG", "DIGEST", "SIZE", "UPDATED", "BY"), map(_row, found))
        else:
            _print_names((tag.name for tag in found), as_json=False)


def _tags(
    repository: Repository, sort: str, *, prefix: str, after: str, limit: int | None, sized: bool
) -> Iterator[TagInfo]:
    if sort == "size":
        found = sorted(repository.list_tags(prefix=prefix, total_size=True), key=lambda tag: -(tag.total_size or 0))
        return islice(found, limit)
    order: TagOrder = "updated" if sort == _NEWEST else "name"
    return repository.list_tags(sort=order, prefix=prefix, after=after, limit=limit, total_size=sized)


def _row(tag: TagInfo) -> tuple[str, ...]:
    size = "-" if tag.total_size is None else readable_size(tag.total_size)
    return tag.name, tag.digest, size, f"{tag.updated:%F %T}Z", tag.actor or "-"


def _refuse_tag(repo: str) -> None:
    """Say what to give where a reference was given."""
    name, colon, _ = repo.partition("@")[0].partition(":")
    if colon or "@" in repo:
        reason = f"give a repository, {name}; to look at a reference use show"
        raise InvalidNameError(repo, kind="repository", reason=reason, unclear=True)


def _print_names(names: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json_lines({"name": name} for name in names)
    else:
        for name in names:
            click.echo(name)


COMMANDS: Final = (repos, tags)
