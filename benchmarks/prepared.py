"""Big stores, made in a minute instead of an hour.

The rows are written straight into the catalog, in bulk, and are those of pushes that a collection has since looked at.
The pool has a name for every blob, because the size of a directory is part of what is measured; but only what is read
has its own bytes, and all other names are hard links to a few files. Such a store is good for nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Table, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from benchmarks.images import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, PLATFORM, Blob, Image, small_image
from ocistore import Store
from ocistore.catalog import tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY: Final = "library/app"

_LINKS: Final = 30_000
"""How many names share one file; ext4 allows 65,000."""

_BATCH: Final = 20_000
"""How many images are made at a time, to bound memory."""

_SEED: Final = 1
"""So that two runs look up the same tags."""


def tag_of(number: int) -> str:
    """The tag of an image, in byte order of the numbers."""
    return f"v{number:08d}"


def sample(count: int, wanted: int) -> list[int]:
    """The numbers of the images whose manifests can be read, in random order."""
    return random.Random(_SEED).sample(range(count), min(count, wanted))


@contextlib.contextmanager
def store_of_images(directory: Path, count: int) -> Iterator[Path]:
    """The root of a store of ``count`` small images, each with its own config and layer, which may be pushed to.

    Kept in ``directory`` for the next run, as it was before.
    """
    root = directory / f"images-{count}-{_schema()}"
    saved = root / "catalog.db.saved"
    if not saved.exists():
        with _building(root) as builder:
            for first in range(0, count, _BATCH):
                numbers = range(first, min(first + _BATCH, count))
                builder.add([(tag_of(number), small_image("image", number)) for number in numbers])
        _copy(root / "catalog.db", saved)
    try:
        yield root
    finally:
        _restore(root, saved)


def store_of_tags(directory: Path, count: int, *, readable: int) -> Path:
    """The root of a store of ``count`` tags, each on its own manifest; all share a config and a layer.

    The manifests of ``sample(count, readable)`` can be read. Not to be changed; kept in ``directory`` for the next run.
    """
    root = directory / f"tags-{count}-{readable}-{_schema()}"
    finished = root / "finished"
    if not finished.exists():
        base = small_image("shared", 0)
        wanted = set(sample(count, readable))
        with _building(root) as builder:
            for first in range(0, count, _BATCH):
                numbers = range(first, min(first + _BATCH, count))
                images = [(number, _variant(base, number)) for number in numbers]
                builder.add([(tag_of(number), image) for number, image in images])
                for number, image in images:
                    if number in wanted:
                        builder.write(image.manifest)
        finished.touch()
    return root


def _schema() -> str:
    """A mark of the tables as they are now, so that a store kept from before a change of them is not used."""
    statements = (str(CreateTable(table).compile(dialect=sqlite.dialect())) for table in tables.metadata.sorted_tables)
    return hashlib.sha256("".join(statements).encode()).hexdigest()[:8]


def _variant(image: Image, number: int) -> Image:
    """The same image with another manifest: its config's descriptor is annotated with a number."""
    content = image.manifest.content.replace(b'"config":{', b'"config":{"annotations":{"number":"%08d"},' % number, 1)
    return Image(image.config, image.layers, Blob.of(content))


@contextlib.contextmanager
def _building(root: Path) -> Iterator[_Builder]:
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    Store.open(root).close()
    builder = _Builder(root)
    try:
        yield builder
    finally:
        builder.close()


def _copy(source: Path, destination: Path) -> None:
    """All or nothing, because its being there says that the store is complete."""
    partial = destination.with_suffix(".partial")
    shutil.copyfile(source, partial)
    partial.rename(destination)


def _restore(root: Path, saved: Path) -> None:
    """Take away what was pushed since the store was made."""
    connection = sqlite3.connect(root / "catalog.db", isolation_level=None)
    connection.execute("ATTACH ? AS saved", (os.fspath(saved),))
    for (digest,) in connection.execute(
        "SELECT digest FROM main.blobs WHERE id > (SELECT max(id) FROM saved.blobs)"
    ).fetchall():
        (root / "blobs" / "sha256" / digest[7:]).unlink()
    connection.close()
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (root / name).unlink(missing_ok=True)
    shutil.copyfile(saved, root / "catalog.db")


