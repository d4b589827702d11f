"""backup and rebuild: copying a store in use, and rebuilding its catalog."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import ocistore
from ocistore.cli.choice import mode_option
from ocistore.cli.location import Location, pass_location
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import (
    example,
    json_option,
    print_fields,
    print_json,
    print_line,
    progress_bar,
    readable_size,
)

if TYPE_CHECKING:
    from ocistore import TransferMode

_INCOMPLETE: Final = 2
"""The exit code where something is damaged that this cannot repair."""


@click.command(epilog=example("ocistore backup /mnt/backup/store", "ocistore backup ~/store-copy --mode link"))
@click.argument("dest", type=GivenPath(file_okay=False, path_type=Path))
@mode_option("make hard links.")
@json_option
@pass_location
def backup(location: Location, dest: Path, *, mode: TransferMode, as_json: bool) -> None:
    """Copy the store while it is in use.

    The backup is a store. Where DEST is an earlier backup, only new blobs are copied, and blobs that the store no
    longer has are removed; once something was pushed into it, or the store was rebuilt, it is no longer a backup of
    this store, and is refused. Hard links take no space; they protect against deletion, not against a broken disk. No
    garbage is collected meanwhile. The exit code is 2 where blobs of the store are damaged or cannot be read now: they
    are printed, and not in the backup unless an earlier one in DEST has them.
    """
    with location.changing() as store, progress_bar("backup") as progress:
        report = store.backup(dest, mode=mode, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        print_fields(
            {
                "blobs": f"{report.blobs}, {readable_size(report.bytes)}",
                "removed": str(report.removed) if report.removed else None,
            }
        )
        for digest in report.missing:
            print_line(f"damaged: {digest}")
        for digest in report.unreadable:
            print_line(f"cannot be read now: {digest}")
    if report.missing or report.unreadable:
        sys.exit(_INCOMPLETE)


@click.command(epilog=example("ocistore rebuild"))
@click.option("--force", is_flag=True, help="Rebuild a good catalog too; it keeps its own names.")
@json_option
@pass_location
def rebuild(location: Location, *, force: bool, as_json: bool) -> None:
    """Rebuild the catalog when catalog.db is lost or damaged.

    Reads every blob. Manifests come from the blobs; tags come from catalog.snapshot or from the index.json of an export
    in place, whichever is newer. What neither names is put into the repository lost-and-found. The old catalog is kept
    beside the new one. No garbage is collected until you confirm that everything is there: gc --confirm.

    First end every process that has the store open. The new catalog needs disk space; on a full disk the reserved space
    is used. The exit code is 2 where something is missing, which is printed.
    """
    with progress_bar("rebuild") as progress:
        report = ocistore.rebuild(location.root, force=force, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        found = f"{report.found_manifests} manifests, {report.found_blobs} blobs, in lost-and-found"
        print_fields(
            {
                "blobs": str(report.blobs),
                "manifests": str(report.manifests),
                "repositories": str(report.repositories),
                "tags": f"{report.tags}, from {report.names_from or 'nowhere'}",
                "found": found if report.found_manifests + report.found_blobs else None,
                "old catalog": report.damaged,
            }
        )
        for words, names in (
            ("missing", report.missing),
            ("absent as before", report.absent),
            ("unreadable", report.unreadable),
            ("lost tag", report.lost_tags),
            ("moved to quarantine/", report.quarantined),
        ):
            for name in names:
                print_line(f"{words}: {name}")
        print_line("Check that everything is there, then run: ocistore gc --confirm")
    if report.missing or report.unreadable or report.lost_tags:
        sys.exit(_INCOMPLETE)


COMMANDS: Final = (backup, rebuild)
