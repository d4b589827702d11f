"""What must hold of every store at every moment, checked past the code under test: with sqlite3, os, hashlib and json.

``check(store)`` returns what does not hold, in words; an empty list is a good store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import blake3
from state import catalog, on_disk, strays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore import Store

_ROOT = frozenset(
    {
        "blobs",
        "catalog.db",
        "catalog.db-shm",
        "catalog.db-wal",
        "catalog.snapshot",
        "index.json",
        "oci-layout",
        "pool",
        "quarantine",
        "reserved",
        "trash",
        "uploads",
        "write.lock",
    }
)
_BLOB = re.compile(r"sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128}|blake3/[0-9a-f]{64}")
_MANIFESTS = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
"""What an index lists under any other type is held as a blob."""
_HASHERS = {"sha256": hashlib.sha256, "sha512": hashlib.sha512, "blake3": blake3.blake3}

_HIDDEN = "(SELECT id FROM batches WHERE revealed IS NULL)"
# What a tag ``t`` points at, for those who see it.
_TARGET = f"""
    CASE WHEN t.batch IS NULL THEN t.manifest_id WHEN t.batch NOT IN {_HIDDEN} THEN t.next_id
         WHEN t.fresh IS NULL THEN t.manifest_id END"""
# Whether a membership is there for everybody.
_IS_SEEN = f"({{0}}.batch IS NULL OR ({{0}}.batch IN {_HIDDEN}) = ({{0}}.leaves IS NOT NULL))"
# Whether the membership ``h`` is there once ``m`` is: that may be the same batch's.
_IS_THERE_FOR_M = f"({_IS_SEEN.format('h')} OR h.batch IS m.batch AND h.leaves IS NULL)"

# Whether something holds the row ``m`` of a table, so that it need not be in the collector's queue.
_BLOB_IS_HELD = """
    EXISTS (SELECT 1 FROM repository_blobs h WHERE h.blob_id = m.id)
    OR EXISTS (SELECT 1 FROM repository_manifests h WHERE h.manifest_id = m.id)
    OR m.state = 'absent' AND EXISTS (SELECT 1 FROM edges e WHERE e.child_id = m.id)"""
_PART_IS_HELD = """
    EXISTS (SELECT 1 FROM lease_blobs l WHERE l.repository_id = m.repository_id AND l.blob_id = m.blob_id)
    OR EXISTS (SELECT 1 FROM edges e JOIN repository_manifests p ON p.manifest_id = e.parent_id
               WHERE p.repository_id = m.repository_id AND e.child_id = m.blob_id AND e.role IN ('config', 'layer'))"""

# Manifests by what they keep in their repository (children and referrers), and all that some of them keep in the end.
_KEPT = """
    WITH RECURSIVE pairs(repository_id, above, below) AS (
        SELECT p.repository_id, e.parent_id, e.child_id FROM repository_manifests p
        JOIN edges e ON e.parent_id = p.manifest_id AND e.role = 'manifest'
        UNION SELECT p.repository_id, s.subject_id, s.blob_id FROM repository_manifests p
        JOIN manifests s ON s.subject_id = p.manifest_id),
    kept(repository_id, manifest_id) AS (
        SELECT m.repository_id, m.manifest_id FROM repository_manifests m WHERE {}
        UNION SELECT r.repository_id, r.below FROM kept k
        JOIN pairs r ON r.repository_id = k.repository_id AND r.above = k.manifest_id)"""
_NAMED = """
    EXISTS (SELECT 1 FROM tags t
            WHERE t.repository_id = m.repository_id AND m.manifest_id IN (t.manifest_id, t.next_id))
    OR EXISTS (SELECT 1 FROM lease_blobs l WHERE l.repository_id = m.repository_id AND l.blob_id = m.manifest_id)"""

# What each query finds is wrong; the columns fill the words.
_QUERIES = {
    "the tag {}:{} points at {}, which its repository does not hold": """
        SELECT r.name, t.name, b.digest FROM tags t
        JOIN repositories r ON r.id = t.repository_id JOIN blobs b ON b.id IN (t.manifest_id, t.next_id)
        WHERE NOT EXISTS (SELECT 1 FROM repository_manifests m
                          WHERE m.repository_id = t.repository_id AND m.manifest_id = b.id)
          AND NOT EXISTS (SELECT 1 FROM batches WHERE id = t.batch AND revealed IS NULL AND expires = 0)""",
    "the tag {}:{} points at {}, which nobody sees in its repository": f"""
        SELECT r.name, t.name, b.digest FROM tags t
        JOIN repositories r ON r.id = t.repository_id JOIN blobs b ON b.id = {_TARGET}
        WHERE NOT EXISTS (SELECT 1 FROM repository_manifests m
                          WHERE m.repository_id = t.repository_id AND m.manifest_id = {_TARGET}
                            AND {_IS_SEEN.format("m")})""",
    "what is to become of the tag {}:{} is noted wrongly": """
        SELECT r.name, t.name FROM tags t JOIN repositories r ON r.id = t.repository_id
        WHERE t.batch IS NULL AND (t.fresh IS NOT NULL OR t.next_id IS NOT NULL OR t.next_entry IS NOT NULL)
           OR t.fresh IS NOT NULL AND t.next_id IS NOT t.manifest_id""",
    "a row of {} names the batch {}, which the repository does not have": """
        WITH named(what, repository_id, batch) AS (
            SELECT 'tags', repository_id, batch FROM tags
            UNION ALL SELECT 'repository_manifests', repository_id, batch FROM repository_manifests
            UNION ALL SELECT 'repository_blobs', repository_id, batch FROM repository_blobs)
        SELECT n.what, n.batch FROM named n WHERE n.batch IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM staged_repositories s JOIN batches b ON b.id = s.batch_id
            WHERE s.repository_id = n.repository_id AND b.id = n.batch)""",
    "a row of {} is going to leave, and has no batch": """
        SELECT 'repository_manifests' FROM repository_manifests WHERE batch IS NULL AND leaves IS NOT NULL
        UNION ALL SELECT 'repository_blobs' FROM repository_blobs WHERE batch IS NULL AND leaves IS NOT NULL
        UNION ALL SELECT 'tags' FROM tags WHERE batch IS NULL AND conditional IS NOT NULL""",
    "repository {} serves the blob {}, which is {}": """
        SELECT r.name, b.digest, b.state FROM repository_blobs m
        JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.blob_id WHERE b.state <> 'live'""",
    "repository {} serves the manifest {}, which is {}": """
        SELECT r.name, b.digest, b.state FROM repository_manifests m
        JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.manifest_id WHERE b.state <> 'live'""",
    "repository {} serves {}, whose {} {} it does not serve": f"""
        SELECT r.name, p.digest, e.role, c.digest FROM repository_manifests m
        JOIN repositories r ON r.id = m.repository_id
        JOIN edges e ON e.parent_id = m.manifest_id
        JOIN blobs p ON p.id = e.parent_id JOIN blobs c ON c.id = e.child_id
        WHERE r.name IS NOT NULL AND m.incomplete IS NULL
          AND NOT EXISTS (SELECT 1 FROM batches WHERE id = m.batch AND revealed IS NULL AND expires = 0) AND (
              (e.role = 'config' OR e.role = 'layer' AND NOT (e.media_type LIKE '%nondistributable%'
                                                              OR e.media_type LIKE '%foreign%'))
          AND NOT EXISTS (SELECT 1 FROM repository_blobs h
                          WHERE h.repository_id = m.repository_id AND h.blob_id = e.child_id AND {_IS_THERE_FOR_M})
           OR e.role = 'manifest' AND NOT EXISTS (SELECT 1 FROM repository_manifests h
                          WHERE h.repository_id = m.repository_id AND h.manifest_id = e.child_id
                            AND {_IS_THERE_FOR_M}))
          AND ({_IS_SEEN.format("m")} OR m.leaves IS NULL)""",
    "repository {} holds {} as incomplete, which refers to nothing that may be absent": """
        SELECT r.name, b.digest FROM repository_manifests m
        JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.manifest_id
        WHERE m.incomplete IS NOT NULL AND (m.incomplete <> 1 OR NOT EXISTS (
            SELECT 1 FROM edges e WHERE e.parent_id = m.manifest_id AND e.role <> 'subject'))""",
    "{} says that {} has {} bytes, it has {}": """
        SELECT p.digest, c.digest, e.size, c.size FROM edges e
        JOIN blobs p ON p.id = e.parent_id JOIN blobs c ON c.id = e.child_id
        WHERE c.state = 'live' AND e.role <> 'subject' AND e.size <> c.size
          AND EXISTS (SELECT 1 FROM repository_manifests m JOIN repository_blobs h USING (repository_id)
                      WHERE m.manifest_id = e.parent_id AND h.blob_id = e.child_id)""",
    "the subject of {} is one thing as a column and another as an edge": """
        SELECT b.digest FROM manifests m JOIN blobs b ON b.id = m.blob_id
        WHERE m.subject_id IS NOT
              (SELECT child_id FROM edges e WHERE e.parent_id = m.blob_id AND e.role = 'subject')""",
    "nothing holds the blob {}, and no collection will look at it": f"""
        SELECT m.digest FROM blobs m WHERE m.unreferenced_since IS NULL AND m.state <> 'condemned'
            AND NOT ({_BLOB_IS_HELD})""",
    "a condemned blob waits to be condemned: {}": """
        SELECT digest FROM blobs WHERE state = 'condemned' AND unreferenced_since IS NOT NULL""",
    "nothing in {} refers to the blob {}, and no collection will look at it": f"""
        SELECT r.name, b.digest FROM repository_blobs m
        JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.blob_id
        WHERE r.name IS NOT NULL AND m.unreferenced_since IS NULL AND NOT ({_PART_IS_HELD})""",
    "nothing in {} keeps the manifest {}, and no collection will look at it": f"""
        {_KEPT.format(f"m.unreferenced_since IS NOT NULL OR {_NAMED}")}
        SELECT r.name, b.digest FROM repository_manifests m
        JOIN repositories r ON r.id = m.repository_id JOIN blobs b ON b.id = m.manifest_id
        WHERE r.name IS NOT NULL AND (m.repository_id, m.manifest_id) NOT IN kept""",
    "a repository has no name and is not being emptied, or has one and is: {}": """
        SELECT r.id FROM repositories r
        LEFT JOIN deleted_repositories d ON d.repository_id = r.id
        LEFT JOIN staged_repositories s ON s.repository_id = r.id
        WHERE CASE WHEN r.name IS NULL THEN d.repository_id IS NULL AND s.repository_id IS NULL
              ELSE d.repository_id IS NOT NULL OR s.name <> r.name END""",
    "repository {}, child {}, parent {}, role {}: its own edges and those of its manifests differ": """
        WITH wanted AS (SELECT m.repository_id, e.child_id, e.parent_id, e.role
                        FROM repository_manifests m JOIN edges e ON e.parent_id = m.manifest_id
                        WHERE m.repository_id NOT IN (SELECT id FROM repositories WHERE name IS NULL)),
             found AS (SELECT * FROM repository_edges
                       WHERE repository_id NOT IN (SELECT id FROM repositories WHERE name IS NULL))
        SELECT * FROM (SELECT * FROM wanted EXCEPT SELECT * FROM found)
        UNION ALL SELECT * FROM (SELECT * FROM found EXCEPT SELECT * FROM wanted)""",
    "the lease {} names {}, which {} does not serve": """
        SELECT l.lease_id, b.digest, r.name FROM lease_blobs l
        JOIN repositories r ON r.id = l.repository_id JOIN blobs b ON b.id = l.blob_id
        WHERE NOT EXISTS (SELECT 1 FROM repository_blobs m
                          WHERE m.repository_id = l.repository_id AND m.blob_id = l.blob_id)
          AND NOT EXISTS (SELECT 1 FROM repository_manifests m
                          WHERE m.repository_id = l.repository_id AND m.manifest_id = l.blob_id)""",
    "a row of {} breaks a foreign key to {}": 'SELECT "table", parent FROM pragma_foreign_key_check',
    "SQLite says: {}": "SELECT quick_check FROM pragma_quick_check WHERE quick_check <> 'ok'",
    "there are {} rows in the table store": "SELECT count(*) FROM store HAVING count(*) <> 1",
}


def check(store: Store | Path, *, hashes: bool = False, idle: bool = True, pruned: bool = False) -> list[str]:
    """What does not hold of the store.

    Args:
        store: open or closed, or its directory.
        hashes: also hash every file, and compare every manifest with the rows that were made of it.
        idle: nobody is writing, so that whatever was staged must have been cleared away.
        pruned: history was forgotten, so that what is left of it need not begin with that of a new tag.
    """
    root = store if isinstance(store, Path) else store.root
    staged = strays(root) if idle else []  # of a store in memory, before its files are laid out
    with on_disk(root):
        return list(_violations(root, hashes=hashes, idle=idle, pruned=pruned, staged=staged))


def unqueue(root: Path) -> None:
    """Take everything that is held out of the collector's queue, as a collection does first.

    Then ``check`` sees whether each change puts back what it lets go of.
    """
    below = "(m.repository_id, m.manifest_id) IN (SELECT repository_id, below FROM pairs)"
    statements = (
        f"UPDATE blobs AS m SET unreferenced_since = NULL WHERE {_BLOB_IS_HELD}",
        f"UPDATE repository_blobs AS m SET unreferenced_since = NULL WHERE {_PART_IS_HELD}",
        # What is held by a ring alone stays in the queue: one row of a ring always does.
        f"""{_KEPT.format(f"{_NAMED} OR NOT {below}")}
            UPDATE repository_manifests AS m SET unreferenced_since = NULL
            WHERE (m.repository_id, m.manifest_id) IN kept AND ({_NAMED} OR {below})""",
    )
    with contextlib.closing(sqlite3.connect(root / "catalog.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")


def _violations(root: Path, *, hashes: bool, idle: bool, pruned: bool, staged: list[str]) -> Iterator[str]:
    for name in sorted(set(os.listdir(root)) - _ROOT):
        if name.startswith("catalog.db.damaged-"):
            continue
        yield f"{name} has no business in the store's directory"
    with catalog(root) as connection:
        connection.execute("BEGIN")  # one state for all queries
        for words, query in _QUERIES.items():
            yield from (words.format(*row) for row in connection.execute(query))
        yield from _history(connection, pruned=pruned)
        yield from _rows_without_files(connection, root, hashes=hashes)
        if hashes:
            yield from _manifests_unlike_their_rows(connection, root)
        sessions = [name for (name,) in connection.execute("SELECT id FROM uploads")]
    yield from _files(root)
    if idle:
        yield from (f"uploads/{name} belongs to no open session" for name in staged)
        yield from (f"the session {name} has no file" for name in sessions if not (root / "uploads" / name).is_file())


def _history(connection: sqlite3.Connection, *, pruned: bool) -> Iterator[str]:
    """The events of each tag lead from one to the next, and the last one to what the tag points at now.

    Those of a deleted repository are whole when it is emptied.
    """
    pending = {name for (name,) in connection.execute("SELECT name FROM deleted_repositories")}
    now: dict[tuple[str, str], str | None] = {}
    for repository, tag, old, new in connection.execute(
        "SELECT repository, tag, old_digest, new_digest FROM tag_events"
        f" WHERE batch IS NULL OR batch NOT IN {_HIDDEN} ORDER BY id"
    ):
        known = (repository, tag) in now or not pruned
        if known and now.get((repository, tag)) != old and repository not in pending:
            yield f"the history of {repository}:{tag} goes from {now.get((repository, tag))} on from {old}"
        now[repository, tag] = new
    told = {key: digest for key, digest in now.items() if digest is not None}
    actual = {
        (repository, tag): digest
        for repository, tag, digest in connection.execute(
            f"""SELECT r.name, t.name, b.digest FROM tags t
                JOIN repositories r ON r.id = t.repository_id JOIN blobs b ON b.id = {_TARGET}"""
        )
    }
    for (repository, tag), digest in sorted(told.items() ^ actual.items(), key=repr):
        known = (repository, tag) in now or not pruned
        if known and repository not in pending and repository is not None:
            yield f"the history and the tag disagree: {repository}:{tag} {digest}"


def _rows_without_files(connection: sqlite3.Connection, root: Path, *, hashes: bool) -> Iterator[str]:
    for digest, size in connection.execute("SELECT digest, size FROM blobs WHERE state = 'live'"):
        path = _path(root, digest)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            yield f"{digest} is live and has no file"
            continue
        if status.st_size != size:
            yield f"{digest} has {status.st_size} bytes, not {size}"
        elif hashes and not _has_digest(path, digest):
            yield f"{digest} has other bytes"


def _manifests_unlike_their_rows(connection: sqlite3.Connection, root: Path) -> Iterator[str]:
    described = connection.execute(
        """SELECT b.id, b.digest, m.media_type, m.annotations, m.artifact_type, m.config_media_type, m.platform
           FROM manifests m JOIN blobs b ON b.id = m.blob_id WHERE b.state = 'live'"""
    )
    for key, digest, media_type, noted, artifact_type, config_type, platform in described.fetchall():
        path = _path(root, digest)
        if not path.is_file() or not _has_digest(path, digest):
            continue  # said already
        document = json.loads(path.read_bytes())
        wanted = [
            (role, entry["digest"], entry["size"], entry["mediaType"])
            for role, entries in (
                ("config", [document["config"]] if "config" in document else []),
                ("layer", document.get("layers") or []),
                ("manifest", document.get("manifests") or []),
                ("subject", [document["subject"]] if document.get("subject") else []),
            )
            for entry in entries
        ]
        wanted = [
            ("layer" if role == "manifest" and media_type not in _MANIFESTS else role, *rest)
            for role, *rest in wanted
            for media_type in rest[-1:]
        ]
        found = connection.execute(
            """SELECT e.role, b.digest, e.size, e.media_type FROM edges e JOIN blobs b ON b.id = e.child_id
               WHERE e.parent_id = ? ORDER BY e.position""",
            (key,),
        ).fetchall()
        if found != wanted:
            yield f"the edges of {digest} are {found}, the manifest says {wanted}"
        if (document.get("mediaType") or media_type) != media_type:
            yield f"{digest} is noted as {media_type}"
        if (json.loads(noted) if noted else {}) != (document.get("annotations") or {}):
            yield f"the annotations of {digest} are noted as {noted}"
        config = document.get("config", {})
        if (document.get("artifactType") or config.get("mediaType")) != artifact_type:
            yield f"the artifact type of {digest} is noted as {artifact_type}"
        if config.get("mediaType") != config_type:
            yield f"the type of the config of {digest} is noted as {config_type}"
        if _platform(root, config) not in (None, json.loads(platform) if platform else {}):
            yield f"the platform of {digest} is noted as {platform}"


def _platform(root: Path, config: dict[str, str]) -> dict[str, str] | None:
    """What an image's config says it runs on; None where nobody knows: it is no image's, gone, damaged or no JSON."""
    if "image" not in config.get("mediaType", ""):
        return {}
    path = _path(root, config["digest"])
    if not path.is_file() or not _has_digest(path, config["digest"]):
        return None
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return None
    keys = ("architecture", "os", "os.version", "os.features", "variant")
    found = {key: document[key] for key in keys if document.get(key)} if isinstance(document, dict) else {}
    return found if "architecture" in found and "os" in found else {}


def _files(root: Path) -> Iterator[str]:
    """Every file of the pool, whether it has a row or not: a push that was refused may leave one without."""
    for directory, directories, names in os.walk(root / "blobs"):
        for name in names:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root / "blobs")
            mode = os.lstat(path).st_mode
            if _BLOB.fullmatch(relative) is None or not stat.S_ISREG(mode):
                yield f"blobs/{relative} has no business in the pool"
            elif stat.S_IMODE(mode) != 0o444:
                yield f"blobs/{relative} has mode {stat.S_IMODE(mode):o}"
        yield from (f"blobs/{name} is a symbolic link" for name in directories if os.path.islink(f"{directory}/{name}"))


def _path(root: Path, digest: str) -> Path:
    algorithm, _, encoded = digest.partition(":")
    return root / "blobs" / algorithm / encoded


def _has_digest(path: Path, digest: str) -> bool:
    algorithm, _, encoded = digest.partition(":")
    return _HASHERS[algorithm](path.read_bytes()).hexdigest() == encoded
