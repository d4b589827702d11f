"""A directory of large files, pushed as one layer each: a first version, and a second with one file changed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.floor import hash_file
from benchmarks.harness import Row, compared, interleave, settle, timed, versus
from benchmarks.writing import writing
from ocistore import Store
from ocistore.artifacts import push_files

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Setup

_CHUNK: Final = 1024 * 1024
_REPOSITORY: Final = "models/big"

_BOUND: Final = 0.7
"""On two cores, both of which hash and write; against one thread that hashes. On one core it is 1.2."""
_AGAIN_BOUND: Final = 0.7
"""Likewise, where nearly all is only hashed."""


def pushing_directories(setup: Setup) -> list[Row]:
    """Push random files into a new store, and again, with one of them changed, into the store that has the others."""
    sizes = setup.sizes
    source = setup.scratch / "model"
    source.mkdir()
    files = [source / f"model-{number:05}.safetensors" for number in range(sizes.directory_files)]
    size = sizes.image // sizes.directory_files
    for file in files:
        _write_random(file, size)
    added: list[int] = []

    def push(_round: int) -> float:
        root = setup.fresh("store")
        with Store.open(root) as store:
            settle()
            seconds = timed(lambda: push_files(store, f"{_REPOSITORY}:1", [source]))
        shutil.rmtree(root)
        return seconds

    def push_again(round_: int) -> float:
        root = setup.fresh("store")
        with Store.open(root) as store:
            push_files(store, f"{_REPOSITORY}:1", [source])
            before = _bytes_of_blobs(root)
            _write_random(files[round_ % len(files)], size)
            settle()
            seconds = timed(lambda: push_files(store, f"{_REPOSITORY}:2", [source]))
        added.append(_bytes_of_blobs(root) - before)
        shutil.rmtree(root)
        return seconds

    seconds = interleave(
        sizes.image_rounds,
        {
            "hash": lambda _: timed(lambda: [hash_file(file) for file in files]),
            "push": push,
            "again": push_again,
            **writing(setup.scratch / "written", sizes.image),
        },
    )
    what = f"a directory of {sizes.image >> 20} MiB in {len(files)} random files, a layer each"
    floor_is = "hashing the same files in one thread"
    writes = {name: versus(seconds["push"], taken) for name, taken in seconds.items() if name.startswith("write")}
    return [
        compared(
            "push-directory",
            f"push {what}",
            ours=seconds["push"],
            floor=seconds["hash"],
            floor_is=floor_is,
            bound=_BOUND,
            beside=writes,
            peers=_peers(setup, source),
        ),
        compared(
            "push-directory-again",
            f"push {what}, again, with one of them changed",
            ours=seconds["again"],
            floor=seconds["hash"],
            floor_is=floor_is,
            bound=_AGAIN_BOUND,
            beside={"bytes added": f"{max(added):,}, of which {size:,} are the file's"},
        ),
    ]


def _write_random(path: Path, size: int) -> None:
    with open(path, "wb", buffering=0) as file:
        left = size
        while left:
            left -= file.write(os.urandom(min(left, _CHUNK)))


def _bytes_of_blobs(root: Path) -> int:
    with os.scandir(root / "blobs" / "sha256") as found:
        return sum(entry.stat().st_size for entry in found)


def _peers(setup: Setup, source: Path) -> dict[str, str]:
    if not setup.peers:
        return {}

    def ready(_round: int) -> list[str]:
        settle()
        layout = setup.fresh("layout")
        return ["push", "--disable-path-validation", "--oci-layout", f"{layout}:1", os.fspath(source)]

    return {
        "oras push": peers.command("oras", setup.sizes.peer_rounds, ready=ready, note="one tar in gzip, nothing synced")
    }
