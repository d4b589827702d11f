"""gc: garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ocistore.cli.completion import complete_reference
from ocistore.cli.durations import duration_option
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_fields, print_json, print_line, readable_size

if TYPE_CHECKING:
    from datetime import timedelta

    from ocistore import GCReport, Store


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
    what a lease names, and all blobs that these refer to. Safe while other processes push; run it as often as you like.
    """
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
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)


def _print(report: GCReport) -> None:
    for candidate in report.candidates:
        print_line(f"{candidate.digest}  {readable_size(candidate.size)}  {candidate.why}")
    if report.blobs > len(report.candidates) > 0:
        print_line(f"and {report.blobs - len(report.candidates)} more")
    print_fields(
        {
            "would be removed" if report.dry_run else "removed": f"{report.blobs} blobs, {readable_size(report.bytes)}",
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
