"""ls-files and cat: reading files of images, and stored bytes."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from ocistore import ManifestNotFoundError, Reference
from ocistore.archives.names import name_from_disk
from ocistore.cli.choice import platform_option
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json_lines, print_line, standard_output
from ocistore.images import list_files, open_file
from ocistore.oci.reference import split_path

if TYPE_CHECKING:
    from typing import BinaryIO

    from ocistore import Store
    from ocistore.images import ImageFile

_BLOCK: Final = 1024 * 1024
"""Bytes read, hashed and written at a time."""

_LETTERS: Final = {
    "directory": "d",
    "symlink": "l",
    "hardlink": "h",
    "character device": "c",
    "block device": "b",
    "fifo": "p",
}
"""As ``tar tv`` shows them."""


@click.command(
    "ls-files",
    epilog=example(
        "ocistore ls-files library/alpine:3 /etc",
        "ocistore ls-files library/alpine:3 --platform linux/arm64 --json",
        "ocistore ls-files library/alpine:3 --layer 1",
    ),
)
@click.argument("ref", shell_complete=complete_reference)
@click.argument("path", required=False, default="")
@click.option("--layer", metavar="N|DIGEST", help="Only this layer, as it is: its digest or number (the lowest is 1).")
@platform_option
@json_option
@pass_location
def ls_files(
    location: Location, ref: str, path: str, *, layer: str | None, platform: str | None, as_json: bool
) -> None:
    """List the files of an image or artifact, at PATH and below.

    The layers of an image are stacked; a file that a higher layer hides is not listed. Nothing is extracted; every byte
    that is read is verified.

    \b
    --json prints an array of objects with these keys:
      path, kind, size (bytes), mode (octal), mtime, uid, gid
      target   of a link
      layer    the descriptor of the layer it is in
    """  # noqa: D301  (click takes a real \b, not its spelling)
    with location.reading() as store:
        files = list_files(store, ref, name_from_disk(path), platform=platform, layer=layer)
        if as_json:
            print_json_lines(file.to_json() for file in files)
            return
        for file in files:
            print_line(_as_text(file))


def _as_text(file: ImageFile) -> str:
    """Format a file as ``tar tv`` does, with times in UTC."""
    try:
        time = datetime.fromtimestamp(file.mtime, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        time = str(file.mtime)
    mode = _LETTERS.get(file.kind, "-") + stat.filemode(file.mode)[1:]
    name = f"{file.path}/" if file.kind == "directory" else file.path
    if file.target:
        name += f" -> {file.target}" if file.kind == "symlink" else f" link to {file.target}"
    return f"{mode} {f'{file.uid}/{file.gid}':>11} {file.size:>10} {time} {name}"


@click.command(
    epilog=example(
        "ocistore cat library/alpine:3",
        "ocistore cat library/alpine:3:/etc/os-release --platform linux/arm64",
        "ocistore cat library/alpine@sha256:9824c27679d3... > layer.tar.gz",
    )
)
@click.argument("ref", metavar="REF[:PATH]", shell_complete=complete_reference)
@platform_option
@pass_location
def cat(location: Location, ref: str, *, platform: str | None) -> None:
    """Print the exact bytes of a manifest, a blob, or a file in an image.

    REPO:TAG prints the manifest, REPO@DIGEST the manifest or the blob. With a PATH, as in REPO:TAG:PATH or
    REPO@DIGEST:PATH, prints a file of the image or artifact; links are followed inside the image. The bytes are
    verified while they are printed; if they are damaged, the exit code says so at the end.
    """
    named, path = split_path(ref)
    if path is None and platform is not None:
        raise click.UsageError("--platform is for a file in an image: give REPO:TAG:PATH")
    with location.reading() as store:
        if path is None:
            _print_stored(store, Reference.parse(named))
        else:
            with open_file(store, named, name_from_disk(path), platform=platform) as file:
                _print_bytes(file)


def _print_stored(store: Store, reference: Reference) -> None:
    repository = store.repository(reference.repository)
    try:
        content = repository.get_manifest(reference.target).content
    except ManifestNotFoundError:
        if reference.digest is None:
            raise
        with repository.open_blob(reference.digest, verify=True) as blob:
            _print_bytes(blob)
    else:
        click.echo(content, nl=False)


def _print_bytes(file: BinaryIO) -> None:
    output = standard_output()
    while chunk := file.read(_BLOCK):
        output.write(chunk)
    output.flush()


COMMANDS: Final = (ls_files, cat)
