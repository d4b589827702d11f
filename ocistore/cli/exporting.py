"""export: writing content of the store as layouts and archives."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from ocistore import OCIStoreError, Selector, StorageError
from ocistore.cli.choice import mode_option, platforms_option, print_absent, print_changes, referrers_option
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import (
    example,
    json_option,
    print_json,
    print_line,
    progress_bar,
    readable_size,
    standard_output,
)

if TYPE_CHECKING:
    from ocistore import Compression, ExportFormat, ExportReport, TransferMode

_STANDARD_OUTPUT: Final = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
"""The names of it that people use."""


@click.command(
    epilog=example(
        "ocistore export library/alpine:3 library/busybox ./layout",
        "ocistore export ./everything",
        "ocistore export 'library/alpine:3.*=mirror/alpine' --platform linux/arm64 alpine.tar.gz",
        "ocistore export library/alpine:3 --format docker-archive - | docker load",
        "ocistore export library/app --base last-month.tar --dry-run app.tar",
        "ocistore export --in-place",
    )
)
@click.argument("names", metavar="[REF...] DEST", nargs=-1, shell_complete=complete_reference)
@click.option("--in-place", is_flag=True, help="Make the store's own directory an OCI layout of all its tags.")
@click.option(
    "--format",
    type=click.Choice(["dir", "oci-archive", "docker-archive"]),
    help="What to write. By default DEST decides: .tar, .tar.gz, .tgz, .tar.zst, - and pipes mean oci-archive, all "
    "else means dir.",
)
@click.option(
    "--compression", type=click.Choice(["none", "gzip", "zstd"]), help="Of an archive; by default DEST decides."
)
@platforms_option
@referrers_option
@click.option(
    "--referrers-lists",
    is_flag=True,
    help="Also write an index of the referrers of each manifest, tagged sha256-HEX, for regctl and older clients.",
)
@click.option(
    "--base",
    type=GivenPath(exists=True),
    multiple=True,
    help="Leave out blobs that this layout, archive or store has; may be given again.",
)
@mode_option("hard links to the store.", only="For dir. ")
@click.option("--verify", is_flag=True, help="Compare all content with its digests before anything is written.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print what would be written.")
@json_option
@pass_location
def export(
    location: Location,
    names: tuple[str, ...],
    *,
    in_place: bool,
    format: ExportFormat | None,
    compression: Compression | None,
    platforms: tuple[str, ...],
    referrers: bool | None,
    referrers_lists: bool,
    base: tuple[str, ...],
    mode: TransferMode,
    verify: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write references as an OCI layout or an archive.

    A REF is REPO[:TAG][@DIGEST]. REPO alone means all of its tags; a tag may be a pattern, as in a shell. Without a
    REF, every tag in the store is exported. Append =REPO or =REPO:TAG to export under that name.

    DEST is created if needed. An existing layout is added to; an existing archive is replaced. With - the archive goes
    to standard output, and all messages go to standard error.
    """
    if in_place:
        others = (names, format, compression, platforms, referrers is not None, referrers_lists, base, verify, dry_run)
        if any(others) or mode != "auto":
            raise click.UsageError("--in-place exports everything, and takes no REF, DEST or other option")
        with location.changing() as store:
            report = store.export_in_place()
        _print(report, as_json=as_json, aside=False)
        return
    if not names:
        raise click.UsageError("Missing argument 'DEST': give one, or --in-place")
    *references, last = names
    if not references:
        _refuse_reference(last)
    piped = last in _STANDARD_OUTPUT
    destination: str | BinaryIO = standard_output() if piped else last
    try:
        with location.reading() as store, progress_bar("export") as progress:
            report = store.export(
                destination,
                references or None,
                mode=mode,
                referrers=referrers,
                referrers_lists=referrers_lists,
                format=format,
                compression=compression,
                platforms=platforms,
                base=base,
                verify=verify,
                dry_run=dry_run,
                progress=progress,
            )
    except StorageError as error:
        if piped and error.errno == errno.EPIPE:
            # The reader has closed the pipe, as head does: click ends quietly then.
            raise BrokenPipeError(errno.EPIPE, error.reason) from error
        raise
    except OCIStoreError:
        raise
    except ValueError as error:  # options that do not go together
        raise click.UsageError(str(error)) from error
    _print(report, as_json=as_json, aside=piped)


def _refuse_reference(destination: str) -> None:
    """Refuse to export a whole store to a file or directory that is named like an image: DEST was forgotten."""
    if os.path.lexists(destination):
        return
    try:
        selector = Selector.parse(destination)
    except OCIStoreError:
        return
    if (selector.tag, selector.digest, selector.new_repository) != (None, None, None):
        raise click.UsageError(f"{destination} is a reference: give a destination, or write ./{destination}")


def _print(report: ExportReport, *, as_json: bool, aside: bool) -> None:
    if as_json:
        print_json(report.to_json(), err=aside)
        return
    if not report.names:
        print_line("nothing was exported: no tag stands for anything that can be exported", err=True)
    for name in report.names:
        print_line(name, err=aside)
    print_absent(report, "not in the store, and so not exported")
    for other in report.left_out:
        print_line(f"left out, because docker-archive cannot hold it: {other}", err=True)
    print_changes(report)
    print_line(_summary(report), err=True)


def _summary(report: ExportReport) -> str:
    parts = [f"manifests: {report.manifests}, blobs: {report.blobs}, {readable_size(report.bytes)}"]
    if report.base_blobs:
        parts.append(f"left out: {report.base_blobs} blobs, {readable_size(report.base_bytes)}, that a base holds")
    if report.dry_run:
        parts.append(f"there already: {readable_size(report.present_bytes)}")
        parts.append(f"to be written: {readable_size(report.written_bytes)}")
    return "; ".join(parts)


COMMANDS: Final = (export,)
