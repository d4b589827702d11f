"""A catalog with very many rows, made by SQL: as large as is wanted, in a moment, and without a file in the pool."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def crowd(database: Path, manifests: int, *, repositories: int = 1, referrers: bool = True, others: int = 50) -> None:
    """Fill the catalog of a closed store.

    A repository has an index over each ten of its images, a tag for each of all these, and a referrer of every tenth
    image.

    Args:
        database: the file.
        manifests: images, spread evenly over the repositories ``crowd/0`` and so on.
        repositories: how many.
        referrers: whether there are any.
        others: further repositories of one image each.
    """
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for statement in _statements(manifests, repositories, referrers=referrers, others=others):
            connection.execute(statement)
        connection.execute("COMMIT")
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        assert broken == [], broken[:5]


def digest(number: int) -> str:
    """Of the blob with that id."""
    return f"sha256:{number:064x}"


def image_id(number: int) -> int:
    """The id of an image, which has a config, a base layer that all share, and two layers of its own."""
    return 2 + number * 5


def _statements(manifests: int, repositories: int, *, referrers: bool, others: int) -> list[str]:
    # Ids: 1 the base layer; then five for each image: its manifest, config, two layers, and a referrer or nothing;
    # behind all of them the indexes.
    total = manifests + others
    images = f"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {total}) SELECT i FROM n)"
    behind = f"{repositories} + 1 + i - {manifests}"
    repository = f"(CASE WHEN i < {manifests} THEN 1 + i % {repositories} ELSE {behind} END)"
    image = "(2 + i * 5)"
    groups = max(1, manifests // 10)
    index = f"(2 + {total} * 5 + i % {groups})"
    group_repository = f"(1 + i % {repositories})"
    indexes = f"(SELECT i FROM {images} WHERE i < {groups})"
    attached = f"(SELECT i FROM {images} WHERE i % 10 = 0)" if referrers else f"(SELECT i FROM {images} WHERE 0)"
    own_group = group_repository.replace("i %", f"(i % {groups}) %")
    made = "application/vnd.oci.image.manifest.v1+json"
    listed = "application/vnd.oci.image.index.v1+json"
    blob_members = "INSERT INTO repository_blobs (repository_id, blob_id, unreferenced_since)"
    manifest_members = "INSERT INTO repository_manifests (repository_id, manifest_id, pushed_at, unreferenced_since)"
    edges = "INSERT INTO edges (parent_id, position, role, child_id, size, media_type)"
    tags = "INSERT INTO tags (repository_id, name, manifest_id, updated)"
    own_edges = "INSERT INTO repository_edges (repository_id, child_id, parent_id, role)"
    blob = """INSERT INTO blobs (id, digest, size, state)
              SELECT {0}, printf('sha256:%064x', {0}), 100, 'live'"""
    member = f"{blob_members} SELECT {{}}, {{}}, NULL"
    edge = f"{edges} SELECT {{}}, {{}}, '{{}}', {{}}, 100, 'application/octet-stream'"
    return [
        f"""INSERT INTO repositories (id, name, created) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
            WHERE i < {repositories + others}) SELECT i, 'crowd/' || (i - 1), 0 FROM n""",
        blob.format("1"),
        *(f"{blob.format(f'({image} + {part})')} FROM {images}" for part in range(4)),
        f"{blob.format(f'({image} + 4)')} FROM {attached}",
        f"{blob.format(index)} FROM {indexes}",
        f"{blob_members} SELECT DISTINCT {repository}, 1, NULL FROM {images}",
        *(f"{member.format(repository, f'{image} + {part}')} FROM {images}" for part in (1, 2, 3)),
        f"INSERT INTO manifests (blob_id, media_type) SELECT {image}, '{made}' FROM {images}",
        f"""INSERT INTO manifests (blob_id, media_type, artifact_type, subject_id)
            SELECT {image} + 4, '{made}', 'application/note', {image} FROM {attached}""",
        f"INSERT INTO manifests (blob_id, media_type) SELECT {index}, '{listed}' FROM {indexes}",
        f"{manifest_members} SELECT {repository}, {image}, 0, NULL FROM {images}",
        f"{manifest_members} SELECT {repository}, {image} + 4, 0, NULL FROM {attached}",
        f"{manifest_members} SELECT {group_repository}, {index}, 0, NULL FROM {indexes}",
        f"{edge.format(image, 0, 'config', f'{image} + 1')} FROM {images}",
        f"{edge.format(image, 1, 'layer', '1')} FROM {images}",
        f"{edge.format(image, 2, 'layer', f'{image} + 2')} FROM {images}",
        f"{edge.format(image, 3, 'layer', f'{image} + 3')} FROM {images}",
        f"{edge.format(f'{image} + 4', 0, 'subject', image)} FROM {attached}",
        f"""{edges} SELECT 2 + {total} * 5 + i % {groups}, i / {groups}, 'manifest', {image}, 100, '{made}'
            FROM {images} WHERE i < {manifests} AND {repository} = {own_group}""",
        f"""{own_edges} SELECT m.repository_id, e.child_id, e.parent_id, e.role
           FROM repository_manifests m JOIN edges e ON e.parent_id = m.manifest_id WHERE true""",
        f"{tags} SELECT {repository}, 'v' || i, {image}, 0 FROM {images}",
        f"{tags} SELECT {group_repository}, 'all' || i, {index}, 0 FROM {indexes}",
        f"""INSERT INTO tag_events (repository, tag, new_digest, at, actor)
            SELECT 'crowd/' || ({repository} - 1), 'v' || i, printf('sha256:%064x', {image}), 0, '' FROM {images}""",
    ]
