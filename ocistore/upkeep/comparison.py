"""Scrub, of the catalog: does it say of each manifest what its bytes say, and do its rows agree with each other?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ocistore.catalog import holds, integrity, verification
from ocistore.commit import milliseconds
from ocistore.errors import CorruptError, DigestMismatchError, ManifestInvalidError
from ocistore.oci.manifest import check_manifest
from ocistore.upkeep.findings import LISTED

if TYPE_CHECKING:
    from ocistore.catalog.verification import Candidate
    from ocistore.oci.digest import Digest
    from ocistore.store import Store
    from ocistore.upkeep.findings import ScrubReport

INCONSISTENT: Final = "scrub found rows that contradict each other or the manifests"


class Comparison:
    """Of one scrub."""

    def __init__(self, store: Store, report: ScrubReport, *, repair: bool) -> None:
        self._catalog = store.catalog
        self._pool = store.pool
        self._report = report
        self._repair = repair

    def compare_manifest(self, candidate: Candidate, digest: Digest) -> None:
        """Does the catalog say of a manifest what its bytes say? Nothing is asked about other blobs."""
        with self._catalog.snapshot() as connection:
            rows = verification.described(connection, candidate.id)
        if rows is None:
            return
        try:
            content = self._pool.read(digest, candidate.size)
            manifest = check_manifest(content, media_type=rows.media_type, digest=digest, maximum=len(content))
        except (FileNotFoundError, CorruptError, DigestMismatchError):
            return  # collected since it was hashed
        except ManifestInvalidError as error:
            self._wrong_rows(f"{digest} is noted as a manifest of {rows.media_type}: {error}")
            return
        edges = [
            (edge.role, str(edge.descriptor.digest), edge.descriptor.size, edge.descriptor.media_type)
            for edge in manifest.edges()
        ]
        noted = json.loads(rows.annotations) if rows.annotations else {}
        for what, says, is_noted in (
            ("what it refers to", edges, rows.edges),
            ("its artifact type", manifest.artifact_type, rows.artifact_type),
            ("its annotations", dict(manifest.annotations), noted),
        ):
            if says != is_noted and self._is_still_there(candidate):
                self._wrong_rows(f"{digest}: {what} is noted wrongly")

    def _is_still_there(self, candidate: Candidate) -> bool:
        with self._catalog.read() as connection:
            return verification.described(connection, candidate.id) is not None

    def compare_rows(self) -> None:
        """Do the rows agree with each other?"""
        with self._catalog.snapshot() as connection:
            found = [*integrity.problems(connection), *verification.inconsistencies(connection)]
        for problem in found:
            self._wrong_rows(problem)

    def _wrong_rows(self, problem: str) -> None:
        if not self._report.rows and self._repair:
            # What refers to what is not known any more, so nothing may be taken for garbage.
            with self._catalog.write() as connection:
                if INCONSISTENT not in holds.in_force(connection, now=milliseconds()):
                    holds.place(connection, INCONSISTENT, now=milliseconds())
        if len(self._report.rows) < LISTED:
            self._report.rows.append(problem)
