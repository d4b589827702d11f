"""db: the schema of the catalog, its history and its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ocistore import SCHEMA_REVISION, SchemaTooNewError, SchemaTooOldError
from ocistore.cli.durations import duration_option
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_fields, print_json, print_line, readable_size

if TYPE_CHECKING:
    from datetime import timedelta


@click.group(no_args_is_help=False, epilog=example("ocistore db current", "ocistore db check"))
def db() -> None:
    """Maintain the catalog: its schema, its history, its size."""


@db.command(epilog=example("ocistore db current --json"))
@json_option
@pass_location
def current(location: Location, *, as_json: bool) -> None:
    """Print the schema revision of the store, and the one of this ocistore."""
    found = _revision(location)
    if as_json:
        print_json({"current": found, "known": SCHEMA_REVISION})
    else:
        print_fields({"current": found, "known": SCHEMA_REVISION})


@db.command(epilog=example("ocistore db upgrade"))
@json_option
@pass_location
def upgrade(location: Location, *, as_json: bool) -> None:
    """Upgrade the schema of the store to the revision of this ocistore.

    The upgrade is one transaction. Every command that changes the store does it too; commands that only read never do.
    """
    before = _revision(location)
    location.changing().close()
    if as_json:
        print_json({"from": before, "to": SCHEMA_REVISION})
    elif before == SCHEMA_REVISION:
        print_line(f"{before}, nothing to do")
    else:
        print_line(f"{before} -> {SCHEMA_REVISION}")


@db.command(epilog=example("ocistore db check"))
@json_option
@click.pass_context
def check(context: click.Context, *, as_json: bool) -> None:
    """Check the integrity of the database.

    Compares its schema statement by statement, and checks its pages, its foreign keys and the directories of the store.
    The exit code is 1 where something is wrong. Reads the whole database, but no blobs; scrub reads those.
    """
    location = context.ensure_object(Location)
    with location.reading() as store:
        report = store.check()
    if as_json:
        print_json(report.to_json())
    else:
        for name in report.missing:
            print_line(f"missing: {name}/, which ocistore init creates again")
        for difference in report.differences:
            print_line(f"{difference.kind}: {difference.name}")
        for problem in report.problems:
            print_line(f"damaged: {problem}")
        if report.is_ok:
            print_line("ok")
    context.exit(0 if report.is_ok else 1)


@db.command("compact", epilog=example("ocistore db compact"))
@json_option
@pass_location
def compact_(location: Location, *, as_json: bool) -> None:
    """Rewrite the catalog without the space of deleted rows (VACUUM).

    Garbage collection frees that space in small steps, except in a store that an older version made: run this once
    there. Every other writer waits, about two seconds for each gigabyte. Needs as much free disk space, and as much
    memory, as the catalog takes; where there is not enough, it fails and changes nothing.
    """
    with location.changing() as store:
        report = store.compact()
    if as_json:
        print_json(report.to_json())
    else:
        print_line(f"{readable_size(report.bytes_before)} -> {readable_size(report.bytes_after)}")


@db.command("prune-history", epilog=example("ocistore db prune-history --keep-last 10 --keep-for 90d"))
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Keep the last N events of each tag.")
@duration_option("--keep-for", help="Keep all events that are not older than this.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print how many events would be removed.")
@json_option
@pass_location
def prune_history_(
    location: Location, *, keep_last: int | None, keep_for: timedelta | None, dry_run: bool, as_json: bool
) -> None:
    """Remove old events from the history of tags.

    The history grows until this is run. An event is removed when it is older than --keep-for and not among the last
    --keep-last of its tag; one of the two must be given. Tags do not change. An event takes about 300 bytes.
    """
    if keep_last is None and keep_for is None:
        raise click.UsageError("give --keep-last, --keep-for or both")
    with location.reading() if dry_run else location.changing() as store:
        report = store.prune_history(keep_last=keep_last, keep_for=keep_for, dry_run=dry_run)
    if as_json:
        print_json(report.to_json())
    else:
        print_fields(
            {"would be removed" if dry_run else "removed": f"{report.events} events", "kept": str(report.kept)}
        )


def _revision(location: Location) -> str:
    """Return the revision of the store, whether or not this version can work with it."""
    try:
        location.reading().close()
    except (SchemaTooOldError, SchemaTooNewError) as error:
        return error.found
    return SCHEMA_REVISION


COMMANDS: Final = (db,)
