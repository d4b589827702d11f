"""copy: from one store on this machine to another."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ocistore import OCIStoreError, ReadOnlyStoreError, StorageError, Store, StoreFullError
from ocistore.cli.choice import mode_option, platforms_option, print_absent, print_changes, referrers_option
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import example, json_option, print_json, print_line, progress_bar, readable_size

if TYPE_CHECKING:
    from ocistore import CopyReport, TransferMode

_STORE: Final = GivenPath(file_okay=False, path_type=Path)


@click.command(
    epilog=example(
        "ocistore copy ~/build ~/release library/app:2.1",
        "ocistore copy ~/build ~/release 'library/app:2.*=mirror/app' --platform linux/arm64",
        "ocistore copy ~/store /mnt/disk/store --dry-run",
    )
)
@click.argument("source", metavar="SRC", type=_STORE)
@click.argument("destination", metavar="DST", type=_STORE)
@click.argument("references", metavar="[REF]...", nargs=-1)
@platforms_option
@referrers_option
@mode_option("hard links; the stores share files.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print what would be copied.")
@json_option
def copy(
    source: Path,
    destination: Path,
    references: tuple[str, ...],
    *,
    platforms: tuple[str, ...],
    referrers: bool | None,
    mode: TransferMode,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy references from one store to another, in one commit.

    SRC and DST are the directories of two stores; DST is created if there is none. Content that DST lacks is copied and
    hashed. A REF is what export takes; append =REPO or =REPO:TAG to rename it. Without a REF, every tag in
    SRC is copied. Tags that exist in DST are moved, and the moved ones are printed.
    """
    with _opened(source) as store, progress_bar("copy") as progress:
        try:
            report = store.copy_to(
                destination,
                references or None,
                platforms=platforms,
                referrers=referrers is not False,
                mode=mode,
                dry_run=dry_run,
                progress=progress,
            )
        except OCIStoreError:
            raise
        except ValueError as error:  # the stores are one, or lie in each other
            raise click.UsageError(str(error)) from error
    _print(report, as_json=as_json)


def _opened(source: Path) -> Store:
    """Open the source, for writing where possible, for a lease that keeps what is copied. Upgrade no schema."""
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(Store.open(source, create=False, read_only=True))
        with contextlib.suppress(ReadOnlyStoreError, StorageError, StoreFullError):
            return Store.open(source, create=False)
        stack.pop_all()
    return reading


def _print(report: CopyReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_json())
        return
    for name in report.names:
        print_line(name)
    print_absent(report, "not in the source, and so not copied")
    print_changes(report)
    summary = f"manifests: {report.manifests}, blobs: {report.blobs}, {readable_size(report.bytes)}"
    present, copied = readable_size(report.present_bytes), readable_size(report.copied_bytes)
    verb = "to be copied" if report.dry_run else "copied"
    print_line(f"{summary}; there already: {present}; {verb}: {copied}", err=True)


COMMANDS: Final = (copy,)
