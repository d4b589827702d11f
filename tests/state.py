"""What a store's directory holds, read past the code under test: with bare sqlite3 and os."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sqlite3
import stat
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest import mock
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ocistore import Store
    from ocistore.testing.memory import MemoryPool

POOLS: dict[Path, MemoryPool] = {}
"""Of stores whose blobs are in memory: what looks at their files sees these as if they were some."""

DATABASE = frozenset({"catalog.db", "catalog.db-wal", "catalog.db-shm"})


@dataclass(frozen=True)
class State:
    """All rows of all tables, and all files with their modes and bytes, except those of the database itself."""

    rows: dict[str, list[tuple[object, ...]]]
    files: dict[str, tuple[int, bytes]]


def descriptors() -> list[str]:
    """The numbers of the files that this process has open: not those that earlier tests only left to be collected."""
    gc.collect()
    return sorted(os.listdir("/proc/self/fd"))


def state(root: Path) -> State:
    return State(rows(root), files(root))


@contextlib.contextmanager
def unchanged(root: Path) -> Iterator[None]:
    """Check that the block changes no row and no file."""
    before = state(root)
    yield
    after = state(root)
    assert after.rows == before.rows
    new = {name: entry for name, entry in after.files.items() if name not in before.files}
    kept = {name: entry for name, entry in after.files.items() if name not in new}
    assert kept == before.files
    assert [name for name in new if not _is_algorithm_directory(name)] == [], "files came to be"


def _is_algorithm_directory(name: str) -> bool:
    return name in {"blobs/sha256", "blobs/sha512", "blobs/blake3"}


@contextlib.contextmanager
def catalog(root: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{quote(os.fsencode(root))}/catalog.db?mode=ro", uri=True)
    try:
        yield connection
    finally:
        connection.close()


def rows(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, except the epoch, which every commit increments."""
    with catalog(root) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names.remove("store")
        found = {"store": connection.execute("SELECT id, created FROM store").fetchall()}
        return found | {name: sorted(connection.execute(f'SELECT * FROM "{name}"'), key=repr) for name in sorted(names)}


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for directory, directories, names in os.walk(root):
        for name in (*directories, *names):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root)
            if relative in DATABASE:
                continue
            mode = os.lstat(path).st_mode
            content = b""
            if relative in {"write.lock", "reserved"}:
                pass  # the epoch again, and bytes that mean nothing
            elif stat.S_ISLNK(mode):
                content = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            found[relative] = (mode, content)
    if root in POOLS:
        found |= {name: (stat.S_IFREG | 0o444, content) for name, content in _in_memory(POOLS[root])}
    return found


def _in_memory(pool: MemoryPool) -> Iterator[tuple[str, bytes]]:
    for digest, content in pool._published.items():
        yield f"blobs/{digest.algorithm}/{digest.encoded}", content.data
    for directory, contents in (("trash", pool._trash), ("quarantine", pool._quarantine)):
        yield from ((f"{directory}/{name}", content.data) for name, content in contents.items())
    for file in pool.sweeper.staged():
        session = pool._sessions.get(file.name)
        yield f"uploads/{file.name}", b"" if session is None else bytes(session.data)


@contextlib.contextmanager
def on_disk(root: Path) -> Iterator[None]:
    """Lay the blobs of a store that has them in memory out as files inside the block, for who looks at files."""
    if root not in POOLS:
        yield
        return
    for directory in ("blobs", "trash", "quarantine", "uploads"):
        (root / directory).mkdir()
    try:
        for name, content in _in_memory(POOLS[root]):
            path = root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o600 if name.startswith("uploads/") else 0o444)
        yield
    finally:
        for directory in ("blobs", "trash", "quarantine", "uploads"):
            shutil.rmtree(root / directory)


def pool(root: Path) -> dict[str, bytes]:
    """The bytes of every file of the pool, by digest."""
    return {
        name.removeprefix("blobs/").replace("/", ":"): content
        for name, (_, content) in files(root).items()
        if name.startswith("blobs/") and name.count("/") == 2
    }


def strays(root: Path, connection: sqlite3.Connection | None = None) -> list[str]:
    """Files in ``uploads/`` that are not those of open upload sessions: what somebody staged and did not clear away."""
    with contextlib.nullcontext(connection) if connection is not None else catalog(root) as reader:
        sessions = {name for (name,) in reader.execute("SELECT id FROM uploads")}
    return sorted(set(staged(root)) - sessions)


def staged(root: Path) -> list[str]:
    """The names of all that is staged, and of open upload sessions."""
    if root in POOLS:
        return sorted(file.name for file in POOLS[root].sweeper.staged())
    return sorted(os.listdir(root / "uploads"))


def sweep(store: Store) -> None:
    """Take what refused pushes left that could not be taken back, as any collection does a day later."""
    with mock.patch("ocistore.upkeep.abandoned._STRAY_AGE", timedelta(seconds=-60)):
        store.gc()
