"""The formats of exports, and which of them a destination asks for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypeAlias, get_args

from ocistore.archives.compression import Compression
from ocistore.arguments import absolute_path, check_choice
from ocistore.blobs.sharing import TransferMode
from ocistore.layouts.exports.sink import is_stream, is_terminal
from ocistore.oserrors import Translating

if TYPE_CHECKING:
    from ocistore.layouts.exports.sink import Target

ExportFormat: TypeAlias = Literal["dir", "oci-archive", "docker-archive"]
"""``dir`` is an OCI layout, ``oci-archive`` the same as a tar archive, ``docker-archive`` what docker load reads."""

_SUFFIXES: Final[tuple[tuple[str, Compression], ...]] = (
    (".tar", "none"),
    (".tar.gz", "gzip"),
    (".tgz", "gzip"),
    (".tar.zst", "zstd"),
)
_NOT_WRITTEN: Final = (".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.lz4", ".tar.zstd", ".tzst", ".gz", ".zst", ".zip")
"""How archives are called that we do not write. A directory of such a name is nothing that anybody asks for."""


@dataclass(frozen=True)
class ExportDestination:
    """Where an export is written, and in which form."""

    target: Target
    """An absolute path, or a file object."""
    format: ExportFormat
    compression: Compression

    @property
    def path(self) -> Path | None:
        """The path; None where it is a file object."""
        return self.target if isinstance(self.target, Path) else None

    @property
    def name(self) -> str:
        """What messages call it."""
        if isinstance(self.target, Path):
            return str(self.target)
        return "standard output" if self.target is getattr(sys.stdout, "buffer", None) else "the archive"


def destination_of(
    destination: str | os.PathLike[str] | BinaryIO,
    *,
    format: ExportFormat | None = None,
    compression: Compression | None = None,
    mode: TransferMode = "auto",
    referrers: bool = False,
    with_base: bool = False,
) -> ExportDestination:
    """Return the form, compression and place that an export is to write.

    Without a format, a directory that exists and a name without the suffix of an archive mean ``dir``; ``.tar``,
    ``.tar.gz``, ``.tgz`` and ``.tar.zst``, pipes, devices and file objects an ``oci-archive``. Without a compression,
    the suffix says that, too.

    Raises:
        TypeError: the destination is neither a path nor a file object.
        ValueError: these things do not go together; a file object is a terminal; or a name has the suffix of archives
            that are not written, and no format says that this does not matter.
    """
    check_choice(mode, "mode", get_args(TransferMode))
    if format is not None:
        check_choice(format, "format", get_args(ExportFormat))
    if compression is not None:
        check_choice(compression, "compression", get_args(Compression))
    target: Target
    if isinstance(destination, str | os.PathLike):
        target = Path(absolute_path(destination))
        suffix = _compression_by_name(target)
        with Translating(str(target)):
            is_directory = target.is_dir()
            archive = not is_directory and (suffix is not None or is_stream(target))
        if format is None and not archive and target.name.lower().endswith(_NOT_WRITTEN) and not is_directory:
            name = f"{target.name!r:.300}"
            raise ValueError(f"no archive is written as {name}: call it .tar, .tar.gz or .tar.zst, or give the format")
        terminal = archive and is_terminal(target)
    else:
        if not callable(getattr(destination, "write", None)):
            kind = type(destination).__name__
            raise TypeError(f"an archive is written to a path or a binary file that is open for writing, not to {kind}")
        target, suffix, archive = destination, None, True
        terminal = destination.isatty()
    if terminal:
        raise ValueError("an archive is nothing for a terminal: redirect it, or name a file")
    found = format or ("oci-archive" if archive else "dir")
    if found == "dir":
        _refuse("a directory", {"a file object": not isinstance(target, Path), "compression": compression is not None})
        return ExportDestination(target, found, "none")
    _refuse("an archive", {f"mode {mode}": mode != "auto"})
    if found == "docker-archive":
        # A Docker archive has images only, and images without some of their layers are none.
        _refuse("docker-archive", {"referrers": referrers, "a base": with_base})
    return ExportDestination(target, found, compression or suffix or "none")


def _compression_by_name(path: Path) -> Compression | None:
    """Return what the suffix says; None where it is not that of an archive."""
    name = path.name.lower()
    return next((compression for suffix, compression in _SUFFIXES if name.endswith(suffix)), None)


def _refuse(format: str, given: dict[str, bool]) -> None:
    for what, is_given in given.items():
        if is_given:
            raise ValueError(f"{format} and {what} do not go together")
