"""scrub: checking the integrity of the store, and repairing damage."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import click

from ocistore import Level
from ocistore.cli.completion import complete_repository
from ocistore.cli.durations import duration_option
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
    from datetime import timedelta

    from ocistore import Damage, ScrubReport

_SUBSET: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)
_RATE: Final = re.compile(r"([0-9]{1,12})([kMG]?)", re.ASCII)
_FACTORS: Final = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}


def _subset(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    found = _SUBSET.fullmatch(value)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{value!r} is not n/t, such as 1/7", context, parameter)
    return int(found[1]), int(found[2])


def _rate(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    found = _RATE.fullmatch(value)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is not a number of bytes per second, such as 50M", context, parameter)
    return int(found[1]) * _FACTORS[found[2]]


@click.command(
    epilog=example(
        "ocistore scrub",
        "ocistore scrub --max-duration 1h --rate 50M",
        "ocistore scrub --heal-from /mnt/backup/store --heal-from april.tar.zst",
    )
)
@click.option(
    "--level",
    type=click.Choice(get_args(Level)),
    default="default",
    show_default=True,
    help="quick: check sizes only. deep: also compare the catalog with the manifests.",
)
@click.option("--check", is_flag=True, help="Report only; change nothing.")
@click.option("--repo", shell_complete=complete_repository, help="Check only the blobs of this repository.")
@click.option("--subset", default="1/1", metavar="N/T", callback=_subset, help="Check only the N-th of T parts.")
@duration_option("--max-duration", help="Stop after this long; the next scrub continues.")
@click.option("--rate", metavar="BYTES", callback=_rate, help="Read at most this many bytes per second, such as 50M.")
@click.option(
    "--heal-from",
    type=GivenPath(exists=True, path_type=Path),
    multiple=True,
    help="Repair from this layout, store or archive; may be given again.",
)
@click.option("--adopt", metavar="REPO", help="Add good files without a row in the catalog to this repository.")
@json_option
@pass_location
def scrub(
    location: Location,
    *,
    level: Level,
    check: bool,
    repo: str | None,
    subset: tuple[int, int],
    max_duration: timedelta | None,
    rate: int | None,
    heal_from: tuple[Path, ...],
    adopt: str | None,
    as_json: bool,
) -> None:
    """Check the integrity of the store, and repair damage.

    Hashes every blob, starting with those that were verified longest ago. Moves damaged files to quarantine/, and
    deletes none of them. A damaged blob is repaired from --heal-from, from a good copy in quarantine/, or by pushing
    the same content again. A file that cannot be read now is reported and left where it is. Files without a row in the
    catalog are removed once they are an hour old. Other commands may run meanwhile.

    With --level deep, what the catalog says of manifests is corrected where it is wrong. Rows that contradict each
    other are reported and stop garbage collection; rebuild --force repairs them.

    The exit code is 0 where nothing is damaged, 1 where all damage was repaired, 2 where some is left, 3 where none is
    known to be left but something could not be read. The tags concerned are printed.
    """
    with location.reading() if check else location.changing() as store, progress_bar("scrub") as progress:
        report = store.scrub(
            level=level,
            repair=not check,
            repository=repo,
            subset=subset,
            maximum_duration=max_duration,
            rate=rate,
            heal_from=heal_from,
            adopt=adopt,
            progress=progress,
        )
    if as_json:
        print_json({**report.to_json(), "exitCode": report.exit_code})
    else:
        _print(report)
    sys.exit(report.exit_code)


def _print(report: ScrubReport) -> None:
    for damage in report.damages:
        place = "" if damage.quarantined is None else f"; moved to quarantine/{damage.quarantined}"
        print_line(f"{'repaired' if damage.repaired else 'damaged'}: {damage.digest}: {damage.problem}{place}")
        _print_concerned(damage)
    for unread in report.unread:
        print_line(f"unreadable: {unread.digest}: {unread.problem}")
        _print_concerned(unread)
    for problem in report.rows:
        print_line(f"catalog: {problem}")
    for problem in report.corrected:
        print_line(f"repaired: catalog: {problem}")
    for problem in report.unusable:
        print_line(f"not usable for repair: {problem}", err=True)
    print_fields(
        {
            "checked": f"{report.blobs} blobs, {readable_size(report.bytes)} read",
            "damaged": str(report.damaged),
            "repaired": str(report.repaired) if report.damaged else None,
            "unreadable": f"{report.unreadable} files, left where they are" if report.unreadable else None,
            "without a row": f"{report.orphans} files" if report.orphans else None,
            "removed": f"{report.trashed} files without a row" if report.trashed else None,
            "adopted": str(report.adopted) if report.adopted else None,
            "left": None if report.complete else "something: the time was over; run it again",
        }
    )


def _print_concerned(damage: Damage) -> None:
    for concerned in damage.tags or damage.repositories:
        print_line(f"  concerns {concerned}")


COMMANDS: Final = (scrub,)
