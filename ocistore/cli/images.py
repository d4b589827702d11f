"""unpack: the files of an image, written to a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ocistore.cli.choice import platform_option
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.paths import GivenPath
from ocistore.cli.printing import example, json_option, print_json, print_line, progress_bar
from ocistore.images import unpack as unpack_image


@click.command(
    epilog=example(
        "ocistore unpack library/alpine:3 rootfs",
        "ocistore unpack library/alpine:3 rootfs --platform linux/arm64 --json",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.argument("directory", metavar="DIR", type=GivenPath(file_okay=False, path_type=Path))
@platform_option
@json_option
@pass_location
def unpack(location: Location, ref: str, directory: Path, *, platform: str | None, as_json: bool) -> None:
    """Write the files of an image to a directory, without privileges.

    DIR must not exist, or be empty. The layers are applied in their order; every byte is verified, and nothing appears
    before all is there. Nothing outside of DIR is touched, wherever links in the image lead.

    Permissions and modification times are kept; the owner is you. Devices, setuid bits and what else is left out is
    listed on standard error. Prints the digest of the image.
    """
    with location.reading() as store, progress_bar("unpack") as progress:
        report = unpack_image(store, ref, directory, platform=platform, progress=progress)
    if as_json:
        print_json(report.to_json())
        return
    print_line(report.digest)
    for each in report.left_out:
        print_line(f"left out: {each.path} ({each.what}): {each.reason}", err=True)


COMMANDS: Final = (unpack,)
