"""Taking in an OCI layout, whatever its form: everything verified, everything that is wrong named, one commit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ocistore.arguments import check_choice
from ocistore.blobs.sharing import TransferMode
from ocistore.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    LayoutInvalidError,
    SizeMismatchError,
    StoreBusyError,
)
from ocistore.layouts.directory import NotPlainError
from ocistore.layouts.imports.detection import checked, opened
from ocistore.layouts.imports.embedded import EmbeddedSource
from ocistore.layouts.imports.manifests import MAXIMUM_MANIFESTS_SIZE
from ocistore.layouts.imports.planning import survey
from ocistore.layouts.imports.request import ImportRequest
from ocistore.layouts.imports.storebacked import StoreBackedSource, completes
from ocistore.layouts.transfer import TransferReport, changes, moved, present, stage_manifests, still_absent, take_back
from ocistore.progress import Tally
from ocistore.refusals import pass_on_theirs
from ocistore.threads import WORTH_A_THREAD, Ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from ocistore.blobs.pool import StagedBlob
    from ocistore.core import Core
    from ocistore.layouts.imports.detection import ImportSource
    from ocistore.layouts.imports.plan import ImportPlan
    from ocistore.layouts.imports.source import Source
    from ocistore.oci.digest import Digest
    from ocistore.progress import Progress


@dataclass(frozen=True)
class ImportReport(TransferReport):
    """What an import brought in, or with ``dry_run`` would bring in."""

    source: Path
    tags: tuple[str, ...]
    """The imported tags as REPO:TAG, in byte order."""
    untagged: tuple[str, ...]
    """What got no tag, as REPO@DIGEST, with its name in the layout where that cannot be a tag."""
    skipped: tuple[str, ...]
    """Entries that were left out because their media type is no manifest's that we know, as "DIGEST (MEDIA TYPE)"; and
    what else of an archive was, with the reason."""
    unusable: tuple[str, ...]
    """Entries that were left out because nothing can be read of them: their digests are of unknown algorithms, or their
    media types are none, or so it is with what they lead to; and those that are damaged, where others were asked for;
    as "DIGEST (NAME: WHY)"."""
    moved: tuple[str, ...]
    """The imported tags that pointed at something else in the store, just before."""
    new_bytes: int
    """Of the bytes, those that the store did not have."""
    absent: Mapping[str, str]
    """Digests of what indexes list and the source lacks, each with what it is, such as ``image for linux/arm64 in
    app:v1``. The indexes were imported as they are, unless platforms were chosen; a later import or push completes
    them."""
    completed: tuple[str, ...]
    """Digests of what the source lacks and the store had, in byte order."""


@contextlib.contextmanager
def check_import(
    source: ImportSource,
    repository: str | None,
    *,
    references: Iterable[str] | None,
    platforms: Iterable[str],
    referrers: bool,
) -> Iterator[ImportSource]:
    """Check the arguments of an import; see :func:`ocistore.check_import`."""
    ImportRequest.parse(repository, references=references, platforms=platforms, referrers=referrers)
    with checked(source) as found:
        yield found


def import_layout(
    core: Core,
    source: ImportSource,
    repository: str | None = None,
    *,
    references: Iterable[str] | None = None,
    platforms: Iterable[str] = (),
    referrers: bool = True,
    complete: bool = False,
    mode: TransferMode = "auto",
    dry_run: bool = False,
    progress: Progress | None = None,
    maximum_manifests_size: int = MAXIMUM_MANIFESTS_SIZE,
) -> ImportReport:
    """Take in a layout or an archive; see :meth:`ocistore.Store.import_`.

    ``maximum_manifests_size``: bytes that all manifests may have together.
    """
    check_choice(mode, "mode", get_args(TransferMode))
    wanted = ImportRequest.parse(repository, references=references, platforms=platforms, referrers=referrers)
    if not dry_run:
        core.require_writable()
    with opened(source, core, progress, mode=mode) as found:
        completed = StoreBackedSource(found, core) if complete else None
        embedded = EmbeddedSource(found if completed is None else completed)
        taking = _Taking(core, embedded, mode, progress, dry_run=dry_run)
        contents = survey(
            embedded,
            wanted,
            maximum_manifest_size=core.maximum_manifest_size,
            maximum_manifests_size=maximum_manifests_size,
        )
        taking.take_in(contents)
        if contents.problems:
            if not complete and completes(core, contents.missing):
                contents.problem("the store has what is missing: import with complete (--complete) to use it")
            raise LayoutInvalidError(Path(found.name), problems=tuple(contents.problems))
        return _report(contents, taking, completed.completed if completed else (), dry_run=dry_run)


def _report(contents: ImportPlan, taking: _Taking, completed: Iterable[Digest], *, dry_run: bool) -> ImportReport:
    sizes = contents.manifest_sizes()
    count = len(sizes)
    sizes |= contents.blob_sizes()
    return ImportReport(
        source=Path(taking.source.name),
        tags=tuple(sorted({f"{tag.repository}:{tag.name}" for tag in contents.tags})),
        untagged=tuple(contents.untagged),
        skipped=tuple(contents.skipped),
        unusable=tuple(contents.unusable),
        moved=taking.moved,
        replaced={str(before): str(after) for before, after in sorted(contents.replaced.items())},
        other_platforms=tuple(sorted(contents.other_platforms)),
        referrers_left=contents.referrers_left,
        manifests=count,
        blobs=len(sizes) - count,
        bytes=sum(sizes.values()),
        new_bytes=sum(size for digest, size in sizes.items() if digest not in taking.held),
        absent=taking.absent,
        completed=tuple(sorted(completed)),
        dry_run=dry_run,
    )


# --- taking it in -----------------------------------------------------------------------------------------------------


class _Taking:
    """Runs one import into one store."""

    def __init__(
        self, core: Core, source: Source, mode: TransferMode, progress: Progress | None, *, dry_run: bool
    ) -> None:
        self.source = source
        self.held: frozenset[Digest] = frozenset()
        """What the store had."""
        self.moved: tuple[str, ...] = ()
        """Tags that pointed at something else."""
        self.absent: dict[str, str] = {}
        """What indexes list, and neither the source nor their repository has."""
        self._core = core
        self._mode = mode
        self._progress = None if source.streamed else progress  # what came as a stream was reported as it came
        self._dry_run = dry_run

    def take_in(self, contents: ImportPlan) -> None:
        """Import what was planned; where something is found to be wrong, note that and import nothing.

        Raises:
            StoreBusyError: of what can be read but once, something was not written because the store had it, and a
                garbage collection removed it since.
        """
        sizes = contents.blob_sizes()
        every = contents.manifest_sizes()
        every.update(sizes)  # no third table of 100,000 manifests
        self.held = present(self._core, every)
        del every
        self.moved = moved(self._core, contents.tags)
        self.absent = still_absent(self._core, contents.absent)
        try:
            self._take_in(contents, sizes, self.held)
        except BlobNotFoundError as error:
            # A collection took something that was found in the store a moment ago: bring it along then.
            if self.source.streamed:
                raise StoreBusyError(
                    error.digest, waited=0.0, reason="garbage collection removed it; try again"
                ) from error
            self._take_in(contents, sizes, frozenset())

    def _take_in(self, contents: ImportPlan, sizes: Mapping[Digest, int], held: AbstractSet[Digest]) -> None:
        """Stage what the store lacks, verify what it has, and commit."""
        done, tally = 0, Tally(sum(sizes.values()), self._progress)
        staged: dict[Digest, StagedBlob] = {}

        def take(blob: tuple[Digest, int]) -> StagedBlob | None:
            # Where something is wrong nothing is imported, but whatever else is wrong is still looked for.
            only_look = blob[0] in held or self._dry_run or bool(contents.problems)
            return self._take(*blob, tally, only_look=only_look)

        def is_large(blob: tuple[Digest, int]) -> bool:
            return blob[1] >= WORTH_A_THREAD and not self.source.streamed

        try:
            with Ahead(take, sizes.items(), beside=is_large, counter=tally.counter, unused=self._discard) as ahead:
                for (digest, size), taken in ahead:
                    blob = self._noting(contents, digest, taken)
                    if blob is not None:
                        staged[digest] = blob
                    done += size
                    tally.reach(done)
            if changed := self._changed():
                contents.problem(changed)
            if contents.problems or self._dry_run:
                return
            stage_manifests(self._core, contents.manifests, staged)
            found = changes(
                contents.blobs, contents.manifests, contents.tags, staged, missing="children", said=contents.said
            )
            self._core.commit(found)
        except BlobNotFoundError:
            take_back(contents.manifests)
            raise
        finally:
            self._core.discard(staged.values())

    def _take(self, digest: Digest, size: int, tally: Tally, *, only_look: bool) -> StagedBlob | None:
        """Stage one blob; None where it is only looked at. Raises as the methods of the source do."""
        if not only_look:
            return self.source.blob(digest).stage(self._core.pool, digest, size, self._mode, tally)
        self.source.blob(digest).verify(digest, size, tally)
        return None

    def _changed(self) -> str:
        """Return what was changed in the source meanwhile, or why nobody can say; empty where nothing was."""
        try:
            return self.source.changed()
        except OSError as error:
            pass_on_theirs(error)
            return f"whether it was changed while it was read cannot be found out: {error.strerror}"

    def _discard(self, blob: StagedBlob | None) -> None:
        if blob is not None:
            self._core.discard([blob])

    def _noting(
        self, contents: ImportPlan, digest: Digest, taken: Callable[[], StagedBlob | None]
    ) -> StagedBlob | None:
        """Return what was staged; None where something is wrong with it, which is noted."""
        try:
            return taken()
        except (NotPlainError, DigestMismatchError, SizeMismatchError) as error:
            contents.problem(f"{digest}: {error}")
        except OSError as error:  # from the layout: those of the store are translated
            pass_on_theirs(error)
            if isinstance(error, FileNotFoundError):
                contents.lacks(digest, "it was there when this began")
            else:
                contents.problem(f"{digest}: {error.strerror}")
        return None
