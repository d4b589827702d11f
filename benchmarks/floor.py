"""The floor: the same files, the same rows and the same durability, with os, hashlib and sqlite3 and nothing else.

It works on the directory of a store, so what it writes can be opened as one; a test holds that its rows are those that
the store writes. It leaves out what makes a library: checking, deduplication, a queue of writers, healing, errors.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from benchmarks.images import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Self

    from benchmarks.images import Image

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BLOCK: Final = 1024 * 1024
_ACTOR: Final = "floor"

_BLOB: Final = "INSERT INTO blobs (id, digest, size, state) VALUES (?, ?, ?, 'live')"
_BLOB_MEMBER: Final = "INSERT INTO repository_blobs (repository_id, blob_id, unreferenced_since) VALUES (?, ?, ?)"
_MANIFEST: Final = (
    "INSERT INTO manifests (blob_id, media_type, artifact_type, config_media_type, platform) VALUES (?, ?, ?, ?, ?)"
)
_EDGE: Final = "INSERT INTO edges (parent_id, position, role, child_id, size, media_type) VALUES (?, ?, ?, ?, ?, ?)"
_MANIFEST_MEMBER: Final = (
    "INSERT INTO repository_manifests (repository_id, manifest_id, pushed_at, unreferenced_since) VALUES (?, ?, ?, ?)"
)
_OWN_EDGE: Final = "INSERT INTO repository_edges (repository_id, child_id, parent_id, role) VALUES (?, ?, ?, ?)"
_TAG: Final = "INSERT INTO tags (repository_id, name, manifest_id, updated) VALUES (?, ?, ?, ?)"
_EVENT: Final = "INSERT INTO tag_events (repository, tag, new_digest, at, actor) VALUES (?, ?, ?, ?, ?)"
_RESOLVE: Final = (
    "SELECT b.digest, b.size, m.media_type, m.artifact_type FROM repositories r"
    " JOIN tags t ON t.repository_id = r.id JOIN manifests m ON m.blob_id = t.manifest_id"
    " JOIN blobs b ON b.id = m.blob_id WHERE r.name = ? AND t.name = ?"
)


class Floor:
    """The directory of a store, which must exist. A context manager."""

    def __init__(self, root: Path) -> None:
        """Open the database and the directories."""
        (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        self._uploads = os.open(root / "uploads", _DIRECTORY)
        self._blobs = os.open(root / "blobs" / "sha256", _DIRECTORY)
        self._connection = sqlite3.connect(root / "catalog.db", isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        os.close(self._blobs)
        os.close(self._uploads)

    def push(self, repository: str, tag: str, image: Image) -> None:
        """Each file written, hashed and synced, then all renamed, then the directory synced, then one commit."""
        written = []
        for blob in (image.config, *image.layers, image.manifest):
            name, descriptor = self._written(blob.content)
            written.append((name, descriptor, hashlib.sha256(blob.content).hexdigest(), len(blob.content)))
        for _, descriptor, _, _ in written:
            os.fsync(descriptor)
            os.close(descriptor)
        for name, _, encoded, _ in written:
            os.rename(name, encoded, src_dir_fd=self._uploads, dst_dir_fd=self._blobs)
        os.fsync(self._blobs)
        digests = [(f"sha256:{encoded}", size) for _, _, encoded, size in written]
        self._commit(repository, [(tag, digests[-1], digests[:-1])])

    def import_layout(self, source: Path, repository: str) -> None:
        """Each file read, hashed and written, then one syncfs, then all renamed, then one fsync and one commit."""
        blobs = os.open(source / "blobs" / "sha256", _DIRECTORY)
        images = []
        staged: dict[str, str] = {}
        for entry in json.loads((source / "index.json").read_bytes())["manifests"]:
            content, name = self._copied(blobs, entry["digest"])
            staged[entry["digest"]] = name
            manifest = json.loads(content)
            children = [manifest["config"], *manifest["layers"]]
            for child in children:
                if child["digest"] not in staged:
                    _, staged[child["digest"]] = self._copied(blobs, child["digest"])
            tag = entry["annotations"]["org.opencontainers.image.ref.name"]
            pairs = [(child["digest"], child["size"]) for child in children]
            images.append((tag, (entry["digest"], entry["size"]), pairs))
        os.close(blobs)
        if ctypes.CDLL(None, use_errno=True).syncfs(self._uploads) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
        for digest, name in staged.items():
            os.rename(name, digest[7:], src_dir_fd=self._uploads, dst_dir_fd=self._blobs)
        os.fsync(self._blobs)
        self._commit(repository, images)

    def get_manifest(self, repository: str, tag: str) -> bytes:
        """One query and one file."""
        digest, size, _, _ = self._connection.execute(_RESOLVE, (repository, tag)).fetchone()
        descriptor = os.open(digest[7:], os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._blobs)
        content = os.read(descriptor, size)
        os.close(descriptor)
        return content

    def _written(self, content: bytes) -> tuple[str, int]:
        name = secrets.token_hex(16)
        descriptor = os.open(name, _NEW_FILE, 0o444, dir_fd=self._uploads)
        os.write(descriptor, content)
        return name, descriptor

    def _copied(self, blobs: int, digest: str) -> tuple[bytes, str]:
        source = os.open(digest[7:], os.O_RDONLY | os.O_CLOEXEC, dir_fd=blobs)
        content = os.read(source, _BLOCK)
        os.close(source)
        if hashlib.sha256(content).hexdigest() != digest[7:]:
            raise ValueError(digest)
        name, descriptor = self._written(content)
        os.close(descriptor)
        return content, name

    def _commit(self, repository: str, images: Iterable[tuple[str, tuple[str, int], list[tuple[str, int]]]]) -> None:
        """Images of which each has a tag, a manifest, and a config followed by layers, none of them in the store."""
        now = time.time_ns() // 1_000_000
        execute, executemany = self._connection.execute, self._connection.executemany
        execute("BEGIN IMMEDIATE")
        found = execute("SELECT id FROM repositories WHERE name = ?", (repository,)).fetchone()
        if found is None:
            found = execute(
                "INSERT INTO repositories (name, created) VALUES (?, ?) RETURNING id", (repository, now)
            ).fetchone()
        here = found[0]
        last: int = execute("SELECT coalesce(max(id), 0) FROM blobs").fetchone()[0]
        ids: dict[str, int] = {}
        for tag, (digest, size), children in images:
            new = [pair for pair in dict(children).items() if pair[0] not in ids]
            for child, _ in new:
                ids[child] = last = last + 1
            manifest = last = last + 1
            executemany(_BLOB, [(ids[child], child, bytes_) for child, bytes_ in new])
            execute(_BLOB, (manifest, digest, size))
            executemany(_BLOB_MEMBER, [(here, ids[child], now) for child, _ in new])
            execute(_MANIFEST, (manifest, MANIFEST_TYPE, CONFIG_TYPE, CONFIG_TYPE, PLATFORM))
            executemany(
                _EDGE,
                [
                    (
                        manifest,
                        place,
                        "layer" if place else "config",
                        ids[child],
                        bytes_,
                        LAYER_TYPE if place else CONFIG_TYPE,
                    )
                    for place, (child, bytes_) in enumerate(children)
                ],
            )
            execute(_MANIFEST_MEMBER, (here, manifest, now, now))
            executemany(
                _OWN_EDGE,
                [
                    (here, ids[child], manifest, "layer" if place else "config")
                    for place, (child, _) in enumerate(children)
                ],
            )
            execute(_TAG, (here, tag, manifest, now))
            execute(_EVENT, (repository, tag, digest, now, _ACTOR))
        execute("COMMIT")


def hash_file(path: Path) -> str:
    """The digest of a file, read in blocks of 1 MiB into one buffer."""
    state = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            state.update(block[:count])
    return state.hexdigest()


def hash_chunks(chunks: Iterable[bytes]) -> str:
    """The digest of chunks."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()
