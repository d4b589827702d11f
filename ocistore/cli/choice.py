"""What several commands are told and say in the same words: platforms, what refers to the rest, tags that move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import click

from ocistore.cli.printing import print_line
from ocistore.layouts.exporting import ExportReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocistore.layouts.copying import CopyReport
    from ocistore.layouts.importing import ImportReport

F = TypeVar("F", bound="Callable[..., Any]")

_PLATFORM: Final = "OS/ARCH[/VARIANT]"

platform_option = click.option("--platform", metavar=_PLATFORM, help="Which image of an index.")
platforms_option = click.option(
    "--platform",
    "platforms",
    metavar=_PLATFORM,
    multiple=True,
    help="Only images of that platform; may be given again. An index that loses some becomes another index.",
)


def referrers_option(*, default: bool) -> Callable[[F], F]:
    """Whether what refers to the rest comes along."""
    return click.option(
        "--referrers/--no-referrers",
        default=default,
        show_default=True,
        help="Also what refers to the rest, tagged or not: signatures, SBOMs, attestations.",
    )


def print_changes(report: ImportReport | ExportReport | CopyReport) -> None:
    """Tags that are moved, and what the choice of platforms changed, on standard error."""
    if not isinstance(report, ExportReport):
        for name in report.moved:
            print_line(f"moved; it pointed at something else: {name}", err=True)
    for name in report.other_platforms:
        print_line(f"left out, because it is not of these platforms: {name}", err=True)
    for old, new in report.replaced.items():
        print_line(f"only some platforms of {old}: it is {new} there", err=True)
