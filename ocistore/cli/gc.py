"""gc: garbage collection."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from ocistore.cli.completion import complete_reference
from ocistore.cli.durations import duration_option
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_fields, print_json, print_line, readable_size

if TYPE_CHECKING:
    from ocistore import GCReport, Store


_EXPLAINED: Final = 20
"""Of how many blobs that wait it is looked up until when."""


@click.command(
    epilog=example(
        "ocistore gc --dry-run",
        "ocistore gc --keep-untagged 2d --max-duration 5m",
        "ocistore gc --explain library/alpine:3.20",
    )
)
@duration_option("--grace", default="1h", help="How long a blob is kept that no manifest refers to.")
@duration_option("--keep-untagged", default="14d", help="How long a manifest is kept once nothing refers to it.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print what would be removed, and why.")
@click.option("--explain", "explained", metavar="REF|DIGEST", shell_complete=complete_reference,
              help="Print what keeps this, or when it is removed; collect nothing.")  # fmt: skip
@duration_option("--max-duration", help="Stop after this long; the next run continues.")
@click.option("--max-batches", type=click.IntRange(min=0), help="Stop after this many transactions, likewise.")
@click.option("--force", is_flag=True, help="Collect even where more than half of the bytes would be removed.")
@click.option("--confirm", is_flag=True,
              help="Confirm that a restored or rebuilt catalog is complete, and allow collection again.")  # fmt: skip
@json_option
@pass_location
def gc(
    location: Location,
    *,
    grace: timedelta,
    keep_untagged: timedelta,
    dry_run: bool,
    explained: str | None,
    max_duration: timedelta | None,
    max_batches: int | None,
    force: bool,
    confirm: bool,
    as_json: bool,
) -> None:
    """Collect garbage: remove content that no tag, index, subject or lease keeps.

    Tagged manifests are kept, and with them the children of indexes, the referrers (signatures, SBOMs) of manifests,
    what a lease names, and all blobs that these refer to. A lease is what a program holds while it works with content
    that is not tagged yet. Safe while other processes push; run it as often as you like.

    Where nothing was removed, prints what waits for --grace to pass, and until when.

    \b
    It counts what was removed, or with --dry-run would be:
      removed      blobs, and their bytes on disk; manifests are blobs too
      waiting      what nothing needs, and only --grace still keeps
      manifests    manifests that their repositories do not have any more
      memberships  blobs that a repository does not have any more, because
                   none of its manifests refers to them
      uploads      upload sessions that were not used for seven days
      abandoned    files that killed processes left
      leases       leases that had run out
    """  # noqa: D301  (click takes a real \b, not its spelling)
    if explained is not None:
        with location.reading() as store:
            _explain(store, explained, grace=grace, keep_untagged=keep_untagged, as_json=as_json)
        return
    with location.reading() if dry_run else location.changing() as store:
        if confirm and not dry_run:
            store.confirm()
        report = store.gc(
            grace=grace,
            keep_untagged=keep_untagged,
            dry_run=dry_run,
            force=force,
            maximum_duration=max_duration,
            maximum_batches=max_batches,
        )
        waiting = None
        if not as_json and not dry_run and report.complete and not report.blobs and grace:
            waiting = _waiting(store, grace=grace, keep_untagged=keep_untagged)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report, waiting)


def _waiting(store: Store, *, grace: timedelta, keep_untagged: timedelta) -> str | None:
    """Return what nothing needs and only the grace keeps, and until when; None where there is nothing."""
    found = store.gc(grace=timedelta(0), keep_untagged=keep_untagged, dry_run=True, force=True)
    if not found.blobs:
        return None
    due = [
        each.due
        for candidate in found.candidates[:_EXPLAINED]
        for each in store.explain(candidate.digest, grace=grace, keep_untagged=keep_untagged).repositories
        if each.due is not None
    ]
    until = f" until {min(due):%F %T} UTC" if due else ""
    if due and (found.blobs > len(due) or len(set(due)) > 1):
        until += " and later"
    blobs = "1 blob" if found.blobs == 1 else f"{found.blobs} blobs"
    return f"{blobs}, {readable_size(found.bytes)}{until}; --grace 0s removes them now"


def _print(report: GCReport, waiting: str | None) -> None:
    for candidate in report.candidates:
        print_line(f"{candidate.digest}  {readable_size(candidate.size)}  {candidate.why}")
    if report.blobs > len(report.candidates) > 0:
        print_line(f"and {report.blobs - len(report.candidates)} more")
    print_fields(
        {
            "would be removed" if report.dry_run else "removed": f"{report.blobs} blobs, {readable_size(report.bytes)}",
            "waiting": waiting,
            "manifests": str(report.manifests),
            "memberships": str(report.memberships),
            "uploads": str(report.uploads) if report.uploads else None,
            "abandoned": str(report.abandoned) if report.abandoned else None,
            "leases": str(report.leases) if report.leases else None,
            "refused": "; ".join(report.refused) or None,
            "catalog.snapshot not written": report.no_refs_file,
            "left": None if report.complete else "something: the bounds were reached; run it again",
        }
    )


def _explain(store: Store, text: str, *, grace: timedelta, keep_untagged: timedelta, as_json: bool) -> None:
    found = store.explain(text, grace=grace, keep_untagged=keep_untagged)
    if as_json:
        print_json(found.to_json())
        return
    for each in found.repositories:
        print_line(f"{found.digest} in {each.repository or 'no repository'}")
        for reason in each.kept_by:
            print_line(f"  kept: {reason}")
        if each.due is not None:
            print_line(f"  {'until' if each.kept_by else 'removable since'} {each.due:%F %T} UTC")


COMMANDS: Final = (gc,)
