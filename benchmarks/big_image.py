"""One big image in and out: archives and layout directories beside hashing, linking, copying and tar."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tarfile
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.floor import hash_file
from benchmarks.harness import (
    Row,
    bounded,
    compared,
    duration,
    interleave,
    memory_growth,
    settle,
    timed,
    versus,
)
from benchmarks.images import Blob, Image, write_layout
from benchmarks.layouts import link_all
from benchmarks.writing import writing
from ocistore import Store

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Setup
    from ocistore import TransferMode

_REPOSITORY: Final = "library/big"
_TAG: Final = "big"
_CHUNK: Final = 1024 * 1024

_COPYING_BOUND: Final = 0.9
_HASHING_BOUND: Final = 0.6
"""On two cores, both of which hash; against one thread that does."""
_TIMES_SKOPEO: Final = 5
"""How many times faster than skopeo."""
_MEMORY_BOUND: Final = 64.0
"""Mebibytes."""
_LINK_BOUND: Final = 1.5
_COPY_BOUND: Final = 1.2
_TAR_BOUND: Final = 1.3


def importing_big_images(setup: Setup) -> list[Row]:
    """Out of an archive, and out of a layout directory whose files may become the store's."""
    layout = _layout(setup)
    archive = layout.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        for path in sorted(layout.iterdir()):
            tar.add(path, path.name)
    blobs = sorted((layout / "blobs" / "sha256").iterdir())
    alone = writing(setup.scratch / "written", setup.sizes.image)
    seconds = interleave(
        setup.sizes.image_rounds,
        {
            **alone,
            "archive": lambda _: _import(setup, archive),
            "hash of the archive": lambda _: timed(lambda: hash_file(archive)),
            "copied": lambda _: _import(setup, layout, mode="copy"),
            "linked": lambda _: _import(setup, layout, mode="link"),
            "hash of the blobs": lambda _: timed(lambda: [hash_file(blob) for blob in blobs]),
        },
    )
    size = f"{setup.sizes.image >> 20} MiB"
    root = setup.fresh("store")
    grown = memory_growth(root, archive, "archive")
    shutil.rmtree(root)
    return [
        compared(
            "import-archive",
            f"import an oci-archive of {size} in {setup.sizes.image_layers} layers",
            ours=seconds["archive"],
            floor=seconds["hash of the archive"],
            floor_is="hashing the file in one thread, in blocks of 1 MiB",
            bound=_COPYING_BOUND,
            beside={name: versus(seconds["archive"], seconds[name]) for name in alone},
            peers=_skopeo(setup, archive, seconds["archive"]),
        ),
        bounded(
            "import-archive-memory",
            "memory that a process grows by while it does so",
            unit="MiB",
            ours=[grown],
            bound=_MEMORY_BOUND,
        ),
        compared(
            "import-copied",
            f"import a layout directory of an image of {size} by copy",
            ours=seconds["copied"],
            floor=seconds["hash of the blobs"],
            floor_is="hashing the same files in one thread, in blocks of 1 MiB",
            bound=_COPYING_BOUND,
            beside={name: versus(seconds["copied"], seconds[name]) for name in alone},
        ),
        compared(
            "import-linked",
            f"import a layout directory of an image of {size}, its files made the store's own",
            ours=seconds["linked"],
            floor=seconds["hash of the blobs"],
            floor_is="hashing the same files in one thread, in blocks of 1 MiB",
            bound=_HASHING_BOUND,
        ),
    ]


