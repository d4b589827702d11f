"""import: reading layouts and archives into the store."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ocistore import Store, check_import
from ocistore.cli.choice import mode_option, platforms_option, print_changes, referrers_option
from ocistore.cli.completion import complete_repository
from ocistore.cli.location import Location, pass_location
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import (
    example,
    json_option,
    print_json,
    print_line,
    progress_bar,
    readable_size,
    standard_input,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore import ImportSource, TransferMode


@click.command(
    "import",
    epilog=example(
        "ocistore import ./layout",
        "ocistore import image.tar library/alpine:3",
        "ocistore import ./layout --ref 'library/alpine:3.*=mirror/alpine' --platform linux/arm64",
        "podman save library/alpine | ocistore import -",
    ),
)
@click.argument("source", type=GivenPath(path_type=Path, allow_dash=True))
@click.argument("repo", metavar="[REPO[:TAG]]", required=False, shell_complete=complete_repository)
@click.option(
    "--ref",
    "references",
    metavar="SELECTOR",
    multiple=True,
    help="Import only this: REPO[:TAG|PATTERN][@DIGEST], as named in SOURCE. Append =REPO[:TAG] to rename it.",
)
@platforms_option
@referrers_option
@click.option("--complete", is_flag=True, help="Take what SOURCE lacks from the store, if it is there.")
@mode_option("hard links; the files become the store's own, and must never be written to.", only="For a directory. ")
@click.option("--dry-run", is_flag=True, help="Read and check everything; print what would be imported.")
@json_option
@pass_location
def import_(
    location: Location,
    source: Path,
    repo: str | None,
    *,
    references: tuple[str, ...],
    platforms: tuple[str, ...],
    referrers: bool | None,
    complete: bool,
    mode: TransferMode,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import an OCI layout or a Docker archive, all of it or nothing.

    SOURCE is the directory of a layout, an archive of one, or a Docker archive, uncompressed or compressed with gzip,
    xz, bzip2 or zstd; - is standard input. Everything is imported into REPO; without REPO, into the repositories that
    the names in SOURCE give. With REPO:TAG, the one thing that is imported gets that name.

    Creates the store if there is none; a dry run creates none, and reports as for an empty one.
    """
    given: ImportSource = standard_input() if str(source) == "-" else source
    # Checked before a store is created: a typing error should leave none.
    checked = check_import(
        given, repo, references=references or None, platforms=platforms, referrers=referrers is not False
    )
    with checked as found, _opened(location, dry_run=dry_run) as store, progress_bar("import") as progress:
        report = store.import_(
            found,
            repo,
            references=references or None,
            platforms=platforms,
            referrers=referrers is not False,
            complete=complete,
            mode=mode,
            dry_run=dry_run,
            progress=progress if found is source else None,  # the length of a pipe is not known
        )
    if not (report.tags or report.untagged):
        print_line(f"nothing was imported: {report.source} lists nothing that can be", err=True)
    if as_json:
        print_json(report.to_json())
        return
    for name in report.tags:
        print_line(name)
    for name in report.untagged:
        print_line(f"{name} (no tag)")
    for entry in (*report.skipped, *report.unusable):
        print_line(f"left out: {entry}", err=True)
    for digest, kind in report.absent.items():
        print_line(f"absent, and so not imported: {digest} ({kind})", err=True)
    print_changes(report)
    new = f", of which {readable_size(report.new_bytes)} {'would be' if dry_run else 'are'} new"
    print_line(_summary(report.manifests, report.blobs, report.bytes) + new, err=True)


@contextlib.contextmanager
def _opened(location: Location, *, dry_run: bool) -> Iterator[Store]:
    """Open the store; for a dry run where there is none, an empty one that is removed afterwards."""
    root = location.root
    with contextlib.ExitStack() as stack:
        if not dry_run:
            yield stack.enter_context(location.creating())
        elif not os.path.lexists(root) or (root.is_dir() and not os.listdir(root)):
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="ocistore-"))
            yield stack.enter_context(Store.open(Path(scratch) / "store"))
        else:
            yield stack.enter_context(location.changing())


def _summary(manifests: int, blobs: int, size: int) -> str:
    return f"manifests: {manifests}, blobs: {blobs}, {readable_size(size)}"


COMMANDS: Final = (import_,)
