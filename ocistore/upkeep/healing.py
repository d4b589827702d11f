"""Where scrub finds good bytes for damaged blobs: layouts, archives of layouts, and other stores."""

from __future__ import annotations

import contextlib
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ocistore.blobs.oserrors import Translating
from ocistore.errors import LayoutInvalidError
from ocistore.layouts.directory import BLOBS, LayoutDirectory, NotPlainError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ocistore.oci.digest import Digest


class Healer:
    """Several sources, asked one after another. Nothing they give is believed before it was hashed. A context manager.

    A store is a source like a layout: both have ``blobs/<alg>/<hex>``.
    """

    def __init__(self, sources: list[str | os.PathLike[str]]) -> None:
        """Open them.

        Raises:
            LayoutInvalidError: one of them is neither a directory with blobs nor an archive.
        """
        self._stack = contextlib.ExitStack()
        self._directories: list[LayoutDirectory] = []
        self._archives: list[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]] = []
        try:
            for source in sources:
                self._open(Path(os.path.abspath(source)))
        except BaseException:
            self._stack.close()
            raise

    def _open(self, path: Path) -> None:
        if path.is_dir():
            if not (path / BLOBS).is_dir():
                raise LayoutInvalidError(path, problems=["it has no blobs"])
            with Translating(str(path)):
                self._directories.append(self._stack.enter_context(LayoutDirectory(path)))
            return
        try:
            archive = self._stack.enter_context(tarfile.open(path))  # noqa: SIM115 - it is entered
            members = {member.name.removeprefix("./"): member for member in archive if member.isreg()}
        except Exception as error:  # each decoder has errors of its own for what is damaged, and headers raise any
            raise LayoutInvalidError(path, problems=[f"it is neither a directory nor an archive: {error}"]) from error
        self._archives.append((archive, members))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __bool__(self) -> bool:
        """Whether there is any source."""
        return bool(self._directories or self._archives)

    def candidates(self, digest: Digest) -> Iterator[BinaryIO]:
        """What each source has under that digest, open; to be read before the next one is asked for."""
        for directory in self._directories:
            try:
                descriptor = directory.open_blob(digest)
            except (OSError, NotPlainError):
                continue
            with open(descriptor, "rb") as file:
                yield file
        for archive, members in self._archives:
            member = members.get(f"{BLOBS}/{digest.algorithm}/{digest.encoded}")
            extracted = None if member is None else archive.extractfile(member)
            if extracted is not None:
                with extracted:
                    yield extracted  # type: ignore[misc]  # a file object, if not in name
