"""Which files a repository probably has already: those that look like one of a version which was pushed before.

A file that is new is hashed and copied in one pass; one that is there is hashed, and that is all. To know beforehand
which of the two it is would mean to hash it. So it is guessed, from its size and a few of its bytes; a wrong guess
costs time, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from ocistore import OCIStoreError
from ocistore.artifacts.titles import TITLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore import Digest, Repository

_EVENTS: Final = 32
"""Changes of tags that are looked at, the newest first."""
_VERSIONS: Final = 4
"""Manifests that are read, of which each has 4 MiB at most."""
_SAMPLED: Final = 1024 * 1024
"""Bytes. Smaller files of the same size are taken for the same: to hash one in vain takes 0.6 ms at most."""
_CANDIDATES: Final = 16
"""Blobs of one size that a file is compared with. Where there are more, it is taken for one of them."""
_SAMPLE: Final = 4096
"""Bytes at the beginning, in the middle and at the end. Another version of a model has files of the same sizes, and
other weights all over them."""


class EarlierFiles:
    """The files of the versions that were pushed to a repository last. Safe for any number of threads."""

    def __init__(self, repository: Repository, *, tag: str | None) -> None:
        """Read the manifests of the newest versions, and first the one that ``tag`` points at."""
        self._repository = repository
        self._by_size: dict[int, dict[Digest, None]] = {}
        self._samples: dict[Digest, bytes | None] = {}
        for reference in self._versions(tag):
            self._add(reference)

    def has_probably(self, descriptor: int, size: int) -> bool:
        """Whether an open file of that size looks like one of them."""
        candidates = self._by_size.get(size, {})
        if size < _SAMPLED or len(candidates) > _CANDIDATES:
            return bool(candidates)
        if not candidates:
            return False
        looked = hashlib.sha256()
        for offset in _offsets(size):
            looked.update(os.pread(descriptor, _SAMPLE, offset))
        return any(self._sample(digest, size) == looked.digest() for digest in candidates)

    def _versions(self, tag: str | None) -> list[str]:
        """Return the digests of manifests, the likeliest first."""
        found: dict[str, None] = {}
        try:
            for event in self._repository.history(limit=_EVENTS):
                if event.new is not None and len(found) < _VERSIONS:
                    found[event.new] = None
            if tag is not None:
                found[self._repository.resolve(tag).digest] = None
        except OCIStoreError:  # it is empty, or the tag is new; what is damaged is for others to find
            pass
        return list(found)

    def _add(self, reference: str) -> None:
        try:
            layers = self._repository.get_manifest(reference).layers
        except OCIStoreError:
            return
        for layer in layers:
            if TITLE in layer.annotations:
                self._by_size.setdefault(layer.size, {})[layer.digest] = None

    def _sample(self, digest: Digest, size: int) -> bytes | None:
        """Return what the sampled bytes of a blob hash to; None where they cannot be read."""
        if digest not in self._samples:
            self._samples[digest] = self._sampled(digest, size)
        return self._samples[digest]

    def _sampled(self, digest: Digest, size: int) -> bytes | None:
        state = hashlib.sha256()
        try:
            with self._repository.open_blob(digest) as blob:
                for offset in _offsets(size):
                    blob.seek(offset)
                    state.update(blob.read(_SAMPLE))
        except OCIStoreError:
            return None
        return state.digest()


def _offsets(size: int) -> Iterator[int]:
    yield from (0, size // 2, size - _SAMPLE)
