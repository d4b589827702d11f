"""leases: what keeps content from garbage collection for a while."""

from __future__ import annotations

from typing import Final

import click

from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json_lines, print_line
from ocistore.cli.upkeep import ListsByDefault


@click.group(
    cls=ListsByDefault, epilog=example("ocistore leases", "ocistore leases end 0123456789abcdef0123456789abcdef")
)
def leases() -> None:
    """List and end leases, which keep content from garbage collection.

    Without a command, lists them.
    """


@leases.command("list", epilog=example("ocistore leases list --json"))
@json_option
@pass_location
def list_leases(location: Location, *, as_json: bool) -> None:
    """List the leases that are in force, and how much each keeps."""
    with location.reading() as store:
        if as_json:
            print_json_lines(lease.to_json() for lease in store.leases())
            return
        for lease in store.leases():
            until = lease.expires.isoformat(timespec="seconds")
            reason = f"  {lease.reason}" if lease.reason else ""
            print_line(f"{lease.id}  {lease.manifests} manifests, {lease.blobs} blobs  until {until}{reason}")


@leases.command("end", epilog=example("ocistore leases end 0123456789abcdef0123456789abcdef"))
@click.argument("id", nargs=-1, required=True)
@pass_location
def end_leases(location: Location, id: tuple[str, ...]) -> None:  # noqa: A002 - as it is typed
    """End leases, whoever holds them.

    What they kept may be garbage-collected. A program that still works under one of them cannot
    push any more.
    """
    with location.changing() as store:
        for each in id:
            store.end_lease(each)


COMMANDS: Final = (leases,)