def exporting_big_images(setup: Setup) -> list[Row]:
    """To a directory by hard link, verified and not, and by copy; and to a tar on standard output."""
    layout = _layout(setup)
    index = (layout / "index.json").read_bytes()
    root = setup.fresh("store")
    with Store.open(root) as store:
        store.import_(layout, _REPOSITORY, mode="link")

        def export(mode: TransferMode, *, verify: bool = False) -> float:
            destination = setup.fresh("export")
            settle()
            seconds = timed(lambda: store.export(destination, mode=mode, verify=verify))
            shutil.rmtree(destination)
            return seconds

        def link(_round: int) -> float:
            destination = setup.fresh("links")
            settle()
            seconds = timed(lambda: link_all(root, destination, index, durable=True))
            shutil.rmtree(destination)
            return seconds

        links = interleave(setup.sizes.link_rounds, {"ours": lambda _: export("link"), "floor": link})
        blobs = sorted((root / "blobs" / "sha256").iterdir())
        verifications = interleave(
            setup.sizes.image_rounds,
            {
                "ours": lambda _: export("link", verify=True),
                "floor": lambda _: timed(lambda: [hash_file(blob) for blob in blobs]),
            },
        )
        copies = interleave(
            setup.sizes.image_rounds, {"ours": lambda _: export("copy"), "floor": lambda _: _copy(setup, layout)}
        )
        tars = interleave(
            setup.sizes.image_rounds,
            {
                "ours": lambda _: _piped_here(store),
                "floor": lambda _: _piped(["tar", "-C", os.fspath(layout), "-c", "."]),
                "command": lambda _: _piped([*_ocistore(root), "export", f"{_REPOSITORY}:{_TAG}", "-"]),
            },
        )
    size = f"{setup.sizes.image >> 20} MiB"
    return [
        compared(
            "export-linked",
            f"export an image of {size} to a directory by hard link",
            ours=links["ours"],
            floor=links["floor"],
            floor_is="os.link of the same names and one fsync of each directory and of the two files written",
            bound=_LINK_BOUND,
        ),
        compared(
            "export-verified",
            "export it to a directory by hard link, verified",
            ours=verifications["ours"],
            floor=verifications["floor"],
            floor_is="hashing the same files in one thread, in blocks of 1 MiB",
            bound=_HASHING_BOUND,
        ),
        compared(
            "export-copied",
            "export it to a directory by copy",
            ours=copies["ours"],
            floor=copies["floor"],
            floor_is="cp -r of the same files, and a sync of the filesystem",
            bound=_COPY_BOUND,
        ),
        compared(
            "export-tar",
            "export it as a tar into a pipe that cat reads",
            ours=tars["ours"],
            floor=tars["floor"],
            floor_is="tar c of the same files into such a pipe",
            bound=_TAR_BOUND,
            beside={"ocistore export, with the start of Python": duration(statistics.median(tars["command"]))},
        ),
    ]


def _layout(setup: Setup) -> Path:
    """A layout of one image, whose layers nothing can compress."""
    count = setup.sizes.image_layers
    made = []
    for number in range(count):
        path = setup.fresh(f"layer-{number}")
        with open(path, "wb", buffering=0) as file:
            file.writelines(os.urandom(_CHUNK) for _ in range(setup.sizes.image // count // _CHUNK))
        made.append((path, Blob(b"", f"sha256:{hash_file(path)}", path.stat().st_size)))
    root = setup.fresh("layout")
    # The layers are put in their places by name, so that their bytes are never in memory.
    write_layout(root, [Image.of([blob for _, blob in made])], names=[_TAG])
    for path, blob in made:
        os.replace(path, root / "blobs" / "sha256" / blob.digest[7:])
    return root


def _import(setup: Setup, source: Path, *, mode: TransferMode = "auto") -> float:
    root = setup.fresh("store")
    with Store.open(root) as store:
        settle()
        seconds = timed(lambda: store.import_(source, _REPOSITORY, mode=mode))
    shutil.rmtree(root)
    return seconds


def _skopeo(setup: Setup, archive: Path, ours: list[float]) -> dict[str, str]:
    if not setup.peers:
        return {}
    if shutil.which("skopeo") is None:
        return {"skopeo copy": peers.NOT_INSTALLED}
    theirs = []
    for _ in range(setup.sizes.peer_rounds):
        destination = setup.fresh("copied")
        settle()
        command = ["skopeo", *peers.skopeo_copy(f"oci-archive:{archive}:{_TAG}", f"oci:{destination}:{_TAG}")]
        theirs.append(timed(partial(subprocess.run, command, check=True, capture_output=True)))
        shutil.rmtree(destination)
    times = statistics.median(theirs) / statistics.median(ours)
    verdict = "meets" if times >= _TIMES_SKOPEO else "short"
    return {
        "skopeo copy": f"{duration(statistics.median(theirs))} (to a layout directory, not synced): ours is "
        f"{times:.1f} times faster; must: {_TIMES_SKOPEO}; {verdict}"
    }


def _copy(setup: Setup, layout: Path) -> float:
    destination = setup.fresh("copies")
    settle()

    def copy() -> None:
        subprocess.run(["cp", "-r", layout, destination], check=True)
        subprocess.run(["sync", "--file-system", destination], check=True)

    seconds = timed(copy)
    shutil.rmtree(destination)
    return seconds


def _ocistore(root: Path) -> list[str]:
    return [sys.executable, "-m", "ocistore", "--store", os.fspath(root)]


def _piped(command: list[str]) -> float:
    """How long a command takes whose standard output cat reads."""

    def pipe() -> None:
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writer,
            subprocess.Popen(["cat"], stdin=writer.stdout, stdout=subprocess.DEVNULL) as reader,
        ):
            if writer.stdout is not None:
                writer.stdout.close()  # cat has it, and must see its end when the writer ends
            if writer.wait() != 0 or reader.wait() != 0:
                raise subprocess.CalledProcessError(writer.returncode, command)

    return timed(pipe)


def _piped_here(store: Store) -> float:
    def pipe() -> None:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as reader:
            if reader.stdin is not None:
                store.export(reader.stdin, [f"{_REPOSITORY}:{_TAG}"])
                reader.stdin.close()

    return timed(pipe)
