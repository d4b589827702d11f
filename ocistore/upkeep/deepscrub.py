"""Scrubbing the catalog: checking that it says of each manifest what its bytes say, and that its rows agree.

What only describes a manifest (its types, annotations and platform) is put right where it is wrong. What decides what
is kept (what it refers to, its subject) is reported, and holds collections off: a rebuild makes it anew.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ocistore.catalog import check, holds
from ocistore.catalog.check import Said
from ocistore.catalog.contract import in_snapshot
from ocistore.catalog.manifests import as_json
from ocistore.commit import platform_in
from ocistore.errors import CorruptError, DigestMismatchError, ManifestInvalidError, StorageError
from ocistore.oci.config import readable_config
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import check_manifest
from ocistore.refusals import pass_on_theirs
from ocistore.upkeep.scrubreport import LISTED

if TYPE_CHECKING:
    from ocistore.catalog.scrub import LiveBlob
    from ocistore.core import Core
    from ocistore.oci.manifest import Manifest
    from ocistore.upkeep.scrubreport import ScrubReport

INCONSISTENT: Final = (
    "scrub found rows that contradict each other or the manifests, which ocistore rebuild --force makes anew"
)


class Comparison:
    """Compares the catalog with the bytes of manifests, for one scrub."""

    def __init__(self, core: Core, report: ScrubReport, *, repair: bool) -> None:
        self._catalog = core.catalog
        self._pool = core.pool
        self._report = report
        self._repair = repair

    def compare_manifest(self, candidate: LiveBlob, digest: Digest) -> None:
        """Compare what the catalog says of a manifest with its bytes. Nothing is asked about other blobs."""
        with self._catalog.read() as connection:
            if check.described(connection, candidate.id) is None:
                return
        try:
            content = self._pool.read(digest, candidate.size)
            manifest = check_manifest(content, digest=digest, maximum=len(content))
            platform = self._platform(manifest)
        except (FileNotFoundError, CorruptError, DigestMismatchError, StorageError) as error:
            pass_on_theirs(error)
            return  # collected since it was hashed; or it cannot be read now, which says nothing about the rows
        except ManifestInvalidError as error:
            if self._is_still_there(candidate):
                self._wrong_rows(f"{digest} is noted as a manifest: {error}")
            return
        edges = [
            (edge.role, str(edge.descriptor.digest), edge.descriptor.size, edge.descriptor.media_type)
            for edge in manifest.edges()
        ]
        subject = None if manifest.subject is None else str(manifest.subject.digest)
        rows = in_snapshot(self._catalog, lambda connection: check.described(connection, candidate.id))
        if rows is None:
            return
        for what, says, is_noted in (
            ("what it refers to", edges, rows.edges),
            ("its subject", subject, rows.subject),
        ):
            if says != is_noted:
                self._wrong_rows(f"{digest}: {what} is noted wrongly")
        said = Said(
            manifest.media_type,
            manifest.artifact_type,
            None if manifest.config is None else manifest.config.media_type,
            as_json(manifest.annotations),
            rows.said.platform if platform is None else as_json(platform),
        )
        wrong = [name for name in Said._fields if not _same(getattr(said, name), getattr(rows.said, name))]
        if wrong:
            self._correct(candidate, digest, said, wrong)

    def _platform(self, manifest: Manifest) -> dict[str, object] | None:
        """Return the config's platform, as noted when the manifest was put; None where it is not here, or damaged."""
        config = readable_config(manifest)
        if config is None:
            return {}
        try:
            content = self._pool.read(config.digest, config.size)
        except (FileNotFoundError, CorruptError) as error:
            pass_on_theirs(error)
            return None
        return platform_in(content) if Digest.of(content, config.digest.algorithm) == config.digest else None

    def _correct(self, candidate: LiveBlob, digest: Digest, said: Said, wrong: list[str]) -> None:
        words = f"{digest}: {', '.join(name.replace('_', ' ') for name in wrong)} noted wrongly"
        if not self._repair:
            self._wrong_rows(words)
            return
        with self._catalog.write() as connection:
            if check.described(connection, candidate.id) is None:
                return
            check.correct(connection, candidate.id, said)
        if len(self._report.corrected) < LISTED:
            self._report.corrected.append(words)

    def _is_still_there(self, candidate: LiveBlob) -> bool:
        with self._catalog.read() as connection:
            return check.described(connection, candidate.id) is not None

    def compare_rows(self) -> None:
        """Compare rows with each other."""
        for problem in in_snapshot(
            self._catalog, lambda connection: [*check.problems(connection), *check.inconsistencies(connection)]
        ):
            self._wrong_rows(problem)

    def _wrong_rows(self, problem: str) -> None:
        if not self._report.rows and self._repair:
            # What refers to what is not known any more, so nothing may be taken for garbage.
            with self._catalog.write() as connection:
                if INCONSISTENT not in holds.in_force(connection, now=self._catalog.now()):
                    holds.place(connection, INCONSISTENT, now=self._catalog.now())
        if len(self._report.rows) < LISTED:
            self._report.rows.append(problem)


def _same(says: str | None, noted: str | None) -> bool:
    if says == noted:
        return True
    try:  # two texts of one JSON object
        return (
            says is not None
            and noted is not None
            and says[:1] == noted[:1] == "{"
            and (json.loads(says) == json.loads(noted))
        )
    except ValueError:
        return False
