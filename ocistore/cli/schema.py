"""db: the schema of the catalog."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import click

from ocistore.catalog.integrity import problems
from ocistore.catalog.migrate import differences
from ocistore.catalog.schema import SCHEMA_REVISION
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_fields, print_json, print_line
from ocistore.errors import SchemaTooNewError, SchemaTooOldError


@click.group(no_args_is_help=False, epilog=example("ocistore db current", "ocistore db check"))
def db() -> None:
    """Look after the schema of the catalog."""


@db.command(epilog=example("ocistore db current --json"))
@json_option
@pass_location
def current(location: Location, *, as_json: bool) -> None:
    """Say which revision the store has, and which one this ocistore knows."""
    found = _revision(location)
    if as_json:
        print_json({"current": found, "known": SCHEMA_REVISION})
    else:
        print_fields({"current": found, "known": SCHEMA_REVISION})


@db.command(epilog=example("ocistore db upgrade"))
@json_option
@pass_location
def upgrade(location: Location, *, as_json: bool) -> None:
    """Bring the store to the revision this ocistore knows.

    All of it or nothing. Every command that changes the store does it too; those that look never do.
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
    """Compare the database with what it should be.

    Its schema statement by statement, its pages, its foreign keys. Exits 1 where something is wrong. Reads the whole
    database, but no blobs.
    """
    location = context.ensure_object(Location)
    with location.reading() as store:
        # Not in one transaction: where pages are damaged, its end would raise what is to be reported.
        with store.catalog.read() as connection:
            different = differences(connection)
        with store.catalog.read() as connection:
            damage = problems(connection)
    if as_json:
        print_json({"differences": [asdict(difference) for difference in different], "problems": damage})
    else:
        for difference in different:
            print_line(f"{difference.kind}: {difference.name}")
        for problem in damage:
            print_line(f"damaged: {problem}")
        if not different and not damage:
            print_line("ok")
    context.exit(1 if different or damage else 0)


def _revision(location: Location) -> str:
    """The revision that the store has now, whether or not this version can work with it."""
    try:
        location.reading().close()
    except (SchemaTooOldError, SchemaTooNewError) as error:
        return error.found
    return SCHEMA_REVISION


COMMANDS: Final = (db,)
