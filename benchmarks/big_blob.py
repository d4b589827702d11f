"""Putting one big blob: what it costs beside hashing it, and how much memory it takes."""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.floor import hash_chunks, hash_file
from benchmarks.harness import Row, bounded, compared, interleave, memory_growth, settle, timed, versus
from benchmarks.images import Blob, Image, write_layout
from benchmarks.writing import writing
from ocistore import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from disk_objectstore import Container

    from benchmarks.harness import Setup
    from ocistore.blobs.pool import Source

_CHUNK: Final = 1024 * 1024

_TIME_BOUND: Final = 1.1
_MEMORY_BOUND: Final = 32.0
"""MiB."""

FORMS: Final = ("path", "file", "iterator")


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file as an iterator."""
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def put(store: Store, path: Path, form: str) -> None:
    """Put the bytes of a file, given in one of :data:`FORMS`."""
    if form == "file":
        with open(path, "rb") as file:
            store.repository("library/big").put_blob(file)
        return
    source: Source = path if form == "path" else chunks(path)
    store.repository("library/big").put_blob(source)


def big_blob(setup: Setup) -> list[Row]:
    """Time from each form of source, and the growth of memory in a process of its own."""
    source = setup.scratch / "source"
    with open(source, "wb", buffering=0) as file:
        file.writelines(os.urandom(_CHUNK) for _ in range(setup.sizes.big_blob // _CHUNK))
    contenders: dict[str, Callable[[int], float]] = {
        "hash": lambda _: timed(lambda: hash_file(source)),
        "hash of an iterator": lambda _: timed(lambda: hash_chunks(chunks(source))),
        **{form: partial(_put, setup, source, form) for form in FORMS},
        **writing(setup.scratch / "written", setup.sizes.big_blob),
    }
    seconds = interleave(setup.sizes.big_rounds, contenders)
    size = f"{setup.sizes.big_blob / 2**20:.0f} MiB"
    others = _peers(setup, source)
    rows = []
    for form in FORMS:
        floor = "hash of an iterator" if form == "iterator" else "hash"
        beside = {name: versus(seconds[form], seconds[name]) for name in contenders if name.startswith("write")}
        rows.append(
            compared(
                f"put-{form}",
                f"put one blob of {size} durably, from {'an' if form == 'iterator' else 'a'} {form}",
                ours=seconds[form],
                floor=seconds[floor],
                floor_is="hashing the same source in blocks of 1 MiB",
                bound=_TIME_BOUND,
                beside=beside,
                peers=others,
            )
        )
    grown = {form: _growth(setup, source, form) for form in FORMS}
    rows.append(
        bounded(
            "put-memory",
            f"memory that a process grows by while it does so: the most over {', '.join(FORMS)}",
            unit="MiB",
            ours=list(grown.values()),
            bound=_MEMORY_BOUND,
            beside={form: f"{mebibytes:.1f} MiB" for form, mebibytes in grown.items()},
        )
    )
    return rows


def _put(setup: Setup, source: Path, form: str, _round: int) -> float:
    root = setup.scratch / "store"
    with Store.open(root) as store:
        settle()
        seconds = timed(lambda: put(store, source, form))
    shutil.rmtree(root)
    return seconds


def _growth(setup: Setup, source: Path, form: str) -> float:
    root = setup.scratch / "store"
    grown = memory_growth(root, source, form)
    shutil.rmtree(root)
    return grown


def _peers(setup: Setup, source: Path) -> dict[str, str]:
    if not setup.peers:
        return {}
    layout = _layout_around(setup.scratch / "layout", source)
    copied = setup.scratch / "copied"

    def ready(_round: int) -> list[str]:
        shutil.rmtree(copied, ignore_errors=True)
        settle()
        return peers.skopeo_copy(f"oci:{layout}:big", f"oci:{copied}:big")

    found = {
        "skopeo copy": peers.command("skopeo", setup.sizes.peer_rounds, ready=ready, note="from a layout, not synced")
    }
    shutil.rmtree(copied, ignore_errors=True)
    shutil.rmtree(layout)

    def add(container: Container) -> None:
        with open(source, "rb") as file:
            container.add_streamed_object(file)

    settle()
    found["disk-objectstore"] = peers.disk_objectstore(
        lambda: setup.fresh("container"), setup.sizes.peer_rounds, add, note="a loose object from a file"
    )
    return found


def _layout_around(root: Path, source: Path) -> Path:
    """A layout with an image whose layer is that file."""
    layer = Blob(b"", f"sha256:{hash_file(source)}")
    image = Image.of([layer])
    content = image.manifest.content.replace(b'"size":0}]', b'"size":%d}]' % source.stat().st_size)
    manifest = Blob(content, f"sha256:{hashlib.sha256(content).hexdigest()}")
    write_layout(root, [Image(image.config, [], manifest)], names=["big"])
    os.link(source, root / "blobs" / "sha256" / layer.digest[7:])
    return root
