"""Where scrub finds good bytes for damaged blobs: quarantine/, layouts, archives that import reads, and stores."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocistore.arguments import absolute_path
from ocistore.catalog import blobs
from ocistore.errors import (
    ArchiveInvalidError,
    DigestMismatchError,
    LayoutInvalidError,
    SizeMismatchError,
    StorageError,
    StoreBusyError,
)
from ocistore.layouts.directory import BLOBS, NotPlainError
from ocistore.layouts.imports.detection import checked, opened
from ocistore.layouts.imports.directorysource import DirectorySource
from ocistore.oserrors import Translating
from ocistore.progress import Tally
from ocistore.refusals import Ignoring

if TYPE_CHECKING:
    import os
    from typing import Self

    from ocistore.blobs.pool import StagedBlob, UnpublishedFile
    from ocistore.core import Core
    from ocistore.layouts.imports.source import Source
    from ocistore.oci.digest import Digest


@dataclass
class _Origin:
    """One place to heal from."""

    path: Path
    source: Source | None = None
    """None for an archive from which nothing was needed yet."""
    unusable: bool = False


class Healer:
    """Several sources, asked one after another. Nothing they give is believed before it was hashed. A context manager.

    A store is a source like a layout: both have ``blobs/<alg>/<hex>``. An archive is read when something is needed, and
    once: of a compressed one, what the store's catalog names is then staged until the block ends.
    """

    def __init__(self, core: Core, sources: list[str | os.PathLike[str]]) -> None:
        """Look whether they can be sources.

        Raises:
            LayoutInvalidError: one of them is neither a directory with blobs nor a file.
            ArchiveInvalidError: one is a file, and no archive of images.
            StorageError: one cannot be read.
        """
        self.unusable: list[str] = []
        """What is wrong with archives that turned out to be damaged when they were needed."""
        self._core = core
        self._quarantined: defaultdict[str, list[UnpublishedFile]] | None = None
        """What was in ``quarantine/`` when something was needed first, by ALGORITHM-HEX."""
        self._good_copies: dict[Digest, str] = {}
        self._stack = contextlib.ExitStack()
        self._origins: list[_Origin] = []
        try:
            for source in sources:
                self._origins.append(self._looked_at(Path(absolute_path(source))))
        except BaseException:
            self._stack.close()
            raise

    def _looked_at(self, path: Path) -> _Origin:
        with Translating(str(path)):
            is_directory, is_file, has_blobs = path.is_dir(), path.is_file(), (path / BLOBS).is_dir()
        if is_directory:
            if not has_blobs:
                raise LayoutInvalidError(path, problems=("it has no blobs",))
            with Translating(str(path)):
                directory = DirectorySource(path)
            self._stack.callback(directory.close)
            return _Origin(path, directory)
        if not is_file:
            raise LayoutInvalidError(path, problems=("it is neither a directory nor a file",))
        with checked(path):
            return _Origin(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stage(self, digest: Digest, size: int) -> StagedBlob | None:
        """Stage good bytes from the first source that has them; None where none has.

        Raises:
            StoreFullError, StorageError: they could not be written.
        """
        own = self._from_quarantine(digest, size)
        if own is not None:
            return own
        for origin in self._origins:
            source = self._opened(origin)
            if source is None:
                continue
            with Ignoring(
                # It is not there, or damaged there too; or a collection took what was to be healed.
                OSError,
                NotPlainError,
                DigestMismatchError,
                SizeMismatchError,
                StoreBusyError,
            ):
                return source.blob(digest).stage(self._core.pool, digest, size, "copy", Tally(0, None))
        return None

    def _from_quarantine(self, digest: Digest, size: int) -> StagedBlob | None:
        """Stage a good copy from ``quarantine/``, moved there by mistake or by hand; None where there is none."""
        if self._quarantined is None:
            self._quarantined = defaultdict(list)
            for file in self._core.pool.sweeper.quarantined():
                self._quarantined[file.name.partition(".")[0]].append(file)
        for file in self._quarantined.get(f"{digest.algorithm}-{digest.encoded}", ()):
            if file.size != size:
                continue
            with Ignoring(OSError, StorageError, DigestMismatchError, SizeMismatchError):
                with self._core.pool.sweeper.open_quarantined(file.name) as source:
                    staged = self._core.pool.stage(source, digest=digest, size=size)
                self._good_copies[digest] = file.name
                return staged
        return None

    def taken_back(self, digest: Digest) -> None:
        """Remove the good copy from ``quarantine/``, if what was staged came from there and is in the pool again."""
        name = self._good_copies.pop(digest, None)
        if name is not None:
            self._core.pool.sweeper.delete_quarantined(name)

    def _opened(self, origin: _Origin) -> Source | None:
        if origin.source is None and not origin.unusable:
            archive = opened(origin.path, self._core, None, held=self._is_unknown)
            try:
                origin.source = self._stack.enter_context(archive)
            except (ArchiveInvalidError, LayoutInvalidError) as error:
                origin.unusable = True
                self.unusable.append(str(error))
        return origin.source

    def _is_unknown(self, digest: Digest, size: int) -> bool:
        """Whether nothing of the store could be healed with it, so that it need not be kept."""
        with self._core.catalog.read() as connection:
            return blobs.live_sizes(connection, [digest]).get(digest) != size