class _Builder:
    """Writes rows and names. Nothing it does is durable, and nothing needs to be: an unfinished store is made again."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._directory = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY)
        self._connection = sqlite3.connect(root / "catalog.db", isolation_level=None)
        for pragma in ("synchronous = OFF", "cache_size = -1000000"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._now = time.time_ns() // 1_000_000
        self._ids: dict[str, int] = {}
        self._last = 0
        self._names = 0
        self._shared = ""
        self._insert(tables.repositories, [{"id": 1, "name": REPOSITORY, "created": self._now}])

    def close(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        os.close(self._directory)

    def add(self, images: list[tuple[str, Image]]) -> None:
        """Rows for each image and its tag, and names for its blobs."""
        rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in _FILLED}
        for tag, image in images:
            children = [self._blob(rows, blob) for blob in (image.config, *image.layers)]
            manifest, _ = self._blob(rows, image.manifest, manifest=True)
            rows[tables.manifests].append(
                {
                    "blob_id": manifest,
                    "media_type": MANIFEST_TYPE,
                    "artifact_type": CONFIG_TYPE,
                    "config_media_type": CONFIG_TYPE,
                    "platform": PLATFORM,
                }
            )
            for place, (child, size) in enumerate(children):
                role = "layer" if place else "config"
                rows[tables.repository_edges].append(
                    {"repository_id": 1, "child_id": child, "parent_id": manifest, "role": role}
                )
                rows[tables.edges].append(
                    {
                        "parent_id": manifest,
                        "position": place,
                        "role": role,
                        "child_id": child,
                        "size": size,
                        "media_type": LAYER_TYPE if place else CONFIG_TYPE,
                    }
                )
            rows[tables.tags].append({"repository_id": 1, "name": tag, "manifest_id": manifest, "updated": self._now})
            rows[tables.tag_events].append(
                {
                    "repository": REPOSITORY,
                    "tag": tag,
                    "new_digest": image.manifest.digest,
                    "at": self._now,
                    "actor": "benchmarks",
                }
            )
        self._connection.execute("BEGIN")
        for table, values in rows.items():
            self._insert(table, values)
        self._connection.execute("COMMIT")

    def write(self, blob: Blob) -> None:
        """Give a blob its own bytes."""
        path = self._blobs / blob.digest[7:]
        path.unlink()
        path.write_bytes(blob.content)

    def _blob(self, rows: dict[Table, list[dict[str, Any]]], blob: Blob, *, manifest: bool = False) -> tuple[int, int]:
        size = len(blob.content)
        known = self._ids.get(blob.digest)
        if known is not None:
            return known, size
        self._last += 1
        rows[tables.blobs].append({"id": self._last, "digest": blob.digest, "size": size, "state": "live"})
        if manifest:
            rows[tables.repository_manifests].append(
                {"repository_id": 1, "manifest_id": self._last, "pushed_at": self._now}
            )
        else:
            self._ids[blob.digest] = self._last
            rows[tables.repository_blobs].append({"repository_id": 1, "blob_id": self._last})
        self._name(blob)
        return self._last, size

    def _name(self, blob: Blob) -> None:
        encoded = blob.digest[7:]
        if self._names % _LINKS == 0:
            (self._blobs / encoded).write_bytes(blob.content)
            self._shared = encoded
        else:
            os.link(self._shared, encoded, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._names += 1

    def _insert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        statement = insert(table).values(rows[0]).compile(dialect=sqlite.dialect(paramstyle="named"))
        self._connection.executemany(str(statement), rows)


_FILLED: Final = (
    tables.blobs,
    tables.repository_blobs,
    tables.manifests,
    tables.edges,
    tables.repository_manifests,
    tables.repository_edges,
    tables.tags,
    tables.tag_events,
)
"""Parents before children."""
