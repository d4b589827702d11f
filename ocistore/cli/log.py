"""log: what tags pointed at before."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from ocistore import Reference, RepositoryNotFoundError
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json_lines, print_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore import Store, TagEvent


@click.command(epilog=example("ocistore log library/alpine:latest", "ocistore log --limit 20"))
@click.argument("ref", metavar="[REPO[:TAG]]", required=False, shell_complete=complete_reference)
@click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Print at most this many.")
@json_option
@pass_location
def log(location: Location, ref: str | None, *, limit: int | None, as_json: bool) -> None:
    """Show the history of a tag, of a repository or of all, newest first.

    One line for each change of a tag: when, which tag, the digest it pointed at before and the one since then, and who
    changed it. An old digest can be tagged again until garbage collection removes its content.
    """
    with location.reading() as store:
        events = islice(_events(store, ref), limit)
        if as_json:
            print_json_lines({"repository": name, **event.to_json()} for name, event in events)
            return
        for name, event in events:
            old, new = event.old or "-", event.new or "-"
            print_line(f"{event.at:%F %T}Z  {name}:{event.tag}  {old} -> {new}  {event.actor}")


def _events(store: Store, ref: str | None) -> Iterator[tuple[str, TagEvent]]:
    if ref is not None:
        reference = Reference.parse(ref)
        if reference.digest is not None:
            raise click.UsageError("a digest has no history: give REPO or REPO:TAG")
        for event in store.repository(reference.repository).history(reference.tag):
            yield reference.repository, event
        return
    # Each repository's own are in order: merged, they are read only as far as they are printed.
    each = (_of(store, name) for name in store.repositories())
    yield from heapq.merge(*each, key=lambda found: found[1].id, reverse=True)


def _of(store: Store, name: str) -> Iterator[tuple[str, TagEvent]]:
    try:
        for event in store.repository(name).history():
            yield name, event
    except RepositoryNotFoundError:  # deleted since it was listed
        return


COMMANDS: Final = (log,)
