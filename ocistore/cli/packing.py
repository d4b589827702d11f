"""What push and attach make of directories: the options that both have."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocistore import Compression
    from ocistore.artifacts import Dereference, LayerForm


class Packing(TypedDict):
    """The options, as :func:`ocistore.artifacts.push_files` takes them."""

    layer: LayerForm
    compression: Compression
    dereference: Dereference
    contents: bool


def packing_options(command: Callable[..., object]) -> Callable[..., object]:
    """Give a command the options, which it gets as one argument, ``packing``."""

    @click.option(
        "--tar", is_flag=True, help="Pack each directory as one archive, of any number of files, and not file by file."
    )
    @click.option(
        "--compression", type=click.Choice(["gzip", "zstd", "none"]), help="Of these archives.  [default: gzip]"
    )
    @click.option(
        "--dereference", is_flag=True, help="Follow the symbolic links in directories, wherever they lead to."
    )
    @click.option(
        "--dereference-inside", is_flag=True, help="Follow those that lead to places inside, and refuse the others."
    )
    @click.option("--contents", is_flag=True, help="Leave the name of a directory out of the titles of its files.")
    @functools.wraps(command)
    def given(
        *arguments: object,
        tar: bool,
        compression: Compression | None,
        dereference: bool,
        dereference_inside: bool,
        contents: bool,
        **keywords: object,
    ) -> object:
        if compression is not None and not tar:
            raise click.UsageError("--compression is for archives: add --tar")
        if contents and tar:
            raise click.UsageError("--contents is for files, and not for archives: leave out --tar")
        if dereference and dereference_inside:
            raise click.UsageError("give --dereference or --dereference-inside, not both")
        packing = Packing(
            layer="tar" if tar else "file",
            compression=compression or "gzip",
            dereference="inside" if dereference_inside else dereference,
            contents=contents,
        )
        return command(*arguments, packing=packing, **keywords)

    return given
