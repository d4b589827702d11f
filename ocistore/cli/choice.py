"""Options and messages that several commands share: platforms, referrers, modes of transfer, moved tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import click

from ocistore import ExportReport
from ocistore.cli.printing import print_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocistore import CopyReport, ImportReport

F = TypeVar("F", bound="Callable[..., Any]")

_PLATFORM: Final = "OS/ARCH[/VARIANT]"

platform_option = click.option("--platform", metavar=_PLATFORM, help="Choose this image of an index.")
platforms_option = click.option(
    "--platform",
    "platforms",
    metavar=_PLATFORM,
    multiple=True,
    help="Only images for this platform; may be given again. An index that loses some gets another digest.",
)


referrers_option = click.option(
    "--referrers/--no-referrers",
    default=None,
    help="Referrers (signatures, SBOMs) are copied too, except into Docker archives; pass --no-referrers to leave them "
    "out.",
)


def mode_option(link: str, *, only: str = "") -> Callable[[F], F]:
    """Offer ``--mode``, how bytes are transferred; ``link`` says what links mean here, ``only`` where it applies."""
    auto = "auto: share bytes by reflink where the filesystem can, else copy."
    modes = click.Choice(["auto", "copy", "link"])
    return click.option("--mode", type=modes, default="auto", show_default=True, help=f"{only}{auto} link: {link}")


def print_absent(report: ExportReport | CopyReport, said: str) -> None:
    """Print what is referred to and absent, with its kind, on standard error."""
    for digest in report.absent:
        kind = report.absent_kinds.get(digest)
        print_line(f"{said}: {digest}{f' ({kind})' if kind else ''}", err=True)


def print_changes(report: ImportReport | ExportReport | CopyReport) -> None:
    """Print which tags moved, and what the selection of platforms changed, on standard error."""
    if not isinstance(report, ExportReport):
        for name in report.moved:
            print_line(f"moved; it pointed at something else: {name}", err=True)
    for name in report.other_platforms:
        print_line(f"left out, because it is not of these platforms: {name}", err=True)
    if report.referrers_left:
        print_line(f"left out: {report.referrers_left} signatures, SBOMs or other referrers", err=True)
    for old, new in report.replaced.items():
        print_line(f"only some platforms of {old}: it is {new} there", err=True)
